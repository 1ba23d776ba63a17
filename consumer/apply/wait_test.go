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
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// crowd has three people in, of whom the limits let one lose access, or roles, in an hour.
func crowd(t *testing.T) *bridge {
	t.Helper()
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 1); c.Policy.Limits.TakePerHour = 1 })
	for i := range 3 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "lead")
	}
	b.settle()
	return b
}

// saysOf says the same of people, and works until nothing is due.
func (b *bridge) saysOf(f fence.Fact, who ...string) {
	b.t.Helper()
	for _, subject := range who {
		f.Person = person("Ana" + string('a'+subject[0]-'0'))
		b.say(subject, f)
	}
	b.settle()
}

// ends lists when the holds that stand end, in order.
func (b *bridge) ends() (list []time.Time) {
	b.t.Helper()
	open, err := state.Holds(b.db.Read())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, h := range open {
		list = append(list, h.Expires)
	}
	slices.SortFunc(list, time.Time.Compare)
	return list
}

// A cut that is held happens when that was to end at first, whatever is said of the person meanwhile, and however often
// the bridge is started anew (as every settle does): else whoever is spoken of often enough keeps access for ever.
func TestAHeldCutHappensWhenItWasFirstToEnd(t *testing.T) {
	all := []string{"0", "1", "2"}
	leaver, suspend := fence.Fact{Kind: schema.KindLeaver}, fence.Fact{Kind: schema.KindSuspend}
	mover := fence.Fact{Kind: schema.KindMover, Roles: []string{"analyst"}}
	for name, c := range map[string]struct {
		first, then fence.Fact
	}{
		"left again":                {leaver, leaver},
		"left, and moves":           {leaver, mover},
		"suspended, and leaves":     {suspend, leaver},
		"suspended, and moves":      {suspend, mover},
		"suspended, time and again": {suspend, suspend},
	} {
		t.Run(name, func(t *testing.T) {
			b := crowd(t)
			b.saysOf(c.first, all...)
			first := b.ends()
			if len(first) != 1 || first[0].Before(b.now().Add(29*time.Minute)) {
				t.Fatalf("held until %v; want the whole cut_hold", first)
			}
			for range 2 {
				b.pass(10 * time.Minute)
				b.saysOf(c.then, all...)
				for _, end := range b.ends() {
					if !end.Equal(first[0]) {
						t.Errorf("held until %v, and until %v at first", end, first[0])
					}
				}
			}
			for _, i := range all {
				if !b.enabled(i) {
					t.Errorf("person %s was cut before the hold was over", i)
				}
			}
			b.pass(11 * time.Minute)
			b.settle()
			for _, i := range all {
				if b.enabled(i) {
					t.Errorf("person %s keeps access past the end of the hold", i)
				}
			}
			if h := b.holds(); len(h) > 0 {
				t.Errorf("holds %v", h)
			}
			for _, e := range b.entries() {
				if h, ok := e.(*entry.Held); ok && h.Code == AlarmCutLimit && !h.Until.Time.Equal(first[0].Truncate(time.Millisecond)) {
					t.Errorf("the ledger has hold %s until %v; want %v", h.Hold, h.Until, first[0])
				}
			}
			b.explained()
		})
	}
}

// Roles that are lost wait like cuts: once.
func TestHeldTakesHappenWhenTheyWereFirstToEnd(t *testing.T) {
	b := crowd(t)
	all := []string{"0", "1", "2"}
	for range 3 {
		b.saysOf(fence.Fact{Kind: schema.KindMover, Roles: []string{"analyst"}}, all...)
		if !b.standing(AlarmTakeLimit) {
			t.Fatal("want it held")
		}
		b.pass(10*time.Minute + 20*time.Second)
	}
	b.settle()
	if n := b.writes("remove-member"); n != 3 {
		t.Errorf("%d memberships are taken after cut_hold; want all three", n)
	}
	// Everything was taken, so what comes next waits anew.
	b.saysOf(fence.Fact{Kind: schema.KindMover, Roles: []string{"lead"}}, all...)
	b.saysOf(fence.Fact{Kind: schema.KindMover, Roles: []string{"analyst"}}, all...)
	if end := b.ends(); len(end) != 1 || end[0].Before(b.now().Add(29*time.Minute)) {
		t.Errorf("held until %v; want a whole cut_hold", end)
	}
}

// Whoever has access again for a while waits anew when the next cut comes; also where both words come before anything is done.
func TestTheWaitBeginsAfreshOnceAccessIsBack(t *testing.T) {
	for _, worked := range []bool{true, false} {
		t.Run(fmt.Sprint("seen ", worked), func(t *testing.T) {
			b := crowd(t)
			all := []string{"0", "1", "2"}
			b.saysOf(fence.Fact{Kind: schema.KindSuspend}, all...)
			b.pass(20 * time.Minute)
			for _, i := range all {
				b.say(i, fence.Fact{Kind: schema.KindResume})
			}
			if worked {
				b.settle()
			}
			b.saysOf(fence.Fact{Kind: schema.KindLeaver}, all...)
			if end := b.ends(); len(end) != 1 || end[0].Before(b.now().Add(29*time.Minute)) {
				t.Fatalf("held until %v; want a whole cut_hold", end)
			}
			b.pass(15 * time.Minute)
			b.settle()
			for _, i := range all {
				if !b.enabled(i) {
					t.Errorf("person %s was cut by the hold of before", i)
				}
			}
			b.pass(16 * time.Minute)
			b.settle()
			if n := b.disabled(all...); n != 3 {
				t.Errorf("%d are cut when the hold is over", n)
			}
		})
	}
}

// Those who were held before and those who are held now are behind holds of their own, each with its end.
func TestEachHoldHasOneEnd(t *testing.T) {
	b := crowd(t)
	b.saysOf(fence.Fact{Kind: schema.KindLeaver}, "0", "1")
	b.pass(20 * time.Minute)
	b.saysOf(fence.Fact{Kind: schema.KindLeaver}, "1", "2")
	end := b.ends()
	if len(end) != 3 || !end[0].Equal(end[1]) || end[2].Sub(end[0]) < 19*time.Minute {
		t.Fatalf("the holds end at %v; want person 0's and 1's when it was said first, person 2's after a whole cut_hold", end)
	}
	b.pass(11 * time.Minute)
	b.settle()
	if b.enabled("0") || b.enabled("1") || !b.enabled("2") {
		t.Errorf("0 enabled %v, 1 enabled %v, 2 enabled %v", b.enabled("0"), b.enabled("1"), b.enabled("2"))
	}
}

// A word that comes when the wait is over, and before the cut is done, holds nothing again and counts against no limit.
func TestWhoHasWaitedIsNotHeldAgain(t *testing.T) {
	b := crowd(t)
	all := []string{"0", "1", "2"}
	b.saysOf(fence.Fact{Kind: schema.KindLeaver}, all...)
	b.pass(40 * time.Minute) // and the bridge does not run
	b.saysOf(fence.Fact{Kind: schema.KindLeaver}, all...)
	if n := b.disabled(all...); n != 3 {
		t.Errorf("%d are cut; holds %v", n, b.holds())
	}
	if n, err := state.Effects(b.db.Read(), classCut, b.now().Add(-time.Hour)); err != nil || n != 0 {
		t.Errorf("%d count against the limit, %v", n, err)
	}
}

// What an operator released and a newer word puts behind a hold again happens when the first was to end; what operators
// discarded waits anew.
func TestTheWaitAfterAnOperatorsWord(t *testing.T) {
	for _, to := range []state.HoldState{state.HoldReleased, state.HoldDiscarded} {
		t.Run(string(to), func(t *testing.T) {
			b := crowd(t)
			all := []string{"0", "1", "2"}
			b.saysOf(fence.Fact{Kind: schema.KindLeaver}, all...)
			first := b.ends()
			b.pass(10 * time.Minute)
			open, err := state.Holds(b.db.Read())
			if err != nil || len(open) != 1 {
				t.Fatalf("holds %v, %v", open, err)
			}
			h := open[0]
			err = b.db.Tx(t.Context(), func(tx *store.Tx) error {
				if _, _, err := state.DecideHold(tx, h.ID, h.Digest, to, "ann", "asked HR", 1, b.now()); err != nil {
					return err
				}
				if to == state.HoldDiscarded {
					return state.DropHeld(tx, h.ID)
				}
				return state.LetThrough(tx, h.ID, b.now())
			})
			if err != nil {
				t.Fatal(err)
			}
			b.saysOf(fence.Fact{Kind: schema.KindLeaver}, all...)
			end := b.ends()
			if len(end) != 1 || end[0].Equal(first[0]) != (to == state.HoldReleased) {
				t.Errorf("held until %v, and until %v at first", end, first)
			}
		})
	}
}

// A clock that is put back by an hour leaves as much of the wait as there was.
func TestTheWaitOutlastsAClockThatGoesBack(t *testing.T) {
	b := crowd(t)
	b.saysOf(fence.Fact{Kind: schema.KindLeaver}, "0", "1", "2")
	first := b.row("0").By(plan.Disable)
	now := b.now()
	if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return state.BringForward(tx, -time.Hour, now.Add(-time.Hour)) }); err != nil {
		t.Fatal(err)
	}
	if s := b.row("0"); !s.By(plan.Disable).Equal(first.Add(-time.Hour)) || !s.Due.Equal(s.By(plan.Disable)) {
		t.Errorf("held until %v, at most until %v; want both an hour before %v", s.Due, s.By(plan.Disable), first)
	}
}
