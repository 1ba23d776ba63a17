package verify

import (
	"context"
	"slices"
	"strconv"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// trusted is what the ledger says that the enclave believed of a key, at this entry.
type trusted struct {
	issuer, stream      string
	kinds               []string // empty: all
	notBefore, notAfter time.Time
	retired             *point
}

type point struct {
	generation int
	seq        uint64
}

func (v *verifier) trust(t *entry.Trust) {
	if t.Use == entry.UseDecrypt {
		return
	}
	switch t.Action {
	case entry.TrustAdd:
		v.trustAdd(t)
	case entry.TrustRetire, entry.TrustRevoke:
		k := v.trusted[t.Key]
		if k == nil {
			v.findf(KeyNotTrusted, "key %s is retired and was never trusted", t.Key)
			return
		}
		if r := k.retired; r == nil || t.Generation < r.generation || t.Generation == r.generation && t.AtSeq < r.seq {
			k.retired = &point{t.Generation, t.AtSeq}
			v.blockRetired(t)
		}
		if t.Action == entry.TrustRevoke {
			v.revokedKey(t)
		}
	case entry.TrustGeneration:
		v.openStream(t)
	case entry.TrustBranch:
		v.branch(t)
	}
}

// past reports whether a place is past the one at which the key was retired.
func (k *trusted) past(generation int, seq uint64) bool {
	return k != nil && k.retired != nil && (generation > k.retired.generation || generation == k.retired.generation && seq > k.retired.seq)
}

// blockRetired is told that a key is good up to a place: what waits of it past that does not go into sequence.
func (v *verifier) blockRetired(t *entry.Trust) {
	for k, s := range v.streams {
		if k.issuer != t.Issuer || k.stream != t.Stream || k.audience != "" {
			continue
		}
		for seq, list := range s.early {
			for i := range list {
				m, ok := v.again[list[i].payload]
				list[i].blocks = list[i].blocks || ok && m.received != nil && m.received.Key == t.Key && v.trusted[t.Key].past(k.generation, seq)
			}
		}
	}
}

func (v *verifier) trustAdd(t *entry.Trust) {
	k := &trusted{issuer: t.Issuer, stream: t.Stream, kinds: t.Events}
	if t.NotBefore != nil {
		k.notBefore = t.NotBefore.Time()
	}
	if t.NotAfter != nil {
		k.notAfter = t.NotAfter.Time()
	}
	if was := v.trusted[t.Key]; was != nil {
		k.retired = was.retired // for good: a key that is added again is good for no more
	}
	v.trusted[t.Key] = k
	if t.Generation != 0 {
		v.openStream(t)
	}
	if t.JWK != "" {
		if j, err := keyFromJWK([]byte(t.JWK)); err != nil || j.ID != t.Key {
			v.findf(KeyDiffers, "the public key beside key id %s is another key", t.Key)
		}
	}
	if v.TilesOnly && len(v.Keys) == 0 {
		return
	}
	switch g := v.Keys[t.Key]; {
	case g == nil:
		v.findf(KeyNotGiven, "the enclave trusts key %s for stream %s of %s, and the auditor was given no such key: ask the producer whether it is theirs", t.Key, t.Stream, t.Issuer)
	case g.Issuer != "" && (g.Issuer != t.Issuer || g.Stream != t.Stream):
		v.findf(KeyDiffers, "the enclave trusts key %s for stream %s of %s; its card says %s of %s", t.Key, t.Stream, t.Issuer, g.Stream, g.Issuer)
	case g.Kinds != nil:
		kinds := t.Events
		if len(kinds) == 0 { // all of them
			for _, kind := range schema.Kinds {
				kinds = append(kinds, string(kind))
			}
		}
		for _, kind := range kinds {
			if !slices.Contains(g.Kinds, schema.Kind(kind)) {
				v.findf(KeyDiffers, "the enclave lets key %s sign %s; its card does not", t.Key, kind)
			}
		}
	}
}

func (v *verifier) openStream(t *entry.Trust) {
	k := streamKey{t.Issuer, t.Stream, "", t.Generation}
	first, before := max(t.AtSeq, 1), schema.Digest{}
	if t.Head != nil {
		before = *t.Head
	}
	if v.streams[k] != nil {
		v.findf(SentTwice, "generation %d of stream %s is opened a second time", t.Generation, t.Stream)
		return
	}
	for o, s := range v.streams {
		if o.issuer == k.issuer && o.stream == k.stream && o.audience == "" {
			s.closed = true
		}
	}
	v.streams[k] = newStream(k, first, before)
}

// received judges a message that the enclave took: its signature, its place, and what it says.
func (v *verifier) received(ctx context.Context, r *entry.Received) error {
	v.report.Counts.Dispositions[r.Disposition]++
	if _, ok := v.heard[r.Issuer]; !ok && !r.Stale && r.Disposition != entry.DispositionDuplicate {
		v.heard[r.Issuer] = v.now
	}
	key := streamKey{r.Issuer, r.Stream, "", r.Generation}
	s := v.streams[key]
	if s == nil {
		v.findAt(ChainClaim, &r.Message, "it is of a generation that nobody opened")
		s = newStream(key, r.Seq, r.Prev)
		v.streams[key] = s
	}
	w := waiting{seq: r.Seq, payload: r.Payload, prev: r.Prev, subject: r.Subject}
	if r.Disposition == entry.DispositionDuplicate {
		s.repeats++
		if s.judge(w) != repeat {
			v.findAt(ChainClaim, &r.Message, "it is recorded as a repeat, and nothing like it came before")
		}
		return nil
	}
	m, second := v.again[r.Payload]
	if !second {
		var err error
		if m, err = v.message(ctx, &r.Message); err != nil {
			return err
		}
		v.report.Checked.Messages++
		s.messages++
		v.trustedNow(r, &m)
	}
	v.agrees(&r.Message, &m)
	if m.fault == "" && m.frame.Audience != "" && v.started != nil && m.frame.Audience != v.started.Enclave {
		v.findAt(WrongEnclave, &r.Message, "it is for %s", m.frame.Audience)
	}
	v.content(r, &m)
	w.blocks = m.refusal == schema.CodeNewerVersion
	if second {
		if s.head >= r.Seq {
			// It waited, went into sequence here as soon as its gap closed, and was judged otherwise there.
			s.unsure = s.unsure || r.Disposition != entry.DispositionRefused
			s.refused(r)
			return nil
		}
		s.early[r.Seq] = slices.DeleteFunc(s.early[r.Seq], func(e waiting) bool { return e.payload == w.payload })
		if r.Disposition == entry.DispositionHeld && r.Code == string(KeyRetired) && v.trusted[r.Key].past(r.Generation, r.Seq) {
			return nil // refused since: another message is the one at its place
		}
	}
	v.place(s, w, r, &m)
	return nil
}

// place holds the disposition against the chain, moves the chain on, and takes in what the message states.
func (v *verifier) place(s *stream, w waiting, r *entry.Received, m *message) {
	at := s.judge(w)
	claim := func(want place) {
		if at != want && !s.unsure {
			v.findAt(ChainClaim, &r.Message, "it is recorded as %s; by the chain it is %s", r.Disposition, at)
		}
	}
	allowed := v.allows(r.Key, m.frame.Kind)
	switch r.Disposition {
	case entry.DispositionAdmitted, entry.DispositionFilled, entry.DispositionRefused:
		if r.Code == "covered" && r.Disposition == entry.DispositionFilled {
			claim(late)
			if at == late {
				s.known[w.seq-s.joined] = short(w.payload)
				s.late[w.seq] = append(s.late[w.seq], w)
				kept := *m // it is read again where the roster is not believed any more
				kept.received = r
				v.again[r.Payload] = kept
			}
			if allowed && (m.fact.kind == leaver || m.fact.kind == suspend) {
				v.state(r, m, false)
			}
			return
		}
		if s.unrostered && r.Code == "" && r.Disposition != entry.DispositionRefused && m.frame.Kind != schema.KindApproval {
			v.findAt(ChainClaim, &r.Message, "the stream was joined in its middle and no roster came yet: it may give nothing")
		}
		if at != next {
			v.findAt(ChainBroken, &r.Message, "it was taken as the next in its chain; it is %s: the head was message %d with digest %s", at, s.head, s.hash)
			s.restart(w) // one finding for one break: what follows is held against what was taken
		}
		after := s.advance(w)
		s.refused(r)
		if r.Disposition != entry.DispositionRefused {
			v.state(r, m, r.Code == "")
			if allowed && r.Code == "" {
				v.approves(r, m)
			}
		}
		for _, x := range after {
			v.sequenced(s, x)
		}
		v.heartbeat(s, r, m)
		if allowed && r.Disposition != entry.DispositionRefused {
			v.collect(s, r, m)
		}
		return
	case entry.DispositionGap:
		claim(ahead)
		s.gaps++
	case entry.DispositionFork:
		if at != late && !(at == next && s.blind) { // its neighbours, which are not kept here, may tell
			claim(fork)
		}
		s.forks++
		if r.Code == "ruled-out" {
			s.rule(w)
			if allowed {
				v.state(r, m, false)
				v.heartbeat(s, r, m)
			}
			return
		}
		s.forked = true
	case entry.DispositionGeneration:
		claim(outdate)
	case entry.DispositionCutCore:
		claim(next)
		v.unreadable(r, m)
	case entry.DispositionHeld:
		if at != behind && !s.unsure {
			v.unreadable(r, m)
		}
		switch r.Code {
		case "rollback":
			claim(behind)
		case string(schema.CodeNewerVersion):
			claim(next)
		}
	}
	v.keep(s, w, r, m)
	if allowed {
		v.state(r, m, false)
		v.heartbeat(s, r, m)
		if r.Disposition == entry.DispositionGap {
			v.collect(s, r, m)
		}
	}
}

// unreadable holds a message that is to wait for a newer program against what it says. Version 1 every program could read.
func (v *verifier) unreadable(r *entry.Received, m *message) {
	if m.refusal != schema.CodeNewerVersion && m.frame.Version <= 1 && (m.fault == "" || m.fault == unproved) {
		v.findAt(ContentJudged, &r.Message, "it is recorded as %s, as if it could not be read, and is of version 1", r.Disposition)
	}
}

func (v *verifier) keep(s *stream, w waiting, r *entry.Received, m *message) {
	s.keep(w)
	kept := *m
	kept.received = r
	if r.Disposition != entry.DispositionFork {
		kept.roster = nil // it is with its other parts
	}
	v.again[r.Payload] = kept
}

func (p place) String() string {
	return [...]string{"next in the chain", "ahead of a gap", "a repeat", "a fork", "before the start", "of a generation that is over", "stood in for by a roster"}[p]
}

// message finds the archived message of an entry. Where there is none, or it is not good, what the entry
// itself says stands in for it, so that one fault is one finding.
func (v *verifier) message(ctx context.Context, e *entry.Message) (message, error) {
	if v.TilesOnly {
		return fromEntry(e), nil
	}
	m, ok, err := v.archive.find(ctx, e.Payload)
	if err != nil {
		return m, err
	}
	if !ok {
		v.missing(e)
		return fromEntry(e), nil
	}
	v.flushMissing()
	if m.fault != "" {
		i := v.index
		v.find(Finding{Code: m.fault, Entry: &i, Issuer: e.Issuer, Subject: e.Subject, Stream: e.Stream, Gen: e.Generation, Seq: e.Seq,
			Where: m.file + ":" + strconv.Itoa(m.line), Detail: "the archived message is not good: " + m.detail})
		return fromEntry(e), nil
	}
	v.report.Checked.Signatures++
	return m, nil
}

// unread are the messages behind the last that was found in the archive. Of a ledger that is being
// written, the archive may be a little behind.
type unread struct {
	n     int64
	since time.Time
	list  []Finding
}

func (v *verifier) missing(e *entry.Message) {
	if v.unread.n++; v.unread.n == 1 {
		v.unread.since = v.now
	}
	if len(v.unread.list) < maxListed {
		i := v.index
		v.unread.list = append(v.unread.list, Finding{Code: ArchiveMissing, Entry: &i, Issuer: e.Issuer, Subject: e.Subject, Stream: e.Stream,
			Gen: e.Generation, Seq: e.Seq, Detail: "the message is not in the archive: its signature cannot be checked"})
	}
}

func (v *verifier) flushMissing() {
	if v.unread.n == 0 {
		return
	}
	for _, f := range v.unread.list {
		v.find(f)
	}
	v.report.Counts.Findings[ArchiveMissing] += v.unread.n - int64(len(v.unread.list))
	v.unread = unread{}
}

// fromEntry is as much of a message as its entry repeats.
func fromEntry(e *entry.Message) message {
	m := message{claimed: e.Payload, detail: "from the entry", fault: unproved}
	name, version, _ := splitEvent(e.Event)
	if version > 1 {
		m.refusal = schema.CodeNewerVersion
	}
	m.frame = schema.Frame{Issuer: e.Issuer, Stream: schema.Position{ID: e.Stream, Generation: e.Generation, Seq: e.Seq, Prev: e.Prev},
		ID: e.ID, Subject: e.Subject, Kind: name}
	if e.IssuedAt != nil {
		m.frame.IssuedAt = *e.IssuedAt
	}
	m.occurred = e.Occurred
	if k := kindOf(name); k != noFact && e.Engagement > 0 {
		m.fact = fact{kind: k, partial: true, engagement: e.Engagement, from: unix(e.Effective)}
	}
	return m
}

// unproved marks a message that is known from its entry alone.
const unproved Code = "unproved"

func splitEvent(s string) (kind schema.Kind, version int, ok bool) {
	for i := len(s) - 1; i > 0; i-- {
		if s[i] == 'v' && s[i-1] == ':' {
			n, err := strconv.Atoi(s[i+1:])
			return schema.Kind(s[:i-1]), n, err == nil
		}
	}
	return "", 0, false
}

// trustedNow holds the key against what the ledger trusted at this entry.
func (v *verifier) trustedNow(r *entry.Received, m *message) {
	k := v.trusted[r.Key]
	switch {
	case k == nil || k.issuer != r.Issuer || k.stream != r.Stream:
		v.findAt(KeyNotTrusted, &r.Message, "key %s was not trusted for this stream then", r.Key)
	case !k.notBefore.IsZero() && v.now.Before(k.notBefore) || !k.notAfter.IsZero() && v.now.After(k.notAfter.Add(time.Second)):
		v.findAt(KeyWindow, &r.Message, "key %s was outside its window then", r.Key)
	case k.past(r.Generation, r.Seq):
		v.findAt(KeyRetired, &r.Message, "key %s was retired at generation %d, seq %d", r.Key, k.retired.generation, k.retired.seq)
	}
}

func (v *verifier) allows(kid string, kind schema.Kind) bool {
	k := v.trusted[kid]
	return k != nil && (len(k.kinds) == 0 || slices.Contains(k.kinds, string(kind)))
}

// agrees holds the entry against the signed message.
func (v *verifier) agrees(e *entry.Message, m *message) {
	if m.fault != "" {
		return
	}
	f := &m.frame
	differs := func(what string, ok bool) {
		if !ok {
			v.findAt(EntryDiffers, e, "its %s is not what the signed message says", what)
		}
	}
	differs("key", m.key != nil && e.Key == m.key.ID)
	differs("issuer", e.Issuer == f.Issuer)
	differs("place", e.Stream == f.Stream.ID && e.Generation == f.Stream.Generation && e.Seq == f.Stream.Seq && e.Prev == f.Stream.Prev)
	differs("subject", e.Subject == f.Subject)
	differs("jti", e.ID == f.ID)
	if f.Kind != "" {
		differs("event", e.Event == entry.ID(string(f.Kind)+":v"+strconv.Itoa(f.Version)))
	}
	if m.key != nil && m.key.Issuer != "" && (m.key.Issuer != f.Issuer || m.key.Stream != f.Stream.ID) {
		v.findAt(KeyDiffers, e, "key %s is of stream %s of %s by its card", m.key.ID, m.key.Stream, m.key.Issuer)
	}
	if e.IssuedAt != nil {
		differs("iat", *e.IssuedAt == f.IssuedAt)
	}
	if m.fact.kind != noFact {
		differs("engagement", e.Engagement == m.fact.engagement)
		if m.fact.kind != joiner {
			differs("effective", e.Effective != nil && e.Effective.Unix() == m.fact.from)
		}
	}
	if e.Occurred != nil || m.occurred != nil {
		differs("toe", unix(e.Occurred) == unix(m.occurred))
	}
	if m.approval != nil {
		differs("engagement", e.Engagement == m.approval.Engagement)
	}
	if f.Kind == schema.KindHeartbeat && m.refusal == "" {
		differs("number of cuts", e.Cuts != nil && *e.Cuts == len(m.cuts))
	}
	if r := m.roster; r != nil {
		differs("roster", e.Roster != nil && *e.Roster == rosterOf(r))
	}
}

// content holds what was taken or refused for its content against the schema.
func (v *verifier) content(r *entry.Received, m *message) {
	if m.fault != "" {
		return
	}
	taken := r.Disposition == entry.DispositionAdmitted || r.Disposition == entry.DispositionFilled
	allowed := v.allows(r.Key, m.frame.Kind)
	switch {
	case taken && m.refusal != "":
		v.findAt(ContentJudged, &r.Message, "its content was taken; the schema refuses it (%s)", m.refusal)
	case taken && !allowed:
		v.findAt(KindNotAllowed, &r.Message, "its key may not sign %s", m.frame.Kind)
	case r.Disposition == entry.DispositionRefused && m.refusal == "" && allowed:
		v.findAt(ContentJudged, &r.Message, "its content was refused (%s); the schema allows it", r.Code)
	}
}

// sequenced is told of a message whose gap closed.
func (v *verifier) sequenced(s *stream, x waiting) {
	m, ok := v.again[x.payload]
	if ok && m.received != nil && m.received.Roster != nil && m.received.Disposition == entry.DispositionFork { // else it is with its other parts
		v.collect(s, m.received, &m)
	}
	if x.subject == "" {
		return
	}
	if ok && m.received != nil && m.approval != nil && v.allows(m.received.Key, schema.KindApproval) {
		v.approves(m.received, &m)
	}
	p := v.person(who{s.issuer, x.subject})
	for _, f := range p.stated(s.generation, x.seq) {
		if f.source.of != short(x.payload) {
			continue
		}
		gives := *f
		gives.sequenced = true
		v.beforeFact(who{s.issuer, x.subject}, p, gives)
		f.sequenced, p.changed = true, seconds(v.now)
		v.named(who{s.issuer, x.subject}, p)
		v.took(who{s.issuer, x.subject}, p, *f)
	}
}

// state takes in the fact of a message.
func (v *verifier) state(r *entry.Received, m *message, inSequence bool) {
	f := m.fact
	if f.kind == noFact || r.Subject == "" {
		return
	}
	f.sequenced, f.generation, f.seq, f.entry, f.source = inSequence, r.Generation, r.Seq, v.index, v.sourceOf(&r.Message)
	w := who{r.Issuer, r.Subject}
	p := v.person(w)
	v.beforeFact(w, p, f)
	if !p.add(f) {
		return
	}
	p.changed = seconds(v.now)
	if inSequence {
		v.named(w, p)
	}
	v.took(w, p, f)
	v.cutBy(w, p, f, m.frame.IssuedAt, m.occurred)
}

// heartbeat takes in the cuts that a heartbeat repeats where the messages themselves did not come.
func (v *verifier) heartbeat(s *stream, r *entry.Received, m *message) {
	if r.Cuts != nil && *r.Cuts > 0 {
		s.echoed = max(s.echoed, r.Seq)
	}
	for _, c := range m.cuts {
		here := (r.Disposition == entry.DispositionAdmitted || r.Disposition == entry.DispositionFilled) && c.Seq >= s.joined && c.Seq <= s.head && s.known[c.Seq-s.joined] != 0 && !s.unread[c.Seq]
		if here || c.Seq >= r.Seq || !v.allows(r.Key, c.Kind) {
			continue
		}
		w := who{r.Issuer, c.Subject}
		p := v.person(w)
		f := fact{kind: kindOf(c.Kind), engagement: c.Engagement, generation: r.Generation, seq: c.Seq, from: c.Effective.Unix(), entry: v.index}
		if p.add(f) {
			p.changed = seconds(v.now)
			v.cutBy(w, p, f, m.frame.IssuedAt, nil)
		}
	}
}

// sent judges a message that a producer numbered and signed.
func (v *verifier) sent(ctx context.Context, e *entry.Sent) error {
	k := streamKey{e.Issuer, e.Stream, e.Audience, e.Generation}
	s := v.streams[k]
	if s == nil {
		name := k
		name.generation = 0
		if latest := v.latest[name]; e.Generation <= latest {
			v.findAt(SentTwice, &e.Message, "it opens generation %d after generation %d", e.Generation, latest)
		}
		v.latest[name] = e.Generation
		s = newStream(k, 1, schema.Digest{})
		v.streams[k] = s
	}
	m, err := v.message(ctx, &e.Message)
	if err != nil {
		return err
	}
	v.report.Checked.Messages++
	s.messages++
	v.agrees(&e.Message, &m)
	if v.TilesOnly && len(v.Keys) > 0 && v.Keys[e.Key] == nil {
		v.findAt(KeyNotGiven, &e.Message, "key %s was not given to the auditor", e.Key)
	}
	if m.fault == "" {
		if m.refusal != "" {
			v.findAt(ContentJudged, &e.Message, "it was sent; the schema refuses it (%s)", m.refusal)
		}
		if m.frame.Audience != e.Audience {
			v.findAt(EntryDiffers, &e.Message, "its aud is not what the signed message says")
		}
	}
	w := waiting{seq: e.Seq, payload: e.Payload, prev: e.Prev}
	switch at := s.judge(w); at {
	case next:
		s.advance(w)
	case repeat, fork:
		v.findAt(SentTwice, &e.Message, "number %d of generation %d was used before, or its prev names another message", e.Seq, e.Generation)
	default:
		v.findAt(ChainBroken, &e.Message, "it is %s: the head was message %d", at, s.head)
		s.restart(w)
		s.advance(w)
	}
	return nil
}
