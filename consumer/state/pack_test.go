package state

import (
	"bytes"
	"strings"
	"testing"
)

func jwsOf(payload string) []byte {
	return []byte("aGVhZGVy." + jwsEncoding.EncodeToString([]byte(payload)) + ".c2lnbmF0dXJl")
}

// packJWS packs as intake does: with the payload that strict decoding gives.
func packJWS(jws []byte) []byte {
	_, rest, _ := bytes.Cut(jws, []byte("."))
	middle, _, _ := bytes.Cut(rest, []byte("."))
	payload, err := jwsEncoding.Strict().AppendDecode(nil, middle)
	if err != nil || bytes.ContainsAny(middle, "\r\n") { // which the decoder skips
		payload = nil
	}
	return pack(jws, payload)
}

func TestPaddingIsNotKept(t *testing.T) {
	jws := jwsOf(`{"iss":"x","pad":"` + strings.Repeat("0", 1500) + `"}`)
	b := packJWS(jws)
	if len(b) > 80 {
		t.Errorf("want the padding left out, got %d octets for %d", len(b), len(jws))
	}
	if again, err := unpack(b); err != nil || !bytes.Equal(again, jws) {
		t.Errorf("want it back as it was, got %q, %v", again, err)
	}
}

func FuzzPack(f *testing.F) {
	f.Add(jwsOf(`{"iss":"x","pad":"000"}`))
	f.Add(jwsOf(`{"n":100"}`))
	f.Add(jwsOf(`"}`))
	f.Add(jwsOf(``))
	f.Add([]byte("a.b"))
	f.Add([]byte("a.YR.c")) // not canonical
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, jws []byte) {
		if again, err := unpack(packJWS(jws)); err != nil || !bytes.Equal(again, jws) {
			t.Errorf("want %q back, got %q, %v", jws, again, err)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add(packJWS(jwsOf(`{"iss":"x","pad":"000"}`)))
	f.Add([]byte{formPacked, 1, 1, 255, 255, 3, 'a', 'b'})
	f.Add([]byte{7})
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = unpack(b) })
}
