package entity

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"jmlbridge/e2e/servicebus/amqp"
)

var began = time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)

func tokens() func() amqp.UUID {
	n := uint64(0)
	return func() (u amqp.UUID) {
		n++
		binary.BigEndian.PutUint64(u[8:], n)
		return u
	}
}

func message(t interface{ Fatal(...any) }, id, session string, ttl time.Duration, at time.Time) *Message {
	bare := amqp.Bare{Properties: []any{id}, Data: [][]byte{[]byte(id)}}
	if session != "" {
		bare.Properties = []any{id, nil, nil, nil, nil, nil, nil, nil, nil, nil, session}
	}
	raw := amqp.Message{Header: &amqp.Header{Priority: 4, TTL: ttl}, Bare: bare.Append(nil)}
	if !at.IsZero() {
		raw.Annotations = amqp.Map{{Key: amqp.Symbol("x-opt-scheduled-enqueue-time"), Value: at}}
	}
	m, err := NewMessage(raw.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// world is a queue beside what it should hold: for every id, where it is.
type world struct {
	q      *Queue
	now    time.Time
	sent   int
	where  map[string]string // active, locked, deferred, scheduled, dead, gone
	tokens map[string]amqp.UUID
}

// Whatever is done to a queue, every message is in exactly one place, the counts
// say so, deliveries come in order of their numbers, and only the holder of the
// lock in force settles.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		settings := Settings{LockDuration: 10 * time.Second, MaxDeliveries: uint32(rapid.IntRange(1, 4).Draw(t, "max")), DeadLetterExpired: rapid.Bool().Draw(t, "keep")}
		w := &world{q: New("q", settings, tokens()), now: began, where: map[string]string{}, tokens: map[string]amqp.UUID{}}
		deliveries, until, lives, due := map[string]uint32{}, map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
		again := func(id string) { // a delivery of id failed
			if deliveries[id]++; deliveries[id] >= settings.MaxDeliveries {
				w.where[id] = "dead"
			} else {
				w.where[id] = "active"
			}
		}
		outlive := func(id string, at time.Time) {
			if end := lives[id]; w.where[id] == "active" && !end.IsZero() && !end.After(at) {
				w.where[id] = "gone"
				if settings.DeadLetterExpired {
					w.where[id] = "dead"
				}
			}
		}
		holder := func(t *rapid.T) string {
			var ids []string
			for id, at := range w.where {
				if at == "locked" {
					ids = append(ids, id)
				}
			}
			slices.Sort(ids)
			if len(ids) == 0 {
				t.Skip("nothing is locked")
			}
			return rapid.SampledFrom(ids).Draw(t, "id")
		}
		settle := func(t *rapid.T, id string, f func(amqp.UUID) error) {
			token := w.tokens[id]
			if err := f(token); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			if w.where[id] != "locked" {
				if err := f(token); err != ErrLockLost {
					t.Fatalf("%s was settled twice: %v", id, err)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				id := fmt.Sprint(w.sent)
				w.sent++
				ttl := time.Duration(rapid.IntRange(0, 30).Draw(t, "ttl")) * time.Second
				at := time.Time{}
				if rapid.IntRange(0, 3).Draw(t, "later") == 0 {
					at = w.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "at")) * time.Second)
				}
				if _, err := w.q.Send(w.now, message(t, id, "", ttl, at)); err != nil {
					t.Fatal(err)
				}
				w.where[id] = "active"
				if due[id] = at; !at.IsZero() {
					w.where[id] = "scheduled"
					at = at.Add(ttl)
				} else {
					at = w.now.Add(ttl)
				}
				if ttl > 0 {
					lives[id] = at
				}
			},
			"take": func(t *rapid.T) {
				head := w.q.Head(nil)
				m := w.q.Take(w.now, nil, true)
				if m != head {
					t.Fatal("Take is not Head")
				}
				if m == nil {
					for id, at := range w.where {
						if at == "active" {
							t.Fatalf("%s can be delivered and is not", id)
						}
					}
					return
				}
				id := m.ID.(string)
				if w.where[id] != "active" {
					t.Fatalf("%s was delivered while %s", id, w.where[id])
				}
				for p := w.q.first; p != m; p = p.after {
					if p.State == Active && !p.locked {
						t.Fatalf("%v was delivered before %v", m.ID, p.ID)
					}
				}
				if m.Deliveries != deliveries[id] {
					t.Fatalf("%s says %d deliveries, want %d", id, m.Deliveries, deliveries[id])
				}
				w.where[id], w.tokens[id], until[id] = "locked", m.Token, w.now.Add(settings.LockDuration)
			},
			"delete": func(t *rapid.T) {
				if m := w.q.Take(w.now, nil, false); m != nil {
					w.where[m.ID.(string)] = "gone"
				}
			},
			"complete": func(t *rapid.T) {
				id := holder(t)
				w.where[id] = "gone"
				settle(t, id, w.q.Complete)
			},
			"abandon": func(t *rapid.T) {
				id := holder(t)
				again(id)
				outlive(id, w.now)
				settle(t, id, func(u amqp.UUID) error { return w.q.Abandon(w.now, u, amqp.Map{{Key: "n", Value: int32(1)}}) })
			},
			"release": func(t *rapid.T) {
				id := holder(t)
				w.where[id] = "active"
				settle(t, id, w.q.Release)
				w.q.Expire(w.now)
				outlive(id, w.now)
			},
			"defer": func(t *rapid.T) {
				id := holder(t)
				w.where[id] = "deferred"
				settle(t, id, func(u amqp.UUID) error { return w.q.Defer(u, nil) })
			},
			"dead-letter": func(t *rapid.T) {
				id := holder(t)
				w.where[id] = "dead"
				settle(t, id, func(u amqp.UUID) error { return w.q.DeadLetter(u, "r", "d", nil) })
			},
			"renew": func(t *rapid.T) {
				id := holder(t)
				end, err := w.q.Renew(w.now, w.tokens[id])
				if err != nil {
					t.Fatal(err)
				}
				until[id] = end
			},
			"time": func(t *rapid.T) {
				end := w.now.Add(time.Duration(rapid.IntRange(1, 12).Draw(t, "seconds")) * time.Second)
				for w.now.Before(end) { // second by second, as everything here ends on one
					w.now = w.now.Add(time.Second)
					for id, at := range w.where {
						switch {
						case at == "locked" && !until[id].After(w.now):
							again(id)
							outlive(id, w.now)
						case at == "scheduled" && !due[id].After(w.now):
							w.where[id] = "active"
							outlive(id, w.now)
						default:
							outlive(id, w.now)
						}
					}
					w.q.Expire(w.now)
				}
			},
			"": func(t *rapid.T) {
				want := map[string]int{}
				for _, at := range w.where {
					want[at]++
				}
				c := w.q.Counts()
				if got := map[string]int{"active": c.Active, "locked": c.Locked, "deferred": c.Deferred, "scheduled": c.Scheduled, "dead": c.Dead}; !sameBut(got, want, "gone") {
					t.Fatalf("counts %+v, want %v", c, want)
				}
				whole(t, w.q)
				whole(t, w.q.Dead)
				if next := w.q.Next(); !next.IsZero() && !next.After(w.now) {
					t.Fatalf("something ended at %v and is still there at %v", next, w.now)
				}
			},
		})
	})
}

func sameBut(got, want map[string]int, but string) bool {
	for k, n := range want {
		if k != but && got[k] != n {
			return false
		}
	}
	for k, n := range got {
		if want[k] != n {
			return false
		}
	}
	return true
}

// whole checks that a queue's own books agree with each other.
func whole(t *rapid.T, q *Queue) {
	n, size, last := 0, int64(0), int64(0)
	for m := q.first; m != nil; m = m.after {
		n++
		size += m.size()
		if m.Sequence <= last || q.messages[m.Sequence] != m {
			t.Fatalf("message %d after %d", m.Sequence, last)
		}
		last = m.Sequence
		if m.locked != (q.locks[m.Token] == m) {
			t.Fatalf("message %d: locked %t", m.Sequence, m.locked)
		}
		if waits := m.State == Active && !m.locked; waits != (m.ready >= 0) {
			t.Fatalf("message %d: can be delivered %t, waits %t", m.Sequence, waits, m.ready >= 0)
		}
	}
	if n != len(q.messages) || size != q.counts.Bytes {
		t.Fatalf("%d messages of %d bytes in order, %d of %d in the books", n, size, len(q.messages), q.counts.Bytes)
	}
	if len(q.locks) != q.counts.Locked {
		t.Fatalf("%d locks, counted %d", len(q.locks), q.counts.Locked)
	}
	for i, e := range q.due.items {
		if *e.index() != i {
			t.Fatalf("entry %d knows itself as %d", i, *e.index())
		}
	}
}
