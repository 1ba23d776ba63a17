package envelope_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/schema"
)

var (
	signingAlgs = []keys.Alg{keys.ES256, keys.ES384, keys.EdDSA}
	enclaveKeys = []string{keys.P256, keys.P384, keys.RSA3072}
)

func TestSealedOpens(t *testing.T) {
	payload := bytes.Repeat([]byte("p"), schema.SizeClass)
	for _, kind := range enclaveKeys {
		to := newEnclave(t, kind)
		for _, alg := range signingAlgs {
			from := newSigner(t, alg)
			m, err := seal.Seal(payload, from.signer, to.recipient)
			if err != nil {
				t.Fatal(err)
			}
			o, err := envelope.Open(m.Wire, to.ring, from.trust)
			if err != nil {
				t.Fatalf("%s to %s: %v", alg, kind, err)
			}
			if !bytes.Equal(o.Payload, payload) || !bytes.Equal(o.JWS, m.JWS) {
				t.Errorf("%s to %s: opened to something else", alg, kind)
			}
			if o.WireDigest != schema.DigestOf(m.Wire) || o.PayloadDigest != schema.DigestOf(payload) || o.Key.KID != from.signer.KID() || o.Recipient != to.kid {
				t.Errorf("%s to %s: wrong digests or keys: %+v", alg, kind, o)
			}
			archived, err := envelope.Verify(o.JWS, from.trust)
			if err != nil || !bytes.Equal(archived.Payload, payload) {
				t.Errorf("%s: the archived message does not verify: %v", alg, err)
			}
		}
	}
}

// Every message in FIPS mode as strict as Go has it: anything outside the module would panic or fail.
func TestSealedOpensWithFIPSEnforced(t *testing.T) {
	if strings.Contains(os.Getenv("GODEBUG"), "fips140=only") {
		t.Skip("this process enforces FIPS already")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestSealedOpens$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestSealedOpens")) {
		t.Errorf("under fips140=only: %v\n%s", err, out)
	}
}

// go-jose is the other implementation: each side opens what the other made.
func TestAgreesWithGoJose(t *testing.T) {
	payload := []byte(`{"iss":"https://iam.example/jml"}`)
	for _, kind := range enclaveKeys {
		to := newEnclave(t, kind)
		keyAlg, err := keys.EncryptionAlg(to.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		for _, alg := range signingAlgs {
			from := newSigner(t, alg)

			// theirs opens ours
			m, err := seal.Seal(payload, from.signer, to.recipient)
			if err != nil {
				t.Fatal(err)
			}
			e, err := jose.ParseEncryptedCompact(string(m.Wire), []jose.KeyAlgorithm{jose.KeyAlgorithm(keyAlg)}, []jose.ContentEncryption{jose.A256CBC_HS512})
			if err != nil {
				t.Fatal(err)
			}
			jws, err := e.Decrypt(to.key)
			if err != nil {
				t.Fatalf("go-jose does not decrypt %s: %v", kind, err)
			}
			s, err := jose.ParseSignedCompact(string(jws), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.Verify(from.key.Public()); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("go-jose does not verify %s: %v", alg, err)
			}

			// ours opens theirs, once its s is low; that it may be high is why we check
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: jose.JSONWebKey{Key: from.key, KeyID: from.kid}},
				(&jose.SignerOptions{}).WithType("secevent+jwt"))
			if err != nil {
				t.Fatal(err)
			}
			enc, err := jose.NewEncrypter(jose.A256CBC_HS512, jose.Recipient{Algorithm: jose.KeyAlgorithm(keyAlg), Key: to.key.Public(), KeyID: to.kid},
				(&jose.EncrypterOptions{}).WithContentType("JWT"))
			if err != nil {
				t.Fatal(err)
			}
			var e2 *envelope.Error
			for high := 0; ; high++ {
				o, err := envelope.Open(goJoseSeal(t, signer, enc, payload), to.ring, from.trust)
				if errors.As(err, &e2) && e2.Code == envelope.CodeHighS && high < 100 {
					continue // one in two
				}
				if err != nil || !bytes.Equal(o.Payload, payload) {
					t.Errorf("we do not open go-jose's %s to %s: %v", alg, kind, err)
				}
				break
			}
		}
	}
}

func goJoseSeal(t *testing.T, signer jose.Signer, enc jose.Encrypter, payload []byte) []byte {
	t.Helper()
	s, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	e, err := enc.Encrypt([]byte(jws))
	if err != nil {
		t.Fatal(err)
	}
	wire, err := e.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(wire)
}

func TestNoChangedOctetOpens(t *testing.T) {
	from := newSigner(t, keys.ES256)
	for _, kind := range []string{keys.P256, keys.RSA3072} {
		to := newEnclave(t, kind)
		m, err := seal.Seal([]byte(`{"iss":"https://iam.example/jml"}`), from.signer, to.recipient)
		if err != nil {
			t.Fatal(err)
		}
		step := 1
		if kind == keys.RSA3072 {
			step = 7 // a private RSA operation each
		}
		for i := 0; i < len(m.Wire); i += step {
			for _, bit := range []byte{0x01, 0x20} {
				w := bytes.Clone(m.Wire)
				w[i] ^= bit
				if _, err := envelope.Open(w, to.ring, from.trust); !isRefusal(err) {
					t.Fatalf("%s: octet %d of %d changed by %#x: want an *Error, got %v", kind, i, len(w), bit, err)
				}
			}
		}
	}
	m, err := from.signer.Sign([]byte(`{"iss":"https://iam.example/jml"}`))
	if err != nil {
		t.Fatal(err)
	}
	for i := range m {
		for _, bit := range []byte{0x01, 0x20} {
			j := bytes.Clone(m)
			j[i] ^= bit
			if _, err := envelope.Verify(j, from.trust); !isRefusal(err) {
				t.Fatalf("octet %d of the JWS changed by %#x: want an *Error, got %v", i, bit, err)
			}
		}
	}
}

func TestNoTruncatedMessageOpens(t *testing.T) {
	from, to := newSigner(t, keys.ES256), newEnclave(t, keys.P256)
	m, err := seal.Seal([]byte(`{"iss":"https://iam.example/jml"}`), from.signer, to.recipient)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Wire {
		if _, err := envelope.Open(m.Wire[:i], to.ring, from.trust); !isRefusal(err) {
			t.Fatalf("cut to %d octets: want an *Error, got %v", i, err)
		}
		if _, err := envelope.Open(m.Wire[len(m.Wire)-i:], to.ring, from.trust); !isRefusal(err) {
			t.Fatalf("the last %d octets: want an *Error, got %v", i, err)
		}
	}
	for i := range m.JWS {
		if _, err := envelope.Verify(m.JWS[:i], from.trust); !isRefusal(err) {
			t.Fatalf("JWS cut to %d octets: want an *Error, got %v", i, err)
		}
	}
	for _, more := range []string{".", "A", "=", "\n", " "} {
		if _, err := envelope.Open(append(bytes.Clone(m.Wire), more...), to.ring, from.trust); !isRefusal(err) {
			t.Fatalf("%q appended: want an *Error, got %v", more, err)
		}
	}
}

func isRefusal(err error) bool {
	var e *envelope.Error
	return errors.As(err, &e)
}

func codeOf(err error) envelope.Code {
	var e *envelope.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Another enclave's operator can take a message meant for it, and encrypt the producer's signed words
// to us. The envelope opens: who it was for stands in the signed payload, and admission reads it there.
func TestOtherEnclavesMessageKeepsItsAudience(t *testing.T) {
	from, theirs, ours := newSigner(t, keys.ES256), newEnclave(t, keys.P256), newEnclave(t, keys.P256)
	payload := []byte(`{"iss":"https://iam.example/jml","aud":"urn:jmlbridge:enclave:theirs"}`)
	m, err := seal.Seal(payload, from.signer, theirs.recipient)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := envelope.Open(m.Wire, ours.ring, from.trust); codeOf(err) != envelope.CodeUnknownRecipient {
		t.Errorf("their message as it is: want %s, got %v", envelope.CodeUnknownRecipient, err)
	}
	jws, _, err := envelope.Decrypt(m.Wire, theirs.ring)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ours.recipient.Encrypt(jws)
	if err != nil {
		t.Fatal(err)
	}
	o, err := envelope.Open(again, ours.ring, from.trust)
	if err != nil || !bytes.Equal(o.Payload, payload) {
		t.Errorf("encrypted again to us: want the payload with its audience unchanged, got %v", err)
	}
}

func TestTwoKeyGenerations(t *testing.T) {
	from, old, next, other := newSigner(t, keys.ES256), newEnclave(t, keys.P256), newEnclave(t, keys.RSA3072), newEnclave(t, keys.P384)
	ring, err := envelope.NewRing(old.key, next.key)
	if err != nil {
		t.Fatal(err)
	}
	if ids := ring.KIDs(); len(ids) != 2 || ids[0] != old.recipient.KID() || ids[1] != next.recipient.KID() {
		t.Errorf("the ring holds %v", ids)
	}
	for _, to := range []*party{old, next} {
		m, err := seal.Seal([]byte("{}"), from.signer, to.recipient)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := envelope.Open(m.Wire, ring, from.trust); err != nil {
			t.Errorf("to key %s: %v", to.kid, err)
		}
	}
	if _, err := envelope.NewRing(old.key, next.key, other.key); err == nil {
		t.Error("a ring of three keys was made")
	}
	if _, err := envelope.NewRing(old.key, old.key); err == nil {
		t.Error("a ring with one key twice was made")
	}
	if _, err := envelope.NewRing(); err == nil {
		t.Error("a ring without a key was made")
	}
	if _, err := envelope.NewRing(from.key, newSigner(t, keys.EdDSA).key); err == nil {
		t.Error("a ring with an Ed25519 key was made")
	}
	m, err := seal.Seal([]byte("{}"), from.signer, other.recipient)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*envelope.Ring{ring, {}, nil} {
		if _, err := envelope.Open(m.Wire, r, from.trust); codeOf(err) != envelope.CodeUnknownRecipient {
			t.Errorf("want %s, got %v", envelope.CodeUnknownRecipient, err)
		}
	}
}

// remote is an RSA key in a key store that answers as it likes.
type remote struct {
	*rsa.PrivateKey
	err error
	cek []byte
}

func (r remote) Decrypt(rnd io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if r.err != nil || r.cek != nil {
		return r.cek, r.err
	}
	return r.PrivateKey.Decrypt(rnd, msg, opts)
}

func TestKeyStoreThatFailsRefusesNothing(t *testing.T) {
	from, to := newSigner(t, keys.ES256), newEnclave(t, keys.RSA3072)
	m, err := seal.Seal([]byte("{}"), from.signer, to.recipient)
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("the vault does not answer")
	for _, c := range []struct {
		name string
		key  remote
		want envelope.Code
		err  error
	}{
		{name: "answers", key: remote{}},
		{name: "is down", key: remote{err: down}, err: down},
		{name: "refuses the ciphertext", key: remote{err: rsa.ErrDecryption}, want: envelope.CodeDecrypt},
		{name: "gives a short key", key: remote{cek: make([]byte, 16)}, want: envelope.CodeDecrypt},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.key.PrivateKey = to.key.(*rsa.PrivateKey)
			ring, err := envelope.NewRing(c.key)
			if err != nil {
				t.Fatal(err)
			}
			_, err = envelope.Open(m.Wire, ring, from.trust)
			if codeOf(err) != c.want || (err == nil) != (c.want == "" && c.err == nil) || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("want code %q and error %v, got %v", c.want, c.err, err)
			}
		})
	}
}

// A key that is known to be away is not asked, and its messages get the error that is known. What can be refused without it is,
// and the ring it was made of asks.
func TestAKeyThatIsNotAsked(t *testing.T) {
	from, to := newSigner(t, keys.ES256), newEnclave(t, keys.RSA3072)
	m, err := seal.Seal([]byte("{}"), from.signer, to.recipient)
	if err != nil {
		t.Fatal(err)
	}
	why := &envelope.UnaskedError{KID: to.kid, Err: errors.New("the vault does not answer")}
	rest := to.ring.Without(&envelope.UnaskedError{KID: "another"})
	for _, c := range []struct {
		ring *envelope.Ring
		away bool
	}{{rest, false}, {rest.Without(why), true}, {rest, false}, {to.ring, false}} {
		var got *envelope.UnaskedError
		if _, err := envelope.Open(m.Wire, c.ring, from.trust); (err != nil) != c.away || errors.As(err, &got) && got != why {
			t.Errorf("away %v: got %v", c.away, err)
		}
	}
	parts := bytes.Split(m.Wire, []byte("."))
	parts[1] = []byte(base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{255}, 3072/8))) // no number below the modulus
	if _, err := envelope.Open(bytes.Join(parts, []byte(".")), to.ring.Without(why), from.trust); codeOf(err) != envelope.CodeDecrypt {
		t.Errorf("want %s of what no key opens, got %v", envelope.CodeDecrypt, err)
	}
	if (*envelope.Ring)(nil).Without(why) != nil {
		t.Error("no ring is still none")
	}
}

// faulty is a signing key whose answers are changed on the way.
type faulty struct {
	crypto.Signer
	change func(sig []byte, err error) ([]byte, error)
}

func (f faulty) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return f.change(f.Signer.Sign(r, digest, o))
}

func TestFaultySigningKeySendsNothing(t *testing.T) {
	for _, alg := range signingAlgs {
		for name, change := range map[string]func([]byte, error) ([]byte, error){
			"error":   func([]byte, error) ([]byte, error) { return nil, errors.New("the vault does not answer") },
			"empty":   func([]byte, error) ([]byte, error) { return nil, nil },
			"altered": func(s []byte, err error) ([]byte, error) { s[len(s)-1] ^= 1; return s, err },
			"longer":  func(s []byte, err error) ([]byte, error) { return append(s, 0), err },
		} {
			s, err := seal.NewSigner(faulty{newSigner(t, alg).key, change})
			if err != nil {
				t.Fatal(err)
			}
			if jws, err := s.Sign([]byte("{}")); err == nil || jws != nil {
				t.Errorf("%s, %s: want an error and nothing signed, got %q", alg, name, jws)
			}
		}
	}
}

func TestSealRefusesWhatWouldNotOpen(t *testing.T) {
	from, to := newSigner(t, keys.ES384), newEnclave(t, keys.RSA3072)
	big := make([]byte, schema.MaxPayload)
	m, err := seal.Seal(big, from.signer, to.recipient)
	if err != nil {
		t.Fatalf("the largest payload: %v", err)
	}
	if _, err := envelope.Open(m.Wire, to.ring, from.trust); err != nil {
		t.Errorf("the largest payload does not open: %v", err)
	}
	for _, size := range []int{0, schema.MaxPayload + 1} {
		if _, err := seal.Seal(make([]byte, size), from.signer, to.recipient); err == nil {
			t.Errorf("a payload of %d octets was sealed", size)
		}
	}
	if _, err := to.recipient.Encrypt(make([]byte, schema.MaxWire)); err == nil {
		t.Error("a JWS that makes too large a message was encrypted")
	}
	if _, err := seal.NewSigner(to.key); err == nil {
		t.Error("an RSA key was taken for signing")
	}
	if _, err := seal.NewRecipient(newSigner(t, keys.EdDSA).key.Public()); err == nil {
		t.Error("an Ed25519 key was taken for encryption")
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.NewRecipient(small.Public()); err == nil {
		t.Error("an RSA key of 2048 bits was taken")
	}
}

// Size tells nothing: events of one size class make messages of one size.
func TestOneSizeClassGivesOneWireSize(t *testing.T) {
	from, to := newSigner(t, keys.ES256), newEnclave(t, keys.P256)
	sizes := map[int]bool{}
	for i := range 50 {
		m, err := seal.Seal(bytes.Repeat([]byte{byte('a' + i%26)}, schema.SizeClass), from.signer, to.recipient)
		if err != nil {
			t.Fatal(err)
		}
		sizes[len(m.Wire)] = true
	}
	if len(sizes) != 1 {
		t.Errorf("want one size, got %v", sizes)
	}
}

func TestOpenInParallel(t *testing.T) {
	from, to := newSigner(t, keys.ES256), newEnclave(t, keys.P256)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				m, err := seal.Seal([]byte("{}"), from.signer, to.recipient)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := envelope.Open(m.Wire, to.ring, from.trust); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestOpenLeavesTheWireAlone(t *testing.T) {
	from, to := newSigner(t, keys.ES256), newEnclave(t, keys.P256)
	m, err := seal.Seal([]byte("{}"), from.signer, to.recipient)
	if err != nil {
		t.Fatal(err)
	}
	wire := bytes.Clone(m.Wire)
	o, err := envelope.Open(wire, to.ring, from.trust)
	if err != nil || !bytes.Equal(wire, m.Wire) {
		t.Fatalf("the wire bytes changed, or did not open: %v", err)
	}
	clear(wire) // a queue client may use its buffer again
	if !bytes.Equal(o.JWS, m.JWS) || string(o.Payload) != "{}" {
		t.Error("what was opened refers to the wire buffer")
	}
}
