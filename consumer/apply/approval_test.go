package apply

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// asking is a policy that wants a second signer for one of two roles which stand for the same group, or for none.
func asking(t *testing.T, approval string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
groups: {soc: {id: %s}, lead: {id: %s}}
roles: {lead: {groups: [soc, lead]}, admin: {groups: [lead]%s}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 100}
`, socID, leadID, approval))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const wanted = ", approval: required"

func (b *bridge) groups(name string) []string {
	b.t.Helper()
	g := b.user(name).Groups
	slices.Sort(g)
	return g
}

// A role that nobody approved keeps no membership that another role had given.
func TestAnUnapprovedRoleKeepsNothing(t *testing.T) {
	b := setup(t)
	b.config.Policy = asking(t, wanted)
	b.join("1", "Ana", "lead", "admin")
	b.settle()
	if g := b.groups("ana.ng"); !slices.Equal(g, []string{"Lead", "SOC"}) {
		t.Fatalf("groups %v", g)
	}
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"admin"}})
	b.settle()
	if g := b.groups("ana.ng"); len(g) != 0 {
		t.Errorf("the role that gave them is not named any more, and groups are %v", g)
	}
	b.explained()
}

// An approval is for one engagement: what rests on it ends with the engagement.
func TestAnApprovalEndsWithItsEngagement(t *testing.T) {
	b := setup(t)
	b.config.Policy = asking(t, wanted)
	b.join("1", "Ana", "admin")
	b.settle()
	s := b.row("1")
	s.Doc.Approvals = []fence.Approval{{Stream: "approvals", Generation: 1, Seq: 1, Engagement: 1, Role: "admin", Expiry: b.now().Add(time.Hour)}}
	s.Raise(plan.Give, b.now(), false)
	if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return state.SaveFacts(tx, s) }); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if g := b.groups("ana.ng"); !slices.Equal(g, []string{"Lead"}) {
		t.Fatalf("approved: groups %v", g)
	}
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"admin"}})
	b.settle()
	if g := b.groups("ana.ng"); len(g) != 0 {
		t.Errorf("in a further engagement, which nobody approved: groups %v", g)
	}
}

// What somebody had before the policy asked for a second signer stays, in that engagement and for that role.
func TestWhatWasHadBeforeThePolicyAsked(t *testing.T) {
	b := setup(t)
	b.config.Policy = asking(t, "")
	b.join("1", "Ana", "lead", "admin")
	b.settle()
	b.config.Policy = asking(t, wanted)
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Bea"), Roles: []string{"lead", "admin"}})
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"admin"}})
	b.settle()
	if g := b.groups("ana.ng"); !slices.Equal(g, []string{"Lead"}) {
		t.Fatalf("groups %v", g)
	}
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"lead"}})
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"admin"}})
	b.settle()
	if g := b.groups("ana.ng"); len(g) != 0 {
		t.Errorf("given up and asked for again: groups %v", g)
	}
}

// A role that the policy did not know gave nothing, so nothing of it was had before the policy asked.
func TestARoleThatWasUnknownGaveNothing(t *testing.T) {
	b := setup(t)
	known := asking(t, wanted)
	unknown, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
groups: {soc: {id: %s}, lead: {id: %s}}
roles: {lead: {groups: [soc, lead]}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 100}
`, socID, leadID))
	if err != nil {
		t.Fatal(err)
	}
	b.config.Policy = unknown
	b.join("1", "Ana", "lead", "admin")
	b.settle()
	b.config.Policy = known
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"admin"}})
	b.settle()
	if g := b.groups("ana.ng"); len(g) != 0 {
		t.Errorf("groups %v", g)
	}
}

// What a move had taken before the clock went back stays taken, also what the role that it gives stands for as long as
// somebody approves it, and nobody did.
func TestAClockThatGoesBackGivesNothingOfARoleWithoutItsApproval(t *testing.T) {
	pol := asking(t, wanted)
	at := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		expiry time.Time
		groups []string
	}{
		"the approval ended with the move": {at, nil},
		"the approval goes on":             {at.Add(time.Hour), []string{leadID}},
	} {
		s := &state.Subject{SubjectKey: state.SubjectKey{Issuer: issuer, Subject: "1"}}
		s.Doc, _ = fence.Accept(s.Doc, fence.Fact{Position: fence.Position{Engagement: 1, Generation: 1, Seq: 1}, Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"lead"}})
		s.Doc, _ = fence.Accept(s.Doc, fence.Fact{Position: fence.Position{Engagement: 1, Generation: 1, Seq: 2}, Kind: schema.KindMover, Sequenced: true, Roles: []string{"admin"}, Effective: at})
		s.Doc.Approvals = []fence.Approval{{Stream: "approvals", Generation: 1, Seq: 1, Engagement: 1, Role: "admin", Expiry: c.expiry}}
		s.Doc.Ceilings = []fence.Ceiling{{Position: fence.Position{Engagement: 1, Generation: 1, Seq: 9}, Roles: []string{"lead"}}} // which names none of the roles then, and stands for all their groups
		s.Account = encode(plan.Known{Engagement: 1})
		v := standing(s, pol, at.Add(-time.Minute), at.Add(time.Second))
		if got, _ := plan.Groups(v, pol); !slices.Equal(got, c.groups) {
			t.Errorf("%s: groups %v, want %v", name, got, c.groups)
		}
	}
}

// A policy that wants a second signer from now on says at once who has the role by nobody's word but the producer's.
func TestAPolicyThatBeginsToAskHoldsWhoHasTheRole(t *testing.T) {
	b := setup(t)
	b.config.Policy = asking(t, "")
	b.join("1", "Ana", "admin")
	b.join("2", "Bo", "lead")
	b.settle()
	b.config.Policy = asking(t, wanted)
	if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return PolicyChanged(tx, b.config.Policy, b.config.Now()) }); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if h := b.holds(); !slices.Equal(h, []string{string(plan.HoldUnapproved)}) || !slices.Equal(b.groups("ana.ng"), []string{"Lead"}) {
		t.Errorf("holds %v, groups %v; want one of Ana, who keeps what she had", h, b.groups("ana.ng"))
	}
	b.explained()
}
