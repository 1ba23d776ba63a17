package verify

import (
	"cmp"
	"time"
)

type factKind uint8

const (
	noFact factKind = iota
	joiner
	mover
	leaver
	suspend
	resume
)

// How far one fact may raise a person's engagement, and how far a roster may, and anything that is said of somebody
// unknown (schema/event.md, 5.1).
const (
	maxStep = 16
	maxLeap = 1024
)

// fact is one signed statement about a person, as it was received. Instants are seconds; 0 is "not said".
type fact struct {
	kind       factKind
	sequenced  bool // everything before it in its stream is known: it may give
	partial    bool // known only from its entry: start and end are not
	stated     bool // by a roster
	recalled   bool // an earlier ledger had it
	engagement int
	generation int
	seq        uint64
	from       int64  // effective, of all but joiners
	start, end int64  // of joiners and movers
	content    uint64 // of joiners and movers: digest of what is desired; 0: not known
	// A roster confirmed it as of its head: zero, or where that is.
	upGeneration int
	upSeq        uint64
	up           source // that confirmed it
	entry        int64  // index at which it was received
	source       source // where it was taken from
	disowned     int64  // the entry by which an operator disowned the word; 0: none did
}

// compare orders facts by engagement, then by place in the stream.
func (f *fact) compare(g *fact) int {
	generation, seq := g.place()
	return cmp.Or(cmp.Compare(f.engagement, g.engagement), f.compareAt(generation, seq))
}

func (f *fact) compareAt(generation int, seq uint64) int {
	g, s := f.place()
	return cmp.Or(cmp.Compare(g, generation), cmp.Compare(s, seq))
}

// place is up to where f is known to hold.
func (f *fact) place() (generation int, seq uint64) {
	if f.upGeneration > f.generation || f.upGeneration == f.generation && f.upSeq > f.seq {
		return f.upGeneration, f.upSeq
	}
	return f.generation, f.seq
}

type who struct{ issuer, subject string }

// person is what the facts say about one subject, kept as the facts themselves and worked out anew at each
// question: no state that could drift.
type person struct {
	facts     []fact
	approvals []approval
	locked    bool    // by an operator
	lock      int64   // the entry of the last lock; 0: there was none
	acts      []int64 // entries by which operators took access away
	changed   int64   // when the last of the facts or locks came

	account   bool        // the ledger says that an account exists
	enabled   bool        // and that it is open
	gone      bool        // there was one that is not there any more
	recalled  bool        // an earlier ledger knew of the person
	discarded time.Time   // until when two operators let a held cut not happen, at most
	holds     []*openHold // open ones that may say why a cut is not done
	blocked   int         // standing alarms about this person that say so
	leased    bool        // a lease ran out
	lapse     int64       // the entry of the last
	lapsed    bool        // all access by a lease that ran out, and nothing in its place named the person since

	intent int64 // the open one, or -1
	cuts   []*Cut
}

// standing is what the facts say about access at one moment.
type standing struct {
	access bool
	why    string // in the words of the causes: active, left, suspended, ended, locked, not-started, unknown
	want   *fact
}

// notStarted is why of an engagement that begins later.
const notStarted = "not-started"

// at works out the standing at t. It goes by the statements alone: of joiners and movers the last in the
// chain that was in sequence and is in effect; against it every leaver and suspend of its engagement or a
// later one, in sequence or not, whenever it came; resumes end what stands before them.
func (p *person) at(t int64) standing {
	var first, want *fact
	for i := range p.facts {
		if f := &p.facts[i]; f.kind == joiner && f.sequenced && f.disowned == 0 && (first == nil || f.compare(first) > 0) {
			first = f
		}
	}
	want = first
	for i := range p.facts {
		f := &p.facts[i]
		if f.kind == mover && f.sequenced && f.disowned == 0 && f.from <= t && (want == nil || f.compare(want) > 0) {
			want = f
		}
	}
	engagement := 0
	if want != nil {
		engagement = want.engagement
	}
	for i := range p.facts {
		if f := &p.facts[i]; f.kind == leaver && f.engagement >= engagement && f.from <= t {
			return standing{why: "left", want: want}
		}
	}
	switch {
	case p.locked:
		return standing{why: "locked", want: want}
	case want == nil:
		return standing{why: "unknown"}
	case want.end != 0 && want.end <= t:
		return standing{why: "ended", want: want}
	}
	for i := range p.facts {
		f := &p.facts[i]
		if f.kind == suspend && f.engagement >= engagement && f.from <= t {
			if until, ok := p.ends(f); !ok || t < until {
				return standing{why: "suspended", want: want}
			}
		}
	}
	if t < want.start {
		return standing{why: notStarted, want: want}
	}
	return standing{true, "active", want}
}

// ends tells from when on a suspension is over: the earliest resume behind it in the same engagement.
func (p *person) ends(s *fact) (until int64, ok bool) {
	for i := range p.facts {
		f := &p.facts[i]
		if f.kind == resume && f.sequenced && f.disowned == 0 && f.engagement == s.engagement && f.compare(s) > 0 && (!ok || f.from < until) {
			until, ok = f.from, true
		}
	}
	return until, ok
}

// add keeps a fact, and reports whether it is new.
func (p *person) add(f fact) bool {
	highest := 0
	for i := range p.facts {
		o := &p.facts[i]
		highest = max(highest, o.engagement)
		if o.kind == f.kind && o.engagement == f.engagement && o.generation == f.generation && o.seq == f.seq && (o.source.of == f.source.of || o.kind == leaver || o.kind == suspend) {
			if f.sequenced {
				o.sequenced = true
			}
			return false
		}
	}
	reach := highest + maxStep
	if highest == 0 || f.stated {
		reach = highest + maxLeap
	}
	if f.engagement > reach {
		f.sequenced = false
		if f.kind == leaver || f.kind == suspend {
			f.engagement = highest
		}
	}
	if f.kind == suspend && p.confirmedAfter(&f) {
		return false // a roster said later whether and since when the person is suspended
	}
	p.facts = append(p.facts, f)
	p.prune()
	return true
}

func (p *person) confirmedAfter(s *fact) bool {
	for i := range p.facts {
		f := &p.facts[i]
		if f.disowned != 0 || f.engagement != s.engagement || f.compareAt(s.generation, s.seq) <= 0 {
			continue
		}
		if f.upSeq > 0 || f.stated {
			return true
		}
	}
	return false
}

// pruneAt is how many facts of a person are kept before those that cannot matter any more are dropped.
const pruneAt = 64

// prune drops joiners and movers of engagements before the present one, and movers that a later one with
// the same or an earlier date has overtaken. None of them can be the last word at any time to come; as
// causes they are out of date.
func (p *person) prune() {
	if len(p.facts) < pruneAt || len(p.facts)%pruneAt != 0 {
		return
	}
	var last *fact
	for i := range p.facts {
		if f := &p.facts[i]; (f.kind == mover || f.kind == joiner) && f.sequenced && f.disowned == 0 && (last == nil || f.compare(last) > 0) {
			last = f
		}
	}
	if last == nil {
		return
	}
	top := *last
	kept := p.facts[:0]
	for _, f := range p.facts {
		wants := f.kind == joiner || f.kind == mover
		if wants && f.compare(&top) < 0 && (f.engagement < top.engagement || f.kind == mover && f.from >= top.from) {
			continue
		}
		kept = append(kept, f)
	}
	p.facts = kept
}

// stated returns the facts at a place of the stream.
func (p *person) stated(generation int, seq uint64) (list []*fact) {
	for i := range p.facts {
		if f := &p.facts[i]; f.generation == generation && f.seq == seq || f.upGeneration == generation && f.upSeq == seq && seq > 0 {
			list = append(list, f)
		}
	}
	return list
}

// confirmed returns what a roster with this head said again: what holds from a place before it, and was confirmed there or
// further on. The enclave cites the head of the first roster that confirmed it.
func (p *person) confirmed(generation int, seq uint64) (list []*fact) {
	for i := range p.facts {
		if f := &p.facts[i]; f.upSeq > 0 && cmp.Or(cmp.Compare(f.generation, generation), cmp.Compare(f.seq, seq)) < 0 && f.compareAt(generation, seq) > 0 {
			list = append(list, f)
		}
	}
	return list
}

// seconds of a time, rounded down: what messages state is in whole seconds.
func seconds(t time.Time) int64 { return t.Unix() }
