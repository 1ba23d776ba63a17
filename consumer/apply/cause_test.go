package apply

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// frozen is a bridge whose clock goes only by the test's hand.
func frozen(t *testing.T, change ...func(*tenant.Config, *Config)) *stepper {
	now := time.Now()
	b := setup(t, change...)
	b.config.Now = func() time.Time { return now.Add(time.Duration(b.clock.Load())) }
	return b.stepper()
}

// quiet works until nothing is due.
func (s *stepper) quiet() {
	s.t.Helper()
	for rounds, still := 0, 0; still < 2; rounds++ { // one may be put back into a lane that was passed
		s.clock.Add(int64(time.Millisecond)) // holds are named after theirs
		wait, err := s.engine.Step(s.t.Context())
		if err != nil || rounds == 500 {
			s.t.Fatalf("the work does not come to its end: %v", err)
		}
		if still++; wait <= time.Second {
			still = 0
			s.clock.Add(int64(wait))
		}
	}
}

func (b *bridge) alter(subject string, f func(*state.Subject)) {
	b.t.Helper()
	s := b.row(subject)
	s.FactAt = b.config.Now()
	f(s)
	if err := b.db.Tx(b.t.Context(), func(tx *store.Tx) error { return state.SaveFacts(tx, s) }); err != nil {
		b.t.Fatal(err)
	}
}

// knows sets what the executor knows of an account.
func (b *bridge) knows(subject string, known plan.Known) {
	b.t.Helper()
	k := state.SubjectKey{Issuer: issuer, Subject: subject}
	if err := b.db.Tx(b.t.Context(), func(tx *store.Tx) error { return state.SetAccount(tx, k, encode(known)) }); err != nil {
		b.t.Fatal(err)
	}
}

// disabled counts the accounts that were open and were disabled, by person.
func (b *bridge) disabled(people ...string) (n int) {
	b.t.Helper()
	ids := map[string]bool{}
	for _, p := range people {
		var known plan.Known
		if err := json.Unmarshal(b.row(p).Account, &known); err != nil {
			b.t.Fatal(err)
		}
		ids[known.ID] = true
	}
	open := map[string]bool{}
	for _, e := range b.tenant.Journal() {
		for _, c := range e.Changes {
			enabled, ok := c.Set["accountEnabled"].(bool)
			if !ok || !ids[c.ID] {
				continue
			}
			if open[c.ID] && !enabled {
				n++
			}
			open[c.ID] = enabled
		}
	}
	return n
}

// Whatever takes access away from more persons than may be cut in an hour is held whole, and happens when its time is over:
// it is what becomes of people that counts, not the kind of the word that says so, nor the lane in which they are found.
func TestNoKindOfWordPassesTheLimitOfCuts(t *testing.T) {
	next := func(b *bridge) fence.Fact {
		return fence.Fact{Person: person("Ana"), Roles: []string{"analyst"}, Effective: b.config.Now().Add(-time.Minute)}
	}
	says := func(kind schema.Kind, change func(*fence.Fact, time.Time)) func(*bridge, string) {
		return func(b *bridge, id string) {
			f := next(b)
			f.Kind = kind
			change(&f, b.config.Now())
			b.say(id, f)
		}
	}
	again := func(f *fence.Fact, now time.Time) { f.Engagement, f.Start = 2, now.Add(90*24*time.Hour) }
	ahead := func(f *fence.Fact, now time.Time) { f.Start = now.Add(90 * 24 * time.Hour) }
	ended := func(f *fence.Fact, now time.Time) { f.End = now.Add(-time.Minute) }
	causes := map[string]func(*bridge, string){
		"a leaver":                  says(schema.KindLeaver, func(*fence.Fact, time.Time) {}),
		"a suspension":              says(schema.KindSuspend, func(*fence.Fact, time.Time) {}),
		"a joiner of a later start": says(schema.KindJoiner, again),
		"a mover to a later start":  says(schema.KindMover, ahead),
		"a mover to an end":         says(schema.KindMover, ended),
		"a roster of a later start": says(schema.KindRoster, ahead),
		"a roster of the next":      says(schema.KindRoster, again),
		"a roster's suspension":     says(schema.KindRoster, func(f *fence.Fact, _ time.Time) { f.Suspended = true }),
		"a leaver's date":           says(schema.KindLeaver, func(f *fence.Fact, now time.Time) { f.Effective = now.Add(time.Minute) }),
		"an end's date":             says(schema.KindMover, func(f *fence.Fact, now time.Time) { f.End = now.Add(time.Minute) }),
		"a mover's date":            says(schema.KindMover, func(f *fence.Fact, now time.Time) { ahead(f, now); f.Effective = now.Add(time.Minute) }),
		"a lease":                   func(b *bridge, id string) { b.hear(id, b.config.Now().Add(-8*24*time.Hour)) },
		"an undo": func(b *bridge, id string) {
			b.alter(id, func(s *state.Subject) {
				s.Doc.Doubt, s.Doc.Wants[0].Doubted = &fence.Doubt{}, true
				s.Doc = fence.Deny(s.Doc, 0, b.config.Now(), nil)
				s.Raise(plan.Disable, b.config.Now(), false)
			})
		},
	}
	for _, lane := range []plan.Lane{plan.Revoke, plan.Take, plan.Give, plan.Strip, plan.Delete} {
		put := func(b *bridge, id string) {
			b.alter(id, func(s *state.Subject) {
				s.Doc, _ = fence.Accept(s.Doc, fence.Fact{Kind: schema.KindLeaver, Position: fence.Position{Engagement: 1, Generation: 1, Seq: 1000}, Effective: b.config.Now().Add(-time.Minute)})
				s.Lane, s.Due = lane, b.config.Now()
			})
		}
		causes["whatever put them into lane "+lane.String()] = put
		if lane == plan.Revoke {
			continue
		}
		causes["whatever another limit let through in lane "+lane.String()] = func(b *bridge, id string) {
			put(b, id)
			err := b.db.Tx(b.t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(`UPDATE subject SET note = 'released:1000' WHERE subject = ?`, id)
				return err
			})
			if err != nil {
				b.t.Fatal(err)
			}
		}
	}
	people := []string{"0", "1", "2"}
	for name, cause := range causes {
		t.Run(name, func(t *testing.T) {
			s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
			for i, id := range people {
				s.join(id, fmt.Sprintf("Ana%c", 'a'+i), "analyst")
			}
			s.quiet()
			for _, id := range people {
				cause(s.bridge, id)
			}
			s.quiet()
			s.clock.Add(int64(2 * time.Minute)) // the date comes, or the next look at the leases
			s.quiet()
			if n := s.disabled(people...); n > 1 || !s.standing(AlarmCutLimit) {
				t.Errorf("%d disabled, alarm %v; want no more than 1, and the alarm", n, s.standing(AlarmCutLimit))
			}
			for range 2 { // where they were found one by one, they were held one by one
				s.clock.Add(int64(31 * time.Minute))
				s.quiet()
			}
			if n := s.disabled(people...); n != len(people) {
				t.Errorf("%d disabled after cut_hold, want all", n)
			}
			s.explained()
		})
	}
}

// Whatever is said of a few people in whatever order: in an hour no more are disabled than the limit allows, but those whom
// an operator cuts, or who are urgent. When cut_hold is over everybody is as the facts say.
func TestNoHistoryPassesTheLimitOfCuts(t *testing.T) {
	const limit = 2
	s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 1000, limit) })
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 0))
		var people, free []string
		for i := range 6 {
			id := fmt.Sprintf("%d-%d", seed, i)
			people = append(people, id)
			s.join(id, fmt.Sprintf("Ana%c%c", 'a'+seed, 'a'+i), "lead")
		}
		s.quiet()
		last, engagement := map[string]int{}, map[string]int{}
		for range 10 {
			for range 1 + r.IntN(3) {
				id, now := people[r.IntN(len(people))], s.config.Now()
				f := fence.Fact{Person: person("Ana"), Roles: []string{"analyst", "lead"}[r.IntN(2):][:1], Effective: now.Add(time.Duration(r.IntN(7)-4) * time.Minute)}
				switch r.IntN(4) {
				case 0:
					f.Start = now.Add(24 * time.Hour)
				case 1:
					f.End = now.Add(time.Duration(r.IntN(5)-1) * time.Minute)
				}
				f.Engagement = max(1, engagement[id])
				last[id] = r.IntN(8)
				switch last[id] {
				case 0:
					f.Kind = schema.KindLeaver
				case 1:
					f.Kind = schema.KindSuspend
				case 2:
					f.Kind = schema.KindResume
				case 3:
					engagement[id] = f.Engagement + 1
					f.Kind, f.Engagement = schema.KindJoiner, engagement[id]
				case 4:
					f.Kind = schema.KindMover
				case 5:
					f.Kind, f.Suspended = schema.KindRoster, r.IntN(3) == 0
				case 6:
					s.hear(id, now.Add(-time.Duration(r.IntN(2))*8*24*time.Hour))
					continue
				case 7:
					if free = append(free, id); r.IntN(2) == 0 {
						f.Kind, f.Urgent = schema.KindLeaver, true
						break
					}
					err := s.db.Tx(t.Context(), func(tx *store.Tx) error {
						return state.Lock(tx, state.SubjectKey{Issuer: issuer, Subject: id}, &fence.Lock{By: "ann", At: now}, plan.Disable, now)
					})
					if err != nil {
						t.Fatal(err)
					}
					continue
				}
				s.say(id, f)
			}
			s.clock.Add(int64(time.Duration(r.IntN(90)) * time.Second))
			s.quiet()
			bound := slices.DeleteFunc(slices.Clone(people), func(id string) bool { return slices.Contains(free, id) })
			if n := s.disabled(bound...); n > limit {
				t.Fatalf("history %d: %d disabled, want no more than %d", seed, n, limit)
			}
		}
		for range 3 {
			s.clock.Add(int64(31 * time.Minute))
			s.quiet()
		}
		for _, id := range people {
			if v := s.row(id).Doc.At(s.config.Now()); v.Access != s.enabled(id) {
				t.Errorf("history %d: subject %s is enabled: %v, want %s", seed, id, s.enabled(id), v.Why)
			}
		}
		s.clock.Add(int64(25 * time.Hour))
	}
	s.explained()
}

// Who has access again by a newer fact, or never had an account, is not to be cut: nobody of them counts, is held, or waits
// behind a hold of others.
func TestOnlyWhoIsToBeCutIsHeld(t *testing.T) {
	back := fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"lead"}}
	for _, tc := range []struct {
		name  string
		taken fence.Fact
		again func(s *stepper)
	}{
		{"a further engagement", fence.Fact{Kind: schema.KindLeaver}, func(s *stepper) { s.say("0", back) }},
		{"a resume", fence.Fact{Kind: schema.KindSuspend}, func(s *stepper) { s.say("0", fence.Fact{Kind: schema.KindResume}) }},
		{"the date of a resume", fence.Fact{Kind: schema.KindSuspend}, func(s *stepper) {
			s.say("0", fence.Fact{Kind: schema.KindResume, Effective: s.config.Now().Add(time.Minute)})
			s.quiet()
			s.clock.Add(int64(2 * time.Minute))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
			for i := range 3 {
				s.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
			}
			s.quiet()
			s.say("2", fence.Fact{Kind: schema.KindLeaver}) // all that the hour allows
			s.quiet()
			for i := range 2 {
				s.say(fmt.Sprint(i), tc.taken)
			}
			s.quiet()
			if h := s.holds(); len(h) != 1 || !s.standing(AlarmCutLimit) {
				t.Fatalf("holds %v, want the one", h)
			}
			tc.again(s)
			s.clock.Add(int64(tidyEvery))
			s.quiet()
			list, err := state.Holds(s.db.Read())
			if err != nil || len(list) == 0 {
				t.Fatalf("holds %v, %v", list, err)
			}
			waiting, err := state.HeldBack(s.db.Read())
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, h := range list {
				n += int(waiting[h.ID])
			}
			if row := s.row("0"); n != 1 || !s.row("1").Held() || row.Lane != plan.Idle || s.disabled("0", "1") != 0 {
				t.Errorf("%d wait, she in lane %s until %v; want the other one alone", n, row.Lane, row.Due)
			}
			s.explained()
		})
	}
	t.Run("tombstones", func(t *testing.T) {
		s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
		s.join("0", "Ana", "analyst")
		s.quiet()
		for i := range 5 {
			s.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
		}
		s.quiet()
		if h := s.holds(); len(h) > 0 || s.standing(AlarmCutLimit) || s.enabled("0") {
			t.Errorf("holds %v, enabled %v; want the one who has an account cut", h, s.enabled("0"))
		}
	})
}

// A cut that is held is owed still where the next engagement begins later: it is counted, and happens when the hold is over.
func TestAHeldCutIsOwedThoughTheNextEngagementIsAhead(t *testing.T) {
	s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
	people := []string{"0", "1", "2"}
	for i, id := range people {
		s.join(id, fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	s.quiet()
	for _, id := range people {
		s.say(id, fence.Fact{Kind: schema.KindLeaver})
	}
	s.quiet()
	for _, id := range people {
		s.say(id, fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"lead"}, Start: s.config.Now().Add(24 * time.Hour)})
	}
	s.quiet()
	if n := s.disabled(people...); n > 1 {
		t.Errorf("%d disabled, want no more than 1", n)
	}
	s.clock.Add(int64(31 * time.Minute))
	s.quiet()
	if n := s.disabled(people...); n != len(people) {
		t.Errorf("%d disabled after cut_hold, want all", n)
	}
}

// Who was cut because operators let it happen is cut again where somebody opens the account: that is no further cut.
func TestAReleasedCutIsRepeatedAtOnce(t *testing.T) {
	s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
	people := []string{"0", "1", "2"}
	for i, id := range people {
		s.join(id, fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	s.quiet()
	for _, id := range people {
		s.say(id, fence.Fact{Kind: schema.KindLeaver})
	}
	s.quiet()
	list, err := state.Holds(s.db.Read())
	if err != nil || len(list) != 1 {
		t.Fatalf("holds %v, %v", list, err)
	}
	decide(t, s.bridge, list[0], state.HoldReleased)
	s.quiet()
	for i := range people {
		if _, err := s.connect("grant").Enable(t.Context(), s.user(fmt.Sprintf("ana%c.ng", 'a'+i)).ID); err != nil {
			t.Fatal(err)
		}
	}
	s.clock.Add(int64(plan.Settling + time.Minute)) // when every cut is looked at once more
	s.quiet()
	if n := s.disabled(people...); n != 2*len(people) || len(s.holds()) > 0 {
		t.Errorf("%d disables, holds %v; want all of them cut twice, and none held", n, s.holds())
	}
}
