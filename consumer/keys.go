package main

import (
	"fmt"
	"slices"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/keys/vault"
)

// checkKeys judges where the private keys are. Key stores are in the tenant's cloud and reached as it is, where
// nothing else is said, by a credential of their own.
func (c *Config) checkKeys() error {
	f := c.file
	var refs []*vault.Ref
	for i := range c.Keys.Decryption {
		k := &c.Keys.Decryption[i]
		if err := custody.CheckKey(f, fmt.Sprintf("$.keys.decryption[%d]", i), k); err != nil {
			return err
		}
		if k.Other != nil {
			refs = append(refs, k.Other)
		}
	}
	if err := custody.CheckLedger(f, "$.ledger.key", &c.Ledger.Key); err != nil {
		return err
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
	if s := c.KeyStore; s != nil {
		if s.Cloud == (cloud.Config{}) {
			s.Cloud = c.Tenant.Cloud
		}
		if s.Credential.Tenant == "" && s.Credential.Kind != cloud.ManagedIdentity {
			s.Credential.Tenant = c.Tenant.ID
		}
	}
	if err := custody.CheckStore(f, "$.key_store", c.KeyStore, refs...); err != nil {
		return err
	}
	if s := c.KeyStore; s != nil {
		s.Transport = s.Transport.Or(c.Tenant.Transport)
	}
	c.keeper = custody.New(c.KeyStore)
	return nil
}

// openers is how many messages are opened at once: a key that is asked over the network makes the openers wait, not
// work. 0 leaves it to the processors.
func (c *Config) openers() int {
	if slices.ContainsFunc(c.Keys.Decryption, func(k custody.Key) bool { return k.Other != nil }) {
		return vault.Parallel
	}
	return 0
}
