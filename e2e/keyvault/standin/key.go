package standin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// stored is one version of a key.
type stored struct {
	Key
	version string
	private crypto.Signer
	made    time.Time
}

var (
	ecOps  = []string{"sign", "verify"}
	rsaOps = []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
)

func makeKey(k Key, now time.Time) (*stored, error) {
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, err
	}
	s := &stored{Key: k, version: hex.EncodeToString(raw[:]), private: k.Private, made: now}
	var err error
	switch k.Type {
	case "EC", "EC-HSM":
		if s.Ops == nil {
			s.Ops = ecOps
		}
		curve := map[string]elliptic.Curve{"": elliptic.P256(), "P-256": elliptic.P256(), "P-384": elliptic.P384()}[k.Curve]
		if curve == nil {
			return nil, fmt.Errorf("key %s: want P-256 or P-384, got %q", k.Name, k.Curve)
		}
		if s.private == nil {
			s.private, err = ecdsa.GenerateKey(curve, rand.Reader)
		}
	case "RSA", "RSA-HSM":
		if s.Ops == nil {
			s.Ops = rsaOps
		}
		size := k.Size
		if size == 0 {
			size = 3072
		}
		if s.private == nil {
			s.private, err = rsa.GenerateKey(rand.Reader, size)
		}
	default:
		return nil, fmt.Errorf("key %s: want kty EC, EC-HSM, RSA or RSA-HSM, got %q", k.Name, k.Type)
	}
	return s, err
}

// jwk is the public half as the service gives it.
func (s *stored) jwk(kid string) map[string]any {
	b64 := base64.RawURLEncoding.EncodeToString
	m := map[string]any{"kid": kid, "kty": s.Type, "key_ops": s.Ops}
	switch pub := s.private.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			panic(err) // we made it
		}
		half := len(point) / 2
		m["crv"], m["x"], m["y"] = pub.Curve.Params().Name, b64(point[1:1+half]), b64(point[1+half:])
	case *rsa.PublicKey:
		m["n"], m["e"] = b64(pub.N.Bytes()), b64(big.NewInt(int64(pub.E)).Bytes())
	}
	return m
}

// badParameter is what the caller did wrong.
type badParameter struct{ text string }

func (e *badParameter) Error() string { return e.text }

// operate does one operation. alg and value are the request's, signature that of a verify.
func (s *stored) operate(op, alg string, value, signature []byte) (result any, err error) {
	if !slices.Contains(s.Ops, op) {
		return nil, &badParameter{fmt.Sprintf("Operation %s is not permitted on this key.", op)}
	}
	switch key := s.private.(type) {
	case *ecdsa.PrivateKey:
		size := (key.Curve.Params().BitSize + 7) / 8
		want, digest := "ES256", 32
		if size == 48 {
			want, digest = "ES384", 48
		}
		switch {
		case alg != want:
			return nil, &badParameter{fmt.Sprintf("Key and signing algorithm are incompatible. Key https curve %s allows %s.", key.Curve.Params().Name, want)}
		case len(value) != digest:
			return nil, &badParameter{fmt.Sprintf("Invalid length of 'value': %d bytes. %s requires %d bytes, encoded with base64url.", len(value), alg, digest)}
		case op == "sign":
			return signEC(key, value, size)
		}
		if len(signature) != 2*size {
			return false, nil
		}
		r, v := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(&key.PublicKey, value, r, v), nil
	case *rsa.PrivateKey:
		if alg != "RSA-OAEP-256" {
			return nil, &badParameter{fmt.Sprintf("Unsupported algorithm %s (this stand-in does RSA-OAEP-256 only).", alg)}
		}
		switch op {
		case "encrypt", "wrapKey":
			return rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, value, nil)
		case "decrypt", "unwrapKey":
			out, err := rsa.DecryptOAEP(sha256.New(), nil, key, value, nil)
			if err != nil {
				return nil, &badParameter{"Error occurred while decoding OAEP padding."}
			}
			return out, nil
		}
	}
	return nil, &badParameter{fmt.Sprintf("Operation %s does not go with key type %s here.", op, strings.TrimSuffix(s.Type, "-HSM"))}
}

// signEC is the signature as JOSE has it: both numbers at full length.
func signEC(key *ecdsa.PrivateKey, digest []byte, size int) ([]byte, error) {
	der, err := key.Sign(rand.Reader, digest, nil)
	if err != nil {
		return nil, err
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, err
	}
	out := make([]byte, 2*size)
	sig.R.FillBytes(out[:size])
	sig.S.FillBytes(out[size:])
	return out, nil
}
