package envelope

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"jmlbridge/internal/envelope/compact"
	"jmlbridge/internal/keys"
)

// What follows only finds the best name for a refusal that has already happened: the header is not
// one of the spellings that compact takes. Nothing here can accept.

func diagnoseSignature(header []byte) *Error {
	m, refused := members(header, []string{"alg", "kid", "typ"})
	if refused != nil {
		return refused
	}
	kid := m.kid()
	alg, _ := m.text("alg")
	switch {
	case strings.EqualFold(alg, "none"):
		return refusef(CodeUnsigned, kid, "the header says that there is no signature")
	case !keys.Alg(alg).Signs():
		return refusef(CodeAlg, kid, "want alg ES256, ES384 or EdDSA, got %q", clip(alg))
	case kid == "":
		return refusef(CodeBadHeader, "", "want a kid of %d characters of base64url", compact.KIDLen)
	}
	if typ, ok := m.text("typ"); !ok || typ != "secevent+jwt" {
		return refusef(CodeBadHeader, kid, "want typ secevent+jwt, got %q", clip(typ))
	}
	return refusef(CodeBadHeader, kid, "the header is not in canonical form")
}

func diagnoseEncryption(header []byte) *Error {
	m, refused := members(header, []string{"alg", "enc", "kid", "cty", "epk"})
	if refused != nil {
		return refused
	}
	kid := m.kid()
	alg, _ := m.text("alg")
	enc, _ := m.text("enc")
	_, epk := m["epk"]
	switch {
	case !keys.Alg(alg).Encrypts():
		return refusef(CodeAlg, kid, "want alg ECDH-ES or RSA-OAEP-256, got %q", clip(alg))
	case enc != compact.Enc:
		return refusef(CodeAlg, kid, "want enc %s, got %q", compact.Enc, clip(enc))
	case kid == "":
		return refusef(CodeBadHeader, "", "want a kid of %d characters of base64url", compact.KIDLen)
	case epk && keys.Alg(alg) == keys.RSAOAEP256:
		return refusef(CodeForbiddenHeader, kid, "epk does not belong with %s", alg)
	}
	if cty, ok := m.text("cty"); !ok || cty != "JWT" {
		return refusef(CodeBadHeader, kid, "want cty JWT, got %q", clip(cty))
	}
	if keys.Alg(alg) == keys.ECDHES {
		e, refused := members(m["epk"], []string{"kty", "crv", "x", "y"})
		if refused != nil {
			refused.KID, refused.Detail = kid, "in epk: "+refused.Detail
			return refused
		}
		kty, _ := e.text("kty")
		crv, _ := e.text("crv")
		if kty != "EC" || compact.CurveByName(crv) == nil {
			return refusef(CodeBadHeader, kid, "want an epk on P-256 or P-384, got kty %q and crv %q", clip(kty), clip(crv))
		}
	}
	return refusef(CodeBadHeader, kid, "the header is not in canonical form, or a coordinate of epk is not of full length")
}

type object map[string]json.RawMessage

// members reads a JSON object, its members among allowed and none of them twice.
func members(text []byte, allowed []string) (object, *Error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, refusef(CodeBadHeader, "", "want a JSON object")
	}
	m := object{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		var value json.RawMessage
		if err != nil || !ok || dec.Decode(&value) != nil {
			return nil, refusef(CodeBadHeader, "", "want a JSON object")
		}
		if _, twice := m[name]; twice {
			return nil, refusef(CodeBadHeader, "", "%q stands twice in the header", clip(name))
		}
		if !slices.Contains(allowed, name) {
			return nil, refusef(CodeForbiddenHeader, "", "want only the members %v, got %q", allowed, clip(name))
		}
		m[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, refusef(CodeBadHeader, "", "want a JSON object")
	}
	return m, nil
}

func (m object) text(name string) (s string, ok bool) {
	ok = json.Unmarshal(m[name], &s) == nil
	return s, ok
}

// kid returns the key id if it has the form of one.
func (m object) kid() string {
	if kid, ok := m.text("kid"); ok && compact.IsKID(kid) {
		return kid
	}
	return ""
}

// clip keeps a stranger's text out of our records beyond what tells what it was.
func clip(s string) string {
	const most = 32 // octets
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
