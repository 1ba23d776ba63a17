package vault

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"jmlbridge/internal/keys"
)

// Signer signs by an EC key in a store: ES256 on P-256, ES384 on P-384. It is a crypto.Signer and safe for
// concurrent use. Whoever gets a signature verifies it.
type Signer struct {
	s      *Stores
	client *azkeys.Client
	ref    Ref
	public *ecdsa.PublicKey
	alg    azkeys.SignatureAlgorithm
	hash   crypto.Hash
}

// Signer makes a signer of the pinned key. It sends nothing: the public half is read from its file.
func (s *Stores) Signer(r Ref) (*Signer, error) {
	pub, err := r.known()
	if err != nil {
		return nil, err
	}
	k := &Signer{s: s, ref: r}
	if k.client, err = s.client(r.Vault); err != nil {
		return nil, err
	}
	var ok bool
	if k.public, ok = pub.(*ecdsa.PublicKey); !ok {
		return nil, fmt.Errorf("%s: want an EC key for signing, got a %T", r, pub)
	}
	alg, err := keys.SigningAlg(pub)
	if err != nil {
		return nil, err
	}
	k.alg, k.hash = azkeys.SignatureAlgorithm(alg), crypto.SHA256
	if alg == keys.ES384 {
		k.hash = crypto.SHA384
	}
	return k, nil
}

// Public implements crypto.Signer.
func (k *Signer) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer: a signature over digest, in ASN.1. It uses no randomness of ours. An error is an
// *Error: the store could not be asked, or refused.
func (k *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) (der []byte, err error) {
	if opts.HashFunc() != k.hash || len(digest) != k.hash.Size() {
		return nil, fmt.Errorf("%s signs digests of %v, got %d octets of %v", k.ref, k.hash, len(digest), opts.HashFunc())
	}
	err = k.s.within(func(ctx context.Context) error {
		answer, err := k.client.Sign(ctx, k.ref.Key, k.ref.Version, azkeys.SignParameters{Algorithm: &k.alg, Value: digest}, nil)
		if err != nil {
			return fail("sign", k.ref, err)
		}
		size := (k.public.Curve.Params().BitSize + 7) / 8
		sig := answer.Result
		switch {
		case answer.KID == nil || !sameVersion(answer.KID, k.ref):
			err = errors.New("it signed by another key or version")
		case len(sig) != 2*size:
			err = fmt.Errorf("want a signature of %d octets, got %d", 2*size, len(sig))
		default:
			der, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])})
		}
		if err != nil {
			return &Error{Op: "sign", Ref: k.ref, Status: 200, Err: err}
		}
		return nil
	})
	return der, err
}
