package fence

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"jmlbridge/schema"
)

// A history of which the end is disowned, and another end in its place: what is not in doubt then is at most what
// the facts say without the end that was disowned. Until then nothing is given and nothing is taken.
func TestWhatWasDisownedGivesNothingMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := history(t)
		n := rapid.IntRange(0, len(facts)).Draw(t, "good")
		bad := facts[n:]
		now := day(rapid.IntRange(0, 30).Draw(t, "now"))
		var s Subject
		for _, f := range facts {
			s, _ = Accept(s, f)
		}
		before := s
		s, marked := Disown(s, 7, func(p Position) bool { return int(p.Seq) > n })
		s = reload(t, s)
		if was, is := before.At(now), s.At(now); was.Access != is.Access || !slices.Equal(was.Want.Roles, is.Want.Roles) {
			t.Fatalf("a ruling changes what is: %+v, before it %+v\n%s", is, was, draw(facts))
		}
		for d := range 45 {
			was, is := before.At(day(d)), s.At(day(d))
			if day(d).Before(now) {
				continue
			}
			if is.Access && !was.Access && is.Doubt == nil {
				t.Fatalf("day %d: a ruling gives access: %+v, before it %+v\n%s", d, is, was, draw(facts))
			}
		}
		// Without the bad end, but for what it took away.
		var pure Subject
		for _, f := range facts[:n] {
			pure, _ = Accept(pure, f)
		}
		for i, f := range bad {
			f.Sequenced = false
			resumed := f.Kind == schema.KindSuspend && slices.ContainsFunc(bad[i:], func(r Fact) bool { return r.Kind == schema.KindResume && r.Engagement == f.Engagement })
			if f.Kind.Cuts() && !resumed { // what it took back itself is nobody's word any more
				pure, _ = Accept(pure, f)
			}
		}
		last := 0
		for _, f := range facts[:n] {
			last = f.Engagement
		}
		for i, f := range ending(t, last, n) {
			if i == 0 && !marked && n == len(facts) && s.Doubt != nil {
				t.Fatal("in doubt, and nothing is")
			}
			s, _ = Accept(s, f)
			s = reload(t, s)
			pure, _ = Accept(pure, f)
			for d := range 45 {
				if day(d).Before(now) {
					continue // nobody asks about the past
				}
				is, want := s.At(day(d)), pure.At(day(d))
				if is.Doubt != nil || !is.Access {
					continue
				}
				if !want.Access {
					t.Fatalf("day %d: access without a good word: %+v; want %+v\n%s", d, is, want, draw(facts))
				}
				for _, r := range is.Want.Roles {
					if !slices.Contains(want.Want.Roles, r) {
						t.Fatalf("day %d: role %s without a good word: %+v; want %+v\n%s", d, r, is, want, draw(facts))
					}
				}
			}
		}
	})
}

// ending draws how a history goes on after n messages of which the last was of an engagement.
func ending(t *rapid.T, engagement, n int) (facts []Fact) {
	for i := range rapid.IntRange(0, 8).Draw(t, "more") {
		kinds := []schema.Kind{schema.KindMover, schema.KindLeaver, schema.KindSuspend, schema.KindResume, schema.KindJoiner}
		kind := schema.KindJoiner
		if engagement > 0 {
			kind = rapid.SampledFrom(kinds).Draw(t, "next kind")
		}
		f := Fact{Kind: kind, Sequenced: true, Effective: day(rapid.IntRange(0, 20).Draw(t, "next effective"))}
		if kind == schema.KindJoiner {
			engagement++
			f.Start = f.Effective
		}
		if kind == schema.KindJoiner || kind == schema.KindMover {
			f.Roles = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID[string]).Draw(t, "next roles")
			slices.Sort(f.Roles)
		}
		f.Position = at(engagement, uint64(n+i+1))
		facts = append(facts, f)
	}
	return facts
}

// A resume that was disowned and let stand ends its suspension for good, also where a heartbeat repeats that.
func TestATrustedResumeStands(t *testing.T) {
	s, _ := Accept(Subject{}, Fact{Position: at(1, 1), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"a"}})
	suspend := Fact{Position: at(1, 2), Kind: schema.KindSuspend, Sequenced: true, Effective: day(1)}
	s, _ = Accept(s, suspend)
	s, _ = Accept(s, Fact{Position: at(1, 3), Kind: schema.KindResume, Sequenced: true, Effective: day(2)})
	s, _ = Disown(s, 7, func(p Position) bool { return p.Seq == 3 })
	s, _ = Accept(Trust(s), suspend)
	if v := s.At(day(3)); !v.Access {
		t.Errorf("want access, got %+v", v)
	}
}

// What an operator took back by one ruling stays taken whatever is decided of the next one, until a good word comes.
func TestWhatWasTakenBackOutlastsAnotherRuling(t *testing.T) {
	for _, tc := range []struct {
		name         string
		first, taken []string // nil: all access
		decide       func(Subject) Subject
	}{
		{"all, then a role", nil, nil, func(s Subject) Subject { return Deny(s, 10, day(2), []string{"b"}) }},
		{"a role, then another", []string{"a"}, []string{"a", "b"}, func(s Subject) Subject { return Deny(s, 10, day(2), []string{"b"}) }},
		{"a role, then all", []string{"a"}, nil, func(s Subject) Subject { return Deny(s, 10, day(2), nil) }},
		{"all, then nothing", nil, nil, Spare},
		{"all, then it is let stand", nil, nil, Trust},
	} {
		s, _ := Accept(Subject{}, Fact{Position: at(1, 1), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"a", "b", "c"}})
		s, _ = Approve(s, Approval{Stream: "one", Generation: 1, Seq: 1, Engagement: 1, Role: "a", Expiry: day(40)})
		s, _ = Approve(s, Approval{Stream: "two", Generation: 1, Seq: 1, Engagement: 1, Role: "b", Expiry: day(40)})
		s, _ = DisownApprovals(s, 7, func(a Approval) bool { return a.Stream == "one" })
		s = Deny(s, 8, day(1), tc.first)
		s, _ = DisownApprovals(s, 9, func(a Approval) bool { return a.Stream == "two" })
		s = tc.decide(s)
		if s.Lapse == nil || !slices.Equal(s.Lapse.Roles, tc.taken) || (s.Lapse.Roles == nil) != (tc.taken == nil) || s.Doubt == nil || !s.Doubt.Denied {
			t.Errorf("%s: got %+v, %+v", tc.name, s.Lapse, s.Doubt)
		}
		for _, stream := range []string{"one", "two"} {
			s, _ = Approve(s, Approval{Stream: stream, Generation: 1, Seq: 2, Engagement: 1, Role: map[string]string{"one": "a", "two": "b"}[stream], Expiry: day(40)})
		}
		s.Compact(day(2), day(3))
		if v := s.At(day(3)); !v.Access || len(v.Want.Roles) != 3 || v.Doubt != nil || s.Doubt != nil {
			t.Errorf("%s: want good words to restore all, got %+v, %+v", tc.name, v, s.Lapse)
		}
	}
}

func TestDoubtEnds(t *testing.T) {
	joiner := Fact{Position: at(1, 1), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"a", "b"}}
	s, _ := Accept(Subject{}, joiner)
	s, marked := Disown(s, 7, func(p Position) bool { return p.Seq == 1 })
	if v := s.At(day(1)); !marked || !v.Access || v.Doubt == nil || v.Doubt.Entry != 7 {
		t.Fatalf("got %+v", v)
	}
	kept := Trust(s)
	if v := kept.At(day(1)); v.Doubt != nil || kept.DesiredFence != at(1, 1) {
		t.Errorf("want it trusted, got %+v", kept)
	}
	denied := Deny(s, 9, day(1), []string{"b"})
	if v := denied.At(day(1)); !v.Access || !slices.Equal(v.Want.Roles, []string{"a"}) || !v.Doubt.Denied || v.Lapse.Entry != 9 {
		t.Errorf("want role b taken, got %+v", v)
	}
	denied = Deny(s, 9, day(1), nil)
	if v := denied.At(day(1)); v.Access || v.Why != WhyDisowned || v.Closed {
		t.Errorf("want all access taken, got %+v", v)
	}
	if spared := Spare(s); !spared.At(day(1)).Access || !spared.Doubt.Denied || s.Doubt.Denied {
		t.Errorf("want nothing taken, got %+v", spared)
	}
	good, _ := Accept(s, Fact{Position: at(1, 1), Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"a"}})
	if good.Compact(day(0), day(1)); good.Doubt != nil || good.At(day(1)).Doubt != nil {
		t.Errorf("want the doubt over with a good word in the same place, got %+v", good)
	}
	if _, marked := Disown(good, 8, func(Position) bool { return false }); marked {
		t.Error("want nothing marked")
	}
}
