package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/anyqueue"
)

// watchedQueue tells when fetching begins to fail and when it works again.
type watchedQueue struct {
	queue.Receiver
	changed func(refused, unreachable bool)

	// Owned by the one goroutine that fetches.
	told                 bool
	refused, unreachable damped
}

// damped is a state that begins at once. Where it came back soon after its end, it has to be away for longer before it ends
// again, or whoever can bring it about writes two entries on the ledger each time.
type damped struct {
	stands bool
	seen   time.Time // last
	ended  time.Time // zero: never yet
	need   time.Duration
}

const (
	dampLeast = time.Minute      // away, after the first return
	dampMost  = 15 * time.Minute // away, after many; and how soon after its end a return counts
)

// saw takes what is so now, and reports whether the state began or ended.
func (d *damped) saw(so bool, now time.Time) bool {
	switch {
	case so && !d.stands:
		d.stands = true
		if d.need = max(2*d.need, dampLeast); d.ended.IsZero() || now.Sub(d.ended) >= dampMost {
			d.need = 0
		}
		d.need, d.seen = min(d.need, dampMost), now
		return true
	case so:
		d.seen = now
	case d.stands && now.Sub(d.seen) >= d.need:
		d.stands, d.ended = false, now
		return true
	}
	return false
}

// Fetch implements intake.Queue.
func (q *watchedQueue) Fetch(ctx context.Context, max int) ([]queue.Delivery, error) {
	batch, err := q.Receiver.Fetch(ctx, max)
	if ctx.Err() != nil {
		return batch, err
	}
	now, refused := time.Now(), errors.Is(err, queue.ErrRefused)
	began, ended := q.refused.saw(refused, now), q.unreachable.saw(err != nil && !refused, now)
	if began || ended || !q.told {
		q.told = true
		q.changed(q.refused.stands, q.unreachable.stands)
	}
	return batch, err
}

const (
	alarmProcess = "midpoint-process"
	alarmUnread  = "aside-unread"
	// processSteady is how long the process that speaks to the mid-point has to live for its alarm to end.
	processSteady = 15 * time.Minute
)

// child keeps the alarm of the process that speaks to the mid-point.
type child struct {
	*runner
	mu     sync.Mutex // guards what follows; held while the alarm is written
	steady *time.Timer
	early  bool // it was replaced before begun
	begun  bool // the run's first entry is written
	ended  bool

	unread atomic.Bool // as it was told last
}

// open opens the queue behind the last position that was committed, which only a dark one goes by.
func (c *child) open() (queue.Receiver, error) {
	from, err := state.Position(c.db.Read(), c.cfg.Queue.Name())
	if err != nil {
		return nil, err
	}
	return anyqueue.OpenReceiver(c.cfg.Queue.Via(c.cfg.Tenant.Transport), from, anyqueue.Options{Log: c.log, Replaced: func(error) { go c.replaced() }, Aside: func(read bool) {
		c.unread.Store(!read)
		go c.aside()
	}})
}

// aside raises or ends the alarm on the dead letters: a leaver among them is a silent one while nobody can read them. Its text is
// always the same, like that of the next one.
func (c *child) aside() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun && !c.ended {
		c.stands(state.Alarm{Code: alarmUnread, Severity: state.Critical,
			Text: "the queue can be read and its dead letters cannot: a leaver that the mid-point set aside would not be seen before the next heartbeat or roster tells of it. The log says why"}, c.unread.Load())
	}
}

// replaced raises the alarm. What ended the process is in the log: the alarm's text is always the same, or
// whoever can end it could fill the ledger.
func (c *child) replaced() {
	a := state.Alarm{Code: alarmProcess, Severity: state.Warning,
		Text: "the process that speaks to the mid-point ended, hung or exceeded its limits and was replaced; nothing is lost. The log says why"}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.begun {
		c.early = true
	}
	if !c.begun || c.ended {
		return
	}
	c.stands(a, true)
	if c.steady != nil {
		c.steady.Stop()
	}
	c.steady = time.AfterFunc(processSteady, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.ended {
			c.stands(a, false)
		}
	})
}

// begin lets alarms be written, and writes those that waited for the run's first entry, which ends the ones of the run before it.
func (c *child) begin() {
	c.mu.Lock()
	c.begun = true
	early := c.early
	c.mu.Unlock()
	if early {
		c.replaced()
	}
	if c.unread.Load() {
		c.aside()
	}
}

// stop ends the writing of alarms.
func (c *child) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.steady != nil {
		c.steady.Stop()
	}
}

// childCommand is that process.
func childCommand() *cobra.Command {
	return &cobra.Command{
		Use: anyqueue.ChildCommand, Short: "The process that speaks to the mid-point; run and doctor start it", Hidden: true, Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error { return anyqueue.RunChild(os.Stdin, os.Stdout, os.Stderr) },
	}
}
