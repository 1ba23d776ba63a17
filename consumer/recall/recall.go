// Package recall takes from the ledger of a database that was lost what must be known again: whose word is taken and
// where each stream was, and who is to stay out.
//
// A ledger holds ids only. What somebody is to have is not on it, so nothing is given by it: that comes with the
// producer's next roster. Whom heartbeats and rosters name is not on it either; their signed messages are in the
// archive beside it, and are believed for their digest. Entries come proved to be in a tree that the ledger's key
// signed. What operators ruled holds on: a word that was disowned ends no suspension and no leaver.
package recall

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

type streamName struct{ iss, name string }

// stream is the latest generation of one, as far as the ledger saw it.
type stream struct {
	generation int
	head       uint64
	hash       schema.Digest
	blind      bool                // an operator ruled out what was followed: the head is known from the next message on
	chain      map[uint64][8]byte  // how the digests of what was followed begin
	ahead      map[uint64]*waiting // recorded past a gap
	forks      []*waiting          // recorded while it said two things
	rosters    []*roster           // that came and were not said to be applied, the latest last
}

// waiting is a message past a gap, or of a stream that says two things. It counts when the gap closes, or when an operator
// chooses the branch that it is of.
type waiting struct {
	*entry.Received
	of   state.SubjectKey
	word word // of no kind: about nobody
}

type key struct {
	trust   entry.Trust
	retired *admit.Point
}

// Memory is what was read so far. Make one with New.
type Memory struct {
	// Content finds a message that the ledger names, as it was signed; it is asked for each, in the ledger's order.
	// A ledger has ids only, and names nobody whom a heartbeat or a roster speaks of. nil: none is at hand.
	Content func(payload schema.Digest) (jws string, ok bool)
	// Unread is of how many heartbeats and parts of rosters the content was not at hand.
	Unread int64

	streams map[streamName]*stream
	keys    map[string]*key
	order   []string // of the keys
	persons map[state.SubjectKey]*person
	unread  map[string][]word       // by issuer: rosters that were applied, of which not all is at hand
	intents map[int64]*entry.Intent // without an outcome
	index   int64
}

// New is a memory of nothing.
func New() *Memory {
	return &Memory{streams: map[streamName]*stream{}, keys: map[string]*key{}, persons: map[state.SubjectKey]*person{}, unread: map[string][]word{}, intents: map[int64]*entry.Intent{}}
}

// Read takes the next entry, in the ledger's order.
func (m *Memory) Read(e entry.Entry) error {
	i := m.index
	m.index++
	switch b := e.Body.(type) {
	case *entry.Trust:
		m.trust(b)
	case *entry.Received:
		m.received(b)
	case *entry.Lease:
		if b.Action == entry.LeaseRenewed && b.Subject == "" && b.Cause != nil && b.Cause.Position != nil {
			m.applied(b.Cause.Position)
		}
	case *entry.Operator:
		m.operator(b, e.Time)
	case *entry.Intent:
		m.intents[i] = b
	case *entry.Outcome:
		m.outcome(b, e.Time)
	case *entry.Observed:
		if b.Account != nil {
			m.person(state.SubjectKey{Issuer: b.Account.Issuer, Subject: b.Account.Subject}).observed(b.Account, e.Time)
		}
	}
	return nil
}

func (m *Memory) person(k state.SubjectKey) *person {
	if m.persons[k] == nil {
		m.persons[k] = &person{}
	}
	return m.persons[k]
}

func (m *Memory) trust(t *entry.Trust) {
	if t.Use == entry.UseDecrypt {
		return
	}
	name := streamName{t.Issuer, t.Stream}
	switch t.Action {
	case entry.TrustAdd:
		m.keys[t.Key] = &key{trust: *t}
		m.order = append(m.order, t.Key)
		if t.Generation > 0 {
			m.open(name, t)
		}
	case entry.TrustRetire, entry.TrustRevoke:
		k := m.keys[t.Key]
		if k == nil {
			return
		}
		last := admit.Point{Generation: t.Generation, Seq: t.AtSeq}
		if t.Action == entry.TrustRevoke {
			m.disown(func(w *word) bool { return w.key == t.Key && w.after(last) })
		}
		if r := k.retired; r == nil || last.Generation < r.Generation || last.Generation == r.Generation && last.Seq < r.Seq {
			k.retired = &last
		}
		if s := m.streams[streamName{k.trust.Issuer, k.trust.Stream}]; s != nil { // what waits of it does not come into sequence
			over := func(x *waiting) bool { return x.word.key == t.Key && x.word.after(last) }
			maps.DeleteFunc(s.ahead, func(_ uint64, x *waiting) bool { return over(x) })
			s.forks = slices.DeleteFunc(s.forks, over)
		}
	case entry.TrustGeneration:
		m.open(name, t)
	case entry.TrustBranch: // what follows says which others were ruled out
		if s := m.streams[name]; s != nil && s.generation == t.Generation && t.Head != nil {
			followed := s.choose(t.AtSeq, *t.Head)
			if next := s.ahead[s.head+1]; followed || next != nil && next.Prev == s.hash { // else from where it left that
				m.letIn(s)
			}
		}
	}
}

func (m *Memory) open(name streamName, t *entry.Trust) {
	s := &stream{generation: t.Generation, chain: map[uint64][8]byte{}, ahead: map[uint64]*waiting{}}
	if t.AtSeq > 0 {
		s.head = t.AtSeq - 1
	}
	if t.Head != nil {
		s.hash = *t.Head
	}
	if was := m.streams[name]; was != nil {
		s.rosters = was.rosters
	}
	m.streams[name] = s
}

// disown marks what gave access by a word that an operator disowned. What it took stays.
func (m *Memory) disown(bad func(*word) bool) {
	for _, p := range m.persons {
		for i := range p.words {
			if w := &p.words[i]; !w.kind.Cuts() && bad(w) {
				w.disowned = true
			}
		}
	}
	for iss, list := range m.unread {
		m.unread[iss] = slices.DeleteFunc(list, func(w word) bool { return bad(&w) })
	}
}

// untold is where the last head of a roster of an issuer is that was applied and is not at hand in full; zero: there is none.
func (m *Memory) untold(iss string) (last fence.Position) {
	for _, w := range m.unread[iss] {
		if w.at.Compare(last) > 0 {
			last = w.at
		}
	}
	return last
}

// received follows the chain and keeps what was said of each person. What was cut came from a key that was trusted;
// past a gap, too.
func (m *Memory) received(r *entry.Received) {
	if r.Disposition == entry.DispositionDuplicate {
		return
	}
	jws := ""
	if m.Content != nil {
		jws, _ = m.Content(r.Payload)
	}
	name, of := streamName{r.Issuer, r.Stream}, state.SubjectKey{Issuer: r.Issuer, Subject: r.Subject}
	w := word{key: r.Key, stream: r.Stream, from: admit.Point{Generation: r.Generation, Seq: r.Seq}}
	inPlace := r.Disposition == entry.DispositionAdmitted || r.Disposition == entry.DispositionFilled
	if r.Disposition != entry.DispositionRefused && r.Subject != "" && r.Engagement > 0 {
		kind, _, _ := strings.Cut(r.Event, ":")
		w.kind = schema.Kind(kind)
		w.at = fence.Position{Engagement: r.Engagement, Generation: r.Generation, Seq: r.Seq}
		w.sequenced = inPlace && r.Code == ""
		w.bounded = r.Code == string(admit.CodeFastForward)
		if r.Effective != nil {
			w.effective = r.Effective.Time()
		}
		m.person(of).add(w)
	}
	if s := m.streams[name]; s != nil && s.generation == r.Generation {
		m.follow(s, r, of, w)
	}
	if r.Disposition != entry.DispositionRefused && (r.Cuts != nil && *r.Cuts > 0 || r.Roster != nil) {
		m.read(r, jws)
	}
}

// follow moves the head on, and lets what waited behind it count.
func (m *Memory) follow(s *stream, r *entry.Received, of state.SubjectKey, w word) {
	switch r.Disposition {
	case entry.DispositionAdmitted, entry.DispositionRefused, entry.DispositionFilled:
		if r.Seq > s.head && (r.Seq == s.head+1 && !s.blind || r.Disposition == entry.DispositionAdmitted) {
			s.step(r.Seq, r.Payload)
			maps.DeleteFunc(s.ahead, func(seq uint64, _ *waiting) bool { return seq <= s.head })
		}
	case entry.DispositionGap:
		s.ahead[r.Seq] = &waiting{r, of, w}
	case entry.DispositionFork:
		if r.Code != string(admit.CodeRuledOut) {
			s.forks = append(s.forks, &waiting{r, of, w})
		}
	}
	m.letIn(s)
}

// letIn lets what waited count where the head is before it by now: the ledger does not say so of each.
func (m *Memory) letIn(s *stream) {
	for next := s.ahead[s.head+1]; next != nil && !s.blind; next = s.ahead[s.head+1] {
		delete(s.ahead, s.head+1)
		s.step(s.head+1, next.Payload)
		if next.word.kind != "" {
			next.word.sequenced = !next.word.bounded
			m.person(next.of).add(next.word)
		}
		if next.Disposition == entry.DispositionFork && next.Roster != nil {
			r := *next.Received
			r.Disposition = entry.DispositionAdmitted
			jws := ""
			if m.Content != nil {
				jws, _ = m.Content(r.Payload)
			}
			m.read(&r, jws)
		}
	}
}

// choose is told which branch is the chain, by one of its messages: what came of it waits. It returns false where that is
// not what was followed: then the word that this one was left goes before.
func (s *stream) choose(seq uint64, hash schema.Digest) (followed bool) {
	list := s.forks
	s.forks = nil
	if followed = s.chain[seq] == [8]byte(hash[:8]); !followed {
		list = slices.AppendSeq(list, maps.Values(s.ahead))
		root, chosen := seq, map[uint64]*waiting{}
		for x := find(list, seq, hash); x != nil; x = find(list, x.Seq-1, x.Prev) { // down to where it left the chain
			root, chosen[x.Seq] = x.Seq, x
		}
		maps.DeleteFunc(s.ahead, func(at uint64, _ *waiting) bool { return at+1 >= root })
		maps.Copy(s.ahead, chosen)
	}
	slices.SortFunc(list, func(a, b *waiting) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, x := range list {
		before := s.ahead[x.Seq-1]
		if s.ahead[x.Seq] == nil && (before != nil && before.Payload == x.Prev || followed && x.Seq == s.head+1 && x.Prev == s.hash) {
			s.ahead[x.Seq] = x
		}
	}
	return followed
}

// find returns what waits at a place, if it has that digest.
func find(list []*waiting, seq uint64, hash schema.Digest) *waiting {
	if i := slices.IndexFunc(list, func(x *waiting) bool { return x.Seq == seq && x.Payload == hash }); i >= 0 {
		return list[i]
	}
	return nil
}

func (s *stream) step(seq uint64, payload schema.Digest) {
	s.head, s.hash, s.blind = seq, payload, false
	s.chain[seq] = [8]byte(payload[:8])
}

func (m *Memory) operator(o *entry.Operator, at time.Time) {
	switch o.Action {
	case ruling.ActionRuleOut:
		m.ruleOut(o)
		return
	case ruling.ActionPutBack:
		m.putBack(o)
		return
	}
	if o.Subject == "" {
		return
	}
	p := m.person(state.SubjectKey{Issuer: o.Issuer, Subject: o.Subject})
	act := &fence.Lock{By: o.By, Reason: o.Reason, At: at}
	if f := o.First; f != nil {
		act.By, act.At = f.By, f.At.Time
	}
	switch o.Action {
	case "cut":
		p.lock = act
	case "unlock":
		p.lock = nil
	case ruling.ActionUndo:
		p.denied = act
	case ruling.ActionKeep:
		for i := range p.words {
			p.words[i].disowned = false
		}
	case ActionRecall:
		if w, ok := recalled(o); ok {
			denied := p.denied
			p.add(w)
			p.denied = denied // nothing of before is a good word
		}
	}
}

// ruleOut is told of a branch that a ruling left: its first message. Where it was the one that was followed, what it
// gave is disowned, and the stream goes on with what came of the chosen one, or with the next message that was admitted.
func (m *Memory) ruleOut(o *entry.Operator) {
	name, generation, seq, ok := ruling.Place(o)
	s := m.streams[streamName{o.Issuer, name}]
	if !ok || s == nil || s.generation != generation || o.Digest == nil {
		return
	}
	if s.chain[seq] != [8]byte(o.Digest[:8]) {
		return
	}
	last := admit.Point{Generation: generation, Seq: seq - 1}
	m.disown(func(w *word) bool { return w.stream == name && w.from.Generation == generation && w.after(last) })
	s.head, s.blind = seq-1, true
	s.rosters = slices.DeleteFunc(s.rosters, func(x *roster) bool { return x.generation == generation })
	if s.ahead[seq] != nil {
		s.blind = false
		m.letIn(s)
	}
}

// putBack is told from where a stream goes on since a roster is not believed that had stood in for what comes there. What was late
// by it, and comes into sequence, is on the ledger once more.
func (m *Memory) putBack(o *entry.Operator) {
	name, generation, seq, ok := ruling.Place(o)
	s := m.streams[streamName{o.Issuer, name}]
	if !ok || s == nil || s.generation != generation {
		return
	}
	s.head, s.hash, s.blind = seq, schema.Digest{}, false
	if o.Digest != nil {
		s.hash = *o.Digest
	}
	maps.DeleteFunc(s.chain, func(at uint64, _ [8]byte) bool { return at > seq })
	maps.DeleteFunc(s.ahead, func(at uint64, _ *waiting) bool { return at <= seq })
	m.letIn(s)
}

// outcome notes what was done to an account, as the tenant confirmed it.
func (m *Memory) outcome(o *entry.Outcome, at time.Time) {
	in := m.intents[o.Intent]
	delete(m.intents, o.Intent)
	if in == nil || in.Observe {
		return
	}
	p := m.person(state.SubjectKey{Issuer: o.Issuer, Subject: o.Subject})
	if at := in.Cause.Position; at != nil && slices.ContainsFunc(in.Ops, func(op entry.Op) bool { return op.Class == entry.ClassGive }) &&
		!slices.ContainsFunc(p.words, func(w word) bool { return w.from == admit.Point{Generation: at.Generation, Seq: at.Seq} }) {
		p.given = max(p.given, in.Engagement) // by a roster
	}
	p.account = cmp.Or(o.Account, in.Account, p.account)
	for _, r := range o.Results {
		n := slices.IndexFunc(in.Ops, func(op entry.Op) bool { return op.N == r.N })
		if n < 0 {
			continue
		}
		done := r.Result == entry.ResultApplied || r.Result == entry.ResultAlready || r.Result == entry.ResultFound
		switch plan.Kind(in.Ops[n].Op) {
		case plan.DisableAccount:
			if !done && r.Result != entry.ResultSkipped && p.cut.IsZero() {
				p.doubt = at
			}
			if done {
				p.cut, p.blocked, p.doubt = at, time.Time{}, time.Time{}
				if r.Code == string(plan.HoldDisabledLocally) {
					p.blocked = at
				}
			}
		case plan.RevokeSessions:
			if done {
				p.revoked = at
			}
		case plan.EnableAccount, plan.CreateAccount: // also where it is not known: it may be open
			if r.Result != entry.ResultSkipped {
				p.cut, p.revoked, p.blocked, p.doubt, p.deleted = time.Time{}, time.Time{}, time.Time{}, time.Time{}, false
			}
		case plan.DeleteAccount:
			p.deleted = p.deleted || done
		}
	}
}

// Made is what a restore came to.
type Made struct {
	Keys   int           // trusted again
	Closed int           // persons who have no access by what was read
	Open   int           // of them, whose account is to be cut, since it was not seen to be
	Digest schema.Digest // of the list of those persons
}

// Restore writes what is known into a new database: keys, streams at their heads, and everybody who has no access.
// Whoever has access by the old ledger is not in it: the next roster says so anew.
func (m *Memory) Restore(tx *store.Tx, by state.By) (made Made, err error) {
	if err := state.SetRecovered(tx, by.Now); err != nil {
		return made, err
	}
	for _, in := range m.intents { // of which the ledger tells no end
		p := m.person(state.SubjectKey{Issuer: in.Issuer, Subject: in.Subject})
		if !in.Observe && p.cut.IsZero() && slices.ContainsFunc(in.Ops, func(op entry.Op) bool { return op.Op == string(plan.DisableAccount) }) {
			p.account, p.doubt = cmp.Or(p.account, in.Account), by.Now
		}
	}
	opened := map[streamName]bool{}
	for _, kid := range m.order {
		k := m.keys[kid]
		name := streamName{k.trust.Issuer, k.trust.Stream}
		s := m.streams[name]
		if s == nil || s.blind {
			continue // an operator pins it
		}
		row, err := trusted(&k.trust)
		if err != nil {
			return made, fmt.Errorf("key %s of the old ledger: %w", kid, err)
		}
		pin := state.Pin{}
		if !opened[name] {
			opened[name] = true
			pin = state.Pin{Generation: s.generation, Head: s.head, Hash: s.hash}
		}
		if err := state.TrustKey(tx, row, pin, by); err != nil {
			return made, err
		}
		if k.retired != nil {
			if err := state.RetireKey(tx, row.KID, *k.retired, by); err != nil {
				return made, err
			}
		}
		made.Keys++
	}
	var list bytes.Buffer
	for _, k := range slices.SortedFunc(maps.Keys(m.persons), byName) {
		stays, open, err := m.persons[k].restore(tx, k, m.Unread > 0, m.untold(k.Issuer), by)
		if err != nil {
			return made, err
		}
		if stays == 0 {
			continue
		}
		fmt.Fprintf(&list, "%s\n%s\n%d\n", k.Issuer, k.Subject, stays)
		made.Closed++
		if open {
			made.Open++
		}
	}
	made.Digest = schema.DigestOf(list.Bytes())
	return made, nil
}

// restore writes a person who has, or is to have, no access. stays is the engagement up to which that is so, 0 where
// nobody said so; open tells that the account is to be cut, since it was not seen to be. partly and untold say what was
// not read of what rosters state.
func (p *person) restore(tx *store.Tx, k state.SubjectKey, partly bool, untold fence.Position, by state.By) (stays int, open bool, err error) {
	doc, why, out := p.judge(by.Now, partly, untold)
	if why == fence.WhyDisowned {
		if err := p.deny(tx, k, &doc, by); err != nil {
			return 0, false, err
		}
	}
	var over fence.Subject
	if r := doc.Resumed; p.wasSuspended() && !r.Position.IsZero() { // the suspension's message may come again
		over = fence.Subject{StateFence: doc.StateFence, Resumed: r}
		if err := again(tx, k, schema.KindResume, r.Position, r.Effective, by); err != nil {
			return 0, false, err
		}
	}
	if len(doc.Closings) == 0 && len(doc.Wants) == 0 && doc.Lock == nil {
		return 0, false, p.ours(tx, k, over, by)
	}
	s := &state.Subject{SubjectKey: k, Doc: doc, FactAt: by.Now}
	known := p.known()
	switch {
	case p.deleted:
		known.DeletedAt = by.Now
	case out && !known.IsCut(): // also where this ledger names no account: one before it may have made one
		s.Raise(plan.Disable, by.Now, false)
		open = p.account != ""
	case p.account != "" && out: // what is left of it goes in its time
		s.Raise(plan.Strip, by.Now, false)
	}
	if err := state.SaveFacts(tx, s); err != nil {
		return 0, false, err
	}
	account, err := json.Marshal(known)
	if err != nil {
		return 0, false, err
	}
	if err := state.SetAccount(tx, k, account); err != nil {
		return 0, false, err
	}
	if err := p.still(tx, k, by); err != nil {
		return 0, false, err
	}
	if l := doc.Lock; l != nil { // what it does later names an operator's act of this ledger
		act := &entry.Operator{By: by.Login, Action: "cut", Issuer: k.Issuer, Subject: k.Subject, Reason: l.Reason, First: first(l)}
		if _, err := ledger.Append(tx, entry.New(by.Now, act)); err != nil {
			return 0, false, err
		}
	}
	for _, c := range doc.Closings {
		if err := again(tx, k, schema.KindLeaver, c.Position, c.Effective, by); err != nil {
			return 0, false, err
		}
	}
	for _, c := range doc.Suspensions {
		if err := again(tx, k, schema.KindSuspend, c.Position, c.From, by); err != nil {
			return 0, false, err
		}
	}
	return max(doc.StateFence.Engagement, 1), open, nil
}

// deny keeps that an operator took back what a disowned word had given, and that nothing else gives: the next good word
// ends that.
func (p *person) deny(tx *store.Tx, k state.SubjectKey, doc *fence.Subject, by state.By) error {
	index, err := ledger.Append(tx, entry.New(by.Now, &entry.Operator{By: by.Login, Action: ruling.ActionUndo, Issuer: k.Issuer, Subject: k.Subject, Reason: p.denied.Reason, First: first(p.denied)}))
	if err != nil {
		return err
	}
	last := 1
	for _, w := range p.words {
		last = max(last, w.at.Engagement)
	}
	doc.Wants = []fence.Want{{Position: fence.Position{Engagement: last}, Doubted: true}}
	doc.Doubt = &fence.Doubt{Entry: index}
	*doc = fence.Deny(*doc, index, by.Now.UTC(), nil)
	return nil
}

func first(l *fence.Lock) *entry.First { return &entry.First{By: l.By, At: entry.At(l.At)} }

// ActionRecall names, on the ledger, a statement that takes access away and that stood on the ledger before it, or up to
// where suspensions were over there, so that a third ledger knows of it by the second. It is the code, too, of an account that was disabled there, and its sessions
// revoked.
const ActionRecall = "recall"

func again(tx *store.Tx, k state.SubjectKey, kind schema.Kind, at fence.Position, effective time.Time, by state.By) error {
	_, err := ledger.Append(tx, entry.New(by.Now, &entry.Operator{By: by.Login, Action: ActionRecall, Issuer: k.Issuer, Subject: k.Subject, Engagement: at.Engagement,
		Target: fmt.Sprintf("%s#%d.%d", kind, at.Generation, at.Seq), Effective: entry.InstantAt(effective)}))
	return err
}

// recalled reads such an entry back.
func recalled(o *entry.Operator) (w word, ok bool) {
	kind, place, _ := strings.Cut(o.Target, "#")
	n, err := fmt.Sscanf(place, "%d.%d", &w.from.Generation, &w.from.Seq)
	w.kind = schema.Kind(kind)
	if err != nil || n != 2 || !w.kind.Cuts() && w.kind != schema.KindResume || o.Effective == nil {
		return w, false
	}
	w.sequenced = w.kind == schema.KindResume
	w.at, w.effective = fence.Position{Engagement: o.Engagement, Generation: w.from.Generation, Seq: w.from.Seq}, o.Effective.Time()
	return w, true
}

// ours keeps that a disabled account is so by us: by a lease that ran out, an end, a roster. The next word opens it again,
// where it would take it for a block of the tenant's own people and leave it. over is what was and is over.
func (p *person) ours(tx *store.Tx, k state.SubjectKey, over fence.Subject, by state.By) error {
	doubt := p.account != "" && !p.doubt.IsZero() && !p.deleted
	if !p.closed() && !doubt && over.Resumed.Position.IsZero() {
		return nil
	}
	if err := state.SaveFacts(tx, &state.Subject{SubjectKey: k, Doc: over}); err != nil {
		return err
	}
	if !p.closed() && !doubt {
		return nil
	}
	account, err := json.Marshal(p.known())
	if err != nil {
		return err
	}
	if err := state.SetAccount(tx, k, account); err != nil {
		return err
	}
	return p.still(tx, k, by)
}

// still puts on the ledger that an account was disabled by us on the one before it, or is gone, so that a third ledger knows
// of it by the second, and nobody is cut a second time.
func (p *person) still(tx *store.Tx, k state.SubjectKey, by state.By) error {
	if p.deleted {
		a := &entry.Account{Who: entry.Who{Issuer: k.Issuer, Subject: k.Subject}, Account: p.account, State: entry.StateGone, Code: ActionRecall}
		_, err := ledger.Append(tx, entry.New(by.Now, &entry.Observed{Account: a}))
		return err
	}
	if !p.closed() {
		return nil
	}
	a := &entry.Account{Who: entry.Who{Issuer: k.Issuer, Subject: k.Subject}, Account: p.account, State: entry.StateDisabled, Since: entry.MomentAt(p.cut)}
	if !p.revoked.IsZero() {
		a.Code = ActionRecall
	}
	_, err := ledger.Append(tx, entry.New(by.Now, &entry.Observed{Account: a}))
	return err
}

// trusted is a key as it was trusted.
func trusted(t *entry.Trust) (*state.Key, error) {
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON([]byte(t.JWK)); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(jwk.Key)
	if err != nil {
		return nil, err
	}
	k := &state.Key{Public: der, Key: admit.Key{Issuer: t.Issuer, Stream: t.Stream}}
	for _, name := range t.Events {
		k.Kinds = append(k.Kinds, schema.Kind(name))
	}
	if len(k.Kinds) == 0 {
		k.Kinds = schema.ProducerKinds
	}
	if t.NotBefore != nil {
		k.NotBefore = t.NotBefore.Time()
	}
	if t.NotAfter != nil {
		k.NotAfter = t.NotAfter.Time()
	}
	return k, nil
}
