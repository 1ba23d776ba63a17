package ledger

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"jmlbridge/internal/ledger/tiles"
)

// remote is a key that can be away, or go wrong.
type remote struct {
	*ecdsa.PrivateKey
	away, wrong bool
}

func (r *remote) Sign(rd io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if r.away {
		return nil, errors.New("the key store does not answer")
	}
	der, err := r.PrivateKey.Sign(rd, digest, o)
	if r.wrong {
		der[len(der)-1] ^= 1
	}
	return der, err
}

// TestSecondKey: with a second key no checkpoint leaves without its signature, and none leaves while the key
// cannot be asked or signs wrongly; what was written meanwhile is published afterwards.
func TestSecondKey(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.append(3)
	if err := w.publisher().Publish(ctx); err != nil { // before there was a second key
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := &remote{PrivateKey: ec}
	if w.c.Second, w.c.SecondVerifier, err = tiles.NewSecondSigner(w.c.Signer.Name(), key); err != nil {
		t.Fatal(err)
	}
	read := func() []byte {
		raw, err := os.ReadFile(filepath.Join(w.c.Dir, TilesFolder, tiles.CheckpointFile))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	before := read()
	w.append(2)
	p := w.publisher()
	for _, fault := range []*bool{&key.away, &key.wrong} {
		*fault = true
		if err := p.Publish(ctx); err == nil {
			t.Error("published without the second key")
		}
		if string(read()) != string(before) {
			t.Error("another checkpoint lies in the folder")
		}
		*fault = false
	}
	w.append(1)
	if err := p.Publish(ctx); err != nil {
		t.Fatal(err)
	}
	raw := read()
	if c, err := tiles.OpenCheckpoint(raw, w.c.Verifier); err != nil || c.Size != 6 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := tiles.CheckSecond(raw, w.c.SecondVerifier); err != nil {
		t.Error(err)
	}
	if err := CheckNotBehind(ctx, w.c); err != nil {
		t.Errorf("a start: %v", err)
	}
	// Signer and verifier that do not belong together, or to this ledger.
	for name, change := range map[string]func(*Config){
		"no verifier": func(c *Config) { c.SecondVerifier = nil },
		"first twice": func(c *Config) { c.Second, c.SecondVerifier = c.Signer, c.Verifier },
		"other name": func(c *Config) {
			if c.Second, c.SecondVerifier, err = tiles.NewSecondSigner("x", ec); err != nil {
				t.Fatal(err)
			}
		},
	} {
		c := w.c
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: a publisher was made", name)
		}
	}
}
