package compact

import (
	"bytes"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"jmlbridge/internal/keys"
)

// What others published: that we agree with ourselves proves nothing.

func raw(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 7518 appendix C: Alice's ephemeral key, Bob's key, and the key they derive.
func TestKeyDerivationOfRFC7518AppendixC(t *testing.T) {
	alice, err := ecdh.P256().NewPrivateKey(raw(t, "0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo"))
	if err != nil {
		t.Fatal(err)
	}
	point := append([]byte{4}, raw(t, "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ")...)
	bob, err := ecdh.P256().NewPublicKey(append(point, raw(t, "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck")...))
	if err != nil {
		t.Fatal(err)
	}
	z, err := alice.ECDH(bob)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 16)
	deriveKey(out, z, "A128GCM", []byte("Alice"), []byte("Bob"))
	if got, want := base64.RawURLEncoding.EncodeToString(out), "VqqN6vgjbSBcIijNcacQGg"; got != want {
		t.Errorf("want %s, got %s", want, got)
	}
}

// RFC 7518 appendix B.3: A256CBC-HS512.
func TestContentEncryptionOfRFC7518AppendixB3(t *testing.T) {
	cek := make([]byte, CEKLen)
	for i := range cek {
		cek[i] = byte(i)
	}
	aead, err := NewAEAD(cek)
	if err != nil {
		t.Fatal(err)
	}
	iv, _ := hex.DecodeString("1af38c2dc2b96ffdd86694092341bc04")
	plain := []byte("A cipher system must not be required to be secret, and it must be able to fall into the hands of the enemy without inconvenience")
	ct := aead.Seal(nil, iv, plain, []byte("The second principle of Auguste Kerckhoffs"))
	if len(ct) != len(plain)/aes.BlockSize*aes.BlockSize+aes.BlockSize+TagLen {
		t.Errorf("got %d octets", len(ct))
	}
	if got := hex.EncodeToString(ct[:16]); got != "4affaaadb78c31c5da4b1b590d10ffbd" {
		t.Errorf("first block: got %s", got)
	}
	if got, want := hex.EncodeToString(ct[len(ct)-TagLen:]), "4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5"; got != want {
		t.Errorf("tag: want %s, got %s", want, got)
	}
}

// RFC 7515 appendix A.3, ES256. The published signature has a high s: it verifies, and we say so; its
// other spelling is the one that we take.
func TestSignatureOfRFC7515AppendixA3(t *testing.T) {
	point := append([]byte{4}, raw(t, "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")...)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(point, raw(t, "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")...))
	if err != nil {
		t.Fatal(err)
	}
	input := []byte("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ")
	sig := raw(t, "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")
	if err := Verify(keys.ES256, pub, input, sig); !errors.Is(err, ErrHighS) {
		t.Errorf("as published: want %v, got %v", ErrHighS, err)
	}
	low := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(sig[32:]))
	low.FillBytes(sig[32:])
	if err := Verify(keys.ES256, pub, input, sig); err != nil {
		t.Errorf("with the low s: %v", err)
	}
	for _, alg := range []keys.Alg{keys.ES384, keys.EdDSA, "", "HS256"} {
		if err := Verify(alg, pub, input, sig); !errors.Is(err, ErrSignature) {
			t.Errorf("by %q: want %v, got %v", alg, ErrSignature, err)
		}
	}
}

// RFC 8037 appendix A.5, EdDSA.
func TestSignatureOfRFC8037(t *testing.T) {
	pub := ed25519.PublicKey(raw(t, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))
	input := []byte("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc")
	sig := raw(t, "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
	if err := Verify(keys.EdDSA, pub, input, sig); err != nil {
		t.Error(err)
	}
	if err := Verify(keys.ES256, pub, input, sig); !errors.Is(err, ErrSignature) {
		t.Errorf("by ES256: want %v, got %v", ErrSignature, err)
	}
}

func TestSignAlwaysGivesTheLowS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for range 40 { // all low by chance: once in 2^40
		sig, err := Sign(keys.ES384, key, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(keys.ES384, key.Public(), []byte("x"), sig); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Sign("HS256", key, []byte("x")); err == nil {
		t.Error("signed by HS256")
	}
}

var kid = strings.Repeat("A", KIDLen)

func headers(t testing.TB) [][]byte {
	var list [][]byte
	for _, alg := range []keys.Alg{keys.ES256, keys.ES384, keys.EdDSA} {
		list = append(list, SignatureHeader(alg, kid))
	}
	for _, c := range []*Curve{p256, p384} {
		key, err := c.ECDH.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, (&Encryption{Alg: keys.ECDHES, KID: kid, Curve: c, Point: key.PublicKey().Bytes()}).Header())
	}
	return append(list, (&Encryption{Alg: keys.RSAOAEP256, KID: kid}).Header())
}

func TestHeadersFitTheirLimit(t *testing.T) {
	for _, h := range headers(t) {
		if len(h) > 320 || len(h) > MaxHeader || !json.Valid(h) {
			t.Errorf("%d octets: %s", len(h), h)
		}
	}
}

// What is accepted is what we would write, and says to any JSON reader what it says to us.
func FuzzHeader(f *testing.F) {
	for _, h := range headers(f) {
		f.Add(h)
	}
	f.Add([]byte(`{"alg":"none"}`))
	f.Fuzz(func(t *testing.T, h []byte) {
		var seen struct{ Alg, Kid, Typ, Enc, Cty string }
		if alg, id, ok := ParseSignatureHeader(h); ok {
			if !bytes.Equal(SignatureHeader(alg, id), h) {
				t.Errorf("accepted another spelling: %q", h)
			}
			if err := json.Unmarshal(h, &seen); err != nil || seen.Alg != string(alg) || seen.Kid != id || seen.Typ != "secevent+jwt" {
				t.Errorf("encoding/json reads %+v from %q: %v", seen, h, err)
			}
		}
		if e, ok := ParseEncryptionHeader(h); ok {
			if !bytes.Equal(e.Header(), h) {
				t.Errorf("accepted another spelling: %q", h)
			}
			if err := json.Unmarshal(h, &seen); err != nil || seen.Alg != string(e.Alg) || seen.Kid != e.KID || seen.Enc != Enc || seen.Cty != "JWT" {
				t.Errorf("encoding/json reads %+v from %q: %v", seen, h, err)
			}
		}
	})
}

func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "A", "AA", "AB", "AAA", "AAAA", "AA==", "A\nAA", "A\rA", "-_", "+/", " AA", "AAAAA"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		if out, ok := AppendDecode(nil, s); ok && !bytes.Equal(AppendEncode(nil, out), s) {
			t.Errorf("%q decodes to %x, which is spelled otherwise", s, out)
		}
	})
}
