package intake

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// roster writes a whole roster taken at the head of the stream.
func (p *producer) roster(live []schema.LiveEngagement, closed []schema.ClosedEngagement) (list []sealed) {
	p.t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		p.t.Fatal(err)
	}
	parts, err := schema.SplitRoster(id.String(), schema.RosterHead{Generation: p.generation, Seq: p.seq, Hash: p.prev}, live, closed)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range parts {
		list = append(list, p.say("", r))
	}
	return list
}

func lives(subject string, n int, roles ...string) schema.LiveEngagement {
	return schema.LiveEngagement{Subject: subject, Engagement: n, State: schema.StateActive, Since: schema.At(t0.Add(-time.Minute)),
		Person: schema.Person{DisplayName: "Ann Example", Department: "SOC"}, Roles: slices.Sorted(slices.Values(roles)), Start: schema.At(t0.Add(-time.Hour))}
}

func gone(subject string, n int) schema.ClosedEngagement {
	return schema.ClosedEngagement{Subject: subject, Engagement: n, Effective: schema.At(t0.Add(-time.Minute))}
}

func (w *world) applyRosters() {
	w.t.Helper()
	if err := w.intake().applyRosters(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) lastRoster() *state.Roster {
	w.t.Helper()
	list, err := state.Rosters(w.db.Read(), 1)
	if err != nil || len(list) == 0 {
		w.t.Fatalf("want a roster, got %v", err)
	}
	return list[0]
}

func TestARosterHealsAGap(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"))
	lost := []sealed{p.joiner("2", 1, "a"), p.leaver("1", 1)}
	waiting := []sealed{p.joiner("3", 1, "a"), p.mover("3", 1, "b")}
	parts := p.roster([]schema.LiveEngagement{lives("2", 1, "a"), lives("3", 1, "b")}, []schema.ClosedEngagement{gone("1", 1)})
	after := p.joiner("4", 1, "a")
	w.give(waiting...)
	w.give(after)
	if access(w, "3").Access || access(w, "4").Access {
		t.Fatal("want gives to wait for the gap")
	}
	skip := len(w.entries())
	w.give(parts...)
	s := w.stream()
	if s.Head != p.seq || s.HeadHash != p.prev || s.Covered != 5 || !s.GapSince.IsZero() {
		t.Fatalf("want the chain whole again, got %+v", s)
	}
	if !slices.Equal(w.alarms(), []string{"gap-covered"}) {
		t.Errorf("want what had not come named, got %v", w.alarms())
	}
	if list, err := state.Alarms(w.db.Read()); err != nil || !strings.Contains(list[0].Text, "2 messages of stream hr had not come (2 to 3)") || strings.Contains(list[0].Text, "never") {
		t.Errorf("they may come yet, and the alarm says %+v, %v", list, err)
	}
	if access(w, "2").Access {
		t.Error("want nothing applied yet")
	}
	w.applyRosters()
	for id, want := range map[string]string{"1": "", "2": "[a]", "3": "[b]", "4": "[a]"} {
		v := access(w, id)
		got := ""
		if v.Access {
			got = fmt.Sprint(v.Roles())
		}
		if got != want {
			t.Errorf("subject %s: want %q, got %q (%s)", id, want, got, v.Why)
		}
	}
	if w.subject("1").Lane != plan.Disable {
		t.Error("want the leaver that nobody saw cut")
	}
	if r := w.lastRoster(); r.State != state.RosterApplied || r.Named != 3 || r.Changed != 3 || r.Unnamed != 0 {
		t.Errorf("got %+v", r)
	}
	w.want(skip, "received roster:v1 6 gap: gap", "raised gap-covered", "cleared gap", "superseded", "superseded", "lease")

	// What was lost comes late: it changes nothing, but for a cut.
	w.give(lost[0], lost[1])
	if s := w.stream(); s.State != admit.Live || s.Head != p.seq {
		t.Errorf("want no fork of what comes late, got %+v", s)
	}
	if v := access(w, "2"); !v.Access || fmt.Sprint(v.Roles()) != "[a]" {
		t.Errorf("want the roster's word, got %+v", v)
	}
	list := w.entries()
	if got := list[len(list)-2:]; !slices.Equal(got, []string{"received joiner:v1 2 filled: covered", "received leaver:v1 3 filled: covered"}) {
		t.Errorf("got %q", got)
	}
}

// Where a roster stands in for what is missing, every heartbeat's cuts are folded anew. One that repeats a suspension
// which is long over says nothing new, and must not begin again what waits for the person, such as a cut behind a hold.
func TestAHeartbeatThatSaysNothingNewLeavesHoldsAlone(t *testing.T) {
	w, p := setup(t)
	now := *w.now.Load()
	w.give(p.joiner("1", 1, "a"))
	suspend := p.say("1", &schema.Suspend{Engagement: 1, Effective: schema.At(now.Add(-2 * time.Hour)), Reason: schema.ReasonLeave})
	resume := p.say("1", &schema.Resume{Engagement: 1, Effective: schema.At(now.Add(-time.Hour)), Reason: schema.ReasonReturn})
	w.give(suspend, resume, p.leaver("1", 1), p.joiner("1", 2, "a"))
	p.joiner("lost", 1, "a")
	w.give(p.roster([]schema.LiveEngagement{lives("1", 2, "a"), lives("lost", 1, "a")}, nil)...)
	w.applyRosters()
	w.give(p.leaver("1", 2))
	id := w.held("1")
	before := w.subject("1")
	if !before.Held() || before.Lane != plan.Disable || w.stream().Covered < 3 {
		t.Fatalf("%+v, covered %d", before, w.stream().Covered)
	}
	w.set(now.Add(time.Minute))
	w.give(p.heartbeat(schema.CutNotice{Subject: "1", Engagement: 1, Kind: schema.KindSuspend, Seq: 2, Effective: schema.At(now.Add(-2 * time.Hour))}))
	if s := w.subject("1"); s.Rev != before.Rev || !s.Held() || !s.Due.Equal(before.Due) {
		t.Errorf("hold %d: rev %d, was %d; note %q; due %v, was %v", id, s.Rev, before.Rev, s.Note, s.Due, before.Due)
	}
}

// A roster has somebody among the closed ones who leaves at a date to come: it says nothing of what was to be taken until
// then, so a suspension that comes late is in effect.
func TestALateSuspensionOfWhoLeavesLater(t *testing.T) {
	w, p := setup(t)
	now := *w.now.Load()
	w.give(p.joiner("1", 1, "a", "b"))
	late := p.say("1", &schema.Suspend{Engagement: 1, Effective: schema.At(now.Add(-time.Hour)), Reason: schema.ReasonLeave})
	leaves := p.say("1", &schema.Leaver{Engagement: 1, Effective: schema.At(now.Add(time.Hour)), Reason: schema.ReasonResignation})
	closed := schema.ClosedEngagement{Subject: "1", Engagement: 1, Effective: schema.At(now.Add(time.Hour))}
	w.give(leaves)
	w.give(p.roster(nil, []schema.ClosedEngagement{closed})...)
	w.applyRosters()
	if !access(w, "1").Access {
		t.Fatal("the date has not come")
	}
	w.give(late)
	if v := access(w, "1"); v.Access {
		t.Errorf("want the suspension in effect, got %+v", v)
	}
}

// A roster states a leaver of a date to come as the end of a live engagement. Where it is applied after that date it
// contradicts no leaver; without that end it does.
func TestARosterThatIsLateContradictsNoLeaver(t *testing.T) {
	for _, stated := range []bool{true, false} {
		w, p := setup(t)
		ends := schema.At(t0.Add(time.Minute))
		w.give(p.joiner("1", 1, "a"), p.say("1", &schema.Leaver{Engagement: 1, Effective: ends, Reason: schema.ReasonResignation}))
		l := lives("1", 1, "a")
		if stated {
			l.End = &ends
		}
		w.set(t0.Add(time.Hour))
		w.give(p.roster([]schema.LiveEngagement{l}, nil)...)
		w.applyRosters()
		if !access(w, "1").Closed || slices.Contains(w.alarms(), alarmAgainst) == stated {
			t.Errorf("stated %v: closed %v, alarm %v", stated, access(w, "1").Closed, slices.Contains(w.alarms(), alarmAgainst))
		}
	}
}

// held puts a person's work behind a hold of half an hour.
func (w *world) held(subject string) (id int64) {
	w.t.Helper()
	k, now := state.SubjectKey{Issuer: iss, Subject: subject}, *w.now.Load()
	w.update(func(tx *store.Tx) error {
		h := &state.Hold{SubjectKey: k, Code: "cut-limit", Shown: []byte("{}"), Created: now, Expires: now.Add(30 * time.Minute)}
		if _, err := state.OpenHold(tx, h); err != nil {
			return err
		}
		id = h.ID
		return state.HoldLane(tx, h.ID, plan.Disable, now, now.Add(30*time.Minute))
	})
	return id
}

func TestARosterIsBelievedOnlyWhole(t *testing.T) {
	w, p := setup(t)
	var live []schema.LiveEngagement
	for i := range 400 {
		l := lives(fmt.Sprintf("%04d", i), 1, "a")
		l.Person.Title = fmt.Sprintf("%0250d", i)
		live = append(live, l)
	}
	p.joiner("lost", 1, "a")
	parts := p.roster(live, nil)
	if len(parts) < 2 {
		t.Fatal("want several parts")
	}
	w.give(parts[1:]...)
	w.applyRosters()
	if w.subject("0399").Rev != 0 || w.stream().Head != 0 {
		t.Fatal("want nothing of a part believed")
	}
	w.give(parts[0])
	w.applyRosters()
	if !access(w, "0000").Access || !access(w, "0399").Access {
		t.Error("want all of it applied, whatever the order of its parts")
	}
}

// A part that waited is put aside by a roster that was taken in the middle of the parts, or by the end of its key: the rest of
// its roster, and what else comes, is taken in all the same.
func TestPartsThatWerePutAside(t *testing.T) {
	three := []schema.LiveEngagement{lives("1", 1, "a"), lives("2", 1, "a"), lives("3", 1, "a")}
	for what, c := range map[string]func(w *world, p *producer){
		"by a roster of between the parts": func(w *world, p *producer) {
			p.joiner("lost", 1, "a")
			parts := p.in(1, three, nil)
			between := p.split(1, three[:1], nil)[0]
			between.Head = schema.RosterHead{Generation: 1, Seq: parts[1].seq, Hash: parts[1].payload}
			w.give(parts[:2]...)
			w.give(p.say("", between))
			w.applyRosters()
			w.give(parts[2])
		},
		"by the end of their key": func(w *world, p *producer) {
			early := p.split(1, three, nil)
			lost := p.joiner("lost", 1, "a")
			seq, prev := p.seq, p.prev
			w.give(p.say("", early[0]), p.say("", early[1]), p.say("", early[2]))
			w.update(func(tx *store.Tx) error {
				return state.RetireKey(tx, p.kid(), admit.Point{Generation: 1, Seq: lost.seq}, w.by())
			})
			p.rekey()
			w.trust(p)
			p.seq, p.prev = seq, prev
			w.give(lost, p.joiner("4", 1, "a"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			w, p := setup(t)
			w.give(p.joiner("1", 1, "a"))
			c(w, p)
			w.applyRosters()
			w.give(p.joiner("5", 1, "a"))
			for _, id := range []string{"1", "2", "3"} {
				if !access(w, id).Access {
					t.Errorf("subject %s: want what the whole roster says of them", id)
				}
			}
			rosters, err := state.Rosters(w.db.Read(), 9)
			if err != nil || slices.ContainsFunc(rosters, func(r *state.Roster) bool { return r.State != state.RosterApplied }) {
				t.Errorf("%+v, %v", rosters, err)
			}
		})
	}
}

// The alarm on a broken roster ends with the next whole one, or with its generation: no roster of that comes any more.
func TestTheAlarmOnABrokenRosterEndsWithItsGeneration(t *testing.T) {
	w, p := setup(t)
	parts := p.split(1, []schema.LiveEngagement{lives("1", 1, "a"), lives("2", 1, "a")}, nil)
	parts[1].Digest = schema.DigestOf(nil)
	w.give(p.say("", parts[0]), p.say("", parts[1]))
	if !slices.Equal(w.alarms(), []string{"roster-broken"}) {
		t.Fatalf("got %v", w.alarms())
	}
	w.anew(p)
	w.sweep()
	if got := w.alarms(); len(got) != 0 {
		t.Errorf("want it over, got %v", got)
	}
}

func TestARosterThatContradictsTheChainIsBroken(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"))
	prev := p.prev
	p.prev = schema.DigestOf([]byte("another"))
	id, _ := uuid.NewV7()
	parts, err := schema.SplitRoster(id.String(), schema.RosterHead{Generation: 1, Seq: 1, Hash: p.prev}, []schema.LiveEngagement{lives("2", 1, "a")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.prev = prev
	w.give(p.say("", parts[0]))
	w.applyRosters()
	if !slices.Equal(w.alarms(), []string{"roster-broken"}) || access(w, "2").Access {
		t.Errorf("want it not believed, got %v", w.alarms())
	}
}

func TestAStreamJoinedLateGivesOnlyFromARoster(t *testing.T) {
	w := newWorld(t)
	p := newProducer(t, "hr", w.to)
	p.joiner("1", 1, "a")
	p.joiner("2", 1, "a")
	k := &state.Key{Public: p.public, Key: admit.Key{Issuer: iss, Stream: p.stream, Kinds: schema.ProducerKinds}}
	w.update(func(tx *store.Tx) error {
		return state.TrustKey(tx, k, state.Pin{Generation: 1, Head: p.seq, Hash: p.prev}, w.by())
	})
	w.give(p.joiner("3", 1, "a"), p.leaver("1", 1))
	if access(w, "3").Access {
		t.Error("want a joiner to wait for the first roster")
	}
	if !access(w, "1").Closed {
		t.Error("want a leaver to act")
	}
	w.give(p.roster([]schema.LiveEngagement{lives("2", 1, "a"), lives("3", 1, "a")}, []schema.ClosedEngagement{gone("1", 1)})...)
	w.give(p.joiner("4", 1, "a"))
	w.applyRosters()
	for _, id := range []string{"2", "3", "4"} {
		if !access(w, id).Access {
			t.Errorf("subject %s: want access from the roster on", id)
		}
	}
	if s := w.stream(); s.Unrostered || s.Head != p.seq {
		t.Errorf("got %+v", s)
	}
	w.want(len(w.entries())-1, "lease")
}

func TestWhoIsMissingFromARosterIsHeldAndKeepsAccess(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"), p.joiner("2", 1, "a"), p.joiner("3", 1, "a"), p.leaver("3", 1))
	w.give(p.roster([]schema.LiveEngagement{lives("1", 1, "a")}, nil)...)
	w.give(p.joiner("4", 1, "a")) // said after it
	w.applyRosters()
	s := w.subject("2")
	if !s.Unnamed || !access(w, "2").Access {
		t.Errorf("want them held and with access, got %+v", s)
	}
	for _, id := range []string{"1", "3", "4"} {
		if w.subject(id).Unnamed {
			t.Errorf("subject %s: want no hold", id)
		}
	}
	open, err := state.Holds(w.db.Read())
	if err != nil || len(open) != 1 || open[0].Code != string(plan.HoldUnnamed) || !slices.Equal(w.alarms(), []string{"unnamed"}) {
		t.Fatalf("want one hold and the alarm, got %v %v %v", open, w.alarms(), err)
	}
	// An event that names the person ends it, and so does the next roster.
	w.give(p.mover("2", 1, "a"))
	if open, _ := state.Holds(w.db.Read()); len(open) != 0 || w.subject("2").Unnamed {
		t.Error("want the hold ended by an event")
	}
	w.give(p.roster([]schema.LiveEngagement{lives("1", 1, "a")}, nil)...)
	w.applyRosters()
	if !w.subject("2").Unnamed {
		t.Error("want the hold of the second roster")
	}
	w.give(p.roster([]schema.LiveEngagement{lives("1", 1, "a"), lives("2", 1, "a"), lives("4", 1, "a")}, nil)...)
	w.applyRosters()
	if open, _ := state.Holds(w.db.Read()); len(open) != 0 || w.subject("2").Unnamed || len(w.alarms()) != 0 {
		t.Errorf("want it over, got %v %v", open, w.alarms())
	}
}

func TestARosterBringsNoLeaverBack(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"), p.leaver("1", 1))
	w.give(p.roster([]schema.LiveEngagement{lives("1", 1, "a")}, nil)...)
	w.applyRosters()
	if v := access(w, "1"); v.Access || v.Why != fence.WhyLeft {
		t.Errorf("want the leaver to stand, got %+v", v)
	}
	if !slices.Equal(w.alarms(), []string{"roster-contradicts"}) {
		t.Errorf("got %v", w.alarms())
	}
}

// Whoever is to ask the producer has to know about whom.
func TestWhoContradictsALeaverIsNamed(t *testing.T) {
	w, p := setup(t)
	var live []schema.LiveEngagement
	for i := range 10 {
		id := fmt.Sprintf("90000%d", i)
		w.give(p.joiner(id, 1, "a"), p.leaver(id, 1))
		live = append(live, lives(id, 1, "a"))
	}
	w.give(p.roster(live, nil)...)
	w.applyRosters()
	list, err := state.Alarms(w.db.Read())
	if err != nil || len(list) != 1 || !strings.Contains(list[0].Text, "900000, 900001,") || !strings.Contains(list[0].Text, "900007 and 2 more") {
		t.Errorf("want the first eight named, got %+v, %v", list, err)
	}
}

func TestALeaverAfterARosterIsNoContradiction(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"))
	w.give(p.roster([]schema.LiveEngagement{lives("1", 1, "a")}, nil)...)
	w.give(p.leaver("1", 1)) // before the roster had its turn
	w.applyRosters()
	if got := w.alarms(); len(got) > 0 || access(w, "1").Access {
		t.Errorf("want the leaver out and no alarm, got %q", got)
	}
}

func TestARosterThatSaysNothingNewMakesNobodyDue(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"))
	before := w.subject("1")
	p.now = t0.Add(time.Hour)
	w.set(p.now)
	w.give(p.roster([]schema.LiveEngagement{lives("1", 1, "a")}, nil)...)
	w.applyRosters()
	s := w.subject("1")
	if s.Rev != before.Rev || s.Lane != before.Lane || !s.Due.Equal(before.Due) {
		t.Errorf("want the row as it was, got %+v", s)
	}
	if !s.SaidAt.Equal(p.now) || s.Doc.Confirmed != (fence.Position{Engagement: 1, Generation: 1, Seq: 1}) {
		t.Errorf("want it renewed and confirmed, got %v %v", s.SaidAt, s.Doc.Confirmed)
	}
}

// A heartbeat repeats a leaver that never came. It cuts at once, also where a whole roster stands in for the leaver
// and is not applied yet.
func TestAHeartbeatCutsWhatARosterWillSay(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"))
	p.leaver("1", 1) // is lost
	left := gone("1", 1)
	w.give(p.roster(nil, []schema.ClosedEngagement{left})...)
	if w.stream().Covered != 2 || !access(w, "1").Access {
		t.Fatal("want a roster that is whole and not applied")
	}
	w.give(p.heartbeat(schema.CutNotice{Subject: "1", Engagement: 1, Kind: schema.KindLeaver, Effective: left.Effective, Seq: 2}))
	if access(w, "1").Access || w.subject("1").Lane != plan.Disable {
		t.Error("want the cut that the heartbeat repeats to act")
	}
	rev := w.subject("1").Rev
	w.give(p.heartbeat(schema.CutNotice{Subject: "1", Engagement: 1, Kind: schema.KindLeaver, Effective: left.Effective, Seq: 2}))
	if w.subject("1").Rev != rev {
		t.Error("want a repetition to make nobody due")
	}
}

// What a mover takes it takes, whether it waited for a gap or came only after a roster had stood in for that. The
// roster says nothing of what the person has until the closing that it repeats.
func TestALateMoverTakesWhatAWaitingOneTakes(t *testing.T) {
	for _, late := range []bool{false, true} {
		w, p := setup(t)
		ends := schema.At(t0.Add(time.Hour))
		leave := func(n int) sealed {
			return p.say("1", &schema.Leaver{Engagement: n, Effective: ends, Reason: schema.ReasonTermination})
		}
		w.give(p.joiner("1", 1, "a", "b"), leave(1))
		p.joiner("1", 2, "a", "c") // is lost
		mover := p.mover("1", 2, "a")
		w.give(leave(2))
		if !late {
			w.give(mover)
		}
		w.give(p.roster(nil, []schema.ClosedEngagement{{Subject: "1", Engagement: 2, Effective: ends}})...)
		w.applyRosters()
		if late {
			w.give(mover)
		}
		if v := access(w, "1"); !v.Access || !slices.Equal(v.Roles(), []string{"a"}) {
			t.Errorf("late %v: want role a alone until the end, got %v, %v", late, v.Access, v.Roles())
		}
	}
}

// However a history with lost messages and a roster in it is shuffled, repeated and cut into batches, between
// whatever steps of the roster and whatever crashes: once all that is not lost has come, everybody's
// record says what the whole history does; and nobody ever has access whom a leaver that came ended.
func TestRostersConverge(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		w, p := setup(t)
		inOrder := newWorld(t)
		inOrder.ring = w.ring
		inOrder.trust(p)
		r := newRegister(p, rnd, 5)
		var before, after []sealed
		for range 15 {
			before = append(before, r.event())
		}
		live, closed := r.rosters()
		parts := p.roster(live, closed)
		for range 10 {
			after = append(after, r.event())
		}
		inOrder.give(slices.Concat(before, parts, after)...)
		inOrder.applyRosters()

		var kept []sealed
		for _, m := range before {
			if rnd.IntN(3) > 0 {
				kept = append(kept, m)
			}
		}
		deliveries := slices.Concat(kept, parts, after, parts[:1], after[:3])
		rnd.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
		for len(deliveries) > 0 {
			n := min(1+rnd.IntN(6), len(deliveries))
			w.give(deliveries[:n]...)
			deliveries = deliveries[n:]
			if rnd.IntN(4) == 0 {
				w.reopen()
			}
			if rnd.IntN(2) == 0 {
				if _, err := w.intake().StepRoster(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.applyRosters()
		if s := w.stream(); s.Head != p.seq || s.HeadHash != p.prev || s.State != admit.Live {
			t.Fatalf("seed %d: want the chain whole, got %+v", seed, s)
		}
		for i := range 5 {
			id := fmt.Sprint(i)
			got, want := access(w, id), access(inOrder, id)
			if got.Access != want.Access || got.Closed != want.Closed || want.Access && fmt.Sprint(got.Roles()) != fmt.Sprint(want.Roles()) {
				t.Errorf("seed %d: subject %s: want %+v\ngot %+v", seed, id, want, got)
			}
		}
		if (len(kept) < len(before)) != slices.Contains(w.alarms(), ruling.AlarmCovered) && w.lastRoster().Overtaken == 0 {
			t.Errorf("seed %d: lost %d, alarms %v", seed, len(before)-len(kept), w.alarms())
		}
	}
}

// register is a producer's memory, as far as these tests need it.
type register struct {
	p     *producer
	rnd   *rand.Rand
	n     int
	known map[string]*registered
}

type registered struct {
	engagement int
	closed     bool
	suspended  bool
	roles      []string
}

func newRegister(p *producer, rnd *rand.Rand, n int) *register {
	return &register{p, rnd, n, map[string]*registered{}}
}

// event says something that may follow what was said.
func (r *register) event() sealed {
	id := fmt.Sprint(r.rnd.IntN(r.n))
	k := r.known[id]
	if k == nil {
		k = &registered{closed: true}
		r.known[id] = k
	}
	at := schema.At(t0.Add(-time.Minute))
	if k.closed {
		*k = registered{engagement: k.engagement + 1, roles: []string{"a", "b"}}
		return r.p.joiner(id, k.engagement, k.roles...)
	}
	switch r.rnd.IntN(5) {
	case 0:
		k.closed = true
		return r.p.leaver(id, k.engagement)
	case 1:
		if k.suspended {
			k.suspended = false
			return r.p.say(id, &schema.Resume{Engagement: k.engagement, Effective: at, Reason: schema.ReasonReturn})
		}
		k.suspended = true
		return r.p.say(id, &schema.Suspend{Engagement: k.engagement, Effective: at, Reason: schema.ReasonLeave})
	case 2:
		return r.p.heartbeat()
	}
	k.roles = []string{[]string{"a", "b", "c"}[r.rnd.IntN(3)]}
	return r.p.mover(id, k.engagement, k.roles...)
}

func (r *register) rosters() (live []schema.LiveEngagement, closed []schema.ClosedEngagement) {
	for i := range r.n {
		id := fmt.Sprint(i)
		switch k := r.known[id]; {
		case k == nil:
		case k.closed:
			closed = append(closed, gone(id, k.engagement))
		default:
			l := lives(id, k.engagement, k.roles...)
			if k.suspended {
				l.State = schema.StateSuspended
			}
			live = append(live, l)
		}
	}
	return live, closed
}

// An enclave that joins late, or lost its database and hears of what came meanwhile from a roster alone, finds people at
// a high number. What a roster has closed out of reach takes what is known.
func TestARosterFindsPeopleAtAHighNumber(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"), p.joiner("2", 1, "a"))
	w.give(p.roster([]schema.LiveEngagement{lives("1", 60, "a"), lives("3", 60, "a")}, []schema.ClosedEngagement{gone("2", 60)})...)
	w.applyRosters()
	for _, subject := range []string{"1", "3"} {
		if v := access(w, subject); !v.Access || v.Want.Engagement != 60 {
			t.Errorf("want subject %s active in engagement 60, got %+v", subject, v)
		}
	}
	if v := access(w, "2"); v.Access || !v.Closed {
		t.Errorf("want subject 2 closed, got %+v", v)
	}
	if !slices.Contains(w.alarms(), alarmJump) {
		t.Error("nothing tells of the jump of subject 2")
	}
}
