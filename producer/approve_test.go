package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jmlbridge/producer/outbox"
	"jmlbridge/schema"
)

// A second signer has a configuration of its own: its key signs approvals, and nothing else is said by it.
func TestApprove(t *testing.T) {
	p := newPlace(t)
	text := strings.NewReplacer("stream: hr", "stream: approvals\nspeaks: approvals", "source:\n  subject: id\n  status: {column: status, active: [a], inactive: [i]}\n  person: {displayName: name, department: dept}\n", "").Replace(template)
	p.write(t, "producer.yaml", text)
	var m made
	if err := json.Unmarshal([]byte(p.must(t, "init", "-o", "json")), &m); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Card.Keys[0].Kinds, []schema.Kind{schema.KindApproval}) || m.Card.Stream != "approvals" {
		t.Errorf("%+v", m.Card)
	}
	before := p.files(t)
	for _, args := range [][]string{
		{"approve", "1", "--role", "admin"},
		{"approve", "1", "--for", "90d"},
		{"approve", "1", "--role", "admin", "--for", "90d", "--expiry", "2027-01-01T00:00:00Z"},
		{"approve", "1", "--role", "admin", "--for", "400d"},
		{"approve", "1", "--role", "admin", "--for", "-1d"},
		{"approve", "1", "--role", "Admin Role", "--for", "1d", "--wait", "0s"},
		{"emit", "joiner", "1", "--display-name", "A"},
		{"roster"},
	} {
		if code, _, errs := p.try("", args...); code != exitMisused {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
	if p.files(t) != before {
		t.Error("something was done")
	}
	var sent []outbox.Sent
	if err := json.Unmarshal([]byte(p.must(t, "approve", "4711", "--role", "admin", "--role", "a", "--role", "admin", "--for", "90d", "--ticket", "CHG-1", "--wait", "0s", "-o", "json")), &sent); err != nil ||
		len(sent) != 1 || sent[0].Kind != schema.KindApproval || sent[0].Seq != 1 || sent[0].Subject != "4711" {
		t.Errorf("%+v %v", sent, err)
	}
	// The mid-point is away: it is stored, and said so.
	if code, _, errs := p.try("", "approve", "4711", "--role", "admin", "--for", "0s", "--wait", "100ms"); code == exitDone || !strings.Contains(errs, "it is stored") {
		t.Errorf("exit %d, %s", code, errs)
	}
	if out := p.must(t, "status"); !strings.Contains(out, " 2 ") {
		t.Errorf("want two messages that wait:\n%s", out)
	}
	// After a restore its next generation begins with no roster: it has none.
	if err := os.RemoveAll(filepath.Join(p.dir, "data", "ledger")); err != nil {
		t.Fatal(err)
	}
	var r recovered
	if err := json.Unmarshal([]byte(p.must(t, "recover", "--force", "--reason", "x", "-o", "json")), &r); err != nil || r.Generation != 2 || r.Messages != 0 {
		t.Errorf("%+v %v", r, err)
	}
	// A producer of facts approves none.
	f := newPlace(t)
	f.must(t, "init")
	if code, _, errs := f.try("", "approve", "1", "--role", "admin", "--for", "1d"); code != exitMisused || !strings.Contains(errs, "speaks") {
		t.Errorf("exit %d, %s", code, errs)
	}
	f.write(t, "producer.yaml", strings.Replace(template, "stream: hr", "stream: hr\nspeaks: approvals", 1))
	if code, _, errs := f.try("", "status"); code != exitMisused || !strings.Contains(errs, "$.source") && !strings.Contains(errs, "source") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// One mid-point that is away keeps no approval, nor the end of one, from the other enclaves, and each that is away is named.
func TestApproveWithoutAMidpoint(t *testing.T) {
	p := newPlace(t)
	text := strings.NewReplacer("stream: hr", "stream: approvals\nspeaks: approvals", "source:\n  subject: id\n  status: {column: status, active: [a], inactive: [i]}\n  person: {displayName: name, department: dept}\n", "").Replace(withSecond(template, "{}"))
	p.write(t, "producer.yaml", text)
	p.must(t, "init")
	code, _, errs := p.try("", "approve", "4711", "--role", "admin", "--for", "0s", "--wait", "100ms")
	if code == exitDone || !strings.Contains(errs, "enclave GOV-1 has not confirmed") || !strings.Contains(errs, "enclave GOV-2 has not confirmed") {
		t.Errorf("exit %d, %s", code, errs)
	}
}
