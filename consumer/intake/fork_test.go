package intake

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// choose is an operator's word on the fork.
func (w *world) choose(hash schema.Digest) *ruling.Ruling {
	w.t.Helper()
	var ru *ruling.Ruling
	w.update(func(tx *store.Tx) error {
		forks, err := ruling.Forks(tx)
		if err != nil || len(forks) != 1 {
			w.t.Fatalf("want one fork, got %d (%v)", len(forks), err)
		}
		ru, err = forks[0].Choose(w.t.Context(), w.db, tx, hash, w.by())
		return err
	})
	w.sweep()
	return ru
}

// branch is a copy of the producer that goes on by itself.
func (p *producer) branch() *producer {
	b := *p
	return &b
}

func (w *world) view(id string) fence.View {
	s := w.subject(id)
	return s.Doc.At(*w.now.Load())
}

// given puts on the ledger that something was given to a person for the message at seq.
func (w *world) given(subject string, seq uint64, ops ...entry.Op) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		who := entry.Who{Issuer: iss, Subject: subject, Engagement: 1}
		out := &entry.Outcome{Who: who}
		for i := range ops {
			ops[i].N, ops[i].Class = i+1, entry.ClassGive
			out.Results = append(out.Results, entry.Result{N: i + 1, Result: entry.ResultApplied})
		}
		now := *w.now.Load()
		index, err := ledger.Append(tx, entry.New(now, &entry.Intent{Who: who, Ops: ops, Cause: entry.Cause{Type: entry.CauseMessage,
			Position: &entry.Position{Issuer: iss, Stream: "hr", Generation: 1, Seq: seq}}}))
		out.Intent = index
		if err == nil {
			_, err = ledger.Append(tx, entry.New(now, out))
		}
		return err
	})
}

// forked is a stream of which two branches came: A, which was followed, and B.
//
//	1 joiner ann -- 2 heartbeat -- A3 mover ann, lead -- A4 joiner bob -- A5 leaver cyd
//	                            \- B3 joiner dan -- B4 mover ann, on-call -- B5 heartbeat -- B6 leaver eve
type forked struct {
	*world
	a, b   *producer
	as, bs []sealed
}

func newForked(t *testing.T) *forked {
	w := newWorld(t)
	p := newProducer(t, "hr", w.to)
	w.trust(p)
	f := &forked{world: w}
	w.give(p.joiner("ann", 1, "analyst"), p.heartbeat())
	f.a, f.b = p, p.branch()
	f.as = []sealed{f.a.mover("ann", 1, "analyst", "lead"), f.a.joiner("bob", 1, "analyst"), f.a.leaver("cyd", 1)}
	f.bs = []sealed{f.b.joiner("dan", 1, "analyst"), f.b.mover("ann", 1, "analyst", "on-call"), f.b.heartbeat(), f.b.leaver("eve", 1)}
	return f
}

// A heartbeat of the other branch repeats a cut that never came, at a number at which we have another message.
func TestAHeartbeatOfAnotherBranchCuts(t *testing.T) {
	f := newForked(t)
	f.give(f.as...)
	if !f.view("bob").Access {
		t.Fatal("bob is not there")
	}
	f.b.leaver("bob", 1) // withheld
	f.give(f.bs[2], f.b.heartbeat(schema.CutNotice{Subject: "bob", Engagement: 1, Kind: schema.KindLeaver, Effective: schema.At(t0.Add(-time.Minute)), Seq: 5}))
	if v := f.view("bob"); v.Access || v.Why != fence.WhyLeft {
		t.Errorf("got %+v", v)
	}
}

func TestAnOperatorNamesTheBranchThatWasNotFollowed(t *testing.T) {
	f := newForked(t)
	f.give(f.as...)
	f.given("bob", 4, entry.Op{Op: string(plan.CreateAccount)}, entry.Op{Op: string(plan.AddMember), Target: "g"})
	f.given("ann", 3, entry.Op{Op: string(plan.AddMember), Target: "g2"})
	f.give(f.bs...)
	if !slices.Contains(f.alarms(), "fork") || f.view("dan").Access {
		t.Fatalf("want a fork that gives nothing, got %v", f.alarms())
	}
	n := len(f.entries())
	ru := f.choose(f.bs[0].payload)
	f.want(n, "trust", "operator", "cleared fork", "held", "raised disowned", "raised disowned") // of ann the branch has a good word: fewer are in question
	if s := f.stream(); s.State != admit.Live || s.Head != 6 || s.HeadHash != f.bs[3].payload || s.ForkSeq != 0 || !s.GapSince.IsZero() || s.RuledOut != 5 {
		t.Errorf("want the stream to go on after message 6 of the branch, got %+v", s)
	}
	if ru.Head != 2 || len(ru.Out) != 1 || ru.Out[0].Hash != f.as[0].payload {
		t.Errorf("got %+v", ru)
	}
	// What the branch says counts. What the other one took stays taken; what it gave is kept, and nothing more.
	if v := f.view("dan"); !v.Access || v.Doubt != nil {
		t.Errorf("dan: %+v", v)
	}
	if v := f.view("ann"); !slices.Equal(v.Want.Roles, []string{"analyst", "on-call"}) || v.Doubt != nil {
		t.Errorf("ann: %+v", v)
	}
	if v := f.view("bob"); !v.Access || v.Doubt == nil || v.Doubt.Denied {
		t.Errorf("bob: %+v", v)
	}
	for _, out := range []string{"cyd", "eve"} {
		if v := f.view(out); !v.Closed {
			t.Errorf("%s: want a cut of either branch, got %+v", out, v)
		}
	}
	shown, ok := ruling.ParseShown(ru.Hold)
	want := []ruling.Person{{Issuer: iss, Subject: "ann", Engagement: 1, Seq: 3, Roles: []string{"analyst", "lead"}, Groups: []string{"g2"}},
		{Issuer: iss, Subject: "bob", Engagement: 1, Seq: 4, Roles: []string{"analyst"}, Opened: true, Groups: []string{"g"}}}
	if !ok || !slices.EqualFunc(shown.Subjects, want, func(a, b ruling.Person) bool {
		return a.Subject == b.Subject && a.Seq == b.Seq && slices.Equal(a.Roles, b.Roles) && a.Opened == b.Opened && slices.Equal(a.Groups, b.Groups)
	}) {
		t.Errorf("want the grants listed, got %+v", shown.Subjects)
	}

	// The losing branch goes on, late and new: it cuts, gives nothing and stops nothing.
	f.give(f.as[1], f.a.joiner("fay", 1, "analyst"), f.a.leaver("dan", 1))
	if s := f.stream(); s.State != admit.Live || s.Head != 6 || s.RuledOut != 7 {
		t.Errorf("want the stream untouched, got %+v", s)
	}
	if f.view("fay").Access || !f.view("dan").Closed {
		t.Error("want the other branch to cut and not to give")
	}
	// The chosen one goes on.
	f.give(f.b.joiner("gil", 1, "analyst"))
	if !f.view("gil").Access || slices.Contains(f.alarms(), "fork") {
		t.Errorf("want the stream to go on, got %v", f.alarms())
	}
}

func TestAnOperatorNamesTheBranchThatWasFollowed(t *testing.T) {
	f := newForked(t)
	f.give(f.as...)
	f.give(f.bs...)
	ru := f.choose(f.as[2].payload) // any message that only this branch has
	if ru.Hold != nil || ru.Head != 5 || ru.Branch.Hash != f.as[0].payload {
		t.Errorf("got %+v", ru)
	}
	if s := f.stream(); s.State != admit.Live || s.Head != 5 || s.Highest != 5 || s.RuledOut != 6 {
		t.Errorf("got %+v", s)
	}
	f.give(f.a.joiner("gil", 1, "analyst"))
	if v := f.view("gil"); !v.Access || len(f.alarms()) != 0 {
		t.Errorf("want the stream to go on, got %+v, %v", v, f.alarms())
	}
	if f.view("dan").Access || !f.view("eve").Closed || !f.view("bob").Access {
		t.Error("want the other branch's cuts and nothing else of it")
	}
}

// What came of the chosen branch has a hole, and so has its beginning.
func TestABranchWithAHoleWaitsForWhatIsMissing(t *testing.T) {
	f := newForked(t)
	f.give(f.as...)
	f.give(f.bs[1], f.bs[3]) // 4 and 6 of the branch
	ru := f.choose(f.bs[1].payload)
	if s := f.stream(); s.State != admit.Live || s.Head != 2 || s.Highest != 6 || s.GapSince.IsZero() || ru.Head != 2 {
		t.Errorf("want a gap after message 2, got %+v", s)
	}
	if !slices.Contains(f.alarms(), "gap") || slices.Contains(f.alarms(), "fork") {
		t.Errorf("got %v", f.alarms())
	}
	f.give(f.bs[0], f.bs[2])
	if s := f.stream(); s.Head != 6 || slices.Contains(f.alarms(), "gap") || !f.view("dan").Access {
		t.Errorf("want the gap closed, got %+v, %v", s, f.alarms())
	}
}

// Two histories differ from their first message on, and of the right one that did not come yet.
func TestABranchFromTheVeryBeginning(t *testing.T) {
	w := newWorld(t)
	a := newProducer(t, "hr", w.to)
	w.trust(a)
	b := a.branch()
	w.give(a.joiner("ann", 1, "analyst"), a.joiner("bob", 1, "analyst"))
	first, second := b.joiner("dan", 1, "analyst"), b.joiner("eve", 1, "analyst")
	w.give(second)
	ru := w.choose(second.payload)
	if s := w.stream(); s.State != admit.Live || s.Head != 0 || s.Highest != 2 || s.GapSince.IsZero() || ru.Head != 0 {
		t.Errorf("want the first message waited for, got %+v", s)
	}
	if w.view("eve").Access || w.view("ann").Doubt == nil {
		t.Errorf("want nothing given ahead of it, and what was followed in question: %+v, %+v", w.view("eve"), w.view("ann"))
	}
	w.give(first)
	if s := w.stream(); s.Head != 2 || !w.view("dan").Access || !w.view("eve").Access {
		t.Errorf("want both in, got %+v", s)
	}
}

// Where nothing tells what a branch goes on from, the refusal says what to have sent, and with that it can be chosen.
func TestABranchOfWhichNothingTellsTheBeginning(t *testing.T) {
	w := newWorld(t)
	a := newProducer(t, "hr", w.to)
	w.trust(a)
	w.give(a.joiner("ann", 1, "analyst"))
	b := a.branch()
	missing := b.joiner("dan", 1, "analyst")
	other := b.joiner("eve", 1, "analyst")
	for range 3 { // a hole for which a roster stands in
		a.joiner("bob", 1, "analyst")
	}
	w.give(a.roster([]schema.LiveEngagement{lives("ann", 1, "analyst")}, nil)...)
	w.applyRosters()
	far := b.joiner("fay", 1, "analyst")
	w.give(far) // into the hole, beside what the roster names
	choose := func() (ru *ruling.Ruling, err error) {
		err = w.db.Update(t.Context(), func(tx *store.Tx) error {
			forks, err := ruling.Forks(tx)
			if err != nil || len(forks) != 1 {
				t.Fatalf("want one fork, got %d, %v", len(forks), err)
			}
			ru, err = forks[0].Choose(t.Context(), w.db, tx, far.payload, w.by())
			return err
		})
		return ru, err
	}
	var refused *ruling.RefusedError
	if _, err := choose(); !errors.As(err, &refused) || !strings.Contains(err.Error(), "producer resend --from 1 --to 3") || !strings.Contains(err.Error(), "trust generation") {
		t.Fatalf("want it refused with what to do, got %v", err)
	}
	w.give(missing, other)
	ru, err := choose()
	if err != nil || ru.Head != 1 {
		t.Fatalf("want it to go on after message 1, got %+v, %v", ru, err)
	}
	w.sweep()
	if s := w.stream(); s.Head != 4 || !w.view("fay").Access || !w.view("dan").Access {
		t.Errorf("want the branch followed, got %+v", s)
	}
}

// A roster of the losing branch is believed no more, whether it was applied or not.
// What goes on after a message that is ruled out goes with it, also where it came first: it cannot be chosen, and nothing
// is waited for on its word.
func TestWhatCameBeforeTheLosingMessageThatItGoesOnFromGoesWithIt(t *testing.T) {
	for _, hole := range []int{0, 3} { // how far it is from what was followed
		w, p := setup(t)
		w.give(p.joiner("ann", 1, "analyst"))
		b := p.branch()
		w.give(p.joiner("bob", 1, "analyst"), b.joiner("cyd", 1, "analyst"))
		w.choose(p.prev)
		var missing []sealed
		for range 1 + hole {
			missing = append(missing, b.heartbeat())
		}
		far := b.joiner("dan", 1, "analyst")
		w.give(far)
		w.give(missing...) // of which each is ruled out by the one before
		lie := p.branch()
		w.give(p.heartbeat(), lie.joiner("eve", 1, "analyst"))
		err := w.db.Update(t.Context(), func(tx *store.Tx) error {
			forks, err := ruling.Forks(tx)
			if err != nil || len(forks) != 1 {
				t.Fatalf("want one fork, got %d (%v)", len(forks), err)
			}
			_, err = forks[0].Choose(t.Context(), w.db, tx, far.payload, w.by())
			return err
		})
		last := missing[hole]
		if refused := new(ruling.RefusedError); !errors.As(err, &refused) || !strings.Contains(err.Error(), last.payload.String()) || !strings.Contains(err.Error(), "trust generation") {
			t.Errorf("want the message named that was ruled out, got %v", err)
		}
		w.choose(p.prev)
		if s := w.stream(); s.State != admit.Live || s.Head != p.seq || s.Highest != p.seq || s.RuledOut != far.seq || slices.Contains(w.alarms(), "gap") {
			t.Errorf("want nothing waited for, got %+v, %v", s, w.alarms())
		}
	}
}

// A roster overtook what waited before its head, and is then ruled out with its branch: what it overtook counts again.
func TestWhatALosingRosterOvertookIsJudgedAgain(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("ann", 1, "analyst"))
	late := p.heartbeat()
	w.give(p.joiner("bob", 1, "analyst"), p.joiner("cyd", 1, "analyst")) // after the gap
	b := p.branch()
	w.give(p.roster([]schema.LiveEngagement{lives("ann", 1, "analyst")}, nil)...)
	w.applyRosters()
	w.give(b.joiner("dan", 1, "analyst"), late)
	if !slices.Contains(w.alarms(), "fork") {
		t.Fatalf("want a fork, got %v", w.alarms())
	}
	ru := w.choose(b.prev)
	if s := w.stream(); ru.Head != 1 || s.State != admit.Live || s.Head != 5 || s.Highest != 5 || s.HeadHash != b.prev {
		t.Errorf("want the branch followed from message 1 to its end, got from %d: %+v", ru.Head, s)
	}
	for _, id := range []string{"bob", "cyd", "dan"} {
		if v := w.view(id); !v.Access {
			t.Errorf("%s: %+v", id, v)
		}
	}
}

// What goes on after a message that is ruled out goes with it, also where its branch and the chosen one have nothing else
// against each other.
func TestWhatGoesOnAfterALosingMessageGoesWithIt(t *testing.T) {
	w, p := setup(t)
	b := p.branch()
	first := p.joiner("ann", 1, "analyst")
	p.heartbeat() // never comes
	w.give(p.joiner("bob", 1, "analyst"))
	w.give(p.roster([]schema.LiveEngagement{lives("ann", 1, "analyst"), lives("bob", 1, "analyst")}, nil)...)
	w.applyRosters()
	w.give(first, b.joiner("cyd", 1, "analyst"))
	w.give(p.joiner("dan", 1, "analyst"))
	w.choose(b.prev)
	if s := w.stream(); s.State != admit.Live || s.Head != 1 || s.Highest != 1 || s.RuledOut != p.seq || slices.Contains(w.alarms(), "gap") {
		t.Errorf("want all of the other branch out, and nothing waited for, got %+v, %v", s, w.alarms())
	}
}

// A roster confirmed an engagement, and the losing branch began others. Those of the chosen branch are not taken for older
// than the roster.
func TestWhatARosterConfirmedIsNotWhatTheLosingBranchBegan(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("ann", 1, "analyst"))
	w.give(p.roster([]schema.LiveEngagement{lives("ann", 1, "analyst")}, nil)...)
	w.applyRosters()
	b := p.branch()
	w.give(p.joiner("ann", 2, "analyst"), p.joiner("ann", 3, "analyst"))
	w.give(b.joiner("ann", 2, "on-call"))
	w.choose(b.prev)
	if v := w.view("ann"); !v.Access || v.Doubt != nil || v.Want.Engagement != 2 || !slices.Equal(v.Want.Roles, []string{"on-call"}) {
		t.Errorf("want the chosen branch's word, got %+v", v)
	}
}

// Naming one branch must not clear the alarm while two others contradict each other: nobody would be told of those.
func TestARulingLeavesNoContradictionUntold(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("ann", 1, "analyst"), p.heartbeat())
	followed := p.prev
	p.heartbeat() // never comes
	b := p.branch()
	x, y := p.joiner("bob", 1, "analyst"), b.joiner("cyd", 1, "analyst")
	w.give(x, y)
	refused := new(ruling.RefusedError)
	w.update(func(tx *store.Tx) error {
		forks, err := ruling.Forks(tx)
		if err != nil || len(forks) != 1 {
			t.Fatalf("want one fork, got %d (%v)", len(forks), err)
		}
		if _, err := forks[0].Choose(t.Context(), w.db, tx, followed, w.by()); !errors.As(err, &refused) || !strings.Contains(err.Error(), x.payload.String()) || !strings.Contains(err.Error(), y.payload.String()) {
			t.Errorf("want both messages named, got %v", err)
		}
		return nil
	})
	w.choose(x.payload)
	if s := w.stream(); s.State != admit.Live || s.Head != 2 || s.Highest != 4 || !slices.Contains(w.alarms(), "gap") {
		t.Errorf("want the branch waited for, got %+v, %v", s, w.alarms())
	}
}

func TestARosterOfTheLosingBranchIsInQuestion(t *testing.T) {
	f := newForked(t)
	f.give(f.as...)
	f.give(f.a.roster([]schema.LiveEngagement{lives("ann", 1, "analyst"), lives("hal", 1, "analyst")}, nil)...)
	f.applyRosters()
	if v := f.view("hal"); !v.Access {
		t.Fatalf("hal: %+v", v)
	}
	f.give(f.bs...)
	f.choose(f.bs[0].payload)
	if v := f.view("hal"); !v.Access || v.Doubt == nil {
		t.Errorf("want hal in question, got %+v", v)
	}
	if s := f.subject("hal"); s.Doc.Confirmed.Generation != 0 {
		t.Errorf("want nobody confirmed by that roster, got %+v", s.Doc.Confirmed)
	}
	// The next good roster settles who is named, and holds who is not.
	f.give(f.b.roster([]schema.LiveEngagement{lives("ann", 1, "analyst"), lives("dan", 1, "analyst"), lives("hal", 1, "on-call")}, nil)...)
	f.applyRosters()
	if v := f.view("hal"); !v.Access || v.Doubt != nil || !slices.Equal(v.Want.Roles, []string{"on-call"}) {
		t.Errorf("hal: %+v", v)
	}
	if v := f.view("bob"); !v.Access || v.Doubt == nil || !f.subject("bob").Unnamed {
		t.Errorf("bob: %+v", v)
	}
}

func TestGrantsInQuestionAreUndoneOrKept(t *testing.T) {
	f := newForked(t)
	f.give(f.as...)
	f.given("bob", 4, entry.Op{Op: string(plan.CreateAccount)})
	f.give(f.a.joiner("ida", 1, "analyst"), f.a.joiner("jim", 1, "analyst"))
	f.given("ida", 6, entry.Op{Op: string(plan.CreateAccount)})
	f.give(f.bs...)
	h := f.choose(f.bs[0].payload).Hold
	decide := func(only []string, do func(*store.Tx, int64, schema.Digest, []string, state.By) (int, error)) (n int, err error) {
		err = f.db.Update(t.Context(), func(tx *store.Tx) error {
			n, err = do(tx, h.ID, h.Digest, only, f.by())
			return err
		})
		return n, err
	}
	undo := func(tx *store.Tx, id int64, shown schema.Digest, only []string, by state.By) (int, error) {
		return ruling.Undo(tx, id, shown, only, roles(t), by)
	}
	if n, err := decide([]string{"ida"}, ruling.Keep); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if v := f.view("ida"); !v.Access || v.Doubt != nil || f.subject("ida").Lane != plan.Give {
		t.Errorf("ida: %+v", v)
	}
	standing, err := state.Alarms(f.db.Read())
	if err != nil || !slices.ContainsFunc(standing, func(a state.Alarm) bool {
		return a.Code == ruling.Code && strings.HasPrefix(a.Text, "2 are in question by a word that an operator disowned (1 were given something on it)")
	}) {
		t.Errorf("want the alarm to be of bob and jim now: %+v, %v", standing, err)
	}
	var refused *ruling.RefusedError
	if _, err := decide([]string{"ida"}, undo); !errors.As(err, &refused) {
		t.Errorf("want what was decided refused, got %v", err)
	}
	if _, err := decide([]string{"nobody"}, undo); !errors.As(err, &refused) {
		t.Errorf("want a stranger refused, got %v", err)
	}
	if n, err := decide(nil, undo); n != 2 || err != nil { // bob and jim; of ann a good word came
		t.Fatal(n, err)
	}
	if v := f.view("bob"); v.Access || v.Why != fence.WhyDisowned || v.Closed || f.subject("bob").Lane != plan.Disable {
		t.Errorf("bob: %+v", v)
	}
	if v := f.view("jim"); !v.Access || !v.Doubt.Denied || v.Lapse != nil { // he had been given nothing, and will be
		t.Errorf("jim: %+v", v)
	}
	if got, err := state.HoldByID(f.db.Read(), h.ID); err != nil || got.State != state.HoldEnded || slices.Contains(f.alarms(), ruling.Code) {
		t.Errorf("want the hold ended, got %+v, %v", got, err)
	}
	// A good word restores.
	f.b.now = t0.Add(time.Minute)
	f.set(t0.Add(time.Minute))
	account, err := json.Marshal(plan.Known{ID: "x", DisabledAt: t0, RevokedAt: t0})
	if err != nil {
		t.Fatal(err)
	}
	f.update(func(tx *store.Tx) error { // the executor has taken it back
		_, err := state.Settle(tx, state.SubjectKey{Issuer: iss, Subject: "bob"}, f.subject("bob").Rev, state.Work{Account: account})
		return err
	})
	f.give(f.b.joiner("bob", 2, "analyst"))
	if v := f.view("bob"); !v.Access || v.Doubt != nil || v.Lapse != nil || f.subject("bob").Lane != plan.Give {
		t.Errorf("bob: %+v, lane %s", v, f.subject("bob").Lane)
	}
}

// Nonsense is refused, and changes nothing.
func TestARulingThatMakesNoSenseIsRefused(t *testing.T) {
	f := newForked(t)
	f.give(f.as...)
	f.give(f.bs...)
	for name, hash := range map[string]schema.Digest{"of nothing": schema.DigestOf(nil), "of the common past": f.common()} {
		err := f.db.Update(t.Context(), func(tx *store.Tx) error {
			forks, err := ruling.Forks(tx)
			if err != nil {
				return err
			}
			_, err = forks[0].Choose(t.Context(), f.db, tx, hash, f.by())
			return err
		})
		var refused *ruling.RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("%s: want it refused, got %v", name, err)
		}
	}
	if s := f.stream(); s.State != admit.ForkedAway {
		t.Errorf("got %+v", s)
	}
}

// roles is a policy in which the role analyst stands for group 1.
func roles(t *testing.T) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(`version: 1
upn: {domain: gov.example.us}
groups: {g: {id: aaaaaaaa-0000-0000-0000-000000000001}}
roles: {analyst: {groups: [g]}}
protected: [breakglass@gov.example.us]
limits: {give_per_hour: 100, cut_per_hour: 100}
`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// common is the payload of message 2.
func (f *forked) common() schema.Digest {
	f.t.Helper()
	hash, ok, err := state.PayloadAt(f.db.Read(), f.stream().Ref, 2)
	if !ok || err != nil {
		f.t.Fatal(ok, err)
	}
	return hash
}
