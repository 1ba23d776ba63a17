package envelope

import "fmt"

// Code names why an envelope was not opened. Codes are stable: auditors count them. Think before
// adding one. envelope.md section 7 has the table.
type Code string

// Codes of refusal: final, the message can never become valid.
const (
	CodeTooLarge        Code = "too-large"        // more octets than a message may have
	CodeMalformed       Code = "malformed"        // not the parts, or not the lengths, of an envelope
	CodeBadBase64       Code = "bad-base64"       // not base64url, or another spelling of it
	CodeForbiddenHeader Code = "forbidden-header" // a header member that an envelope does not have
	CodeBadHeader       Code = "bad-header"       // the right members with wrong values, or in another spelling
	CodeAlg             Code = "alg-not-allowed"  // an algorithm other than those of envelopes, or than this key's
	CodeUnsigned        Code = "unsigned"         // no signature: alg none, an empty one, or bare claims
	CodeDecrypt         Code = "decrypt-failed"   // encrypted to another key, or altered on the way
	CodeForged          Code = "forged"           // the trusted key did not sign this
	CodeHighS           Code = "high-s"           // the other spelling of a valid ECDSA signature
	CodeKind            Code = "kind-not-allowed" // the key may not sign this kind of event
	CodeRetired         Code = "key-retired"      // the key was retired at an earlier position of the stream
)

// Codes of parking: the message may become valid when trust, keys or the clock change.
const (
	CodeUnknownKey       Code = "unknown-key"       // no trusted key has this id
	CodeUnknownRecipient Code = "unknown-recipient" // we have no decryption key of this id
	CodeKeyWindow        Code = "key-window"        // the key is not yet, or no longer, valid
)

// An Error says why an envelope was not opened. Nothing in it was believed: KID is what the message
// claims, and Detail never repeats content.
type Error struct {
	Code   Code
	KID    string // the key it names, where the header could be read
	Detail string // what was expected and what came
}

func (e *Error) Error() string {
	if e.KID == "" {
		return fmt.Sprintf("%s: %s", e.Code, e.Detail)
	}
	return fmt.Sprintf("%s: %s (key %s)", e.Code, e.Detail, e.KID)
}

// Parked reports whether the message may become valid later. Any other is refused for good. The zero
// Code is refused.
func (e *Error) Parked() bool {
	return e.Code == CodeUnknownKey || e.Code == CodeUnknownRecipient || e.Code == CodeKeyWindow
}

func refusef(c Code, kid, format string, args ...any) *Error {
	return &Error{c, kid, fmt.Sprintf(format, args...)}
}

// An UnaskedError says that a decryption key could not be asked, which says nothing about the message.
type UnaskedError struct {
	KID string // the key
	Err error  // of its store
}

func (e *UnaskedError) Error() string { return fmt.Sprintf("ask decryption key %s: %v", e.KID, e.Err) }

func (e *UnaskedError) Unwrap() error { return e.Err }
