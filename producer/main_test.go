package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/internal/store"
	"jmlbridge/producer/midpoint"
	"jmlbridge/producer/outbox"
	"jmlbridge/schema"
)

// place is one producer on disk, with the enclave's key.
type place struct {
	dir    string
	config string
	ring   *envelope.Ring
}

const template = `
issuer: https://iam.mssp.example/jml
stream: hr
database: data/producer.db
ledger: {dir: data/ledger, checkpoint_copy: copy/checkpoint, key: keys/ledger.pem, origin: iam.mssp.example/producer}
signing: {key: keys/signing.pem}
heartbeat: 1s
enclaves:
  - name: GOV-1
    audience: urn:jmlbridge:enclave:gov-1
    encryption_key: enclave.pub.pem
    queue: {url: ["tls://127.0.0.1:1"], nkey: none.nk, stream: JML-GOV-1, subject: jml.GOV-1}
    scope:
      in:
        - when: [{column: dept, equals: sec}]
source:
  subject: id
  status: {column: status, active: [a], inactive: [i]}
  person: {displayName: name, department: dept}
`

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{dir: t.TempDir()}
	p.config = filepath.Join(p.dir, "producer.yaml")
	p.write(t, "producer.yaml", template)
	if err := os.Mkdir(filepath.Join(p.dir, "copy"), 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := keys.GenerateDecryption(keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.WritePublic(filepath.Join(p.dir, "enclave.pub.pem"), key.Public()); err != nil {
		t.Fatal(err)
	}
	if p.ring, err = envelope.NewRing(key); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// try runs the program and returns its exit code and what it wrote.
func (p *place) try(in string, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), append([]string{"-c", p.config}, args...), strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

func (p *place) must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := p.try("", args...)
	if code != exitDone {
		t.Fatalf("%v: exit code %d\n%s%s", args, code, out, errs)
	}
	return out
}

// files lists what is in the folder, with sizes: two listings are equal when nothing was done.
func (p *place) files(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(p.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, "-shm") && !strings.HasSuffix(path, "-wal") {
			fmt.Fprintln(&b, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const people = "id,name,dept,status\n1,A,sec,a\n2,B,sec,a\n3,C,sales,a\n"

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
	if out := p.must(t, "status"); !strings.Contains(out, "nothing relays") || !strings.Contains(out, "WAITING") {
		t.Errorf("status:\n%s", out)
	}
	var again importReport
	if err := json.Unmarshal([]byte(p.must(t, "import", file, "-o", "json")), &again); err != nil || len(again.Enclaves[0].Changes) != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	code, out, _ := p.try("id,name,dept,status\n", "import", "-", "--format", "csv", "--complete", "--dry-run")
	if code != exitDone || !strings.Contains(out, "2 changes would be") {
		t.Errorf("two absences are inside the default limit: %d\n%s", code, out)
	}
	var many strings.Builder
	many.WriteString("id,name,dept,status\n")
	for i := range 30 {
		fmt.Fprintf(&many, "%d,A,sec,a\n", i)
	}
	p.must(t, "import", p.write(t, "many.csv", many.String()))
	code, out, errs := p.try("id,name,dept,status\n1,A,sec,i\n", "import", "-", "--format", "csv", "--complete")
	if code != exitFailed || !strings.Contains(out, "--allow-absences 29") || !strings.Contains(errs, "29 leavers that no row states are held back") || status().Enclaves[0].Closed != 1 {
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

func TestBadSurroundings(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, p *place)
		want  string
		args  []string
	}{
		"unknown key": {func(t *testing.T, p *place) { p.write(t, "producer.yaml", template+"hearbeat: 1m\n") }, `producer.yaml:20:1: unknown key "hearbeat"`, []string{"status"}},
		"bad scope": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "equals: sec", "is: sec", 1))
		}, "producer.yaml:15:", []string{"status"}},
		"bad mapping": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "subject: id", "subject: \"\"", 1))
		}, "producer.yaml:17:", []string{"status"}},
		"bad audience": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "urn:jmlbridge:enclave:gov-1", "gov 1", 1))
		}, "producer.yaml:10:15", []string{"status"}},
		"no database": {func(t *testing.T, p *place) { mustRemove(t, p, "data/producer.db") }, "it does not exist", []string{"run"}},
		"no data folder": {func(t *testing.T, p *place) {
			if err := os.RemoveAll(filepath.Join(p.dir, "data")); err != nil {
				t.Fatal(err)
			}
		}, "it does not exist", []string{"run"}},
		"key for all": {func(t *testing.T, p *place) { mustChmod(t, p, "keys/signing.pem", 0o644) }, "lets others read", []string{"emit", "leaver", "1"}},
		"other key": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "keys/signing.pem", "keys/signing.pem, alg: EdDSA", 1))
		}, "signs by ES256", []string{"emit", "leaver", "1"}},
		"no public key": {func(t *testing.T, p *place) { mustRemove(t, p, "enclave.pub.pem") }, "encryption key of enclave GOV-1 (its operators have it", []string{"import", "x.csv"}},
		"other stream": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "stream: hr", "stream: hr2", 1))
		}, "set it back", []string{"emit", "leaver", "1"}},
		"wrong header": {func(t *testing.T, p *place) { p.write(t, "x.csv", "ID;name\n1;A\n") }, "wrong header: missing", []string{"import", "x.csv"}},
		"Latin-1":      {func(t *testing.T, p *place) { p.write(t, "x.csv", "id,name,dept,status\n1,J\xf6rg,sec,a\n") }, "x.csv:2: an octet 0xf6", []string{"import", "x.csv"}},
		"no file":      {func(t *testing.T, p *place) {}, "read the export", []string{"import", "none.csv"}},
		"no mapping": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", template[:strings.Index(template, "source:")])
		}, "source: an import needs", []string{"import", "x.csv"}},
		"no credential": {func(t *testing.T, p *place) {}, "queue of enclave GOV-1", []string{"run"}},
		"newer enclave": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "gov-1\n    enc", "gov-2\n    enc", 1))
		}, "producer enclave add", []string{"emit", "joiner", "1", "--display-name", "x"}},
		"unknown command": {func(t *testing.T, p *place) {}, `there is no command "publish"`, []string{"publish"}},
		"unknown flag":    {func(t *testing.T, p *place) {}, "unknown flag", []string{"run", "--fast"}},
		"bad log":         {func(t *testing.T, p *place) {}, "--log: want text or json", []string{"status", "--log", "xml"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.must(t, "init")
			p.write(t, "x.csv", people)
			c.spoil(t, p)
			before := p.files(t)
			args := slices.Clone(c.args)
			for i := range args {
				if args[i] == "x.csv" || args[i] == "none.csv" {
					args[i] = filepath.Join(p.dir, args[i])
				}
			}
			code, _, errs := p.try("", args...)
			if code != exitMisused || !strings.Contains(errs, c.want) {
				t.Errorf("want exit code 2 and %q, got %d and %s", c.want, code, errs)
			}
			if after := p.files(t); after != before && name != "no credential" { // run takes its lock first
				t.Errorf("something was done:\n%s", after)
			}
		})
	}
}

func mustRemove(t *testing.T, p *place, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(p.dir, name)); err != nil {
		t.Fatal(err)
	}
}

func mustChmod(t *testing.T, p *place, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(filepath.Join(p.dir, name), mode); err != nil {
		t.Fatal(err)
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

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// runner starts "producer run" in this process.
func (p *place) runner(t *testing.T) (stop func() int, log *lockedBuffer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan int, 1)
	log = &lockedBuffer{}
	a := &app{in: strings.NewReader(""), out: io.Discard, err: log, now: time.Now, login: login, started: func() { close(ready) }}
	go func() { done <- a.main(ctx, []string{"-c", p.config, "run", "--log", "json"}) }()
	select {
	case <-ready:
	case code := <-done:
		t.Fatalf("run ended with %d\n%s", code, log)
	}
	ended := false
	stop = func() int {
		cancel()
		if ended {
			return exitDone
		}
		ended = true
		return <-done
	}
	t.Cleanup(func() { stop() })
	return stop, log
}

// The whole producer against a real mid-point: what is imported and emitted beside a runner arrives as one
// chain with heartbeats and a roster, the ledger is published, and an old database is not run.
func TestRunAgainstMidpoint(t *testing.T) {
	p := newPlace(t)
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	mid0, err := midpoint.Init(ctx, filepath.Join(p.dir, "mid"), midpoint.Setup{Hosts: []string{"127.0.0.1"}, Listen: "127.0.0.1:0", Enclaves: []string{"GOV-1"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	mid, err := midpointConfig(mid0.Config)
	if err != nil {
		t.Fatal(err)
	}
	server, err := midpoint.Start(ctx, mid, log)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	queue := fmt.Sprintf("queue: {url: [\"tls://%s\"], ca: mid/producer/GOV-1/midpoint-ca.pem, nkey: mid/producer/GOV-1/midpoint.nk, stream: JML-GOV-1, subject: jml.GOV-1}", server.Addr())
	text := template[:strings.Index(template, "queue:")] + queue + template[strings.Index(template, "\n    scope:"):]
	p.write(t, "producer.yaml", text)
	var m made
	if err := json.Unmarshal([]byte(p.must(t, "init", "-o", "json")), &m); err != nil {
		t.Fatal(err)
	}
	p.must(t, "import", p.write(t, "export.csv", people))
	old := p.copyDatabase(t)

	stop, runLog := p.runner(t)
	if code, _, errs := p.try("", "run"); code != exitMisused || !strings.Contains(errs, "one runner at a time") {
		t.Errorf("a second runner: %d %s", code, errs)
	}
	p.must(t, "emit", "leaver", "2", "--urgent")
	receive := natsqueue.Config{
		URL: []string{"tls://" + server.Addr()}, CA: filepath.Join(p.dir, "mid/consumer/GOV-1/midpoint-ca.pem"),
		NKey: filepath.Join(p.dir, "mid/consumer/GOV-1/midpoint.nk"), Stream: "JML-GOV-1",
	}
	r, err := natsqueue.OpenReceiver(receive)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	signing, err := keys.ReadSigning(m.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := envelope.NewTrustedKey(signing.Public())
	if err != nil {
		t.Fatal(err)
	}
	var head schema.Digest
	var seq uint64
	seen := map[schema.Kind]int{}
	deadline, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for seen[schema.KindHeartbeat] < 2 || seen[schema.KindLeaver] == 0 || seen[schema.KindRoster] == 0 {
		batch, err := r.Fetch(deadline, 100)
		if err != nil {
			t.Fatalf("after %v: %v\n%s", seen, err, runLog)
		}
		for _, d := range batch {
			o, err := envelope.Open(d.Body, p.ring, envelope.Trust{trusted.KID: trusted})
			if err != nil {
				t.Fatal(err)
			}
			s, err := schema.Decode(o.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if s.Stream.Seq != seq+1 || s.Stream.Prev != head {
				t.Fatalf("after seq %d came %+v", seq, s.Stream)
			}
			seq, head = s.Stream.Seq, o.PayloadDigest
			seen[s.Event.Kind()]++
		}
		if err := r.Settle(deadline, batch); err != nil {
			t.Fatal(err)
		}
	}
	if seen[schema.KindJoiner] != 2 {
		t.Errorf("%v", seen)
	}
	if code := stop(); code != exitDone {
		t.Errorf("run ended with %d\n%s", code, runLog)
	}
	for _, want := range []string{`"msg":"published"`, `"msg":"producer running"`, `"first_seq":1`} {
		if !strings.Contains(runLog.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, runLog)
		}
	}
	verifier, err := keys.LedgerVerifier(m.LedgerVerifier)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := tiles.OpenReader(filepath.Join(p.dir, "data/ledger/tiles"), verifier)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, err := range reader.Entries(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n < int64(seq) {
		t.Errorf("the published ledger has %d entries for %d messages", n, seq)
	}

	// An old copy of the database is put back.
	if err := os.WriteFile(filepath.Join(p.dir, "data/producer.db"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run"}, {"emit", "leaver", "1"}, {"import", filepath.Join(p.dir, "export.csv")}} {
		if code, _, errs := p.try("", args...); code != exitMisused || !strings.Contains(errs, "older copy of the database") {
			t.Errorf("%v on an old database: %d %s", args, code, errs)
		}
	}
	if out := p.must(t, "status"); !strings.Contains(out, "A START WOULD BE REFUSED") {
		t.Errorf("status does not say so:\n%s", out)
	}
	if code, _, _ := p.try("", "recover"); code != exitMisused {
		t.Error("recover without a reason")
	}
	var rec recovered
	if err := json.Unmarshal([]byte(p.must(t, "recover", "--reason", "disk lost", "-o", "json")), &rec); err != nil || rec.Generation != 2 || len(rec.SetAside) != 2 {
		t.Fatalf("%+v, %v", rec, err)
	}
	if code, _, errs := p.try("", "recover", "--reason", "again"); code != exitMisused || !strings.Contains(errs, "--force") {
		t.Errorf("a second recover: %d %s", code, errs)
	}
	p.must(t, "emit", "leaver", "2", "--urgent")
	stop, runLog = p.runner(t)
	generations := map[int][]uint64{}
	for len(generations[2]) < 2 {
		batch, err := r.Fetch(deadline, 100)
		if err != nil {
			t.Fatalf("after %v: %v\n%s", generations, err, runLog)
		}
		for _, d := range batch {
			o, err := envelope.Open(d.Body, p.ring, envelope.Trust{trusted.KID: trusted})
			if err != nil {
				t.Fatal(err)
			}
			s, err := schema.Decode(o.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if len(generations[2]) == 0 && s.Stream.Generation == 2 && s.Event.Kind() != schema.KindRoster {
				t.Errorf("generation 2 begins with a %s", s.Event.Kind())
			}
			generations[s.Stream.Generation] = append(generations[s.Stream.Generation], s.Stream.Seq)
		}
		if err := r.Settle(deadline, batch); err != nil {
			t.Fatal(err)
		}
	}
	if generations[2][0] != 1 || generations[2][1] != 2 {
		t.Errorf("%v", generations)
	}
	if code := stop(); code != exitDone {
		t.Errorf("run ended with %d\n%s", code, runLog)
	}
}

// copyDatabase is a backup of a database that nobody has open.
func (p *place) copyDatabase(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, "data/producer.db"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Microsoft's own sample export, by its example configuration: every row is accounted for, and nothing in
// it, nor a half of it, makes a leaver.
func TestMicrosoftSample(t *testing.T) {
	file := sample(t)
	p := newPlace(t)
	text, err := os.ReadFile("microsoft-sample.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "producer.yaml", strings.Replace(string(text), "keys/gov-1.pub.pem", "enclave.pub.pem", 1))
	p.must(t, "init")
	report := func(args ...string) (r importReport) {
		t.Helper()
		if err := json.Unmarshal([]byte(p.must(t, append([]string{"import", "-o", "json"}, args...)...)), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := report("--dry-run", file)
	r := report(file)
	if r.Rows != 1000 || r.Accepted+len(r.Refused)+r.HeldRows != 1000 {
		t.Errorf("%d rows: %d accepted, %d refused, %d held", r.Rows, r.Accepted, len(r.Refused), r.HeldRows)
	}
	if r.People != 359 || len(r.Held) != 265 || len(r.Refused) != 0 {
		t.Errorf("%d people, %d held, %d refused: %v", r.People, len(r.Held), len(r.Refused), r.Refused)
	}
	e := r.Enclaves[0]
	total := 0
	for _, n := range e.Cases {
		total += n
	}
	if total != r.People || e.Cases["joiner"] == 0 || e.Cases["leaver"] != 0 || e.Sent != len(e.Changes) {
		t.Errorf("%d people, sent %d, %v", total, e.Sent, e.Cases)
	}
	if planned := before.Enclaves[0]; !maps.Equal(planned.Cases, e.Cases) || planned.Sent != 0 {
		t.Errorf("the plan was %v, done was %v", planned.Cases, e.Cases)
	}
	if again := report(file); len(again.Enclaves[0].Changes) != 0 {
		t.Errorf("the same file again says %d things", len(again.Enclaves[0].Changes))
	}
	// Half of the file, called complete.
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	half := p.write(t, "half.csv", strings.Join(strings.SplitAfter(string(data), "\n")[:500], ""))
	code, out, _ := p.try("", "import", half, "--complete", "-o", "json")
	var cut importReport
	if err := json.Unmarshal([]byte(out), &cut); err != nil || code != exitFailed {
		t.Fatalf("exit code %d, %v", code, err)
	}
	if h := cut.Enclaves[0]; h.Cases["leaver"] != 0 || len(h.HeldBack) != 1 || h.HeldBack[0].Count != h.Absent {
		t.Errorf("%v, held back %+v", h.Cases, h.HeldBack)
	}
}

// sample finds the shared test data beside the module.
func sample(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(filepath.Dir(dir), "shared", "data", "hr", "workers-1000.csv")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the sample export is not beside this clone (%s)", path)
	}
	return path
}

func TestNewerDatabase(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	newer := outbox.Schema
	newer.Version++
	newer.Migrations = map[int]string{outbox.Schema.Version: "CREATE TABLE later (x INTEGER) STRICT"}
	db, err := store.Open(filepath.Join(p.dir, "data/producer.db"), newer)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run"}, {"status"}, {"card"}, {"emit", "leaver", "1"}} {
		if code, _, errs := p.try("", args...); code != exitMisused || !strings.Contains(errs, "a newer program wrote it") {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
}

// A second enclave joins: it gets a chain, its own scope, and leavers reach every enclave that knows the person.
func TestTwoEnclaves(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	file := p.write(t, "export.csv", people)
	p.must(t, "import", file)
	second := strings.Replace(template, "source:\n", `  - name: GOV-2
    audience: urn:jmlbridge:enclave:gov-2
    encryption_key: enclave.pub.pem
    queue: {url: ["tls://127.0.0.1:1"], nkey: none.nk, stream: JML-GOV-2, subject: jml.GOV-2}
    scope: {everyone: true}
source:
`, 1)
	p.write(t, "producer.yaml", second)
	if code, _, errs := p.try("", "import", file); code != exitMisused || !strings.Contains(errs, "producer enclave add") {
		t.Errorf("an enclave without a chain: %d %s", code, errs)
	}
	p.must(t, "enclave", "add", "GOV-2")
	if code, _, errs := p.try("", "enclave", "add", "GOV-2"); code == exitDone {
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
	if out := p.must(t, "roster", "--enclave", "GOV-2"); !strings.Contains(out, "gov-2 in 1 parts, seq 6 to 6") {
		t.Errorf("roster:\n%s", out)
	}
}
