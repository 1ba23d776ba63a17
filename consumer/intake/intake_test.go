package intake

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func setup(t testing.TB) (*world, *producer) {
	w := newWorld(t)
	p := newProducer(t, "hr", w.to)
	w.trust(p)
	return w, p
}

func access(w *world, id string) fence.View {
	s := w.subject(id)
	return s.Doc.At(*w.now.Load())
}

func TestMessagesInOrderAreAdmitted(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "analyst"), p.heartbeat(), p.leaver("1", 1))
	w.give(p.joiner("1", 2, "lead"))
	w.want(1, "received joiner:v1 1 admitted", "received heartbeat:v1 2 admitted", "received leaver:v1 3 admitted", "received joiner:v1 4 admitted")
	if v := access(w, "1"); !v.Access || v.Want.Engagement != 2 || !slices.Equal(v.Roles(), []string{"lead"}) {
		t.Errorf("want the second engagement active, got %+v", v)
	}
	s := w.stream()
	if s.Head != 4 || s.HeadHash != p.prev || s.Highest != 4 || !s.HeartbeatIAT.Equal(t0) || !s.ReceivedAt.Equal(t0) {
		t.Errorf("want the head at 4, got %+v", s)
	}
	if pos, err := state.Position(w.db.Read(), "test"); string(pos) != "4" || err != nil {
		t.Errorf("want the position kept with the batch, got %q, %v", pos, err)
	}
	rows, err := w.db.Unarchived(t.Context(), 0, 10)
	if err != nil || len(rows) != 4 || rows[3].Payload != p.prev {
		t.Errorf("want 4 messages in the archive, got %d, %v", len(rows), err)
	}
}

func TestLanes(t *testing.T) {
	w, p := setup(t)
	lane := func(id string, want plan.Lane) {
		t.Helper()
		if s := w.subject(id); s.Lane != want || !s.Due.Equal(t0) {
			t.Errorf("subject %s: want lane %s now, got %s at %s", id, want, s.Lane, s.Due)
		}
	}
	w.give(p.joiner("1", 1, "a"), p.joiner("2", 1, "a"), p.joiner("3", 1, "a"))
	lane("1", plan.Give)
	w.give(p.mover("1", 1, "b"), p.leaver("2", 1), p.mover("2", 1, "b"))
	lane("1", plan.Take)
	lane("2", plan.Disable)
	w.give(p.say("3", &schema.Leaver{Engagement: 1, Effective: schema.At(t0), Reason: schema.ReasonTermination, Urgent: true}))
	if s := w.subject("3"); !s.Urgent || s.Lane != plan.Disable {
		t.Errorf("want an urgent cut, got %+v", s)
	}
}

func TestAGapLetsCutsActAndGrantsWait(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"), p.joiner("2", 1, "a", "b"))
	lost := p.leaver("9", 1)
	n := w.want(1, "received joiner:v1 1 admitted", "received joiner:v1 2 admitted")
	w.give(p.leaver("1", 1), p.joiner("3", 1, "a"), p.mover("2", 1, "b", "c"), p.heartbeat())
	n = w.want(n, "received leaver:v1 4 gap: gap", "received joiner:v1 5 gap: gap", "received mover:v1 6 gap: gap", "received heartbeat:v1 7 gap: gap", "raised gap")
	if v := access(w, "1"); v.Access || v.Why != fence.WhyLeft {
		t.Errorf("want the leaver past the gap cut, got %+v", v)
	}
	if v := access(w, "3"); v.Access {
		t.Errorf("want the joiner to wait, got %+v", v)
	}
	if v := access(w, "2"); !v.Access || !slices.Equal(v.Roles(), []string{"b"}) {
		t.Errorf("want the mover to take and not to give, got %+v", v.Roles())
	}
	if s := w.stream(); s.Head != 2 || s.Highest != 7 || !s.GapSince.Equal(t0) || !s.HeartbeatIAT.Equal(t0) {
		t.Errorf("want a gap after 2, got %+v", s)
	}
	if list, _ := state.Alarms(w.db.Read()); len(list) != 1 || !bytes.Contains([]byte(list[0].Text), []byte("messages 3 to 3")) {
		t.Errorf("want an alarm that names the hole, got %+v", list)
	}
	w.set(t0.Add(time.Minute))
	w.give(lost)
	w.want(n, "received leaver:v1 3 filled", "cleared gap")
	if v := access(w, "3"); !v.Access {
		t.Errorf("want the joiner to act when the gap closed, got %+v", v)
	}
	if v := access(w, "2"); !slices.Equal(v.Roles(), []string{"b", "c"}) {
		t.Errorf("want the mover whole, got %+v", v.Roles())
	}
	if v := access(w, "9"); v.Access || !v.Closed {
		t.Errorf("want a tombstone for a leaver of nobody, got %+v", v)
	}
	if s := w.stream(); s.Head != 7 || s.HeadHash != p.prev || !s.GapSince.IsZero() || s.State != admit.Live {
		t.Errorf("want the chain whole up to 7, got %+v", s)
	}
}

// leasing is a queue that says how long messages may be leased to nobody.
type leasing struct {
	Queue
	left time.Duration
}

func (l *leasing) Leased() time.Duration { return l.left }

func TestAGapThatMayBeOnLeaseWakesNobodyYet(t *testing.T) {
	w, p := setup(t)
	p.joiner("9", 1) // what a killed process had fetched
	late := p.joiner("1", 1, "a")
	q := &leasing{left: 30 * time.Second}
	w.queue = q
	n := w.want(1)
	w.give(p.joiner("2", 1, "a"))
	n = w.want(n, "received joiner:v1 3 gap: gap")
	if s := w.stream(); !s.GapSince.Equal(t0) || access(w, "2").Access {
		t.Errorf("want the gap noted and its grants to wait, got %+v", s)
	}
	w.set(t0.Add(29 * time.Second))
	q.left = time.Second
	w.sweep()
	w.give(late)
	n = w.want(n, "received joiner:v1 2 gap: gap")
	w.set(t0.Add(30 * time.Second))
	q.left = 0
	w.sweep()
	n = w.want(n, "raised gap")

	// A start looks at the same gap: what stands goes on standing.
	q.left = 30 * time.Second
	w.reopen()
	w.give(p.heartbeat())
	w.want(n, "received heartbeat:v1 4 gap: gap")
	if got := w.alarms(); !slices.Equal(got, []string{"gap"}) {
		t.Errorf("want the alarm to stand, got %q", got)
	}
}

func TestWhatIsLeasedInVainComesInWithoutAnAlarm(t *testing.T) {
	w, p := setup(t)
	w.queue = &leasing{left: 30 * time.Second}
	late := p.joiner("1", 1, "a")
	w.give(p.joiner("2", 1, "a"))
	w.set(t0.Add(29 * time.Second))
	w.give(late)
	w.set(t0.Add(2 * time.Minute))
	w.sweep()
	w.want(1, "received joiner:v1 2 gap: gap", "received joiner:v1 1 filled")
	if got := w.alarms(); len(got) != 0 || !w.stream().GapSince.IsZero() {
		t.Errorf("want no gap and no alarm, got %q", got)
	}
}

func TestAMidpointCannotPutOffAnAlarmByLeases(t *testing.T) {
	w, p := setup(t)
	w.queue = &leasing{left: time.Hour}
	p.joiner("1", 1, "a")
	w.give(p.joiner("2", 1, "a"))
	for at := time.Duration(0); at < leaseMost; at += lookEvery {
		w.set(t0.Add(at))
		w.intake()
		w.sweep()
		w.give(p.heartbeat())
		if got := w.alarms(); len(got) != 0 {
			t.Fatalf("after %s: want no alarm yet, got %q", at, got)
		}
		w.reopen() // nor by having us start again
	}
	w.set(t0.Add(leaseMost))
	w.intake()
	if got := w.alarms(); !slices.Equal(got, []string{"gap"}) {
		t.Errorf("want the alarm %s after the gap was seen, got %q", leaseMost, got)
	}
}

// The minute for which leases put an alarm off is over in time also where the clock is put back by a day meanwhile.
func TestAClockThatGoesBackPutsOffNoAlarmOnAGap(t *testing.T) {
	w, p := setup(t)
	w.queue = &leasing{left: time.Hour}
	p.joiner("1", 1, "a")
	w.give(p.joiner("2", 1, "a"))
	back := t0.Add(-24 * time.Hour)
	w.set(back)
	w.sweep()
	w.set(back.Add(leaseMost))
	w.sweep()
	if got := w.alarms(); !slices.Equal(got, []string{"gap"}) {
		t.Errorf("want the alarm %s after the clock went back, got %q", leaseMost, got)
	}
}

func TestAGapWithinABatchRaisesNothing(t *testing.T) {
	w, p := setup(t)
	a, b, c := p.joiner("1", 1), p.joiner("2", 1), p.joiner("3", 1)
	w.give(c, b, a)
	w.want(1, "received joiner:v1 3 gap: gap", "received joiner:v1 2 gap: gap", "received joiner:v1 1 filled")
	if s := w.stream(); s.Head != 3 || !access(w, "3").Access {
		t.Errorf("want the chain whole, got %+v", s)
	}
}

func TestRedeliveryIsRecognised(t *testing.T) {
	w, p := setup(t)
	list := []sealed{p.joiner("1", 1), p.leaver("1", 1)}
	w.give(list...)
	w.give(list...) // committed, and the settlement was lost
	n := w.want(1, "received joiner:v1 1 admitted", "received leaver:v1 2 admitted", "received  1 duplicate: replay", "received  2 duplicate: replay")
	rev := w.subject("1").Rev
	for range 30 {
		w.give(list[0])
	}
	if w.subject("1").Rev != rev {
		t.Error("want a repetition to change nothing")
	}
	w.set(t0.Add(time.Minute))
	w.sweep()
	if got := w.entries()[n:]; len(got) != 20 || got[18] != "refused replay and 12 more" {
		t.Errorf("want a flood of repetitions in a summary, got %q", got)
	}
}

func TestALostTransactionIsRepairedByRedelivery(t *testing.T) {
	w, p := setup(t)
	list := []sealed{p.joiner("1", 1), p.leaver("2", 1)}
	in := w.intake()
	boom := in.Now
	in.Now = func() time.Time { panic("crash inside the transaction") }
	func() {
		defer func() { _ = recover() }()
		_ = w.tryGive(t.Context(), list...)
	}()
	in.Now = boom
	w.reopen()
	n := w.want(1)
	w.give(list...)
	w.want(n, "received joiner:v1 1 admitted", "received leaver:v1 2 admitted")
}

func TestAForkIsNoticedAndCutsOnly(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1), p.joiner("2", 1))
	q := *p // the same key says something else
	w.give(p.joiner("3", 1))
	w.give(q.joiner("4", 1), q.leaver("1", 1), p.joiner("5", 1), p.heartbeat(schema.CutNotice{Subject: "2", Engagement: 1, Kind: schema.KindLeaver, Effective: schema.At(t0), Seq: 4}))
	w.want(4, "received joiner:v1 3 fork: fork", "received leaver:v1 4 fork: fork", "received joiner:v1 4 fork: fork", "received heartbeat:v1 5 fork: fork", "raised fork")
	if s := w.stream(); s.State != admit.ForkedAway || s.Head != 3 || s.ForkSeq != 3 || !s.HeartbeatIAT.IsZero() {
		t.Errorf("want a forked stream at 3, got %+v", s)
	}
	for id, want := range map[string]bool{"1": false, "2": false, "3": true, "4": false, "5": false} {
		if got := access(w, id).Access; got != want {
			t.Errorf("subject %s: want access %v, got %v", id, want, got)
		}
	}
	// The next generation, once an operator trusts it, goes on.
	p.generation, p.seq, p.prev = 2, 0, schema.Digest{}
	first := p.joiner("6", 1)
	w.give(first)
	if access(w, "6").Access {
		t.Error("want a generation that nobody trusts to give nothing")
	}
	w.update(func(tx *store.Tx) error {
		return state.TrustGeneration(tx, iss, "hr", state.Pin{Generation: 2}, w.by())
	})
	w.sweep()
	if !access(w, "6").Access {
		t.Error("want it to give once it is trusted")
	}
	if got := w.alarms(); len(got) != 0 {
		t.Errorf("want the alarms over, got %v", got)
	}
}

func TestUnknownKeysAreParkedUntilTrusted(t *testing.T) {
	w, p := setup(t)
	x := newProducer(t, "approvals", w.to)
	m := x.say("1", &schema.Approval{Engagement: 1, Roles: []string{"a"}, Expiry: schema.At(t0.Add(time.Hour))})
	w.give(m, p.heartbeat())
	w.give(m)
	n := w.want(1, "parked unknown-key", "raised parked", "received heartbeat:v1 1 admitted")
	w.sweep()
	w.want(n)
	w.trust(x, schema.KindApproval)
	w.sweep()
	w.want(n+1, "received approval:v1 1 admitted", "cleared parked")
	if list, _ := state.ListParked(w.db.Read()); len(list) != 0 {
		t.Errorf("want nothing parked any more, got %+v", list)
	}
}

func TestRefusals(t *testing.T) {
	w, p := setup(t)
	other := newProducer(t, "other", w.to)
	w.trust(other, schema.KindHeartbeat)
	impostor := *other
	impostor.stream = "hr" // its key is trusted, for another stream
	elsewhere := *p
	elsewhere.audience = "urn:jmlbridge:enclave:gov-2"
	altered := p.joiner("1", 1)
	p.seq, p.prev = 0, schema.Digest{}
	flipped := bytes.Clone(altered.wire)
	flipped[len(flipped)-1] = 'A' + (flipped[len(flipped)-1]-'A'+1)%26
	n := len(w.entries())
	w.give(sealed{wire: []byte("garbage")}, impostor.leaver("1", 1), elsewhere.joiner("1", 1), sealed{wire: flipped}, sealed{}, p.sign2(`{"not":"a SET"}`))
	got := w.entries()[n:]
	want := []string{"refused malformed", "refused forged", "refused wrong-enclave", "refused decrypt-failed", "refused malformed", "refused unknown-member"}
	if got[3] == "refused bad-base64" { // the last character can carry bits that must be zero
		want[3] = got[3]
	}
	if !slices.Equal(got, want) {
		t.Errorf("want %q, got %q", want, got)
	}
	if w.subject("1").Rev != 0 {
		t.Error("want nothing believed")
	}
}

func TestContentThatIsRefusedKeepsItsPlace(t *testing.T) {
	w, p := setup(t)
	p.replace(`"roles":`, `"salary":1,"roles":`)
	bad := p.joiner("1", 1)
	w.give(bad, p.joiner("2", 1))
	got := w.entries()[1:]
	if !slices.Equal(got, []string{"received joiner:v1 1 refused: unknown-member", "raised content-refused", "received joiner:v1 2 admitted"}) {
		t.Errorf("want the chain to go on, got %q", got)
	}
	if access(w, "1").Access || !access(w, "2").Access {
		t.Error("want the refused content to say nothing")
	}
}

// A leaver that may not be read is lost but for the alarm, which names its subject and ends by itself.
func TestALeaverThatIsRefusedIsTheLoudestAlarm(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1))
	p.replace(`"reason":`, `"mood":1,"reason":`)
	w.give(p.leaver("1", 1))
	standing, err := state.Alarms(w.db.Read())
	if err != nil || len(standing) != 1 || standing[0].Code != alarmContent || standing[0].Key != "1@"+iss || standing[0].Severity != state.Critical {
		t.Fatalf("alarms %+v, %v", standing, err)
	}
	w.set(w.now.Load().Add(noticeFor + time.Minute))
	w.sweep()
	if a := w.alarms(); len(a) != 0 {
		t.Errorf("alarms %v a day later", a)
	}
}

// A leaver that cannot be read, or that its key may not sign, is in its place and cuts nobody. The heartbeat that repeats it does.
func TestAHeartbeatRepeatsWhatWasRefused(t *testing.T) {
	for what, say := range map[string]func(w *world, p *producer) sealed{
		"unreadable": func(_ *world, p *producer) sealed {
			p.replace(`"reason":"termination"`, `"reason":"Termination"`)
			return p.leaver("1", 1)
		},
		"not allowed": func(w *world, p *producer) sealed {
			signer, public := p.signer, p.public
			p.rekey()
			w.trust(p, schema.KindJoiner)
			w.sweep()
			m := p.leaver("1", 1)
			p.signer, p.public = signer, public
			return m
		},
	} {
		w, p := setup(t)
		w.give(p.joiner("1", 1, "a"), p.joiner("2", 1, "a"))
		m := say(w, p)
		w.give(m)
		if !access(w, "1").Access || w.stream().Head != m.seq {
			t.Fatalf("%s: want it in its place and believed in nothing, got %+v", what, access(w, "1"))
		}
		w.give(p.heartbeat(schema.CutNotice{Subject: "1", Engagement: 1, Kind: schema.KindLeaver, Effective: schema.At(t0.Add(-time.Minute)), Seq: m.seq}))
		if v := access(w, "1"); !v.Closed || v.Cause.Seq != m.seq || w.subject("1").Lane != plan.Disable || !access(w, "2").Access {
			t.Errorf("%s: want the heartbeat's word to act, got %+v", what, v)
		}
	}
}

func TestAKeyMayOnlySignItsKinds(t *testing.T) {
	w := newWorld(t)
	p := newProducer(t, "hr", w.to)
	w.trust(p, schema.KindHeartbeat, schema.KindJoiner)
	w.give(p.joiner("1", 1), p.leaver("1", 1), p.heartbeat())
	w.want(1, "received joiner:v1 1 admitted", "received leaver:v1 2 refused: kind-not-allowed", "raised content-refused", "received heartbeat:v1 3 admitted")
	if !access(w, "1").Access {
		t.Error("want a leaver of a key that may not say it to do nothing")
	}
}

func TestALeaverOfANewerVersionIsCut(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1))
	p.replace(`leaver:v1":{`, `leaver:v2":{"handover":{"to":"3"},`)
	newer := p.leaver("1", 1)
	w.give(newer, p.joiner("2", 1))
	n := w.want(1, "received joiner:v1 1 admitted", "received leaver:v2 2 cut-core: newer-version", "received joiner:v1 3 gap: gap", "raised newer-version")
	if access(w, "1").Access || access(w, "2").Access {
		t.Error("want the cut to act and the grant after it to wait")
	}
	w.set(t0.Add(2 * time.Minute))
	w.sweep()
	w.give(newer)
	w.want(n, "received  2 duplicate: replay")
}

func TestMessagesOfTheFutureWaitForTheClock(t *testing.T) {
	w, p := setup(t)
	p.now = t0.Add(admit.MaxSkew + time.Minute)
	w.give(p.joiner("1", 1), p.leaver("2", 1))
	w.want(1, "parked future", "raised future", "parked future")
	if access(w, "1").Access || access(w, "2").Why != fence.WhyLeft {
		t.Error("want the cut to act and the grant to wait")
	}
	w.set(p.now)
	w.sweep()
	w.want(4, "received joiner:v1 1 admitted", "received leaver:v1 2 admitted", "cleared future")
}

// By a clock that is ahead a suspension is over and a move has happened; once it is put right, neither is so.
func TestASuspensionOutlastsAClockAhead(t *testing.T) {
	w, p := setup(t)
	person := schema.Person{DisplayName: "Ann Example"}
	w.set(t0.Add(8 * 24 * time.Hour))
	w.give(p.joiner("1", 1, "analyst"), p.joiner("2", 1, "analyst"),
		p.say("1", &schema.Suspend{Engagement: 1, Effective: schema.At(t0), Reason: schema.ReasonLeave}))
	w.give(p.say("1", &schema.Resume{Engagement: 1, Effective: schema.At(t0.Add(24 * time.Hour)), Reason: schema.ReasonReturn}),
		p.say("2", &schema.Mover{Engagement: 1, Person: person, Roles: []string{"lead"}, Start: schema.At(t0), Effective: schema.At(t0.Add(24 * time.Hour))}))
	w.give(p.heartbeat())
	if one, two := access(w, "1"), access(w, "2"); !one.Access || !slices.Equal(two.Roles(), []string{"lead"}) {
		t.Fatalf("while the clock is ahead: %s, and %v", one.Why, two.Roles())
	}
	w.set(t0)
	if one, two := access(w, "1"), access(w, "2"); one.Why != fence.WhySuspended || !slices.Equal(two.Roles(), []string{"analyst"}) {
		t.Fatalf("once it is put right: %s, and %v; want suspended, and the roles of before the move", one.Why, two.Roles())
	}
	p.now = t0.Add(49 * time.Hour)
	w.set(p.now)
	w.give(p.heartbeat(), p.mover("1", 1, "lead"), p.mover("2", 1, "analyst"))
	for _, id := range []string{"1", "2"} {
		if s := w.subject(id); !access(w, id).Access || len(s.Doc.Suspensions) != 0 {
			t.Errorf("a day after it was past: %s of %s, %d suspensions are kept", access(w, id).Why, id, len(s.Doc.Suspensions))
		}
	}
}

func TestARetiredKeyIsGoodUpToItsEnd(t *testing.T) {
	w, p := setup(t)
	a, b, c := p.joiner("1", 1), p.joiner("2", 1), p.leaver("1", 1)
	k, err := state.Keys(w.db.Read())
	if err != nil {
		t.Fatal(err)
	}
	w.give(a)
	w.update(func(tx *store.Tx) error {
		return state.RetireKey(tx, k[0].KID, admit.Point{Generation: 1, Seq: 2}, w.by())
	})
	w.give(b, c)
	n := w.want(3, "received joiner:v1 2 admitted", "refused key-retired", "raised key-retired")
	w.give(c, p.heartbeat()) // said once
	w.want(n, "refused key-retired", "refused key-retired")
	if !access(w, "1").Access {
		t.Error("want what a retired key says after its end to do nothing")
	}
	// The next key says it again: the alarm ends with it.
	q := newProducer(t, "hr", p.to)
	q.seq, q.prev, q.now = b.seq, b.payload, p.now
	w.trust(q)
	w.sweep() // notices the key
	w.give(q.leaver("1", 1))
	if codes := w.alarms(); len(codes) != 0 || access(w, "1").Access {
		t.Errorf("after the leaver by the next key: alarms %q\n%q", codes, w.entries())
	}
}

// No resend closes a gap of messages that are refused for their key's end: its alarm says what does.
func TestAGapOfARevokedKeySaysWhatCloses(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1), p.joiner("2", 1))
	k, err := state.Keys(w.db.Read())
	if err != nil {
		t.Fatal(err)
	}
	w.update(func(tx *store.Tx) error {
		_, err := state.RevokeKey(tx, k[0], admit.Point{Generation: 1, Seq: 2}, w.by())
		return err
	})
	lost := p.leaver("1", 1)
	p.rekey()
	w.trust(p)
	w.sweep()
	said := func() string {
		list, err := state.Alarms(w.db.Read())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if a.Code == string(admit.CodeGap) {
				return a.Text
			}
		}
		return ""
	}
	later := p.heartbeat()
	w.give(later)
	if s := said(); s == "" || strings.Contains(s, "producer roster") {
		t.Errorf("before anything was refused: %q", s)
	}
	w.give(lost, later)
	if s := said(); !strings.Contains(s, "no resend helps") || !strings.Contains(s, "`producer roster`") {
		t.Errorf("of what was refused: %q", s)
	}
}

func TestAHeartbeatRepeatsWithheldCuts(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1), p.joiner("2", 1))
	p.leaver("1", 1) // withheld
	hb := p.heartbeat(schema.CutNotice{Subject: "1", Engagement: 1, Kind: schema.KindLeaver, Effective: schema.At(t0.Add(-time.Minute)), Seq: 3})
	w.give(hb)
	if access(w, "1").Access || !access(w, "2").Access {
		t.Error("want the withheld leaver cut by the heartbeat that repeats it")
	}
	rev := w.subject("1").Rev
	w.give(p.heartbeat(schema.CutNotice{Subject: "1", Engagement: 1, Kind: schema.KindLeaver, Effective: schema.At(t0.Add(-time.Minute)), Seq: 3}))
	if w.subject("1").Rev != rev {
		t.Error("want the same word again to change nothing")
	}
}

// What was fresh once does not become so again by coming again, or by the queue being busy with old things.
func TestReplayedHeartbeatsAreNotFresh(t *testing.T) {
	w, p := setup(t)
	old := []sealed{p.heartbeat(), p.heartbeat()}
	w.give(old...)
	fresh := func(want time.Time) {
		t.Helper()
		if since, ok, err := state.FreshSince(w.db.Read(), iss); err != nil || !ok || !since.Equal(want) {
			t.Errorf("fresh since %s (%v, %v), want %s", since, ok, err, want)
		}
	}
	w.set(t0.Add(time.Hour))
	for range 3 {
		w.give(old...)
		w.give(old[1], old[0])
	}
	fresh(t0)
	p.now = t0.Add(time.Hour)
	w.give(p.heartbeat())
	fresh(t0.Add(time.Hour))
}

func TestADelayedHeartbeatIsNotFresh(t *testing.T) {
	w, p := setup(t)
	hb := p.heartbeat()
	w.set(t0.Add(time.Hour))
	w.give(hb)
	since, ok, err := state.FreshSince(w.db.Read(), iss)
	if err != nil || !ok || !since.Equal(t0) {
		t.Errorf("want freshness by what the heartbeat states, got %s %v %v", since, ok, err)
	}
}

func TestRostersAreVerifiedAndKept(t *testing.T) {
	w, p := setup(t)
	w.give(p.heartbeat())
	live := make([]schema.LiveEngagement, 0, 500)
	for i := range 500 {
		live = append(live, schema.LiveEngagement{Subject: string(rune('a'+i/100)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10)), Engagement: 1, State: schema.StateActive,
			Since: schema.At(t0), Person: schema.Person{DisplayName: "Someone With A Long Name To Fill The Part " + string(bytes.Repeat([]byte("x"), 150))}, Roles: []string{"a"}, Start: schema.At(t0)})
	}
	head := schema.RosterHead{Generation: 1, Seq: p.seq, Hash: p.prev}
	roster := func(id string) []*schema.Roster {
		parts, err := schema.SplitRoster(id, head, live, nil)
		if err != nil || len(parts) < 2 {
			t.Fatalf("want a roster of several parts, got %d, %v", len(parts), err)
		}
		return parts
	}
	say := func(parts []*schema.Roster) (list []sealed) {
		for _, r := range parts {
			list = append(list, p.say("", r))
		}
		return list
	}
	broken := roster("0193e2c0-0000-7000-8000-000000000001")
	w.give(say(broken[:1])...)
	list := say(roster("0193e2c0-0000-7000-8000-000000000002"))
	w.give(list[0])
	if got := w.alarms(); !slices.Equal(got, []string{"roster-broken"}) {
		t.Errorf("want an alarm on a roster that was never whole, got %v", got)
	}
	w.give(list[1:]...)
	rosters, err := state.Rosters(w.db.Read(), 10)
	if err != nil || len(rosters) != 2 || rosters[0].State != state.RosterVerified || rosters[0].Live != 500 || rosters[1].State != state.RosterBroken {
		t.Fatalf("want one roster verified and one broken, got %+v, %v", rosters, err)
	}
	if w.subject("a00").Rev != 0 {
		t.Error("want a roster not applied")
	}
	if got := w.alarms(); len(got) != 0 {
		t.Errorf("want the alarm over, got %v", got)
	}
}

// Messages of two generations that nobody opened are told of once, however they take turns and however often they are tried again.
func TestUnopenedGenerationsCannotFillTheLedger(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 1, "a"), p.leaver("1", 1), p.joiner("1", 2, "a"))
	w.anew(p)
	opened := *p
	var list []sealed
	for i := range 8 {
		p.generation, p.seq, p.prev = 3+i%2, uint64(1+i), schema.Digest{1}
		list = append(list, p.leaver("1", 1))
	}
	skip := len(w.entries())
	w.give(list...)
	w.give(opened.heartbeat())
	raised := slices.DeleteFunc(w.entries()[skip:], func(e string) bool { return !strings.HasPrefix(e, "raised") })
	if !slices.Equal(raised, []string{"raised engagement-forgotten", "raised generation"}) {
		t.Errorf("got %q", raised)
	}
	skip = len(w.entries())
	w.set(t0.Add(10 * time.Minute))
	w.sweep()
	w.want(skip)
}

func TestStrangersCannotFillTheDisk(t *testing.T) {
	w, p := setup(t)
	w.in = nil
	c := w.config(nil)
	c.Limits = Limits{Parked: 20_000, ParkedKey: 9_000, Rate: 4}
	var err error
	if w.in, err = New(c); err != nil {
		t.Fatal(err)
	}
	w.sweep()
	for range 3 {
		x := newProducer(t, "hr", w.to)
		for range 10 {
			w.give(x.joiner("1", 1))
		}
	}
	w.give(p.leaver("1", 1))
	list, err := state.ListParked(w.db.Read())
	size := int64(0)
	for _, m := range list {
		size += m.Size
	}
	if err != nil || size > 20_000 || len(list) < 4 {
		t.Errorf("want some parked within the quota, got %d of %d octets, %v", len(list), size, err)
	}
	if n := len(w.entries()); n > 12 {
		t.Errorf("want a flood summed up, got %d entries", n)
	}
	w.set(t0.Add(time.Minute))
	w.sweep()
	got := w.entries()
	if !slices.Contains(got, "refused unknown-key and 2 more") && !slices.ContainsFunc(got, func(s string) bool { return len(s) > 19 && s[:19] == "refused parked-full" }) {
		t.Errorf("want a summary, got %q", got)
	}
}

func TestAnUpgradedProgramLetsTheWaitingIn(t *testing.T) {
	w, p := setup(t)
	// As a program that did not know the version of message 1 left it.
	m := p.joiner("1", 1)
	it := &item{body: m.wire}
	it.open(w.ring, w.intake().trust.keys())
	w.update(func(tx *store.Tx) error {
		s := w.stream()
		s.Highest = 1
		return errors.Join(state.SaveStream(tx, s), state.AddMessage(tx, &state.Message{StreamRef: s.Ref, Seq: 1, Payload: m.payload, Wire: it.wire, KID: it.kid,
			Event: schema.KindJoiner, Disposition: admit.Parked, Code: admit.CodeNewerVersion, JWS: it.opened.JWS, Octets: it.opened.Payload}))
	})
	w.reopen()
	w.give(m, p.joiner("2", 1))
	w.want(1, "received joiner:v1 1 admitted", "received  1 duplicate: replay", "received joiner:v1 2 admitted")
	if !access(w, "1").Access {
		t.Error("want the message that waited to act")
	}
}

func TestAParkedCutActsAsSoonAsItsKeyIsTrusted(t *testing.T) {
	w, p := setup(t)
	x := newProducer(t, "hr", w.to)
	x.seq, x.generation, x.prev = 4, 2, schema.DigestOf([]byte("4"))
	w.give(p.joiner("1", 1), x.leaver("1", 1))
	n := w.want(1, "received joiner:v1 1 admitted", "parked unknown-key", "raised parked")
	w.trust(x)
	w.sweep()
	w.want(n+1, "parked generation", "raised generation", "cleared parked")
	if access(w, "1").Access {
		t.Error("want the cut of a generation that nobody opened to act")
	}
	if at := w.subject("1").Doc.StateFence; at.Generation != 1 || at.Seq != 1 {
		t.Errorf("want the fence not moved out of reach, got %+v", at)
	}
}

func TestWhatCannotMoveAFenceIsRecorded(t *testing.T) {
	w, p := setup(t)
	w.give(p.joiner("1", 2, "a"), p.mover("1", 1, "b"), p.joiner("2", 2000))
	w.want(1, "received joiner:v1 1 admitted", "received mover:v1 2 admitted", "superseded", "received joiner:v1 3 admitted: fast-forward", "raised engagement-jump")
	if v := access(w, "1"); !slices.Equal(v.Roles(), []string{"a"}) || access(w, "2").Access {
		t.Errorf("want neither to give anything, got %+v", v)
	}
	w.set(t0.Add(25 * time.Hour))
	w.sweep()
	if got := w.alarms(); len(got) != 0 {
		t.Errorf("want the alarm over after a day, got %v", got)
	}
}

func TestALongGapClosesInSeveralTransactions(t *testing.T) {
	const waiting = maxDrain + 100
	w, p := setup(t)
	lost := p.heartbeat()
	list := make([]sealed, waiting)
	for i := range list {
		list[i] = p.heartbeat()
	}
	w.give(list...)
	commits := 0
	w.in.Committed = func() { commits++ }
	w.give(lost)
	if s := w.stream(); s.Head != waiting+1 || s.HeadHash != p.prev || commits != 2 || len(w.alarms()) != 0 {
		t.Errorf("want all let in by 2 transactions and no alarm, got %+v, %d and %v", s, commits, w.alarms())
	}
	got := w.entries()
	if n := len(got); got[n-1] != "cleared gap" || got[n-2] != "received heartbeat:v1 1 filled" {
		t.Errorf("want the gap over once, got %q", got[n-2:])
	}
}

func TestPieces(t *testing.T) {
	batch := make([]queue.Delivery, 5)
	for i, n := range []int{3, 3, 9, 1, 1} {
		batch[i].Body = make([]byte, n)
	}
	var got []int
	for _, p := range pieces(batch, 6) {
		got = append(got, len(p))
	}
	if !slices.Equal(got, []int{2, 1, 2}) {
		t.Errorf("want pieces of 2, 1 and 2 messages, got %v", got)
	}
}
