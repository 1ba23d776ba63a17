package apply

import (
	"encoding/json"
	"fmt"
	"slices"
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

// lagging makes replicas that are behind by so much.
func lagging(d time.Duration) func(*tenant.Config, *Config) {
	return func(s *tenant.Config, c *Config) {
		s.Now = c.Now // so that what lags arrives in the time that a test lets go by
		s.Replication = tenant.Replication{Lag: d, IndexLag: d, WriteLag: d}
	}
}

// An account whose create was made and not answered is not shown by any replica when its person leaves. It
// is disabled all the same, once it is shown.
func TestLeaverWhoseCreateWasNotAnswered(t *testing.T) {
	b := setup(t, lagging(300*time.Millisecond))
	b.tenant.AddFaults(tenant.Fault{Name: "lost", Method: "^POST$", Path: "/users$", Kind: tenant.Drop, Applied: true, Count: 1})
	b.join("1", "Ana", "analyst")
	b.work(func() bool { return b.writes("create") == 1 })
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.work(func() bool { return !b.user("ana.ng").Enabled })
	b.settle()
	if u := b.user("ana.ng"); !u.SessionsRevoked || b.writes("create") != 1 {
		t.Errorf("revoked %v, %d accounts", u.SessionsRevoked, b.writes("create"))
	}
	b.explained()
}

// The same of somebody who came back, whose first account was cut and is deleted, or was cut by nobody and is gone: that says
// nothing of the second one.
func TestLeaverWhoseSecondCreateWasNotAnswered(t *testing.T) {
	for _, x := range []struct {
		gone   bool
		status int
	}{{false, 503}, {false, 403}, {true, 503}} {
		gone := x.gone
		t.Run(fmt.Sprintf("gone %v, then %d", gone, x.status), func(t *testing.T) {
			b := setup(t, lagging(time.Second))
			b.join("1", "Ana", "analyst")
			b.settle()
			b.pass(plan.Settling)
			first := known(t, b.row("1")).ID
			if gone {
				if _, err := b.connect("admin").Delete(t.Context(), first); err != nil {
					t.Fatal(err)
				}
				b.pass(plan.Settling)
			}
			b.say("1", fence.Fact{Kind: schema.KindLeaver})
			b.work(func() bool { k := known(t, b.row("1")); return b.idle() || !k.GoneAt.IsZero() })
			if !gone {
				b.pass(31 * 24 * time.Hour)
				b.settle()
			}
			b.tenant.AddFaults(tenant.Fault{Name: "lost", Method: "^POST$", Path: "/users$", Kind: tenant.Drop, Applied: true, Count: 1},
				tenant.Fault{Name: "away", Method: "^POST$", Path: "/users$", Kind: tenant.Error, Status: x.status})
			b.say("1", fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"analyst"}})
			b.work(func() bool { return b.writes("create") == 2 && b.row("1").Attempts > 1 })
			b.say("1", fence.Fact{Kind: schema.KindLeaver, Position: fence.Position{Engagement: 2}})
			b.settle()
			for _, u := range b.tenant.Snapshot().Users {
				if u.Properties["employeeId"] == "1" && u.ID != first && (u.Enabled || !u.SessionsRevoked) {
					t.Errorf("the second account: enabled %v, revoked %v", u.Enabled, u.SessionsRevoked)
				}
			}
			b.explained()
		})
	}
}

// That a create was refused says nothing of the one before it, which was made and not answered: its account is
// disabled all the same, once it is shown.
func TestLeaverWhoseCreateWasRefusedAfterALostOne(t *testing.T) {
	for _, status := range []int{403, 429} {
		b := setup(t, lagging(300*time.Millisecond))
		b.tenant.AddFaults(tenant.Fault{Name: "lost", Method: "^POST$", Path: "/users$", Kind: tenant.Drop, Applied: true, Count: 1})
		b.tenant.AddFaults(tenant.Fault{Name: "refuse", Method: "^POST$", Path: "/users$", Kind: tenant.Error, Status: status})
		b.join("1", "Ana", "analyst")
		b.work(func() bool { return b.row("1").Attempts > 1 })
		b.say("1", fence.Fact{Kind: schema.KindLeaver})
		b.settle()
		if b.user("ana.ng").Enabled {
			t.Errorf("%d: the account is open after the leaver", status)
		}
	}
}

// A create that was refused leaves nothing to look for.
func TestLeaverWhoseCreateWasRefused(t *testing.T) {
	b := setup(t)
	b.tenant.AddFaults(tenant.Fault{Name: "refuse", Method: "^POST$", Path: "/users$", Kind: tenant.Error, Status: 403})
	b.join("1", "Ana", "analyst")
	b.work(func() bool { return b.row("1").Attempts > 0 })
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	if n := b.row("1").Attempts; n != 0 {
		t.Errorf("%d attempts at cutting an account that never was", n)
	}
}

// An enable that was made and not answered is undone by the leaver who follows it, though replicas still
// show the account disabled; and the sessions that it allowed are revoked.
func TestLeaverWhoseEnableWasNotAnswered(t *testing.T) {
	b := setup(t, lagging(300*time.Millisecond))
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindSuspend})
	b.settle()
	shown := func() bool { // by the replicas, too
		row := b.row("1")
		s, err := look(t.Context(), b.config.Cut, plan.Situation{Issuer: issuer, Subject: "1", Known: known(t, row)})
		return err == nil && s.account.Enabled != nil && !*s.account.Enabled
	}
	b.work(shown)
	b.tenant.AddFaults(tenant.Fault{Name: "lost", Method: "^PATCH$", Body: `"accountEnabled":true`, Kind: tenant.Drop, Applied: true, Count: 1})
	b.say("1", fence.Fact{Kind: schema.KindResume})
	b.work(func() bool { return b.user("ana.ng").Enabled })
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	if b.user("ana.ng").Enabled {
		t.Error("enabled after the leaver")
	}
	if n := b.writes("revoke"); n != 2 {
		t.Errorf("%d revocations, want one for the suspension and one for the leaver", n)
	}
}

func known(t *testing.T, row *state.Subject) (k plan.Known) {
	t.Helper()
	if err := json.Unmarshal(row.Account, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

// A membership that a replica does not know yet is not found when it is taken away; it is taken away later.
func TestMoverBeforeTheMembershipIsKnown(t *testing.T) {
	b := setup(t, lagging(300*time.Millisecond))
	b.join("1", "Ana", "lead")
	b.work(func() bool {
		u := b.tenant.Snapshot().User("ana.ng@rehearsal.example")
		return u != nil && len(u.Groups) == 2
	})
	b.tenant.AddFaults(tenant.Fault{Name: "lag", Method: "^DELETE$", Path: "/members/", Kind: tenant.Error, Status: 404, Count: 1})
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}})
	b.settle()
	b.clock.Store(int64(15 * time.Minute))
	b.settle()
	if g := b.user("ana.ng").Groups; !slices.Equal(g, []string{"SOC"}) {
		t.Errorf("groups %v, want SOC alone", g)
	}
}

// A membership whose giving was not answered, and which no replica shows yet, is taken away from who moves on meanwhile. One
// that was refused leaves nothing to take.
func TestMoverWhoseMembershipWasNotAnswered(t *testing.T) {
	b := setup(t, lagging(time.Second))
	b.join("1", "Ana", "analyst")
	b.settle()
	members := leadID + "/members"
	b.tenant.AddFaults(tenant.Fault{Name: "lost", Method: "^POST$", Path: members, Kind: tenant.Drop, Applied: true, Count: 1},
		tenant.Fault{Name: "away", Method: "^POST$", Path: members, Kind: tenant.Error, Status: 503})
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"lead"}})
	b.work(func() bool { return len(b.user("ana.ng").Groups) == 2 && b.row("1").Attempts > 1 })
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}})
	b.settle()
	b.clock.Store(int64(15 * time.Minute))
	b.settle()
	if g := b.user("ana.ng").Groups; !slices.Equal(g, []string{"SOC"}) {
		t.Errorf("groups %v, want SOC alone", g)
	}
	b.explained()
}

// A membership that was refused, or not tried since the account was not made, is none that may be there.
func TestMembershipThatWasRefused(t *testing.T) {
	b := setup(t)
	b.tenant.AddFaults(tenant.Fault{Name: "refuse", Method: "^POST$", Path: "/users$", Kind: tenant.Error, Status: 403, Count: 2},
		tenant.Fault{Name: "refuse the group", Method: "^POST$", Path: leadID + "/members", Kind: tenant.Error, Status: 403})
	b.join("1", "Ana", "lead")
	b.work(func() bool { return b.row("1").Attempts > 0 })
	if k := known(t, b.row("1")); len(k.Groups) != 0 || len(k.Doubted) != 0 || !k.GivenAt.IsZero() {
		t.Errorf("without an account: groups %v, in doubt %v, given at %v", k.Groups, k.Doubted, k.GivenAt)
	}
	b.work(func() bool {
		u := b.tenant.Snapshot().User("ana.ng@rehearsal.example")
		return u != nil && len(u.Groups) == 1 && b.row("1").Attempts > 1
	})
	if k := known(t, b.row("1")); !slices.Equal(k.Groups, []string{socID}) || len(k.Doubted) != 0 {
		t.Errorf("groups %v, in doubt %v, want SOC and no doubt", k.Groups, k.Doubted)
	}
}

// A removal whose answer a crash swallowed is not found when it is made again. What else the mover gets does
// not wait for the doubt to end, and nothing is tried over and over meanwhile.
func TestMoverWhoseRemovalWasNotAnswered(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "lead")
	b.settle()
	row := b.row("1") // the crash: done in the tenant, and not known here
	if _, err := b.config.Cut.RemoveMember(t.Context(), leadID, known(t, row).ID); err != nil {
		t.Fatal(err)
	}
	changed := person("Ana")
	changed.Title = "Analyst"
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: changed, Roles: []string{"analyst"}})
	b.settle()
	if n, _ := b.explained(); n > 8 {
		t.Errorf("%d intents for one joiner and one mover", n)
	}
	if u := b.user("ana.ng"); !slices.Equal(u.Groups, []string{"SOC"}) || u.Properties["jobTitle"] != "Analyst" {
		t.Errorf("groups %v, title %q", u.Groups, u.Properties["jobTitle"])
	}
	b.clock.Store(int64(15 * time.Minute))
	b.settle()
	if k := known(t, b.row("1")); len(k.Doubted) != 0 || len(k.Groups) != 1 {
		t.Errorf("after it settled: groups %v, in doubt %v", k.Groups, k.Doubted)
	}
}

// A removal that was made and not answered is undone for whoever gets the role back at once, though the replicas show the
// membership still.
func TestMoverBackAfterARemovalThatWasNotAnswered(t *testing.T) {
	b := setup(t, lagging(2*time.Second), func(s *tenant.Config, _ *Config) { s.Replication.WriteLag = 0 })
	b.join("1", "Ana", "lead")
	b.settle()
	b.work(func() bool { // by the replicas, too
		s, err := look(t.Context(), b.config.Cut, plan.Situation{Issuer: issuer, Subject: "1", Known: known(t, b.row("1"))})
		return err == nil && s.account != nil && len(s.account.Groups) == 2
	})
	b.tenant.AddFaults(tenant.Fault{Name: "lost", Method: "^DELETE$", Kind: tenant.Drop, Applied: true, Count: 1},
		tenant.Fault{Name: "away", Method: "^DELETE$", Kind: tenant.Error})
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}})
	b.work(func() bool { return b.row("1").Attempts > 0 })
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"lead"}})
	b.settle()
	if g := b.user("ana.ng").Groups; len(g) != 2 {
		t.Errorf("groups %v, want both again", g)
	}
	b.explained()
}

// A replica that does not know a removal yet takes whoever gets the role back for a member still. That is no giving: it is
// done once more when the removal must be known.
func TestMoverBackBeforeTheRemovalIsKnown(t *testing.T) {
	b := setup(t, lagging(2*time.Second))
	b.join("1", "Ana", "lead")
	b.settle()
	b.pass(plan.Settling)
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}})
	b.work(func() bool { return b.writes("remove-member") == 1 })
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"lead"}})
	b.settle()
	b.pass(plan.Settling)
	b.settle()
	if g := b.user("ana.ng").Groups; len(g) != 2 {
		t.Errorf("groups %v, want both again", g)
	}
	b.explained()
}

// Whoever moves back while a membership is in doubt is not looked at for ever: it is given again, whatever the
// reads show, which ends the doubt; and it is not given twice where it is there.
func TestMoverBackWhileAMembershipIsInDoubt(t *testing.T) {
	for _, removed := range []bool{false, true} {
		t.Run(fmt.Sprintf("removed %v", removed), func(t *testing.T) {
			b := setup(t)
			b.join("1", "Ana", "lead")
			b.settle()
			if removed { // by a request whose answer a crash swallowed
				if _, err := b.config.Cut.RemoveMember(t.Context(), leadID, known(t, b.row("1")).ID); err != nil {
					t.Fatal(err)
				}
			} else { // by a replica that does not know the membership yet
				b.tenant.AddFaults(tenant.Fault{Name: "lag", Method: "^DELETE$", Path: "/members/", Kind: tenant.Error, Status: 404, Count: 1})
			}
			b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}})
			b.work(func() bool { return len(known(t, b.row("1")).Doubted) == 1 })
			b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"lead"}})
			b.clock.Store(int64(15 * time.Minute))
			b.settle() // which ends only where nothing is due
			if k := known(t, b.row("1")); len(k.Doubted) != 0 || len(k.Groups) != 2 {
				t.Errorf("after it settled: groups %v, in doubt %v", k.Groups, k.Doubted)
			}
			if u := b.user("ana.ng"); len(u.Groups) != 2 {
				t.Errorf("groups %v, want both", u.Groups)
			}
			b.explained()
		})
	}
}

// A word that is ahead of a gap takes what its roles do not stand for, and only that: what the roles of before and
// its own both stand for is not taken while the gap lasts and given back when it closes.
func TestMoverAheadOfAGap(t *testing.T) {
	for _, roles := range [][2][]string{{{"lead"}, {"analyst"}}, {{"analyst"}, {"lead"}}, {{"analyst", "lead"}, {"lead"}}} {
		t.Run(fmt.Sprint(roles), func(t *testing.T) {
			b := setup(t)
			b.join("1", "Ana", roles[0]...)
			b.settle()
			had := b.user("ana.ng").Groups
			move := fence.Fact{Position: fence.Position{Engagement: 1, Generation: 1, Seq: 3}, Kind: schema.KindMover, Effective: b.config.Now(), Person: person("Ana"), Roles: roles[1]}
			b.fold("1", move)
			b.settle()
			for _, g := range b.user("ana.ng").Groups {
				if !slices.Contains(had, g) {
					t.Errorf("given ahead of the gap: %s", g)
				}
			}
			move.Sequenced = true
			b.fold("1", move)
			b.settle()
			has, lost := b.user("ana.ng").Groups, 0
			for _, g := range had {
				if !slices.Contains(has, g) {
					lost++
				}
			}
			if n := b.writes("remove-member"); n != lost {
				t.Errorf("%d memberships were taken, and %d are gone", n, lost)
			}
			if n := b.writes("add-member"); n != len(has)+lost {
				t.Errorf("%d memberships were given, want %d", n, len(has)+lost)
			}
			b.explained()
		})
	}
}

// Whoever is suspended while a membership is in doubt is not looked at for ever: it stays, and is taken away when
// the person comes back.
func TestSuspendedWithAMembershipInDoubt(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "lead")
	b.settle()
	if _, err := b.config.Cut.RemoveMember(t.Context(), leadID, known(t, b.row("1")).ID); err != nil {
		t.Fatal(err)
	}
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}})
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindSuspend})
	b.settle()
	if k := known(t, b.row("1")); len(k.Doubted) != 1 {
		t.Fatalf("in doubt %v, want the one that was not found", k.Doubted)
	}
	b.clock.Store(int64(15 * time.Minute))
	b.settle() // which ends only where nothing is due
	b.say("1", fence.Fact{Kind: schema.KindResume})
	b.settle()
	if k := known(t, b.row("1")); len(k.Doubted) != 0 || len(k.Groups) != 1 {
		t.Errorf("after the return: groups %v, in doubt %v", k.Groups, k.Doubted)
	}
}

// A manager who cannot be set does not keep a person from what the roles give.
func TestManagerWhoIsGone(t *testing.T) {
	b := setup(t)
	b.join("boss", "Bea", "lead")
	b.settle()
	b.tenant.AddFaults(tenant.Fault{Name: "gone", Method: "^PUT$", Path: "/manager/", Kind: tenant.Error, Status: 404})
	p := person("Ana")
	p.Manager = &schema.Manager{Value: "boss"}
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Person: p, Roles: []string{"analyst"}})
	b.work(func() bool {
		u := b.tenant.Snapshot().User("ana.ng@rehearsal.example")
		return u != nil && slices.Equal(u.Groups, []string{"SOC"})
	})
}

// The name of someone who came back is in use again: nobody else gets it two years after the first leave.
func TestNameOfSomeoneWhoCameBack(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	b.pass(31 * 24 * time.Hour)
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"analyst"}})
	b.settle()
	if n := b.writes("create"); n != 2 {
		t.Fatalf("%d accounts made, want a second one after the delete", n)
	}
	if _, freed, ok, err := state.NameOwner(b.db.Read(), "ana.ng@rehearsal.example"); err != nil || !ok || !freed.IsZero() {
		t.Errorf("the name is free since %v, %v, %v", freed, ok, err)
	}
}

// A tenant that does not answer says nothing about what is held.
func TestHoldsOutliveAnOutage(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst", "unheard-of")
	b.settle()
	before, err := state.Holds(b.db.Read())
	if err != nil || len(before) != 1 {
		t.Fatalf("holds %v, %v", before, err)
	}
	b.tenant.AddFaults(tenant.Fault{Name: "away", Method: "^GET$", Path: "/users", Kind: tenant.Error, Status: 503, Count: 1})
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"analyst", "unheard-of"}})
	b.settle()
	after, err := state.Holds(b.db.Read())
	if err != nil || len(after) != 1 || after[0].ID != before[0].ID {
		t.Errorf("holds %v, %v; want the one from before", after, err)
	}
}

// A disable whose answer is lost may have taken effect; that the next attempt is refused, by a replica that does not know the
// account, says nothing of it. A disable that was refused and had none before it did nothing.
func TestRefusedAfterALostDisable(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.tenant.AddFaults(tenant.Fault{Name: "unknown", Method: "^PATCH$", Kind: tenant.Error, Status: 404})
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	disable := plan.Op{Kind: plan.DisableAccount, Lane: plan.Disable}
	for name, before := range map[string]time.Time{"none before": {}, "one before": e.Now().Add(-time.Minute)} {
		u := &unit{Engine: e, row: b.row("1"), now: e.Now(), attempt: 1, hung: t.Context(), known: known(t, b.row("1"))}
		u.known.DisablingAt = before
		err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return u.prepare(tx, &u.known, []plan.Op{disable}) })
		if err != nil {
			t.Fatal(err)
		}
		if d := u.try(t.Context(), disable); d.result != entry.ResultFailed || !u.known.DisablingAt.Equal(before) {
			t.Errorf("%s: %+v, in doubt since %v", name, d, u.known.DisablingAt)
		}
	}
}

// A refusal in the words of nobody's at Graph, as of a gateway that stops the answer, says nothing of the disable: it was the
// bridge's, and what the bridge disabled the next word opens again.
func TestDisableWhoseAnswerAGatewayStopped(t *testing.T) {
	for _, fault := range []tenant.Fault{{Kind: tenant.HTML, Status: 403}, {Kind: tenant.Gateway, Status: 400}, {Kind: tenant.HTML, Status: 451}} {
		b := setup(t)
		b.join("1", "Ana", "analyst")
		b.settle()
		fault.Method, fault.Body, fault.Count, fault.Applied = "^PATCH$", "accountEnabled", 1, true
		b.tenant.AddFaults(fault)
		b.say("1", fence.Fact{Kind: schema.KindSuspend})
		b.settle()
		b.say("1", fence.Fact{Kind: schema.KindResume})
		b.settle()
		if !b.user("ana.ng").Enabled {
			t.Errorf("%s %d: who came back is locked out: %v", fault.Kind, fault.Status, b.holds())
		}
		b.explained()
	}
}

// A membership that somebody else gave a moment ago is read, and not every replica that is to take it away knows it: it is
// taken away once they must.
func TestRemovalOfWhatSomebodyElseJustGave(t *testing.T) {
	b := setup(t, lagging(2*time.Second), func(s *tenant.Config, _ *Config) { s.Replication.Lag, s.Replication.IndexLag = 0, 0 })
	b.join("1", "Ana", "analyst")
	b.settle()
	b.pass(plan.Settling)
	b.settle()
	before, _ := b.explained()
	if _, err := b.connect("admin").AddMember(t.Context(), leadID, known(t, b.row("1")).ID); err != nil {
		t.Fatal(err)
	}
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"analyst"}})
	b.settle()
	b.pass(plan.Settling)
	b.settle()
	if g := b.user("ana.ng").Groups; !slices.Equal(g, []string{"SOC"}) {
		t.Errorf("groups %v, want SOC alone", g)
	}
	if k := known(t, b.row("1")); len(k.Doubted) > 0 {
		t.Errorf("in doubt still: %v", k.Doubted)
	}
	if n, _ := b.explained(); n-before > 6 {
		t.Errorf("%d intents for one mover", n-before)
	}
}

// What was taken is not taken over and over for as long as reads show it.
func TestMoverWhoseRemovalIsShownLate(t *testing.T) {
	b := setup(t, lagging(2*time.Second), func(s *tenant.Config, _ *Config) { s.Replication.WriteLag = 0 })
	b.join("1", "Ana", "lead")
	b.settle()
	b.pass(plan.Settling)
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"analyst"}})
	b.settle()
	if u := b.user("ana.ng"); !slices.Equal(u.Groups, []string{"SOC"}) || u.Properties["givenName"] != "Anna" {
		t.Errorf("groups %v, given name %q", u.Groups, u.Properties["givenName"])
	}
	if n, _ := b.explained(); n > 8 {
		t.Errorf("%d intents for one joiner and one mover", n)
	}
}

// The same of a membership that was given before, and that somebody in the enclave took by hand meanwhile.
func TestMoverWhoseMembershipWasNotGivenBack(t *testing.T) {
	b := setup(t, lagging(time.Second))
	b.join("1", "Ana", "lead")
	b.settle()
	b.pass(plan.Settling)
	b.settle()
	if _, err := b.connect("admin").RemoveMember(t.Context(), leadID, known(t, b.row("1")).ID); err != nil {
		t.Fatal(err)
	}
	b.pass(plan.Settling)
	members := leadID + "/members"
	b.tenant.AddFaults(tenant.Fault{Name: "lost", Method: "^POST$", Path: members, Kind: tenant.Drop, Applied: true, Count: 1},
		tenant.Fault{Name: "away", Method: "^POST$", Path: members, Kind: tenant.Error, Status: 503})
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"lead"}})
	b.work(func() bool { return len(b.user("ana.ng").Groups) == 2 && b.row("1").Attempts > 1 })
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}})
	b.settle()
	b.pass(plan.Settling)
	b.settle()
	if g := b.user("ana.ng").Groups; !slices.Equal(g, []string{"SOC"}) {
		t.Errorf("groups %v, want SOC alone", g)
	}
	b.explained()
}

// Whoever comes back while the delete of the account of before was made and not answered gets another one.
func TestBackWhileTheDeleteWasNotAnswered(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	b.tenant.AddFaults(tenant.Fault{Name: "lost", Method: "^DELETE$", Path: "/users/[^/]+$", Kind: tenant.Drop, Applied: true, Count: 1})
	b.pass(31 * 24 * time.Hour)
	b.work(func() bool { return b.writes("delete") == 1 && b.row("1").Attempts > 0 })
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"analyst"}})
	b.settle()
	if n, h := b.writes("create"), b.holds(); n != 2 || len(h) > 0 {
		t.Errorf("%d accounts made, holds %v", n, h)
	}
	b.explained()
}
