package apply

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// governor keeps one application's writes under its quota (Graph: 3,000 in 150 s per application and
// tenant, microsoft's "identity and access" limits) and puts cuts before gives. Where cutting and
// granting have a credential each, each has a governor and the quotas add up; where they share one,
// they share a governor too.
type governor struct {
	limit *rate.Limiter
	now   func() time.Time
	after func(time.Duration) <-chan time.Time

	mu      sync.Mutex // guards the two below; never held while waiting
	urgent  int        // cuts that wait: gives stand back for them
	resume  time.Time  // the tenant asked for silence until then
	changed chan struct{}
}

// newGovernor allows perSecond writes and, after a quiet time, a burst of two seconds' worth: the
// quota is a window of 150 s, so a burst never reaches it.
func newGovernor(perSecond float64, now func() time.Time, after func(time.Duration) <-chan time.Time) *governor {
	return &governor{limit: rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond))), now: now, after: after, changed: make(chan struct{})}
}

// wait returns when one more write may be sent, or ctx has ended.
func (g *governor) wait(ctx context.Context, cut bool) error {
	if cut {
		g.stand(1)
		defer g.stand(-1)
	}
	for {
		pause, changed := g.pause(cut)
		if pause == 0 {
			if g.limit.AllowN(g.now(), 1) {
				return nil
			}
			pause = time.Duration(float64(time.Second) / float64(g.limit.Limit()))
		}
		select {
		case <-g.after(pause):
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pause is how long to wait before trying; changed is closed when that may have become shorter.
func (g *governor) pause(cut bool) (time.Duration, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch d := g.resume.Sub(g.now()); {
	case d > longestQuiet: // the clock went back
		g.resume = time.Time{}
	case d > 0:
		return d, g.changed
	}
	if !cut && g.urgent > 0 {
		return time.Second, g.changed // until the last waiting cut has its turn
	}
	return 0, g.changed
}

func (g *governor) stand(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.urgent += n; g.urgent == 0 {
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

// quiet holds every write back for d: the tenant answered 429, and asking again counts against us.
func (g *governor) quiet(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until := g.now().Add(d); until.After(g.resume) {
		g.resume = until
	}
}
