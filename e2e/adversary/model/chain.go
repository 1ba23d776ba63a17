package model

import (
	"slices"

	"jmlbridge/schema"
)

// generation is what came of one chain.
type generation struct {
	came   map[uint64][]Message // by number: two at one place are a fork
	placed map[uint64]bool      // came in its place: everything before it had come, or a roster stood in for it
	silent map[uint64]bool      // of those: came before anybody had stated what held when the enclave joined
	mute   bool                 // nobody has yet
	head   uint64               // up to it nothing is waited for
	hash   schema.Digest
	joined uint64 // the head at first, and its hash
	pinned schema.Digest
	forked bool
	closed bool // a later one was opened
	parts  map[string]map[int]*schema.Roster
	ends   map[string]uint64 // of those: the furthest number of a part

	order   []Message                 // everything that came, as it came
	out     map[schema.Digest]bool    // of that what an operator ruled not to be of the chain, and what goes on there
	gave    map[schema.Digest]bool    // of that what had come in its place before
	over    map[schema.Digest]bool    // of that what a roster of the same branch had overtaken
	held    map[schema.Digest]bool    // came while the generation said two things, and is read once it is in its place
	kept    map[schema.Digest]bool    // of a key that was revoked since it came in its place, which it keeps
	refused map[schema.Digest]bool    // of such a key, and its place was not reached by then
	ended   func(Message) bool        // tells of a message of such a key
	stood   map[schema.Digest]covered // where a roster that this message made whole stood in for what was missing
}

// covered is a head that a roster names.
type covered struct {
	seq  uint64
	hash schema.Digest
}

func (m *Model) newGeneration() *generation {
	return &generation{ended: m.Disowned, kept: map[schema.Digest]bool{}, refused: map[schema.Digest]bool{}, came: map[uint64][]Message{}, placed: map[uint64]bool{}, silent: map[uint64]bool{}, parts: map[string]map[int]*schema.Roster{}, ends: map[string]uint64{},
		out: map[schema.Digest]bool{}, gave: map[schema.Digest]bool{}, over: map[schema.Digest]bool{}, held: map[schema.Digest]bool{}, stood: map[schema.Digest]covered{}}
}

func (g *generation) take(x Message) {
	seq := x.Stream.Seq
	g.came[seq] = append(g.came[seq], x)
	if g.closed || g.forked {
		return
	}
	// A stream says two things where one number has two payloads, or a message names another hash than its
	// neighbour has.
	g.forked = len(g.came[seq]) > 1
	for _, o := range g.came[seq-1] {
		g.forked = g.forked || o.Hash != x.Stream.Prev
	}
	for _, o := range g.came[seq+1] {
		g.forked = g.forked || o.Stream.Prev != x.Hash
	}
	if seq == g.head && g.head > 0 && x.Hash != g.hash || seq == g.head+1 && g.head > 0 && x.Stream.Prev != g.hash {
		g.forked = true // also where only a roster told which message stands there
	}
	g.proceed()
}

// proceed follows the chain as far as it came.
func (g *generation) proceed() {
	for !g.forked && len(g.came[g.head+1]) == 1 && !g.came[g.head+1][0].Newer {
		if g.came[g.head+1][0].Stream.Prev != g.hash {
			g.forked = true
			return
		}
		if x := g.came[g.head+1][0]; g.ended(x) && !g.kept[x.Hash] {
			g.refuse(x)
			return
		}
		g.head++
		g.hash = g.came[g.head][0].Hash
		g.placed[g.head] = true
		g.silent[g.head] = g.mute
	}
}

// refuse takes a message of a key that was revoked out of the chain. Its cuts stay.
func (g *generation) refuse(x Message) {
	seq := x.Stream.Seq
	g.refused[x.Hash] = true
	if g.came[seq] = slices.DeleteFunc(g.came[seq], func(o Message) bool { return o.Hash == x.Hash }); len(g.came[seq]) == 0 {
		delete(g.came, seq)
	}
}

// lapse refuses what waits of such a key.
func (g *generation) lapse() {
	for _, x := range g.order {
		if !g.closed && !g.forked && x.Stream.Seq > g.head && g.ended(x) && !g.out[x.Hash] {
			g.refuse(x)
		}
	}
}

// cover goes on after a head that a roster names.
func (g *generation) cover(c covered) {
	if c.seq > g.head {
		g.head, g.hash = c.seq, c.hash
		g.proceed()
	}
}

// ahead tells whether something came past a place that is waited for.
func (g *generation) ahead() bool {
	if g == nil || g.forked {
		return false
	}
	for seq := range g.came {
		if seq > g.head {
			return true
		}
	}
	return false
}

// Gap tells whether messages of the generation that is followed are missing although later ones came.
func (m *Model) Gap() bool { return m.waits() && !m.Newer() }

// Newer tells whether what comes next in the generation that is followed is of a version that nobody here reads.
func (m *Model) Newer() bool {
	g := m.generations[m.latest]
	return g != nil && !g.forked && len(g.came[g.head+1]) > 0
}

// SecondGap is Gap of the second signer's stream.
func (m *Model) SecondGap() bool { return m.second.ahead() }

func (m *Model) waits() bool { return m.generations[m.latest].ahead() }

// Forked tells whether the generation that is followed says two things.
func (m *Model) Forked() bool {
	g := m.generations[m.latest]
	return g != nil && g.forked
}
