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
	"testing"
	"time"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/producer/midpoint"
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
	if code, _, errs := p.try("", "midpoint", "run", mid0.Config); code != exitMisused || !strings.Contains(errs, "stop that one first") {
		t.Errorf("a second mid-point on the store: %d %s", code, errs)
	}
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
