package apply

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// An intent holds so many operations: what is more follows in the next one, until nothing is left.
func TestMorePlannedThanAnIntentHolds(t *testing.T) {
	var seed []tenant.SeedGroup
	var list, names []string
	for i := range entry.MaxOps + 20 {
		id, name := fmt.Sprintf("44444444-4444-4444-8444-%012d", i), fmt.Sprintf("g%d", i)
		seed = append(seed, tenant.SeedGroup{ID: id, DisplayName: name})
		list, names = append(list, fmt.Sprintf("%s: {id: %s}", name, id)), append(names, name)
	}
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
groups: {%s}
roles: {all: {groups: [%s]}, one: {groups: [g1]}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 100}
`, strings.Join(list, ", "), strings.Join(names, ", ")))
	if err != nil {
		t.Fatal(err)
	}
	b := setup(t, func(s *tenant.Config, c *Config) { s.Seed.Groups, c.Policy = seed, p })
	want := func(n int) {
		t.Helper()
		if g := b.user("ana.ng").Groups; len(g) != n || b.standing(AlarmInternal) {
			t.Errorf("in %d groups, want %d", len(g), n)
		}
	}
	b.join("1", "Ana", "all")
	b.settle()
	want(len(seed))
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"one"}})
	b.settle()
	want(1)
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"all"}})
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	want(0)
	b.explained()
}

// A name that is protected is nobody's, also where no account bears it: whoever had it could not be cut.
func TestNobodyGetsAProtectedName(t *testing.T) {
	b := setup(t)
	p := person("Ana")
	p.PreferredAlias = "breakglass"
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Person: p, Roles: []string{"analyst"}})
	b.settle()
	if u := b.user("breakglass2"); !u.Enabled {
		t.Error("want the account open")
	}
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	if b.user("breakglass2").Enabled || len(b.holds()) > 0 {
		t.Errorf("holds %v; want the account cut", b.holds())
	}
}

func TestJoinerMoverLeaver(t *testing.T) {
	b := setup(t)
	b.join("1222", "Ana", "lead")
	b.settle()
	u := b.user("ana.ng")
	if !u.Enabled || !slices.Equal(u.Groups, []string{"Lead", "SOC"}) {
		t.Fatalf("joiner: enabled %v, groups %v", u.Enabled, u.Groups)
	}
	b.say("1222", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}})
	b.settle()
	if u := b.user("ana.ng"); !slices.Equal(u.Groups, []string{"SOC"}) {
		t.Fatalf("mover: groups %v", u.Groups)
	}
	b.say("1222", fence.Fact{Kind: schema.KindLeaver, Urgent: true})
	b.settle()
	if u := b.user("ana.ng"); u.Enabled || !u.SessionsRevoked || len(u.Groups) != 0 {
		t.Fatalf("leaver: enabled %v, revoked %v, groups %v", u.Enabled, u.SessionsRevoked, u.Groups)
	}
	b.explained()

	// Nothing comes back by itself, and nothing is done twice.
	before := len(b.tenant.Journal())
	b.settle()
	if after := len(b.tenant.Journal()); after != before {
		t.Errorf("%d more requests with nothing to do", after-before)
	}
	// After grace the account goes.
	b.pass(31 * 24 * time.Hour)
	b.settle()
	if n := b.writes("delete"); n != 1 {
		t.Errorf("%d deletes after grace, want 1", n)
	}
}

// Grace begins with the end of the engagement, however long the person was suspended before.
func TestGraceOfSomebodyWhoWasSuspended(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindSuspend})
	b.settle()
	b.pass(40 * 24 * time.Hour)
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	b.pass(29 * 24 * time.Hour)
	b.settle()
	if n := b.writes("delete"); n != 0 {
		t.Fatal("deleted before anybody could look: the policy says 30 days")
	}
	b.pass(2 * 24 * time.Hour)
	b.settle()
	if n := b.writes("delete"); n != 1 {
		t.Errorf("%d deletes after grace, want 1", n)
	}
	b.explained()
}

func TestSuspendAndResume(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindSuspend})
	b.settle()
	if u := b.user("ana.ng"); u.Enabled || !u.SessionsRevoked || len(u.Groups) != 1 {
		t.Fatalf("suspended: enabled %v, revoked %v, groups %v", u.Enabled, u.SessionsRevoked, u.Groups)
	}
	b.say("1", fence.Fact{Kind: schema.KindResume})
	b.settle()
	if u := b.user("ana.ng"); !u.Enabled || len(u.Groups) != 1 {
		t.Fatalf("resumed: enabled %v, groups %v", u.Enabled, u.Groups)
	}
	b.explained()
}

func TestFutureDates(t *testing.T) {
	b := setup(t)
	now := b.config.Now()
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Person: person("Ana"), Roles: []string{"analyst"}, Start: now.Add(24 * time.Hour)})
	b.settle()
	if n := b.writes("create"); n != 0 {
		t.Fatalf("%d accounts before the start", n)
	}
	b.clock.Store(int64(25 * time.Hour))
	b.settle()
	b.user("ana.ng")
	b.say("1", fence.Fact{Kind: schema.KindLeaver, Effective: now.Add(48 * time.Hour)})
	b.settle()
	if !b.user("ana.ng").Enabled {
		t.Fatal("disabled before the date")
	}
	b.clock.Store(int64(49 * time.Hour))
	b.settle()
	if b.user("ana.ng").Enabled {
		t.Fatal("enabled after the date")
	}
}

func TestManagerWhoJoinsLater(t *testing.T) {
	b := setup(t)
	report := person("Ana")
	report.Manager = &schema.Manager{Value: "boss"}
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Person: report, Roles: []string{"analyst"}})
	b.settle()
	if m := b.user("ana.ng").Manager; m != "" {
		t.Fatalf("manager %q before there is one", m)
	}
	b.join("boss", "Bea", "lead")
	b.settle()
	if m := b.user("ana.ng").Manager; m != "bea.ng@rehearsal.example" {
		t.Errorf("manager %q", m)
	}
	// Nobody is given as their own, and no preview shows it.
	self := person("Bea")
	self.Manager = &schema.Manager{Value: "boss"}
	b.say("boss", fence.Fact{Kind: schema.KindMover, Person: self, Roles: []string{"lead"}})
	b.settle()
	if m := b.user("bea.ng").Manager; m != "" {
		t.Errorf("manager %q of herself", m)
	}
	b.explained()
}

// The manager's account is there already and is found by its mark, as after a recovery, once the report was planned.
func TestManagerWhoseAccountIsFound(t *testing.T) {
	b := setup(t, func(s *tenant.Config, _ *Config) {
		s.Seed.Users = []tenant.SeedUser{{UserPrincipalName: "bea.ng@rehearsal.example", DisplayName: "Bea Ng",
			Properties: map[string]any{"onPremisesExtensionAttributes": map[string]any{"extensionAttribute15": directory.Mark(issuer, "boss")}}}}
	})
	report := person("Ana")
	report.Manager = &schema.Manager{Value: "boss"}
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Person: report, Roles: []string{"analyst"}})
	b.settle()
	b.join("boss", "Bea", "lead")
	b.settle()
	if n := b.writes("create"); n > 1 {
		t.Fatalf("%d accounts were made: the manager's own was not found", n)
	}
	if m := b.user("ana.ng").Manager; m != "bea.ng@rehearsal.example" {
		t.Errorf("manager %q", m)
	}
	b.explained()
}

// The manager's account is made while the person's own is, and the person has a date ahead that the work waits for.
func TestManagerMadeMeanwhile(t *testing.T) {
	for name, end := range map[string]time.Duration{"open end": 0, "announced end": 300 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.tenant.AddFaults(tenant.Fault{Name: "hold", Method: "^POST$", Path: "/v1.0/users$", Body: "Ana", Kind: tenant.Delay, Gate: "create", Applied: true, Count: 1})
			report := fence.Fact{Kind: schema.KindJoiner, Person: person("Ana"), Roles: []string{"analyst"}}
			report.Person.Manager = &schema.Manager{Value: "boss"}
			if end > 0 {
				report.End = b.config.Now().Add(end)
			}
			b.say("1", report)
			step := 0
			b.work(func() bool {
				switch step {
				case 0: // planned without a manager, for there is none yet
					b.tenant.WaitHeld(t.Context(), "create", 1)
					b.join("boss", "Bea", "lead")
					b.engine.Wake()
					step++
				case 1:
					if id, err := accountOf(b.db.Read(), state.SubjectKey{Issuer: issuer, Subject: "boss"}); err == nil && id != "" {
						b.tenant.Release("create")
						step++
					}
				default:
					return b.idle()
				}
				return false
			})
			if m := b.user("ana.ng").Manager; m != "bea.ng@rehearsal.example" {
				t.Errorf("manager %q", m)
			}
			b.explained()
		})
	}
}

func TestNotOursIsNotTouched(t *testing.T) {
	b := setup(t, func(s *tenant.Config, _ *Config) {
		s.Seed.Users = []tenant.SeedUser{
			{UserPrincipalName: "someone@rehearsal.example", DisplayName: "Someone", Properties: map[string]any{"employeeId": "77"}},
			{UserPrincipalName: "ana.ng@rehearsal.example", DisplayName: "Another Ana"},
		}
	})
	b.say("77", fence.Fact{Kind: schema.KindLeaver})
	b.join("77", "Sam", "analyst") // the leaver was first: no account
	b.join("78", "Ana", "analyst") // the name is another's
	b.settle()
	if u := b.user("someone"); !u.Enabled {
		t.Error("an account without our mark was disabled")
	}
	if u := b.user("ana.ng2"); len(u.Groups) != 1 {
		t.Errorf("a taken name gets a number: groups %v", u.Groups)
	}
	holds, err := state.Holds(b.db.Read())
	if err != nil || len(holds) != 1 || holds[0].Code != string(plan.HoldNotOwned) {
		t.Errorf("holds %v, %v; want one, not-owned", holds, err)
	}
	alarms, err := state.Alarms(b.db.Read())
	if err != nil || len(alarms) != 1 || alarms[0].Code != AlarmCutHeld || !strings.HasSuffix(alarms[0].Text, "; do it by hand") {
		t.Errorf("alarms %v, %v; want one, cut-held", alarms, err)
	}
	// Disabled by hand: there it says so.
	if _, err := b.connect("cut").Disable(t.Context(), b.user("someone").ID); err != nil {
		t.Fatal(err)
	}
	b.pass(holdLook + time.Minute)
	b.settle()
	alarms, err = state.Alarms(b.db.Read())
	if err != nil || len(alarms) != 1 || alarms[0].Code != AlarmCutHeld || !strings.Contains(alarms[0].Text, "it is disabled already") {
		t.Errorf("of a disabled account: alarms %v, %v", alarms, err)
	}
}

func TestObserveWritesNothing(t *testing.T) {
	b := setup(t)
	b.config.Observe = true
	b.join("1", "Ana", "analyst")
	b.work(func() bool {
		n, err := ledger.Size(b.db.DB)
		return err == nil && n >= 2
	})
	if n := b.writes("create", "update", "add-member"); n != 0 {
		t.Fatalf("%d writes", n)
	}
	b.explained()
	b.config.Observe = false
	b.settle()
	b.user("ana.ng")
}

// Observing shows the whole plan of a person, whichever lane it would begin in.
func TestObserveShowsThePlan(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.config.Observe = true
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"lead"}})
	before, err := ledger.Size(b.db.DB)
	if err != nil {
		t.Fatal(err)
	}
	b.work(func() bool {
		n, err := ledger.Size(b.db.DB)
		return err == nil && n == before+2
	})
	e, err := ledger.Get(b.db.DB, before)
	if err != nil {
		t.Fatal(err)
	}
	in, ok := e.Body.(*entry.Intent)
	if !ok || len(in.Ops) != 2 || in.Ops[0].Op != string(plan.UpdateAccount) || in.Ops[1].Op != string(plan.AddMember) || !in.Observe {
		t.Errorf("shown %+v, want the update and the membership", e.Body)
	}
}

// Observing notes what is to be done now, and not what an earlier fact of the same person would have asked for.
func TestObserveNotesTheLane(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.config.Observe = true
	b.say("1", fence.Fact{Kind: schema.KindSuspend})
	b.say("1", fence.Fact{Kind: schema.KindResume})
	lane := func() plan.Lane { return b.row("1").Lane }
	if got := lane(); got != plan.Disable {
		t.Fatalf("before the look: %s, want disable", got)
	}
	b.work(func() bool { return lane() != plan.Disable })
	if got := lane(); got != plan.Give {
		t.Errorf("after it: %s, want give", got)
	}
	b.say("1", fence.Fact{Kind: schema.KindSuspend})
	if got := lane(); got != plan.Disable {
		t.Errorf("suspended again: %s, want disable", got)
	}
	b.config.Observe = false
	b.settle()
	if b.user("ana.ng").Enabled {
		t.Error("the real run did not cut")
	}
}

// Observing shows everyone, though nobody's row moves on.
func TestObserveShowsEveryone(t *testing.T) {
	const people = 60 // more than are listed at once
	b := setup(t)
	b.config.Observe = true
	for i := range people {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c%c", 'a'+i/26, 'a'+i%26), "analyst")
	}
	b.work(func() bool {
		n, err := ledger.Size(b.db.DB)
		return err == nil && n == 1+2*people
	})
	if intents, _ := b.explained(); intents != people {
		t.Errorf("%d intents for %d people", intents, people)
	}
}
