package apply

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func TestLeaversGoFirst(t *testing.T) {
	b := setup(t, func(s *tenant.Config, c *Config) { c.Workers, c.WritesPerSecond = 4, 200 })
	b.join("victim", "Vic", "analyst")
	b.settle()
	for i := range 100 {
		b.join(fmt.Sprintf("j%d", i), fmt.Sprintf("Joe%c%c", 'a'+i/26, 'a'+i%26), "analyst")
	}
	started := func() bool { return b.writes("create") > 3 }
	b.work(started)
	b.say("victim", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	created, cut := 0, -1
	for _, e := range b.tenant.Journal() {
		for _, c := range e.Changes {
			switch {
			case c.Op == "create":
				created++
			case c.Op == "update" && c.Set["accountEnabled"] == false && cut < 0:
				cut = created
			}
		}
	}
	if cut < 0 || cut > 60 {
		t.Errorf("the leaver was cut after %d accounts had been made; it must overtake the backlog", cut)
	}
}

// What comes in together is done lane by lane, whoever it is about.
func TestLanesAcrossPersons(t *testing.T) {
	b := setup(t, func(s *tenant.Config, _ *Config) { s.Latency = 3 * time.Millisecond })
	for i := range 8 {
		b.join(fmt.Sprintf("l%d", i), fmt.Sprintf("Lea%c", 'a'+i), "analyst")
	}
	b.settle()
	from := len(b.tenant.Journal())
	for i := range 8 {
		b.join(fmt.Sprintf("j%d", i), fmt.Sprintf("Joe%c", 'a'+i), "analyst")
		b.say(fmt.Sprintf("l%d", i), fence.Fact{Kind: schema.KindLeaver})
	}
	b.settle()
	var revoked, created int
	for _, e := range b.tenant.Journal()[from:] {
		for _, c := range e.Changes {
			switch c.Op {
			case "revoke":
				revoked++
				if created > 0 {
					t.Fatal("a session was revoked after an account had been created")
				}
			case "create":
				created++
				if revoked < 8 {
					t.Fatalf("an account was created when only %d of 8 leavers' sessions were revoked", revoked)
				}
			}
		}
	}
	if revoked != 8 || created != 8 {
		t.Errorf("%d revoked, %d created; want 8 of each", revoked, created)
	}
}

func TestGivesPastTheLimitAreHeldWhole(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 5, 100) })
	for i := range 6 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	if n := b.writes("create"); n != 0 {
		t.Fatalf("%d accounts, want none: the limit is 5 and 6 wait", n)
	}
	holds, err := state.Holds(b.db.Read())
	if err != nil || len(holds) != 1 || !strings.Contains(string(holds[0].Shown), `"count":6`) {
		t.Fatalf("holds %v, %v", holds, err)
	}
	decide(t, b, holds[0], state.HoldReleased)
	b.settle()
	if n := b.writes("create"); n != 6 {
		t.Errorf("%d accounts after the release, want 6", n)
	}
}

func TestCutsPastTheLimitWaitAndHappen(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 2) })
	for i := range 4 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	for i := range 4 {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver, Urgent: i == 0})
	}
	b.settle()
	enabled := func() (n int) {
		for i := range 4 {
			if b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).Enabled {
				n++
			}
		}
		return n
	}
	if n := enabled(); n != 3 {
		t.Fatalf("%d accounts enabled, want 3: the urgent leaver goes, the others wait", n)
	}
	if alarms, _ := state.Alarms(b.db.Read()); len(alarms) != 1 || alarms[0].Severity != state.Critical {
		t.Errorf("alarms %v; want the loudest", alarms)
	}
	b.clock.Store(int64(31 * time.Minute))
	b.settle()
	if n := enabled(); n != 0 {
		t.Errorf("%d accounts enabled after cut_hold, want none", n)
	}
	if holds, _ := state.Holds(b.db.Read()); len(holds) != 0 {
		t.Errorf("%d holds stand after their time", len(holds))
	}
}

// A second hold of one moment, as by a clock that stands or went back, leaves the first.
func TestTwoHoldsOfOneMoment(t *testing.T) {
	s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 1, 100) })
	for i := range 4 {
		s.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
		if i%2 == 0 {
			continue
		}
		if _, err := s.engine.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	list, err := state.Holds(s.db.Read())
	if err != nil || len(list) != 2 {
		t.Fatalf("holds %v, %v; want both, for what waits behind either ends by a word on it alone", list, err)
	}
	for _, h := range list {
		decide(t, s.bridge, h, state.HoldReleased)
	}
	s.quiet()
	if n := s.writes("create"); n != 4 {
		t.Errorf("%d accounts after the release, want 4", n)
	}
}

// Urgent leavers have an allowance of their own beside the limit of cuts, and no more than that: one after another too.
func TestUrgentCutsPastTheirAllowanceAreCuts(t *testing.T) {
	s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 2) })
	var people []string
	for i := range 8 {
		people = append(people, fmt.Sprint(i))
		s.join(people[i], fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	s.quiet()
	for _, id := range people {
		s.say(id, fence.Fact{Kind: schema.KindLeaver, Urgent: true})
		s.quiet()
		s.clock.Add(int64(time.Minute))
	}
	if n := s.disabled(people...); n != 3 || !s.standing(AlarmCutLimit) {
		t.Errorf("%d disabled, alarm %v; want one urgent one, two more by the limit of cuts, and the alarm", n, s.standing(AlarmCutLimit))
	}
	s.clock.Add(int64(31 * time.Minute))
	s.quiet()
	if n := s.disabled(people...); n != len(people) {
		t.Errorf("%d disabled after cut_hold, want all", n)
	}
}

func decide(t *testing.T, b *bridge, h *state.Hold, to state.HoldState) {
	t.Helper()
	err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
		_, _, err := state.DecideHold(tx, h.ID, h.Digest, to, "alice", "planned", 1, b.config.Now())
		if err != nil {
			return err
		}
		return state.LetThrough(tx, h.ID, b.config.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Ten thousand joiners on day one are one hold, which shows each of them, and one release lets exactly them through.
func TestTheFirstLoadIsOneHold(t *testing.T) {
	const people = 10_000
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 50, 100) })
	err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
		for i := range people {
			s := &state.Subject{SubjectKey: state.SubjectKey{Issuer: issuer, Subject: fmt.Sprint(i)}, FactAt: b.config.Now()}
			s.Doc, _ = fence.Accept(s.Doc, fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 1, Generation: 1, Seq: uint64(i + 1)}, Sequenced: true,
				Person: person(fmt.Sprintf("Ana%c%c%c", 'a'+i/676, 'a'+i/26%26, 'a'+i%26)), Roles: []string{"analyst"}})
			s.Raise(plan.Give, b.config.Now(), false)
			if err := state.SaveFacts(tx, s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.work(func() bool { return b.standing(AlarmGiveLimit) })
	holds, err := state.Holds(b.db.Read())
	if err != nil || len(holds) != 1 {
		t.Fatalf("holds %v, %v", holds, err)
	}
	var shown shownHold
	if err := json.Unmarshal(holds[0].Shown, &shown); err != nil || shown.Count != people || len(shown.Subjects) != people {
		t.Fatalf("the hold shows %d of %d, %v", len(shown.Subjects), shown.Count, err)
	}
	recorded := 0
	for _, e := range b.entries() {
		if h, ok := e.(*entry.Held); ok {
			recorded += len(h.Subjects)
		}
	}
	if recorded != people {
		t.Errorf("%d of them are on the ledger", recorded)
	}
	decide(t, b, holds[0], state.HoldReleased)
	b.work(func() bool { return b.writes("create") >= 100 }) // more than the hour allows: they are let through
	if n, err := state.Effects(b.db.Read(), classGive, b.config.Now().Add(-time.Hour)); err != nil || n != 0 {
		t.Errorf("%d of those let through are counted, %v: the limit is for whoever comes after", n, err)
	}
}
