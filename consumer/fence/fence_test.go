package fence

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"jmlbridge/schema"
)

var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func day(n int) time.Time { return epoch.AddDate(0, 0, n) }

func at(engagement int, seq uint64) Position { return Position{engagement, 1, seq} }

// history draws a stream about one person as a producer may write it, all in order.
func history(t *rapid.T) []Fact {
	var facts []Fact
	engagement := 0
	for i := range rapid.IntRange(1, 12).Draw(t, "length") {
		kinds := []schema.Kind{schema.KindMover, schema.KindLeaver, schema.KindSuspend, schema.KindResume, schema.KindJoiner}
		kind := schema.KindJoiner
		if engagement > 0 {
			kind = rapid.SampledFrom(kinds).Draw(t, "kind")
		}
		f := Fact{Kind: kind, Sequenced: true, Effective: day(rapid.IntRange(0, 20).Draw(t, "effective"))}
		if kind == schema.KindJoiner {
			engagement++
			f.Start = f.Effective
			if rapid.Bool().Draw(t, "ends") {
				f.End = f.Start.AddDate(0, 0, rapid.IntRange(0, 20).Draw(t, "days"))
			}
		}
		if kind == schema.KindJoiner || kind == schema.KindMover {
			f.Roles = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID[string]).Draw(t, "roles")
			slices.Sort(f.Roles)
		}
		f.Position = at(engagement, uint64(i+1))
		facts = append(facts, f)
	}
	return facts
}

// oracle reads a whole history in order and says what holds at t. It shares nothing with the fold.
func oracle(facts []Fact, t time.Time) (access bool, roles []string) {
	var want *Fact
	for i, f := range facts {
		if f.Kind == schema.KindJoiner || f.Kind == schema.KindMover && !f.Effective.After(t) {
			want = &facts[i]
		}
	}
	if want == nil {
		return false, nil
	}
	for i, f := range facts {
		switch {
		case f.Effective.After(t) || f.Engagement < want.Engagement:
		case f.Kind == schema.KindLeaver:
			return false, want.Roles
		case f.Kind == schema.KindSuspend:
			over := slices.ContainsFunc(facts[i+1:], func(r Fact) bool {
				return r.Kind == schema.KindResume && r.Engagement == f.Engagement && !r.Effective.After(t)
			})
			if !over {
				return false, want.Roles
			}
		}
	}
	return !t.Before(want.Start) && (want.End.IsZero() || t.Before(want.End)), want.Roles
}

func TestNoOrderOfArrivalChangesTheLastWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := history(t)
		// What takes access away may come early, in any order, and again; then all comes in order.
		var early []Fact
		for _, f := range facts {
			if rapid.Bool().Draw(t, "early") {
				f.Sequenced = false
				early = append(early, f)
			}
		}
		early = rapid.Permutation(early).Draw(t, "arrival")
		var s Subject
		closedThrough := map[time.Time]int{}
		step := func(f Fact) {
			s, _ = Accept(s, f)
			s = reload(t, s)
			if f.Kind == schema.KindLeaver {
				closedThrough[f.Effective] = max(closedThrough[f.Effective], f.Engagement)
			}
			for d := range 45 {
				v := s.At(day(d))
				for from, through := range closedThrough {
					if v.Access && !day(d).Before(from) && v.Want.Engagement <= through {
						t.Fatalf("after %v: access on day %d to engagement %d, which a leaver ended", f, d, v.Want.Engagement)
					}
				}
			}
		}
		for _, f := range early {
			step(f)
		}
		for _, f := range facts {
			step(f)
			if rapid.Bool().Draw(t, "again") {
				step(f)
			}
		}
		for d := range 45 {
			v := s.At(day(d))
			access, roles := oracle(facts, day(d))
			if v.Access != access {
				t.Fatalf("day %d: access %v (%s), the history says %v\n%s", d, v.Access, v.Why, access, draw(facts))
			}
			if access && !slices.Equal(v.Roles(), roles) {
				t.Fatalf("day %d: roles %v, the history says %v\n%s", d, v.Roles(), roles, draw(facts))
			}
		}
	})
}

// What has not arrived in sequence never gives: access and roles are at most those of the sequenced
// prefix, whatever else came.
func TestUnsequencedFactsOnlyTake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := history(t)
		n := rapid.IntRange(0, len(facts)).Draw(t, "sequenced")
		var s Subject
		for _, f := range facts[:n] {
			s, _ = Accept(s, f)
		}
		before := s
		for _, f := range rapid.Permutation(facts[n:]).Draw(t, "ahead") {
			f.Sequenced = false
			s, _ = Accept(s, f)
		}
		for d := range 45 {
			now, was := s.At(day(d)), before.At(day(d))
			if now.Access && !was.Access {
				t.Fatalf("day %d: facts ahead of a gap gave access\n%s", d, draw(facts))
			}
			for _, r := range now.Roles() {
				if !slices.Contains(was.Roles(), r) {
					t.Fatalf("day %d: facts ahead of a gap gave role %s\n%s", d, r, draw(facts))
				}
			}
		}
	})
}

func TestNextNamesEveryChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Subject
		for _, f := range history(t) {
			s, _ = Accept(s, f)
		}
		now := day(-1)
		for now.Before(day(60)) {
			v := s.At(now)
			next := v.Next
			if next.IsZero() {
				next = day(60)
			}
			probe := now.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(now))-1).Draw(t, "probe")))
			if w := s.At(probe); w.Access != v.Access || !reflect.DeepEqual(w.Want, v.Want) {
				t.Fatalf("the view changed between %v and %v without being announced", now, next)
			}
			now = next
		}
	})
}

// What is compacted says from sure on what it said before, or from now on where the record was too long for that.
func TestCompactChangesNothingLater(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Subject
		for _, f := range history(t) {
			s, _ = Accept(s, f)
		}
		now := day(rapid.IntRange(0, 40).Draw(t, "now"))
		sure := now.AddDate(0, 0, -rapid.IntRange(0, 40).Draw(t, "behind"))
		c, from := s, sure
		c.Compact(sure, now)
		if len(s.Wants) > maxPast || len(s.Suspensions) > maxPast {
			from = now
		}
		for d := from; d.Before(day(60)); d = d.Add(12 * time.Hour) {
			a, b := s.At(d), c.At(d)
			a.Next, b.Next = time.Time{}, time.Time{} // overtaken dates may be announced or not
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("at %v: %+v, compacted %+v", d, a, b)
			}
		}
		if !Same(s, c, sure, now) {
			t.Fatalf("compacted %+v, and once more something else", c)
		}
	})
}

// A clock that is ahead takes in a whole history, and is put right: what the messages themselves do not show to be past
// counts, in whatever order they came.
func TestAClockAheadForgetsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := history(t)
		var s, right Subject
		var sure time.Time
		accept := func(f Fact) {
			s, _ = Accept(s, f)
			right, _ = Accept(right, f)
			issued := day(rapid.IntRange(0, 10).Draw(t, "issued"))
			if i := Sure(day(rapid.IntRange(10, 60).Draw(t, "clock")), issued); i.After(sure) {
				sure = i
			}
			s.Compact(sure, day(60))
			s = reload(t, s)
		}
		for _, f := range rapid.Permutation(facts).Draw(t, "early") {
			if f.Sequenced = false; rapid.Bool().Draw(t, "came early") {
				accept(f)
			}
		}
		for _, f := range facts {
			accept(f)
		}
		if len(right.Wants) > maxPast || len(right.Suspensions) > maxPast {
			return // see the test above
		}
		for d := sure; d.Before(day(45)); d = d.Add(12 * time.Hour) {
			if d.Before(day(-1)) {
				d = day(-1)
			}
			a, b := right.At(d), s.At(d)
			if a.Access != b.Access || a.Why != b.Why || !slices.Equal(a.Roles(), b.Roles()) {
				t.Fatalf("at %v: %s %v, and by a clock that was ahead %s %v\n%s", d, a.Why, a.Roles(), b.Why, b.Roles(), draw(facts))
			}
		}
	})
}

// Somebody suspended until a date and moved from another on, and a clock that was ahead of both.
func TestDatesOutlastAClockAhead(t *testing.T) {
	var s Subject
	for i, f := range []Fact{
		{Kind: schema.KindJoiner, Roles: []string{"a"}},
		{Kind: schema.KindSuspend, Effective: day(1)},
		{Kind: schema.KindResume, Effective: day(5)},
		{Kind: schema.KindMover, Effective: day(6), Roles: []string{"b"}},
	} {
		f.Position, f.Sequenced = at(1, uint64(i+1)), true
		s, _ = Accept(s, f)
		s.Compact(Sure(day(9), day(2)), day(9))
	}
	for _, c := range []struct {
		day   int
		why   Why
		roles []string
	}{{0, WhyActive, []string{"a"}}, {4, WhySuspended, []string{"a"}}, {5, WhyActive, []string{"a"}}, {6, WhyActive, []string{"b"}}} {
		if v := s.At(day(c.day)); v.Why != c.why || !slices.Equal(v.Roles(), c.roles) {
			t.Errorf("day %d: %s %v, want %s %v", c.day, v.Why, v.Roles(), c.why, c.roles)
		}
	}
	if s.Compact(Sure(day(9), day(9)), day(9)); len(s.Wants) != 1 || len(s.Suspensions) != 0 {
		t.Errorf("want what is past by both clocks forgotten, got %+v", s)
	}
}

// A person of whom something new is said every hour keeps a short record, and room for what is dated ahead.
func TestWhatIsOverMakesRoom(t *testing.T) {
	s, _ := Accept(Subject{}, Fact{Position: at(1, 1), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"a", "b"}})
	seq := uint64(1)
	say := func(kind schema.Kind, effective time.Time) {
		seq++
		s, _ = Accept(s, Fact{Position: at(1, seq), Kind: kind, Sequenced: true, Effective: effective, Roles: []string{"a", "b", fmt.Sprint(seq)}})
		s.Compact(day(-1), day(1))
	}
	for i := range 3 * maxPast {
		hour := day(0).Add(time.Duration(i) * 15 * time.Minute)
		say(schema.KindMover, hour)
		say(schema.KindSuspend, hour)
		say(schema.KindResume, hour.Add(time.Minute))
	}
	if len(s.Wants) != maxPast || len(s.Suspensions) != maxPast || len(s.Ceilings) > 0 {
		t.Fatalf("%d desired states, %d suspensions and %d ceilings are kept", len(s.Wants), len(s.Suspensions), len(s.Ceilings))
	}
	last := s.Wants[maxPast-1]
	for i := range maxPending - 1 {
		say(schema.KindMover, day(2+i))
	}
	if v := s.At(day(1)); v.Want.Position != last.Position || len(v.Roles()) != 3 || len(s.Wants) != maxPending {
		t.Fatalf("dates ahead take from what is: %+v of %d desired states", v, len(s.Wants))
	}
}

func TestBounds(t *testing.T) {
	t.Run("a far engagement gives nothing and cuts no further than what is known", func(t *testing.T) {
		s, _ := Accept(Subject{}, Fact{Position: at(1, 1), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"a"}})
		if _, v := Accept(s, Fact{Position: at(1+maxStep+1, 2), Kind: schema.KindJoiner, Sequenced: true}); v != Bounded {
			t.Fatalf("joiner: verdict %v, want Bounded", v)
		}
		s, v := Accept(s, Fact{Position: at(schema.MaxEngagement, 3), Kind: schema.KindLeaver, Effective: day(0)})
		if v != Bounded || s.At(day(1)).Access {
			t.Fatalf("leaver: verdict %v, access %v; want Bounded and no access", v, s.At(day(1)).Access)
		}
		s, v = Accept(s, Fact{Position: at(2, 4), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"a"}})
		if v != Accepted || !s.At(day(1)).Access {
			t.Fatal("the next engagement must stay possible after a fast-forward")
		}
	})
	t.Run("who joins late finds people at a high number, and a roster says where everybody is", func(t *testing.T) {
		for _, kind := range []schema.Kind{schema.KindJoiner, schema.KindRoster} {
			s, v := Accept(Subject{}, Fact{Position: at(maxLeap, 1), Kind: kind, Sequenced: true, Roles: []string{"a"}})
			if v != Accepted || !s.At(day(1)).Access {
				t.Errorf("%s of somebody unknown: verdict %v, want Accepted and access", kind, v)
			}
			if _, v := Accept(Subject{}, Fact{Position: at(maxLeap+1, 1), Kind: kind, Sequenced: true}); v != Bounded {
				t.Errorf("%s of somebody unknown, further: verdict %v, want Bounded", kind, v)
			}
		}
		s, _ := Accept(Subject{}, Fact{Position: at(40, 1), Kind: schema.KindLeaver, Effective: day(0)})
		if s, _ = Accept(s, Fact{Position: at(40, 0), Kind: schema.KindJoiner, Sequenced: true}); s.At(day(1)).Access {
			t.Error("the joiner of a leaver who came first gives access")
		}
		s, v := Accept(s, Fact{Position: at(60, 2), Kind: schema.KindRoster, Sequenced: true, Effective: day(0), Roles: []string{"a"}})
		if v != Accepted || !s.At(day(1)).Access {
			t.Errorf("roster on somebody known: verdict %v, want Accepted and access", v)
		}
	})
	t.Run("a record stays small and never gives more", func(t *testing.T) {
		s, _ := Accept(Subject{}, Fact{Position: at(1, 1), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"a", "b"}})
		for i := range 500 {
			s, _ = Accept(s, Fact{Position: at(1, uint64(i+2)), Kind: schema.KindMover, Sequenced: true, Effective: day(i + 1), Roles: []string{"b"}})
			s, _ = Accept(s, Fact{Position: at(1, uint64(i+1000)), Kind: schema.KindSuspend, Effective: day(1000 + i)})
		}
		if v := s.At(day(5)); len(v.Roles()) != 1 {
			t.Fatalf("roles %v, want [b]", v.Roles())
		}
		if b, _ := json.Marshal(s); len(b) > 16<<10 {
			t.Fatalf("the record has %d octets", len(b))
		}
		if s.At(day(1600)).Access {
			t.Fatal("merging suspensions lost one")
		}
	})
}

func reload(t *rapid.T, s Subject) Subject {
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again Subject
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	return again
}

func draw(facts []Fact) string {
	out := ""
	for _, f := range facts {
		out += fmt.Sprintf("%d: %s engagement %d effective day %d roles %v\n", f.Seq, f.Kind, f.Engagement, int(f.Effective.Sub(epoch).Hours()/24), f.Roles)
	}
	return out
}

// Several suspensions of a person may bear one place, where their own is out of reach: the earliest counts.
func TestSuspensionsAtOnePlace(t *testing.T) {
	for _, days := range [][]int{{9, 2}, {2, 9}} {
		var s Subject
		s, _ = Accept(s, Fact{Position: at(1, 1), Kind: schema.KindJoiner, Sequenced: true})
		for _, d := range days {
			s, _ = Accept(s, Fact{Position: at(1, 5), Kind: schema.KindSuspend, Effective: day(d)})
		}
		if v := s.At(day(3)); v.Access || len(s.Suspensions) != 1 {
			t.Errorf("suspended from days %v: access %v on day 3", days, v.Access)
		}
	}
}

// Of whom nothing is known nothing is given, and nothing is taken but by a word that takes. So it is of a word that only a
// ledger before this one has: it has no place here.
func TestNobodyIsCutForBeingUnknown(t *testing.T) {
	for _, before := range []Subject{{}, {Wants: []Want{{Position: Position{Engagement: 1}}}}} {
		for _, tc := range []struct {
			kind  schema.Kind
			from  time.Time
			on    time.Time
			why   Why
			cause Position
		}{
			{schema.KindSuspend, day(1), day(2), WhySuspended, at(1, 5)},
			{schema.KindSuspend, day(3), day(2), WhyUnknown, Position{}},
			{schema.KindSuspend, day(3), day(4), WhySuspended, at(1, 5)},
			{schema.KindLeaver, day(3), day(2), WhyUnknown, Position{}},
			{schema.KindLeaver, day(3), day(4), WhyLeft, at(1, 5)},
			{schema.KindResume, day(1), day(2), WhyUnknown, Position{}},
			{schema.KindMover, day(1), day(2), WhyUnknown, Position{}},
		} {
			s, _ := Accept(before, Fact{Position: at(1, 5), Kind: tc.kind, Effective: tc.from, Roles: []string{"a"}})
			v := s.At(tc.on)
			if v.Cause.Generation == 0 {
				v.Cause = Position{} // of no message
			}
			if v.Access || v.Why != tc.why || v.Cause != tc.cause {
				t.Errorf("a %s from %s on %s: %s by %+v, access %v; want %s by %+v", tc.kind, tc.from.Format("Jan 2"), tc.on.Format("Jan 2"), v.Why, v.Cause, v.Access, tc.why, tc.cause)
			}
		}
		s, _ := Accept(before, Fact{Position: at(1, 5), Kind: schema.KindSuspend, Effective: day(1)})
		s, _ = Accept(s, Fact{Position: at(1, 6), Kind: schema.KindResume, Sequenced: true, Effective: day(2)})
		if v := s.At(day(3)); v.Access || v.Why != WhyUnknown {
			t.Errorf("resumed: %s, access %v", v.Why, v.Access)
		}
	}
}
