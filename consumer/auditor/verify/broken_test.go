package verify

import (
	"testing"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// Ledgers of an enclave that keeps to every form and does not do what it says.
func TestBrokenPromises(t *testing.T) {
	gone := []schema.ClosedEngagement{{Subject: "E1", Engagement: 1, Effective: schema.At(noon)}}
	recorded := func(w *world) *entry.Received { return w.entries[len(w.entries)-1].Body.(*entry.Received) }
	for _, tc := range []struct {
		name string
		make func(w *world)
		want []string
	}{
		{"a roster that its entry does not call one", func(w *world) {
			w.joins("E1")
			w.take(w.rosters(nil, gone)[0], entry.DispositionAdmitted, "")
			recorded(w).Roster = nil
			w.wait(3 * time.Hour)
			w.joins("E2")
		}, []string{"entry-differs", "roster-unapplied"}},
		{"a roster that its entry says is longer", func(w *world) {
			w.joins("E1")
			w.take(w.rosters(nil, gone)[0], entry.DispositionAdmitted, "")
			recorded(w).Roster.Parts = 2
			w.wait(3 * time.Hour)
			w.joins("E2")
		}, []string{"entry-differs", "roster-unapplied"}},
		{"a heartbeat of which the entry says that it repeats no cut", func(w *world) {
			w.joins("E1")
			w.take(w.say("", &schema.Heartbeat{Cuts: []schema.CutNotice{}}), entry.DispositionAdmitted, "")
			n := 3
			recorded(w).Cuts = &n
		}, []string{"entry-differs"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t).begin()
			tc.make(w)
			r, err := Run(t.Context(), w.publish().options())
			if err != nil {
				t.Fatal(err)
			}
			wants(t, r, tc.want...)
		})
	}
}
