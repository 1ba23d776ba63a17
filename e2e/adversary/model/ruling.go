package model

import (
	"slices"

	"jmlbridge/schema"
)

// Rule is an operator's word on the generation that is followed, which says two things: these messages are not of its
// chain. What they took away stays taken. What they gave is given no more, and stays until somebody decides or a good
// word comes. The chain is read again without them. What a roster stood in for up to the head at which the branch goes on
// is not waited for again: that branch names the head. Where its next message did not come, the place is a guess, as good as
// the message that tells of it, and what comes may say otherwise: then the generation says two things again.
func (m *Model) Rule(head uint64, hash schema.Digest, out func(schema.Digest) bool) {
	was := m.generations[m.latest]
	g := m.newGeneration()
	g.head, g.hash, g.mute, g.joined, g.pinned = was.joined, was.pinned, was.joined > 0, was.joined, was.pinned
	g.out, g.gave, g.over, g.held, g.refused = was.out, was.gave, was.over, was.held, was.refused
	for _, x := range was.order {
		g.kept[x.Hash] = was.kept[x.Hash] && x.Stream.Seq <= head
	}
	for _, x := range was.order {
		if !out(x.Hash) || g.out[x.Hash] {
			continue
		}
		g.out[x.Hash] = true
		g.gave[x.Hash] = was.placed[x.Stream.Seq] && !was.silent[x.Stream.Seq] && was.came[x.Stream.Seq][0].Hash == x.Hash
		g.over[x.Hash] = !g.gave[x.Hash] && x.Stream.Seq <= was.head
		if r, ok := x.Event.(*schema.Roster); ok {
			delete(m.rosters, r.ID)
			m.order = slices.DeleteFunc(m.order, func(id string) bool { return id == r.ID })
		}
	}
	m.generations[m.latest] = g
	for _, x := range was.order {
		if seq := x.Stream.Seq; seq <= g.joined && !g.out[x.Hash] { // of before the enclave joined: the operator has seen what it contradicts
			g.order, g.came[seq] = append(g.order, x), append(g.came[seq], x)
			continue
		}
		if c, ok := was.stood[x.Hash]; ok && (g.out[x.Hash] || m.Disowned(x)) {
			if c.seq > head {
				if c, ok = was.named(head, hash, g.out); !ok {
					continue
				}
			}
			g.stood[x.Hash] = c
			g.cover(c)
		}
		m.take(g, x)
	}
	g.lapse()
}

// named is a place from which a branch goes on: by the word of its next message, else by that of any message there.
func (g *generation) named(head uint64, hash schema.Digest, out map[schema.Digest]bool) (c covered, ok bool) {
	for _, o := range g.order {
		if o.Stream.Seq == head+1 && !out[o.Hash] {
			return covered{head, o.Stream.Prev}, true
		}
		ok = ok || o.Stream.Seq == head+1 && o.Stream.Prev == hash || o.Stream.Seq == head && o.Hash == hash
	}
	return covered{head, hash}, ok
}

// RuledOut tells whether an operator ruled that a message of the generation that is followed is not of its chain, or it
// goes on there.
func (m *Model) RuledOut(hash schema.Digest) bool {
	g := m.generations[m.latest]
	return g != nil && g.out[hash]
}

// AnyRuledOut tells whether an operator ruled anything out of the generation that is followed.
func (m *Model) AnyRuledOut() bool {
	g := m.generations[m.latest]
	return g != nil && len(g.out) > 0
}

// Undo is an operator's word that what was given to a person on a word that was ruled out is taken back.
func (m *Model) Undo(subject string) { m.undone[subject] = true }

// Questioned tells whether a person may have something by a word that was ruled out, and no roster that was taken in
// since says what is so.
func (m *Model) Questioned(subject string) bool {
	for _, g := range m.generations {
		for _, x := range g.order {
			if (g.gave[x.Hash] || m.Disowned(x) && g.placed[x.Stream.Seq] && !g.silent[x.Stream.Seq]) && x.Subject == subject {
				return !m.stated(subject)
			}
		}
	}
	return false
}
