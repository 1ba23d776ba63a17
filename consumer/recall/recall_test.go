package recall

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"

	jose "github.com/go-jose/go-jose/v4"
)

const iss = "https://iam.mssp.example/jml"

var t0 = time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)

// lost is a ledger whose database is gone.
type lost struct {
	t *testing.T
	m *Memory
	n int64

	archive map[schema.Digest]string // signed messages by the digest of their payload
}

func (l *lost) add(b entry.Body) int64 {
	l.t.Helper()
	if err := l.m.Read(entry.New(t0.Add(time.Duration(l.n)*time.Second), b)); err != nil {
		l.t.Fatal(err)
	}
	l.n++
	return l.n - 1
}

func (l *lost) received(kind schema.Kind, subject string, n int, seq uint64, disposition string) {
	l.t.Helper()
	effective := schema.At(t0.Add(-time.Hour))
	l.add(&entry.Received{Message: entry.Message{Position: entry.Position{Issuer: iss, Stream: "hr", Generation: 1, Seq: seq}, Event: string(kind) + ":v1", Subject: subject, Engagement: n,
		Payload: schema.Digest{byte(seq)}, Effective: &effective}, Disposition: disposition})
}

func (l *lost) did(subject, result string, ops ...plan.Kind) {
	l.t.Helper()
	in := &entry.Intent{Who: entry.Who{Issuer: iss, Subject: subject}, Account: "id-" + subject}
	out := &entry.Outcome{Who: in.Who, Account: in.Account}
	for i, op := range ops {
		in.Ops = append(in.Ops, entry.Op{N: i + 1, Op: string(op)})
		out.Results = append(out.Results, entry.Result{N: i + 1, Result: result})
	}
	out.Intent = l.add(in)
	l.add(out)
}

func newLost(t *testing.T) (l *lost, kid string) {
	t.Helper()
	l = &lost{t: t, m: New()}
	l.add(&entry.Started{})
	l.add(&entry.Trust{Action: entry.TrustAdd, Use: entry.UseDecrypt, Key: "d"})
	return l, l.trust(entry.Trust{Generation: 1, AtSeq: 1})
}

// trust adds a key of the stream; pin is where that begins, for its first.
func (l *lost) trust(pin entry.Trust) (kid string) {
	l.t.Helper()
	key, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		l.t.Fatal(err)
	}
	jwk, err := jose.JSONWebKey{Key: key.Public()}.MarshalJSON()
	if err != nil {
		l.t.Fatal(err)
	}
	if kid, err = keys.ID(key.Public()); err != nil {
		l.t.Fatal(err)
	}
	l.add(&entry.Trust{Action: entry.TrustAdd, Use: entry.UseSign, Key: kid, Issuer: iss, Stream: "hr", Generation: pin.Generation, AtSeq: pin.AtSeq, JWK: string(jwk), By: "ann"})
	return kid
}

func (l *lost) restore() (*state.DB, Made) {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "consumer.db")
	if err := state.Create(path, "urn:x:gov-1", t0); err != nil {
		l.t.Fatal(err)
	}
	db, err := state.Open(path)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { db.Close() })
	var made Made
	err = db.Tx(l.t.Context(), func(tx *store.Tx) (err error) {
		made, err = l.m.Restore(tx, state.By{Login: "ann", Reason: "lost", Now: t0.Add(time.Hour)})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return db, made
}

func TestRestore(t *testing.T) {
	l, kid := newLost(t)
	in, gap := entry.DispositionAdmitted, entry.DispositionGap
	for i, who := range []string{"gone", "open", "live", "away", "back", "anew", "locked", "freed", "undone"} {
		l.received(schema.KindJoiner, who, 1, uint64(i+1), in)
		l.did(who, entry.ResultApplied, plan.CreateAccount)
	}
	l.received(schema.KindLeaver, "gone", 1, 10, in)
	l.did("gone", entry.ResultApplied, plan.DisableAccount)
	l.did("gone", entry.ResultApplied, plan.RevokeSessions)
	l.received(schema.KindLeaver, "open", 1, 11, in)
	l.did("open", entry.ResultFailed, plan.DisableAccount)
	l.received(schema.KindSuspend, "away", 1, 12, in)
	l.received(schema.KindSuspend, "back", 1, 13, in)
	l.received(schema.KindResume, "back", 1, 14, in)
	l.received(schema.KindLeaver, "anew", 1, 15, in)
	l.received(schema.KindJoiner, "anew", 2, 16, in)
	l.add(&entry.Operator{By: "bob", Action: "cut", Issuer: iss, Subject: "locked", Reason: "INC-1"})
	l.add(&entry.Operator{By: "bob", Action: "cut", Issuer: iss, Subject: "freed"})
	l.add(&entry.Operator{By: "bob", Action: "unlock", Issuer: iss, Subject: "freed"})
	l.received(schema.KindLeaver, "undone", 1, 19, gap)
	l.did("undone", entry.ResultApplied, plan.DisableAccount, plan.RevokeSessions)
	l.did("undone", entry.ResultFailed, plan.EnableAccount) // it may be open
	l.received(schema.KindJoiner, "lapsed", 1, 20, in)
	l.did("lapsed", entry.ResultApplied, plan.CreateAccount)
	l.did("lapsed", entry.ResultApplied, plan.DisableAccount, plan.RevokeSessions) // by a lease: nobody said that they left
	l.received(schema.KindJoiner, "binned", 1, 21, in)
	l.did("binned", entry.ResultApplied, plan.CreateAccount)
	l.received(schema.KindLeaver, "binned", 1, 22, in)
	l.add(&entry.Observed{Account: &entry.Account{Who: entry.Who{Issuer: iss, Subject: "binned"}, Account: "id-binned", State: entry.StateGone, Closed: true}}) // it may be back
	l.received(schema.KindLeaver, "unknown", 40, 18, gap)                                                                                                       // of somebody of whom nothing else was said here: a ledger before this one may know an account
	l.received(schema.KindMover, "live", 1, 17, entry.DispositionFilled)
	l.add(&entry.Trust{Action: entry.TrustRetire, Key: kid, Generation: 1, AtSeq: 500})

	db, made := l.restore()
	if made.Keys != 1 || made.Closed != 8 || made.Open != 5 || made.Digest.IsZero() {
		t.Errorf("made %+v", made)
	}
	for who, want := range map[string]plan.Lane{"gone": plan.Strip, "open": plan.Disable, "away": plan.Disable, "locked": plan.Disable, "undone": plan.Disable, "unknown": plan.Disable, "binned": plan.Disable, "anew": plan.Idle} {
		s, err := state.LoadSubject(db.Read(), state.SubjectKey{Issuer: iss, Subject: who})
		if err != nil || s == nil {
			t.Fatalf("%s: %v, %v", who, s, err)
		}
		if s.Lane != want || s.Doc.At(t0.Add(time.Hour)).Access {
			t.Errorf("%s is in lane %v, want %v", who, s.Lane, want)
		}
		if why := s.Doc.At(t0.Add(time.Hour)).Why; (why == fence.WhyUnknown) != (who == "anew") {
			t.Errorf("%s is %s", who, why)
		}
	}
	s, err := state.LoadSubject(db.Read(), state.SubjectKey{Issuer: iss, Subject: "lapsed"})
	var known plan.Known
	if err != nil || s == nil || s.Lane != plan.Idle || json.Unmarshal(s.Account, &known) != nil || known.ID != "id-lapsed" || !known.IsCut() {
		t.Errorf("want it known that we disabled the account, got %+v, %+v, %v", s, known, err)
	}
	for _, who := range []string{"live", "freed"} {
		if s, err := state.LoadSubject(db.Read(), state.SubjectKey{Issuer: iss, Subject: who}); err != nil || s != nil {
			t.Errorf("%s is there: %+v, %v; who has access comes with the roster", who, s, err)
		}
	}
	streams, err := state.Streams(db.Read())
	if err != nil || len(streams) != 1 || streams[0].Head != 22 || streams[0].HeadHash != (schema.Digest{22}) || !streams[0].Unrostered {
		t.Errorf("streams %+v, %v", streams, err)
	}
	k, err := state.KeyByID(db.Read(), kid)
	if err != nil || k.Retired == nil || *k.Retired != (admit.Point{Generation: 1, Seq: 500}) {
		t.Errorf("key %+v, %v", k, err)
	}
}

// Whose account somebody in the enclave had blocked before it was cut keeps that block: a return does not open it.
func TestALocalBlockIsRemembered(t *testing.T) {
	l, _ := newLost(t)
	for i, who := range []string{"blocked", "opened"} {
		l.received(schema.KindJoiner, who, 1, uint64(2*i+1), entry.DispositionAdmitted)
		l.did(who, entry.ResultApplied, plan.CreateAccount)
		l.received(schema.KindSuspend, who, 1, uint64(2*i+2), entry.DispositionAdmitted)
		in := &entry.Intent{Who: entry.Who{Issuer: iss, Subject: who}, Account: "id-" + who, Ops: []entry.Op{{N: 1, Op: string(plan.DisableAccount)}}}
		l.add(&entry.Outcome{Intent: l.add(in), Who: in.Who, Account: in.Account, Results: []entry.Result{{N: 1, Result: entry.ResultApplied, Code: string(plan.HoldDisabledLocally)}}})
	}
	l.did("opened", entry.ResultApplied, plan.DisableAccount) // once more: it had been found enabled in between
	db, _ := l.restore()
	for who, want := range map[string]bool{"blocked": true, "opened": false} {
		s, err := state.LoadSubject(db.Read(), state.SubjectKey{Issuer: iss, Subject: who})
		if err != nil || s == nil {
			t.Fatalf("%s: %v, %v", who, s, err)
		}
		if k, err := s.Known(); err != nil || k.BlockedAt.IsZero() == want || k.DisabledAt.IsZero() {
			t.Errorf("%s: %+v, %v", who, k, err)
		}
	}
}

// The order in which a ledger is read is the only thing that counts: a stream whose generation was opened anew begins there.
func TestGenerations(t *testing.T) {
	l, _ := newLost(t)
	l.received(schema.KindLeaver, "a", 1, 1, entry.DispositionAdmitted)
	l.add(&entry.Trust{Action: entry.TrustGeneration, Issuer: iss, Stream: "hr", Generation: 2, AtSeq: 1})
	l.received(schema.KindLeaver, "b", 1, 2, entry.DispositionGeneration)
	db, made := l.restore()
	streams, err := state.Streams(db.Read())
	if err != nil || len(streams) != 1 || streams[0].Generation != 2 || streams[0].Head != 0 || made.Closed != 2 {
		t.Errorf("streams %+v, made %+v, %v", streams, made, err)
	}
}
