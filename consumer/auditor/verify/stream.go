package verify

import (
	"encoding/binary"
	"slices"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

type streamKey struct {
	issuer, stream string
	audience       string // of sent messages: a producer numbers for each enclave
	generation     int
}

// waiting is a message that the ledger has and that is not in sequence yet.
type waiting struct {
	seq           uint64
	payload, prev schema.Digest
	subject       string
	blocks        bool // of a newer version: nothing behind it may give
}

// stream is one generation of a producer's stream, derived from the messages that the ledger names.
type stream struct {
	streamKey
	joined  uint64 // the first seq expected
	head    uint64 // everything from joined up to it is here
	hash    schema.Digest
	highest uint64
	closed  bool // a later generation is followed
	forked  bool
	// unrostered: it was joined in its middle and no whole roster came yet; nothing in it gives
	unrostered bool
	// blind: what the next message must name is not known, since an operator chose a branch that began in a hole
	blind bool
	// echoed is the number of the furthest heartbeat that repeats cuts; 0: none does
	echoed uint64
	out    map[uint64]bool // short payload digests of what operators ruled out, and the places
	outAt  map[uint64]bool
	unsure bool // the ledger took back something that waited; what it says of later places is not held against it
	early  map[uint64][]waiting
	late   map[uint64][]waiting // came, and a roster stood in for them
	before schema.Digest        // what the first message expected must name
	unread map[uint64]bool      // places of messages whose content was refused: they say nothing
	known  []uint64             // the first 8 octets of the payload digests from joined to head: to tell a repeat from a fork; 0: it never came

	messages, gaps, forks, repeats int64
}

func newStream(k streamKey, first uint64, before schema.Digest) *stream {
	return &stream{streamKey: k, joined: first, head: first - 1, hash: before, highest: first - 1, unrostered: first > 1, before: before, early: map[uint64][]waiting{}, late: map[uint64][]waiting{}, unread: map[uint64]bool{}, out: map[uint64]bool{}, outAt: map[uint64]bool{}}
}

// place is where a message stands, as far as the chain can tell.
type place uint8

const (
	next    place = iota // the next in its chain
	ahead                // past something that is missing
	repeat               // here before
	fork                 // the stream says two things
	behind               // before the start
	outdate              // of a generation that is over
	late                 // was missing when a roster stood in for it
)

func short(d schema.Digest) uint64 { return binary.BigEndian.Uint64(d[:8]) }

// judge tells where a message stands, changing nothing.
func (s *stream) judge(w waiting) place {
	if w.seq >= s.joined && w.seq <= s.head && s.known[w.seq-s.joined] == short(w.payload) {
		return repeat
	}
	for _, e := range s.early[w.seq] {
		if e.payload == w.payload {
			return repeat
		}
	}
	if s.outAt[w.seq] && s.out[short(w.payload)] {
		return repeat
	}
	switch {
	case w.seq > 0 && s.outAt[w.seq-1] && s.out[short(w.prev)]:
		return fork
	case s.closed:
		return outdate
	case s.forked:
		return fork
	case w.seq >= s.joined && w.seq <= s.head && s.known[w.seq-s.joined] == 0 && (w.seq < s.head || w.payload == s.hash):
		return late
	case w.seq == s.head+1 && !s.follows(w.prev), w.seq >= s.joined && w.seq <= s.head, len(s.early[w.seq]) > 0:
		return fork
	}
	for _, e := range slices.Concat(s.early[w.seq+1], s.late[w.seq+1]) {
		if e.prev != w.payload {
			return fork
		}
	}
	// What it was joined after, by the word of who trusted it and of the first message there.
	if first := s.head < s.joined && !s.blind || s.head >= s.joined && s.known[0] != 0 && len(s.late[s.joined]) == 0; first && w.seq > 0 && w.seq+1 == s.joined && w.payload != s.before {
		return fork
	}
	if w.seq != s.head+1 {
		for _, e := range s.early[w.seq-1] {
			if e.payload != w.prev {
				return fork
			}
		}
	}
	switch {
	case w.seq < s.joined:
		return behind
	case w.seq != s.head+1:
		return ahead
	}
	return next
}

// follows reports whether a message that names prev can be the next one, as far as is known.
func (s *stream) follows(prev schema.Digest) bool {
	if !s.blind {
		return prev == s.hash
	}
	return s.head < s.joined || s.known[s.head-s.joined] == 0 || s.known[s.head-s.joined] == short(prev)
}

// keep notes a message that is not in sequence.
func (s *stream) keep(w waiting) {
	s.highest = max(s.highest, w.seq)
	s.early[w.seq] = append(s.early[w.seq], w)
}

// advance makes w the head, and with it whatever waited for it. It returns what came into sequence after w.
func (s *stream) advance(w waiting) (after []waiting) {
	s.step(w)
	return s.catchUp()
}

// catchUp brings into sequence what waited behind the head.
func (s *stream) catchUp() (after []waiting) {
	for !s.forked {
		list := s.early[s.head+1]
		if len(list) != 1 || list[0].blocks || !s.follows(list[0].prev) {
			return after
		}
		delete(s.early, list[0].seq)
		s.step(list[0])
		after = append(after, list[0])
	}
	return after
}

// agrees reports whether a roster's head is of this chain, as far as that is known, and before the roster.
func (s *stream) agrees(head schema.RosterHead, first uint64) bool {
	if head.Generation != s.generation {
		return true
	}
	switch seq := head.Seq; {
	case seq >= first:
		return false
	case seq == s.head:
		return head.Hash == s.hash
	case seq >= s.joined && seq < s.head:
		k := s.known[seq-s.joined]
		return k == 0 || k == short(head.Hash)
	default:
		for _, e := range s.early[seq] {
			if e.payload != head.Hash {
				return false
			}
		}
	}
	return true
}

// cover lets a roster stand in for what is missing up to its head, and returns what came into sequence after it.
func (s *stream) cover(head uint64, hash schema.Digest) (after []waiting) {
	for seq := s.head + 1; seq <= head; seq++ {
		k := uint64(0)
		if list := s.early[seq]; len(list) > 0 {
			k = short(list[0].payload)
			s.late[seq] = list
		}
		s.known = append(s.known, k)
		delete(s.early, seq)
	}
	s.head, s.hash, s.highest = head, hash, max(s.highest, head)
	return s.catchUp()
}

// covered reports whether a place up to the head is one in which a roster stood.
func (s *stream) covered(seq uint64) bool {
	return seq >= s.joined && seq <= s.head && (s.known[seq-s.joined] == 0 || len(s.late[seq]) > 0)
}

// goBack makes an earlier place the head again. What a roster stood in for behind it waits, until the ledger says of each that it
// came into sequence, and what over says of is not of the chain.
func (s *stream) goBack(seq uint64, hash schema.Digest, over func(waiting) bool) {
	for at := seq + 1; at <= s.head; at++ {
		for _, w := range s.late[at] {
			w.blocks = true
			s.early[at] = append(s.early[at], w)
		}
		delete(s.late, at)
		delete(s.unread, at)
	}
	s.known, s.head, s.hash, s.highest, s.blind = s.known[:seq+1-s.joined], seq, hash, seq, false
	for at, list := range s.early {
		if at <= seq {
			continue
		}
		if list = slices.DeleteFunc(list, over); len(list) == 0 {
			delete(s.early, at)
			continue
		}
		s.early[at], s.highest = list, max(s.highest, at)
	}
}

// restart makes w the next message expected, after a break that was reported.
func (s *stream) restart(w waiting) {
	s.joined, s.head, s.hash, s.before, s.forked = w.seq, w.seq-1, w.prev, w.prev, false
	s.known, s.early, s.late = nil, map[uint64][]waiting{}, map[uint64][]waiting{}
}

func (s *stream) step(w waiting) {
	s.head, s.hash, s.blind = w.seq, w.payload, false
	s.highest = max(s.highest, w.seq)
	delete(s.unread, w.seq)
	s.known = append(s.known, short(w.payload))
}

// refused notes a message in its place of which the content was refused.
func (s *stream) refused(r *entry.Received) {
	if r.Disposition == entry.DispositionRefused {
		s.unread[r.Seq] = true
	}
}

// missing is how many messages the stream is known to lack.
func (s *stream) missing() int64 {
	if s.highest <= s.head {
		return 0
	}
	n := int64(s.highest - s.head)
	for seq := range s.early {
		if seq > s.head {
			n--
		}
	}
	return n
}
