package model

import (
	"cmp"
	"slices"
	"time"

	"jmlbridge/schema"
)

// place orders what is said of one person: by engagement, then generation, then number.
type place struct {
	engagement, generation int
	seq                    uint64
}

func (p place) after(q place) bool {
	return cmp.Or(cmp.Compare(p.engagement, q.engagement), cmp.Compare(p.generation, q.generation), cmp.Compare(p.seq, q.seq)) > 0
}

// said is one statement about a person.
type said struct {
	place
	event     any // a schema.Event, or stated
	effective time.Time
	sequenced bool // everything before it came, or a roster states it: it may give
	opened    bool // of a generation that an operator opened
	gave      bool // it was in its place, and then an operator ruled that it is not of the chain
	out       bool // an operator ruled that it is not of the chain
	over      bool // and a roster, of which the same was ruled, had overtaken it
	issued    time.Time
}

// stated is what a roster says of a live engagement: the last word up to its head.
type stated struct{ *schema.LiveEngagement }

// View says which of two things to go by where both are good.
type View struct {
	// Pending: with what whole rosters say that are not taken in yet.
	Pending bool
	// Unopened: with what suspends, and what movers take, in a generation that nobody opened yet. Its place among
	// what the followed one says is known only when somebody does. (A leaver counts in any case.)
	Unopened bool
	// Forgotten: with Unopened, but for what a database knew of it that was lost since.
	Forgotten bool
	// Returned: of a database that was lost it is known in which engagement a person was last, though not with what: a leaver
	// of an earlier one says nothing of it.
	Returned bool
	// Disowned: with what was in its place until an operator ruled that it is not of the chain. It is a reason to
	// leave somebody what he has, and none to give.
	Disowned bool
	// Ended: with a suspension of a branch that was ruled out as over, where that branch ended it too and the chosen one has
	// the person as active. The numbers of two branches do not tell which of their words came later.
	Ended bool
	// Overtaken: without what a mover of a branch that was ruled out would take, where that branch's roster had overtaken it.
	// It was of the roster's word by then, and that is not of the chain either.
	Overtaken bool
}

// Views are all of those by which something may be given.
func (m *Model) Views() []View {
	list := []View{{}, {Unopened: true}}
	if m.past != nil {
		list = append(list, View{Unopened: true, Forgotten: true}, View{Returned: true}, View{Unopened: true, Returned: true})
	}
	if m.anyOut() || len(m.ended) > 0 {
		list = append(list, View{Ended: true}, View{Overtaken: true}, View{Unopened: true, Overtaken: true})
	}
	for _, v := range list {
		v.Pending = true
		list = append(list, v)
	}
	return list
}

// anyOut tells whether anything that is remembered was ruled out.
func (m *Model) anyOut() bool {
	for ; m != nil; m = m.past {
		for _, g := range m.generations {
			if len(g.out) > 0 {
				return true
			}
		}
	}
	return false
}

// about lists everything that was said of a person.
func (m *Model) about(subject string, v View) (all []said) {
	if m.past != nil {
		all = m.past.remembered(subject, v)
	}
	add := func(x Message, sequenced, opened bool) {
		p := place{generation: x.Stream.Generation, seq: x.Stream.Seq}
		if h, ok := x.Event.(*schema.Heartbeat); ok && opened {
			for _, c := range h.Cuts {
				if c.Subject != subject || c.Seq >= x.Stream.Seq || m.known[notice{x.Hash, c.Seq}] {
					continue
				}
				at := place{c.Engagement, x.Stream.Generation, c.Seq}
				var e any = &schema.Leaver{Engagement: c.Engagement, Effective: c.Effective}
				if c.Kind == schema.KindSuspend {
					e = &schema.Suspend{Engagement: c.Engagement, Effective: c.Effective}
				}
				all = append(all, said{place: at, event: e, effective: c.Effective.Time(), opened: true})
			}
		}
		if x.Subject != subject || x.Newer && !cuts(x.Event) {
			return
		}
		s := said{place: p, event: x.Event, sequenced: sequenced, opened: opened, issued: x.IssuedAt.Time()}
		switch e := x.Event.(type) {
		case *schema.Joiner:
			s.engagement = e.Engagement
		case *schema.Mover:
			s.engagement, s.effective = e.Engagement, e.Effective.Time()
		case *schema.Leaver:
			s.engagement, s.effective = e.Engagement, e.Effective.Time()
		case *schema.Suspend:
			s.engagement, s.effective = e.Engagement, e.Effective.Time()
		case *schema.Resume:
			s.engagement, s.effective = e.Engagement, e.Effective.Time()
		default:
			return
		}
		all = append(all, s)
	}
	for _, g := range m.generations {
		for seq, list := range g.came {
			for i, x := range list {
				placed := g.placed[seq] && !g.silent[seq] && i == 0
				n, not := len(all), m.Disowned(x)
				add(x, placed && (!not || v.Disowned), true)
				for j := n; not && j < len(all); j++ {
					all[j].gave, all[j].out = placed, true
				}
			}
		}
		for _, x := range g.order {
			if g.refused[x.Hash] && (x.Event.Kind().Cuts() || x.Event.Kind() == schema.KindHeartbeat) {
				add(x, false, true)
			}
			if !g.out[x.Hash] {
				continue
			}
			n := len(all)
			add(x, g.gave[x.Hash] && v.Disowned, true)
			for i := n; i < len(all); i++ {
				all[i].gave, all[i].over, all[i].out = g.gave[x.Hash], g.over[x.Hash], true
			}
		}
	}
	for _, x := range m.remains {
		if x.Event.Kind().Cuts() {
			add(x, false, true)
		}
	}
	for _, x := range m.parked {
		if _, ok := x.Event.(*schema.Leaver); ok || v.Unopened || x.Stream.Generation < m.latest {
			add(x, false, false)
		}
	}
	for _, id := range m.order {
		r := m.rosters[id]
		if !r.applied && !v.Pending {
			continue
		}
		for _, part := range r.parts {
			at := place{generation: part.Head.Generation, seq: part.Head.Seq}
			for i := range part.Live {
				if l := &part.Live[i]; l.Subject == subject {
					at.engagement = l.Engagement
					all = append(all, said{place: at, event: stated{l}, sequenced: true, opened: true, issued: r.issued})
				}
			}
			for _, c := range part.Closed {
				if c.Subject == subject {
					at.engagement = c.Engagement
					all = append(all, said{place: at, event: &schema.Leaver{Engagement: c.Engagement, Effective: c.Effective}, effective: c.Effective.Time(), sequenced: true, opened: true})
				}
			}
		}
	}
	return all
}

// cuts tells whether an event takes all access.
func cuts(e schema.Event) bool {
	switch e.(type) {
	case *schema.Leaver, *schema.Suspend:
		return true
	}
	return false
}

// desired is the desired state that an event states.
func desired(e any) (roles []string, start, end time.Time, ok bool) {
	last := func(i *schema.Instant) time.Time {
		if i == nil {
			return time.Time{}
		}
		return i.Time()
	}
	switch e := e.(type) {
	case *schema.Joiner:
		return e.Roles, e.Start.Time(), last(e.End), true
	case *schema.Mover:
		return e.Roles, e.Start.Time(), last(e.End), true
	case stated:
		return e.Roles, e.Start.Time(), last(e.End), true
	}
	return nil, start, end, false
}

// suspended tells whether a suspension of engagement n or a later one is in effect at t.
func suspended(all []said, n int, t time.Time, v View) bool {
	for _, s := range all {
		if s.engagement < n || v.Ended && s.out && endedByBoth(all, s, t) {
			continue
		}
		switch e := s.event.(type) {
		case *schema.Suspend:
			if s.effective.After(t) {
				continue
			}
		case stated:
			if e.State != schema.StateSuspended || e.Since.Time().After(t) {
				continue
			}
		default:
			continue
		}
		if !slices.ContainsFunc(all, func(r said) bool {
			return r.sequenced && r.engagement == s.engagement && r.after(s.place) && resumes(r, t)
		}) {
			return true
		}
	}
	return false
}

// endedByBoth tells whether the branch that was ruled out ended a suspension of its own, and the chosen one has the person
// as active.
func endedByBoth(all []said, s said, t time.Time) bool {
	own := func(r said) bool { return r.out && r.engagement == s.engagement && r.after(s.place) && resumes(r, t) }
	chosen := func(r said) bool { return r.sequenced && !r.out && r.engagement == s.engagement && resumes(r, t) }
	return slices.ContainsFunc(all, own) && slices.ContainsFunc(all, chosen)
}

// resumes tells whether a word ends what was suspended before it: a resume does, and a roster, which then says
// itself whether the person is suspended.
func resumes(r said, t time.Time) bool {
	switch e := r.event.(type) {
	case *schema.Resume:
		return !r.effective.After(t)
	case stated:
		return e.State == schema.StateSuspended || !e.Since.Time().After(t)
	}
	return false
}
