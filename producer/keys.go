package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"fmt"
	"path/filepath"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/command"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/keys/vault"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/store"
)

// checkKeys judges where the private keys are.
func (c *Config) checkKeys() error {
	f := c.file
	if err := custody.CheckKey(f, "$.signing.key", &c.Signing.Key); err != nil {
		return err
	}
	if n := c.Signing.Next; n != nil {
		if err := custody.CheckKey(f, "$.signing.next.key", &n.Key); err != nil {
			return err
		}
		if n.Alg == "" {
			n.Alg = c.Signing.Alg
		}
		if !n.Alg.Signs() {
			return f.Errorf("$.signing.next.alg", "want %s, %s or %s, got %q", keys.ES256, keys.ES384, keys.EdDSA, n.Alg)
		}
		if custody.Describe(n.Key) == custody.Describe(c.Signing.Key) {
			return f.Errorf("$.signing.next.key", "want another key than signing.key")
		}
	}
	if err := custody.CheckLedger(f, "$.ledger.key", &c.Ledger.Key); err != nil {
		return err
	}
	var refs []*vault.Ref
	if c.Signing.Key.Other != nil {
		refs = append(refs, c.Signing.Key.Other)
	}
	if n := c.Signing.Next; n != nil && n.Key.Other != nil {
		refs = append(refs, n.Key.Other)
	}
	if w := c.Ledger.Key.Other; w != nil {
		refs = append(refs, &w.Ref)
	}
	if r := c.Ledger.SecondKey; r != nil {
		if err := custody.Check(f, "$.ledger.second_key", r); err != nil {
			return err
		}
		refs = append(refs, r)
	}
	if s := c.KeyStore; s != nil && s.Cloud == (cloud.Config{}) {
		return f.Errorf("$.key_store.cloud", "want the cloud that the key store is in")
	}
	if err := custody.CheckStore(f, "$.key_store", c.KeyStore, refs...); err != nil {
		return err
	}
	f.Resolve(&c.Transport.CAFile, &c.Transport.ProxyCredentials)
	if s := c.KeyStore; s != nil {
		s.Transport = s.Transport.Or(c.Transport)
	}
	c.keeper = custody.New(c.KeyStore)
	return nil
}

// sealers is how many messages are sealed at once: a key that is asked over the network makes whoever seals wait, not
// work. 0 leaves it to the processors.
func (c *Config) sealers() int {
	if n := c.Signing.Next; c.Signing.Key.Other != nil || n != nil && n.Key.Other != nil {
		return vault.Parallel
	}
	return 0
}

// signingKey opens the key and holds it against the configured algorithm.
func (c *Config) signingKey() (crypto.Signer, error) {
	key, err := c.keeper.Signing(c.Signing.Key)
	if err != nil {
		return nil, command.Misusef("signing key: %w", err)
	}
	return key, c.checkAlg(c.Signing.Key, c.Signing.Alg, key.Public())
}

func (c *Config) checkAlg(at custody.Key, want keys.Alg, pub crypto.PublicKey) error {
	if alg, err := keys.SigningAlg(pub); err != nil || alg != want {
		return c.file.Errorf("$.signing.alg", "the key in %s signs by %s, the configuration says %s", custody.Describe(at), alg, want)
	}
	return nil
}

// origin is the ledger's name. After a recovery the tree is another one, so it must not bear the name of
// the old: two trees under one name would look like a forged ledger.
func (c *Config) origin(generation int) string {
	if generation <= 1 {
		return c.Ledger.Origin
	}
	return fmt.Sprintf("%s/g%d", c.Ledger.Origin, generation)
}

func (c *Config) ledgerConfig(db *store.DB, generation int) (ledger.Config, error) {
	lc := ledger.Config{DB: db, Dir: c.Ledger.Dir, Copy: c.Ledger.CheckpointCopy}
	key, err := c.keeper.Ledger(c.Ledger.Key)
	if err != nil {
		return lc, command.Misusef("ledger key: %w", err)
	}
	if lc.Signer, lc.Verifier, err = tiles.NewSigner(c.origin(generation), key); err != nil {
		return lc, c.file.Errorf("$.ledger.origin", "%v", err)
	}
	if r := c.Ledger.SecondKey; r != nil {
		key, err := c.keeper.Signer(*r)
		if err == nil {
			lc.Second, lc.SecondVerifier, err = tiles.NewSecondSigner(c.origin(generation), key)
		}
		if err != nil {
			return lc, c.file.Errorf("$.ledger.second_key", "%v", err)
		}
	}
	return lc, nil
}

// verifiers are the lines for auditors: of the ledger's key, and of its second key where there is one.
func (c *Config) verifiers(generation int) (first, second string, err error) {
	key, err := c.keeper.Ledger(c.Ledger.Key)
	if err != nil {
		return "", "", command.Misusef("ledger key: %w", err)
	}
	if first, err = keys.LedgerVerifierKey(c.origin(generation), key.Public().(ed25519.PublicKey)); err != nil {
		return "", "", c.file.Errorf("$.ledger.origin", "%v", err)
	}
	if r := c.Ledger.SecondKey; r != nil {
		key, err := c.keeper.Signer(*r)
		if err != nil {
			return "", "", c.file.Errorf("$.ledger.second_key", "%v", err)
		}
		pub, _ := key.Public().(*ecdsa.PublicKey)
		if second, err = tiles.SecondVerifierKey(c.origin(generation), pub); err != nil {
			return "", "", c.file.Errorf("$.ledger.second_key", "%v", err)
		}
	}
	return first, second, nil
}

// secondFile is where the line of a generation's second key is put.
func (c *Config) secondFile(generation int) string {
	name := "producer-ledger-second.vkey"
	if generation > 1 {
		name = fmt.Sprintf("producer-ledger-second-g%d.vkey", generation)
	}
	return filepath.Join(filepath.Dir(c.file.Name()), name)
}
