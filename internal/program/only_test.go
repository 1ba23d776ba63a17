package program

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/go-jose/go-jose/v4"
	"github.com/nats-io/nkeys"
)

// primitives are what programs of this kind use or meet, and whether fips140=only lets them. Those that are refused
// stand in consumer/README.md, each by its name here, with what is done about it.
var primitives = []struct {
	name  string
	works bool
	try   func() error
}{
	{"ECDSA on P-256 and P-384", true, func() error {
		for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
			k, err := ecdsa.GenerateKey(c, rand.Reader)
			if err != nil {
				return err
			}
			d := sha256.Sum256(nil)
			sig, err := ecdsa.SignASN1(rand.Reader, k, d[:])
			if err != nil || !ecdsa.VerifyASN1(&k.PublicKey, d[:], sig) {
				return fmt.Errorf("ECDSA: %w", err)
			}
		}
		return nil
	}},
	{"Ed25519", true, func() error {
		pub, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil || !ed25519.Verify(pub, nil, ed25519.Sign(k, nil)) {
			return fmt.Errorf("Ed25519: %w", err)
		}
		return nil
	}},
	{"ECDH on P-256", true, func() error {
		a, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		_, err = a.ECDH(a.PublicKey())
		return err
	}},
	{"RSA-OAEP-256 and PS256 with 3072 bits", true, func() error {
		k, err := rsa.GenerateKey(rand.Reader, 3072)
		if err != nil {
			return err
		}
		c, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &k.PublicKey, []byte("x"), nil)
		if err != nil {
			return err
		}
		if _, err = rsa.DecryptOAEP(sha256.New(), nil, k, c, nil); err != nil {
			return err
		}
		d := sha256.Sum256(nil)
		_, err = rsa.SignPSS(rand.Reader, k, crypto.SHA256, d[:], nil)
		return err
	}},
	{"A256CBC-HS512", true, func() error {
		b, err := aes.NewCipher(make([]byte, 32))
		if err != nil {
			return err
		}
		out := make([]byte, 16)
		cipher.NewCBCEncrypter(b, make([]byte, 16)).CryptBlocks(out, out)
		h := hmac.New(sha512.New, make([]byte, 32))
		h.Write(out)
		h.Sum(nil)
		return nil
	}},
	{"TLS", true, func() error {
		s := httptest.NewTLSServer(http.NotFoundHandler())
		defer s.Close()
		resp, err := s.Client().Get(s.URL)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}},
	{"nkeys of NATS", true, func() error {
		k, err := nkeys.CreateUser()
		if err != nil {
			return err
		}
		_, err = k.Sign([]byte("nonce"))
		return err
	}},
	{"AMQP over WebSockets", false, func() error {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fips140.WithoutEnforcement(func() { _, _ = websocket.Accept(w, r, nil) }) // the other side is no concern of ours
		}))
		defer s.Close()
		_, _, err := websocket.Dial(context.Background(), s.URL, nil)
		return err
	}},
	{"SHA-1", false, func() error { sha1.Sum(nil); return nil }},
	{"RSA keys below 2048 bits", false, func() error { _, err := rsa.GenerateKey(rand.Reader, 1024); return err }},
	{"X25519", false, func() error { _, err := ecdh.X25519().GenerateKey(rand.Reader); return err }},
	{"A256GCM of JOSE", false, func() error {
		e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: make([]byte, 32)}, nil)
		if err == nil {
			_, err = e.Encrypt([]byte("x"))
		}
		return err
	}},
	{"HMAC keys below 112 bits", false, func() error {
		h := hmac.New(sha256.New, []byte("short"))
		h.Write(nil)
		h.Sum(nil)
		return nil
	}},
}

// TestOnly tries each under fips140=only, which is read at a process's start.
func TestOnly(t *testing.T) {
	if os.Getenv("PROGRAM_TEST_ONLY") != "" {
		if !fips140.Enforced() {
			t.Fatal("not enforced")
		}
		for _, p := range primitives {
			err := func() (err error) {
				defer func() {
					if r := recover(); r != nil {
						err = fmt.Errorf("panic: %v", r)
					}
				}()
				return p.try()
			}()
			if p.works != (err == nil) {
				t.Errorf("%s: %v, and the table says that it works: %v", p.name, err, p.works)
			}
			if err != nil && !p.works && !strings.Contains(err.Error(), "FIPS 140-only") {
				t.Errorf("%s fails for another reason: %v", p.name, err)
			}
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestOnly$")
	cmd.Env = append(os.Environ(), "PROGRAM_TEST_ONLY=1", "GODEBUG=fips140=only")
	if out, err := cmd.CombinedOutput(); err != nil {
		var exit *exec.ExitError
		t.Errorf("%v (%v)\n%s", err, errors.As(err, &exit), out)
	}
	page, err := os.ReadFile("../../consumer/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range primitives {
		if !p.works && !bytes.Contains(page, []byte("| "+p.name+" |")) {
			t.Errorf("consumer/README.md has no row for %s", p.name)
		}
	}
}
