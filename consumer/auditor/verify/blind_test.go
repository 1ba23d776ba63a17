package verify

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/archive"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// A message of a newer version stays where it is, and the chain before it: its entry says so too.
func TestANewerVersionWithoutTheArchive(t *testing.T) {
	w := newWorld(t).begin()
	w.joins("E1")
	lost := w.say("E2", w.joiner(1))
	newer := w.say("E3", w.joiner(1))
	newer.payload = bytes.Replace(newer.payload, []byte("joiner:v1"), []byte("joiner:v9"), 1)
	newer.digest = schema.DigestOf(newer.payload)
	w.prev = newer.digest
	m := w.recorded(newer)
	m.Event = "joiner:v9"
	jws, err := newer.signer.Sign(newer.payload)
	if err != nil {
		t.Fatal(err)
	}
	w.rows = append(w.rows, archive.Row{ID: int64(len(w.rows) + 1), Day: w.now, Payload: newer.digest, JWS: string(jws)})
	w.add(&entry.Received{Message: m, Disposition: entry.DispositionGap, Code: "gap"})
	w.take(w.say("E4", w.joiner(1)), entry.DispositionGap, "gap")
	w.take(lost, entry.DispositionFilled, "")
	w.take(w.say("E5", w.joiner(1)), entry.DispositionGap, "gap")
	w.publish()
	wants(t, w.verify(w.options()))
}

// What a roster states is not at hand with the tiles alone. Of whom it may speak nothing is known then, and nobody is
// accused by that: [world.verify] holds that of every ledger of these tests, and here of what a roster changes. What was
// amiss before it came is amiss whatever it says.
func TestNobodyIsAccusedOfWhatARosterMaySay(t *testing.T) {
	const late = 20 * time.Minute
	active := func(w *world, n int, roles ...string) schema.LiveEngagement {
		l := w.lives("E1", n, roles...)
		l.Since = schema.At(w.now.Add(-time.Second))
		return l
	}
	covers := func(w *world, l schema.LiveEngagement) uint64 { // with the resume that was lost
		w.say("E1", w.resume(1))
		head := w.seq
		parts, err := schema.SplitRoster("0192f0c1-0000-7000-8000-00000000fffe", schema.RosterHead{Generation: w.gen, Seq: head, Hash: w.prev}, []schema.LiveEngagement{l}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := w.say("", parts[0])
		w.take(s, entry.DispositionGap, "gap")
		w.applies(s)
		return head
	}
	for _, tc := range []struct {
		name  string
		make  func(w *world)
		state CutState // of the first cut of E1, with the tiles alone
		want  []string // with and without the archive
	}{
		{"a suspension that it ends", func(w *world) {
			w.does("E1", "suspended", w.hears("E1", w.suspend(1)), "disable", "revoke-sessions")
			w.wait(late)
			w.does("E1", "active", covers(w, active(w, 1)), "enable")
			w.wait(late)
			w.joins("E9")
		}, CutDone, nil},
		{"a suspension that it ends, and a mover", func(w *world) {
			w.does("E1", "suspended", w.hears("E1", w.suspend(1)), "disable", "revoke-sessions")
			w.does("E1", "active", covers(w, active(w, 1)), "enable")
			w.wait(late)
			w.does("E1", "active", w.hears("E1", w.mover(1, "lead")), "add-member")
			w.wait(late)
			w.joins("E9")
		}, CutDone, nil},
		{"a suspension that it ends before it was carried out", func(w *world) {
			w.hears("E1", w.suspend(1))
			w.wait(time.Minute)
			covers(w, active(w, 1))
			w.wait(late)
			w.joins("E9")
		}, CutUnknown, nil},
		{"a suspension that it ends before it was carried out, and a leaver", func(w *world) {
			w.hears("E1", w.suspend(1))
			w.wait(time.Minute)
			covers(w, active(w, 1))
			w.wait(late)
			w.leaves("E1")
		}, CutUnknown, nil},
		{"a suspension that it ends, cut just before", func(w *world) {
			seq := w.hears("E1", w.suspend(1))
			w.does("E1", "suspended", seq, "disable")
			covers(w, active(w, 1))
			w.wait(late)
			w.joins("E9")
		}, CutUnknown, nil},
		{"a leaver whom it has as hired again", func(w *world) {
			w.leaves("E1")
			w.wait(late)
			w.does("E1", "active", w.lists("ffff", "", active(w, 2)), "enable")
			w.wait(late)
			w.does("E1", "active", w.hears("E1", w.mover(2, "lead")), "add-member")
		}, CutDone, nil},
		{"a lease that it renews", func(w *world) {
			i := w.add(&entry.Lease{Action: entry.LeaseExpired, Issuer: issuer, Subject: "E1", Engagement: 1})
			in := w.intends("E1", "lease", 1, "disable", "revoke-sessions")
			w.entries[in].Body.(*entry.Intent).Cause = entry.Cause{Type: entry.CauseLease, Code: "lease", Entry: &i}
			w.answers("E1", in, entry.ResultApplied)
			w.wait(late)
			w.does("E1", "active", w.lists("ffff", "", active(w, 1, "x")), "enable")
			w.wait(late)
			w.does("E1", "active", w.hears("E1", w.mover(1, "lead")), "add-member")
		}, CutDone, nil},
		{"a leaver whom it does not name, cut after it", func(w *world) {
			seq := w.hears("E1", w.leaver(1))
			w.lists("ffff", "", w.lives("E7", 1))
			w.wait(time.Second)
			w.does("E1", "left", seq, "disable", "revoke-sessions")
			w.wait(late)
			w.joins("E9")
		}, CutDone, nil},
		{"a leaver who was not cut long before it", func(w *world) {
			w.hears("E1", w.leaver(1))
			w.wait(late)
			w.lists("ffff", "", w.lives("E7", 1))
			w.wait(late)
			w.joins("E9")
		}, CutNever, []string{"cut-missing"}},
		{"a leaver who came after it", func(w *world) {
			w.lists("ffff", "", active(w, 1))
			w.hears("E1", w.leaver(1))
			w.wait(late)
			w.joins("E9")
		}, CutNever, []string{"cut-missing"}},
		{"a cut by hand", func(w *world) {
			w.add(&entry.Operator{By: "op", Action: "cut", Issuer: issuer, Subject: "E1", Reason: "x"})
			covers(w, active(w, 1))
			w.wait(late)
			w.joins("E9")
		}, CutNever, []string{"cut-missing"}},
		{"one that does not agree with itself", func(w *world) {
			l := active(w, 1)
			parts, err := schema.SplitRoster("0192f0c1-0000-7000-8000-00000000ffff", schema.RosterHead{Generation: 1, Seq: w.seq, Hash: w.prev}, []schema.LiveEngagement{l}, nil)
			if err != nil {
				t.Fatal(err)
			}
			parts[0].Digest = schema.Digest{7}
			w.hears("", parts[0])
			w.wait(3 * time.Hour)
			w.joins("E9")
		}, "", nil},
		{"what it confirms of a key that is revoked", func(w *world) {
			thief := w.signer
			key, next := newSigner(t, keys.ES256)
			w.trust = cardOf(t, issuer, w.key, key)
			seq := w.hears("E1", w.mover(1, "lead"))
			w.does("E1", "active", seq, "add-member")
			w.trusts(next.KID(), 0)
			w.signer = next
			w.hears("E2", w.joiner(1))
			head := w.seq
			w.lists("ffff", "", w.lives("E1", 1, "lead"))
			w.add(&entry.Trust{Action: entry.TrustRevoke, Key: thief.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 1, By: "op"})
			w.wait(late)
			w.does("E1", "active", head, "set-manager")
			w.wait(late)
			w.does("E1", "active", seq, "update")
		}, "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).begin()
			w.joins("E1")
			w.wait(time.Minute)
			tc.make(w)
			w.publish()
			wants(t, w.verify(w.options()), tc.want...)
			o := w.options()
			o.TilesOnly = true
			r := w.verify(o)
			wants(t, r, tc.want...)
			i := slices.IndexFunc(r.Cuts, func(c *Cut) bool { return c.Subject == "E1" })
			if tc.state == "" {
				return
			}
			if i < 0 || r.Cuts[i].State != tc.state {
				t.Fatalf("want the cut %s, got %+v", tc.state, r.Cuts)
			}
			var text strings.Builder
			if err := r.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			if told := strings.Contains(text.String(), "archive"); told != (tc.state == CutUnknown) {
				t.Errorf("what to look at: %v\n%s", told, text.String())
			}
		})
	}
}
