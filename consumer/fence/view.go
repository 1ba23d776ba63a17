package fence

import (
	"slices"
	"time"
)

// Why names the reason for a person's access or the lack of it. Stable: it goes on the ledger.
type Why string

const (
	WhyUnknown    Why = "unknown"     // nothing was ever said that could give access
	WhyNotStarted Why = "not-started" // the engagement begins later
	WhyActive     Why = "active"
	WhySuspended  Why = "suspended"
	WhyEnded      Why = "ended" // the stated end of the engagement has passed
	WhyLeft       Why = "left"
	WhyLocked     Why = "locked" // an operator of the enclave cut it
)

// View is what the facts say at one instant.
type View struct {
	Access bool
	Why    Why
	// Closed says that the engagement is over for good, since ClosedAt: strip, and delete after grace.
	Closed   bool
	ClosedAt time.Time
	Urgent   bool
	Cause    Position // of the fact that decided
	Want     Want     // the desired state in effect, roles already under the ceilings; zero where unknown
	// Next is when the view changes by itself; zero: only by a new fact.
	Next time.Time
}

// At tells what s says about the instant t.
func (s *Subject) At(t time.Time) View {
	v := View{Why: WhyUnknown, Next: s.Next(t)}
	for _, w := range s.Wants {
		if !w.Effective.After(t) {
			v.Want = w
		}
	}
	v.Want.Roles = s.capped(v.Want, t)
	v.Cause = v.Want.Position
	known := !v.Want.Position.IsZero()

	if c, ok := s.closing(v.Want.Engagement, t); ok {
		v.Why, v.Closed, v.ClosedAt, v.Urgent, v.Cause = WhyLeft, true, c.Effective, c.Urgent, c.Position
		return v
	}
	switch {
	case s.Lock != nil:
		v.Why = WhyLocked
	case !known:
	case !v.Want.End.IsZero() && !t.Before(v.Want.End):
		v.Why, v.Closed, v.ClosedAt = WhyEnded, true, v.Want.End
	case s.suspended(v.Want.Engagement, t, &v):
		v.Why = WhySuspended
	case t.Before(v.Want.Start):
		v.Why = WhyNotStarted
	default:
		v.Why, v.Access = WhyActive, true
	}
	return v
}

// closing finds the earliest closing in effect that covers engagement. Where no desired state is
// known any closing covers it: a leaver of an unknown subject is a tombstone.
func (s *Subject) closing(engagement int, t time.Time) (Closing, bool) {
	var found Closing
	ok, urgent := false, false
	for _, c := range s.Closings {
		if c.Engagement < engagement || c.Effective.After(t) {
			continue
		}
		urgent = urgent || c.Urgent
		if !ok || c.Effective.Before(found.Effective) {
			found, ok = c, true
		}
	}
	found.Urgent = urgent
	return found, ok
}

// suspended covers this engagement and later ones: a suspension of an engagement whose joiner has not
// arrived shows that the present one is over.
func (s *Subject) suspended(engagement int, t time.Time, v *View) bool {
	for _, x := range s.Suspensions {
		if x.Engagement >= engagement && !x.From.After(t) && (x.Until.IsZero() || t.Before(x.Until)) {
			v.Cause = x.Position
			return true
		}
	}
	return false
}

// capped is the roles of w that no ceiling in effect takes away.
func (s *Subject) capped(w Want, t time.Time) []string {
	roles := slices.Clone(w.Roles)
	for _, c := range s.Ceilings {
		if c.Position.Compare(w.Position) > 0 && !c.Effective.After(t) {
			roles = slices.DeleteFunc(roles, func(r string) bool { return !slices.Contains(c.Roles, r) })
		}
	}
	return roles
}

// Next is the earliest instant after t at which something stated takes effect; zero: none.
func (s *Subject) Next(t time.Time) time.Time {
	var first time.Time
	consider := func(x time.Time) {
		if x.After(t) && (first.IsZero() || x.Before(first)) {
			first = x
		}
	}
	for _, w := range s.Wants {
		consider(w.Effective)
		consider(w.Start)
		consider(w.End)
	}
	for _, c := range s.Closings {
		consider(c.Effective)
	}
	for _, x := range s.Suspensions {
		consider(x.From)
		consider(x.Until)
	}
	for _, c := range s.Ceilings {
		consider(c.Effective)
	}
	return first
}
