package model

import (
	"slices"
	"time"

	"jmlbridge/schema"
)

// Lost is the enclave after it lost its database and began a new one from its ledger. It knows whom it took as leaving,
// as suspended and as resumed, and an operator's locks. Of what anybody is to have it knows nothing any more: nothing
// is given before a roster says so anew.
func Lost(past *Model) *Model {
	m := New(past.groups, past.lease)
	m.locked, m.past, m.wanting = past.locked, past, past.wanting
	if past.second != nil {
		m.second = m.newGeneration()
	}
	return m
}

// Before is the enclave as it was when it lost its database; nil: it never did.
func (m *Model) Before() *Model { return m.past }

// remembered is what Lost says is known of a person. A leaver of a generation that nobody had opened took access away, and
// is on no ledger by its content: both are good, to know of it and not to.
func (m *Model) remembered(subject string, v View) (all []said) {
	for _, s := range m.about(subject, View{Unopened: v.Unopened}) {
		if !s.opened && (!v.Unopened || v.Forgotten) {
			continue
		}
		effective := func(t schema.Instant) { s.effective = t.Time() }
		switch e := s.event.(type) {
		case *schema.Leaver, *schema.Suspend:
		case *schema.Resume:
			if !s.sequenced {
				continue
			}
		case stated:
			if e.State != schema.StateSuspended {
				s.event = &schema.Resume{Engagement: e.Engagement, Effective: e.Since}
			} else {
				s.event = &schema.Suspend{Engagement: e.Engagement, Effective: e.Since}
			}
			effective(e.Since)
		default:
			continue
		}
		s.issued = time.Time{}
		all = append(all, s)
	}
	return all
}

// wasIn is the last engagement of a person of which anything was said in its place before a database was lost; 0: none.
func (m *Model) wasIn(subject string) (n int) {
	for past := m.past; past != nil; past = past.past {
		for _, s := range past.about(subject, View{}) {
			if _, _, _, ok := desired(s.event); ok && s.sequenced {
				n = max(n, s.engagement)
			}
		}
	}
	return n
}

// Stood tells whether a head is one that this enclave had in the generation that it followed last: a place in a chain of
// what came, or the one that it joined at.
func (m *Model) Stood(second bool, n int, head uint64, hash schema.Digest) bool {
	g := m.generations[n]
	if second {
		g = m.second
	}
	if g == nil || !second && n != m.latest {
		return false
	}
	return head == g.joined && hash == g.pinned || head == g.head && hash == g.hash || slices.ContainsFunc(g.came[head], func(o Message) bool { return o.Hash == hash })
}
