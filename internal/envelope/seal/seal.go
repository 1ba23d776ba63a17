// Package seal makes envelopes: it signs a payload and encrypts the result to one enclave
// (schema/envelope.md). Only a producer may reach it; a test on imports holds that.
//
// It trusts the payload to be what schema.Encode gave. Every signature is verified before it leaves.
package seal

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"

	"jmlbridge/internal/envelope/compact"
	"jmlbridge/internal/keys"
	"jmlbridge/schema"
)

// A Signer signs payloads with one key. It is safe for concurrent use if its key is.
type Signer struct {
	kid    string
	alg    keys.Alg
	key    crypto.Signer
	public crypto.PublicKey
	prefix []byte // the header in base64url, and a dot
}

// NewSigner takes a key in memory or in an HSM: crypto.Signer is asked for a signature over the digest,
// in ASN.1, by an EC key, and over the message by an Ed25519 key.
func NewSigner(key crypto.Signer) (*Signer, error) {
	s := &Signer{key: key, public: key.Public()}
	var err error
	if s.alg, err = keys.SigningAlg(s.public); err != nil {
		return nil, err
	}
	if s.kid, err = keys.ID(s.public); err != nil {
		return nil, err
	}
	s.prefix = append(compact.AppendEncode(nil, compact.SignatureHeader(s.alg, s.kid)), '.')
	return s, nil
}

// KID is the id of the key.
func (s *Signer) KID() string { return s.kid }

// Sign returns payload as a JWS in compact form.
func (s *Signer) Sign(payload []byte) ([]byte, error) {
	if len(payload) == 0 || len(payload) > schema.MaxPayload {
		return nil, fmt.Errorf("want a payload of 1 to %d octets, got %d", schema.MaxPayload, len(payload))
	}
	size := len(s.prefix) + compact.EncodedLen(len(payload)) + 1 + compact.EncodedLen(compact.SignatureLen(s.alg))
	jws := append(make([]byte, 0, size), s.prefix...)
	jws = compact.AppendEncode(jws, payload)
	sig, err := compact.Sign(s.alg, s.key, jws)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", s.kid, err)
	}
	// A fault in a key store or in memory must not go out under our name.
	if err := compact.Verify(s.alg, s.public, jws, sig); err != nil {
		return nil, fmt.Errorf("the signature just made with key %s is wrong, nothing was sent: %w", s.kid, err)
	}
	return compact.AppendEncode(append(jws, '.'), sig), nil
}

// A Recipient is an enclave's public key. It is safe for concurrent use.
type Recipient struct {
	kid   string
	alg   keys.Alg
	curve *compact.Curve  // for ECDH-ES
	ecdh  *ecdh.PublicKey // for ECDH-ES
	rsa   *rsa.PublicKey  // for RSA-OAEP-256
}

// NewRecipient takes an EC or RSA public key as keys.ParsePublic gives it.
func NewRecipient(pub crypto.PublicKey) (*Recipient, error) {
	r := &Recipient{}
	var err error
	if r.alg, err = keys.EncryptionAlg(pub); err != nil {
		return nil, err
	}
	if r.kid, err = keys.ID(pub); err != nil {
		return nil, err
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		r.curve = compact.CurveOf(k.Curve)
		r.ecdh, err = k.ECDH()
	case *rsa.PublicKey:
		r.rsa = k
	}
	return r, err
}

// KID is the id of the key.
func (r *Recipient) KID() string { return r.kid }

// Encrypt returns jws as a JWE in compact form, under a fresh content key.
func (r *Recipient) Encrypt(jws []byte) ([]byte, error) {
	header, cek, encryptedKey, err := r.newKey()
	if err != nil {
		return nil, fmt.Errorf("encrypt to key %s: %w", r.kid, err)
	}
	iv := make([]byte, compact.IVLen)
	if _, err := rand.Read(iv); err != nil {
		return nil, fmt.Errorf("encrypt to key %s: %w", r.kid, err)
	}
	aead, err := compact.NewAEAD(cek)
	if err != nil {
		return nil, fmt.Errorf("encrypt to key %s: %w", r.kid, err)
	}
	aad := compact.AppendEncode(nil, header)
	ct := aead.Seal(nil, iv, jws, aad)
	ct, tag := ct[:len(ct)-compact.TagLen], ct[len(ct)-compact.TagLen:]

	parts := [...][]byte{encryptedKey, iv, ct, tag}
	size := len(aad)
	for _, p := range parts {
		size += 1 + compact.EncodedLen(len(p))
	}
	if size > schema.MaxWire {
		return nil, fmt.Errorf("want a message of at most %d octets, got %d", schema.MaxWire, size)
	}
	wire := append(make([]byte, 0, size), aad...)
	for _, p := range parts {
		wire = compact.AppendEncode(append(wire, '.'), p)
	}
	return wire, nil
}

// newKey makes a content key for one message, and what tells it to the recipient.
func (r *Recipient) newKey() (header, cek, encryptedKey []byte, err error) {
	e := compact.Encryption{Alg: r.alg, KID: r.kid, Curve: r.curve}
	if r.rsa != nil {
		cek = make([]byte, compact.CEKLen)
		if _, err = rand.Read(cek); err != nil {
			return nil, nil, nil, err
		}
		encryptedKey, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, r.rsa, cek, nil)
		return e.Header(), cek, encryptedKey, err
	}
	ephemeral, err := r.curve.ECDH.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	z, err := ephemeral.ECDH(r.ecdh)
	if err != nil {
		return nil, nil, nil, err
	}
	e.Point = ephemeral.PublicKey().Bytes()
	return e.Header(), compact.DeriveKey(z), nil, nil
}

// Sealed is a message ready for the outbox.
type Sealed struct {
	Wire []byte // what the mid-point gets
	JWS  []byte // what the archive keeps, and what can be encrypted again after a rotation
}

// Seal signs payload and encrypts it: one message to one enclave.
func Seal(payload []byte, s *Signer, r *Recipient) (Sealed, error) {
	jws, err := s.Sign(payload)
	if err != nil {
		return Sealed{}, err
	}
	wire, err := r.Encrypt(jws)
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{wire, jws}, nil
}
