// Package compact is the form of an envelope: the two headers, base64url, signatures and key
// derivation, each with exactly one accepted spelling (schema/envelope.md). It believes nothing and
// decides nothing; internal/envelope opens with it, internal/envelope/seal makes envelopes with it.
//
// A header is compared with the only text that it may be, never parsed as JSON. So there is no
// member, order, escape or white space in it that one reader could see and another not.
package compact

import (
	"bytes"
	"fmt"

	"jmlbridge/internal/keys"
)

const (
	// KIDLen is the length of every key id: a SHA-256 digest in base64url.
	KIDLen = 43

	// MaxHeader bounds a header before it is looked at, in octets after base64url decoding. The
	// longest valid one (ECDH-ES, P-384) has 284.
	MaxHeader = 1024

	// Enc is the only content encryption (envelope.md section 4).
	Enc = "A256CBC-HS512"

	IVLen  = 16 // octets of the initialization vector
	TagLen = 32 // octets of the authentication tag
	CEKLen = 64 // octets of the content encryption key: 32 for HMAC, 32 for AES
)

// SignatureHeader is the JWS header for a key (envelope.md section 3).
func SignatureHeader(alg keys.Alg, kid string) []byte {
	return fmt.Appendf(nil, `{"alg":"%s","kid":"%s","typ":"secevent+jwt"}`, alg, kid)
}

// ParseSignatureHeader is the inverse of SignatureHeader. It fails for any other octets.
func ParseSignatureHeader(h []byte) (alg keys.Alg, kid string, ok bool) {
	h, ok = bytes.CutPrefix(h, []byte(`{"alg":"`))
	if !ok {
		return "", "", false
	}
	name, h, ok := bytes.Cut(h, []byte(`","kid":"`))
	if !ok {
		return "", "", false
	}
	switch string(name) {
	case string(keys.ES256):
		alg = keys.ES256
	case string(keys.ES384):
		alg = keys.ES384
	case string(keys.EdDSA):
		alg = keys.EdDSA
	default:
		return "", "", false
	}
	kid, h, ok = cutKID(h)
	if !ok || string(h) != `","typ":"secevent+jwt"}` {
		return "", "", false
	}
	return alg, kid, true
}

// Encryption is what a JWE header says.
type Encryption struct {
	Alg   keys.Alg
	KID   string
	Curve *Curve // of the ephemeral key; nil unless Alg is ECDH-ES
	Point []byte // the ephemeral key, uncompressed (0x04, x, y); not yet known to be on the curve
}

const (
	encPrefix = `","cty":"JWT","enc":"` + Enc + `",`
	epkPrefix = `"epk":{"kty":"EC","crv":"`
)

// Header is e as the JWE header (envelope.md section 4).
func (e *Encryption) Header() []byte {
	h := make([]byte, 0, 320)
	h = append(h, `{"alg":"`...)
	h = append(h, e.Alg...)
	h = append(h, encPrefix...)
	if e.Alg == keys.ECDHES {
		n := e.Curve.Size
		h = append(h, epkPrefix...)
		h = append(h, e.Curve.Name...)
		h = append(h, `","x":"`...)
		h = b64.AppendEncode(h, e.Point[1:1+n])
		h = append(h, `","y":"`...)
		h = b64.AppendEncode(h, e.Point[1+n:])
		h = append(h, `"},`...)
	}
	h = append(h, `"kid":"`...)
	h = append(h, e.KID...)
	return append(h, `"}`...)
}

// ParseEncryptionHeader is the inverse of Header. It fails for any other octets.
func ParseEncryptionHeader(h []byte) (e Encryption, ok bool) {
	h, ok = bytes.CutPrefix(h, []byte(`{"alg":"`))
	if !ok {
		return e, false
	}
	name, h, ok := bytes.Cut(h, []byte(encPrefix))
	if !ok {
		return e, false
	}
	switch string(name) {
	case string(keys.ECDHES):
		e.Alg = keys.ECDHES
		if h, ok = e.cutEPK(h); !ok {
			return e, false
		}
	case string(keys.RSAOAEP256):
		e.Alg = keys.RSAOAEP256
	default:
		return e, false
	}
	h, ok = bytes.CutPrefix(h, []byte(`"kid":"`))
	if !ok {
		return e, false
	}
	e.KID, h, ok = cutKID(h)
	return e, ok && string(h) == `"}`
}

func (e *Encryption) cutEPK(h []byte) ([]byte, bool) {
	h, ok := bytes.CutPrefix(h, []byte(epkPrefix))
	if !ok {
		return nil, false
	}
	crv, h, ok := bytes.Cut(h, []byte(`","x":"`))
	if !ok {
		return nil, false
	}
	if e.Curve = CurveByName(string(crv)); e.Curve == nil {
		return nil, false
	}
	x, h, ok := bytes.Cut(h, []byte(`","y":"`))
	if !ok {
		return nil, false
	}
	y, h, ok := bytes.Cut(h, []byte(`"},`))
	n := b64.EncodedLen(e.Curve.Size)
	if !ok || len(x) != n || len(y) != n {
		return nil, false
	}
	e.Point = make([]byte, 1, 1+2*e.Curve.Size)
	e.Point[0] = 4 // uncompressed
	for _, c := range [][]byte{x, y} {
		if e.Point, ok = AppendDecode(e.Point, c); !ok {
			return nil, false
		}
	}
	return h, true
}

func cutKID(h []byte) (kid string, rest []byte, ok bool) {
	if len(h) < KIDLen || !IsKID(string(h[:KIDLen])) {
		return "", nil, false
	}
	return string(h[:KIDLen]), h[KIDLen:], true
}

// IsKID reports whether s has the form of a key id.
func IsKID(s string) bool {
	if len(s) != KIDLen {
		return false
	}
	var sum [32]byte
	n, err := b64.Decode(sum[:], []byte(s))
	return err == nil && n == len(sum)
}
