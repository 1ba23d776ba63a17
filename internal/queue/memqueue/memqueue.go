// Package memqueue is a queue in memory, for unit tests: the same contract as a real mid-point,
// with outages and lost answers on demand and nothing durable. It takes its time from package time
// alone, so that it runs on virtual time inside testing/synctest.
package memqueue

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"jmlbridge/internal/queue"
)

// Options are the queue's limits. The zero value is a queue without a size limit and with the
// defaults that stand beside each field.
type Options struct {
	Lease       time.Duration // how long a fetched message stays away unless settled; 30 s
	Window      time.Duration // how long an ID is remembered; 2 min
	Patience    time.Duration // how long a call waits out an outage; 10 s
	MaxMessages int           // unsettled messages that it holds; 0: any number
	MaxBody     int           // octets of one body; queue.MaxBody

	// Fault, if set, is asked before every operation on the queue's state. It is called without
	// locks held and may be called from several goroutines.
	Fault func(Op) Fault
}

// Op is one operation as Options.Fault sees it.
type Op string

// The operations. Publish is asked once for each message.
const (
	Publish Op = "publish"
	Fetch   Op = "fetch"
	Settle  Op = "settle"
)

// Fault says how an operation goes wrong. The zero value is: not at all.
type Fault int

// The two ways in which the network fails.
const (
	None Fault = iota
	Lost       // nothing happened; the caller sees queue.ErrUnreachable
	Kept       // it happened, and the answer was lost; the caller sees queue.ErrUnreachable
)

// Queue holds messages until a receiver settles them.
type Queue struct {
	opt Options

	mu      sync.Mutex // guards everything below; never held across a wait
	items   []*item    // in order of publication
	last    uint64     // number of the newest message ever
	ids     map[string]time.Time
	down    bool
	changed chan struct{} // closed and replaced at every change that a waiter may care about
}

type item struct {
	seq    uint64
	body   []byte
	leased time.Time // until when; zero: never fetched
}

// New returns an empty queue.
func New(opt Options) *Queue {
	def := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&opt.Lease, 30*time.Second)
	def(&opt.Window, 2*time.Minute)
	def(&opt.Patience, 10*time.Second)
	if opt.MaxBody == 0 {
		opt.MaxBody = queue.MaxBody
	}
	return &Queue{opt: opt, ids: make(map[string]time.Time), changed: make(chan struct{})}
}

// Stop makes the queue unreachable until Start; its messages and leases stay.
func (q *Queue) Stop() { q.setDown(true) }

// Start ends an outage.
func (q *Queue) Start() { q.setDown(false) }

func (q *Queue) setDown(down bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.down = down
	q.wake()
}

// Len is the number of messages that nobody has settled.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// wake lets every waiter look again. mu is held.
func (q *Queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *Queue) fault(op Op) Fault {
	if q.opt.Fault == nil {
		return None
	}
	return q.opt.Fault(op)
}

// await returns when the queue is reachable.
func (q *Queue) await(ctx context.Context, closed <-chan struct{}) error {
	patience := time.NewTimer(q.opt.Patience)
	defer patience.Stop()
	for {
		q.mu.Lock()
		down, changed := q.down, q.changed
		q.mu.Unlock()
		select {
		case <-closed:
			return queue.ErrClosed
		default:
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !down {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-closed:
		case <-patience.C:
			return fmt.Errorf("waited %s: %w", q.opt.Patience, queue.ErrUnreachable)
		}
	}
}

// conn is what a publisher and a receiver have in common.
type conn struct {
	q      *Queue
	once   sync.Once
	closed chan struct{}
}

// Close ends every call under way.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// Publisher puts messages on a Queue.
type Publisher struct{ conn }

// Publisher returns a new connection for putting messages on q.
func (q *Queue) Publisher() *Publisher {
	return &Publisher{conn{q: q, closed: make(chan struct{})}}
}

// Publish implements queue.Publisher.
func (p *Publisher) Publish(ctx context.Context, msgs []queue.Message) (int, error) {
	for n, m := range msgs {
		if err := p.q.await(ctx, p.closed); err != nil {
			return n, err
		}
		if len(m.Body) > p.q.opt.MaxBody {
			return n, fmt.Errorf("message of %d octets, at most %d: %w", len(m.Body), p.q.opt.MaxBody, queue.ErrTooLarge)
		}
		fault := p.q.fault(Publish)
		if fault == Lost {
			return n, fmt.Errorf("publish: %w", queue.ErrUnreachable)
		}
		if err := p.q.put(m); err != nil {
			return n, err
		}
		if fault == Kept {
			return n, fmt.Errorf("publish: %w", queue.ErrUnreachable)
		}
	}
	return len(msgs), nil
}

func (q *Queue) put(m queue.Message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for id, until := range q.ids {
		if !now.Before(until) {
			delete(q.ids, id)
		}
	}
	if _, dup := q.ids[m.ID]; dup && m.ID != "" {
		return nil
	}
	if q.opt.MaxMessages > 0 && len(q.items) >= q.opt.MaxMessages {
		return fmt.Errorf("it holds %d messages: %w", len(q.items), queue.ErrFull)
	}
	q.ids[m.ID] = now.Add(q.opt.Window)
	q.last++
	q.items = append(q.items, &item{seq: q.last, body: slices.Clone(m.Body)})
	q.wake()
	return nil
}

// Receiver takes messages from a Queue.
type Receiver struct {
	conn
	leased time.Time // until when others before it may have leased messages
}

// Receiver returns a new connection for taking messages from q. All receivers share the leases.
func (q *Queue) Receiver() *Receiver {
	r := &Receiver{conn: conn{q: q, closed: make(chan struct{})}}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if it.leased.After(r.leased) {
			r.leased = it.leased
		}
	}
	return r
}

// Fetch implements queue.Receiver.
func (r *Receiver) Fetch(ctx context.Context, max int) ([]queue.Delivery, error) {
	if max < 1 {
		return nil, fmt.Errorf("fetch of %d messages: ask for at least one", max)
	}
	for {
		if err := r.q.await(ctx, r.closed); err != nil {
			return nil, err
		}
		fault := r.q.fault(Fetch)
		if fault == Lost {
			return nil, fmt.Errorf("fetch: %w", queue.ErrUnreachable)
		}
		batch, free, changed := r.q.take(max)
		if len(batch) > 0 {
			if fault == Kept {
				return nil, fmt.Errorf("fetch: %w", queue.ErrUnreachable)
			}
			return batch, nil
		}
		lease := time.NewTimer(free) // until the next lease runs out
		select {
		case <-changed:
		case <-lease.C:
		case <-ctx.Done():
		case <-r.closed:
		}
		lease.Stop()
	}
}

// take leases up to max messages. With none to lease it says when the next one comes free, and what
// to wait on meanwhile.
func (q *Queue) take(max int) (batch []queue.Delivery, free time.Duration, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	free = time.Hour
	if q.down {
		return nil, free, q.changed
	}
	now := time.Now()
	for _, it := range q.items {
		if left := it.leased.Sub(now); left > 0 {
			free = min(free, left)
			continue
		}
		if len(batch) == max {
			break
		}
		it.leased = now.Add(q.opt.Lease)
		batch = append(batch, queue.Delivery{
			Body:     slices.Clone(it.body),
			Position: strconv.AppendUint(nil, it.seq, 10),
			Lease:    it.seq,
		})
	}
	return batch, free, q.changed
}

// Leased implements queue.Receiver.
func (r *Receiver) Leased() time.Duration { return max(0, time.Until(r.leased)) }

// Settle implements queue.Receiver.
func (r *Receiver) Settle(ctx context.Context, batch []queue.Delivery) error {
	if err := r.q.await(ctx, r.closed); err != nil {
		return err
	}
	fault := r.q.fault(Settle)
	if fault == Lost {
		return fmt.Errorf("settle: %w", queue.ErrUnreachable)
	}
	done := make(map[uint64]bool, len(batch))
	for _, d := range batch {
		seq, ok := d.Lease.(uint64)
		if !ok {
			return fmt.Errorf("settle: a delivery that this queue did not make (%T)", d.Lease)
		}
		done[seq] = true
	}
	r.q.mu.Lock()
	r.q.items = slices.DeleteFunc(r.q.items, func(it *item) bool { return done[it.seq] })
	r.q.wake()
	r.q.mu.Unlock()
	if fault == Kept {
		return fmt.Errorf("settle: %w", queue.ErrUnreachable)
	}
	return nil
}
