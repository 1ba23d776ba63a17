package intake

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// A key was stolen: what it gave from a place on is in question, the chain and its cuts stay, and the next key goes on.
func TestWhatAStolenKeyGaveIsInQuestion(t *testing.T) {
	w := newWorld(t)
	p := newProducer(t, "hr", w.to)
	w.trust(p)
	w.give(p.joiner("ann", 1, "analyst"), p.joiner("bob", 1, "analyst"), p.say("bob", &schema.Suspend{Engagement: 1, Effective: schema.At(t0.Add(-time.Hour)), Reason: schema.ReasonLeave}))
	w.give(p.mover("ann", 1, "lead"), p.say("bob", &schema.Resume{Engagement: 1, Effective: schema.At(t0.Add(-time.Minute)), Reason: schema.ReasonReturn}),
		p.joiner("cyd", 1, "analyst"), p.joiner("dan", 1, "analyst"), p.leaver("dan", 1), p.joiner("eve", 1, "analyst"))
	w.given("bob", 2, entry.Op{Op: string(plan.EnableAccount)})
	w.given("ann", 1, entry.Op{Op: string(plan.AddMember), Target: "old"}) // by a good word
	next := *p
	next.rekey()
	w.trust(&next)
	w.sweep()
	w.give(next.roster([]schema.LiveEngagement{lives("eve", 1, "analyst")}, nil)...) // vouches for eve
	w.applyRosters()

	var h *state.Hold
	revoke := func(from uint64) {
		w.update(func(tx *store.Tx) (err error) {
			kid, _ := keys.ID(p.key.Public())
			h, err = ruling.Revoke(t.Context(), w.db, tx, kid, admit.Point{Generation: 1, Seq: from}, w.by())
			return err
		})
		w.sweep()
	}
	revoke(4)
	shown, _ := ruling.ParseShown(h)
	var got []string
	for _, x := range shown.Subjects {
		got = append(got, fmt.Sprint(x.Subject, x.Opened, x.Groups))
	}
	if !slices.Equal(got, []string{"annfalse []", "bobtrue []", "cydfalse []"}) {
		t.Errorf("got %q", got)
	}
	if v := w.view("dan"); !v.Closed {
		t.Errorf("dan: want the cut to stay, got %+v", v)
	}
	if v := w.view("eve"); v.Doubt != nil {
		t.Errorf("eve: want a good roster to vouch for her, got %+v", v)
	}
	// The chain goes on by the next key, and the old one says nothing more.
	late := p.branch()
	late.seq, late.prev = next.seq, next.prev
	w.give(late.joiner("fay", 1, "analyst"))
	w.give(next.joiner("gil", 1, "analyst"), next.mover("ann", 1, "analyst"))
	if w.view("fay").Access || !w.view("gil").Access || w.stream().State != admit.Live {
		t.Errorf("want the stream to go on by the next key, got %+v", w.stream())
	}
	if v := w.view("ann"); v.Doubt != nil || !slices.Equal(v.Want.Roles, []string{"analyst"}) {
		t.Errorf("ann: %+v", v)
	}
	// A resume that is disowned is over with the next one, and only that.
	w.give(next.mover("bob", 1, "lead"))
	if v := w.view("bob"); v.Doubt == nil {
		t.Errorf("bob: want the resume still in question, got %+v", v)
	}
	w.give(next.say("bob", &schema.Resume{Engagement: 1, Effective: schema.At(t0.Add(-time.Minute)), Reason: schema.ReasonReturn}))
	if v := w.view("bob"); v.Doubt != nil || !v.Access {
		t.Errorf("bob: %+v", v)
	}
}

// What a stolen key gave is listed also where the clock was ahead then, and most of the ledger is of before that by its dates.
func TestWhatAStolenKeyGaveWhileTheClockWasAhead(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("ann", 1, "analyst"))
	w.set(t0.Add(48 * time.Hour))
	stolen := p.joiner("cyd", 1, "analyst")
	w.give(stolen)
	w.given("cyd", stolen.seq, entry.Op{Op: string(plan.CreateAccount)})
	next := *p
	next.rekey()
	w.trust(&next)
	w.sweep()
	for i := range 20 { // and then it was put right
		w.set(t0.Add(time.Duration(i) * time.Minute))
		w.give(next.heartbeat())
	}
	var h *state.Hold
	w.update(func(tx *store.Tx) (err error) {
		h, err = ruling.Revoke(t.Context(), w.db, tx, p.kid(), admit.Point{Generation: 1, Seq: stolen.seq}, w.by())
		return err
	})
	if shown, _ := ruling.ParseShown(h); len(shown.Subjects) != 1 || !shown.Subjects[0].Opened {
		t.Errorf("want what was given listed, got %+v", shown.Subjects)
	}
}

// What a stolen key said keeps no lease alive: it counts from before that, and a day is left for a good word.
func TestADisownedWordRenewsNoLease(t *testing.T) {
	w := newWorld(t)
	p := newProducer(t, "hr", w.to)
	w.trust(p)
	w.give(p.joiner("ann", 1, "analyst"), p.joiner("bob", 1, "analyst"), p.joiner("cyd", 1, "analyst"), p.joiner("dan", 1, "analyst"))
	at := func(days int) time.Time {
		p.now = t0.AddDate(0, 0, days)
		w.set(p.now)
		return p.now
	}
	stolen := at(2)
	w.give(p.mover("ann", 1, "lead"))
	at(5)
	w.give(p.roster([]schema.LiveEngagement{lives("ann", 1, "lead"), lives("bob", 1, "analyst"), lives("cyd", 1, "analyst")}, nil)...)
	w.applyRosters()
	next := *p
	next.rekey()
	w.trust(&next)
	w.sweep()
	good := at(6)
	next.now = good
	w.give(next.mover("bob", 1, "analyst"))
	kid, err := keys.ID(p.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	now := at(7)
	w.update(func(tx *store.Tx) error {
		_, err := ruling.Revoke(t.Context(), w.db, tx, kid, admit.Point{Generation: 1, Seq: 5}, w.by())
		return err
	})
	day := now.Add(24 * time.Hour)
	for who, want := range map[string][2]time.Time{"ann": {stolen, day}, "cyd": {stolen, day}, "bob": {good, {}}, "dan": {t0, {}}} {
		if s := w.subject(who); !s.SaidAt.Equal(want[0]) || !s.Extended.Equal(want[1]) {
			t.Errorf("the leases of %s count from %s and last at least until %s, want %v", who, s.SaidAt, s.Extended, want)
		}
	}
	if v := w.view("cyd"); !v.Access {
		t.Errorf("want the ruling to take nothing, got %+v", v)
	}
	// The next good word counts again.
	next.now = now
	w.give(next.roster([]schema.LiveEngagement{lives("cyd", 1, "analyst")}, nil)...)
	w.applyRosters()
	if s := w.subject("cyd"); !s.SaidAt.Equal(now) {
		t.Errorf("the leases of cyd count from %s, want %s", s.SaidAt, now)
	}
}

// After a recovery nobody knows on whose word an account of before was opened: where every word that is left was a thief's, it
// is in question, and an undo takes it. Where a good word is left, it is not.
func TestWhatWasOpenedBeforeALossIsInQuestion(t *testing.T) {
	w := newWorld(t)
	p := newProducer(t, "hr", w.to)
	w.trust(p)
	w.update(func(tx *store.Tx) error { return state.SetRecovered(tx, t0.Add(-time.Hour)) })
	good := *p
	good.rekey()
	w.trust(&good)
	w.give(good.joiner("ann", 1, "analyst"))
	p.seq, p.prev = good.seq, good.prev
	w.give(p.mover("ann", 1, "lead"), p.joiner("bob", 1, "analyst"), p.joiner("cyd", 1, "analyst"), p.joiner("dan", 1, "analyst"))
	for subject, account := range map[string]string{"ann": `{"id":"a"}`, "bob": `{"id":"b"}`, "dan": `{"id":"d","tried_at":"2026-11-23T04:00:00Z"}`} {
		w.update(func(tx *store.Tx) error {
			return state.SetAccount(tx, state.SubjectKey{Issuer: iss, Subject: subject}, []byte(account))
		})
	}
	var h *state.Hold
	w.update(func(tx *store.Tx) (err error) {
		kid, _ := keys.ID(p.key.Public())
		h, err = ruling.Revoke(t.Context(), w.db, tx, kid, admit.Point{Generation: 1, Seq: 1}, w.by())
		return err
	})
	shown, _ := ruling.ParseShown(h)
	var got []string
	for _, x := range shown.Subjects {
		got = append(got, fmt.Sprint(x.Subject, " ", x.Opened, " ", x.Perhaps))
	}
	if !slices.Equal(got, []string{"ann false false", "bob true true", "cyd false false", "dan false false"}) {
		t.Errorf("got %q", got)
	}
	w.update(func(tx *store.Tx) error {
		_, err := ruling.Undo(tx, h.ID, h.Digest, nil, new(policy.Policy), w.by())
		return err
	})
	if w.subject("bob").Lane != plan.Disable || w.view("bob").Access {
		t.Errorf("want the account of before taken, got lane %v, %+v", w.subject("bob").Lane, w.view("bob"))
	}
}

// What a thief's word gave, and another word let stand that turns out to be a second thief's, is in question once more.
func TestWhatASecondThiefVouchedForIsInQuestion(t *testing.T) {
	w := newWorld(t)
	good := newProducer(t, "hr", w.to)
	w.trust(good)
	w.give(good.joiner("ann", 1, "analyst"))
	first, second := *good, *good
	first.rekey()
	second.rekey()
	w.trust(&first)
	w.trust(&second)
	w.sweep()
	w.give(first.joiner("bob", 1, "analyst"))
	w.given("bob", 2, entry.Op{Op: string(plan.CreateAccount)}, entry.Op{Op: string(plan.AddMember), Target: "soc"})
	revoke := func(p *producer, from uint64) (h *state.Hold) {
		w.update(func(tx *store.Tx) (err error) {
			kid, _ := keys.ID(p.key.Public())
			h, err = ruling.Revoke(t.Context(), w.db, tx, kid, admit.Point{Generation: 1, Seq: from}, w.by())
			return err
		})
		w.sweep()
		return h
	}
	if !w.view("bob").Access {
		t.Fatalf("bob: %+v, %v", w.view("bob"), w.entries())
	}
	if shown, _ := ruling.ParseShown(revoke(&first, 2)); shown.Count != 1 || !shown.Subjects[0].Opened {
		t.Fatalf("the first: %+v", shown)
	}
	second.seq, second.prev = first.seq, first.prev
	w.give(second.mover("bob", 1, "analyst"))
	if v := w.view("bob"); v.Doubt != nil || !v.Access {
		t.Fatalf("want the second word to let it stand, got %+v", v)
	}
	h := revoke(&second, 3)
	if shown, _ := ruling.ParseShown(h); shown.Count != 1 || !shown.Subjects[0].Opened || !slices.Equal(shown.Subjects[0].Groups, []string{"soc"}) {
		t.Fatalf("the second: %+v", shown)
	}
	w.update(func(tx *store.Tx) error {
		_, err := ruling.Undo(tx, h.ID, h.Digest, nil, new(policy.Policy), w.by())
		return err
	})
	if w.subject("bob").Lane != plan.Disable || w.view("bob").Access {
		t.Errorf("want what the thieves gave taken, got lane %v, %+v", w.subject("bob").Lane, w.view("bob"))
	}
}
