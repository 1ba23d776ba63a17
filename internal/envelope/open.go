// Package envelope opens what comes from the mid-point: a JWE around a JWS around the payload octets of
// a Security Event Token (schema/envelope.md).
//
// It trusts nothing about the bytes, not even that they were meant for it. Size is checked before
// form, form before cryptography, the signature before content: the payload is returned as octets, unparsed,
// and only after a trusted key was found to have signed exactly these. The algorithm belongs to the key;
// the key id in a header only selects among keys that the caller trusts. There is one spelling of every
// envelope: whatever opens re-encodes to the same bytes.
//
// Whether the message is for this enclave (aud), from a known stream, in its place and fresh is not
// decided here: see consumer/admit.
package envelope

import (
	"bytes"
	"errors"

	"jmlbridge/internal/envelope/compact"
	"jmlbridge/schema"
)

// MaxJWS bounds a JWS, in octets: header, payload and signature in base64url. What MaxPayload allows fits.
const MaxJWS = (schema.MaxPayload+2)/3*4 + 1024

// Opened is a message that a trusted key signed.
type Opened struct {
	Payload []byte      // verified octets, not yet parsed
	JWS     []byte      // compact form, for the archive: Verify takes it again
	Key     *TrustedKey // who signed; not yet checked against clock, kind and position

	Recipient     string        // id of the decryption key; empty from Verify
	WireDigest    schema.Digest // of the bytes as received; zero from Verify
	PayloadDigest schema.Digest // what the chain and "same message" go by
}

// Open authenticates wire and returns the payload inside it. A nil error means: a trusted key said exactly
// this. An *Error says whether to refuse or to park; an *UnaskedError says nothing about the message. Open
// keeps no reference to wire.
func Open(wire []byte, ring *Ring, trust Verifiers) (*Opened, error) {
	jws, recipient, err := Decrypt(wire, ring)
	if err != nil {
		return nil, err
	}
	o, err := Verify(jws, trust)
	if err != nil {
		return nil, err
	}
	o.Recipient, o.WireDigest = recipient, schema.DigestOf(wire)
	return o, nil
}

// Decrypt takes the outer layer off and returns the inner one, which nobody has vouched for yet, and
// the id of the decryption key. Errors are as from Open.
func Decrypt(wire []byte, ring *Ring) (jws []byte, recipient string, err error) {
	if len(wire) > schema.MaxWire {
		return nil, "", refusef(CodeTooLarge, "", "want at most %d octets, got %d", schema.MaxWire, len(wire))
	}
	var parts [5][]byte // header, encrypted key, iv, ciphertext, tag
	if !split(parts[:], wire) {
		return nil, "", refusef(CodeMalformed, "", "want the 5 parts of a JWE, got %d", 1+bytes.Count(wire, dot))
	}
	header, err := decodeHeader(parts[0])
	if err != nil {
		return nil, "", err
	}
	h, ok := compact.ParseEncryptionHeader(header)
	if !ok {
		return nil, "", diagnoseEncryption(header)
	}
	key := ring.find(h.KID)
	if key == nil {
		return nil, h.KID, refusef(CodeUnknownRecipient, h.KID, "it is encrypted to a key that is not among our %d", ring.len())
	}
	encryptedKey, ok := compact.AppendDecode(nil, parts[1])
	if !ok {
		return nil, h.KID, refuseBase64(h.KID, "encrypted key")
	}
	iv, ok := compact.AppendDecode(nil, parts[2])
	if !ok {
		return nil, h.KID, refuseBase64(h.KID, "initialization vector")
	}
	// The cipher wants the tag behind the ciphertext: one buffer for both.
	sealed := make([]byte, 0, len(parts[3])+len(parts[4]))
	sealed, ok = compact.AppendDecode(sealed, parts[3])
	if !ok {
		return nil, h.KID, refuseBase64(h.KID, "ciphertext")
	}
	ct := len(sealed)
	sealed, ok = compact.AppendDecode(sealed, parts[4])
	if !ok {
		return nil, h.KID, refuseBase64(h.KID, "tag")
	}
	tag := len(sealed) - ct
	const block = 16
	if len(iv) != compact.IVLen || tag != compact.TagLen || ct == 0 || ct%block != 0 {
		return nil, h.KID, refusef(CodeMalformed, h.KID, "want %d octets of iv, blocks of %d and %d octets of tag, got %d, %d and %d",
			compact.IVLen, block, compact.TagLen, len(iv), ct, tag)
	}
	cek, err := key.contentKey(&h, encryptedKey)
	if err != nil {
		return nil, h.KID, err
	}
	aead, err := compact.NewAEAD(cek)
	if err != nil {
		return nil, h.KID, err
	}
	jws, err = aead.Open(nil, iv, sealed, parts[0])
	if err != nil {
		return nil, h.KID, refusef(CodeDecrypt, h.KID, "%s", decryptDetail)
	}
	return jws, h.KID, nil
}

// Verify checks the inner layer: a JWS as Decrypt returns it or as the archive keeps it. Errors are *Error.
// The result refers to jws.
func Verify(jws []byte, trust Verifiers) (*Opened, error) {
	if len(jws) > MaxJWS {
		return nil, refusef(CodeTooLarge, "", "want a JWS of at most %d octets, got %d", MaxJWS, len(jws))
	}
	var parts [3][]byte // header, payload, signature
	if !split(parts[:], jws) {
		if len(jws) > 0 && jws[0] == '{' {
			return nil, refusef(CodeUnsigned, "", "want a JWS, got bare JSON")
		}
		return nil, refusef(CodeMalformed, "", "want the 3 parts of a JWS, got %d", 1+bytes.Count(jws, dot))
	}
	header, err := decodeHeader(parts[0])
	if err != nil {
		return nil, err
	}
	alg, kid, ok := compact.ParseSignatureHeader(header)
	if !ok {
		return nil, diagnoseSignature(header)
	}
	if len(parts[2]) == 0 {
		return nil, refusef(CodeUnsigned, kid, "the signature is empty")
	}
	sig, ok := compact.AppendDecode(nil, parts[2])
	if !ok {
		return nil, refuseBase64(kid, "signature")
	}
	if want := compact.SignatureLen(alg); len(sig) != want {
		return nil, refusef(CodeMalformed, kid, "want a signature of %d octets for %s, got %d", want, alg, len(sig))
	}
	payload, ok := compact.AppendDecode(nil, parts[1])
	if !ok {
		return nil, refuseBase64(kid, "payload")
	}
	if len(payload) == 0 || len(payload) > schema.MaxPayload {
		return nil, refusef(CodeTooLarge, kid, "want a payload of 1 to %d octets, got %d", schema.MaxPayload, len(payload))
	}
	key := trust.Verifier(kid)
	if key == nil {
		return nil, refusef(CodeUnknownKey, kid, "it is signed by a key that is not trusted here")
	}
	if alg != key.Alg {
		return nil, refusef(CodeAlg, kid, "the key signs by %s, the header says %s", key.Alg, alg)
	}
	switch err := compact.Verify(key.Alg, key.Public, jws[:len(jws)-len(parts[2])-1], sig); {
	case errors.Is(err, compact.ErrHighS):
		return nil, refusef(CodeHighS, kid, "%v", err)
	case err != nil:
		return nil, refusef(CodeForged, kid, "%v", err)
	}
	return &Opened{Payload: payload, JWS: jws, Key: key, PayloadDigest: schema.DigestOf(payload)}, nil
}

var dot = []byte(".")

// split cuts b at its dots into exactly len(parts) parts.
func split(parts [][]byte, b []byte) bool {
	last := len(parts) - 1
	for i := range last {
		var ok bool
		if parts[i], b, ok = bytes.Cut(b, dot); !ok {
			return false
		}
	}
	parts[last] = b
	return bytes.IndexByte(b, '.') < 0
}

func refuseBase64(kid, part string) *Error {
	return refusef(CodeBadBase64, kid, "the %s is not canonical base64url", part)
}

func decodeHeader(part []byte) ([]byte, error) {
	if len(part) > compact.EncodedLen(compact.MaxHeader) {
		return nil, refusef(CodeBadHeader, "", "want a header of at most %d octets, got %d in base64url", compact.MaxHeader, len(part))
	}
	header, ok := compact.AppendDecode(nil, part)
	if !ok {
		return nil, refuseBase64("", "header")
	}
	return header, nil
}
