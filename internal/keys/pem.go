package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	privateType = "PRIVATE KEY" // PKCS #8
	publicType  = "PUBLIC KEY"  // PKIX
)

// MarshalPrivate encodes key as PKCS #8 in PEM.
func MarshalPrivate(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateType, Bytes: der}), nil
}

// ParsePrivate reads one PKCS #8 key in PEM, and nothing beside it.
func ParsePrivate(data []byte) (crypto.Signer, error) {
	der, err := onlyBlock(data, privateType)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read the private key: %w", err)
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	case *rsa.PrivateKey:
		return k, nil
	}
	return nil, fmt.Errorf("want an EC, Ed25519 or RSA private key, got a %T", key)
}

// MarshalPublic encodes pub as PKIX in PEM: what one side carries to the other.
func MarshalPublic(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encode the public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicType, Bytes: der}), nil
}

// ParsePublic reads one PKIX key in PEM, and nothing beside it. That the point is on its curve is checked.
func ParsePublic(data []byte) (crypto.PublicKey, error) {
	der, err := onlyBlock(data, publicType)
	if err != nil {
		return nil, err
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	if _, err := ID(pub); err != nil {
		return nil, err
	}
	return pub, nil
}

// onlyBlock returns the content of the one PEM block in data. Text around it is refused: two keys in
// a file, or a key behind a comment, is a mistake that should not pass in silence.
func onlyBlock(data []byte, want string) ([]byte, error) {
	data, begin := bytes.TrimSpace(data), []byte("-----BEGIN ")
	if len(data) == 0 {
		return nil, errors.New("the file is empty")
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, fmt.Errorf("want a PEM block %q, got no PEM at all", want)
	case block.Type != want && want == privateType && (block.Type == "EC PRIVATE KEY" || block.Type == "RSA PRIVATE KEY"):
		return nil, fmt.Errorf("want a PEM block %q (PKCS #8), got %q; convert it with: openssl pkcs8 -topk8 -nocrypt", want, block.Type)
	case block.Type != want:
		return nil, fmt.Errorf("want a PEM block %q, got %q", want, block.Type)
	case len(block.Headers) > 0:
		return nil, fmt.Errorf("want a PEM block %q without headers", want)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fmt.Errorf("%d octets follow the PEM block; want one key a file and nothing else", len(rest))
	case !bytes.HasPrefix(data, begin) || bytes.Count(data, begin) > 1: // pem passes over what it cannot read
		return nil, errors.New("text stands before the PEM block; want one key a file and nothing else")
	}
	return block.Bytes, nil
}
