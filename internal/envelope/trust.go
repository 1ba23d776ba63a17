package envelope

import (
	"crypto"
	"slices"
	"time"

	"jmlbridge/internal/keys"
	"jmlbridge/schema"
)

// A TrustedKey is a producer's public key and what the enclave lets it say. The zero value may say
// nothing. Do not change one that is in use.
type TrustedKey struct {
	KID    string           // the thumbprint of Public
	Alg    keys.Alg         // the only algorithm by which Public verifies
	Public crypto.PublicKey // as keys.ParsePublic gives it

	NotBefore, NotAfter time.Time     // the window in which its messages are taken, ends included; zero is unbounded
	Kinds               []schema.Kind // what it may sign; empty is nothing
	Retired             *Point        // the last position at which it is good; nil while in use
}

// A Point is a position in a stream.
type Point struct {
	Generation int
	Seq        uint64
}

// NewTrustedKey names pub and pins its algorithm. The key may sign nothing until Kinds is set.
func NewTrustedKey(pub crypto.PublicKey) (*TrustedKey, error) {
	alg, err := keys.SigningAlg(pub)
	if err != nil {
		return nil, err
	}
	kid, err := keys.ID(pub)
	if err != nil {
		return nil, err
	}
	return &TrustedKey{KID: kid, Alg: alg, Public: pub}, nil
}

// Check says whether the enclave takes an event of this kind from k at this time of the enclave's
// clock. The error is an *Error: key-window, which parks, or kind-not-allowed, which refuses.
func (k *TrustedKey) Check(at time.Time, kind schema.Kind) error {
	if !slices.Contains(k.Kinds, kind) {
		return refusef(CodeKind, k.KID, "this key may sign %v, not %s", k.Kinds, kind)
	}
	if !k.NotBefore.IsZero() && at.Before(k.NotBefore) {
		return refusef(CodeKeyWindow, k.KID, "this key is valid from %s on", k.NotBefore.UTC().Format(time.RFC3339))
	}
	if !k.NotAfter.IsZero() && at.After(k.NotAfter) {
		return refusef(CodeKeyWindow, k.KID, "this key was valid until %s", k.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// GoodAt says whether k may sign at this position: up to and including the one at which it was
// retired, whenever the message arrives. A position that it signed then is not unsaid by retiring it.
func (k *TrustedKey) GoodAt(generation int, seq uint64) bool {
	r := k.Retired
	return r == nil || generation < r.Generation || generation == r.Generation && seq <= r.Seq
}

// Verifiers finds trusted keys. It must be safe for concurrent use.
type Verifiers interface {
	// Verifier returns the trusted key with this id, or nil.
	Verifier(kid string) *TrustedKey
}

// Trust is a fixed set of keys by id.
type Trust map[string]*TrustedKey

// Verifier implements [Verifiers].
func (t Trust) Verifier(kid string) *TrustedKey { return t[kid] }

// TrustIn collects keys.
func TrustIn(list ...*TrustedKey) Trust {
	t := make(Trust, len(list))
	for _, k := range list {
		t[k.KID] = k
	}
	return t
}
