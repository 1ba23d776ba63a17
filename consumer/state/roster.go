package state

import (
	"fmt"
	"time"

	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// RosterState says what became of a roster.
type RosterState string

// States of a roster; they stand in the database.
const (
	RosterCollecting RosterState = "collecting"
	RosterVerified   RosterState = "verified" // whole, and its digest fits
	RosterBroken     RosterState = "broken"   // a part is missing or does not belong; never to be believed
)

// Roster is one roster of a stream.
type Roster struct {
	StreamRef    int64
	ID           string
	Parts        int
	Digest       schema.Digest
	Head         schema.RosterHead
	Seen         int // parts 1..Seen are here
	Live, Closed int // statements so far
	State        RosterState
	Since        time.Time
	DoneAt       time.Time
}

// SaveRoster writes r, new or not.
func SaveRoster(tx *store.Tx, r *Roster) error {
	_, err := tx.Exec(`INSERT INTO roster (stream_ref, id, parts, digest, head_generation, head_seq, head_hash, seen, live, closed, state, since, done_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
		ON CONFLICT (stream_ref, id) DO UPDATE SET seen = ?8, live = ?9, closed = ?10, state = ?11, done_at = ?13`,
		r.StreamRef, r.ID, r.Parts, r.Digest[:], r.Head.Generation, int64(r.Head.Seq), r.Head.Hash[:], r.Seen, r.Live, r.Closed, string(r.State), ms(r.Since), ms(r.DoneAt))
	if err != nil {
		return fmt.Errorf("save roster %s: %w", r.ID, err)
	}
	return nil
}

// RosterOf returns a roster of a stream, or nil.
func RosterOf(r Reader, ref int64, id string) (*Roster, error) {
	list, err := listRosters(r, ` WHERE stream_ref = ? AND id = ?`, ref, id)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// Collecting lists the rosters of a stream of which parts are still to come.
func Collecting(r Reader, ref int64) ([]*Roster, error) {
	return listRosters(r, ` WHERE stream_ref = ? AND state = 'collecting'`, ref)
}

// Rosters lists the latest n of every stream, the last first.
func Rosters(r Reader, n int) ([]*Roster, error) {
	return listRosters(r, ` ORDER BY since DESC, id DESC LIMIT ?`, n)
}

func listRosters(r Reader, where string, args ...any) (list []*Roster, err error) {
	err = each(r, func(scan func(...any) error) error {
		x := new(Roster)
		err := scan(&x.StreamRef, &x.ID, &x.Parts, digest{&x.Digest}, &x.Head.Generation, &x.Head.Seq, digest{&x.Head.Hash},
			&x.Seen, &x.Live, &x.Closed, &x.State, instant{&x.Since}, instant{&x.DoneAt})
		list = append(list, x)
		return err
	}, `SELECT stream_ref, id, parts, digest, head_generation, head_seq, head_hash, seen, live, closed, state, since, done_at FROM roster`+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read rosters: %w", err)
	}
	return list, nil
}

// AddRosterPart notes which message carries a part.
func AddRosterPart(tx *store.Tx, ref int64, id string, part int, seq uint64) error {
	_, err := tx.Exec(`INSERT INTO roster_part (stream_ref, id, part, seq) VALUES (?, ?, ?, ?)`, ref, id, part, int64(seq))
	if err != nil {
		return fmt.Errorf("note part %d of roster %s: %w", part, id, err)
	}
	return nil
}

// RosterPart returns the admitted message that carries a part.
func RosterPart(tx *store.Tx, ref int64, id string, part int) (jws []byte, err error) {
	err = tx.QueryRow(`SELECT m.jws FROM roster_part p JOIN message m ON m.stream_ref = p.stream_ref AND m.seq = p.seq AND m.disposition = 6
		WHERE p.stream_ref = ? AND p.id = ? AND p.part = ?`, ref, id, part).Scan(packed{&jws})
	if err != nil {
		return nil, fmt.Errorf("read part %d of roster %s: %w", part, id, err)
	}
	return jws, nil
}
