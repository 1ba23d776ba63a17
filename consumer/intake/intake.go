// Package intake makes what the mid-point holds durably ours: fetch a batch, open its messages in
// parallel, admit them in order, commit, settle.
//
// The queue is NOT trusted: whoever runs it can drop, delay, repeat, reorder, alter or withhold messages.
// Nothing is believed before its signature is, nothing is applied here, and nothing is settled before the
// one transaction that holds all of it is durable: archive, stream state, what the facts say of each
// person, position and ledger entries. A crash before the commit is repaired by redelivery, a crash after
// it by the duplicates being recognised. Every message leaves a trace on the ledger, one by one or, in a
// flood, in a summary.
//
// What takes access away acts from any verified position; what gives waits until everything before it is
// known.
package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/crash"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/queue"
)

// Queue is what intake needs of a receiver: at least once, in any order, from a mid-point that is not
// trusted. See [queue.Receiver] for what each call promises.
type Queue interface {
	Fetch(ctx context.Context, max int) ([]queue.Delivery, error)
	Settle(ctx context.Context, batch []queue.Delivery) error
	Leased() time.Duration
}

// Limits bound what strangers can make us keep and write.
type Limits struct {
	Batch      int           // messages in one transaction; 500
	Parked     int64         // octets of parked messages in all; 64 MiB
	ParkedKey  int64         // octets of parked messages that name the same key; a quarter of it
	Rate       int64         // refusals or repetitions of one code in an interval that get entries of their own; 20
	Interval   time.Duration // of Rate, and between looks at what may have changed; 1 min
	RetryAfter time.Duration // how often parked messages are tried again without a reason; 5 min
}

func (l *Limits) fill() {
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	if l.Batch <= 0 {
		l.Batch = 500
	}
	def(&l.Parked, 64<<20)
	def(&l.ParkedKey, l.Parked/4)
	def(&l.Rate, 20)
	def((*int64)(&l.Interval), int64(time.Minute))
	def((*int64)(&l.RetryAfter), int64(5*time.Minute))
}

// Config is what an Intake works with. All but Limits, StaleAfter, Committed, Unopened and Room must be set.
type Config struct {
	DB    *state.DB
	Queue Queue
	Name  string         // of the queue; its position is kept under it
	Ring  *envelope.Ring // the enclave's decryption keys
	// Openers is how many messages are opened at once; 0: as many as there are processors, which is right for keys
	// in memory. A key that is asked over the network wants more.
	Openers int
	Now     func() time.Time
	Log     *slog.Logger

	StaleAfter time.Duration // without a heartbeat for so long a stream is stale: entries say so; 0: never
	Committed  func()        // called after each commit: there may be work, and entries to publish
	// Unopened is told when messages wait since a key store does not answer for their key, for unopenedAfter, and when none waits any
	// more: nobody can tell a leaver among them. It is called by several goroutines, one at a time.
	Unopened func(bool)
	Room     Room // on the disk; nil: always enough
	Limits   Limits
}

// Intake is one reader of one queue.
type Intake struct {
	Config
	trust trust // what the openers go by; see sweep.go

	away away // decryption keys that cannot be asked; see away.go

	unopened struct {
		sync.Mutex
		told int // messages that wait, and of which Unopened was told
	}

	fetching context.Context // ends when Run is to stop; set before anything of Run begins

	// Owned by whoever commits: one goroutine.
	swept   time.Time
	retried time.Time
	seen    string           // what was trusted when parked messages were last tried
	gapDue  time.Time        // when a gap is looked at again whose alarm was put off; zero: none was
	rosters bool             // one may be whole and not applied
	checked checked          // of the parts of a roster that is coming in
	line    []*item          // fetched and not committed: empty but while the disk is full, or a key is away
	left    map[string]*item // one parked message for each key that was away when parked ones were tried again; by the key
}

// New returns an Intake. It reads what is trusted, and does nothing else before Run.
func New(c Config) (*Intake, error) {
	c.Limits.fill()
	if c.Committed == nil {
		c.Committed = func() {}
	}
	if c.Unopened == nil {
		c.Unopened = func(bool) {}
	}
	if c.Room == nil {
		c.Room = endless{}
	}
	in := &Intake{Config: c, fetching: context.Background(), rosters: true}
	if err := in.trust.load(c.DB.Read()); err != nil {
		return nil, err
	}
	return in, nil
}

// unopenedAfter is how long a key store may be away before somebody has to know.
const unopenedAfter = 30 * time.Second

// retryPause is how long to wait before asking again what did not answer: a key store, or a mid-point
// that refuses us.
const retryPause = 5 * time.Second

// lookEvery is how soon a change of trust is taken up.
const lookEvery = 5 * time.Second

// Run takes in messages until ctx ends; what was fetched by then is still opened, committed and settled.
// Ending work as well cuts that short, safely: what is not settled comes again. An error is one of the
// database: nothing can be recorded any more.
func (in *Intake) Run(ctx, work context.Context) error {
	// Each stage holds at most one batch and one more waits before it, so memory is bounded, and one
	// batch commits while the next is opened.
	fetched := make(chan []queue.Delivery, 1)
	opened := make(chan []*item, 1)
	committed := make(chan []queue.Delivery, 4)
	g, work := errgroup.WithContext(work)
	fetching, stop := context.WithCancel(ctx)
	defer stop()
	in.fetching = fetching
	context.AfterFunc(work, stop)

	g.Go(func() error {
		defer close(fetched)
		return in.fetch(fetching, work, fetched)
	})
	g.Go(func() error {
		defer close(opened)
		for batch := range fetched {
			items, err := in.open(work, batch)
			if err != nil {
				return nil // work ended; the batch comes again
			}
			if !send(work, opened, items) {
				return nil
			}
		}
		return nil
	})
	g.Go(func() error {
		defer close(committed)
		if err := in.commits(work, opened, committed); err != nil {
			return err // which ends work, and all others with it
		}
		for range opened { // given up at the end: it comes again
		}
		return nil
	})
	g.Go(func() error {
		for batch := range committed {
			// Late or lost: they come again and are known.
			if err := in.Queue.Settle(work, batch); err != nil && work.Err() == nil {
				in.Log.Warn("could not settle; the messages will come again", "messages", len(batch), "err", err)
			}
			crash.Point("intake-settled")
		}
		return nil
	})
	return g.Wait()
}

// Take makes one batch durably ours on the caller's goroutine: it opens, admits and commits, and leaves the
// settling of what it returns to the caller. What a full disk has no room for, or a key that is away does not open, stays in memory
// for the next Take. It is one round of Run without the queue, and must not run beside Run, Sweep or itself.
func (in *Intake) Take(ctx context.Context, batch []queue.Delivery) (taken []queue.Delivery, err error) {
	items, err := in.open(ctx, batch)
	if err != nil {
		return nil, err
	}
	again := in.unasked()
	in.openOnce(again, in.Ring)
	in.fill(again)
	in.join(items)
	for was := false; len(in.line) > 0; {
		some, full, err := in.once(ctx)
		if err != nil || full && was || !full && len(some) == 0 {
			return taken, err
		}
		was = full // a second time there is what was laid by
		taken = append(taken, some...)
	}
	in.line = nil
	return taken, nil
}

// send returns false where ctx ended first.
func send[T any](ctx context.Context, to chan<- T, v T) bool {
	select {
	case to <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

func (in *Intake) fetch(ctx, work context.Context, to chan<- []queue.Delivery) error {
	size := minOctets // of a message, on average in the last batch
	for ctx.Err() == nil {
		batch, err := in.Queue.Fetch(ctx, max(1, min(in.Limits.Batch, batchOctets/size)))
		switch {
		case err == nil:
			octets := 0
			for _, d := range batch {
				octets += len(d.Body)
			}
			size = max(octets/len(batch), minOctets)
			for _, piece := range pieces(batch, batchOctets) {
				if !send(work, to, piece) {
					return nil
				}
			}
		case ctx.Err() != nil:
		case errors.Is(err, queue.ErrClosed):
			return fmt.Errorf("fetch: %w", err)
		default:
			in.Log.Warn("could not fetch", "err", err)
			if !errors.Is(err, queue.ErrUnreachable) { // which comes only after the adapter's patience
				pause(ctx, retryPause)
			}
		}
	}
	return nil
}

// What one batch may take in memory. Several are under way at once, and opened they take thrice as much.
const (
	batchOctets = 4 << 20 // of bodies in one batch
	minOctets   = 2 << 10 // that a message is thought to have at least
)

// pieces cuts a batch so that none has more than so many octets of bodies, where one message has not more.
func pieces(batch []queue.Delivery, most int) (list [][]queue.Delivery) {
	from, octets := 0, 0
	for i, d := range batch {
		if octets += len(d.Body); octets > most && i > from {
			list = append(list, batch[from:i])
			from, octets = i, len(d.Body)
		}
	}
	return append(list, batch[from:])
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// commits is the one goroutine that writes.
func (in *Intake) commits(work context.Context, opened <-chan []*item, to chan<- []queue.Delivery) error {
	if err := in.Sweep(work); err != nil && !in.Room.Full(err) {
		return in.stopped(work, err)
	}
	tick := time.NewTicker(min(in.Limits.Interval, lookEvery))
	defer tick.Stop()
	idle := make(chan struct{}) // always ready: what is done when nothing else is
	close(idle)
	look := time.NewTicker(roomPause) // for room again, or a key
	defer look.Stop()
	// Whatever is opened again is opened beside this: a key store may take long not to answer.
	again, answered := make(chan []*item), make(chan []*item, 1) // one is under way at most
	asking := false
	var asker sync.WaitGroup
	defer asker.Wait()
	defer close(again)
	asker.Go(func() {
		for items := range again {
			in.openOnce(items, in.Ring)
			answered <- items
		}
	})
	join := func(items []*item, how func([]*item)) (bool, error) {
		if err := in.takeUp(work); err != nil && !in.Room.Full(err) {
			return false, in.stopped(work, err)
		}
		in.refresh(items)
		how(items)
		return in.advance(work, to)
	}
	for {
		rest, more := idle, opened
		if !in.rosters || len(opened) > 0 || in.Room.Level() == disk.Full {
			rest = nil
		}
		var room <-chan time.Time
		var ending <-chan struct{}
		var ask chan<- []*item
		var job []*item
		if len(in.line)+len(in.left) > 0 {
			room = look.C
			if in.blocked() {
				more, ending = nil, in.fetching.Done()
			}
			in.tell(in.line)
			in.tell(slices.Collect(maps.Values(in.left)))
			if !asking {
				if job = in.unasked(); len(job) > 0 {
					ask = again
				}
			}
		}
		select {
		case <-rest:
			if _, err := in.StepRoster(work); err != nil && !in.Room.Full(err) {
				return in.stopped(work, err)
			}
		case <-tick.C:
			if err := in.Sweep(work); err != nil && !in.Room.Full(err) {
				return in.stopped(work, err)
			}
		case <-room:
			if ok, err := in.advance(work, to); !ok {
				return err
			}
		case <-ending:
			return nil // nothing of the line is settled: it comes again
		case ask <- job:
			asking = true
		case items := <-answered:
			asking = false
			if ok, err := join(items, in.fill); !ok {
				return err
			}
		case items, ok := <-more:
			if !ok {
				return nil
			}
			if ok, err := join(items, in.join); !ok {
				return err
			}
		}
	}
}

// stopped is nil where the error is only that work, or fetching, ended.
func (in *Intake) stopped(work context.Context, err error) error {
	for _, ctx := range []context.Context{work, in.fetching} {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil
		}
	}
	return err
}

// open opens a batch. It fails only where work ended.
func (in *Intake) open(work context.Context, batch []queue.Delivery) ([]*item, error) {
	items := make([]*item, len(batch))
	for i, d := range batch {
		items[i] = &item{delivery: d, body: d.Body}
	}
	return items, in.openAll(work, items)
}
