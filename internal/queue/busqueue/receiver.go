package busqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/internal/queue"
)

const (
	settlers   = 128             // messages that are settled at the same time
	settleTime = 2 * time.Second // for one attempt to settle one message
)

// Receiver takes messages from one queue and from its dead letters, under peek-lock.
type Receiver struct {
	a    *account
	main *source
	dead *source

	opened time.Time
	unread aside

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// OpenReceiver checks the configuration and begins to connect. It does not wait for the mid-point: an
// unreachable one shows in Fetch.
func OpenReceiver(cfg Config) (*Receiver, error) {
	a, err := cfg.open()
	if err != nil {
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	r := &Receiver{a: a, opened: time.Now(), unread: aside{patience: asidePatience}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	some := newSignal()
	r.main, r.dead = newSource(a, 0, some), newSource(a, azservicebus.SubQueueDeadLetter, some)
	for _, s := range []*source{r.main, r.dead} {
		r.wg.Go(func() { s.run(r.ctx) })
	}
	return r, nil
}

// Close ends the connections and a Fetch under way.
func (r *Receiver) Close() error {
	r.stop()
	r.wg.Wait()
	return nil
}

// Empty is how often the client returned nothing so far.
func (r *Receiver) Empty() uint64 { return r.main.empty.Load() + r.dead.empty.Load() }

// deadShare is the part of a fetch that dead letters may have while others wait.
const deadShare = 4

// Fetch implements queue.Receiver. Dead letters come with a bounded share beside the others.
func (r *Receiver) Fetch(ctx context.Context, most int) ([]queue.Delivery, error) {
	if most < 1 {
		return nil, fmt.Errorf("fetch of %d messages: ask for at least one", most)
	}
	outage := time.Now().Add(r.a.Patience)
	for {
		if r.ctx.Err() != nil {
			return nil, queue.ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		changed := r.main.changed.wait() // before looking, so that nothing is missed
		got := r.dead.take(max(1, most/deadShare))
		more, soon := r.main.takeInOrder(most - len(got))
		if got = append(more, got...); len(got) > 0 {
			return deliveries(got), nil
		}
		down, why := r.main.state()
		wait := time.Hour
		switch {
		case soon > 0:
			wait = soon
		case down && errors.Is(why, queue.ErrRefused):
			return nil, why
		case down:
			if wait = time.Until(outage); wait <= 0 {
				return nil, fmt.Errorf("waited %s: %w", r.a.Patience, why)
			}
		default:
			outage = time.Now().Add(r.a.Patience)
		}
		t := time.NewTimer(wait)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
		case <-r.ctx.Done():
		}
		t.Stop()
	}
}

func deliveries(held []*held) []queue.Delivery {
	out := make([]queue.Delivery, len(held))
	for i, h := range held {
		out[i] = queue.Delivery{Body: h.body, Position: strconv.AppendInt(nil, h.seq, 10), DeadLettered: h.source.dead(), Lease: h}
		h.body = nil
	}
	return out
}

// lockTime is how long a message is locked unless the queue says otherwise; with the Listen right nobody is told.
const lockTime = time.Minute

// Leased implements queue.Receiver: whether a receiver before this one left locks, nobody says.
func (r *Receiver) Leased() time.Duration { return max(0, lockTime-time.Since(r.opened)) }

// Settle implements queue.Receiver: all at once, each by its own link or, where that is gone, by its lock token.
func (r *Receiver) Settle(ctx context.Context, batch []queue.Delivery) error {
	list := make([]*held, len(batch))
	for i, d := range batch {
		h, ok := d.Lease.(*held)
		if !ok || h == nil {
			return fmt.Errorf("settle: a delivery that this queue did not make (%T)", d.Lease)
		}
		list[i] = h
	}
	if r.ctx.Err() != nil {
		return queue.ErrClosed
	}
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	var errs [2]error
	var wg sync.WaitGroup
	for i, s := range []*source{r.main, r.dead} {
		mine := slices.DeleteFunc(slices.Clone(list), func(h *held) bool { return h.source != s })
		if len(mine) > 0 {
			wg.Go(func() { errs[i] = s.settleAll(call, mine) })
		}
	}
	wg.Wait()
	err := errors.Join(errs[:]...)
	switch {
	case err != nil && r.ctx.Err() != nil:
		return queue.ErrClosed
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	}
	return err
}

// signal wakes everyone who waits.
type signal struct {
	mu sync.Mutex // guards c
	c  chan struct{}
}

func newSignal() *signal { return &signal{c: make(chan struct{})} }

func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c
}

func (s *signal) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.c)
	s.c = make(chan struct{})
}
