package outbox

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

func TestHeartbeats(t *testing.T) {
	b := setup(t)
	m := &midpoint{}
	beat := func() int {
		t.Helper()
		sent, err := b.Heartbeat(ctx, gov1, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return len(sent)
	}
	if beat() != 1 || beat() != 0 {
		t.Error("want one at once and none after it")
	}
	b.clock.pass(time.Hour)
	if beat() != 0 {
		t.Error("one waits already: a mid-point that is away does not pile them up")
	}
	b.drain(t, gov1, m)
	if beat() != 1 {
		t.Error("want one as soon as the waiting one is out")
	}
	// Many cuts rotate: within a few heartbeats each was repeated.
	for i := range 40 {
		b.joins(t, gov1, fmt.Sprint("E", i))
		b.leave(t, gov1, fmt.Sprint("E", i))
	}
	repeated := map[string]bool{}
	for range 8 {
		b.drain(t, gov1, m)
		b.clock.pass(time.Minute)
		if beat() != 1 {
			t.Fatal("no heartbeat")
		}
	}
	b.drain(t, gov1, m)
	for _, s := range b.chainOf(t, gov1, m.messages()) {
		if h, ok := s.Event.(*schema.Heartbeat); ok {
			for _, c := range h.Cuts {
				repeated[c.Subject] = true
			}
		}
	}
	if len(repeated) != 40 {
		t.Errorf("%d of 40 cuts were repeated", len(repeated))
	}
	b.clock.pass(25 * time.Hour)
	beat()
	b.drain(t, gov1, m)
	sets := b.chainOf(t, gov1, m.messages())
	if h := sets[len(sets)-1].Event.(*schema.Heartbeat); h.Total != 0 {
		t.Errorf("a day later %d cuts are left", h.Total)
	}
}

func TestRosterAndPrune(t *testing.T) {
	b := setup(t)
	m := &midpoint{}
	if sent, err := b.Roster(ctx, gov1, 24*time.Hour); err != nil || len(sent) != 0 {
		t.Fatalf("nobody was announced yet: %v %v", sent, err)
	}
	var subjects []string
	for i := range 1000 { // more than one part
		subjects = append(subjects, fmt.Sprintf("E%04d", i))
	}
	b.joins(t, gov1, subjects...)
	b.leave(t, gov1, "E0003")
	b.clock.pass(20 * 24 * time.Hour)
	b.leave(t, gov1, "E0004")
	if _, err := b.Update(ctx, gov1, []string{"E0005"}, b.emit(&schema.Suspend{Effective: schema.At(b.clock.now()), Reason: "leave"})); err != nil {
		t.Fatal(err)
	}
	sent, err := b.Roster(ctx, gov1, 24*time.Hour)
	if err != nil || len(sent) < 2 {
		t.Fatalf("%d parts, %v", len(sent), err)
	}
	if again, err := b.Roster(ctx, gov1, 24*time.Hour); err != nil || len(again) != 0 {
		t.Errorf("a second one on the same day: %v %v", again, err)
	}
	if n, err := b.Prune(ctx, gov1); err != nil || n != 0 {
		t.Errorf("pruned %d before the roster was out, %v", n, err)
	}
	b.drain(t, gov1, m)
	sets := b.chainOf(t, gov1, m.messages())
	var check schema.RosterCheck
	live, closed, whole := map[string]string{}, map[string]bool{}, false
	for _, s := range sets {
		r, ok := s.Event.(*schema.Roster)
		if !ok {
			continue
		}
		if whole, err = check.Add(r); err != nil {
			t.Fatal(err)
		}
		if r.Head.Seq != 1003 {
			t.Errorf("taken at %d", r.Head.Seq)
		}
		for _, l := range r.Live {
			live[l.Subject] = l.State
		}
		for _, c := range r.Closed {
			closed[c.Subject] = true
		}
	}
	if !whole || len(live) != 998 || live["E0005"] != schema.StateSuspended || live["E0006"] != schema.StateActive {
		t.Errorf("whole %v, %d live", whole, len(live))
	}
	if !closed["E0004"] || closed["E0003"] {
		t.Errorf("want those closed within 14 days: %v", closed)
	}
	b.clock.pass(keepSent)
	n, err := b.Prune(ctx, gov1)
	if err != nil || n != 1003 {
		t.Errorf("pruned %d of what the roster covers, %v", n, err)
	}
	var left int
	if err := b.db.Read().QueryRow("SELECT count(*) FROM wire").Scan(&left); err != nil || left != len(sent) {
		t.Errorf("%d left, %v", left, err)
	}
	b.joins(t, gov1, "E9999")
	b.drain(t, gov1, m)
	b.chainOf(t, gov1, m.messages()) // the chain goes on after pruning
}

// A closing whose effective instant is long past is repeated from when it was said.
func TestRosterRepeatsLateNews(t *testing.T) {
	b := setup(t)
	b.joins(t, gov1, "1")
	long := &schema.Leaver{Effective: schema.At(b.clock.now().AddDate(-2, 0, 0)), Reason: "other"}
	if _, err := b.Update(ctx, gov1, []string{"1"}, b.emit(long)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Roster(ctx, gov1, 0); err != nil {
		t.Fatal(err)
	}
	var m midpoint
	b.drain(t, gov1, &m)
	sets := b.chainOf(t, gov1, m.messages())
	if r := sets[len(sets)-1].Event.(*schema.Roster); len(r.Closed) != 1 || r.Closed[0].Effective != long.Effective {
		t.Errorf("%+v", r.Closed)
	}
}

func TestExpire(t *testing.T) {
	b := setup(t)
	end := schema.At(b.clock.now().Add(time.Hour))
	_, err := b.Update(ctx, gov1, []string{"1", "2"}, b.emit(&schema.Joiner{Person: schema.Person{DisplayName: "A"}, Roles: []string{}, Start: schema.At(b.clock.now()), End: &end}))
	if err != nil {
		t.Fatal(err)
	}
	if sent, err := b.Expire(ctx, gov1); err != nil || len(sent) != 0 {
		t.Errorf("early: %v %v", sent, err)
	}
	b.clock.pass(time.Hour)
	sent, err := b.Expire(ctx, gov1)
	if err != nil || len(sent) != 2 || sent[0].Kind != schema.KindLeaver {
		t.Errorf("%v %v", sent, err)
	}
	if sent, err := b.Expire(ctx, gov1); err != nil || len(sent) != 0 {
		t.Errorf("twice: %v %v", sent, err)
	}
}

// After a restore no number of the old generation is given again, and the new one begins with a roster.
func TestRecover(t *testing.T) {
	b := setup(t)
	b.joins(t, gov1, "1", "2", "3")
	m := &midpoint{}
	b.drain(t, gov1, m)
	b.leave(t, gov1, "3") // waits in the outbox when the backup is taken
	var heard []int
	generation, sent, err := b.Recover(ctx, 0, func(g int) []entry.Body { heard = append(heard, g); return nil })
	if err != nil || generation != 2 || !slices.Equal(heard, []int{2}) {
		t.Fatal(generation, heard, err)
	}
	if len(sent) != 2 || sent[0].Generation != 2 || sent[0].Seq != 1 || sent[0].Kind != schema.KindRoster {
		t.Errorf("%+v", sent)
	}
	b.leave(t, gov1, "2")
	if _, err := b.Heartbeat(ctx, gov1, time.Minute); err != nil {
		t.Fatal(err)
	}
	b.drain(t, gov1, m)
	sets := b.chainOf(t, gov1, m.messages())
	if want := []schema.Kind{"joiner", "joiner", "joiner", "roster", "leaver", "heartbeat"}; !slices.Equal(kinds(sets), want) {
		t.Fatalf("want %v, got %v", want, kinds(sets))
	}
	r := sets[3].Event.(*schema.Roster)
	if len(r.Live) != 2 || len(r.Closed) != 1 || r.Closed[0].Subject != "3" || r.Head.Seq != 0 || r.Head.Generation != 2 {
		t.Errorf("the roster says what waited: %+v", r)
	}
	if h := sets[5].Event.(*schema.Heartbeat); len(h.Cuts) != 1 || h.Cuts[0].Subject != "2" {
		t.Errorf("cuts of the old generation have no number in the new one: %+v", h)
	}
	if generation, _, err := b.Recover(ctx, 9, func(int) []entry.Body { return nil }); err != nil || generation != 9 {
		t.Errorf("a database that does not know of earlier recoveries: %d, %v", generation, err)
	}
	if sent := b.joins(t, gov2, "1"); sent[0].Generation != 9 || sent[0].Seq != 2 {
		t.Errorf("every enclave's chain moved on: %+v", sent)
	}
}

// A leaver that waited in an old backup is in the roster that stands for it, however long ago it was said.
func TestRecoverSaysWhatWaitedInAnOldBackup(t *testing.T) {
	b := setup(t)
	b.joins(t, gov1, "1", "2", "3")
	m := &midpoint{}
	b.leave(t, gov1, "2")
	b.drain(t, gov1, m)
	b.leave(t, gov1, "3")
	b.clock.pass(15 * 24 * time.Hour)
	if _, _, err := b.Recover(ctx, 0, func(int) []entry.Body { return nil }); err != nil {
		t.Fatal(err)
	}
	b.drain(t, gov1, m)
	sets := b.chainOf(t, gov1, m.messages())
	if r := sets[len(sets)-1].Event.(*schema.Roster); len(r.Live) != 1 || len(r.Closed) != 1 || r.Closed[0].Subject != "3" {
		t.Errorf("%+v", r)
	}
}

// An enclave that the configuration names no more does not keep the others from going on. Its chain moves on too, and begins
// with a roster where it is named again.
func TestRecoverWithoutAnEnclaveOfBefore(t *testing.T) {
	b := setup(t)
	b.joins(t, gov1, "1")
	b.joins(t, gov2, "1")
	known := b.c.Recipients
	b.c.Recipients = map[string]*seal.Recipient{gov1: known[gov1]}
	generation, sent, err := b.Recover(ctx, 0, func(int) []entry.Body { return nil })
	if err != nil || generation != 2 || len(sent) != 1 || sent[0].Audience != gov1 {
		t.Fatalf("%d, %+v, %v", generation, sent, err)
	}
	b.c.Recipients = known
	if sent, err = b.Roster(ctx, gov2, 24*time.Hour); err != nil || len(sent) != 1 || sent[0].Generation != 2 || sent[0].Seq != 1 {
		t.Errorf("named again: %+v, %v", sent, err)
	}
}

func TestStates(t *testing.T) {
	b := setup(t)
	b.joins(t, gov1, "2", "1")
	b.joins(t, gov2, "3")
	var got []string
	err := b.States(ctx, gov1, func(subject string, s register.State) error {
		got = append(got, subject+" "+string(s.Status))
		return nil
	})
	if err != nil || !slices.Equal(got, []string{"1 active", "2 active"}) {
		t.Errorf("%v %v", got, err)
	}
}

// A leaver that was announced long ahead stays in the rosters until it has taken effect and ClosedFor after that.
func TestRosterKeepsAPlannedLeaver(t *testing.T) {
	b, m := setup(t), &midpoint{}
	b.joins(t, gov1, "E1", "E2")
	effective := schema.At(b.clock.now().AddDate(0, 2, 0))
	if _, err := b.Update(t.Context(), gov1, []string{"E1"}, b.emit(&schema.Leaver{Effective: effective, Reason: "resignation"})); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at           time.Time
		live, stated bool
	}{
		{b.clock.now().AddDate(0, 1, 0), true, false}, // long said, and still to come: live with that end
		{effective.Time().AddDate(0, 0, 13), false, true},
		{effective.Time().AddDate(0, 0, 15), false, false},
	} {
		b.clock.pass(c.at.Sub(b.clock.now()))
		if _, err := b.Roster(t.Context(), gov1, 0); err != nil {
			t.Fatal(err)
		}
		b.drain(t, gov1, m)
		sets := b.chainOf(t, gov1, m.messages())
		r := sets[len(sets)-1].Event.(*schema.Roster)
		closed := r.Closed
		if live := len(r.Live) == 2 && r.Live[0].Subject == "E1" && *r.Live[0].End == effective; live != c.live {
			t.Errorf("at %s: %+v", c.at.Format(time.DateOnly), r.Live)
		}
		if stated := len(closed) == 1 && closed[0] == (schema.ClosedEngagement{Subject: "E1", Engagement: 1, Effective: effective}); stated != c.stated || !stated && len(closed) != 0 {
			t.Errorf("at %s: %+v", c.at.Format(time.DateOnly), closed)
		}
	}
}

// Who leaves, or is suspended, at a date to come counts as live until then, and what was announced is not said again.
func TestDatesAheadComeByThemselves(t *testing.T) {
	b := setup(t)
	b.joins(t, gov1, "1", "2", "3")
	ahead := schema.At(b.clock.now().Add(time.Hour))
	if _, err := b.Update(ctx, gov1, []string{"1"}, b.emit(&schema.Leaver{Effective: ahead, Reason: "other"})); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Update(ctx, gov1, []string{"2"}, b.emit(&schema.Suspend{Effective: ahead, Reason: "other"})); err != nil {
		t.Fatal(err)
	}
	counts := func() [3]int {
		t.Helper()
		all, err := StatusOf(ctx, b.db, b.clock.now())
		if err != nil {
			t.Fatal(err)
		}
		return [3]int{all[0].Active, all[0].Suspended, all[0].Closed}
	}
	if got := counts(); got != [3]int{3, 0, 0} {
		t.Errorf("before: %v", got)
	}
	b.clock.pass(time.Hour)
	if got := counts(); got != [3]int{1, 1, 1} {
		t.Errorf("when they have come: %v", got)
	}
	if sent, err := b.Expire(ctx, gov1); err != nil || len(sent) != 0 {
		t.Errorf("said again: %v %v", sent, err)
	}
	if got := counts(); got != [3]int{1, 1, 1} {
		t.Errorf("and stay: %v", got)
	}
}
