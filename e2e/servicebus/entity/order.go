package entity

import (
	"container/heap"
	"time"
)

// ready is a heap of messages that can be delivered, the lowest number first.
type ready struct{ items []*Message }

func (r *ready) Len() int { return len(r.items) }
func (r *ready) Less(i, j int) bool {
	a, b := r.items[i], r.items[j]
	if x, y := a.Sequence+a.late, b.Sequence+b.late; x != y {
		return x < y
	}
	return a.Sequence > b.Sequence // the one put back goes after the one whose place it got
}
func (r *ready) Swap(i, j int) {
	r.items[i], r.items[j] = r.items[j], r.items[i]
	r.items[i].ready, r.items[j].ready = i, j
}
func (r *ready) Push(x any) {
	m := x.(*Message)
	m.ready = len(r.items)
	r.items = append(r.items, m)
}
func (r *ready) Pop() any {
	last := len(r.items) - 1
	m := r.items[last]
	r.items[last] = nil
	r.items = r.items[:last]
	m.ready = -1
	return m
}

// An entry says when a message or a session has something coming. Each has at
// most one.
type entry struct {
	at      time.Time
	message *Message
	session *Session
}

func (e entry) index() *int {
	if e.session != nil {
		return &e.session.due
	}
	return &e.message.due
}

// due is a heap of entries, the earliest first.
type due struct{ items []entry }

func (d *due) Len() int { return len(d.items) }
func (d *due) Less(i, j int) bool {
	a, b := d.items[i], d.items[j]
	if !a.at.Equal(b.at) || a.message == nil || b.message == nil {
		return a.at.Before(b.at)
	}
	return a.message.Sequence < b.message.Sequence // what is scheduled together stays in order
}
func (d *due) Swap(i, j int) {
	d.items[i], d.items[j] = d.items[j], d.items[i]
	*d.items[i].index(), *d.items[j].index() = i, j
}
func (d *due) Push(x any) {
	e := x.(entry)
	*e.index() = len(d.items)
	d.items = append(d.items, e)
}
func (d *due) Pop() any {
	last := len(d.items) - 1
	e := d.items[last]
	d.items[last] = entry{}
	d.items = d.items[:last]
	return e
}

func (q *Queue) await(e entry) {
	if i := *e.index(); i >= 0 {
		q.due.items[i].at = e.at
		heap.Fix(&q.due, i)
		return
	}
	heap.Push(&q.due, e)
}

// wait sets when a message has something coming; forget says never.
func (q *Queue) wait(m *Message, at time.Time) { q.await(entry{at: at, message: m}) }

func (q *Queue) forget(m *Message) {
	if m.due >= 0 {
		heap.Remove(&q.due, m.due)
		m.due = -1
	}
}

// window remembers message ids for duplicate detection.
type window struct {
	seen  map[any]time.Time // until when
	order []seen
}

type seen struct {
	id    any
	until time.Time
}

// repeats reports whether an id was seen within the window, and notes it if not.
func (w *window) repeats(id any, now time.Time, length time.Duration) bool {
	for len(w.order) > 0 && !w.order[0].until.After(now) {
		if w.seen[w.order[0].id].Equal(w.order[0].until) {
			delete(w.seen, w.order[0].id)
		}
		w.order = w.order[1:]
	}
	if _, ok := w.seen[id]; ok {
		return true
	}
	until := now.Add(length)
	w.seen[id] = until
	w.order = append(w.order, seen{id, until})
	return false
}
