package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// source is which message a fact was taken from, to tell the branches of a fork, and the keys of a stream, apart.
type source struct {
	of     uint64 // the first 8 octets of its payload digest; 0: known from elsewhere, such as a heartbeat
	seq    uint64 // its number
	signer int32  // its key: index in verifier.signers
}

func (v *verifier) sourceOf(m *entry.Message) source {
	i, ok := v.signers[m.Key]
	if !ok {
		i = int32(len(v.signers))
		v.signers[m.Key] = i
	}
	return source{short(m.Payload), m.Seq, i}
}

// disown is told that the word of some messages of a stream does not count any more. What it took stays.
func (v *verifier) disown(issuer string, bad func(generation int, from source) bool) {
	for w, p := range v.persons {
		if w.issuer != issuer {
			continue
		}
		for i := range p.facts {
			f := &p.facts[i]
			if f.kind == leaver || f.kind == suspend || !bad(f.generation, f.source) || f.upSeq > 0 && !bad(f.upGeneration, f.up) || f.kind == resume && p.vouched(f, bad) {
				continue
			}
			if u, ok := v.unseen[issuer]; ok && f.compareAt(u.generation, u.seq) <= 0 {
				continue // the roster may say the same
			}
			f.disowned, p.changed = v.index, seconds(v.now)
		}
		for i := range p.approvals {
			if a := &p.approvals[i]; bad(a.generation, a.source) {
				a.disowned = true
			}
		}
	}
}

// vouched reports whether a roster that counts had the person back after a resume: what it confirmed stands behind that.
func (p *person) vouched(f *fact, bad func(generation int, from source) bool) bool {
	for i := range p.facts {
		g := &p.facts[i]
		if g.disowned == 0 && g.upSeq > 0 && !bad(g.upGeneration, g.up) && g.engagement == f.engagement && f.compareAt(g.upGeneration, g.upSeq) <= 0 {
			return true
		}
	}
	return false
}

// kept is told that an operator lets stand what a disowned word says of a person.
func (p *person) kept() {
	for i := range p.facts {
		p.facts[i].disowned = 0
	}
	for i := range p.approvals {
		p.approvals[i].disowned = false
	}
}

// revokedKey is told that from a place on a key was not its owner's.
func (v *verifier) revokedKey(t *entry.Trust) {
	signer, ok := v.signers[t.Key]
	if !ok {
		return
	}
	bad := func(generation int, from source) bool {
		return from.of != 0 && from.signer == signer && (generation > t.Generation || generation == t.Generation && from.seq > t.AtSeq)
	}
	for _, x := range v.rosters { // whichever of its parts it signed
		x.broken = x.broken || x.issuer == t.Issuer && slices.ContainsFunc(x.signed, func(from source) bool { return bad(x.generation, from) })
	}
	v.dropBroken()
	v.disown(t.Issuer, bad)
}

// dropBroken waits no more for rosters that are not to be believed.
func (v *verifier) dropBroken() {
	v.pending = slices.DeleteFunc(v.pending, func(x *roster) bool { return x.broken })
}

// putBack is told from where a stream goes on since a roster is not believed any more that had stood in for what comes there.
func (v *verifier) putBack(o *entry.Operator) {
	var generation int
	var seq uint64
	i := strings.LastIndexByte(o.Target, '#')
	n, err := fmt.Sscanf(o.Target[i+1:], "%d.%d", &generation, &seq)
	if i < 0 || err != nil || n != 2 {
		v.findf(EntryForm, "it puts no stream back: target %s", o.Target)
		return
	}
	s := v.streams[streamKey{o.Issuer, o.Target[:i], "", generation}]
	hash := schema.Digest{}
	if o.Digest != nil {
		hash = *o.Digest
	}
	if s == nil || s.closed || !v.stoodIn(s, seq) || !v.chainAt(s, seq, hash) {
		v.findf(ChainClaim, "stream %s is put back to message %d of generation %d, and no roster that is not believed stood in for what comes there, or that message is another", o.Target[:i], seq, generation)
		return
	}
	s.goBack(seq, hash, func(w waiting) bool {
		m, ok := v.again[w.payload]
		return ok && m.received != nil && v.trusted[m.received.Key].past(generation, w.seq)
	})
}

// stoodIn reports whether a roster that does not count stood in for what comes after a place.
func (v *verifier) stoodIn(s *stream, seq uint64) bool {
	if seq+1 < s.joined || !s.covered(seq+1) {
		return false
	}
	for _, x := range v.rosters {
		if x.streamKey == s.streamKey && x.broken && !x.whole.IsZero() && x.head.Generation == s.generation && x.head.Seq > seq {
			return true
		}
	}
	return false
}

// chainAt reports whether a hash is that of the chain at a place before its head, as far as that is known.
func (v *verifier) chainAt(s *stream, seq uint64, hash schema.Digest) bool {
	if seq < s.joined {
		return hash == s.before
	}
	for _, x := range v.rosters {
		if x.streamKey == s.streamKey && !x.broken && !x.whole.IsZero() && x.head == (schema.RosterHead{Generation: s.generation, Seq: seq, Hash: hash}) {
			return true
		}
	}
	return s.known[seq-s.joined] == short(hash)
}

// branch is told which branch of a fork is the chain.
func (v *verifier) branch(t *entry.Trust) {
	s := v.streams[streamKey{t.Issuer, t.Stream, "", t.Generation}]
	if s == nil || t.Head == nil || !s.forked {
		v.findf(BranchUnknown, "stream %s in generation %d says one thing, and an operator chose between two", t.Stream, t.Generation)
		return
	}
	if !s.choose(t.AtSeq, *t.Head) {
		v.findf(BranchUnknown, "no message %d with digest %s came in generation %d of stream %s", t.AtSeq, t.Head, t.Generation, t.Stream)
		return
	}
	for _, x := range v.rosters {
		if x.streamKey == s.streamKey && s.out[x.from.of] {
			x.broken = true
		}
	}
	v.dropBroken()
	v.disown(s.issuer, func(_ int, from source) bool { return s.out[from.of] })
	for _, x := range s.catchUp() {
		v.sequenced(s, x)
	}
}

// choose goes on with the branch that has the message with this digest at a place. What is not of it is out, and
// so is what comes behind that. It returns false where there is no such message.
func (s *stream) choose(seq uint64, head schema.Digest) bool {
	var path []waiting // what came of the branch and is not in the chain
	at, from := s.head, s.hash
	followed := seq == s.head && head == s.hash || seq >= s.joined && seq <= s.head && s.known[seq-s.joined] == short(head)
	if w, ok := s.find(seq, head); ok { // of what was followed, what stands before the place where it was joined
		path = []waiting{w}
		for path[0].seq != s.joined { // down to where it left the chain
			before, ok := s.find(path[0].seq-1, path[0].prev)
			if !ok {
				break
			}
			path = append([]waiting{before}, path...)
		}
		for ok = true; ok; { // and up to its end
			last := path[len(path)-1]
			ok = false
			for _, e := range s.early[last.seq+1] {
				if e.prev == last.payload {
					path, ok = append(path, e), true
					break
				}
			}
		}
	} else if !followed {
		return false
	}
	if !followed {
		switch root := path[0]; {
		case slices.ContainsFunc(path, func(w waiting) bool { return w.seq == s.head && w.payload == s.hash }): // it was joined on this branch
		case root.seq > s.head+1:
		case root.seq-1 == s.head && root.prev == s.hash, root.seq == s.joined, root.seq > s.joined && s.known[root.seq-1-s.joined] == short(root.prev):
			at, from = root.seq-1, root.prev
		case root.seq > s.joined && slices.ContainsFunc(s.late[root.seq], func(w waiting) bool { return w.prev == root.prev }): // what was followed names it, and it need not have come
			at, from = root.seq-1, root.prev
		case root.seq < s.joined+1:
			return false
		default: // what stood before it in its own history did not come; its hash is not kept here
			at, s.blind = root.seq-2, true
		}
	}
	for i := at + 1; i <= s.head; i++ {
		if k := s.known[i-s.joined]; k != 0 {
			s.out[k], s.outAt[i] = true, true
		}
	}
	s.known, s.head, s.hash, s.forked = s.known[:at+1-s.joined], at, from, false
	maps.DeleteFunc(s.late, func(seq uint64, _ []waiting) bool { return seq > at })
	last := s.head
	kept := map[schema.Digest]bool{}
	for _, w := range path {
		last = max(last, w.seq)
		kept[w.payload] = true
	}
	if len(path) > 0 {
		first := path[0].seq
		kept[from] = true // what stands before the place where it was joined may have come
		s.ruleOut(func(w waiting) bool { return !kept[w.payload] && w.seq <= last+1 && w.seq+1 >= first })
	} else {
		bare := s.head < s.joined || s.known[s.head-s.joined] == 0 // a card or a roster tells of the head: no message that came goes on from it
		s.ruleOut(func(w waiting) bool {
			return w.seq+1 >= s.joined && w.payload != s.before && w.seq <= s.head+1 && (bare || w.seq != s.head+1 || w.prev != s.hash)
		})
	}
	return true
}

// find returns what waits at a place, if it has that digest.
func (s *stream) find(seq uint64, payload schema.Digest) (w waiting, ok bool) {
	for _, e := range s.early[seq] {
		if e.payload == payload {
			return e, true
		}
	}
	return w, false
}

// ruleOut takes what waits and does not fit out of the stream, and all that names it.
func (s *stream) ruleOut(unfit func(waiting) bool) {
	for more := true; more; {
		more = false
		for seq, list := range s.early {
			kept := list[:0]
			for _, w := range list {
				if unfit(w) || s.out[short(w.prev)] && s.outAt[seq-1] {
					s.rule(w)
					more = true
					continue
				}
				kept = append(kept, w)
			}
			if s.early[seq] = kept; len(kept) == 0 {
				delete(s.early, seq)
			}
		}
	}
	s.highest = s.head
	for seq := range s.early {
		s.highest = max(s.highest, seq)
	}
}

// rule notes a message that is of no branch that counts.
func (s *stream) rule(w waiting) {
	s.out[short(w.payload)], s.outAt[w.seq] = true, true
}
