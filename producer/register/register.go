// Package register holds what was last said of each person, and makes of a new record the events that
// say what changed.
//
// It is pure: no clock, no disk. Its invariants: a record that repeats what was said makes nothing; a
// leaver is made only of a record that says so (inactive, its last day past, out of scope) and only for
// someone who was announced; a record whose first day is before the leaver that HR stated, or was said before
// it, brings nobody back; a leaver or suspension that an operator stated is not undone by a file that has not
// caught up, and while its date lies ahead it swallows nothing that takes access before;
// numbers of engagements only grow, and nothing but a joiner follows a leaver.
package register

import (
	"slices"
	"time"

	"jmlbridge/producer/source"
	"jmlbridge/schema"
)

// State is what was last said of a person to one enclave. The zero value is someone of whom nothing was
// ever said. It is stored as JSON; its member names are a database format.
type State struct {
	Engagement int             `json:"engagement"`
	Key        string          `json:"key,omitempty"` // the source's own name of the engagement
	Status     Status          `json:"status"`
	By         Authority       `json:"by"` // who said Status
	Since      schema.Instant  `json:"since,omitzero"`
	Person     schema.Person   `json:"person"`
	Roles      []string        `json:"roles"`
	Start      schema.Instant  `json:"start,omitzero"`
	End        *schema.Instant `json:"end,omitempty"`
	// Inferred is set when no row stated the leaver: it was made of the scope, of absence, or of another engagement that
	// begins with a leave. A first day before it contradicts nothing then.
	Inferred bool `json:"inferred,omitempty"`
	// What an operator said, and what no file takes back. From Barred on the person has no access, in this engagement and
	// in those after it; at Leaves this engagement, which is live, is over. Both may lie ahead: until then Status holds.
	Barred *schema.Instant `json:"barred,omitempty"`
	Leaves *schema.Instant `json:"leaves,omitempty"`
	// When an operator last said of the person that they leave or join, and that they are suspended or not: see [Elsewhere].
	SaidEnd schema.Instant `json:"said_end,omitzero"`
	SaidBar schema.Instant `json:"said_bar,omitzero"`
	// What tells an engagement that is new from one that an older file still has: the latest first day that was ever
	// said, and the source's names of the engagements before this one, the last of them last.
	Latest schema.Instant `json:"latest,omitzero"`
	Former []string       `json:"former,omitempty"`
	// Generation is the one in which the engagement's number was given. Open is the chain's, and Restored is set when the
	// register was restored from a backup and nothing that names everybody was imported since; both are the outbox's, and
	// not stored here.
	Generation int  `json:"generation,omitempty"`
	Open       int  `json:"-"`
	Restored   bool `json:"-"`
	// Elsewhere is what stands in the other enclaves' registers, where an operator said something of the person to any. It is the
	// outbox's, and not stored here.
	Elsewhere []Elsewhere `json:"-"`
}

// Elsewhere is the person's state in another enclave. A file moves people from one scope into another, and what an operator
// said of them goes along: of all enclaves the latest word counts for whoever enters one.
type Elsewhere struct {
	Audience string
	State
}

// A register that was restored does not know which engagements were begun since the backup, and no number may stand for
// two: the next one of a person lies lostStep further on for each generation since the last that is known. A leaver bears
// the last of those numbers, for it ends every engagement up to its own: one by a lost joiner too. Nothing else does, since
// who is live here may have left by a leaver that is lost, which a higher number would undo. An enclave takes no fact that
// raises the engagement by more than 16 (consumer/fence, maxStep), so that is where it ends.
const (
	lostStep = 5
	lostMost = 15 // beside the one that every engagement adds
)

// next is the number of the person's next engagement.
func (s *State) next() int { return s.Engagement + 1 + s.lost() }

// reach is the number of a leaver of the person's engagement.
func (s *State) reach() int { return s.Engagement + s.lost() }

// lost is how many numbers may have been given since the person's own.
func (s *State) lost() int {
	generations := max(s.Open, 1) - max(s.Generation, 1)
	return min(max(generations, 0)*lostStep, lostMost)
}

// maxFormer is how many names of earlier engagements are kept. Where some may have gone, a name proves nothing, and
// only a first day shows that an engagement is new.
const maxFormer = 16

// At is s at an instant: what an operator announced ahead has come where its date has. The enclave knows it already.
func (s State) At(now time.Time) State {
	t := schema.At(now)
	if s.Status == Closed && s.By == Operator && t.Before(s.Since) { // as an older program stored it of the live, too
		s.Latest = laterOf(s.latest(), s.Since)
	}
	if !s.Status.Live() {
		return s
	}
	s.Barred = s.bar()
	if s.Leaves != nil && !t.Before(*s.Leaves) {
		over := *s.Leaves
		if s.End != nil && s.End.Before(over) {
			over = *s.End
		}
		s.Latest = laterOf(s.latest(), *s.Leaves)
		s.Status, s.By, s.Since, s.Leaves, s.Inferred = Closed, Operator, over, nil, false
		return s
	}
	if s.Barred != nil && !t.Before(*s.Barred) {
		if s.Status == Active || s.Barred.Before(s.Since) {
			s.Since = *s.Barred
		}
		s.Status, s.By = Suspended, Operator
	}
	return s
}

// bar is from when on the person has no access by an operator's word. An older program stored an operator's suspension as the
// status alone.
func (s *State) bar() *schema.Instant {
	if s.Barred == nil && s.Status == Suspended && s.By == Operator {
		since := s.Since
		return &since
	}
	return s.Barred
}

// Status of a person as announced.
type Status string

// The empty status means never announced.
const (
	Active    Status = "active"
	Suspended Status = "suspended"
	Closed    Status = "closed"
)

// Live reports whether the person has an engagement that has not been closed.
func (s Status) Live() bool { return s == Active || s == Suspended }

// Authority says whose word a status is. A file does not undo an operator's.
type Authority string

// The two authorities. The empty one belongs to the empty status.
const (
	File     Authority = "file"
	Operator Authority = "operator"
)

// Case names what a record came to, for plans and reports. The names are stable.
type Case string

// The cases that make events come first.
const (
	Join    Case = "joiner"
	Rehire  Case = "rehire" // a joiner of a further engagement
	Move    Case = "mover"
	Leave   Case = "leaver"
	Suspend Case = "suspend"
	Resume  Case = "resume"
	Lost    Case = "leaver-after-restore" // inactive, and a register that was restored may have forgotten them: a leaver

	Unchanged  Case = "unchanged"
	Never      Case = "never-announced"    // inactive, and nothing was ever said of the person
	OutOfScope Case = "out-of-scope"       // and was not announced
	Over       Case = "over"               // the last day is past, and the person is not live
	Away       Case = "on-leave"           // to be announced when back
	Gone       Case = "closed"             // inactive, as announced before
	Overruled  Case = "operator-overrules" // an operator's leaver or suspend stands against the file
	Kept       Case = "suspension-kept"    // an operator's suspend goes on, in a further engagement or behind a resume by the file
	Contradict Case = "contradicts-leaver" // active again since before the leaver that HR stated: to be held
)

// Decision is what a record, or an operator's word, comes to.
type Decision struct {
	Cases  []Case // at least one
	Events []Said // in the order in which they are sent
	Next   State
	Stands *Elsewhere // of [Overruled] and [Kept]: the operator's word, where it was said to another enclave; else nil
}

// Said is an event to be sent, with what goes into the claims around it.
type Said struct {
	Event    schema.Event
	Occurred *schema.Instant // nil where the source states no instant
	Txn      string
}

// Diff decides what rec, the newest record of a person, adds to last. in says whether the person is in
// scope.
func Diff(last State, rec *source.Record, in bool, now time.Time) Decision {
	d := decide(last, rec, now)
	last = d.last
	over := rec.End != nil && !rec.End.After(now)
	switch {
	case rec.Status == source.Unstated:
		d.settle(Unchanged)
	case rec.Status == source.Inactive:
		d.lost = in && d.last.MayBeLost()
		d.leave(orElse(rec.Reason, schema.ReasonTermination), Never)
		d.Next.Inferred = false // stated now
		if d.Next.Status == Closed {
			d.Next.By = File // it has caught up with an operator's leaver: whoever it has back later came back
		}
	case !in:
		d.leave(schema.ReasonTransfer, OutOfScope)
		d.Next.Inferred = last.Inferred || last.Status.Live()
		if n := &d.Next; n.Status == Closed && n.By == Operator && d.now.Before(n.latest()) {
			d.remember(rec.Engagement)
		}
	case over:
		d.lost = d.last.MayBeLost()
		d.leave(orElse(rec.Reason, schema.ReasonEndOfContract), Over)
	case !last.Status.Live():
		d.enter()
	case rec.Engagement != "" && last.Key != "" && rec.Engagement != last.Key && last.Leaves != nil:
		d.postpone()
	case rec.Engagement != "" && last.Key != "" && rec.Engagement != last.Key:
		d.replace()
	default:
		d.change()
	}
	return d.Decision
}

// Absent decides for a person whom a file that is said to be complete does not name. No row says that they left, so it
// is no word on what an operator said.
func Absent(last State, now time.Time) Decision {
	d := decide(last, &source.Record{}, now)
	d.leave(schema.ReasonOther, Never)
	d.Next.Inferred = d.last.Inferred || d.last.Status.Live()
	return d.Decision
}

// Expire decides for a person whose announced last day may have come.
func Expire(last State, now time.Time) Decision {
	d := decide(last, &source.Record{}, now)
	last = d.last
	if !last.Status.Live() || last.End == nil || d.now.Before(*last.End) {
		d.settle(Unchanged)
		return d.Decision
	}
	end := last.End.Time()
	d.rec.End = &end
	d.leave(schema.ReasonEndOfContract, Over)
	return d.Decision
}

type decider struct {
	Decision
	last State
	rec  *source.Record
	now  schema.Instant
	lost bool // the person may be live by what is lost: see [Lost]
}

func decide(last State, rec *source.Record, now time.Time) *decider {
	last = last.At(now)
	return &decider{last: last, rec: rec, now: schema.At(now), Decision: Decision{Next: last}}
}

// MayBeLost reports whether a register that was restored may have forgotten that the person is live: nothing is known of
// them, or that they had left before. It is so until a leaver is said, in the present generation.
func (s *State) MayBeLost() bool {
	return s.Restored && (s.Status == "" || s.Status == Closed && s.lost() > 0)
}

func (d *decider) settle(c Case) { d.Cases = append(d.Cases, c) }

func (d *decider) say(c Case, e schema.Event, occurred *schema.Instant) {
	d.settle(c)
	d.Events = append(d.Events, Said{e, occurred, d.rec.Txn})
}

// leave closes a live engagement, or one that an operator closed for later. A person who is gone only
// confirms what is known.
func (d *decider) leave(reason string, otherwise Case) {
	later := d.last.Status == Closed && d.now.Before(d.last.Since)
	if !d.last.Status.Live() && !later && !d.lost {
		if d.last.Status == Closed && otherwise == Never {
			otherwise = Gone
		}
		d.settle(otherwise)
		return
	}
	effective, occurred := d.now, (*schema.Instant)(nil)
	// A last day counts when it is past and can belong to this engagement; else the end is now.
	if e := d.rec.End; e != nil {
		if at := schema.At(*e); !d.now.Before(at) && !at.Before(d.last.Start) && at.Unix() > 0 { // no message can carry an earlier one
			effective, occurred = at, &at
		}
	}
	c := Leave
	if d.lost { // every engagement up to this number is over, whichever of them there was
		c, d.Next.Engagement, d.Next.Generation = Lost, d.last.next(), d.last.Open
	} else if d.last.lost() > 0 {
		d.Next.Engagement, d.Next.Generation = d.last.reach(), d.last.Open
	}
	d.say(c, &schema.Leaver{Engagement: d.Next.Engagement, Effective: effective, Reason: reason}, occurred)
	d.Next.Status, d.Next.By, d.Next.Since, d.Next.Leaves = Closed, File, effective, nil
	planned := d.last.Leaves
	if later {
		planned = &d.last.Since
	}
	if planned != nil { // an operator closed it for later, and stands by that: what begins before then is not news
		d.Next.By, d.Next.Latest = Operator, laterOf(d.last.latest(), *planned)
	}
}

// enter announces a new engagement of someone who is not live.
func (d *decider) enter() {
	switch {
	case d.last.Status == Closed && d.last.By == Operator && !d.newerThan(d.last):
		d.settle(Overruled)
		if d.now.Before(d.last.latest()) {
			d.remember(d.rec.Engagement)
		}
	case d.last.Status == Closed && d.last.By == File && d.rec.Start != nil && d.older():
		d.settle(Contradict) // most likely an export that is older than the leaver
	case d.closedElsewhere():
		d.settle(Overruled)
	case d.rec.Leave == source.OnLeave:
		d.settle(Away)
	case d.last.Status == Closed:
		d.join(Rehire)
	default:
		d.join(Join)
	}
}

// older reports whether the record, which states a first day, is about an engagement of before the leaver that a file stated.
func (d *decider) older() bool {
	if d.last.Inferred {
		return slices.Contains(d.last.Former, d.rec.Engagement)
	}
	return schema.At(*d.rec.Start).Before(d.last.Since) || !d.begins()
}

// closedElsewhere reports whether the latest that an operator said to any enclave of the person's coming and going is a
// leaver of another one, at once or at a date to come, and the record is not about an engagement after it.
func (d *decider) closedElsewhere() bool {
	latest := d.last.SaidEnd
	for i := range d.last.Elsewhere {
		latest = laterOf(latest, d.last.Elsewhere[i].SaidEnd)
	}
	for i := range d.last.Elsewhere {
		e := &d.last.Elsewhere[i]
		over := e.State
		if over.Leaves != nil {
			over = over.At(over.Leaves.Time())
		}
		if over.Status != Closed || over.By != Operator || e.SaidEnd.Before(latest) {
			continue
		}
		if !d.newerThan(over) {
			d.Stands = &Elsewhere{e.Audience, over}
			return true
		}
	}
	return false
}

// barred is from when on whoever is about to join has no access, by an operator's word; nil where there is none. Somebody
// who enters brings along the latest that was said to any enclave.
func (d *decider) barred() *schema.Instant {
	word := &d.last
	if !d.last.Status.Live() {
		for i := range d.last.Elsewhere {
			e := &d.last.Elsewhere[i]
			if word.SaidBar.Before(e.SaidBar) || word.bar() == nil && word.SaidBar == e.SaidBar {
				word = &e.State
				d.Stands = e
			}
		}
	}
	bar := word.bar()
	if bar == nil {
		d.Stands = nil
	}
	return bar
}

// newer reports whether the record is about an engagement that cannot be the one which an operator closed, or one
// before it: a file may lag by more than that one.
func (d *decider) newer() bool {
	if d.rec.Engagement != "" && d.last.Key != "" {
		from := d.now // as of a joiner without a first day
		if d.rec.Start != nil {
			from = schema.At(*d.rec.Start)
		}
		return d.rec.Engagement != d.last.Key && !d.known(d.rec.Engagement) && !from.Before(d.last.latest())
	}
	return d.rec.Start != nil && d.last.Since.Before(schema.At(*d.rec.Start)) && d.begins()
}

// newerThan is newer for an engagement that an operator closed, here or in another enclave, and by what any of them heard: what is
// old in one is no news in the next.
func (d *decider) newerThan(closed State) bool {
	closed.hear(&d.last)
	for i := range d.last.Elsewhere {
		closed.hear(&d.last.Elsewhere[i].State)
	}
	return (&decider{last: closed, rec: d.rec, now: d.now}).newer()
}

// begins reports whether the record states a first day after every one that was said: the first day of what was closed
// may itself be after the leaver.
func (d *decider) begins() bool {
	return d.rec.Start != nil && d.last.latest().Before(schema.At(*d.rec.Start))
}

// known reports whether an earlier engagement may have had that name.
func (d *decider) known(key string) bool {
	return len(d.last.Former) >= maxFormer || slices.Contains(d.last.Former, key)
}

// latest is the latest first day that was ever said, or until when an operator's leaver stands.
func (s *State) latest() schema.Instant { return laterOf(s.Latest, s.Start) }

func laterOf(a, b schema.Instant) schema.Instant {
	if a.Before(b) {
		return b
	}
	return a
}

func earlierOf(a, b schema.Instant) schema.Instant {
	if b.Before(a) {
		return b
	}
	return a
}

// follow keeps of last, in a state after it, what tells old from new, also among operators' words.
func (s *State) follow(last *State) {
	s.Latest = laterOf(last.latest(), s.Start)
	s.Former, s.SaidEnd, s.SaidBar = last.Former, last.SaidEnd, last.SaidBar
	if last.Key != "" && last.Key != s.Key && !slices.Contains(s.Former, last.Key) {
		s.Former = append(slices.Clone(s.Former), last.Key)
		s.Former = s.Former[max(0, len(s.Former)-maxFormer):]
	}
}

// hear adds what tells old from new in another state of the person.
func (s *State) hear(other *State) {
	s.Latest = laterOf(s.latest(), other.latest())
	s.Former = slices.Clone(s.Former)
	for _, key := range append(slices.Clone(other.Former), other.Key) {
		if key != "" && key != s.Key && !slices.Contains(s.Former, key) {
			s.Former = append(s.Former, key)
		}
	}
}

// replace ends one engagement and begins the next.
func (d *decider) replace() {
	if d.rec.Leave == source.OnLeave {
		d.Next.Engagement, d.Next.Generation = d.last.reach(), d.last.Open
		d.say(Leave, &schema.Leaver{Engagement: d.Next.Engagement, Effective: d.now, Reason: schema.ReasonEndOfContract}, nil)
		d.Next.Status, d.Next.By, d.Next.Since = Closed, File, d.now
		d.Next.Key, d.Next.Inferred = d.rec.Engagement, true // no row says that they left
		d.Next.follow(&d.last)
		d.settle(Away)
		return
	}
	d.join(Rehire)
}

// postpone holds off a further engagement while one is live that an operator ends at a date to come: that leaver would
// not reach it. What the record says of the person holds for the present one.
func (d *decider) postpone() {
	key := d.rec.Engagement
	rec := *d.rec
	rec.Engagement = ""
	d.rec = &rec
	d.settle(Overruled)
	d.change()
	d.remember(key)
}

// remember keeps the name of an engagement that was said before an operator's leaver has come: it is no news after it.
func (d *decider) remember(key string) {
	if key != "" && key != d.last.Key && !d.known(key) {
		d.Next.Former = append(slices.Clone(d.Next.Former), key)
	}
}

func (d *decider) join(c Case) {
	start := d.now
	if d.rec.Start != nil {
		start = schema.At(*d.rec.Start)
	}
	d.Next = State{
		Engagement: d.last.next(), Generation: d.last.Open, Open: d.last.Open, Restored: d.last.Restored, Key: d.rec.Engagement, Status: Active, By: File, Since: d.now,
		Person: d.rec.Person, Roles: roles(d.rec.Roles), Start: start, End: instant(d.rec.End),
	}
	n := &d.Next
	n.follow(&d.last)
	if bar := d.barred(); bar != nil { // said first: nothing gives access before its turn, and then the suspension is there
		from := laterOf(*bar, d.now)
		n.Barred = &from
		d.say(Kept, &schema.Suspend{Engagement: n.Engagement, Effective: from, Reason: schema.ReasonOther}, nil)
		*n = n.At(d.now.Time())
	}
	d.say(c, &schema.Joiner{Engagement: n.Engagement, Person: n.Person, Roles: n.Roles, Start: n.Start, End: n.End}, nil)
}

// change compares a live person with the record. What takes access is said before what gives it.
func (d *decider) change() {
	n := &d.Next
	if d.rec.Engagement != "" {
		n.Key = d.rec.Engagement
	}
	n.Person, n.Roles, n.End = d.rec.Person, roles(d.rec.Roles), instant(d.rec.End)
	if d.rec.Start != nil {
		n.Start = schema.At(*d.rec.Start)
	}
	if n.End != nil && n.End.Before(n.Start) {
		n.Start = *n.End // the record states no first day, and a last day before the one that we assumed
	}
	n.follow(&d.last)
	if d.rec.Leave == source.OnLeave && d.last.Status == Active {
		n.Status, n.By, n.Since = Suspended, File, d.now
		d.say(Suspend, &schema.Suspend{Engagement: n.Engagement, Effective: d.now, Reason: schema.ReasonLeave}, nil)
	}
	if !sameDesired(&d.last, n) {
		d.say(Move, &schema.Mover{Engagement: n.Engagement, Person: n.Person, Roles: n.Roles, Start: n.Start, End: n.End, Effective: d.now}, nil)
	}
	if d.rec.Leave == source.Present && d.last.Status == Suspended {
		if d.last.By == Operator {
			d.settle(Overruled)
		} else {
			n.Status, n.By, n.Since = Active, File, d.now
			d.say(Resume, &schema.Resume{Engagement: n.Engagement, Effective: d.now, Reason: schema.ReasonReturn}, nil)
			if n.Barred != nil { // still to come: a resume ends every suspension that was said before it
				d.say(Kept, &schema.Suspend{Engagement: n.Engagement, Effective: *n.Barred, Reason: schema.ReasonOther}, nil)
			}
		}
	}
	if d.Cases == nil {
		d.settle(Unchanged)
	}
}

func sameDesired(a, b *State) bool {
	x, y := a.Person, b.Person
	sameManager := x.Manager == y.Manager || x.Manager != nil && y.Manager != nil && *x.Manager == *y.Manager
	x.Manager, y.Manager = nil, nil
	sameEnd := a.End == b.End || a.End != nil && b.End != nil && *a.End == *b.End
	return x == y && sameManager && sameEnd && a.Start == b.Start && slices.Equal(a.Roles, b.Roles)
}

func instant(t *time.Time) *schema.Instant {
	if t == nil {
		return nil
	}
	i := schema.At(*t)
	return &i
}

func roles(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
