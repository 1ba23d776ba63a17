package apply

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func (b *bridge) row(subject string) *state.Subject {
	b.t.Helper()
	s, err := state.LoadSubject(b.db.Read(), state.SubjectKey{Issuer: issuer, Subject: subject})
	if err != nil || s == nil {
		b.t.Fatalf("subject %s: %v", subject, err)
	}
	return s
}

// silence makes the issuer one of which a heartbeat is expected and none ever came.
func (b *bridge) silence() { b.trustKey(issuer, schema.KindHeartbeat) }

// Of a stream that was only now let be followed no heartbeat can have come: nothing is given, and the alarm waits as long as
// a silence would.
func TestWhoWasOnlyNowTrustedIsNotSilentYet(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.StaleAfter = 5 * time.Minute })
	s := b.stepper()
	look := func() {
		t.Helper()
		if _, err := s.engine.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look()
	b.clock.Add(int64(time.Hour)) // the program runs for long
	const partner = "https://hr.partner.example/jml"
	b.trustKey(partner, schema.KindHeartbeat)
	look()
	if b.alarmed(AlarmStale, partner) {
		t.Error("called silent at once")
	}
	b.clock.Add(int64(6 * time.Minute))
	look()
	if !b.alarmed(AlarmStale, partner) {
		t.Error("silent for longer than allowed, and no alarm")
	}
}

// A leaver stated for a date happens on it, whatever else waits for the person by then: something given
// that is held, that was discarded, or that waits for a heartbeat.
func TestLeaverOnItsDateWhateverWaits(t *testing.T) {
	for _, waits := range []string{"held", "discarded", "stale"} {
		t.Run(waits, func(t *testing.T) {
			b := setup(t, func(_ *tenant.Config, c *Config) {
				if waits != "stale" {
					c.Policy = testPolicy(t, 1, 100)
				}
			})
			now := b.config.Now()
			b.join("1", "Ana", "analyst")
			b.settle()
			b.say("1", fence.Fact{Kind: schema.KindLeaver, Effective: now.Add(24 * time.Hour)})
			b.settle()
			if waits == "stale" {
				b.silence()
			}
			b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"lead"}})
			b.work(func() bool {
				row := b.row("1")
				return row.Lane == plan.Give && (waits == "stale" || row.Held())
			})
			if waits == "discarded" {
				holds, err := state.Holds(b.db.Read())
				if err != nil || len(holds) != 1 {
					t.Fatalf("holds %v, %v", holds, err)
				}
				if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return state.DropHeld(tx, holds[0].ID) }); err != nil {
					t.Fatal(err)
				}
			}
			if !b.user("ana.ng").Enabled {
				t.Fatal("disabled before the date")
			}
			b.clock.Store(int64(25 * time.Hour))
			b.work(func() bool { return !b.user("ana.ng").Enabled })
		})
	}
}

// An issuer that was silent for long before it was trusted gives nothing, however lately somebody looked whose
// issuers are silent.
func TestAnIssuerThatIsTrustedNowAndWasSilent(t *testing.T) {
	const other = "https://hr.partner.example/jml"
	b := setup(t)
	now := time.Now()
	b.config.Now = func() time.Time { return now }
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.trustKey(other, schema.ProducerKinds...)
	err = b.db.Tx(t.Context(), func(tx *store.Tx) error {
		s := &state.Subject{SubjectKey: state.SubjectKey{Issuer: other, Subject: "1"}, FactAt: now}
		s.Doc, _ = fence.Accept(s.Doc, fence.Fact{Position: fence.Position{Engagement: 1, Generation: 1, Seq: 1}, Sequenced: true, Kind: schema.KindJoiner, Person: person("Ana"), Roles: []string{"analyst"}})
		s.Raise(plan.Give, now, false)
		return state.SaveFacts(tx, s)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := b.writes("create"); n != 0 {
		t.Errorf("%d accounts on the word of an issuer of which no heartbeat came", n)
	}
}

// An alarm that stood when the program ended does not outlast the next heartbeat, also where that comes sooner after the start
// than a silence would be an alarm.
func TestTheAlarmOfASilenceBeforeAStart(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.StaleAfter = 5 * time.Minute })
	b.trustKey(issuer, schema.ProducerKinds...)
	now := b.config.Now()
	b.config.Now = func() time.Time { return now }
	beats := func() {
		t.Helper()
		list, err := state.Streams(b.db.Read())
		if err == nil {
			list[0].HeartbeatIAT, list[0].HeartbeatAt = now, now
			err = b.db.Tx(t.Context(), func(tx *store.Tx) error { return state.SaveStream(tx, list[0]) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	steps := func(e *Engine, after time.Duration, want bool) {
		t.Helper()
		now = now.Add(after)
		if _, err := e.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, err := state.Alarms(b.db.Read())
		stands := slices.ContainsFunc(list, func(a state.Alarm) bool { return a.Code == AlarmStale })
		if err != nil || stands != want {
			t.Fatalf("want the alarm: %v, got %+v, %v", want, list, err)
		}
	}
	start := func() *Engine {
		t.Helper()
		e, err := New(b.config)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	beats()
	e := start()
	steps(e, 0, false)
	steps(e, 6*time.Minute, true)
	e = start()
	steps(e, time.Second, true)
	beats()
	steps(e, 2*guardEvery, false)
}

// A look that fails is no effect, and neither is it a way past the limit.
func TestFailedLooksDoNotPassTheLimit(t *testing.T) {
	const limit, joiners = 3, 9
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, limit, 100) })
	b.tenant.AddFaults(tenant.Fault{Name: "away", Method: "^GET$", Path: "/users", Kind: tenant.Error, Status: 503, Count: joiners})
	for i := range joiners {
		id := fmt.Sprint(i)
		b.join(id, fmt.Sprintf("Ana%c", 'a'+i), "analyst")
		b.work(func() bool {
			row := b.row(id)
			return row.Attempts > 0 || row.Held() || row.Lane == plan.Idle
		})
	}
	b.settle()
	if n := b.writes("create"); n > limit { // fewer where several were judged together: they are held whole
		t.Errorf("%d accounts in an hour, want at most %d: that is the limit", n, limit)
	}
}

// Whoever was listed while somebody else still worked on the same person, and was put off by that work, is not counted as
// long as the wait lasts: who came meanwhile has the room.
func TestWhatWentOnSinceItWasListedIsListedAnew(t *testing.T) {
	b := setup(t)
	b.tenant.AddFaults(tenant.Fault{Name: "away", Method: "^GET$", Path: "/users", Kind: tenant.Error, Status: 503, Count: 1})
	b.join("0", "Ana", "analyst")
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	listed := b.row("0")
	work := func() {
		t.Helper()
		if !e.take(listed) {
			t.Fatal("the person is claimed already")
		}
		e.alone = true
		fatal := make(chan error, 1)
		e.start(t.Context(), listed, b.now(), false, fatal)
		select {
		case err := <-fatal:
			t.Fatal(err)
		default:
		}
	}
	work()
	if got := b.row("0").Attempts; got != 1 {
		t.Fatalf("%d attempts failed, want 1", got)
	}
	b.clock.Add(int64(time.Hour))
	work()
	if n := b.writes("create"); n != 0 {
		t.Errorf("%d accounts were made by a list from before the wait, want none", n)
	}
	b.settle()
	if n := b.writes("create"); n != 1 {
		t.Errorf("%d accounts in the end, want 1", n)
	}
}

// Whoever is held while the look at them is under way is not given anything by it: the limit has counted others since.
func TestWhatIsHeldDuringItsLookIsNotGiven(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 1, 100) })
	b.tenant.AddFaults(tenant.Fault{Name: "look", Method: "^GET$", Path: "/users", Kind: tenant.Delay, Gate: "look", Count: 1})
	b.join("0", "Ana", "analyst")
	joined := 1
	b.work(func() bool {
		switch joined {
		case 1:
			if err := b.tenant.WaitHeld(t.Context(), "look", 1); err != nil {
				t.Fatal(err)
			}
			b.join("1", "Bo", "analyst")
			b.join("2", "Cy", "analyst")
			b.engine.Wake()
			joined = 3
		case 3:
			if b.row("0").Held() && b.row("1").Held() && b.row("2").Held() {
				b.join("3", "Di", "analyst")
				b.engine.Wake()
				joined = 4
			}
		case 4:
			if b.writes("create") > 0 { // of the last: there was room for one
				b.tenant.Release("look")
				joined = 5
			}
		case 5:
			b.engine.mu.Lock()
			defer b.engine.mu.Unlock()
			return len(b.engine.busy) == 0
		}
		return false
	})
	b.settle()
	if n := b.writes("create"); n != 1 || !b.row("0").Held() {
		t.Errorf("%d accounts in an hour, the first person held: %v; want one, and held", n, b.row("0").Held())
	}
	b.explained()
}
