package envelope_test

import (
	"crypto"
	"testing"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
)

// party is a producer or an enclave with one key: both halves, which only a test holds.
type party struct {
	key crypto.Signer
	kid string

	signer *seal.Signer // of a producer
	trust  envelope.Trust

	recipient *seal.Recipient // of an enclave
	ring      *envelope.Ring
}

func newSigner(t testing.TB, alg keys.Alg) *party {
	t.Helper()
	key, err := keys.GenerateSigning(alg)
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, key)
}

func signerOf(t testing.TB, key crypto.Signer) *party {
	t.Helper()
	s, err := seal.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := envelope.NewTrustedKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &party{key: key, kid: k.KID, signer: s, trust: envelope.TrustIn(k)}
}

func newEnclave(t testing.TB, kind string) *party {
	t.Helper()
	key, err := keys.GenerateDecryption(kind)
	if err != nil {
		t.Fatal(err)
	}
	return enclaveOf(t, key)
}

func enclaveOf(t testing.TB, key crypto.Signer) *party {
	t.Helper()
	r, err := seal.NewRecipient(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	ring, err := envelope.NewRing(key)
	if err != nil {
		t.Fatal(err)
	}
	return &party{key: key, kid: r.KID(), recipient: r, ring: ring}
}
