package entity

import (
	"container/heap"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
)

// Expire ends what ended by now: locks, lives and waits. It returns the
// sessions whose lock ran out, which are closed.
func (q *Queue) Expire(now time.Time) (lost []*Session) {
	for len(q.due.items) > 0 && !q.due.items[0].at.After(now) {
		e := heap.Pop(&q.due).(entry)
		if e.session != nil {
			e.session.due = -1
			lost = append(lost, e.session)
			q.leave(now, e.session, true)
			continue
		}
		m := e.message
		m.due = -1
		switch {
		case m.locked:
			q.counts.LocksLost++
			q.again(now, m)
		case m.State == Scheduled:
			q.enter(e.at, m)
		default:
			q.outlive(m)
		}
	}
	if q.Dead != nil {
		q.Dead.Expire(now)
	}
	return lost
}

// enter makes a scheduled message available, under a new number.
func (q *Queue) enter(at time.Time, m *Message) {
	q.remove(m)
	c := m.Copy()
	c.Scheduled, c.ScheduledAt = m.Sequence, m.ScheduledAt
	q.enqueue(at, c)
}

// again puts a message back after a delivery that failed.
func (q *Queue) again(now time.Time, m *Message) {
	m.Deliveries++
	if limit := q.Settings.MaxDeliveries; limit > 0 && m.Deliveries >= limit {
		q.bury(m, "MaxDeliveryCountExceeded", "Message could not be consumed after the maximum number of delivery attempts.")
		return
	}
	q.back(m)
	if !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(now) && m.State == Active {
		q.outlive(m)
	}
}

// outlive ends a message whose time to live is over.
func (q *Queue) outlive(m *Message) {
	q.counts.Expired++
	if q.Settings.DeadLetterExpired && q.Dead != nil {
		q.bury(m, "TTLExpiredException", "The message expired and was dead lettered.")
		return
	}
	q.remove(m)
}

// bury moves a message to the dead-letter queue.
func (q *Queue) bury(m *Message, reason, description string) {
	q.remove(m)
	if q.Dead == nil { // dead-lettered from the dead-letter queue: it stays
		q.place(m)
		q.offer(m)
		return
	}
	q.counts.DeadLetter++
	m.modify(amqp.Map{{Key: "DeadLetterReason", Value: reason}, {Key: "DeadLetterErrorDescription", Value: description}})
	m.State, m.ExpiresAt, m.DeadFrom = Active, time.Time{}, q.Name
	q.Dead.place(m)
	q.Dead.offer(m)
}

// Next is when Expire has something to do; zero when never.
func (q *Queue) Next() time.Time {
	var at time.Time
	if len(q.due.items) > 0 {
		at = q.due.items[0].at
	}
	if q.Dead != nil {
		if d := q.Dead.Next(); !d.IsZero() && (at.IsZero() || d.Before(at)) {
			at = d
		}
	}
	return at
}
