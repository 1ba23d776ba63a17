package verify

import (
	"slices"
	"testing"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// recovers begins a ledger that follows a lost one: with what it recalls, the stream from message 11 on, and E1 seen with an open
// account.
func (w *world) recovers(recalls func()) {
	w.follows(func() {
		recalls()
		w.seq, w.prev = 10, schema.DigestOf([]byte("before"))
		head := w.prev
		tr := w.entries[1].Body.(*entry.Trust)
		tr.AtSeq, tr.Head = w.seq+1, &head
		w.survey(0)
		w.seen("E1", entry.StateEnabled)
	})
}

// lists hears of a roster with E1 alone and applies it; it returns the place of what that states.
func (w *world) lists(id, code string, l schema.LiveEngagement) uint64 {
	w.t.Helper()
	head := w.seq
	parts, err := schema.SplitRoster("0192f0c1-0000-7000-8000-00000000"+id, schema.RosterHead{Generation: w.gen, Seq: head, Hash: w.prev}, []schema.LiveEngagement{l}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	s := w.say("", parts[0])
	w.take(s, entry.DispositionAdmitted, code)
	w.applies(s)
	return head
}

func (w *world) repeats(seq uint64, from time.Time) *schema.Heartbeat {
	return &schema.Heartbeat{Total: 1, Cuts: []schema.CutNotice{{Subject: "E1", Engagement: 1, Kind: schema.KindSuspend, Effective: schema.At(from), Seq: seq}}}
}

func (w *world) resumes(at time.Time) *schema.Resume {
	e := w.resume(1)
	e.Effective = schema.At(at)
	return e
}

// heldFor is a hold on a cut of E1 that the enclave ends by itself.
func (w *world) heldFor(d time.Duration) {
	w.add(&entry.Held{Hold: "h1", Code: "cut-limit", Count: 1, Part: 1, Parts: 1, Subjects: []entry.Who{{Issuer: issuer, Subject: "E1"}}})
	w.wait(d)
	w.add(&entry.Released{Hold: "h1", Action: entry.ReleasedResolved})
}

// What a heartbeat repeats of a suspension that was over before it was heard is nothing to be carried out; what it repeats of one that
// stands is, and until the date on which it ends.
func TestASuspensionThatIsHeardOfLate(t *testing.T) {
	const late = 20 * time.Minute // more than the grace
	active := func(w *world, since time.Time, roles ...string) schema.LiveEngagement {
		l := w.lives("E1", 1, roles...)
		l.Since = schema.At(since)
		return l
	}
	from, until := noon.Add(-2*time.Hour), noon.Add(-time.Hour)
	for _, how := range []struct {
		name  string
		cuts  int // of E1 that are reported: what was heard before it was known to be over
		begin func(w *world)
	}{
		{"recalled as over", 0, func(w *world) {
			w.recovers(func() { w.recalls("E1", "resume#1.8", until) })
			w.lists("ffff", "no-roster", active(w, until))
			w.hears("", w.repeats(7, from))
		}},
		{"recalled as over, before any roster", 0, func(w *world) {
			w.recovers(func() { w.recalls("E1", "resume#1.8", until) })
			w.take(w.say("", w.repeats(7, from)), entry.DispositionAdmitted, "no-roster")
			w.lists("ffff", "no-roster", active(w, until))
		}},
		{"recalled, and its end behind it", 1, func(w *world) {
			w.recovers(func() {
				w.recalls("E1", "suspend#1.7", from)
				w.recalls("E1", "resume#1.8", until)
			})
			w.wait(late)
			w.lists("ffff", "no-roster", active(w, until))
		}},
		{"over by a roster", 0, func(w *world) {
			w.recovers(func() {})
			w.lists("ffff", "no-roster", active(w, until))
			w.hears("", w.repeats(7, from))
		}},
		{"over by a roster that comes soon", 1, func(w *world) {
			w.recovers(func() {})
			w.take(w.say("", w.repeats(7, from)), entry.DispositionAdmitted, "no-roster")
			w.lists("ffff", "no-roster", active(w, until))
		}},
	} {
		for _, then := range []struct {
			name string
			make func(w *world)
		}{
			{"nothing", func(w *world) { w.add(&entry.Operator{By: "op", Action: "holds", Reason: "later"}) }},
			{"another roster", func(w *world) { w.does("E1", "active", w.lists("fffe", "", active(w, until, "lead")), "add-member") }},
			{"a joiner", func(w *world) { w.does("E1", "active", w.hears("E1", w.joiner(2)), "update") }},
			{"a mover", func(w *world) { w.does("E1", "active", w.hears("E1", w.mover(1, "lead")), "add-member") }},
			{"another resume", func(w *world) { w.hears("E1", w.resume(1)) }},
			{"the same heartbeat, and a joiner", func(w *world) { w.hears("", w.repeats(7, from)); w.wait(late); w.hears("E1", w.joiner(2)) }},
		} {
			t.Run(how.name+", then "+then.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				how.begin(w)
				w.wait(late)
				then.make(w)
				w.wait(late)
				w.joins("E9")
				w.publish()
				r := w.verify(w.options())
				wants(t, r)
				if of := slices.DeleteFunc(r.Cuts, func(c *Cut) bool { return c.Subject != "E1" }); len(of) != how.cuts {
					t.Errorf("want %d cuts of E1 in the report, got %d", how.cuts, len(of))
				}
			})
		}
	}
	// ahead has E1 suspended in an hour, by a roster whose head is a mover of E1's, and returns the place of that.
	ahead := func(w *world) uint64 {
		w.begin()
		w.joins("E1")
		e := w.suspend(1)
		e.Effective = schema.At(w.now.Add(time.Hour))
		w.hears("E1", e)
		w.hears("E1", w.mover(1, "lead"))
		l := w.lives("E1", 1, "lead")
		l.State, l.Since = schema.StateSuspended, e.Effective
		return w.lists("ffff", "", l)
	}
	for _, tc := range []struct {
		name string
		make func(w *world)
		want []string
	}{
		{"one past what was recalled as over", func(w *world) {
			w.recovers(func() { w.recalls("E1", "resume#1.8", until) })
			w.lists("ffff", "no-roster", active(w, until))
			w.hears("E2", w.joiner(1))
			w.say("E1", w.suspend(1))
			w.take(w.say("", w.repeats(13, w.now)), entry.DispositionGap, "gap")
			w.wait(late)
			w.take(w.say("E3", w.joiner(1)), entry.DispositionGap, "gap")
		}, []string{"cut-missing"}},
		{"one past what was recalled as over, and a roster ends it late", func(w *world) {
			w.recovers(func() { w.recalls("E1", "resume#1.8", until) })
			w.lists("ffff", "no-roster", active(w, until))
			w.say("E1", w.suspend(1))
			w.take(w.say("", w.repeats(12, w.now)), entry.DispositionGap, "gap")
			w.wait(late)
			parts, err := schema.SplitRoster("0192f0c1-0000-7000-8000-00000000fffe", schema.RosterHead{Generation: w.gen, Seq: w.seq, Hash: w.prev}, []schema.LiveEngagement{active(w, w.now)}, nil)
			if err != nil {
				w.t.Fatal(err)
			}
			s := w.say("", parts[0])
			w.take(s, entry.DispositionGap, "gap")
			w.applies(s)
		}, []string{"cut-missing"}},
		{"one that comes when a roster has stated a later one", func(w *world) {
			w.recovers(func() {})
			l := active(w, w.now.Add(24*time.Hour))
			l.State = schema.StateSuspended
			w.lists("ffff", "no-roster", l)
			w.hears("", w.repeats(7, from))
			w.wait(late)
			w.joins("E9")
		}, nil},
		{"one that comes before a roster states a later one", func(w *world) {
			w.recovers(func() {})
			w.take(w.say("", w.repeats(7, from)), entry.DispositionAdmitted, "no-roster")
			l := active(w, w.now.Add(24*time.Hour))
			l.State = schema.StateSuspended
			w.lists("ffff", "no-roster", l)
			w.wait(late)
			w.joins("E9")
		}, []string{"cut-missing"}},
		{"one that is carried out by a roster whose head is another word on the person", func(w *world) {
			head := ahead(w)
			w.wait(time.Hour + time.Minute)
			w.does("E1", "suspended", head, "disable", "revoke-sessions")
		}, nil},
		{"one that a roster is said to have ordered, before its date", func(w *world) {
			head := ahead(w)
			w.does("E1", "suspended", head, "disable", "revoke-sessions")
		}, []string{"cause-mismatch"}},
		{"one by a roster that is taken in when it is over", func(w *world) {
			w.begin()
			w.joins("E1")
			l := active(w, w.now, "analyst")
			l.State = schema.StateSuspended
			s := w.rosters([]schema.LiveEngagement{l}, nil)[0]
			w.take(s, entry.DispositionAdmitted, "")
			w.wait(late)
			w.hears("E1", w.resume(1))
			w.applies(s)
			w.wait(late)
			w.hears("E1", w.joiner(2))
		}, nil},
		{"one by a roster that is taken in while it stands", func(w *world) {
			w.begin()
			w.joins("E1")
			l := active(w, w.now, "analyst")
			l.State = schema.StateSuspended
			s := w.rosters([]schema.LiveEngagement{l}, nil)[0]
			w.take(s, entry.DispositionAdmitted, "")
			w.hears("E1", w.resumes(w.now.Add(time.Hour)))
			w.applies(s)
			w.wait(2 * time.Hour)
			w.hears("E1", w.joiner(2))
		}, []string{"cut-missing"}},
		{"recalled with its end ahead", func(w *world) {
			w.recovers(func() {
				w.recalls("E1", "resume#1.8", noon.Add(time.Hour))
				w.recalls("E1", "suspend#1.7", from)
			})
			w.wait(2 * time.Hour)
			w.add(&entry.Operator{By: "op", Action: "holds", Reason: "later"})
		}, []string{"cut-missing"}},
		{"recalled with its end ahead, and carried out", func(w *world) {
			w.recovers(func() {
				w.recalls("E1", "resume#1.8", noon.Add(time.Hour))
				w.recalls("E1", "suspend#1.7", from)
			})
			w.does("E1", "suspended", 7, "disable", "revoke-sessions")
			head := w.lists("ffff", "no-roster", active(w, noon.Add(time.Hour)))
			w.hears("", w.repeats(7, from))
			w.wait(2 * time.Hour)
			w.does("E1", "active", head, "enable")
			w.wait(late)
			w.hears("E1", w.joiner(2))
		}, nil},
		{"of another engagement than what is over", func(w *world) {
			w.recovers(func() { w.recalls("E1", "resume#1.8", until) })
			b := w.repeats(9, until)
			b.Cuts[0].Engagement = 2
			w.take(w.say("", b), entry.DispositionAdmitted, "no-roster")
			w.wait(late)
			w.add(&entry.Operator{By: "op", Action: "holds", Reason: "later"})
		}, []string{"cut-missing"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tc.make(w)
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
		})
	}
}

// A suspension that ends on a date to come is to be carried out until then, and is over from then on.
func TestASuspensionThatEndsOnADate(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name string
		make func(w *world)
		want []string
	}{
		{"carried out, and more is said after it", func(w *world) {
			w.does("E1", "suspended", w.hears("E1", w.suspend(1)), "disable", "revoke-sessions")
			seq := w.hears("E1", w.resumes(w.now.Add(day)))
			w.wait(day)
			w.does("E1", "active", seq-2, "enable")
			w.wait(day)
			w.hears("E1", w.joiner(2))
		}, nil},
		{"not carried out", func(w *world) {
			w.hears("E1", w.suspend(1))
			w.hears("E1", w.resumes(w.now.Add(day)))
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, []string{"cut-missing"}},
		{"not carried out until the day", func(w *world) {
			w.hears("E1", w.suspend(1))
			w.hears("E1", w.resumes(w.now.Add(day)))
			w.wait(2 * day)
			w.hears("E1", w.joiner(2))
		}, []string{"cut-missing"}},
		{"not carried out, and the date is put forward to now", func(w *world) {
			w.hears("E1", w.suspend(1))
			w.hears("E1", w.resumes(w.now.Add(day)))
			w.wait(time.Hour)
			w.hears("E1", w.resume(1))
		}, []string{"cut-missing"}},
		{"over within the grace", func(w *world) {
			w.hears("E1", w.suspend(1))
			w.hears("E1", w.resumes(w.now.Add(time.Minute)))
			w.wait(day)
			w.hears("E1", w.joiner(2))
		}, nil},
		{"held until the day, beside one of somebody else with a later day", func(w *world) {
			w.joins("E2")
			w.does("E2", "suspended", w.hears("E2", w.suspend(1)), "disable", "revoke-sessions")
			w.hears("E2", w.resumes(w.now.Add(2*day)))
			w.hears("E1", w.suspend(1))
			w.hears("E1", w.resumes(w.now.Add(time.Hour)))
			w.heldFor(time.Hour)
			w.wait(day)
			w.hears("E1", w.joiner(2))
		}, nil},
		{"the resume is disowned before its day, and nothing was done", func(w *world) {
			w.hears("E1", w.suspend(1))
			s := w.hears("E1", w.resumes(w.now.Add(time.Minute)))
			w.add(&entry.Trust{Action: entry.TrustRevoke, Key: w.signer.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: s - 1, By: "op"})
			w.wait(day)
			w.add(&entry.Operator{By: "op", Action: "holds", Reason: "later"})
		}, []string{"cut-missing"}},
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

// A word that waited behind a gap gives access back when it comes into sequence.
func TestAccessThatComesBackWithAGapThatCloses(t *testing.T) {
	const late = 20 * time.Minute
	closes := func(w *world, e schema.Event, then func(seq uint64)) {
		w.wait(late)
		lost, s := w.say("E2", w.joiner(1)), w.say("E1", e)
		w.take(s, entry.DispositionGap, "gap")
		w.wait(time.Second)
		w.take(lost, entry.DispositionFilled, "")
		then(s.set.Stream.Seq)
		w.wait(late)
	}
	for _, tc := range []struct {
		name string
		make func(w *world)
		want []string
	}{
		{"a resume, and a later one", func(w *world) {
			seq := w.seq
			w.does("E1", "suspended", w.hears("E1", w.suspend(1)), "disable", "revoke-sessions")
			closes(w, w.resume(1), func(uint64) { w.does("E1", "active", seq, "enable") })
			w.hears("E1", w.resume(1))
		}, nil},
		{"a resume of what was not carried out", func(w *world) {
			w.hears("E1", w.suspend(1))
			closes(w, w.resume(1), func(uint64) {})
		}, []string{"cut-missing"}},
		{"a resume that stays behind it", func(w *world) {
			w.hears("E1", w.suspend(1))
			w.say("E2", w.joiner(1))
			w.take(w.say("E1", w.resume(1)), entry.DispositionGap, "gap")
			w.wait(late)
			w.take(w.say("E3", w.joiner(1)), entry.DispositionGap, "gap")
		}, []string{"cut-missing"}},
		{"a joiner, and a later one", func(w *world) {
			w.leaves("E1")
			closes(w, w.joiner(2), func(seq uint64) { w.does("E1", "active", seq, "enable") })
			w.hears("E1", w.joiner(3))
		}, nil},
		{"a roster's live engagement, and a later joiner", func(w *world) {
			w.leaves("E1")
			w.wait(late)
			w.does("E1", "active", w.lists("ffff", "", w.lives("E1", 2)), "enable")
			w.wait(late)
			w.hears("E1", w.joiner(3))
		}, nil},
		{"a roster's live engagement after what was not carried out", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.wait(late)
			w.lists("ffff", "", w.lives("E1", 2))
		}, []string{"cut-missing"}},
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
