package fence

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"jmlbridge/schema"
)

// present draws a history as a producer of rosters writes it: moves and resumes hold from when they are said.
// So do leavers here: a closed engagement whose last day lies ahead is not stated in full (schema/event.md, 5.7).
func present(t *rapid.T) []Fact {
	facts := history(t)
	for i := range facts {
		switch facts[i].Kind {
		case schema.KindMover, schema.KindResume, schema.KindLeaver:
			facts[i].Effective = day(0)
		}
	}
	return facts
}

// statement is what a roster taken after facts says of the person, by reading them in order; none of them
// closed: a live one, else a leaver's. ok is false where it says nothing.
func statement(facts []Fact) (f Fact, ok bool) {
	for _, x := range facts {
		switch x.Kind {
		case schema.KindJoiner:
			f = Fact{Kind: schema.KindRoster, Roles: x.Roles, Start: x.Start, End: x.End, Effective: day(0)}
			f.Engagement = x.Engagement
		case schema.KindMover:
			if f.Kind == schema.KindRoster {
				f.Roles, f.Start, f.End = x.Roles, x.Start, x.End
			}
		case schema.KindSuspend:
			if f.Kind == schema.KindRoster {
				if !f.Suspended || x.Effective.Before(f.Effective) {
					f.Effective = x.Effective
				}
				f.Suspended = true
			}
		case schema.KindResume:
			if f.Kind == schema.KindRoster {
				f.Suspended, f.Effective = false, x.Effective
			}
		case schema.KindLeaver:
			if f.Kind == schema.KindLeaver && f.Effective.Before(x.Effective) {
				continue
			}
			f = Fact{Kind: schema.KindLeaver, Effective: x.Effective}
			f.Engagement = x.Engagement
		}
	}
	f.Sequenced = true
	if n := len(facts); n > 0 {
		f.Position = at(f.Engagement, facts[n-1].Seq)
	}
	return f, f.Kind != ""
}

// Any part of a history may be lost up to a roster's head. With the roster, whatever came before or comes
// late, and whether what follows comes before or after the roster is applied: the last word holds.
func TestARosterStandsInForWhatIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := present(t)
		// A leaver is the last word on its engagement: a producer says nothing of it any more.
		closed := map[int]bool{}
		facts = slices.DeleteFunc(facts, func(f Fact) bool {
			over := closed[f.Engagement]
			closed[f.Engagement] = over || f.Kind == schema.KindLeaver
			return over
		})
		head := rapid.IntRange(1, len(facts)).Draw(t, "head")
		roster, _ := statement(facts[:head])
		prefix := rapid.IntRange(0, head).Draw(t, "in sequence")
		var s Subject
		take := func(f Fact) { s, _ = Accept(s, f); s = reload(t, s) }
		for _, f := range facts[:prefix] {
			take(f)
		}
		for _, f := range facts[prefix:head] { // past a gap
			if rapid.Bool().Draw(t, "ahead") {
				f.Sequenced = false
				take(f)
			}
		}
		// The roster, what follows it in its order, and what of the lost comes late and may only cut.
		rest := facts[head:]
		order := rapid.IntRange(0, len(rest)).Draw(t, "before the roster is applied")
		for i, f := range rest {
			if i == order {
				take(roster)
			}
			take(f)
		}
		if order >= len(rest) {
			take(roster)
		}
		for _, f := range facts[prefix:head] {
			if f.Kind == schema.KindLeaver && rapid.Bool().Draw(t, "late") {
				f.Sequenced = false
				take(f)
			}
		}
		if rapid.Bool().Draw(t, "again") {
			take(roster)
		}
		for d := range 45 {
			v := s.At(day(d))
			access, roles := oracle(facts, day(d))
			if !v.Access && v.Why == WhySuspended && roster.Suspended && day(d).Before(roster.Effective) {
				continue // one that came before and ended in what was lost: the roster does not say so, and it is kept from its own date
			}
			if v.Access != access {
				b, _ := json.Marshal(s)
				t.Fatalf("day %d: access %v (%s), the history says %v; head %d, in sequence %d\n%s%s", d, v.Access, v.Why, access, head, prefix, draw(facts), b)
			}
			if access && !slices.Equal(v.Roles(), roles) {
				t.Fatalf("day %d: roles %v, the history says %v; head %d\n%s", d, v.Roles(), roles, head, draw(facts))
			}
		}
	})
}

func TestWhatARosterConfirmsIsOvertaken(t *testing.T) {
	join := Fact{Position: at(1, 1), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"a"}}
	s, _ := Accept(Subject{}, join)
	roster := Fact{Position: at(1, 9), Kind: schema.KindRoster, Sequenced: true, Effective: day(0), Roles: []string{"a"}}
	if !s.Says(roster, day(1)) {
		t.Fatal("want the roster to say nothing new")
	}
	s.Confirmed = roster.Position
	for _, f := range []Fact{
		{Position: at(1, 5), Kind: schema.KindSuspend, Effective: day(0)},
		{Position: at(1, 6), Kind: schema.KindMover, Roles: []string{}, Effective: day(0)},
	} {
		if got, v := Accept(s, f); v != Inert || !got.At(day(1)).Access || len(got.At(day(1)).Roles()) != 1 {
			t.Errorf("%s from before the roster: verdict %v, %+v", f.Kind, v, got.At(day(1)))
		}
	}
	for _, f := range []Fact{
		{Position: at(1, 5), Kind: schema.KindLeaver, Effective: day(0)},
		{Position: at(1, 10), Kind: schema.KindSuspend, Effective: day(0)},
	} {
		if got, _ := Accept(s, f); got.At(day(1)).Access {
			t.Errorf("%s: want it to cut", f.Kind)
		}
	}
	other := roster
	other.Roles = []string{"b"}
	suspended := roster
	suspended.Suspended = true
	if s.Says(other, day(1)) || s.Says(suspended, day(1)) {
		t.Error("want other roles and a suspension to be news")
	}
}

// A roster past a gap gives nothing before it is whole, and one of an engagement that a leaver ended never.
func TestARosterBringsNobodyBack(t *testing.T) {
	s, _ := Accept(Subject{}, Fact{Position: at(1, 4), Kind: schema.KindLeaver, Effective: day(0)})
	f := Fact{Position: at(1, 9), Kind: schema.KindRoster, Effective: day(0), Roles: []string{"a"}}
	if got, v := Accept(s, f); v != Waits || len(got.Wants) > 0 {
		t.Errorf("not in sequence: want it to wait, got %v", v)
	}
	f.Sequenced = true
	if s, _ = Accept(s, f); s.At(day(1)).Access {
		t.Error("want the leaver to stand")
	}
	f.Position = at(2, 9)
	if s, _ = Accept(s, f); !s.At(day(1)).Access {
		t.Error("want the next engagement to begin")
	}
}

// A roster that says active is news for somebody who was suspended, once or more.
func TestARosterEndsSuspensionsHoweverMany(t *testing.T) {
	t0 := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	for n := range 3 {
		s := Subject{Wants: []Want{{Position: Position{1, 1, 1}}}, DesiredFence: Position{1, 1, 1}}
		for i := range n {
			s, _ = Accept(s, Fact{Position: Position{1, 1, uint64(2 + i)}, Kind: schema.KindSuspend, Effective: t0})
		}
		f := Fact{Position: Position{1, 2, 0}, Kind: schema.KindRoster, Sequenced: true, Effective: t0}
		if says := s.Says(f, t0.Add(time.Hour)); says != (n == 0) {
			t.Errorf("%d suspensions: says so already is %v", n, says)
		}
		if s, _ = Accept(s, f); !s.At(t0.Add(time.Hour)).Access {
			t.Errorf("%d suspensions: want access, got %+v", n, s.At(t0.Add(time.Hour)))
		}
	}
}
