package keys

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"jmlbridge/internal/secret"
)

const (
	privateMode = 0o600
	maxFile     = 64 << 10 // octets of a key file; an RSA 4096 key takes 3.3 KiB
)

// WritePrivate stores key in a new file that only its owner can read. It never replaces a file: a key
// that was overwritten is gone. When it returns nil the file is durable.
func WritePrivate(path string, key crypto.PrivateKey) error {
	text, err := MarshalPrivate(key)
	if err != nil {
		return err
	}
	return writeNew(path, text, privateMode)
}

// WriteWrapped stores the text of a key that is wrapped already, as WritePrivate stores one that is not.
func WriteWrapped(path string, text []byte) error { return writeNew(path, text, privateMode) }

// WritePublic stores pub in a new file. It never replaces one.
func WritePublic(path string, pub crypto.PublicKey) error {
	text, err := MarshalPublic(pub)
	if err != nil {
		return err
	}
	return writeNew(path, text, 0o644)
}

func writeNew(path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists and a key is never overwritten; move it away or name another file: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("create key file: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		// The file is ours (O_EXCL) and perhaps half written: leave none behind.
		return errors.Join(fmt.Errorf("write key file %s: %w", path, err), os.Remove(path))
	}
	return nil
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadSigning reads a producer's signing key.
func ReadSigning(path string) (crypto.Signer, error) {
	return readPrivate(path, func(pub crypto.PublicKey) error { _, err := SigningAlg(pub); return err })
}

// ReadDecryption reads an enclave's decryption key.
func ReadDecryption(path string) (crypto.Signer, error) {
	return readPrivate(path, func(pub crypto.PublicKey) error { _, err := EncryptionAlg(pub); return err })
}

// ReadLedger reads a ledger key.
func ReadLedger(path string) (ed25519.PrivateKey, error) {
	key, err := readPrivate(path, func(pub crypto.PublicKey) error {
		if _, ok := pub.(ed25519.PublicKey); !ok {
			return fmt.Errorf("want an Ed25519 key, got %s", describe(pub))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return key.(ed25519.PrivateKey), nil
}

func readPrivate(path string, check func(crypto.PublicKey) error) (crypto.Signer, error) {
	text, err := secret.Read(path, maxFile) // one that others can use is not ours alone: found at start and not by an auditor
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer clear(text)
	key, err := ParsePrivate(text)
	if err == nil {
		err = check(key.Public())
	}
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return key, nil
}

// ReadPublic reads a public key file. Anyone may read it; who may write it is the operator's care.
func ReadPublic(path string) (crypto.PublicKey, error) {
	text, err := readPublic(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	pub, err := ParsePublic(text)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return pub, nil
}

func readPublic(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d octets; this is no key file", path, maxFile)
	}
	return text, err
}
