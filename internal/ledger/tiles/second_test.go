package tiles

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"strings"
	"testing"

	stock "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

const secondOrigin = "jmlbridge.internal/gov-1/ledger"

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestSecondSignature: a checkpoint of both keys is read by the first alone, as stock tools do, and by the
// second, by us and by a verifier that we did not write.
func TestSecondSignature(t *testing.T) {
	_, first, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s1, v1, err := NewSigner(secondOrigin, first)
	if err != nil {
		t.Fatal(err)
	}
	key := p256(t)
	s2, v2, err := NewSecondSigner(secondOrigin, key)
	if err != nil {
		t.Fatal(err)
	}
	line, err := SecondVerifierKey(secondOrigin, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{Size: 3, Root: [32]byte{1}}
	both, err := Sign(c, s1, s2)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenCheckpoint(both, v1); err != nil || got != c {
		t.Errorf("by the first key: %+v, %v", got, err)
	}
	if err := CheckSecond(both, v2); err != nil {
		t.Error(err)
	}
	foreign, err := stock.NewVerifier(line)
	if err != nil {
		t.Fatalf("the stock verifier does not take the line: %v", err)
	}
	n, err := note.Open(both, note.VerifierList(v1, foreign))
	if err != nil || len(n.Sigs) != 2 || len(n.UnverifiedSigs) != 0 || n.Sigs[0].Hash != v1.KeyHash() {
		t.Errorf("by the stock verifier: %+v, %v", n, err)
	}
	alone, err := Sign(c, s1)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(both)), "\n")
	altered := strings.Replace(string(both), "\n3\n", "\n4\n", 1)
	for name, raw := range map[string]string{"no second": string(alone), "altered text": altered, "huge": string(both) + strings.Repeat("x", MaxCheckpoint),
		"another's": strings.Replace(string(both), lines[len(lines)-1], "", 1)} {
		if err := CheckSecond([]byte(raw), v2); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, other, err := NewSecondSigner(secondOrigin, p256(t)); err != nil || CheckSecond(both, other) == nil {
		t.Errorf("another key was taken: %v", err)
	}
}

func TestSecondKeys(t *testing.T) {
	key := p256(t)
	line, err := SecondVerifierKey(secondOrigin, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(line, "+", 3)
	other, err := SecondVerifierKey(secondOrigin, &p256(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "x", parts[0] + "+" + parts[1], "+" + parts[1] + "+" + parts[2], "a b+" + parts[1] + "+" + parts[2],
		parts[0] + "+00000000+" + parts[2], parts[0] + "+" + parts[1] + "+" + strings.SplitN(other, "+", 3)[2], parts[0] + "+" + parts[1] + "+AQ==", line + "\n"} {
		if _, err := NewSecondVerifier(bad); err == nil {
			t.Errorf("took %q", bad)
		}
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []crypto.Signer{large, edwards} {
		if _, _, err := NewSecondSigner(secondOrigin, k); err == nil {
			t.Errorf("a %T was taken", k)
		}
	}
	for _, origin := range []string{"", "a b", "a+b"} {
		if _, _, err := NewSecondSigner(origin, key); err == nil {
			t.Errorf("origin %q was taken", origin)
		}
	}
}

// away is a key store that does not answer.
type away struct{ *ecdsa.PrivateKey }

func (away) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, io.ErrUnexpectedEOF
}

// TestSecondKeyAway: no checkpoint comes of it.
func TestSecondKeyAway(t *testing.T) {
	_, first, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s1, _, err := NewSigner(secondOrigin, first)
	if err != nil {
		t.Fatal(err)
	}
	s2, _, err := NewSecondSigner(secondOrigin, away{p256(t)})
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := Sign(Checkpoint{}, s1, s2); err == nil || raw != nil {
		t.Errorf("%q, %v", raw, err)
	}
}

// FuzzSecondVerifier: whatever is taken is spelt in the one way.
func FuzzSecondVerifier(f *testing.F) {
	key := p256(f)
	line, err := SecondVerifierKey(secondOrigin, &key.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Fuzz(func(t *testing.T, s string) {
		v, err := NewSecondVerifier(s)
		if err != nil {
			return
		}
		if again, err := SecondVerifierKey(v.Name(), v.(*ecdsaVerifier).key); err != nil || again != s {
			t.Errorf("%q reads as %q, %v", s, again, err)
		}
	})
}
