package fence

import (
	"slices"
	"time"
)

// Why names the reason for a person's access or the lack of it. Stable: it goes on the ledger.
type Why string

const (
	WhyUnknown    Why = "unknown"     // nothing was ever said that could give access, and nothing takes it: nobody is cut for that
	WhyNotStarted Why = "not-started" // the engagement begins later
	WhyActive     Why = "active"
	WhySuspended  Why = "suspended"
	WhyEnded      Why = "ended" // the stated end of the engagement has passed
	WhyLeft       Why = "left"
	WhyLocked     Why = "locked"   // an operator of the enclave cut it
	WhyLease      Why = "lease"    // nothing was heard of the person for as long as access may outlive that
	WhyDisowned   Why = "disowned" // an operator disowned the word that gave it
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
	Want     Want     // the desired state in effect, without the roles that lapsed; zero where unknown
	// Caps are the role names of each later word that is not in sequence. It gives nothing, but only what both
	// it and Want stand for remains: two roles may stand for the same group, so that is not a matter of names.
	Caps [][]string
	// Approvals are those for the engagement of Want, also those that ended.
	Approvals []Approval
	Lapse     *Lapse // by which the enclave took all access or some roles; nil: none
	Doubt     *Doubt // that what gives access rests on; nil: none
	// Next is when the view changes by itself; zero: only by a new fact.
	Next time.Time
}

// Desired is the desired state in effect at t as it was stated, whatever takes from it; zero where unknown.
func (s *Subject) Desired(t time.Time) (last Want) {
	for _, w := range s.Wants {
		if !w.Effective.After(t) {
			last = w
		}
	}
	return last
}

// At tells what s says about the instant t.
func (s *Subject) At(t time.Time) View {
	v := View{Why: WhyUnknown, Next: s.Next(t), Want: s.Desired(t)}
	v.Approvals = s.approved(v.Want.Engagement)
	for _, c := range s.Ceilings {
		if c.Position.Compare(v.Want.Position) > 0 && !c.Effective.After(t) {
			v.Caps = append(v.Caps, c.Roles)
		}
	}
	if l := s.Lapse; l != nil {
		v.Lapse = l
		v.Want.Roles = slices.DeleteFunc(slices.Clone(v.Want.Roles), l.takes)
	}
	if s.doubted(v.Want) {
		v.Doubt = s.Doubt
	}
	v.Cause = v.Want.Position
	// A word that a ledger before this one had has an engagement here and no place: it stands for nothing that could be
	// given or taken, but may be suspended.
	known := v.Want.Generation > 0 || v.Want.Seq > 0

	if c, ok := s.closing(v.Want.Engagement, t); ok {
		v.Why, v.Closed, v.ClosedAt, v.Urgent, v.Cause = WhyLeft, true, c.Effective, c.Urgent, c.Position
		return v
	}
	switch {
	case s.Lock != nil:
		v.Why = WhyLocked
	case !v.Want.End.IsZero() && !t.Before(v.Want.End):
		v.Why, v.Closed, v.ClosedAt = WhyEnded, true, v.Want.End
	case s.suspended(v.Want.Engagement, t, &v):
		v.Why = WhySuspended
	case s.Lapse != nil && s.Lapse.Roles == nil:
		v.Why = s.Lapse.Why
	case !known:
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
// arrived shows that the present one is over. Like a closing, any covers somebody of whom no desired state is known, who
// may have an account of before the enclave knew of them.
func (s *Subject) suspended(engagement int, t time.Time, v *View) bool {
	for _, x := range s.Suspensions {
		if x.Engagement >= engagement && !x.From.After(t) && (x.Until.IsZero() || t.Before(x.Until)) {
			v.Cause = x.Position
			return true
		}
	}
	return false
}

// Within returns those of names that every cap stands for; stands says what a cap's roles stand for.
func (v View) Within(names []string, stands func(roles []string) []string) []string {
	for _, c := range v.Caps {
		in := stands(c)
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(in, n) })
	}
	return names
}

// Roles are those of Want that every cap names too.
func (v View) Roles() []string {
	return v.Within(v.Want.Roles, func(roles []string) []string { return roles })
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
	for _, a := range s.Approvals {
		consider(a.Expiry)
	}
	return first
}
