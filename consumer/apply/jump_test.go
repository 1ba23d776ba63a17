package apply

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// A clock that jumps forward ends no lease, also where the executor looks before anybody has raised the alarm.
func TestNoLeaseRunsOutBetweenAJumpAndItsAlarm(t *testing.T) {
	b := setup(t)
	now := time.Now()
	b.config.Now = func() time.Time { return now }
	b.join("1", "Ana", "analyst")
	b.hear("1", now)
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	step := func(wall, passed time.Duration) {
		t.Helper()
		now = now.Add(wall)
		e.elapsed = func(_, to time.Time) time.Duration {
			e.elapsed = func(time.Time, time.Time) time.Duration { return 0 } // further looks in one step are at one instant
			return passed
		}
		if _, err := e.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	step(0, 0)
	step(30*24*time.Hour, time.Second)
	step(time.Second, time.Second)
	if b.row("1").Doc.Lapse != nil {
		t.Fatal("a lease ran out by a clock that had just jumped")
	}
	step(time.Minute, time.Minute) // nobody raised the alarm: then there was nobody to do it
	if b.row("1").Doc.Lapse == nil {
		t.Error("the lease does not run out any more")
	}
}

// By a clock that was ahead people lost access before its end, and a move came early. When the clock is put right and
// confirmed, both are taken back, and happen on their dates.
func TestDatesThatCameEarlyAreTakenBack(t *testing.T) {
	b := setup(t)
	now := b.config.Now()
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Person: person("Ana"), Roles: []string{"analyst"}, Start: now.Add(-time.Hour), End: now.Add(48 * time.Hour)})
	b.join("2", "Bo", "lead")
	b.settle()
	b.say("2", fence.Fact{Kind: schema.KindMover, Person: person("Bo"), Roles: []string{"analyst"}, Effective: now.Add(24 * time.Hour)})
	b.settle()
	b.set(5 * 24 * time.Hour)
	b.settle()
	if b.enabled("1") || len(b.user("bo.ng").Groups) != 1 {
		t.Fatal("want the clock believed as far as messages cut by it")
	}
	b.set(0)
	b.settle()
	b.confirmClock()
	b.settle()
	if !b.enabled("1") || len(b.user("ana.ng").Groups) != 1 || len(b.user("bo.ng").Groups) != 2 || b.standing(AlarmClock) {
		t.Errorf("enabled %v, groups %v and %v, alarm %v", b.enabled("1"), b.user("ana.ng").Groups, b.user("bo.ng").Groups, b.standing(AlarmClock))
	}
	b.clock.Store(int64(25 * time.Hour))
	b.work(func() bool { return len(b.user("bo.ng").Groups) == 1 })
	b.clock.Store(int64(49 * time.Hour))
	b.work(func() bool { return !b.enabled("1") })
	b.explained()
}

// set lets the clock jump and records it.
func (b *bridge) set(ahead time.Duration) {
	b.t.Helper()
	was := b.config.Now()
	b.clock.Store(int64(ahead))
	j := Jumped(entry.AgainstMonotonic, was, b.config.Now())
	if err := b.db.Tx(b.t.Context(), func(tx *store.Tx) error { return j.Record(tx, b.config.Now()) }); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bridge) confirmClock() {
	b.t.Helper()
	err := b.db.Tx(b.t.Context(), func(tx *store.Tx) error {
		return ClockConfirmed(tx, state.By{Login: "ann", Reason: "NTP", Now: b.config.Now()})
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// Both clocks were ahead. Once ours is right a silence is one after stale_after, and a lease does not last longer for what was
// said then.
func TestNothingIsSaidLaterThanTheClockThatWasConfirmed(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.StaleAfter = 5 * time.Minute })
	b.trustKey(issuer, schema.ProducerKinds...)
	b.join("1", "Ana", "analyst")
	b.set(48 * time.Hour)
	ahead := b.config.Now()
	err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
		list, err := state.Streams(tx)
		if err != nil {
			return err
		}
		list[0].HeartbeatIAT, list[0].HeartbeatAt = ahead, ahead
		s := b.row("1")
		s.SaidAt = ahead
		return errors.Join(state.SaveStream(tx, list[0]), state.SaveFacts(tx, s))
	})
	if err != nil {
		t.Fatal(err)
	}
	b.set(0)
	b.confirmClock()
	now := b.config.Now()
	since, _, err := state.FreshSince(b.db.Read(), issuer)
	if err != nil || since.After(now) || b.row("1").SaidAt.After(now) {
		t.Errorf("heard at %v, said at %v, %v; it is %v", since, b.row("1").SaidAt, err, now)
	}
}

// What is held, too, waits anew for every date once the clock is right: operators may discard it before that.
func TestADateComesToWhomAHoldKeptByAClockAhead(t *testing.T) {
	s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 2, 100) })
	s.join("0", "Ana", "analyst")
	s.quiet()
	start := s.config.Now()
	s.set(10 * 24 * time.Hour)
	s.quiet()
	s.say("0", fence.Fact{Kind: schema.KindSuspend, Effective: start.Add(2 * 24 * time.Hour)})
	s.say("0", fence.Fact{Kind: schema.KindResume, Effective: start.Add(4 * 24 * time.Hour)})
	s.say("0", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst", "lead"}})
	s.join("1", "Bob", "analyst")
	s.join("2", "Cid", "analyst")
	s.quiet()
	list, err := state.Holds(s.db.Read())
	if err != nil || len(list) != 1 || !s.row("0").Held() {
		t.Fatalf("holds %v, %v; want all of them behind one", list, err)
	}
	s.set(time.Hour)
	s.confirmClock()
	if err := s.db.Tx(t.Context(), func(tx *store.Tx) error { return state.DropHeld(tx, list[0].ID) }); err != nil {
		t.Fatal(err)
	}
	s.quiet()
	if !s.enabled("0") {
		t.Fatal("want access until the suspension begins")
	}
	s.clock.Add(int64(3 * 24 * time.Hour))
	s.quiet()
	if s.enabled("0") {
		t.Error("want the account disabled while the suspension lasts")
	}
}

// What was discarded by a clock that was ahead comes back after the time that was said, and not after that by which it went back.
func TestADiscardByAClockAheadEndsInItsTime(t *testing.T) {
	s := frozen(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1) })
	s.join("0", "Ana", "analyst")
	s.join("1", "Bob", "analyst")
	s.quiet()
	s.set(30 * 24 * time.Hour)
	s.quiet()
	for _, id := range []string{"0", "1"} {
		s.say(id, fence.Fact{Kind: schema.KindLeaver, Effective: s.config.Now().Add(-31 * 24 * time.Hour)})
	}
	s.quiet()
	list, err := state.Holds(s.db.Read())
	if err != nil || len(list) != 1 {
		t.Fatalf("holds %v, %v", list, err)
	}
	err = s.db.Tx(t.Context(), func(tx *store.Tx) error {
		h, now := list[0], s.config.Now()
		_, _, err := state.DecideHold(tx, h.ID, h.Digest, state.HoldDiscarded, "ann", "wrong file", 1, now)
		return cmp.Or(err, state.DropHeld(tx, h.ID), DiscardStands(tx, h, 2, now.Add(24*time.Hour), now))
	})
	if err != nil {
		t.Fatal(err)
	}
	s.set(time.Hour)
	s.confirmClock()
	s.clock.Add(int64(23 * time.Hour))
	s.quiet()
	if !s.enabled("0") || !s.enabled("1") || !s.standing(AlarmDiscarded) {
		t.Fatal("want the discard to stand for its time")
	}
	s.clock.Add(int64(2 * time.Hour))
	s.quiet()
	s.clock.Add(int64(31 * time.Minute))
	s.quiet()
	if s.enabled("0") || s.enabled("1") {
		t.Error("want both cut after the time of the discard")
	}
}

// What was extended by a clock that was ahead ends once as much has passed as may be extended.
func TestAnExtensionByAClockAheadIsBounded(t *testing.T) {
	s := frozen(t)
	s.join("1", "Ana", "analyst")
	s.quiet()
	s.hear("1", s.config.Now())
	s.set(300 * 24 * time.Hour)
	err := s.db.Tx(t.Context(), func(tx *store.Tx) error {
		_, err := state.Extend(tx, state.SubjectKey{Issuer: issuer}, s.config.Now().Add(3*24*time.Hour), s.config.Now())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.set(time.Hour)
	s.confirmClock()
	s.quiet()
	s.clock.Add(int64(state.MaxExtension - time.Hour))
	s.quiet()
	if !s.enabled("1") {
		t.Fatal("want access until then")
	}
	s.clock.Add(int64(2 * time.Hour))
	s.quiet()
	if s.enabled("1") {
		t.Error("want the lease over")
	}
}

// A clock that goes back gives nobody back what a date had taken before, which seems to lie ahead again: not by a further
// word, and not to whom the tenant has no account of yet. Once the clock is right and confirmed, all goes on as it says.
func TestAClockThatGoesBackGivesNothingBack(t *testing.T) {
	b := setup(t)
	for s, name := range map[string]string{"1": "Ana", "2": "Bea", "3": "Cle", "4": "Dan"} {
		b.join(s, name, "analyst")
	}
	b.settle()
	now := b.config.Now()
	past := func(ahead time.Duration) time.Time { return now.Add(ahead) }
	b.say("1", fence.Fact{Kind: schema.KindSuspend, Effective: now})
	b.say("2", fence.Fact{Kind: schema.KindLeaver, Effective: now})
	b.join("5", "Eve", "analyst")
	b.say("5", fence.Fact{Kind: schema.KindLeaver, Effective: now})
	b.say("4", fence.Fact{Kind: schema.KindLeaver, Effective: past(time.Hour)}) // ahead, by every clock
	b.settle()
	b.say("3", fence.Fact{Kind: schema.KindLeaver, Effective: b.config.Now()}) // not done yet
	b.join("6", "Fay", "lead")
	b.say("7", fence.Fact{Kind: schema.KindJoiner, Person: person("Gil"), Roles: []string{"analyst"}, Start: b.config.Now()})
	b.settle()
	b.say("6", fence.Fact{Kind: schema.KindMover, Person: person("Fay"), Roles: []string{"analyst"}, Effective: b.config.Now()})
	b.settle()
	b.set(-10 * time.Minute)
	b.say("6", fence.Fact{Kind: schema.KindSuspend, Effective: past(-time.Hour)})
	b.say("6", fence.Fact{Kind: schema.KindResume, Effective: past(-time.Hour)}) // a word that changes nothing
	for _, s := range []string{"1", "2", "4"} {
		b.say(s, fence.Fact{Kind: schema.KindMover, Person: person("New"), Roles: []string{"lead"}, Effective: past(-time.Hour)})
	}
	b.settle()
	for name, want := range map[string]bool{"ana.ng": false, "bea.ng": false, "cle.ng": false, "dan.ng": true} {
		if b.user(name).Enabled != want {
			t.Errorf("%s is enabled: %v", name, !want)
		}
	}
	if v, err := View(b.db.Read(), b.row("7"), b.config.Policy, b.config.Now()); err != nil || !v.Access || !b.user("gil.ng").Enabled {
		t.Errorf("whose engagement had begun: %+v, %v", v, err)
	}
	if v, err := View(b.db.Read(), b.row("1"), b.config.Policy, b.config.Now()); err != nil || v.Why != fence.WhySuspended {
		t.Errorf("who was suspended: %+v, %v", v, err)
	}
	if g := b.user("fay.ng").Groups; !slices.Equal(g, []string{"SOC"}) {
		t.Errorf("roles that a mover took: %v", g)
	}
	if u := b.tenant.Snapshot().User("eve.ng@rehearsal.example"); u != nil {
		t.Errorf("an account was made: %+v", u)
	}
	b.set(0)
	b.confirmClock()
	b.say("1", fence.Fact{Kind: schema.KindResume})
	b.settle()
	if !b.user("ana.ng").Enabled || b.user("bea.ng").Enabled || !b.user("dan.ng").Enabled {
		t.Errorf("afterwards %v, %v, %v", b.user("ana.ng").Enabled, b.user("bea.ng").Enabled, b.user("dan.ng").Enabled)
	}
	b.explained()
}

// A cut that failed by a clock that was ahead is tried again at once when the clock goes back, and not when it
// has come that far again.
func TestACutThatFailedByAClockAheadIsTriedAgain(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.set(5 * 24 * time.Hour)
	b.tenant.AddFaults(tenant.Fault{Name: "away", Method: "^PATCH$", Kind: tenant.Error, Status: 503})
	b.say("1", fence.Fact{Kind: schema.KindLeaver, Effective: b.config.Now().Add(-6 * 24 * time.Hour)})
	b.work(func() bool { return b.row("1").Attempts > 0 })
	b.tenant.RemoveFault("away")
	b.set(0)
	b.settle()
	if b.enabled("1") {
		t.Error("the account is open for as long as the clock was ahead")
	}
}

// A cut that came in by a clock that was ahead, and was not begun by then, happens when the clock goes back, and not when
// it has come that far again. What waits for a date of its own waits on.
func TestACutTakenInByAClockAheadHappens(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.join("2", "Bea", "analyst")
	b.join("3", "Cyd", "lead")
	b.settle()
	date := b.config.Now().Add(3 * 24 * time.Hour)
	b.say("2", fence.Fact{Kind: schema.KindLeaver, Effective: date})
	b.settle()
	b.set(36 * time.Hour)
	b.say("1", fence.Fact{Kind: schema.KindLeaver, Effective: b.config.Now().Add(-48 * time.Hour)})
	b.say("3", fence.Fact{Kind: schema.KindMover, Person: person("Cyd"), Roles: []string{"analyst"}, Effective: b.config.Now().Add(-48 * time.Hour)})
	b.set(0)
	b.work(func() bool { return !b.enabled("1") }) // nobody has confirmed the clock yet
	b.confirmClock()
	b.settle()
	if u := b.user("cyd.ng"); len(u.Groups) != 1 {
		t.Errorf("groups %v", u.Groups)
	}
	if !b.enabled("2") || !b.row("2").Due.Equal(date.Truncate(time.Millisecond)) {
		t.Errorf("enabled %v, due %v; want %v", b.enabled("2"), b.row("2").Due, date)
	}
	b.explained()
}

// A lease that ran out by a clock that somebody had confirmed wrongly goes on when the clock is put right, and runs
// out on its date.
func TestALeaseThatRanOutByAClockAheadGoesOn(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.hear("1", b.config.Now())
	b.settle()
	b.set(9 * 24 * time.Hour)
	b.confirmClock()
	b.work(func() bool { return !b.enabled("1") })
	b.set(0)
	b.confirmClock()
	b.settle()
	if k := known(t, b.row("1")); !b.enabled("1") || b.row("1").Doc.Lapse != nil || k.GivenAt.After(b.config.Now()) || k.TriedAt.After(b.config.Now()) {
		t.Errorf("enabled %v, lapse %v, known %+v", b.enabled("1"), b.row("1").Doc.Lapse, k)
	}
	b.pass(7*24*time.Hour + time.Hour)
	b.work(func() bool { return !b.enabled("1") })
	b.explained()
}

// What was counted against the limits by a clock that was ahead counts for its hour, and not until the clock has come
// that far again.
func TestLimitsAfterAClockAhead(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 1000, 2) })
	for i := range 4 {
		b.join(strconv.Itoa(i), "Ana"+string(rune('a'+i)), "analyst")
	}
	b.settle()
	leave := func(subject string) {
		b.say(subject, fence.Fact{Kind: schema.KindLeaver, Effective: b.config.Now().Add(-time.Minute)})
		b.settle()
	}
	counted := func() int64 {
		n, err := state.Effects(b.db.Read(), classCut, b.config.Now().Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	leave("0")
	b.set(400 * 24 * time.Hour)
	leave("1")
	b.set(0)
	if n := counted(); n != 2 {
		t.Errorf("%d cuts are counted within the hour, want the one before the jump and the one by the clock ahead", n)
	}
	b.clock.Store(int64(2 * time.Hour))
	if n := counted(); n != 0 {
		t.Errorf("%d cuts are still counted two hours later", n)
	}
	leave("2")
	leave("3")
	if b.enabled("2") || b.enabled("3") || len(b.holds()) > 0 {
		t.Errorf("want both cut within the limit, got enabled %v, %v, holds %v", b.enabled("2"), b.enabled("3"), b.holds())
	}
}
