package memqueue_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/memqueue"
	"jmlbridge/internal/queue/queuetest"
)

func TestConformance(t *testing.T) { queuetest.Run(t, conforming) }

func TestConformanceDisturbed(t *testing.T) { queuetest.RunDisturbed(t, conforming) }

// conforming is a queue of the conformance suite. Where faults are asked for, the first operation fails and a few of those
// after it.
func conforming(_ *testing.T, s queuetest.Settings) queuetest.Queue {
	opt := memqueue.Options{Lease: s.Lease, Patience: s.Patience, MaxMessages: s.MaxMessages}
	var mu sync.Mutex // guards struck and rnd
	struck, rnd := 0, rand.New(rand.NewPCG(s.Faults, 0))
	if s.Faults != 0 {
		opt.Fault = func(memqueue.Op) memqueue.Fault {
			mu.Lock()
			defer mu.Unlock()
			if struck > 0 && (struck == 8 || rnd.IntN(4) > 0) {
				return memqueue.None
			}
			struck++
			return []memqueue.Fault{memqueue.Lost, memqueue.Kept}[rnd.IntN(2)]
		}
	}
	q := memqueue.New(opt)
	return queuetest.Queue{
		Publisher: func() queue.Publisher { return q.Publisher() },
		Receiver:  func() queue.Receiver { return q.Receiver() },
		Stop:      q.Stop,
		Start:     q.Start,
		Struck: func() int {
			mu.Lock()
			defer mu.Unlock()
			return struck
		},
	}
}

// Both ways in which an operation fails: nothing happened, and it happened but the answer was lost.
func TestFaults(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		op    memqueue.Op
		fault memqueue.Fault
		left  int // messages on the queue after publish, fetch and settle, one of which failed
	}{
		{memqueue.Publish, memqueue.Lost, 0},
		{memqueue.Publish, memqueue.Kept, 0},
		{memqueue.Fetch, memqueue.Lost, 1},
		{memqueue.Fetch, memqueue.Kept, 1},
		{memqueue.Settle, memqueue.Lost, 1},
		{memqueue.Settle, memqueue.Kept, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			armed := true
			q := memqueue.New(memqueue.Options{Fault: func(op memqueue.Op) memqueue.Fault {
				if armed && op == c.op {
					armed = false
					return c.fault
				}
				return memqueue.None
			}})
			p, r := q.Publisher(), q.Receiver()
			n, err := p.Publish(ctx, []queue.Message{{ID: "a", Body: []byte("x")}})
			if c.op == memqueue.Publish {
				if n != 0 || !errors.Is(err, queue.ErrUnreachable) {
					t.Fatalf("%s %d: publish: %d, %v", c.op, c.fault, n, err)
				}
				want := map[memqueue.Fault]int{memqueue.Lost: 0, memqueue.Kept: 1}[c.fault]
				if q.Len() != want {
					t.Fatalf("%s %d: %d on the queue; expected %d", c.op, c.fault, q.Len(), want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			batch, err := r.Fetch(ctx, 1)
			if c.op == memqueue.Fetch {
				if !errors.Is(err, queue.ErrUnreachable) {
					t.Fatalf("%s %d: fetch: %v", c.op, c.fault, err)
				}
				start := time.Now()
				if _, err := r.Fetch(ctx, 1); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(start) >= 30*time.Second; waited != (c.fault == memqueue.Kept) {
					t.Fatalf("%s %d: came again after %s; a lost answer leaves a lease behind, a lost request none", c.op, c.fault, time.Since(start))
				}
			} else if err := r.Settle(ctx, batch); !errors.Is(err, queue.ErrUnreachable) {
				t.Fatalf("%s %d: settle: %v", c.op, c.fault, err)
			}
			if q.Len() != c.left {
				t.Fatalf("%s %d: %d on the queue; expected %d", c.op, c.fault, q.Len(), c.left)
			}
		})
	}
}

// The duplicate window ends.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(memqueue.Options{Window: time.Minute})
		p := q.Publisher()
		m := []queue.Message{{ID: "a", Body: []byte("x")}}
		for _, want := range []int{1, 1, 2} {
			if _, err := p.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if q.Len() != want {
				t.Fatalf("%d on the queue; expected %d", q.Len(), want)
			}
			if want == 1 {
				time.Sleep(30 * time.Second) // virtual
			}
		}
	})
}
