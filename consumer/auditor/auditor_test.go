package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"jmlbridge/consumer/auditor/verify"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/archive"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// evidence is what an auditor is handed: a folder that the real publisher wrote, and public keys in files.
type evidence struct {
	t                                     *testing.T
	dir, ledgerKey, producer, copy, other string
}

const (
	issuer  = "https://iam.mssp.example/jml"
	enclave = "urn:jmlbridge:enclave:gov-1"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

type messages []archive.Row

func (m messages) Unarchived(_ context.Context, after int64, limit int) ([]archive.Row, error) {
	rows := m[min(int(after), len(m)):]
	return rows[:min(limit, len(rows))], nil
}

// published lets internal/ledger publish a small ledger: a joiner, an account, a leaver, a cut.
func published(t *testing.T, more ...entry.Body) *evidence {
	t.Helper()
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	e := &evidence{t: t, dir: at("ledger"), ledgerKey: at("ledger.vkey"), producer: at("producer.pem"), copy: at("copy/checkpoint"), other: at("other.pub")}
	must(os.Mkdir(at("copy"), 0o700))
	must(os.Mkdir(at("state"), 0o700))

	key, err := keys.GenerateSigning(keys.ES256)
	must(err)
	signer, err := seal.NewSigner(key)
	must(err)
	must(keys.WritePublic(e.producer, key.Public()))
	secret, err := keys.GenerateLedger()
	must(err)
	for path, pub := range map[string]ed25519.PublicKey{e.ledgerKey: secret.Public().(ed25519.PublicKey), e.other: make(ed25519.PublicKey, 32)} {
		line, err := tiles.VerifierKey("jmlbridge.internal/gov-1/ledger", pub)
		must(err)
		must(os.WriteFile(path, []byte(line+"\n"), 0o600))
	}

	s := store.Schema{App: 0x4a4d4c54, Name: "the test", Version: 1, DDL: ledger.DDL}
	must(store.Create(at("state/db"), s))
	db, err := store.Open(at("state/db"), s)
	must(err)
	defer db.Close()
	policy := schema.DigestOf([]byte("policy"))
	who := entry.Who{Issuer: issuer, Subject: "E1004711", Engagement: 1}
	var rows messages
	var prev schema.Digest
	said := func(seq uint64, ev schema.Event) *entry.Received {
		iat := schema.At(noon)
		set := &schema.SET{Issuer: issuer, Audience: enclave, ID: "0192f0c1-0000-7000-8000-00000000000" + string('0'+rune(seq)), IssuedAt: iat,
			Subject: who.Subject, Stream: schema.Position{ID: "hr", Generation: 1, Seq: seq, Prev: prev}, Event: ev, Version: 1}
		payload, err := schema.EncodePadded(set)
		must(err)
		jws, err := signer.Sign(payload)
		must(err)
		r := &entry.Received{Disposition: entry.DispositionAdmitted, Message: entry.Message{
			Position: entry.Position{Issuer: issuer, Stream: "hr", Generation: 1, Seq: seq}, Prev: prev, Event: string(ev.Kind()) + ":v1",
			Subject: who.Subject, Engagement: 1, ID: set.ID, Payload: schema.DigestOf(payload), Key: signer.KID(), IssuedAt: &iat}}
		if l, ok := ev.(*schema.Leaver); ok {
			r.Effective = &l.Effective
		}
		prev = r.Payload
		rows = append(rows, archive.Row{ID: int64(len(rows) + 1), Day: noon, Payload: prev, JWS: string(jws)})
		return r
	}
	intent := func(seq uint64, code, op, class string) *entry.Intent {
		return &entry.Intent{Who: who, Ops: []entry.Op{{N: 1, Op: op, Class: class}}, Policy: policy,
			Cause: entry.Cause{Type: entry.CauseMessage, Code: code, Position: &entry.Position{Issuer: issuer, Stream: "hr", Generation: 1, Seq: seq}}}
	}
	answer := func(i int64) *entry.Outcome {
		return &entry.Outcome{Intent: i, Who: who, Account: "8a1f", Results: []entry.Result{{N: 1, Result: entry.ResultApplied,
			Requests: []entry.Request{{Client: "c-1", Server: "s-1", Status: 204}}}}}
	}
	bodies := []entry.Body{
		&entry.Started{Program: entry.ProgramConsumer, Version: "v1", Go: "go", Mode: "run", Policy: &policy, Ledger: "L1", Enclave: enclave, Instance: "i"},
		&entry.Trust{Action: entry.TrustAdd, Key: signer.KID(), Use: entry.UseSign, Issuer: issuer, Stream: "hr", Generation: 1, AtSeq: 1, By: "op"},
		said(1, &schema.Joiner{Engagement: 1, Person: schema.Person{DisplayName: "Ann Example"}, Roles: []string{}, Start: schema.At(noon)}),
		intent(1, "active", "create", entry.ClassGive), answer(3),
		said(2, &schema.Leaver{Engagement: 1, Effective: schema.At(noon), Reason: schema.ReasonResignation}),
		intent(2, "left", "disable", entry.ClassTake), answer(6),
		intent(2, "left", "revoke-sessions", entry.ClassTake), answer(8),
	}
	must(db.Tx(t.Context(), func(tx *store.Tx) error {
		for i, b := range append(bodies, more...) {
			if _, err := ledger.Append(tx, entry.New(noon.Add(time.Duration(i)*time.Second), b)); err != nil {
				return err
			}
		}
		return nil
	}))
	sign, verifier, err := tiles.NewSigner("jmlbridge.internal/gov-1/ledger", secret)
	must(err)
	p, err := ledger.New(ledger.Config{DB: db, Signer: sign, Verifier: verifier, Dir: e.dir, Copy: e.copy, Archive: rows})
	must(err)
	must(p.Publish(t.Context()))
	return e
}

func auditor(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestVerdictIsTheExitCode(t *testing.T) {
	e := published(t)
	line, err := os.ReadFile(e.ledgerKey)
	if err != nil {
		t.Fatal(err)
	}
	good := []string{"verify", e.dir, "--ledger-key", e.ledgerKey, "--trust", e.producer}
	with := func(more ...string) []string { return append(good[:len(good):len(good)], more...) }
	for _, tc := range []struct {
		name string
		args []string
		code int
		out  string // a part of stdout or stderr
	}{
		{"good", good, 0, "VERIFIES  jmlbridge.internal/gov-1/ledger, 10 entries"},
		{"trust changed is named apart from other acts", good, 0, "operators' acts 0 and changes of trust 1\n"},
		{"key as a line", []string{"verify", e.dir, "--ledger-key", strings.TrimSpace(string(line)), "--trust", e.producer}, 0, "VERIFIES"},
		{"copy", with("--copy", e.copy), 0, "1 checkpoint copies"},
		{"tiles only", []string{"verify", e.dir, "--ledger-key", e.ledgerKey, "--tiles-only"}, 0, "tiles only"},
		{"another ledger's key", []string{"verify", e.dir, "--ledger-key", e.other, "--trust", e.producer}, 3, "checkpoint-bad"},
		{"no producer's key", []string{"verify", e.dir, "--ledger-key", e.ledgerKey}, 2, "--trust"},
		{"no ledger key", []string{"verify", e.dir, "--trust", e.producer}, 2, "--ledger-key"},
		{"ledger key that is none", []string{"verify", e.dir, "--ledger-key", e.producer, "--trust", e.producer}, 2, "name+hash+key"},
		{"trust that is none", []string{"verify", e.dir, "--ledger-key", e.ledgerKey, "--trust", e.ledgerKey}, 2, "card"},
		{"no such folder", []string{"verify", e.dir + "x", "--ledger-key", e.ledgerKey, "--trust", e.producer}, 1, "checkpoint"},
		{"no folder", []string{"verify"}, 2, "DIR"},
		{"unknown flag", with("--fast"), 2, "unknown flag"},
		{"unknown command", []string{"prove"}, 2, "prove"},
		{"unknown output", with("-o", "xml"), 2, "text or json"},
		{"timeline of another key", []string{"timeline", "E1004711", e.dir, "--ledger-key", e.other}, 3, "does not verify"},
		{"timeline of nobody", []string{"timeline", "E9", e.dir, "--ledger-key", e.ledgerKey}, 0, "names no subject E9"},
		{"help", []string{"verify", "--help"}, 0, "Exit codes"},
		{"help of timeline", []string{"timeline", "--help"}, 0, "0 done, also where the ledger names no such subject"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out, errs := auditor(t, tc.args...)
			if code != tc.code || !strings.Contains(out+errs, tc.out) {
				t.Errorf("want %d and %q, got %d\n%s%s", tc.code, tc.out, code, out, errs)
			}
		})
	}
}

// What a ledger's last minutes lack may be under way, and with --grace 0s is lost.
func TestGrace(t *testing.T) {
	e := published(t)
	archive := filepath.Join(e.dir, "archive")
	if err := errors.Join(os.RemoveAll(archive), os.Mkdir(archive, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		grace []string
		code  int
		out   string
	}{
		{nil, 0, "does not have yet"},
		{[]string{"--grace", "1h"}, 0, "does not have yet"},
		{[]string{"--grace", "0s"}, 3, "archive-missing"},
		{[]string{"--grace", "-1s"}, 2, "--grace"},
	} {
		code, out, errs := auditor(t, append([]string{"verify", e.dir, "--ledger-key", e.ledgerKey, "--trust", e.producer}, tc.grace...)...)
		if code != tc.code || !strings.Contains(out+errs, tc.out) {
			t.Errorf("%v: want %d and %q, got %d\n%s%s", tc.grace, tc.code, tc.out, code, out, errs)
		}
	}
}

func TestJSON(t *testing.T) {
	e := published(t)
	code, out, _ := auditor(t, "verify", e.dir, "--ledger-key", e.ledgerKey, "--trust", e.producer, "-o", "json")
	var r verify.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("%d, %v\n%s", code, err, out)
	}
	if !r.Verifies || r.Checked.Signatures != 2 || len(r.Cuts) != 1 || r.Cuts[0].Disabled == nil || r.Cuts[0].Revoked == nil || r.CutTimes.DueToDisabled.Median != 2000 {
		t.Errorf("report: %s", out)
	}
	if strings.Contains(out, "Ann") {
		t.Error("the report names a person")
	}
}

func TestTimeline(t *testing.T) {
	e := published(t)
	code, out, _ := auditor(t, "timeline", "E1004711", e.dir, "--ledger-key", e.ledgerKey)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 8 {
		t.Fatalf("want 8 lines, got %d:\n%s", len(lines), out)
	}
	for i, part := range []string{"joiner:v1", "create", "create applied", "leaver:v1", "to do: disable; because of message 1.2, left", "disable applied, request-id s-1", "revoke-sessions", "applied"} {
		if !strings.Contains(lines[i], part) {
			t.Errorf("line %d: want %q in %q", i, part, lines[i])
		}
	}
	code, out, _ = auditor(t, "timeline", "E1004711", e.dir, "--ledger-key", e.ledgerKey, "-o", "json", "--iss", issuer)
	if n := strings.Count(out, "\n"); code != 0 || n != 8 {
		t.Errorf("want 8 objects, got %d:\n%s", n, out)
	}
}

// Where two issuers have the subject id, it is asked whose timeline is meant: they are two persons.
func TestTimelineOfTwoIssuers(t *testing.T) {
	const partner = "https://hr.partner.example/jml"
	e := published(t, &entry.Alarm{Code: "cut-held", Key: "E1004711@" + partner, State: entry.AlarmRaised, Issuer: partner, Subject: "E1004711"})
	timeline := func(more ...string) (int, string, string) {
		return auditor(t, append([]string{"timeline", "E1004711", e.dir, "--ledger-key", e.ledgerKey}, more...)...)
	}
	for _, form := range []string{"text", "json"} {
		if code, out, errs := timeline("-o", form); code != exitMisused || out != "" || !strings.Contains(errs, "say which with --iss: "+partner+", "+issuer) {
			t.Errorf("%s: exit %d, %s%s", form, code, out, errs)
		}
		for iss, lines := range map[string]int{issuer: 8, partner: 1} {
			if code, out, errs := timeline("-o", form, "--iss", iss); code != exitVerifies || strings.Count(out, "\n") != lines {
				t.Errorf("%s of %s: exit %d, want %d lines\n%s%s", form, iss, code, lines, out, errs)
			}
		}
	}
}

// The help is what somebody has in hand who checks evidence once a year: every command has an example, the files in it
// are called as the page and the programs call them, and every value has a name.
func TestHelp(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range newRoot(io.Discard, io.Discard).Commands() {
		if c.Example == "" || c.Short == "" {
			t.Errorf("%s has no example or no short text", c.CommandPath())
		}
		for word := range strings.FieldsSeq(c.Example) {
			if strings.HasPrefix(word, "ledger.") && !strings.Contains(string(page), "--ledger-key "+word) {
				t.Errorf("%s: the page knows no %s", c.CommandPath(), word)
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			kind, _ := pflag.UnquoteUsage(f)
			if kind == "this" || f.Value.Type() == "duration" && kind != "time" {
				t.Errorf("%s --%s wants a %q", c.CommandPath(), f.Name, kind)
			}
		})
	}
	if code, out, _ := auditor(t, "--version"); code != exitVerifies || out != "auditor version "+program.Line()+"\n" {
		t.Errorf("--version: %d %q", code, out)
	}
	if code, _, errs := auditor(t, "timeline", "E1"); code != exitMisused || errs != "auditor: timeline: want SUBJECT DIR, got 1 argument\nRun the command with --help for its use.\n" {
		t.Errorf("one argument of two: %d %q", code, errs)
	}
}
