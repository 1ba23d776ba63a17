package apply

import (
	"context"
	"errors"
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// A cut is owed until it is done. Who comes back, at a start ahead, does not make it undone: whether a leaver said that the
// engagement before is over, or the new one does, and though the clock be in doubt, in which an open account is else the
// witness that the engagement has begun.
func TestACutIsOwedThoughTheNextEngagementIsAhead(t *testing.T) {
	for _, clock := range []string{"sure", "in doubt"} {
		for _, said := range []string{"leaver", "nothing"} {
			t.Run(clock+", "+said, func(t *testing.T) {
				b := setup(t)
				b.join("1", "Ana", "analyst")
				b.settle()
				b.tenant.AddFaults(tenant.Fault{Name: "away", Kind: tenant.Error, Status: 503})
				if clock == "in doubt" {
					b.set(time.Hour)
				}
				if said == "leaver" {
					b.say("1", fence.Fact{Kind: schema.KindLeaver})
					b.work(func() bool { return b.row("1").Attempts > 0 })
				}
				b.say("1", fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"analyst"}, Start: b.config.Now().Add(7 * 24 * time.Hour)})
				b.work(func() bool { return b.row("1").Attempts > 0 })
				b.tenant.RemoveFault("away")
				b.work(func() bool { return !b.enabled("1") && b.user("ana.ng").SessionsRevoked })
				b.clock.Add(int64(8 * 24 * time.Hour))
				b.work(func() bool { return b.enabled("1") })
				b.explained()
			})
		}
	}
}

// Where the clock goes back below the start of the present engagement, its open account stays open, though an engagement
// before it was ended.
func TestTheNextEngagementOutlivesAClockThatGoesBack(t *testing.T) {
	for _, cut := range []string{"was cut", "went on"} {
		t.Run(cut, func(t *testing.T) {
			b := setup(t)
			b.join("1", "Ana", "analyst")
			b.settle()
			start := b.config.Now().Add(time.Hour)
			if cut == "was cut" {
				b.say("1", fence.Fact{Kind: schema.KindLeaver})
				b.settle()
			}
			b.set(2 * time.Hour)
			b.say("1", fence.Fact{Kind: schema.KindJoiner, Position: fence.Position{Engagement: 2}, Person: person("Ana"), Roles: []string{"analyst"}, Start: start})
			b.settle()
			b.set(0)
			b.settle()
			b.say("1", fence.Fact{Kind: schema.KindMover, Position: fence.Position{Engagement: 2}, Person: person("Anna"), Roles: []string{"analyst"}, Start: start, Effective: b.config.Now().Add(-time.Minute)})
			b.settle()
			if !b.enabled("1") {
				t.Error("disabled by a clock in doubt")
			}
			b.explained()
		})
	}
}

// A cut is tried at once when it is new, an operator's or any other: neither how often an earlier one of the same person
// failed, nor an answer that hangs for it, or for something that is given, keeps it waiting. The clock stands still, or as
// long as an answer may take at most.
func TestANewCutDoesNotWaitForWhatFailed(t *testing.T) {
	lock := func(b *bridge) {
		err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
			return state.Lock(tx, state.SubjectKey{Issuer: issuer, Subject: "1"}, &fence.Lock{By: "ann", Reason: "x", At: b.config.Now()}, plan.Disable, b.config.Now())
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	leave := func(b *bridge) { b.say("1", fence.Fact{Kind: schema.KindLeaver, Effective: b.config.Now()}) }
	for _, cut := range []struct {
		name string
		say  func(*bridge)
	}{{"by hand", lock}, {"by a leaver", leave}} {
		frozen := func(t *testing.T) *bridge {
			now := time.Now()
			b := setup(t, func(_ *tenant.Config, c *Config) {
				c.Jitter = func(most time.Duration) time.Duration { return most - 1 }
			})
			b.config.Now = func() time.Time { return now.Add(time.Duration(b.clock.Load())) }
			b.join("1", "Ana", "analyst")
			b.settle()
			return b
		}
		t.Run(cut.name+", after failures", func(t *testing.T) {
			b := frozen(t)
			b.tenant.AddFaults(tenant.Fault{Name: "away", Path: "/users", Kind: tenant.Error, Status: 503})
			b.say("1", fence.Fact{Kind: schema.KindSuspend, Effective: b.config.Now()})
			s := b.stepper()
			for b.row("1").Attempts < 8 {
				if _, err := s.engine.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
				b.clock.Add(int64(b.row("1").Due.Sub(b.config.Now())))
			}
			if _, err := s.engine.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.tenant.RemoveFault("away")
			if wait := b.row("1").Due.Sub(b.config.Now()); wait < longestCut {
				t.Fatalf("its own repeat waits %v, want the longest", wait)
			}
			cut.say(b)
			if _, err := s.engine.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			if b.enabled("1") {
				t.Error("a new cut waits for the turn of an earlier one")
			}
		})
		for _, hangs := range []string{"a suspension", "a move"} {
			t.Run(cut.name+", while "+hangs+" hangs", func(t *testing.T) {
				b := frozen(t)
				if hangs == "a move" {
					b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"lead"}, Effective: b.config.Now()})
				} else {
					b.say("1", fence.Fact{Kind: schema.KindSuspend, Effective: b.config.Now()})
				}
				b.firstCut = operationTime // of the attempt that hangs
				b.tenant.AddFaults(tenant.Fault{Name: "hang", Method: "^(PATCH|POST)$", Kind: tenant.Delay, Gate: "hang", Count: 1})
				var hung context.Context
				b.work(func() bool {
					if hung == nil {
						b.tenant.WaitHeld(t.Context(), "hang", 1)
						b.engine.mu.Lock()
						hung = b.engine.busy[state.SubjectKey{Issuer: issuer, Subject: "1"}].hung
						b.engine.mu.Unlock()
						b.clock.Add(int64(operationTime))
						cut.say(b)
						b.engine.Wake()
					}
					return !b.enabled("1") && b.user("ana.ng").SessionsRevoked
				})
				if !errors.Is(context.Cause(hung), errOvertaken) {
					t.Error("the cut waited for the answer that hangs")
				}
				b.tenant.Release("hang")
				b.settle()
				b.explained()
			})
		}
	}
}
