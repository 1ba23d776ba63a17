package state

import (
	"errors"
	"fmt"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Stream is a generation of a producer's stream.
type Stream struct {
	Ref          int64
	Issuer, Name string
	admit.Stream
	HeartbeatIAT time.Time // the latest that a valid heartbeat stated, never after HeartbeatAt
	HeartbeatAt  time.Time // when that one came
	ReceivedAt   time.Time // when the last verified message came
	OpenedAt     time.Time
}

// AlarmKey names the generation in alarms.
func (s *Stream) AlarmKey() string { return fmt.Sprintf("%s#%d@%s", s.Name, s.Generation, s.Issuer) }

func latestGeneration(r Reader, iss, name string) (latest int, err error) {
	err = r.QueryRow(`SELECT COALESCE(MAX(generation), 0) FROM stream WHERE iss = ? AND stream = ?`, iss, name).Scan(&latest)
	return latest, err
}

func openGeneration(tx *store.Tx, iss, name string, pin Pin, now time.Time) error {
	if pin.Generation < 1 || pin.Generation > schema.MaxGeneration || pin.Head >= schema.MaxSeq {
		return fmt.Errorf("want a generation of 1 to %d and a seq below %d, got %d and %d", schema.MaxGeneration, uint64(schema.MaxSeq), pin.Generation, pin.Head)
	}
	if (pin.Head == 0) != pin.Hash.IsZero() {
		return errors.New("want the hash of the message at the head to join a stream that has begun, and none to follow it from seq 1")
	}
	if _, err := tx.Exec(`UPDATE stream SET state = 'closed' WHERE iss = ? AND stream = ?`, iss, name); err != nil {
		return fmt.Errorf("open generation: %w", err)
	}
	_, err := tx.Exec(`INSERT INTO stream (iss, stream, generation, state, joined_seq, head_seq, head_hash, highest_seq, unrostered, opened_at) VALUES (?, ?, ?, 'live', ?, ?, ?, ?, ?, ?)`,
		iss, name, pin.Generation, int64(pin.Head+1), int64(pin.Head), pin.Hash[:], int64(pin.Head), pin.Head > 0, ms(now))
	if err != nil {
		return fmt.Errorf("open generation: %w", err)
	}
	return nil
}

// Streams lists every generation of every stream, the latest generation of each first.
func Streams(r Reader) ([]*Stream, error) {
	return listStreams(r, ` ORDER BY iss, stream, generation DESC`)
}

// StreamByRef returns one generation.
func StreamByRef(r Reader, ref int64) (*Stream, error) {
	list, err := listStreams(r, ` WHERE ref = ?`, ref)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("stream %d: %w", ref, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func listStreams(r Reader, where string, args ...any) (list []*Stream, err error) {
	err = each(r, func(scan func(...any) error) error {
		s := new(Stream)
		err := scan(&s.Ref, &s.Issuer, &s.Name, &s.Generation, &s.State, &s.Joined, &s.Head, digest{&s.HeadHash}, &s.Highest,
			instant{&s.GapSince}, &s.ForkSeq, &s.Covered, &s.Unrostered, &s.RuledOut, instant{&s.Issued}, instant{&s.HeartbeatIAT}, instant{&s.HeartbeatAt}, instant{&s.ReceivedAt}, instant{&s.OpenedAt})
		list = append(list, s)
		return err
	}, `SELECT ref, iss, stream, generation, state, joined_seq, head_seq, head_hash, highest_seq,
		gap_since, fork_seq, covered_seq, unrostered, ruled_out_seq, issued_at, heartbeat_iat, heartbeat_at, received_at, opened_at FROM stream`+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read streams: %w", err)
	}
	return list, nil
}

// SaveStream writes what intake changes of a generation.
func SaveStream(tx *store.Tx, s *Stream) error {
	_, err := tx.Exec(`UPDATE stream SET state = ?, head_seq = ?, head_hash = ?, highest_seq = ?, gap_since = ?, fork_seq = ?,
		covered_seq = ?, unrostered = ?, ruled_out_seq = ?, issued_at = ?, heartbeat_iat = ?, heartbeat_at = ?, received_at = ? WHERE ref = ?`,
		string(s.State), int64(s.Head), s.HeadHash[:], int64(s.Highest), ms(s.GapSince), int64(s.ForkSeq),
		int64(s.Covered), s.Unrostered, int64(s.RuledOut), ms(s.Issued), ms(s.HeartbeatIAT), ms(s.HeartbeatAt), ms(s.ReceivedAt), s.Ref)
	if err != nil {
		return fmt.Errorf("save stream %d: %w", s.Ref, err)
	}
	return nil
}

// FreshSince tells how old the oldest heartbeat is on which trust in an issuer's silence rests: the
// least HeartbeatIAT over its followed streams that have a key for heartbeats. Zero: some stream never
// had one. ok is false where the issuer has no such stream.
func FreshSince(r Reader, iss string) (since time.Time, ok bool, err error) {
	var least, n int64
	err = r.QueryRow(`SELECT COALESCE(MIN(heartbeat_iat), 0), COUNT(*) FROM stream s WHERE iss = ? AND state <> 'closed' AND EXISTS
		(SELECT 1 FROM trusted_key k WHERE k.iss = s.iss AND k.stream = s.stream AND ',' || k.kinds || ',' LIKE '%,heartbeat,%')`, iss).Scan(&least, &n)
	if err != nil {
		return time.Time{}, false, fmt.Errorf("read freshness: %w", err)
	}
	return at(least), n > 0, nil
}

// OpenedAt is when the last stream of an issuer, or the last generation of one, was let be followed.
func OpenedAt(r Reader, iss string) (opened time.Time, err error) {
	err = r.QueryRow(`SELECT COALESCE(MAX(opened_at), 0) FROM stream WHERE iss = ? AND state <> 'closed'`, iss).Scan(instant{&opened})
	return opened, err
}

// LastOpened grows with every stream, and every generation of one, that an operator lets be followed.
func LastOpened(r Reader) (ref int64, err error) {
	err = r.QueryRow(`SELECT COALESCE(MAX(ref), 0) FROM stream`).Scan(&ref)
	return ref, err
}

// Issuers lists the issuers of the streams that are followed.
func Issuers(r Reader) (list []string, err error) {
	err = each(r, func(scan func(...any) error) error {
		var iss string
		err := scan(&iss)
		list = append(list, iss)
		return err
	}, `SELECT DISTINCT iss FROM stream WHERE state <> 'closed' ORDER BY iss`)
	return list, err
}
