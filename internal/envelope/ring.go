package envelope

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // for OAEP
	"errors"
	"fmt"
	"math/big"
	"slices"

	"jmlbridge/internal/envelope/compact"
	"jmlbridge/internal/keys"
)

// MaxGenerations is how many decryption keys an enclave opens with at once: the current one and the
// one before it, or the next.
const MaxGenerations = 2

// Ring is an enclave's decryption keys. The zero value opens nothing. It is safe for concurrent use.
type Ring struct{ keys []decrypter }

type decrypter struct {
	kid     string
	alg     keys.Alg
	ecdh    *ecdh.PrivateKey // for ECDH-ES
	rsa     crypto.Decrypter // for RSA-OAEP-256: a key in memory, or in an HSM
	modulus *big.Int
	size    int           // octets of an encrypted key: the modulus
	away    *UnaskedError // it is not asked, this is the answer; nil: it is
}

// NewRing makes a ring of one or two keys. Each is an *ecdsa.PrivateKey on P-256 or P-384, or any
// crypto.Decrypter of an RSA key. A Decrypter outside this process must return rsa.ErrDecryption, wrapped
// or not, when the key refuses the ciphertext, and another error when it could not be asked: the first
// refuses a message for good.
func NewRing(list ...crypto.PrivateKey) (*Ring, error) {
	if len(list) == 0 || len(list) > MaxGenerations {
		return nil, fmt.Errorf("want 1 to %d decryption keys, got %d", MaxGenerations, len(list))
	}
	r := &Ring{}
	for _, key := range list {
		d, err := newDecrypter(key)
		if err != nil {
			return nil, err
		}
		if r.find(d.kid) != nil {
			return nil, fmt.Errorf("decryption key %s is given twice", d.kid)
		}
		r.keys = append(r.keys, d)
	}
	return r, nil
}

func newDecrypter(key crypto.PrivateKey) (d decrypter, err error) {
	holder, ok := key.(interface{ Public() crypto.PublicKey })
	if !ok {
		return d, fmt.Errorf("want a decryption key, got a %T", key)
	}
	pub := holder.Public()
	if d.alg, err = keys.EncryptionAlg(pub); err != nil {
		return d, err
	}
	if d.kid, err = keys.ID(pub); err != nil {
		return d, err
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		d.ecdh, err = k.ECDH()
		return d, err
	case crypto.Decrypter:
		if p, ok := pub.(*rsa.PublicKey); ok {
			d.rsa, d.modulus, d.size = k, p.N, p.Size()
			return d, nil
		}
	}
	return d, fmt.Errorf("a %T cannot decrypt by %s", key, d.alg)
}

// KIDs lists the ids of the keys, in the order given.
func (r *Ring) KIDs() []string {
	var ids []string
	for i := range r.keys {
		ids = append(ids, r.keys[i].kid)
	}
	return ids
}

// Without returns a ring of the same keys that does not ask the one which could not be: its messages get why, so that a
// caller knows it again. What can be refused without asking is refused.
func (r *Ring) Without(why *UnaskedError) *Ring {
	if r == nil {
		return nil
	}
	other := &Ring{keys: slices.Clone(r.keys)}
	if d := other.find(why.KID); d != nil {
		d.away = why
	}
	return other
}

func (r *Ring) len() int {
	if r == nil {
		return 0
	}
	return len(r.keys)
}

func (r *Ring) find(kid string) *decrypter {
	if r == nil {
		return nil
	}
	for i := range r.keys {
		if r.keys[i].kid == kid {
			return &r.keys[i]
		}
	}
	return nil
}

// contentKey recovers the content encryption key. An *Error refuses the message; with an *UnaskedError it should be
// tried again.
func (d *decrypter) contentKey(h *compact.Encryption, encryptedKey []byte) ([]byte, error) {
	if h.Alg != d.alg {
		return nil, refusef(CodeAlg, d.kid, "the decryption key takes %s, the header says %s", d.alg, h.Alg)
	}
	if d.ecdh != nil {
		if len(encryptedKey) != 0 {
			return nil, refusef(CodeMalformed, d.kid, "want no encrypted key with %s, got %d octets", d.alg, len(encryptedKey))
		}
		if h.Curve.ECDH != d.ecdh.Curve() {
			return nil, refusef(CodeBadHeader, d.kid, "the decryption key is on %v, the ephemeral key on %s", d.ecdh.Curve(), h.Curve.Name)
		}
		epk, err := h.Curve.ECDH.NewPublicKey(h.Point)
		if err != nil {
			return nil, refusef(CodeBadHeader, d.kid, "the ephemeral key is not a point on %s", h.Curve.Name)
		}
		z, err := d.ecdh.ECDH(epk)
		if err != nil {
			return nil, refusef(CodeBadHeader, d.kid, "the ephemeral key gives no shared secret")
		}
		return compact.DeriveKey(z), nil
	}
	if len(encryptedKey) != d.size {
		return nil, refusef(CodeMalformed, d.kid, "want an encrypted key of %d octets, got %d", d.size, len(encryptedKey))
	}
	if d.away != nil {
		// What no store is asked for must not wait for one, and be taken for its answer in the end.
		if new(big.Int).SetBytes(encryptedKey).Cmp(d.modulus) >= 0 {
			return nil, refusef(CodeDecrypt, d.kid, "%s", decryptDetail)
		}
		return nil, d.away
	}
	cek, err := d.rsa.Decrypt(nil, encryptedKey, &rsa.OAEPOptions{Hash: crypto.SHA256})
	switch {
	case errors.Is(err, rsa.ErrDecryption), err == nil && len(cek) != compact.CEKLen:
		return nil, refusef(CodeDecrypt, d.kid, "%s", decryptDetail)
	case err != nil:
		return nil, &UnaskedError{KID: d.kid, Err: err}
	}
	return cek, nil
}

// decryptDetail is the same whichever step failed, so that a sender learns nothing from the record.
const decryptDetail = "it was encrypted to another key, or altered on the way"
