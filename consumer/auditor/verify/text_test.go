package verify

import (
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/ledger/entry"
)

// Every act of an operator is counted, whichever kind of entry has it, and one command once.
func TestOperatorsActsAreCounted(t *testing.T) {
	w := newWorld(t).begin()
	w.joins("E1")
	w.hears("E1", w.leaver(1))
	w.holds("1", w.now.Add(30*time.Minute))
	w.add(&entry.Operator{By: "ann", Action: "hold-discard", Target: "1", Reason: "wrong file"})
	w.add(&entry.Released{Hold: "1", Action: entry.ReleasedDiscard, By: []string{"ann", "bob"}, Reason: "wrong file"})
	for _, at := range []time.Time{w.now, w.now, w.now.Add(time.Minute)} { // of two persons, and of one later
		w.now = at
		w.add(&entry.Lease{Action: entry.LeaseExtended, Issuer: issuer, Subject: "E1", Until: entry.MomentAt(at.Add(time.Hour)), By: "ann", Reason: "INC-1"})
	}
	w.add(&entry.Clock{Action: entry.ClockConfirmed, Against: entry.AgainstLedger, By: "bob", Reason: "looked"})
	w.add(&entry.Clock{Action: entry.ClockJumped, Against: entry.AgainstLedger})
	w.publish()
	r := w.verify(w.options())
	if r.Acts != 5 {
		t.Errorf("%d acts, want 5", r.Acts)
	}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil || !strings.Contains(b.String(), "operators' acts 5 (1 of them ended holds) and changes of trust 1\n") || !strings.Contains(b.String(), "hold 1 (cut-limit, 1 persons) discard by ann and bob: wrong file") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// A stream that was followed from a place on, and closed before anything came, has no range.
func TestTextOfAStreamOfNothing(t *testing.T) {
	for want, s := range map[string]Stream{
		"none from 91 on, closed; 0 messages": {First: 91, Head: 90, Closed: true},
		"91 to 91, whole; 1 messages":         {First: 91, Head: 91, Messages: 1},
	} {
		var b strings.Builder
		if err := (&Report{Streams: []Stream{s}}).WriteText(&b); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("want %q, got %v:\n%s", want, err, b.String())
		}
	}
}
