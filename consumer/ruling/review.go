package ruling

import (
	"errors"
	"slices"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Actions of an operator on grants in question; they stand on the ledger.
const (
	ActionUndo = "undo" // take back what was given
	ActionKeep = "keep" // let it stand
)

// Undo takes back what was given to persons of a hold on a word that was disowned: the account that was opened is
// disabled, the roles by which groups were added are taken, through the lanes and limits of all cuts. Without
// names it is everybody in the hold. Of whom a good word has come since, that one counts. It returns of how many.
func Undo(tx *store.Tx, id int64, shown schema.Digest, only []string, pol *policy.Policy, by state.By) (int, error) {
	return decide(tx, id, shown, only, ActionUndo, by, func(s *state.Subject, p Person, index int64) {
		var roles []string
		for _, r := range s.Doc.Desired(by.Now).Roles {
			ids, _ := pol.GroupsOf([]string{r})
			if slices.ContainsFunc(ids, func(g string) bool { return slices.Contains(p.Groups, g) }) {
				roles = append(roles, r)
			}
		}
		switch {
		case p.Opened:
			s.Doc = fence.Deny(s.Doc, index, by.Now.UTC(), nil)
			s.Raise(plan.Disable, by.Now, false)
		case len(roles) > 0:
			s.Doc = fence.Deny(s.Doc, index, by.Now.UTC(), roles)
			s.Raise(plan.Take, by.Now, false)
		default:
			s.Doc = fence.Spare(s.Doc)
		}
	})
}

// Keep lets stand what was given to persons of a hold on a word that was disowned, and lets the word count.
func Keep(tx *store.Tx, id int64, shown schema.Digest, only []string, by state.By) (int, error) {
	return decide(tx, id, shown, only, ActionKeep, by, func(s *state.Subject, _ Person, _ int64) {
		s.Doc = fence.Trust(s.Doc)
		s.Raise(plan.Give, by.Now, false)
	})
}

func decide(tx *store.Tx, id int64, digest schema.Digest, only []string, action string, by state.By, do func(*state.Subject, Person, int64)) (n int, err error) {
	h, err := state.HoldByID(tx, id)
	if errors.Is(err, state.ErrNotFound) {
		return 0, refusef("%v", err)
	}
	if err != nil {
		return 0, err
	}
	shown, ok := ParseShown(h)
	switch {
	case !ok:
		return 0, refusef("hold %s (%s) is not about what was given on a word that was disowned", h.Name(), h.Code)
	case h.State != state.HoldOpen:
		return 0, refusef("hold %s has ended", h.Name())
	case h.Digest != digest:
		return 0, refusef("hold %s has digest %s, not the one given; look at it again", h.Name(), h.Digest)
	}
	for _, name := range only {
		if !slices.ContainsFunc(shown.Subjects, func(p Person) bool { return p.Subject == name }) {
			return 0, refusef("subject %s is not in hold %s", name, h.Name())
		}
	}
	for _, p := range shown.Subjects {
		if len(only) > 0 && !slices.Contains(only, p.Subject) {
			continue
		}
		s, open, err := inQuestion(tx, shown.Entry, p, by.Now)
		if err != nil {
			return n, err
		}
		if !open {
			continue
		}
		index, err := ledger.Append(tx, entry.New(by.Now, &entry.Operator{By: by.Login, Action: action, Issuer: p.Issuer, Subject: p.Subject, Engagement: p.Engagement,
			Target: h.Name(), Digest: &h.Digest, Reason: entry.Text(by.Reason)}))
		if err != nil {
			return n, err
		}
		do(s, p, index)
		s.FactAt = by.Now
		if err := state.SaveFacts(tx, s); err != nil {
			return n, err
		}
		n++
	}
	if n == 0 {
		return 0, refusef("nothing of hold %s is in question any more for them: a good word came, or it was decided", h.Name())
	}
	return n, end(tx, h, shown, by.Now)
}

// inQuestion loads a person of a hold; open tells whether there is anything to decide.
func inQuestion(r state.Reader, ruled int64, p Person, now time.Time) (s *state.Subject, open bool, err error) {
	s, err = state.LoadSubject(r, state.SubjectKey{Issuer: p.Issuer, Subject: p.Subject})
	if err != nil || s == nil {
		return nil, false, err
	}
	q := s.Doc.Question(now)
	return s, q != nil && q.Entry == ruled && !q.Denied, nil
}

// end ends a hold of which nobody is in question any more, and lets the alarm say of how many there is something to decide.
func end(tx *store.Tx, h *state.Hold, shown Shown, now time.Time) error {
	open, err := Question(tx, h, now)
	if err != nil {
		return err
	}
	if len(open) > 0 {
		standing, err := state.Alarms(tx)
		if a := inDoubt(h, shown, open, now); err == nil && slices.ContainsFunc(standing, func(s state.Alarm) bool { return s.Code == Code && s.Key == a.Key && s.Text != a.Text }) {
			_, err = state.RaiseAlarm(tx, a)
		}
		return err
	}
	if _, err := state.EndHolds(tx, h.SubjectKey, false, now, Code); err != nil {
		return err
	}
	_, err = state.ClearAlarm(tx, Code, h.Name(), now)
	return err
}

// End ends the holds of which a good word has come about everybody.
func End(tx *store.Tx, now time.Time) error {
	open, err := state.Holds(tx)
	if err != nil {
		return err
	}
	for _, h := range open {
		if shown, ok := ParseShown(h); ok {
			if err := end(tx, h, shown, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// Question lists the persons of a hold of this package of whom there is something to decide.
func Question(r state.Reader, h *state.Hold, now time.Time) (list []Person, err error) {
	shown, _ := ParseShown(h)
	for _, p := range shown.Subjects {
		_, open, err := inQuestion(r, shown.Entry, p, now)
		if err != nil {
			return nil, err
		}
		if open {
			list = append(list, p)
		}
	}
	return list, nil
}
