package apply

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
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
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// A leaver whose disable is under way is among the effects of the hour and still due: it must not count
// twice, or a full hour's worth of cuts would be held in the middle.
func TestWorkInHandCountsOnce(t *testing.T) {
	const limit = 4
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, limit) })
	for i := range limit {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	b.tenant.AddFaults(tenant.Fault{Name: "slow", Method: "^PATCH$", Body: `"accountEnabled":false`, Skip: 1, Kind: tenant.Delay, Gate: "slow"})
	for i := range limit {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
	}
	cut := func() (n int) {
		for i := range limit {
			if u := b.user(fmt.Sprintf("ana%c.ng", 'a'+i)); !u.Enabled && u.SessionsRevoked {
				n++
			}
		}
		return n
	}
	released := false
	b.work(func() bool {
		// The one that goes through passes several lanes, each with a look at the limits.
		if !released && cut() == 1 {
			if err := b.tenant.WaitHeld(t.Context(), "slow", limit-1); err != nil {
				t.Fatal(err)
			}
			b.tenant.Release("slow")
			released = true
		}
		return released && cut() == limit && b.idle()
	})
	if holds, err := state.Holds(b.db.Read()); err != nil || len(holds) != 0 {
		t.Errorf("holds %v, %v; want none, since %d of %d cuts are inside the limit", holds, err, limit, limit)
	}
	if n := cut(); n != limit {
		t.Errorf("%d of %d leavers are cut", n, limit)
	}
}

// A cut that failed was counted when it was tried first: tried again it is no further effect, or an outage
// would end with leavers held.
func TestRetriesCountOnce(t *testing.T) {
	const limit, leavers = 4, 3
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, limit) })
	for i := range leavers {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	b.tenant.AddFaults(tenant.Fault{Name: "refuse", Method: "^PATCH$", Body: `"accountEnabled":false`, Kind: tenant.Error, Status: 403, Count: leavers})
	for i := range leavers {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
	}
	enabled := func() (n int) {
		for i := range leavers {
			if b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).Enabled {
				n++
			}
		}
		return n
	}
	held := func() int {
		holds, err := state.Holds(b.db.Read())
		if err != nil {
			t.Fatal(err)
		}
		return len(holds)
	}
	b.work(func() bool { return enabled() == 0 || held() > 0 })
	if n := held(); n > 0 {
		t.Errorf("%d holds with %d leavers enabled; want none, since %d of %d cuts are inside the limit", n, enabled(), leavers, limit)
	}
	if hits := b.tenant.Faults(); len(hits) != 1 || hits[0].Hit != leavers {
		t.Errorf("the tenant refused %+v; want each leaver once", hits)
	}
}

// interrupted calls write before whatever is read.
type interrupted struct {
	state.Reader
	write func()
}

func (i interrupted) Each(query string, args []any, row func(scan func(...any) error) error) error {
	i.write()
	return i.Reader.Each(query, args, row)
}

func (i interrupted) QueryRow(query string, args ...any) *sql.Row {
	i.write()
	return i.Reader.QueryRow(query, args...)
}

// What comes while the limits are looked at is judged with the rest: wherever in between it is written, not one more
// than the limit is listed as work, and all that is past it is held.
func TestWhatComesWhileItIsCountedIsCounted(t *testing.T) {
	const limit = 2
	b := setup(t, func(_ *tenant.Config, c *Config) {
		c.Policy = testPolicy(t, limit, limit)
		c.Log = slog.New(slog.DiscardHandler)
	})
	now := b.now()
	b.config.Now = func() time.Time { return now }
	for lane, kind := range map[plan.Lane]schema.Kind{plan.Disable: schema.KindLeaver, plan.Give: schema.KindJoiner} {
		say := func(i int) {
			b.say(fmt.Sprint(i), fence.Fact{Kind: kind, Person: person(fmt.Sprintf("Ana%c", 'a'+i)), Roles: []string{"analyst"}})
			if kind.Cuts() { // else there is nothing to cut
				b.knows(fmt.Sprint(i), plan.Known{ID: "a" + fmt.Sprint(i)})
			}
		}
		for at, reads := 1, 1; at <= reads; at++ { // the read before which the others come
			now = now.Add(time.Second) // holds are named after it
			if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(`DELETE FROM subject`); return err }); err != nil {
				t.Fatal(err)
			}
			for i := range limit {
				say(i)
			}
			e, err := New(b.config)
			if err != nil {
				t.Fatal(err)
			}
			whole := e.snapshot
			reads = 0
			e.snapshot = func(ctx context.Context, f func(state.Reader) error) error {
				return whole(ctx, func(r state.Reader) error {
					return f(interrupted{r, func() {
						if reads++; reads == at {
							say(limit)
							say(limit + 1)
						}
					}})
				})
			}
			listed := map[string]bool{}
			for range 2 { // the second look finds what the first did not
				due, err := e.next(t.Context(), lane, now, 100, nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range due {
					listed[s.Subject] = true
				}
			}
			if len(listed) > limit {
				t.Errorf("%s, with others before read %d: %d are worked on, want no more than %d", kind, at, len(listed), limit)
			}
		}
	}
}

// Whoever was released is due and no further effect: many of them are counted once in a while, and not at every look, or each
// cut would take longer the more of them wait.
func TestManyWhoAreReleasedAreNotCountedAtEveryLook(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) {
		c.Policy = testPolicy(t, 1, 1)
		c.Log = slog.New(slog.DiscardHandler)
	})
	now := b.now()
	b.config.Now = func() time.Time { return now }
	for i := range quickCount + 1 {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
		b.knows(fmt.Sprint(i), plan.Known{ID: "a" + fmt.Sprint(i)})
	}
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	if due, err := e.next(t.Context(), plan.Disable, now, 100, nil); err != nil || len(due) != 0 {
		t.Fatalf("%d are due, %v; want all of them held", len(due), err)
	}
	holds, err := state.Holds(b.db.Read())
	if err != nil || len(holds) != 1 {
		t.Fatalf("holds %v, %v; want one", holds, err)
	}
	if waiting, err := state.HeldBack(b.db.Read()); err != nil || waiting[holds[0].ID] != quickCount+1 {
		t.Errorf("%v wait, %v; want all of them", waiting, err)
	}
	if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return state.LetThrough(tx, holds[0].ID, now) }); err != nil {
		t.Fatal(err)
	}
	reads, whole := 0, e.snapshot
	e.snapshot = func(ctx context.Context, f func(state.Reader) error) error {
		return whole(ctx, func(r state.Reader) error { return f(interrupted{r, func() { reads++ }}) })
	}
	look := func() int {
		t.Helper()
		reads = 0
		if due, err := e.next(t.Context(), plan.Disable, now, 1000, nil); err != nil || len(due) != quickCount+1 {
			t.Fatalf("%d are due, %v; want all of them", len(due), err)
		}
		return reads
	}
	now = now.Add(guardEvery)
	first := look()
	now = now.Add(guardEvery / 2)
	if again := look(); again >= first {
		t.Errorf("a look takes %d reads, the next one %d; want only who is due in that", first, again)
	}
	now = now.Add(guardEvery)
	if later := look(); later != first {
		t.Errorf("a look takes %d reads, one after %s %d; want them counted anew", first, guardEvery, later)
	}
}

// Leavers past the limit who come one by one have a hold each: the one alarm speaks of all of them.
func TestOneAlarmSpeaksOfAllHolds(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
	for i := range 4 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	says := func(hold int64, want string) { // as soon as somebody waits behind it
		t.Helper()
		b.work(func() bool {
			n, err := state.HeldBack(b.db.Read())
			if err != nil {
				t.Fatal(err)
			}
			return n[hold] > 0
		})
		list, err := state.Alarms(b.db.Read())
		if err != nil || !slices.ContainsFunc(list, func(a state.Alarm) bool { return a.Code == AlarmCutLimit && strings.Contains(a.Text, want) }) {
			t.Errorf("alarms %+v, %v; want %q", list, err, want)
		}
	}
	b.say("0", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	for i, want := range []string{"1 cuts waiting", "2 holds (1, 2): 2 cuts waiting; the first happen at ", "3 holds (1, 2, 3): 3 cuts waiting"} {
		b.say(fmt.Sprint(i+1), fence.Fact{Kind: schema.KindLeaver})
		says(int64(i+1), want)
	}
}

// Whose account is disabled already, by whom ever, loses nothing: the ledger says so, and no limit is spent on it.
func TestWhatIsDisabledAlreadyIsNoEffect(t *testing.T) {
	b := setup(t, func(s *tenant.Config, c *Config) {
		c.Policy = testPolicy(t, 100, 1)
		for i := range 3 {
			s.Seed.Users = append(s.Seed.Users, tenant.SeedUser{UserPrincipalName: fmt.Sprintf("ana%d@rehearsal.example", i), DisplayName: "Ana", Disabled: true,
				Properties: map[string]any{"onPremisesExtensionAttributes": map[string]any{"extensionAttribute15": directory.Mark(issuer, fmt.Sprint(i))}}})
		}
	})
	for i := range 3 {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
		b.settle()
	}
	if n, err := state.Effects(b.db.Read(), classCut, b.now().Add(-time.Hour)); err != nil || n != 0 || b.standing(AlarmCutLimit) {
		t.Errorf("%d cuts are counted, %v, held %v; want none", n, err, b.standing(AlarmCutLimit))
	}
	if intents, _ := b.explained(); intents == 0 {
		t.Error("the ledger does not say that they are disabled")
	}
}

// dayPolicy has limits over more than an hour.
func dayPolicy(t *testing.T, limits string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
grace: 30d
groups: {soc: {id: %s}}
roles: {analyst: {groups: [soc]}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: 100, cut_per_hour: 4, %s}
`, socID, limits))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLimitsOfADay(t *testing.T) {
	for _, tc := range []struct {
		name, limits, alarm string
		first, then         int // leavers, two hours apart
		held                bool
	}{
		{"within the day", "cut_per_day: 8", AlarmCutLimit, 4, 4, false},
		{"past the day", "cut_per_day: 6", AlarmCutLimit, 4, 4, true},
		{"past the share", "cut_per_day: 40, cut_share: 50, cut_floor: 2", AlarmCutLimit, 4, 4, true},
		{"within the floor", "cut_per_day: 40, cut_share: 1, cut_floor: 8", AlarmCutLimit, 4, 4, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = dayPolicy(t, tc.limits) })
			for i := range 10 {
				b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
			}
			b.settle()
			for i := range tc.first {
				b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
			}
			b.settle()
			if b.standing(tc.alarm) {
				t.Fatal("want the first within every limit")
			}
			b.pass(2 * time.Hour)
			for i := range tc.then {
				b.say(fmt.Sprint(tc.first+i), fence.Fact{Kind: schema.KindLeaver})
			}
			if tc.held {
				b.work(func() bool { return b.standing(tc.alarm) })
			} else {
				b.settle()
			}
			cut := 0
			for i := range tc.first + tc.then {
				if !b.enabled(fmt.Sprint(i)) {
					cut++
				}
			}
			if want := tc.first + tc.then; tc.held && cut != tc.first || !tc.held && cut != want {
				t.Errorf("%d are cut", cut)
			}
		})
	}
}

// Roles that movers lose have a limit of their own: past it they wait as cuts do, and then are taken. Movers who
// lose nothing are not counted, and what a fact gives is counted beside what it takes.
func TestRolesThatMoversLoseHaveALimit(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 8, 100); c.Policy.Limits.TakePerHour = 3 })
	groups := func(i int) int { return len(b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).Groups) }
	move := func(i int, roles ...string) {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindMover, Person: person(fmt.Sprintf("Ana%c", 'a'+i)), Roles: roles})
	}
	for i := range 8 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "lead")
	}
	b.settle()
	b.pass(2 * time.Hour)
	for i := range 8 {
		move(i, "lead") // nothing is lost
	}
	b.settle()
	if b.standing(AlarmTakeLimit) {
		t.Fatal("movers who lose nothing were counted")
	}
	for i := range 3 {
		move(i, "analyst")
	}
	b.settle()
	if b.standing(AlarmTakeLimit) || groups(0)+groups(1)+groups(2) != 3 {
		t.Fatal("want the first three within the limit")
	}
	move(3, "analyst")
	move(4, "analyst")
	move(5, "lead") // waits behind nobody's hold
	b.work(func() bool { return b.standing(AlarmTakeLimit) && b.row("5").Lane == plan.Idle })
	if groups(3) != 2 || groups(4) != 2 {
		t.Error("roles were taken past the limit")
	}
	if h := b.holds(); len(h) != 1 || h[0] != AlarmTakeLimit {
		t.Errorf("holds %v", h)
	}
	b.say("4", fence.Fact{Kind: schema.KindLeaver}) // a cut is not held by it
	b.work(func() bool { return !b.enabled("4") })
	b.pass(time.Duration(b.config.Policy.Limits.CutHold) + time.Second) // nobody decides
	b.work(func() bool { return groups(3) == 1 && !b.standing(AlarmTakeLimit) })
	b.explained()
}

// A fact that takes and gives is counted in both classes: what it took lets nothing past the limit of gives.
func TestAMoverIsCountedForBoth(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) {
		p := *testPolicy(t, 100, 100)
		p.Roles = map[string]policy.Role{"analyst": p.Roles["analyst"], "lead": {Groups: []string{"lead"}}}
		c.Policy = &p
	})
	for i := range 3 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	b.pass(25 * time.Hour)
	b.config.Policy.Limits.GivePerHour = 2
	for i := range 3 {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindMover, Person: person(fmt.Sprintf("Ana%c", 'a'+i)), Roles: []string{"lead"}})
	}
	b.work(func() bool { return b.standing(AlarmGiveLimit) })
	given := 0 // those whose old group was taken before the others' may be given the new one first, within the limit
	for i := range 3 {
		switch g := b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).Groups; {
		case slices.Equal(g, []string{"Lead"}):
			given++
		case len(g) != 0:
			t.Errorf("person %d is in %v: the old group is taken, the new one held", i, g)
		}
	}
	if given > 2 {
		t.Errorf("%d were given the new group, past the limit", given)
	}
	if n, err := state.Effects(b.db.Read(), classTake, b.config.Now().Add(-time.Hour)); err != nil || n != 3 {
		t.Errorf("%d losses are counted, %v", n, err)
	}
}

// That roles may be lost, since an operator said so or nobody did in time, says nothing of what the same words give.
func TestWhatComesAfterHeldTakesIsInsideTheLimitOfGives(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) {
		p := *testPolicy(t, 100, 100)
		p.Roles = map[string]policy.Role{"analyst": p.Roles["analyst"], "lead": {Groups: []string{"lead"}}}
		c.Policy = &p
	})
	for i := range 3 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	b.pass(25 * time.Hour)
	b.config.Policy.Limits.GivePerHour, b.config.Policy.Limits.TakePerHour = 2, 2
	for i := range 3 {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindMover, Person: person(fmt.Sprintf("Ana%c", 'a'+i)), Roles: []string{"lead"}})
	}
	b.settle()
	if h := b.holds(); !slices.Equal(h, []string{AlarmTakeLimit}) {
		t.Fatalf("holds %v", h)
	}
	b.pass(time.Duration(b.config.Policy.Limits.CutHold) + time.Second)
	b.settle()
	for i := range 3 {
		if g := b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).Groups; len(g) != 0 {
			t.Errorf("person %d is in %v: the old group is taken, the new one held", i, g)
		}
	}
	if h := b.holds(); !slices.Equal(h, []string{AlarmGiveLimit}) {
		t.Errorf("holds %v", h)
	}
}

// A joiner of the next engagement takes what the last one gave: many of them are held like movers.
func TestRolesThatRehiresLoseHaveALimit(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 100); c.Policy.Limits.TakePerHour = 2 })
	for i := range 3 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "lead")
	}
	b.settle()
	b.pass(2 * time.Hour)
	for i := range 3 {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person(fmt.Sprintf("Ana%c", 'a'+i)), Roles: []string{"analyst"}})
	}
	b.settle()
	if n := b.writes("remove-member"); n > 0 || !b.standing(AlarmTakeLimit) {
		t.Errorf("%d memberships were taken, held %v; want all of it held", n, b.standing(AlarmTakeLimit))
	}
}

// What operators discarded of cuts comes back when its time is over, and the alarm on it ends with it, or with the
// last new fact.
func TestADiscardedCutComesBack(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
	for i := range 5 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	discard := func(who ...int) *state.Hold {
		t.Helper()
		for _, i := range who {
			b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
		}
		b.work(func() bool { return b.standing(AlarmCutLimit) })
		open, err := state.Holds(b.db.Read())
		if err != nil || len(open) != 1 {
			t.Fatalf("holds %v, %v", open, err)
		}
		h := open[0]
		err = b.db.Tx(t.Context(), func(tx *store.Tx) error {
			if _, _, err := state.DecideHold(tx, h.ID, h.Digest, state.HoldDiscarded, "ann", "wrong file", 1, b.config.Now()); err != nil {
				return err
			}
			if err := state.DropHeld(tx, h.ID); err != nil {
				return err
			}
			if err := ClearLimit(tx, h.Code, b.config.Now()); err != nil {
				return err
			}
			return DiscardStands(tx, h, 2, b.config.Now().Add(24*time.Hour), b.config.Now())
		})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	discard(0, 1)
	b.pass(23 * time.Hour)
	b.settle()
	if !b.enabled("0") || !b.enabled("1") || !b.standing(AlarmDiscarded) {
		t.Fatal("want the discard to stand for its time, with an alarm")
	}
	b.pass(2 * time.Hour)
	b.work(func() bool { return b.standing(AlarmCutLimit) && !b.standing(AlarmDiscarded) }) // back, and inside the limits
	b.pass(time.Hour)
	b.work(func() bool { return !b.enabled("0") && !b.enabled("1") })

	b.pass(25 * time.Hour)
	h := discard(2, 3)
	for _, i := range []string{"2", "3"} {
		if i == "3" {
			b.pass(time.Minute)
			b.work(func() bool {
				list, err := state.Alarms(b.db.Read())
				return err == nil && slices.ContainsFunc(list, func(a state.Alarm) bool {
					return a.Code == AlarmDiscarded && strings.Contains(a.Text, "what facts take from 1 persons")
				})
			})
		}
		b.say(i, fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"analyst"}})
	}
	b.pass(time.Minute)
	b.work(func() bool { return !b.standing(AlarmDiscarded) })
	if n, err := state.Dropped(b.db.Read(), h.ID); err != nil || n != 0 || !b.enabled("2") {
		t.Errorf("%d are discarded still, %v", n, err)
	}
	b.explained()
}

// What operators discarded stays so, for its time, though somebody confirms the clock, the policy changes or the person's
// manager gets an account: none of these is a new fact about the person.
func TestWhatWasDiscardedStaysSo(t *testing.T) {
	for name, happen := range map[string]func(s *stepper) *stepper{
		"a clock that is confirmed": func(s *stepper) *stepper { s.confirmClock(); return s },
		"a manager's account":       func(s *stepper) *stepper { s.join("9", "Boss", "analyst"); return s },
		"a policy": func(s *stepper) *stepper {
			p, err := policy.Parse("policy.yaml", []byte(strings.Replace(testPolicyText(2, 1), "lead: {groups: [soc, lead]}", "lead: {groups: [lead]}", 1)))
			if err == nil {
				err = s.db.Tx(t.Context(), func(tx *store.Tx) error { return PolicyChanged(tx, p, s.config.Now()) })
			}
			if err != nil {
				t.Fatal(err)
			}
			s.config.Policy = p
			return s.stepper()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 2, 1) })
			say := func(kind schema.Kind, roles []string, ids ...string) {
				for _, id := range ids {
					p := person("Ana" + id)
					p.PreferredAlias, p.Manager = "ana."+id, &schema.Manager{Value: "9"}
					s.say(id, fence.Fact{Kind: kind, Person: p, Roles: roles})
				}
				s.quiet()
			}
			discard := func() {
				t.Helper()
				open, err := state.Holds(s.db.Read())
				if err != nil || len(open) != 1 {
					t.Fatalf("holds %v, %v", open, err)
				}
				h := open[0]
				err = s.db.Tx(t.Context(), func(tx *store.Tx) error {
					if _, _, err := state.DecideHold(tx, h.ID, h.Digest, state.HoldDiscarded, "ann", "wrong file", 1, s.config.Now()); err != nil {
						return err
					}
					if err := state.DropHeld(tx, h.ID); err != nil || h.Code == AlarmGiveLimit {
						return cmp.Or(err, ClearLimit(tx, h.Code, s.config.Now()))
					}
					return cmp.Or(ClearLimit(tx, h.Code, s.config.Now()), DiscardStands(tx, h, 2, s.config.Now().Add(24*time.Hour), s.config.Now()))
				})
				if err != nil {
					t.Fatal(err)
				}
				s.clock.Add(int64(2 * time.Hour))
				s.quiet()
			}
			say(schema.KindJoiner, []string{"lead"}, "1", "2")
			s.clock.Add(int64(2 * time.Hour))
			s.quiet()
			say(schema.KindLeaver, nil, "1", "2")
			discard()
			say(schema.KindJoiner, []string{"analyst"}, "3")
			s.clock.Add(int64(2 * time.Hour))
			say(schema.KindMover, []string{"analyst", "lead"}, "3", "4", "5")
			discard()
			s = happen(s)
			s.quiet()
			if n, made := s.disabled("1", "2"), s.writes("create"); n > 0 || made > 4 || !s.standing(AlarmDiscarded) || len(s.holds()) > 0 {
				t.Errorf("%d disabled, %d accounts made, holds %v", n, made, s.holds())
			}
			if g := s.user("ana.3").Groups; name == "a policy" && slices.Contains(g, "Lead") {
				t.Errorf("groups %v", g)
			}
			s.clock.Add(int64(25 * time.Hour))
			s.quiet()
			s.clock.Add(int64(31 * time.Minute))
			s.quiet()
			if n := s.disabled("1", "2"); n != 2 {
				t.Errorf("%d disabled once the discard is over, want both", n)
			}
			s.explained()
		})
	}
}

// Whoever waits behind a hold of many may be decided on alone, by a newer fact or by hand: the alarm says how many wait, and
// the hold ends with the last.
func TestAHoldEndsWithTheLastWhoWaits(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
	for i := range 3 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	for i := range 3 {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
	}
	text := func() string {
		list, err := state.Alarms(b.db.Read())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if a.Code == AlarmCutLimit {
				return a.Text
			}
		}
		return ""
	}
	b.work(func() bool { return strings.Contains(text(), ": 3 cuts waiting") })
	cut := func(subject string) {
		t.Helper()
		err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
			return state.Lock(tx, state.SubjectKey{Issuer: issuer, Subject: subject}, &fence.Lock{By: "ann", At: b.config.Now()}, plan.Disable, b.config.Now())
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	cut("0")
	cut("1")
	b.work(func() bool { return strings.Contains(text(), ": 1 cuts waiting") && !b.enabled("0") && !b.enabled("1") })
	if !b.enabled("2") || len(b.holds()) != 1 {
		t.Errorf("holds %v; want the third to wait", b.holds())
	}
	cut("2")
	b.work(func() bool { return text() == "" && !b.enabled("2") })
	if h := b.holds(); len(h) > 0 {
		t.Errorf("holds %v", h)
	}
	ended := 0
	for _, e := range b.entries() {
		if r, ok := e.(*entry.Released); ok && r.Action == entry.ReleasedResolved {
			ended++
		}
	}
	if ended != 1 {
		t.Errorf("%d holds ended on the ledger", ended)
	}
	b.explained()
}

// While a hold of many stands the engine looks after it every few seconds, also where nothing is due: its alarm is to end with
// the last who waits.
func TestTheAlarmOfAHoldEndsSoonAfterTheLast(t *testing.T) {
	b := crowd(t)
	s := b.stepper()
	say := func(kind schema.Kind) {
		for i := range 3 {
			b.say(fmt.Sprint(i), fence.Fact{Kind: kind})
		}
	}
	say(schema.KindSuspend)
	s.pass(time.Second)
	if !b.standing(AlarmCutLimit) {
		t.Fatal("want it held")
	}
	if _, err := s.engine.Step(t.Context()); err != nil { // which looks after holds: what comes next comes just after that
		t.Fatal(err)
	}
	say(schema.KindResume)
	s.pass(2 * tidyEvery)
	if h := b.holds(); len(h) > 0 || b.standing(AlarmCutLimit) {
		t.Errorf("holds %v stand, or their alarm, with nobody behind", h)
	}
}

func TestDeletesPastTheDayAreHeld(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = dayPolicy(t, "delete_per_day: 1") })
	for i := range 3 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
		b.settle()
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
	}
	b.settle()
	b.pass(31 * 24 * time.Hour)
	b.work(func() bool { return b.standing(AlarmDeleteLimit) })
	if n := b.writes("delete"); n > 1 {
		t.Errorf("%d are deleted; want at most the day's", n)
	}
}

// A manager's account makes no delete due that is planned for a date to come.
func TestAManagerWhoJoinsHoldsNoDeletes(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = dayPolicy(t, "delete_per_day: 1") })
	for i := range 3 {
		p := person(fmt.Sprintf("Ana%c", 'a'+i))
		p.Manager = &schema.Manager{Value: "boss"}
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindJoiner, Person: p, Roles: []string{"analyst"}})
		b.settle()
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
		b.settle()
	}
	b.pass(plan.Settling + time.Minute)
	b.settle() // and confirmed: what is left is the delete
	b.pass(24 * time.Hour)
	b.join("boss", "Bea", "analyst")
	b.settle()
	if h := b.holds(); len(h) > 0 {
		t.Errorf("holds %v", h)
	}
}

// Nor does a clock that was ahead.
func TestAClockThatWasAheadHoldsNoDeletes(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = dayPolicy(t, "delete_per_day: 1") })
	for i := range 3 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
		b.settle()
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver})
		b.settle()
	}
	b.pass(plan.Settling + time.Minute)
	b.settle() // and confirmed: what is left is the delete
	b.set(60 * 24 * time.Hour)
	b.set(plan.Settling + 2*time.Minute)
	b.confirmClock()
	b.settle()
	if h := b.holds(); len(h) > 0 {
		t.Errorf("holds %v", h)
	}
	b.pass(31 * 24 * time.Hour)
	b.work(func() bool { return b.standing(AlarmDeleteLimit) })
}
