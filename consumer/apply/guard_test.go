package apply

import (
	"fmt"
	"testing"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
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
