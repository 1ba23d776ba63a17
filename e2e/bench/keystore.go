package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"jmlbridge/e2e/keyvault/standin"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/vault"
	"jmlbridge/internal/outbound"
)

const (
	keystoreLatency = 15 * time.Millisecond // of each answer of the store, as from another datacentre
	keystoreAlone   = 40                    // operations one after the other
	keystoreMany    = 1200                  // operations by vault.Parallel at once
	keystoreGoal    = 5                     // times as many as one after the other
)

// keystoreRows measure what it costs to keep keys in a key store, and how much of it is hidden by asking for many
// things at once. The store is the stand-in with a latency that is set, over TLS on loopback: it does its arithmetic on the
// same processors, which a real one does not. The limit is what Parallel askers would reach if they took nothing
// from each other: Parallel divided by the time of one operation, measured in the same run.
func keystoreRows(ctx context.Context, o *options) (_ []*row, err error) {
	w, err := newKeystore(ctx, filepath.Join(o.dir, "keystore"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	signing, err := w.stores.Signer(w.refs["signing"])
	if err != nil {
		return nil, err
	}
	opening, err := w.stores.Decrypter(w.refs["opening"])
	if err != nil {
		return nil, err
	}
	signer, err := seal.NewSigner(signing)
	if err != nil {
		return nil, err
	}
	to, err := seal.NewRecipient(opening.Public())
	if err != nil {
		return nil, err
	}
	ring, err := envelope.NewRing(opening)
	if err != nil {
		return nil, err
	}
	payload := bytes.Repeat([]byte("x"), 2<<10)
	jws, err := signer.Sign(payload) // and the first token
	if err != nil {
		return nil, err
	}
	wire, err := to.Encrypt(jws)
	if err != nil {
		return nil, err
	}
	var list []*row
	for _, m := range []struct {
		name, what string
		do         func() error
	}{
		{"keystore-sign", "messages signed and sealed by a remote P-256 key, 32 at once", func() error { _, err := seal.Seal(payload, signer, to); return err }},
		{"keystore-open", "messages opened by a remote RSA-3072 key, 32 at once", func() error { _, _, err := envelope.Decrypt(wire, ring); return err }},
	} {
		o.progress("%s", m.name)
		one, err := timed(keystoreAlone, 1, m.do)
		if err != nil {
			return nil, err
		}
		many, err := timed(keystoreMany, vault.Parallel, m.do)
		if err != nil {
			return nil, err
		}
		cost := one.Seconds() / keystoreAlone
		alone, together := 1/cost, keystoreMany/many.Seconds()
		r := &row{Name: m.name, What: m.what, Goal: fmt.Sprintf("≥ %d × one at a time", keystoreGoal),
			Ours: &measure{together, "/s"}, Limit: &measure{vault.Parallel * alone, "/s"}, Ratio: together / (vault.Parallel * alone)}
		r.Met = together >= keystoreGoal*alone
		r.note("one costs %.1f ms, of which the store's set latency is %v: %.0f /s one at a time, %.1f × that together", cost*1e3, keystoreLatency, alone, together/alone)
		r.note("a vault's own quota comes before that: 200 /s with P-256 and 50 /s with RSA-3072 keys in HSMs")
		list = append(list, r)
	}
	return list, nil
}

// timed does n operations, so many at once.
func timed(n, at int, do func() error) (time.Duration, error) {
	var left atomic.Int64
	left.Store(int64(n))
	var g errgroup.Group
	begin := time.Now()
	for range at {
		g.Go(func() error {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return time.Since(begin), err
}

// keystore is a stand-in with its authority, and how it is asked.
type keystore struct {
	authority *tenant.Server
	store     *standin.Server
	stores    *vault.Stores
	refs      map[string]vault.Ref
}

func newKeystore(ctx context.Context, dir string) (_ *keystore, err error) {
	const app = "11111111-2222-3333-4444-555555555555"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	w := &keystore{refs: map[string]vault.Ref{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.authority, err = tenant.Start(ctx, tenant.Config{Seed: tenant.Seed{Apps: []tenant.App{{Name: "keys", ID: app}}}}); err != nil {
		return nil, err
	}
	at := w.authority.Endpoints()
	w.store, err = standin.Start(ctx, standin.Config{
		Authority: at.Authority, Tenant: at.Tenant, Roots: w.authority.CA(), Resource: tenant.OtherResource, Latency: keystoreLatency,
		Keys:   []standin.Key{{Name: "signing", Type: "EC-HSM"}, {Name: "opening", Type: "RSA-HSM"}},
		Access: map[string][]string{app: {standin.Get, standin.Sign, standin.Decrypt}},
	})
	if err != nil {
		return nil, err
	}
	secret, ca := filepath.Join(dir, "secret"), filepath.Join(dir, "ca.pem")
	err = errors.Join(os.WriteFile(secret, []byte(w.authority.App("keys").Secret), 0o600),
		os.WriteFile(ca, append(w.authority.CAPEM(), w.store.CAPEM()...), 0o644))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"signing", "opening"} {
		if w.refs[name], err = w.pin(dir, name, w.store.Public(name)); err != nil {
			return nil, err
		}
	}
	w.stores, err = vault.Open(ctx, vault.Config{
		Cloud:      cloud.Config{Name: cloud.Custom, Authority: at.Authority, KeyStore: w.store.Host(), KeyStoreResource: tenant.OtherResource},
		Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret, Tenant: at.Tenant, Client: app, SecretFile: secret},
		Transport:  outbound.Config{Proxy: outbound.None, CAFile: ca},
	})
	return w, err
}

func (w *keystore) pin(dir, name string, pub crypto.PublicKey) (vault.Ref, error) {
	kid, err := keys.ID(pub)
	r := vault.Ref{Vault: w.store.URL(), Key: name, Version: w.store.Version(name), KID: kid, Public: filepath.Join(dir, name+".pub.pem")}
	return r, errors.Join(err, keys.WritePublic(r.Public, pub))
}

func (w *keystore) close() (err error) {
	if w.store != nil {
		err = w.store.Close()
	}
	if w.authority != nil {
		err = errors.Join(err, w.authority.Close())
	}
	return err
}
