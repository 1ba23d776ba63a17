package vault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"jmlbridge/internal/keys"
	"jmlbridge/internal/secret"
)

// Wrapping names the key under which an Ed25519 key is wrapped, and the file that holds it.
type Wrapping struct {
	File string `yaml:"file"`
	Ref  `yaml:",inline"`
}

const (
	wrappedForm = "jmlbridge-wrapped-key/1"
	maxWrapped  = 16 << 10 // octets of the file
)

// wrapped is the file: useless to whoever may not ask the store.
type wrapped struct {
	Form    string `json:"form"`
	Alg     string `json:"alg"`     // RSA-OAEP-256
	Vault   string `json:"vault"`   // the store, for people: the configuration decides
	Key     string `json:"key"`     // name and version in it
	Version string `json:"version"` //
	KID     string `json:"kid"`     // thumbprint of the key that unwraps
	Public  []byte `json:"public"`  // the Ed25519 public key
	Wrapped []byte `json:"wrapped"` // its seed, encrypted
}

// Wrap makes a new Ed25519 key, encrypts its seed to the pinned RSA key, sees that the store opens it again, and
// leaves it in w.File, which must not exist. The store is asked for the public half and for unwrapKey only.
func (s *Stores) Wrap(ctx context.Context, w Wrapping) (ed25519.PublicKey, error) {
	f, err := s.Pinned(ctx, w.Ref, "unwrapKey")
	if err != nil {
		return nil, err
	}
	pub, ok := f.Public.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s: want an RSA key for wrapping, got one of type %s", w.Ref, f.Type)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	seed := key.Seed()
	defer clear(seed)
	defer clear(key)
	secret, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, seed, nil)
	if err != nil {
		return nil, err
	}
	file := &wrapped{Form: wrappedForm, Alg: "RSA-OAEP-256", Vault: w.Vault, Key: w.Key, Version: w.Version, KID: f.KID, Public: public, Wrapped: secret}
	if _, err := s.unwrap(w.Ref, file); err != nil { // before anything depends on it
		return nil, err
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, err
	}
	return public, keys.WriteWrapped(w.File, append(text, '\n'))
}

func (s *Stores) unwrap(r Ref, file *wrapped) (ed25519.PrivateKey, error) {
	c, err := s.client(r.Vault)
	if err != nil {
		return nil, err
	}
	var key ed25519.PrivateKey
	err = s.within(func(ctx context.Context) error {
		alg := azkeys.EncryptionAlgorithmRSAOAEP256
		answer, err := c.UnwrapKey(ctx, r.Key, r.Version, azkeys.KeyOperationParameters{Algorithm: &alg, Value: file.Wrapped}, nil)
		switch {
		case err != nil:
			return fail("unwrapKey", r, err)
		case answer.KID == nil || !sameVersion(answer.KID, r):
			err = errors.New("it unwrapped by another key or version")
		case len(answer.Result) != ed25519.SeedSize:
			err = fmt.Errorf("want a seed of %d octets, got %d", ed25519.SeedSize, len(answer.Result))
		default:
			key = ed25519.NewKeyFromSeed(answer.Result)
			clear(answer.Result)
			if !key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(file.Public)) {
				key, err = nil, errors.New("what it unwrapped is not the key that the file names")
			}
		}
		if err != nil {
			return &Error{Op: "unwrapKey", Ref: r, Status: 200, Err: err}
		}
		return nil
	})
	return key, err
}

// LedgerKey is a wrapped Ed25519 key. It is asked for once, and then kept in memory: signing by it costs nothing
// more. It is a crypto.Signer and safe for concurrent use.
type LedgerKey struct {
	s    *Stores
	ref  Ref
	file *wrapped

	mu  sync.Mutex // guards key; held while the store is asked, so that it is once
	key ed25519.PrivateKey
}

// LedgerKey reads the file. It sends nothing.
func (s *Stores) LedgerKey(w Wrapping) (*LedgerKey, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	if _, err := s.client(w.Vault); err != nil {
		return nil, err
	}
	file, err := readWrapped(w.File)
	if err != nil {
		return nil, err
	}
	switch {
	case w.KID == "":
		return nil, w.errUnpinned(file.KID)
	case file.KID != w.KID || file.Key != w.Key || file.Version != w.Version:
		return nil, fmt.Errorf("%s is wrapped under key %s, version %s, with the thumbprint %s; the configuration names another", w.File, file.Key, file.Version, file.KID)
	}
	return &LedgerKey{s: s, ref: w.Ref, file: file}, nil
}

func readWrapped(path string) (*wrapped, error) {
	text, err := secret.Read(path, maxWrapped)
	if err != nil {
		return nil, fmt.Errorf("wrapped key: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var w wrapped
	if err := dec.Decode(&w); err != nil {
		return nil, fmt.Errorf("wrapped key %s: %w", path, err)
	}
	if w.Form != wrappedForm || w.Alg != "RSA-OAEP-256" || len(w.Public) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("wrapped key %s: want the form %s with RSA-OAEP-256", path, wrappedForm)
	}
	return &w, nil
}

// Public implements crypto.Signer; it is an ed25519.PublicKey.
func (k *LedgerKey) Public() crypto.PublicKey { return ed25519.PublicKey(k.file.Public) }

// Unwrap asks the store for the key, unless it has it already.
func (k *LedgerKey) Unwrap() error {
	_, err := k.unwrapped()
	return err
}

func (k *LedgerKey) unwrapped() (ed25519.PrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key == nil {
		var err error
		if k.key, err = k.s.unwrap(k.ref, k.file); err != nil {
			return nil, err
		}
	}
	return k.key, nil
}

// Sign implements crypto.Signer for messages, as ed25519.PrivateKey does.
func (k *LedgerKey) Sign(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	key, err := k.unwrapped()
	if err != nil {
		return nil, err
	}
	return key.Sign(rand, message, opts)
}
