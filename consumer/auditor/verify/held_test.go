package verify

import (
	"fmt"
	"testing"
	"time"

	"jmlbridge/internal/ledger/entry"
)

// holds records that the limit of cuts keeps E1's cut waiting until a time.
func (w *world) holds(id string, until time.Time) {
	w.add(&entry.Held{Hold: id, Code: "cut-limit", Count: 1, Part: 1, Parts: 1, Subjects: []entry.Who{{Issuer: issuer, Subject: "E1"}}, Until: entry.MomentAt(until)})
}

func (w *world) releases(id, action string) { w.add(&entry.Released{Hold: id, Action: action}) }

// starts is a further start of the enclave.
func (w *world) starts() {
	w.add(&entry.Started{Program: entry.ProgramConsumer, Version: "v1", Go: "go", Mode: "run", Policy: &policyA, Ledger: "L1", Enclave: enclave, Instance: "i3"})
}

// runs lets time pass in which something is written every minute, as an enclave does that hears heartbeats.
func (w *world) runs(minutes int) {
	w.t.Helper()
	for i := range minutes {
		w.wait(time.Minute)
		w.hears(fmt.Sprintf("B%d-%d", len(w.entries), i), w.joiner(1))
	}
}

// A cut that a limit holds is owed when it was first to happen: newer words about the person put it off no further.
func TestAHeldCutIsOwedAtItsFirstEnd(t *testing.T) {
	const hold = 30 * time.Minute
	cuts := func(w *world, seq uint64) {
		w.does("E1", "left", seq, "disable")
		w.does("E1", "left", seq, "revoke-sessions")
	}
	for _, tc := range []struct {
		name string
		make func(w *world)
		want []string
	}{
		{"done when it was first to be", func(w *world) {
			seq := w.hears("E1", w.leaver(1))
			end := w.now.Add(hold)
			w.holds("1", end)
			w.runs(10)
			w.hears("E1", w.mover(1))
			w.holds("2", end)
			w.releases("1", entry.ReleasedResolved)
			w.runs(20)
			w.wait(end.Sub(w.now))
			w.releases("2", entry.ReleasedExpired)
			cuts(w, seq)
			w.runs(60)
		}, nil},
		{"put off by a newer word", func(w *world) {
			seq := w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.runs(10)
			w.hears("E1", w.mover(1))
			w.holds("2", w.now.Add(hold))
			w.releases("1", entry.ReleasedResolved)
			w.runs(31)
			w.releases("2", entry.ReleasedExpired)
			cuts(w, seq)
		}, []string{"hold-extended"}},
		{"put off by the same leaver again, and not done", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.runs(10)
			w.hears("E1", w.leaver(1))
			w.holds("2", w.now.Add(hold))
			w.runs(29)
		}, []string{"hold-extended", "cut-missing"}},
		{"ended late", func(w *world) {
			seq := w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.runs(40)
			w.releases("1", entry.ReleasedExpired)
			cuts(w, seq)
		}, []string{"hold-extended"}},
		{"done late, under the hold", func(w *world) {
			seq := w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.runs(40)
			cuts(w, seq)
		}, []string{"hold-extended"}},
		{"not done by the end that it names", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.runs(40)
		}, []string{"cut-missing"}},
		{"held anew after access was back", func(w *world) {
			w.hears("E1", w.suspend(1))
			w.holds("1", w.now.Add(hold))
			w.runs(20)
			w.hears("E1", w.resume(1))
			seq := w.hears("E1", w.leaver(1))
			w.holds("2", w.now.Add(hold))
			w.releases("1", entry.ReleasedResolved)
			w.runs(29)
			w.wait(time.Minute)
			w.releases("2", entry.ReleasedExpired)
			cuts(w, seq)
			w.runs(10)
		}, nil},
		{"held anew after operators discarded it", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.add(&entry.Released{Hold: "1", Action: entry.ReleasedDiscard, By: []string{"a", "b"}})
			w.runs(60)
			seq := w.hears("E1", w.leaver(1))
			w.holds("2", w.now.Add(hold))
			w.runs(30)
			w.releases("2", entry.ReleasedExpired)
			cuts(w, seq)
		}, nil},
		{"discarded by one operator", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.add(&entry.Released{Hold: "1", Action: entry.ReleasedDiscard, By: []string{"a", "a"}})
			w.runs(60)
		}, []string{"discard-alone", "cut-missing"}},
		{"discarded, and never done after all", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.add(&entry.Released{Hold: "1", Action: entry.ReleasedDiscard, By: []string{"a", "b"}})
			w.wait(8 * 24 * time.Hour)
			w.joins("E3")
		}, []string{"cut-missing"}},
		{"the enclave was down when it was to end", func(w *world) {
			seq := w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.wait(2 * time.Hour)
			w.starts()
			w.releases("1", entry.ReleasedExpired)
			cuts(w, seq)
		}, nil},
		{"held still, and the enclave starts once more", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.runs(120)
			w.starts()
			w.runs(2)
		}, []string{"cut-missing"}},
		{"held still, and the enclave does nothing but start", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			for range 60 {
				w.wait(4 * time.Minute)
				w.starts()
			}
		}, []string{"cut-missing"}},
		{"the machine slept when it was to end", func(w *world) {
			seq := w.hears("E1", w.leaver(1))
			w.holds("1", w.now.Add(hold))
			w.wait(2 * time.Hour)
			w.joins("E3")
			w.releases("1", entry.ReleasedExpired)
			cuts(w, seq)
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).begin()
			w.joins("E1")
			tc.make(w)
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}
