package state

import (
	"crypto/sha256"
	"fmt"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Parked is a message that may become valid.
type Parked struct {
	ID         int64
	Wire       schema.Digest // of Body
	Code       string
	KID        string // the key that it names; unbelieved
	Body       []byte // nil in lists
	Size       int64
	ReceivedAt time.Time
	TriedAt    time.Time
}

// Quota bounds what is parked, in octets of bodies.
type Quota struct{ Total, PerKey int64 }

// Park keeps a message. kept is false where the quota has no room for it; was is the code under which it was
// there already, or empty.
func Park(tx *store.Tx, p *Parked, q Quota) (kept bool, was string, err error) {
	known, err := found(tx.QueryRow(`SELECT code FROM parked WHERE wire = ?`, p.Wire[:]).Scan(&was))
	if err != nil {
		return false, "", fmt.Errorf("park: %w", err)
	}
	if known {
		_, err := tx.Exec(`UPDATE parked SET code = ?, kid = ?, tried_at = ? WHERE wire = ?`, p.Code, p.KID, ms(p.TriedAt), p.Wire[:])
		return true, was, err
	}
	var total, same int64
	if err := tx.QueryRow(`SELECT (SELECT COALESCE(SUM(size), 0) FROM parked), (SELECT COALESCE(SUM(size), 0) FROM parked WHERE kid = ?)`, p.KID).Scan(&total, &same); err != nil {
		return false, "", fmt.Errorf("park: %w", err)
	}
	size := int64(len(p.Body))
	if total+size > q.Total || same+size > q.PerKey {
		return false, "", nil
	}
	_, err = tx.Exec(`INSERT INTO parked (wire, code, kid, size, body, received_at, tried_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		p.Wire[:], p.Code, p.KID, size, p.Body, ms(p.ReceivedAt), ms(p.TriedAt))
	if err != nil {
		return false, "", fmt.Errorf("park: %w", err)
	}
	return true, "", nil
}

// Unpark removes a message that was decided.
func Unpark(tx *store.Tx, wire schema.Digest) error {
	_, err := tx.Exec(`DELETE FROM parked WHERE wire = ?`, wire[:])
	return err
}

// ParkedAfter returns up to n parked messages with their bodies, in order of arrival, after the one with
// id after.
func ParkedAfter(r Reader, after int64, n int) ([]*Parked, error) {
	return listParked(r, `id, wire, code, kid, body, size, received_at, tried_at`, ` WHERE id > ? ORDER BY id LIMIT ?`, after, n)
}

// ListParked lists what is parked, without bodies.
func ListParked(r Reader) ([]*Parked, error) {
	return listParked(r, `id, wire, code, kid, NULL, size, received_at, tried_at`, ` ORDER BY id`)
}

// ParkedSet is what is parked under one code and key.
type ParkedSet struct {
	Code, KID string
	Count     int
	Bytes     int64
	Since     time.Time     // of the first
	Digest    schema.Digest // of the wire digests, in order of arrival
	wires     []byte
}

// ParkedSets lists what is parked, by code and key, the first to come first.
func ParkedSets(r Reader) ([]*ParkedSet, error) {
	list, err := ListParked(r)
	if err != nil {
		return nil, err
	}
	var sets []*ParkedSet
	at := map[[2]string]*ParkedSet{}
	for _, p := range list {
		s := at[[2]string{p.Code, p.KID}]
		if s == nil {
			s = &ParkedSet{Code: p.Code, KID: p.KID, Since: p.ReceivedAt}
			at[[2]string{p.Code, p.KID}] = s
			sets = append(sets, s)
		}
		s.Count++
		s.Bytes += p.Size
		s.wires = append(s.wires, p.Wire[:]...)
	}
	for _, s := range sets {
		s.Digest = schema.DigestOf(s.wires)
	}
	return sets, nil
}

// DropParked gives up what is parked under a code, and the key where one is named, where that is what the operator was shown,
// and puts it on the ledger. The error wraps ErrChanged where it is not, ErrNotFound where nothing is.
func DropParked(tx *store.Tx, code, kid string, shown schema.Digest, by By) (n int, err error) {
	sets, err := ParkedSets(tx)
	if err != nil {
		return 0, err
	}
	there := false
	for _, s := range sets {
		if s.Code != code || kid != "" && s.KID != kid {
			continue
		}
		if there = true; s.Digest != shown {
			continue
		}
		if _, err := tx.Exec(`DELETE FROM parked WHERE code = ? AND kid = ?`, code, s.KID); err != nil {
			return 0, fmt.Errorf("drop what is parked: %w", err)
		}
		target := code
		if s.KID != "" {
			target += "/" + s.KID
		}
		return s.Count, record(tx, by.Now, &entry.Operator{By: by.Login, Action: "parked-drop", Target: entry.ID(target), Digest: &shown, Reason: entry.Text(by.Reason)})
	}
	if there {
		return 0, fmt.Errorf("nothing that is parked under %s has digest %s now: %w; look at it again", code, shown, ErrChanged)
	}
	of := code
	if kid != "" {
		of += " with key " + kid
	}
	return 0, fmt.Errorf("nothing is parked under %s: %w", of, ErrNotFound)
}

func listParked(r Reader, columns, where string, args ...any) (list []*Parked, err error) {
	err = each(r, func(scan func(...any) error) error {
		p := new(Parked)
		err := scan(&p.ID, digest{&p.Wire}, &p.Code, &p.KID, &p.Body, &p.Size, instant{&p.ReceivedAt}, instant{&p.TriedAt})
		list = append(list, p)
		return err
	}, `SELECT `+columns+` FROM parked`+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read parked messages: %w", err)
	}
	return list, nil
}

// Refusals counts one code in the interval under way.
type Refusals struct {
	Code    string
	Since   time.Time
	Listed  int64         // recorded one by one
	Counted int64         // waiting for the summary
	Octets  int64         // of the counted ones
	Chain   schema.Digest // SHA-256(chain before || wire digest), over the counted ones in order
}

// CountRefusal notes one more message under code. listed is true while fewer than rate of this interval
// were recorded one by one: the caller then records this one so; otherwise it will be in the summary.
func CountRefusal(tx *store.Tx, code string, wire schema.Digest, octets int, rate int64, now time.Time) (listed bool, err error) {
	f := Refusals{Code: code, Since: now}
	err = tx.QueryRow(`SELECT since, listed, counted, octets, chain FROM refused WHERE code = ?`, code).
		Scan(instant{&f.Since}, &f.Listed, &f.Counted, &f.Octets, digest{&f.Chain})
	if _, err := found(err); err != nil {
		return false, fmt.Errorf("count refusals: %w", err)
	}
	if listed = f.Listed < rate; listed {
		f.Listed++
	} else {
		f.Counted++
		f.Octets += int64(octets)
		f.Chain = Link(f.Chain, wire)
	}
	_, err = tx.Exec(`INSERT INTO refused (code, since, listed, counted, octets, chain) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
		ON CONFLICT (code) DO UPDATE SET listed = ?3, counted = ?4, octets = ?5, chain = ?6`,
		code, ms(f.Since), f.Listed, f.Counted, f.Octets, f.Chain[:])
	if err != nil {
		return false, fmt.Errorf("count refusals: %w", err)
	}
	return listed, nil
}

// Link is the next value of Refusals.Chain.
func Link(chain, wire schema.Digest) schema.Digest {
	return sha256.Sum256(append(chain[:], wire[:]...))
}

// EndRefusals ends the intervals that began before the given time and returns those whose summary the
// caller puts on the ledger in the same transaction.
func EndRefusals(tx *store.Tx, before time.Time) (list []Refusals, err error) {
	err = each(tx, func(scan func(...any) error) error {
		var f Refusals
		err := scan(&f.Code, instant{&f.Since}, &f.Listed, &f.Counted, &f.Octets, digest{&f.Chain})
		if f.Counted > 0 {
			list = append(list, f)
		}
		return err
	}, `SELECT code, since, listed, counted, octets, chain FROM refused WHERE since <= ? ORDER BY code`, ms(before))
	if err != nil {
		return nil, fmt.Errorf("read refusals: %w", err)
	}
	if _, err := tx.Exec(`DELETE FROM refused WHERE since <= ?`, ms(before)); err != nil {
		return nil, fmt.Errorf("end refusals: %w", err)
	}
	return list, nil
}

// ParkedCodes counts what is parked by code.
func ParkedCodes(r Reader) (map[string]int64, error) {
	count := map[string]int64{}
	err := each(r, func(scan func(...any) error) error {
		var code string
		var n int64
		err := scan(&code, &n)
		count[code] = n
		return err
	}, `SELECT code, COUNT(*) FROM parked GROUP BY code`)
	return count, err
}
