// Package keys generates, stores and names the bridge's keys: signing keys of a producer, decryption
// keys of an enclave, and the Ed25519 keys that sign ledger checkpoints.
//
// Private keys are PEM files (PKCS #8) that only their owner can read; reading refuses any other. A
// key is named by its RFC 7638 thumbprint, so the name cannot be chosen, and two different keys never
// share one. The algorithm follows from the key and its use: nothing that a message says can change it.
//
// A file does not say what its key is for. Use a key for one purpose only.
package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
)

// Alg is a JOSE algorithm name (RFC 7518, RFC 8037).
type Alg string

// Every algorithm of the bridge; see envelope.md section 5.
const (
	ES256      Alg = "ES256"        // ECDSA on P-256: the default for signing
	ES384      Alg = "ES384"        // ECDSA on P-384
	EdDSA      Alg = "EdDSA"        // Ed25519; also every ledger key
	ECDHES     Alg = "ECDH-ES"      // P-256 or P-384: the default for encryption
	RSAOAEP256 Alg = "RSA-OAEP-256" // for key stores that cannot do ECDH
)

const (
	minRSABits = 3072 // 128 bits of strength, like P-256
	maxRSABits = 4096 // what Key Vault offers; more only costs time
	rsaE       = 65537
)

// Signs reports whether a is a signature algorithm.
func (a Alg) Signs() bool { return a == ES256 || a == ES384 || a == EdDSA }

// Encrypts reports whether a is a key management algorithm.
func (a Alg) Encrypts() bool { return a == ECDHES || a == RSAOAEP256 }

// GenerateSigning makes a new signing key for a.
func GenerateSigning(a Alg) (crypto.Signer, error) {
	switch a {
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ES384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case EdDSA:
		return GenerateLedger()
	}
	return nil, fmt.Errorf("want a signature algorithm (%s, %s or %s), got %q", ES256, ES384, EdDSA, a)
}

// Kinds of decryption keys, as they are called on the command line.
const (
	P256    = "P-256"
	P384    = "P-384"
	RSA3072 = "RSA-3072"
)

// GenerateDecryption makes a new decryption key: [P256] and [P384] for ECDH-ES, [RSA3072] for RSA-OAEP-256.
func GenerateDecryption(kind string) (crypto.Signer, error) {
	switch kind {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, minRSABits)
	}
	return nil, fmt.Errorf("want a kind of decryption key (%s, %s or %s), got %q", P256, P384, RSA3072, kind)
}

// GenerateLedger makes a new Ed25519 key.
func GenerateLedger() (ed25519.PrivateKey, error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	return priv, err
}

// SigningAlg returns the one algorithm by which pub verifies.
func SigningAlg(pub crypto.PublicKey) (Alg, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ES256, nil
		case elliptic.P384():
			return ES384, nil
		}
		return "", errors.New("want a signing key on P-256, P-384 or Ed25519, got an EC key on another curve")
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return EdDSA, nil
		}
	}
	return "", fmt.Errorf("want a signing key (EC P-256, EC P-384 or Ed25519), got %s", describe(pub))
}

// EncryptionAlg returns the one algorithm by which a message is encrypted to pub.
func EncryptionAlg(pub crypto.PublicKey) (Alg, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return ECDHES, nil
		}
		return "", errors.New("want a decryption key on P-256 or P-384, got an EC key on another curve")
	case *rsa.PublicKey:
		return RSAOAEP256, checkRSA(k)
	}
	return "", fmt.Errorf("want a decryption key (EC P-256, EC P-384 or RSA), got %s", describe(pub))
}

func checkRSA(k *rsa.PublicKey) error {
	if k.N == nil || k.N.BitLen() < minRSABits || k.N.BitLen() > maxRSABits || k.E != rsaE {
		return fmt.Errorf("want an RSA key of %d to %d bits with the exponent %d, got %s", minRSABits, maxRSABits, rsaE, describe(k))
	}
	return nil
}

func describe(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != nil {
			return "an EC key on " + k.Curve.Params().Name
		}
	case ed25519.PublicKey:
		return "an Ed25519 key"
	case *rsa.PublicKey:
		if k.N != nil {
			return fmt.Sprintf("an RSA key of %d bits with the exponent %d", k.N.BitLen(), k.E)
		}
	}
	return fmt.Sprintf("a %T", pub)
}

// ID is the key's RFC 7638 thumbprint under SHA-256: 43 characters of base64url. It is the kid of
// envelopes and the name by which operators know a key.
func ID(pub crypto.PublicKey) (string, error) {
	if k, ok := pub.(*rsa.PublicKey); ok {
		if err := checkRSA(k); err != nil {
			return "", err
		}
	}
	return thumbprint(pub)
}

func thumbprint(pub crypto.PublicKey) (string, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	var jwk string // the required members only, in lexical order, without white space
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return "", errors.New("want an EC key on P-256 or P-384")
		}
		point, err := k.Bytes()
		if err != nil {
			return "", fmt.Errorf("encode the public key: %w", err)
		}
		x, y := point[1:1+len(point)/2], point[1+len(point)/2:] // 0x04 || x || y
		jwk = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, k.Curve.Params().Name, b64(x), b64(y))
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return "", fmt.Errorf("want %d octets of Ed25519 key, got %d", ed25519.PublicKeySize, len(k))
		}
		jwk = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":%q}`, b64(k))
	case *rsa.PublicKey:
		jwk = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, b64(big.NewInt(int64(k.E)).Bytes()), b64(k.N.Bytes()))
	default:
		return "", fmt.Errorf("want an EC, Ed25519 or RSA public key, got a %T", pub)
	}
	sum := sha256.Sum256([]byte(jwk))
	return b64(sum[:]), nil
}
