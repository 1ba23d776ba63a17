package envelope_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/keys"
	"jmlbridge/schema"
)

func TestCheckHoldsWindowAndKinds(t *testing.T) {
	from := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	to := time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)
	hr := []schema.Kind{schema.KindJoiner, schema.KindLeaver}
	for _, c := range []struct {
		name   string
		key    envelope.TrustedKey
		at     time.Time
		kind   schema.Kind
		want   envelope.Code
		parked bool
	}{
		{name: "zero value", key: envelope.TrustedKey{}, at: from, kind: schema.KindLeaver, want: envelope.CodeKind},
		{name: "no window", key: envelope.TrustedKey{Kinds: hr}, at: from, kind: schema.KindLeaver},
		{name: "other kind", key: envelope.TrustedKey{Kinds: hr}, at: from, kind: schema.KindRoster, want: envelope.CodeKind},
		{name: "first instant", key: envelope.TrustedKey{Kinds: hr, NotBefore: from, NotAfter: to}, at: from, kind: schema.KindLeaver},
		{name: "last instant", key: envelope.TrustedKey{Kinds: hr, NotBefore: from, NotAfter: to}, at: to, kind: schema.KindLeaver},
		{name: "before", key: envelope.TrustedKey{Kinds: hr, NotBefore: from, NotAfter: to}, at: from.Add(-1), kind: schema.KindLeaver, want: envelope.CodeKeyWindow, parked: true},
		{name: "after", key: envelope.TrustedKey{Kinds: hr, NotBefore: from, NotAfter: to}, at: to.Add(1), kind: schema.KindLeaver, want: envelope.CodeKeyWindow, parked: true},
		{name: "after, other kind: refused, not parked", key: envelope.TrustedKey{Kinds: hr, NotAfter: to}, at: to.Add(1), kind: schema.KindMover, want: envelope.CodeKind},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.key.Check(c.at, c.kind)
			if codeOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Fatalf("want %q, got %v", c.want, err)
			}
			if err != nil && err.(*envelope.Error).Parked() != c.parked {
				t.Errorf("parked is %v", !c.parked)
			}
		})
	}
}

func TestRetiredKeyIsGoodUpToItsPosition(t *testing.T) {
	k := envelope.TrustedKey{}
	if !k.GoodAt(1, 1) || !k.GoodAt(9, schema.MaxSeq) {
		t.Error("a key in use is not good")
	}
	k.Retired = &envelope.Point{Generation: 2, Seq: 100}
	for _, c := range []struct {
		generation int
		seq        uint64
		want       bool
	}{{1, 1, true}, {1, 5000, true}, {2, 99, true}, {2, 100, true}, {2, 101, false}, {3, 1, false}} {
		if got := k.GoodAt(c.generation, c.seq); got != c.want {
			t.Errorf("generation %d seq %d: want %v, got %v", c.generation, c.seq, c.want, got)
		}
	}
}

func TestTrustedKeyPinsItsAlgorithm(t *testing.T) {
	for _, alg := range signingAlgs {
		p := newSigner(t, alg)
		k := p.trust.Verifier(p.kid)
		if k == nil || k.Alg != alg || k.KID != p.kid || len(k.Kinds) != 0 {
			t.Errorf("%s: got %+v", alg, k)
		}
	}
	if _, err := envelope.NewTrustedKey(newEnclave(t, keys.RSA3072).key.Public()); err == nil {
		t.Error("an RSA key was taken for signing")
	}
}

func TestSpecificationListsEveryCode(t *testing.T) {
	spec, err := os.ReadFile(filepath.Join("..", "..", "schema", "envelope.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []envelope.Code{envelope.CodeTooLarge, envelope.CodeMalformed, envelope.CodeBadBase64, envelope.CodeForbiddenHeader,
		envelope.CodeBadHeader, envelope.CodeAlg, envelope.CodeUnsigned, envelope.CodeDecrypt, envelope.CodeForged, envelope.CodeHighS,
		envelope.CodeKind, envelope.CodeRetired, envelope.CodeUnknownKey, envelope.CodeUnknownRecipient, envelope.CodeKeyWindow} {
		fate := "refused"
		if (&envelope.Error{Code: code}).Parked() {
			fate = "parked"
		}
		if row := "| `" + string(code) + "` | " + fate + " |"; !strings.Contains(string(spec), row) {
			t.Errorf("schema/envelope.md section 7 has no row %q", row)
		}
	}
}
