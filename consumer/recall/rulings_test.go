package recall

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// carry puts a message that names people in its content on the ledger, and into the archive.
func (l *lost) carry(kid string, seq uint64, disposition string, event schema.Event) *entry.Received {
	l.t.Helper()
	if l.archive == nil {
		l.archive = map[schema.Digest]string{}
		l.m.Content = func(d schema.Digest) (string, bool) { jws, ok := l.archive[d]; return jws, ok }
	}
	id, err := uuid.NewV7()
	if err != nil {
		l.t.Fatal(err)
	}
	set := &schema.SET{Issuer: iss, Audience: "urn:x:gov-1", ID: id.String(), IssuedAt: schema.At(t0), Event: event, Version: 1, Stream: schema.Position{ID: "hr", Generation: 1, Seq: seq, Prev: schema.Digest{byte(seq)}}}
	octets, err := schema.Encode(set)
	if err != nil {
		l.t.Fatal(err)
	}
	payload := schema.DigestOf(octets)
	l.archive[payload] = "h." + base64.RawURLEncoding.EncodeToString(octets) + ".s"
	r := &entry.Received{Message: entry.Message{Position: entry.Position{Issuer: iss, Stream: "hr", Generation: 1, Seq: seq}, Event: string(event.Kind()) + ":v1", Payload: payload, Key: kid}, Disposition: disposition}
	switch e := event.(type) {
	case *schema.Heartbeat:
		n := len(e.Cuts)
		r.Cuts = &n
	case *schema.Roster:
		r.Roster = &entry.Roster{ID: e.ID, Part: e.Part, Parts: e.Parts, Digest: e.Digest, Generation: e.Head.Generation, Seq: e.Head.Seq, Hash: e.Head.Hash, Live: len(e.Live), Closed: len(e.Closed)}
	}
	return r
}

func (l *lost) roster(kid string, seq, head uint64, live []schema.LiveEngagement, closed []schema.ClosedEngagement) []*entry.Received {
	l.t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		l.t.Fatal(err)
	}
	parts, err := schema.SplitRoster(id.String(), schema.RosterHead{Generation: 1, Seq: head, Hash: schema.Digest{1}}, live, closed)
	if err != nil {
		l.t.Fatal(err)
	}
	var list []*entry.Received
	for i, p := range parts {
		list = append(list, l.carry(kid, seq+uint64(i), entry.DispositionAdmitted, p))
	}
	return list
}

func (l *lost) applied(last uint64) {
	l.add(&entry.Lease{Action: entry.LeaseRenewed, Issuer: iss, Count: 1, Cause: &entry.Cause{Type: entry.CauseMessage, Position: &entry.Position{Issuer: iss, Stream: "hr", Generation: 1, Seq: last}}})
}

func liveAs(subject string, n int, how string) schema.LiveEngagement {
	since := schema.At(t0.Add(-time.Hour))
	return schema.LiveEngagement{Subject: subject, Engagement: n, State: how, Since: since, Start: since, Person: schema.Person{DisplayName: "X Y", PreferredAlias: "x"}, Roles: []string{"r"}}
}

func subjectOf(t *testing.T, db *state.DB, who string) *state.Subject {
	t.Helper()
	s, err := state.LoadSubject(db.Read(), state.SubjectKey{Issuer: iss, Subject: who})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Who left by a heartbeat or a roster alone stays out, also where the next roster has them as live again.
func TestCutsThatNoMessageOfTheirOwnTold(t *testing.T) {
	l, kid := newLost(t)
	at := schema.At(t0.Add(-time.Hour))
	for i, who := range []string{"beaten", "listed", "held", "back"} {
		l.received(schema.KindJoiner, who, 1, uint64(i+1), entry.DispositionAdmitted)
		l.did(who, entry.ResultApplied, plan.CreateAccount)
	}
	l.received(schema.KindSuspend, "back", 1, 5, entry.DispositionAdmitted)
	l.add(l.carry(kid, 20, entry.DispositionGap, &schema.Heartbeat{Total: 1, Cuts: []schema.CutNotice{{Subject: "beaten", Engagement: 1, Kind: schema.KindLeaver, Effective: at, Seq: 12}}}))
	for _, r := range l.roster(kid, 21, 15, []schema.LiveEngagement{liveAs("back", 1, schema.StateActive), liveAs("held", 1, schema.StateSuspended)},
		[]schema.ClosedEngagement{{Subject: "listed", Engagement: 1, Effective: at}}) {
		l.add(r)
	}
	l.applied(21)
	db, made := l.restore()
	if made.Closed != 3 || made.Open != 3 || l.m.Unread != 0 {
		t.Errorf("made %+v, %d unread", made, l.m.Unread)
	}
	for who, why := range map[string]fence.Why{"beaten": fence.WhyLeft, "listed": fence.WhyLeft, "held": fence.WhySuspended} {
		s := subjectOf(t, db, who)
		if s == nil || s.Lane != plan.Disable || s.Doc.At(t0).Why != why {
			t.Errorf("%s: %+v, want %s", who, s, why)
			continue
		}
		if why == fence.WhySuspended {
			continue
		}
		doc, _ := fence.Accept(s.Doc, fence.Fact{Position: fence.Position{Engagement: 1, Generation: 2, Seq: 99}, Kind: schema.KindRoster, Sequenced: true})
		if doc.At(t0.Add(time.Hour)).Access {
			t.Errorf("%s is back by a roster of the same engagement", who)
		}
	}
	if s := subjectOf(t, db, "back"); s == nil || s.Lane != plan.Idle || len(s.Doc.Suspensions) > 0 || s.Doc.Resumed.Seq != 15 {
		t.Errorf("a roster said that they are back: %+v", s)
	}

	// Without the archive it is said that not everything is known, and nobody is cut who may be live.
	bare, kid := newLost(t)
	r := bare.carry(kid, 2, entry.DispositionAdmitted, &schema.Heartbeat{Total: 1, Cuts: []schema.CutNotice{{Subject: "a", Engagement: 1, Kind: schema.KindLeaver, Effective: at, Seq: 1}}})
	bare.m.Content = nil
	bare.add(r)
	if bare.restore(); bare.m.Unread != 1 {
		t.Errorf("%d unread, want 1", bare.m.Unread)
	}
}

// A suspension that a roster may have ended, which was applied and is not in the archive, cuts nobody; one of which no
// such roster can speak does.
func TestSuspensionThatAnUnreadRosterMayHaveEnded(t *testing.T) {
	for what, c := range map[string]struct {
		applied, thief, readable bool
		head                     uint64
		out                      bool
	}{
		"a roster of after it":                  {applied: true, head: 3},
		"it is at hand, and has them suspended": {applied: true, readable: true, head: 3, out: true},
		"a roster of up to it":                  {applied: true, head: 2, out: true},
		"it was not applied":                    {head: 3, out: true},
		"a thief's roster":                      {applied: true, thief: true, head: 3, out: true},
	} {
		l, kid := newLost(t)
		thief := l.trust(entry.Trust{})
		l.received(schema.KindJoiner, "away", 1, 1, entry.DispositionAdmitted)
		l.did("away", entry.ResultApplied, plan.CreateAccount)
		l.received(schema.KindSuspend, "away", 1, 2, entry.DispositionAdmitted)
		if c.thief {
			kid = thief
		}
		for _, r := range l.roster(kid, 4, c.head, []schema.LiveEngagement{liveAs("away", 1, schema.StateSuspended)}, nil) {
			if !c.readable {
				delete(l.archive, r.Payload)
			}
			l.add(r)
		}
		if c.applied {
			l.applied(4)
		}
		if c.thief {
			l.add(&entry.Trust{Action: entry.TrustRevoke, Key: thief, Use: entry.UseSign, Issuer: iss, Stream: "hr", Generation: 1, AtSeq: 3})
		}
		db, made := l.restore()
		switch s := subjectOf(t, db, "away"); {
		case c.out && (made.Open != 1 || s == nil || s.Lane != plan.Disable || s.Doc.At(t0.Add(time.Hour)).Why != fence.WhySuspended):
			t.Errorf("%s: %+v, %+v; want the suspension to stand", what, made, s)
		case !c.out && (made.Closed != 0 || s != nil):
			t.Errorf("%s: %+v, %+v; want nobody cut", what, made, s)
		}
	}
}

// A third ledger knows by the second who had left by the first.
func TestTwoLosses(t *testing.T) {
	l, _ := newLost(t)
	l.received(schema.KindLeaver, "left", 3, 4, entry.DispositionAdmitted)
	l.received(schema.KindJoiner, "away", 1, 5, entry.DispositionAdmitted)
	l.received(schema.KindSuspend, "away", 1, 6, entry.DispositionAdmitted)
	l.add(&entry.Operator{By: "bob", Action: "cut", Issuer: iss, Subject: "locked", Reason: "INC-1"})
	l.received(schema.KindLeaver, "cut", 1, 7, entry.DispositionAdmitted)
	l.did("cut", entry.ResultApplied, plan.DisableAccount, plan.RevokeSessions)
	l.received(schema.KindJoiner, "lapsed", 1, 8, entry.DispositionAdmitted)
	l.did("lapsed", entry.ResultApplied, plan.DisableAccount, plan.RevokeSessions) // by a lease
	l.received(schema.KindLeaver, "half", 1, 9, entry.DispositionAdmitted)
	l.did("half", entry.ResultApplied, plan.DisableAccount)
	for range 3 {
		db, made := l.restore()
		if made.Closed != 5 || made.Keys != 1 || made.Open != 1 {
			t.Errorf("made %+v", made)
		}
		for who, want := range map[string]plan.Lane{"cut": plan.Strip, "lapsed": plan.Idle, "half": plan.Disable} {
			s := subjectOf(t, db, who)
			var known plan.Known
			if s == nil || s.Lane != want || json.Unmarshal(s.Account, &known) != nil || known.ID != "id-"+who || known.DisabledAt.IsZero() || known.IsCut() == (who == "half") {
				t.Errorf("%s: %+v, %+v; want it known what was done to the account", who, s, known)
			}
		}
		for who, want := range map[string]fence.Why{"left": fence.WhyLeft, "away": fence.WhySuspended, "locked": fence.WhyLocked} {
			if s := subjectOf(t, db, who); s == nil || s.Doc.At(t0.Add(time.Hour)).Why != want || s.Lane != plan.Disable {
				t.Errorf("%s: %+v, want %s", who, s, want)
			}
		}
		if c := subjectOf(t, db, "left").Doc.Closings[0]; c.Position != (fence.Position{Engagement: 3, Generation: 1, Seq: 4}) {
			t.Errorf("the leaver stands at %+v", c.Position)
		}
		l = lostAgain(t, db)
	}
}

// When somebody was cut, by whom and why is told by every ledger as by the first, however many databases are lost.
func TestCutsKeepTheirDatesAndReasons(t *testing.T) {
	l, _ := newLost(t)
	thief := l.trust(entry.Trust{})
	l.received(schema.KindLeaver, "left", 1, 1, entry.DispositionAdmitted)
	cut := t0.Add(time.Duration(l.n+1) * time.Second) // the outcome comes after the intent
	l.did("left", entry.ResultApplied, plan.DisableAccount, plan.RevokeSessions)
	locked := t0.Add(time.Duration(l.add(&entry.Operator{By: "bob", Action: "cut", Issuer: iss, Subject: "locked", Reason: "INC-1"})) * time.Second)
	l.add(&entry.Received{Message: entry.Message{Position: entry.Position{Issuer: iss, Stream: "hr", Generation: 1, Seq: 2}, Event: "joiner:v1", Subject: "undone", Engagement: 1, Payload: schema.Digest{2}, Key: thief}, Disposition: entry.DispositionAdmitted})
	l.did("undone", entry.ResultApplied, plan.CreateAccount)
	l.add(&entry.Trust{Action: entry.TrustRevoke, Key: thief, Generation: 1, AtSeq: 1})
	undone := t0.Add(time.Duration(l.add(&entry.Operator{By: "cyd", Action: ruling.ActionUndo, Issuer: iss, Subject: "undone", Engagement: 1, Reason: "stolen"})) * time.Second)
	for loss := 1; loss <= 4; loss++ {
		db, _ := l.restore()
		left := subjectOf(t, db, "left")
		var known plan.Known
		if err := json.Unmarshal(left.Account, &known); err != nil || !known.DisabledAt.Equal(cut) || !known.IsCut() {
			t.Errorf("loss %d: disabled at %v, revoked at %v, %v; want %v", loss, known.DisabledAt, known.RevokedAt, err, cut)
		}
		if c := left.Doc.Closings; len(c) != 1 || !c[0].Effective.Equal(t0.Add(-time.Hour)) {
			t.Errorf("loss %d: the leaver is %+v", loss, c)
		}
		if got := subjectOf(t, db, "locked").Doc.Lock; *got != (fence.Lock{By: "bob", Reason: "INC-1", At: locked}) {
			t.Errorf("loss %d: cut by hand %+v", loss, *got)
		}
		acts := map[string]*entry.Operator{}
		for e, err := range ledger.Entries(t.Context(), db.DB, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if o, ok := e.Entry.Body.(*entry.Operator); ok && o.Action != ActionRecall {
				acts[o.Action] = o
			}
		}
		for action, want := range map[string]entry.Operator{
			"cut":             {By: "ann", Subject: "locked", Reason: "INC-1", First: &entry.First{By: "bob", At: entry.At(locked)}},
			ruling.ActionUndo: {By: "ann", Subject: "undone", Reason: "stolen", First: &entry.First{By: "cyd", At: entry.At(undone)}},
		} {
			got := acts[action]
			if got == nil || got.First == nil || got.By != want.By || got.Subject != want.Subject || got.Reason != want.Reason || *got.First != *want.First {
				t.Errorf("loss %d: the ledger has %+v, want %+v, first %+v", loss, got, want, *want.First)
			}
		}
		l = lostAgain(t, db)
	}
}

// lostAgain is the loss of a database that was begun anew: what its ledger tells.
func lostAgain(t *testing.T, db *state.DB) *lost {
	t.Helper()
	l := &lost{t: t, m: New()}
	for e, err := range ledger.Entries(t.Context(), db.DB, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if err := l.m.Read(e.Entry); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// A suspension that was over is over, whoever delivers it again after a loss or a second one. Its person is otherwise not
// known: nobody is cut, given or claimed by that.
func TestASuspensionThatWasOverStaysOver(t *testing.T) {
	l, _ := newLost(t)
	for i, who := range []string{"back", "told"} {
		l.received(schema.KindJoiner, who, 1, uint64(i+1), entry.DispositionAdmitted)
		l.received(schema.KindSuspend, who, 1, uint64(i+3), entry.DispositionAdmitted)
	}
	l.received(schema.KindResume, "back", 1, 5, entry.DispositionAdmitted)
	for _, r := range l.roster("", 7, 6, []schema.LiveEngagement{liveAs("live", 1, schema.StateActive), liveAs("told", 1, schema.StateActive)}, nil) {
		l.add(r)
	}
	l.applied(7)
	now := t0.Add(time.Hour)
	for range 3 {
		db, made := l.restore()
		if made.Closed != 0 || subjectOf(t, db, "live") != nil {
			t.Errorf("made %+v, and of who never was suspended %+v", made, subjectOf(t, db, "live"))
		}
		yes := true
		err := db.Tx(t.Context(), func(tx *store.Tx) error {
			return Find(tx, Look{Accounts: []directory.Account{{ID: "a", Mark: directory.Mark(iss, "back"), Enabled: &yes}, {ID: "b", Mark: directory.Mark(iss, "told"), Enabled: &yes}}, Started: now, Finished: now}, &made, state.By{Login: "ann", Reason: "lost", Now: now})
		})
		if list, cerr := Claims(db.Read()); err != nil || cerr != nil || len(list) != 2 || list[0].Standing != Waiting || list[1].Standing != Waiting || made.Open != 0 {
			t.Errorf("%+v, %+v, %v, %v", list, made, err, cerr)
		}
		for who, seq := range map[string]uint64{"back": 3, "told": 4} {
			s := subjectOf(t, db, who)
			if s == nil || s.Lane != plan.Idle || s.Doc.At(now).Access {
				t.Fatalf("%s: %+v", who, s)
			}
			again, _ := fence.Accept(s.Doc, fence.Fact{Position: fence.Position{Engagement: 1, Generation: 1, Seq: seq}, Kind: schema.KindSuspend, Effective: t0.Add(-time.Hour)})
			later, _ := fence.Accept(s.Doc, fence.Fact{Position: fence.Position{Engagement: 1, Generation: 1, Seq: 9}, Kind: schema.KindSuspend, Effective: t0.Add(-time.Hour)})
			again.Wants = []fence.Want{{Position: fence.Position{Engagement: 1, Generation: 1, Seq: 1}}}
			later.Wants = again.Wants
			if again.At(now).Why != fence.WhyActive || later.At(now).Why != fence.WhySuspended {
				t.Errorf("%s: %s by the suspension that was over, %s by another", who, again.At(now).Why, later.At(now).Why)
			}
		}
		l = lostAgain(t, db)
	}
}

// What must stay cut stays cut, whatever a thief's word said against it and in whatever order his words, the roster that
// he signed and what was done by them came.
func TestWhatWasDisownedBringsNobodyBack(t *testing.T) {
	for _, ruled := range []string{"revoked", "ruled out", "not ruled"} {
		for _, undone := range []bool{true, false} {
			for _, order := range orders(5) {
				l, kid := newLost(t)
				thief := l.trust(entry.Trust{})
				seq := uint64(0)
				say := func(key string, kind schema.Kind, who string, n int) {
					seq++
					effective := schema.At(t0.Add(-time.Hour))
					l.add(&entry.Received{Message: entry.Message{Position: entry.Position{Issuer: iss, Stream: "hr", Generation: 1, Seq: seq}, Event: string(kind) + ":v1", Subject: who, Engagement: n,
						Payload: schema.Digest{byte(seq)}, Effective: &effective, Key: key}, Disposition: entry.DispositionAdmitted})
				}
				for _, who := range []string{"left", "away"} {
					say(kid, schema.KindJoiner, who, 1)
					l.did(who, entry.ResultApplied, plan.CreateAccount)
				}
				say(kid, schema.KindLeaver, "left", 1)
				say(kid, schema.KindSuspend, "away", 1)
				for _, who := range []string{"left", "away"} {
					l.did(who, entry.ResultApplied, plan.DisableAccount, plan.RevokeSessions)
				}
				stolen := seq + 1
				lies := []func(){
					func() { say(thief, schema.KindJoiner, "left", 2) },
					func() { say(thief, schema.KindResume, "away", 1) },
					func() { say(thief, schema.KindJoiner, "made", 1) },
					func() {
						for _, r := range l.roster(thief, seq+1, seq, []schema.LiveEngagement{liveAs("away", 1, schema.StateActive), liveAs("left", 2, schema.StateActive)}, nil) {
							seq++
							l.add(r)
						}
						l.applied(seq)
					},
					func() {
						for _, who := range []string{"left", "away", "made"} {
							l.did(who, entry.ResultApplied, plan.EnableAccount)
						}
					},
				}
				for _, i := range order {
					lies[i]()
				}
				switch ruled {
				case "revoked":
					l.add(&entry.Trust{Action: entry.TrustRevoke, Key: thief, Use: entry.UseSign, Issuer: iss, Stream: "hr", Generation: 1, AtSeq: stolen - 1})
				case "ruled out":
					chain := l.m.streams[streamName{iss, "hr"}].chain[stolen]
					digest := schema.Digest{}
					copy(digest[:], chain[:])
					l.add(&entry.Trust{Action: entry.TrustBranch, Issuer: iss, Stream: "hr", Generation: 1, AtSeq: stolen, Head: &schema.Digest{0xfe}})
					l.add(&entry.Operator{By: "ann", Action: ruling.ActionRuleOut, Issuer: iss, Target: fmt.Sprintf("hr#1.%d", stolen), Digest: &digest})
				}
				counts := ruled == "not ruled"
				if undone && !counts {
					l.add(&entry.Operator{By: "ann", Action: ruling.ActionUndo, Issuer: iss, Subject: "made", Engagement: 1})
				}
				for who, want := range map[string]bool{"left": !counts, "away": !counts, "made": undone && !counts} {
					doc, why, out := l.m.persons[state.SubjectKey{Issuer: iss, Subject: who}].judge(t0.Add(time.Hour), false, fence.Position{})
					if out != want || doc.At(t0.Add(time.Hour)).Access {
						t.Fatalf("%s, undone %v, order %v: %s is out: %v (%s), want %v; %+v", ruled, undone, order, who, out, why, want, doc)
					}
				}
			}
		}
	}
}

// orders lists every order of n things.
func orders(n int) (list [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, o := range orders(n - 1) {
		for i := range n {
			list = append(list, slices.Insert(slices.Clone(o), i, n-1))
		}
	}
	return list
}

// What an operator took back of a thief's word is taken after the loss too, where it was not seen to be, and the next
// good word ends that.
// What a stolen key said past a gap waited still as the key was ended: it brings nobody back, and the stream goes on where the next key went
// on.
func TestWhatWaitedOfAnEndedKey(t *testing.T) {
	for _, action := range []string{entry.TrustRevoke, entry.TrustRetire} {
		l, kid := newLost(t)
		next := l.trust(entry.Trust{})
		said := func(key string, kind schema.Kind, subject string, n int, seq uint64, payload byte, disposition, code string) {
			effective := schema.At(t0.Add(-time.Hour))
			l.add(&entry.Received{Message: entry.Message{Position: entry.Position{Issuer: iss, Stream: "hr", Generation: 1, Seq: seq}, Event: string(kind) + ":v1", Subject: subject, Engagement: n,
				Payload: schema.Digest{payload}, Effective: &effective, Key: key}, Disposition: disposition, Code: code})
		}
		said(kid, schema.KindLeaver, "bob", 1, 1, 1, entry.DispositionAdmitted, "")
		said(kid, schema.KindJoiner, "bob", 2, 3, 33, entry.DispositionGap, "gap")
		l.add(&entry.Trust{Action: action, Use: entry.UseSign, Key: kid, Issuer: iss, Stream: "hr", Generation: 1, AtSeq: 2})
		said(kid, schema.KindJoiner, "ann", 1, 2, 2, entry.DispositionFilled, "")
		said(kid, schema.KindJoiner, "bob", 2, 3, 33, entry.DispositionHeld, "key-retired")
		said(next, schema.KindJoiner, "cyd", 1, 3, 3, entry.DispositionFilled, "")
		db, made := l.restore()
		streams, err := state.Streams(db.Read())
		if err != nil || len(streams) != 1 || streams[0].Head != 3 || streams[0].HeadHash != (schema.Digest{3}) {
			t.Errorf("%s: want the stream to go on from message 3 of the next key, got %+v, %v", action, streams[0].Stream, err)
		}
		if v := subjectOf(t, db, "bob").Doc.At(t0.Add(time.Hour)); made.Closed != 1 || v.Why != fence.WhyLeft {
			t.Errorf("%s: want bob to have left still, got %+v, %+v", action, made, v)
		}
	}
}

// What came while a stream said two things waits for an operator's word, and the ledger does not say of each message of the branch
// that was chosen that it went into sequence. Who came back by one is not cut again, nobody is brought back by the other branch,
// and whom a roster of the chosen one had as closed is out.
func TestWhatWaitedForARuling(t *testing.T) {
	for _, followed := range []bool{true, false} {
		l, kid := newLost(t)
		chosen, other := byte(2), byte(22)
		if !followed {
			chosen, other = other, chosen
		}
		said := func(kind schema.Kind, subject string, n int, seq uint64, payload, prev byte, disposition string) {
			effective := schema.At(t0.Add(-time.Hour))
			l.add(&entry.Received{Message: entry.Message{Position: entry.Position{Issuer: iss, Stream: "hr", Generation: 1, Seq: seq}, Event: string(kind) + ":v1", Subject: subject, Engagement: n,
				Payload: schema.Digest{payload}, Prev: schema.Digest{prev}, Effective: &effective, Key: kid}, Disposition: disposition})
		}
		said(schema.KindLeaver, "back", 1, 1, 1, 0, entry.DispositionAdmitted)
		said(schema.KindJoiner, "ann", 1, 2, 2, 1, entry.DispositionAdmitted)
		said(schema.KindJoiner, "ann", 1, 2, 22, 1, entry.DispositionFork)
		said(schema.KindLeaver, "gone", 1, 3, 33, other, entry.DispositionFork)
		said(schema.KindJoiner, "back", 2, 4, 4, 3, entry.DispositionFork) // before the one that it goes on from
		said(schema.KindSuspend, "away", 1, 3, 3, chosen, entry.DispositionFork)
		said(schema.KindJoiner, "gone", 2, 4, 44, 33, entry.DispositionFork)
		said(schema.KindResume, "away", 1, 5, 5, 4, entry.DispositionFork)
		r := l.roster(kid, 6, 5, nil, []schema.ClosedEngagement{{Subject: "listed", Engagement: 1, Effective: schema.At(t0.Add(-time.Hour))}})[0]
		r.Disposition, r.Prev = entry.DispositionFork, schema.Digest{5}
		l.add(r)
		l.add(&entry.Trust{Action: entry.TrustBranch, Issuer: iss, Stream: "hr", Generation: 1, AtSeq: 2, Head: &schema.Digest{chosen}})
		l.add(&entry.Operator{By: "ann", Action: ruling.ActionRuleOut, Issuer: iss, Target: "hr#1.2", Digest: &schema.Digest{other}})
		l.applied(6)
		db, _ := l.restore()
		streams, err := state.Streams(db.Read())
		if err != nil || len(streams) != 1 || streams[0].Head != 6 || streams[0].HeadHash != r.Payload {
			t.Errorf("followed %v: want the stream to go on from message 6, got %+v, %v", followed, streams, err)
		}
		for who, want := range map[string]plan.Lane{"back": plan.Idle, "away": plan.Idle, "gone": plan.Disable, "listed": plan.Disable} {
			if s := subjectOf(t, db, who); s == nil || s.Lane != want {
				t.Errorf("followed %v: %s: %+v, want lane %s", followed, who, s, want)
			}
		}
	}
}

// A thief's roster had stood in for what the producer said, and its key was revoked: what is on the ledger once more, in its place,
// counts, and the stream goes on there.
func TestWhatIsReadAgainWhereAThiefsRosterWas(t *testing.T) {
	for _, again := range []bool{false, true} {
		l, thief := newLost(t)
		next := l.trust(entry.Trust{})
		l.received(schema.KindLeaver, "back", 1, 1, entry.DispositionAdmitted)
		r := l.roster(thief, 1001, 1000, []schema.LiveEngagement{liveAs("back", 2, schema.StateActive)}, []schema.ClosedEngagement{{Subject: "cut", Engagement: 1, Effective: schema.At(t0.Add(-time.Hour))}})[0]
		r.Disposition = entry.DispositionGap
		l.add(r)
		l.applied(1001)
		good := l.roster(next, 2, 1, nil, []schema.ClosedEngagement{{Subject: "listed", Engagement: 1, Effective: schema.At(t0.Add(-time.Hour))}})[0]
		late := *good
		late.Disposition, late.Code = entry.DispositionFilled, "covered"
		l.add(&late)
		l.add(&entry.Trust{Action: entry.TrustRevoke, Key: thief, Issuer: iss, Stream: "hr", Generation: 1, AtSeq: 1})
		l.add(&entry.Operator{By: "ann", Action: ruling.ActionPutBack, Issuer: iss, Target: "hr#1.1", Digest: &schema.Digest{1}})
		head, hash := uint64(1), schema.Digest{1}
		want := map[string]plan.Lane{"back": plan.Disable, "cut": plan.Disable}
		if again {
			l.add(good)
			l.applied(2)
			head, hash, want["listed"] = 2, good.Payload, plan.Disable
		}
		db, _ := l.restore()
		if s, err := state.Streams(db.Read()); err != nil || s[0].Head != head || s[0].HeadHash != hash {
			t.Errorf("again %v: want the stream to go on after message %d, got %+v, %v", again, head, s, err)
		}
		for _, who := range []string{"back", "cut", "listed"} {
			lane, known := want[who]
			if s := subjectOf(t, db, who); (s != nil) != known || known && s.Lane != lane {
				t.Errorf("again %v: %s: %+v, want %v, %s", again, who, s, known, lane)
			}
		}
	}
}

// A later generation was opened while a roster was being applied: whom that had as closed is out all the same.
func TestARosterThatOutlastsItsGeneration(t *testing.T) {
	l, kid := newLost(t)
	for _, r := range l.roster(kid, 5, 1, nil, []schema.ClosedEngagement{{Subject: "bob", Engagement: 1, Effective: schema.At(t0.Add(-time.Hour))}}) {
		l.add(r)
	}
	l.add(&entry.Trust{Action: entry.TrustGeneration, Issuer: iss, Stream: "hr", Generation: 2, AtSeq: 1})
	l.applied(5)
	db, made := l.restore()
	if made.Closed != 1 {
		t.Fatalf("want bob out, got %+v", made)
	}
	if v := subjectOf(t, db, "bob").Doc.At(t0.Add(time.Hour)); v.Why != fence.WhyLeft {
		t.Errorf("got %+v", v)
	}
}

func TestWhatWasUndoneIsUndone(t *testing.T) {
	l, _ := newLost(t)
	thief := l.trust(entry.Trust{})
	l.received(schema.KindSuspend, "other", 1, 1, entry.DispositionAdmitted)
	l.add(&entry.Received{Message: entry.Message{Position: entry.Position{Issuer: iss, Stream: "hr", Generation: 1, Seq: 2}, Event: "joiner:v1", Subject: "made", Engagement: 1, Payload: schema.Digest{2}, Key: thief}, Disposition: entry.DispositionAdmitted})
	l.did("made", entry.ResultApplied, plan.CreateAccount)
	l.add(&entry.Trust{Action: entry.TrustRevoke, Key: thief, Generation: 1, AtSeq: 1})
	l.add(&entry.Operator{By: "ann", Action: ruling.ActionUndo, Issuer: iss, Subject: "made", Engagement: 1, Reason: "stolen"})
	db, made := l.restore()
	s := subjectOf(t, db, "made")
	if made.Closed != 2 || s == nil || s.Lane != plan.Disable || s.Doc.At(t0).Access {
		t.Fatalf("made %+v, %+v", made, s)
	}
	var known plan.Known
	if err := json.Unmarshal(s.Account, &known); err != nil || known.ID != "id-made" || known.IsCut() {
		t.Fatalf("%+v, %v", known, err)
	}
	third := &lost{t: t, m: New()}
	third.add(&entry.Operator{By: "ann", Action: ruling.ActionUndo, Issuer: iss, Subject: "made", Engagement: 1, Reason: "stolen"})
	third.add(&entry.Operator{By: "ann", Action: ActionRecall, Issuer: iss, Subject: "made", Engagement: 1, Target: "resume#1.1", Effective: entry.InstantAt(t0)})
	if _, made := third.restore(); made.Closed != 1 {
		t.Errorf("made %+v; want what was undone undone still, where something before it was recalled", made)
	}
	if e, err := ledger.Get(db.DB, s.Doc.Lapse.Entry); err != nil || e.Body.(*entry.Operator).Action != ruling.ActionUndo {
		t.Errorf("the cause of what is taken: %+v, %v", e, err)
	}
	doc, v := fence.Accept(s.Doc, fence.Fact{Position: fence.Position{Engagement: 1, Generation: 1, Seq: 10}, Kind: schema.KindJoiner, Sequenced: true})
	doc.Compact(t0, t0.Add(time.Hour))
	if v != fence.Accepted || !doc.At(t0.Add(time.Hour)).Access {
		t.Errorf("a good word does not count: %v, %+v", v, doc)
	}
}

// A word of which an operator said that it stands, stands.
func TestWhatWasKeptCounts(t *testing.T) {
	l, kid := newLost(t)
	l.received(schema.KindLeaver, "a", 1, 1, entry.DispositionAdmitted)
	effective := schema.At(t0)
	l.add(&entry.Received{Message: entry.Message{Position: entry.Position{Issuer: iss, Stream: "hr", Generation: 1, Seq: 2}, Event: "joiner:v1", Subject: "a", Engagement: 2, Payload: schema.Digest{2}, Key: kid, Effective: &effective}, Disposition: entry.DispositionAdmitted})
	l.did("a", entry.ResultApplied, plan.CreateAccount)
	l.add(&entry.Trust{Action: entry.TrustRevoke, Key: kid, Generation: 1, AtSeq: 1})
	l.add(&entry.Operator{By: "ann", Action: ruling.ActionKeep, Issuer: iss, Subject: "a", Engagement: 2})
	db, _ := l.restore()
	if s := subjectOf(t, db, "a"); s.Lane != plan.Idle {
		t.Errorf("who was let stand is to be cut: %+v", s)
	}
}
