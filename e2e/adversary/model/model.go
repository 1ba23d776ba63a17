// Package model says what must be so in an enclave, given what reached it: the oracle of the adversary.
//
// It is the design read aloud and nothing else: every verified message that ever came is kept, and every
// question is answered by reading all of them anew. It keeps no fences, no lanes and no state that could be
// wrong in the way that the program's could, and it shares no code with admission, fences or planner; a test
// on imports holds that. It is slow, and histories are small.
package model

import (
	"slices"
	"time"

	"jmlbridge/schema"
)

// Message is an authentic message and the digest of its payload octets.
type Message struct {
	*schema.SET
	Hash schema.Digest
	// Newer: the enclave cannot read its version. All that it takes of it is who is cut, and from when on; what
	// follows it waits.
	Newer bool
	// Key says which of the issuer's keys signed it.
	Key int
}

// Model is one enclave, as far as one issuer speaks to it.
type Model struct {
	generations map[int]*generation
	latest      int
	parked      []Message // of generations that nobody opened yet, in the order in which they came
	locked      map[string]bool
	rosters     map[string]*roster
	order       []string            // their ids, as they became whole
	lease       time.Duration       // how long access outlives the last word on a person
	beat        time.Time           // iat of the newest heartbeat
	groups      map[string][]string // what a role stands for
	second      *generation         // the second signer's chain, which nobody forks
	wanting     []string            // the roles that want the second signer's word
	past        *Model              // the enclave as it was when it lost its database; nil: it never did
	stream      string              // of the keys of ended
	known       map[notice]bool     // cuts that a heartbeat in its place repeats of a place of which the message is here: that one tells
	ended       map[int]end         // keys that were stolen, and from where on they are nobody's
	remains     []Message           // what was refused after it had come: its cuts stay
	undone      map[string]bool     // of whom an operator took back what had been given on a word that was ruled out
}

// notice is a place of which a heartbeat says that it cut.
type notice struct {
	by  schema.Digest
	seq uint64
}

// New returns an enclave to which nothing came and in which no generation is open. groups says what each role
// stands for, lease how long access outlives the last word on a person.
func New(groups map[string][]string, lease time.Duration) *Model {
	return &Model{generations: map[int]*generation{}, locked: map[string]bool{}, rosters: map[string]*roster{}, groups: groups, lease: lease, undone: map[string]bool{}, ended: map[int]end{}, known: map[notice]bool{}}
}

// Second is the policy's word that some roles are given only on a second signer's word, and an operator's that this
// signer's stream is followed from its beginning.
func (m *Model) Second(roles ...string) {
	m.second, m.wanting = m.newGeneration(), roles
}

// JoinSecond is Join of the second signer's stream.
func (m *Model) JoinSecond(head uint64, hash schema.Digest) {
	m.second.head, m.second.hash = head, hash
}

// Open is an operator's word that a generation is to be followed from its beginning. Earlier ones may cut from
// then on, and give nothing more.
func (m *Model) Open(n int) { m.Join(n, 0, schema.Digest{}) }

// Join is an operator's word that a generation is to be followed after the message with this number and hash.
// Where that is not its beginning, nothing is given before a roster has stated what holds.
func (m *Model) Join(n int, head uint64, hash schema.Digest) {
	for _, g := range m.generations {
		g.closed = true
	}
	g := m.newGeneration()
	g.head, g.hash, g.mute, g.joined, g.pinned = head, hash, head > 0, head, hash
	m.generations[n], m.latest = g, n
	waiting := m.parked
	m.parked = nil
	for _, x := range waiting {
		if m.Disowned(x) {
			m.remains = append(m.remains, x)
		}
		m.Deliver(x)
	}
}

// Follows tells whether a generation is followed.
func (m *Model) Follows() bool { return m.latest > 0 }

// Lock and unlock are an operator's local acts.
func (m *Model) Lock(subject string, on bool) { m.locked[subject] = on }

// Deliver is an authentic message that is durably the enclave's.
func (m *Model) Deliver(x Message) {
	g := m.generations[x.Stream.Generation]
	if _, ok := x.Event.(*schema.Approval); ok {
		g = m.second
	}
	if m.Disowned(x) && (g == nil || !slices.ContainsFunc(g.order, func(o Message) bool { return o.Hash == x.Hash })) {
		return
	}
	if g == nil {
		if !slices.ContainsFunc(m.parked, func(o Message) bool { return o.Hash == x.Hash }) {
			m.parked = append(m.parked, x)
		}
		return
	}
	if slices.ContainsFunc(g.order, func(o Message) bool { return o.Hash == x.Hash }) {
		return
	}
	m.take(g, x)
}

// take reads a message in the order in which they came.
func (m *Model) take(g *generation, x Message) {
	g.order = append(g.order, x)
	if g.refused[x.Hash] {
		return
	}
	if g.out[x.Hash] || g.out[x.Stream.Prev] { // also what goes on where the chain does not
		g.out[x.Hash] = true
		return
	}
	g.take(x)
	if h, ok := x.Event.(*schema.Heartbeat); ok {
		for _, c := range h.Cuts {
			at := notice{x.Hash, c.Seq}
			if _, again := m.known[at]; !again {
				m.known[at] = !g.closed && !g.forked && g.placed[x.Stream.Seq] && g.placed[c.Seq]
			}
		}
	}
	if g.closed || g.refused[x.Hash] {
		return
	}
	if g.forked {
		g.held[x.Hash] = true
		return
	}
	if !g.held[x.Hash] {
		m.read(g, x)
	}
	for placed := true; placed; {
		placed = false
		for _, o := range g.order {
			if seq := o.Stream.Seq; g.held[o.Hash] && g.placed[seq] && g.came[seq][0].Hash == o.Hash {
				delete(g.held, o.Hash)
				m.read(g, o)
				placed = true
			}
		}
	}
}

// read takes in what a message says that is not about one person.
func (m *Model) read(g *generation, x Message) {
	switch e := x.Event.(type) {
	case *schema.Heartbeat:
		if x.IssuedAt.Time().After(m.beat) {
			m.beat = x.IssuedAt.Time()
		}
	case *schema.Roster:
		if g.placed[x.Stream.Seq] || x.Stream.Seq > g.head { // what is late says nothing any more
			m.collect(g, x, e)
		}
	}
}

// Beat is when the newest heartbeat was issued.
func (m *Model) Beat() time.Time { return m.beat }
