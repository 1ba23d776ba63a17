package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"golang.org/x/mod/sumdb/note"

	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
	"jmlbridge/schema"
)

// opened is a producer at work: keys read, database checked against what it published.
type opened struct {
	cfg    *Config
	db     *store.DB
	box    *outbox.Box
	ledger ledger.Config
	log    *slog.Logger
	key    crypto.Signer
}

// opening says what a command needs of the producer; the zero value is that of one which sends.
type opening struct {
	unguarded bool   // recover alone: the database may be behind
	unsealed  bool   // nothing is sent: the enclaves' keys need not be there yet
	reports   bool   // it prints what it announced, so that a terminal needs no line for each person above that
	wake      func() // outbox.Config.Wake
}

// open reads the keys, opens the database and refuses one that is behind what it published: whoever puts
// an old copy back would give numbers twice.
func (a *app) open(ctx context.Context, cfg *Config, o opening) (_ *opened, err error) {
	s := &opened{cfg: cfg, log: a.logger()}
	if s.key, err = cfg.signingKey(); err != nil {
		return nil, err
	}
	signer, err := seal.NewSigner(s.key)
	if err != nil {
		return nil, misusef("%s: %w", cfg.Signing.Key, err)
	}
	recipients := map[string]*seal.Recipient{}
	for i := range cfg.Enclaves {
		e := &cfg.Enclaves[i]
		if o.unsealed {
			break
		}
		pub, err := keys.ReadPublic(e.EncryptionKey)
		if err != nil {
			return nil, misusef("encryption key of enclave %s (its operators have it from consumer init): %w", e.Name, err)
		}
		if recipients[e.Audience], err = seal.NewRecipient(pub); err != nil {
			return nil, misusef("encryption key of enclave %s: %w", e.Name, err)
		}
	}
	if s.db, err = store.Open(cfg.Database, outbox.Schema); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.db.Close())
		}
	}()
	generation, err := outbox.Generation(ctx, s.db)
	if err != nil {
		return nil, err
	}
	if s.ledger, err = cfg.ledgerConfig(s.db, generation); err != nil {
		return nil, err
	}
	if !o.unguarded {
		if err := ledger.CheckNotBehind(ctx, s.ledger); err != nil {
			return nil, err
		}
	}
	s.box, err = outbox.New(s.db, outbox.Config{
		Issuer: cfg.Issuer, Stream: cfg.Stream, Signer: signer, Recipients: recipients, ClosedFor: cfg.ClosedFor.D(),
		Now: a.now, Log: s.log, Wake: o.wake, Announce: announceLevel(o.reports && a.onTerminal(), a.logFormat),
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *opened) close() error { return s.db.Close() }

// signingKey reads the key and holds it against the configured algorithm.
func (c *Config) signingKey() (crypto.Signer, error) {
	key, err := keys.ReadSigning(c.Signing.Key)
	if err != nil {
		return nil, misusef("signing key: %w", err)
	}
	if alg, err := keys.SigningAlg(key.Public()); err != nil || alg != c.Signing.Alg {
		return nil, c.file.Errorf("$.signing.alg", "the key in %s signs by %s, the configuration says %s", c.Signing.Key, alg, c.Signing.Alg)
	}
	return key, nil
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
	signer, verifier, _, err := c.ledgerKey(generation)
	if err != nil {
		return ledger.Config{}, err
	}
	return ledger.Config{DB: db, Signer: signer, Verifier: verifier, Dir: c.Ledger.Dir, Copy: c.Ledger.CheckpointCopy}, nil
}

// ledgerKey also returns the verifier line for auditors.
func (c *Config) ledgerKey(generation int) (note.Signer, note.Verifier, string, error) {
	key, err := keys.ReadLedger(c.Ledger.Key)
	if err != nil {
		return nil, nil, "", misusef("ledger key: %w", err)
	}
	origin := c.origin(generation)
	signer, verifier, err := tiles.NewSigner(origin, key)
	if err != nil {
		return nil, nil, "", c.file.Errorf("$.ledger.origin", "%v", err)
	}
	line, err := keys.LedgerVerifierKey(origin, verifierKey(key))
	if err != nil {
		return nil, nil, "", c.file.Errorf("$.ledger.origin", "%v", err)
	}
	return signer, verifier, line, nil
}

// startedEntry says on the ledger which program works on it from here, and how.
func (s *opened) startedEntry(mode, instance string) (*entry.Started, error) {
	id, err := ledger.ID(s.db)
	if err != nil {
		return nil, err
	}
	digest := schema.DigestOf(s.cfg.file.Bytes())
	return &entry.Started{
		Program: entry.ProgramProducer, Version: entry.ID(program.Version()), Go: entry.ID(runtime.Version()), FIPS: program.FIPS(), Mode: mode,
		Config: &digest, Ledger: id, Instance: instance,
	}, nil
}

// takeLock becomes the one runner. A database that is not there is said to be missing, and no lock is left
// beside it.
func takeLock(database string) (*store.Lock, error) {
	if _, err := os.Stat(database); errors.Is(err, os.ErrNotExist) {
		_, err := store.OpenRead(database, outbox.Schema)
		return nil, err
	}
	return store.Take(database)
}
