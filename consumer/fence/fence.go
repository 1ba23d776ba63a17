// Package fence keeps, for one person, what verified facts say about access, in a form that does not
// depend on the order in which the facts arrived.
//
// Two fences move forward only, by (engagement, generation, seq): the state fence (joiner, suspend,
// resume, leaver) and the desired fence (joiner, mover, roster). A fact that takes access away may be
// accepted from any verified position, past a gap or in a forked stream; it moves the state fence
// alone. A fact that gives access is accepted only in sequence. However the facts of a history are
// delayed, repeated or reordered, once all have come the [View] at every instant is the one that the
// history says, and before that it never gives more.
//
// The package is pure: no clock, no network, no disk.
package fence

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"jmlbridge/schema"
)

// Limits on one subject's record; what is beyond them is merged so that access can only shrink.
const (
	maxStep    = 16   // how far one fact may raise the engagement; a stolen key must not fast-forward
	maxLeap    = 1024 // the same of a roster, and of whom nothing is known: who joins late finds people at a high number
	maxPending = 16   // desired states that wait for their effective date
	maxCuts    = 16   // closings, suspensions or ceilings kept apart
	maxPast    = 8    // desired states, or suspensions, up to which those are kept that are over only by our own clock
)

// margin is by how much the clocks of both sides may be ahead before anything is forgotten too early: more than that
// of another time zone.
const margin = 24 * time.Hour

// Position orders facts about one subject.
type Position struct {
	Engagement int    `json:"e"`
	Generation int    `json:"g"`
	Seq        uint64 `json:"s"`
}

// Compare orders by engagement, then generation, then seq.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Engagement, q.Engagement), cmp.Compare(p.Generation, q.Generation), cmp.Compare(p.Seq, q.Seq))
}

// IsZero reports whether p is before every fact.
func (p Position) IsZero() bool { return p == Position{} }

// A Fact is a verified statement about one subject and where it stands in its stream.
type Fact struct {
	Position
	Kind schema.Kind // joiner, mover, leaver, suspend, resume or roster
	// Sequenced says that everything before this fact is known: it may give. False is the safe
	// value: ahead of a gap, in a forked or stale stream, of a newer version.
	Sequenced bool
	Effective time.Time // of mover, leaver, suspend and resume; of roster since when Suspended is so
	Urgent    bool      // of leaver
	Suspended bool      // of roster
	Person    schema.Person
	Roles     []string
	Start     time.Time
	End       time.Time // zero: open
}

// Subject is everything the bridge believes about one person. The zero value is a person of whom
// nothing was ever said. It is stored as JSON; its member names are a database format.
type Subject struct {
	StateFence   Position     `json:"state,omitzero"`
	DesiredFence Position     `json:"desired,omitzero"`
	Wants        []Want       `json:"wants,omitempty"` // by position; the last one in effect counts
	Closings     []Closing    `json:"closings,omitempty"`
	Suspensions  []Suspension `json:"suspensions,omitempty"`
	Ceilings     []Ceiling    `json:"ceilings,omitempty"`
	Resumed      Resumption   `json:"resumed,omitzero"`
	Approvals    []Approval   `json:"approvals,omitempty"` // by stream, role and engagement
	Lock         *Lock        `json:"lock,omitempty"`
	Lapse        *Lapse       `json:"lapse,omitempty"`
	Doubt        *Doubt       `json:"doubt,omitempty"`
	Tainted      *Tainted     `json:"tainted,omitempty"`
	// Confirmed is the head of the last roster that said of the person what was known already. It is kept
	// beside the record, since a roster confirms nearly everybody every day. What stood in the stream before
	// it is overtaken, but for leavers.
	Confirmed Position `json:"-"`
}

// Want is a desired state and the position of the fact that stated it.
type Want struct {
	Position
	Effective time.Time     `json:"effective,omitzero"` // zero: at once
	Person    schema.Person `json:"person"`
	Roles     []string      `json:"roles,omitempty"`
	Start     time.Time     `json:"start,omitzero"`
	End       time.Time     `json:"end,omitzero"`
	Doubted   bool          `json:"doubted,omitempty"` // see Doubt
}

// Closing ends every engagement up to Engagement from Effective on.
type Closing struct {
	Position
	Effective time.Time `json:"effective"`
	Urgent    bool      `json:"urgent,omitempty"`
}

// Suspension takes access from From until Until (zero: open).
type Suspension struct {
	Position
	From    time.Time `json:"from"`
	Until   time.Time `json:"until,omitzero"`
	Doubted bool      `json:"doubted,omitempty"` // what ended it is in doubt
}

// Resumption is the latest resume that was accepted in sequence.
type Resumption struct {
	Position
	Effective time.Time `json:"effective"`
	Doubted   bool      `json:"doubted,omitempty"` // see Doubt; then without generation and seq
}

// Ceiling is a mover or joiner that is not yet in sequence: of what a person has it leaves what its own roles
// stand for too. It can only take.
type Ceiling struct {
	Position
	Effective time.Time `json:"effective,omitzero"`
	Roles     []string  `json:"roles,omitempty"`
}

// Lock is a local act of an operator that no message undoes.
type Lock struct {
	By     string    `json:"by"` // OS login
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Lapse is access that the enclave itself took for want of a good word on the person: a lease that ran out, or a
// word that an operator disowned. The next good word ends it; of the latter, one that states what was disowned.
type Lapse struct {
	Why   Why       `json:"why"` // WhyLease or WhyDisowned
	At    time.Time `json:"at"`
	Entry int64     `json:"entry"`           // of the ledger, that says so
	Roles []string  `json:"roles,omitempty"` // what was taken; nil: all access
	// Before is what an operator took back before a lease ran out, and outlasts the end of that; nil: nothing.
	Before *Lapse `json:"before,omitempty"`
}

// takes reports whether a role is among those that were taken.
func (l *Lapse) takes(role string) bool {
	return l != nil && (slices.Contains(l.Roles, role) || l.Before.takes(role))
}

// Tainted is what was given on a word that an operator disowned, and stands by words that came since: it is in question again
// where these are disowned too.
type Tainted struct {
	Opened bool     `json:"opened,omitempty"` // the account
	Groups []string `json:"groups,omitempty"`
}

// Sure is the instant up to which all is past, though the enclave's clock, or the producer's, be ahead: it lies before
// now and before issued, which is when the newest message of the stream was.
func Sure(now, issued time.Time) time.Time {
	if issued.Before(now) {
		now = issued
	}
	return now.Add(-margin)
}

// Compact drops what can no longer matter: desired states that were overtaken and suspensions that were over at sure
// (see [Sure]). What was so only at now counts again where the clock is put back, and goes only to make room, or where
// its word is in doubt.
func (s *Subject) Compact(sure, now time.Time) {
	if last := s.overtaken(sure); last > 0 {
		s.Wants = slices.Clone(s.Wants[last:])
	}
	if last := s.overtaken(now); last > 0 {
		past := without(s.Wants[:last], func(w Want) bool { return w.Doubted })
		room := max(0, maxPast-len(s.Wants[last:]))
		s.Wants = append(past[max(0, len(past)-room):], s.Wants[last:]...)
	}
	if len(s.Wants) > 0 {
		s.uncap(s.Wants[0].Position)
	}
	s.Suspensions = without(s.Suspensions, func(x Suspension) bool { return x.over(sure) })
	for len(s.Suspensions) > maxPast {
		i := slices.IndexFunc(s.Suspensions, func(x Suspension) bool { return x.over(now) })
		if i < 0 {
			break
		}
		s.Suspensions = slices.Delete(s.Suspensions, i, i+1) // the list is our own by now
	}
	s.Approvals = without(s.Approvals, func(a Approval) bool { // of an engagement that is over
		return a.Engagement < s.DesiredFence.Engagement && (!a.Expiry.After(sure) || a.Doubted && !a.Expiry.After(now))
	})
	if s.Doubt != nil && !s.Resumed.Doubted && !slices.ContainsFunc(s.Approvals, func(a Approval) bool { return a.Doubted }) && !slices.ContainsFunc(s.Wants, func(w Want) bool { return w.Doubted }) {
		s.Doubt = nil // good words came
		switch l := s.Lapse; {
		case l == nil:
		case l.Why == WhyDisowned:
			s.Lapse = nil
		case l.Before != nil:
			s.Lapse = &Lapse{Why: l.Why, At: l.At, Entry: l.Entry, Roles: l.Roles}
		}
	}
}

// overtaken is how many of the desired states no longer count at t or later.
func (s *Subject) overtaken(t time.Time) (n int) {
	for i, w := range s.Wants {
		if !w.Effective.After(t) {
			n = i
		}
	}
	return n
}

func (x Suspension) over(t time.Time) bool { return !x.Until.IsZero() && !x.Until.After(t) }

// without is a list of its own of what is not over; nil where nothing is left.
func without[T any](list []T, over func(T) bool) (kept []T) {
	for _, x := range list {
		if !over(x) {
			kept = append(kept, x)
		}
	}
	return kept
}

// Same tells whether two records say the same from sure on.
func Same(a, b Subject, sure, now time.Time) bool {
	a.Compact(sure, now)
	b.Compact(sure, now)
	return reflect.DeepEqual(a, b)
}

// Verdict says what became of a fact.
type Verdict int

const (
	Inert    Verdict = iota // says nothing new: overtaken by a fact further on
	Waits                   // gives access and is not in sequence: nothing beyond its taking part was accepted
	Bounded                 // raises the engagement out of reach; only its taking part, up to there, was accepted
	Accepted                // moved a fence
)

// Accept folds f into s. It never modifies what s points to.
func Accept(s Subject, f Fact) (Subject, Verdict) {
	verdict := Accepted
	if f.Engagement > s.reach(f.Kind) {
		if !f.Kind.Cuts() {
			return s, Bounded
		}
		f.Engagement, verdict = s.engagement(), Bounded
	}
	switch f.Kind {
	case schema.KindLeaver:
		s.close(f)
	case schema.KindSuspend:
		if c := s.statedLive(); f.Position.Compare(c) < 0 && f.Engagement == c.Engagement {
			return s, Inert
		}
		s.suspend(f)
	case schema.KindRoster:
		if !f.Sequenced {
			return s, Waits
		}
		s.state(f)
	case schema.KindResume:
		if !f.Sequenced {
			return s, Waits
		}
		s.resume(f)
	case schema.KindJoiner, schema.KindMover:
		if f.Position.Compare(s.DesiredFence) <= 0 || f.Position.Compare(s.statedLive()) <= 0 {
			return s, Inert
		}
		if !f.Sequenced {
			s.lower(f)
			return s, Waits
		}
		s.want(f)
	default:
		return s, Inert
	}
	return s, verdict
}

// statedLive is Confirmed where that roster had the engagement among the live ones; zero where it had it among the closed
// ones, which says nothing of roles and suspensions until a date to come.
func (s *Subject) statedLive() Position {
	if slices.ContainsFunc(s.Closings, func(c Closing) bool {
		return c.Engagement == s.Confirmed.Engagement && c.Position.Compare(s.Confirmed) <= 0
	}) {
		return Position{}
	}
	return s.Confirmed
}

// engagement is the highest of which anything was accepted.
func (s *Subject) engagement() int { return max(s.StateFence.Engagement, s.DesiredFence.Engagement) }

// reach is the highest engagement to which a fact may raise the record.
func (s *Subject) reach(kind schema.Kind) int {
	e := s.engagement()
	if e == 0 || kind == schema.KindRoster {
		return e + maxLeap
	}
	return e + maxStep
}

func (s *Subject) forward(p Position) {
	if p.Compare(s.StateFence) > 0 {
		s.StateFence = p
	}
}

// close keeps the closings that no other implies: one that reaches as far and begins as early makes
// another redundant. So of several leavers the earliest wins, whichever came first.
func (s *Subject) close(f Fact) {
	s.forward(f.Position)
	c := Closing{f.Position, f.Effective, f.Urgent}
	implies := func(a, b Closing) bool {
		return a.Engagement >= b.Engagement && !a.Effective.After(b.Effective) && (a.Urgent || !b.Urgent)
	}
	kept := make([]Closing, 0, len(s.Closings)+1)
	for _, old := range s.Closings {
		if implies(old, c) {
			return
		}
		if !implies(c, old) {
			kept = append(kept, old)
		}
	}
	kept = append(kept, c)
	slices.SortFunc(kept, func(a, b Closing) int { return a.Position.Compare(b.Position) })
	if len(kept) > maxCuts {
		a, b := kept[0], kept[1]
		if a.Effective.Before(b.Effective) {
			b.Effective = a.Effective
		}
		b.Urgent = b.Urgent || a.Urgent
		kept = append([]Closing{b}, kept[2:]...)
	}
	s.Closings = kept
}

func (s *Subject) suspend(f Fact) {
	s.forward(f.Position)
	n := Suspension{Position: f.Position, From: f.Effective}
	if s.Resumed.Position.Compare(f.Position) > 0 && s.Resumed.Engagement == f.Engagement {
		n.Until = s.Resumed.Effective
	}
	for i, old := range s.Suspensions {
		if old.Position == f.Position {
			// The same again, or another one out of reach of its own place: the earlier date counts.
			if old.From.Before(n.From) {
				n.From = old.From
			}
			if !old.Doubted { // else it is of another branch than what ended it
				n.Until = old.Until
			}
			s.Suspensions = slices.Clone(s.Suspensions)
			s.Suspensions[i] = n
			return
		}
	}
	kept := append(slices.Clone(s.Suspensions), n)
	slices.SortFunc(kept, func(a, b Suspension) int { return a.Position.Compare(b.Position) })
	if len(kept) > maxCuts && kept[0].Engagement < s.DesiredFence.Engagement {
		kept = kept[1:] // of an engagement that is over; it would count again only if the joiner were disowned
	} else if len(kept) > maxCuts {
		a, b := kept[0], kept[1]
		if a.From.Before(b.From) {
			b.From = a.From
		}
		if !b.Until.IsZero() && (a.Until.IsZero() || a.Until.After(b.Until)) {
			b.Until = a.Until
		}
		kept = append([]Suspension{b}, kept[2:]...)
	}
	s.Suspensions = kept
}

// resume ends the suspensions before it in the stream, not those after it that arrived first. What
// ended before it began, and what ended in the past of the resume, is dropped.
func (s *Subject) resume(f Fact) {
	s.forward(f.Position)
	was := s.Resumed
	if f.Position.Compare(s.Resumed.Position) > 0 {
		s.Resumed = Resumption{Position: f.Position, Effective: f.Effective}
	}
	var kept []Suspension
	for _, old := range s.Suspensions {
		if old.Engagement == f.Engagement && old.Position.Compare(f.Position) < 0 && (old.Until.IsZero() || f.Effective.Before(old.Until)) {
			old.Until = f.Effective
		}
		if old.Until.IsZero() || old.From.Before(old.Until) {
			kept = append(kept, old)
		}
	}
	if was.Doubted && was.Engagement == f.Engagement {
		// What the resume in doubt ended went on until this one, by the word that counts.
		kept = append(kept, Suspension{Position: f.Position, Until: f.Effective})
	}
	s.Suspensions = kept
}

func (s *Subject) want(f Fact) {
	w := Want{Position: f.Position, Person: f.Person, Roles: slices.Clone(f.Roles), Start: f.Start, End: f.End}
	s.DesiredFence = f.Position
	if f.Kind == schema.KindJoiner {
		// A new engagement: nothing of the earlier ones counts but their end.
		s.forward(f.Position)
		s.Wants, s.Tainted = []Want{w}, nil
	} else {
		w.Effective = f.Effective
		// What was to begin at or after this move will never be the last word.
		s.Wants = slices.DeleteFunc(slices.Clone(s.Wants), func(x Want) bool { return !x.Effective.Before(w.Effective) })
		s.Wants = append(s.Wants, w)
	}
	s.uncap(f.Position)
	if len(s.Wants) > maxPending {
		// Too many moves wait for their date: one goes, and leaves its taking part as a ceiling.
		gone := s.Wants[1]
		s.Wants = slices.Delete(s.Wants, 1, 2)
		s.cap(Ceiling{gone.Position, gone.Effective, gone.Roles})
	}
}

// state takes in what a roster says of a live engagement as of its head. It is the last word up to there and
// no further: what the stream said after it stands, whichever of the two came first.
func (s *Subject) state(f Fact) {
	s.forward(f.Position)
	if f.Suspended {
		// One suspension in the place of those before it. It never begins later than they did.
		s.Suspensions = slices.DeleteFunc(slices.Clone(s.Suspensions), func(x Suspension) bool {
			before := x.Engagement == f.Engagement && x.Position.Compare(f.Position) < 0
			if before && x.Until.IsZero() && x.From.Before(f.Effective) {
				f.Effective = x.From
			}
			return before
		})
		s.suspend(f)
	} else {
		s.resume(f)
	}
	later := slices.DeleteFunc(slices.Clone(s.Wants), func(x Want) bool { return x.Doubted || x.Position.Compare(f.Position) <= 0 })
	if len(later) > 0 && later[0].Engagement > f.Engagement {
		return // of an engagement that is over
	}
	w := Want{Position: f.Position, Person: f.Person, Roles: slices.Clone(f.Roles), Start: f.Start, End: f.End}
	s.Wants = append([]Want{w}, later...)
	if f.Position.Compare(s.DesiredFence) > 0 {
		s.DesiredFence = f.Position
	}
	s.uncap(f.Position)
}

// Says reports whether s says already what a roster's statement does, so that accepting it would change
// nothing of t and later but the place up to which it is known.
func (s *Subject) Says(f Fact, t time.Time) bool {
	if len(s.Wants) == 0 || s.Doubt != nil || len(s.Ceilings) > 0 {
		return false
	}
	w := s.Wants[len(s.Wants)-1]
	same := w.Engagement == f.Engagement && w.Position.Compare(f.Position) <= 0 && !w.Effective.After(t) && samePerson(w.Person, f.Person) && slices.Equal(w.Roles, f.Roles) &&
		w.Start.Equal(f.Start) && w.End.Equal(f.End)
	if !same || slices.ContainsFunc(s.Closings, func(c Closing) bool { return c.Engagement >= f.Engagement }) {
		return false
	}
	open := 0
	for _, x := range s.Suspensions {
		if x.Engagement < f.Engagement || x.over(t) {
			continue
		}
		if x.Engagement != f.Engagement || !x.Until.IsZero() || x.From.After(f.Effective) {
			return false
		}
		open++
	}
	return (open > 0) == f.Suspended
}

// Outgrown reports whether an engagement was followed by one that was announced up to a roster's head: a roster that states
// no later one than the former does not know of the latter, and says nothing of whether it goes on.
func (s *Subject) Outgrown(engagement int, head schema.RosterHead) bool {
	return slices.ContainsFunc(s.Wants, func(w Want) bool {
		return !w.Doubted && w.Engagement > engagement && cmp.Or(cmp.Compare(w.Generation, head.Generation), cmp.Compare(w.Seq, head.Seq)) <= 0
	})
}

// Settled reports whether s says what a roster's statement does in such a way that the same statement of any roster
// with this head or a later one, believed at t or later, says nothing new either, as long as s is as it is.
func (s *Subject) Settled(f Fact, t time.Time) bool { return s.Lapse == nil && s.Says(f, t) }

func samePerson(a, b schema.Person) bool {
	managed := a.Manager == b.Manager || a.Manager != nil && b.Manager != nil && *a.Manager == *b.Manager
	a.Manager, b.Manager = nil, nil
	return managed && a == b
}

func (s *Subject) lower(f Fact) {
	c := Ceiling{Position: f.Position, Roles: slices.Clone(f.Roles)}
	if f.Kind == schema.KindMover {
		c.Effective = f.Effective
	}
	s.cap(c)
}

// uncap drops the ceiling that the want at p replaces, and those that no want can feel any more.
func (s *Subject) uncap(p Position) {
	s.Ceilings = without(s.Ceilings, func(c Ceiling) bool { return c.Position == p || c.Position.Compare(s.Wants[0].Position) <= 0 })
}

func (s *Subject) cap(c Ceiling) {
	if slices.ContainsFunc(s.Ceilings, func(o Ceiling) bool { return o.Position == c.Position }) {
		return
	}
	kept := append(slices.Clone(s.Ceilings), c)
	slices.SortFunc(kept, func(a, b Ceiling) int { return a.Position.Compare(b.Position) })
	if len(kept) > maxCuts {
		a, b := kept[0], kept[1]
		if a.Effective.Before(b.Effective) {
			b.Effective = a.Effective
		}
		b.Roles = slices.DeleteFunc(slices.Clone(b.Roles), func(r string) bool { return !slices.Contains(a.Roles, r) })
		kept = append([]Ceiling{b}, kept[2:]...)
	}
	s.Ceilings = kept
}
