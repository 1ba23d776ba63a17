package ruling

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Fork is a stream that says two things, as far as its messages came.
type Fork struct {
	Stream   *state.Stream
	Branches []Branch // by their first message

	nodes []*node
}

// Branch is one of the things that a stream says: messages that name each other.
type Branch struct {
	Seq      uint64        // of its first message that no other branch has
	Hash     schema.Digest // of that one's payload
	Tip      uint64        // its last message
	TipHash  schema.Digest
	Followed bool // what was admitted before anybody noticed
	Own      []*state.Message

	path []*node // from the farthest message that is here to the tip
}

// node is a message among its neighbours.
type node struct {
	*state.Message
	parent   *node
	children int
	after    *state.Message // which it goes on from and which was ruled out before; nil: none
}

// inChain reports whether the message was taken for a part of the chain.
func (n *node) inChain() bool {
	return n.Disposition == admit.Admitted || n.Disposition == admit.ContentRefused || n.Disposition == admit.Late
}

// Forks lists the streams that an operator has to rule on.
func Forks(r state.Reader) (list []*Fork, err error) {
	streams, err := state.Streams(r)
	if err != nil {
		return nil, err
	}
	for _, s := range streams {
		if s.State != admit.ForkedAway {
			continue
		}
		f, err := read(r, s)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// read puts the messages around a fork together.
func read(r state.Reader, s *state.Stream) (*Fork, error) {
	rows, err := state.AroundFork(r, s.Ref)
	if err != nil {
		return nil, err
	}
	type key struct {
		seq  uint64
		hash schema.Digest
	}
	f, forked, nodes, gone := &Fork{Stream: s}, s.ForkSeq, map[key]*node{}, map[key]*state.Message{}
	for _, m := range rows {
		if m.Disposition == admit.RuledOut {
			gone[key{m.Seq, m.Payload}] = m
			continue
		}
		n := &node{Message: m}
		nodes[key{m.Seq, m.Payload}], f.nodes = n, append(f.nodes, n)
		if m.Disposition == admit.Forked {
			forked = min(forked, m.Seq)
		}
	}
	for _, n := range f.nodes {
		if p := nodes[key{n.Seq - 1, n.Prev}]; p != nil {
			n.parent = p
			p.children++
		}
		n.after = gone[key{n.Seq - 1, n.Prev}]
	}
	followed := false
	for _, tip := range f.nodes {
		if tip.children > 0 {
			continue
		}
		b := Branch{Tip: tip.Seq, TipHash: tip.Payload}
		own, known := true, true
		for n := tip; n != nil; n = n.parent {
			b.path = append(b.path, n)
			if own = own && n.children < 2; own && (n.Seq >= forked || n == tip) {
				b.Own = append(b.Own, n.Message)
				b.Seq, b.Hash = n.Seq, n.Payload
			}
			b.Followed = b.Followed || n.Seq == s.Head && n.Payload == s.HeadHash
			known = known && n.inChain()
		}
		if known && !b.Followed {
			continue // a piece of the chain before something that a roster stood in for
		}
		slices.Reverse(b.path)
		slices.Reverse(b.Own)
		followed = followed || b.Followed
		f.Branches = append(f.Branches, b)
	}
	if !followed { // its head is known by a roster, or by the card, alone
		f.Branches = append(f.Branches, Branch{Seq: s.Head, Hash: s.HeadHash, Tip: s.Head, TipHash: s.HeadHash, Followed: true})
	}
	slices.SortFunc(f.Branches, func(a, b Branch) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), bytes.Compare(a.Hash[:], b.Hash[:]))
	})
	return f, nil
}

// span is from which number to which a branch has messages.
func (b *Branch) span() (first, last uint64) {
	if len(b.path) == 0 {
		return b.Seq, b.Tip
	}
	return b.path[0].Seq, b.Tip
}

// against reports whether two branches cannot both be of one chain: they have different messages at one place, or
// side by side without naming each other.
func (b *Branch) against(o *Branch) bool {
	first, last := b.span()
	from, to := o.span()
	return first <= to+1 && from <= last+1
}

// after is the message that was ruled out before and from which a branch goes on: it came before that one did, else it
// would have been ruled out by itself. nil: there is none.
func (b *Branch) after() *state.Message {
	if len(b.path) == 0 {
		return nil
	}
	return b.path[0].after
}

// named is the branch that has a message with this payload, and none other has it.
func (f *Fork) named(hash schema.Digest) (*Branch, error) {
	var found []*Branch
	for i := range f.Branches {
		b := &f.Branches[i]
		if b.Hash == hash {
			return b, nil
		}
		if slices.ContainsFunc(b.path, func(n *node) bool { return n.Payload == hash }) {
			found = append(found, b)
		}
	}
	switch len(found) {
	case 0:
		return nil, refusef("no message around the fork of stream %s has the payload digest %s; `consumer fork list` shows the branches", f.Stream.Name, hash)
	case 1:
		return found[0], nil
	}
	return nil, refusef("message %s is on %d branches: name one that only the right branch has; `consumer fork list` shows them", hash, len(found))
}

// hashAt is the payload digest of the chain at a place, where anything here tells it.
func (f *Fork) hashAt(seq uint64) (hash schema.Digest, ok bool) {
	if seq == f.Stream.Head {
		return f.Stream.HeadHash, true
	}
	for _, n := range f.nodes {
		switch {
		case n.inChain() && n.Seq == seq:
			return n.Payload, true
		case n.inChain() && n.Seq == seq+1:
			hash, ok = n.Prev, true
		}
	}
	return hash, ok
}

// goesOn is the last message of what was followed from which a branch may go on.
func (f *Fork) goesOn(b *Branch) (head uint64, hash schema.Digest, err error) {
	s := f.Stream
	if b.Followed || b.path[0].Seq > s.Head+1 {
		return s.Head, s.HeadHash, nil
	}
	root := b.path[0]
	if root.inChain() && root.Seq <= s.Head {
		last := root
		for _, n := range b.path {
			if !n.inChain() || n.Seq > s.Head {
				break
			}
			last = n
		}
		return last.Seq, last.Payload, nil
	}
	if hash, ok := f.hashAt(root.Seq - 1); ok && hash == root.Prev {
		return root.Seq - 1, hash, nil
	}
	// What stood before it in its own history did not come. It is waited for, like any message that is missing.
	if root.Seq > s.Joined {
		if hash, ok := f.hashAt(root.Seq - 2); ok {
			return root.Seq - 2, hash, nil
		}
	}
	return 0, hash, refusef("nothing here tells where the branch of message %s left what was followed: what stands before its message %d did not come. Have the producer's people send that again "+
		"(`producer resend --from %d --to %d` over there, from further back if need be), and choose again; or have them open the next generation (`producer recover`), and trust that (`consumer trust generation CARD --expect KEYID`)",
		b.Hash, root.Seq, max(s.Joined, root.Seq-min(root.Seq, resendBack)), root.Seq-1)
}

// resendBack is how many messages before an unknown place a refusal asks for.
const resendBack = 10

// contradiction finds two messages that are not ruled out and cannot both be of the chain, where anything is waited for:
// the stream would say two things still, and nobody would be told. nil: there are none.
func (f *Fork) contradiction(out map[*node]bool) (a, b *node) {
	for i, a := range f.nodes {
		if out[a] || a.Seq < f.Stream.Joined {
			continue
		}
		for _, b := range f.nodes[i+1:] { // by their numbers
			if !out[b] && (b.Seq == a.Seq || b.Seq == a.Seq+1 && b.Prev != a.Payload) {
				return a, b
			}
		}
	}
	return nil, nil
}

// Ruling is what came of an operator's word on a fork.
type Ruling struct {
	Branch Branch
	Out    []Branch    // the others
	Head   uint64      // from where the chain goes on
	Hold   *state.Hold // on what the others had given; nil where nothing is in question
}

// Choose makes the branch that has the message with this payload the chain. What the others said is ruled out: its
// cuts stay, and what it gave is in question. A running consumer takes in what waited of the branch.
func (f *Fork) Choose(ctx context.Context, db *state.DB, tx *store.Tx, hash schema.Digest, by state.By) (*Ruling, error) {
	b, err := f.named(hash)
	if err != nil {
		return nil, err
	}
	if m := b.after(); m != nil {
		return nil, refusef("message %d of the branch of %s goes on from message %d (%s), which was ruled out before, and so is what goes on there. Choose another branch; is this one the producer's after all, "+
			"have them open the next generation (`producer recover`), and trust that (`consumer trust generation CARD --expect KEYID`)", b.path[0].Seq, b.Hash, m.Seq, m.Payload)
	}
	head, headHash, err := f.goesOn(b)
	if err != nil {
		return nil, err
	}
	s, ru := f.Stream, &Ruling{Branch: *b, Head: head}
	chosen, out := map[*node]bool{}, map[*node]bool{}
	for _, n := range b.path {
		chosen[n] = true
	}
	for i := range f.Branches {
		o := &f.Branches[i]
		if o == b || o.after() == nil && !o.against(b) {
			continue // perhaps its own continuation, past a gap: the chain will tell
		}
		ru.Out = append(ru.Out, *o)
		for _, n := range o.path {
			out[n] = !chosen[n] && (n.Seq > head || !n.inChain())
		}
	}
	for _, n := range f.nodes { // by their numbers: what goes on there goes with it
		out[n] = out[n] || n.inChain() && n.Seq > head && !chosen[n] || n.parent != nil && out[n.parent]
	}
	if a, o := f.contradiction(out); a != nil {
		return nil, refusef("the branch of %s says nothing of messages %d (%s) and %d (%s), which cannot both be of the chain: choose by one of these first", b.Hash, a.Seq, a.Payload, o.Seq, o.Payload)
	}
	s.State, s.Head, s.HeadHash, s.Highest, s.ForkSeq, s.Covered = admit.Live, head, headHash, head, 0, min(s.Covered, head)
	word := newDisowned(s.Issuer, s.Name)
	for _, n := range f.nodes {
		to := n.Disposition
		switch {
		case out[n]:
			if err := word.add(tx, n.Message, s.Generation, by.Now); err != nil {
				return nil, err
			}
			to, n.Code, s.RuledOut = admit.RuledOut, admit.CodeRuledOut, max(s.RuledOut, n.Seq)
		case n.Disposition == admit.Forked, n.inChain() && n.Seq > head:
			// Also what was in its place, or what a roster overtook that does not count now: it is judged again.
			to, n.Code = admit.Ahead, admit.CodeGap
			fallthrough
		default:
			s.Highest = max(s.Highest, n.Seq)
		}
		if to == n.Disposition {
			continue
		}
		if err := state.SetDisposition(tx, n.ID, to, n.Code, by.Now); err != nil {
			return nil, err
		}
	}
	waitsSince(s, by.Now)
	if s.Unrostered, err = unrostered(tx, s); err != nil {
		return nil, err
	}
	if err := state.SaveStream(tx, s); err != nil {
		return nil, err
	}
	if err := leave(tx, s.Ref, ru.Out, by.Now); err != nil {
		return nil, err
	}
	ruled, err := ledger.Append(tx, entry.New(by.Now, &entry.Trust{Action: entry.TrustBranch, Issuer: s.Issuer, Stream: s.Name, Generation: s.Generation,
		AtSeq: b.Seq, Head: &b.Hash, By: by.Login, Reason: entry.Text(by.Reason)}))
	if err != nil {
		return nil, err
	}
	for i := range ru.Out {
		o := &ru.Out[i]
		_, err := ledger.Append(tx, entry.New(by.Now, &entry.Operator{By: by.Login, Action: ActionRuleOut, Issuer: s.Issuer,
			Target: target(s.Name, s.Generation, o.Seq), Digest: &o.Hash, Reason: entry.Text(by.Reason)}))
		if err != nil {
			return nil, err
		}
	}
	if _, err := state.ClearAlarm(tx, string(admit.CodeFork), s.AlarmKey(), by.Now); err != nil {
		return nil, err
	}
	ru.Hold, err = word.question(ctx, db, tx, ruled, by)
	return ru, err
}

// waitsSince keeps since when a stream waits for what is missing, after its head was moved.
func waitsSince(s *state.Stream, now time.Time) {
	switch {
	case s.Highest <= s.Head:
		s.GapSince = time.Time{}
	case s.GapSince.IsZero():
		s.GapSince = now
	}
}

// ActionRuleOut names, on the ledger, a branch that a ruling left: its first message.
const ActionRuleOut = "rule-out"

func target(stream string, generation int, seq uint64) string {
	return entry.ID(fmt.Sprintf("%s#%d.%d", stream, generation, seq))
}

// Place reads back from the ledger where a branch that a ruling left begins, or to where a stream was put back.
func Place(o *entry.Operator) (stream string, generation int, seq uint64, ok bool) {
	i := strings.LastIndexByte(o.Target, '#')
	if i < 0 {
		return "", 0, 0, false
	}
	n, err := fmt.Sscanf(o.Target[i+1:], "%d.%d", &generation, &seq)
	return o.Target[:i], generation, seq, err == nil && n == 2
}

// unrostered tells whether a stream that was joined in its middle has no roster any more that is believed.
func unrostered(r state.Reader, s *state.Stream) (bool, error) {
	if s.Joined <= 1 {
		return false, nil
	}
	any, err := state.Rostered(r, s.Ref)
	return !any, err
}
