package outbox

import (
	"context"
	"errors"
	"fmt"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// A GoneError says that numbers which were asked for are not in the database: not given yet, or deleted
// after a roster.
type GoneError struct {
	Generation  int
	Head        uint64 // the last number that was given
	From, To    uint64 // what was asked for
	First, Last uint64 // what is there; 0 when nothing is
}

func (e *GoneError) Error() string {
	if last := max(e.From, e.To); last > e.Head {
		return fmt.Sprintf("want %d to %d of generation %d, but the last number that was given is %d", e.From, e.To, e.Generation, e.Head)
	}
	if e.First == 0 {
		return fmt.Sprintf("want %d to %d of generation %d, but no message of it is in the database: they are deleted a day after they were sent, once a roster covers them", e.From, e.To, e.Generation)
	}
	return fmt.Sprintf("want %d to %d of generation %d, but %d to %d are in the database: older ones are deleted a day after they were sent, once a roster covers them", e.From, e.To, e.Generation, e.First, e.Last)
}

// Resent is what Resend made wait again.
type Resent struct {
	Audience   string `json:"aud"`
	Generation int    `json:"generation"`
	From       uint64 `json:"from"`
	To         uint64 `json:"to"`
	Again      int64  `json:"again"`   // messages that are published once more
	Waiting    int64  `json:"waiting"` // messages of the range that waited anyway
}

// Resend lets messages from to to of the live generation be published once more: the same octets, under
// another id of the queue's, since its duplicate window may know the first although the message is lost.
// A to of 0 is the last number that was given; from may then be the one after it, and nothing is done: nothing was lost (From
// of the result is behind its To). note goes on the ledger with it. When a number of the range
// is not in the database, nothing is done and the error is a *GoneError.
func (b *Box) Resend(ctx context.Context, audience string, from, to uint64, note func(*Resent) entry.Body) (r *Resent, err error) {
	err = b.db.Tx(ctx, func(tx *store.Tx) error {
		c, err := b.chain(tx, audience)
		if err != nil {
			return err
		}
		r = &Resent{Audience: audience, Generation: c.generation, From: from, To: to}
		if r.To == 0 {
			if r.To = c.seq; from == c.seq+1 {
				return nil
			}
			r.To = max(r.To, from)
		}
		// Numbers are given without holes and deleted from the lowest on, so the ends tell of all between.
		var first, last int64
		if err := tx.QueryRow("SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM outbox WHERE chain = ? AND generation = ?", c.ref, c.generation).Scan(&first, &last); err != nil {
			return fmt.Errorf("read the outbox: %w", err)
		}
		if from == 0 || r.To < from || first == 0 || from < uint64(first) || uint64(last) < r.To {
			return &GoneError{Generation: c.generation, Head: c.seq, From: from, To: r.To, First: uint64(first), Last: uint64(last)}
		}
		res, err := tx.Exec("UPDATE outbox SET sent = NULL, resent = resent + 1 WHERE chain = ? AND generation = ? AND seq BETWEEN ? AND ? AND sent IS NOT NULL",
			c.ref, c.generation, int64(from), int64(r.To))
		if err != nil {
			return fmt.Errorf("let messages wait again: %w", err)
		}
		if r.Again, err = res.RowsAffected(); err != nil {
			return err
		}
		r.Waiting = int64(r.To-from) + 1 - r.Again
		if r.Waiting < 0 {
			return errors.New("the outbox has more messages than numbers; the database is damaged")
		}
		if b.c.Wake != nil {
			tx.After(b.c.Wake)
		}
		return record(tx, b.c.Now(), []entry.Body{note(r)})
	})
	if err != nil {
		return nil, err
	}
	if r.From > r.To {
		return r, nil
	}
	b.c.Log.InfoContext(ctx, "resent", "aud", audience, "generation", r.Generation, "first_seq", r.From, "last_seq", r.To, "count", r.Again)
	return r, nil
}

// queueID is the id under which a message is published for the resent-th time after the first.
func queueID(jti string, resent int) string {
	if resent == 0 {
		return jti
	}
	return fmt.Sprintf("%s-r%d", jti, resent)
}
