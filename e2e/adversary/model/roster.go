package model

import (
	"slices"
	"time"

	"jmlbridge/schema"
)

// roster is a whole one.
type roster struct {
	parts   []*schema.Roster
	issued  time.Time
	applied bool // the enclave says that it has taken all of it in
}

// collect keeps a part of a roster. A whole one stands in for everything that is missing before its head.
func (m *Model) collect(g *generation, x Message, e *schema.Roster) {
	if m.Disowned(x) {
		return
	}
	parts := g.parts[e.ID]
	if parts == nil {
		parts = map[int]*schema.Roster{}
		g.parts[e.ID] = parts
	}
	g.ends[e.ID] = max(g.ends[e.ID], x.Stream.Seq)
	if parts[e.Part] = e; len(parts) < e.Parts {
		return
	}
	inside := e.Head.Generation == x.Stream.Generation
	if inside {
		for _, o := range g.came[e.Head.Seq] {
			if o.Hash != e.Head.Hash {
				return // it was taken of another history
			}
		}
	}
	if m.rosters[e.ID] == nil { // else the chain is read again
		r := &roster{issued: x.IssuedAt.Time()}
		for i := range e.Parts {
			r.parts = append(r.parts, parts[i+1])
		}
		m.rosters[e.ID] = r
		m.order = append(m.order, e.ID)
	}
	g.mute = false
	for seq := range g.silent { // what had come already, and waited for the roster itself, is judged behind it
		if seq > g.ends[e.ID] {
			delete(g.silent, seq)
		}
	}
	if inside {
		c := covered{e.Head.Seq, e.Head.Hash}
		g.stood[x.Hash] = c
		g.cover(c)
	}
}

// Applied is told when the enclave has taken a whole roster in. Until then both are good: what holds with it
// and what holds without.
func (m *Model) Applied(id string) {
	if r := m.rosters[id]; r != nil {
		r.applied = true
	}
}

// Named tells whether the last roster that was taken in names the person, or something said in its place
// since. Whom it does not name keeps what he has and is given nothing. What speaks of no engagement but those before the one
// that was announced names nobody: it was forgotten.
func (m *Model) Named(subject string) bool {
	last := m.lastRoster()
	if last == nil {
		return true
	}
	head := last.parts[0].Head
	announced, named := 0, 0
	for _, s := range m.about(subject, View{}) {
		if !s.sequenced {
			continue
		}
		switch s.event.(type) {
		case *schema.Joiner, *schema.Mover, stated:
			announced = max(announced, s.engagement)
		}
		if s.generation > head.Generation || s.generation == head.Generation && s.seq >= head.Seq {
			named = max(named, s.engagement)
		}
	}
	return named > 0 && named >= announced
}

// stated tells whether the last roster that was taken in has the person among the live ones.
func (m *Model) stated(subject string) bool {
	last := m.lastRoster()
	return last != nil && slices.ContainsFunc(last.parts, func(p *schema.Roster) bool {
		return slices.ContainsFunc(p.Live, func(l schema.LiveEngagement) bool { return l.Subject == subject })
	})
}

// lastRoster is the last that was taken in; nil: none was.
func (m *Model) lastRoster() (last *roster) {
	for _, id := range m.order {
		if r := m.rosters[id]; r.applied {
			if last == nil || !before(r.parts[0].Head, last.parts[0].Head) {
				last = r
			}
		}
	}
	return last
}

func before(a, b schema.RosterHead) bool {
	return a.Generation < b.Generation || a.Generation == b.Generation && a.Seq < b.Seq
}
