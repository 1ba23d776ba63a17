package main

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"os"
	"runtime"

	"jmlbridge/internal/command"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
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
	key    crypto.Signer // in force
	next   *seal.Signer  // nil: there is none

	generation int

	foreign *outbox.KeyError // of recover alone: the database is of before a key switch, and key the one that is configured
}

// opening says what a command needs of the producer; the zero value is that of one which sends.
type opening struct {
	unguarded bool   // recover alone: the database may be behind
	unsealed  bool   // nothing is sent: the enclaves' keys need not be there yet
	reports   bool   // it prints what it announced, so that a terminal needs no line for each person above that
	wake      func() // outbox.Config.Wake
	facts     bool   // it states facts of people, or rosters of them: not for whoever only approves
}

// open reads the keys, opens the database and refuses one that is behind what it published: whoever puts
// an old copy back would give numbers twice.
func (a *app) open(ctx context.Context, cfg *Config, o opening) (_ *opened, err error) {
	if o.facts && cfg.approves() {
		return nil, cfg.file.Errorf("$.speaks", "it says that this stream approves; facts are stated by the producer's own")
	}
	s := &opened{cfg: cfg, log: a.logger()}
	signer, next, err := cfg.signers()
	if err != nil {
		return nil, err
	}
	s.next = next
	recipients := map[string]*seal.Recipient{}
	for i := range cfg.Enclaves {
		e := &cfg.Enclaves[i]
		if o.unsealed {
			break
		}
		if recipients[e.Audience], err = e.recipient(); err != nil {
			return nil, err
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
	s.key, err = cfg.keyInForce(s.db)
	if o.unguarded && errors.As(err, &s.foreign) {
		s.key, err = cfg.signingKey()
	}
	if err != nil {
		return nil, err
	}
	generation, err := outbox.Generation(ctx, s.db)
	if err != nil {
		return nil, err
	}
	s.generation = generation
	if s.ledger, err = cfg.ledgerConfig(s.db, generation); err != nil {
		return nil, err
	}
	if !o.unguarded {
		if err := ledger.CheckNotBehind(ctx, s.ledger); err != nil {
			return nil, err
		}
	}
	s.box, err = outbox.New(s.db, outbox.Config{
		Issuer: cfg.Issuer, Stream: cfg.Stream, Signer: signer, Next: s.next, Recipients: recipients, ClosedFor: cfg.ClosedFor.D(), Sealers: cfg.sealers(),
		Approvals: cfg.approves(), Now: a.now, Log: s.log, Wake: o.wake, Announce: announceLevel(o.reports && command.OnTerminal(a.err), a.logFormat),
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// signers are the keys that messages are signed by; next is nil where there is none.
func (c *Config) signers() (signer, next *seal.Signer, err error) {
	key, err := c.signingKey()
	if err != nil {
		return nil, nil, err
	}
	if signer, err = seal.NewSigner(key); err != nil {
		return nil, nil, command.Misusef("%s: %w", custody.Describe(c.Signing.Key), err)
	}
	if key, err = c.nextKey(); err != nil || key == nil {
		return signer, nil, err
	}
	if next, err = seal.NewSigner(key); err != nil {
		return nil, nil, command.Misusef("%s: %w", custody.Describe(c.Signing.Next.Key), err)
	}
	return signer, next, nil
}

// recipient is the enclave's public key.
func (e *Enclave) recipient() (*seal.Recipient, error) {
	pub, err := keys.ReadPublic(e.EncryptionKey)
	if err != nil {
		return nil, command.Misusef("encryption key of enclave %s (its operators have it from consumer init): %w", e.Name, err)
	}
	r, err := seal.NewRecipient(pub)
	if err != nil {
		return nil, command.Misusef("encryption key of enclave %s: %w", e.Name, err)
	}
	return r, nil
}

func (s *opened) close() error { return s.db.Close() }

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
