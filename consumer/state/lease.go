package state

import (
	"database/sql"
	"fmt"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/internal/store"
)

// Leases lists up to limit persons of whom nothing was said since a time and whose leases were not looked at
// since, the longest silent first.
func Leases(r Reader, since, now time.Time, limit int) (list []*Subject, err error) {
	err = each(r, func(scan func(...any) error) error {
		s, err := scanSubject(scan)
		list = append(list, s)
		return err
	}, `SELECT `+subjectColumns+` FROM subject WHERE said_at > 0 AND said_at <= ? AND lease_at <= ? ORDER BY said_at LIMIT ?`, ms(since), ms(now), limit)
	if err != nil {
		return nil, fmt.Errorf("read whose leases may end: %w", err)
	}
	return list, nil
}

// LookAtLease notes when a person's leases are to be looked at again, and whether one of them ends then; Never: not before
// something is said.
func LookAtLease(tx *store.Tx, k SubjectKey, at time.Time, ends bool) error {
	end := int64(0)
	if ends {
		end = ms(at)
	}
	_, err := tx.Exec(`UPDATE subject SET lease_at = ?, lease_end = ? WHERE iss = ? AND subject = ?`, ms(at), end, k.Issuer, k.Subject)
	if err != nil {
		return fmt.Errorf("subject %s: %w", k.Subject, err)
	}
	return nil
}

// LookAtLeases lets every lease be looked at anew: the clock, or their length, is another one.
func LookAtLeases(tx *store.Tx) error {
	if _, err := tx.Exec(`UPDATE subject SET lease_at = 0`); err != nil {
		return fmt.Errorf("look anew at leases: %w", err)
	}
	return nil
}

// Ending is how many persons of an issuer have leases that end if nothing is heard, and when the first does.
type Ending struct {
	Issuer string
	Count  int64
	First  time.Time
}

// LeasesEnding counts those whose leases were found to end soon and have not ended.
func LeasesEnding(r Reader, now time.Time) (list []Ending, err error) {
	err = each(r, func(scan func(...any) error) error {
		var e Ending
		err := scan(&e.Issuer, &e.Count, instant{&e.First})
		list = append(list, e)
		return err
	}, `SELECT iss, COUNT(*), MIN(lease_at) FROM subject WHERE said_at > 0 AND lease_at > ? AND lease_at < ? AND lease_end = lease_at GROUP BY iss ORDER BY iss`, ms(now), ms(Never))
	if err != nil {
		return nil, fmt.Errorf("count leases that end soon: %w", err)
	}
	return list, nil
}

// MaxExtension bounds how long an operator may put leases off at once: it ends by itself.
const MaxExtension = 30 * 24 * time.Hour

// BoundExtensions shortens what was extended by a clock that was ahead to what may be extended now.
func BoundExtensions(tx *store.Tx, now time.Time) error {
	if _, err := tx.Exec(`UPDATE subject SET extended = ?1 WHERE extended > ?1`, ms(now.Add(MaxExtension))); err != nil {
		return fmt.Errorf("bound the extension of leases: %w", err)
	}
	return nil
}

// BoundWords lets nothing that was said while the clock was ahead, by a producer whose clock was too, count as said later than
// now: leases and the silence of a stream count from it.
func BoundWords(tx *store.Tx, now time.Time) error {
	_, err := tx.Exec(`UPDATE stream SET heartbeat_iat = ?1, heartbeat_at = ?1 WHERE heartbeat_iat > ?1`, ms(now))
	if err == nil {
		_, err = tx.Exec(`UPDATE subject SET said_at = ?1 WHERE said_at > ?1`, ms(now))
	}
	if err != nil {
		return fmt.Errorf("bound when something was said: %w", err)
	}
	return nil
}

// Extend lets the leases of a person, or with an empty subject those of everybody of the issuer, last at least
// until a time, and returns of how many: whoever left has none. What lapsed stays so until something is said, or the lapse is taken
// back with Restore.
func Extend(tx *store.Tx, k SubjectKey, until, now time.Time) (n int64, err error) {
	res, err := tx.Exec(`UPDATE subject SET extended = MAX(extended, ?1), lease_at = 0 WHERE iss = ?2 AND (?3 = '' OR subject = ?3) AND said_at > 0`,
		ms(until), k.Issuer, k.Subject)
	if err != nil {
		return 0, fmt.Errorf("extend leases: %w", err)
	}
	if n, err = res.RowsAffected(); err != nil {
		return 0, err
	}
	err = each(tx, func(scan func(...any) error) error {
		s, err := scanSubject(scan)
		if err == nil && s.Doc.At(now).Closed {
			n--
		}
		return err
	}, `SELECT `+subjectColumns+` FROM subject WHERE iss = ?1 AND (?2 = '' OR subject = ?2) AND said_at > 0 AND (doc LIKE '%"closings":%' OR doc LIKE '%"end":%')`,
		k.Issuer, k.Subject)
	if err != nil {
		return 0, fmt.Errorf("count whose leases are extended: %w", err)
	}
	return n, nil
}

// ExtendedTo is the time until which the leases that Extend meant for k last at least; zero where there are none.
func ExtendedTo(r Reader, k SubjectKey) (time.Time, error) {
	var least sql.NullInt64
	err := r.QueryRow(`SELECT MIN(extended) FROM subject WHERE iss = ?1 AND (?2 = '' OR subject = ?2) AND said_at > 0`, k.Issuer, k.Subject).Scan(&least)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the extension of leases: %w", err)
	}
	if !least.Valid {
		return time.Time{}, nil
	}
	return time.UnixMilli(least.Int64), nil
}

// Unrenew lets the leases of a person count from no later than a time, and last at least until another: what renewed
// them since is nobody's word.
func Unrenew(tx *store.Tx, k SubjectKey, from, until time.Time) error {
	_, err := tx.Exec(`UPDATE subject SET said_at = MIN(said_at, ?1), extended = MAX(extended, ?2), lease_at = 0 WHERE iss = ?3 AND subject = ?4 AND said_at > 0`,
		ms(from), ms(until), k.Issuer, k.Subject)
	if err != nil {
		return fmt.Errorf("subject %s: count its leases from an earlier word: %w", k.Subject, err)
	}
	return nil
}

// Lapsed lists everybody of an issuer of whom access has lapsed; with a subject only that person.
func Lapsed(r Reader, k SubjectKey) (list []*Subject, err error) {
	err = each(r, func(scan func(...any) error) error {
		s, err := scanSubject(scan)
		if err == nil && s.Doc.Lapse != nil {
			list = append(list, s)
		}
		return err
	}, `SELECT `+subjectColumns+` FROM subject WHERE iss = ?1 AND (?2 = '' OR subject = ?2) AND doc LIKE '%"lapse":%' ORDER BY subject`, k.Issuer, k.Subject)
	if err != nil {
		return nil, fmt.Errorf("read whose access lapsed: %w", err)
	}
	return list, nil
}

// RestoreLeases ends the lapses of leases of a person or, with an empty subject, of everybody of the issuer, and
// makes them due. It returns how many there were.
func RestoreLeases(tx *store.Tx, k SubjectKey, now time.Time) (n int64, err error) {
	list, err := Lapsed(tx, k)
	if err != nil {
		return 0, err
	}
	for _, s := range list {
		if s.Doc.Lapse.Why != fence.WhyLease {
			continue
		}
		s.Doc.Lapse, s.FactAt = s.Doc.Lapse.Before, now
		s.Raise(plan.Give, now, false)
		if err := SaveFacts(tx, s); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
