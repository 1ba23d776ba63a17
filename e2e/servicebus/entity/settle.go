package entity

import (
	"time"

	"jmlbridge/e2e/servicebus/amqp"
)

// Complete ends a message.
func (q *Queue) Complete(token amqp.UUID) error {
	m, err := q.Holds(token)
	if err != nil {
		return err
	}
	q.remove(m)
	q.counts.Completed++
	return nil
}

// Abandon puts a message back in its place, and counts the delivery.
func (q *Queue) Abandon(now time.Time, token amqp.UUID, properties amqp.Map) error {
	m, err := q.Holds(token)
	if err != nil {
		return err
	}
	q.counts.Abandoned++
	q.alter(m, properties)
	q.again(now, m)
	return nil
}

// Release puts a message back in its place without counting the delivery.
func (q *Queue) Release(token amqp.UUID) error {
	m, err := q.Holds(token)
	if err != nil {
		return err
	}
	q.counts.Released++
	q.back(m)
	return nil
}

// Defer leaves a message to be had by its sequence number only.
func (q *Queue) Defer(token amqp.UUID, properties amqp.Map) error {
	m, err := q.Holds(token)
	if err != nil {
		return err
	}
	q.alter(m, properties)
	q.unlock(m)
	q.become(m, Deferred)
	return nil
}

// DeadLetter moves a message to the dead-letter queue.
func (q *Queue) DeadLetter(token amqp.UUID, reason, description string, properties amqp.Map) error {
	m, err := q.Holds(token)
	if err != nil {
		return err
	}
	q.alter(m, properties)
	q.bury(m, reason, description)
	return nil
}

// Renew gives a lock its full duration again, from now.
func (q *Queue) Renew(now time.Time, token amqp.UUID) (time.Time, error) {
	m, err := q.Holds(token)
	switch {
	case err != nil:
		return time.Time{}, err
	case m.session != nil:
		return time.Time{}, ErrInSession
	}
	m.LockedUntil = now.Add(q.Settings.LockDuration)
	q.wait(m, m.LockedUntil)
	return m.LockedUntil, nil
}

// alter changes application properties and keeps the size.
func (q *Queue) alter(m *Message, properties amqp.Map) {
	q.counts.Bytes -= m.size()
	m.modify(properties)
	q.counts.Bytes += m.size()
}

// Receive gets deferred messages by sequence number: all of them or none.
func (q *Queue) Receive(now time.Time, sequences []int64, lock bool) ([]*Message, error) {
	var list []*Message
	for _, n := range sequences {
		m := q.messages[n]
		if m == nil || m.State != Deferred || m.locked {
			return nil, ErrNotFound
		}
		list = append(list, m)
	}
	for _, m := range list {
		q.counts.Delivered++
		if lock {
			q.lock(m, now, nil)
		} else {
			q.remove(m)
			q.counts.Completed++
		}
	}
	return list, nil
}

// Cancel removes scheduled messages: all of them or none.
func (q *Queue) Cancel(sequences []int64) error {
	for _, n := range sequences {
		if m := q.messages[n]; m == nil || m.State != Scheduled {
			return ErrNotFound
		}
	}
	for _, n := range sequences {
		if m := q.messages[n]; m != nil { // named twice
			q.remove(m)
		}
	}
	return nil
}

// Peek shows up to n messages with number from or above, in any state. With a
// session it shows that session's only.
func (q *Queue) Peek(from int64, n int, session *string) []*Message {
	m := q.messages[from]
	if m == nil {
		for m = q.first; m != nil && m.Sequence < from; m = m.after {
		}
	}
	var list []*Message
	for ; m != nil && len(list) < n; m = m.after {
		if session == nil || m.HasSession && m.Session == *session {
			list = append(list, m)
		}
	}
	return list
}

// ExpireLocks ends every lock on a message now, as if its time were over.
func (q *Queue) ExpireLocks(now time.Time) {
	for m := q.first; m != nil; {
		next := m.after
		if m.locked && m.session == nil {
			q.counts.LocksLost++
			q.again(now, m)
		}
		m = next
	}
}
