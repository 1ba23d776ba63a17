package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"jmlbridge/schema"
)

// maxCard bounds a card or key file, in octets.
const maxCard = 64 << 10

// Key is a producer's public key as the auditor was given it, outside the ledger.
type Key struct {
	ID  string
	Alg string // ES256, ES384 or EdDSA: what the key is decides, not what a message says

	// From a card; a bare key file pins none of these.
	Issuer, Stream, Enclave string
	Kinds                   []schema.Kind
	NotBefore, NotAfter     time.Time

	public crypto.PublicKey
	header []byte // the only first part that a message of this key may have, in base64url, with the dot
}

// Keys are the trusted keys by id.
type Keys map[string]*Key

// Add reads a producer's card, a JWK or a public key in PEM, and adds its keys.
func (ks Keys) Add(data []byte) error {
	if len(data) > maxCard {
		return fmt.Errorf("want a card or public key of at most %d octets, got %d", maxCard, len(data))
	}
	list, err := parseKeys(data)
	if err != nil {
		return err
	}
	for _, k := range list {
		if old := ks[k.ID]; old != nil && (old.Issuer != k.Issuer || old.Stream != k.Stream) && old.Issuer != "" && k.Issuer != "" {
			return fmt.Errorf("key %s stands on cards of two streams: %s of %s and %s of %s", k.ID, old.Stream, old.Issuer, k.Stream, k.Issuer)
		}
		if old := ks[k.ID]; old == nil || old.Issuer == "" {
			ks[k.ID] = k
		}
	}
	return nil
}

// card is what a producer hands to enclaves; see producer/README.md.
type card struct {
	Card       string `json:"card"`
	Issuer     string `json:"issuer"`
	Stream     string `json:"stream"`
	Generation int    `json:"generation"`
	Enclave    string `json:"enclave"`
	Keys       []struct {
		ID        string        `json:"kid"`
		Alg       string        `json:"alg"`
		Public    string        `json:"public"`
		Kinds     []schema.Kind `json:"kinds"`
		NotBefore *time.Time    `json:"not_before"`
		NotAfter  *time.Time    `json:"not_after"`
	} `json:"keys"`
}

const cardForm = "jmlbridge-card/1"

func parseKeys(data []byte) ([]*Key, error) {
	text := bytes.TrimSpace(data)
	if bytes.HasPrefix(text, []byte("-----BEGIN")) {
		k, err := keyFromPEM(text)
		if err != nil {
			return nil, err
		}
		return []*Key{k}, nil
	}
	if !bytes.HasPrefix(text, []byte("{")) {
		return nil, errors.New("want a producer's card, a JWK or a public key in PEM")
	}
	var kind struct {
		Card *string `json:"card"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return nil, fmt.Errorf("want a producer's card or a JWK: %w", err)
	}
	if kind.Card == nil {
		k, err := keyFromJWK(text)
		if err != nil {
			return nil, err
		}
		return []*Key{k}, nil
	}
	var c card
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("producer's card: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("producer's card: something follows it")
	}
	if c.Card != cardForm || c.Issuer == "" || c.Stream == "" || len(c.Keys) == 0 {
		return nil, fmt.Errorf("want a card of the form %q with an issuer, a stream and at least one key", cardForm)
	}
	var list []*Key
	for i, ck := range c.Keys {
		k, err := keyFromPEM([]byte(ck.Public))
		if err != nil {
			return nil, fmt.Errorf("key %d of the card: %w", i+1, err)
		}
		if k.ID != ck.ID || k.Alg != ck.Alg {
			return nil, fmt.Errorf("key %d of the card is called %s (%s) and is %s (%s): the card was changed or put together by hand", i+1, ck.ID, ck.Alg, k.ID, k.Alg)
		}
		k.Issuer, k.Stream, k.Enclave, k.Kinds = c.Issuer, c.Stream, c.Enclave, slices.Clone(ck.Kinds)
		if ck.NotBefore != nil {
			k.NotBefore = *ck.NotBefore
		}
		if ck.NotAfter != nil {
			k.NotAfter = *ck.NotAfter
		}
		list = append(list, k)
	}
	return list, nil
}

var (
	oidEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256    = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384    = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// keyFromPEM reads one PKIX public key (RFC 5480, RFC 8410). crypto/x509 would do it too, and bring
// package net with it.
func keyFromPEM(data []byte) (*Key, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("want exactly one PEM block of type PUBLIC KEY")
	}
	var spki struct {
		Algorithm struct {
			OID   asn1.ObjectIdentifier
			Curve asn1.ObjectIdentifier `asn1:"optional"`
		}
		Key asn1.BitString
	}
	if rest, err := asn1.Unmarshal(block.Bytes, &spki); err != nil || len(rest) > 0 || spki.Key.BitLength%8 != 0 {
		return nil, errors.New("want a public key in PKIX form: EC on P-256 or P-384, or Ed25519")
	}
	raw := spki.Key.RightAlign()
	switch a := spki.Algorithm; {
	case a.OID.Equal(oidEC) && a.Curve.Equal(oidP256):
		return ecKey(elliptic.P256(), raw)
	case a.OID.Equal(oidEC) && a.Curve.Equal(oidP384):
		return ecKey(elliptic.P384(), raw)
	case a.OID.Equal(oidEd25519) && len(a.Curve) == 0:
		return edKey(raw)
	}
	return nil, errors.New("want an EC key on P-256 or P-384, or an Ed25519 key")
}

// keyFromJWK reads the public half of a key in RFC 7517 form; other members are passed over.
func keyFromJWK(data []byte) (*Key, error) {
	var j struct {
		Type  string `json:"kty"`
		Curve string `json:"crv"`
		X     string `json:"x"`
		Y     string `json:"y"`
		D     string `json:"d"`
		ID    string `json:"kid"`
	}
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("want a JWK: %w", err)
	}
	if j.D != "" {
		return nil, errors.New("this is a private key; an auditor must not be given one")
	}
	x, err := base64url(nil, []byte(j.X))
	y, err2 := base64url(nil, []byte(j.Y))
	if err != nil || err2 != nil {
		return nil, errors.New("JWK: want x and y in base64url")
	}
	var k *Key
	switch j.Type + " " + j.Curve {
	case "EC P-256":
		k, err = ecJWK(elliptic.P256(), x, y)
	case "EC P-384":
		k, err = ecJWK(elliptic.P384(), x, y)
	case "OKP Ed25519":
		k, err = edKey(x)
	default:
		return nil, errors.New("JWK: want an EC key on P-256 or P-384, or an Ed25519 key")
	}
	if err == nil && j.ID != "" && j.ID != k.ID {
		return nil, fmt.Errorf("JWK: it is called %.64q and is %s", j.ID, k.ID)
	}
	return k, err
}

func ecJWK(c elliptic.Curve, x, y []byte) (*Key, error) {
	n := (c.Params().BitSize + 7) / 8
	if len(x) != n || len(y) != n {
		return nil, fmt.Errorf("JWK: want %d octets each of x and y", n)
	}
	return ecKey(c, slices.Concat([]byte{4}, x, y))
}

func ecKey(c elliptic.Curve, point []byte) (*Key, error) {
	pub, err := ecdsa.ParseUncompressedPublicKey(c, point)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	half := len(point) / 2
	alg := "ES256"
	if c == elliptic.P384() {
		alg = "ES384"
	}
	enc := base64.RawURLEncoding.EncodeToString
	return newKey(pub, alg, fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, c.Params().Name, enc(point[1:1+half]), enc(point[1+half:]))), nil
}

func edKey(raw []byte) (*Key, error) {
	if len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("want %d octets of Ed25519 key, got %d", ed25519.PublicKeySize, len(raw))
	}
	return newKey(ed25519.PublicKey(raw), "EdDSA", fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":%q}`, base64.RawURLEncoding.EncodeToString(raw))), nil
}

// newKey names the key by the RFC 7638 thumbprint of its canonical JWK.
func newKey(pub crypto.PublicKey, alg, jwk string) *Key {
	sum := sha256.Sum256([]byte(jwk))
	k := &Key{ID: base64.RawURLEncoding.EncodeToString(sum[:]), Alg: alg, public: pub}
	h := fmt.Sprintf(`{"alg":"%s","kid":"%s","typ":"secevent+jwt"}`, alg, k.ID)
	k.header = append(base64.RawURLEncoding.AppendEncode(nil, []byte(h)), '.')
	return k
}
