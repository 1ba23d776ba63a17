package state

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
)

// Signed messages are kept without what costs room and says nothing: the base64 of the payload, and the
// zeros that fill it to its size class. A heartbeat a minute would else be over a gigabyte a year.
//
// A packed message is one octet that names the form, then
//
//	formWhole:  the JWS as it is
//	formPacked: three numbers (unsigned varints): octets of header, octets of signature, zeros left out;
//	            header and signature in base64url as they were; payload octets without those zeros
//
// The forms stand in the database. Whatever is packed comes back octet for octet.
const (
	formWhole  = 0
	formPacked = 1
)

// maxPart bounds each of the three numbers, far above what envelopes allow.
const maxPart = 1 << 20

// padEnd closes a padded payload (schema/event.md: pad is the last member).
var padEnd = []byte(`"}`)

var jwsEncoding = base64.RawURLEncoding

// pack packs a message whose payload octets are known: those of the one accepted spelling of base64url, as
// verifying has read them. What is not of that form is kept whole.
func pack(jws, payload []byte) []byte {
	header, rest, ok := bytes.Cut(jws, []byte("."))
	middle, signature, ok2 := bytes.Cut(rest, []byte("."))
	if !ok || !ok2 || len(header) > maxPart || len(signature) > maxPart || len(payload) > maxPart || jwsEncoding.EncodedLen(len(payload)) != len(middle) {
		return append([]byte{formWhole}, jws...)
	}
	body, padded := bytes.CutSuffix(payload, padEnd)
	zeros := 0
	if padded {
		kept := bytes.TrimRight(body, "0")
		zeros, body = len(body)-len(kept), kept
	}
	b := make([]byte, 0, 1+3*binary.MaxVarintLen32+len(header)+len(signature)+len(payload)-zeros)
	b = append(b, formPacked)
	for _, n := range [...]int{len(header), len(signature), zeros} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = append(append(append(b, header...), signature...), body...)
	if padded {
		b = append(b, padEnd...)
	}
	return b
}

var errPacked = errors.New("an archived message is not in a form that this program knows; the database was changed by another hand")

func unpack(b []byte) ([]byte, error) {
	if len(b) > 0 && b[0] == formWhole {
		return b[1:], nil
	}
	if len(b) == 0 || b[0] != formPacked {
		return nil, errPacked
	}
	rest := b[1:]
	var size [3]int
	for i := range size {
		n, used := binary.Uvarint(rest)
		if used <= 0 || n > maxPart {
			return nil, errPacked
		}
		size[i], rest = int(n), rest[used:]
	}
	if len(rest) < size[0]+size[1] {
		return nil, errPacked
	}
	header, signature, payload := rest[:size[0]], rest[size[0]:size[0]+size[1]], rest[size[0]+size[1]:]
	if zeros := size[2]; zeros > 0 {
		body, ok := bytes.CutSuffix(payload, padEnd)
		if !ok {
			return nil, errPacked
		}
		full := make([]byte, 0, len(payload)+zeros)
		full = append(full, body...)
		for range zeros {
			full = append(full, '0')
		}
		payload = append(full, padEnd...)
	}
	jws := make([]byte, 0, len(header)+len(signature)+2+jwsEncoding.EncodedLen(len(payload)))
	jws = append(append(jws, header...), '.')
	jws = append(jwsEncoding.AppendEncode(jws, payload), '.')
	return append(jws, signature...), nil
}

// packed scans a packed message.
type packed struct{ jws *[]byte }

func (x packed) Scan(v any) (err error) {
	b, ok := v.([]byte)
	if !ok {
		return errPacked
	}
	*x.jws, err = unpack(bytes.Clone(b))
	return err
}
