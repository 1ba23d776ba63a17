package envelope_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"strings"
	"testing"

	"jmlbridge/internal/envelope/compact"
	"jmlbridge/internal/keys"
)

// What an attacker at the mid-point can make, who knows every public key: seal would make none of it.

// signed returns a JWS with any header.
func signed(header string, payload []byte, sign func(input []byte) []byte) []byte {
	jws := compact.AppendEncode(nil, []byte(header))
	jws = compact.AppendEncode(append(jws, '.'), payload)
	return compact.AppendEncode(append(jws, '.'), sign(bytes.Clone(jws)))
}

// by signs honestly with p's key, by the algorithm named.
func by(t testing.TB, p *party, alg keys.Alg) func([]byte) []byte {
	return func(input []byte) []byte {
		sig, err := compact.Sign(alg, p.key, input)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
}

// outer is a JWE in the making. The zero value makes what seal makes.
type outer struct {
	header   func(h string) string   // changes the header before it is authenticated
	point    func(epk []byte) []byte // changes the ephemeral key in the header
	raw      func(parts [][]byte)    // changes the parts before they are encoded
	spelling func(parts []string)    // changes the parts after they were encoded
}

// encrypted returns jws encrypted to p as o says.
func encrypted(t testing.TB, p *party, jws []byte, o outer) []byte {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var (
		e            compact.Encryption
		cek, encKey  []byte
		err          error
		publicRSA, _ = p.key.Public().(*rsa.PublicKey)
	)
	if publicRSA != nil {
		e = compact.Encryption{Alg: keys.RSAOAEP256, KID: p.kid}
		cek = make([]byte, compact.CEKLen)
		_, err = rand.Read(cek)
		must(err)
		encKey, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, publicRSA, cek, nil)
		must(err)
	} else {
		to, err := ecdhOf(p.key.Public())
		must(err)
		curve := compact.CurveByName("P-256")
		if to.Curve() != curve.ECDH {
			curve = compact.CurveByName("P-384")
		}
		eph, err := curve.ECDH.GenerateKey(rand.Reader)
		must(err)
		z, err := eph.ECDH(to)
		must(err)
		cek = compact.DeriveKey(z)
		e = compact.Encryption{Alg: keys.ECDHES, KID: p.kid, Curve: curve, Point: eph.PublicKey().Bytes()}
	}
	if o.point != nil {
		e.Point = o.point(e.Point)
	}
	header := string(e.Header())
	if o.header != nil {
		changed := o.header(header)
		if changed == header {
			t.Fatal("the attack changed nothing in the header")
		}
		header = changed
	}
	iv := make([]byte, compact.IVLen)
	_, err = rand.Read(iv)
	must(err)
	aead, err := compact.NewAEAD(cek)
	must(err)
	ct := aead.Seal(nil, iv, jws, compact.AppendEncode(nil, []byte(header)))
	cut := len(ct) - compact.TagLen
	parts := [][]byte{[]byte(header), encKey, iv, bytes.Clone(ct[:cut]), bytes.Clone(ct[cut:])}
	if o.raw != nil {
		o.raw(parts)
	}
	text := make([]string, len(parts))
	for i, part := range parts {
		text[i] = string(compact.AppendEncode(nil, part))
	}
	if o.spelling != nil {
		before := strings.Join(text, ".")
		o.spelling(text)
		if strings.Join(text, ".") == before {
			t.Fatal("the attack changed nothing in the spelling")
		}
	}
	return []byte(strings.Join(text, "."))
}

// respell lists other spellings of a base64url part that lenient decoders take.
var respell = map[string]func(string) string{
	"padding":       func(s string) string { return s + strings.Repeat("=", max(1, (4-len(s)%4)%4)) },
	"line end":      func(s string) string { return s[:len(s)/2] + "\n" + s[len(s)/2:] },
	"carriage":      func(s string) string { return s + "\r" },
	"space":         func(s string) string { return " " + s },
	"alphabet":      toStandardAlphabet,
	"trailing bits": setTrailingBits,
}

func toStandardAlphabet(s string) string {
	if t := strings.NewReplacer("-", "+", "_", "/").Replace(s); t != s {
		return t
	}
	return s[:len(s)-1] + "+" // a part without - or _: at least the alphabet is the wrong one
}

// setTrailingBits changes the bits of the last character that stand for no octet.
func setTrailingBits(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, s[len(s)-1])
	switch len(s) % 4 {
	case 2, 3:
		return s[:len(s)-1] + alphabet[i^1:i^1+1]
	}
	return s + "A" // no such bits: a character too many
}

func replace(from, to string) func(string) string {
	return func(s string) string { return strings.Replace(s, from, to, 1) }
}

// with adds a member behind the first.
func with(member string) func(string) string { return replace(`,"`, `,`+member+`,"`) }
