package model

import (
	"slices"
	"time"

	"jmlbridge/schema"
)

// Access is what a person may have at one instant.
type Access struct {
	Open     bool
	Groups   []string // sorted; empty where not Open
	Spare    []string // may be kept and be taken, and not be given: of roles that nobody approved since a database was lost
	Known    bool     // a joiner came in sequence
	Closed   bool     // the engagement is over for good
	ClosedAt time.Time
	Why      string
}

// At says what the person may have at t.
func (m *Model) At(subject string, t time.Time, v View) Access {
	all := m.about(subject, v)
	in := func(s said) bool { return !s.effective.After(t) }

	// The last word in sequence on what the person is to have.
	var last *said
	var roles []string
	var start, end time.Time
	for i, s := range all {
		r, from, to, ok := desired(s.event)
		if ok && s.sequenced && in(s) && (last == nil || s.after(last.place)) {
			last, roles, start, end = &all[i], r, from, to
		}
	}
	a := Access{Known: last != nil}
	n := 0
	var at place
	if last != nil {
		n, at = last.engagement, last.place
	} else if v.Returned {
		n = m.wasIn(subject)
	}
	for _, s := range all {
		if l, ok := s.event.(*schema.Leaver); ok && l.Engagement >= n && in(s) && (!a.Closed || s.effective.Before(a.ClosedAt)) {
			a.Closed, a.ClosedAt, a.Why = true, s.effective, "left"
		}
	}
	switch {
	case a.Closed:
		if !end.IsZero() && end.Before(a.ClosedAt) {
			a.ClosedAt = end // it was over by its own end
		}
		return a
	case m.locked[subject]:
		a.Why = "locked"
		return a
	case last == nil && m.past != nil && suspended(all, 0, t, v):
		a.Why = "unknown, and suspended"
		return a
	case last == nil && m.undone[subject]:
		a.Why = "disowned"
		return a
	case last == nil:
		a.Why = "unknown"
		return a
	case !end.IsZero() && !t.Before(end):
		a.Closed, a.ClosedAt, a.Why = true, end, "ended"
		return a
	case suspended(all, n, t, v):
		a.Why = "suspended"
		return a
	case m.lapsed(all, t):
		a.Why = "lease"
		return a
	case t.Before(start):
		a.Why = "not started"
		return a
	}
	// A later word that is not in sequence can only take: what it does not stand for itself.
	good, spare := m.approved(subject, n, roles, t)
	a.Open, a.Why, a.Groups, a.Spare = true, "active", m.GroupsOf(good), m.GroupsOf(spare)
	for _, s := range all {
		if r, _, _, ok := desired(s.event); ok && !s.sequenced && !s.gave && !(s.over && v.Overtaken) && in(s) && (s.after(at) || !s.opened && s.generation > m.latest) {
			in := m.GroupsOf(r)
			not := func(x string) bool { return !slices.Contains(in, x) }
			a.Groups, a.Spare = slices.DeleteFunc(a.Groups, not), slices.DeleteFunc(a.Spare, not)
		}
	}
	return a
}

// approved sorts roles: those that may be given, and those that want a second signer's word and had none for this
// engagement since a database was lost, with which it may be forgotten who had it. What had it until a date is neither
// from then on.
func (m *Model) approved(subject string, engagement int, roles []string, t time.Time) (good, spare []string) {
	for _, role := range roles {
		if !slices.Contains(m.wanting, role) {
			good = append(good, role)
			continue
		}
		var last uint64
		var until time.Time
		for seq, list := range m.second.came {
			e := list[0].Event.(*schema.Approval)
			if list[0].Subject == subject && e.Engagement == engagement && slices.Contains(e.Roles, role) && m.second.placed[seq] && seq > last {
				last, until = seq, e.Expiry.Time()
			}
		}
		switch {
		case last == 0 && m.past != nil:
			spare = append(spare, role)
		case t.Before(until):
			good = append(good, role)
		}
	}
	return good, spare
}

// GroupsOf is what roles stand for, sorted.
func (m *Model) GroupsOf(roles []string) (list []string) {
	for _, r := range roles {
		list = append(list, m.groups[r]...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// lapsed tells whether nothing good was said of the person for longer than the lease.
func (m *Model) lapsed(all []said, t time.Time) bool {
	var last time.Time
	for _, s := range all {
		if s.sequenced && s.issued.After(last) {
			last = s.issued
		}
	}
	return m.lease > 0 && !last.IsZero() && !t.Before(last.Add(m.lease))
}
