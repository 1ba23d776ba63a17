package verify

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// roster is one roster while its parts come in, and until the ledger says that it was applied. In between the
// enclave takes it in person by person: either word, the one before it and the roster's, explains what is done.
type roster struct {
	streamKey
	from   source // the part that came first
	id     string
	parts  map[int]*schema.Roster // that came out of order
	next   int                    // the part that is digested next
	count  int                    // parts in all
	check  schema.RosterCheck
	head   schema.RosterHead
	first  uint64 // seq of the first and the last part that came
	last   uint64
	came   map[int]bool
	broken bool
	whole  time.Time
	entry  int64     // with which it became whole
	waits  time.Time // since when the enclave could apply it without a break
	late   bool      // a later roster of the stream was applied
	signed []source  // its parts
	issued schema.Instant

	facts map[string][]fact // by subject
}

// rosterOf is what an entry says of a part.
func rosterOf(r *schema.Roster) entry.Roster {
	return entry.Roster{ID: r.ID, Part: r.Part, Parts: r.Parts, Digest: r.Digest, Generation: r.Head.Generation, Seq: r.Head.Seq, Hash: r.Head.Hash,
		Live: len(r.Live), Closed: len(r.Closed)}
}

// head is a place of an issuer's at which a roster was taken.
type head struct {
	issuer string
	point
}

type rosterKey struct {
	streamKey
	id string
}

// collect takes in a part that came in sequence or past a gap.
func (v *verifier) collect(s *stream, r *entry.Received, m *message) {
	e := r.Roster
	if m.roster != nil { // what the entry leaves out, or says otherwise, is applied all the same
		said := rosterOf(m.roster)
		e = &said
	}
	if e == nil || s.forked || s.closed {
		return
	}
	k := rosterKey{s.streamKey, e.ID}
	x := v.rosters[k]
	if x == nil {
		x = &roster{streamKey: s.streamKey, from: v.sourceOf(&r.Message), id: e.ID, parts: map[int]*schema.Roster{}, next: 1, count: e.Parts, first: r.Seq, last: r.Seq, came: map[int]bool{}, facts: map[string][]fact{},
			head: schema.RosterHead{Generation: e.Generation, Seq: e.Seq, Hash: e.Hash}}
		v.rosters[k] = x
	}
	if r.IssuedAt != nil {
		x.issued = *r.IssuedAt
	}
	if x.broken || x.came[e.Part] {
		return
	}
	x.came[e.Part], x.first, x.last = true, min(x.first, r.Seq), max(x.last, r.Seq)
	x.signed = append(x.signed, v.sourceOf(&r.Message))
	if x.head != (schema.RosterHead{Generation: e.Generation, Seq: e.Seq, Hash: e.Hash}) || x.count != e.Parts {
		x.broken = true
		return
	}
	if m.roster != nil {
		x.parts[e.Part] = m.roster
	}
	for p := x.parts[x.next]; p != nil; p = x.parts[x.next] {
		delete(x.parts, x.next)
		x.next++
		if _, err := x.check.Add(p); err != nil {
			x.broken = true
			return
		}
		x.state(p)
	}
	if len(x.came) < x.count {
		return
	}
	seen := x.next > x.count // else the archive is not at hand
	if !seen && !v.TilesOnly || x.last-x.first+1 != uint64(x.count) || !s.agrees(x.head, x.first) {
		x.broken = true
		return
	}
	x.whole, x.waits, x.entry = v.now, v.now, v.index
	v.heads[head{x.issuer, point{x.head.Generation, max(x.head.Seq, 1)}}] = true
	s.unrostered = false
	if !seen {
		v.mayChange(x)
	}
	if x.head.Generation == s.generation && x.head.Seq > s.head {
		for _, a := range s.cover(x.head.Seq, x.head.Hash) {
			v.sequenced(s, a)
		}
	}
	v.pending = append(v.pending, x)
}

// unseen is up to where rosters of an issuer speak whose statements are not at hand, and the entry with which the last of
// them became whole.
type unseen struct {
	point
	entry int64
}

// mayEnd reports whether such a roster may say that a cut is over.
func (u unseen) mayEnd(c *Cut) bool {
	return c.Kind != "lock" && cmp.Or(cmp.Compare(c.generation, u.generation), cmp.Compare(c.Seq, u.seq)) <= 0
}

// mayChange is told of a roster whose statements are not at hand. Anybody's suspension may be over by it, anybody be hired
// again: what is amiss by now is so all the same, and from here on a cut that it may end accuses nobody.
func (v *verifier) mayChange(x *roster) {
	u := unseen{point{x.head.Generation, x.head.Seq}, v.index}
	if was := v.unseen[x.issuer]; cmp.Or(cmp.Compare(was.generation, u.generation), cmp.Compare(was.seq, u.seq)) > 0 {
		u.point = was.point
	}
	v.unseen[x.issuer] = u
	for w, p := range v.persons {
		if w.issuer != x.issuer {
			continue
		}
		for _, c := range p.cuts {
			if c.Roster != nil || !u.mayEnd(c) {
				continue
			}
			if v.undone(p, c) && v.excuse(p, c) == "" && v.owed(c.Due.Time) {
				v.missed(w, c)
			}
			c.Roster = &u.entry
		}
	}
}

// mayHave reports whether such a roster may be why a person has access: nothing against it was said since.
func (v *verifier) mayHave(w who, p *person, t int64) bool {
	u, ok := v.unseen[w.issuer]
	if !ok || p.locked || p.lapsed && p.lapse > u.entry {
		return false
	}
	for i := range p.facts {
		if f := &p.facts[i]; (f.kind == leaver || f.kind == suspend) && f.from <= t && f.compareAt(u.generation, u.seq) > 0 {
			return false
		}
	}
	return true
}

// state keeps what a part states, in little room.
func (x *roster) state(p *schema.Roster) {
	for i := range p.Live {
		l := &p.Live[i]
		f := fact{kind: mover, stated: true, sequenced: true, engagement: l.Engagement, generation: x.head.Generation, seq: x.head.Seq,
			start: l.Start.Unix(), end: unix(l.End), content: contentOf(&l.Person, l.Roles, l.Start, l.End)}
		g := fact{kind: resume, sequenced: true, engagement: l.Engagement, generation: f.generation, seq: f.seq, from: l.Since.Unix()}
		if l.State == schema.StateSuspended {
			g.kind = suspend
		}
		x.facts[l.Subject] = append(x.facts[l.Subject], f, g)
	}
	for i := range p.Closed {
		c := &p.Closed[i]
		x.facts[c.Subject] = append(x.facts[c.Subject], fact{kind: leaver, sequenced: true, engagement: c.Engagement,
			generation: x.head.Generation, seq: x.head.Seq, from: c.Effective.Unix()})
	}
}

// contentOf is a short digest of what is desired, to tell a roster that repeats it from one that does not.
func contentOf(p *schema.Person, roles []string, start schema.Instant, end *schema.Instant) uint64 {
	b, err := json.Marshal([]any{p, roles, start.Unix(), unix(end)})
	if err != nil {
		return 0 // equal to nothing
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:8]) | 1
}

// applied is told that the ledger says so of the roster whose last part is at a place: from here on it holds
// for everybody.
func (v *verifier) applied(l *entry.Lease) {
	if l.Cause == nil || l.Cause.Position == nil {
		v.findf(RosterUnknown, "it names no roster")
		return
	}
	at := l.Cause.Position
	for i, x := range v.pending {
		if s := v.streams[streamKey{at.Issuer, at.Stream, "", at.Generation}]; s == nil || v.rosters[rosterKey{s.streamKey, x.id}] != x || x.last != at.Seq {
			continue
		}
		for subject := range x.facts {
			v.settle(x, who{x.issuer, subject})
		}
		v.pending = append(v.pending[:i:i], v.pending[i+1:]...)
		for _, o := range v.pending {
			o.late = o.late || o.streamKey == x.streamKey && o.head.Seq < x.head.Seq && o.head.Generation == x.head.Generation
		}
		v.report.Checked.Rosters++
		return
	}
	v.findf(RosterUnknown, "a roster that ends at message %d of generation %d is said to be applied; no whole one is there", at.Seq, at.Generation)
}

// resumed is told that the enclave could not apply rosters or end holds until now, or that nobody knows for how long.
func (v *verifier) resumed() {
	if n := len(v.runs); n > 0 { // what lies between is no run
		v.runs[n-1].to = v.before
	}
	v.runs = append(v.runs, span{v.now, v.now})
	for _, x := range v.pending {
		x.waits = v.now
	}
}

// endRosters looks for whole rosters that the enclave left.
func (v *verifier) endRosters() {
	full := false
	for k := range v.alarms {
		full = full || k[0] == "disk-full"
	}
	for _, x := range v.pending {
		switch waited := v.now.Sub(x.waits); {
		case x.late:
		case v.TilesOnly: // whether it agrees with itself is in the archive
			v.report.Open.Rosters++
		case full || waited <= max(rosterLimit, v.Grace):
			v.report.Open.Rosters++
		default:
			v.find(Finding{Code: RosterUnapplied, Entry: &x.entry, Issuer: x.issuer, Stream: x.stream, Gen: x.generation, Seq: x.last,
				Detail: fmt.Sprintf("roster %s was whole at %s, and in %v of running it was neither applied nor overtaken by a later one", x.id, entry.At(x.whole), waited.Round(time.Minute))})
		}
	}
}

// cites settles a person by the pending roster whose head a cause names.
func (v *verifier) cites(w who, c *entry.Cause) {
	if c.Position == nil {
		return
	}
	for _, x := range v.pending {
		if x.names(c.Position) {
			v.settle(x, w)
		}
	}
}

// restored settles a person to whom something is given against what holds by the pending rosters that have the person as
// live. The enclave may have taken in one of them: where it ends a lease that ran out or a suspension, the cause is what is wanted
// of the person, which may stand elsewhere than at its head.
func (v *verifier) restored(w who, p *person) {
	for _, x := range v.pending {
		if p.at(seconds(v.now)).access && !p.lapsed {
			return
		}
		if list := x.facts[w.subject]; len(list) > 0 && list[0].stated {
			v.settle(x, w)
		}
	}
}

// byRoster reports whether a cause names the head of a whole roster.
func (v *verifier) byRoster(c *entry.Cause) bool {
	return c.Position != nil && v.heads[head{c.Position.Issuer, point{c.Position.Generation, c.Position.Seq}}]
}

// names reports whether a position is that of the roster's statements. One taken before anything was said has
// no message at its head: its statements are cited as those of message 1.
func (x *roster) names(at *entry.Position) bool {
	return at.Issuer == x.issuer && at.Generation == x.head.Generation && at.Seq == max(x.head.Seq, 1)
}

// settle takes in what a roster says of one person. It is as of the roster's head, and as old as the roster.
func (v *verifier) settle(x *roster, w who) {
	list, ok := x.facts[w.subject]
	if !ok || w.issuer != x.issuer { // a subject belongs to one issuer: another's is another person
		return
	}
	delete(x.facts, w.subject)
	p := v.person(w)
	if list[0].stated {
		v.named(w, p)
	}
	now := v.now
	defer func() { v.now = now }()
	if list[0].stated && p.says(&list[0], &list[1], seconds(now)) && !slices.ContainsFunc(list[2:], func(f fact) bool { return f.kind != leaver || f.engagement >= list[0].engagement || !p.left(&f) }) {
		p.confirm(&list[0], x.from)
		return
	}
	p.changed = seconds(now)
	for _, f := range list {
		f.entry, f.seq, f.source = v.index, max(f.seq, 1), x.from
		if f.kind == leaver && p.left(&f) {
			continue
		}
		v.now = x.whole
		v.beforeFact(w, p, f)
		if !p.add(f) {
			continue
		}
		v.took(w, p, f)
		if until, ok := p.ends(&f); f.kind == suspend && ok && until <= seconds(now) {
			continue // it was over before the roster was taken in
		}
		v.cutBy(w, p, f, x.issued, nil)
	}
}

// says reports whether what a roster states of a person is what holds already. It overtakes what was said before it for a date to
// come.
func (p *person) says(desired, status *fact, t int64) bool {
	now := p.at(t)
	w := now.want
	if w == nil || w != p.at(1<<60).want || w.content == 0 || w.content != desired.content || w.engagement != desired.engagement || w.compareAt(desired.generation, desired.seq) > 0 {
		return false
	}
	var open *fact // of the suspensions without an end, the one that begins first
	ends := false  // one does on a date to come
	for i := range p.facts {
		f := &p.facts[i]
		if f.kind == leaver && f.engagement >= w.engagement {
			return false
		}
		if f.kind != suspend || f.engagement != w.engagement {
			continue
		}
		switch until, over := p.ends(f); {
		case over:
			ends = ends || until > t
		case open == nil || f.from < open.from:
			open = f
		}
	}
	if status.kind == suspend {
		return open != nil && open.from <= status.from
	}
	return open == nil && !ends
}

// confirm notes up to which place what is wanted of a person is known to be the last word.
func (p *person) confirm(by *fact, from source) {
	if w := p.at(1 << 60).want; w != nil {
		w.upGeneration, w.upSeq, w.up = by.generation, max(by.seq, 1), from // as a cause names it
	}
}

// left reports whether a leaver is known that says as much as f.
func (p *person) left(f *fact) bool {
	for i := range p.facts {
		if o := &p.facts[i]; o.kind == leaver && o.engagement >= f.engagement && o.from <= f.from {
			return true
		}
	}
	return false
}
