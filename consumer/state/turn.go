package state

import (
	"fmt"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/internal/store"
)

// Turning reports whether a date has come at which what was said of somebody takes effect.
func Turning(r Reader, now time.Time) (yes bool, err error) {
	err = r.QueryRow(`SELECT EXISTS (SELECT 1 FROM subject WHERE next_at > 0 AND next_at <= ?)`, ms(now)).Scan(&yes)
	return yes, err
}

// Turn makes up to limit persons due for whom such a date has come, as if the fact came now. Whatever else
// waits for them, is held or was discarded must not hide that: a leaver stated for a date happens on it.
// Only a cut that is held already is left to its hold, which ends by itself soon.
func Turn(tx *store.Tx, now time.Time, limit int) error {
	var list []*Subject
	err := each(tx, func(scan func(...any) error) error {
		s, err := scanSubject(scan)
		list = append(list, s)
		return err
	}, `SELECT `+subjectColumns+` FROM subject WHERE next_at > 0 AND next_at <= ? ORDER BY next_at LIMIT ?`, ms(now), limit)
	if err != nil {
		return fmt.Errorf("read whose date has come: %w", err)
	}
	for _, s := range list {
		next := s.Doc.Next(now)
		v := s.Doc.At(now)
		if !v.Access && s.Lane == plan.Disable && s.Due.After(now) && s.Held() {
			if next.IsZero() || s.Due.Before(next) {
				next = s.Due // it may have been discarded by then
			}
			if _, err := tx.Exec(`UPDATE subject SET next_at = ? WHERE iss = ? AND subject = ?`, ms(next), s.Issuer, s.Subject); err != nil {
				return fmt.Errorf("subject %s: %w", s.Subject, err)
			}
			continue
		}
		lane := plan.Take
		if !v.Access {
			lane = plan.Disable
		}
		s.Raise(lane, now, v.Urgent)
		s.spare(v)
		_, err := tx.Exec(`UPDATE subject SET rev = rev + 1, lane = ?, due = ?, urgent = ?, attempts = 0, note = IIF(locked AND note = ?, note, ''), next_at = ?, cut_by = ? WHERE iss = ? AND subject = ?`,
			int64(s.Lane), ms(s.Due), s.Urgent, releasedByHand, ms(next), ms(s.CutBy), s.Issuer, s.Subject)
		if err != nil {
			return fmt.Errorf("subject %s: make it due: %w", s.Subject, err)
		}
	}
	return nil
}

// LookAgain makes due whoever is to have no access and is held by something in the tenant, which is looked at once in a while.
func LookAgain(tx *store.Tx, now time.Time) error {
	_, err := tx.Exec(`UPDATE subject SET due = ?1 WHERE lane = ?2 AND due > ?1 AND attempts = 0 AND note <> ''
		AND note NOT LIKE 'held:%' AND note NOT LIKE 'released:%' AND note NOT LIKE 'discarded:%'`, ms(now), int64(plan.Strip))
	if err != nil {
		return fmt.Errorf("look again at who is held: %w", err)
	}
	return nil
}

// DeleteAt puts a delete that is planned to another date; zero: it is planned no more.
func DeleteAt(tx *store.Tx, k SubjectKey, at time.Time) error {
	lane := plan.Delete
	if at.IsZero() {
		lane = plan.Idle
	}
	if _, err := tx.Exec(`UPDATE subject SET lane = ?, due = ? WHERE iss = ? AND subject = ?`, int64(lane), ms(at), k.Issuer, k.Subject); err != nil {
		return fmt.Errorf("subject %s: put the delete to another date: %w", k.Subject, err)
	}
	return nil
}

// Redate waits anew for every date that is still to come and looks anew at every lease, by a clock that was put right.
func Redate(tx *store.Tx, now time.Time) error {
	dates := map[SubjectKey]time.Time{}
	err := EachSubject(tx, func(s *Subject) error {
		if next := s.Doc.Next(now); !next.IsZero() {
			dates[s.SubjectKey] = next
		}
		return nil
	})
	for k, next := range dates {
		if err == nil {
			_, err = tx.Exec(`UPDATE subject SET next_at = ? WHERE iss = ? AND subject = ?`, ms(next), k.Issuer, k.Subject)
		}
	}
	if err != nil {
		return fmt.Errorf("wait anew for dates: %w", err)
	}
	return LookAtLeases(tx)
}

// BringForward keeps, after the clock went back by -offset, how long what is tried again, waits behind a hold or was discarded
// has still to wait, and how long ago the effects were that count against limits. What was due by the clock of before is
// due: whoever looks finds the date that it may have to wait for. A delete keeps its date, for all that is due comes to its limit.
func BringForward(tx *store.Tx, offset time.Duration, now time.Time) error {
	_, err := tx.Exec(`UPDATE subject SET due = MAX(?1, due + ?2) WHERE lane > 0 AND due > ?1 AND due < ?3 AND (attempts > 0 OR note LIKE 'held:%')`,
		ms(now), offset.Milliseconds(), ms(Never))
	if err == nil {
		_, err = tx.Exec(`UPDATE subject SET due = ?1 WHERE lane > 0 AND lane <> 6 AND due > ?1 AND due <= ?2 AND attempts = 0 AND note NOT LIKE 'held:%'`, ms(now), ms(now.Add(-offset)))
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE hold SET expires = MAX(?1, expires + ?2) WHERE state = 'open' AND expires > ?1`, ms(now), offset.Milliseconds())
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE hold SET lapses = MAX(?1, lapses + ?2) WHERE lapses > ?1`, ms(now), offset.Milliseconds())
	}
	for _, by := range []string{"cut_by", "take_by"} {
		if err == nil {
			_, err = tx.Exec(`UPDATE subject SET `+by+` = MAX(?1, `+by+` + ?2) WHERE `+by+` > ?1`, ms(now), offset.Milliseconds())
		}
	}
	if err == nil {
		_, err = tx.Exec(`INSERT INTO effect (at, class, n) SELECT MIN(?1, at + ?2) / ?3 * ?3, class, n FROM effect WHERE at > ?1
			ON CONFLICT (at, class) DO UPDATE SET n = n + excluded.n`, ms(now), offset.Milliseconds(), time.Minute.Milliseconds())
	}
	if err == nil {
		_, err = tx.Exec(`DELETE FROM effect WHERE at > ?`, ms(now))
	}
	if err != nil {
		return fmt.Errorf("bring what waits forward: %w", err)
	}
	return nil
}

// Wake makes a person due in a lane, as if a fact came now; what waits behind a hold of many is left to it, but for what is
// to be given where something is to be taken: that hold may stand without end.
func Wake(tx *store.Tx, k SubjectKey, lane plan.Lane, now time.Time) error {
	s, err := LoadSubject(tx, k)
	if err != nil || s == nil || s.Held() && (lane != plan.Take || s.Lane != plan.Give) {
		return err
	}
	if s.Held() {
		s.Note = ""
	}
	s.Raise(lane, now, false)
	_, err = tx.Exec(`UPDATE subject SET rev = rev + 1, lane = ?, due = ?, attempts = 0, note = ? WHERE iss = ? AND subject = ?`, int64(s.Lane), ms(s.Due), s.Note, k.Issuer, k.Subject)
	if err != nil {
		return fmt.Errorf("subject %s: make it due: %w", k.Subject, err)
	}
	return nil
}

// TakenOnce notes that the roles which are taken from a person now were counted against the limits.
func TakenOnce(tx *store.Tx, k SubjectKey, rev int64) error {
	_, err := tx.Exec(`UPDATE subject SET taken = ? WHERE iss = ? AND subject = ?`, rev, k.Issuer, k.Subject)
	return err
}

// Lacks notes that a look showed somebody to lack something of what is to be given, or to have what is to be cut.
func Lacks(tx *store.Tx, k SubjectKey, rev int64) error {
	_, err := tx.Exec(`UPDATE subject SET lacking = ? WHERE iss = ? AND subject = ?`, rev, k.Issuer, k.Subject)
	return err
}

// CountOnce notes that the effect of what is due for a person now was counted against the limits.
func CountOnce(tx *store.Tx, k SubjectKey, rev int64) error {
	_, err := tx.Exec(`UPDATE subject SET counted = ? WHERE iss = ? AND subject = ?`, rev, k.Issuer, k.Subject)
	return err
}
