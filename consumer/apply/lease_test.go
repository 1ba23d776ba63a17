package apply

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// hear notes that a person was named at a time, as intake does.
func (b *bridge) hear(subject string, issued time.Time) {
	b.t.Helper()
	s := b.row(subject)
	s.SaidAt, s.Doc.Lapse, s.FactAt = issued, nil, b.config.Now()
	s.Raise(plan.Give, b.config.Now(), false)
	if err := b.db.Tx(b.t.Context(), func(tx *store.Tx) error { return state.SaveFacts(tx, s) }); err != nil {
		b.t.Fatal(err)
	}
}

// pass lets time go by with the program running.
func (b *bridge) pass(d time.Duration) {
	b.t.Helper()
	b.clock.Add(int64(d))
	before, err := Uptime(b.db.Read())
	if err != nil {
		b.t.Fatal(err)
	}
	err = b.db.Tx(b.t.Context(), func(tx *store.Tx) error {
		return state.SetMeta(tx, metaUptime, strconv.FormatInt(int64((before+d)/time.Second), 10))
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bridge) standing(code string) bool {
	b.t.Helper()
	list, err := state.Alarms(b.db.Read())
	if err != nil {
		b.t.Fatal(err)
	}
	return slices.ContainsFunc(list, func(a state.Alarm) bool { return a.Code == code })
}

// enabled reports whether the account of a person is open.
func (b *bridge) enabled(subject string) bool {
	b.t.Helper()
	var known plan.Known
	if err := json.Unmarshal(b.row(subject).Account, &known); err != nil {
		b.t.Fatal(err)
	}
	name, _, _ := strings.Cut(known.UPN, "@")
	return b.user(name).Enabled
}

func (b *bridge) entries() (list []entry.Body) {
	b.t.Helper()
	for e, err := range ledger.Entries(b.t.Context(), b.db.DB, 0) {
		if err != nil {
			b.t.Fatal(err)
		}
		list = append(list, e.Entry.Body)
	}
	return list
}

func (b *bridge) alarmSet(code string, stands bool) {
	b.t.Helper()
	err := b.db.Tx(b.t.Context(), func(tx *store.Tx) (err error) {
		if stands {
			_, err = state.RaiseAlarm(tx, state.Alarm{Code: code, Severity: state.Critical, Text: "test", Last: b.config.Now()})
		} else {
			_, err = state.ClearAlarm(tx, code, "", b.config.Now())
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// Whoever has no access has no lease that could end, however long nothing is said of them.
func TestNobodyWithoutAccessIsWarnedOf(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.join("2", "Bo", "analyst")
	b.settle()
	b.hear("1", b.config.Now())
	b.hear("2", b.config.Now())
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	for range 3 {
		b.pass(2 * 24 * time.Hour)
		b.hear("2", b.config.Now())
		b.settle()
		if list, err := state.LeasesEnding(b.db.Read(), b.config.Now()); err != nil || len(list) > 0 || b.standing(AlarmLease) {
			t.Fatalf("%+v, %v, alarm %v", list, err, b.standing(AlarmLease))
		}
	}
}

func TestALeaseThatRunsOutSuspendsAndTheNextWordRestores(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.join("2", "Bo", "analyst")
	b.settle()
	said := b.config.Now()
	b.hear("1", said)
	b.hear("2", said)
	b.pass(4 * 24 * time.Hour)
	b.hear("2", b.config.Now())
	b.work(func() bool { return b.standing(AlarmLease) })
	if v := b.row("1").Doc.At(b.config.Now()); !v.Access {
		t.Fatal("want access until the lease runs out")
	}
	b.pass(3*24*time.Hour + time.Minute)
	b.work(func() bool { return !b.enabled("1") })
	v := b.row("1").Doc.At(b.config.Now())
	if v.Access || v.Why != fence.WhyLease || v.Closed {
		t.Fatalf("want a reversible suspension of its own, got %+v", v)
	}
	if !b.row("2").Doc.At(b.config.Now()).Access {
		t.Error("want who was named to keep access")
	}
	expired, cause := 0, ""
	for _, e := range b.entries() {
		switch x := e.(type) {
		case *entry.Lease:
			if x.Action == entry.LeaseExpired && x.Subject == "1" {
				expired++
			}
		case *entry.Intent:
			if x.Subject == "1" && x.Ops[0].Op == "disable" {
				cause = x.Cause.Type
				if x.Cause.Entry == nil {
					t.Error("want the cause to name the entry")
				}
			}
		}
	}
	if expired != 1 || cause != entry.CauseLease {
		t.Errorf("want the ledger to say so once, got %d and cause %q", expired, cause)
	}
	b.hear("1", b.config.Now())
	b.work(func() bool { return b.enabled("1") })
}

// A clock that went back says that nobody has begun yet. That takes nothing from whoever has an account; what a
// message takes is taken all the same.
func TestAClockThatWentBackCutsNobody(t *testing.T) {
	b := setup(t)
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Person: person("Ana"), Roles: []string{"lead"}, Start: b.config.Now()})
	b.settle()
	b.clock.Add(-int64(time.Hour))
	b.alarmSet(AlarmClock, true)
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}, Start: b.config.Now().Add(time.Hour)})
	b.say("2", fence.Fact{Kind: schema.KindJoiner, Person: person("Bo"), Roles: []string{"lead"}, Start: b.config.Now().Add(time.Hour)})
	b.work(func() bool { return len(b.user("ana.ng").Groups) == 1 && b.row("2").Due.After(b.config.Now()) })
	if !b.enabled("1") {
		t.Error("cut by a clock that went back")
	}
	if n := b.writes("create"); n != 1 {
		t.Errorf("%d accounts, want none for whoever has none and has not begun", n)
	}
	b.alarmSet(AlarmClock, false) // the clock is right, says an operator: then the start is truly to come
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}, Start: b.config.Now().Add(24 * time.Hour)})
	b.work(func() bool { return !b.enabled("1") })
	b.explained()
}

func TestNoLeaseRunsOutWhileTheClockIsInDoubt(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.hear("1", b.config.Now())
	b.settle()
	b.alarmSet(AlarmClock, true)
	b.pass(30 * 24 * time.Hour)
	b.settle()
	if !b.row("1").Doc.At(b.config.Now()).Access || !b.enabled("1") {
		t.Fatal("want leases paused by a clock that jumped")
	}
	b.alarmSet(AlarmClock, false)
	b.work(func() bool { return !b.enabled("1") })
}

func TestALeaseThatRunsOutCountsAgainstTheLimitOfCuts(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 1000, 1) })
	for _, id := range []string{"1", "2", "3"} {
		b.join(id, "A"+id, "analyst")
	}
	b.settle()
	for _, id := range []string{"1", "2", "3"} {
		b.hear(id, b.config.Now())
	}
	b.pass(8 * 24 * time.Hour)
	b.work(func() bool { return b.standing(AlarmCutLimit) })
	if !b.enabled("1") || !b.enabled("2") || !b.enabled("3") {
		t.Error("want them held")
	}
}

// A lease that a new policy makes shorter ends by that, also where the end of the longer one was noted.
func TestAShorterLeaseOfANewPolicyCounts(t *testing.T) {
	for _, was := range []string{"usage_location: US", "lead: {groups: [soc, lead]"} {
		s := frozen(t)
		s.join("1", "Ana", "lead")
		s.quiet()
		s.hear("1", s.config.Now())
		s.clock.Add(int64(4 * 24 * time.Hour))
		s.quiet()
		now := was + "\nlease: 2d"
		if strings.HasPrefix(was, "lead") {
			now = was + ", lease: 2d"
		}
		p, err := policy.Parse("policy.yaml", []byte(strings.Replace(testPolicyText(1000, 1000), was, now, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.db.Tx(t.Context(), func(tx *store.Tx) error { return PolicyChanged(tx, p, s.config.Now()) }); err != nil {
			t.Fatal(err)
		}
		s.config.Policy = p
		s.stepper().quiet()
		if s.enabled("1") {
			t.Errorf("%s: open four days after the last word, want the lease over after two", now)
		}
	}
}

// What an operator takes back of a word that was disowned is taken, though a lease ran out meanwhile and was extended.
func TestAnExtensionLeavesAnUndo(t *testing.T) {
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
groups: {soc: {id: %s}, lead: {id: %s}, other: {id: %s}}
roles: {analyst: {groups: [soc]}, lead: {groups: [lead]}, guest: {groups: [other], lease: 1d}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 1}
`, socID, leadID, otherID))
	if err != nil {
		t.Fatal(err)
	}
	s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = p })
	for i, who := range []string{"Ana", "Bob"} {
		s.join(strconv.Itoa(i), who, "analyst", "guest", "lead")
	}
	s.quiet()
	for _, id := range []string{"0", "1"} {
		s.hear(id, s.config.Now())
	}
	s.clock.Add(int64(24*time.Hour - 10*time.Minute))
	s.quiet()
	for _, id := range []string{"0", "1"} {
		s.alter(id, func(r *state.Subject) {
			r.Doc.Doubt, r.Doc.Wants[0].Doubted = &fence.Doubt{}, true
			r.Doc = fence.Deny(r.Doc, 0, s.config.Now(), []string{"lead"})
			r.Raise(plan.Take, s.config.Now(), false)
		})
	}
	s.quiet()
	s.clock.Add(int64(12 * time.Minute)) // the guests' lease is over, and the undo held still
	s.quiet()
	if g := s.user("ana.ng").Groups; !slices.Equal(g, []string{"Lead", "Other", "SOC"}) || !s.standing(AlarmTakeLimit) {
		t.Fatalf("groups %v, want all of them, held", g)
	}
	err = s.db.Tx(t.Context(), func(tx *store.Tx) error {
		k := state.SubjectKey{Issuer: issuer}
		if _, err := state.Extend(tx, k, s.config.Now().Add(72*time.Hour), s.config.Now()); err != nil {
			return err
		}
		_, err := state.RestoreLeases(tx, k, s.config.Now())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.quiet()
		s.clock.Add(int64(31 * time.Minute))
	}
	s.quiet()
	for _, name := range []string{"ana.ng", "bob.ng"} {
		if g := s.user(name).Groups; !slices.Equal(g, []string{"Other", "SOC"}) {
			t.Errorf("groups %v of %s, want those that no operator took", g, name)
		}
	}
	s.explained()
}

func TestAnExtensionPutsALeaseOff(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.hear("1", b.config.Now())
	until := b.config.Now().Add(10 * 24 * time.Hour)
	err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
		n, err := state.Extend(tx, state.SubjectKey{Issuer: issuer, Subject: "1"}, until, b.config.Now())
		if err == nil && n != 1 {
			t.Errorf("want one extended, got %d", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.pass(9 * 24 * time.Hour)
	b.settle()
	if !b.enabled("1") {
		t.Fatal("want access until the extension ends")
	}
	b.pass(2 * 24 * time.Hour)
	b.work(func() bool { return !b.enabled("1") })
}

// A delete waits for its grace in observed uptime too.
func TestADeleteWaitsForUptime(t *testing.T) {
	known := plan.Known{ID: "x", DisabledAt: time.Unix(0, 0).Add(time.Hour), DisabledUp: time.Hour, StrippedAt: time.Unix(0, 0).Add(time.Hour), StrippedUp: time.Hour}
	pol := testPolicy(t, 1, 1)
	grace := time.Duration(pol.Grace)
	now := known.DisabledAt.Add(2 * grace)
	if at := plan.DeleteAt(known, pol, now, known.DisabledUp+grace-time.Hour); !at.Equal(now.Add(time.Hour)) {
		t.Errorf("want another hour, got %v", at.Sub(now))
	}
	if at := plan.DeleteAt(known, pol, now, known.DisabledUp+grace); at.After(now) {
		t.Error("want it due")
	}
}
