package verify

import (
	"slices"
	"testing"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// A cut is owed until it is done, or until access comes back: a next engagement does that on its start, and not before.
func TestACutIsOwedThoughTheNextEngagementIsAhead(t *testing.T) {
	const late, day = 20 * time.Minute, 24 * time.Hour
	joins := func(w *world, in time.Duration) *schema.Joiner {
		j := w.joiner(2)
		j.Start = schema.At(w.now.Add(in))
		return j
	}
	for _, tc := range []struct {
		name string
		make func(w *world)
		want []string
	}{
		{"never done", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.hears("E1", joins(w, day))
			w.wait(late)
			w.joins("E9")
		}, []string{"cut-missing"}},
		{"never done, and it has begun", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.hears("E1", joins(w, day))
			w.wait(2 * day)
			w.joins("E9")
		}, []string{"cut-missing"}},
		{"never done, said after the next one", func(w *world) {
			w.hears("E1", joins(w, day))
			w.hears("E1", w.leaver(1))
			w.wait(late)
			w.joins("E9")
		}, []string{"cut-missing"}},
		{"never done, and the start is put off", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.hears("E1", joins(w, time.Minute))
			m := w.mover(2)
			m.Start = schema.At(w.now.Add(2 * day))
			w.hears("E1", m)
			w.wait(day)
			w.joins("E9")
		}, []string{"cut-missing"}},
		{"an end that had passed", func(w *world) {
			m := w.mover(1)
			end := schema.At(w.now.Add(time.Second))
			m.End = &end
			w.hears("E1", m)
			w.wait(time.Minute)
			w.hears("E1", joins(w, day))
			w.wait(late)
			w.joins("E9")
		}, []string{"cut-missing"}},
		{"a suspension", func(w *world) {
			w.hears("E1", w.suspend(1))
			w.hears("E1", joins(w, day))
			w.wait(late)
			w.joins("E9")
		}, []string{"cut-missing"}},
		{"a suspension that was said after the next one", func(w *world) {
			w.hears("E1", joins(w, time.Minute))
			w.hears("E1", w.suspend(1))
			w.wait(day)
			w.joins("E9")
		}, nil},
		{"a lease that ran out", func(w *world) {
			w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E1", Engagement: 1})
			w.hears("E1", joins(w, day))
			w.wait(late)
			w.joins("E9")
		}, []string{"cut-missing"}},
		{"a lease that ran out, and it begins within the grace", func(w *world) {
			w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E1", Engagement: 1})
			w.hears("E1", joins(w, time.Minute))
			w.wait(day)
			w.joins("E9")
		}, nil},
		{"by a roster", func(w *world) {
			w.hears("E1", w.leaver(1))
			l := w.lives("E1", 2)
			l.Start = schema.At(w.now.Add(day))
			w.lists("ffff", "", l)
			w.wait(late)
			w.joins("E9")
		}, []string{"cut-missing"}},
		{"done by the word on the next one", func(w *world) {
			w.hears("E1", w.leaver(1))
			seq := w.hears("E1", joins(w, day))
			w.wait(time.Minute)
			w.does("E1", "not-started", seq, "disable", "revoke-sessions")
			w.wait(2 * day)
			w.does("E1", "active", seq, "enable")
		}, nil},
		{"it begins within the grace", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.hears("E1", joins(w, time.Minute))
			w.wait(day)
			w.joins("E9")
		}, nil},
		{"held until it has begun", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.hears("E1", joins(w, time.Hour))
			w.heldFor(2 * time.Hour)
			w.wait(day)
			w.joins("E9")
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).begin()
			w.joins("E1")
			w.wait(time.Minute)
			tc.make(w)
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

// Leases that ran out are over for everybody whom an operator extends, also where all are extended at once; another issuer's
// are not.
func TestLeasesThatAreExtendedForAll(t *testing.T) {
	for _, tc := range []struct {
		issuer string
		want   []string
	}{{issuer, nil}, {"https://hr.partner.example/jml", []string{"give-after-cut"}}} {
		w := newWorld(t).begin()
		seq := w.joins("E1")
		i := w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E1", Engagement: 1})
		w.byLease("E1", i)
		w.wait(time.Hour)
		w.add(&entry.Lease{Action: entry.LeaseExtended, Issuer: tc.issuer, Until: entry.MomentAt(w.now.Add(72 * time.Hour)), By: "ann", Count: 1})
		w.does("E1", "active", seq, "enable")
		w.publish()
		wants(t, w.verify(w.options()), tc.want...)
	}
}

// byLease cuts a person by a lease that ran out.
func (w *world) byLease(subject string, expired int64) {
	w.t.Helper()
	for _, op := range []string{"disable", "revoke-sessions"} {
		in := &entry.Intent{Who: entry.Who{Issuer: issuer, Subject: subject, Engagement: 1}, Policy: policyA, Cause: entry.Cause{Type: entry.CauseLease, Code: "lease", Entry: &expired},
			Ops: []entry.Op{{N: 1, Op: op, Class: entry.ClassTake}}}
		w.answers(subject, w.add(in), entry.ResultApplied)
	}
}

// What had taken access by the clock before it went back stands until somebody confirms it: what is taken for it is right, and
// what is given back is not.
func TestTheClockGoesBack(t *testing.T) {
	back := func(w *world) {
		was := w.now
		w.wait(-10 * time.Minute)
		w.add(&entry.Clock{Action: entry.ClockJumped, Against: entry.AgainstMonotonic, Expected: entry.MomentAt(was), Found: entry.MomentAt(w.now), Offset: -600_000})
	}
	for _, tc := range []struct {
		name string
		make func(w *world)
		want []string
	}{
		{"a cut that had come is done", func(w *world) {
			seq := w.hears("E1", w.leaver(1))
			back(w)
			w.does("E1", "left", seq, "disable")
			w.does("E1", "left", seq, "revoke-sessions")
		}, nil},
		{"a cut is undone", func(w *world) {
			seq := w.hears("E1", w.suspend(1))
			w.does("E1", "suspended", seq, "disable")
			w.does("E1", "suspended", seq, "revoke-sessions")
			back(w)
			moved := w.mover(1, "lead")
			moved.Effective = schema.At(w.now.Add(-time.Minute))
			w.does("E1", "active", w.hears("E1", moved), "enable")
		}, []string{"give-after-cut"}},
		{"an engagement that had begun", func(w *world) {
			began := w.joiner(1, "analyst")
			began.Start = schema.At(w.now.Add(-time.Minute))
			seq := w.hears("E2", began)
			w.does("E2", "active", seq, "create")
			back(w)
			w.does("E2", "active", seq, "update")
		}, nil},
		{"the clock was wrong before, as an operator says", func(w *world) {
			seq := w.hears("E1", w.suspend(1))
			w.does("E1", "suspended", seq, "disable")
			w.does("E1", "suspended", seq, "revoke-sessions")
			back(w)
			w.add(&entry.Clock{Action: entry.ClockConfirmed, Against: entry.AgainstLedger, Found: entry.MomentAt(w.now), By: "op"})
			moved := w.mover(1, "lead")
			moved.Effective = schema.At(w.now.Add(-time.Minute))
			w.does("E1", "active", w.hears("E1", moved), "enable")
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t).begin()
			w.joins("E1")
			w.wait(time.Hour)
			tc.make(w)
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

// The end that an engagement stated is not waited for once a leaver ended it before.
func TestALeaverOvertakesTheStatedEnd(t *testing.T) {
	w := newWorld(t).begin()
	j := w.joiner(1)
	end := schema.At(w.now.Add(1000 * time.Hour))
	j.End = &end
	w.does("E1", "active", w.hears("E1", j), "create")
	w.wait(time.Hour)
	w.leaves("E1")
	r := w.publish().verify(w.options())
	var states []string
	for _, c := range r.Cuts {
		states = append(states, c.Kind+" "+string(c.State))
	}
	if want := []string{"end overtaken", "leaver done"}; !slices.Equal(states, want) || len(r.Findings) > 0 {
		t.Errorf("cuts %q, findings %v; want %q and none", states, r.Findings, want)
	}
}
