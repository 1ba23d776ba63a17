package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

// Init names the producer in a new database and begins a chain for each enclave. note is recorded with it.
func Init(ctx context.Context, db *store.DB, issuer, stream string, audiences []string, now time.Time, note ...entry.Body) error {
	return db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec("INSERT INTO producer (one, issuer, stream) VALUES (1, ?, ?)", issuer, stream); err != nil {
			return err
		}
		for _, a := range audiences {
			if err := addChain(tx, a, 1, false); err != nil {
				return err
			}
		}
		return record(tx, now, note)
	})
}

// AddEnclave begins a chain for an enclave that joined later. It starts in the generation of the others,
// so that one number says how often this producer was restored. Where the others were restored and have not heard of
// everyone since, the enclave may be one that is lost too, with people in it of whom nothing is known here.
func AddEnclave(ctx context.Context, db *store.DB, audience string, now time.Time, note ...entry.Body) error {
	return db.Tx(ctx, func(tx *store.Tx) error {
		var exists bool
		if err := tx.QueryRow("SELECT EXISTS (SELECT 1 FROM chain WHERE aud = ?)", audience).Scan(&exists); err != nil {
			return err
		}
		if exists {
			return &KnownEnclaveError{audience}
		}
		var generation int
		var restored bool
		if err := tx.QueryRow("SELECT coalesce(max(generation), 1), coalesce(max(restored), 0) FROM chain").Scan(&generation, &restored); err != nil {
			return err
		}
		if err := addChain(tx, audience, generation, restored); err != nil {
			return err
		}
		return record(tx, now, note)
	})
}

func addChain(tx *store.Tx, audience string, generation int, restored bool) error {
	_, err := tx.Exec("INSERT INTO chain (aud, generation, seq, head, restored) VALUES (?, ?, 0, ?, ?)", audience, generation, make([]byte, len(schema.Digest{})), restored)
	return err
}

func record(tx *store.Tx, now time.Time, note []entry.Body) error {
	for _, n := range note {
		if _, err := ledger.Append(tx, entry.New(now, n)); err != nil {
			return err
		}
	}
	return nil
}

// Record puts entries on the ledger by themselves.
func Record(ctx context.Context, db *store.DB, now time.Time, note ...entry.Body) error {
	return db.Tx(ctx, func(tx *store.Tx) error { return record(tx, now, note) })
}

// Recover opens the next generation of every chain, each beginning with a roster: after a restore, the
// numbers that were given since the backup are not known, and must not be given again. What waited in the
// old generation is dropped; the roster says it. It is for a database that its runner and all commands
// have left. Generations only grow: at least is the lowest that may be opened, for a database so old that
// it does not know of an earlier recovery.
func (b *Box) Recover(ctx context.Context, atLeast int, note func(generation int) []entry.Body) (generation int, sent []Sent, err error) {
	err = b.db.Tx(ctx, func(tx *store.Tx) error {
		sent = nil
		if err := tx.QueryRow("SELECT coalesce(max(generation), 0) + 1 FROM chain").Scan(&generation); err != nil {
			return err
		}
		generation = max(generation, atLeast)
		if generation > schema.MaxGeneration {
			return errors.New("no generation is left; begin a new stream")
		}
		if err := record(tx, b.c.Now(), note(generation)); err != nil {
			return err
		}
		var audiences []string
		err := tx.Each("SELECT aud FROM chain ORDER BY ref", nil, func(scan func(...any) error) error {
			var a string
			if err := scan(&a); err != nil {
				return err
			}
			audiences = append(audiences, a)
			return nil
		})
		if err != nil {
			return err
		}
		// What waited is said by the roster, also of somebody who left so long ago that rosters name them no more.
		if _, err := tx.Exec("UPDATE person SET said = ? WHERE (chain, subject) IN (SELECT chain, subject FROM outbox WHERE sent IS NULL)", b.c.Now().Unix()); err != nil {
			return err
		}
		for _, q := range []string{
			"DELETE FROM outbox WHERE sent IS NULL", "DELETE FROM cut",
			// The clock may have been ahead when it last spoke: a new generation begins with what it says now.
			"UPDATE chain SET seq = 0, head = zeroblob(32), last_iat = 0, cut_after = 0, heartbeat = 0, roster = 0, roster_head = 0, roster_last = 0, restored = 1",
			// The published ledger is set aside: nothing was published from here yet.
			"DELETE FROM ledger_place", "DELETE FROM ledger_checkpoint",
		} {
			if _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		if _, err := tx.Exec("UPDATE chain SET generation = ?", generation); err != nil {
			return err
		}
		// A backup may be of before a switch, and its key gone since: a new generation begins with the key that is there.
		if _, err := b.signer(tx); errors.As(err, new(*KeyError)) {
			if _, err := tx.Exec("UPDATE producer SET kid = ?", b.c.Signer.KID()); err != nil {
				return fmt.Errorf("take the configured key: %w", err)
			}
		}
		for _, a := range audiences {
			c, err := b.chain(tx, a)
			if err != nil {
				return err
			}
			if b.c.Approvals || b.c.Recipients[a] == nil { // nothing can be said to an enclave that the configuration names no more
				continue
			}
			s, err := b.roster(tx, c)
			if err != nil {
				return err
			}
			sent = append(sent, s...)
		}
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	b.logSent(ctx, sent)
	return generation, sent, nil
}

// States hands out what was last said of everyone in an enclave, as it is now, by subject.
func (b *Box) States(ctx context.Context, audience string, each func(subject string, s register.State) error) error {
	nobody, err := b.Nobody(ctx, audience)
	if err != nil {
		return err
	}
	rows, err := b.db.Read().QueryContext(ctx, "SELECT subject, doc FROM person WHERE chain = (SELECT ref FROM chain WHERE aud = ?) ORDER BY subject", audience)
	if err != nil {
		return fmt.Errorf("read the register: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var subject, doc string
		if err := rows.Scan(&subject, &doc); err != nil {
			return fmt.Errorf("read the register: %w", err)
		}
		s := nobody
		if err := json.Unmarshal([]byte(doc), &s); err != nil {
			return fmt.Errorf("read the register of subject %q: %w", subject, err)
		}
		if err := each(subject, s.At(b.c.Now())); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Nobody is the state of a person of whom the register knows nothing.
func (b *Box) Nobody(ctx context.Context, audience string) (s register.State, err error) {
	err = b.db.Read().QueryRowContext(ctx, "SELECT generation, restored FROM chain WHERE aud = ?", audience).Scan(&s.Open, &s.Restored)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return s, fmt.Errorf("read the chain of %s: %w", audience, err)
	}
	return s, nil
}

// Complete says that the register has heard of everyone since it was restored: a file that names everyone was taken whole.
func (b *Box) Complete(ctx context.Context, audience string) error {
	return b.db.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE chain SET restored = 0 WHERE aud = ? AND restored <> 0", audience)
		return err
	})
}

// Status is where an enclave's chain stands.
type Status struct {
	Audience   string     `json:"aud"`
	Generation int        `json:"generation"`
	Seq        uint64     `json:"seq"`
	Head       string     `json:"head"`
	Active     int        `json:"active"`
	Suspended  int        `json:"suspended"`
	Closed     int        `json:"closed"`
	Waiting    int        `json:"waiting"`                  // messages not confirmed by the mid-point
	Oldest     *time.Time `json:"oldest_waiting,omitempty"` // when the oldest of them was stored
	LastSent   *time.Time `json:"last_sent,omitempty"`
	Heartbeat  *time.Time `json:"last_heartbeat,omitempty"` // stored, not necessarily sent
	Roster     *time.Time `json:"last_roster,omitempty"`
	Replaced   *Replaced  `json:"queue_process_replaced,omitempty"` // in this run or, where there is none, the last one
}

// StatusOf reads where every chain stands at an instant: who is suspended or leaves later counts where they are until
// then. It needs no more than a database opened for reading.
func StatusOf(ctx context.Context, db *store.DB, now time.Time) ([]Status, error) {
	rows, err := db.Read().QueryContext(ctx, `SELECT aud, generation, seq, head, heartbeat, roster,
		(SELECT count(*) FROM person WHERE chain = ref AND status = 'active' AND coalesce(until > ?1, true) AND coalesce(barred > ?1, true)),
		(SELECT count(*) FROM person WHERE chain = ref AND status IN ('active', 'suspended') AND coalesce(until > ?1, true) AND (status = 'suspended' OR barred <= ?1)),
		(SELECT count(*) FROM person WHERE chain = ref AND (status = 'closed' OR until <= ?1)),
		(SELECT count(*) FROM outbox WHERE chain = ref AND sent IS NULL),
		(SELECT min(stored) FROM outbox WHERE chain = ref AND sent IS NULL),
		(SELECT max(sent) FROM outbox WHERE chain = ref), replaced, last, why
		FROM chain LEFT JOIN courier ON courier.chain = ref ORDER BY ref`, now.Unix())
	if err != nil {
		return nil, fmt.Errorf("read the chains: %w", err)
	}
	defer rows.Close()
	var all []Status
	for rows.Next() {
		var s Status
		var seq, heartbeat, roster int64
		var head []byte
		var oldest, sent, last *int64
		var replaced *int
		var why *string
		if err := rows.Scan(&s.Audience, &s.Generation, &seq, &head, &heartbeat, &roster, &s.Active, &s.Suspended, &s.Closed, &s.Waiting, &oldest, &sent, &replaced, &last, &why); err != nil {
			return nil, fmt.Errorf("read the chains: %w", err)
		}
		var d schema.Digest
		copy(d[:], head)
		s.Seq, s.Head = uint64(seq), d.String()
		milli := func(v *int64) *time.Time {
			if v == nil {
				return nil
			}
			t := time.UnixMilli(*v).UTC()
			return &t
		}
		seconds := func(v int64) *time.Time {
			if v == 0 {
				return nil
			}
			t := time.Unix(v, 0).UTC()
			return &t
		}
		s.Oldest, s.LastSent, s.Heartbeat, s.Roster = milli(oldest), milli(sent), seconds(heartbeat), seconds(roster)
		if replaced != nil {
			s.Replaced = &Replaced{*replaced, *milli(last), *why}
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// Known returns an *UnknownEnclaveError when the enclave has no chain.
func Known(ctx context.Context, db *store.DB, audience string) error {
	var known bool
	if err := db.Read().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM chain WHERE aud = ?)", audience).Scan(&known); err != nil {
		return fmt.Errorf("read the chains: %w", err)
	}
	if !known {
		return &UnknownEnclaveError{audience}
	}
	return nil
}

// Generation is the highest that any chain has reached.
func Generation(ctx context.Context, db *store.DB) (g int, err error) {
	if err = db.Read().QueryRowContext(ctx, "SELECT coalesce(max(generation), 1) FROM chain").Scan(&g); err != nil {
		return 0, fmt.Errorf("read the generation: %w", err)
	}
	return g, nil
}

// State is what was last said of one person, as it is now.
func (b *Box) State(ctx context.Context, audience, subject string) (register.State, error) {
	s, err := b.Nobody(ctx, audience)
	if err != nil {
		return s, err
	}
	var doc string
	err = b.db.Read().QueryRowContext(ctx, "SELECT doc FROM person WHERE chain = (SELECT ref FROM chain WHERE aud = ?) AND subject = ?", audience, subject).Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(doc), &s)
	}
	if err != nil {
		return s, fmt.Errorf("read the register of subject %q: %w", subject, err)
	}
	return s.At(b.c.Now()), nil
}
