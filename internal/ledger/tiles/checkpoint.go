package tiles

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxCheckpoint bounds a checkpoint file, in octets, with room for many witnesses' signatures.
const MaxCheckpoint = 64 << 10

// CheckpointFile is the name of the checkpoint in the tiles folder.
const CheckpointFile = "checkpoint"

// Checkpoint is what a signature of the ledger's key vouches for.
type Checkpoint struct {
	Size int64
	Root tlog.Hash
}

// VerifierKey is the text that auditors are given: origin, key hash and public key in one line.
func VerifierKey(origin string, pub ed25519.PublicKey) (string, error) {
	return note.NewEd25519VerifierKey(origin, pub)
}

// NewSigner makes the signer of a ledger's checkpoints from its Ed25519 key, and the verifier for it.
func NewSigner(origin string, key crypto.Signer) (note.Signer, note.Verifier, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, nil, errors.New("ledger key: want an Ed25519 key")
	}
	vkey, err := VerifierKey(origin, pub)
	if err != nil {
		return nil, nil, fmt.Errorf("ledger key: %w", err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, nil, fmt.Errorf("ledger key: origin %q: %w", origin, err)
	}
	return &signer{v, key}, v, nil
}

type signer struct {
	v   note.Verifier
	key crypto.Signer
}

func (s *signer) Name() string    { return s.v.Name() }
func (s *signer) KeyHash() uint32 { return s.v.KeyHash() }
func (s *signer) Sign(msg []byte) ([]byte, error) {
	return s.key.Sign(rand.Reader, msg, crypto.Hash(0))
}

// Sign returns the checkpoint as a signed note; the signatures of more stand behind the first. The caller opens it
// again before use.
func Sign(c Checkpoint, s note.Signer, more ...note.Signer) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", s.Name(), c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
	return note.Sign(&note.Note{Text: text}, append([]note.Signer{s}, more...)...)
}

// OpenCheckpoint verifies raw with v and reads it. Signatures of others (witnesses) may stand beside.
func OpenCheckpoint(raw []byte, v note.Verifier) (Checkpoint, error) {
	var c Checkpoint
	if len(raw) > MaxCheckpoint {
		return c, fmt.Errorf("checkpoint has %d octets; at most %d are read", len(raw), MaxCheckpoint)
	}
	n, err := note.Open(raw, note.VerifierList(v))
	if err != nil {
		return c, fmt.Errorf("checkpoint is not signed by %s: %w", v.Name(), err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 || lines[0] != v.Name() {
		return c, fmt.Errorf("checkpoint: want origin %q, size and root, each on its line", v.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return c, fmt.Errorf("checkpoint: want a size in decimal, got %.40q", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return c, fmt.Errorf("checkpoint: want a root hash in base64, got %.60q", lines[2])
	}
	return Checkpoint{size, tlog.Hash(root)}, nil
}
