package intake

import (
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// goesOn is the alarm that a branch goes on; ok is false where it does not stand.
func (w *world) goesOn() (a state.Alarm, ok bool) {
	w.t.Helper()
	list, err := state.Alarms(w.db.Read())
	if err != nil {
		w.t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(a state.Alarm) bool { return a.Code == ruling.AlarmGoesOn })
	if i < 0 {
		return a, false
	}
	return list[i], true
}

func (p *producer) kid() string {
	p.t.Helper()
	kid, err := keys.ID(p.key.Public())
	if err != nil {
		p.t.Fatal(err)
	}
	return kid
}

// ruled is a fork of which the branch was chosen that was followed; the messages of the other one are bs.
func ruled(t *testing.T) *forked {
	f := newForked(t)
	f.give(f.as...)
	f.give(f.bs...)
	f.choose(f.as[0].payload)
	return f
}

// A key that signs on where an operator ruled that the chain does not go is told, with the message that does; what was
// here when the operator ruled is not, however often it comes, and what more comes changes nothing on the ledger.
func TestABranchThatWasRuledOutGoesOn(t *testing.T) {
	f := ruled(t)
	f.give(f.bs...)
	f.give(f.as...)
	if a, ok := f.goesOn(); ok {
		t.Fatalf("want nothing of what was here, got %q", a.Text)
	}
	n := len(f.entries())
	more := f.b.joiner("fay", 1, "analyst")
	f.give(more, f.a.heartbeat())
	f.want(n, "received joiner:v1 7 fork: ruled-out", "raised branch-goes-on", "received heartbeat:v1 6 admitted")
	a, ok := f.goesOn()
	if !ok || a.Severity != state.Critical || a.Key != "hr#1@"+iss {
		t.Fatalf("got %+v", a)
	}
	for _, part := range []string{"stream hr", f.b.kid(), "message 7", "the branch of message 3, " + f.bs[0].payload.String()} {
		if !strings.Contains(a.Text, part) {
			t.Errorf("want %q said, got %q", part, a.Text)
		}
	}
	n = len(f.entries())
	f.set(t0.Add(time.Minute))
	f.give(f.b.heartbeat(), more)
	f.want(n, "received heartbeat:v1 8 fork: ruled-out", "received  7 duplicate: replay")
	if b, _ := f.goesOn(); b.Text != a.Text || !b.Last.After(a.Last) {
		t.Errorf("want the same said again, got %+v", b)
	}
	if f.view("fay").Access || f.stream().State != admit.Live || f.stream().Head != 6 {
		t.Error("want nothing given there, and nothing stopped")
	}
}

func TestWhatGoesOnOnARuledOutBranchEnds(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(f *forked)
		ends bool
	}{
		{"nothing came for a day", func(f *forked) {
			f.set(t0.Add(25 * time.Hour))
			f.sweep()
		}, true},
		{"something came within a day", func(f *forked) {
			f.set(t0.Add(23 * time.Hour))
			f.give(f.b.heartbeat())
			f.set(t0.Add(46 * time.Hour))
			f.sweep()
		}, false},
		{"only what was here came within a day", func(f *forked) {
			f.set(t0.Add(23 * time.Hour))
			f.give(f.bs...)
			f.set(t0.Add(25 * time.Hour))
			f.sweep()
		}, true},
		{"the key is revoked from there", func(f *forked) {
			f.update(func(tx *store.Tx) error {
				if _, err := ruling.Revoke(t.Context(), f.db, tx, f.b.kid(), admit.Point{Generation: 1, Seq: 7}, f.by()); err != nil {
					return err
				}
				return Voices(tx, *f.now.Load())
			})
		}, true},
		{"the key is retired at its last message there", func(f *forked) {
			f.update(func(tx *store.Tx) error {
				if err := state.RetireKey(tx, f.b.kid(), admit.Point{Generation: 1, Seq: 7}, f.by()); err != nil {
					return err
				}
				return Voices(tx, *f.now.Load())
			})
		}, true},
		{"the key may say more there", func(f *forked) {
			f.update(func(tx *store.Tx) error {
				if err := state.RetireKey(tx, f.b.kid(), admit.Point{Generation: 1, Seq: 8}, f.by()); err != nil {
					return err
				}
				return Voices(tx, *f.now.Load())
			})
		}, false},
		{"the key is retired and says its last", func(f *forked) {
			f.update(func(tx *store.Tx) error {
				return state.RetireKey(tx, f.b.kid(), admit.Point{Generation: 1, Seq: 8}, f.by())
			})
			f.give(f.b.heartbeat())
			f.sweep()
		}, false},
		{"a later generation is followed", func(f *forked) {
			f.update(func(tx *store.Tx) error {
				if err := state.TrustGeneration(tx, iss, "hr", state.Pin{Generation: 2}, f.by()); err != nil {
					return err
				}
				return Voices(tx, *f.now.Load())
			})
			f.give(f.b.heartbeat()) // of the one before
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := ruled(t)
			f.give(f.b.joiner("fay", 1, "analyst"))
			if _, ok := f.goesOn(); !ok {
				t.Fatal("want the alarm")
			}
			tc.do(f)
			if a, ok := f.goesOn(); ok == tc.ends {
				t.Errorf("want it ended: %t, got %+v", tc.ends, a)
			}
		})
	}
}

// Two keys go on, on two branches: each is named with its own, and whose end came is left out.
func TestTwoBranchesGoOn(t *testing.T) {
	w, p := setup(t)
	next := *p
	next.rekey()
	w.trust(&next)
	w.give(p.joiner("ann", 1, "analyst"))
	a, b, c := p.branch(), next.branch(), p.branch()
	a.seq, a.prev = p.seq, p.prev
	b.seq, b.prev = p.seq, p.prev
	c.seq, c.prev = p.seq, p.prev
	first := []sealed{a.joiner("bob", 1, "analyst"), b.joiner("cyd", 1, "analyst"), c.joiner("dan", 1, "analyst")}
	w.give(first...)
	w.choose(first[0].payload)
	w.give(b.heartbeat(), c.heartbeat(), b.heartbeat())
	text := func() string { x, _ := w.goesOn(); return x.Text }
	ofB := "key " + b.kid() + " signed message 3, and maybe more, on the branch of message 2, " + first[1].payload.String()
	ofC := "key " + c.kid() + " signed message 3, and maybe more, on the branch of message 2, " + first[2].payload.String()
	if got := text(); !strings.Contains(got, ofB) || !strings.Contains(got, ofC) {
		t.Errorf("want both named, got %q", got)
	}
	w.update(func(tx *store.Tx) error {
		if err := state.RetireKey(tx, b.kid(), admit.Point{Generation: 1, Seq: 4}, w.by()); err != nil {
			return err
		}
		return Voices(tx, *w.now.Load())
	})
	if got := text(); strings.Contains(got, ofB) || !strings.Contains(got, ofC) {
		t.Errorf("want the other one alone, got %q", got)
	}
}

// What was parked when the operator ruled is no news either, and what was parked after it is.
func TestWhatWasParkedBeforeARulingIsNoNews(t *testing.T) {
	for _, after := range []bool{false, true} {
		f := newForked(t)
		f.give(f.as...)
		f.give(f.bs...)
		late := *f.b
		late.rekey()
		parked := late.joiner("fay", 1, "analyst")
		if !after {
			f.give(parked)
		}
		f.set(t0.Add(time.Minute))
		f.choose(f.as[0].payload)
		if after {
			f.set(t0.Add(2 * time.Minute))
			f.give(parked)
		}
		f.trust(&late, schema.ProducerKinds...)
		f.sweep()
		if _, ok := f.goesOn(); ok != after || f.stream().RuledOut != 7 {
			t.Errorf("parked after the ruling %t: the alarm stands %t, and %d is the last that is ruled out", after, ok, f.stream().RuledOut)
		}
	}
}

// The way back from a ruling for a thief's branch: the producer's next generation, by its next key, gives what the right branch
// said, and with the stolen key's end what the thief gave is listed.
func TestTheWayBackFromAWrongRuling(t *testing.T) {
	f := newForked(t)
	f.give(f.as...)
	f.give(f.bs...)
	f.choose(f.bs[0].payload) // a thief's
	f.give(f.a.heartbeat())
	if _, ok := f.goesOn(); !ok || !f.view("dan").Access {
		t.Fatal("want the thief followed, and the producer told of")
	}
	next := *f.a
	next.rekey()
	next.generation, next.seq, next.prev = 2, 0, schema.Digest{}
	f.trust(&next, schema.ProducerKinds...)
	f.give(next.roster([]schema.LiveEngagement{lives("ann", 1, "analyst", "lead"), lives("bob", 1, "analyst"), lives("eve", 1, "analyst")}, nil)...)
	var h *state.Hold
	f.update(func(tx *store.Tx) (err error) {
		if err := state.TrustGeneration(tx, iss, "hr", state.Pin{Generation: 2}, f.by()); err != nil {
			return err
		}
		return Voices(tx, *f.now.Load())
	})
	if _, ok := f.goesOn(); ok {
		t.Error("want the alarm ended with the generation")
	}
	f.sweep()
	f.applyRosters()
	for _, id := range []string{"ann", "bob"} {
		if v := f.view(id); !v.Access || v.Doubt != nil {
			t.Errorf("%s: want the producer's word, got %+v", id, v)
		}
	}
	if v := f.view("ann"); !slices.Equal(v.Want.Roles, []string{"analyst", "lead"}) || !f.view("eve").Closed {
		t.Errorf("ann: %+v; eve: %+v", v, f.view("eve"))
	}
	f.update(func(tx *store.Tx) (err error) {
		h, err = ruling.Revoke(t.Context(), f.db, tx, f.b.kid(), admit.Point{Generation: 1, Seq: 3}, f.by())
		return err
	})
	if h == nil {
		t.Fatal("want what the thief gave in question")
	}
	shown, _ := ruling.ParseShown(h)
	if len(shown.Subjects) != 1 || shown.Subjects[0].Subject != "dan" {
		t.Errorf("want dan in question, got %+v", shown.Subjects)
	}
}
