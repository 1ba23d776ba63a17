package compact

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"jmlbridge/internal/keys"
)

var (
	// ErrSignature says that a signature does not verify.
	ErrSignature = errors.New("the signature does not verify")
	// ErrHighS says that a signature verifies and is not the canonical one of its two spellings.
	ErrHighS = errors.New("the signature verifies, but its s is in the upper half of the group order")
)

// half the group order: s is canonical up to and including it.
var (
	half256 = new(big.Int).Rsh(elliptic.P256().Params().N, 1)
	half384 = new(big.Int).Rsh(elliptic.P384().Params().N, 1)
)

// SignatureLen is the length of a signature by alg, in octets.
func SignatureLen(alg keys.Alg) int {
	if alg == keys.ES384 {
		return 96
	}
	return 64
}

// Verify checks sig over input by pub, a key for alg. The error is ErrSignature or ErrHighS: whoever
// counts attacks wants the forger and the re-speller apart.
func Verify(alg keys.Alg, pub crypto.PublicKey, input, sig []byte) error {
	if len(sig) != SignatureLen(alg) {
		return ErrSignature
	}
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		digest, half := digestFor(alg, input)
		if digest == nil || pub.Curve.Params().BitSize != len(sig)*4 {
			return ErrSignature
		}
		r := new(big.Int).SetBytes(sig[:len(sig)/2])
		s := new(big.Int).SetBytes(sig[len(sig)/2:])
		if !ecdsa.Verify(pub, digest, r, s) {
			return ErrSignature
		}
		if s.Cmp(half) > 0 {
			return ErrHighS
		}
		return nil
	case ed25519.PublicKey:
		if alg == keys.EdDSA && len(pub) == ed25519.PublicKeySize && ed25519.Verify(pub, input, sig) {
			return nil
		}
	}
	return ErrSignature
}

// Sign makes the JOSE form of a signature over input: r and s of full length for ECDSA, with the lower s.
func Sign(alg keys.Alg, key crypto.Signer, input []byte) ([]byte, error) {
	if alg == keys.EdDSA {
		return key.Sign(rand.Reader, input, crypto.Hash(0))
	}
	digest, half := digestFor(alg, input)
	if digest == nil {
		return nil, fmt.Errorf("want a signature algorithm, got %q", alg)
	}
	hash := crypto.SHA256
	if alg == keys.ES384 {
		hash = crypto.SHA384
	}
	der, err := key.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, err
	}
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) > 0 {
		return nil, errors.New("the key gave a signature that is not ASN.1")
	}
	size := SignatureLen(alg) / 2
	if rs.R.Sign() <= 0 || rs.S.Sign() <= 0 || rs.R.BitLen() > size*8 || rs.S.BitLen() > size*8 {
		return nil, errors.New("the key gave a signature out of range")
	}
	if rs.S.Cmp(half) > 0 {
		n := new(big.Int).Lsh(half, 1)
		rs.S.Sub(n.Add(n, big.NewInt(1)), rs.S) // the order is odd: n = 2 half + 1
	}
	sig := make([]byte, 2*size)
	rs.R.FillBytes(sig[:size])
	rs.S.FillBytes(sig[size:])
	return sig, nil
}

func digestFor(alg keys.Alg, input []byte) (digest []byte, half *big.Int) {
	switch alg {
	case keys.ES256:
		sum := sha256.Sum256(input)
		return sum[:], half256
	case keys.ES384:
		sum := sha512.Sum384(input)
		return sum[:], half384
	}
	return nil, nil
}
