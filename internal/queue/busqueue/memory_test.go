package busqueue_test

import (
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/busqueue"
)

// heap is what is in use after everything was let go that nobody has.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// taken fetches n messages, and returns what is handed back to settle them.
func (s *bus) taken(r *busqueue.Receiver, n int) (all []queue.Delivery) {
	s.t.Helper()
	for len(all) < n {
		got, err := r.Fetch(limited(s.t), n-len(all))
		if err != nil && !errors.Is(err, queue.ErrUnreachable) {
			s.t.Fatal(err)
		}
		for _, d := range got {
			all = append(all, queue.Delivery{Lease: d.Lease})
		}
	}
	return all
}

// What could not be settled takes hardly any room for as long as its handle is kept, and can be settled all the same.
func TestUnsettledTakesNoRoom(t *testing.T) {
	const n, size = 100, 128 << 10
	s := newBus(t, broker.Queue{Lock: time.Hour})
	list := messages(0, n)
	for i := range list {
		list[i].Body = make([]byte, size)
	}
	if _, err := s.publisher(s.config("sender")).Publish(limited(t), list); err != nil {
		t.Fatal(err)
	}
	c := s.config("listener")
	c.Patience = 100 * time.Millisecond
	r := s.receiver(c)
	batch := s.taken(r, n)
	s.Refuse(true)
	if err := r.Settle(limited(t), batch); !errors.Is(err, queue.ErrUnreachable) {
		t.Fatalf("settled without a mid-point: %v", err)
	}
	with, one := heap(), slices.Clone(batch[:1])
	clear(batch)
	if held := with - heap(); held > n*size/4 {
		t.Errorf("%d messages of %d octets that could not be settled held %d", n, size, held)
	}
	s.Refuse(false)
	for err := errors.New("not yet"); err != nil; err = r.Settle(limited(t), one) {
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	if c, _ := s.Counts(testQueue); c.Completed != 1 {
		t.Errorf("%+v", c)
	}
}

// A message far longer than any of ours takes no more room than one of ours once it is handed out.
func TestLongMessagesTakeNoRoom(t *testing.T) {
	const n, size = 10, 8 << 20
	s := newBus(t, broker.Queue{Lock: time.Hour}, func(c *broker.Config) { c.MaxMessageBytes = 16 << 20 })
	s.long(n, size)
	r := s.receiver(s.config("listener"))
	batch := s.taken(r, n)
	with := heap()
	clear(batch)
	if held := with - heap(); held > n*size/4 { // what is on its way between the two ends counts too
		t.Errorf("%d messages of %d octets held %d", n, size, held)
	}
}
