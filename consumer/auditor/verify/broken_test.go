package verify

import (
	"bytes"
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
		{"a disable beside a group that a live person loses", func(w *world) {
			w.joins("E1")
			seq := w.hears("E1", w.mover(1))
			w.does("E1", "active", seq, "disable", "remove-member")
		}, []string{"cause-mismatch"}},
		{"a cut by an operator's word on somebody else", func(w *world) {
			w.joins("E1")
			w.joins("E2")
			i := w.add(&entry.Operator{By: "op", Action: "cut", Issuer: issuer, Subject: "E2"})
			w.does("E2", "locked", 0, "disable")
			w.does("E2", "locked", 0, "revoke-sessions")
			n := w.intends("E1", "locked", 0, "disable")
			w.entries[n].Body.(*entry.Intent).Cause.Entry = &i
			w.answers("E1", n, entry.ResultApplied)
		}, []string{"cause-missing"}},
		{"a cut by somebody else's lease", func(w *world) {
			w.joins("E1")
			w.joins("E2")
			i := w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E2", Engagement: 1})
			for _, who := range []string{"E2", "E1"} {
				for _, op := range []string{"disable", "revoke-sessions"} {
					n := w.intends(who, "lease", 0, op)
					w.entries[n].Body.(*entry.Intent).Cause = entry.Cause{Type: entry.CauseLease, Entry: &i}
					w.answers(who, n, entry.ResultApplied)
				}
			}
		}, []string{"cause-missing*2"}},
		{"all access by a lease of one role", func(w *world) {
			w.joins("E1")
			i := w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E1", Engagement: 1, Role: "analyst"})
			n := w.intends("E1", "lease", 0, "disable")
			w.entries[n].Body.(*entry.Intent).Cause = entry.Cause{Type: entry.CauseLease, Entry: &i}
			w.answers("E1", n, entry.ResultApplied)
		}, []string{"cause-missing"}},
		{"all access by the policy", func(w *world) {
			w.joins("E1")
			n := w.intends("E1", "policy", 0, "disable")
			w.entries[n].Body.(*entry.Intent).Cause = entry.Cause{Type: entry.CausePolicy}
			w.answers("E1", n, entry.ResultApplied)
		}, []string{"cause-mismatch"}},
		{"a suspension whose sessions were never revoked, until the resume", func(w *world) {
			w.joins("E1")
			seq := w.hears("E1", w.suspend(1))
			w.does("E1", "suspended", seq, "disable")
			w.wait(24 * time.Hour)
			w.joins("E2")
			w.hears("E1", w.resume(1))
		}, []string{"revoke-missing"}},
		{"an operation that nobody knows, called a take", func(w *world) {
			w.joins("E1")
			w.leaves("E1")
			n := w.intends("E1", "left", 2, "enable-again")
			w.entries[n].Body.(*entry.Intent).Ops[0].Class = entry.ClassTake
			w.answers("E1", n, entry.ResultApplied)
		}, []string{"give-after-cut", "op-mislabelled"}},
		{"a key that was retired is trusted anew", func(w *world) {
			w.joins("E1")
			w.add(&entry.Trust{Action: entry.TrustRetire, Key: w.signer.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: w.seq, By: "op"})
			w.trusts(w.signer.KID(), 0)
			w.hears("E2", w.joiner(1))
		}, []string{"key-retired"}},
		{"a key that is trusted for all that there is", func(w *world) {
			w.trust = bytes.Replace(w.trust, []byte(`"joiner",`), nil, 1)
			w.trusts(w.signer.KID(), 0)
			w.entries[len(w.entries)-1].Body.(*entry.Trust).Events = nil
		}, []string{"key-differs*2"}},
		{"one account for two persons", func(w *world) {
			w.joins("E1")
			w.joins("E2")
			seq := w.hears("E1", w.leaver(1))
			for _, op := range []string{"disable", "revoke-sessions"} {
				n := w.intends("E1", "left", seq, op)
				i := w.answers("E1", n, entry.ResultApplied)
				w.entries[i].Body.(*entry.Outcome).Account = "a-E2"
			}
			w.wait(time.Hour)
			w.joins("E3")
		}, []string{"account-differs*2", "cut-missing"}},
		{"a refused credential that cuts others", func(w *world) {
			w.joins("E1")
			w.joins("E2")
			w.add(&entry.Alarm{Code: "credential-denied", Key: "cut", State: entry.AlarmRaised})
			w.hears("E1", w.leaver(1))
			w.leaves("E2")
			w.wait(24 * time.Hour)
			w.joins("E3")
		}, []string{"cut-missing"}},
		{"a roster that is left for an operator", func(w *world) {
			w.joins("E1")
			w.take(w.rosters(nil, gone)[0], entry.DispositionHeld, "later")
			w.wait(3 * time.Hour)
			w.take(w.say("E2", w.joiner(1)), entry.DispositionGap, "gap")
		}, []string{"content-judged"}},
		{"a roster that is left for a newer program", func(w *world) {
			w.joins("E1")
			w.take(w.rosters(nil, gone)[0], entry.DispositionCutCore, "newer-version")
			w.wait(3 * time.Hour)
			w.take(w.say("E2", w.joiner(1)), entry.DispositionGap, "gap")
		}, []string{"content-judged"}},
		{"a cut that no request did", func(w *world) {
			w.joins("E1")
			w.leaves("E1")
			for i := range w.entries {
				o, ok := w.entries[i].Body.(*entry.Outcome)
				if !ok {
					continue
				}
				switch w.entries[o.Intent].Body.(*entry.Intent).Ops[0].Op {
				case "disable":
					o.Results[0].Requests = nil
				case "revoke-sessions":
					o.Results[0].Requests[0].Status = 403
				}
			}
		}, []string{"request-missing*2"}},
		{"another enclave's messages, by a start that names no enclave", func(w *world) {
			for _, e := range w.entries {
				if s, ok := e.Body.(*entry.Started); ok {
					s.Enclave = ""
				}
			}
			w.joins("E1")
		}, []string{"wrong-enclave"}},
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

// A cut is as late as the entries about it, whatever they say of the time.
func TestALateCutIsDatedBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		late func(w *world, seq uint64)
	}{
		{"in the outcome", func(w *world, seq uint64) {
			n := w.intends("E1", "left", seq, "disable")
			due := w.now
			w.wait(3 * time.Hour)
			i := w.answers("E1", n, entry.ResultApplied)
			w.entries[i].Body.(*entry.Outcome).Results[0].At = entry.MomentAt(due)
		}},
		{"in the outcome alone", func(w *world, seq uint64) {
			due := w.now
			w.wait(3 * time.Hour)
			n := w.intends("E1", "left", seq, "disable")
			i := w.answers("E1", n, entry.ResultApplied)
			w.entries[i].Body.(*entry.Outcome).Results[0].At = entry.MomentAt(due)
		}},
		{"in all entries of it", func(w *world, seq uint64) {
			due := w.now
			w.wait(3 * time.Hour)
			w.joins("E2")
			w.now = due
			w.does("E1", "left", seq, "disable")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t).begin()
			w.joins("E1")
			seq := w.hears("E1", w.leaver(1))
			tc.late(w, seq)
			w.does("E1", "left", seq, "revoke-sessions")
			o := w.publish().options()
			o.CutLimit = time.Hour
			wants(t, w.verify(o), "cut-late")
		})
	}
}
