// Package custody says where a program keeps its private keys, in files or in a key store, and opens them. Which
// it is stands in the configuration, key by key, and nothing here chooses: a key store that does not answer is an
// error, never another key.
package custody

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"jmlbridge/internal/config"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/vault"
)

// Key is a private key: the path of its file, or its place in a key store.
type Key = config.PathOr[vault.Ref]

// LedgerKey is a ledger's Ed25519 key: the path of its file, or of the file in which it is wrapped together with the
// key store's key that unwraps it.
type LedgerKey = config.PathOr[vault.Wrapping]

// File is where a ledger's key lies, wrapped or not.
func File(k LedgerKey) string {
	if k.Other != nil {
		return k.Other.File
	}
	return k.Path
}

// PublicFile is where the public half of k lies: beside a private file, or where its place says.
func PublicFile(k Key) string {
	if k.Other != nil {
		return k.Other.Public
	}
	return strings.TrimSuffix(k.Path, ".pem") + ".pub.pem"
}

// Check judges a reference and makes its files absolute in the sense of f. at is its YAML path.
func Check(f *config.File, at string, r *vault.Ref) error {
	if err := r.Check(); err != nil {
		return f.Errorf(at, "%v", err)
	}
	if r.Public == "" {
		r.Public = filepath.Join("keys", r.Key+".pub.pem")
	}
	f.Resolve(&r.Public)
	return nil
}

// CheckKey is Check for a key of either kind.
func CheckKey(f *config.File, at string, k *Key) error {
	if k.Other != nil {
		return Check(f, at, k.Other)
	}
	if k.Path == "" {
		return f.Errorf(at, "want a key file, or a key in a key store, got nothing")
	}
	f.Resolve(&k.Path)
	return nil
}

// CheckLedger is Check for a ledger's key of either kind.
func CheckLedger(f *config.File, at string, k *LedgerKey) error {
	if k.Other == nil {
		if k.Path == "" {
			return f.Errorf(at, "want the ledger's key file, or a wrapped one, got nothing")
		}
		f.Resolve(&k.Path)
		return nil
	}
	if k.Other.File == "" {
		return f.Errorf(at, "file: want the file in which the ledger's key is wrapped")
	}
	f.Resolve(&k.Other.File)
	return Check(f, at, &k.Other.Ref)
}

// CheckStore judges how key stores are reached, and makes its files absolute. A nil s is fine where refs is empty.
func CheckStore(f *config.File, at string, s *vault.Config, refs ...*vault.Ref) error {
	if s == nil {
		if len(refs) > 0 {
			return f.Errorf(at, "%s lies in a key store; say here how it is reached: cloud, credential and transport", refs[0])
		}
		return nil
	}
	cl, err := s.Cloud.Cloud()
	if err != nil {
		return f.Errorf(at+".cloud", "%v", err)
	}
	seen := map[string]*vault.Ref{}
	for _, r := range refs {
		if _, _, err := cl.KeyStore(r.Vault); err != nil {
			return f.Errorf(at+".cloud", "%v", err)
		}
		id := strings.ToLower(r.Vault + "/" + r.Key)
		switch other := seen[id]; {
		case other == nil:
		case other.Version != r.Version:
			return f.Errorf(at, "%s and %s are versions of one key; make a key under a name of its own for each place, also for the next one of a rotation", other, r)
		default:
			return f.Errorf(at, "%s has two purposes; use a key for one only", r)
		}
		seen[id] = r
	}
	f.Resolve(&s.Credential.CertificateFile, &s.Credential.SecretFile, &s.Credential.TokenFile, &s.Transport.CAFile, &s.Transport.ProxyCredentials)
	return nil
}

// Keeper opens keys. Make one with New.
type Keeper struct {
	store  *vault.Config
	stores *vault.Stores // once it was needed
}

// New makes a keeper; store may be nil where every key is a file.
func New(store *vault.Config) *Keeper { return &Keeper{store: store} }

// Stores is how key stores are asked. It reads the credential when it is first needed.
func (k *Keeper) Stores() (*vault.Stores, error) {
	if k.stores != nil {
		return k.stores, nil
	}
	if k.store == nil {
		return nil, errors.New("the configuration does not say how a key store is reached")
	}
	var err error
	k.stores, err = vault.Open(context.Background(), *k.store) // every operation has a limit of its own
	return k.stores, err
}

// Signing opens a producer's signing key.
func (k *Keeper) Signing(at Key) (crypto.Signer, error) {
	if at.Other == nil {
		return keys.ReadSigning(at.Path)
	}
	return k.Signer(*at.Other)
}

// Signer opens a key in a store that signs.
func (k *Keeper) Signer(r vault.Ref) (crypto.Signer, error) {
	s, err := k.Stores()
	if err != nil {
		return nil, err
	}
	return s.Signer(r)
}

// Decryption opens an enclave's decryption key.
func (k *Keeper) Decryption(at Key) (crypto.PrivateKey, error) {
	if at.Other == nil {
		return keys.ReadDecryption(at.Path)
	}
	s, err := k.Stores()
	if err != nil {
		return nil, err
	}
	return s.Decrypter(*at.Other)
}

// Ledger opens a ledger's key; its public half is an ed25519.PublicKey. A wrapped one is asked of its store when it
// first signs, or by Unwrap.
func (k *Keeper) Ledger(at LedgerKey) (crypto.Signer, error) {
	if at.Other == nil {
		return keys.ReadLedger(at.Path)
	}
	s, err := k.Stores()
	if err != nil {
		return nil, err
	}
	return s.LedgerKey(*at.Other)
}

// Unwrap asks for a ledger's key now, where it is a wrapped one. An error that is a *vault.Error means that the store
// could not be asked: signing will try again.
func Unwrap(key crypto.Signer) error {
	if w, ok := key.(*vault.LedgerKey); ok {
		return w.Unwrap()
	}
	return nil
}

// Adopt takes a pinned key of a store into use: it must be good for every op, and its public half is left in its
// file, which must not exist. It returns the public half.
func (k *Keeper) Adopt(ctx context.Context, r vault.Ref, ops ...string) (crypto.PublicKey, error) {
	s, err := k.Stores()
	if err != nil {
		return nil, err
	}
	f, err := s.Pinned(ctx, r, ops...)
	if err != nil {
		return nil, err
	}
	return f.Public, keys.WritePublic(r.Public, f.Public)
}

// MakeLedger makes a ledger's key, in a file that must not exist.
func (k *Keeper) MakeLedger(ctx context.Context, at LedgerKey) (ed25519.PublicKey, error) {
	if at.Other != nil {
		s, err := k.Stores()
		if err != nil {
			return nil, err
		}
		return s.Wrap(ctx, *at.Other)
	}
	key, err := keys.GenerateLedger()
	if err != nil {
		return nil, err
	}
	return key.Public().(ed25519.PublicKey), keys.WritePrivate(at.Path, key)
}

// Describe is where a key lies, for people.
func Describe(at Key) string {
	if at.Other != nil {
		return at.Other.String()
	}
	return at.Path
}

// DescribeLedger is where a ledger's key lies, for people.
func DescribeLedger(at LedgerKey) string {
	if at.Other != nil {
		return fmt.Sprintf("%s, wrapped under %s", at.Other.File, at.Other.Ref)
	}
	return at.Path
}
