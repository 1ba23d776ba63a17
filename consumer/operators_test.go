package main

import (
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
)

func TestInit(t *testing.T) {
	f := newFiles(t)
	out := f.must("init", "-o", "json")
	var m made
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatal(err)
	}
	key, err := keys.ReadDecryption(m.DecryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := keys.ReadPublic(m.EncryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := keys.ID(pub); id != m.EncryptionKID {
		t.Error("the public key printed is not the one in its file")
	}
	if id, _ := keys.ID(key.Public()); id != m.EncryptionKID {
		t.Error("the public key is not that of the private one")
	}
	if v, err := keys.LedgerVerifier(m.LedgerVerifier); err != nil || v.Name() != "jmlbridge.internal/gov-1/ledger" {
		t.Errorf("the auditors' line: %v, %v", v, err)
	}
	db := f.open()
	if db.Enclave() != gov1 {
		t.Error("the database is of another enclave")
	}
	if s := entries[*entry.Started](t, db); len(s) != 1 || s[0].Mode != "init" || s[0].Enclave != gov1 {
		t.Errorf("started entries: %+v", s)
	}
	if tr := entries[*entry.Trust](t, db); len(tr) != 1 || tr[0].Use != entry.UseDecrypt || tr[0].Key != m.EncryptionKID || tr[0].By != "ann" {
		t.Errorf("trust entries: %+v", tr)
	}
	// Once.
	before, err := os.ReadFile(m.LedgerKey)
	if err != nil {
		t.Fatal(err)
	}
	code, _, errs := f.consumer("init")
	if code != exitMisused || !strings.Contains(errs, "exists already") {
		t.Errorf("second init: exit %d, %s", code, errs)
	}
	if after, _ := os.ReadFile(m.LedgerKey); string(before) != string(after) {
		t.Error("a key was overwritten")
	}
}

// Whatever is there already, nothing is made.
func TestInitAllOrNothing(t *testing.T) {
	for _, there := range []string{"consumer.db", "keys/decryption.pem", "keys/decryption.pub.pem", "keys/ledger.pem", "keys/ledger.vkey", "copy/checkpoint"} {
		t.Run(there, func(t *testing.T) {
			f := newFiles(t)
			f.write(there, "precious", 0o600)
			code, _, errs := f.consumer("init")
			if code != exitMisused || !strings.Contains(errs, filepath.Base(there)) {
				t.Fatalf("exit %d, %s", code, errs)
			}
			if text, _ := os.ReadFile(f.path(there)); string(text) != "precious" {
				t.Error("it was overwritten")
			}
			if err := os.Remove(f.path(there)); err != nil {
				t.Fatal(err)
			}
			f.nothingMade()
			f.init() // and nothing is in the way afterwards
		})
	}
	t.Run("unknown kind of key", func(t *testing.T) {
		f := newFiles(t)
		if code, _, _ := f.consumer("init", "--key", "DES"); code != exitMisused {
			t.Errorf("exit %d", code)
		}
		f.nothingMade()
	})
	t.Run("a file where a folder should be", func(t *testing.T) {
		f := newFiles(t)
		f.write("ledger", "", 0o600)
		if code, _, _ := f.consumer("init"); code != exitMisused {
			t.Errorf("exit %d", code)
		}
		f.remove("ledger")
		f.nothingMade()
	})
	t.Run("the last step fails", func(t *testing.T) {
		f := newFiles(t)
		f.edit("consumer.yaml", "database: consumer.db", "database: "+strings.Repeat("x", 300)) // no file system takes that
		if code, _, _ := f.consumer("init"); code != exitFailed {
			t.Errorf("exit %d", code)
		}
		f.nothingMade()
	})
}

func TestNextDecryptionKey(t *testing.T) {
	f := newFiles(t)
	f.init()
	next := f.path("keys/decryption-2.pem")
	f.must("init", "key", next)
	f.edit("consumer.yaml", "[keys/decryption.pem]", "[keys/decryption.pem, keys/decryption-2.pem]")
	if _, err := keys.ReadDecryption(next); err != nil {
		t.Fatal(err)
	}
	if tr := entries[*entry.Trust](t, f.open()); len(tr) != 2 || tr[1].Use != entry.UseDecrypt {
		t.Errorf("trust entries: %+v", tr)
	}
	if code, _, _ := f.consumer("init", "key", next); code != exitMisused {
		t.Errorf("the same again: exit %d", code)
	}
}

func TestTrust(t *testing.T) {
	f := newFiles(t)
	f.init()
	first, second, third := signing(t), signing(t), signing(t)
	id := f.card("card.json", first, "hr", 1)
	other := f.card("second.json", second, "hr", 1)
	f.card("restored.json", third, "hr", 2)

	misuse := func(say string, args ...string) {
		t.Helper()
		code, _, errs := f.consumer(args...)
		if code != exitMisused || !strings.Contains(errs, say) {
			t.Errorf("%v: exit %d, %s; want exit 2 and %q", args, code, errs, say)
		}
	}
	misuse("is not on the card", "trust", "add", f.path("card.json"), "--expect", other, "--reason", "x")
	misuse("--head-hash", "trust", "add", f.path("card.json"), "--at-seq", "7", "--reason", "x")
	misuse("read card", "trust", "add", f.path("nowhere.json"), "--reason", "x")
	misuse("want 1 arguments", "trust", "add")
	misuse("--reason", "trust", "add", f.path("card.json"))
	if list := f.must("trust", "list", "-o", "json"); strings.TrimSpace(list) != "[]" {
		t.Errorf("something is trusted: %s", list)
	}

	f.must("trust", "add", f.path("card.json"), "--expect", id, "--reason", "handed over")
	misuse("known already", "trust", "add", f.path("card.json"), "--reason", "x")
	misuse("only for its first key", "trust", "add", f.path("second.json"), "--at-seq", "7", "--head-hash", schema.DigestOf([]byte("x")).String(), "--reason", "x")
	f.must("trust", "add", f.path("second.json"), "--reason", "x")
	misuse("trust generation", "trust", "add", f.path("restored.json"), "--reason", "x")
	misuse("--reason", "trust", "generation", f.path("restored.json"))
	f.must("trust", "generation", f.path("restored.json"), "--reason", "CHG-118")
	misuse("already", "trust", "generation", f.path("restored.json"), "--reason", "CHG-118")
	misuse("old card", "trust", "add", f.path("card.json"), "--reason", "x")

	misuse("--at-seq", "trust", "retire", id, "--reason", "x")
	misuse("not there", "trust", "retire", "nobody", "--at-seq", "4", "--reason", "x")
	f.must("trust", "retire", id, "--at-seq", "40", "--generation", "1", "--reason", "yearly")
	misuse("cannot be made good", "trust", "retire", id, "--at-seq", "41", "--generation", "1", "--reason", "later")
	f.must("trust", "retire", other, "--at-seq", "0", "--reason", "stolen")
	last := f.card("restored.json", third, "hr", 2)
	misuse("nobody may sign joiner, mover, leaver", "trust", "retire", last, "--at-seq", "0", "--reason", "stolen")

	var list []shownKey
	if err := json.Unmarshal([]byte(f.must("trust", "list", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 {
		t.Fatalf("%d keys, want 3", len(list))
	}
	for _, k := range list {
		switch {
		case k.ID == id && (k.Retired == nil || *k.Retired != retiredAt{1, 40}), k.ID == other && (k.Retired == nil || *k.Retired != retiredAt{}):
			t.Errorf("key %+v", k)
		}
	}
	if table := f.must("trust", "list"); !strings.Contains(table, "up to 1.40") {
		t.Errorf("table:\n%s", table)
	}
	db := f.open()
	streams, err := state.Streams(db.Read())
	if err != nil || len(streams) != 2 || streams[0].Generation != 2 || streams[0].State != admit.Live || streams[1].State != admit.Closed {
		t.Errorf("streams %+v, %v", streams, err)
	}
	for _, e := range entries[*entry.Trust](t, db) {
		if e.By != "ann" {
			t.Errorf("done by %q, want ann", e.By)
		}
	}
}

// A key is not retired at a number below what it signed and what was admitted, unless it was stolen.
func TestRetireBelowTheHead(t *testing.T) {
	f := newFiles(t)
	f.init()
	id := f.card("card.json", signing(t), "hr", 1)
	other := f.card("second.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	f.must("trust", "add", f.path("second.json"), "--reason", "x")
	db := f.open()
	streams, err := state.Streams(db.Read())
	if err != nil || len(streams) != 1 {
		t.Fatal(streams, err)
	}
	f.update(db, func(tx *store.Tx) error { // 1 to 3 by the first key, 4 by the second; 9 of the first waits
		for seq, m := range map[uint64]state.Message{1: {KID: id}, 2: {KID: id}, 3: {KID: id}, 4: {KID: other}, 9: {KID: id, Disposition: admit.Ahead}} {
			m.StreamRef, m.Seq, m.Payload = streams[0].Ref, seq, schema.DigestOf([]byte{byte(seq)})
			if m.Disposition == 0 {
				m.Disposition = admit.Admitted
			}
			if err := state.AddMessage(tx, &m); err != nil {
				return err
			}
		}
		return nil
	})
	for _, seq := range []string{"2", "0"} {
		code, _, errs := f.consumer("trust", "retire", id, "--at-seq", seq, "--reason", "x")
		if code != exitMisused || !strings.Contains(errs, "signed message 3 of generation 1") || !strings.Contains(errs, "--force") {
			t.Errorf("--at-seq %s: exit %d, %s", seq, code, errs)
		}
	}
	f.must("trust", "retire", id, "--at-seq", "3", "--reason", "yearly")
	f.must("trust", "retire", id, "--at-seq", "0", "--force", "--reason", "stolen after all")
	if code, _, errs := f.consumer("trust", "retire", other, "--at-seq", "4", "--reason", "x"); code != exitMisused || !strings.Contains(errs, "nobody may sign") {
		t.Errorf("the last key: exit %d, %s", code, errs)
	}
	f.must("trust", "retire", other, "--at-seq", "4", "--force", "--reason", "x")
}

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

func TestJoinLate(t *testing.T) {
	f := newFiles(t)
	f.init()
	f.card("card.json", signing(t), "hr", 3)
	hash := schema.DigestOf([]byte("the payload before"))
	f.must("trust", "add", f.path("card.json"), "--at-seq", "4711", "--head-hash", hash.String(), "--reason", "x")
	streams, err := state.Streams(f.open().Read())
	if err != nil || len(streams) != 1 {
		t.Fatal(streams, err)
	}
	if s := streams[0]; s.Generation != 3 || s.Joined != 4711 || s.Head != 4710 || s.HeadHash != hash {
		t.Errorf("joined at %+v", s.Stream)
	}
}

func TestBadCards(t *testing.T) {
	f := newFiles(t)
	id := f.card("card.json", signing(t), "hr", 1)
	good, err := os.ReadFile(f.path("card.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseCard(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, from, to, say string }{
		{"another form", "jmlbridge-card/1", "jmlbridge-card/9", "want card"},
		{"unknown member", `"stream"`, `"x":1,"stream"`, "unknown field"},
		{"renamed key", id, strings.Repeat("A", 43), "was changed"},
		{"another algorithm", `"ES256"`, `"EdDSA"`, "signs by ES256"},
		{"no generation", `"generation":1`, `"generation":0`, "want a generation"},
		{"may sign nothing", `"kinds":["joiner","mover","leaver","suspend","resume","heartbeat","roster"]`, `"kinds":[]`, "kinds of event"},
		{"trailing", `}]}`, `}]}{}`, "follows"},
	} {
		bad := strings.Replace(string(good), c.from, c.to, 1)
		if bad == string(good) {
			t.Fatalf("%s changes nothing", c.name)
		}
		if _, err := parseCard([]byte(bad)); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %q", c.name, err, c.say)
		}
	}
}

func FuzzCard(f *testing.F) {
	f.Add([]byte(`{"card":"jmlbridge-card/1","issuer":"i","stream":"hr","generation":1,"keys":[{"kid":"","alg":"ES256","public":"","kinds":["joiner"]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCard(text)
		if err != nil {
			return
		}
		for _, k := range c.Keys {
			if len(k.der) == 0 || len(k.Kinds) == 0 {
				t.Errorf("accepted a key without substance: %+v", k)
			}
		}
	})
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
		return state.HoldLane(tx, h.ID, lane, now, now.Add(time.Hour), false)
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
	f.login = "bob"
	f.must(args...)
	if s := f.subject(db, "100001"); s.Lane != plan.Idle || !strings.HasPrefix(s.Note, "discarded") {
		t.Errorf("after the second word: lane %v, note %q", s.Lane, s.Note)
	}
	rel := entries[*entry.Released](t, db)
	if len(rel) != 1 || rel[0].Action != entry.ReleasedDiscard || strings.Join(rel[0].By, ",") != "ann,bob" {
		t.Errorf("on the ledger: %+v", rel)
	}
	if a, err := state.Alarms(db.Read()); err != nil || len(a) != 0 {
		t.Errorf("alarms that still stand: %v, %v", a, err)
	}
	if code, _, _ := f.consumer(args...); code != exitMisused {
		t.Errorf("a hold that has ended: exit %d", code)
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

func TestCutWithoutRunner(t *testing.T) {
	f := newFiles(t)
	f.init()
	f.card("card.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	db := f.open()

	if code, _, errs := f.consumer("cut", "100001", "--reason", "INC-91"); code != exitMisused || !strings.Contains(errs, "nothing was ever said") {
		t.Errorf("an unknown person: exit %d, %s", code, errs)
	}
	if code, _, _ := f.consumer("cut", "100001"); code != exitMisused {
		t.Errorf("without a reason: exit %d", code)
	}
	if n := len(entries[*entry.Operator](t, db)); n != 0 {
		t.Fatalf("%d operator entries of nothing done", n)
	}
	code, out, errs := f.consumer("cut", "100001", "--reason", "INC-91", "--unknown")
	if code != exitDone || !strings.Contains(errs, "nobody is running") {
		t.Errorf("exit %d, %s%s", code, out, errs)
	}
	s := f.subject(db, "100001")
	if s.Doc.Lock == nil || s.Doc.Lock.By != "ann" || s.Lane != plan.Disable || s.Doc.At(time.Now()).Why != fence.WhyLocked {
		t.Errorf("subject %+v", s)
	}
	op := entries[*entry.Operator](t, db)
	if len(op) != 1 || op[0].By != "ann" || op[0].Action != "cut" || op[0].Subject != "100001" || op[0].Reason != "INC-91" {
		t.Errorf("operator entries %+v", op)
	}
	f.must("unlock", "100001", "--reason", "closed")
	if s := f.subject(db, "100001"); s.Doc.Lock != nil {
		t.Error("still locked")
	}
	if code, _, _ := f.consumer("unlock", "100001", "--reason", "closed"); code != exitMisused {
		t.Errorf("unlock of somebody who is not locked: exit %d", code)
	}
}

func TestStatus(t *testing.T) {
	f := newFiles(t)
	f.init()
	f.card("card.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	db := f.open()
	f.people(db, plan.Give, "give-limit", "100001", "100002", "100003")

	var s status
	if err := json.Unmarshal([]byte(f.must("status", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	if s.Enclave != gov1 || s.Runner != 0 || s.Backlog["give"] != 3 || s.Holds["give-limit"] != 1 || len(s.Streams) != 1 || !s.Streams[0].Stale {
		t.Errorf("status %+v", s)
	}
	if s.Ledger.Size == 0 || s.Ledger.Published != 0 || s.Ledger.Error == "" {
		t.Errorf("ledger %+v", s.Ledger)
	}
	codes := map[string]bool{}
	for _, a := range s.Alarms {
		codes[a.Code] = true
		if a.Do == "" {
			t.Errorf("alarm %s says not what to do", a.Code)
		}
	}
	if !codes["not-running"] || !codes["stale"] || !codes["give-limit"] {
		t.Errorf("alarms %v", codes)
	}
	screen := f.must("status")
	for _, want := range []string{"NOBODY RUNS", "hr", "STALE", "give-limit 1", "do: "} {
		if !strings.Contains(screen, want) {
			t.Errorf("the screen lacks %q:\n%s", want, screen)
		}
	}
	if code, _, _ := f.consumer("status", "--check"); code != exitSeverity {
		t.Errorf("--check: exit %d, want 3", code)
	}
	if code, _, _ := f.consumer("status", "--check", "--severity", "bad"); code != exitMisused {
		t.Errorf("--severity bad: exit %d, want 2", code)
	}
	if code, _, _ := f.consumer("status", "-o", "xml"); code != exitMisused {
		t.Errorf("-o xml: exit %d, want 2", code)
	}
}

// A hold for an unknown role is no alarm; who asks for notices hears of it.
func TestCheckCountsUnknownRoles(t *testing.T) {
	for _, c := range []struct {
		holds int
		want  int
	}{{0, 0}, {1, 1}} {
		s := status{Holds: map[string]int{string(plan.HoldUnknownRole): c.holds, "give-limit": 1}}
		if got := s.standing(state.Notice); got != c.want {
			t.Errorf("notice: %d things, want %d", got, c.want)
		}
		if got := s.standing(state.Warning); got != 0 {
			t.Errorf("warning: %d things, want none", got)
		}
	}
}

// Small words: what is missing is named, one person is one, and the shell knows ids.
func TestWords(t *testing.T) {
	f := newFiles(t)
	f.init()
	id := f.card("card.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	h := f.people(f.open(), plan.Give, "give-limit", "100001")
	if list := f.must("holds", "list"); !strings.Contains(list, "1 person, lane give") {
		t.Errorf("list:\n%s", list)
	}
	if code, _, errs := f.consumer("plan", "100099"); code != exitMisused || !strings.Contains(errs, "nothing to plan") || strings.Contains(errs, "--unknown") {
		t.Errorf("plan of nobody: exit %d, %s", code, errs)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{h.Name() + "\tgive-limit\n", []string{"holds", "show", ""}}, {h.Name() + "\t", []string{"holds", "release", ""}}, {h.Name() + "\t", []string{"holds", "discard", ""}},
		{id + "\thr of ", []string{"trust", "retire", ""}},
	} {
		a := []string{"__complete", "-c", f.config}
		if _, out, _ := f.consumer(append(a, c.args...)...); !strings.Contains(out, c.want) {
			t.Errorf("completion of %v offers %q, want %q", c.args, out, c.want)
		}
	}
	f.remove("policy.yaml")
	for _, args := range [][]string{{"run"}, {"plan"}} {
		if code, _, errs := f.consumer(args...); code != exitMisused || !strings.Contains(errs, "consumer.yaml:5") || !strings.Contains(errs, "no policy file") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
}

func TestClockConfirm(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	j := jumped(entry.AgainstLedger, time.Now(), time.Now().Add(-time.Hour))
	f.update(db, func(tx *store.Tx) error { return j.record(tx, time.Now()) })
	if a, _ := state.Alarms(db.Read()); len(a) != 1 || a[0].Severity != state.Critical {
		t.Fatalf("alarms %+v", a)
	}
	if code, _, _ := f.consumer("clock", "confirm"); code != exitMisused {
		t.Errorf("without a reason: exit %d", code)
	}
	f.must("clock", "confirm", "--reason", "NTP")
	if a, _ := state.Alarms(db.Read()); len(a) != 0 {
		t.Errorf("alarms %+v", a)
	}
	c := entries[*entry.Clock](t, db)
	if len(c) != 2 || c[0].Action != entry.ClockJumped || c[0].Offset > -3_590_000 || c[1].Action != entry.ClockConfirmed || c[1].By != "ann" {
		t.Errorf("clock entries %+v", c)
	}
}

func TestCommandLine(t *testing.T) {
	f := newFiles(t)
	for _, c := range []struct {
		code int
		say  string
		args []string
	}{
		{exitMisused, "no command", []string{"frobnicate"}},
		{exitMisused, "unknown flag", []string{"status", "--frobnicate"}},
		{exitMisused, "no arguments", []string{"status", "now"}},
		{exitMisused, "no command", []string{"trust", "nobody"}},
		{exitMisused, "no such file", []string{"-c", f.path("nowhere.yaml"), "status"}},
		{exitMisused, "consumer.db", []string{"status"}}, // never created by looking
		{exitMisused, "consumer.db", []string{"trust", "list"}},
		{exitDone, "", []string{"completion", "bash"}},
		{exitDone, "", []string{"--help"}},
	} {
		code, _, errs := f.consumer(c.args...)
		if code != c.code || !strings.Contains(errs, c.say) {
			t.Errorf("%v: exit %d, %q; want %d and %q", c.args, code, errs, c.code, c.say)
		}
	}
	f.nothingMade()
}

// Every command shows how it is used.
func TestHelpHasExamples(t *testing.T) {
	a := &app{}
	for _, c := range a.root().Commands() {
		subs := c.Commands()
		if len(subs) == 0 {
			subs = append(subs, c)
		}
		for _, s := range subs {
			if s.Example == "" || s.Short == "" {
				t.Errorf("%s has no example or no short text", s.CommandPath())
			}
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0}, {errors.New("x"), 1}, {usagef("x"), 2}, {misusef("x"), 2}, {&store.LockedError{}, 2}, {&store.RefusedError{}, 2}, {&severityError{1}, 3},
	} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("exit code of %v is %s, want %d", c.err, strconv.Itoa(got), c.code)
		}
	}
}
