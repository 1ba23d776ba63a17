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
	"slices"
	"time"

	"jmlbridge/schema"
)

// Limits on one subject's record; what is beyond them is merged so that access can only shrink.
const (
	maxStep    = 16 // how far one fact may raise the engagement; a stolen key must not fast-forward
	maxPending = 16 // desired states that wait for their effective date
	maxCuts    = 16 // closings, suspensions or ceilings kept apart
)

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
	Kind schema.Kind // joiner, mover, leaver, suspend or resume
	// Sequenced says that everything before this fact is known: it may give. False is the safe
	// value: ahead of a gap, in a forked or stale stream, of a newer version.
	Sequenced bool
	Effective time.Time // of mover, leaver, suspend and resume
	Urgent    bool      // of leaver
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
	Lock         *Lock        `json:"lock,omitempty"`
}

// Want is a desired state and the position of the fact that stated it.
type Want struct {
	Position
	Effective time.Time     `json:"effective,omitzero"` // zero: at once
	Person    schema.Person `json:"person"`
	Roles     []string      `json:"roles,omitempty"`
	Start     time.Time     `json:"start,omitzero"`
	End       time.Time     `json:"end,omitzero"`
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
	From  time.Time `json:"from"`
	Until time.Time `json:"until,omitzero"`
}

// Resumption is the latest resume that was accepted in sequence.
type Resumption struct {
	Position
	Effective time.Time `json:"effective"`
}

// Ceiling is what a mover or joiner that is not yet in sequence leaves of a person's roles: none
// beyond those it names. It can only take.
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

// Compact drops what can no longer matter after now: desired states overtaken by one in effect, and
// suspensions that are over.
func (s *Subject) Compact(now time.Time) {
	last := 0
	for i, w := range s.Wants {
		if !w.Effective.After(now) {
			last = i
		}
	}
	if last > 0 {
		s.Wants = slices.Clone(s.Wants[last:])
		s.uncap(s.Wants[0].Position)
	}
	s.Suspensions = slices.DeleteFunc(slices.Clone(s.Suspensions), func(x Suspension) bool {
		return !x.Until.IsZero() && !x.Until.After(now)
	})
}

// Verdict says what became of a fact.
type Verdict int

const (
	Inert    Verdict = iota // says nothing new: overtaken by a fact further on
	Waits                   // gives access and is not in sequence: nothing beyond its taking part was accepted
	Bounded                 // raises the engagement by more than maxStep; only its taking part, up to there, was accepted
	Accepted                // moved a fence
)

// Accept folds f into s. It never modifies what s points to.
func Accept(s Subject, f Fact) (Subject, Verdict) {
	verdict := Accepted
	if limit := s.engagement() + maxStep; f.Engagement > limit {
		if !f.Kind.Cuts() {
			return s, Bounded
		}
		f.Engagement, verdict = s.engagement(), Bounded
	}
	switch f.Kind {
	case schema.KindLeaver:
		s.close(f)
	case schema.KindSuspend:
		s.suspend(f)
	case schema.KindResume:
		if !f.Sequenced {
			return s, Waits
		}
		s.resume(f)
	case schema.KindJoiner, schema.KindMover:
		if f.Position.Compare(s.DesiredFence) <= 0 {
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

// engagement is the highest of which anything was accepted.
func (s *Subject) engagement() int { return max(s.StateFence.Engagement, s.DesiredFence.Engagement) }

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
	for i, old := range s.Suspensions {
		if old.Position == f.Position {
			// The same again, or another one out of reach of its own place: the earlier date counts.
			if f.Effective.Before(old.From) {
				s.Suspensions = slices.Clone(s.Suspensions)
				s.Suspensions[i].From = f.Effective
			}
			return
		}
	}
	n := Suspension{Position: f.Position, From: f.Effective}
	if s.Resumed.Position.Compare(f.Position) > 0 && s.Resumed.Engagement == f.Engagement {
		n.Until = s.Resumed.Effective
	}
	kept := append(slices.Clone(s.Suspensions), n)
	slices.SortFunc(kept, func(a, b Suspension) int { return a.Position.Compare(b.Position) })
	if len(kept) > maxCuts {
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
	if f.Position.Compare(s.Resumed.Position) > 0 {
		s.Resumed = Resumption{f.Position, f.Effective}
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
	s.Suspensions = kept
}

func (s *Subject) want(f Fact) {
	w := Want{Position: f.Position, Person: f.Person, Roles: slices.Clone(f.Roles), Start: f.Start, End: f.End}
	s.DesiredFence = f.Position
	if f.Kind == schema.KindJoiner {
		// A new engagement: nothing of the earlier ones remains but their end.
		s.forward(f.Position)
		s.Wants = []Want{w}
		s.Suspensions = slices.DeleteFunc(slices.Clone(s.Suspensions), func(x Suspension) bool { return x.Engagement < f.Engagement })
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

func (s *Subject) lower(f Fact) {
	c := Ceiling{Position: f.Position, Roles: slices.Clone(f.Roles)}
	if f.Kind == schema.KindMover {
		c.Effective = f.Effective
	}
	s.cap(c)
}

// uncap drops the ceiling that the want at p replaces, and those that no want can feel any more.
func (s *Subject) uncap(p Position) {
	s.Ceilings = slices.DeleteFunc(slices.Clone(s.Ceilings), func(c Ceiling) bool {
		return c.Position == p || c.Position.Compare(s.Wants[0].Position) <= 0
	})
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
