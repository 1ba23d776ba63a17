package envelope_test

import (
	"bytes"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/schema"
)

// The goals of the intake are held against Open; go-jose's own way stands beside it.

func benchMessage(b *testing.B) (*party, *party, seal.Sealed) {
	b.Helper()
	from, to := newSigner(b, keys.ES256), newEnclave(b, keys.P256)
	m, err := seal.Seal(bytes.Repeat([]byte("x"), schema.SizeClass), from.signer, to.recipient)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(schema.SizeClass)
	b.ReportAllocs()
	b.ResetTimer()
	return from, to, m
}

func BenchmarkOpen(b *testing.B) {
	from, to, m := benchMessage(b)
	for b.Loop() {
		if _, err := envelope.Open(m.Wire, to.ring, from.trust); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenGoJose(b *testing.B) {
	from, to, m := benchMessage(b)
	for b.Loop() {
		e, err := jose.ParseEncryptedCompact(string(m.Wire), []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A256CBC_HS512})
		if err != nil {
			b.Fatal(err)
		}
		jws, err := e.Decrypt(to.key)
		if err != nil {
			b.Fatal(err)
		}
		s, err := jose.ParseSignedCompact(string(jws), []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Verify(from.key.Public()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecrypt(b *testing.B) {
	_, to, m := benchMessage(b)
	for b.Loop() {
		if _, _, err := envelope.Decrypt(m.Wire, to.ring); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	from, _, m := benchMessage(b)
	for b.Loop() {
		if _, err := envelope.Verify(m.JWS, from.trust); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	from, to, m := benchMessage(b)
	payload := bytes.Repeat([]byte("x"), schema.SizeClass)
	for b.Loop() {
		if _, err := seal.Seal(payload, from.signer, to.recipient); err != nil {
			b.Fatal(err)
		}
	}
	_ = m
}

func BenchmarkOpenRSA(b *testing.B) {
	from, to := newSigner(b, keys.ES256), newEnclave(b, keys.RSA3072)
	m, err := seal.Seal(bytes.Repeat([]byte("x"), schema.SizeClass), from.signer, to.recipient)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := envelope.Open(m.Wire, to.ring, from.trust); err != nil {
			b.Fatal(err)
		}
	}
}
