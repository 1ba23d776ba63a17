package compact

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/elliptic"
	"encoding/binary"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// Curve is a curve of ECDH-ES.
type Curve struct {
	Name string // the crv of JWK
	Size int    // octets of a coordinate
	ECDH ecdh.Curve
}

var (
	p256 = &Curve{"P-256", 32, ecdh.P256()}
	p384 = &Curve{"P-384", 48, ecdh.P384()}
)

// CurveByName returns nil for a curve that envelopes do not use.
func CurveByName(name string) *Curve {
	switch name {
	case p256.Name:
		return p256
	case p384.Name:
		return p384
	}
	return nil
}

// CurveOf returns nil for a curve that envelopes do not use.
func CurveOf(c elliptic.Curve) *Curve {
	switch c {
	case elliptic.P256():
		return p256
	case elliptic.P384():
		return p384
	}
	return nil
}

// DeriveKey is the Concat KDF of RFC 7518 section 4.6.2 for ECDH-ES with A256CBC-HS512, without apu and apv:
// from the shared secret to the content encryption key.
func DeriveKey(z []byte) []byte {
	cek := make([]byte, CEKLen)
	deriveKey(cek, z, Enc, nil, nil)
	return cek
}

func deriveKey(out, z []byte, algID string, apu, apv []byte) {
	bits := binary.BigEndian.AppendUint32(nil, uint32(len(out))*8)
	kdf := josecipher.NewConcatKDF(crypto.SHA256, z, prefixed([]byte(algID)), prefixed(apu), prefixed(apv), bits, nil)
	_, _ = kdf.Read(out) // never fails and never reads short
}

func prefixed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// NewAEAD is A256CBC-HS512 (RFC 7518 section 5.2.5) under cek, CEKLen octets long. Its Seal and Open take
// and give the ciphertext with the tag behind it.
func NewAEAD(cek []byte) (cipher.AEAD, error) {
	return josecipher.NewCBCHMAC(cek, aes.NewCipher)
}
