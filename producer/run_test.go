package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"jmlbridge/internal/command"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/program"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/producer/midpoint"
	"jmlbridge/producer/outbox"
	"jmlbridge/schema"
)

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
	return p.runnerAt(t, time.Now)
}

// runnerAt is runner by another clock.
func (p *place) runnerAt(t *testing.T, now func() time.Time) (stop func() int, log *lockedBuffer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan int, 1)
	log = &lockedBuffer{}
	a := &app{in: strings.NewReader(""), out: io.Discard, err: log, now: now, login: command.Operator, started: func() { close(ready) }}
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

// midpoint starts a mid-point and puts it into the configuration. config is the mid-point's own.
func (p *place) midpoint(t *testing.T) (server *midpoint.Server, config string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	made, err := midpoint.Init(t.Context(), filepath.Join(p.dir, "mid"), midpoint.Setup{Hosts: []string{"127.0.0.1"}, Listen: "127.0.0.1:0", Enclaves: []string{"GOV-1"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := midpointConfig(made.Config)
	if err != nil {
		t.Fatal(err)
	}
	if server, err = midpoint.Start(context.Background(), c, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	queue := fmt.Sprintf("queue: {nats: {url: [\"tls://%s\"], ca: mid/producer/GOV-1/midpoint-ca.pem, nkey: mid/producer/GOV-1/midpoint.nk, stream: JML-GOV-1, subject: jml.GOV-1}}", server.Addr())
	p.write(t, "producer.yaml", template[:strings.Index(template, "queue:")]+queue+template[strings.Index(template, "\n    scope:"):])
	return server, made.Config
}

// The whole producer against a real mid-point: what is imported and emitted beside a runner arrives as one
// chain with heartbeats and a roster, the ledger is published, and an old database is not run.
func TestRunAgainstMidpoint(t *testing.T) {
	p := newPlace(t)
	ctx := context.Background()
	server, config := p.midpoint(t)
	if code, _, errs := p.try("", "midpoint", "run", config); code != exitMisused || !strings.Contains(errs, "stop that one first") {
		t.Errorf("a second mid-point on the store: %d %s", code, errs)
	}
	var m made
	if err := json.Unmarshal([]byte(p.must(t, "init", "-o", "json")), &m); err != nil {
		t.Fatal(err)
	}
	p.must(t, "import", p.write(t, "export.csv", people))
	old := p.copyDatabase(t)

	stop, runLog := p.runner(t)
	f := program.FIPS() // on in the run of these tests with the module on
	if line := fmt.Sprintf(`"fips":%v,"fips_module":%q`, f.Enabled, f.Version); !strings.Contains(runLog.String(), line) {
		t.Errorf("the log does not say %s", line)
	}
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
	deadline, cancel := context.WithTimeout(ctx, 2*time.Minute)
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
	// Taken off the queue, they are lost to everyone else: sent again they pass the queue's duplicate window.
	p.must(t, "resend", "--from", "1", "--to", "3", "--reason", "purged by mistake")
	for again := uint64(0); again < 3; {
		batch, err := r.Fetch(deadline, 100)
		if err != nil {
			t.Fatalf("resent %d: %v\n%s", again, err, runLog)
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
			if s.Stream.Seq == again+1 {
				again++
			}
		}
		if err := r.Settle(deadline, batch); err != nil {
			t.Fatal(err)
		}
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
	if code, out, _ := p.try("", "doctor"); code != exitFailed || !strings.Contains(out, "older copy of the database") {
		t.Errorf("doctor does not say so: %d\n%s", code, out)
	}
	if code, _, _ := p.try("", "recover"); code != exitMisused {
		t.Error("recover without a reason")
	}
	var rec recovered
	if err := json.Unmarshal([]byte(p.must(t, "recover", "--reason", "disk lost", "-o", "json")), &rec); err != nil || rec.Generation != 2 || len(rec.SetAside) != 2 {
		t.Fatalf("%+v, %v", rec, err)
	}
	line, err := os.ReadFile(rec.VerifierFile)
	if err != nil || filepath.Base(rec.VerifierFile) != "producer-ledger-g2.vkey" || string(line) != rec.LedgerVerifier+"\n" {
		t.Errorf("verifier in %s: %q, %v", rec.VerifierFile, line, err)
	}
	if first, err := os.ReadFile(m.VerifierFile); err != nil || string(first) != m.LedgerVerifier+"\n" {
		t.Errorf("the old ledger's verifier: %q, %v", first, err)
	}
	if code, _, errs := p.try("", "recover", "--reason", "again"); code != exitMisused || !strings.Contains(errs, "--force") {
		t.Errorf("a second recover: %d %s", code, errs)
	}
	// Killed after the generation was open, and before or while it left the files: the next recover makes what is missing.
	card, err := os.ReadFile(rec.CardFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"", string(card[:10]), string(card)} {
		if err := os.WriteFile(rec.CardFile, []byte(left), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(rec.VerifierFile); err != nil {
			t.Fatal(err)
		}
		code, _, errs := p.try("", "recover", "--reason", "again")
		if code != exitMisused || !strings.Contains(errs, "generation 2 is open") || strings.Contains(errs, rec.CardFile) != (left != string(card)) || !strings.Contains(errs, rec.VerifierFile) {
			t.Errorf("a recover after one that was killed: %d %s", code, errs)
		}
		for path, want := range map[string]string{rec.CardFile: string(card), rec.VerifierFile: string(line)} {
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Errorf("%s is %q, %v; want %q", path, got, err, want)
			}
		}
	}
	if err := os.Remove(rec.VerifierFile); err != nil { // so does a start
		t.Fatal(err)
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
	if code := stop(); code != exitDone {
		t.Errorf("run ended with %d\n%s", code, runLog)
	}
	if again, err := os.ReadFile(rec.VerifierFile); err != nil || string(again) != string(line) {
		t.Errorf("run did not make the line that the killed recover had not left: %q, %v", again, err)
	}
	if err := os.Remove(rec.VerifierFile); err != nil { // carried away
		t.Fatal(err)
	}
	if code, _, errs := p.try("", "recover", "--reason", "again"); code != exitMisused || !strings.Contains(errs, "--force") {
		t.Errorf("a recover after it was carried away: %d %s", code, errs)
	}
	if verifier, err = keys.LedgerVerifier(strings.TrimSpace(string(line))); err == nil {
		_, err = tiles.OpenReader(filepath.Join(p.dir, "data/ledger/tiles"), verifier)
	}
	if err != nil {
		t.Errorf("the new ledger does not verify by its file: %v", err)
	}
	if generations[2][0] != 1 || generations[2][1] != 2 {
		t.Errorf("%v", generations)
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

// A clock that is far behind what was sent numbers nothing, and takes nothing back: what waits in the outbox, perhaps a
// leaver, is sent all the same. There is no heartbeat and no sign of life; both come when the clock is right again.
func TestRunWithAClockFarBehind(t *testing.T) {
	p := newPlace(t)
	p.midpoint(t)
	p.must(t, "init")
	p.must(t, "emit", "joiner", "1", "--display-name", "Ada")
	p.must(t, "emit", "leaver", "1")
	var behind atomic.Int64
	behind.Store(int64(20 * 365 * 24 * time.Hour))
	stop, log := p.runnerAt(t, func() time.Time { return time.Now().Add(-time.Duration(behind.Load())) })
	status := func() outbox.Status {
		t.Helper()
		var r report
		if err := json.Unmarshal([]byte(p.must(t, "status", "-o", "json")), &r); err != nil || len(r.Enclaves) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		return r.Enclaves[0]
	}
	soon := func(what string, holds func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for tick := time.NewTicker(10 * time.Millisecond); !holds(); {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("not so: %s\n%s", what, log)
			}
		}
	}
	alive := filepath.Join(p.dir, "alive.json")
	soon("what waits is sent, and no heartbeat is numbered", func() bool {
		return status().Waiting == 0 && strings.Count(log.String(), "the clock says ") >= 2
	})
	if s := status(); s.Seq != 2 || s.Heartbeat != nil {
		t.Errorf("want the two messages and no heartbeat, got %+v", s)
	}
	if _, err := os.Stat(alive); !os.IsNotExist(err) {
		t.Errorf("want no sign of life while nothing can be said: %v", err)
	}
	behind.Store(0)
	soon("a heartbeat is sent", func() bool { s := status(); return s.Heartbeat != nil && s.Waiting == 0 })
	soon("there is a sign of life", func() bool { _, err := os.Stat(alive); return err == nil })
	if code := stop(); code != exitDone {
		t.Errorf("run ended with %d\n%s", code, log)
	}
}

// A folder whose name a pattern could not match tells of an earlier recovery all the same.
func TestAnEarlierRecoveryIsSeenByItsFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[1]")
	c := &Config{}
	c.Ledger.Dir = filepath.Join(dir, "ledger")
	if n, err := c.nextGeneration(); err != nil || n != 2 {
		t.Errorf("without a folder: %d, %v", n, err)
	}
	for _, name := range []string{"ledger" + asideMark + "2", "ledger" + asideMark + "4", "ledger" + asideMark + "x", "other" + asideMark + "9"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := c.nextGeneration(); err != nil || n != 5 {
		t.Errorf("want generation 5, got %d, %v", n, err)
	}
}
