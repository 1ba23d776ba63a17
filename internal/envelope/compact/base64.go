package compact

import (
	"bytes"
	"encoding/base64"
	"slices"
)

// b64 refuses padding, the standard alphabet and stray bits behind the last octet.
var b64 = base64.RawURLEncoding.Strict()

// AppendDecode decodes canonical base64url (envelope.md section 2): the one spelling that encoding
// the result gives again.
func AppendDecode(dst, src []byte) ([]byte, bool) {
	// encoding/base64 skips line ends, in Strict mode as well.
	if bytes.IndexByte(src, '\n') >= 0 || bytes.IndexByte(src, '\r') >= 0 {
		return nil, false
	}
	out, err := b64.AppendDecode(slices.Grow(dst, b64.DecodedLen(len(src))), src)
	return out, err == nil
}

// AppendEncode is the inverse of AppendDecode.
func AppendEncode(dst, src []byte) []byte { return b64.AppendEncode(dst, src) }

// EncodedLen is the length of n octets in base64url.
func EncodedLen(n int) int { return b64.EncodedLen(n) }
