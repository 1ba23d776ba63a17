package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"math/big"

	"jmlbridge/schema"
)

var (
	errForm      = errors.New("it is not a JWS in the one form of schema/envelope.md")
	errUnknown   = errors.New("it names a key that was not given to the auditor")
	errSignature = errors.New("its key did not sign these octets")
	errHighS     = errors.New("its signature is the non-canonical spelling of a valid one")
)

var strict = base64.RawURLEncoding.Strict()

// base64url decodes the one canonical spelling; encoding/base64 alone would skip line ends.
func base64url(dst, src []byte) ([]byte, error) {
	if bytes.ContainsAny(src, "\r\n") {
		return nil, errForm
	}
	return strict.AppendDecode(dst, src)
}

// payloadOf returns the payload octets of a compact JWS, which nobody has vouched for.
func payloadOf(jws []byte) ([]byte, error) {
	_, rest, ok := bytes.Cut(jws, []byte("."))
	body, _, ok2 := bytes.Cut(rest, []byte("."))
	if !ok || !ok2 || base64.RawURLEncoding.DecodedLen(len(body)) > schema.MaxPayload {
		return nil, errForm
	}
	return base64url(make([]byte, 0, base64.RawURLEncoding.DecodedLen(len(body))), body)
}

// signed checks the signature of a compact JWS and returns the key that made it. The header is compared
// octet by octet with the only one that the key may have, so nothing in it is interpreted; it is looked at
// only to find which key that is.
func (ks Keys) signed(jws []byte) (*Key, error) {
	i := bytes.IndexByte(jws, '.')
	j := bytes.LastIndexByte(jws, '.')
	if i < 0 || i == j || bytes.Count(jws, []byte(".")) != 2 {
		return nil, errForm
	}
	var key *Key
	for _, k := range ks {
		if bytes.Equal(k.header, jws[:i+1]) {
			key = k
			break
		}
	}
	if key == nil {
		return nil, errUnknown
	}
	sig, err := base64url(make([]byte, 0, 96), jws[j+1:])
	if err != nil {
		return key, errForm
	}
	return key, key.verify(jws[:j], sig)
}

func (k *Key) verify(input, sig []byte) error {
	switch pub := k.public.(type) {
	case *ecdsa.PublicKey:
		size := (pub.Curve.Params().BitSize + 7) / 8
		if len(sig) != 2*size {
			return errSignature
		}
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		var digest []byte
		if k.Alg == "ES384" {
			sum := sha512.Sum384(input)
			digest = sum[:]
		} else {
			sum := sha256.Sum256(input)
			digest = sum[:]
		}
		if !ecdsa.Verify(pub, digest, r, s) {
			return errSignature
		}
		if s.Lsh(s, 1).Cmp(pub.Curve.Params().N) > 0 {
			return errHighS
		}
		return nil
	case ed25519.PublicKey:
		if ed25519.Verify(pub, input, sig) {
			return nil
		}
	}
	return errSignature
}
