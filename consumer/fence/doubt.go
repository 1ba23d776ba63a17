package fence

import (
	"slices"
	"time"
)

// Doubt is an operator's ruling that what gave a person access was said by somebody whose word does not count: on
// the losing branch of a fork, or by a stolen key. What was given stays until an operator takes it back or a good
// word comes; nothing more is given on it.
type Doubt struct {
	Entry int64 `json:"entry"` // of the ledger, that says so
	// Denied says that an operator took back what the word had given. Nothing is left to decide.
	Denied bool `json:"denied,omitempty"`
}

// Disown marks what gives access in s and stands at a place that bad names. What takes access away stays as it
// is: a removal is never lost, whoever said it. The fences go back, so that a good word at an earlier place is
// the next one. marked is false where nothing in s rests on such a place. It never modifies what s points to.
func Disown(s Subject, entry int64, bad func(Position) bool) (_ Subject, marked bool) {
	var fence Position
	wants := slices.Clone(s.Wants)
	for i, w := range wants {
		switch {
		case bad(w.Position):
			marked, wants[i].Doubted = true, true
		case w.Position.Compare(fence) > 0:
			fence = w.Position
		}
	}
	if r := s.Resumed; !r.IsZero() && bad(r.Position) {
		// Without its place it ends nothing more, and any good one comes after it.
		s.Resumed = Resumption{Position{Engagement: r.Engagement}, r.Effective, true}
		marked = true
		s.Suspensions = slices.Clone(s.Suspensions)
		for i := range s.Suspensions {
			s.Suspensions[i].Doubted = !s.Suspensions[i].Until.IsZero()
		}
	}
	if !marked {
		return s, false
	}
	s.Wants, s.DesiredFence, s.Doubt = wants, fence, &Doubt{Entry: entry}
	return s, true
}

// Question is the doubt on what s says of access at t and later; nil: there is none, or all access is over.
func (s *Subject) Question(t time.Time) *Doubt {
	last := s.Desired(t)
	if s.Doubt == nil || s.At(t).Closed {
		return nil
	}
	for _, w := range s.Wants {
		if s.doubted(w) && w.Position.Compare(last.Position) >= 0 {
			return s.Doubt
		}
	}
	for _, a := range s.Approvals {
		if a.Doubted && a.Engagement == last.Engagement {
			return s.Doubt
		}
	}
	return nil
}

// Trust takes a doubt back: what was given on the word may stay, and what it says counts. Where an operator took something back by
// an earlier ruling, that stands, and waits for a good word.
func Trust(s Subject) Subject {
	if s.Lapse.disowned() != nil {
		return Spare(s)
	}
	s.Wants = slices.Clone(s.Wants)
	for i := range s.Wants {
		s.Wants[i].Doubted = false
		if p := s.Wants[i].Position; p.Compare(s.DesiredFence) > 0 {
			s.DesiredFence = p
		}
	}
	s.Approvals = slices.Clone(s.Approvals)
	for i := range s.Approvals {
		s.Approvals[i].Doubted = false
	}
	s.Suspensions = slices.Clone(s.Suspensions)
	for i := range s.Suspensions {
		s.Suspensions[i].Doubted = false // else the same suspension, told again, begins anew
	}
	s.Resumed.Doubted, s.Doubt, s.Tainted = false, nil, nil
	return s
}

// DisownApprovals marks the approvals of s that bad names, and returns for which roles they were.
func DisownApprovals(s Subject, entry int64, bad func(Approval) bool) (_ Subject, roles []string) {
	list := slices.Clone(s.Approvals)
	for i, a := range list {
		if bad(a) {
			list[i].Doubted = true
			roles = append(roles, a.Role)
		}
	}
	if len(roles) > 0 {
		s.Approvals, s.Doubt = list, &Doubt{Entry: entry}
	}
	return s, roles
}

// Deny takes back what was given on a word in doubt, from now on: all access, or with roles those. The next good
// word ends that, as entry of the ledger says.
func Deny(s Subject, entry int64, now time.Time, roles []string) Subject {
	if s.Doubt == nil {
		return s
	}
	s.Doubt, s.Tainted = &Doubt{s.Doubt.Entry, true}, nil
	if l := s.Lapse.disowned(); l != nil && roles != nil { // by an earlier ruling, of which no good word came
		if l.Roles == nil {
			roles = nil
		} else {
			roles = slices.Compact(slices.Sorted(slices.Values(slices.Concat(l.Roles, roles))))
		}
	}
	s.Lapse = &Lapse{Why: WhyDisowned, At: now, Entry: entry, Roles: roles}
	return s
}

// disowned is what an operator took back of it; nil: nothing.
func (l *Lapse) disowned() *Lapse {
	for l != nil && l.Why != WhyDisowned {
		l = l.Before
	}
	return l
}

// Spare ends the question of a person to whom nothing was given on a word in doubt: nothing will be.
func Spare(s Subject) Subject {
	if s.Doubt != nil {
		s.Doubt = &Doubt{s.Doubt.Entry, true}
	}
	return s
}

// doubted tells whether what gives access under w rests on a word in doubt.
func (s *Subject) doubted(w Want) bool {
	return w.Doubted || s.Resumed.Doubted && s.Resumed.Engagement >= w.Engagement // as suspensions reach
}
