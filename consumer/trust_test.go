package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/intake"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

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
	misuse("want CARD", "trust", "add")
	misuse("--reason", "trust", "add", f.path("card.json"))
	if list := f.must("trust", "list", "-o", "json"); strings.TrimSpace(list) != "[]" {
		t.Errorf("something is trusted: %s", list)
	}

	two := func(name, one, beside string) string { // a card with a key beside its own
		t.Helper()
		c, err := readCard(f.path(one))
		if err != nil {
			t.Fatal(err)
		}
		b, err := readCard(f.path(beside))
		if err != nil {
			t.Fatal(err)
		}
		c.Keys = append(c.Keys, b.Keys...)
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		f.write(name, string(text), 0o644)
		return f.path(name)
	}
	misuse("is on the card beside the one of --expect", "trust", "add", two("two.json", "card.json", "second.json"), "--expect", id, "--reason", "x")
	if list := f.must("trust", "list", "-o", "json"); strings.TrimSpace(list) != "[]" {
		t.Errorf("something is trusted: %s", list)
	}

	if _, _, errs := f.consumer("trust", "add", f.path("card.json"), "--expect", id, "--reason", "handed over"); errs != "" {
		t.Errorf("a card that was compared: %s", errs)
	}
	misuse("known already", "trust", "add", f.path("card.json"), "--reason", "x")
	misuse("only for its first key", "trust", "add", f.path("second.json"), "--at-seq", "7", "--head-hash", schema.DigestOf([]byte("x")).String(), "--reason", "x")
	if code, _, errs := f.consumer("trust", "add", f.path("second.json"), "--reason", "x"); code != exitDone || !strings.Contains(errs, "read each id above out") {
		t.Errorf("a card that was not compared: exit %d, %s", code, errs)
	}
	misuse("trust generation", "trust", "add", f.path("restored.json"), "--reason", "x")
	misuse("--reason", "trust", "generation", f.path("restored.json"))
	over := f.open()
	f.update(over, func(tx *store.Tx) error { // at once, and not when the intake looks next
		for _, code := range []string{"gap", "newer-version", "fork"} {
			if _, err := state.RaiseAlarm(tx, state.Alarm{Code: code, Key: "hr#1@" + issuer, Severity: state.Critical, Last: time.Now(), Text: "x"}); err != nil {
				return err
			}
		}
		return nil
	})
	misuse("is on the card beside the one of --expect", "trust", "generation", two("two.json", "restored.json", "card.json"), "--expect", id, "--reason", "CHG-118")
	if code, out, errs := f.consumer("trust", "generation", f.path("restored.json"), "--reason", "CHG-118"); code != exitDone || !strings.Contains(out, "Trusted ") || !strings.Contains(errs, "read each id above out") {
		t.Errorf("a generation with a key that was not compared: exit %d, %s%s", code, out, errs)
	}
	if standing, err := state.Alarms(over.Read()); err != nil || len(standing) > 0 {
		t.Errorf("alarms of the generation that is over: %+v, %v", standing, err)
	}
	misuse("already", "trust", "generation", f.path("restored.json"), "--reason", "CHG-118")
	misuse("old card", "trust", "add", f.path("card.json"), "--reason", "x")

	misuse("--at-seq", "trust", "retire", id, "--reason", "x")
	misuse("not there", "trust", "retire", "nobody", "--at-seq", "4", "--reason", "x")
	f.must("trust", "retire", id, "--at-seq", "40", "--generation", "1", "--reason", "yearly")
	misuse("so nothing is left to do", "trust", "retire", id, "--at-seq", "41", "--generation", "1", "--reason", "later")
	f.must("trust", "retire", other, "--at-seq", "0", "--reason", "stolen")
	fourth := f.card("fourth.json", signing(t), "hr", 2)
	f.must("trust", "add", f.path("fourth.json"), "--reason", "x")
	f.must("trust", "revoke", fourth, "--from-seq", "5", "--reason", "stolen")
	misuse("retired or revoked already, at generation 2, seq 4", "trust", "retire", fourth, "--at-seq", "9", "--reason", "the line of `key switch`")
	last := f.card("restored.json", third, "hr", 2)
	misuse("nobody may sign joiner, mover, leaver", "trust", "retire", last, "--at-seq", "0", "--reason", "stolen")

	var list []shownKey
	if err := json.Unmarshal([]byte(f.must("trust", "list", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 4 {
		t.Fatalf("%d keys, want 4", len(list))
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

// The alarm on a stream without a key is as true as the last command: it stands from the one that ends the last key on, and ends
// with the next key, or with a later generation that somebody may speak in.
func TestNoKeyEndsWithAnAcceptedGeneration(t *testing.T) {
	f := newFiles(t)
	f.init()
	key := signing(t)
	id := f.card("card.json", key, "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	db := f.open()
	stands := func() bool {
		t.Helper()
		list, err := state.Alarms(db.Read())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list, func(a state.Alarm) bool { return a.Code == intake.AlarmNoKey && a.Key == "hr@"+issuer })
	}
	if code, _, errs := f.consumer("trust", "revoke", "--from-seq", "1", "--reason", "stolen", "--", id); code != exitDone || !stands() {
		t.Errorf("revoked: exit %d, %s; the alarm stands %v", code, errs, stands())
	}
	f.card("restored.json", key, "hr", 2)
	if f.must("trust", "generation", f.path("restored.json"), "--reason", "CHG-1"); !stands() {
		t.Error("the alarm has ended with a generation that nobody may speak in")
	}
	f.card("again.json", signing(t), "hr", 3)
	if f.must("trust", "generation", f.path("again.json"), "--reason", "CHG-2"); stands() {
		t.Error("the alarm stands though a later generation is followed, with a key")
	}
}

// Where a roster of the key stood in for what is still to come, the command says from where the stream goes on.
func TestRevokeSaysFromWhereTheStreamGoesOn(t *testing.T) {
	f := newFiles(t)
	f.init()
	id := f.card("card.json", signing(t), "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	db := f.open()
	f.update(db, func(tx *store.Tx) error {
		list, err := state.Streams(tx)
		if err != nil {
			return err
		}
		s := list[0]
		s.Head, s.HeadHash, s.Highest, s.Covered = 1000, schema.Digest{9}, 1000, 1000
		for seq := uint64(1); seq <= 2; seq++ {
			m := &state.Message{StreamRef: s.Ref, Seq: seq, KID: id, Event: schema.KindHeartbeat, Disposition: admit.Admitted, Payload: schema.Digest{byte(seq)}, ReceivedAt: time.Now()}
			if err := state.AddMessage(tx, m); err != nil {
				return err
			}
		}
		r := &state.Roster{StreamRef: s.Ref, ID: "1", Parts: 1, Seen: 1, Head: schema.RosterHead{Generation: 1, Seq: 1000, Hash: s.HeadHash}, State: state.RosterBroken}
		if err := state.SaveRoster(tx, r); err != nil {
			return err
		}
		return state.SaveStream(tx, s)
	})
	if out := f.must("trust", "revoke", "--from-seq", "3", "--reason", "stolen", "--", id); !strings.Contains(out, "Stream hr goes on after number 2 again") {
		t.Errorf("got %s", out)
	}
	if out := f.must("trust", "revoke", "--from-seq", "3", "--reason", "stolen", "--", id); strings.Contains(out, "again") {
		t.Errorf("once more: %s", out)
	}
}

// Whoever revokes a stolen key at 3 a.m. is told in which earlier generations it is believed still, with the commands that end
// that; and from number 1 on is all that it ever signed.
func TestRevokeReachesEveryGeneration(t *testing.T) {
	f := newFiles(t)
	f.init()
	key := signing(t)
	id := f.card("card.json", key, "hr", 1)
	f.must("trust", "add", f.path("card.json"), "--reason", "x")
	for _, generation := range []int{2, 3} {
		f.card("next.json", key, "hr", generation)
		f.must("trust", "generation", f.path("next.json"), "--reason", "restored")
	}
	db := f.open()
	streams, err := state.Streams(db.Read())
	if err != nil || len(streams) != 3 {
		t.Fatal(streams, err)
	}
	f.update(db, func(tx *store.Tx) error { // in 1 and in 3
		for _, s := range streams {
			for seq := uint64(1); seq <= 4 && s.Generation != 2; seq++ {
				m := &state.Message{StreamRef: s.Ref, Seq: seq, KID: id, Event: schema.KindJoiner, Subject: fmt.Sprintf("%d%d", s.Generation, seq), Disposition: admit.Admitted,
					Payload: schema.DigestOf([]byte{byte(s.Generation), byte(seq)}), ReceivedAt: time.Now()}
				if err := state.AddMessage(tx, m); err != nil {
					return err
				}
			}
		}
		return nil
	})
	good := func() retiredAt {
		t.Helper()
		var list []shownKey
		if err := json.Unmarshal([]byte(f.must("trust", "list", "-o", "json")), &list); err != nil || len(list) != 1 || list[0].Retired == nil {
			t.Fatalf("%+v, %v", list, err)
		}
		return *list[0].Retired
	}
	dash := func(args ...string) []string { // as what it prints
		if strings.HasPrefix(id, "-") {
			return append(args, "--", id)
		}
		return append([]string{args[0], args[1], id}, args[2:]...)
	}
	_, _, errs := f.consumer(dash("trust", "revoke", "--from-seq", "3", "--reason", "stolen")...)
	for _, want := range []string{"signed in earlier generations", strings.Join(dash("consumer trust", "revoke", "--generation 1 --from-seq N --reason TEXT"), " "), "it signed 4 messages, of the numbers 1 to 4",
		strings.Join(dash("consumer trust", "revoke", "--from-seq 1 --reason TEXT"), " ")} {
		if !strings.Contains(errs, want) {
			t.Errorf("want %q in\n%s", want, errs)
		}
	}
	if strings.Contains(errs, "--generation 2") || strings.Contains(errs, "--generation 3") {
		t.Errorf("a generation in which it signed nothing, or that is dealt with, is named:\n%s", errs)
	}
	if g := good(); g != (retiredAt{3, 2}) {
		t.Errorf("good up to %+v", g)
	}
	_, out, errs := f.consumer(dash("trust", "revoke", "--from-seq", "1", "--reason", "nobody knows since when")...)
	if !strings.Contains(out, "good for nothing, in whatever generation") || strings.Contains(errs, "earlier") {
		t.Errorf("from 1 on: %s%s", out, errs)
	}
	if g := good(); g != (retiredAt{1, 0}) {
		t.Errorf("good up to %+v, want for nothing", g)
	}
	if table := f.must("trust", "list"); !strings.Contains(table, "no") || strings.Contains(table, "up to") {
		t.Errorf("table:\n%s", table)
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

// Whoever does what is printed compares the card with what was told by another way.
func TestPrintedLinesCompareTheCard(t *testing.T) {
	line := regexp.MustCompile(`trust (?:add|generation)\s+CARD( --expect KEYID)?`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".md") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			if m[1] == "" {
				t.Errorf("%s has %q, want --expect KEYID behind the card", path, m[0])
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
