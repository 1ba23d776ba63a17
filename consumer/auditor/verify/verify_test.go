package verify

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/schema"
)

// story is a ledger with everything in it that may be there.
func story(t testing.TB) *world {
	w := newWorld(t).begin()
	e1 := w.joins("E1")
	w.joins("E2")
	w.joins("E3")
	seq := w.hears("E1", w.mover(1, "lead"))
	w.does("E1", "active", seq, "remove-member")
	w.does("E1", "active", seq, "update", "add-member")
	w.hears("", &schema.Heartbeat{Cuts: []schema.CutNotice{}})
	// A leave of absence and back.
	seq = w.hears("E2", w.suspend(1))
	w.does("E2", "suspended", seq, "disable")
	w.does("E2", "suspended", seq, "revoke-sessions")
	w.wait(time.Hour)
	w.hears("E2", w.resume(1))
	w.does("E2", "active", 2, "enable")
	// A repeat, a refusal, a parked one.
	first := w.entries[3].Body.(*entry.Received).Message
	first.Event, first.Subject, first.Engagement, first.ID, first.IssuedAt = "", "", 0, "", nil
	w.add(&entry.Received{Message: first, Disposition: entry.DispositionDuplicate, Code: "replay"})
	wire := schema.DigestOf([]byte("x"))
	w.add(&entry.Refused{Code: "forged", Wire: &wire, Size: 9})
	w.add(&entry.Parked{Code: "unknown-key", Wire: wire, Size: 9})
	// A gap: the leaver behind it acts, the joiner behind it waits.
	lost := w.say("E4", w.joiner(1, "analyst"))
	w.take(w.say("E3", w.leaver(1)), entry.DispositionGap, "gap")
	cut := w.seq
	w.does("E3", "left", cut, "disable")
	w.does("E3", "left", cut, "revoke-sessions")
	w.take(w.say("E5", w.joiner(1, "analyst")), entry.DispositionGap, "gap")
	five := w.seq
	w.take(lost, entry.DispositionFilled, "")
	w.does("E4", "active", lost.set.Stream.Seq, "create")
	w.does("E5", "active", five, "create")
	// A crash, and the same again.
	i := w.intends("E5", "active", five, "add-member")
	w.answers("E5", i, entry.ResultInterrupted)
	w.does("E5", "active", five, "add-member")
	// An operator's cut, and its end.
	w.add(&entry.Operator{By: "op", Action: "cut", Issuer: issuer, Subject: "E4", Reason: "stolen laptop"})
	w.does("E4", "locked", 0, "disable")
	w.does("E4", "locked", 0, "revoke-sessions")
	w.add(&entry.Operator{By: "op", Action: "unlock", Issuer: issuer, Subject: "E4"})
	w.does("E4", "active", lost.set.Stream.Seq, "enable")
	// A leaver who comes back as a new engagement.
	w.leaves("E1")
	w.does("E1", "left", w.seq, "remove-member")
	w.wait(24 * time.Hour)
	seq = w.hears("E1", w.joiner(2, "analyst"))
	w.does("E1", "active", seq, "enable")
	_ = e1
	return w
}

func TestGoodLedgerVerifies(t *testing.T) {
	w := story(t).publish()
	r := w.verify(w.options())
	wants(t, r)
	if got := r.Checked.Entries; got != int64(len(w.entries)) {
		t.Errorf("want %d entries checked, got %d", len(w.entries), got)
	}
	if got := r.Checked.Signatures; got != int64(len(w.rows)) {
		t.Errorf("want %d signatures checked, got %d", len(w.rows), got)
	}
	if got := r.CutStates["done"]; got != 4 || len(r.CutStates) != 1 {
		t.Errorf("want 4 cuts done and no other, got %v", r.CutStates)
	}
	if d := r.CutTimes.DueToDisabled; d.Count != 4 || d.Min != 20 || d.Max != 20 {
		t.Errorf("want each cut disabled 20 ms after it came, got %+v", d)
	}
	if r.Streams[0].Head != w.seq || r.Streams[0].Missing != 0 || r.Streams[0].Repeats != 1 || r.Streams[0].Gaps != 2 {
		t.Errorf("stream: %+v", r.Streams[0])
	}
	if r.Counts.Refused["forged"] != 1 || r.Counts.Parked["unknown-key"] != 1 {
		t.Errorf("want a refused and a parked message, got %v and %v", r.Counts.Refused, r.Counts.Parked)
	}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil || !strings.HasPrefix(b.String(), "VERIFIES  "+origin) {
		t.Errorf("want the verdict first, got %q, %v", b.String(), err)
	}

	o := w.options()
	o.TilesOnly = true
	r = w.verify(o)
	wants(t, r)
	if r.Checked.Signatures != 0 {
		t.Errorf("tiles only, and %d signatures checked", r.Checked.Signatures)
	}
}

// Each case changes one thing in a world, and names what must be found.
func TestEachFaultIsFound(t *testing.T) {
	two := schema.DigestOf([]byte("policy b"))
	for _, tc := range []struct {
		name string
		make func(w *world)
		want []string
	}{
		{"give without any fact", func(w *world) { w.does("E9", "active", 1, "create") }, []string{"give-without-fact"}},
		{"give for a joiner behind a gap", func(w *world) {
			w.say("E1", w.joiner(1))
			w.take(w.say("E2", w.joiner(1)), entry.DispositionGap, "gap")
			w.does("E2", "active", 2, "create")
		}, []string{"give-without-fact"}},
		{"give after a leaver", func(w *world) {
			seq := w.joins("E1")
			w.leaves("E1")
			w.does("E1", "active", seq, "add-member")
		}, []string{"give-after-cut"}},
		{"give after a leaver of the ledger before", func(w *world) {
			w.add(&entry.Operator{By: "op", Action: "recall", Issuer: issuer, Subject: "E1", Engagement: 1, Target: "leaver#1.7", Effective: entry.InstantAt(w.now)})
			w.joins("E1")
		}, []string{"give-after-cut"}},
		{"a suspension again that was over on the ledger before", func(w *world) {
			over := w.suspend(1)
			w.now = w.now.Add(time.Minute)
			w.add(&entry.Operator{By: "op", Action: "recall", Issuer: issuer, Subject: "E1", Engagement: 1, Target: "resume#1.7", Effective: entry.InstantAt(w.now)})
			w.joins("E1")
			w.hears("E1", over)
			w.wait(time.Hour)
			w.joins("E2")
		}, nil},
		{"what is recalled is no cut", func(w *world) {
			w.add(&entry.Operator{By: "op", Action: "recall", Issuer: issuer, Subject: "E1", Engagement: 1, Target: "joiner#1.7", Effective: entry.InstantAt(w.now)})
		}, []string{"entry-form"}},
		{"give after a leaver behind a gap", func(w *world) {
			seq := w.joins("E1")
			w.say("E2", w.joiner(1))
			w.take(w.say("E1", w.leaver(1)), entry.DispositionGap, "gap")
			w.does("E1", "left", 3, "disable")
			w.does("E1", "left", 3, "revoke-sessions")
			w.does("E1", "active", seq, "update")
		}, []string{"give-after-cut"}},
		{"give while suspended", func(w *world) {
			seq := w.joins("E1")
			s := w.hears("E1", w.suspend(1))
			w.does("E1", "suspended", s, "disable")
			w.does("E1", "suspended", s, "revoke-sessions")
			w.does("E1", "active", seq, "update")
		}, []string{"give-after-cut"}},
		{"give while locked", func(w *world) {
			seq := w.joins("E1")
			w.add(&entry.Operator{By: "op", Action: "cut", Issuer: issuer, Subject: "E1"})
			w.does("E1", "locked", 0, "disable")
			w.does("E1", "locked", 0, "revoke-sessions")
			w.does("E1", "active", seq, "update")
		}, []string{"give-after-cut"}},
		{"give before the start", func(w *world) {
			j := w.joiner(1)
			j.Start = schema.At(w.now.Add(time.Hour))
			w.does("E1", "active", w.hears("E1", j), "create")
		}, []string{"give-early"}},
		{"give by an overtaken statement", func(w *world) {
			seq := w.joins("E1")
			w.hears("E1", w.mover(1, "lead"))
			w.does("E1", "active", seq, "update")
		}, []string{"cause-mismatch"}},
		{"give by another's message", func(w *world) {
			w.joins("E1")
			seq := w.joins("E2")
			w.does("E1", "active", seq, "update")
		}, []string{"cause-missing"}},
		{"give while the issuer is silent", func(w *world) {
			seq := w.joins("E1")
			w.add(&entry.Alarm{Code: "stale", Key: issuer, State: entry.AlarmRaised})
			w.wait(time.Hour)
			w.does("E1", "active", seq, "update")
		}, []string{"give-while-stale"}},
		{"take without a cause", func(w *world) {
			w.joins("E1")
			w.does("E1", "left", 77, "disable")
		}, []string{"cause-missing"}},
		{"take by a message that gives", func(w *world) {
			w.does("E1", "left", w.joins("E1"), "disable")
		}, []string{"cause-mismatch"}},
		{"take before the date", func(w *world) {
			w.joins("E1")
			l := w.leaver(1)
			l.Effective = schema.At(w.now.Add(time.Hour))
			w.does("E1", "left", w.hears("E1", l), "disable")
		}, []string{"cause-mismatch"}},
		{"take by an operator who did nothing", func(w *world) {
			w.joins("E1")
			w.does("E1", "locked", 0, "disable")
		}, []string{"cause-missing"}},
		{"a give that is called a take", func(w *world) {
			seq := w.joins("E1")
			i := w.intends("E1", "active", seq, "update")
			w.entries[i].Body.(*entry.Intent).Ops[0].Class = entry.ClassTake
			w.answers("E1", i, entry.ResultApplied)
		}, []string{"op-mislabelled"}},
		{"intent without an outcome, another follows", func(w *world) {
			seq := w.hears("E1", w.joiner(1))
			w.intends("E1", "active", seq, "create")
			w.does("E1", "active", seq, "create")
		}, []string{"intent-unanswered"}},
		{"intent without an outcome, at the end", func(w *world) {
			w.intends("E1", "active", w.hears("E1", w.joiner(1)), "create")
			w.wait(time.Hour)
			w.joins("E2")
		}, []string{"intent-unanswered"}},
		{"outcome without an intent", func(w *world) {
			w.joins("E1")
			w.add(&entry.Outcome{Intent: 1, Who: entry.Who{Issuer: issuer, Subject: "E1"}, Results: []entry.Result{{N: 1, Result: entry.ResultApplied}}})
		}, []string{"outcome-unexplained"}},
		{"two outcomes", func(w *world) {
			i := w.intends("E1", "active", w.hears("E1", w.joiner(1)), "create")
			w.answers("E1", i, entry.ResultApplied)
			w.answers("E1", i, entry.ResultApplied)
		}, []string{"outcome-unexplained"}},
		{"outcome of another person", func(w *world) {
			w.joins("E2")
			i := w.intends("E1", "active", w.hears("E1", w.joiner(1)), "create")
			w.answers("E2", i, entry.ResultApplied)
		}, []string{"outcome-unexplained"}}, // the intent itself is young: under way
		{"outcome that leaves an operation out", func(w *world) {
			i := w.intends("E1", "active", w.hears("E1", w.joiner(1)), "create", "add-member")
			o := w.answers("E1", i, entry.ResultApplied)
			b := w.entries[o].Body.(*entry.Outcome)
			b.Results = b.Results[:1]
		}, []string{"outcome-incomplete"}},
		{"observe that acted", func(w *world) {
			i := w.intends("E1", "active", w.hears("E1", w.joiner(1)), "create")
			w.entries[i].Body.(*entry.Intent).Observe = true
			w.answers("E1", i, entry.ResultApplied)
		}, []string{"observe-acted"}},
		{"a policy that is nowhere", func(w *world) {
			i := w.intends("E1", "active", w.hears("E1", w.joiner(1)), "create")
			w.entries[i].Body.(*entry.Intent).Policy = two
			w.answers("E1", i, entry.ResultApplied)
		}, []string{"policy-unrecorded"}},
		{"a policy that follows another one than was in force", func(w *world) {
			w.add(&entry.Policy{Digest: schema.DigestOf([]byte("policy c")), Previous: &policyB, By: "alice"})
		}, []string{"policy-unrecorded"}},
		{"a leaver who was never cut", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.leaver(1))
			w.wait(time.Hour)
			w.joins("E2")
		}, []string{"cut-missing"}},
		{"a leaver whose disable failed", func(w *world) {
			w.joins("E1")
			seq := w.hears("E1", w.leaver(1))
			w.answers("E1", w.intends("E1", "left", seq, "disable"), entry.ResultFailed)
			w.wait(time.Hour)
			w.joins("E2")
		}, []string{"cut-missing"}},
		{"a leaver whose sessions were never revoked", func(w *world) {
			w.joins("E1")
			w.does("E1", "left", w.hears("E1", w.leaver(1)), "disable")
			w.wait(time.Hour)
			w.joins("E2")
		}, []string{"revoke-missing"}},
		{"a suspend that was not carried out before the resume", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.suspend(1))
			w.wait(time.Hour)
			w.hears("E1", w.resume(1))
		}, []string{"cut-missing"}},
		{"a stated end that was not carried out", func(w *world) {
			j := w.joiner(1)
			end := schema.At(w.now.Add(time.Hour))
			j.End = &end
			w.does("E1", "active", w.hears("E1", j), "create")
			w.wait(3 * time.Hour)
			w.joins("E2")
		}, []string{"cut-missing"}},
		{"an account that opened after its leaver", func(w *world) {
			i := w.intends("E1", "active", w.hears("E1", w.joiner(1)), "create")
			w.hears("E1", w.leaver(1))
			w.answers("E1", i, entry.ResultFound)
			w.wait(time.Hour)
			w.joins("E2")
		}, []string{"cut-missing"}},
		{"a leaver seen enabled again", func(w *world) {
			w.joins("E1")
			w.leaves("E1")
			w.wait(time.Hour)
			w.add(&entry.Observed{Account: &entry.Account{Who: entry.Who{Issuer: issuer, Subject: "E1"}, State: entry.StateEnabled, Closed: true, Code: "zombie"}})
			w.wait(time.Hour)
			w.joins("E2")
		}, []string{"cut-missing"}},
		{"the end of a hold that never was", func(w *world) {
			w.add(&entry.Released{Hold: "7", Action: entry.ReleasedResolved})
		}, []string{"hold-unknown"}},
		{"a broken chain", func(w *world) {
			w.joins("E1")
			w.prev = schema.DigestOf([]byte("something else"))
			w.joins("E2")
			w.joins("E3")
		}, []string{"chain-broken"}},
		{"a message that was skipped", func(w *world) {
			w.joins("E1")
			w.say("E2", w.joiner(1))
			w.joins("E3")
			w.joins("E4")
		}, []string{"chain-broken"}},
		{"a gap that is none", func(w *world) {
			w.joins("E1")
			w.take(w.say("E2", w.joiner(1)), entry.DispositionGap, "gap")
		}, []string{"chain-claim"}},
		{"a repeat that is none", func(w *world) {
			s := w.say("E2", w.joiner(1))
			w.take(s, entry.DispositionDuplicate, "replay")
		}, []string{"chain-claim"}},
		{"a fork passed over", func(w *world) {
			w.hears("E1", w.joiner(1))
			seq, prev := w.seq, w.prev
			w.seq, w.prev = 0, schema.Digest{}
			w.take(w.say("E1", w.joiner(1, "admin")), entry.DispositionAdmitted, "")
			w.seq, w.prev = seq, prev
		}, []string{"chain-broken"}},
		{"an entry that says another subject", func(w *world) {
			i := w.take(w.say("E1", w.joiner(1)), entry.DispositionAdmitted, "")
			w.entries[i].Body.(*entry.Received).Subject = "E2"
		}, []string{"entry-differs"}},
		{"an entry that says another date", func(w *world) {
			w.joins("E1")
			s := w.say("E1", w.leaver(1))
			w.take(s, entry.DispositionAdmitted, "")
			w.entries[len(w.entries)-1].Body.(*entry.Received).Effective = entry.InstantAt(noon.Add(900 * time.Hour))
			w.does("E1", "left", s.set.Stream.Seq, "disable")
			w.does("E1", "left", s.set.Stream.Seq, "revoke-sessions")
		}, []string{"entry-differs"}},
		{"a message signed by another key", func(w *world) {
			s := w.say("E1", w.joiner(1))
			kid := s.signer.KID()
			s.signer = w.other
			i := w.take(s, entry.DispositionAdmitted, "")
			w.entries[i].Body.(*entry.Received).Key = kid
		}, []string{"key-not-given"}},
		{"a key that the producer does not have", func(w *world) {
			w.trusts(w.other.KID(), 0)
			s := w.say("E1", w.joiner(1))
			s.signer = w.other
			w.take(s, entry.DispositionAdmitted, "")
		}, []string{"key-not-given*2"}}, // the trust and the message
		{"a retired key", func(w *world) {
			w.joins("E1")
			w.add(&entry.Trust{Action: entry.TrustRetire, Key: w.signer.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 1, By: "op"})
			w.hears("E2", w.joiner(1))
		}, []string{"key-retired"}},
		{"a message for another enclave", func(w *world) {
			s := w.say("E1", w.joiner(1))
			s.set.Audience = "urn:jmlbridge:enclave:gov-2"
			s.payload, _ = schema.EncodePadded(s.set)
			s.digest = schema.DigestOf(s.payload)
			w.prev = s.digest
			w.take(s, entry.DispositionAdmitted, "")
		}, []string{"wrong-enclave"}},
		{"content refused that is good", func(w *world) {
			w.take(w.say("E1", w.joiner(1)), entry.DispositionRefused, "bad-value")
		}, []string{"content-judged"}},
		{"no line in the archive", func(w *world) {
			w.joins("E1")
			w.rows = w.rows[:0]
			w.joins("E2")
		}, []string{"archive-missing"}},
		{"a line that no entry names", func(w *world) {
			w.joins("E1")
			extra := *w
			extra.take(w.say("E2", w.joiner(1)), entry.DispositionAdmitted, "")
			w.rows = extra.rows
			w.seq, w.prev = 1, w.entries[3].Body.(*entry.Received).Payload
			w.joins("E3")
		}, []string{"archive-unlisted"}},
		{"a cut that a limit holds for longer than any policy may", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.leaver(1))
			w.add(&entry.Held{Hold: "1", Code: "cut-limit", Count: 1, Part: 1, Parts: 1, Subjects: []entry.Who{{Issuer: issuer, Subject: "E1"}}})
			w.wait(2 * time.Hour)
			w.hears("E2", w.joiner(1))
		}, []string{"cut-missing"}},
		{"another ledger's start", func(w *world) {
			w.add(&entry.Started{Program: entry.ProgramConsumer, Version: "v1", Go: "go", Mode: "run", Ledger: "L2", Enclave: enclave, Instance: "i3"})
		}, []string{"identity-mixed"}},
		{"an entry in another spelling", func(w *world) {
			i := w.add(&entry.Clock{Action: entry.ClockConfirmed, Against: entry.AgainstLedger, By: "op"})
			body, _ := entry.Encode(w.entries[i])
			w.bodies[int(i)] = append(body, ' ')
		}, []string{"entry-form"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).begin()
			tc.make(w)
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

// What looks like a fault and is none.
func TestWhatIsNoFault(t *testing.T) {
	for _, tc := range []struct {
		name  string
		make  func(w *world)
		state string // of the one cut there is
	}{
		{"a leaver of the last seconds", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.leaver(1))
		}, "under-way"},
		{"a leaver who never had an account", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, "none"},
		{"an edited policy, told by the start and by the entry after it", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.add(&entry.Started{Program: entry.ProgramConsumer, Version: "v1", Go: "go", Mode: "run", Policy: &policyB, Ledger: "L1", Enclave: enclave, Instance: "i3"})
			w.add(&entry.Policy{Digest: policyB, Previous: &policyA, By: "alice"})
		}, "none"},
		{"a leaver whose account is protected", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.leaver(1))
			w.add(&entry.Held{Hold: "1", Code: "protected", Count: 1, Part: 1, Parts: 1, Subjects: []entry.Who{{Issuer: issuer, Subject: "E1"}}})
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, "held"},
		{"a leaver whom a limit holds for an hour", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.leaver(1))
			w.add(&entry.Held{Hold: "1", Code: "cut-limit", Count: 1, Part: 1, Parts: 1, Subjects: []entry.Who{{Issuer: issuer, Subject: "E1"}}})
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, "held"},
		{"a leaver whom a limit held when the enclave went down for a day", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.leaver(1))
			w.add(&entry.Held{Hold: "1", Code: "cut-limit", Count: 1, Part: 1, Parts: 1, Subjects: []entry.Who{{Issuer: issuer, Subject: "E1"}}})
			w.wait(24 * time.Hour)
			w.add(&entry.Started{Program: entry.ProgramConsumer, Version: "v1", Go: "go", Mode: "run", Policy: &policyA, Ledger: "L1", Enclave: enclave, Instance: "i3"})
		}, "held"},
		{"a leaver that operators discarded", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.leaver(1))
			w.add(&entry.Held{Hold: "1", Code: "cut-limit", Count: 1, Part: 1, Parts: 1, Subjects: []entry.Who{{Issuer: issuer, Subject: "E1"}}})
			w.add(&entry.Released{Hold: "1", Action: entry.ReleasedDiscard, By: []string{"a", "b"}})
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, "discarded"},
		{"a leaver whose discard is over", func(w *world) {
			w.joins("E1")
			seq := w.hears("E1", w.leaver(1))
			w.add(&entry.Held{Hold: "1", Code: "cut-limit", Count: 1, Part: 1, Parts: 1, Subjects: []entry.Who{{Issuer: issuer, Subject: "E1"}}})
			w.add(&entry.Released{Hold: "1", Action: entry.ReleasedDiscard, By: []string{"a", "b"}})
			w.add(&entry.Alarm{Code: "cut-discarded", Key: "1", State: entry.AlarmRaised})
			w.wait(time.Hour)
			w.add(&entry.Alarm{Code: "cut-discarded", Key: "1", State: entry.AlarmCleared})
			w.does("E1", "leaver", seq, "disable", "revoke-sessions")
		}, "done"},
		{"a disable that fails, under an alarm", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.leaver(1))
			w.add(&entry.Alarm{Code: "cut-failing", Key: "E1@" + issuer, State: entry.AlarmRaised, Issuer: issuer, Subject: "E1"})
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, "held"},
		{"a leaver of a date to come", func(w *world) {
			w.joins("E1")
			l := w.leaver(1)
			l.Effective = schema.At(w.now.Add(1000 * time.Hour))
			w.hears("E1", l)
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, "open"},
		{"a leaver of somebody suspended", func(w *world) {
			w.joins("E1")
			w.does("E1", "suspended", w.hears("E1", w.suspend(1)), "disable", "revoke-sessions")
			w.hears("E1", w.leaver(1))
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, "already"},
		{"an account that is gone", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.leaver(1))
			w.add(&entry.Observed{Account: &entry.Account{Who: entry.Who{Issuer: issuer, Subject: "E1"}, State: entry.StateGone, Closed: true}})
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, "gone"},
		{"a cut that only a heartbeat brought", func(w *world) {
			w.joins("E1")
			l := w.leaver(1)
			w.say("E1", l)
			hb := w.say("", &schema.Heartbeat{Total: 1, Cuts: []schema.CutNotice{{Subject: "E1", Engagement: 1, Kind: schema.KindLeaver, Effective: l.Effective, Seq: 2}}})
			w.take(hb, entry.DispositionGap, "gap")
			w.does("E1", "left", 2, "disable", "revoke-sessions")
		}, "done"},
		{"a cut that was refused and that a heartbeat brought", func(w *world) {
			w.joins("E1")
			e := w.leaver(1)
			l := w.say("E1", e)
			l.payload = bytes.Replace(l.payload, []byte(`"termination"`), []byte(`"Termination"`), 1)
			l.digest = schema.DigestOf(l.payload)
			w.prev = l.digest
			w.take(l, entry.DispositionRefused, "bad-value")
			w.take(w.say("", &schema.Heartbeat{Total: 1, Cuts: []schema.CutNotice{{Subject: "E1", Engagement: 1, Kind: schema.KindLeaver, Effective: e.Effective, Seq: 2}}}), entry.DispositionAdmitted, "")
			w.does("E1", "left", 2, "disable", "revoke-sessions")
		}, "done"},
		{"a take that names a parked message", func(w *world) {
			w.joins("E1")
			w.add(&entry.Parked{Code: "generation", Wire: schema.DigestOf([]byte("w")), Size: 1, Position: &entry.Position{Issuer: issuer, Stream: "hr", Generation: 2, Seq: 9}})
			w.does("E1", "left", 9, "disable")
		}, ""},
		{"a take that a parked message out of reach explains", func(w *world) {
			seq := w.joins("E1")
			w.add(&entry.Parked{Code: "fast-forward", Wire: schema.DigestOf([]byte("w")), Size: 1, Position: &entry.Position{Issuer: issuer, Stream: "hr", Generation: 1, Seq: 1 << 40}})
			w.does("E1", "left", seq, "disable", "revoke-sessions")
		}, ""},
		{"a create that a crash interrupted, and a leaver", func(w *world) {
			i := w.intends("E1", "active", w.hears("E1", w.joiner(1)), "create")
			w.answers("E1", i, entry.ResultInterrupted)
			seq := w.hears("E1", w.leaver(1))
			w.does("E1", "left", seq, "disable", "revoke-sessions")
		}, "done"},
		{"a person whose date passes between the look and the intent", func(w *world) {
			w.joins("E1")
			l := w.leaver(1)
			l.Effective = schema.At(w.now.Add(time.Minute))
			w.hears("E1", l)
			w.wait(time.Minute)
			w.does("E1", "active", 1, "update")
			w.does("E1", "left", 2, "disable", "revoke-sessions")
		}, "done"},
		{"a fork that was seen", func(w *world) {
			w.hears("E1", w.joiner(1))
			seq, prev := w.seq, w.prev
			w.seq, w.prev = 0, schema.Digest{}
			w.take(w.say("E1", w.joiner(1, "admin")), entry.DispositionFork, "fork")
			w.seq, w.prev = seq, prev
			w.take(w.say("E2", w.joiner(1)), entry.DispositionFork, "fork")
		}, ""},
		{"a new generation", func(w *world) {
			w.joins("E1")
			w.gen, w.seq, w.prev = 2, 0, schema.Digest{}
			w.add(&entry.Trust{Action: entry.TrustGeneration, Issuer: issuer, Stream: "hr", Generation: 2, AtSeq: 1, By: "op"})
			w.joins("E2")
		}, ""},
		{"a stream that is joined late", func(w *world) {
			w.entries, w.rows = w.entries[:1], nil
			for range 5 {
				w.say("E1", w.joiner(1))
			}
			head := w.prev
			w.trusts(w.signer.KID(), 1)
			tr := w.entries[1].Body.(*entry.Trust)
			tr.AtSeq, tr.Head = 6, &head
			w.take(w.say("E2", w.joiner(1)), entry.DispositionAdmitted, "no-roster")
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).begin()
			tc.make(w)
			w.publish()
			r := w.verify(w.options())
			wants(t, r)
			if tc.state != "" && r.Cuts[len(r.Cuts)-1].State != CutState(tc.state) {
				t.Errorf("want the cut %s, got %s", tc.state, r.Cuts[len(r.Cuts)-1].State)
			}
			o := w.options()
			o.TilesOnly = true
			wants(t, w.verify(o))
		})
	}
}

// The machine died while something was given, and came back while the issuer was silent: until it is heard again nobody looks what
// became of that.
func TestAnIntentOfARunThatEnded(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(w *world, dies func(ops ...string), beats func(stale bool))
		want []string
	}{
		{"the issuer is silent still", func(w *world, dies func(...string), beats func(bool)) {
			dies("create")
			beats(true)
		}, nil},
		{"the issuer was heard again, and it was not looked at", func(w *world, dies func(...string), beats func(bool)) {
			dies("create")
			beats(true)
			beats(false)
			w.wait(time.Hour)
			beats(false)
		}, []string{"intent-unanswered"}},
		{"the issuer has just been heard again", func(w *world, dies func(...string), beats func(bool)) {
			dies("create")
			beats(true)
			beats(false)
		}, nil},
		{"a cut waits for nobody", func(w *world, dies func(...string), beats func(bool)) {
			dies("disable")
			beats(true)
		}, []string{"intent-unanswered"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).begin()
			w.joins("E2")
			again := *w.entries[2].Body.(*entry.Started)
			dies := func(ops ...string) {
				subject, seq := "E1", w.seq+1
				if ops[0] == "disable" {
					subject = "E2"
					w.hears(subject, w.leaver(1))
				} else {
					w.hears(subject, w.joiner(1, "analyst"))
				}
				w.intends(subject, map[bool]string{true: "left", false: "active"}[ops[0] == "disable"], seq, ops...)
				w.wait(8 * time.Hour)
				w.add(&again)
				w.add(&entry.Alarm{Code: "stale", Key: issuer, State: entry.AlarmRaised, Severity: "critical", Issuer: issuer})
				w.wait(time.Hour)
				if subject == "E2" {
					w.does(subject, "left", seq, "disable")
				}
			}
			beats := func(stale bool) {
				i := w.take(w.say("", &schema.Heartbeat{Cuts: []schema.CutNotice{}}), entry.DispositionAdmitted, "")
				w.entries[i].Body.(*entry.Received).Stale = stale
			}
			tc.make(w, dies, beats)
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

// The machine stood still with something to do: the time counts in which it ran.
func TestWhatIsOwedAfterAStop(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(w *world, stops func())
		want []string
	}{
		{"a leaver, and the ledger is read as it starts again", func(w *world, stops func()) {
			w.hears("E1", w.leaver(1))
			stops()
		}, nil},
		{"a leaver who is not cut then", func(w *world, stops func()) {
			w.hears("E1", w.leaver(1))
			stops()
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, []string{"cut-missing"}},
		{"a leaver who was not cut before", func(w *world, stops func()) {
			w.hears("E1", w.leaver(1))
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
			stops()
		}, []string{"cut-missing"}},
		{"a suspension that is over with what came meanwhile", func(w *world, stops func()) {
			w.hears("E1", w.suspend(1))
			stops()
			w.hears("E1", w.resume(1))
		}, nil},
		{"a cut whose sessions are to be revoked", func(w *world, stops func()) {
			w.does("E1", "left", w.hears("E1", w.leaver(1)), "disable")
			stops()
		}, nil},
		{"an intent, and the ledger is read as it starts again", func(w *world, stops func()) {
			w.intends("E1", "left", w.hears("E1", w.leaver(1)), "disable")
			stops()
		}, nil},
		{"it starts again and again and cuts nobody", func(w *world, stops func()) {
			w.hears("E1", w.leaver(1))
			for range 7 {
				stops()
			}
		}, []string{"cut-missing"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).begin()
			w.joins("E1")
			again := *w.entries[2].Body.(*entry.Started)
			tc.make(w, func() {
				w.wait(8 * time.Hour)
				w.add(&again)
			})
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

func TestCutLimit(t *testing.T) {
	w := newWorld(t).begin()
	w.joins("E1")
	seq := w.hears("E1", w.leaver(1))
	w.wait(2 * time.Hour)
	w.does("E1", "left", seq, "disable", "revoke-sessions")
	w.publish()
	o := w.options()
	wants(t, w.verify(o))
	o.CutLimit = time.Hour
	wants(t, w.verify(o), "cut-late")
}

func TestEveryAlgorithmAndKeyForm(t *testing.T) {
	for _, alg := range []keys.Alg{keys.ES256, keys.ES384, keys.EdDSA} {
		t.Run(string(alg), func(t *testing.T) {
			w := newWorld(t)
			w.key, w.signer = newSigner(t, alg)
			w.begin()
			w.joins("E1")
			w.publish()
			w.trust = cardOf(t, issuer, w.key)
			wants(t, w.verify(w.options()))
			var err error
			if w.trust, err = keys.MarshalPublic(w.key.Public()); err != nil {
				t.Fatal(err)
			}
			wants(t, w.verify(w.options()))
		})
	}
}

func TestProducersLedger(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(w *world)
		want []string
	}{
		{"good", func(w *world) {}, nil},
		{"number used twice", func(w *world) { w.seq, w.prev = 1, schema.Digest{9} }, []string{"sent-twice"}},
		{"number left out", func(w *world) { w.seq++; w.prev = schema.Digest{9} }, []string{"chain-broken"}},
		{"new generation", func(w *world) { w.gen, w.seq, w.prev = 2, 0, schema.Digest{} }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.add(&entry.Started{Program: entry.ProgramProducer, Version: "v1", Go: "go", Mode: "init", Ledger: "P1", Instance: "i"})
			send := func(subject string) {
				s := w.say(subject, w.joiner(1))
				w.take(s, entry.DispositionAdmitted, "") // archives it
				w.entries = w.entries[:len(w.entries)-1]
				w.add(&entry.Sent{Message: w.recorded(s), Audience: enclave})
			}
			send("E1")
			send("E2")
			tc.make(w)
			send("E3")
			w.publish()
			r := w.verify(w.options())
			wants(t, r, tc.want...)
			if r.Ledger.Program != entry.ProgramProducer || r.Checked.Signatures != 3 {
				t.Errorf("want 3 signatures of a producer's ledger, got %d of %s", r.Checked.Signatures, r.Ledger.Program)
			}
		})
	}
}

func TestCopies(t *testing.T) {
	w := story(t)
	all := w.entries
	w.entries = all[:10]
	w.publish()
	old := w.readCheckpoint()
	w.entries = all
	w.publish()
	now := w.readCheckpoint()
	o := w.options()
	o.Copies = []Copy{{"old", old}, {"now", now}}
	r := w.verify(o)
	wants(t, r)
	if r.Checked.Copies != 2 {
		t.Errorf("want 2 copies that agree, got %d", r.Checked.Copies)
	}

	o.Copies = []Copy{{"foreign", w.checkpointBy("elsewhere", tiles.Checkpoint{Size: 3})}}
	wants(t, w.verify(o), "copy-bad")

	o.Copies = []Copy{{"other", w.checkpoint(tiles.Checkpoint{Size: 10, Root: [32]byte{1}})}}
	wants(t, w.verify(o), "history-changed")

	w.entries = all[:10]
	w.publish()
	o.Copies = []Copy{{"now", now}}
	o.TilesOnly = true
	wants(t, w.verify(o), "rollback")
}
