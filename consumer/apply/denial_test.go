package apply

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/schema"
)

// stepper runs an engine round by round, on a clock that goes only when nothing is left to do.
type stepper struct {
	*bridge
	engine *Engine
}

func (s *stepper) pass(d time.Duration) {
	s.t.Helper()
	for end := s.config.Now().Add(d); s.config.Now().Before(end); {
		wait, err := s.engine.Step(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		s.clock.Add(int64(wait))
	}
}

func (b *bridge) stepper() *stepper {
	e, err := New(b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	return &stepper{b, e}
}

func (b *bridge) alarmed(code, key string) bool {
	list, err := state.Alarms(b.db.Read())
	if err != nil {
		b.t.Fatal(err)
	}
	return slices.ContainsFunc(list, func(a state.Alarm) bool { return a.Code == code && a.Key == key })
}

// A tenant that refuses a credential is told of to people, and is not stormed: however many wait, it is asked a
// few times in a while. What the other credential does goes on, and all goes on by itself when it is mended.
func TestRefusedCredential(t *testing.T) {
	const people = 60
	for _, fault := range []tenant.Fault{{Name: "401", Kind: tenant.Unauthorized}, {Name: "403", Kind: tenant.Error, Status: 403}} {
		t.Run(fault.Name+" to grant", func(t *testing.T) {
			b := setup(t)
			b.join("leaver", "Lea", "analyst")
			b.settle()
			fault.App = "grant"
			b.tenant.AddFaults(fault)
			for i := range people {
				b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c%c", 'a'+i/26, 'a'+i%26), "analyst")
			}
			s, from := b.stepper(), len(b.tenant.Journal())
			s.pass(10 * time.Minute)
			// As many as it takes to see it, and a round of as many in each half minute.
			if n := len(b.tenant.Journal()) - from; n < denials || n > denials*(6+20)*2 {
				t.Errorf("the tenant was asked %d times in 10 minutes", n)
			}
			if !b.alarmed(AlarmDenied, SlotGrant) || b.alarmed(AlarmDenied, SlotCut) {
				t.Error("want the alarm on the credential that is refused, and on no other")
			}
			b.say("leaver", fence.Fact{Kind: schema.KindLeaver})
			s.pass(time.Second)
			if b.user("lea.ng").Enabled {
				t.Error("a leaver waits for the other credential")
			}
			b.tenant.RemoveFault(fault.Name)
			s.pass(longestWait + denyGives)
			if n := b.writes("create"); n != people+1 {
				t.Errorf("%d accounts, want %d", n, people+1)
			}
			if b.alarmed(AlarmDenied, SlotGrant) {
				t.Error("the alarm outlives the refusal")
			}
			b.explained()
		})
		t.Run(fault.Name+" to cut", func(t *testing.T) {
			b := setup(t)
			for i := range people {
				b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c%c", 'a'+i/26, 'a'+i%26), "analyst")
			}
			b.settle()
			fault.App = "cut"
			b.tenant.AddFaults(fault)
			for i := range people {
				b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
			}
			s, from := b.stepper(), len(b.tenant.Journal())
			s.pass(time.Minute)
			if n := len(b.tenant.Journal()) - from; n < denials || n > people*20 {
				t.Errorf("the tenant was asked %d times in a minute", n)
			}
			if !b.alarmed(AlarmDenied, SlotCut) || !b.alarmed(AlarmCutFailing, state.SubjectKey{Issuer: issuer, Subject: "0"}.AlarmKey()) {
				t.Error("want the credential and the cuts that fail told of")
			}
			b.tenant.RemoveFault(fault.Name)
			s.pass(longestCut + 2*denyCuts)
			for i := range people {
				if u := b.user(fmt.Sprintf("ana%c%c.ng", 'a'+i/26, 'a'+i%26)); u.Enabled {
					t.Errorf("%s is not cut %v after the credential was mended", u.UserPrincipalName, longestCut+2*denyCuts)
				}
			}
			if b.alarmed(AlarmDenied, SlotCut) || b.alarmed(AlarmCutFailing, state.SubjectKey{Issuer: issuer, Subject: "0"}.AlarmKey()) {
				t.Error("the alarms outlive the refusal")
			}
			b.explained()
		})
	}
}

// The alarm on a cut that fails ends with the cut, or with what would be cut, though a newer fact began the attempts anew.
func TestTheAlarmOfAFailingCutEnds(t *testing.T) {
	for _, next := range []schema.Kind{schema.KindLeaver, schema.KindResume} {
		t.Run(string(next), func(t *testing.T) {
			b := setup(t)
			b.join("1", "Ana", "analyst")
			b.settle()
			fault := tenant.Fault{Name: "no disable", Method: "^PATCH$", Kind: tenant.Error, Status: 503, App: "cut"}
			b.tenant.AddFaults(fault)
			b.say("1", fence.Fact{Kind: schema.KindSuspend})
			s := b.stepper()
			s.pass(2 * time.Minute)
			if !b.alarmed(AlarmCutFailing, state.SubjectKey{Issuer: issuer, Subject: "1"}.AlarmKey()) {
				t.Fatal("want the alarm on the cut that fails")
			}
			b.tenant.RemoveFault(fault.Name)
			b.say("1", fence.Fact{Kind: next})
			s.pass(longestCut)
			if enabled := b.user("ana.ng").Enabled; enabled != (next == schema.KindResume) {
				t.Errorf("enabled: %v", enabled)
			}
			if b.alarmed(AlarmCutFailing, state.SubjectKey{Issuer: issuer, Subject: "1"}.AlarmKey()) {
				t.Error("the alarm outlives the cut")
			}
			b.explained()
		})
	}
}

// The log says of what failed that it did.
func TestWhatFailedIsLoggedAsThat(t *testing.T) {
	var text strings.Builder
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Log = slog.New(slog.NewTextHandler(&text, nil)) })
	b.tenant.AddFaults(tenant.Fault{Name: "once", Method: "^POST$", Path: "/users$", Kind: tenant.Error, Status: 503, Count: 1})
	b.join("1", "Ana", "analyst")
	b.settle()
	var said []string
	for l := range strings.Lines(text.String()) {
		for _, what := range []string{"applied", "failed"} {
			if strings.Contains(l, "msg="+what+" ") && strings.Contains(l, "op=create") {
				said = append(said, what)
			}
			if strings.Contains(l, "msg=applied ") && strings.Contains(l, "result=failed") {
				t.Errorf("this is said to be applied: %s", l)
			}
		}
	}
	if !slices.Equal(said, []string{"failed", "applied"}) {
		t.Errorf("of the create it is said %v:\n%s", said, text.String())
	}
}

// A membership that may not be taken from one person, whatever else the credential may do, is that person's alarm: the one on the
// credential ends with the next success.
func TestATakeThatIsDeniedForOnePerson(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "lead")
	b.join("2", "Bo", "analyst")
	b.settle()
	b.tenant.AddFaults(tenant.Fault{Name: "denied", Method: "^DELETE$", Path: leadID + "/members/", Kind: tenant.Error, Status: 403})
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}})
	b.work(func() bool { return b.row("1").Attempts > lateGive+1 })
	b.say("2", fence.Fact{Kind: schema.KindLeaver})
	b.work(func() bool { return !b.user("bo.ng").Enabled })
	list, err := state.Alarms(b.db.Read())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(list, func(a state.Alarm) bool { return a.Code == AlarmGiveFailing }) {
		t.Errorf("no alarm tells of it: %v", list)
	}
}

// A cut is tried again before long, however long a gateway asks to wait.
func TestACutDoesNotWaitForADay(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.tenant.AddFaults(tenant.Fault{Name: "away", Method: "^PATCH$", Path: "/users/", Kind: tenant.Error, Status: 503, RetryAfter: 20 * time.Hour})
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.work(func() bool { return b.row("1").Attempts > 0 })
	if due := b.row("1").Due.Sub(b.now()); due > longestWait {
		t.Errorf("tried again in %v", due)
	}
}
