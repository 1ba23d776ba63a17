package broker

import (
	"context"
	"fmt"
)

// A gate holds what is delayed until it is released.
type gate struct {
	held    []func()
	changed chan struct{} // closed and replaced when something more is held
}

// Release lets what a gate holds go on. What comes later is held again.
func (b *Broker) Release(name string) {
	b.do(func() {
		g := b.gate(name)
		held := g.held
		g.held = nil
		for _, f := range held {
			f()
		}
	})
}

// WaitHeld returns when a gate holds at least n.
func (b *Broker) WaitHeld(ctx context.Context, name string, n int) error {
	for {
		b.mu.Lock()
		g := b.gate(name)
		held, changed := len(g.held), g.changed
		b.mu.Unlock()
		if held >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("gate %s holds %d, expected %d: %w", name, held, n, context.Cause(ctx))
		}
	}
}

func (b *Broker) gate(name string) *gate {
	g := b.faults.gates[name]
	if g == nil {
		g = &gate{changed: make(chan struct{})}
		b.faults.gates[name] = g
	}
	return g
}

// wait calls f once the delays before the effect (or after it) are over.
func (b *Broker) wait(delays []Fault, applied bool, f func()) {
	for _, d := range delays {
		if d.Applied != applied {
			continue
		}
		if d.Gate != "" {
			f = b.held(d.Gate, f)
		}
		if d.Delay > 0 {
			next := f
			f = func() { b.cfg.Clock.AfterFunc(d.Delay, func() { b.do(next) }) }
		}
	}
	f()
}

// held leaves f at a gate instead of calling it.
func (b *Broker) held(gate string, f func()) func() {
	return func() {
		g := b.gate(gate)
		g.held = append(g.held, f)
		close(g.changed)
		g.changed = make(chan struct{})
	}
}
