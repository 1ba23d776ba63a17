package envelope_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/compact"
	"jmlbridge/internal/keys"
	"jmlbridge/schema"
)

func ecdhOf(pub crypto.PublicKey) (*ecdh.PublicKey, error) {
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("want an EC key")
	}
	return k.ECDH()
}

// cast is everyone in the attack table: one enclave with a key of each kind, one trusted producer
// key of each algorithm, and strangers.
type cast struct {
	es256, es384, eddsa *party // trusted
	second              *party // trusted as well, ES256
	stranger            *party // not trusted, ES256
	p256, p384, rsa     *party // ours; ring holds p256 and rsa, or p384
	elsewhere           *party // another enclave
	payload             []byte
}

func (c *cast) trust() envelope.Trust {
	t := envelope.Trust{}
	for _, p := range []*party{c.es256, c.es384, c.eddsa, c.second} {
		for kid, k := range p.trust {
			t[kid] = k
		}
	}
	return t
}

func newCast(t testing.TB) *cast {
	return &cast{
		es256: newSigner(t, keys.ES256), es384: newSigner(t, keys.ES384), eddsa: newSigner(t, keys.EdDSA),
		second: newSigner(t, keys.ES256), stranger: newSigner(t, keys.ES256),
		p256: newEnclave(t, keys.P256), p384: newEnclave(t, keys.P384), rsa: newEnclave(t, keys.RSA3072), elsewhere: newEnclave(t, keys.P256),
		payload: []byte(`{"iss":"https://iam.example/jml","aud":"urn:jmlbridge:enclave:gov-1"}`),
	}
}

// open opens with whichever of the two rings holds the key: a ring has at most two.
func (c *cast) open(t testing.TB, wire []byte) (*envelope.Opened, error) {
	t.Helper()
	ring, err := envelope.NewRing(c.p256.key, c.rsa.key)
	if err != nil {
		t.Fatal(err)
	}
	o, err := envelope.Open(wire, ring, c.trust())
	var e *envelope.Error
	if errors.As(err, &e) && e.Code == envelope.CodeUnknownRecipient && e.KID == c.p384.kid {
		return envelope.Open(wire, c.p384.ring, c.trust())
	}
	return o, err
}

func (c *cast) header(p *party, alg keys.Alg) string {
	return string(compact.SignatureHeader(alg, p.kid))
}

// good is an honest JWS by the ES256 key.
func (c *cast) good(t testing.TB) []byte {
	return signed(c.header(c.es256, keys.ES256), c.payload, by(t, c.es256, keys.ES256))
}

type attack struct {
	name string
	code envelope.Code
	make func(t testing.TB, c *cast) []byte
}

// onOuter attacks the JWE around an honest JWS, to the P-256 key.
func onOuter(name string, code envelope.Code, o outer) attack {
	return attack{"jwe " + name, code, func(t testing.TB, c *cast) []byte { return encrypted(t, c.p256, c.good(t), o) }}
}

// onInner attacks the JWS inside an honest JWE.
func onInner(name string, code envelope.Code, jws func(t testing.TB, c *cast) []byte) attack {
	return attack{"jws " + name, code, func(t testing.TB, c *cast) []byte { return encrypted(t, c.p256, jws(t, c), outer{}) }}
}

// onHeader signs honestly under a changed header.
func onHeader(name string, code envelope.Code, change func(string) string) attack {
	return onInner(name, code, func(t testing.TB, c *cast) []byte {
		h := c.header(c.es256, keys.ES256)
		if change(h) == h {
			t.Fatal("the attack changed nothing in the header")
		}
		return signed(change(h), c.payload, by(t, c.es256, keys.ES256))
	})
}

func attacks() []attack {
	list := slices.Concat(attacksOnForm(), attacksOnOuterHeader(), attacksOnInnerHeader(), attacksOnKeys())
	for _, part := range []int{0, 2, 3, 4} { // the encrypted key is empty with ECDH-ES
		for name, f := range respell {
			list = append(list, onOuter("part "+string(rune('1'+part))+" respelled, "+name, envelope.CodeBadBase64,
				outer{spelling: func(p []string) { p[part] = f(p[part]) }}))
		}
	}
	for part, name := range []string{"header", "payload", "signature"} {
		for how, f := range respell {
			list = append(list, onInner(name+" respelled, "+how, envelope.CodeBadBase64, func(t testing.TB, c *cast) []byte {
				parts := strings.Split(string(c.good(t)), ".")
				parts[part] = f(parts[part])
				return []byte(strings.Join(parts, "."))
			}))
		}
	}
	return list
}

func attacksOnForm() []attack {
	const code = envelope.CodeMalformed
	return []attack{
		{"empty", code, func(testing.TB, *cast) []byte { return nil }},
		{"huge", envelope.CodeTooLarge, func(testing.TB, *cast) []byte { return bytes.Repeat([]byte("A"), schema.MaxWire+1) }},
		{"json serialization", code, func(testing.TB, *cast) []byte { return []byte(`{"protected":"e30","ciphertext":"AA"}`) }},
		{"not encrypted", code, func(t testing.TB, c *cast) []byte { return c.good(t) }},
		{"jwe four parts", code, func(t testing.TB, c *cast) []byte {
			w := encrypted(t, c.p256, c.good(t), outer{})
			return w[:bytes.LastIndexByte(w, '.')]
		}},
		{"jwe six parts", code, func(t testing.TB, c *cast) []byte { return append(encrypted(t, c.p256, c.good(t), outer{}), '.') }},
		onOuter("iv of 12 octets", code, outer{raw: func(p [][]byte) { p[2] = p[2][:12] }}),
		onOuter("tag of 16 octets", code, outer{raw: func(p [][]byte) { p[4] = p[4][:16] }}),
		onOuter("tag of 64 octets", code, outer{raw: func(p [][]byte) { p[4] = append(p[4], p[4]...) }}),
		onOuter("no tag", code, outer{raw: func(p [][]byte) { p[4] = nil }}),
		onOuter("no ciphertext", code, outer{raw: func(p [][]byte) { p[3] = nil }}),
		onOuter("half a block", code, outer{raw: func(p [][]byte) { p[3] = p[3][:len(p[3])-8] }}),
		onOuter("an encrypted key with ECDH-ES", code, outer{raw: func(p [][]byte) { p[1] = make([]byte, 64) }}),
		{"jwe RSA encrypted key missing", code, func(t testing.TB, c *cast) []byte {
			return encrypted(t, c.rsa, c.good(t), outer{raw: func(p [][]byte) { p[1] = nil }})
		}},
		{"jwe RSA encrypted key one octet short", code, func(t testing.TB, c *cast) []byte {
			return encrypted(t, c.rsa, c.good(t), outer{raw: func(p [][]byte) { p[1] = p[1][1:] }})
		}},
		onInner("two parts", code, func(t testing.TB, c *cast) []byte {
			j := c.good(t)
			return j[:bytes.LastIndexByte(j, '.')]
		}),
		onInner("four parts", code, func(t testing.TB, c *cast) []byte { return append(c.good(t), '.') }),
		onInner("signature one octet short", code, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.ES256), c.payload, func(in []byte) []byte { return by(t, c.es256, keys.ES256)(in)[:63] })
		}),
		onInner("signature in ASN.1", code, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.ES256), c.payload, func(in []byte) []byte {
				sum := sha256.Sum256(in)
				der, err := c.es256.key.Sign(nil, sum[:], crypto.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				return der
			})
		}),
		onInner("payload empty", envelope.CodeTooLarge, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.ES256), nil, by(t, c.es256, keys.ES256))
		}),
		onInner("payload past the limit", envelope.CodeTooLarge, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.ES256), make([]byte, schema.MaxPayload+1), by(t, c.es256, keys.ES256))
		}),
		onInner("nested once more", code, func(t testing.TB, c *cast) []byte { return encrypted(t, c.p256, c.good(t), outer{}) }),
	}
}

func attacksOnOuterHeader() []attack {
	var list []attack
	for _, m := range []string{`"zip":"DEF"`, `"crit":["exp"]`, `"jku":"https://x.example/"`, `"jwk":{"kty":"oct"}`, `"x5u":"https://x.example/"`,
		`"x5c":["AA"]`, `"x5t":"AA"`, `"x5t#S256":"AA"`, `"p2s":"AA"`, `"p2c":1000`, `"apu":"AA"`, `"apv":"AA"`, `"iv":"AA"`, `"tag":"AA"`,
		`"b64":false`, `"typ":"JWE"`, `"iss":"x"`, `"":""`, `"ALG":"ECDH-ES"`} {
		list = append(list, onOuter("with "+m, envelope.CodeForbiddenHeader, outer{header: with(m)}))
	}
	for _, alg := range []string{"ECDH-ES+A256KW", "dir", "RSA1_5", "RSA-OAEP", "A256KW", "PBES2-HS256+A128KW", "none", "ecdh-es"} {
		list = append(list, onOuter("alg "+alg, envelope.CodeAlg, outer{header: replace(`"ECDH-ES"`, `"`+alg+`"`)}))
	}
	for _, enc := range []string{"A256GCM", "A128CBC-HS256", "A192CBC-HS384", "a256cbc-hs512", ""} {
		list = append(list, onOuter("enc "+enc, envelope.CodeAlg, outer{header: replace(compact.Enc, enc)}))
	}
	bad := func(name string, change func(string) string) {
		list = append(list, onOuter(name, envelope.CodeBadHeader, outer{header: change}))
	}
	bad("alg twice", with(`"alg":"ECDH-ES"`))
	bad("kid twice", with(`"kid":"x"`))
	bad("cty missing", replace(`"cty":"JWT",`, ``))
	bad("cty other", replace(`"JWT"`, `"jwt"`))
	bad("kid missing", func(h string) string { return h[:strings.Index(h, `,"kid"`)] + "}" })
	bad("kid short", func(h string) string { return h[:len(h)-3] + `"}` })
	bad("kid long", func(h string) string { return strings.TrimSuffix(h, `"}`) + strings.Repeat("A", 300) + `"}` })
	bad("kid no base64url", func(h string) string { return h[:len(h)-4] + `="}` })
	bad("kid a number", func(h string) string { return h[:strings.Index(h, `"kid"`)] + `"kid":1}` })
	bad("longer than is read", func(h string) string { return h + strings.Repeat(" ", 2000) })
	bad("a space", replace(`,"`, `, "`))
	bad("a line end", func(h string) string { return h + "\n" })
	bad("an escape", replace(`"cty"`, `"\u0063ty"`))
	bad("other order", func(h string) string { return `{"cty":"JWT",` + strings.Replace(h[1:], `"cty":"JWT",`, ``, 1) })
	bad("not JSON", func(string) string { return "alg=ECDH-ES" })
	bad("an array", func(string) string { return "[]" })
	bad("cut off", func(h string) string { return h[:len(h)-1] })
	bad("twice", func(h string) string { return h + h })
	bad("epk missing", func(h string) string { i := strings.Index(h, `"epk"`); return h[:i] + h[strings.Index(h, `"kid"`):] })
	bad("epk null", func(h string) string {
		return h[:strings.Index(h, `"epk"`)] + `"epk":null,` + h[strings.Index(h, `"kid"`):]
	})
	bad("epk on P-521", replace(`"P-256"`, `"P-521"`))
	bad("epk on another curve than the key", replace(`"P-256"`, `"P-384"`))
	bad("epk of another type", replace(`"EC"`, `"OKP"`))
	list = append(list,
		onOuter("epk with d", envelope.CodeForbiddenHeader, outer{header: replace(`"kty":"EC",`, `"kty":"EC","d":"AA",`)}),
		onOuter("epk not on the curve", envelope.CodeBadHeader, outer{point: func(p []byte) []byte { p[40] ^= 1; return p }}),
		onOuter("epk zero", envelope.CodeBadHeader, outer{point: func(p []byte) []byte { clear(p[1:]); return p }}),
		onOuter("epk past the field", envelope.CodeBadHeader, outer{point: func(p []byte) []byte {
			for i := range p[1:] {
				p[1+i] = 0xff
			}
			return p
		}}),
		onOuter("epk coordinate short", envelope.CodeBadHeader, outer{header: func(h string) string {
			i := strings.Index(h, `"x":"`) + len(`"x":"`)
			return h[:i] + h[i+4:]
		}}),
		attack{"jwe alg swapped to the EC key's kid", envelope.CodeAlg, func(t testing.TB, c *cast) []byte {
			return encrypted(t, c.rsa, c.good(t), outer{header: replace(c.rsa.kid, c.p256.kid)})
		}},
		attack{"jwe alg swapped to the RSA key's kid", envelope.CodeAlg, func(t testing.TB, c *cast) []byte {
			return encrypted(t, c.p256, c.good(t), outer{header: replace(c.p256.kid, c.rsa.kid)})
		}},
		attack{"jwe epk with RSA", envelope.CodeForbiddenHeader, func(t testing.TB, c *cast) []byte {
			return encrypted(t, c.rsa, c.good(t), outer{header: with(`"epk":{"kty":"EC"}`)})
		}},
		attack{"jwe P-384 point to the P-256 key", envelope.CodeBadHeader, func(t testing.TB, c *cast) []byte {
			return encrypted(t, c.p384, c.good(t), outer{header: replace(c.p384.kid, c.p256.kid)})
		}},
	)
	return list
}

func attacksOnInnerHeader() []attack {
	var list []attack
	for _, m := range []string{`"zip":"DEF"`, `"crit":["b64"]`, `"b64":false`, `"jku":"https://x.example/"`, `"jwk":{"kty":"EC"}`, `"x5u":"https://x.example/"`,
		`"x5c":["AA"]`, `"x5t":"AA"`, `"x5t#S256":"AA"`, `"cty":"JWT"`, `"nonce":"AA"`, `"enc":"A256GCM"`, `"iat":1`, `"Kid":"x"`} {
		list = append(list, onHeader("with "+m, envelope.CodeForbiddenHeader, with(m)))
	}
	for _, alg := range []string{"RS256", "PS256", "ES512", "ES256K", "es256", "Ed25519", ""} {
		list = append(list, onHeader("alg "+alg, envelope.CodeAlg, replace("ES256", alg)))
	}
	for _, alg := range []string{"none", "None", "nOnE"} {
		list = append(list, onHeader("alg "+alg, envelope.CodeUnsigned, replace("ES256", alg)),
			onInner("alg "+alg+" without a signature", envelope.CodeUnsigned, func(t testing.TB, c *cast) []byte {
				h := strings.Replace(c.header(c.es256, keys.ES256), "ES256", alg, 1)
				return signed(h, c.payload, func([]byte) []byte { return nil })
			}))
	}
	bad := func(name string, change func(string) string) {
		list = append(list, onHeader(name, envelope.CodeBadHeader, change))
	}
	bad("alg twice", with(`"alg":"ES256"`))
	bad("alg twice, the second none", with(`"alg":"none"`))
	bad("kid twice", with(`"kid":"x"`))
	bad("typ missing", replace(`,"typ":"secevent+jwt"`, ``))
	bad("typ JWT", replace(`secevent+jwt`, `JWT`))
	bad("typ in capitals", replace(`secevent+jwt`, `SECEVENT+JWT`))
	bad("typ with its prefix", replace(`secevent+jwt`, `application/secevent+jwt`))
	bad("kid missing", func(h string) string { i := strings.Index(h, `"kid"`); return h[:i] + h[strings.Index(h, `"typ"`):] })
	bad("kid a path", func(h string) string {
		i := strings.Index(h, `"kid":"`) + 7
		return h[:i] + "../../../../dev/null" + h[i+compact.KIDLen:]
	})
	bad("a space", replace(`:"`, `: "`))
	bad("an escape", replace(`secevent+jwt`, `secevent\u002bjwt`))
	bad("other order", func(h string) string {
		i := strings.Index(h, `,"typ"`)
		return `{"typ":"secevent+jwt",` + h[1:i] + "}"
	})
	bad("not JSON", func(string) string { return "\xff\xfe" })
	bad("longer than is read", func(h string) string { return h + strings.Repeat(" ", 2000) })
	return list
}

func attacksOnKeys() []attack {
	order := func(c elliptic.Curve, s []byte) []byte { // n - s
		v := new(big.Int).Sub(c.Params().N, new(big.Int).SetBytes(s))
		return v.FillBytes(make([]byte, len(s)))
	}
	return []attack{
		onInner("HS256 with the public key as the secret", envelope.CodeAlg, func(t testing.TB, c *cast) []byte {
			pub, err := keys.MarshalPublic(c.es256.key.Public())
			if err != nil {
				t.Fatal(err)
			}
			return signed(c.header(c.es256, "HS256"), c.payload, func(in []byte) []byte {
				mac := hmac.New(sha256.New, pub)
				mac.Write(in)
				return mac.Sum(nil)
			})
		}),
		onInner("alg swapped to EdDSA", envelope.CodeAlg, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.EdDSA), c.payload, by(t, c.eddsa, keys.EdDSA))
		}),
		onInner("alg swapped to ES384", envelope.CodeAlg, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.ES384), c.payload, by(t, c.es384, keys.ES384))
		}),
		onInner("alg swapped down to ES256", envelope.CodeAlg, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es384, keys.ES256), c.payload, by(t, c.es256, keys.ES256))
		}),
		onInner("kid swapped to another trusted key", envelope.CodeForged, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.second, keys.ES256), c.payload, by(t, c.es256, keys.ES256))
		}),
		onInner("kid swapped to a stranger's", envelope.CodeUnknownKey, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.stranger, keys.ES256), c.payload, by(t, c.es256, keys.ES256))
		}),
		onInner("signed by a stranger", envelope.CodeUnknownKey, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.stranger, keys.ES256), c.payload, by(t, c.stranger, keys.ES256))
		}),
		onInner("forged by a stranger", envelope.CodeForged, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.ES256), c.payload, by(t, c.stranger, keys.ES256))
		}),
		onInner("payload altered", envelope.CodeForged, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.ES256), append([]byte(" "), c.payload...), func([]byte) []byte {
				return by(t, c.es256, keys.ES256)([]byte(strings.Join(strings.Split(string(c.good(t)), ".")[:2], ".")))
			})
		}),
		onInner("signature of zeros", envelope.CodeForged, func(_ testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.ES256), c.payload, func([]byte) []byte { return make([]byte, 64) })
		}),
		onInner("signature of the group order", envelope.CodeForged, func(_ testing.TB, c *cast) []byte {
			n := elliptic.P256().Params().N.Bytes()
			return signed(c.header(c.es256, keys.ES256), c.payload, func([]byte) []byte { return append(bytes.Clone(n), n...) })
		}),
		onInner("high s, ES256", envelope.CodeHighS, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.ES256), c.payload, func(in []byte) []byte {
				sig := by(t, c.es256, keys.ES256)(in)
				return append(sig[:32:32], order(elliptic.P256(), sig[32:])...)
			})
		}),
		onInner("high s, ES384", envelope.CodeHighS, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.es384, keys.ES384), c.payload, func(in []byte) []byte {
				sig := by(t, c.es384, keys.ES384)(in)
				return append(sig[:48:48], order(elliptic.P384(), sig[48:])...)
			})
		}),
		onInner("EdDSA with s past the order", envelope.CodeForged, func(t testing.TB, c *cast) []byte {
			return signed(c.header(c.eddsa, keys.EdDSA), c.payload, func(in []byte) []byte {
				sig := by(t, c.eddsa, keys.EdDSA)(in)
				l, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
				s := slices.Clone(sig[32:])
				slices.Reverse(s) // little-endian
				sum := l.Add(l, new(big.Int).SetBytes(s)).FillBytes(make([]byte, 32))
				slices.Reverse(sum)
				return append(sig[:32:32], sum...)
			})
		}),
		onInner("signature empty", envelope.CodeUnsigned, func(_ testing.TB, c *cast) []byte {
			return signed(c.header(c.es256, keys.ES256), c.payload, func([]byte) []byte { return nil })
		}),
		onInner("bare claims", envelope.CodeUnsigned, func(_ testing.TB, c *cast) []byte { return c.payload }),
		{"encrypted to another enclave", envelope.CodeUnknownRecipient, func(t testing.TB, c *cast) []byte {
			return encrypted(t, c.elsewhere, c.good(t), outer{})
		}},
		{"encrypted to another key under our kid", envelope.CodeDecrypt, func(t testing.TB, c *cast) []byte {
			return encrypted(t, c.elsewhere, c.good(t), outer{header: replace(c.elsewhere.kid, c.p256.kid)})
		}},
		onOuter("ciphertext altered", envelope.CodeDecrypt, outer{raw: func(p [][]byte) { p[3][0] ^= 1 }}),
		onOuter("iv altered", envelope.CodeDecrypt, outer{raw: func(p [][]byte) { p[2][0] ^= 1 }}),
		onOuter("tag altered", envelope.CodeDecrypt, outer{raw: func(p [][]byte) { p[4][31] ^= 1 }}),
		onOuter("a block cut off", envelope.CodeDecrypt, outer{raw: func(p [][]byte) { p[3] = p[3][:len(p[3])-16] }}),
		{"jwe RSA encrypted key altered", envelope.CodeDecrypt, func(t testing.TB, c *cast) []byte {
			return encrypted(t, c.rsa, c.good(t), outer{raw: func(p [][]byte) { p[1][100] ^= 1 }})
		}},
	}
}

func TestAttacksAreRefused(t *testing.T) {
	c := newCast(t)
	parked := []envelope.Code{envelope.CodeUnknownKey, envelope.CodeUnknownRecipient}
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			_, err := c.open(t, a.make(t, c))
			var e *envelope.Error
			if !errors.As(err, &e) {
				t.Fatalf("want an *Error %s, got %v", a.code, err)
			}
			if e.Code != a.code {
				t.Errorf("want code %s, got %v", a.code, e)
			}
			if e.Parked() != slices.Contains(parked, a.code) {
				t.Errorf("parked is %v for %s", e.Parked(), a.code)
			}
			if strings.Contains(e.Error(), "iam.example") {
				t.Errorf("the error repeats content: %v", e)
			}
		})
	}
}

// The table above proves something only if the same tools make messages that open.
func TestForgeryToolsMakeGoodMessages(t *testing.T) {
	c := newCast(t)
	for _, to := range []*party{c.p256, c.p384, c.rsa} {
		for _, from := range []struct {
			p   *party
			alg keys.Alg
		}{{c.es256, keys.ES256}, {c.es384, keys.ES384}, {c.eddsa, keys.EdDSA}} {
			o, err := c.open(t, encrypted(t, to, signed(c.header(from.p, from.alg), c.payload, by(t, from.p, from.alg)), outer{}))
			if err != nil {
				t.Fatalf("%s: %v", from.alg, err)
			}
			if !bytes.Equal(o.Payload, c.payload) || o.Key.KID != from.p.kid || o.Recipient != to.kid {
				t.Errorf("%s: opened to %q by %s for %s", from.alg, o.Payload, o.Key.KID, o.Recipient)
			}
		}
	}
}
