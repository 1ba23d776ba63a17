package apply

import (
	"testing"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/e2e/sandbox/tenant"
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
