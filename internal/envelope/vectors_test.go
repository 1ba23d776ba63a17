package envelope_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/keys"
)

// The vectors are law: made once, with keys that are good for nothing else. When one breaks, the code
// is wrong. testdata/README.md says how they read.

func fixedKey(t testing.TB, name string) *party {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "keys", name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.ParsePrivate(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	switch name {
	case "p256", "p384", "rsa", "elsewhere":
		return enclaveOf(t, key)
	}
	return signerOf(t, key)
}

func fixedCast(t testing.TB) *cast {
	t.Helper()
	payload, err := os.ReadFile(filepath.Join("testdata", "payload.json"))
	if err != nil {
		t.Fatal(err)
	}
	return &cast{
		es256: fixedKey(t, "es256"), es384: fixedKey(t, "es384"), eddsa: fixedKey(t, "eddsa"),
		second: fixedKey(t, "second"), stranger: fixedKey(t, "stranger"),
		p256: fixedKey(t, "p256"), p384: fixedKey(t, "p384"), rsa: fixedKey(t, "rsa"), elsewhere: fixedKey(t, "elsewhere"),
		payload: payload,
	}
}

type vector struct {
	file, note, expect string
	wire               []byte
}

func readVectors(t testing.TB, dir string) []vector {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in testdata/%s: %v", dir, err)
	}
	var list []vector
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		head, wire, ok := bytes.Cut(text, []byte("\n\n"))
		v := vector{file: f, wire: bytes.TrimSuffix(wire, []byte("\n"))}
		for line := range strings.Lines(string(head)) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch name {
			case "note":
				v.note = value
			case "expect":
				v.expect = value
			default:
				ok = false
			}
		}
		if !ok || v.note == "" || v.expect == "" {
			t.Fatalf("%s: want the lines note and expect, an empty line, and the wire bytes", f)
		}
		list = append(list, v)
	}
	return list
}

func TestAcceptedVectorsOpenToTheirPayload(t *testing.T) {
	c := fixedCast(t)
	signers, recipients := map[string]bool{}, map[string]bool{}
	for _, v := range readVectors(t, "accepted") {
		o, err := c.open(t, v.wire)
		if err != nil {
			t.Errorf("%s: %v", v.file, err)
			continue
		}
		if !bytes.Equal(o.Payload, c.payload) {
			t.Errorf("%s: opened to %q", v.file, o.Payload)
		}
		if v.expect != "opened" {
			t.Errorf("%s: opened, and the file expects %s", v.file, v.expect)
		}
		signers[o.Key.KID], recipients[o.Recipient] = true, true
	}
	if len(signers) != len(signingAlgs) || len(recipients) != len(enclaveKeys) {
		t.Errorf("want a vector for every algorithm, got %d signing and %d encryption keys", len(signers), len(recipients))
	}
}

func TestRefusedVectorsGiveTheirCode(t *testing.T) {
	c := fixedCast(t)
	seen := map[envelope.Code]bool{}
	for _, v := range readVectors(t, "refused") {
		_, err := c.open(t, v.wire)
		var e *envelope.Error
		if !errors.As(err, &e) || string(e.Code) != v.expect {
			t.Errorf("%s (%s): want %s, got %v", v.file, v.note, v.expect, err)
			continue
		}
		seen[e.Code] = true
	}
	for _, code := range []envelope.Code{envelope.CodeMalformed, envelope.CodeBadBase64, envelope.CodeForbiddenHeader, envelope.CodeBadHeader, envelope.CodeAlg,
		envelope.CodeUnsigned, envelope.CodeDecrypt, envelope.CodeForged, envelope.CodeHighS, envelope.CodeUnknownKey, envelope.CodeUnknownRecipient} {
		if !seen[code] {
			t.Errorf("no vector gives %s", code)
		}
	}
}

// Whatever opens is one of the messages that were made: nobody without the keys makes another.
func FuzzOpen(f *testing.F) {
	c := fixedCast(f)
	made := map[string]bool{}
	for _, v := range readVectors(f, "accepted") {
		f.Add(v.wire)
		made[string(v.wire)] = true
	}
	for _, v := range readVectors(f, "refused") {
		f.Add(v.wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		o, err := c.open(t, wire)
		if err == nil && (!made[string(wire)] || !bytes.Equal(o.Payload, c.payload)) {
			t.Errorf("opened what nobody made: %q", wire)
		}
		if err != nil && !isRefusal(err) {
			t.Errorf("want an *Error, got %v", err)
		}
	})
}

// FuzzVerify is FuzzOpen behind the encryption, where an attacker who knows the enclave's public key stands.
func FuzzVerify(f *testing.F) {
	c := fixedCast(f)
	made := map[string]bool{}
	for _, v := range append(readVectors(f, "accepted"), readVectors(f, "refused")...) {
		for _, ring := range []*envelope.Ring{c.p256.ring, c.p384.ring, c.rsa.ring} {
			if jws, _, err := envelope.Decrypt(v.wire, ring); err == nil {
				f.Add(jws)
				made[string(jws)] = v.expect == "opened" || made[string(jws)]
			}
		}
	}
	trust := c.trust()
	f.Fuzz(func(t *testing.T, jws []byte) {
		o, err := envelope.Verify(jws, trust)
		if err == nil && (!made[string(jws)] || !bytes.Equal(o.Payload, c.payload)) {
			t.Errorf("verified what nobody signed: %q", jws)
		}
		if err != nil && !isRefusal(err) {
			t.Errorf("want an *Error, got %v", err)
		}
	})
}
