package verify

import (
	"fmt"
	"testing"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// rosters says the parts of a roster taken now; the caller takes them.
func (w *world) rosters(live []schema.LiveEngagement, closed []schema.ClosedEngagement) (list []*said) {
	w.t.Helper()
	parts, err := schema.SplitRoster("0192f0c1-0000-7000-8000-00000000ffff", schema.RosterHead{Generation: w.gen, Seq: w.seq, Hash: w.prev}, live, closed)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range parts {
		list = append(list, w.say("", p))
	}
	return list
}

func (w *world) applies(s *said) {
	p := s.set.Stream
	w.add(&entry.Lease{Action: entry.LeaseRenewed, Issuer: s.set.Issuer, Count: 1,
		Cause: &entry.Cause{Type: entry.CauseMessage, Position: &entry.Position{Issuer: s.set.Issuer, Stream: "hr", Generation: p.Generation, Seq: p.Seq}}})
}

// listsBoth is a roster of one part that is taken and applied; it returns the number of its head.
func (w *world) listsBoth(id string, live []schema.LiveEngagement, closed []schema.ClosedEngagement) uint64 {
	w.t.Helper()
	head := w.seq
	parts, err := schema.SplitRoster("0192f0c1-0000-7000-8000-00000000"+id, schema.RosterHead{Generation: w.gen, Seq: head, Hash: w.prev}, live, closed)
	if err != nil {
		w.t.Fatal(err)
	}
	s := w.say("", parts[0])
	w.take(s, entry.DispositionAdmitted, "")
	w.applies(s)
	return head
}

func (w *world) lives(subject string, n int, roles ...string) schema.LiveEngagement {
	return schema.LiveEngagement{Subject: subject, Engagement: n, State: schema.StateActive, Since: schema.At(noon.Add(-24 * time.Hour)),
		Person: somebody, Roles: sorted(roles), Start: schema.At(noon.Add(-24 * time.Hour))}
}

func TestRosters(t *testing.T) {
	gone := func(subject string) schema.ClosedEngagement {
		return schema.ClosedEngagement{Subject: subject, Engagement: 1, Effective: schema.At(noon)}
	}
	for _, tc := range []struct {
		name string
		make func(w *world)
		want []string
	}{
		{"the first of a generation, which confirms what waited", func(w *world) {
			w.hears("E1", w.joiner(1, "analyst"))
			w.gen, w.seq, w.prev = 2, 0, schema.Digest{}
			w.add(&entry.Trust{Action: entry.TrustGeneration, Issuer: issuer, Stream: "hr", Generation: 2, AtSeq: 1, By: "op"})
			w.listsBoth("fffd", []schema.LiveEngagement{w.lives("E1", 1, "analyst")}, nil)
			w.does("E1", "active", 1, "create", "add-member")
		}, nil},
		{"none, and a heartbeat that fills a gap and lies of what is here", func(w *world) {
			seq := w.hears("E1", w.joiner(1, "analyst"))
			lie := w.say("", w.repeats(seq, noon))
			w.take(w.say("E2", w.joiner(1, "analyst")), entry.DispositionGap, "gap")
			w.take(lie, entry.DispositionFilled, "")
			w.does("E1", "active", seq, "create", "add-member")
		}, nil},
		{"one that heals a gap, gives and cuts", func(w *world) {
			w.joins("E1")
			w.say("E2", w.joiner(1, "analyst"))
			w.say("E1", w.leaver(1))
			head := w.seq
			w.take(w.say("E3", w.joiner(1, "lead")), entry.DispositionGap, "gap")
			head++
			list := w.rosters([]schema.LiveEngagement{w.lives("E2", 1, "analyst"), w.lives("E3", 1, "lead")}, []schema.ClosedEngagement{gone("E1")})
			w.take(list[0], entry.DispositionGap, "gap")
			w.does("E1", "left", head, "disable")
			w.does("E2", "active", head, "create", "add-member")
			w.does("E1", "left", head, "revoke-sessions")
			w.applies(list[0])
			w.does("E3", "active", head, "create", "add-member")
			w.joins("E4")
		}, nil},
		{"what was missing comes late", func(w *world) {
			w.joins("E1")
			a, b := w.say("E2", w.joiner(1)), w.say("E1", w.leaver(1))
			list := w.rosters([]schema.LiveEngagement{w.lives("E2", 1)}, []schema.ClosedEngagement{gone("E1")})
			w.take(list[0], entry.DispositionGap, "gap")
			w.applies(list[0])
			w.does("E1", "left", 3, "disable")
			w.does("E1", "left", 3, "revoke-sessions")
			w.take(b, entry.DispositionFilled, "covered")
			w.take(a, entry.DispositionFilled, "covered")
			w.joins("E4")
		}, nil},
		{"one that fills a gap itself", func(w *world) {
			a := w.say("E1", w.joiner(1, "analyst"))
			list := w.rosters([]schema.LiveEngagement{w.lives("E1", 1, "analyst")}, nil)
			b := w.say("E2", w.joiner(1))
			w.take(b, entry.DispositionGap, "gap")
			w.take(a, entry.DispositionFilled, "")
			w.take(list[0], entry.DispositionFilled, "")
			w.applies(list[0])
			w.does("E1", "active", 1, "create")
		}, nil},
		{"one that repeats what holds", func(w *world) {
			seq := w.joins("E1")
			list := w.rosters([]schema.LiveEngagement{w.lives("E1", 1, "analyst")}, nil)
			w.take(list[0], entry.DispositionAdmitted, "")
			w.applies(list[0])
			w.does("E1", "active", seq, "add-member")
		}, nil},
		{"two that repeat a mover, of which the first is cited", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.mover(1, "analyst"))
			head := w.hears("E2", w.joiner(1))
			w.lists("000a", "", w.lives("E1", 1, "analyst"))
			w.lists("000b", "", w.lives("E1", 1, "analyst"))
			w.does("E1", "active", head, "add-member")
			w.does("E1", "active", head, "remove-member")
		}, nil},
		{"neither of two that repeat a mover is cited", func(w *world) {
			w.joins("E1")
			w.hears("E1", w.mover(1, "analyst"))
			w.hears("E2", w.joiner(1))
			other := w.hears("E2", w.mover(1))
			w.hears("E2", w.mover(1))
			w.lists("000a", "", w.lives("E1", 1, "analyst"))
			w.lists("000b", "", w.lives("E1", 1, "analyst"))
			w.does("E1", "active", other, "remove-member")
		}, []string{"cause-missing"}},
		{"many that repeat a mover of somebody hired again, of which the first is cited", func(w *world) {
			w.joins("E1")
			w.leaves("E1")
			w.does("E1", "active", w.hears("E1", w.joiner(2, "analyst")), "enable")
			w.hears("E1", w.mover(2, "lead"))
			first := w.seq + 1
			w.hears("E2", w.joiner(1))
			for n := range 60 {
				w.wait(24 * time.Hour)
				w.listsBoth(fmt.Sprintf("%04x", n), []schema.LiveEngagement{w.lives("E1", 2, "lead")}, []schema.ClosedEngagement{gone("E1")})
			}
			w.does("E1", "active", first, "add-member")
		}, nil},
		{"one that overtakes a mover to come", func(w *world) {
			w.joins("E1")
			m := w.mover(1, "lead")
			m.Effective = schema.At(w.now.Add(10 * 24 * time.Hour))
			w.hears("E1", m)
			head := w.lists("000a", "", w.lives("E1", 1, "analyst"))
			w.does("E1", "active", head, "add-member")
			w.wait(20 * 24 * time.Hour)
			w.does("E1", "active", head, "add-member")
		}, nil},
		{"a mover that was overtaken before its date is given", func(w *world) {
			w.joins("E1")
			m := w.mover(1, "lead")
			m.Effective = schema.At(w.now.Add(10 * 24 * time.Hour))
			seq := w.hears("E1", m)
			w.hears("E2", w.joiner(1))
			w.lists("000a", "", w.lives("E1", 1, "analyst"))
			w.wait(20 * 24 * time.Hour)
			w.does("E1", "active", seq, "add-member")
		}, []string{"cause-mismatch"}},
		{"one that has a suspension to come begin at once", func(w *world) {
			w.joins("E1")
			e := w.suspend(1)
			e.Effective = schema.At(w.now.Add(10 * 24 * time.Hour))
			w.hears("E1", e)
			w.hears("E2", w.joiner(1))
			l := w.lives("E1", 1, "analyst")
			l.State, l.Since = schema.StateSuspended, schema.At(w.now)
			head := w.lists("000a", "", l)
			w.does("E1", "suspended", head, "disable")
			w.does("E1", "suspended", head, "revoke-sessions")
			for n := range 20 {
				w.wait(24 * time.Hour)
				w.lists(fmt.Sprintf("%04x", n+16), "", l)
			}
		}, nil},
		{"one that has a suspension to come begin at once, which is not done", func(w *world) {
			w.joins("E1")
			e := w.suspend(1)
			e.Effective = schema.At(w.now.Add(10 * 24 * time.Hour))
			w.hears("E1", e)
			w.hears("E2", w.joiner(1))
			l := w.lives("E1", 1, "analyst")
			l.State, l.Since = schema.StateSuspended, schema.At(w.now)
			w.lists("000a", "", l)
			w.wait(time.Hour)
			w.hears("E2", w.mover(1))
		}, []string{"cut-missing"}},
		{"one that ends a suspension before its date", func(w *world) {
			w.joins("E1")
			cut := w.hears("E1", w.suspend(1))
			w.does("E1", "suspended", cut, "disable")
			w.does("E1", "suspended", cut, "revoke-sessions")
			w.hears("E1", w.resumes(w.now.Add(10*24*time.Hour)))
			w.wait(time.Hour)
			l := w.lives("E1", 1, "analyst")
			l.Since = schema.At(w.now)
			head := w.lists("000a", "", l)
			w.does("E1", "active", head, "enable")
		}, nil},
		{"one that lets a suspension go on past its date", func(w *world) {
			seq := w.joins("E1")
			e := w.suspend(1)
			cut := w.hears("E1", e)
			w.does("E1", "suspended", cut, "disable")
			w.does("E1", "suspended", cut, "revoke-sessions")
			w.hears("E1", w.resumes(w.now.Add(10*24*time.Hour)))
			l := w.lives("E1", 1, "analyst")
			l.State, l.Since = schema.StateSuspended, e.Effective
			w.lists("000a", "", l)
			w.wait(20 * 24 * time.Hour)
			w.does("E1", "active", seq, "enable")
		}, []string{"give-after-cut"}},
		{"a stream joined late, from its first roster on", func(w *world) {
			w.entries, w.rows = w.entries[:1], nil
			w.say("E1", w.joiner(1))
			head := w.prev
			w.trusts(w.signer.KID(), 1)
			tr := w.entries[1].Body.(*entry.Trust)
			tr.AtSeq, tr.Head = 2, &head
			w.add(&entry.Policy{Digest: policyA})
			w.take(w.say("E2", w.joiner(1)), entry.DispositionAdmitted, "no-roster")
			list := w.rosters([]schema.LiveEngagement{w.lives("E1", 1), w.lives("E2", 1)}, nil)
			w.take(list[0], entry.DispositionAdmitted, "no-roster")
			w.does("E1", "active", 2, "create")
			w.applies(list[0])
			w.joins("E3")
		}, nil},
		{"given before any roster of a stream joined late", func(w *world) {
			w.entries, w.rows = w.entries[:1], nil
			w.say("E1", w.joiner(1))
			head := w.prev
			w.trusts(w.signer.KID(), 1)
			tr := w.entries[1].Body.(*entry.Trust)
			tr.AtSeq, tr.Head = 2, &head
			w.add(&entry.Policy{Digest: policyA})
			w.take(w.say("E2", w.joiner(1)), entry.DispositionAdmitted, "no-roster")
			w.does("E2", "active", 2, "create")
		}, []string{"give-without-fact"}},
		{"given to somebody whom the roster does not name", func(w *world) {
			list := w.rosters([]schema.LiveEngagement{w.lives("E1", 1)}, nil)
			w.take(list[0], entry.DispositionAdmitted, "")
			w.applies(list[0])
			w.does("E2", "active", 1, "create")
		}, []string{"give-without-fact"}},
		{"given against a roster's closed engagement", func(w *world) {
			seq := w.joins("E1")
			list := w.rosters(nil, []schema.ClosedEngagement{gone("E1")})
			w.take(list[0], entry.DispositionAdmitted, "")
			w.applies(list[0])
			w.does("E1", "left", seq, "disable")
			w.does("E1", "left", seq, "revoke-sessions")
			w.wait(time.Hour)
			w.does("E1", "active", seq, "enable")
		}, []string{"give-after-cut"}},
		{"a cut by a roster that is not done", func(w *world) {
			w.joins("E1")
			list := w.rosters(nil, []schema.ClosedEngagement{gone("E1")})
			w.take(list[0], entry.DispositionAdmitted, "")
			w.applies(list[0])
			w.wait(time.Hour)
			w.hears("E2", w.joiner(1))
		}, []string{"cut-missing"}},
		{"a lease that ran out, and a roster that restores it", func(w *world) {
			seq := w.joins("E1")
			w.wait(8 * 24 * time.Hour)
			i := w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E1", Engagement: 1})
			w.byLease("E1", i)
			w.wait(time.Hour)
			list := w.rosters([]schema.LiveEngagement{w.lives("E1", 1, "analyst")}, nil)
			w.take(list[0], entry.DispositionAdmitted, "")
			w.applies(list[0])
			w.does("E1", "active", seq, "enable")
		}, nil},
		{"a lease that ran out, and a roster that restores it and is not all applied yet", func(w *world) {
			seq := w.joins("E1")
			w.joins("E2")
			w.wait(8 * 24 * time.Hour)
			i := w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E1", Engagement: 1})
			w.byLease("E1", i)
			w.wait(time.Hour)
			list := w.rosters([]schema.LiveEngagement{w.lives("E1", 1, "analyst")}, nil)
			w.take(list[0], entry.DispositionAdmitted, "")
			w.does("E1", "active", seq, "enable")
			w.applies(list[0])
		}, nil},
		{"a lease that ran out, and a roster that is not all applied yet and has others", func(w *world) {
			seq := w.joins("E1")
			w.joins("E2")
			i := w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E1", Engagement: 1})
			w.byLease("E1", i)
			w.wait(time.Hour)
			list := w.rosters([]schema.LiveEngagement{w.lives("E2", 1, "analyst")}, nil)
			w.take(list[0], entry.DispositionAdmitted, "")
			w.does("E1", "active", seq, "enable")
			w.applies(list[0])
		}, []string{"give-after-cut"}},
		{"given while a lease had run out", func(w *world) {
			seq := w.joins("E1")
			i := w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E1", Engagement: 1})
			w.byLease("E1", i)
			w.wait(time.Hour)
			w.does("E1", "active", seq, "enable")
		}, []string{"give-after-cut"}},
		{"a lease that ran out and was not carried out", func(w *world) {
			w.joins("E1")
			w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E1", Engagement: 1})
			w.wait(time.Hour)
			w.joins("E2")
		}, []string{"cut-missing"}},
		{"one that is never applied", func(w *world) {
			w.take(w.rosters([]schema.LiveEngagement{w.lives("E1", 1)}, nil)[0], entry.DispositionAdmitted, "")
			w.wait(61 * time.Minute)
			w.joins("E2")
		}, []string{"roster-unapplied"}},
		{"one that is applied in time", func(w *world) {
			s := w.rosters([]schema.LiveEngagement{w.lives("E1", 1)}, nil)[0]
			w.take(s, entry.DispositionAdmitted, "")
			w.wait(59 * time.Minute)
			w.joins("E2")
		}, nil},
		{"one that a later one overtook", func(w *world) {
			w.take(w.rosters([]schema.LiveEngagement{w.lives("E1", 1)}, nil)[0], entry.DispositionAdmitted, "")
			parts, err := schema.SplitRoster("0192f0c1-0000-7000-8000-00000000fffe", schema.RosterHead{Generation: w.gen, Seq: w.seq, Hash: w.prev}, []schema.LiveEngagement{w.lives("E1", 1)}, nil)
			if err != nil {
				w.t.Fatal(err)
			}
			s := w.say("", parts[0])
			w.take(s, entry.DispositionAdmitted, "")
			w.applies(s)
			w.wait(24 * time.Hour)
			w.joins("E2")
		}, nil},
		{"one that came before a long stop", func(w *world) {
			w.take(w.rosters([]schema.LiveEngagement{w.lives("E1", 1)}, nil)[0], entry.DispositionAdmitted, "")
			w.wait(24 * time.Hour)
			again := *w.entries[0].Body.(*entry.Started)
			w.add(&again)
			w.wait(59 * time.Minute)
			w.joins("E2")
		}, nil},
		{"one that waits for room on the disk", func(w *world) {
			w.take(w.rosters([]schema.LiveEngagement{w.lives("E1", 1)}, nil)[0], entry.DispositionAdmitted, "")
			w.add(&entry.Alarm{Code: "disk-full", State: entry.AlarmRaised, Severity: "critical"})
			w.wait(24 * time.Hour)
			w.joins("E2")
		}, nil},
		{"one that had room for more than an hour", func(w *world) {
			w.take(w.rosters([]schema.LiveEngagement{w.lives("E1", 1)}, nil)[0], entry.DispositionAdmitted, "")
			w.add(&entry.Alarm{Code: "disk-full", State: entry.AlarmRaised, Severity: "critical"})
			w.wait(time.Hour)
			w.add(&entry.Alarm{Code: "disk-full", State: entry.AlarmCleared})
			w.wait(2 * time.Hour)
			w.joins("E2")
		}, []string{"roster-unapplied"}},
		{"one of a stolen key", func(w *world) {
			w.take(w.rosters([]schema.LiveEngagement{w.lives("E1", 1)}, nil)[0], entry.DispositionAdmitted, "")
			w.add(&entry.Trust{Action: entry.TrustRevoke, Key: w.signer.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 0, By: "op"})
			w.wait(24 * time.Hour)
			w.add(&entry.Operator{By: "op", Action: "holds", Reason: "later"})
		}, nil},
		{"one that is not whole is said to be applied", func(w *world) {
			w.joins("E1")
			list := w.rosters([]schema.LiveEngagement{w.lives("E1", 1, "analyst")}, nil)
			r := list[0].set.Event.(*schema.Roster)
			r.Digest = schema.DigestOf([]byte("another"))
			w.prev, w.seq = list[0].set.Stream.Prev, w.seq-1
			s := w.say("", r)
			w.take(s, entry.DispositionAdmitted, "")
			w.applies(s)
		}, []string{"roster-unknown"}},
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
