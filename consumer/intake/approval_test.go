package intake

import (
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func (p *producer) approval(subject string, n int, until time.Duration, roles ...string) sealed {
	return p.say(subject, &schema.Approval{Engagement: n, Roles: roles, Expiry: schema.At(t0.Add(until))})
}

// A second signer's word counts in its own stream, in sequence, and says nothing else: not that the person is here.
func TestApprovals(t *testing.T) {
	w := newWorld(t)
	p, second := newProducer(t, "hr", w.to), newProducer(t, "approvals", w.to)
	w.trust(p)
	w.trust(second, schema.KindApproval)
	p.now = t0.Add(-time.Hour)
	w.give(p.joiner("ann", 1, "lead"))
	said := w.subject("ann").SaidAt
	one, two := second.approval("ann", 1, time.Hour, "lead"), second.approval("ann", 1, 2*time.Hour, "lead")
	w.give(two) // past a gap
	if v := w.view("ann"); len(v.Approvals) != 0 {
		t.Errorf("want what gives to wait for its gap, got %+v", v.Approvals)
	}
	w.give(one)
	v := w.view("ann")
	if len(v.Approvals) != 1 || v.Approvals[0].Seq != 2 || !v.Approvals[0].Expiry.Equal(t0.Add(2*time.Hour)) || v.Approvals[0].Stream != "approvals" {
		t.Errorf("want the last word, got %+v", v.Approvals)
	}
	if s := w.subject("ann"); !s.SaidAt.Equal(said) || s.Due.After(t0) {
		t.Errorf("want no lease renewed and the person due, got %+v", s)
	}
	// A roster stands in for no approval, and takes none back.
	w.give(p.roster([]schema.LiveEngagement{lives("ann", 1, "lead"), lives("bob", 1, "lead")}, nil)...)
	w.applyRosters()
	if len(w.view("ann").Approvals) != 1 || len(w.view("bob").Approvals) != 0 {
		t.Errorf("got %+v and %+v", w.view("ann").Approvals, w.view("bob").Approvals)
	}
	// The producer's own key approves nothing, and a second signer's states no fact.
	w.give(p.approval("bob", 1, time.Hour, "lead"), second.joiner("cyd", 1, "lead"))
	if len(w.view("bob").Approvals) != 0 || w.view("cyd").Access {
		t.Error("want each key kept to its kinds")
	}
	// Stolen from its second message on: as if that had not come, and in question.
	var h *state.Hold
	w.update(func(tx *store.Tx) (err error) {
		kid, _ := keys.ID(second.key.Public())
		h, err = ruling.Revoke(t.Context(), w.db, tx, kid, admit.Point{Generation: 1, Seq: 2}, w.by())
		return err
	})
	if v := w.view("ann"); len(v.Approvals) != 0 || !v.Access || v.Doubt != nil || h == nil {
		t.Errorf("got %+v, hold %+v", v, h)
	}
}

// No roster ever states what was approved, and nothing that was said before is needed for what is approved now. So the
// stream of a second signer, joined in its middle, counts from there.
func TestApprovalsCountInAStreamJoinedLate(t *testing.T) {
	w := newWorld(t)
	p, second := newProducer(t, "hr", w.to), newProducer(t, "approvals", w.to)
	w.trust(p)
	early := second.approval("ann", 1, time.Hour, "lead")
	k := &state.Key{Public: second.public, Key: admit.Key{Issuer: iss, Stream: second.stream, Kinds: []schema.Kind{schema.KindApproval}}}
	w.update(func(tx *store.Tx) error {
		return state.TrustKey(tx, k, state.Pin{Generation: 1, Head: second.seq, Hash: second.prev}, w.by())
	})
	w.give(p.joiner("ann", 1, "lead"), p.joiner("bob", 1, "lead"), second.approval("bob", 1, time.Hour, "lead"), early)
	if v := w.view("ann"); len(v.Approvals) != 0 {
		t.Errorf("want nothing of what came before, got %+v", v.Approvals)
	}
	if v := w.view("bob"); len(v.Approvals) != 1 {
		t.Errorf("want the word that came in its place, got %+v", v.Approvals)
	}
}

// Nobody approves what they said themselves.
func TestWhoApprovesSignsNothingElse(t *testing.T) {
	w := newWorld(t)
	p, second := newProducer(t, "hr", w.to), newProducer(t, "approvals", w.to)
	w.trust(p)
	for name, k := range map[string]*state.Key{
		"a key for everything":         {Public: second.public, Key: admit.Key{Issuer: iss, Stream: "approvals", Kinds: schema.Kinds}},
		"in the stream of the facts":   {Public: second.public, Key: admit.Key{Issuer: iss, Stream: "hr", Kinds: []schema.Kind{schema.KindApproval}}},
		"with heartbeats":              {Public: second.public, Key: admit.Key{Issuer: iss, Stream: "approvals", Kinds: []schema.Kind{schema.KindApproval, schema.KindHeartbeat}}},
		"the key that signs the facts": {Public: p.public, Key: admit.Key{Issuer: iss, Stream: "approvals", Kinds: []schema.Kind{schema.KindApproval}}},
	} {
		err := w.db.Update(t.Context(), func(tx *store.Tx) error { return state.TrustKey(tx, k, state.Pin{}, w.by()) })
		if err == nil {
			t.Errorf("%s: trusted", name)
		}
	}
	w.trust(second, schema.KindApproval)
	third := newProducer(t, "approvals", w.to)
	err := w.db.Update(t.Context(), func(tx *store.Tx) error {
		return state.TrustKey(tx, &state.Key{Public: third.public, Key: admit.Key{Issuer: iss, Stream: "approvals", Kinds: []schema.Kind{schema.KindHeartbeat}}}, state.Pin{}, w.by())
	})
	if err == nil || !strings.Contains(err.Error(), "stream of their own") {
		t.Errorf("a fact's key in the stream of approvals: %v", err)
	}
}

// Both keys are stolen, and are revoked one after the other before anybody decides: what the first ruling had in question is in the
// hold of the second one, and is taken back with it.
func TestASecondRulingKeepsWhatTheFirstHadInQuestion(t *testing.T) {
	w := newWorld(t)
	p, second := newProducer(t, "hr", w.to), newProducer(t, "approvals", w.to)
	w.trust(p)
	w.trust(second, schema.KindApproval)
	w.give(p.joiner("ann", 1, "analyst"), p.joiner("bob", 1, "analyst"), second.approval("bob", 1, time.Hour, "lead"))
	w.given("bob", 2, entry.Op{Op: string(plan.CreateAccount)}, entry.Op{Op: string(plan.AddMember), Target: "g1"})
	var holds []*state.Hold
	for _, stolen := range []struct {
		of   *producer
		from uint64
	}{{p, 2}, {second, 1}} {
		w.update(func(tx *store.Tx) error {
			kid, _ := keys.ID(stolen.of.key.Public())
			h, err := ruling.Revoke(t.Context(), w.db, tx, kid, admit.Point{Generation: 1, Seq: stolen.from}, w.by())
			holds = append(holds, h)
			return err
		})
		w.sweep()
	}
	if h, err := state.HoldByID(w.db.Read(), holds[0].ID); err != nil || h.State != state.HoldEnded {
		t.Errorf("want the first hold to end, since the second has him, got %+v, %v", h, err)
	}
	shown, _ := ruling.ParseShown(holds[1])
	if len(shown.Subjects) != 1 || !shown.Subjects[0].Opened || !slices.Equal(shown.Subjects[0].Groups, []string{"g1"}) {
		t.Fatalf("want what was given by both in question, got %+v", shown.Subjects)
	}
	w.update(func(tx *store.Tx) error {
		_, err := ruling.Undo(tx, holds[1].ID, holds[1].Digest, nil, roles(t), w.by())
		return err
	})
	if v := w.view("bob"); v.Access || w.subject("bob").Lane != plan.Disable {
		t.Errorf("want his account disabled, got %+v", v)
	}
}
