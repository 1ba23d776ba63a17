package state

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/internal/ledger/archive"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Message is one row of the archive.
type Message struct {
	ID          int64
	StreamRef   int64
	Seq         uint64
	Payload     schema.Digest
	Prev        schema.Digest
	Wire        schema.Digest
	JTI         string
	KID         string
	Event       schema.Kind
	Subject     string
	Disposition admit.Disposition
	Code        admit.Code
	ReceivedAt  time.Time
	DecidedAt   time.Time
	JWS         []byte
	Octets      []byte // of the payload in JWS, as verifying has read them; AddMessage needs them, nothing returns them
}

// AddMessage archives m. The same payload at the same place again is an error, which admit finds before,
// unless the first one was refused: that one gives way.
func AddMessage(tx *store.Tx, m *Message) error {
	res, err := tx.Exec(`INSERT INTO message (stream_ref, seq, payload, prev, wire, jti, kid, event, subject, disposition, code, received_at, decided_at, jws)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
		ON CONFLICT (stream_ref, seq, payload) DO UPDATE SET wire = ?5, kid = ?7, disposition = ?10, code = ?11, decided_at = ?13, jws = ?14 WHERE disposition = 1`,
		m.StreamRef, int64(m.Seq), m.Payload[:], m.Prev[:], m.Wire[:], m.JTI, m.KID, string(m.Event), m.Subject, int64(m.Disposition), string(m.Code), ms(m.ReceivedAt), ms(m.DecidedAt), pack(m.JWS, m.Octets))
	if err != nil {
		return fmt.Errorf("archive message %d of stream %d: %w", m.Seq, m.StreamRef, err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("archive message %d of stream %d: it is there already (%w)", m.Seq, m.StreamRef, cmp.Or(err, ErrChanged))
	}
	return nil
}

// SetDisposition records how a message that waited was judged again.
func SetDisposition(tx *store.Tx, id int64, d admit.Disposition, code admit.Code, now time.Time) error {
	_, err := tx.Exec(`UPDATE message SET disposition = ?, code = ?, decided_at = ? WHERE id = ?`, int64(d), string(code), ms(now), id)
	return err
}

// Recorded is what the archive has at one place; without is the id of a message to leave out, or 0.
func Recorded(tx *store.Tx, ref int64, seq uint64, without int64) (list []admit.Recorded, err error) {
	err = each(tx, func(scan func(...any) error) error {
		var r admit.Recorded
		err := scan(digest{&r.Payload}, digest{&r.Prev}, &r.RuledOut)
		list = append(list, r)
		return err
	}, `SELECT payload, prev, disposition = 9 FROM message WHERE stream_ref = ? AND seq = ? AND id <> ? AND disposition <> 1`, ref, int64(seq), without)
	return list, err
}

// Waiting returns the message at seq that waits to be judged again, or nil.
func Waiting(tx *store.Tx, ref int64, seq uint64) (*Message, error) {
	return waiting(tx, `stream_ref = ? AND seq = ? AND disposition IN (0, 3) ORDER BY id LIMIT 1`, ref, int64(seq))
}

// WaitingPastKey returns the first message from seq on that waits behind a gap and is past the end of its key, or nil.
func WaitingPastKey(tx *store.Tx, s *Stream, seq uint64) (*Message, error) {
	return waiting(tx, `stream_ref = ?1 AND seq >= ?3 AND disposition = 3 AND NOT `+goodThere+` ORDER BY seq, id LIMIT 1`, s.Ref, s.Generation, int64(seq))
}

func waiting(tx *store.Tx, where string, args ...any) (*Message, error) {
	m := new(Message)
	var event, code string
	err := tx.QueryRow(`SELECT id, stream_ref, seq, payload, prev, wire, jti, kid, event, subject, disposition, code, received_at, decided_at, jws
		FROM message m WHERE `+where, args...).
		Scan(&m.ID, &m.StreamRef, &m.Seq, digest{&m.Payload}, digest{&m.Prev}, digest{&m.Wire}, &m.JTI, &m.KID, &event, &m.Subject, &m.Disposition, &code,
			instant{&m.ReceivedAt}, instant{&m.DecidedAt}, packed{&m.JWS})
	if ok, err := found(err); !ok {
		return nil, err
	}
	m.Event, m.Code = schema.Kind(event), admit.Code(code)
	return m, nil
}

// NextRecorded returns the nearest message after seq that waits: the far side of a gap. ok is false
// where there is none.
func NextRecorded(r Reader, ref int64, seq uint64) (next uint64, prev schema.Digest, ok bool, err error) {
	err = r.QueryRow(`SELECT seq, prev FROM message WHERE stream_ref = ? AND seq > ? AND disposition NOT IN (1, 9) ORDER BY seq LIMIT 1`, ref, int64(seq)).Scan(&next, digest{&prev})
	ok, err = found(err)
	return next, prev, ok, err
}

// RuledOutBefore returns what a message that was ruled out names as the one before it; ok is false where no such message
// is ruled out.
func RuledOutBefore(r Reader, ref int64, seq uint64, payload schema.Digest) (prev schema.Digest, ok bool, err error) {
	err = r.QueryRow(`SELECT prev FROM message WHERE stream_ref = ? AND seq = ? AND payload = ? AND disposition = 9`, ref, int64(seq), payload[:]).Scan(digest{&prev})
	ok, err = found(err)
	return prev, ok, err
}

// AroundFork lists what stands around the fork of a stream, from shortly before the first message that does not fit,
// in the order of numbers, also what was ruled out. The messages themselves are left out.
func AroundFork(r Reader, ref int64) ([]*Message, error) {
	return listMessages(r, ` WHERE stream_ref = ?1 AND disposition NOT IN (1, 4)
		AND seq >= (SELECT MIN(seq) FROM message WHERE stream_ref = ?1 AND disposition = 5) - 2 - (disposition = 9) ORDER BY seq, id`, ref)
}

// Unreadable reports whether the message in its place says something that was refused.
func Unreadable(r Reader, ref int64, seq uint64) (yes bool, err error) {
	err = r.QueryRow(`SELECT EXISTS (SELECT 1 FROM message WHERE stream_ref = ? AND seq = ? AND disposition = 7)`, ref, int64(seq)).Scan(&yes)
	return yes, err
}

// SignedFrom lists what a key signed in one generation from a number on, and the archive has; without the messages
// themselves.
func SignedFrom(r Reader, ref int64, kid string, from uint64) ([]*Message, error) {
	return listMessages(r, ` WHERE stream_ref = ? AND kid = ? AND seq >= ? AND disposition <> 1 ORDER BY seq, id`, ref, kid, int64(from))
}

// goodThere tells of a message m of generation ?2 that its key was not ended before its place.
const goodThere = `NOT EXISTS (SELECT 1 FROM trusted_key k WHERE k.kid = m.kid AND k.state = 'retired' AND (k.retired_generation, k.retired_seq) < (?2, m.seq))`

// Footing is the last place up to which something that is believed vouches for the chain of a generation: a message of it
// by a key that is good there, whatever stands before it, or the head of a roster; and the number from which it is followed,
// less one, where nothing does. known is whether the archive tells the hash of what stands there.
func Footing(r Reader, s *Stream) (seq uint64, hash schema.Digest, known bool, err error) {
	var names bool // what is to come next does
	err = r.QueryRow(`SELECT EXISTS (SELECT 1 FROM message m WHERE stream_ref = ?1 AND seq = ?3 AND prev = ?4 AND disposition IN (0, 3) AND `+goodThere+`)`,
		s.Ref, s.Generation, int64(s.Head+1), s.HeadHash[:]).Scan(&names)
	if err != nil {
		return 0, hash, false, fmt.Errorf("read what vouches for stream %d: %w", s.Ref, err)
	}
	if names {
		return s.Head, s.HeadHash, true, nil
	}
	err = r.QueryRow(`SELECT seq, hash FROM (
			SELECT * FROM (SELECT seq, payload AS hash FROM message m WHERE stream_ref = ?1 AND seq <= ?3 AND disposition IN (6, 7) AND `+goodThere+` ORDER BY seq DESC LIMIT 1)
			UNION ALL
			SELECT * FROM (SELECT head_seq, head_hash FROM roster WHERE stream_ref = ?1 AND head_generation = ?2 AND head_seq <= ?3 AND state IN ('verified', 'applied') ORDER BY head_seq DESC LIMIT 1)
		) ORDER BY seq DESC LIMIT 1`, s.Ref, s.Generation, int64(s.Head)).Scan(&seq, digest{&hash})
	if known, err = found(err); err != nil {
		return 0, hash, false, fmt.Errorf("read what vouches for stream %d: %w", s.Ref, err)
	}
	if !known || seq < s.Joined {
		return s.Joined - 1, schema.Digest{}, s.Joined == 1, nil
	}
	return seq, hash, true, nil
}

// Contiguous is the last of the messages that follow each other in the chain from after a place on; that place and its hash where
// the next one is not there.
func Contiguous(r Reader, s *Stream, after uint64, hash schema.Digest) (uint64, schema.Digest, error) {
	last := after
	err := each(r, func(scan func(...any) error) error {
		var seq uint64
		var payload schema.Digest
		if err := scan(&seq, digest{&payload}); err != nil {
			return err
		}
		if seq == last+1 {
			last, hash = seq, payload
		}
		return nil
	}, `SELECT seq, payload FROM message WHERE stream_ref = ? AND seq > ? AND seq <= ? AND disposition IN (6, 7) ORDER BY seq`, s.Ref, int64(after), int64(s.Head))
	if err != nil {
		return 0, hash, fmt.Errorf("read the chain of stream %d: %w", s.Ref, err)
	}
	return last, hash, nil
}

// Reopen lets the messages of a generation after a place, up to which it is followed from now on, wait for what is missing
// there: also those in whose place a roster stood. What is of a key that was ended before it is refused. It returns the
// furthest number of what waits, or the place.
func Reopen(tx *store.Tx, s *Stream, after uint64, now time.Time) (highest uint64, err error) {
	_, err = tx.Exec(`UPDATE message AS m SET disposition = 1, code = ?4, decided_at = ?5 WHERE stream_ref = ?1 AND seq > ?3 AND disposition IN (0, 3, 5, 6, 7, 8) AND NOT `+goodThere,
		s.Ref, s.Generation, int64(after), string(admit.CodeKeyRetired), ms(now))
	if err != nil {
		return 0, fmt.Errorf("refuse what was said behind message %d of stream %d: %w", after, s.Ref, err)
	}
	_, err = tx.Exec(`UPDATE message SET disposition = 3, code = ?4, decided_at = ?5 WHERE stream_ref = ?1 AND seq > ?2 AND seq <= ?3 AND disposition IN (3, 8)`,
		s.Ref, int64(after), int64(s.Head), string(admit.CodeCovered), ms(now))
	if err != nil {
		return 0, fmt.Errorf("let what came behind message %d of stream %d wait: %w", after, s.Ref, err)
	}
	return Furthest(tx, s.Ref, after)
}

// Furthest is the furthest number of what was received of a generation, or after where that is further.
func Furthest(r Reader, ref int64, after uint64) (seq uint64, err error) {
	err = r.QueryRow(`SELECT COALESCE(MAX(seq), ?2) FROM message WHERE stream_ref = ?1 AND seq > ?2 AND disposition NOT IN (1, 9)`, ref, int64(after)).Scan(&seq)
	if err != nil {
		return 0, fmt.Errorf("read what waits in stream %d: %w", ref, err)
	}
	return seq, nil
}

func listMessages(r Reader, where string, args ...any) (list []*Message, err error) {
	err = each(r, func(scan func(...any) error) error {
		m := new(Message)
		var event, code string
		err := scan(&m.ID, &m.StreamRef, &m.Seq, digest{&m.Payload}, digest{&m.Prev}, &m.KID, &event, &m.Subject, &m.Disposition, &code, instant{&m.ReceivedAt})
		m.Event, m.Code = schema.Kind(event), admit.Code(code)
		list = append(list, m)
		return err
	}, `SELECT id, stream_ref, seq, payload, prev, kid, event, subject, disposition, code, received_at FROM message`+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	return list, nil
}

// SignedAfter returns the furthest message past last that kid signed and that was let into a generation of
// the stream; ok is false where there is none.
func SignedAfter(r Reader, iss, stream, kid string, last admit.Point) (furthest admit.Point, ok bool, err error) {
	err = r.QueryRow(`SELECT s.generation, m.seq FROM stream s JOIN message m ON m.stream_ref = s.ref
		WHERE s.iss = ?1 AND s.stream = ?2 AND m.kid = ?3 AND m.disposition IN (6, 7) AND (s.generation > ?4 OR s.generation = ?4 AND m.seq > ?5)
		ORDER BY s.generation DESC, m.seq DESC LIMIT 1`, iss, stream, kid, last.Generation, int64(last.Seq)).Scan(&furthest.Generation, &furthest.Seq)
	if ok, err = found(err); err != nil {
		err = fmt.Errorf("read what key %s signed: %w", kid, err)
	}
	return furthest, ok, err
}

// Signed is what a key signed in one generation of a stream, and the archive has.
type Signed struct {
	Generation  int
	First, Last uint64 // numbers
	Count       int64
}

// SignedBefore lists it of the generations before one, the latest first.
func SignedBefore(r Reader, iss, stream, kid string, generation int) (list []Signed, err error) {
	err = each(r, func(scan func(...any) error) error {
		var s Signed
		err := scan(&s.Generation, &s.First, &s.Last, &s.Count)
		list = append(list, s)
		return err
	}, `SELECT s.generation, MIN(m.seq), MAX(m.seq), COUNT(*) FROM stream s JOIN message m ON m.stream_ref = s.ref
		WHERE s.iss = ?1 AND s.stream = ?2 AND m.kid = ?3 AND m.disposition <> 1 AND s.generation < ?4
		GROUP BY s.generation ORDER BY s.generation DESC`, iss, stream, kid, generation)
	if err != nil {
		return nil, fmt.Errorf("read what key %s signed: %w", kid, err)
	}
	return list, nil
}

// JWSAt returns the archived message with this payload digest at one place. The error wraps ErrNotFound.
func JWSAt(r Reader, ref int64, seq uint64, payload schema.Digest) (jws []byte, err error) {
	err = r.QueryRow(`SELECT jws FROM message WHERE stream_ref = ? AND seq = ? AND payload = ?`, ref, int64(seq), payload[:]).Scan(packed{&jws})
	if ok, ferr := found(err); !ok && ferr == nil {
		err = fmt.Errorf("message %d of stream %d: %w", seq, ref, ErrNotFound)
	}
	return jws, err
}

// CountMessages counts the archive by disposition.
func CountMessages(r Reader) (map[admit.Disposition]int64, error) {
	count := map[admit.Disposition]int64{}
	err := each(r, func(scan func(...any) error) error {
		var d, n int64
		err := scan(&d, &n)
		count[admit.Disposition(d)] = n
		return err
	}, `SELECT disposition, COUNT(*) FROM message GROUP BY disposition`)
	return count, err
}

// Unarchived returns messages after id for the published archive. It implements ledger.Source.
func (db *DB) Unarchived(ctx context.Context, after int64, limit int) (list []archive.Row, err error) {
	rows, err := db.Read().QueryContext(ctx, `SELECT id, received_at, payload, jws FROM message WHERE id > ? ORDER BY id LIMIT ?`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read messages for the archive: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var m archive.Row
		var jws []byte
		if err := rows.Scan(&m.ID, instant{&m.Day}, digest{&m.Payload}, packed{&jws}); err != nil {
			return nil, fmt.Errorf("read messages for the archive: %w", err)
		}
		m.JWS = string(jws)
		list = append(list, m)
	}
	return list, rows.Err()
}
