package broker

import (
	"slices"
	"sync"
	"time"
)

// A Clock is the time of the entities: locks, lives, tokens, windows. The wire
// itself (heartbeats) lives in real time.
type Clock interface {
	Now() time.Time

	// AfterFunc calls f on its own or the advancing goroutine once d has passed.
	// stop keeps a call that has not begun from being made.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

// A ManualClock moves only when it is told to.
type ManualClock struct {
	mu      sync.Mutex // guards all; not held while calling
	now     time.Time
	pending []*call
}

type call struct {
	at time.Time
	f  func()
}

// NewManualClock starts at a time.
func NewManualClock(start time.Time) *ManualClock { return &ManualClock{now: start} }

// Now is the time as it was last set.
func (c *ManualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc is called by Advance.
func (c *ManualClock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &call{c.now.Add(d), f}
	c.pending = append(c.pending, p)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.pending, p)
		if i >= 0 {
			c.pending = slices.Delete(c.pending, i, i+1)
		}
		return i >= 0
	}
}

// Advance moves the time and makes every call that comes due, in order; each
// sees the time at which it was due.
func (c *ManualClock) Advance(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for {
		var next *call
		for _, p := range c.pending {
			if !p.at.After(end) && (next == nil || p.at.Before(next.at)) {
				next = p
			}
		}
		if next == nil {
			break
		}
		c.pending = slices.DeleteFunc(c.pending, func(p *call) bool { return p == next })
		if next.at.After(c.now) {
			c.now = next.at
		}
		c.mu.Unlock()
		next.f()
		c.mu.Lock()
	}
	c.now = end
	c.mu.Unlock()
}
