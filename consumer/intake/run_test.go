package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/memqueue"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// running is an intake on a queue in memory.
type running struct {
	*world
	q    *memqueue.Queue
	stop context.CancelFunc // of fetching
	kill context.CancelFunc // of everything
	done chan error
	took chan struct{} // one signal for each commit
}

func (w *world) run(q *memqueue.Queue, change func(*Config)) *running {
	w.t.Helper()
	r := &running{world: w, q: q, done: make(chan error, 1), took: make(chan struct{}, 1000)}
	c := w.config(q.Receiver())
	c.Committed = func() { r.took <- struct{}{} }
	c.Limits.Batch = 7
	if change != nil {
		change(&c)
	}
	in, err := New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	fetch, stop := context.WithCancel(w.t.Context())
	work, kill := context.WithCancel(w.t.Context())
	r.stop, r.kill = stop, kill
	go func() { r.done <- in.Run(fetch, work) }()
	return r
}

func (r *running) end() {
	r.t.Helper()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("want an orderly end, got %v", err)
		}
	case <-time.After(2 * time.Minute):
		r.t.Fatal("the intake did not end")
	}
}

// until waits for a condition on the database or the queue.
func (r *running) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(end) {
			r.t.Fatalf("waited two minutes for %s", what)
		}
		select {
		case <-r.took:
		case <-time.After(5 * time.Millisecond): // the queue tells nobody
		case err := <-r.done:
			r.t.Fatalf("the intake ended while waiting for %s: %v", what, err)
		}
	}
}

func publish(t testing.TB, q *memqueue.Queue, list ...sealed) {
	t.Helper()
	pub := q.Publisher()
	for _, m := range list {
		if _, err := pub.Publish(t.Context(), []queue.Message{{Body: m.wire}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRunSettlesWhatItCommitted(t *testing.T) {
	w, p := setup(t)
	q := memqueue.New(memqueue.Options{})
	for i := range 40 {
		publish(t, q, p.joiner(fmt.Sprint(i), 1))
	}
	r := w.run(q, nil)
	r.until("an empty queue", func() bool { return q.Len() == 0 })
	publish(t, q, p.leaver("3", 1))
	r.until("an empty queue", func() bool { return q.Len() == 0 })
	r.stop()
	r.end()
	if s := w.stream(); s.Head != 41 || access(w, "3").Access {
		t.Errorf("want 41 messages admitted, got %+v", s)
	}
}

func TestStopFinishesWhatWasFetched(t *testing.T) {
	w, p := setup(t)
	q := memqueue.New(memqueue.Options{})
	for i := range 50 {
		publish(t, q, p.joiner(fmt.Sprint(i), 1))
	}
	r := w.run(q, nil)
	r.until("a batch to be committed", func() bool { return w.stream().Head > 0 }) // the look at the start commits as well
	r.stop()
	r.end()
	head := w.stream().Head
	if got := uint64(50 - q.Len()); got != head || head == 0 {
		t.Errorf("want everything admitted settled and nothing else, got %d settled and %d admitted", got, head)
	}
}

// Settlements fail in both ways, the queue goes away and comes back, and the program is killed between its
// steps again and again: in the end everything is there once.
func TestNothingIsLostAndNothingTwice(t *testing.T) {
	const messages = 120
	w, p := setup(t)
	var mu sync.Mutex
	ops := 0
	q := memqueue.New(memqueue.Options{Lease: 30 * time.Millisecond, Patience: 20 * time.Millisecond, Fault: func(op memqueue.Op) memqueue.Fault {
		mu.Lock()
		defer mu.Unlock()
		if op == memqueue.Publish {
			return memqueue.None
		}
		ops++
		switch ops % 5 {
		case 1:
			return memqueue.Lost
		case 3:
			return memqueue.Kept
		}
		return memqueue.None
	}})
	for i := range messages {
		publish(t, q, p.joiner(fmt.Sprint(i), 1))
	}
	for start := 0; q.Len() > 0; start++ {
		if start > 500 {
			t.Fatal("the queue does not become empty")
		}
		r := w.run(q, nil)
		for range 1 + start%3 {
			select {
			case <-r.took:
			case <-time.After(200 * time.Millisecond):
			}
		}
		if start == 4 {
			q.Stop()
			time.AfterFunc(20*time.Millisecond, q.Start)
		}
		r.kill() // whatever it was doing
		r.stop()
		r.end()
		w.reopen()
	}
	if s := w.stream(); s.Head != messages || s.HeadHash != p.prev || s.Highest != messages {
		t.Errorf("want all %d admitted, got %+v", messages, s)
	}
	n, err := state.CountMessages(w.db.Read())
	if err != nil || len(n) != 1 {
		t.Errorf("want nothing in the archive but what was admitted, got %v, %v", n, err)
	}
	first := map[uint64]int{} // entries of each message that are not about a repetition
	for e, err := range ledger.Entries(t.Context(), w.db.DB, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := e.Body.(*entry.Received); ok && r.Disposition != entry.DispositionDuplicate {
			first[r.Seq]++
		}
	}
	for i := range messages {
		s := w.subject(fmt.Sprint(i))
		if len(s.Doc.Wants) != 1 || len(s.Doc.Ceilings) != 0 || !access(w, s.Subject).Access || first[uint64(i+1)] != 1 {
			t.Fatalf("subject %d: want one fact and one entry, got %+v and %d", i, s.Doc, first[uint64(i+1)])
		}
	}
}

func TestTrustIsTakenUpWhileRunning(t *testing.T) {
	w, p := setup(t)
	x := newProducer(t, "approvals", w.to)
	q := memqueue.New(memqueue.Options{})
	publish(t, q, x.heartbeat(), p.heartbeat())
	r := w.run(q, func(c *Config) { c.Limits.Interval = 10 * time.Millisecond })
	r.until("an empty queue", func() bool { return q.Len() == 0 })
	if list, _ := state.ListParked(w.db.Read()); len(list) != 1 {
		t.Fatalf("want one message parked, got %d", len(list))
	}
	w.trust(x, schema.KindHeartbeat)
	r.until("the parked message let in", func() bool { list, _ := state.ListParked(w.db.Read()); return len(list) == 0 })
	r.stop()
	r.end()
}

// A message that was opened before its key was trusted, and is committed after that was taken up, waits for nothing any more.
func TestTrustIsTakenUpBehindTheOpening(t *testing.T) {
	w, _ := setup(t)
	x := newProducer(t, "approvals", w.to)
	in := w.intake()
	items, err := in.open(t.Context(), []queue.Delivery{{Body: x.heartbeat().wire}})
	if err != nil {
		t.Fatal(err)
	}
	w.trust(x, schema.KindHeartbeat)
	opened, committed := make(chan []*item, 1), make(chan []queue.Delivery, 1)
	opened <- items
	close(opened)
	if err := in.commits(t.Context(), opened, committed); err != nil || len(committed) != 1 {
		t.Fatalf("%v, %d batches committed", err, len(committed))
	}
	if list, err := state.ListParked(w.db.Read()); err != nil || len(list) > 0 {
		t.Errorf("%d messages wait for a key that is trusted, %v", len(list), err)
	}
}

// What waited for an operator comes before what comes next, so that nothing seems to be missing meanwhile.
func TestWhatWaitedForTrustIsNoGap(t *testing.T) {
	w, p := setup(t)
	q := memqueue.New(memqueue.Options{})
	publish(t, q, p.heartbeat())
	r := w.run(q, func(c *Config) { c.Limits.Interval = time.Hour }) // the look comes every lookEvery, too late for this
	r.until("an empty queue", func() bool { return q.Len() == 0 })
	next := *p
	next.generation, next.seq, next.prev = 2, 0, schema.Digest{}
	publish(t, q, next.heartbeat(), next.joiner("1", 1))
	r.until("two messages parked", func() bool { list, err := state.ListParked(w.db.Read()); return err == nil && len(list) == 2 })
	w.update(func(tx *store.Tx) error {
		return state.TrustGeneration(tx, iss, p.stream, state.Pin{Generation: 2}, w.by())
	})
	publish(t, q, next.heartbeat())
	r.until("the next message admitted", func() bool { return w.stream().Head == 3 })
	r.stop()
	r.end()
	if list := w.entries(); slices.Contains(list, "raised gap") {
		t.Errorf("want no gap, got %q", list)
	}
}

func TestADatabaseThatFailsEndsTheRun(t *testing.T) {
	w, p := setup(t)
	q := memqueue.New(memqueue.Options{})
	r := w.run(q, nil)
	w.db.Close()
	publish(t, q, p.joiner("1", 1))
	select {
	case err := <-r.done:
		if err == nil {
			t.Error("want an error where nothing can be recorded")
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("it goes on without a database")
	}
	if q.Len() != 1 {
		t.Error("want nothing settled that is not durable")
	}
}

func TestAClosedQueueEndsTheRun(t *testing.T) {
	w, _ := setup(t)
	q := memqueue.New(memqueue.Options{})
	rcv := q.Receiver()
	in, err := New(w.config(rcv))
	if err != nil {
		t.Fatal(err)
	}
	if err := rcv.Close(); err != nil {
		t.Fatal(err)
	}
	if err := in.Run(t.Context(), t.Context()); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("want ErrClosed, got %v", err)
	}
}

// The alarm that no key is trusted for a stream stands from the next look on, and ends with a key. One that is good for
// a while yet, or that signs no leavers beside one that did, is told apart.
func TestNoKeyIsTrustedForAStream(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"))
	look := func(want bool) {
		t.Helper()
		w.sweep()
		if got := slices.Contains(w.alarms(), AlarmNoKey); got != want {
			t.Errorf("alarm %v, want %v", got, want)
		}
	}
	retire := func(p *producer, seq uint64) {
		t.Helper()
		w.update(func(tx *store.Tx) error {
			keys, err := state.Keys(tx)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(keys, func(k *state.Key) bool { return bytes.Equal(k.Public, p.public) })
			return state.RetireKey(tx, keys[i].KID, admit.Point{Generation: 1, Seq: seq}, w.by())
		})
	}
	look(false)
	retire(p, 3) // messages 2 and 3 may bear it
	look(false)
	retire(p, 1)
	look(true)
	p.rekey()
	w.trust(p, schema.KindHeartbeat)
	look(true) // nobody may say that somebody left
	p.rekey()
	w.trust(p)
	look(false)

	// Given up: the alarm ends with the last of whom a leaver could be missed, a day after anything was heard.
	retire(p, 1)
	look(true)
	w.set(w.now.Load().Add(25 * time.Hour))
	look(true)
	w.update(func(tx *store.Tx) error {
		return state.Lock(tx, state.SubjectKey{Issuer: iss, Subject: "1"}, &fence.Lock{By: "ann", At: *w.now.Load()}, plan.Disable, *w.now.Load())
	})
	w.set(w.now.Load().Add(time.Hour))
	look(false)
}

// A second signer's stream that is given up for another one is nobody's loss.
func TestNoKeyOfAStreamOfApprovalsThatAnotherFollows(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"))
	first, second := newProducer(t, "approvals", w.to), newProducer(t, "approvals-2", w.to)
	w.trust(first, schema.KindApproval)
	w.update(func(tx *store.Tx) error {
		keys, err := state.Keys(tx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(keys, func(k *state.Key) bool { return bytes.Equal(k.Public, first.public) })
		return state.RetireKey(tx, keys[i].KID, admit.Point{}, w.by())
	})
	w.sweep()
	if !slices.Contains(w.alarms(), AlarmNoKey) {
		t.Error("nobody is told that no second signer is left")
	}
	w.trust(second, schema.KindApproval)
	w.sweep()
	if slices.Contains(w.alarms(), AlarmNoKey) {
		t.Error("the alarm stands though another stream has the approvals")
	}
}
