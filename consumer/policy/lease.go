package policy

import "time"

// Lease is what is left, at one instant, of access that nothing was said about since a time.
type Lease struct {
	Whole bool      // nothing is: the last lease ran out
	Roles []string  // whose leases ran out, while others have not
	End   time.Time // when the next one of the others does; zero where Whole
}

// Lease tells what is left of a person's roles at now. said is when the last event or roster that named the
// person was issued; extended, where it is not zero, lets every lease last at least until then. Someone
// without roles has the lease of the policy, and access outlives no role's lease.
func (p *Policy) Lease(roles []string, said, extended, now time.Time) Lease {
	var l Lease
	consider := func(role string, length time.Duration) {
		end := said.Add(length)
		if extended.After(end) {
			end = extended
		}
		switch {
		case end.After(now):
			if l.End.IsZero() || end.Before(l.End) {
				l.End = end
			}
		case role != "":
			l.Roles = append(l.Roles, role)
		}
	}
	if len(roles) == 0 {
		consider("", time.Duration(p.LeaseLength))
	}
	for _, r := range roles {
		consider(r, p.leaseOf(r))
	}
	if l.End.IsZero() {
		return Lease{Whole: true}
	}
	return l
}

func (p *Policy) leaseOf(role string) time.Duration {
	if r, ok := p.Roles[role]; ok && r.LeaseLength > 0 {
		return time.Duration(r.LeaseLength)
	}
	return time.Duration(p.LeaseLength)
}

// ShortestLease is the shortest of the policy's leases.
func (p *Policy) ShortestLease() time.Duration {
	d := time.Duration(p.LeaseLength)
	for name := range p.Roles {
		d = min(d, p.leaseOf(name))
	}
	return d
}
