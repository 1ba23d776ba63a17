package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Every write can be lost, and can be done with its answer lost; the tenant ends the same, and no
// account is made twice.
func TestLostAnswers(t *testing.T) {
	story := func(b *bridge) {
		b.join("1", "Ana", "lead")
		b.settle()
		b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"analyst"}})
		b.settle()
		b.say("1", fence.Fact{Kind: schema.KindLeaver})
		b.settle()
	}
	quiet := setup(t)
	story(quiet)
	want := quiet.tenant.Snapshot().Comparable()
	for _, fault := range []tenant.Fault{
		{Name: "503", Kind: tenant.Error, Status: 503},
		{Name: "503-done", Kind: tenant.Error, Status: 503, Applied: true},
		{Name: "504-done", Kind: tenant.Error, Status: 504, Applied: true},
		{Name: "dropped", Kind: tenant.Drop},
		{Name: "dropped-done", Kind: tenant.Drop, Applied: true},
		{Name: "broken-body", Kind: tenant.Break},
		{Name: "html-done", Kind: tenant.HTML, Status: 502, Applied: true},
		{Name: "empty-200", Kind: tenant.Empty},
		{Name: "html-200", Kind: tenant.HTML, Status: 200},
		{Name: "gateway-200", Kind: tenant.Gateway, Status: 200},
		{Name: "gateway-200-done", Kind: tenant.Gateway, Status: 200, Applied: true},
		{Name: "html-404", Kind: tenant.HTML, Status: 404},
		{Name: "html-403-done", Kind: tenant.HTML, Status: 403, Applied: true},
		{Name: "gateway-400-done", Kind: tenant.Gateway, Status: 400, Applied: true},
		{Name: "throttled", Kind: tenant.Throttle, RetryAfter: -1},
		{Name: "unauthorized", Kind: tenant.Unauthorized},
	} {
		t.Run(fault.Name, func(t *testing.T) {
			b := setup(t)
			fault.Method, fault.Probability = "^(POST|PATCH|PUT|DELETE)$", 0.4
			fault.Path = "/v1.0/"
			b.tenant.AddFaults(fault)
			story(b)
			if got := b.tenant.Snapshot().Comparable(); got != want {
				t.Errorf("the tenant ended otherwise:\n%s\nwant\n%s", got, want)
			}
			if n := b.writes("create"); n != 1 {
				t.Errorf("%d accounts were made, want 1", n)
			}
			b.explained()
		})
	}
}

// What something between says in the tenant's place, of status 200, is no success: the write is made again.
func TestSomethingBetweenSaysYes(t *testing.T) {
	for _, fault := range []tenant.Fault{{Kind: tenant.Empty}, {Kind: tenant.HTML, Status: 200}, {Kind: tenant.Gateway, Status: 200}} {
		t.Run(string(fault.Kind), func(t *testing.T) {
			b := setup(t)
			once := func(method string) {
				fault.Method, fault.Path, fault.Count = method, "/v1.0/", 1
				b.tenant.AddFaults(fault)
			}
			fault.Skip = 1 // the create
			once("^POST$")
			fault.Skip = 0
			b.join("1", "Ana", "lead")
			b.settle()
			if g := b.user("ana.ng").Groups; len(g) != 2 {
				t.Errorf("groups %v of who joined", g)
			}
			once("^DELETE$")
			once("^PATCH$")
			b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"analyst"}})
			b.settle()
			if u := b.user("ana.ng"); !slices.Equal(u.Groups, []string{"SOC"}) || u.Properties["givenName"] != "Anna" {
				t.Errorf("groups %v, given name %q of who moved", u.Groups, u.Properties["givenName"])
			}
			once("^PATCH$")
			b.say("1", fence.Fact{Kind: schema.KindLeaver})
			b.settle()
			if b.user("ana.ng").Enabled {
				t.Error("the account of who left is open")
			}
			b.explained()
		})
	}
}

// Cuts whose answers hang must not keep others from being cut: not those that hang for the first time, nor those
// that hang at every further attempt.
func TestHangingCutsLetOthersThrough(t *testing.T) {
	b := setup(t)
	b.firstCut = 2 * time.Second // time enough for all workers to be seen hanging at once
	const hanging = 24           // more than there are workers
	for i := range hanging + 2 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	disabled := func(i int) bool { return !b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).Enabled }
	var ids []string
	for i := range hanging {
		ids = append(ids, b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).ID)
	}
	b.tenant.AddFaults(tenant.Fault{Name: "hang", Path: "/(" + strings.Join(ids, "|") + ")(/|$)", Kind: tenant.Delay, Gate: "hang"})
	for i := range hanging {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
	}
	waited := false
	b.work(func() bool { // at first, every worker hangs
		if !waited {
			b.tenant.WaitHeld(t.Context(), "hang", 16)
			b.say(fmt.Sprint(hanging), fence.Fact{Kind: schema.KindLeaver})
			waited = true
		}
		return disabled(hanging)
	})
	row := func(i int) *state.Subject {
		s, err := state.LoadSubject(b.db.Read(), state.SubjectKey{Issuer: issuer, Subject: fmt.Sprint(i)})
		if err != nil || s == nil {
			t.Fatal(s, err)
		}
		return s
	}
	b.firstCut = 100 * time.Millisecond
	b.work(func() bool { // then every one of them fails again and again
		for i := range hanging {
			if row(i).Attempts < 3 {
				return false
			}
		}
		return true
	})
	b.firstCut, waited = operationTime, false
	b.work(func() bool { // and hangs for longer than this test waits
		if !waited {
			b.tenant.WaitHeld(t.Context(), "hang", 12)
			b.say(fmt.Sprint(hanging+1), fence.Fact{Kind: schema.KindLeaver})
			waited = true
		}
		if !disabled(hanging + 1) {
			return false
		}
		b.tenant.RemoveFault("hang")
		b.tenant.Release("hang")
		return true
	})
	b.settle()
	for i := range hanging {
		if !disabled(i) {
			t.Errorf("account %d is not disabled at the end", i)
		}
	}
	b.explained()
}

func TestReplicationDelay(t *testing.T) {
	b := setup(t, func(s *tenant.Config, _ *Config) {
		s.Replication = tenant.Replication{Lag: 30 * time.Millisecond, IndexLag: 60 * time.Millisecond, WriteLag: 20 * time.Millisecond}
	})
	for i := range 10 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "lead")
	}
	b.settle()
	for i := range 10 {
		if u := b.user(fmt.Sprintf("ana%c.ng", 'a'+i)); len(u.Groups) != 2 {
			t.Errorf("groups %v", u.Groups)
		}
	}
	if n := b.writes("create"); n != 10 {
		t.Errorf("%d accounts, want 10", n)
	}
	b.explained()
}

// A crash after the intent, or after the operations, leaves an intent without an outcome; the next run
// looks, answers it, and comes to the same end.
func TestInterrupted(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	gate := tenant.Fault{Name: "hold", Method: "^POST$", Path: "/v1.0/users$", Kind: tenant.Delay, Gate: "create", Applied: true, Count: 1}
	b.tenant.AddFaults(gate)
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	row, err := state.LoadSubject(b.db.Read(), state.SubjectKey{Issuer: issuer, Subject: "1"})
	if err != nil {
		t.Fatal(err)
	}
	// The process dies while the answer is under way: the goroutine is abandoned before its outcome.
	u := &unit{Engine: e, row: row, stream: "hr", now: e.Now(), attempt: 1, hung: t.Context(), view: row.Doc.At(e.Now())}
	u.situation = plan.Situation{Issuer: issuer, Subject: "1", View: u.view, Now: u.now}
	p := plan.For(u.situation, e.Policy)
	if _, err := u.intend(t.Context(), p.Ops); err != nil {
		t.Fatal(err)
	}
	go u.try(t.Context(), p.Ops[0])
	b.tenant.WaitHeld(t.Context(), "create", 1)
	b.tenant.Release("create")

	b.settle()
	if n := b.writes("create"); n != 1 {
		t.Errorf("%d accounts, want 1", n)
	}
	if u := b.user("ana.ng"); len(u.Groups) != 1 {
		t.Errorf("groups %v", u.Groups)
	}
	intents, _ := b.explained()
	if intents < 2 {
		t.Errorf("%d intents, want the interrupted one and another", intents)
	}
}

// A write that the tenant confirmed is trusted against replicas that do not show it: nothing is written
// twice, however long they lag.
func TestLongReplicationDelay(t *testing.T) {
	b := setup(t, func(s *tenant.Config, _ *Config) {
		s.Replication = tenant.Replication{Lag: time.Hour, IndexLag: time.Hour}
	})
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.work(func() bool { // the account itself is not shown for an hour either: strip goes on being tried
		return b.writes("revoke") == 1
	})
	if n := b.writes("create"); n != 1 {
		t.Errorf("%d accounts, want 1", n)
	}
	if n := b.writes("update"); n != 1 {
		t.Errorf("%d writes of the account, want the disable alone", n)
	}
}

// Ten minutes after a cut the account is looked at once more: what the tenant answered is not yet proof.
func TestCutIsConfirmed(t *testing.T) {
	for _, lied := range []bool{false, true} {
		t.Run(fmt.Sprintf("lied %v", lied), func(t *testing.T) {
			b := setup(t)
			b.join("1", "Ana", "analyst")
			b.settle()
			if lied {
				b.tenant.AddFaults(tenant.Fault{Name: "lie", Method: "^PATCH$", Path: "/users/", Body: "accountEnabled", Kind: tenant.Ignore, Count: 1})
			}
			b.say("1", fence.Fact{Kind: schema.KindLeaver})
			b.settle()
			if b.user("ana.ng").Enabled != lied {
				t.Fatalf("enabled %v", b.user("ana.ng").Enabled)
			}
			b.clock.Store(int64(plan.Settling + time.Minute))
			b.settle()
			if b.user("ana.ng").Enabled {
				t.Fatal("still enabled after the look")
			}
			alarms, err := state.Alarms(b.db.Read())
			if err != nil || (len(alarms) == 1 && alarms[0].Code == AlarmCutUndone) != lied {
				t.Fatalf("alarms %v, %v", alarms, err)
			}
			b.clock.Store(int64(2 * (plan.Settling + time.Minute)))
			b.settle()
			if alarms, _ := state.Alarms(b.db.Read()); len(alarms) != 0 {
				t.Errorf("alarms %v after the account was seen disabled", alarms)
			}
			seen := 0
			for e, err := range ledger.Entries(t.Context(), b.db.DB, 0) {
				if err != nil {
					t.Fatal(err)
				}
				if o, ok := e.Entry.Body.(*entry.Observed); ok && o.Account.State == entry.StateDisabled {
					seen++
				}
			}
			if seen != 1 {
				t.Errorf("%d observations that the account is disabled, want 1", seen)
			}
			b.explained()
		})
	}
}

// Whoever was cut and is found enabled is to be cut like anybody else, also where the tenant refuses it: as soon, and as loud.
func TestACutThatWasUndoneAndIsRefused(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	if _, err := b.connect("admin").Enable(t.Context(), b.user("ana.ng").ID); err != nil {
		t.Fatal(err)
	}
	b.tenant.AddFaults(tenant.Fault{Name: "an administrator", Method: "^PATCH$", Path: "/users/", Body: "accountEnabled", Kind: tenant.Error, Status: 403})
	b.pass(plan.Settling + time.Minute)
	b.work(func() bool { return b.row("1").Attempts >= lateGive })
	if lane := b.row("1").Lane; lane != plan.Disable {
		t.Errorf("it is tried again in lane %v", lane)
	}
	var codes []string
	alarms, err := state.Alarms(b.db.Read())
	for _, a := range alarms {
		codes = append(codes, a.Code)
		if a.Code == AlarmCutUndone && strings.Contains(a.Text, "is disabled once more") {
			t.Errorf("the account is enabled, and the alarm says: %s", a.Text)
		}
	}
	if slices.Sort(codes); err != nil || !slices.Contains(codes, AlarmCutFailing) || slices.Contains(codes, AlarmStripFailing) {
		t.Errorf("alarms %v, %v", codes, err)
	}
}

// An attribute that the tenant refuses for good keeps nobody from the groups and becomes an alarm; a
// create that fails is followed by nothing.
func TestARefusedAttribute(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.tenant.AddFaults(tenant.Fault{Name: "no", Method: "^PATCH$", Path: "/users/", Kind: tenant.Error, Status: 400})
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"lead"}})
	b.work(func() bool {
		alarms, err := state.Alarms(b.db.Read())
		return err == nil && len(alarms) == 1 && alarms[0].Code == AlarmGiveFailing
	})
	if u := b.user("ana.ng"); len(u.Groups) != 2 {
		t.Errorf("groups %v", u.Groups)
	}
	b.tenant.RemoveFault("no")
	b.settle()
	if alarms, _ := state.Alarms(b.db.Read()); len(alarms) != 0 {
		t.Errorf("alarms %v after it succeeded", alarms)
	}
	b.explained()

	b.tenant.AddFaults(tenant.Fault{Name: "no", Method: "^POST$", Path: "/users$", Kind: tenant.Error, Status: 503, Count: 1})
	from := len(b.tenant.Journal())
	b.join("2", "Bea", "lead")
	b.settle()
	for _, j := range b.tenant.Journal()[from:] {
		if j.Status == 400 || strings.Contains(j.Path, "/users//") {
			t.Errorf("%s %s after a create that failed", j.Method, j.Path)
		}
	}
}

// A leaver that is committed between a joiner's plan and its intent wins: no intent that gives follows it.
func TestFactBetweenPlanAndIntent(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	row, err := state.LoadSubject(b.db.Read(), state.SubjectKey{Issuer: issuer, Subject: "1"})
	if err != nil {
		t.Fatal(err)
	}
	u := &unit{Engine: e, row: row, stream: "hr", now: e.Now(), attempt: 1, hung: t.Context(), view: row.Doc.At(e.Now())}
	u.situation = plan.Situation{Issuer: issuer, Subject: "1", View: u.view, Now: u.now}
	p := plan.For(u.situation, e.Policy)
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	if err := u.execute(t.Context(), p, plan.Give); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if n := b.writes("create"); n != 0 {
		t.Errorf("%d accounts for one who had left", n)
	}
	if n, _ := b.explained(); n != 0 {
		t.Errorf("%d intents", n)
	}
}

// oddCutter answers one disable with what the ledger does not take.
type oddCutter struct {
	Cutter
	answered bool
}

func (c *oddCutter) Disable(ctx context.Context, id string) (directory.Receipt, error) {
	r, err := c.Cutter.Disable(ctx, id)
	if !c.answered {
		c.answered, r.Requests[0].Status = true, 7
	}
	return r, err
}

// A cut that was done and cannot be recorded is answered for by the next attempt, and is the bridge's own.
func TestACutThatCannotBeRecorded(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.config.Cut = &oddCutter{Cutter: b.config.Cut}
	s := b.stepper()
	b.say("1", fence.Fact{Kind: schema.KindSuspend})
	s.pass(time.Second)
	s.pass(longestCut + time.Second)
	b.say("1", fence.Fact{Kind: schema.KindResume})
	s.pass(time.Minute)
	if h := b.holds(); !b.user("ana.ng").Enabled || len(h) > 0 {
		t.Errorf("holds %v; want the account open again", h)
	}
	b.explained()
}

// One person whose work cannot be recorded, or for whom there is no name left, is set aside; the others go on.
func TestOnePersonDoesNotStopTheOthers(t *testing.T) {
	b := setup(t)
	err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
		for nth := range maxNames {
			upn := b.config.Policy.Nickname(person("Ana"), "1", nth) + "@rehearsal.example"
			if _, err := state.TakeName(tx, upn, state.SubjectKey{Issuer: issuer, Subject: "other"}, time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.join("1", "Ana", "analyst")
	b.join("no ledger takes this id", "Poison", "analyst")
	b.join("2", "Bob", "analyst")
	b.work(func() bool {
		alarms, err := state.Alarms(b.db.Read())
		holds, err2 := state.Holds(b.db.Read())
		return err == nil && err2 == nil && len(alarms) == 1 && len(holds) == 1 && b.tenant.Snapshot().User("bob.ng@rehearsal.example") != nil
	})
	if alarms, _ := state.Alarms(b.db.Read()); alarms[0].Code != AlarmInternal {
		t.Errorf("alarm %q, want %q", alarms[0].Code, AlarmInternal)
	}
	if holds, _ := state.Holds(b.db.Read()); holds[0].Code != string(holdNoName) {
		t.Errorf("hold %q, want %q", holds[0].Code, holdNoName)
	}
}

// A name that the tenant refuses is chosen again by the policy of then, and the alarm says what the tenant said.
func TestARefusedName(t *testing.T) {
	b := setup(t)
	good := b.config.Policy.UPN.Domain
	b.config.Policy.UPN.Domain = "nowhere.example"
	b.join("1", "Ana", "analyst")
	b.work(func() bool {
		alarms, err := state.Alarms(b.db.Read())
		return err == nil && len(alarms) == 1 && alarms[0].Code == AlarmGiveFailing && strings.Contains(alarms[0].Text, "Request_BadRequest on userPrincipalName")
	})
	b.config.Policy.UPN.Domain = good
	b.settle()
	if u := b.user("ana.ng"); !u.Enabled {
		t.Errorf("user %+v", u)
	}
	b.explained()
}

// A name that is the address of something else, such as a group, no account is found by. Once it cannot be an account of
// ours that is not shown yet, the next name is taken.
func TestANameThatIsAnAddress(t *testing.T) {
	b := setup(t, func(s *tenant.Config, _ *Config) {
		s.Seed.Groups = append(s.Seed.Groups, tenant.SeedGroup{DisplayName: "List", MailEnabled: true, Mail: "ana.ng@rehearsal.example"})
	})
	b.join("1", "Ana", "analyst")
	b.work(func() bool {
		alarms, err := state.Alarms(b.db.Read())
		return err == nil && len(alarms) == 1 && alarms[0].Code == AlarmGiveFailing && strings.Contains(alarms[0].Text, "Request_BadRequest on proxyAddresses")
	})
	if n := b.writes("create"); n != 0 {
		t.Fatalf("%d accounts before it is known that none is hidden", n)
	}
	b.pass(plan.Settling)
	b.settle()
	if u := b.user("ana.ng2"); !u.Enabled || len(u.Groups) != 1 {
		t.Errorf("user %+v", u)
	}
	b.explained()
}

// An account of ours that no replica shows yet is what its own name conflicts with: no second one is made.
func TestANameThatIsItsOwn(t *testing.T) {
	b := setup(t, lagging(300*time.Millisecond))
	b.tenant.AddFaults(tenant.Fault{Name: "lost", Method: "^POST$", Path: "/users$", Kind: tenant.Drop, Applied: true, Count: 1})
	b.join("1", "Ana", "analyst")
	b.settle()
	if u := b.user("ana.ng"); !u.Enabled || b.writes("create") != 1 {
		t.Errorf("user %+v, %d accounts", u, b.writes("create"))
	}
	b.explained()
}

// What the tenant refuses to have taken from somebody who is cut is told of, until it is taken.
func TestARefusedStrip(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.tenant.AddFaults(tenant.Fault{Name: "refuse", Method: "^DELETE$", Path: "/members/", Kind: tenant.Error, Status: 400})
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.work(func() bool { return b.standing(AlarmStripFailing) })
	if u := b.user("ana.ng"); u.Enabled {
		t.Error("the account is open")
	}
	b.tenant.RemoveFault("refuse")
	b.settle()
	if b.standing(AlarmStripFailing) || len(b.user("ana.ng").Groups) > 0 {
		t.Errorf("alarm stands %v, groups %v", b.standing(AlarmStripFailing), b.user("ana.ng").Groups)
	}
	b.explained()
}
