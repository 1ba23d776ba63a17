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

// An operator's own cut is never held, and the alarm of a limit stands while anything is held by it.
func TestOperatorsCutIsNotHeld(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
	for i := range 5 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
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
