package broker

import (
	"context"
	"fmt"
	"strings"

	"jmlbridge/e2e/servicebus/entity"
)

// Counts is what an entity holds and did; false when there is no such entity.
func (b *Broker) Counts(path string) (entity.Counts, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[strings.ToLower(path)]
	if n == nil || n.queue == nil {
		return entity.Counts{}, false
	}
	b.expire(n)
	c := n.queue.Counts()
	b.settle()
	return c, true
}

// WaitFor returns when the entity's counts are as ok wants them. ok is called
// under the lock: it only looks at them.
func (b *Broker) WaitFor(ctx context.Context, path string, ok func(entity.Counts) bool) error {
	return b.until(ctx, path, func(n *node) (bool, string) {
		c := n.queue.Counts()
		return ok(c), fmt.Sprintf("%+v", c)
	})
}

// WaitCredit returns when receivers of an entity are ready to take n messages
// together.
func (b *Broker) WaitCredit(ctx context.Context, path string, n int) error {
	return b.until(ctx, path, func(at *node) (bool, string) {
		credit := 0
		for _, l := range at.receivers {
			credit += int(max(l.credit, 0))
		}
		return credit >= n, fmt.Sprintf("credit %d, expected %d", credit, n)
	})
}

// WaitAccepting returns when n clients wait for a session of an entity.
func (b *Broker) WaitAccepting(ctx context.Context, path string, n int) error {
	return b.until(ctx, path, func(at *node) (bool, string) {
		return len(at.accepting) >= n, fmt.Sprintf("%d waiting, expected %d", len(at.accepting), n)
	})
}

// WaitMute returns when n connections are held without a word.
func (b *Broker) WaitMute(ctx context.Context, n int) error {
	for {
		b.mu.Lock()
		mute := 0
		for _, m := range b.sockets {
			if m {
				mute++
			}
		}
		changed := b.change()
		b.mu.Unlock()
		if mute >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d connections without a word, expected %d: %w", mute, n, context.Cause(ctx))
		}
	}
}

// change is closed at the next change. Callers hold mu.
func (b *Broker) change() <-chan struct{} {
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// until waits for a state of an entity.
func (b *Broker) until(ctx context.Context, path string, ok func(*node) (bool, string)) error {
	for {
		b.mu.Lock()
		n := b.nodes[strings.ToLower(path)]
		if n == nil || n.queue == nil {
			b.mu.Unlock()
			return fmt.Errorf("there is no queue or subscription %q", path)
		}
		b.expire(n)
		b.settle()
		done, state := ok(n)
		changed := b.change()
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("entity %s stands at %s: %w", path, state, context.Cause(ctx))
		}
	}
}
