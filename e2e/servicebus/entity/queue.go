package entity

import (
	"container/heap"
	"errors"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
)

// Settings of a queue or subscription.
type Settings struct {
	LockDuration      time.Duration
	MaxDeliveries     uint32        // 0: no bound, as in a dead-letter queue
	DefaultTTL        time.Duration // and the longest; 0: messages live for ever
	DeadLetterExpired bool
	DuplicateWindow   time.Duration // 0: duplicates are not detected
	Sessions          bool          // every message must have a session
	MaxBytes          int64         // with its dead-letter queue; 0: no bound
}

// Errors of operations. Whoever speaks the protocol gives them its conditions.
var (
	ErrLockLost   = errors.New("the lock supplied is invalid: it has expired, or the message was already settled")
	ErrFull       = errors.New("the queue has reached its maximum size")
	ErrNoSession  = errors.New("the queue requires sessions, and the message has no session id")
	ErrNotFound   = errors.New("no message has this sequence number in the state asked for")
	ErrInSession  = errors.New("the queue requires sessions; receive from one")
	ErrNoSessions = errors.New("the queue does not support sessions")
)

// Counts is what a queue holds now and has done so far.
type Counts struct {
	Active    int // can be delivered
	Locked    int
	Deferred  int
	Scheduled int
	Dead      int // in its dead-letter queue, locked ones included

	Sent       int // accepted, scheduled ones included
	Duplicates int // accepted and dropped
	Delivered  int
	Completed  int
	Abandoned  int
	Released   int
	LocksLost  int // ran out
	Expired    int // by time to live
	DeadLetter int // moved to the dead-letter queue
	Bytes      int64
}

// A Queue is a queue, a subscription, or the dead-letter queue of one.
type Queue struct {
	Name     string
	Settings Settings
	Dead     *Queue // nil for a dead-letter queue itself

	token    func() amqp.UUID
	sequence *int64 // shared with the dead-letter queue
	messages map[int64]*Message
	first    *Message // by sequence number
	last     *Message
	ready    ready // can be delivered outside sessions
	due      due
	locks    map[amqp.UUID]*Message
	sessions map[string]*Session
	recent   window
	counts   Counts
}

// New makes an empty queue with its dead-letter queue. token makes lock tokens,
// none of them twice.
func New(name string, s Settings, token func() amqp.UUID) *Queue {
	sequence := new(int64)
	q := empty(name, s, token, sequence)
	q.Dead = empty(name+"/$DeadLetterQueue", Settings{LockDuration: s.LockDuration}, token, sequence)
	return q
}

func empty(name string, s Settings, token func() amqp.UUID, sequence *int64) *Queue {
	return &Queue{Name: name, Settings: s, token: token, sequence: sequence, messages: map[int64]*Message{},
		locks: map[amqp.UUID]*Message{}, sessions: map[string]*Session{}, recent: window{seen: map[any]time.Time{}}}
}

// Counts is a snapshot.
func (q *Queue) Counts() Counts {
	c := q.counts
	if q.Dead != nil {
		c.Dead = len(q.Dead.messages)
	}
	return c
}

// Send takes a message in. A duplicate is accepted and dropped, as the service
// does; seq is 0 then.
func (q *Queue) Send(now time.Time, m *Message) (seq int64, err error) {
	switch {
	case q.Settings.Sessions && !m.HasSession:
		return 0, ErrNoSession
	case !q.Fits(m):
		return 0, ErrFull
	case q.Settings.DuplicateWindow > 0 && m.ID != nil && q.recent.repeats(m.ID, now, q.Settings.DuplicateWindow):
		q.counts.Duplicates++
		return 0, nil
	}
	q.counts.Sent++
	if m.ScheduledAt.After(now) {
		q.add(m, Scheduled)
		q.wait(m, m.ScheduledAt)
		return m.Sequence, nil
	}
	q.enqueue(now, m)
	return m.Sequence, nil
}

// Repeat takes a copy of a message in past duplicate detection.
func (q *Queue) Repeat(now time.Time, m *Message) {
	q.counts.Sent++
	q.enqueue(now, m.Copy())
}

// Fits reports whether these messages together are within the quota.
func (q *Queue) Fits(list ...*Message) bool {
	used := q.counts.Bytes
	if q.Dead != nil {
		used += q.Dead.counts.Bytes
	}
	for _, m := range list {
		used += m.size()
	}
	return q.Settings.MaxBytes == 0 || used <= q.Settings.MaxBytes
}

// enqueue makes a new message available.
func (q *Queue) enqueue(now time.Time, m *Message) {
	m.EnqueuedAt = now
	ttl := m.Header.TTL
	if d := q.Settings.DefaultTTL; d > 0 && (ttl == 0 || ttl > d) {
		ttl = d
	}
	if ttl > 0 {
		m.ExpiresAt = now.Add(ttl)
	}
	q.add(m, Active)
	q.offer(m)
}

// add gives a message its number and its place.
func (q *Queue) add(m *Message, s State) {
	*q.sequence++
	m.Sequence, m.State = *q.sequence, s
	q.place(m)
}

func (q *Queue) place(m *Message) {
	q.messages[m.Sequence] = m
	q.counts.Bytes += m.size()
	q.count(m, 1)
	m.before = q.last
	for m.before != nil && m.before.Sequence > m.Sequence {
		m.before = m.before.before
	}
	if m.before == nil {
		m.after, q.first = q.first, m
	} else {
		m.after, m.before.after = m.before.after, m
	}
	if m.after == nil {
		q.last = m
	} else {
		m.after.before = m
	}
}

// remove takes a message out for good.
func (q *Queue) remove(m *Message) {
	q.withdraw(m)
	q.unlock(m)
	q.forget(m)
	q.count(m, -1)
	q.counts.Bytes -= m.size()
	delete(q.messages, m.Sequence)
	if m.before == nil {
		q.first = m.after
	} else {
		m.before.after = m.after
	}
	if m.after == nil {
		q.last = m.before
	} else {
		m.after.before = m.before
	}
	m.before, m.after = nil, nil
	if s := q.sessions[m.Session]; s != nil {
		q.tidy(s)
	}
}

// count keeps the numbers by state. A locked message counts as locked only.
func (q *Queue) count(m *Message, by int) {
	switch {
	case m.locked:
		q.counts.Locked += by
	case m.State == Active:
		q.counts.Active += by
	case m.State == Deferred:
		q.counts.Deferred += by
	case m.State == Scheduled:
		q.counts.Scheduled += by
	}
}

func (q *Queue) become(m *Message, s State) {
	q.count(m, -1)
	m.State = s
	q.count(m, 1)
}

// offer makes an active message deliverable, and expire in time.
func (q *Queue) offer(m *Message) {
	heap.Push(q.line(m), m)
	if m.ExpiresAt.IsZero() {
		q.forget(m)
	} else {
		q.wait(m, m.ExpiresAt)
	}
}

// line is where a message waits to be delivered.
func (q *Queue) line(m *Message) *ready {
	if q.Settings.Sessions {
		return &q.group(m.Session).ready
	}
	return &q.ready
}

func (q *Queue) withdraw(m *Message) {
	if m.ready >= 0 {
		heap.Remove(q.line(m), m.ready)
	}
}

// lock gives a message to somebody.
func (q *Queue) lock(m *Message, now time.Time, s *Session) {
	q.count(m, -1)
	m.locked, m.session, m.Token = true, s, q.token()
	q.count(m, 1)
	q.locks[m.Token] = m
	if s != nil { // ends with the session's lock
		m.LockedUntil = s.LockedUntil
		s.held[m] = true
		q.forget(m)
		return
	}
	m.LockedUntil = now.Add(q.Settings.LockDuration)
	q.wait(m, m.LockedUntil)
}

func (q *Queue) unlock(m *Message) {
	if !m.locked {
		return
	}
	q.count(m, -1)
	delete(q.locks, m.Token)
	if m.session != nil {
		delete(m.session.held, m)
	}
	m.locked, m.session, m.LockedUntil = false, nil, time.Time{}
	q.count(m, 1)
	q.forget(m)
}

// Take delivers the next message: with a lock, or for good. s is the session to
// take from, nil in a queue without. nil means that there is none.
func (q *Queue) Take(now time.Time, s *Session, lock bool) *Message {
	line := &q.ready
	if s != nil {
		line = &s.ready
	}
	if len(line.items) == 0 {
		return nil
	}
	m := heap.Pop(line).(*Message)
	q.counts.Delivered++
	if lock {
		q.lock(m, now, s)
	} else {
		q.remove(m)
		q.counts.Completed++
	}
	return m
}

// Head is the message that Take would deliver; nil when there is none.
func (q *Queue) Head(s *Session) *Message {
	line := &q.ready
	if s != nil {
		line = &s.ready
	}
	if len(line.items) == 0 {
		return nil
	}
	return line.items[0]
}

// Postpone lets that many later messages go before one that can be delivered.
// It does so once: false says that the message was put back before.
func (q *Queue) Postpone(m *Message, places int) bool {
	if m.late > 0 || m.ready < 0 {
		return false
	}
	m.late = int64(places)
	heap.Fix(q.line(m), m.ready)
	return true
}

// Holds returns the message under a lock that is in force.
func (q *Queue) Holds(token amqp.UUID) (*Message, error) {
	m := q.locks[token]
	if m == nil {
		return nil, ErrLockLost
	}
	return m, nil
}

// back puts a message where it was before its lock.
func (q *Queue) back(m *Message) {
	q.unlock(m)
	if m.State == Active {
		q.offer(m)
	}
}
