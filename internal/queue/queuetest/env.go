package queuetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"jmlbridge/internal/queue"
)

// settleTries is how often a batch is settled that is not confirmed. After that it comes again, as was promised of it.
const settleTries = 3

// env is one test's queue and its user.
type env struct {
	*testing.T
	ctx context.Context
	set Settings
	q   Queue
	pub queue.Publisher
	rec queue.Receiver

	disturbed bool
	dark      bool // rec is: nothing comes twice or out of order, whatever befell the way
	published int  // messages with lower numbers may be on the queue
}

func messages(from, to int) []queue.Message {
	var out []queue.Message
	for i := from; i < to; i++ {
		out = append(out, queue.Message{ID: fmt.Sprintf("id-%06d", i), Body: body(i)})
	}
	return out
}

func body(i int) []byte { return fmt.Appendf(nil, "body %06d", i) }

// number is that of a message, or -1 where it has none.
func number(b []byte) int {
	n := -1
	if _, err := fmt.Sscanf(string(b[:min(len(b), 20)]), "body %d", &n); err != nil || !bytes.Equal(b, body(n)) {
		return -1
	}
	return n
}

// again says whether a call is to be made again: an undisturbed queue answers the first.
func (e *env) again(err error) bool {
	return e.disturbed && errors.Is(err, queue.ErrUnreachable) && e.ctx.Err() == nil
}

// put publishes, and what a fault left unconfirmed once more under the same ids.
func (e *env) put(p queue.Publisher, msgs []queue.Message) (n int, err error) {
	for {
		k, err := p.Publish(e.ctx, msgs[n:])
		if n += k; err == nil || !e.again(err) {
			return n, err
		}
	}
}

func (e *env) publish(msgs []queue.Message) {
	e.Helper()
	e.upTo(msgs)
	n, err := e.put(e.pub, msgs)
	if n != len(msgs) || err != nil {
		e.Fatalf("publish of %d: %d, %v", len(msgs), n, err)
	}
}

// upTo notes that msgs may be on the queue from now on.
func (e *env) upTo(msgs []queue.Message) {
	for _, m := range msgs {
		e.published = max(e.published, number(m.Body)+1)
	}
}

// publishSoon is publish after a restart: a connection that is not made anew yet is "unreachable", and
// whoever publishes tries again with the same ids until ctx ends.
func (e *env) publishSoon(msgs []queue.Message) {
	e.Helper()
	e.upTo(msgs)
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

// take is one fetch, made again where a fault ended it.
func (e *env) take(ctx context.Context, max int) ([]queue.Delivery, error) {
	for {
		batch, err := e.rec.Fetch(ctx, max)
		if err == nil || !e.again(err) {
			return batch, err
		}
	}
}

func (e *env) fetch(max int) []queue.Delivery {
	e.Helper()
	batch, err := e.take(e.ctx, max)
	if err != nil {
		e.Fatalf("fetch: %v", err)
	}
	e.check(batch, max)
	return batch
}

// check holds a batch to what is promised of every one.
func (e *env) check(batch []queue.Delivery, max int) {
	e.Helper()
	if len(batch) < 1 || len(batch) > max {
		e.Fatalf("fetch of at most %d brought %d", max, len(batch))
	}
	last := -1
	for _, d := range batch {
		n := number(d.Body)
		if len(d.Position) == 0 {
			e.Fatalf("message %d has no position", n)
		}
		if n >= e.published {
			e.Fatalf("message %d was not published", n)
		}
		if n < 0 || d.DeadLettered { // what was set aside comes beside the others
			continue
		}
		if n < last || n == last && !e.disturbed {
			e.Fatalf("message %d comes after %d within one fetch", n, last)
		}
		last = n
	}
}

// come fetches messages from until to: each once and in order. Where faults strike, it is each at least once, with
// others that come again among them, and the last of each is returned.
func (e *env) come(from, to int) []queue.Delivery {
	e.Helper()
	if !e.disturbed || e.dark {
		var got []queue.Delivery
		for len(got) < to-from {
			got = append(got, e.fetch(to-from-len(got))...)
		}
		e.want(got, from, to)
		return got
	}
	came := make(map[int]queue.Delivery)
	for len(came) < to-from {
		for _, d := range e.fetch(to - from) {
			if n := number(d.Body); n >= from && n < to {
				came[n] = d
			}
		}
	}
	got := make([]queue.Delivery, 0, to-from)
	for _, d := range came {
		got = append(got, d)
	}
	slices.SortFunc(got, byNumber)
	return got
}

func byNumber(a, b queue.Delivery) int { return cmp.Compare(number(a.Body), number(b.Body)) }

// want holds what came to the order in which it was published, or brings it into that where messages may overtake.
func (e *env) want(got []queue.Delivery, from, to int) {
	e.Helper()
	if e.q.Overtakes && !e.dark {
		slices.SortStableFunc(got, byNumber)
	}
	if len(got) != to-from {
		e.Fatalf("%d messages; expected %d", len(got), to-from)
	}
	for i, d := range got {
		if !bytes.Equal(d.Body, body(from+i)) {
			e.Fatalf("message %d is %.40q; expected %q", i, d.Body, body(from+i))
		}
	}
}

// settle settles, and where faults strike leaves what stays unconfirmed to come again.
func (e *env) settle(batch []queue.Delivery) {
	e.Helper()
	if err := e.trySettle(batch); err != nil {
		e.Fatalf("settle: %v", err)
	}
}

func (e *env) trySettle(batch []queue.Delivery) error {
	for range settleTries {
		err := e.rec.Settle(e.ctx, batch)
		if err == nil || !e.again(err) {
			return err
		}
	}
	return nil
}

// empty checks that nothing comes, and where the lease is short, for longer than that. Where faults strike, what comes again is
// settled until then.
func (e *env) empty() {
	e.Helper()
	wait := 300 * time.Millisecond
	if e.set.Lease <= shortLease {
		wait = e.set.Lease * 3 / 2
	}
	for {
		ctx, cancel := context.WithTimeout(e.ctx, wait)
		batch, err := e.take(ctx, 10)
		cancel()
		if e.ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil || !e.disturbed || e.dark {
			e.Fatalf("queue should be empty: %d messages, %v", len(batch), err)
		}
		e.check(batch, 10)
		e.settle(batch)
	}
}

// goesOn sends one more message across by connections of their own: whatever befell the queue, it is one.
func (e *env) goesOn() {
	e.Helper()
	e.pub.Close()
	e.rec.Close()
	e.pub, e.rec = e.q.Publisher(), e.q.Receiver()
	last := []byte("the last")
	e.publish([]queue.Message{{ID: "last", Body: last}})
	for {
		batch, err := e.take(e.ctx, 100)
		if err != nil {
			e.Fatalf("fetch of the last message: %v", err)
		}
		if slices.ContainsFunc(batch, func(d queue.Delivery) bool { return bytes.Equal(d.Body, last) }) {
			return
		}
	}
}
