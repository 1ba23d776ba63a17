package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"jmlbridge/internal/crash"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/store"
)

const (
	maxBatch   = 1024                  // messages published at once; the far end is idle while the next are handed over
	maxOctets  = 8 << 20               // of those
	pollEvery  = 20 * time.Millisecond // how soon a message of another process is seen: a leaver that a command stored waits for it
	minBackoff = 250 * time.Millisecond
	maxBackoff = 30 * time.Second // between attempts while the mid-point is away
	fullPause  = 5 * time.Second  // before what was published is marked again, after the disk was too full for it
	pruneBatch = 2000             // rows deleted in one transaction
	keepSent   = 24 * time.Hour   // how long a sent message can be resent at least, whatever rosters cover it
)

// Publisher is the mid-point as the relay needs it. It is NOT trusted: it may lose, repeat or reorder
// what it confirmed. n leading messages are confirmed; the error is nil if and only if that is all.
type Publisher interface {
	Publish(ctx context.Context, msgs []queue.Message) (n int, err error)
}

// Relay publishes the outbox of one enclave, in order, until ctx ends. It returns ctx's error, or that
// of a database which cannot be read any more. A crash between publishing and marking publishes the same
// octets under the same id again.
func (b *Box) Relay(ctx context.Context, audience string, to Publisher) error {
	var ref int64
	if err := b.db.Read().QueryRowContext(ctx, "SELECT ref FROM chain WHERE aud = ?", audience).Scan(&ref); err != nil {
		return fmt.Errorf("read the chain of %s: %w", audience, err)
	}
	r := &relay{b: b, ref: ref, audience: audience, to: to}
	defer func() { _ = r.marked() }() // what was confirmed is marked before we are gone
	backoff := minBackoff
	for {
		n, err := r.step(ctx)
		wait := time.Duration(0)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, new(*databaseError)):
			return err
		case err != nil:
			b.c.Log.WarnContext(ctx, "mid-point does not take messages; they wait in the outbox", "aud", audience, "retry_in", backoff.Round(time.Millisecond), "err", err)
			wait = backoff/2 + rand.N(backoff) // jittered: many producers must not come back in step
			backoff = min(2*backoff, maxBackoff)
		case n == 0:
			wait = pollEvery
		default:
			backoff = minBackoff
		}
		if wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			case <-t.C:
			}
		}
	}
}

// relay is the state of one Relay; one goroutine owns it.
type relay struct {
	b        *Box
	ref      int64
	audience string
	to       Publisher

	after   int64      // id of the last message that was confirmed: what follows is next
	ahead   *look      // what was seen behind the batch that was under way; nil: nothing
	marking chan error // the marking of a batch that goes on beside the next one; nil when none does

	// What was published and could not be marked, since the disk is full: what waits behind it needs no room, and goes on. Owned by
	// a marking while it goes on.
	owed  []waiting
	tried time.Time
}

// databaseError ends the relay: without the database nothing can be published or marked.
type databaseError struct{ err error }

func (e *databaseError) Error() string { return e.err.Error() }
func (e *databaseError) Unwrap() error { return e.err }

type waiting struct {
	id         int64
	generation int
	seq        uint64
	event      string
	resent     int
	msg        queue.Message
}

// look is one look at the outbox.
type look struct {
	after int64
	again bool      // something up to after waits once more
	batch []waiting // what follows, where not
	full  bool      // as much as one batch holds
	err   error
}

// step publishes one batch. Meanwhile the next one is read, and what was confirmed before is marked. Marking is
// seen through even when ctx ends: what is not marked is published once more, which is harmless but not needed.
func (r *relay) step(ctx context.Context) (int, error) {
	l := r.ahead
	r.ahead = nil
	// A full batch may be of a while ago: what came since stands behind it.
	if l == nil || l.after != r.after || l.err != nil || !l.again && !l.full {
		l = r.look(ctx, r.after)
	}
	if l.again {
		// An operator lets messages behind the last confirmed one be published again. What is being marked waits
		// as well, so that comes to its end first: after it, whatever waits was not published.
		if err := r.marked(); err != nil {
			return 0, err
		}
		r.after = 0
		l = r.look(ctx, 0)
	}
	batch := l.batch
	if l.err != nil || len(batch) == 0 {
		err := errors.Join(l.err, r.marked())
		if err == nil && len(r.owed) > 0 && time.Since(r.tried) >= fullPause {
			r.mark(ctx, nil)
		}
		return 0, err
	}
	msgs := make([]queue.Message, len(batch))
	for i := range batch {
		msgs[i] = batch[i].msg
	}
	ahead := make(chan *look, 1)
	if l.full {
		go func() { ahead <- r.look(ctx, batch[len(batch)-1].id) }()
	} else {
		ahead <- nil
	}
	n, err := r.to.Publish(ctx, msgs)
	r.ahead = <-ahead
	if n < 0 || n > len(batch) {
		return 0, fmt.Errorf("the queue says that %d of %d messages were published", n, len(batch))
	}
	if merr := r.marked(); merr != nil {
		return n, merr
	}
	if n > 0 {
		crash.Point("producer-published")
		r.after = batch[n-1].id
		r.mark(ctx, batch[:n])
	}
	return n, err
}

// mark begins to mark a batch as sent, with what could not be marked before.
func (r *relay) mark(ctx context.Context, batch []waiting) {
	done := make(chan error, 1)
	r.marking = done
	batch, r.owed = append(r.owed, batch...), nil
	go func() {
		err := r.markNow(context.WithoutCancel(ctx), batch)
		for ; store.IsBusy(err) && ctx.Err() == nil; err = r.markNow(context.WithoutCancel(ctx), batch) {
			r.b.c.Log.WarnContext(ctx, "other commands keep the database; what was published is not marked yet", "aud", r.audience, "err", err)
		}
		if store.IsFull(err) && ctx.Err() == nil {
			r.b.c.Log.ErrorContext(ctx, "the disk is full: what was published cannot be marked; the rest goes on, and it is tried again", "aud", r.audience, "count", len(batch))
			for i := range batch {
				batch[i].msg.Body = nil // of no use any more
			}
			r.owed, r.tried, err = batch, time.Now(), nil
			done <- nil
			return
		}
		if err == nil {
			crash.Point("producer-marked")
			if r.b.c.Wake != nil {
				r.b.c.Wake() // messages of other processes woke nobody
			}
			first, last := &batch[0], &batch[len(batch)-1]
			r.b.c.Log.InfoContext(ctx, "published", "aud", r.audience, "generation", last.generation, "first_seq", first.seq, "last_seq", last.seq, "count", len(batch))
		}
		done <- err
	}()
}

// marked waits for the marking under way, if there is one.
func (r *relay) marked() error {
	if r.marking == nil {
		return nil
	}
	err := <-r.marking
	r.marking = nil
	return err
}

// look says what is to be published after a message. It may run beside a Publish.
func (r *relay) look(ctx context.Context, after int64) *look {
	l := &look{after: after}
	read := func(err error) *look {
		if err != nil {
			l.err = &databaseError{fmt.Errorf("read the outbox: %w", err)}
		}
		return l
	}
	var some bool // mostly there is nothing, and finding that out costs little
	err := r.b.db.Read().QueryRow("SELECT EXISTS (SELECT 1 FROM outbox WHERE chain = ? AND sent IS NULL)", r.ref).Scan(&some)
	if err != nil || !some {
		return read(err)
	}
	err = r.b.db.Read().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM outbox WHERE chain = ? AND sent IS NULL AND id <= ? AND resent > 0)", r.ref, after).Scan(&l.again)
	if err != nil || l.again {
		return read(err)
	}
	rows, err := r.b.db.Read().QueryContext(ctx, "SELECT id, generation, seq, event, resent, jti, body FROM outbox JOIN wire USING (id) WHERE chain = ? AND sent IS NULL AND id > ? ORDER BY id LIMIT ?", r.ref, after, maxBatch)
	if err != nil {
		return read(err)
	}
	defer rows.Close()
	octets := 0
	for rows.Next() && octets < maxOctets {
		var w waiting
		var seq int64
		if err := rows.Scan(&w.id, &w.generation, &seq, &w.event, &w.resent, &w.msg.ID, &w.msg.Body); err != nil {
			return read(err)
		}
		w.msg.ID = queueID(w.msg.ID, w.resent)
		w.seq = uint64(seq)
		octets += len(w.msg.Body)
		l.batch = append(l.batch, w)
	}
	l.full = len(l.batch) == maxBatch || octets >= maxOctets
	return read(rows.Err())
}

func (r *relay) markNow(ctx context.Context, batch []waiting) error {
	now := r.b.c.Now().UnixMilli()
	err := r.b.db.Tx(ctx, func(tx *store.Tx) error {
		// Nothing else that was never resent lies between: ids are given in the order of the chain and only
		// we mark. What was resent is marked one by one: an operator may just have added its neighbour.
		_, err := tx.Exec("UPDATE outbox SET sent = ? WHERE chain = ? AND sent IS NULL AND resent = 0 AND id BETWEEN ? AND ?", now, r.ref, batch[0].id, batch[len(batch)-1].id)
		for i := 0; i < len(batch) && err == nil; i++ {
			if w := &batch[i]; w.resent > 0 {
				_, err = tx.Exec("UPDATE outbox SET sent = ? WHERE id = ? AND sent IS NULL AND resent = ?", now, w.id, w.resent)
			}
		}
		return err
	})
	if err != nil {
		return &databaseError{fmt.Errorf("mark messages as sent: %w", err)}
	}
	return nil
}

// Prune deletes messages that were sent at least keepSent ago and that a wholly sent roster covers. It
// returns how many.
func (b *Box) Prune(ctx context.Context, audience string) (total int64, err error) {
	for {
		var n int64
		err := b.db.Tx(ctx, func(tx *store.Tx) error {
			c, err := b.chain(tx, audience)
			if err != nil {
				return err
			}
			var head, last int64
			if err := tx.QueryRow("SELECT roster_head, roster_last FROM chain WHERE ref = ?", c.ref).Scan(&head, &last); err != nil {
				return err
			}
			var open bool // part of the roster, or something before it, has not been sent
			err = tx.QueryRow("SELECT EXISTS (SELECT 1 FROM outbox WHERE chain = ? AND sent IS NULL AND generation = ? AND seq <= ?)", c.ref, c.generation, last).Scan(&open)
			if err != nil || open || last == 0 {
				return err
			}
			before := b.c.Now().Add(-keepSent).UnixMilli()
			// From the lowest number on and without holes, also where one was resent: Resend counts on it.
			var keep int64
			err = tx.QueryRow("SELECT coalesce((SELECT seq FROM outbox WHERE chain = ? AND generation = ? AND sent > ? ORDER BY seq LIMIT 1), ?)", c.ref, c.generation, before, head+1).Scan(&keep)
			if err != nil {
				return err
			}
			head = min(head, keep-1)
			res, err := tx.Exec("DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE chain = ? AND sent <= ? AND (generation < ? OR generation = ? AND seq <= ?) LIMIT ?)",
				c.ref, before, c.generation, c.generation, head, pruneBatch)
			if err != nil {
				return err
			}
			n, err = res.RowsAffected()
			return err
		})
		total += n
		if err != nil || n < pruneBatch {
			return total, err
		}
	}
}
