package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeySwitch(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	if code, _, errs := p.try("", "key", "next"); code != exitMisused || !strings.Contains(errs, "signing.next") {
		t.Errorf("without a place for it: %d %s", code, errs)
	}
	if code, _, errs := p.try("", "key", "switch", "--reason", "x"); code != exitMisused || !strings.Contains(errs, "no next key") {
		t.Errorf("without a next key: %d %s", code, errs)
	}
	signing := func(with string) {
		p.write(t, "producer.yaml", strings.Replace(template, "signing: {key: keys/signing.pem}", "signing: {"+with+"}", 1))
	}
	signing("key: keys/signing.pem, next: {key: keys/signing-2.pem, alg: EdDSA}")
	var n, again nextKey
	if err := json.Unmarshal([]byte(p.must(t, "key", "next", "-o", "json")), &n); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(p.must(t, "key", "next", "-o", "json")), &again); err != nil || again.KID != n.KID {
		t.Errorf("said again it makes another: %+v, %v", again, err)
	}
	if info, err := os.Stat(filepath.Join(p.dir, "keys", "signing-2.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if k := n.Card.Keys; len(k) != 1 || k[0].ID != n.KID || k[0].Alg != "EdDSA" || n.Card.Generation != 1 {
		t.Errorf("%+v", n.Card)
	}
	if out := p.must(t, "status"); strings.Contains(out, n.KID) {
		t.Errorf("the next key is in force before the switch:\n%s", out)
	}
	if code, _, _ := p.try("", "key", "switch"); code != exitMisused {
		t.Error("switched without a reason")
	}
	var w switched
	if err := json.Unmarshal([]byte(p.must(t, "key", "switch", "--reason", "yearly", "-o", "json")), &w); err != nil || w.KID != n.KID || len(w.Enclaves) == 0 {
		t.Fatalf("%+v %v", w, err)
	}
	for _, show := range []string{"status", "card"} {
		if out := p.must(t, show); !strings.Contains(out, n.KID) || strings.Contains(out, w.Old) {
			t.Errorf("%s shows another key than the one in force:\n%s", show, out)
		}
	}
	if code, _, errs := p.try("", "key", "switch", "--reason", "again"); code != exitMisused || !strings.Contains(errs, "in force already") {
		t.Errorf("a second switch: %d %s", code, errs)
	}
	// The old key alone is refused, by whatever would sign with it.
	signing("key: keys/signing.pem")
	if code, _, errs := p.try("", "emit", "joiner", "1", "--display-name", "A"); code != exitMisused || !strings.Contains(errs, n.KID) {
		t.Errorf("the old key alone: %d %s", code, errs)
	}
	signing("key: keys/signing-2.pem, alg: EdDSA")
	p.must(t, "card")
}

// The card of the next key that is left is the one that is shown: a recovery makes another of it.
func TestCardOfTheNextKey(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	p.write(t, "producer.yaml", strings.Replace(template, "signing: {key: keys/signing.pem}", "signing: {key: keys/signing.pem, next: {key: keys/signing-2.pem}}", 1))
	var n nextKey
	if err := json.Unmarshal([]byte(p.must(t, "key", "next", "-o", "json")), &n); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := p.try("", "recover", "--force", "--reason", "disk lost"); code != exitDone || !strings.Contains(errs, "switch again before anything else") {
		t.Errorf("of a switch that may be lost: %d %s", code, errs)
	}
	if code, _, errs := p.try("", "key", "next"); code != exitMisused || !strings.Contains(errs, n.CardFile) {
		t.Errorf("with the card of before: %d %s", code, errs)
	}
	if err := os.Remove(n.CardFile); err != nil {
		t.Fatal(err)
	}
	p.must(t, "key", "next")
	var left card
	text, err := os.ReadFile(n.CardFile)
	if err := errors.Join(err, json.Unmarshal(text, &left)); err != nil || left.Generation != 2 || left.Keys[0].ID != n.KID {
		t.Errorf("%+v %v", left, err)
	}
}

// A backup of before the last switch, whose key is destroyed as the page asks for, is recovered by the key that is configured.
func TestRecoverOfBeforeAKeySwitch(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	change := func(from, to string) (kid string) {
		t.Helper()
		p.write(t, "producer.yaml", strings.Replace(template, "{key: keys/signing.pem}", "{key: keys/"+from+".pem, next: {key: keys/"+to+".pem}}", 1))
		p.must(t, "key", "next")
		var w switched
		if err := json.Unmarshal([]byte(p.must(t, "key", "switch", "--reason", "yearly", "-o", "json")), &w); err != nil {
			t.Fatal(err)
		}
		p.write(t, "producer.yaml", strings.Replace(template, "keys/signing.pem", "keys/"+to+".pem", 1))
		if err := os.Remove(filepath.Join(p.dir, "keys", from+".pem")); err != nil {
			t.Fatal(err)
		}
		return w.KID
	}
	second := change("signing", "signing-2")
	backup := filepath.Join(t.TempDir(), "copy.db")
	p.must(t, "backup", backup, "--reason", "nightly")
	third := change("signing-2", "signing-3")
	text, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "data/producer.db", string(text))
	if code, _, errs := p.try("", "recover", "--reason", "x"); code != exitMisused || !strings.Contains(errs, second) {
		t.Errorf("with nothing that says the database is old: %d %s", code, errs)
	}
	var r recovered
	code, out, errs := p.try("", "recover", "--force", "--reason", "disk lost", "-o", "json")
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitDone || !strings.Contains(errs, second) {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	var k card
	text, err = os.ReadFile(r.CardFile)
	if err := errors.Join(err, json.Unmarshal(text, &k)); err != nil || k.Keys[0].ID != third {
		t.Errorf("%s: %+v %v", r.CardFile, k, err)
	}
	p.must(t, "emit", "joiner", "1", "--display-name", "A")
	if out := p.must(t, "status"); !strings.Contains(out, third) {
		t.Errorf("another key than the configured one is in force:\n%s", out)
	}
}

// The next key has a window of its own, or none: that of the present one may be what ends.
func TestTheWindowOfTheNextKey(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	window := func(of string) string {
		return strings.Replace(template, "{key: keys/signing.pem}", "{key: keys/signing.pem, not_before: 2026-01-01T00:00:00Z, not_after: 2027-01-01T00:00:00Z, next: {key: keys/signing-2.pem"+of+"}}", 1)
	}
	shown := func(args ...string) cardKey {
		t.Helper()
		var k struct {
			Card *card `json:"card"`
		}
		out := p.must(t, args...)
		if args[0] == "card" {
			out = `{"card": ` + out + "}"
		}
		if err := json.Unmarshal([]byte(out), &k); err != nil {
			t.Fatal(err)
		}
		return k.Card.Keys[0]
	}
	p.write(t, "producer.yaml", window(""))
	if k := shown("card"); k.NotAfter == nil || k.NotAfter.Year() != 2027 {
		t.Errorf("of the present key: %+v", k)
	}
	if k := shown("key", "next", "-o", "json"); k.NotBefore != nil || k.NotAfter != nil {
		t.Errorf("of a next key without one: %v to %v", k.NotBefore, k.NotAfter)
	}
	p.must(t, "key", "switch", "--reason", "yearly")
	p.write(t, "producer.yaml", window(", not_after: 2029-01-01T00:00:00Z"))
	if k := shown("card"); k.NotBefore != nil || k.NotAfter == nil || k.NotAfter.Year() != 2029 {
		t.Errorf("of the next key, in force: %v to %v", k.NotBefore, k.NotAfter)
	}
	p.write(t, "producer.yaml", window(", not_after: soon"))
	if code, _, errs := p.try("", "card"); code != exitMisused || !strings.Contains(errs, "want an instant") {
		t.Errorf("%d %s", code, errs)
	}
}
