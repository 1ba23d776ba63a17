package state

import (
	"database/sql"
	"encoding/json"
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
	RosterVerified   RosterState = "verified" // whole, and its digest fits: it is being applied
	RosterApplied    RosterState = "applied"
	RosterBroken     RosterState = "broken" // a part is missing or does not belong; never to be believed
)

// Roster is one roster of a stream.
type Roster struct {
	StreamRef    int64
	ID           string
	Parts        int
	Digest       schema.Digest
	Head         schema.RosterHead
	Issued       time.Time // iat
	Seen         int       // parts that are here, in any order
	Live, Closed int       // statements in them
	State        RosterState

	// How far a verified one is applied: what waited is put aside up to the seq Overtaken, Done parts are
	// folded, and those whom it does not name were looked for up to the subject Cursor.
	Overtaken uint64
	Done      int
	Cursor    string

	Named, Changed, Against, Unnamed int      // see the table
	AgainstIDs                       []string // the first of Against

	Since  time.Time
	DoneAt time.Time
}

// SaveRoster writes r, new or not.
func SaveRoster(tx *store.Tx, r *Roster) error {
	against, err := json.Marshal(append([]string{}, r.AgainstIDs...))
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO roster (stream_ref, id, parts, digest, head_generation, head_seq, head_hash, issued_at, seen, live, closed, state,
			overtaken, done, cursor, named, changed, against, unnamed, since, done_at, against_ids)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)
		ON CONFLICT (stream_ref, id) DO UPDATE SET seen = ?9, live = ?10, closed = ?11, state = ?12, overtaken = ?13, done = ?14, cursor = ?15,
			named = ?16, changed = ?17, against = ?18, unnamed = ?19, done_at = ?21, against_ids = ?22`,
		r.StreamRef, r.ID, r.Parts, r.Digest[:], r.Head.Generation, int64(r.Head.Seq), r.Head.Hash[:], ms(r.Issued), r.Seen, r.Live, r.Closed, string(r.State),
		int64(r.Overtaken), r.Done, r.Cursor, r.Named, r.Changed, r.Against, r.Unnamed, ms(r.Since), ms(r.DoneAt), string(against))
	if err != nil {
		return fmt.Errorf("save roster %s: %w", r.ID, err)
	}
	return nil
}

// RosterOf returns a roster of a stream, or nil.
func RosterOf(r Reader, ref int64, id string) (*Roster, error) {
	return oneRoster(r, ` WHERE stream_ref = ? AND id = ?`, ref, id)
}

// RosterAt returns the roster of which a message carries a part, or nil.
func RosterAt(r Reader, ref int64, seq uint64) (*Roster, error) {
	return oneRoster(r, ` WHERE stream_ref = ?1 AND id = (SELECT id FROM roster_part WHERE stream_ref = ?1 AND seq = ?2)`, ref, int64(seq))
}

// Rostered reports whether a roster of a stream is believed.
func Rostered(r Reader, ref int64) (yes bool, err error) {
	err = r.QueryRow(`SELECT EXISTS (SELECT 1 FROM roster WHERE stream_ref = ? AND state IN ('verified', 'applied'))`, ref).Scan(&yes)
	return yes, err
}

// Disbelieved reports whether a whole roster of a stream that is not believed any more was taken past a place.
func Disbelieved(r Reader, s *Stream, after uint64) (yes bool, err error) {
	err = r.QueryRow(`SELECT EXISTS (SELECT 1 FROM roster WHERE stream_ref = ? AND head_generation = ? AND head_seq > ? AND state = 'broken' AND seen = parts)`,
		s.Ref, s.Generation, int64(after)).Scan(&yes)
	return yes, err
}

// RosterDone tells whether a roster of an issuer has been applied.
func RosterDone(r Reader, iss string) (yes bool, err error) {
	err = r.QueryRow(`SELECT EXISTS (SELECT 1 FROM roster JOIN stream ON ref = stream_ref WHERE iss = ? AND roster.state = 'applied')`, iss).Scan(&yes)
	return yes, err
}

// RosterToApply is the verified roster whose turn it is, or nil.
func RosterToApply(r Reader) (*Roster, error) {
	return oneRoster(r, ` WHERE state = 'verified' ORDER BY stream_ref, head_generation, head_seq, id LIMIT 1`)
}

func oneRoster(r Reader, where string, args ...any) (*Roster, error) {
	list, err := listRosters(r, where, args...)
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
		var against []byte
		err := scan(&x.StreamRef, &x.ID, &x.Parts, digest{&x.Digest}, &x.Head.Generation, &x.Head.Seq, digest{&x.Head.Hash}, instant{&x.Issued},
			&x.Seen, &x.Live, &x.Closed, &x.State, &x.Overtaken, &x.Done, &x.Cursor, &x.Named, &x.Changed, &x.Against, &x.Unnamed, instant{&x.Since}, instant{&x.DoneAt}, &against)
		if err != nil {
			return err
		}
		list = append(list, x)
		return json.Unmarshal(against, &x.AgainstIDs)
	}, `SELECT stream_ref, id, parts, digest, head_generation, head_seq, head_hash, issued_at, seen, live, closed, state,
		overtaken, done, cursor, named, changed, against, unnamed, since, done_at, against_ids FROM roster`+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read rosters: %w", err)
	}
	return list, nil
}

// AddRosterPart notes which message carries a part, and reports whether that is new.
func AddRosterPart(tx *store.Tx, ref int64, id string, part int, seq uint64) (added bool, err error) {
	res, err := tx.Exec(`INSERT INTO roster_part (stream_ref, id, part, seq) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, ref, id, part, int64(seq))
	if err != nil {
		return false, fmt.Errorf("note part %d of roster %s: %w", part, id, err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// RosterSpan is the first and last seq that is known to carry a part of a roster.
func RosterSpan(r Reader, ref int64, id string) (first, last uint64, err error) {
	err = r.QueryRow(`SELECT COALESCE(MIN(seq), 0), COALESCE(MAX(seq), 0) FROM roster_part WHERE stream_ref = ? AND id = ?`, ref, id).Scan(&first, &last)
	return first, last, err
}

// RosterParts returns the messages that may carry a part, in the order in which they came: also one that was put aside
// since, where another roster stood in for it or its key was retired.
func RosterParts(r Reader, ref int64, id string, part int) (list [][]byte, err error) {
	err = each(r, func(scan func(...any) error) error {
		var jws []byte
		err := scan(packed{&jws})
		list = append(list, jws)
		return err
	}, `SELECT m.jws FROM roster_part p JOIN message m ON m.stream_ref = p.stream_ref AND m.seq = p.seq AND m.event = 'roster' AND m.disposition IN (1, 3, 6, 8)
		WHERE p.stream_ref = ? AND p.id = ? AND p.part = ? ORDER BY m.id`, ref, id, part)
	if err != nil {
		return nil, fmt.Errorf("read part %d of roster %s: %w", part, id, err)
	}
	return list, nil
}

// RosterPayloads are the payload digests of the messages that carry parts in sequence or waiting, from part 1 to the first that is
// not here.
func RosterPayloads(r Reader, of *Roster) (list []schema.Digest, err error) {
	err = each(r, func(scan func(...any) error) error {
		var part int
		var payload schema.Digest
		if err := scan(&part, digest{&payload}); err != nil {
			return err
		}
		if part == len(list)+1 { // of two at one place the first counts
			list = append(list, payload)
		}
		return nil
	}, `SELECT p.part, m.payload FROM roster_part p JOIN message m ON m.stream_ref = p.stream_ref AND m.seq = p.seq AND m.disposition IN (3, 6)
		WHERE p.stream_ref = ? AND p.id = ? ORDER BY p.part, m.id`, of.StreamRef, of.ID)
	if err != nil {
		return nil, fmt.Errorf("read the parts of roster %s: %w", of.ID, err)
	}
	return list, nil
}

// PayloadAt is the payload digest of what is recorded at a place; ok is false where there is nothing.
func PayloadAt(r Reader, ref int64, seq uint64) (payload schema.Digest, ok bool, err error) {
	err = r.QueryRow(`SELECT payload FROM message WHERE stream_ref = ? AND seq = ? AND disposition NOT IN (1, 9) ORDER BY id LIMIT 1`, ref, int64(seq)).Scan(digest{&payload})
	ok, err = found(err)
	return payload, ok, err
}

// Missing calls hole for every run of numbers after and up to the two given of which nothing is recorded.
func Missing(r Reader, ref int64, after, upTo uint64, hole func(first, last uint64)) error {
	next := after + 1
	err := each(r, func(scan func(...any) error) error {
		var seq uint64
		if err := scan(&seq); err != nil {
			return err
		}
		if seq > next {
			hole(next, seq-1)
		}
		next = max(next, seq+1)
		return nil
	}, `SELECT seq FROM message WHERE stream_ref = ? AND seq > ? AND seq <= ? AND disposition NOT IN (1, 9) ORDER BY seq`, ref, int64(after), int64(upTo))
	if err != nil {
		return fmt.Errorf("read what is missing: %w", err)
	}
	if next <= upTo {
		hole(next, upTo)
	}
	return nil
}

// Overtake puts aside up to limit messages that waited after one number and up to another, and returns them
// without the messages themselves.
func Overtake(tx *store.Tx, ref int64, after, upTo uint64, limit int, now time.Time) (list []*Message, err error) {
	err = each(tx, func(scan func(...any) error) error {
		m := new(Message)
		err := scan(&m.ID, &m.Seq, &m.Event, &m.Subject)
		list = append(list, m)
		return err
	}, `SELECT id, seq, event, subject FROM message WHERE stream_ref = ? AND seq > ? AND seq <= ? AND disposition IN (0, 3) ORDER BY seq, id LIMIT ?`,
		ref, int64(after), int64(upTo), limit)
	if err != nil {
		return nil, fmt.Errorf("read what a roster overtook: %w", err)
	}
	for _, m := range list {
		if _, err := tx.Exec(`UPDATE message SET disposition = 8, code = 'covered', decided_at = ? WHERE id = ?`, ms(now), m.ID); err != nil {
			return nil, fmt.Errorf("put message %d aside: %w", m.Seq, err)
		}
	}
	return list, nil
}

// A Part is what stands beside a part of a verified roster, so that it need not be read again where it says nothing new.
type Part struct {
	Live        int    // statements of live engagements, and of no others; 0: it is to be read
	First, Last string // persons of the first and the last of them
	Statements  schema.Digest
}

// SavePart notes what a part states.
func SavePart(tx *store.Tx, of *Roster, part int, p Part) error {
	_, err := tx.Exec(`UPDATE roster_part SET live = ?, first = ?, last = ?, statements = ? WHERE stream_ref = ? AND id = ? AND part = ?`,
		p.Live, p.First, p.Last, p.Statements[:], of.StreamRef, of.ID, part)
	if err != nil {
		return fmt.Errorf("note what part %d of roster %s states: %w", part, of.ID, err)
	}
	return nil
}

// LoadPart reads what was noted of a part.
func LoadPart(r Reader, of *Roster, part int) (p Part, err error) {
	var statements []byte
	err = r.QueryRow(`SELECT live, first, last, statements FROM roster_part WHERE stream_ref = ? AND id = ? AND part = ?`, of.StreamRef, of.ID, part).
		Scan(&p.Live, &p.First, &p.Last, &statements)
	if err != nil {
		return p, fmt.Errorf("read what part %d of roster %s states: %w", part, of.ID, err)
	}
	if p.Live > 0 {
		err = digest{&p.Statements}.Scan(statements)
	}
	return p, err
}

// Stated tells whether a part says of everybody from its first person to its last what is known already, and there
// is nobody between them whom it does not name: confirming all of them is then all that there is to do. Whoever was
// named by a later head, or at a later time than issued, is not known to be stated, nor is who is unnamed.
func Stated(r Reader, iss string, p Part, head schema.RosterHead, issued time.Time) (bool, error) {
	if p.Live == 0 {
		return false, nil
	}
	var all schema.Statements
	var word sql.RawBytes
	known := true
	err := each(r, func(scan func(...any) error) error {
		if err := scan(&word); err != nil {
			return err
		}
		if known = known && len(word) == len(schema.Digest{}); known {
			all.Add(schema.Digest(word))
		}
		return nil
	}, `SELECT IIF(unnamed = 0 AND said_at <= ?4 AND (stated_generation, stated_seq) <= (?5, ?6), word, x'') FROM subject
		WHERE iss = ?1 AND subject BETWEEN ?2 AND ?3 ORDER BY subject`, iss, p.First, p.Last, ms(issued), head.Generation, int64(head.Seq))
	if err != nil {
		return false, fmt.Errorf("compare what a roster states: %w", err)
	}
	return known && all.Sum() == p.Statements, nil
}

// ConfirmPart confirms everybody from the first person of a part to the last.
func ConfirmPart(tx *store.Tx, iss string, p Part, head schema.RosterHead, issued time.Time) error {
	_, err := tx.Exec(`UPDATE subject SET said_at = MAX(said_at, ?1), lease_at = IIF(said_at < ?1, 0, lease_at), stated_generation = ?2, stated_seq = ?3
		WHERE iss = ?4 AND subject BETWEEN ?5 AND ?6 AND (stated_generation, stated_seq) < (?2, ?3)`,
		ms(issued), head.Generation, int64(head.Seq), iss, p.First, p.Last)
	if err != nil {
		return fmt.Errorf("note whom a roster names: %w", err)
	}
	return nil
}

// Confirm notes of a person that a roster named it as of its head, and when that was issued; and the digest of the
// statement that says no more and no less than is known of the person, or zeros where there is none.
func Confirm(tx *store.Tx, k SubjectKey, word schema.Digest, head schema.RosterHead, issued time.Time) error {
	known := word[:]
	if word == (schema.Digest{}) {
		known = []byte{}
	}
	_, err := tx.Exec(`UPDATE subject SET said_at = MAX(said_at, ?1), lease_at = IIF(said_at < ?1, 0, lease_at), stated_generation = ?2, stated_seq = ?3, word = ?4
		WHERE iss = ?5 AND subject = ?6 AND (stated_generation, stated_seq) < (?2, ?3)`,
		ms(issued), head.Generation, int64(head.Seq), known, k.Issuer, k.Subject)
	if err != nil {
		return fmt.Errorf("subject %s: note that a roster names it: %w", k.Subject, err)
	}
	return nil
}

// Unstate takes back that a roster named persons of an issuer as of its head: it is not believed any more.
func Unstate(tx *store.Tx, iss string, generation int, seq uint64) error {
	_, err := tx.Exec(`UPDATE subject SET stated_generation = 0, stated_seq = 0 WHERE iss = ? AND stated_generation = ? AND stated_seq = ?`, iss, generation, int64(seq))
	if err != nil {
		return fmt.Errorf("take back whom a roster named: %w", err)
	}
	return nil
}

// NotStated lists up to limit persons of an issuer, after the subject given, whom no roster named at this
// head or a later one.
func NotStated(r Reader, iss, after string, head schema.RosterHead, limit int) (list []*Subject, err error) {
	err = each(r, func(scan func(...any) error) error {
		s, err := scanSubject(scan)
		list = append(list, s)
		return err
	}, `SELECT `+subjectColumns+` FROM subject WHERE iss = ? AND subject > ? AND (stated_generation, stated_seq) < (?, ?) ORDER BY subject LIMIT ?`,
		iss, after, head.Generation, int64(head.Seq), limit)
	if err != nil {
		return nil, fmt.Errorf("read whom a roster does not name: %w", err)
	}
	return list, nil
}

// Leave notes that a roster does not name a person who has access.
func Leave(tx *store.Tx, k SubjectKey) error {
	_, err := tx.Exec(`UPDATE subject SET unnamed = 1, rev = rev + 1 WHERE iss = ? AND subject = ? AND unnamed = 0`, k.Issuer, k.Subject)
	if err != nil {
		return fmt.Errorf("subject %s: %w", k.Subject, err)
	}
	return nil
}
