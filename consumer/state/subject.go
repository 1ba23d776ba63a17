package state

import (
	"encoding/json"
	"fmt"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// SubjectKey names a person.
type SubjectKey struct{ Issuer, Subject string }

// Subject is everything kept of one person.
type Subject struct {
	SubjectKey
	Doc      fence.Subject
	Rev      int64 // counts the writes of facts, and the dates that came
	Lane     plan.Lane
	Due      time.Time // of the work in Lane
	Urgent   bool
	Attempts int    // failures in a row
	Note     string // code of what it waits for
	FactAt   time.Time
	Account  json.RawMessage // the executor's own; nil where it knows nothing
	Counted  int64           // the Rev whose effect was counted against the limits
	Taken    int64           // the Rev of which roles that are taken were counted
	Lacking  int64           // the Rev for which a look showed that something is to be given, or cut
	SaidAt   time.Time       // iat of the last event or roster that named the person
	Unnamed  bool            // has access, and the last roster does not name the person
	Extended time.Time       // an operator let leases last at least until then
	CutBy    time.Time       // when a cut that holds by limits kept waiting happens at the latest; zero: none does
	TakeBy   time.Time       // the same of roles that are to be taken
}

const subjectColumns = `iss, subject, doc, rev, lane, due, urgent, attempts, note, fact_at, account, counted, taken, lacking, said_at, unnamed, extended, cut_by, take_by, stated_generation, stated_seq`

func scanSubject(scan func(...any) error) (*Subject, error) {
	s := new(Subject)
	var doc, account []byte
	c := &s.Doc.Confirmed
	if err := scan(&s.Issuer, &s.Subject, &doc, &s.Rev, &s.Lane, instant{&s.Due}, &s.Urgent, &s.Attempts, &s.Note, instant{&s.FactAt}, &account, &s.Counted, &s.Taken, &s.Lacking,
		instant{&s.SaidAt}, &s.Unnamed, instant{&s.Extended}, instant{&s.CutBy}, instant{&s.TakeBy}, &c.Generation, &c.Seq); err != nil {
		return nil, err
	}
	if len(account) > 0 {
		s.Account = account
	}
	if err := json.Unmarshal(doc, &s.Doc); err != nil {
		return nil, fmt.Errorf("subject %s: read its facts: %w", s.Subject, err)
	}
	for _, w := range s.Doc.Wants {
		if !w.Doubted { // a roster confirmed none that was disowned since
			c.Engagement = w.Engagement
		}
	}
	if c.Engagement == 0 || c.Generation == 0 {
		*c = fence.Position{}
	}
	return s, nil
}

// LoadSubject returns one person; nil where nothing was ever said.
func LoadSubject(r Reader, k SubjectKey) (*Subject, error) {
	row := r.QueryRow(`SELECT `+subjectColumns+` FROM subject WHERE iss = ? AND subject = ?`, k.Issuer, k.Subject)
	s, err := scanSubject(row.Scan)
	if ok, err := found(err); !ok {
		return nil, err
	}
	return s, nil
}

// LoadSubjects returns those of the named persons of one issuer of whom anything was said.
func LoadSubjects(r Reader, iss string, ids []string) (map[string]*Subject, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	m := make(map[string]*Subject, len(ids))
	err = each(r, func(scan func(...any) error) error {
		s, err := scanSubject(scan)
		if err == nil {
			m[s.Subject] = s
		}
		return err
	}, `SELECT `+subjectColumns+` FROM subject WHERE iss = ? AND subject IN (SELECT value FROM json_each(?))`, iss, string(list))
	if err != nil {
		return nil, fmt.Errorf("read subjects: %w", err)
	}
	return m, nil
}

// SaveFacts writes what intake changes: the facts, and the lane where it rose. It counts Rev up. An operator's cut that is not
// done yet stays let past the limits, whatever is said meanwhile. Who is
// a member of nothing, as far as anything is known, has nothing to lose: there is nothing to sift.
func SaveFacts(tx *store.Tx, s *Subject) error {
	doc, err := json.Marshal(&s.Doc)
	if err != nil {
		return fmt.Errorf("subject %s: %w", s.Subject, err)
	}
	s.Rev++
	s.spare(s.Doc.At(s.FactAt))
	_, err = tx.Exec(`INSERT INTO subject (iss, subject, doc, rev, lane, due, urgent, fact_at, next_at, said_at, unnamed, locked, cut_by, sifted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, IIF(EXISTS (SELECT 1 FROM unclaimed), 0, ?4))
		ON CONFLICT (iss, subject) DO UPDATE SET doc = ?3, rev = ?4, lane = ?5, due = ?6, urgent = ?7, fact_at = ?8, next_at = ?9, said_at = ?10, lease_at = IIF(said_at < ?10, 0, lease_at), unnamed = ?11, locked = ?12, cut_by = ?13, word = x'', attempts = 0, note = IIF(?12 AND note = ?14, note, ''),
			sifted = IIF(NULLIF(account, '') ->> 'groups' IS NULL AND (NULLIF(account, '') ->> 'id' IS NOT NULL OR NOT EXISTS (SELECT 1 FROM unclaimed)), ?4, sifted)`,
		s.Issuer, s.Subject, string(doc), s.Rev, int64(s.Lane), ms(s.Due), s.Urgent, ms(s.FactAt), ms(s.Doc.Next(s.FactAt)), ms(s.SaidAt), s.Unnamed, s.Doc.Lock != nil, ms(s.CutBy), releasedByHand)
	if err != nil {
		return fmt.Errorf("subject %s: save its facts: %w", s.Subject, err)
	}
	return nil
}

// Raise puts a person into a lane now, unless the lane that stands goes first anyway.
func (s *Subject) Raise(lane plan.Lane, due time.Time, urgent bool) {
	if lane == plan.Idle {
		if s.Held() && due.Before(s.Due) { // what a fact leaves is judged anew, and not behind the hold of before
			s.Due = due
		}
		return
	}
	switch {
	case s.Lane == plan.Idle || lane < s.Lane:
		s.Lane, s.Due, s.Urgent = lane, due, urgent
	case lane == s.Lane:
		s.Urgent = s.Urgent || urgent
		if due.Before(s.Due) {
			s.Due = due
		}
	case due.Before(s.Due): // a lower lane that waits for its date must not make this one wait
		s.Due = due
	}
}

// Follow puts a person into the lane of the work that a fact leads to, which s.Doc has taken in by now; before is the view
// without it. It is the view that counts and not the kind of the fact: a start or an end can take access as a leaver does.
func (s *Subject) Follow(r Reader, before fence.View, f fence.Fact, now time.Time) error {
	after := s.Doc.At(now)
	s.spare(after) // also where the next fact of the same transaction cuts again
	owed, err := s.owed(r, after)
	if err != nil {
		return err
	}
	lane := plan.Between(before, after, owed)
	if lane == plan.Give && (f.Kind.Cuts() || f.Kind == schema.KindMover || !f.Sequenced) {
		lane = plan.Take // it gives nothing, or may take by more than names
	}
	s.Raise(lane, now, f.Urgent)
	return nil
}

// spare is told of a view of the person: whoever is not to be cut waits for no cut, and the wait for the next one begins
// afresh.
func (s *Subject) spare(v fence.View) {
	if v.Access || v.Why == fence.WhyUnknown {
		s.CutBy = time.Time{}
	}
}

// owed reports whether a person who has no access may have an open account. Then a cut is owed, whatever said so first: a
// leaver whose cut is not done yet, or of before a recovery, a next engagement that is ahead, a start that was put off.
func (s *Subject) owed(r Reader, v fence.View) (bool, error) {
	if v.Access || v.Why == fence.WhyUnknown {
		return false, nil
	}
	known, err := s.Known()
	if err != nil {
		return true, nil // the work on the person fails, and says so
	}
	if known.MayBeOpen() || known.ID != "" {
		return known.MayBeOpen(), nil
	}
	return Bears(r, directory.Mark(s.Issuer, s.Subject))
}

// Known is what the executor knows of the person's account.
func (s *Subject) Known() (known plan.Known, err error) {
	if len(s.Account) == 0 {
		return known, nil
	}
	if err := json.Unmarshal(s.Account, &known); err != nil {
		return known, fmt.Errorf("subject %s: read what is known of its account: %w", s.Subject, err)
	}
	return known, nil
}

// Work is what the executor found out.
type Work struct {
	Lane     plan.Lane
	Due      time.Time
	Urgent   bool
	Attempts int
	Note     string
	Account  json.RawMessage
	NoCut    bool // nothing is left to be cut: what waited for it waits no more
	NoTake   bool // the same of roles
}

// Settle writes what the executor learned of the person it loaded at rev. The account is always
// written, the lane only if no fact came meanwhile: then current is false, and the lane that the fact
// left stands.
func Settle(tx *store.Tx, k SubjectKey, rev int64, w Work) (current bool, err error) {
	res, err := tx.Exec(`UPDATE subject SET account = ?3,
		lane = IIF(rev = ?4, ?5, lane), due = IIF(rev = ?4, ?6, due), urgent = IIF(rev = ?4, ?7, urgent),
		attempts = IIF(rev = ?4, ?8, attempts), note = IIF(rev = ?4, ?9, note),
		cut_by = IIF(rev = ?4 AND ?10, 0, cut_by), take_by = IIF(rev = ?4 AND ?11, 0, take_by) WHERE iss = ?1 AND subject = ?2`,
		k.Issuer, k.Subject, string(w.Account), rev, int64(w.Lane), ms(w.Due), w.Urgent, w.Attempts, w.Note, w.NoCut, w.NoTake)
	if err != nil {
		return false, fmt.Errorf("subject %s: save its account: %w", k.Subject, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return false, fmt.Errorf("subject %s: %w", k.Subject, ErrNotFound)
	}
	err = tx.QueryRow(`SELECT rev = ?3 FROM subject WHERE iss = ?1 AND subject = ?2`, k.Issuer, k.Subject, rev).Scan(&current)
	return current, err
}

// Shown notes the lane that a run which only observes found for the person it loaded at rev, who stays due: a resumption, say, left the
// lane of the suspension before it. A real run finds its own, and goes first where it is a lower one. Idle is a look, as given.
func Shown(tx *store.Tx, k SubjectKey, rev int64, lane plan.Lane) error {
	if lane == plan.Idle {
		lane = plan.Give
	}
	_, err := tx.Exec(`UPDATE subject SET lane = ?4 WHERE iss = ?1 AND subject = ?2 AND rev = ?3 AND lane < ?4`, k.Issuer, k.Subject, rev, int64(lane))
	return err
}

// SetAccount writes the account alone.
func SetAccount(tx *store.Tx, k SubjectKey, account json.RawMessage) error {
	res, err := tx.Exec(`UPDATE subject SET account = ? WHERE iss = ? AND subject = ?`, string(account), k.Issuer, k.Subject)
	if err != nil {
		return fmt.Errorf("subject %s: save its account: %w", k.Subject, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("subject %s: %w", k.Subject, ErrNotFound)
	}
	return nil
}

// Lock puts an operator's lock on a person, or takes it off with nil, and makes the person due at once
// in the lane given. A person of whom nothing was said gets a row. A lock is let past the limits: whoever
// cuts by hand has decided.
func Lock(tx *store.Tx, k SubjectKey, lock *fence.Lock, lane plan.Lane, now time.Time) error {
	s, err := LoadSubject(tx, k)
	if err != nil {
		return err
	}
	if s == nil {
		s = &Subject{SubjectKey: k}
	}
	s.Doc.Lock = lock
	s.FactAt = now
	s.Raise(lane, now, lock != nil)
	if err := SaveFacts(tx, s); err != nil || lock == nil {
		return err
	}
	_, err = tx.Exec(`UPDATE subject SET note = ? WHERE iss = ? AND subject = ?`, releasedByHand, k.Issuer, k.Subject)
	return err
}

// Locked lists the persons whom operators cut by hand, in the order of their keys.
func Locked(r Reader) (list []*Subject, err error) {
	err = each(r, func(scan func(...any) error) error {
		s, err := scanSubject(scan)
		list = append(list, s)
		return err
	}, `SELECT `+subjectColumns+` FROM subject WHERE locked = 1 ORDER BY iss, subject`)
	if err != nil {
		return nil, fmt.Errorf("read who is cut by hand: %w", err)
	}
	return list, nil
}

// EachSubject calls f for every person in the order of their keys, until f returns an error.
func EachSubject(r Reader, f func(*Subject) error) error {
	return each(r, func(scan func(...any) error) error {
		s, err := scanSubject(scan)
		if err != nil {
			return err
		}
		return f(s)
	}, `SELECT `+subjectColumns+` FROM subject ORDER BY iss, subject`)
}
