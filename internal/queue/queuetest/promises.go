package queuetest

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"jmlbridge/internal/queue"
)

func order(e *env) {
	n := 1500 // more than any window or batch inside an adapter
	if e.disturbed {
		n = 300 // their short leases must not run out while they wait in an adapter: a slow machine would never come to an end
	}
	e.publish(messages(0, n))
	var got []queue.Delivery
	came := make(map[int]bool)
	for len(came) < n {
		batch := e.fetch(400)
		e.settle(batch)
		got = append(got, batch...)
		for _, d := range batch {
			came[number(d.Body)] = true
		}
	}
	if !e.disturbed {
		e.want(got, 0, n)
	}
	e.empty()
}

func nothing(e *env) {
	if n, err := e.pub.Publish(e.ctx, nil); n != 0 || err != nil {
		e.Fatalf("publish of nothing: %d, %v", n, err)
	}
	e.settle(nil)
	if _, err := e.rec.Fetch(e.ctx, 0); err == nil {
		e.Fatal("a fetch of at most 0 must be an error: it could only return nothing")
	}
	e.empty()
}

func wakes(e *env) {
	got := e.beside(100)
	e.publish(messages(0, 1))
	e.want(<-got, 0, 1)
}

// beside fetches while the test does something else.
func (e *env) beside(max int) <-chan []queue.Delivery {
	got := make(chan []queue.Delivery, 1)
	go func() {
		batch, err := e.take(e.ctx, max)
		if err != nil {
			e.Errorf("fetch: %v", err)
		}
		got <- batch
	}()
	return got
}

func redelivery(e *env) {
	e.publish(messages(0, 3))
	e.come(0, 3) // and dies
	e.settle(e.come(0, 3))
	e.empty()
}

// leftBehind has a receiver that ends with messages in its hands. The next one gets what came later, and says that
// there may be others before it for as long as they have not come.
func leftBehind(e *env) {
	e.publish(messages(0, 3))
	e.come(0, 3)
	if err := e.rec.Close(); err != nil {
		e.Fatal(err)
	}
	e.rec = e.q.Receiver()
	e.publish(messages(3, 4))
	came := make(map[int]bool)
	for !came[3] {
		for _, d := range e.fetch(10) {
			came[number(d.Body)] = true
		}
	}
	if len(came) > 1 && !e.disturbed {
		e.Error("what is leased to another receiver came to this one")
	}
	if d := e.rec.Leased(); d <= 0 && len(came) < 4 {
		e.Errorf("of four messages %d came, the others are leased to nobody, and the receiver says %s", len(came), d)
	}
}

func settleTwice(e *env) {
	e.publish(messages(0, 3))
	batch := e.come(0, 3)
	e.settle(batch)
	e.settle(batch)
	e.empty()
}

func settleLate(e *env) {
	e.publish(messages(0, 3))
	first := e.come(0, 3)
	second := e.come(0, 3) // comes only after the first lease ran out
	e.settle(first)
	e.settle(second)
	e.empty()
}

func orderMixed(e *env) {
	e.publish(messages(0, 4))
	batch := e.come(0, 4)
	e.settle(batch[1:2])
	e.publish(messages(4, 6))
	// 0, 2, 3 come again, 4 and 5 for the first time, in whatever grouping. fetch looks at the order within each.
	came := make(map[int]bool)
	for !came[0] || !came[2] || !came[3] || !came[4] || !came[5] {
		batch := e.fetch(10)
		for _, d := range batch {
			came[number(d.Body)] = true
		}
		e.settle(batch)
	}
	if came[1] && !e.disturbed {
		e.Fatal("a settled message came again")
	}
	e.empty()
}

func restart(e *env) {
	e.publish(messages(0, 10))
	batch := e.come(0, 5)
	e.settle(batch[:3])

	e.q.Stop()
	later := messages(10, 12)
	if n, err := e.pub.Publish(e.ctx, later); n != 0 || !errors.Is(err, queue.ErrUnreachable) {
		e.Fatalf("publish to a stopped server: %d, %v; expected ErrUnreachable", n, err)
	}
	came := make(map[int]bool)
	for { // what was on its way to us when it stopped may still come
		early, err := e.rec.Fetch(e.ctx, 10)
		if err == nil && (len(came) < 5 || e.disturbed) {
			for _, d := range early {
				came[number(d.Body)] = true
			}
			continue
		}
		if !errors.Is(err, queue.ErrUnreachable) {
			e.Fatalf("fetch from a stopped server: %v; expected ErrUnreachable", err)
		}
		break
	}
	if err := e.rec.Settle(e.ctx, batch[3:]); !errors.Is(err, queue.ErrUnreachable) {
		e.Fatalf("settle with a stopped server: %v; expected ErrUnreachable", err)
	}
	e.q.Start()

	// The same connections go on, without the caller's doing more than calling again.
	e.publishSoon(later)
	missing := func() bool {
		for i := 3; i < 12; i++ {
			if !came[i] {
				return true
			}
		}
		return false
	}
	for missing() {
		batch, err := e.rec.Fetch(e.ctx, 10)
		if errors.Is(err, queue.ErrUnreachable) {
			continue
		}
		if err != nil {
			e.Fatalf("fetch after the restart: %v; %d messages came", err, len(came))
		}
		for _, d := range batch {
			came[number(d.Body)] = true
		}
		e.settle(batch)
	}
}

func restartWaiting(e *env) {
	type result struct {
		batch []queue.Delivery
		err   error
	}
	got := make(chan result, 1)
	go func() {
		for {
			batch, err := e.rec.Fetch(e.ctx, 10)
			if !errors.Is(err, queue.ErrUnreachable) {
				got <- result{batch, err}
				return
			}
		}
	}()
	e.q.Stop()
	e.q.Start()
	e.publishSoon(messages(0, 1))
	r := <-got
	if r.err != nil {
		e.Fatalf("fetch over a restart: %v", r.err)
	}
	e.want(r.batch, 0, 1)
}

// full has a queue for 8. It may have room for fewer of those that it confirms, where it took others and its answer was
// lost; it never confirms more, and nothing is lost.
func full(e *env) {
	msgs := messages(0, 12)
	e.upTo(msgs)
	room := func(n, most int) bool { return n == most || e.disturbed && n < most }
	n, err := e.put(e.pub, msgs)
	if !room(n, 8) || !errors.Is(err, queue.ErrFull) {
		e.Fatalf("publish of 12 into a queue for 8: %d, %v; expected 8 and ErrFull", n, err)
	}
	k, err := e.put(e.pub, msgs[n:])
	if !room(k, 0) && !room(n+k, 8) || !errors.Is(err, queue.ErrFull) {
		e.Fatalf("publish into a full queue: %d, %v; expected 0 and ErrFull", k, err)
	}
	n += k
	got := e.come(0, 3)
	e.settle(got)
	k, err = e.put(e.pub, msgs[n:])
	if n += k; !room(n, 11) || !errors.Is(err, queue.ErrFull) {
		e.Fatalf("publish of 4 with room for 3: %d, %v; expected 3 and ErrFull", k, err)
	}
	came := map[int]bool{0: true, 1: true, 2: true}
	take := func() {
		batch := e.fetch(20)
		e.settle(batch)
		got = append(got, batch...)
		for _, d := range batch {
			came[number(d.Body)] = true
		}
	}
	for !e.disturbed && len(came) < 11 {
		take()
	}
	for n < len(msgs) {
		k, err := e.put(e.pub, msgs[n:])
		if n += k; err != nil {
			if !e.disturbed || !errors.Is(err, queue.ErrFull) {
				e.Fatalf("publish into a queue that was drained: %d, %v", k, err)
			}
			take()
		}
	}
	for len(came) < len(msgs) {
		take()
	}
	if !e.disturbed {
		e.want(got, 0, 12) // nothing lost, nothing out of order
	}
	e.empty()
}

func closeFetching(e *env) {
	got := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		close(began)
		_, err := e.take(e.ctx, 10)
		got <- err
	}()
	<-began
	for range 2 {
		if err := e.rec.Close(); err != nil {
			e.Fatalf("close: %v", err)
		}
	}
	if err := <-got; !errors.Is(err, queue.ErrClosed) {
		e.Fatalf("fetch that was closed: %v; expected ErrClosed", err)
	}
	if _, err := e.rec.Fetch(e.ctx, 10); !errors.Is(err, queue.ErrClosed) {
		e.Fatalf("fetch after close: %v; expected ErrClosed", err)
	}
}

func cancelFetching(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	got := make(chan error, 1)
	go func() {
		_, err := e.take(ctx, 10)
		got <- err
	}()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		e.Fatalf("fetch that was cancelled: %v; expected context.Canceled", err)
	}
	// The receiver lives on, and the abandoned request swallowed nothing.
	e.publish(messages(0, 2))
	e.come(0, 2)
}

func closedPublisher(e *env) {
	e.publish(messages(0, 1))
	for range 2 {
		if err := e.pub.Close(); err != nil {
			e.Fatalf("close: %v", err)
		}
	}
	if n, err := e.pub.Publish(e.ctx, messages(1, 2)); n != 0 || !errors.Is(err, queue.ErrClosed) {
		e.Fatalf("publish after close: %d, %v; expected ErrClosed", n, err)
	}
}

// duplicate: what is published again is there once. Where faults strike, a second copy cannot be told from a message
// that comes again, and what is left is that no repetition takes the place of a message.
func duplicate(e *env) {
	e.publish(messages(0, 3))
	e.publish(messages(1, 5)) // as after a lost answer
	twice := messages(5, 6)
	e.publish(append(twice, twice...))
	other := e.q.Publisher()
	defer other.Close()
	if n, err := e.put(other, messages(4, 6)); n != 2 || err != nil {
		e.Fatalf("publish again by another connection: %d, %v", n, err)
	}
	e.settle(e.come(0, 6))
	e.empty()
}

func huge(e *env) {
	msgs := messages(0, 3)
	msgs[1].Body = make([]byte, queue.MaxBody+1)
	e.upTo(msgs[:1])
	if n, err := e.put(e.pub, msgs); n != 1 || !errors.Is(err, queue.ErrTooLarge) {
		e.Fatalf("publish with one of %d octets: %d, %v; expected 1 and ErrTooLarge", len(msgs[1].Body), n, err)
	}
	e.settle(e.come(0, 1))
	e.empty() // what stood behind it was not published

	msgs[1].Body = bytes.Repeat([]byte{0, '\r', '\n', 0xff}, queue.MaxBody/4)
	e.publish(msgs[1:2])
	got := e.fetch(1)[0].Body
	for e.disturbed && number(got) == 0 {
		got = e.fetch(1)[0].Body
	}
	if !bytes.Equal(got, msgs[1].Body) {
		e.Fatalf("a body of %d octets came changed (%d octets)", len(msgs[1].Body), len(got))
	}
}

func settleBeside(e *env) {
	const n = 200
	batches := make(chan []queue.Delivery, n)
	done := make(chan error, 1)
	go func() {
		var err error
		for b := range batches {
			err = errors.Join(err, e.trySettle(b))
		}
		done <- err
	}()
	e.upTo(messages(0, n))
	go func() {
		for i := 0; i < n; i += 10 {
			if _, err := e.put(e.pub, messages(i, i+10)); err != nil {
				e.Errorf("publish: %v", err)
			}
		}
	}()
	var got []queue.Delivery
	came := make(map[int]bool)
	for len(came) < n {
		batch := e.fetch(7)
		got = append(got, batch...)
		for _, d := range batch {
			came[number(d.Body)] = true
		}
		select {
		case batches <- slices.Clone(batch):
		case <-e.ctx.Done():
		}
	}
	close(batches)
	if err := <-done; err != nil {
		e.Fatalf("settle beside a fetch: %v", err)
	}
	if !e.disturbed {
		e.want(got, 0, n)
	}
	e.empty()
}

// setAside: nothing that was published is lost by being fetched too often. A queue that sets it aside hands it
// out from there, marked; any other hands it out for ever, unmarked. Where faults strike, it has been delivered to
// nobody as well, and may be set aside before we saw it so often.
func setAside(e *env) {
	e.publish(messages(0, 2))
	for range e.set.MaxDeliveries {
		for _, d := range e.come(0, 2) {
			if d.DeadLettered && !(e.q.SetsAside && e.disturbed) {
				e.Fatalf("%q was set aside before %d deliveries", d.Body, e.set.MaxDeliveries)
			}
		}
	}
	came := make(map[int]bool)
	for len(came) < 2 {
		d := e.fetch(1)[0] // one by one: they are set aside one by one
		n := number(d.Body)
		if d.DeadLettered != e.q.SetsAside && !e.disturbed {
			e.Fatalf("%q after %d deliveries: set aside %t, expected %t", d.Body, e.set.MaxDeliveries, d.DeadLettered, e.q.SetsAside)
		}
		if came[n] && !e.disturbed {
			e.Fatalf("%q was settled and came again, and the other one not at all", d.Body)
		}
		if d.DeadLettered == e.q.SetsAside { // a fetch that nobody got may have delayed it
			e.settle([]queue.Delivery{d})
			came[n] = true
		}
	}
	e.publish(messages(2, 3)) // the queue goes on beside
	got := e.come(2, 3)
	if got[0].DeadLettered && !(e.q.SetsAside && e.disturbed) {
		e.Fatal("a new message was set aside")
	}
	e.settle(got)
	e.empty()
}

func foreign(e *env) {
	if err := e.rec.Settle(e.ctx, []queue.Delivery{{Lease: "not ours"}}); err == nil {
		e.Fatal("settling what another queue made must be an error")
	}
}
