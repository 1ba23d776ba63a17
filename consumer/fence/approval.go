package fence

import (
	"cmp"
	"slices"
	"time"
)

// maxApprovals bounds what is kept of one person's approvals; the earliest to end goes first, since an approval
// can only give.
const maxApprovals = 128

// Approval is the word of a second person, in a stream of its own: the subject may have a role until Expiry. It says
// nothing else, and nothing else stands in for it.
type Approval struct {
	Stream     string    `json:"stream"`
	Generation int       `json:"g"`
	Seq        uint64    `json:"s"`
	Engagement int       `json:"e"`
	Role       string    `json:"role"`
	Expiry     time.Time `json:"expiry"`
	Doubted    bool      `json:"doubted,omitempty"` // see Doubt; then it is as if it had not come
}

// Approve takes in an approval that came in sequence. Of one stream the last word on a role counts, so an approval
// that ends earlier takes an earlier one back. It never modifies what s points to.
func Approve(s Subject, a Approval) (_ Subject, changed bool) {
	kept := make([]Approval, 0, len(s.Approvals)+1)
	for _, o := range s.Approvals {
		if o.Stream != a.Stream || o.Role != a.Role || o.Engagement != a.Engagement {
			kept = append(kept, o)
			continue
		}
		if !o.Doubted && cmp.Or(cmp.Compare(o.Generation, a.Generation), cmp.Compare(o.Seq, a.Seq)) >= 0 {
			return s, false
		}
	}
	kept = append(kept, a)
	slices.SortFunc(kept, func(a, b Approval) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Engagement, b.Engagement))
	})
	if len(kept) > maxApprovals {
		first := slices.MinFunc(kept, func(a, b Approval) int { return a.Expiry.Compare(b.Expiry) })
		kept = slices.DeleteFunc(kept, func(x Approval) bool { return x == first })
	}
	s.Approvals = kept
	if a.Engagement == s.DesiredFence.Engagement && !slices.ContainsFunc(s.Wants, func(w Want) bool { return s.doubted(w) }) {
		s.Lapse = s.Lapse.giveBack(a.Role)
	}
	return s, true
}

// giveBack is l without a role that an operator took since an approval of it was disowned: a good one came. What else was
// taken waits for its own.
func (l *Lapse) giveBack(role string) *Lapse {
	if l == nil || l.Roles == nil {
		return l
	}
	n := *l
	n.Before = l.Before.giveBack(role)
	if l.Why == WhyDisowned {
		n.Roles = without(l.Roles, func(r string) bool { return r == role })
		if n.Roles == nil {
			return n.Before
		}
	}
	return &n
}

// approved lists the approvals for an engagement.
func (s *Subject) approved(engagement int) (list []Approval) {
	for _, a := range s.Approvals {
		if a.Engagement == engagement && !a.Doubted {
			list = append(list, a)
		}
	}
	return list
}
