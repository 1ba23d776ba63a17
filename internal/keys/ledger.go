package keys

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// LedgerVerifierKey is pub as the one-line verifier key of signed notes: name+hash+key. It is what an
// auditor is given. The name is the checkpoint's origin.
func LedgerVerifierKey(name string, pub ed25519.PublicKey) (string, error) {
	line, err := note.NewEd25519VerifierKey(name, pub)
	if err != nil {
		return "", fmt.Errorf("ledger verifier key: %w", err)
	}
	if _, err := note.NewVerifier(line); err != nil { // NewEd25519VerifierKey lets any name through
		return "", fmt.Errorf("ledger key name %q: want text without white space and without a plus sign: %w", name, err)
	}
	return line, nil
}

// LedgerSigner signs checkpoints as name with key.
func LedgerSigner(name string, key ed25519.PrivateKey) (note.Signer, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("want %d octets of Ed25519 private key, got %d", ed25519.PrivateKeySize, len(key))
	}
	line, err := LedgerVerifierKey(name, key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(line)
	if err != nil {
		return nil, fmt.Errorf("ledger verifier key: %w", err)
	}
	const algEd25519 = 1 // of the note format
	secret := base64.StdEncoding.EncodeToString(append([]byte{algEd25519}, key.Seed()...))
	return note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, v.KeyHash(), secret))
}

// LedgerVerifier reads a verifier key line.
func LedgerVerifier(line string) (note.Verifier, error) {
	v, err := note.NewVerifier(line)
	if err != nil {
		return nil, fmt.Errorf("want a ledger verifier key like name+hash+key on one line: %w", err)
	}
	return v, nil
}
