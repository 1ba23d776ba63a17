package entity

import (
	"testing"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
)

func TestQuota(t *testing.T) {
	one := message(t, "1", "", 0, time.Time{}).size()
	q := New("q", Settings{LockDuration: time.Minute, MaxBytes: 2 * one}, tokens())
	for i, want := range []error{nil, nil, ErrFull} {
		if _, err := q.Send(began, message(t, "1", "", 0, time.Time{})); err != want {
			t.Fatalf("message %d: got %v, want %v", i, err, want)
		}
	}
	// What is dead-lettered still counts; what is completed does not.
	if err := q.DeadLetter(q.Take(began, nil, true).Token, "r", "d", nil); err != nil {
		t.Fatal(err)
	}
	if q.Fits(message(t, "1", "", 0, time.Time{})) {
		t.Fatal("the dead-letter queue does not count")
	}
	if err := q.Complete(q.Take(began, nil, true).Token); err != nil {
		t.Fatal(err)
	}
	if err := q.Dead.Complete(q.Dead.Take(began, nil, true).Token); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Send(began, message(t, "1", "", 0, time.Time{})); err != nil {
		t.Fatal(err)
	}
}

// Nobody loses a message by dead-lettering it from the dead-letter queue.
func TestDeadLetterTwice(t *testing.T) {
	q := New("q", Settings{LockDuration: time.Minute}, tokens())
	if _, err := q.Send(began, message(t, "1", "", 0, time.Time{})); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*Queue{q, q.Dead, q.Dead} {
		m := x.Take(began, nil, true)
		if m == nil {
			t.Fatalf("nothing in %s", x.Name)
		}
		if err := x.DeadLetter(m.Token, "r", "d", nil); err != nil {
			t.Fatal(err)
		}
	}
	if c := q.Counts(); c.Dead != 1 {
		t.Fatalf("counts: %+v", c)
	}
}

// A lock in a dead-letter queue runs out like any other, however often.
func TestDeadLetterLocks(t *testing.T) {
	q := New("q", Settings{LockDuration: time.Minute, MaxDeliveries: 1}, tokens())
	if _, err := q.Send(began, message(t, "1", "", 0, time.Time{})); err != nil {
		t.Fatal(err)
	}
	now := began
	q.Take(now, nil, true)
	for range 5 {
		now = now.Add(time.Minute)
		q.Expire(now)
		if m := q.Dead.Take(now, nil, true); m == nil {
			t.Fatal("it is not in the dead-letter queue")
		}
	}
}

func TestMessageIDs(t *testing.T) {
	for _, tt := range []struct {
		id   any
		good bool
	}{{"s", true}, {uint64(1), true}, {amqp.UUID{1}, true}, {[]byte("b"), true}, {nil, true}, {int32(1), false}, {[]any{}, false}} {
		bare := amqp.Bare{Properties: []any{tt.id}}
		_, err := NewMessage(bare.Append(nil))
		if (err == nil) != tt.good {
			t.Errorf("id %#v: %v", tt.id, err)
		}
	}
}

// In a session what is locked keeps its place, and only its holder gets it.
func TestSessionOrder(t *testing.T) {
	q := New("q", Settings{LockDuration: time.Minute, Sessions: true, MaxDeliveries: 10}, tokens())
	for _, id := range []string{"1", "2", "3"} {
		if _, err := q.Send(began, message(t, id, "s", 0, time.Time{})); err != nil {
			t.Fatal(err)
		}
	}
	if m := q.Take(began, nil, true); m != nil {
		t.Fatal("delivered outside its session")
	}
	s, err := q.Accept(began, nil)
	if err != nil || s == nil || s.ID != "s" {
		t.Fatalf("accepted %v: %v", s, err)
	}
	if _, err := q.Accept(began, &s.ID); err != ErrSessionTaken {
		t.Fatal(err)
	}
	first := q.Take(began, s, true)
	q.Take(began, s, true)
	if err := q.Abandon(began, first.Token, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Renew(began, q.Take(began, s, true).Token); err != ErrInSession {
		t.Fatal(err)
	}
	if lost := q.Expire(began.Add(time.Minute)); len(lost) != 1 || lost[0] != s {
		t.Fatalf("lost %v", lost)
	}
	again, err := q.Accept(began.Add(time.Minute), &s.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		id         string
		deliveries uint32
	}{{"1", 2}, {"2", 1}, {"3", 0}} {
		if m := q.Take(began, again, true); m.ID != want.id || m.Deliveries != want.deliveries {
			t.Fatalf("message %d: %v after %d deliveries", i, m.ID, m.Deliveries)
		}
	}
}
