package store

import (
	"context"
	"fmt"
	"sync"
)

// group gathers units of many goroutines into shared transactions, so that they share one fsync.
// There is no timer and no goroutine of its own: whoever comes first leads, commits at once, and
// those who came meanwhile are the next batch, led by the first of them.
type group struct {
	mu      sync.Mutex // guards the two below; never held across I/O
	waiting []*unit
	leading bool
}

type unit struct {
	fn       func(*Tx) error
	turn     chan bool // capacity 1: true means lead now, false means done
	err      error
	panicked any
	tx       *Tx
}

// Do is [DB.Tx] for work that many goroutines bring at once: units that wait for the writer together
// are committed together. Each gets its own error, and one that fails is undone alone. ctx ends the
// wait, as long as the unit was not begun.
func (db *DB) Do(ctx context.Context, fn func(*Tx) error) error {
	if db.w == nil {
		return errReadOnly
	}
	g := &db.group
	u := &unit{fn: fn, turn: make(chan bool, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, u)
	lead := !g.leading
	if lead {
		g.leading = true
	}
	g.mu.Unlock()
	if !lead {
		select {
		case lead = <-u.turn:
		case <-ctx.Done():
			if g.withdraw(u) {
				return fmt.Errorf("wait for the writer: %w", ctx.Err())
			}
			lead = <-u.turn // begun, or called to lead: see it through
		}
	}
	if lead {
		db.lead()
	}
	if u.panicked != nil {
		panic(u.panicked)
	}
	return u.err
}

// withdraw takes u out of the queue; false when it is not there any more, or is the one to lead.
func (g *group) withdraw(u *unit) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(u.turn) > 0 {
		return false
	}
	for i, w := range g.waiting {
		if w == u {
			g.waiting = append(g.waiting[:i:i], g.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// lead commits one batch and hands the lead on.
func (db *DB) lead() {
	g := &db.group
	err := db.w.take(context.Background()) // a leader works for others too: its own ctx does not count
	g.mu.Lock()
	n := min(len(g.waiting), maxGroup)
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.mu.Unlock()
	if err == nil {
		db.w.shared(batch)
		db.w.put()
	} else {
		for _, u := range batch {
			u.err = fmt.Errorf("wait for the writer: %w", err)
		}
	}
	g.mu.Lock()
	if len(g.waiting) > 0 {
		g.waiting[0].turn <- true
	} else {
		g.leading = false
		g.waiting = nil
	}
	g.mu.Unlock()
	for _, u := range batch {
		u.turn <- false // the leader's own is never read; the channel has room
	}
}

// shared runs a batch in one transaction, each unit inside a savepoint. It needs w to be taken.
func (w *writer) shared(batch []*unit) {
	all := func(err error) {
		for _, u := range batch {
			if u.err == nil {
				u.err = err
			}
		}
	}
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		all(fmt.Errorf("begin: %w", err))
		return
	}
	good := 0
	for _, u := range batch {
		lost, err := w.guarded(u)
		if lost {
			// SQLite undid more than this unit (disk full, I/O error): nothing of the batch is there.
			_ = w.exec("ROLLBACK")
			all(fmt.Errorf("shared transaction was undone: %w", err))
			return
		}
		if u.err = err; err == nil {
			good++
		}
	}
	if good == 0 {
		_ = w.exec("ROLLBACK")
		return
	}
	if err := w.exec("COMMIT"); err != nil {
		_ = w.exec("ROLLBACK")
		all(fmt.Errorf("commit: %w", err))
		return
	}
	for _, u := range batch {
		if u.err == nil {
			for _, f := range u.tx.after {
				f()
			}
		}
	}
}

// guarded runs u in a savepoint; lost means that the whole transaction is gone.
func (w *writer) guarded(u *unit) (lost bool, err error) {
	if err := w.exec("SAVEPOINT unit"); err != nil {
		return true, err
	}
	u.tx = &Tx{w: w}
	func() {
		defer func() {
			if p := recover(); p != nil {
				u.panicked = p // handed to the goroutine whose unit it was
				err = fmt.Errorf("panic in a transaction: %v", p)
			}
		}()
		err = u.tx.run(u.fn)
	}()
	if err != nil {
		if rerr := w.exec("ROLLBACK TO unit"); rerr != nil {
			return true, err
		}
	}
	if rerr := w.exec("RELEASE unit"); rerr != nil {
		return true, rerr
	}
	return false, err
}
