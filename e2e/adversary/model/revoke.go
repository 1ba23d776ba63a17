package model

import (
	"slices"

	"jmlbridge/schema"
)

// end is from where on a key is nobody's.
type end struct {
	generation int
	seq        uint64
}

// Disowned tells whether an operator said that a message is not of the owner of its key. What comes then is refused.
func (m *Model) Disowned(x Message) bool {
	e, ok := m.ended[x.Key]
	return ok && x.Stream.ID == m.stream && (x.Stream.Generation > e.generation || x.Stream.Generation == e.generation && x.Stream.Seq >= e.seq)
}

// Revoke is an operator's word that a key was stolen: from a place on, what it signed is not its owner's word. What came
// of it keeps its place in the chain and its cuts, and gives nothing more. Its rosters say nothing; where one stood in for what
// is missing and no good word stands behind that, the chain goes back to before it, and what else the key had said there is
// refused.
func (m *Model) Revoke(stream string, key, generation int, seq uint64) {
	m.stream = stream
	if e, ok := m.ended[key]; ok && (e.generation < generation || e.generation == generation && e.seq <= seq) {
		return
	}
	m.ended[key] = end{generation, seq}
	for n, g := range m.generations {
		m.disbelieve(n, g)
	}
}

// disbelieve takes out of a generation what disowned rosters did there.
func (m *Model) disbelieve(n int, g *generation) {
	var lost, good uint64 // up to where disowned rosters stood in, and up to where good words vouch
	var hash schema.Digest
	whole := false
	good, hash = g.joined, g.pinned
	vouch := func(seq uint64, at schema.Digest) {
		if seq >= good && seq <= g.head {
			good, hash = seq, at
		}
	}
	for _, x := range g.order {
		seq := x.Stream.Seq
		r, ok := x.Event.(*schema.Roster)
		g.kept[x.Hash] = g.placed[seq] && len(g.came[seq]) > 0 && g.came[seq][0].Hash == x.Hash
		switch {
		case !m.Disowned(x):
			if g.placed[seq] && g.came[seq][0].Hash == x.Hash {
				vouch(seq, x.Hash)
			}
			if ok && m.rosters[r.ID] != nil {
				whole = true
				if r.Head.Generation == n {
					vouch(r.Head.Seq, r.Head.Hash)
				}
			}
			if seq == g.head+1 && x.Stream.Prev == g.hash && !g.out[x.Hash] && !g.forked {
				vouch(g.head, g.hash)
			}
		case ok:
			if m.rosters[r.ID] != nil {
				delete(m.rosters, r.ID)
				m.order = slices.DeleteFunc(m.order, func(id string) bool { return id == r.ID })
			}
			if c, ok := g.stood[x.Hash]; ok {
				lost = max(lost, c.seq)
			}
		}
	}
	if g.joined > 0 && !whole {
		g.mute = true
	}
	if !g.closed && good < lost {
		g.goBack(good, hash)
	}
	g.lapse()
}

// goBack makes a place up to which good words vouch, and what follows it without a gap, all of the chain that there is.
func (g *generation) goBack(seq uint64, hash schema.Digest) {
	for seq < g.head && g.placed[seq+1] {
		seq++
		hash = g.came[seq][0].Hash
	}
	if seq == g.head {
		return
	}
	for at := range g.placed {
		if at > seq {
			delete(g.placed, at)
			delete(g.silent, at)
		}
	}
	for x, c := range g.stood {
		if c.seq > seq {
			delete(g.stood, x)
		}
	}
	g.head, g.hash = seq, hash
	for _, x := range g.order {
		if x.Stream.Seq > seq && g.ended(x) && !g.out[x.Hash] {
			delete(g.kept, x.Hash)
			g.refuse(x)
		}
	}
	g.proceed()
}
