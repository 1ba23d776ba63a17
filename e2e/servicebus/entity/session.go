package entity

import (
	"container/heap"
	"errors"
	"slices"
	"time"
)

// ErrSessionTaken says that somebody else holds the session.
var ErrSessionTaken = errors.New("the requested session cannot be accepted: it may be locked by another receiver")

// A Session is a group of messages that one holder at a time receives in order.
type Session struct {
	ID          string
	LockedUntil time.Time // zero: nobody holds it

	ready   ready
	held    map[*Message]bool
	due     int
	state   []byte
	changed time.Time // of the state
}

func (q *Queue) group(id string) *Session {
	s := q.sessions[id]
	if s == nil {
		s = &Session{ID: id, held: map[*Message]bool{}, due: -1}
		q.sessions[id] = s
	}
	return s
}

// Accept locks a session for a new holder: the one of that id, or with nil the
// free one whose message is oldest. It is nil when there is no such one.
func (q *Queue) Accept(now time.Time, id *string) (*Session, error) {
	if !q.Settings.Sessions {
		return nil, ErrNoSessions
	}
	var s *Session
	if id != nil {
		if s = q.group(*id); !s.LockedUntil.IsZero() {
			return nil, ErrSessionTaken
		}
	} else {
		for _, x := range q.sessions {
			if x.LockedUntil.IsZero() && len(x.ready.items) > 0 && (s == nil || x.ready.items[0].Sequence < s.ready.items[0].Sequence) {
				s = x
			}
		}
		if s == nil {
			return nil, nil
		}
	}
	q.RenewSession(now, s)
	return s, nil
}

// RenewSession gives a session's lock its full duration again.
func (q *Queue) RenewSession(now time.Time, s *Session) time.Time {
	s.LockedUntil = now.Add(q.Settings.LockDuration)
	for m := range s.held {
		m.LockedUntil = s.LockedUntil
	}
	q.await(entry{at: s.LockedUntil, session: s})
	return s.LockedUntil
}

// Leave ends the lock of a session whose holder goes. What it held comes again,
// without being counted (documented).
func (q *Queue) Leave(now time.Time, s *Session) { q.leave(now, s, false) }

func (q *Queue) leave(now time.Time, s *Session, ranOut bool) {
	if s.LockedUntil.IsZero() {
		return
	}
	if s.due >= 0 {
		heap.Remove(&q.due, s.due)
		s.due = -1
	}
	s.LockedUntil = time.Time{}
	held := make([]*Message, 0, len(s.held))
	for m := range s.held {
		held = append(held, m)
	}
	slices.SortFunc(held, func(a, b *Message) int { return int(a.Sequence - b.Sequence) })
	for _, m := range held {
		if ranOut {
			q.counts.LocksLost++
			q.again(now, m)
		} else {
			q.back(m)
		}
	}
	q.tidy(s)
}

// tidy forgets a session of which nothing is left.
func (q *Queue) tidy(s *Session) {
	if s.LockedUntil.IsZero() && len(s.ready.items)+len(s.held) == 0 && s.state == nil && s.changed.IsZero() {
		delete(q.sessions, s.ID)
	}
}

// SessionState is what holders of a session left for the next one.
func (q *Queue) SessionState(s *Session) []byte { return s.state }

// SetSessionState leaves it. An empty one clears it: the client for Go writes
// its nil so.
func (q *Queue) SetSessionState(now time.Time, s *Session, state []byte) {
	if s.changed = now; len(state) == 0 {
		state = nil
	}
	s.state = state
}

// Sessions lists the ids of sessions with messages or a state, by name; with a
// time only those whose state changed after it.
func (q *Queue) Sessions(since time.Time) []string {
	var ids []string
	for id, s := range q.sessions {
		busy := len(s.ready.items)+len(s.held) > 0 || s.state != nil
		if since.IsZero() && busy || !since.IsZero() && s.changed.After(since) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Session returns a session that somebody holds, or nil.
func (q *Queue) Session(id string) *Session {
	if s := q.sessions[id]; s != nil && !s.LockedUntil.IsZero() {
		return s
	}
	return nil
}
