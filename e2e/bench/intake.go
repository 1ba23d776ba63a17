package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"jmlbridge/consumer/intake"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/queue"
	"jmlbridge/schema"
)

const intakeGoal = 0.6

// spent is what one side of a round took.
type spent struct {
	wall     time.Duration
	own      cpu // of this process
	child    cpu // of those that it keeps: adapters in a process of their own
	midpoint cpu
}

// meter takes the time of f.
func meter(q *queueProcess, f func() error) (s spent, err error) {
	runtime.GC() // so that neither side pays for the other's garbage
	own, err := ownCPU()
	if err != nil {
		return s, err
	}
	theirs, child, start := q.cpu(), childrenCPU(q.cmd.Process.Pid), time.Now()
	if err := f(); err != nil {
		return s, err
	}
	s.wall, s.midpoint = time.Since(start), q.cpu().minus(theirs)
	s.child = childrenCPU(q.cmd.Process.Pid).minus(child)
	now, err := ownCPU()
	s.own = now.minus(own)
	return s, err
}

// intakeRow fills the mid-point, and takes all of it in: fetched, opened, admitted, on the ledger,
// committed and settled. The limit only verifies and decrypts the same octets on all cores.
func intakeRow(ctx context.Context, o *options) (_ []*row, err error) {
	g, err := natsRig(ctx, filepath.Join(o.dir, "intake"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.enclave(ctx); err != nil {
		return nil, err
	}
	from, to, t := g.from, g.to, g.tap

	n := o.messages / o.rounds
	var ours, limit []spent
	var total, octets int
	var where *profile
	// Round 0 warms up: connections, page cache, people to move. The last one runs under the profiler, and
	// does not count either.
	for round := 0; round <= o.rounds+1; round++ {
		o.progress("intake: round %d of %d", round, o.rounds+1)
		if err := from.say(ctx, n); err != nil {
			return nil, err
		}
		if err := from.relay(ctx, t); err != nil {
			return nil, err
		}
		msgs := t.take()
		if len(msgs) != n {
			return nil, fmt.Errorf("want %d messages relayed, got %d", n, len(msgs))
		}
		total += n
		takeIn := func() (spent, error) { return meter(g.queue, func() error { return to.takeIn(ctx, g.rec, n) }) }
		only := func() (spent, error) { return meter(g.queue, func() error { return to.openAll(ctx, msgs) }) }
		var a, b spent
		switch {
		case round > o.rounds:
			var raw bytes.Buffer
			if err := pprof.StartCPUProfile(&raw); err != nil {
				return nil, err
			}
			_, err = takeIn()
			pprof.StopCPUProfile()
			if err == nil {
				where, err = parseProfile(raw.Bytes())
			}
		case round%2 == 0:
			if a, err = takeIn(); err == nil {
				b, err = only()
			}
		default:
			if b, err = only(); err == nil {
				a, err = takeIn()
			}
		}
		if err != nil {
			return nil, err
		}
		if round > 0 && round <= o.rounds {
			ours, limit = append(ours, a), append(limit, b)
			for _, m := range msgs {
				octets += len(m.Body)
			}
		}
	}
	if err := to.complete(total); err != nil {
		return nil, err
	}
	r := &row{Name: "intake", What: "fetch → open → admit → ledger → commit → settle, beside opening alone", Goal: fmt.Sprintf("≥ %.1f", intakeGoal)}
	r.Ours, r.Limit, r.Ratio = rates(n, ours, limit)
	r.Met = r.Ratio >= intakeGoal
	r.note("%d rounds of %s messages in turns; payloads of %s octets (all padded to the size class), on the wire %s",
		o.rounds, thousands(int64(n)), thousands(schema.SizeClass), thousands(int64(octets/(n*o.rounds))))
	r.spread(ours, limit)
	intakeSplit(r, n, ours, limit, where)
	return []*row{r}, nil
}

// rates are the medians of both sides and their ratio.
func rates(n int, ours, limit []spent) (a, b *measure, ratio float64) {
	rate := func(list []spent) float64 {
		var r []float64
		for _, s := range list {
			r = append(r, float64(n)/s.wall.Seconds())
		}
		return median(r)
	}
	a, b = &measure{rate(ours), "msg/s"}, &measure{rate(limit), "msg/s"}
	return a, b, a.Value / b.Value
}

// spread says how far apart the rounds' own ratios were.
func (r *row) spread(ours, limit []spent) {
	var list []float64
	for i := range ours {
		list = append(list, limit[i].wall.Seconds()/ours[i].wall.Seconds())
	}
	r.note("ratios of the single rounds: %.2f to %.2f", slices.Min(list), slices.Max(list))
}

// intakeSplit says who used the processors, and inside of us what did.
func intakeSplit(r *row, n int, ours, limit []spent, where *profile) {
	var own, midpoint, open cpu
	for i := range ours {
		own, midpoint, open = own.plus(ours[i].own), midpoint.plus(ours[i].midpoint), open.plus(limit[i].own)
	}
	all := n * len(ours)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(all) }
	r.note("processor time a message: consumer %.0f µs user + %.0f µs system, mid-point %.0f + %.0f; opening alone %.0f + %.0f",
		us(own.User), us(own.System), us(midpoint.User), us(midpoint.System), us(open.User), us(open.System))
	if used := own.all() + midpoint.all(); used > 0 {
		r.note("ratio of processor time: %.2f of the consumer's, %.2f with the mid-point's on the same cores; other programs disturb these less than the clock",
			float64(open.all())/float64(own.all()), float64(open.all())/float64(used))
	}
	if where == nil || where.total == 0 {
		return
	}
	text := "inside the consumer: "
	for i, s := range where.shares() {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s %.0f µs (%.0f %%)", s.name, s.share*us(own.all()), 100*s.share)
	}
	r.note("%s", text)
}

// counted settles through to the real queue and tells when n messages are settled.
type counted struct {
	intake.Queue
	left int // owned by the one goroutine that settles
	done chan struct{}
}

// Settle implements intake.Queue.
func (c *counted) Settle(ctx context.Context, batch []queue.Delivery) error {
	err := c.Queue.Settle(ctx, batch)
	if err == nil {
		if c.left -= len(batch); c.left == 0 {
			close(c.done)
		}
	}
	return err
}

// takeIn runs an intake until n messages are settled.
func (r *receiver) takeIn(ctx context.Context, q intake.Queue, n int) error {
	_, err := r.run(ctx, q, n)
	return err
}

// run is takeIn, and returns the intake, which has ended.
func (r *receiver) run(ctx context.Context, q intake.Queue, n int) (*intake.Intake, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTime)
	defer cancel()
	c := &counted{Queue: q, left: n, done: make(chan struct{})}
	in, err := intake.New(intake.Config{DB: r.db, Queue: c, Name: enclaveName, Ring: r.ring, Now: time.Now, Log: slog.New(slog.DiscardHandler), StaleAfter: 5 * time.Minute})
	if err != nil {
		return nil, err
	}
	fetching, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- in.Run(fetching, ctx) }()
	select {
	case <-c.done:
		stop()
		return in, <-ended
	case err := <-ended:
		return in, errors.Join(fmt.Errorf("intake ended with %d messages not settled", c.left), err, ctx.Err())
	}
}

// complete checks that everything was admitted: a fast intake that refuses is no intake.
func (r *receiver) complete(n int) error {
	count, err := state.CountMessages(r.db.Read())
	if err != nil {
		return err
	}
	var all int64
	for _, c := range count {
		all += c
	}
	list, err := state.Streams(r.db.Read())
	if err != nil {
		return err
	}
	if len(list) != 1 || list[0].Head != uint64(n) || all != int64(n) {
		return fmt.Errorf("want %d messages admitted in order, got %v", n, count)
	}
	return nil
}

// openAll verifies and decrypts on all cores, and does nothing else.
func (r *receiver) openAll(ctx context.Context, msgs []queue.Message) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		g.Go(func() error {
			for i := w; i < len(msgs); i += workers {
				if _, err := envelope.Open(msgs[i].Body, r.ring, r.trust); err != nil {
					return err
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
			return nil
		})
	}
	return g.Wait()
}
