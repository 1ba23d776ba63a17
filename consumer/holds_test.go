package main

import (
	"crypto"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func signing(t *testing.T) crypto.Signer {
	t.Helper()
	for {
		k, err := keys.GenerateSigning(keys.ES256)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := keys.ID(k.Public()); err != nil || id[0] != '-' { // that one comes after "--" on the command line
			return k
		}
	}
}

// people puts persons with work in lane behind a hold.
func (f *files) people(db *state.DB, lane plan.Lane, code string, ids ...string) *state.Hold {
	f.t.Helper()
	now := time.Now()
	type one struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	}
	var list []one
	for _, id := range ids {
		list = append(list, one{issuer, id})
	}
	shown, err := json.Marshal(map[string]any{"code": code, "lane": lane.String(), "count": len(ids), "subjects": list})
	if err != nil {
		f.t.Fatal(err)
	}
	h := &state.Hold{SubjectKey: state.SubjectKey{Subject: "x"}, Code: code, Shown: shown, Created: now, Expires: now.Add(time.Hour)}
	f.update(db, func(tx *store.Tx) error {
		for _, id := range ids {
			s := &state.Subject{SubjectKey: state.SubjectKey{Issuer: issuer, Subject: id}, Lane: lane, Due: now, FactAt: now}
			if err := state.SaveFacts(tx, s); err != nil {
				return err
			}
		}
		if _, err := state.OpenHold(tx, h); err != nil {
			return err
		}
		if _, err := state.RaiseAlarm(tx, state.Alarm{Code: code, Severity: state.Critical, Last: now, Text: "past the limit"}); err != nil {
			return err
		}
		return state.HoldLane(tx, h.ID, lane, now, now.Add(time.Hour))
	})
	return h
}

func (f *files) subject(db *state.DB, id string) *state.Subject {
	f.t.Helper()
	s, err := state.LoadSubject(db.Read(), state.SubjectKey{Issuer: issuer, Subject: id})
	if err != nil || s == nil {
		f.t.Fatalf("subject %s: %v, %v", id, s, err)
	}
	return s
}

func (f *files) hold(db *state.DB, id int64) *state.Hold {
	f.t.Helper()
	h, err := state.HoldByID(db.Read(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return h
}

// On single persons of a hold newer facts and operators decide: who looks sees of whom there is something left to decide.
func TestHoldsShowOfWhomThereIsSomethingToDecide(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	h := f.people(db, plan.Disable, "cut-limit", "100001", "100002")
	if show := f.must("holds", "show", h.Name()); strings.Contains(show, decidedNote) || strings.Contains(show, "of whom") {
		t.Errorf("while both wait:\n%s", show)
	}
	f.update(db, func(tx *store.Tx) error { return state.SaveFacts(tx, f.subject(db, "100002")) }) // as a newer fact does
	show := f.must("holds", "show", h.Name())
	for _, want := range []string{"of whom   1 to be decided on\n", "  100001  " + issuer + "\n", "  100002  " + issuer + "  (" + decidedNote + ")\n"} {
		if !strings.Contains(show, want) {
			t.Errorf("want %q in\n%s", want, show)
		}
	}
	if list := f.must("holds", "list"); !strings.Contains(list, "1 of 2 persons, lane disable") {
		t.Errorf("list:\n%s", list)
	}
	var one shownHold
	if err := json.Unmarshal([]byte(f.must("holds", "show", h.Name(), "-o", "json")), &one); err != nil || one.Waiting == nil || *one.Waiting != 1 {
		t.Errorf("for scripts: %+v, %v", one, err)
	}
	held := func() int {
		var s status
		if err := json.Unmarshal([]byte(f.must("status", "-o", "json")), &s); err != nil {
			t.Fatal(err)
		}
		return s.Holds["cut-limit"]
	}
	if n := held(); n != 1 {
		t.Errorf("status has %d holds while one waits", n)
	}
	// The executor ends the hold when it next looks. Until then nobody is to be asked about nothing.
	f.update(db, func(tx *store.Tx) error { return state.SaveFacts(tx, f.subject(db, "100001")) })
	if list := f.must("holds", "list"); !strings.Contains(list, "Nothing is held.") || held() != 0 {
		t.Errorf("nobody waits behind it, status has %d:\n%s", held(), list)
	}
	if show := f.must("holds", "show", h.Name()); !strings.Contains(show, "of whom   0 to be decided on") {
		t.Errorf("show:\n%s", show)
	}
}

func TestDiscardOfCutsTakesTwo(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	h := f.people(db, plan.Disable, "cut-limit", "100001", "100002")
	args := []string{"holds", "discard", h.Name(), "--digest", h.Digest.String(), "--reason", "wrong file"}

	for range 2 { // the same operator twice is one
		if out := f.must(args...); !strings.Contains(out, "another login") {
			t.Errorf("said %q", out)
		}
	}
	if s := f.subject(db, "100001"); s.Lane != plan.Disable {
		t.Fatal("one operator alone has discarded a cut")
	}
	if show := f.must("holds", "show", h.Name()); !strings.Contains(show, "one more must agree") || !strings.Contains(show, h.Digest.String()) {
		t.Errorf("show:\n%s", show)
	}
	if list := f.must("holds", "list"); !strings.Contains(list, "by the discard of 1 more with another login (ann said so at "+stamp(f.hold(db, h.ID).Leaned)+", of digest "+h.Digest.String()+")") {
		t.Errorf("who has spoken, and what is still needed:\n%s", list)
	}
	var list []shownHold
	if err := json.Unmarshal([]byte(f.must("holds", "list", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if l := list[0]; l.Leaning != state.HoldDiscarded || !slices.Equal(l.By, []string{"ann"}) || l.Leaned == nil || time.Since(*l.Leaned) > patience || l.Missing != 1 || l.Digest != h.Digest {
		t.Errorf("the same for scripts: %+v", list)
	}
	f.login = "bob"
	f.must(append(args, "--for", "2h")...)
	if s := f.subject(db, "100001"); s.Lane != plan.Idle || !strings.HasPrefix(s.Note, "discarded") {
		t.Errorf("after the second word: lane %v, note %q", s.Lane, s.Note)
	}
	rel := entries[*entry.Released](t, db)
	if len(rel) != 1 || rel[0].Action != entry.ReleasedDiscard || strings.Join(rel[0].By, ",") != "ann,bob" {
		t.Errorf("on the ledger: %+v", rel)
	}
	if a, err := state.Alarms(db.Read()); err != nil || len(a) != 1 || a[0].Code != "cut-discarded" || a[0].Key != h.Name() || a[0].Severity != state.Critical {
		t.Errorf("alarms that stand: %v, %v", a, err)
	}
	ops := entries[*entry.Operator](t, db)
	if n := len(ops); n != 3 || ops[0].Action != "hold-discard" || ops[0].By != "ann" || ops[0].Reason != "wrong file" || ops[2].Action != "discard" || ops[2].Target != h.Name() || ops[2].Until == nil {
		t.Errorf("operators on the ledger: %+v", ops)
	}
	// The shorter of the two words counts.
	if left := time.Until(f.hold(db, h.ID).Lapses); left < time.Hour || left > 2*time.Hour {
		t.Errorf("it comes back in %v", left)
	}
	if code, _, errs := f.consumer(append(args, "--for", "8d")...); code != exitMisused || !strings.Contains(errs, "at most 7d") {
		t.Errorf("too long: exit %d, %s", code, errs)
	}
	if code, _, _ := f.consumer(args...); code != exitMisused {
		t.Errorf("a hold that has ended: exit %d", code)
	}
}

func TestRestoreBringsBackWhatWasDiscarded(t *testing.T) {
	for _, c := range []struct {
		lane plan.Lane
		code string
	}{{plan.Give, "give-limit"}, {plan.Disable, "cut-limit"}, {plan.Take, "policy-limit"}, {plan.Take, "take-limit"}, {plan.Delete, "delete-limit"}} {
		f := newFiles(t)
		f.init()
		db := f.open()
		h := f.people(db, c.lane, c.code, "100001", "100002")
		word := func(verb string) []string {
			return []string{"holds", verb, h.Name(), "--digest", h.Digest.String(), "--reason", "checked with HR"}
		}
		if code, _, stderr := f.consumer(word("restore")...); code != exitMisused || !strings.Contains(stderr, "is open") {
			t.Errorf("%s: what is held still: exit %d, %s", c.code, code, stderr)
		}
		f.must(word("discard")...)
		if c.lane != plan.Give {
			f.login = "bob"
			f.must(word("discard")...)
		}
		if list := f.must("holds", "list", "--discarded"); !strings.Contains(list, c.code) || !strings.Contains(list, "holds restore") {
			t.Errorf("%s: list --discarded:\n%s", c.code, list)
		}
		if code, _, _ := f.consumer("holds", "restore", h.Name(), "--digest", schema.DigestOf(nil).String(), "--reason", "x"); code != exitMisused {
			t.Errorf("%s: another digest: exit %d", c.code, code)
		}
		f.update(db, func(tx *store.Tx) error { // a new fact about one of them, which counts
			s, err := state.LoadSubject(tx, state.SubjectKey{Issuer: issuer, Subject: "100002"})
			if err != nil {
				return err
			}
			return state.SaveFacts(tx, s)
		})
		if out := f.must(word("restore")...); !strings.Contains(out, "1 person") {
			t.Errorf("%s: said %q", c.code, out)
		}
		if s := f.subject(db, "100001"); s.Lane != c.lane || s.Note != "" || s.Released() || s.Due.After(time.Now()) {
			t.Errorf("%s: restored: lane %v, note %q, due %v", c.code, s.Lane, s.Note, s.Due)
		}
		if s := f.subject(db, "100002"); s.Lane != plan.Idle {
			t.Errorf("%s: of whom a new fact came: lane %v", c.code, s.Lane)
		}
		if a, err := state.Alarms(db.Read()); err != nil || len(a) != 0 {
			t.Errorf("%s: alarms that stand: %v, %v", c.code, a, err)
		}
		ops := slices.DeleteFunc(entries[*entry.Operator](t, db), func(o *entry.Operator) bool { return strings.HasSuffix(o.Action, "discard") })
		if n := len(ops); n != 1 || ops[0].Action != "restore" || ops[0].Target != h.Name() || *ops[0].Digest != h.Digest || ops[0].By == "" {
			t.Errorf("%s: on the ledger: %+v", c.code, ops)
		}
		if code, _, stderr := f.consumer(word("restore")...); code != exitMisused || !strings.Contains(stderr, "any more") {
			t.Errorf("%s: a second time: exit %d, %s", c.code, code, stderr)
		}
		if list := f.must("holds", "list", "--discarded"); !strings.Contains(list, "Nothing is discarded") {
			t.Errorf("%s: afterwards:\n%s", c.code, list)
		}
	}
}

func TestRelease(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	h := f.people(db, plan.Give, "give-limit", "100001", "100002")
	for _, c := range []struct {
		say  string
		args []string
	}{
		{"--digest", []string{"holds", "release", h.Name(), "--reason", "x"}},
		{"--reason", []string{"holds", "release", h.Name(), "--digest", h.Digest.String()}},
		{"not what was shown", []string{"holds", "release", h.Name(), "--digest", schema.DigestOf([]byte("another")).String(), "--reason", "x"}},
		{"not there", []string{"holds", "release", "99", "--digest", h.Digest.String(), "--reason", "x"}},
		{"number of a hold", []string{"holds", "show", "seven"}},
	} {
		if code, _, errs := f.consumer(c.args...); code != exitMisused || !strings.Contains(errs, c.say) {
			t.Errorf("%v: exit %d, %s; want 2 and %q", c.args, code, errs, c.say)
		}
	}
	if list := f.must("holds", "list"); !strings.Contains(list, "2 persons, lane give") {
		t.Errorf("list:\n%s", list)
	}
	if s := f.subject(db, "100002"); !s.Due.After(time.Now()) {
		t.Fatal("it was let through")
	}
	f.must("holds", "release", h.Name(), "--digest", h.Digest.String(), "--reason", "checked")
	if s := f.subject(db, "100002"); s.Due.After(time.Now()) || !s.Released() {
		t.Errorf("due %v, note %q", s.Due, s.Note)
	}
	if list := f.must("holds", "list"); !strings.Contains(list, "Nothing is held") {
		t.Errorf("list:\n%s", list)
	}
}

// A hold of one person is the rule's to end.
func TestRuleEndsItsHold(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	h := &state.Hold{SubjectKey: state.SubjectKey{Issuer: issuer, Subject: "100001"}, Code: string(plan.HoldUnknownRole), Shown: []byte(`{"targets":["pilot"]}`), Created: time.Now()}
	f.update(db, func(tx *store.Tx) error { _, err := state.OpenHold(tx, h); return err })
	code, _, errs := f.consumer("holds", "release", h.Name(), "--digest", h.Digest.String(), "--reason", "x")
	if code != exitMisused || !strings.Contains(errs, "when the policy names the role") {
		t.Errorf("exit %d, %s", code, errs)
	}
	var list []shownHold
	if err := json.Unmarshal([]byte(f.must("holds", "list", "-o", "json")), &list); err != nil || len(list) != 1 || list[0].Subject != "100001" {
		t.Errorf("list %+v, %v", list, err)
	}
}

// What undo takes back is an account or roles, and the groups of such an account stay on it.
func TestUndoSaysThatGroupsStay(t *testing.T) {
	f := newFiles(t)
	if text := f.must("holds", "undo", "--help"); !strings.Contains(text, "is disabled and keeps its groups") {
		t.Errorf("help:\n%s", text)
	}
	if text, err := ruled(word{id: 7}, 2, takenBack, nil); err != nil || !strings.Contains(text, "What 2 persons of hold 7 were given is taken back") || !strings.Contains(text, "keeps its groups") {
		t.Errorf("%s, %v", text, err)
	}
}

// A hold that waits for a second signer says for which engagement, which the approver sees nowhere else.
func TestAHoldSaysForWhichEngagement(t *testing.T) {
	h := &state.Hold{Code: string(plan.HoldUnapproved), State: state.HoldOpen}
	for engagement, want := range map[int]bool{1: false, 2: true} {
		h.Shown = state.ShowOne(state.SubjectKey{Issuer: "https://iam.mssp.example/jml", Subject: "1001"}, engagement, h.Code, []string{"lead"})
		if got := endOf(h); strings.Contains(got, "approve --engagement 2") != want {
			t.Errorf("engagement %d: %s", engagement, got)
		}
	}
}
