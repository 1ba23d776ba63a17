package state

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

const (
	enclave = "urn:jmlbridge:enclave:gov-1"
	iss     = "https://iam.mssp.example/jml"
)

var t0 = time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)

func open(t *testing.T) *DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "consumer.db")
	if err := Create(path, enclave, t0); err != nil {
		t.Fatal(err)
	}
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func update(t *testing.T, db *DB, f func(*store.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func kinds(t *testing.T, db *DB) (list []entry.Kind) {
	t.Helper()
	for e, err := range ledger.Entries(t.Context(), db.DB, 0) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.Body.Kind())
	}
	return list
}

func newKey(t *testing.T, stream string) *Key {
	t.Helper()
	k, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &Key{Public: der, Key: admit.Key{Issuer: iss, Stream: stream, Kinds: schema.ProducerKinds}}
}

func TestFileBelongsToOneEnclave(t *testing.T) {
	db := open(t)
	if db.Enclave() != enclave || len(db.ID()) != 32 {
		t.Errorf("want enclave %q and an id of 32 digits, got %q and %q", enclave, db.Enclave(), db.ID())
	}
	if err := db.Check(enclave); err != nil {
		t.Error(err)
	}
	var refused *store.RefusedError
	if err := db.Check("urn:other"); !errors.As(err, &refused) {
		t.Errorf("want another enclave refused, got %v", err)
	}
	if err := Create(db.Path(), enclave, t0); !errors.As(err, &refused) {
		t.Errorf("want a second creation refused, got %v", err)
	}
	if err := Create(filepath.Join(t.TempDir(), "x.db"), "it's; DROP TABLE meta", t0); err != nil {
		t.Errorf("an odd URI must not break creation: %v", err)
	}
}

func TestTrust(t *testing.T) {
	db := open(t)
	k := newKey(t, "hr")
	k.NotAfter = t0.Add(time.Hour)
	by := By{"ops", "ticket 7", t0}
	update(t, db, func(tx *store.Tx) error { return TrustKey(tx, k, Pin{}, by) })
	got, err := KeyByID(db.Read(), k.KID)
	if err != nil || !got.NotAfter.Equal(k.NotAfter) || got.Retired != nil || len(got.Kinds) != len(schema.ProducerKinds) || !bytes.Equal(got.Public, k.Public) {
		t.Fatalf("want the key back as it was trusted, got %+v, %v", got, err)
	}
	streams, err := Streams(db.Read())
	if err != nil || len(streams) != 1 || streams[0].Generation != 1 || streams[0].Joined != 1 || streams[0].State != admit.Live {
		t.Fatalf("want generation 1 followed from seq 1, got %+v, %v", streams, err)
	}
	for name, f := range map[string]func(tx *store.Tx) error{
		"the same key twice": func(tx *store.Tx) error { return TrustKey(tx, k, Pin{}, by) },
		"another start":      func(tx *store.Tx) error { return TrustKey(tx, newKey(t, "hr"), Pin{Generation: 2}, by) },
		"no kinds":           func(tx *store.Tx) error { x := newKey(t, "a"); x.Kinds = nil; return TrustKey(tx, x, Pin{}, by) },
		"a second voice":     func(tx *store.Tx) error { return TrustKey(tx, newKey(t, "hr2"), Pin{}, by) },
		"a head without its hash": func(tx *store.Tx) error {
			x := newKey(t, "b")
			x.Issuer = "https://other"
			return TrustKey(tx, x, Pin{Head: 7}, by)
		},
		"an old generation":          func(tx *store.Tx) error { return TrustGeneration(tx, iss, "hr", Pin{Generation: 1}, by) },
		"a generation of no one":     func(tx *store.Tx) error { return TrustGeneration(tx, iss, "zz", Pin{Generation: 1}, by) },
		"retiring a key of nobody's": func(tx *store.Tx) error { return RetireKey(tx, "nobody", admit.Point{}, by) },
	} {
		if err := db.Update(t.Context(), f); err == nil {
			t.Errorf("%s: want it refused", name)
		}
	}
	update(t, db, func(tx *store.Tx) error { return TrustGeneration(tx, iss, "hr", Pin{2, 9, schema.Digest{1}}, by) })
	streams, _ = Streams(db.Read())
	if len(streams) != 2 || streams[0].Generation != 2 || streams[0].Joined != 10 || streams[1].State != admit.Closed {
		t.Errorf("want generation 2 from seq 10 and 1 closed, got %+v %+v", streams[0], streams[1])
	}
	update(t, db, func(tx *store.Tx) error { return RetireKey(tx, k.KID, admit.Point{Generation: 1, Seq: 40}, by) })
	if err := db.Update(t.Context(), func(tx *store.Tx) error { return RetireKey(tx, k.KID, admit.Point{Generation: 1, Seq: 41}, by) }); err == nil {
		t.Error("want a retired key not made good for more")
	}
	update(t, db, func(tx *store.Tx) error { return RetireKey(tx, k.KID, admit.Point{}, by) })
	if got, _ := KeyByID(db.Read(), k.KID); got.Retired == nil || *got.Retired != (admit.Point{}) {
		t.Errorf("want the key revoked, got %+v", got.Retired)
	}
	if got := fmt.Sprint(kinds(t, db)); got != "[trust trust trust trust]" {
		t.Errorf("want every change of trust on the ledger, got %s", got)
	}
}

func TestSubjectKeepsWhatIntakeWroteMeanwhile(t *testing.T) {
	db := open(t)
	k := SubjectKey{iss, "4711"}
	s := &Subject{SubjectKey: k, FactAt: t0}
	s.Doc, _ = fence.Accept(s.Doc, fence.Fact{Position: fence.Position{Engagement: 1, Generation: 1, Seq: 1}, Kind: schema.KindJoiner, Sequenced: true, Roles: []string{"a"}})
	s.Raise(plan.Give, t0, false)
	update(t, db, func(tx *store.Tx) error { return SaveFacts(tx, s) })
	seen, err := LoadSubject(db.Read(), k)
	if err != nil || seen.Lane != plan.Give || !seen.Due.Equal(t0) || len(seen.Doc.Wants) != 1 || seen.Account != nil {
		t.Fatalf("want the subject back, got %+v, %v", seen, err)
	}
	// A leaver comes while the executor works.
	s, _ = LoadSubject(db.Read(), k)
	s.Raise(plan.Disable, t0.Add(time.Second), true)
	update(t, db, func(tx *store.Tx) error { return SaveFacts(tx, s) })

	settle := func(rev int64, w Work) (current bool) {
		update(t, db, func(tx *store.Tx) (err error) { current, err = Settle(tx, k, rev, w); return err })
		return current
	}
	if settle(seen.Rev, Work{Account: json.RawMessage(`{"id":"x"}`)}) {
		t.Error("want to hear that a fact came meanwhile")
	}
	got, _ := LoadSubject(db.Read(), k)
	if got.Lane != plan.Disable || !got.Urgent || string(got.Account) != `{"id":"x"}` {
		t.Errorf("want the leaver's lane and the account kept, got %+v", got)
	}
	if !settle(got.Rev, Work{Lane: plan.Delete, Due: t0.Add(time.Hour), Account: got.Account, Note: "grace"}) {
		t.Error("want the current state settled")
	}
	if got, _ := LoadSubject(db.Read(), k); got.Lane != plan.Delete || got.Note != "grace" || got.Urgent {
		t.Errorf("want the executor's word to stand, got %+v", got)
	}
	if err := db.Update(t.Context(), func(tx *store.Tx) error { _, err := Settle(tx, SubjectKey{iss, "x"}, 1, Work{}); return err }); !errors.Is(err, ErrNotFound) {
		t.Errorf("want ErrNotFound, got %v", err)
	}
}

func TestRaiseTakesTheLaneThatGoesFirst(t *testing.T) {
	later := t0.Add(time.Hour)
	for _, c := range []struct {
		name      string
		have      Subject
		lane      plan.Lane
		due       time.Time
		want      plan.Lane
		wantDue   time.Time
		wantFirst bool
	}{
		{"idle", Subject{}, plan.Give, t0, plan.Give, t0, false},
		{"a cut before a grant", Subject{Lane: plan.Give, Due: t0}, plan.Disable, later, plan.Disable, later, true},
		{"a grant after a cut that waits", Subject{Lane: plan.Disable, Due: later}, plan.Give, t0, plan.Disable, t0, false},
		{"the same lane sooner", Subject{Lane: plan.Give, Due: later}, plan.Give, t0, plan.Give, t0, false},
		{"nothing", Subject{Lane: plan.Give, Due: later}, plan.Idle, t0, plan.Give, later, false},
		{"nothing, behind a hold that a fact takes off", Subject{Lane: plan.Disable, Due: later, Note: heldNote(1)}, plan.Idle, t0, plan.Disable, t0, false},
	} {
		s := c.have
		s.Raise(c.lane, c.due, c.wantFirst)
		if s.Lane != c.want || !s.Due.Equal(c.wantDue) || s.Urgent != c.wantFirst {
			t.Errorf("%s: want lane %s due %s, got %s due %s", c.name, c.want, c.wantDue, s.Lane, s.Due)
		}
	}
}

func TestWorkComesByLaneUrgencyAndAge(t *testing.T) {
	db := open(t)
	put := func(id string, lane plan.Lane, due time.Duration, urgent bool) {
		s := &Subject{SubjectKey: SubjectKey{iss, id}}
		s.Raise(lane, t0.Add(due), urgent)
		update(t, db, func(tx *store.Tx) error { return SaveFacts(tx, s) })
	}
	put("late", plan.Disable, 2*time.Second, false)
	put("early", plan.Disable, time.Second, false)
	put("urgent", plan.Disable, 3*time.Second, true)
	put("future", plan.Disable, time.Hour, true)
	put("joiner", plan.Give, 0, false)
	put("idle", plan.Idle, 0, false)
	now := t0.Add(time.Minute)
	ids := func(list []*Subject, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, s := range list {
			text += s.Subject + " "
		}
		return text
	}
	if got := ids(Due(db.Read(), plan.Disable, now, 10, nil)); got != "urgent early late " {
		t.Errorf("want urgent, early, late; got %s", got)
	}
	if got := ids(Due(db.Read(), plan.Disable, now, 2, nil)); got != "urgent early " {
		t.Errorf("want the first two of them, got %s", got)
	}
	if n, err := AtMostDue(db.Read(), plan.Disable, now); err != nil || n != 3 {
		t.Errorf("want 3 due to disable, got %d, %v", n, err)
	}
	if got := ids(Due(db.Read(), plan.Disable, now, 10, []string{iss})); got != "" {
		t.Errorf("want nobody of an issuer left out, got %s", got)
	}
	if due, err := NextDue(db.Read(), now); err != nil || !due.Equal(t0.Add(time.Hour)) {
		t.Errorf("want the one of the future next, got %s, %v", due, err)
	}
	put("held", plan.Give, 0, false) // a joiner whose account is not ours: looked at again, among those from whom something is taken
	update(t, db, func(tx *store.Tx) error {
		_, err := Settle(tx, SubjectKey{iss, "held"}, 1, Work{Lane: plan.Take, Due: t0.Add(time.Hour), Note: "not-owned"})
		return err
	})
	back, later, err := Backlog(db.Read(), now)
	if err != nil || back[plan.Disable] != 3 || back[plan.Give] != 1 || len(back) != 2 || later[plan.Disable] != 1 || len(later) != 1 {
		t.Errorf("want 3 to disable, 1 to give and 1 to disable later; got %+v, %+v, %v", back, later, err)
	}
	if m, err := LoadSubjects(db.Read(), iss, []string{"late", "nobody", "joiner"}); err != nil || len(m) != 2 || m["joiner"].Lane != plan.Give {
		t.Errorf("want two of three, got %v, %v", m, err)
	}
}

// Who is read to be held against the limits: nobody who is counted or released, and of whom nothing is known that could be
// cut only while accounts of a lost database are unclaimed.
func TestWhoMayBeAFurtherEffect(t *testing.T) {
	db := open(t)
	put := func(id string, lane plan.Lane, change string) {
		t.Helper()
		s := &Subject{SubjectKey: SubjectKey{iss, id}}
		s.Raise(lane, t0, false)
		update(t, db, func(tx *store.Tx) error {
			if err := SaveFacts(tx, s); err != nil || change == "" {
				return err
			}
			_, err := tx.Exec(`UPDATE subject SET `+change+` WHERE subject = ?`, id)
			return err
		})
	}
	put("cut", plan.Disable, `account = '{"id":"a"}'`)
	put("counted", plan.Disable, `account = '{"id":"b"}', counted = rev`)
	put("released", plan.Disable, `account = '{"id":"c"}', note = 'released:1'`)
	put("seen", plan.Disable, `lacking = rev`)
	put("nobody", plan.Disable, "")
	put("moved", plan.Take, `account = '{"id":"d"}', counted = rev`)
	put("taken", plan.Take, `account = '{"id":"e"}', taken = rev`)
	put("new", plan.Take, "")
	put("joiner", plan.Give, "")
	put("deleted again", plan.Delete, `account = '{"id":"f"}', counted = rev, attempts = 1`)
	put("deleted", plan.Delete, `account = '{"id":"g"}', counted = rev`)
	check := func(want map[plan.Lane]string) {
		t.Helper()
		for lane, want := range want {
			var got []string
			err := EachUncounted(db.Read(), lane, t0, func(s *Subject) error {
				got = append(got, s.Subject)
				return nil
			})
			slices.Sort(got)
			if text := strings.Join(got, ", "); err != nil || text != want {
				t.Errorf("lane %s: %s, %v; want %s", lane, text, err, want)
			}
		}
	}
	check(map[plan.Lane]string{plan.Disable: "cut, seen", plan.Take: "moved", plan.Give: "joiner", plan.Delete: "deleted"})
	if n, err := CountUncounted(db.Read(), plan.Delete, t0); err != nil || n != 1 {
		t.Errorf("%d deletes, %v; want 1", n, err)
	}
	update(t, db, func(tx *store.Tx) error { return AddUnclaimed(tx, Unclaimed{Account: "x", Mark: "m", FoundAt: t0}) })
	check(map[plan.Lane]string{plan.Disable: "cut, nobody, seen", plan.Take: "moved, new"})
}

func TestHoldsReleaseExactlyWhatWasShown(t *testing.T) {
	db := open(t)
	k := SubjectKey{iss, "1"}
	hold := func(shown string) (h *Hold, created bool) {
		h = &Hold{SubjectKey: k, Code: "unknown-role", Shown: json.RawMessage(shown), Created: t0}
		update(t, db, func(tx *store.Tx) (err error) { created, err = OpenHold(tx, h); return err })
		return h, created
	}
	decide := func(id int64, d schema.Digest, to HoldState, by string, need int) (done bool, err error) {
		err = db.Update(t.Context(), func(tx *store.Tx) (err error) {
			_, done, err = DecideHold(tx, id, d, to, by, "", need, t0)
			return err
		})
		return done, err
	}
	first, created := hold(`{"role":"a"}`)
	if again, c := hold(`{"role":"a"}`); !created || c || again.ID != first.ID {
		t.Error("want the same thing held once")
	}
	second, _ := hold(`{"role":"b"}`)
	if _, err := decide(first.ID, first.Digest, HoldReleased, "ann", 1); !errors.Is(err, ErrChanged) || strings.Contains(err.Error(), ErrChanged.Error()) {
		t.Errorf("want the superseded hold not released, got %v", err)
	}
	if _, err := decide(second.ID, first.Digest, HoldReleased, "ann", 1); !errors.Is(err, ErrChanged) {
		t.Errorf("want another digest not released, got %v", err)
	}
	if _, err := decide(99, first.Digest, HoldReleased, "ann", 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("want ErrNotFound, got %v", err)
	}
	for i, c := range []struct {
		by   string
		to   HoldState
		done bool
	}{{"ann", HoldDiscarded, false}, {"ann", HoldDiscarded, false}, {"bob", HoldReleased, false}, {"ann", HoldDiscarded, false}, {"bob", HoldDiscarded, true}} {
		if done, err := decide(second.ID, second.Digest, c.to, c.by, 2); done != c.done || err != nil {
			t.Errorf("step %d: want done %v, got %v, %v", i, c.done, done, err)
		}
	}
	if s, err := Decided(db.Read(), k, "unknown-role", second.Digest); s != HoldDiscarded || err != nil {
		t.Errorf("want it remembered as discarded, got %q, %v", s, err)
	}
	third, _ := hold(`{"role":"c"}`)
	if done, err := decide(third.ID, third.Digest, HoldDiscarded, "ann", 2); done || err != nil {
		t.Errorf("want one word not to end it, got %v, %v", done, err)
	}
	if codes, err := HeldAs(db.Read(), k); err != nil || fmt.Sprint(codes) != "[unknown-role]" {
		t.Errorf("want the one code of what is open, got %v, %v", codes, err)
	}
	update(t, db, func(tx *store.Tx) error { _, err := EndHolds(tx, k, true, t0, "other", "unknown-role"); return err })
	if codes, err := HeldAs(db.Read(), k); err != nil || len(codes) > 0 {
		t.Errorf("want nothing open, got %v, %v", codes, err)
	}
	if list, _ := Holds(db.Read()); len(list) != 0 {
		t.Errorf("want no hold open, got %d", len(list))
	}
	all, _ := HoldsOf(db.Read(), k)
	if len(all) != 3 || fmt.Sprint(all[1].By) != "[ann bob]" || all[2].ID != third.ID || all[2].State != HoldEnded {
		t.Errorf("want three holds remembered, got %+v", all)
	}
	if got := fmt.Sprint(kinds(t, db)); got != "[held released held operator operator operator operator released held operator released]" {
		t.Errorf("want each hold, each word and each end on the ledger, got %s", got)
	}
	for e, err := range ledger.Entries(t.Context(), db.DB, 0) {
		if r, ok := e.Body.(*entry.Released); err != nil || ok && r.Action == entry.ReleasedExpired && (len(r.By) > 0 || r.Reason != "") {
			t.Errorf("want nobody named for what expired, got %+v, %v", r, err)
		}
	}
}

func TestAlarmsAreRecordedAtEachTransition(t *testing.T) {
	db := open(t)
	raise := func(text string, s Severity, at time.Time) (raised bool) {
		update(t, db, func(tx *store.Tx) (err error) {
			raised, err = RaiseAlarm(tx, Alarm{Code: "gap", Key: "hr#1", Severity: s, Text: text, Last: at})
			return err
		})
		return raised
	}
	if !raise("2 is missing", Critical, t0) || raise("2 is missing", Critical, t0.Add(time.Second)) || !raise("2 to 3 are missing", Critical, t0.Add(time.Minute)) {
		t.Error("want an alarm raised once for each thing that it says")
	}
	list, err := Alarms(db.Read())
	if err != nil || len(list) != 1 || !list[0].Since.Equal(t0) || !list[0].Last.Equal(t0.Add(time.Minute)) {
		t.Errorf("want one alarm since %s, got %+v, %v", t0, list, err)
	}
	var a, b *Alarm
	update(t, db, func(tx *store.Tx) (err error) {
		if a, err = ClearAlarm(tx, "gap", "hr#1", t0); err != nil {
			return err
		}
		b, err = ClearAlarm(tx, "gap", "hr#1", t0)
		return err
	})
	if a == nil || b != nil {
		t.Errorf("want it cleared once, got %v and %v", a, b)
	}
	if got := fmt.Sprint(kinds(t, db)); got != "[alarm alarm alarm]" {
		t.Errorf("want three transitions on the ledger, got %s", got)
	}
}

// Two issuers may have the same subject id, and an id may have in it whatever stands between it and the issuer: an alarm
// about a person is that person's alone.
func TestAnAlarmIsAboutOnePerson(t *testing.T) {
	const other = "https://hr.partner.example/jml"
	keys := map[string]SubjectKey{}
	for _, k := range []SubjectKey{{iss, "1"}, {other, "1"}, {"urn:x", "1@urn:x"}, {"urn:x@urn:x", "1"}, {"urn:x", "1%40urn:x"}, {"urn:x", "hr#1"}, {"urn:x", "%"}} {
		key := k.AlarmKey()
		if was, ok := keys[key]; ok {
			t.Errorf("%v and %v are both named %s", was, k, key)
		}
		keys[key] = k
		if back, ok := Alarmed(key); !ok || back != k {
			t.Errorf("%s names %v, want %v", key, back, k)
		}
	}
	if key := (SubjectKey{iss, "1"}).AlarmKey(); key != "1@"+iss {
		t.Errorf("an ordinary person is named %s", key)
	}
	generation := Stream{Issuer: "urn:x", Name: "hr"}
	generation.Generation = 1
	for _, key := range []string{"", "1", "1%@urn:x", "1%2F@urn:x", generation.AlarmKey()} {
		if k, ok := Alarmed(key); ok {
			t.Errorf("%q names the person %v", key, k)
		}
	}

	db := open(t)
	ours, theirs := SubjectKey{iss, "1"}, SubjectKey{other, "1"}
	var ended *Alarm
	update(t, db, func(tx *store.Tx) error {
		for _, k := range []SubjectKey{ours, theirs, {iss, "an id that no ledger takes"}} {
			a := AlarmOf("cut-held", k)
			a.Severity, a.Text, a.Last = Critical, "the same of both", t0
			if raised, err := RaiseAlarm(tx, a); err != nil || !raised {
				return fmt.Errorf("raised %v, %w", raised, err)
			}
		}
		var err error
		ended, err = ClearAlarmOf(tx, "cut-held", theirs, t0)
		return err
	})
	left, err := Alarms(db.Read())
	if err != nil || ended == nil || len(left) != 2 || left[0].Key != ours.AlarmKey() {
		t.Errorf("want the other person's to stand, got %+v, %v; ended %+v", left, err, ended)
	}
	var said []string
	for e, err := range ledger.Entries(t.Context(), db.DB, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := e.Body.(*entry.Alarm); ok {
			said = append(said, a.State+" "+a.Subject+" of "+a.Issuer)
		}
	}
	if want := []string{"raised 1 of " + iss, "raised 1 of " + other, "raised  of ", "cleared 1 of " + other}; !slices.Equal(said, want) {
		t.Errorf("the ledger says %q, want %q", said, want)
	}
}

func TestParkedHasAQuota(t *testing.T) {
	db := open(t)
	park := func(n byte, kid string, size int) (kept, known bool) {
		body := bytes.Repeat([]byte{n}, size)
		was := ""
		defer func() { known = was == "unknown-key" }()
		update(t, db, func(tx *store.Tx) (err error) {
			kept, was, err = Park(tx, &Parked{Wire: schema.DigestOf(body), Code: "unknown-key", KID: kid, Body: body, ReceivedAt: t0, TriedAt: t0}, Quota{100, 60})
			return err
		})
		return kept, known
	}
	for i, c := range []struct {
		n           byte
		kid         string
		size        int
		kept, known bool
	}{{1, "a", 50, true, false}, {1, "a", 50, true, true}, {2, "a", 11, false, false}, {3, "b", 50, true, false}, {4, "c", 1, false, false}} {
		if kept, known := park(c.n, c.kid, c.size); kept != c.kept || known != c.known {
			t.Errorf("step %d: want %v %v, got %v %v", i, c.kept, c.known, kept, known)
		}
	}
	list, err := ParkedAfter(db.Read(), 0, 1)
	if err != nil || len(list) != 1 || len(list[0].Body) != 50 {
		t.Fatalf("want the first with its body, got %v, %v", list, err)
	}
	update(t, db, func(tx *store.Tx) error { return Unpark(tx, list[0].Wire) })
	if kept, _ := park(4, "c", 1); !kept {
		t.Error("want room again")
	}
	if list, err := ListParked(db.Read()); err != nil || len(list) != 2 || list[0].Body != nil || list[0].Size != 50 {
		t.Errorf("want two without bodies, got %+v, %v", list, err)
	}
}

func TestRefusalsPastTheRateAreSummed(t *testing.T) {
	db := open(t)
	var want schema.Digest
	listed := 0
	for i := range 10 {
		wire := schema.DigestOf([]byte{byte(i)})
		update(t, db, func(tx *store.Tx) error {
			ok, err := CountRefusal(tx, "forged", wire, 100, 4, t0)
			if ok {
				listed++
			} else {
				want = Link(want, wire)
			}
			return err
		})
	}
	update(t, db, func(tx *store.Tx) error { _, err := CountRefusal(tx, "quiet", want, 1, 4, t0); return err })
	var list []Refusals
	end := func(before time.Time) {
		update(t, db, func(tx *store.Tx) (err error) { list, err = EndRefusals(tx, before); return err })
	}
	if end(t0.Add(-time.Second)); len(list) != 0 {
		t.Errorf("want the interval under way not ended, got %+v", list)
	}
	end(t0)
	if listed != 4 || len(list) != 1 || list[0].Counted != 6 || list[0].Octets != 600 || list[0].Chain != want {
		t.Errorf("want 4 listed and 6 counted, got %d and %+v", listed, list)
	}
	if end(t0); len(list) != 0 {
		t.Errorf("want a summary once, got %+v", list)
	}
}

func TestNamesStayWithTheirOwner(t *testing.T) {
	db := open(t)
	a, b := SubjectKey{iss, "a"}, SubjectKey{iss, "b"}
	take := func(upn string, k SubjectKey, at time.Time) (ok bool) {
		update(t, db, func(tx *store.Tx) (err error) { ok, err = TakeName(tx, upn, k, at); return err })
		return ok
	}
	if !take("Ann@gov.example", a, t0) || !take("ann@gov.example", a, t0) || take("ANN@gov.example", b, t0) {
		t.Error("want a name kept from others, whatever its case")
	}
	update(t, db, func(tx *store.Tx) error { return FreeNames(tx, a, "", t0) })
	if take("ann@gov.example", b, t0.Add(NameReserve-time.Second)) {
		t.Error("want a leaver's name kept for two years")
	}
	if !take("ann@gov.example", b, t0.Add(NameReserve)) {
		t.Error("want the name free after two years")
	}
	if k, freed, ok, err := NameOwner(db.Read(), "ann@gov.example"); k != b || !freed.IsZero() || !ok || err != nil {
		t.Errorf("want it b's, got %v %v %v %v", k, freed, ok, err)
	}
}

func TestBooks(t *testing.T) {
	db := open(t)
	update(t, db, func(tx *store.Tx) error {
		return errors.Join(AddEffects(tx, "give", 3, t0), AddEffects(tx, "give", 2, t0.Add(30*time.Second)), AddEffects(tx, "give", 7, t0.Add(2*time.Hour)),
			AddEffects(tx, "cut", 1, t0), SetPosition(tx, "q", []byte("1")), SetPosition(tx, "q", []byte("2")),
			OpenIntent(tx, &Intent{Index: 9, SubjectKey: SubjectKey{iss, "a"}, Ops: json.RawMessage(`[]`), At: t0}))
	})
	if n, err := Effects(db.Read(), "give", t0.Add(time.Second)); n != 12 || err != nil {
		t.Errorf("want 12, got %d, %v", n, err)
	}
	update(t, db, func(tx *store.Tx) error { return DropEffects(tx, t0.Add(time.Hour)) })
	if n, _ := Effects(db.Read(), "give", t0); n != 7 {
		t.Errorf("want 7, got %d", n)
	}
	if p, err := Position(db.Read(), "q"); string(p) != "2" || err != nil {
		t.Errorf("want the last mark, got %q, %v", p, err)
	}
	if p, err := Position(db.Read(), "other"); p != nil || err != nil {
		t.Errorf("want no mark, got %q, %v", p, err)
	}
	if list, err := OpenIntents(db.Read()); err != nil || len(list) != 1 || list[0].Index != 9 {
		t.Errorf("want one intent, got %v, %v", list, err)
	}
	update(t, db, func(tx *store.Tx) error { return CloseIntent(tx, 9) })
	if err := db.Update(t.Context(), func(tx *store.Tx) error { return CloseIntent(tx, 9) }); !errors.Is(err, ErrNotFound) {
		t.Errorf("want an intent closed once, got %v", err)
	}
}

func TestFirstDue(t *testing.T) {
	db := open(t)
	update(t, db, func(tx *store.Tx) error {
		for i, s := range []Subject{
			{Lane: plan.Give, Due: t0.Add(time.Hour)}, {Lane: plan.Give, Due: t0, Urgent: true}, {Lane: plan.Delete, Due: t0.Add(-time.Hour)},
			{Lane: plan.Disable, Due: t0.Add(time.Minute)}, {Lane: plan.Disable, Due: t0.Add(2 * time.Minute)}, {Lane: plan.Idle},
		} {
			s.SubjectKey = SubjectKey{Issuer: "i", Subject: fmt.Sprint(i)}
			if err := SaveFacts(tx, &s); err != nil {
				return err
			}
		}
		return nil
	})
	got, err := FirstDue(db.Read())
	want := [plan.Delete + 1]time.Time{plan.Disable: t0.Add(time.Minute), plan.Give: t0, plan.Delete: t0.Add(-time.Hour)}
	for lane := range want {
		if err != nil || !got[lane].Equal(want[lane]) {
			t.Errorf("lane %s: want %v, got %v, %v", plan.Lane(lane), want[lane], got[lane], err)
		}
	}
	for from, want := range map[time.Time]time.Time{t0.Add(-2 * time.Hour): t0.Add(-time.Hour), t0: t0.Add(time.Minute), t0.Add(time.Hour): {}} {
		if next, err := NextDue(db.Read(), from); err != nil || !next.Equal(want) {
			t.Errorf("after %v: want %v, got %v, %v", from, want, next, err)
		}
	}
}

// A database of the first version gets what it lacks, and keeps what it has: an alarm about a person ends with its matter.
func TestMigration(t *testing.T) {
	db := open(t)
	path := db.Path()
	k := SubjectKey{Issuer: iss, Subject: "a@1"}
	err := db.Tx(t.Context(), func(tx *store.Tx) error {
		if err := SaveFacts(tx, &Subject{SubjectKey: k, Lane: plan.Give, Due: t0}); err != nil {
			return err
		}
		for _, key := range []string{k.Subject, "hr"} {
			if _, err := RaiseAlarm(tx, Alarm{Code: "cut-held", Key: key, Severity: Critical, Text: "x", Last: t0}); err != nil {
				return err
			}
		}
		for _, q := range []string{"ALTER TABLE subject DROP COLUMN lease_end", "ALTER TABLE subject DROP COLUMN cut_by", "ALTER TABLE subject DROP COLUMN take_by",
			"DROP INDEX hold_expires", "PRAGMA user_version = 1"} {
			if _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	s, err := LoadSubject(again.Read(), k)
	if err != nil || s == nil || s.Lane != plan.Give || !s.CutBy.IsZero() {
		t.Errorf("got %+v, %v", s, err)
	}
	if err := again.Update(t.Context(), func(tx *store.Tx) error {
		if ended, err := ClearAlarmOf(tx, "cut-held", k, t0); err != nil || ended == nil {
			return fmt.Errorf("the alarm about the person: %v, %w", ended, err)
		}
		return LookAtLease(tx, k, t0, true)
	}); err != nil {
		t.Error(err)
	}
	if list, err := Alarms(again.Read()); err != nil || len(list) != 1 || list[0].Key != "hr" {
		t.Errorf("left: %+v, %v", list, err)
	}
}
