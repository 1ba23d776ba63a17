package apply

import (
	"fmt"
	"net/http"
	"path/filepath"
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
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

const (
	staff      = 6 // of setupStaff
	foundLimit = 3 // gives in an hour after the loss
)

// setupStaff is a bridge that gave to people, the first of whom manages the others, and lost its database: the accounts
// are there, and unclaimed. in are the groups in which a recovery found them; none: it did not look.
func setupStaff(t *testing.T, in ...string) *bridge {
	t.Helper()
	b := setup(t)
	b.staffJoins()
	b.settle()
	if n := b.writes("set-manager"); n != staff-1 {
		t.Fatalf("%d managers were set, want %d", n, staff-1)
	}
	path := filepath.Join(t.TempDir(), "consumer.db")
	if err := state.Create(path, "urn:jmlbridge:enclave:test", b.now()); err != nil {
		t.Fatal(err)
	}
	db, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	err = db.Tx(t.Context(), func(tx *store.Tx) error {
		for i := range staff {
			u := state.Unclaimed{Account: b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).ID, Mark: directory.Mark(issuer, fmt.Sprint(i)), Enabled: true, Groups: in, FoundAt: b.now()}
			if err := state.AddUnclaimed(tx, u); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.db, b.config.DB, b.seq = db, db, 0
	b.config.Policy = testPolicy(t, foundLimit, 1000)
	b.trust()
	return b
}

func (b *bridge) staffJoins() {
	for i := range staff {
		p := person(fmt.Sprintf("Ana%c", 'a'+i))
		if i > 0 {
			p.Manager = &schema.Manager{Value: "0"}
		}
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindJoiner, Person: p, Roles: []string{"lead"}})
	}
}

// gives counts the persons to whom something would be given now, as `consumer plan --all` shows it.
func (b *bridge) gives() (n int) {
	b.t.Helper()
	var all []*state.Subject
	err := state.EachSubject(b.db.Read(), func(s *state.Subject) error {
		all = append(all, s)
		return nil
	})
	for _, s := range all {
		var p plan.Plan
		if err == nil {
			p, err = Preview(b.t.Context(), b.config.Grant, b.db.Read(), s, b.config.Policy, b.now())
		}
		if slices.ContainsFunc(p.Ops, func(op plan.Op) bool { return op.Kind.Gives() }) {
			n++
		}
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// change puts another policy in force.
func (b *bridge) change(groups, roles string) {
	b.t.Helper()
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
groups: {%s}
roles: {%s}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: %d, cut_per_hour: 3}
`, groups, roles, foundLimit))
	if err != nil {
		b.t.Fatal(err)
	}
	b.config.Policy = p
	if err := b.db.Tx(b.t.Context(), func(tx *store.Tx) error { return PolicyChanged(tx, p, b.config.Now()) }); err != nil {
		b.t.Fatal(err)
	}
}

// The limit on gives is for what is given: whoever is found to have all of it does not count, however many they are.
// What a plan shows before is what happens.
func TestWhoHasAllAlreadyDoesNotCount(t *testing.T) {
	for _, tc := range []struct {
		name      string
		newcomers int
		held      bool
	}{
		{"found", 0, false}, {"found, and as many new as may be", foundLimit, false}, {"found, and more", foundLimit + 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := setupStaff(t)
			before := b.writes("create", "update", "set-manager", "add-member", "enable")
			b.staffJoins()
			for i := range tc.newcomers {
				b.join(fmt.Sprint("new", i), fmt.Sprintf("Bob%c", 'a'+i), "analyst")
			}
			if n := b.gives(); n != tc.newcomers {
				t.Errorf("a plan shows gives to %d, want %d", n, tc.newcomers)
			}
			b.settle()
			created := b.writes("create") - staff
			if h := b.holds(); tc.held != slices.Equal(h, []string{AlarmGiveLimit}) || tc.held != (created == 0 && tc.newcomers > 0) {
				t.Fatalf("holds %v, %d accounts made", h, created)
			}
			if n, err := state.Effects(b.db.Read(), classGive, b.now().Add(-time.Hour)); err != nil || n != int64(created) {
				t.Errorf("%d gives are counted, %v; want %d", n, err, created)
			}
			if tc.held {
				holds, err := state.Holds(b.db.Read())
				if err != nil {
					t.Fatal(err)
				}
				decide(t, b, holds[0], state.HoldReleased)
				b.settle()
			}
			if n := b.writes("create", "update", "set-manager", "add-member", "enable") - before; n != 2*tc.newcomers || b.gives() != 0 {
				t.Errorf("%d writes, want an account and a membership for each of %d; gives to %d are left", n, tc.newcomers, b.gives())
			}
			b.explained()
		})
	}
}

// Past the limit whoever has all already is not held with those to whom something is given, though they are looked at later.
func TestAHoldOnGivesIsOfWhomSomethingIsGiven(t *testing.T) {
	b := setupStaff(t)
	for i := range foundLimit + 1 {
		b.join(fmt.Sprint("new", i), fmt.Sprintf("Bob%c", 'a'+i), "analyst")
	}
	b.staffJoins()
	b.settle()
	holds, err := state.Holds(b.db.Read())
	if err != nil || len(holds) != 1 || holds[0].Code != AlarmGiveLimit || !strings.Contains(string(holds[0].Shown), fmt.Sprintf(`"count":%d,`, foundLimit+1)) {
		t.Fatalf("holds %+v, %v; want one of the %d who join", holds, err, foundLimit+1)
	}
}

// A word that comes after a recovery and takes roles from many is held before any of it is done, whatever it is, since the
// accounts were seen to be in the groups; whoever loses nothing goes on, and of whom nothing was said nothing is counted.
// Where nobody looked, the looks are counted one by one.
func TestRolesLostAfterARecoveryHaveALimit(t *testing.T) {
	const limit = 2
	for _, tc := range []struct {
		name string
		kind schema.Kind
		in   []string // nil: nobody looked
		lost int      // who loses a group before the hold
	}{
		{"roster", schema.KindRoster, []string{socID, leadID}, 0},
		{"joiner", schema.KindJoiner, []string{socID, leadID}, 0},
		{"mover", schema.KindMover, []string{socID, leadID}, 0},
		{"roster, nobody looked", schema.KindRoster, nil, limit},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := setupStaff(t, tc.in...)
			b.config.Policy = testPolicy(t, 1000, 1000)
			b.config.Policy.Limits.TakePerHour = limit
			b.config.Workers = 3 // one at a time in the lane of gives: what a look shows is counted before the next
			who := func(i int) (subject, name string) { return fmt.Sprint(i), fmt.Sprintf("ana%c.ng", 'a'+i) }
			lost := func() (n int) {
				for i := range staff {
					if _, name := who(i); len(b.user(name).Groups) < 2 {
						n++
					}
				}
				return n
			}
			for i := range staff - 1 { // the last one nobody speaks of
				subject, _ := who(i)
				f := fence.Fact{Kind: tc.kind, Person: person(fmt.Sprintf("Ana%c", 'a'+i)), Roles: []string{"analyst"}}
				if i == 0 {
					f.Roles = []string{"lead"}
				}
				b.say(subject, f)
			}
			b.settle()
			if n := lost(); n > tc.lost || !b.standing(AlarmTakeLimit) {
				t.Fatalf("%d have lost a group past the limit of %d, want at most %d", n, limit, tc.lost)
			}
			if s := b.row("0"); s.Lane != plan.Idle {
				t.Errorf("whoever loses nothing waits in lane %v", s.Lane)
			}
			holds, err := state.Holds(b.db.Read())
			if want := fmt.Sprintf(`"count":%d,`, staff-2); err != nil || tc.lost == 0 && (len(holds) != 1 || !strings.Contains(string(holds[0].Shown), want)) {
				t.Errorf("holds %v, %v; want one of %d", b.holds(), err, staff-2)
			}
			b.pass(time.Duration(b.config.Policy.Limits.CutHold) + time.Second) // nobody decides
			b.settle()
			if n := lost(); n != staff-2 || b.standing(AlarmTakeLimit) {
				t.Errorf("%d of %d have lost the group after their time", n, staff-2)
			}
			b.explained()
		})
	}
}

// Of several accounts that bear one mark all count, and that nobody was in a group is known as well as that somebody was.
func TestWhoMayLoseIsKnownFromState(t *testing.T) {
	b := setup(t)
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	b.join("two", "Ana", "analyst")
	b.join("none", "Bob", "analyst")
	b.join("keeps", "Cyd", "lead")
	b.join("left", "Dan", "analyst")
	b.say("left", fence.Fact{Kind: schema.KindLeaver})
	err = b.db.Tx(t.Context(), func(tx *store.Tx) error {
		for i, u := range []state.Unclaimed{
			{Mark: "two", Enabled: true, Groups: []string{socID}},
			{Mark: "two", Groups: []string{leadID}},
			{Mark: "none", Enabled: true},
			{Mark: "keeps", Enabled: true, Groups: []string{socID, leadID, otherID}}, // the last is not on the allow-list
			{Mark: "left", Enabled: true, Groups: []string{leadID}},
			{Mark: "nobody", Enabled: true, Groups: []string{leadID}},
		} {
			u.Account, u.Mark, u.FoundAt = fmt.Sprint("account-", i), directory.Mark(issuer, u.Mark), b.now()
			if err := state.AddUnclaimed(tx, u); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]bool{"two": true, "none": false, "keeps": false, "left": false} {
		if got, err := e.loses(b.db.Read(), b.row(subject), b.now()); err != nil || got != want {
			t.Errorf("%s loses: %v, %v; want %v", subject, got, err, want)
		}
	}
}

// Another policy that takes from many whom nobody has looked at since a recovery is held like one that takes from known ones.
func TestAPolicyChangesBeforeTheFirstLook(t *testing.T) {
	b := setupStaff(t, socID, leadID)
	before := b.writes("remove-member")
	b.staffJoins() // and nobody looks
	b.change("soc: {id: "+socID+"}, lead: {id: "+leadID+"}", "analyst: {groups: [soc]}, lead: {groups: [soc]}")
	b.settle()
	if n := b.writes("remove-member") - before; n > 0 || !slices.Equal(b.holds(), []string{AlarmPolicyLimit}) {
		t.Errorf("%d memberships were taken, holds %v; want all of it held", n, b.holds())
	}
}

// Whoever was first looked at while suspended and comes back with other roles is known to lose some.
func TestWhatASuspendedPersonHadIsKnown(t *testing.T) {
	b := setupStaff(t)
	b.config.Policy.Limits.TakePerHour = 2
	for i := range 4 {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindRoster, Suspended: true, Person: person(fmt.Sprintf("Ana%c", 'a'+i)), Roles: []string{"lead"}})
		row := b.row(fmt.Sprint(i))
		if err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
			row.Raise(plan.Disable, b.now(), false) // as intake does
			return state.SaveFacts(tx, row)
		}); err != nil {
			t.Fatal(err)
		}
	}
	b.settle()
	if b.enabled("0") {
		t.Fatal("want them suspended")
	}
	before := b.writes("remove-member")
	for i := range 4 {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindRoster, Person: person(fmt.Sprintf("Ana%c", 'a'+i)), Roles: []string{"analyst"}})
	}
	b.settle()
	if n := b.writes("remove-member") - before; n > 0 || !b.standing(AlarmTakeLimit) {
		t.Errorf("%d memberships were taken, held %v; want all of it held", n, b.standing(AlarmTakeLimit))
	}
}

// A change of the policy means the same for whom a recovered bridge found as for whom it gave to.
func TestPolicyChangesForWhomWereFound(t *testing.T) {
	const both = "soc: {id: " + socID + "}, lead: {id: " + leadID + "}"
	found := func(t *testing.T) (b *bridge, writes func() int) {
		t.Parallel()
		b = setupStaff(t)
		b.staffJoins()
		b.settle()
		if h := b.holds(); len(h) > 0 {
			t.Fatalf("holds %v", h)
		}
		before := b.writes("add-member", "remove-member")
		return b, func() int { return b.writes("add-member", "remove-member") - before }
	}
	t.Run("nothing", func(t *testing.T) {
		b, writes := found(t)
		reads := len(b.tenant.Journal())
		b.change(both, "analyst: {groups: [soc]}, lead: {groups: [soc, lead]}, other: {groups: [lead]}")
		if !b.idle() || len(b.tenant.Journal()) != reads || b.gives() != 0 {
			t.Error("somebody is due whom nothing changed")
		}
		b.settle()
		if h := b.holds(); len(h) > 0 || writes() > 0 {
			t.Errorf("holds %v, %d writes", h, writes())
		}
	})
	t.Run("more for a few", func(t *testing.T) {
		b, writes := found(t)
		b.say("1", fence.Fact{Kind: schema.KindMover, Person: b.row("1").Doc.At(b.now()).Want.Person, Roles: []string{"lead", "other"}})
		b.settle()
		b.change(both+", other: {id: "+otherID+"}", "analyst: {groups: [soc]}, lead: {groups: [soc, lead]}, other: {groups: [other]}")
		if n := b.gives(); n != 1 {
			t.Errorf("a plan shows gives to %d, want 1", n)
		}
		b.settle()
		if h := b.holds(); len(h) > 0 || writes() != 1 || !slices.Contains(b.user("anab.ng").Groups, "Other") {
			t.Errorf("holds %v, %d writes", h, writes())
		}
	})
	t.Run("more for all", func(t *testing.T) {
		b, writes := found(t)
		b.change(both+", other: {id: "+otherID+"}", "analyst: {groups: [soc]}, lead: {groups: [soc, lead, other]}")
		if n := b.gives(); n != staff {
			t.Errorf("a plan shows gives to %d, want %d", n, staff)
		}
		b.settle()
		if h := b.holds(); !slices.Equal(h, []string{AlarmGiveLimit}) || writes() > 0 {
			t.Errorf("holds %v, %d writes; want all of it held", h, writes())
		}
	})
	t.Run("less for all", func(t *testing.T) { // a slip in the file must not strip everybody who was found
		b, writes := found(t)
		b.change(both, "analyst: {groups: [soc]}, lead: {groups: [soc]}")
		b.settle()
		if h := b.holds(); !slices.Equal(h, []string{AlarmPolicyLimit}) || writes() > 0 {
			t.Errorf("holds %v, %d writes; want all of it held", h, writes())
		}
	})
	t.Run("nothing for all", func(t *testing.T) {
		b, writes := found(t)
		b.change(both+", other: {id: "+otherID+"}", "analyst: {groups: [soc]}, lead: {groups: [other]}, other: {groups: [lead]}")
		b.settle()
		if h := b.holds(); !slices.Equal(h, []string{AlarmPolicyLimit}) || writes() > 0 {
			t.Errorf("holds %v, %d writes; want all of it held", h, writes())
		}
	})
	t.Run("off the allow-list", func(t *testing.T) { // nothing is taken, so nothing is held as a loss
		b, writes := found(t)
		b.change("soc: {id: "+socID+"}", "analyst: {groups: [soc]}, lead: {groups: [soc]}")
		b.settle()
		h := b.holds()
		if len(h) != staff || strings.Join(slices.Compact(h), " ") != string(plan.HoldForeignGroup) || writes() > 0 {
			t.Errorf("holds %v, %d writes; want one for each that shows the group", h, writes())
		}
	})
}

// What a second signer's word is missing for is not given, so another policy gives nobody anything by it.
func TestWhatWaitsForApprovalIsNoGive(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 100) })
	b.join("1", "Ana", "analyst")
	b.settle()
	v := b.row("1").Doc.At(b.now())
	v.Want.Roles = []string{"analyst", "lead"}
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
groups: {soc: {id: %s}, lead: {id: %s}}
roles: {analyst: {groups: [soc]}, lead: {groups: [lead], approval: required}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 100}
`, socID, leadID))
	if err != nil {
		t.Fatal(err)
	}
	if g := plan.Given(v, p, b.now()); !slices.Equal(g, []string{socID}) {
		t.Errorf("given %v", g)
	}
	v.Approvals = []fence.Approval{{Role: "lead", Expiry: b.now().Add(time.Hour)}}
	if g := plan.Given(v, p, b.now()); !slices.Equal(g, []string{socID, leadID}) {
		t.Errorf("given with the word %v", g)
	}
}

// An account that somebody gave the mark of a person whose account is known is noticed when that person is cut. It is
// touched by nobody, and stands as the alarm until it is disabled or rid of the mark.
func TestTwinOfWhoIsCut(t *testing.T) {
	twin := func(name string, disabled bool) tenant.Seed {
		return tenant.Seed{Users: []tenant.SeedUser{{UserPrincipalName: name + "@rehearsal.example", DisplayName: "Twin", Disabled: disabled,
			Properties: map[string]any{"onPremisesExtensionAttributes": map[string]any{"extensionAttribute15": directory.Mark(issuer, "1")}}}}}
	}
	setupTwin := func(t *testing.T, disabled bool) *bridge {
		t.Parallel()
		b := setup(t)
		b.join("1", "Ana", "analyst")
		b.settle()
		if err := b.tenant.Plant(twin("twin", disabled)); err != nil {
			t.Fatal(err)
		}
		return b
	}
	alarm := func(b *bridge) string {
		b.t.Helper()
		list, err := state.Alarms(b.db.Read())
		if err != nil {
			b.t.Fatal(err)
		}
		for _, a := range list {
			if a.Code == AlarmCutHeld {
				return a.Text
			}
		}
		return ""
	}
	held := []string{string(holdAmbiguousMark)}
	for _, kind := range []schema.Kind{schema.KindLeaver, schema.KindSuspend} {
		t.Run(string(kind), func(t *testing.T) {
			b := setupTwin(t, false)
			b.say("1", fence.Fact{Kind: kind})
			b.settle()
			if kind == schema.KindSuspend {
				b.pass(plan.Settling) // somebody suspended is not looked at before
				b.settle()
			}
			if u := b.user("ana.ng"); u.Enabled || !u.SessionsRevoked || kind == schema.KindLeaver && len(u.Groups) > 0 {
				t.Errorf("the cut of the known account: %+v", u)
			}
			id := b.user("twin").ID
			if h := b.holds(); !slices.Equal(h, held) || !strings.Contains(alarm(b), id) || !b.user("twin").Enabled {
				t.Fatalf("holds %v, alarm %q, twin %+v", h, alarm(b), b.user("twin"))
			}
			if _, err := b.connect("cut").Disable(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			b.pass(holdLook + time.Minute)
			b.settle()
			if h, a := b.holds(), alarm(b); !slices.Equal(h, held) || a != "" {
				t.Errorf("of a twin that is disabled: holds %v, alarm %q", h, a)
			}
			b.explained()
		})
	}
	t.Run("no delete beside it", func(t *testing.T) {
		b := setupTwin(t, true)
		b.say("1", fence.Fact{Kind: schema.KindLeaver})
		b.settle()
		b.pass(31 * 24 * time.Hour)
		b.settle()
		if h := b.holds(); !slices.Equal(h, held) || alarm(b) != "" || b.writes("delete") > 0 {
			t.Fatalf("holds %v, alarm %q, %d deletes", h, alarm(b), b.writes("delete"))
		}
		if _, err := b.connect("cut").Delete(t.Context(), b.user("twin").ID); err != nil { // by hand
			t.Fatal(err)
		}
		b.pass(holdLook + time.Minute)
		b.settle()
		if h := b.holds(); len(h) > 0 || b.writes("delete") != 2 {
			t.Errorf("holds %v, %d deletes", h, b.writes("delete"))
		}
	})
	t.Run("the known one is gone", func(t *testing.T) {
		b := setupTwin(t, false)
		b.say("1", fence.Fact{Kind: schema.KindSuspend})
		b.settle()
		if _, err := b.connect("cut").Delete(t.Context(), b.user("ana.ng").ID); err != nil { // by hand
			t.Fatal(err)
		}
		b.pass(plan.Settling)
		b.settle()
		if h := b.holds(); !slices.Equal(h, held) || !strings.Contains(alarm(b), b.user("twin").ID) {
			t.Fatalf("holds %v, alarm %q", h, alarm(b))
		}
	})
}

// An account that was made just before the database was lost may be shown late: nobody knows it, and whoever is to have no
// access is looked for once more when every replica must show it.
func TestAnAccountThatIsShownLateAfterARecovery(t *testing.T) {
	b := setup(t)
	if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return state.SetRecovered(tx, b.now()) }); err != nil {
		t.Fatal(err)
	}
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	if err := b.tenant.Plant(tenant.Seed{Users: []tenant.SeedUser{{UserPrincipalName: "late@rehearsal.example", DisplayName: "Late",
		Properties: map[string]any{"onPremisesExtensionAttributes": map[string]any{"extensionAttribute15": directory.Mark(issuer, "1")}}}}}); err != nil {
		t.Fatal(err)
	}
	b.pass(plan.Settling + time.Minute)
	b.settle()
	if u := b.user("late"); u.Enabled || !u.SessionsRevoked {
		t.Errorf("the leaver's account: %+v", u)
	}
	b.pass(plan.Settling + time.Minute)
	b.settle()
	if s := b.row("1"); s.Lane != plan.Idle && s.Lane != plan.Delete {
		t.Errorf("it is looked at without end: lane %v, due %v", s.Lane, s.Due)
	}
	b.explained()
}

// Whoever was to be cut while the account lay in the tenant's bin is cut when it comes back: without another word within
// the time between two looks, and at once by the next word on them.
func TestAnAccountThatComesBackFromTheBin(t *testing.T) {
	cut := func(b *bridge, name string) bool { u := b.user(name); return !u.Enabled && u.SessionsRevoked }
	for name, kind := range map[string]schema.Kind{"left": schema.KindLeaver, "suspended": schema.KindSuspend} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.join("1", "Ana", "analyst")
			b.join("2", "Bea", "analyst")
			b.settle()
			ids := []string{b.user("ana.ng").ID, b.user("bea.ng").ID}
			b.clock.Add(int64(2 * plan.Settling)) // not new any more
			for _, id := range ids {
				if _, err := b.connect("cut").Delete(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			b.say("1", fence.Fact{Kind: kind})
			b.say("2", fence.Fact{Kind: kind})
			b.settle()
			for _, s := range []string{"1", "2"} {
				if k, err := b.row(s).Known(); err != nil || k.GoneAt.IsZero() {
					t.Fatalf("subject %s is not known to be gone: %+v, %v", s, k, err)
				}
			}
			if alarms, err := state.Alarms(b.db.Read()); err != nil || len(alarms) != 0 {
				t.Errorf("alarms %+v, %v", alarms, err)
			}
			for _, id := range ids {
				b.restore(id)
			}
			b.say("1", fence.Fact{Kind: kind})
			b.settle()
			if !cut(b, "ana.ng") || cut(b, "bea.ng") {
				t.Errorf("after the next word: %v, %v", cut(b, "ana.ng"), cut(b, "bea.ng"))
			}
			b.clock.Add(int64(holdLook + time.Minute))
			b.settle()
			if !cut(b, "bea.ng") {
				t.Error("open after a look was due")
			}
			if kind == schema.KindLeaver && len(b.user("ana.ng").Groups)+len(b.user("bea.ng").Groups) > 0 {
				t.Error("not stripped")
			}
			b.explained()
		})
	}
}

// An account that a person has after one that was deleted, or the deleted one out of the bin, is looked at, stripped and deleted like
// a first one, and its name is in use.
func TestAnAccountAfterADeletedOne(t *testing.T) {
	for _, restored := range []bool{false, true} {
		t.Run(fmt.Sprintf("restored %v", restored), func(t *testing.T) {
			b := setup(t)
			b.join("1", "Ana", "analyst")
			b.settle()
			first := known(t, b.row("1")).ID
			b.say("1", fence.Fact{Kind: schema.KindLeaver})
			b.settle()
			b.pass(31 * 24 * time.Hour)
			b.settle()
			if restored {
				b.pass(plan.Settling)
				b.restore(first)
			} else { // no create is answered, and the account is found
				b.tenant.AddFaults(tenant.Fault{Name: "lost", Method: "^POST$", Path: "/users$", Kind: tenant.Drop, Applied: true, Count: 1})
			}
			b.say("1", fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"analyst"}})
			b.settle()
			k := known(t, b.row("1"))
			if restored != (k.ID == first) || !k.DeletedAt.IsZero() || k.IsCut() {
				t.Fatalf("with access: %+v", k)
			}
			b.say("1", fence.Fact{Kind: schema.KindLeaver, Position: fence.Position{Engagement: 2}})
			b.settle()
			for _, u := range b.tenant.Snapshot().Users {
				if u.ID == k.ID && (u.Enabled || !u.SessionsRevoked || len(u.Groups) > 0) {
					t.Errorf("after the leaver: %+v", u)
				}
			}
			b.pass(plan.Settling)
			b.settle()
			if known(t, b.row("1")).ConfirmedAt.IsZero() {
				t.Error("nobody looked whether it is disabled")
			}
			b.pass(31 * 24 * time.Hour)
			b.settle()
			if n := b.writes("delete"); n != 2 {
				t.Errorf("%d deletes, want one for each engagement", n)
			}
			b.explained()
		})
	}
}

// What cannot come back any more is looked for no longer.
func TestAnAccountThatStaysGone(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.clock.Add(int64(2 * plan.Settling))
	if _, err := b.connect("cut").Delete(t.Context(), b.user("ana.ng").ID); err != nil {
		t.Fatal(err)
	}
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	b.clock.Add(int64(plan.Bin))
	b.settle()
	if k, err := b.row("1").Known(); err != nil || k.DeletedAt.IsZero() || b.row("1").Lane != plan.Idle {
		t.Errorf("lane %v, %+v, %v", b.row("1").Lane, k, err)
	}
}

// restore is an administrator's restore out of the bin.
func (b *bridge) restore(id string) {
	b.t.Helper()
	token, err := b.tenant.Token(b.t.Context(), "grant")
	if err != nil {
		b.t.Fatal(err)
	}
	q, err := http.NewRequestWithContext(b.t.Context(), "POST", b.tenant.Endpoints().GraphV1+"/directory/deletedItems/"+id+"/restore", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+token)
	res, err := (&http.Client{Transport: b.tenant.Transport()}).Do(q)
	if err != nil {
		b.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b.t.Fatalf("restore: %s", res.Status)
	}
}

// The name of an account that was found, as after a recovery, is kept from others like one that the bridge gave.
func TestTheNameOfAnAccountThatWasFound(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM upn`)
		if err == nil {
			err = state.SetAccount(tx, state.SubjectKey{Issuer: issuer, Subject: "1"}, nil)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	b.pass(31 * 24 * time.Hour)
	b.settle()
	b.pass(plan.Settling)
	b.join("2", "Ana", "analyst")
	b.settle()
	if k := known(t, b.row("2")); k.UPN != "ana.ng2@rehearsal.example" {
		t.Errorf("somebody else is %s a month after the leaver", k.UPN)
	}
}
