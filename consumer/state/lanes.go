package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/internal/store"
)

// Due lists up to limit persons with work in lane at a time, urgent ones first, then the longest due,
// without those of the issuers in except.
func Due(r Reader, lane plan.Lane, at time.Time, limit int, except []string) ([]*Subject, error) {
	return DueBut(r, lane, at, limit, except, nil)
}

// DueUntried is Due without those whose work has failed since the last fact about them.
func DueUntried(r Reader, lane plan.Lane, at time.Time, limit int, except []string) ([]*Subject, error) {
	return listDue(r, lane, at, limit, `attempts = 0`, except, nil)
}

// DueUnsure is Due of the lane of gives without those who are sure to count against the limits: see [CountGives].
func DueUnsure(r Reader, at time.Time, limit int, except []string) ([]*Subject, error) {
	return listDue(r, plan.Give, at, limit, `NOT (`+sure+` AND counted <> rev AND note NOT LIKE 'released:%')`, except, nil)
}

// DueBut is Due without those whom pass says to pass over; nil passes over nobody.
func DueBut(r Reader, lane plan.Lane, at time.Time, limit int, except []string, pass func(*Subject) bool) ([]*Subject, error) {
	return listDue(r, lane, at, limit, `TRUE`, except, pass)
}

func listDue(r Reader, lane plan.Lane, at time.Time, limit int, where string, except []string, pass func(*Subject) bool) (list []*Subject, err error) {
	most := limit
	if pass != nil {
		most = -1 // no limit: how many are passed over is not known
	}
	err = eachDue(r, lane, at, most, where, except, func(s *Subject) error {
		if pass != nil && pass(s) {
			return nil
		}
		if list = append(list, s); len(list) == limit {
			return errEnough
		}
		return nil
	})
	return list, err
}

func eachDue(r Reader, lane plan.Lane, at time.Time, most int, where string, except []string, f func(*Subject) error) error {
	skip, err := json.Marshal(append([]string{}, except...))
	if err != nil {
		return err
	}
	for urgent := 1; urgent >= 0; urgent-- { // apart: so each follows the index and sorts nothing
		err := each(r, func(scan func(...any) error) error {
			s, err := scanSubject(scan)
			if err != nil {
				return err
			}
			return f(s)
		}, `SELECT `+subjectColumns+` FROM subject WHERE lane = ? AND lane > 0 AND urgent = ? AND due <= ? AND `+where+`
			AND iss NOT IN (SELECT value FROM json_each(?)) ORDER BY due LIMIT ?`, int64(lane), urgent, ms(at), string(skip), most)
		if err == errEnough {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list due work: %w", err)
		}
	}
	return nil
}

// errEnough ends a reading that has what it looked for.
var errEnough = errors.New("enough")

// Unsifted lists up to limit persons who are due to be given something, and of whom nobody has judged since the last fact
// whether they lose something by the same word; see [Sift]. It leaves out those of the issuers in except.
func Unsifted(r Reader, at time.Time, limit int, except []string) (list []*Subject, err error) {
	skip, err := json.Marshal(append([]string{}, except...))
	if err != nil {
		return nil, err
	}
	err = each(r, func(scan func(...any) error) error {
		s, err := scanSubject(scan)
		list = append(list, s)
		return err
	}, `SELECT `+subjectColumns+` FROM subject INDEXED BY subject_unsifted WHERE lane = 4 AND sifted <> rev AND due <= ?
		AND iss NOT IN (SELECT value FROM json_each(?)) LIMIT ?`, ms(at), string(skip), limit)
	if err != nil {
		return nil, fmt.Errorf("list whom nobody has judged: %w", err)
	}
	return list, nil
}

// Sift notes that a person in the lane of gives was judged, and puts whoever takes is true of into the lane of takes. A
// newer fact is judged anew.
func Sift(tx *store.Tx, s *Subject, takes bool) error {
	_, err := tx.Exec(`UPDATE subject SET sifted = rev, lane = IIF(?, ?, lane) WHERE iss = ? AND subject = ? AND rev = ? AND lane = ?`,
		takes, int64(plan.Take), s.Issuer, s.Subject, s.Rev, int64(plan.Give))
	if err != nil {
		return fmt.Errorf("subject %s: note that it was judged: %w", s.Subject, err)
	}
	return nil
}

// AtMostDue counts the persons with work in lane at a time, whoever they are. It reads the index alone, which
// is many times quicker than [CountUncounted], and is never less.
func AtMostDue(r Reader, lane plan.Lane, at time.Time) (n int64, err error) {
	err = r.QueryRow(`SELECT COUNT(*) FROM subject WHERE lane = ? AND lane > 0 AND urgent IN (0, 1) AND due <= ?`, int64(lane), ms(at)).Scan(&n)
	return n, err
}

// uncounted is who of the due in a lane may come to the limits as a further effect: whom no operator has released, and who is
// not among the effects already, since the work is under way or was tried before. A delete follows a cut that was counted,
// and is one all the same.
const uncounted = `(IIF(lane = 3, taken, counted) <> rev OR lane = 6 AND attempts = 0) AND note NOT LIKE 'released:%'`

// bare is of whom there is nothing to cut or to take: no account is known, no look showed one, and none is left of a lost
// database.
const bare = `(lane IN (1, 3) AND account = '' AND lacking <> rev AND NOT EXISTS (SELECT 1 FROM unclaimed))`

// EachUncounted calls f for everybody with work in lane at a time who may come to the limits as a further effect, urgent
// ones first, then the longest due. However many they are, they are read one by one.
func EachUncounted(r Reader, lane plan.Lane, at time.Time, f func(*Subject) error) error {
	return eachDue(r, lane, at, -1, uncounted+` AND NOT `+bare, nil, f)
}

// CountUncounted counts everybody with work in lane at a time whom no operator has released and who is not counted yet.
func CountUncounted(r Reader, lane plan.Lane, at time.Time) (n int64, err error) {
	err = r.QueryRow(`SELECT COUNT(*) FROM subject WHERE lane = ? AND lane > 0 AND due <= ? AND `+uncounted, int64(lane), ms(at)).Scan(&n)
	return n, err
}

// sure says that something is to be given to a person: a look showed so since the last fact, or there is no account that
// they could have it on. While accounts of a lost database are unclaimed anybody may have one.
const sure = `(lacking = rev OR NULLIF(account, '') ->> 'id' IS NULL AND NOT EXISTS (SELECT 1 FROM unclaimed))`

// CountGives is [CountUncounted] of the lane of gives, without those of the issuers in except; of how many it is sure that something is to be given to them is counted
// apart. The others may have all of it.
func CountGives(r Reader, at time.Time, except []string) (n, certain int64, err error) {
	skip, err := json.Marshal(append([]string{}, except...))
	if err != nil {
		return 0, 0, err
	}
	err = r.QueryRow(`SELECT COUNT(*), COALESCE(SUM(`+sure+`), 0) FROM subject WHERE lane = ? AND lane > 0 AND due <= ? AND counted <> rev AND note NOT LIKE 'released:%'
		AND iss NOT IN (SELECT value FROM json_each(?))`, int64(plan.Give), ms(at), string(skip)).Scan(&n, &certain)
	return n, certain, err
}

// firstDue finds, for each lane, the first due date after a time: one statement with one descent of the index for
// each lane and urgency, which is quick however much waits.
const firstDue = `WITH kind (l, u) AS (VALUES (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1), (5, 0), (5, 1), (6, 0), (6, 1))
	SELECT l, (SELECT MIN(due) FROM subject WHERE lane = l AND lane > 0 AND urgent = u AND due > ?) AS first FROM kind WHERE first IS NOT NULL`

func dueAfter(r Reader, after int64) (first [plan.Delete + 1]time.Time, err error) {
	err = each(r, func(scan func(...any) error) error {
		var lane plan.Lane
		var due time.Time
		err := scan(&lane, instant{&due})
		if first[lane].IsZero() || due.Before(first[lane]) {
			first[lane] = due
		}
		return err
	}, firstDue, after)
	return first, err
}

// FirstDue is when the first work of each lane is due, whenever that is; zero where the lane has none.
func FirstDue(r Reader) (first [plan.Delete + 1]time.Time, err error) {
	if first, err = dueAfter(r, math.MinInt64); err != nil {
		return first, fmt.Errorf("find the first due dates: %w", err)
	}
	return first, nil
}

// NextDue is when work that is not due yet will be; zero where none is planned.
func NextDue(r Reader, now time.Time) (next time.Time, err error) {
	all, err := dueAfter(r, ms(now))
	if err == nil {
		err = r.QueryRow(`SELECT COALESCE(MIN(next_at), 0) FROM subject WHERE next_at > ? AND next_at > 0`, ms(now)).Scan(instant{&all[plan.Idle]})
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("find the next due date: %w", err)
	}
	for _, due := range all {
		if !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next, nil
}

// Backlog counts everyone with work by lane: what is due, waits behind a hold of many or is tried again, and apart from
// it what is only planned for a date. Whoever a rule about the tenant holds is only looked at again, in a lane that says
// nothing of what waits: the hold tells of them.
func Backlog(r Reader, now time.Time) (waiting, planned map[plan.Lane]int64, err error) {
	waiting, planned = map[plan.Lane]int64{}, map[plan.Lane]int64{}
	err = each(r, func(scan func(...any) error) error {
		var lane plan.Lane
		var later bool
		var n int64
		err := scan(&lane, &later, &n)
		if later {
			planned[lane] = n
		} else {
			waiting[lane] = n
		}
		return err
	}, `SELECT lane, due > ?1 AND note = '' AS later, COUNT(*) FROM subject WHERE lane > 0
		AND NOT (due > ?1 AND attempts = 0 AND note <> '' AND note NOT LIKE 'held:%' AND note NOT LIKE 'released:%') GROUP BY lane, later`, ms(now))
	return waiting, planned, err
}

// Never is the due date of what only an operator lets happen.
var Never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// A group of persons that is held or released together bears a note: heldNote or releasedNote with the
// id of the hold. A new fact about a person takes the note off, and the person is judged anew.
func heldNote(id int64) string     { return fmt.Sprintf("held:%d", id) }
func releasedNote(id int64) string { return fmt.Sprintf("released:%d", id) }

// releasedByHand is the note on what an operator does, and no hold keeps.
const releasedByHand = "released:operator"

// Released reports whether a row's note says that an operator or the end of a hold let it through.
func (s *Subject) Released() bool { return strings.HasPrefix(s.Note, "released:") }

// Held reports whether a row's note says that it waits behind a hold of many.
func (s *Subject) Held() bool { return strings.HasPrefix(s.Note, "held:") }

// HoldLane puts the due work of lane behind the hold with this id until a time: all of it but what was
// released or counted before.
func HoldLane(tx *store.Tx, id int64, lane plan.Lane, at, until time.Time) error {
	_, err := tx.Exec(`UPDATE subject SET due = ?, note = ? WHERE lane = ? AND lane > 0 AND due <= ? AND `+uncounted,
		ms(until), heldNote(id), int64(lane), ms(at))
	if err != nil {
		return fmt.Errorf("hold the work of lane %s: %w", lane, err)
	}
	return nil
}

// By is until when what a lane takes from the person waits behind holds at most; zero: it has not waited yet. A newer fact
// leaves it as it is while there is something to be taken, or whoever is spoken of often enough would keep access for ever.
func (s *Subject) By(lane plan.Lane) time.Time {
	switch lane {
	case plan.Disable:
		return s.CutBy
	case plan.Take:
		return s.TakeBy
	}
	return time.Time{}
}

// Waited reports whether that time is over: then nothing holds it again.
func (s *Subject) Waited(lane plan.Lane, now time.Time) bool {
	by := s.By(lane)
	return !by.IsZero() && !by.After(now)
}

// byOf is the column of [Subject.By].
func byOf(lane plan.Lane) string {
	if lane == plan.Disable {
		return "cut_by"
	}
	return "take_by"
}

// HoldRow puts what is due to be taken from one person in lane behind the hold with this id until a time, which is no later
// than [Subject.By].
func HoldRow(tx *store.Tx, id int64, k SubjectKey, lane plan.Lane, until time.Time) error {
	_, err := tx.Exec(`UPDATE subject SET due = ?1, note = ?2, `+byOf(lane)+` = ?1 WHERE iss = ?3 AND subject = ?4 AND lane = ?5 AND note NOT LIKE 'released:%'`,
		ms(until), heldNote(id), k.Issuer, k.Subject, int64(lane))
	if err != nil {
		return fmt.Errorf("subject %s: hold: %w", k.Subject, err)
	}
	return nil
}

// HoldPerson puts one person, whatever waits, into lane and behind the hold with this id until a time, as HoldRow does. Who
// waits behind another hold of what is taken stays there.
func HoldPerson(tx *store.Tx, id int64, k SubjectKey, lane plan.Lane, until time.Time) error {
	_, err := tx.Exec(`UPDATE subject SET rev = rev + 1, lane = ?1, due = ?2, attempts = 0, note = ?3, `+byOf(lane)+` = ?2 WHERE iss = ?4 AND subject = ?5 AND (note NOT LIKE 'held:%' OR lane = 4)`,
		int64(lane), ms(until), heldNote(id), k.Issuer, k.Subject)
	if err != nil {
		return fmt.Errorf("subject %s: hold: %w", k.Subject, err)
	}
	return nil
}

// HeldBack counts, by the hold's id, the persons who wait behind each hold of many.
func HeldBack(r Reader) (map[int64]int64, error) {
	waiting := map[int64]int64{}
	err := each(r, func(scan func(...any) error) error {
		var id, n int64
		err := scan(&id, &n)
		waiting[id] = n
		return err
	}, `SELECT CAST(SUBSTR(note, 6) AS INTEGER), COUNT(*) FROM subject WHERE lane > 0 AND note LIKE 'held:%' GROUP BY note`)
	if err != nil {
		return nil, fmt.Errorf("count who waits behind holds: %w", err)
	}
	return waiting, nil
}

// Behind is who waits behind the hold with this id.
func Behind(r Reader, id int64) (map[SubjectKey]bool, error) {
	who := map[SubjectKey]bool{}
	err := each(r, func(scan func(...any) error) error {
		var k SubjectKey
		err := scan(&k.Issuer, &k.Subject)
		who[k] = true
		return err
	}, `SELECT iss, subject FROM subject WHERE lane > 0 AND note = ?`, heldNote(id))
	if err != nil {
		return nil, fmt.Errorf("hold %d: read who waits: %w", id, err)
	}
	return who, nil
}

// LetThrough makes what waits behind a hold due now.
func LetThrough(tx *store.Tx, id int64, now time.Time) error {
	_, err := tx.Exec(`UPDATE subject SET due = ?, note = ? WHERE note = ?`, ms(now), releasedNote(id), heldNote(id))
	return err
}

// WakeInterrupted makes a person due now whose last work has no outcome. One who is idle goes into the
// lane of gives, the last before anything final: the executor looks before it plans.
func WakeInterrupted(tx *store.Tx, k SubjectKey, now time.Time) error {
	_, err := tx.Exec(`UPDATE subject SET due = MIN(IIF(lane = 0, ?1, due), ?1), lane = IIF(lane = 0, ?2, lane) WHERE iss = ?3 AND subject = ?4`,
		ms(now), int64(plan.Give), k.Issuer, k.Subject)
	return err
}

// AwaitManager notes that a person's manager has no account yet.
func AwaitManager(tx *store.Tx, k, manager SubjectKey) error {
	_, err := tx.Exec(`INSERT INTO awaits_manager (iss, manager, subject) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, k.Issuer, manager.Subject, k.Subject)
	return err
}

// WakeReports makes everyone due who waits for this person's account. They were given what they are due
// and counted then: the note lets them past the limits. Of whom operators discarded something waits for that, and a delete for
// its date.
func WakeReports(tx *store.Tx, manager SubjectKey, now time.Time) error {
	var awaited bool // the usual answer is that nobody does
	err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM awaits_manager WHERE iss = ? AND manager = ?)`, manager.Issuer, manager.Subject).Scan(&awaited)
	if err != nil || !awaited {
		return err
	}
	_, err = tx.Exec(`UPDATE subject SET due = IIF(lane = 0, ?1, MIN(due, ?1)), note = IIF(lane = 0, 'released:manager', note), lane = IIF(lane = 0, ?2, lane)
		WHERE iss = ?3 AND lane <> 6 AND note NOT LIKE 'held:%' AND note NOT LIKE 'discarded:%' AND subject IN (SELECT subject FROM awaits_manager WHERE iss = ?3 AND manager = ?4)`,
		ms(now), int64(plan.Give), manager.Issuer, manager.Subject)
	if err != nil {
		return fmt.Errorf("wake the reports of subject %s: %w", manager.Subject, err)
	}
	_, err = tx.Exec(`DELETE FROM awaits_manager WHERE iss = ? AND manager = ?`, manager.Issuer, manager.Subject)
	return err
}

// Overtaken reports whether anything new was said of a person since s was loaded, and moved whether that, or a limit, put the
// work elsewhere or off.
func Overtaken(r Reader, s *Subject) (overtaken, moved bool, err error) {
	err = r.QueryRow(`SELECT rev <> ?, lane <> ? OR due <> ? FROM subject WHERE iss = ? AND subject = ?`, s.Rev, int64(s.Lane), ms(s.Due), s.Issuer, s.Subject).Scan(&overtaken, &moved)
	return overtaken, overtaken || moved, err
}
