package verify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"jmlbridge/internal/ledger/tiles"
)

// TestSecondKey: a ledger whose second key was given does not verify by the first alone.
func TestSecondKey(t *testing.T) {
	w := newWorld(t).begin().publish()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := w.options()
	if o.SecondKey, err = tiles.SecondVerifierKey(origin, &key.PublicKey); err != nil {
		t.Fatal(err)
	}
	wants(t, w.verify(o), "second-missing") // signed by the first alone
	first, v1, err := tiles.NewSigner(origin, ledgerSeed)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tiles.OpenCheckpoint(w.readCheckpoint(), v1)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(by *ecdsa.PrivateKey) []byte {
		second, _, err := tiles.NewSecondSigner(origin, by)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := tiles.Sign(c, first, second)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	put := func(raw []byte) {
		if err := os.WriteFile(filepath.Join(w.dir, "tiles", "checkpoint"), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old, both := w.readCheckpoint(), sign(key)
	put(both)
	o.Copies = []Copy{{"before the second key", old}, {"after", both}}
	r := w.verify(o)
	wants(t, r)
	var text strings.Builder
	if err := r.WriteText(&text); err != nil || !r.Ledger.Second || r.Checked.Copies != 2 || !strings.Contains(text.String(), "by its second key") {
		t.Errorf("%v, %+v\n%s", err, r.Ledger, text.String())
	}
	wants(t, w.verify(w.options())) // who was not given the second key reads by the first

	// The second line is of the right name and id, and does not verify.
	n, err := note.Open(both, note.VerifierList(v1))
	if err != nil || len(n.UnverifiedSigs) != 1 {
		t.Fatalf("%+v, %v", n, err)
	}
	line := n.UnverifiedSigs[0].Base64
	another := "A" // in the place of a digit of its base64
	if line[20] == 'A' {
		another = "B"
	}
	forged := strings.Replace(string(both), line, line[:20]+another+line[21:], 1)
	put([]byte(forged))
	o.Copies = []Copy{{"forged", []byte(forged)}}
	wants(t, w.verify(o), "second-missing", "copy-bad")
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	put(sign(other))
	o.Copies = nil
	wants(t, w.verify(o), "second-missing")

	for _, bad := range []string{"x", o.LedgerKey} {
		o := w.options()
		o.SecondKey = bad
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("took %q", bad)
		}
	}
	if o.SecondKey, err = tiles.SecondVerifierKey("another", &key.PublicKey); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "both of one ledger") {
		t.Errorf("%v", err)
	}
}
