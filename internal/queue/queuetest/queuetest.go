// Package queuetest is the conformance suite for the adapters of package queue: what every queue
// must do, whoever runs it. It waits on real conditions with deadlines and trusts nothing but
// bodies.
package queuetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"jmlbridge/internal/queue"
)

// Settings are what a test needs of its queue.
type Settings struct {
	Lease       time.Duration // until a fetched message comes again
	Patience    time.Duration // until an outage is reported
	MaxMessages int           // 0: enough for any test
}

// Queue is one queue, empty at first, with ways to it. What it opens is closed by the test.
type Queue struct {
	Publisher func() queue.Publisher
	Receiver  func() queue.Receiver

	// Stop makes the queue unreachable and Start ends that; messages survive.
	Stop, Start func()
}

// deadline bounds one test. It is never waited out on a machine that works.
const deadline = 60 * time.Second

// Run runs the suite; open makes a fresh queue for one test.
func Run(t *testing.T, open func(*testing.T, Settings) Queue) {
	for _, c := range []struct {
		name string
		set  Settings
		test func(*env)
	}{
		{"order", Settings{}, order},
		{"nothing published", Settings{}, nothing},
		{"a message wakes a waiting fetch", Settings{}, wakes},
		{"a lease runs out", Settings{Lease: 300 * time.Millisecond}, redelivery},
		{"settle twice", Settings{Lease: 300 * time.Millisecond}, settleTwice},
		{"settle after the lease ran out", Settings{Lease: 300 * time.Millisecond}, settleLate},
		{"order of old and new within a fetch", Settings{Lease: 300 * time.Millisecond}, orderMixed},
		{"the server restarts", Settings{Lease: time.Second, Patience: 300 * time.Millisecond}, restart},
		{"restart under a waiting fetch", Settings{Patience: deadline}, restartWaiting},
		{"full", Settings{MaxMessages: 8}, full},
		{"close while fetching", Settings{}, closeFetching},
		{"cancel while fetching", Settings{}, cancelFetching},
		{"closed publisher", Settings{}, closedPublisher},
		{"duplicate id", Settings{}, duplicate},
		{"huge body", Settings{}, huge},
		{"settle beside a fetch", Settings{}, settleBeside},
		{"foreign delivery", Settings{}, foreign},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.set.Lease == 0 {
				c.set.Lease = deadline
			}
			if c.set.Patience == 0 {
				c.set.Patience = 5 * time.Second
			}
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			q := open(t, c.set)
			e := &env{T: t, ctx: ctx, set: c.set, q: q}
			e.pub, e.rec = q.Publisher(), q.Receiver()
			defer e.pub.Close()
			defer e.rec.Close()
			c.test(e)
		})
	}
}

type env struct {
	*testing.T
	ctx context.Context
	set Settings
	q   Queue
	pub queue.Publisher
	rec queue.Receiver
}

func messages(from, to int) []queue.Message {
	var out []queue.Message
	for i := from; i < to; i++ {
		out = append(out, queue.Message{ID: fmt.Sprintf("id-%06d", i), Body: body(i)})
	}
	return out
}

func body(i int) []byte { return fmt.Appendf(nil, "body %06d", i) }

func (e *env) publish(msgs []queue.Message) {
	e.Helper()
	n, err := e.pub.Publish(e.ctx, msgs)
	if n != len(msgs) || err != nil {
		e.Fatalf("publish of %d: %d, %v", len(msgs), n, err)
	}
}

// publishSoon is publish after a restart: a connection that is not made anew yet is "unreachable", and
// whoever publishes tries again with the same ids until ctx ends.
func (e *env) publishSoon(msgs []queue.Message) {
	e.Helper()
	for {
		n, err := e.pub.Publish(e.ctx, msgs)
		if msgs = msgs[n:]; len(msgs) == 0 {
			return
		}
		if !errors.Is(err, queue.ErrUnreachable) || e.ctx.Err() != nil {
			e.Fatalf("publish after a restart: %d are left, %v", len(msgs), err)
		}
	}
}

func (e *env) fetch(max int) []queue.Delivery {
	e.Helper()
	batch, err := e.rec.Fetch(e.ctx, max)
	if err != nil {
		e.Fatalf("fetch: %v", err)
	}
	if len(batch) < 1 || len(batch) > max {
		e.Fatalf("fetch of at most %d brought %d", max, len(batch))
	}
	return batch
}

// fetchN fetches until it has n.
func (e *env) fetchN(n int) (all []queue.Delivery) {
	e.Helper()
	for len(all) < n {
		all = append(all, e.fetch(n-len(all))...)
	}
	return all
}

func (e *env) settle(batch []queue.Delivery) {
	e.Helper()
	if err := e.rec.Settle(e.ctx, batch); err != nil {
		e.Fatalf("settle: %v", err)
	}
}

// empty checks that nothing comes for three leases.
func (e *env) empty() {
	e.Helper()
	wait := 3 * e.set.Lease
	if wait > time.Second {
		wait = 300 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(e.ctx, wait)
	defer cancel()
	batch, err := e.rec.Fetch(ctx, 10)
	if len(batch) > 0 || !errors.Is(err, context.DeadlineExceeded) {
		e.Fatalf("queue should be empty: %d messages, %v", len(batch), err)
	}
}

func (e *env) want(got []queue.Delivery, from, to int) {
	e.Helper()
	if len(got) != to-from {
		e.Fatalf("%d messages; expected %d", len(got), to-from)
	}
	for i, d := range got {
		if !bytes.Equal(d.Body, body(from+i)) {
			e.Fatalf("message %d is %q; expected %q", i, d.Body, body(from+i))
		}
		if len(d.Position) == 0 {
			e.Fatalf("message %d has no position", i)
		}
	}
}

func order(e *env) {
	const n = 1500 // more than any window or batch inside an adapter
	e.publish(messages(0, n))
	var got []queue.Delivery
	for len(got) < n {
		batch := e.fetch(400)
		e.settle(batch)
		got = append(got, batch...)
	}
	e.want(got, 0, n)
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
	got := make(chan []queue.Delivery, 1)
	go func() {
		batch, err := e.rec.Fetch(e.ctx, 100)
		if err != nil {
			e.Errorf("fetch: %v", err)
		}
		got <- batch
	}()
	e.publish(messages(0, 1))
	e.want(<-got, 0, 1)
}

func redelivery(e *env) {
	e.publish(messages(0, 3))
	e.want(e.fetchN(3), 0, 3) // and dies
	again := e.fetchN(3)
	e.want(again, 0, 3)
	e.settle(again)
	e.empty()
}

func settleTwice(e *env) {
	e.publish(messages(0, 3))
	batch := e.fetchN(3)
	e.settle(batch)
	e.settle(batch)
	e.empty()
}

func settleLate(e *env) {
	e.publish(messages(0, 3))
	first := e.fetchN(3)
	second := e.fetchN(3) // comes only after the first lease ran out
	e.settle(first)
	e.settle(second)
	e.empty()
}

func orderMixed(e *env) {
	e.publish(messages(0, 4))
	batch := e.fetchN(4)
	e.settle(batch[1:2])
	e.publish(messages(4, 6))
	// 0, 2, 3 come again, 4 and 5 for the first time, in whatever grouping.
	seen := make(map[string]bool)
	for len(seen) < 5 {
		var last []byte
		batch := e.fetch(10)
		for _, d := range batch {
			if bytes.Compare(d.Body, last) <= 0 {
				e.Fatalf("%q comes after %q within one fetch", d.Body, last)
			}
			last = d.Body
			seen[string(d.Body)] = true
		}
		e.settle(batch)
	}
	if seen[string(body(1))] {
		e.Fatal("a settled message came again")
	}
	e.empty()
}

func restart(e *env) {
	e.publish(messages(0, 10))
	batch := e.fetchN(5)
	e.settle(batch[:3])

	e.q.Stop()
	if n, err := e.pub.Publish(e.ctx, messages(10, 12)); n != 0 || !errors.Is(err, queue.ErrUnreachable) {
		e.Fatalf("publish to a stopped server: %d, %v; expected ErrUnreachable", n, err)
	}
	if _, err := e.rec.Fetch(e.ctx, 10); !errors.Is(err, queue.ErrUnreachable) {
		e.Fatalf("fetch from a stopped server: %v; expected ErrUnreachable", err)
	}
	if err := e.rec.Settle(e.ctx, batch[3:]); !errors.Is(err, queue.ErrUnreachable) {
		e.Fatalf("settle with a stopped server: %v; expected ErrUnreachable", err)
	}
	e.q.Start()

	// The same connections go on, without the caller's doing more than calling again.
	for n, msgs := 0, messages(10, 12); n < len(msgs); {
		k, err := e.pub.Publish(e.ctx, msgs[n:])
		if err != nil && !errors.Is(err, queue.ErrUnreachable) {
			e.Fatalf("publish after the restart: %v", err)
		}
		n += k
	}
	seen := make(map[string]bool)
	for len(seen) < 9 {
		batch, err := e.rec.Fetch(e.ctx, 10)
		if errors.Is(err, queue.ErrUnreachable) {
			continue
		}
		if err != nil {
			e.Fatalf("fetch after the restart: %v", err)
		}
		for _, d := range batch {
			seen[string(d.Body)] = true
		}
		e.settle(batch)
	}
	for i := 3; i < 12; i++ {
		if !seen[string(body(i))] {
			e.Fatalf("message %d was lost", i)
		}
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

func full(e *env) {
	msgs := messages(0, 12)
	n, err := e.pub.Publish(e.ctx, msgs)
	if n != 8 || !errors.Is(err, queue.ErrFull) {
		e.Fatalf("publish of 12 into a queue for 8: %d, %v; expected 8 and ErrFull", n, err)
	}
	if k, err := e.pub.Publish(e.ctx, msgs[n:]); k != 0 || !errors.Is(err, queue.ErrFull) {
		e.Fatalf("publish into a full queue: %d, %v; expected 0 and ErrFull", k, err)
	}
	got := e.fetchN(3)
	e.settle(got)
	k, err := e.pub.Publish(e.ctx, msgs[n:])
	if k != 3 || !errors.Is(err, queue.ErrFull) {
		e.Fatalf("publish of 4 with room for 3: %d, %v; expected 3 and ErrFull", k, err)
	}
	for len(got) < 11 {
		batch := e.fetch(20)
		e.settle(batch)
		got = append(got, batch...)
	}
	e.publish(msgs[n+k:])
	got = append(got, e.fetchN(1)...)
	e.want(got, 0, 12) // nothing lost, nothing out of order
}

func closeFetching(e *env) {
	got := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		close(began)
		_, err := e.rec.Fetch(e.ctx, 10)
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
		_, err := e.rec.Fetch(ctx, 10)
		got <- err
	}()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		e.Fatalf("fetch that was cancelled: %v; expected context.Canceled", err)
	}
	// The receiver lives on, and the abandoned request swallowed nothing.
	e.publish(messages(0, 2))
	e.want(e.fetchN(2), 0, 2)
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

func duplicate(e *env) {
	e.publish(messages(0, 3))
	e.publish(messages(1, 5)) // as after a lost answer
	twice := messages(5, 6)
	e.publish(append(twice, twice...))
	other := e.q.Publisher()
	defer other.Close()
	if n, err := other.Publish(e.ctx, messages(4, 6)); n != 2 || err != nil {
		e.Fatalf("publish again by another connection: %d, %v", n, err)
	}
	got := e.fetchN(6)
	e.want(got, 0, 6)
	e.settle(got)
	e.empty()
}

func huge(e *env) {
	msgs := messages(0, 3)
	msgs[1].Body = make([]byte, queue.MaxBody+1)
	if n, err := e.pub.Publish(e.ctx, msgs); n != 1 || !errors.Is(err, queue.ErrTooLarge) {
		e.Fatalf("publish with one of %d octets: %d, %v; expected 1 and ErrTooLarge", len(msgs[1].Body), n, err)
	}
	got := e.fetchN(1)
	e.want(got, 0, 1)
	e.settle(got)
	e.empty() // what stood behind it was not published

	msgs[1].Body = bytes.Repeat([]byte{0, '\r', '\n', 0xff}, queue.MaxBody/4)
	e.publish(msgs[1:2])
	if got := e.fetchN(1); !bytes.Equal(got[0].Body, msgs[1].Body) {
		e.Fatalf("a body of %d octets came changed (%d octets)", len(msgs[1].Body), len(got[0].Body))
	}
}

func settleBeside(e *env) {
	const n = 200
	batches := make(chan []queue.Delivery, n)
	done := make(chan error, 1)
	go func() {
		var err error
		for b := range batches {
			err = errors.Join(err, e.rec.Settle(e.ctx, b))
		}
		done <- err
	}()
	go func() {
		for i := 0; i < n; i += 10 {
			if _, err := e.pub.Publish(e.ctx, messages(i, i+10)); err != nil {
				e.Errorf("publish: %v", err)
			}
		}
	}()
	var got []queue.Delivery
	for len(got) < n {
		batch := e.fetch(7)
		got = append(got, batch...)
		batches <- slices.Clone(batch)
	}
	close(batches)
	if err := <-done; err != nil {
		e.Fatalf("settle beside a fetch: %v", err)
	}
	e.want(got, 0, n)
	e.empty()
}

func foreign(e *env) {
	if err := e.rec.Settle(e.ctx, []queue.Delivery{{Lease: "not ours"}}); err == nil {
		e.Fatal("settling what another queue made must be an error")
	}
}
