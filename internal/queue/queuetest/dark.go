package queuetest

import (
	"context"
	"errors"
	"time"

	"jmlbridge/internal/queue"
)

// dark: a receiver that acknowledges nothing goes by its position alone, and leaves the queue as it is. No fault takes
// anything from that: what it did not get it asks for again.
func dark(e *env) {
	if e.q.Dark == nil {
		e.Skip("this queue has no dark pull")
	}
	e.publish(messages(0, 10))
	e.rec.Close() // an acknowledging one would have fetched them
	acked := e.rec
	defer func() { e.rec, e.dark = acked, false }()

	e.rec, e.dark = e.q.Dark(nil), true
	got := e.come(0, 4)
	e.settle(got[:2]) // says nothing to anybody
	e.rec.Close()
	if _, err := e.rec.Fetch(e.ctx, 1); !errors.Is(err, queue.ErrClosed) {
		e.Fatalf("fetch after close: %v; expected ErrClosed", err)
	}

	e.rec = e.q.Dark(got[3].Position)
	e.come(4, 10)
	e.empty()
	came := e.beside(5)
	e.publish(messages(10, 11))
	e.want(<-came, 10, 11)
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	if _, err := e.rec.Fetch(ctx, 1); !errors.Is(err, context.Canceled) {
		e.Fatalf("fetch that was cancelled: %v; expected context.Canceled", err)
	}
	if err := e.rec.Settle(e.ctx, []queue.Delivery{{Lease: "not ours"}}); err == nil {
		e.Fatal("settling what another queue made must be an error")
	}
	e.rec.Close()

	// Another one begins with the oldest, and so does one with a position that it cannot read.
	for _, from := range []queue.Position{nil, queue.Position("what is this")} {
		e.rec = e.q.Dark(from)
		e.come(0, 11)
		e.rec.Close()
	}
}

func darkRestart(e *env) {
	if e.q.Dark == nil {
		e.Skip("this queue has no dark pull")
	}
	e.publish(messages(0, 3))
	e.rec.Close()
	e.rec, e.dark = e.q.Dark(nil), true
	defer func() { e.dark = false }()
	e.come(0, 3)
	e.q.Stop()
	begin := time.Now()
	if _, err := e.rec.Fetch(e.ctx, 1); !errors.Is(err, queue.ErrUnreachable) {
		e.Fatalf("fetch from a stopped server: %v after %s; expected ErrUnreachable", err, time.Since(begin))
	}
	e.q.Start()
	e.publishSoon(messages(3, 5))
	var got []queue.Delivery
	for len(got) < 2 {
		batch, err := e.rec.Fetch(e.ctx, 5)
		if err != nil && !errors.Is(err, queue.ErrUnreachable) {
			e.Fatalf("fetch after the restart: %v", err)
		}
		got = append(got, batch...)
	}
	e.want(got, 3, 5)
}
