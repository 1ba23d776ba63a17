package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"jmlbridge/internal/store"
	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

// expireBatch is how many announced ends are made leavers in one transaction.
const expireBatch = 1000

// Heartbeat stores a heartbeat with recent cuts if the last one is every old and none waits to be
// relayed: while the mid-point is away one waiting heartbeat is enough, and the first after it comes at
// once.
func (b *Box) Heartbeat(ctx context.Context, audience string, every time.Duration) (sent []Sent, err error) {
	err = b.db.Tx(ctx, func(tx *store.Tx) error {
		sent = nil
		c, err := b.chain(tx, audience)
		if err != nil {
			return err
		}
		due, err := due(tx, c, schema.KindHeartbeat, "SELECT heartbeat FROM chain WHERE ref = ?", every, b.c.Now())
		if err != nil || !due {
			return err
		}
		now := b.c.Now()
		if _, err := tx.Exec("DELETE FROM cut WHERE chain = ? AND stored < ?", c.ref, now.Add(-cutWindow).Unix()); err != nil {
			return err
		}
		var cuts []schema.CutNotice
		err = tx.Each("SELECT seq, subject, engagement, kind, effective FROM cut WHERE chain = ? ORDER BY seq DESC LIMIT ?", []any{c.ref, schema.MaxCuts},
			func(scan func(...any) error) error {
				var n schema.CutNotice
				var seq, effective int64
				var kind string
				if err := scan(&seq, &n.Subject, &n.Engagement, &kind, &effective); err != nil {
					return err
				}
				n.Seq, n.Kind, n.Effective = uint64(seq), schema.Kind(kind), schema.At(time.Unix(effective, 0))
				cuts = append(cuts, n)
				return nil
			})
		if err != nil {
			return fmt.Errorf("read recent cuts: %w", err)
		}
		for i, j := 0, len(cuts)-1; i < j; i, j = i+1, j-1 {
			cuts[i], cuts[j] = cuts[j], cuts[i]
		}
		iat, err := b.issue(c)
		if err != nil {
			return err
		}
		s, err := b.claims(c, iat)
		if err != nil {
			return err
		}
		after, err := schema.FillHeartbeat(s, cuts, c.cutAfter)
		if err != nil {
			return fmt.Errorf("make a heartbeat: %w", err)
		}
		if sent, err = b.store(tx, c, []*schema.SET{s}); err != nil {
			return err
		}
		_, err = tx.Exec("UPDATE chain SET heartbeat = ?, cut_after = ? WHERE ref = ?", iat.Unix(), int64(after), c.ref)
		return err
	})
	return sent, err
}

// due reports whether every has passed since the instant that query finds, and no message of the kind
// waits.
func due(tx *store.Tx, c *chain, kind schema.Kind, query string, every time.Duration, now time.Time) (bool, error) {
	var last int64
	if err := tx.QueryRow(query, c.ref).Scan(&last); err != nil {
		return false, fmt.Errorf("read when the last %s was: %w", kind, err)
	}
	switch age := now.Sub(time.Unix(last, 0)); {
	case age < -maxBack: // until the clock comes there again nothing would be due, and nobody told
		return false, &ClockError{now, time.Unix(last, 0)}
	case age < every:
		return false, nil
	}
	var waiting bool
	err := tx.QueryRow("SELECT EXISTS (SELECT 1 FROM outbox WHERE chain = ? AND sent IS NULL AND event = ?)", c.ref, string(kind)).Scan(&waiting)
	return !waiting, err
}

// Roster stores a roster if the last one is every old, none waits, and anyone was ever announced. An
// every of 0 stores one in any case.
func (b *Box) Roster(ctx context.Context, audience string, every time.Duration) (sent []Sent, err error) {
	err = b.db.Tx(ctx, func(tx *store.Tx) error {
		sent = nil
		c, err := b.chain(tx, audience)
		if err != nil {
			return err
		}
		if every > 0 {
			yes, err := due(tx, c, schema.KindRoster, "SELECT roster FROM chain WHERE ref = ?", every, b.c.Now())
			if err == nil && yes {
				err = tx.QueryRow("SELECT EXISTS (SELECT 1 FROM person WHERE chain = ?)", c.ref).Scan(&yes)
			}
			if err != nil || !yes {
				return err
			}
		}
		sent, err = b.roster(tx, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	b.logSent(ctx, sent)
	return sent, nil
}

// roster states everything that the register says, as of the chain's head.
func (b *Box) roster(tx *store.Tx, c *chain) ([]Sent, error) {
	iat, err := b.issue(c)
	if err != nil {
		return nil, err
	}
	var live []schema.LiveEngagement
	var closed []schema.ClosedEngagement
	// ClosedFor counts from when a leaver was said or takes effect, whichever is later: one that was announced long ahead is
	// still to come, and whoever stands in no list is taken for forgotten.
	now := b.c.Now()
	since := now.Add(-b.c.ClosedFor)
	err = tx.Each("SELECT subject, said, doc FROM person WHERE chain = ? AND (status <> 'closed' OR said >= ? OR json_extract(doc, '$.since') >= ?) ORDER BY subject",
		[]any{c.ref, since.Unix(), schema.At(since).String()},
		func(scan func(...any) error) error {
			var subject, doc string
			var said int64
			if err := scan(&subject, &said, &doc); err != nil {
				return err
			}
			var s register.State
			if err := json.Unmarshal([]byte(doc), &s); err != nil {
				return fmt.Errorf("read the register of subject %q: %w", subject, err)
			}
			l, gone := s.Statement(subject, now)
			if l != nil {
				live = append(live, *l)
			}
			if gone != nil && (said >= since.Unix() || !gone.Effective.Before(schema.At(since))) { // it may have ended without being touched
				closed = append(closed, *gone)
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read the register: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make a roster id: %w", err)
	}
	head := schema.RosterHead{Generation: c.generation, Seq: c.seq, Hash: c.head}
	parts, err := schema.SplitRoster(id.String(), head, live, closed)
	if err != nil {
		return nil, fmt.Errorf("make a roster: %w", err)
	}
	sets := make([]*schema.SET, len(parts))
	for i, p := range parts {
		if sets[i], err = b.claims(c, iat); err != nil {
			return nil, err
		}
		sets[i].Event = p
	}
	sent, err := b.store(tx, c, sets)
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec("UPDATE chain SET roster = ?, roster_head = ?, roster_last = ? WHERE ref = ?", iat.Unix(), int64(head.Seq), int64(c.seq), c.ref)
	return sent, err
}

// Expire makes leavers of those whose announced last day has come: it was stated already, and an enclave
// ends the engagement by itself too.
func (b *Box) Expire(ctx context.Context, audience string) ([]Sent, error) {
	var all []Sent
	for {
		var subjects []string
		now := b.c.Now()
		rows, err := b.db.Read().QueryContext(ctx, "SELECT subject FROM person WHERE chain = (SELECT ref FROM chain WHERE aud = ?) AND until <= ? ORDER BY until LIMIT ?", audience, now.Unix(), expireBatch)
		if err != nil {
			return all, fmt.Errorf("read announced ends: %w", err)
		}
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				_ = rows.Close()
				return all, err
			}
			subjects = append(subjects, s)
		}
		if err := rows.Err(); err != nil || len(subjects) == 0 {
			return all, err
		}
		sent, err := b.Update(ctx, audience, subjects, func(_ string, last register.State) (register.Decision, error) {
			return register.Expire(last, now), nil // also of a leaver that an operator announced ahead: it is closed from here on
		})
		all = append(all, sent...)
		if err != nil {
			return all, err
		}
	}
}
