package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

// A queue of the example's is not taken for a real one.
func TestInitOfTheExample(t *testing.T) {
	p := newPlace(t)
	p.write(t, "producer.yaml", strings.Replace(template, "127.0.0.1:1", "queue.mssp.example:4222", 1))
	if code, _, errs := p.try("", "init"); code != exitDone || !strings.Contains(errs, "warning: queue.mssp.example, the queue of GOV-1") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

func TestInit(t *testing.T) {
	p := newPlace(t)
	var m made
	if err := json.Unmarshal([]byte(p.must(t, "init", "-o", "json")), &m); err != nil {
		t.Fatal(err)
	}
	var k card
	text, err := os.ReadFile(m.CardFile)
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil || k.Card != cardForm || k.Generation != 1 || k.Keys[0].ID != m.KID || slices.Contains(k.Keys[0].Kinds, schema.KindApproval) {
		t.Errorf("card %+v, %v", k, err)
	}
	if out := p.must(t, "card"); strings.TrimSpace(out) != strings.TrimSpace(string(text)) {
		t.Errorf("card prints another: %s", out)
	}
	for _, secret := range []string{m.SigningKey, m.LedgerKey, m.Database} {
		if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", secret, info.Mode(), err)
		}
	}
	before := p.files(t)
	if code, _, errs := p.try("", "init"); code != exitMisused || !strings.Contains(errs, "exists already") || p.files(t) != before {
		t.Errorf("a second init: %d %s", code, errs)
	}
}

// An init that cannot finish leaves nothing.
func TestInitIsAllOrNothing(t *testing.T) {
	p := newPlace(t)
	p.write(t, "producer-ledger.vkey", "in the way")
	before := p.files(t)
	if code, _, _ := p.try("", "init"); code != exitMisused || p.files(t) != before {
		t.Errorf("left behind:\n%s", p.files(t))
	}
	if err := os.Remove(filepath.Join(p.dir, "producer-ledger.vkey")); err != nil {
		t.Fatal(err)
	}
	p.write(t, "producer.yaml", strings.Replace(template, "origin: iam.mssp.example/producer", `origin: "with space"`, 1))
	before = p.files(t)
	if code, _, errs := p.try("", "init"); code != exitMisused || p.files(t) != before {
		t.Errorf("code %d %s, left behind:\n%s", code, errs, p.files(t))
	}
}

// An init that was killed, between whatever two steps, is named by the next one with exactly what it left; and without
// that, keys are never taken for left over.
func TestInitThatWasKilled(t *testing.T) {
	made := []string{"keys/signing.pem", "keys/ledger.pem", "producer-card.json", "producer-ledger.vkey"}
	for n := range len(made) + 1 {
		p := newPlace(t)
		at := func(name string) string { return filepath.Join(p.dir, name) }
		var all []string
		for _, name := range made {
			all = append(all, at(name))
		}
		for _, dir := range []string{"data", "data/ledger", "keys"} {
			if err := os.Mkdir(at(dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := store.BeginFounding(at("data/producer.db"), all, func(path string) error { return store.Create(path, outbox.Schema) }); err != nil {
			t.Fatal(err)
		}
		for _, name := range made[:n] {
			p.write(t, name, "of the killed one")
		}
		before := p.files(t)
		left := strings.Join(append(slices.Clone(all[:n]), "the folder "+at("data/producer.db.init")), ", ")
		code, _, errs := p.try("", "init")
		if code != exitMisused || !strings.Contains(errs, "was killed, or it still runs") || !strings.Contains(errs, "remove "+left+", and begin again") || p.files(t) != before {
			t.Fatalf("killed after %d files: %d %s", n, code, errs)
		}
		for _, name := range append(slices.Clone(made[:n]), "data/producer.db.init") {
			if err := os.RemoveAll(at(name)); err != nil {
				t.Fatal(err)
			}
		}
		p.must(t, "init")
		if err := os.Remove(at("data/producer.db")); err != nil { // lost: its keys were in use
			t.Fatal(err)
		}
		if code, _, errs := p.try("", "init"); code != exitMisused || !strings.Contains(errs, "exists already: a producer is made once") {
			t.Errorf("keys without a database: %d %s", code, errs)
		}
	}
}

// A backup is whole, its owner's alone, on the ledger, and put back it is a database.
func TestBackup(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	to := filepath.Join(t.TempDir(), "copy.db")
	if code, _, _ := p.try("", "backup", to); code != exitMisused {
		t.Error("a backup without a reason")
	}
	if out := p.must(t, "backup", to, "--reason", "nightly"); !strings.Contains(out, "SHA-256") {
		t.Errorf("said %q", out)
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("want a file for its owner alone, got %v, %v", info, err)
	}
	if code, _, errs := p.try("", "backup", to, "--reason", "nightly"); code != exitMisused || !strings.Contains(errs, "never overwrites") {
		t.Errorf("want a file that is there left alone, got exit code %d, %s", code, errs)
	}
	var before, after report
	if err := json.Unmarshal([]byte(p.must(t, "status", "-o", "json")), &before); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(to)
	if err == nil {
		err = os.WriteFile(filepath.Join(p.dir, "data/producer.db"), text, 0o600)
	}
	if err == nil {
		err = json.Unmarshal([]byte(p.must(t, "status", "-o", "json")), &after)
	}
	if err != nil || before.Ledger != 3 || after.Ledger != 2 {
		t.Errorf("want the entry of the backup on the ledger and not in the copy, got %d and %d entries, %v", before.Ledger, after.Ledger, err)
	}
}

func TestImportAndStatus(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	file := p.write(t, "export.csv", people)
	dry := p.must(t, "import", file, "--dry-run")
	if !strings.Contains(dry, "3 rows = 3 accepted (3 people) + 0 refused + 0 held") || !strings.Contains(dry, "joiner   subject 1") {
		t.Errorf("plan:\n%s", dry)
	}
	status := func() report {
		t.Helper()
		var r report
		if err := json.Unmarshal([]byte(p.must(t, "status", "-o", "json")), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := status(); r.Enclaves[0].Seq != 0 || r.Ledger != 2 {
		t.Errorf("a dry run stored something: %+v", r)
	}
	p.must(t, "import", file)
	r := status()
	if e := r.Enclaves[0]; e.Seq != 2 || e.Active != 2 || e.Waiting != 2 || r.Runner != 0 {
		t.Errorf("%+v", r)
	}
	head := "head of urn:jmlbridge:enclave:gov-1: generation 1, seq 2, hash " + r.Enclaves[0].Head + "\n" // for consumer trust add --head-hash
	if out := p.must(t, "status"); !strings.Contains(out, "nothing relays") || !strings.Contains(out, "WAITING") || !strings.Contains(out, head) {
		t.Errorf("status:\n%s", out)
	}
	var again importReport
	if err := json.Unmarshal([]byte(p.must(t, "import", file, "-o", "json")), &again); err != nil || len(again.Enclaves[0].Changes) != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	for _, rows := range []string{"", "9,Z,sec,a\n"} {
		if code, _, errs := p.try("id,name,dept,status\n"+rows, "import", "-", "--format", "csv", "--complete"); code != exitMisused || !strings.Contains(errs, "nothing was done") {
			t.Errorf("a complete file with nobody of ours: %d %s", code, errs)
		}
	}
	code, out, _ := p.try("id,name,dept,status\n1,A,sec,a\n", "import", "-", "--format", "csv", "--complete", "--dry-run")
	if code != exitDone || !strings.Contains(out, "1 change would be") {
		t.Errorf("one absence is inside the default limit: %d\n%s", code, out)
	}
	var many strings.Builder
	many.WriteString("id,name,dept,status\n")
	for i := range 30 {
		fmt.Fprintf(&many, "%d,A,sec,a\n", i)
	}
	p.must(t, "import", p.write(t, "many.csv", many.String()))
	code, out, errs := p.try("id,name,dept,status\n1,A,sec,i\n", "import", "-", "--format", "csv", "--complete")
	if code != exitFailed || !strings.Contains(out, "--allow-absences 29") || !strings.Contains(errs, "held back: 29 leavers that no row states; everything else was done. Look at them, then correct file or scope, or let them pass with the flag shown") || status().Enclaves[0].Closed != 1 {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestEmit(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	p.must(t, "emit", "joiner", "7", "--display-name", "Ada", "--role", "lead", "--role", "analyst", "--country", "GB")
	p.must(t, "emit", "mover", "7", "--title", "Lead")
	if code, out, errs := p.try(`{"engagement":1,"effective":"2026-01-01T00:00:00Z","reason":"leave"}`, "emit", "suspend", "7", "-"); code != exitDone || !strings.Contains(out, "seq 3") {
		t.Errorf("from standard input: %d %s %s", code, out, errs)
	}
	for want, args := range map[string][]string{
		"closed as of":                  {"emit", "mover", "7"},
		"want one of [joiner":           {"emit", "promote", "7"},
		"want an ISO 3166-1":            {"emit", "joiner", "8", "--display-name", "x", "--country", "UK"},
		"want an instant":               {"emit", "leaver", "7", "--effective", "tomorrow"},
		"want one of termination":       {"emit", "leaver", "7", "--reason", "fired", "--effective", "2020-01-01T00:00:00Z"},
		"there is no enclave \"GOV-9\"": {"emit", "leaver", "7", "--enclave", "GOV-9"},
		"want KIND SUBJECT":             {"emit", "leaver"},
		"both describe the event":       {"emit", "leaver", "7", "-", "--urgent"},
		"nothing was ever announced":    {"emit", "leaver", "99"},
	} {
		if want == "closed as of" {
			p.must(t, "emit", "leaver", "7", "--urgent", "--reason", "termination", "--ticket", "HR-1")
		}
		if code, _, errs := p.try("{}", args...); code != exitMisused || !strings.Contains(errs, want) {
			t.Errorf("%v: want %q, got %d %s", args, want, code, errs)
		}
	}
}

// A second enclave joins: it gets a chain, its own scope, and leavers reach every enclave that knows the person.
func TestTwoEnclaves(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	file := p.write(t, "export.csv", people)
	p.must(t, "import", file)
	second := withSecond(template, "{everyone: true}")
	p.write(t, "producer.yaml", second)
	if code, _, errs := p.try("", "import", file); code != exitMisused || !strings.Contains(errs, "producer enclave add") {
		t.Errorf("an enclave without a chain: %d %s", code, errs)
	}
	p.must(t, "enclave", "add", "GOV-2")
	if code, _, errs := p.try("", "enclave", "add", "GOV-2"); code != exitMisused {
		t.Errorf("twice: %s", errs)
	}
	var r importReport
	if err := json.Unmarshal([]byte(p.must(t, "import", file, "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Enclaves[0].Changes) != 0 || len(r.Enclaves[1].Changes) != 3 {
		t.Errorf("%+v", r.Enclaves)
	}
	if code, _, errs := p.try("", "emit", "joiner", "9", "--display-name", "x"); code != exitMisused || !strings.Contains(errs, "--enclave") {
		t.Errorf("a joiner to nobody in particular: %d %s", code, errs)
	}
	if out := p.must(t, "emit", "leaver", "1", "--urgent"); strings.Count(out, "stored leaver") != 2 {
		t.Errorf("person 1 is in both:\n%s", out)
	}
	if out := p.must(t, "emit", "leaver", "3"); strings.Count(out, "stored leaver") != 1 || !strings.Contains(out, "gov-2") {
		t.Errorf("person 3 is in the second only:\n%s", out)
	}
	if code, _, errs := p.try("", "emit", "leaver", "4"); code != exitMisused || !strings.Contains(errs, "no enclave has a live engagement") {
		t.Errorf("person 4 is nowhere: %d %s", code, errs)
	}
	if out := p.must(t, "roster", "--enclave", "GOV-2"); !strings.Contains(out, "gov-2 in 1 part, seq 6 to 6") {
		t.Errorf("roster:\n%s", out)
	}
}

// What one enclave was told already keeps nothing from the others.
func TestWhatOneEnclaveKnowsTheOthersHear(t *testing.T) {
	p := newPlace(t)
	p.write(t, "producer.yaml", withSecond(template, "{everyone: true}"))
	p.must(t, "init")
	p.must(t, "import", p.write(t, "export.csv", people))
	for _, args := range [][]string{
		{"emit", "suspend", "1", "--reason", "investigation"},
		{"emit", "leaver", "1", "--effective", time.Now().AddDate(0, 1, 0).UTC().Format(time.RFC3339)},
	} {
		p.must(t, append(slices.Clone(args), "--enclave", "GOV-1")...)
		code, out, errs := p.try("", args...)
		if code != exitFailed || strings.Count(out, "stored") != 1 || !strings.Contains(out, "gov-2") || !strings.Contains(errs, "not said to every enclave: enclave GOV-1: ") {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
		if code, out, errs := p.try("", args...); code != exitMisused || out != "" || !strings.Contains(errs, "enclave GOV-1: ") || !strings.Contains(errs, "enclave GOV-2: ") {
			t.Errorf("%v, known to both: exit %d\n%s%s", args, code, out, errs)
		}
	}
	if s := p.saidTo(t, 1, "1"); s.Status != register.Suspended || s.Leaves == nil {
		t.Errorf("the other enclave: %+v", s)
	}
}

func TestResendIsAnOperatorsAct(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	p.must(t, "import", p.write(t, "export.csv", people))
	for want, args := range map[string][]string{
		"want --from":                {"--reason", "x"},
		"want --reason":              {"--from", "1"},
		"at or after --from 2":       {"--from", "2", "--to", "1", "--reason", "x"},
		"number that was given is 2": {"--from", "2", "--to", "3", "--reason", "x"},
		"want 4 to 4":                {"--from", "4", "--reason", "x"},
		"want the number (seq) of a": {"--from", "-1", "--reason", "x"},
		"no enclave \"GOV-9\"":       {"--from", "1", "--reason", "x", "--enclave", "GOV-9"},
	} {
		if code, _, errs := p.try("", append([]string{"resend"}, args...)...); code != exitMisused || !strings.Contains(errs, want) {
			t.Errorf("%v: want %q, got %d %s", args, want, code, errs)
		}
	}
	if out := p.must(t, "resend", "--from", "3", "--reason", "x"); !strings.Contains(out, "seq 2 is the last that was made: nothing was lost") {
		t.Error(out)
	}
	if out := p.must(t, "resend", "--from", "1", "--reason", "x"); !strings.Contains(out, "seq 1 to 2: 0 messages to be published again, 2 waited anyway") {
		t.Error(out)
	}
}

// The example and the help are read by people who do as they say.
func TestExampleConfiguration(t *testing.T) {
	if _, err := loadConfig("producer.example.yaml"); err != nil {
		t.Error(err)
	}
	if _, err := loadConfig("microsoft-sample.example.yaml"); err != nil {
		t.Error(err)
	}
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"--help"}, nil, &out, &errs); code != exitDone || !strings.Contains(out.String(), "Exit codes") {
		t.Errorf("%d %s", code, errs.String())
	}
	if code := run(context.Background(), []string{"completion", "bash"}, nil, &out, &errs); code != exitDone {
		t.Errorf("completion: %d %s", code, errs.String())
	}
}
