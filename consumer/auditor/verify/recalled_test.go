package verify

import (
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// follows is what recover leaves of a ledger whose database was lost: what it recalls, and what it saw in the tenant.
func (w *world) follows(recalled func()) *world {
	w.add(&entry.Started{Program: entry.ProgramConsumer, Version: "v1.0.0", Go: "go1.26", Mode: "recover", Ledger: "L2", Enclave: enclave, Instance: "i1",
		Previous: &entry.Previous{Ledger: "jmlbridge.internal/test/before", Size: 4711, Root: schema.DigestOf([]byte("root"))}})
	w.trusts(w.signer.KID(), 1)
	recalled()
	w.add(&entry.Operator{By: "op", Action: "recover", Target: "jmlbridge.internal/test/before"})
	w.add(&entry.Started{Program: entry.ProgramConsumer, Version: "v1.0.0", Go: "go1.26", Mode: "run", Policy: &policyA, Ledger: "L2", Enclave: enclave, Instance: "i2"})
	return w
}

func (w *world) recalls(subject, target string, effective time.Time) {
	w.add(&entry.Operator{By: "op", Action: "recall", Issuer: issuer, Subject: subject, Engagement: 1, Target: target, Effective: entry.InstantAt(effective)})
}

func (w *world) survey(foreign int64) {
	s := &entry.Survey{Digest: schema.DigestOf([]byte("survey")), Count: 3, Started: entry.At(w.now), Finished: entry.At(w.now)}
	if foreign > 0 {
		s.Counts = []entry.Count{{Name: entry.SurveyForeign, Count: foreign}}
	}
	w.add(&entry.Observed{Survey: s})
}

func (w *world) seen(subject, state string) {
	w.add(&entry.Observed{Account: &entry.Account{Who: entry.Who{Issuer: issuer, Subject: subject}, Account: "a-" + subject, State: state, Code: entry.CodeSeen}})
}

// A ledger that follows a lost one answers for those who had left before, and for those whose accounts were made before;
// where it cannot, it says so, and never that there was no account.
func TestCutsOfBeforeThisLedger(t *testing.T) {
	left := noon.Add(-48 * time.Hour)
	hour := func(w *world) { w.wait(time.Hour); w.joins("E2") }
	for _, x := range []struct {
		name   string
		before func(w *world)
		after  func(w *world)
		state  CutState
		want   []string
	}{
		{"recalled, and nothing is known of an account", func(w *world) { w.recalls("E1", "leaver#1.7", left) }, hour, CutUnknown, nil},
		{"recalled, and disabled since", func(w *world) { w.recalls("E1", "leaver#1.7", left) }, func(w *world) {
			w.does("E1", "left", 7, "disable", "revoke-sessions")
			hour(w)
		}, CutDone, nil},
		{"recalled, and looked at since", func(w *world) { w.recalls("E1", "leaver#1.7", left) }, func(w *world) {
			w.add(&entry.Observed{Account: &entry.Account{Who: entry.Who{Issuer: issuer, Subject: "E1"}, State: entry.StateDisabled, Closed: true}})
			hour(w)
		}, CutAlready, nil},
		{"recalled, and disabled on the ledger before", func(w *world) {
			w.add(&entry.Observed{Account: &entry.Account{Who: entry.Who{Issuer: issuer, Subject: "E1"}, Account: "a", State: entry.StateDisabled, Code: "recall", Since: entry.MomentAt(left)}})
			w.recalls("E1", "leaver#1.7", left)
		}, hour, CutAlready, nil},
		{"recalled, and gone on the ledger before", func(w *world) {
			w.add(&entry.Observed{Account: &entry.Account{Who: entry.Who{Issuer: issuer, Subject: "E1"}, Account: "a", State: entry.StateGone, Code: "recall"}})
			w.recalls("E1", "leaver#1.7", left)
		}, hour, CutGone, nil},
		{"recalled, seen open and never disabled", func(w *world) {
			w.recalls("E1", "leaver#1.7", left)
			w.survey(0)
			w.seen("E1", entry.StateEnabled)
		}, hour, CutNever, []string{"cut-missing"}},
		{"disabled on the ledger before, and seen open", func(w *world) {
			w.add(&entry.Observed{Account: &entry.Account{Who: entry.Who{Issuer: issuer, Subject: "E1"}, Account: "a", State: entry.StateDisabled, Code: "recall", Since: entry.MomentAt(left)}})
			w.recalls("E1", "leaver#1.7", left)
			w.survey(0)
			w.seen("E1", entry.StateEnabled)
		}, hour, CutNever, []string{"cut-missing"}},
		{"recalled, seen open and disabled, its sessions not revoked", func(w *world) {
			w.recalls("E1", "leaver#1.7", left)
			w.survey(0)
			w.seen("E1", entry.StateEnabled)
		}, func(w *world) {
			w.does("E1", "left", 7, "disable")
			hour(w)
		}, CutDone, []string{"revoke-missing"}},
		{"recalled, seen open and disabled", func(w *world) {
			w.recalls("E1", "leaver#1.7", left)
			w.survey(0)
			w.seen("E1", entry.StateEnabled)
		}, func(w *world) {
			w.does("E1", "left", 7, "disable", "revoke-sessions")
			hour(w)
		}, CutDone, nil},
		{"recalled, seen open, and the ledger ends", func(w *world) {
			w.recalls("E1", "leaver#1.7", left)
			w.survey(0)
			w.seen("E1", entry.StateEnabled)
		}, func(w *world) {}, CutUnderWay, nil},
		{"recalled, and seen disabled", func(w *world) {
			w.recalls("E1", "leaver#1.7", left)
			w.survey(0)
			w.seen("E1", entry.StateDisabled)
		}, hour, CutAlready, nil},
		{"recalled, and no account is there", func(w *world) {
			w.recalls("E1", "leaver#1.7", left)
			w.survey(0)
			w.seen("E1", entry.StateGone)
		}, hour, CutGone, nil},
		{"recalled, and left out of what was seen", func(w *world) { // perhaps there is a later engagement
			w.recalls("E1", "leaver#1.7", left)
			w.survey(0)
		}, hour, CutUnknown, nil},
		{"recalled, and hired again", func(w *world) { w.recalls("E1", "leaver#1.7", left) }, func(w *world) {
			w.does("E1", "active", w.hears("E1", w.joiner(2)), "add-member")
			hour(w)
		}, CutOvertaken, nil},
		{"recalled for a date to come, which comes", func(w *world) {
			w.recalls("E1", "leaver#1.7", noon.Add(30*time.Minute))
			w.survey(0)
			w.seen("E1", entry.StateEnabled)
		}, hour, CutNever, []string{"cut-missing"}},
		{"recalled for a date to come", func(w *world) { w.recalls("E1", "leaver#1.7", noon.Add(100*time.Hour)) }, hour, CutOpen, nil},
		{"a suspension recalled, seen open and never disabled", func(w *world) {
			w.recalls("E1", "suspend#1.7", left)
			w.survey(0)
			w.seen("E1", entry.StateEnabled)
		}, hour, CutNever, []string{"cut-missing"}},
		{"a suspension recalled that is over by now", func(w *world) {
			w.recalls("E1", "resume#1.8", noon.Add(time.Minute))
			w.recalls("E1", "suspend#1.7", left)
			w.survey(0)
			w.seen("E1", entry.StateEnabled)
		}, hour, CutOvertaken, nil},
		{"a lock recalled, seen open and never disabled", func(w *world) {
			w.add(&entry.Operator{By: "op", Action: "cut", Issuer: issuer, Subject: "E1", First: &entry.First{By: "bob", At: entry.At(left)}})
			w.survey(0)
			w.seen("E1", entry.StateEnabled)
		}, hour, CutNever, []string{"cut-missing"}},
		{"a leaver of somebody of before", func(*world) {}, func(w *world) { w.hears("E1", w.leaver(1)); hour(w) }, CutUnknown, nil},
		{"a leaver of somebody who was seen", func(w *world) { w.survey(0); w.seen("E1", entry.StateEnabled) },
			func(w *world) { w.hears("E1", w.leaver(1)); hour(w) }, CutNever, []string{"cut-missing"}},
		{"a leaver of somebody who had no account", func(w *world) { w.survey(0); w.seen("E3", entry.StateEnabled) },
			func(w *world) { w.hears("E1", w.leaver(1)); hour(w) }, CutNone, nil},
		{"a leaver where accounts were seen that cannot be named", func(w *world) { w.survey(1); w.seen("E3", entry.StateEnabled) },
			func(w *world) { w.hears("E1", w.leaver(1)); hour(w) }, CutUnknown, nil},
		{"a leaver of somebody of before, who was given something", func(*world) {}, func(w *world) {
			w.does("E1", "active", w.hears("E1", w.joiner(1, "analyst")), "add-member")
			w.hears("E1", w.leaver(1))
			hour(w)
		}, CutNever, []string{"cut-missing"}},
		{"a leaver of somebody of before, disabled", func(*world) {}, func(w *world) {
			w.does("E1", "left", w.hears("E1", w.leaver(1)), "disable", "revoke-sessions")
			hour(w)
		}, CutDone, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			w.follows(func() { x.before(w) })
			x.after(w)
			r := w.publish().verify(w.options())
			wants(t, r, x.want...)
			i := slices.IndexFunc(r.Cuts, func(c *Cut) bool { return c.Subject == "E1" })
			if i < 0 || r.Cuts[i].State != x.state {
				t.Fatalf("cuts %+v, want one of E1 that is %s", r.CutStates, x.state)
			}
			var b strings.Builder
			if err := r.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			if said := strings.Contains(b.String(), "Verify jmlbridge.internal/test/before too"); said != (x.state == CutUnknown) {
				t.Errorf("that the ledger before is to be asked is said: %v\n%s", said, b.String())
			}
		})
	}
}

// How long it took from when a leaver of before was true to when this ledger began says nothing of the bridge.
func TestRecalledCutsAreNotTimedFromBefore(t *testing.T) {
	w := newWorld(t)
	w.follows(func() {
		w.recalls("E1", "leaver#1.7", noon.Add(-48*time.Hour))
		w.survey(0)
		w.seen("E1", entry.StateEnabled)
	})
	w.does("E1", "left", 7, "disable", "revoke-sessions")
	r := w.publish().verify(w.options())
	wants(t, r)
	c := r.Cuts[0]
	if n := r.CutTimes; !c.Recalled || !c.True.Equal(noon.Add(-48*time.Hour)) || n.TrueToReceived.Count != 0 || n.TrueToDisabled.Count != 0 || n.DueToDisabled.Count != 1 || n.DueToDisabled.Max > 1000 {
		t.Errorf("cut %+v, times %+v", c, n)
	}
}
