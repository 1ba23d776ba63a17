package tiles

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// algECDSA is the type of C2SP signed-note for ECDSA with SHA-256.
const algECDSA = 2

// spkiP256 is what the SPKI octets of every P-256 key begin with (RFC 5480); its point follows, uncompressed. Package
// crypto/x509 would bring the network into whoever only verifies.
const spkiP256 = "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"

// SecondVerifierKey is the text that auditors are given of a ledger's second key, an ECDSA key on P-256: origin,
// key id, and the type and the SPKI octets of the key, in one line (schema/ledger.md section 4.1).
func SecondVerifierKey(origin string, pub *ecdsa.PublicKey) (string, error) {
	if pub == nil || pub.Curve != elliptic.P256() {
		return "", errors.New("second ledger key: want an ECDSA key on P-256")
	}
	point, err := pub.Bytes()
	if err != nil {
		return "", fmt.Errorf("second ledger key: %w", err)
	}
	der := append([]byte(spkiP256), point...)
	line := fmt.Sprintf("%s+%08x+%s", origin, ecdsaKeyID(der), base64.StdEncoding.EncodeToString(append([]byte{algECDSA}, der...)))
	if _, err := NewSecondVerifier(line); err != nil {
		return "", err
	}
	return line, nil
}

func ecdsaKeyID(der []byte) uint32 {
	sum := sha256.Sum256(der)
	return binary.BigEndian.Uint32(sum[:])
}

// NewSecondVerifier reads a line of SecondVerifierKey.
func NewSecondVerifier(line string) (note.Verifier, error) {
	bad := func(why string) (note.Verifier, error) {
		return nil, fmt.Errorf("second ledger key: want one line like name+id+key: %s", why)
	}
	parts := strings.SplitN(line, "+", 3)
	if len(parts) != 3 || parts[0] == "" || strings.ContainsFunc(parts[0], func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return bad("it has no name, or not three parts")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || base64.StdEncoding.EncodeToString(raw) != parts[2] || len(raw) < 2 || raw[0] != algECDSA {
		return bad("its key is not one for ECDSA")
	}
	point, ok := bytes.CutPrefix(raw[1:], []byte(spkiP256))
	if !ok {
		return bad("its key is not on P-256")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return bad("its key is not a point on P-256")
	}
	id := ecdsaKeyID(raw[1:])
	if parts[1] != fmt.Sprintf("%08x", id) {
		return bad("its id is not that of its key")
	}
	return &ecdsaVerifier{parts[0], id, key}, nil
}

type ecdsaVerifier struct {
	name string
	id   uint32
	key  *ecdsa.PublicKey
}

func (v *ecdsaVerifier) Name() string    { return v.name }
func (v *ecdsaVerifier) KeyHash() uint32 { return v.id }
func (v *ecdsaVerifier) Verify(msg, sig []byte) bool {
	sum := sha256.Sum256(msg)
	return ecdsa.VerifyASN1(v.key, sum[:], sig)
}

// NewSecondSigner makes the second signer of a ledger's checkpoints, from a key in memory or in an HSM, and the
// verifier for it.
func NewSecondSigner(origin string, key crypto.Signer) (note.Signer, note.Verifier, error) {
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, nil, errors.New("second ledger key: want an ECDSA key on P-256")
	}
	line, err := SecondVerifierKey(origin, pub)
	if err != nil {
		return nil, nil, err
	}
	v, err := NewSecondVerifier(line)
	if err != nil {
		return nil, nil, err
	}
	return &ecdsaSigner{v, key}, v, nil
}

type ecdsaSigner struct {
	note.Verifier
	key crypto.Signer
}

func (s *ecdsaSigner) Sign(msg []byte) ([]byte, error) {
	sum := sha256.Sum256(msg)
	return s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// CheckSecond reports whether a checkpoint that OpenCheckpoint has opened bears v's signature as well.
func CheckSecond(raw []byte, v note.Verifier) error {
	if len(raw) > MaxCheckpoint {
		return fmt.Errorf("checkpoint has %d octets; at most %d are read", len(raw), MaxCheckpoint)
	}
	if _, err := note.Open(raw, note.VerifierList(v)); err != nil {
		return fmt.Errorf("checkpoint is not signed by the second key of %s (id %08x): %w", v.Name(), v.KeyHash(), err)
	}
	return nil
}
