package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func TestThumbprintsOfTheRFCs(t *testing.T) {
	raw := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	n := "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W" +
		"-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyr" +
		"dkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	for _, c := range []struct {
		name, want string
		pub        crypto.PublicKey
	}{
		{"RFC 7638 section 3.1", "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", &rsa.PublicKey{N: new(big.Int).SetBytes(raw(n)), E: 65537}},
		{"RFC 8037 appendix A.3", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", ed25519.PublicKey(raw("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))},
	} {
		if got, err := thumbprint(c.pub); err != nil || got != c.want {
			t.Errorf("%s: want %s, got %s, %v", c.name, c.want, got, err)
		}
	}
}

func TestFilesKeepKeys(t *testing.T) {
	dir := t.TempDir()
	generate := map[string]func() (crypto.Signer, error){
		"ES256": func() (crypto.Signer, error) { return GenerateSigning(ES256) },
		"ES384": func() (crypto.Signer, error) { return GenerateSigning(ES384) },
		"EdDSA": func() (crypto.Signer, error) { return GenerateSigning(EdDSA) },
		P256:    func() (crypto.Signer, error) { return GenerateDecryption(P256) },
		P384:    func() (crypto.Signer, error) { return GenerateDecryption(P384) },
		RSA3072: func() (crypto.Signer, error) { return GenerateDecryption(RSA3072) },
	}
	readers := map[string]func(string) (crypto.Signer, error){
		"signing":    ReadSigning,
		"decryption": ReadDecryption,
		"ledger":     func(p string) (crypto.Signer, error) { return ReadLedger(p) },
	}
	serves := map[string]string{"ES256": "signing decryption", "ES384": "signing decryption", "EdDSA": "signing ledger",
		P256: "signing decryption", P384: "signing decryption", RSA3072: "decryption"}
	for kind, make := range generate {
		key, err := make()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, kind+".key")
		if err := WritePrivate(path, key); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", kind, info.Mode(), err)
		}
		for use, read := range readers {
			got, err := read(path)
			if want := strings.Contains(serves[kind], use); want != (err == nil) {
				t.Errorf("%s read as %s key: %v", kind, use, err)
			} else if want && !got.(interface{ Equal(crypto.PrivateKey) bool }).Equal(key) {
				t.Errorf("%s: another key came back", kind)
			} else if !want && !strings.Contains(err.Error(), path) {
				t.Errorf("%s: the error does not name the file: %v", kind, err)
			}
		}
		if err := WritePublic(path+".pub", key.Public()); err != nil {
			t.Fatal(err)
		}
		pub, err := ReadPublic(path + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		was, _ := ID(key.Public())
		if is, err := ID(pub); err != nil || is != was || len(is) != 43 {
			t.Errorf("%s: id %q became %q, %v", kind, was, is, err)
		}
	}
	if _, err := GenerateSigning("RS256"); err == nil {
		t.Error("a key for RS256 was made")
	}
	if _, err := GenerateDecryption("RSA-1024"); err == nil {
		t.Error("an RSA-1024 key was made")
	}
}

func TestKeysAreNeverOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.key")
	first, err := GenerateLedger()
	if err != nil {
		t.Fatal(err)
	}
	second, err := GenerateLedger()
	if err != nil {
		t.Fatal(err)
	}
	if err := WritePrivate(path, first); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{WritePrivate(path, second), WritePublic(path, second.Public())} {
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("want an error that it exists, got %v", err)
		}
	}
	if got, err := ReadLedger(path); err != nil || !got.Equal(first) {
		t.Errorf("the first key is gone: %v", err)
	}
	if err := WritePrivate(filepath.Join(path, "sub"), first); err == nil {
		t.Error("wrote below a file")
	}
}

func TestFilesThatOthersCanReadAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.key")
	key, err := GenerateLedger()
	if err != nil {
		t.Fatal(err)
	}
	if err := WritePrivate(path, key); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o644, 0o601, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadLedger(path)
		if err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) || !strings.Contains(err.Error(), fmt.Sprintf("mode %04o", mode)) {
			t.Errorf("mode %04o: want an error with the mode and what to do, got %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o400, 0o600} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadLedger(path); err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestBadFilesAreRefused(t *testing.T) {
	key, err := GenerateSigning(ES256)
	if err != nil {
		t.Fatal(err)
	}
	good, err := MarshalPrivate(key)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := MarshalPublic(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224PEM, err := MarshalPrivate(p224)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	smallPEM, err := MarshalPrivate(small)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	block.Headers = map[string]string{"Proc-Type": "4,ENCRYPTED"}
	for _, c := range []struct{ name, want, text string }{
		{"empty", "empty", ""},
		{"no PEM", "no PEM", "secret"},
		{"public key", "PUBLIC KEY", string(pub)},
		{"SEC 1", "openssl pkcs8", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))},
		{"certificate", "CERTIFICATE", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sec1}))},
		{"two keys", "follow", string(good) + string(good)},
		{"text behind", "follow", string(good) + "x"},
		{"text before", "before", "x\n" + string(good)},
		{"a broken key before", "before", "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n" + string(good)},
		{"a key cut short before", "before", string(good[:len(good)/2]) + "\n" + string(good)},
		{"headers", "without headers", string(pem.EncodeToMemory(block))},
		{"garbage inside", "read the private key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))},
		{"P-224", "P-256", string(p224PEM)},
		{"RSA 2048", "3072", string(smallPEM)},
		{"huge", "more than 65536 octets", strings.Repeat("x", maxFile+1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.key")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadDecryption(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("want an error with %q and the file, got %v", c.want, err)
			}
		})
	}
	if _, err := ReadSigning(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: got %v", err)
	}
	if _, err := ReadSigning(t.TempDir()); err == nil {
		t.Error("read a directory")
	}
	if _, err := ParsePublic(good); err == nil {
		t.Errorf("a private key as a public one: got %v", err)
	}
}

func TestLedgerKeysSignNotes(t *testing.T) {
	key, err := GenerateLedger()
	if err != nil {
		t.Fatal(err)
	}
	const name = "jmlbridge.internal/gov-1/ledger"
	signer, err := LedgerSigner(name, key)
	if err != nil {
		t.Fatal(err)
	}
	line, err := LedgerVerifierKey(name, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := LedgerVerifier(line)
	if err != nil {
		t.Fatal(err)
	}
	text, err := note.Sign(&note.Note{Text: name + "\n1\nAAAA\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(text, note.VerifierList(verifier)); err != nil {
		t.Errorf("the note does not open: %v", err)
	}
	for _, bad := range []string{"", "a b", "a+b"} {
		if _, err := LedgerVerifierKey(bad, key.Public().(ed25519.PublicKey)); err == nil {
			t.Errorf("name %q was taken", bad)
		}
		if _, err := LedgerSigner(bad, key); err == nil {
			t.Errorf("name %q was taken", bad)
		}
	}
	if _, err := LedgerSigner(name, nil); err == nil {
		t.Error("signed without a key")
	}
	if _, err := LedgerVerifier("x"); err == nil {
		t.Error("a verifier key line of one letter was taken")
	}
}

func FuzzParse(f *testing.F) {
	key, err := GenerateSigning(ES256)
	if err != nil {
		f.Fatal(err)
	}
	private, err := MarshalPrivate(key)
	if err != nil {
		f.Fatal(err)
	}
	public, err := MarshalPublic(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(private)
	f.Add(public)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, err := ParsePrivate(data); err == nil {
			if _, err := MarshalPrivate(key); err != nil {
				t.Errorf("read, and cannot be written: %v", err)
			}
		}
		if pub, err := ParsePublic(data); err == nil {
			if _, err := ID(pub); err != nil {
				t.Errorf("read, and has no id: %v", err)
			}
		}
	})
}
