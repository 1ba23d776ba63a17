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
	"jmlbridge/internal/config"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func (b *bridge) holds() (codes []string) {
	b.t.Helper()
	open, err := state.Holds(b.db.Read())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, h := range open {
		codes = append(codes, h.Code)
	}
	return codes
}

// What somebody puts right in the tenant is noticed without a message: an account that was disabled by hand
// and is enabled again.
func TestHoldEndsWithItsRule(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	id := b.user("ana.ng").ID
	if _, err := b.connect("cut").Disable(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"lead"}})
	b.settle()
	if h := b.holds(); !slices.Equal(h, []string{string(plan.HoldDisabledLocally)}) {
		t.Fatalf("holds %v", h)
	}
	if _, err := b.connect("grant").Enable(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.clock.Store(int64(holdLook + time.Minute))
	b.settle()
	if h, u := b.holds(), b.user("ana.ng"); len(h) != 0 || len(u.Groups) != 2 {
		t.Errorf("holds %v, groups %v", h, u.Groups)
	}
}

// Whom somebody in the enclave has blocked no message gives the account back, whatever it takes in between, and whether the
// bridge had seen the block before or not. Enabled by hand, it is the bridge's again.
func TestALocalBlockOutlastsACut(t *testing.T) {
	locked := func(b *bridge, lock *fence.Lock, lane plan.Lane) {
		b.t.Helper()
		err := b.db.Tx(b.t.Context(), func(tx *store.Tx) error {
			return state.Lock(tx, state.SubjectKey{Issuer: issuer, Subject: "1"}, lock, lane, b.config.Now())
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	again := fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"analyst"}}
	for name, c := range map[string]struct {
		seen      bool // the bridge had seen it before
		cut, back func(*bridge)
	}{
		"suspended and resumed": {false, func(b *bridge) { b.say("1", fence.Fact{Kind: schema.KindSuspend}) }, func(b *bridge) { b.say("1", fence.Fact{Kind: schema.KindResume}) }},
		"the same, seen before": {true, func(b *bridge) { b.say("1", fence.Fact{Kind: schema.KindSuspend}) }, func(b *bridge) { b.say("1", fence.Fact{Kind: schema.KindResume}) }},
		"left and hired again":  {false, func(b *bridge) { b.say("1", fence.Fact{Kind: schema.KindLeaver}) }, func(b *bridge) { b.say("1", again) }},
		"cut by hand and unlocked": {false, func(b *bridge) {
			locked(b, &fence.Lock{By: "alice", Reason: "incident", At: b.config.Now()}, plan.Disable)
		},
			func(b *bridge) { locked(b, nil, plan.Give) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.join("1", "Ana", "analyst")
			b.settle()
			id := b.user("ana.ng").ID
			if _, err := b.connect("cut").Disable(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if c.seen {
				b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"lead"}})
				b.settle()
			}
			c.cut(b)
			b.settle()
			if u := b.user("ana.ng"); u.Enabled || !u.SessionsRevoked {
				t.Fatalf("not cut: %+v", u)
			}
			c.back(b)
			b.settle()
			if h := b.holds(); b.user("ana.ng").Enabled || !slices.Equal(h, []string{string(plan.HoldDisabledLocally)}) {
				t.Errorf("enabled %v, holds %v", b.user("ana.ng").Enabled, h)
			}
			if _, err := b.connect("grant").Enable(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			b.clock.Add(int64(plan.Settling + holdLook))
			b.settle()
			if h := b.holds(); !b.user("ana.ng").Enabled || len(h) != 0 {
				t.Errorf("enabled by hand: enabled %v, holds %v", b.user("ana.ng").Enabled, h)
			}
			now := fence.Position{Engagement: b.row("1").Doc.At(b.now()).Want.Engagement}
			b.say("1", fence.Fact{Kind: schema.KindSuspend, Position: now})
			b.settle()
			b.say("1", fence.Fact{Kind: schema.KindResume, Position: now})
			b.settle()
			if !b.user("ana.ng").Enabled {
				t.Error("what the bridge itself suspended was not resumed")
			}
			b.explained()
		})
	}
}

// A cut waits for its glance no longer than a moment: where the tenant does not show the account, it goes on without.
func TestACutGoesOnWithoutAGlance(t *testing.T) {
	for name, f := range map[string]tenant.Fault{
		"refused": {Name: "refused", Method: "^GET$", Path: "/users/", Kind: tenant.Error, Status: 503},
		"lost":    {Name: "lost", Method: "^GET$", Path: "/users/", Kind: tenant.Drop},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.join("1", "Ana", "analyst")
			b.settle()
			b.tenant.AddFaults(f)
			b.say("1", fence.Fact{Kind: schema.KindLeaver})
			b.work(func() bool { u := b.user("ana.ng"); return !u.Enabled && u.SessionsRevoked })
		})
	}
}

// A name protects whoever bears it now: an account that was renamed to it, since the bridge made it, is not disabled.
func TestARenamedAccountIsProtected(t *testing.T) {
	b := setup(t)
	who := person("Ana")
	who.PreferredAlias = "ops"
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Person: who, Roles: []string{"analyst"}})
	b.settle()
	k, err := b.row("1").Known()
	if err != nil {
		t.Fatal(err)
	}
	k.UPN = "ana.ng@rehearsal.example" // its name before
	if err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
		return state.SetAccount(tx, state.SubjectKey{Issuer: issuer, Subject: "1"}, encode(k))
	}); err != nil {
		t.Fatal(err)
	}
	if b.config.Policy, err = policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
groups: {soc: {id: %s}}
roles: {analyst: {groups: [soc]}}
protected: [ops@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 100}
`, socID)); err != nil {
		t.Fatal(err)
	}
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	if h := b.holds(); !b.user("ops").Enabled || !slices.Equal(h, []string{string(plan.HoldProtected)}) {
		t.Errorf("enabled %v, holds %v", b.user("ops").Enabled, h)
	}
}

// What an operator takes back of whom the account was opened on a disowned word is the account; its groups stay, for it
// may come back. `consumer holds undo` says so.
func TestAnAccountThatIsTakenBackKeepsItsGroups(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "lead")
	b.settle()
	s := b.row("1")
	s.Doc.Doubt = &fence.Doubt{}
	s.Doc.Wants[0].Doubted = true
	s.Doc = fence.Deny(s.Doc, 0, b.now(), nil)
	s.Raise(plan.Disable, b.now(), false)
	if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return state.SaveFacts(tx, s) }); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if u := b.user("ana.ng"); u.Enabled || len(u.Groups) != 2 {
		t.Errorf("enabled %v, groups %v", u.Enabled, u.Groups)
	}
}

// The alarm on people whom a roster does not name counts who has access still, and ends with the last who had.
func TestTheUnnamedAreCountedAnew(t *testing.T) {
	b := setup(t)
	for i := range 2 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	key := "hr@" + issuer
	err := b.db.Tx(t.Context(), func(tx *store.Tx) error { // as the roster does
		for i := range 2 {
			k := state.SubjectKey{Issuer: issuer, Subject: fmt.Sprint(i)}
			h := &state.Hold{SubjectKey: k, Code: string(plan.HoldUnnamed), Created: b.config.Now(), Shown: state.ShowOne(k, 1, string(plan.HoldUnnamed), []string{k.Subject})}
			if _, err := state.OpenHold(tx, h); err != nil {
				return err
			}
			if err := state.Leave(tx, k); err != nil {
				return err
			}
		}
		u := state.Unnamed{Count: 2, Roster: "R", Stream: "hr"}
		if err := state.SetUnnamed(tx, key, u); err != nil {
			return err
		}
		return raise(tx, state.Alarm{Code: string(plan.HoldUnnamed), Key: key, Severity: state.Warning, Last: b.config.Now(), Text: "whatever it says: " + u.Text()})
	})
	if err != nil {
		t.Fatal(err)
	}
	text := func() string {
		list, err := state.Alarms(b.db.Read())
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(list, func(a state.Alarm) bool { return a.Code == string(plan.HoldUnnamed) && a.Key == key }); i >= 0 {
			return list[i].Text
		}
		return ""
	}
	b.say("0", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	b.work(func() bool { return strings.HasPrefix(text(), "1 with access are not named by roster R") })
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	b.work(func() bool { return text() == "" })
	if h := b.holds(); len(h) > 0 {
		t.Errorf("holds %v", h)
	}
}

// Another policy reaches those for whom it means something else, and nobody else is looked at.
func TestPolicyChanged(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst", "auditor")
	b.join("2", "Bob", "lead")
	b.join("3", "Cid", "analyst")
	b.settle()
	if h := b.holds(); !slices.Equal(h, []string{string(plan.HoldUnknownRole)}) {
		t.Fatalf("holds %v", h)
	}
	before := len(b.tenant.Journal())
	// auditor is a role now, and lead has left the allow-list.
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
groups: {soc: {id: %s}, other: {id: %s}}
roles: {analyst: {groups: [soc]}, lead: {groups: [soc]}, auditor: {groups: [other]}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 100}
`, socID, otherID))
	if err != nil {
		t.Fatal(err)
	}
	b.config.Policy = p
	if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return PolicyChanged(tx, p, b.config.Now()) }); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if g := b.user("ana.ng").Groups; !slices.Equal(g, []string{"Other", "SOC"}) {
		t.Errorf("groups %v of whom the new role gives one", g)
	}
	if g := b.user("bob.ng").Groups; !slices.Equal(g, []string{"Lead", "SOC"}) {
		t.Errorf("groups %v; a group off the allow-list is not touched", g)
	}
	if h := b.holds(); !slices.Equal(h, []string{string(plan.HoldForeignGroup)}) {
		t.Errorf("holds %v, want one that shows it", h)
	}
	third := b.user("cid.ng").ID
	for _, j := range b.tenant.Journal()[before:] {
		if strings.Contains(j.Path, third) {
			t.Errorf("%s %s about somebody whom nothing changed", j.Method, j.Path)
		}
	}
	b.explained()
}

// A slip in the policy must not strip everybody at the next start.
func TestWhatAPolicyTakesFromManyIsHeld(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 3) })
	for i := range 5 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "lead")
	}
	b.settle()
	groups := func(i int) int { return len(b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).Groups) }
	b.say("4", fence.Fact{Kind: schema.KindMover, Person: person("Anae"), Roles: []string{"analyst"}}) // a message takes at once
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
groups: {soc: {id: %s}, lead: {id: %s}}
roles: {analyst: {groups: [soc]}, lead: {groups: [soc]}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 3}
`, socID, leadID))
	if err != nil {
		t.Fatal(err)
	}
	b.config.Policy = p
	changed := func() {
		t.Helper()
		if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return PolicyChanged(tx, p, b.config.Now()) }); err != nil {
			t.Fatal(err)
		}
	}
	changed()
	b.work(func() bool { return groups(4) == 1 })
	if h := b.holds(); !slices.Equal(h, []string{AlarmPolicyLimit}) || !b.standing(AlarmPolicyLimit) {
		t.Fatalf("holds %v", h)
	}
	for i := range 4 {
		if groups(i) != 2 {
			t.Errorf("person %d lost a group although that is held", i)
		}
	}
	b.pass(time.Duration(p.Limits.CutHold) + time.Second) // nobody decides
	b.work(func() bool { return groups(0)+groups(1)+groups(2)+groups(3) == 4 })
	if h := b.holds(); len(h) != 0 || b.standing(AlarmPolicyLimit) {
		t.Errorf("holds %v", h)
	}
	b.explained()
}

// What a policy takes does not wait behind a hold on what is given, which ends by an operator's word alone.
func TestWhatAPolicyTakesWaitsForNoGive(t *testing.T) {
	for _, limit := range []int{3, 1} { // within the limit of what a policy takes, and past it
		s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 2, limit) })
		s.join("0", "Ana", "lead")
		s.join("1", "Bob", "lead")
		s.quiet()
		s.clock.Add(int64(2 * time.Hour))
		s.quiet()
		for _, who := range []string{"Ana", "Bob", "Cid"} {
			p := person(who)
			p.Title = "Chief"
			s.say(map[string]string{"Ana": "0", "Bob": "1", "Cid": "2"}[who], fence.Fact{Kind: schema.KindMover, Person: p, Roles: []string{"lead"}})
		}
		s.quiet()
		if h := s.holds(); !slices.Equal(h, []string{AlarmGiveLimit}) {
			t.Fatalf("holds %v", h)
		}
		p, err := policy.Parse("policy.yaml", []byte(strings.Replace(testPolicyText(2, limit), "lead: {groups: [soc, lead]}", "lead: {groups: [soc]}", 1)))
		if err == nil {
			err = s.db.Tx(t.Context(), func(tx *store.Tx) error { return PolicyChanged(tx, p, s.config.Now()) })
		}
		if err != nil {
			t.Fatal(err)
		}
		s.config.Policy = p
		s = s.stepper()
		s.quiet()
		if past := slices.Contains(s.holds(), AlarmPolicyLimit); past != (limit == 1) {
			t.Errorf("holds %v", s.holds())
		}
		s.clock.Add(int64(31 * time.Minute))
		s.quiet()
		for _, name := range []string{"ana.ng", "bob.ng"} {
			if g := s.user(name).Groups; !slices.Equal(g, []string{"SOC"}) {
				t.Errorf("limit %d: groups %v of %s, want what the policy gives", limit, g, name)
			}
		}
		s.explained()
	}
}

// What a policy takes from a few is taken at once, and counts for the hour.
func TestWhatAPolicyTakesCounts(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 3) })
	take := func(who ...string) []string {
		t.Helper()
		for _, id := range who {
			b.join(id, "Ana"+id, "lead")
		}
		b.settle()
		p := *b.config.Policy
		p.Roles = map[string]policy.Role{"analyst": p.Roles["analyst"], "lead": p.Roles["analyst"]}
		if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return PolicyChanged(tx, &p, b.config.Now()) }); err != nil {
			t.Fatal(err)
		}
		return b.holds()
	}
	if h := take("a", "b"); len(h) != 0 {
		t.Errorf("two are held: %v", h)
	}
	if h := take("c", "d"); len(h) != 1 {
		t.Errorf("two more are not held: %v", h)
	}
}

// An operator's own cut is never held, and the alarm of a limit stands while anything is held by it.
func TestOperatorsCutIsNotHeld(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
	for i := range 5 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	for _, s := range []string{"0", "1"} { // whose date comes before the cut is done
		b.say(s, fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}, End: b.config.Now().Add(time.Hour)})
	}
	b.settle()
	for i := range 5 {
		k := state.SubjectKey{Issuer: issuer, Subject: fmt.Sprint(i)}
		err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
			return state.Lock(tx, k, &fence.Lock{By: "alice", Reason: "incident", At: b.config.Now()}, plan.Disable, b.config.Now())
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{"2", "3"} { // of whom something is said before
		b.say(s, fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"analyst"}})
	}
	b.clock.Add(int64(2 * time.Hour))
	b.settle()
	for i := range 5 {
		if b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).Enabled {
			t.Errorf("person %d is not cut; holds %v", i, b.holds())
		}
	}
}

func TestAlarmOfALimitStandsWhileItHolds(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
	for i := range 4 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	for _, two := range [][]string{{"0", "1"}, {"2", "3"}} {
		for _, s := range two {
			b.say(s, fence.Fact{Kind: schema.KindLeaver})
		}
		b.settle()
		b.clock.Add(int64(20 * time.Minute))
	}
	if h := b.holds(); len(h) != 2 {
		t.Fatalf("holds %v, want two", h)
	}
	b.settle() // at 40 minutes: the first has expired
	if h := b.holds(); len(h) != 1 {
		t.Fatalf("holds %v, want one", h)
	}
	if alarms, err := state.Alarms(b.db.Read()); err != nil || len(alarms) != 1 || alarms[0].Code != AlarmCutLimit {
		t.Errorf("alarms %v, %v while a hold stands", alarms, err)
	}
}

// What has a date and is kept from it by a hold is looked at now and then, not without end: the delete of an account
// that somebody protected meanwhile.
func TestWhatIsDueAndHeldIsNotLookedAtWithoutEnd(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
grace: 30d
groups: {soc: {id: %s}}
roles: {analyst: {groups: [soc]}}
protected: [ana.ng@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 100}
`, socID))
	if err != nil {
		t.Fatal(err)
	}
	b.config.Policy = p
	b.pass(31 * 24 * time.Hour)
	before := len(b.tenant.Journal())
	b.settle() // which ends only where nothing is due
	if h := b.holds(); !slices.Equal(h, []string{string(plan.HoldProtected)}) || b.writes("delete") != 0 {
		t.Errorf("holds %v, %d deletes", h, b.writes("delete"))
	}
	if n := len(b.tenant.Journal()) - before; n > 10 {
		t.Errorf("%d requests about one person for whom nothing can be done", n)
	}
}

// Another grace is that of everybody who left: a delete that is planned is put to its date.
func TestAnotherGraceHoldsForWhoLeft(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	b.clock.Store(int64(plan.Settling + time.Minute)) // the cut is confirmed, and what is left is stripped
	b.settle()
	const day = 24 * time.Hour
	for _, c := range []struct {
		grace time.Duration
		lane  plan.Lane
	}{{30 * day, plan.Delete}, {day, plan.Delete}, {60 * day, plan.Delete}, {0, plan.Idle}, {2 * day, plan.Delete}} {
		p := *b.config.Policy
		p.Grace = config.Duration(c.grace)
		if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return PolicyChanged(tx, &p, b.config.Now()) }); err != nil {
			t.Fatal(err)
		}
		row := b.row("1")
		if left := row.Due.Sub(b.config.Now()); row.Lane != c.lane || c.lane == plan.Delete && (left > c.grace+time.Hour || left < c.grace-time.Hour) {
			t.Errorf("grace %v: lane %v, in %v", c.grace, row.Lane, left)
		}
	}
}
