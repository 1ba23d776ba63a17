package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
	"jmlbridge/schema"
)

// made is what init leaves, for people and scripts.
type made struct {
	Database       string `json:"database"`
	SigningKey     string `json:"signing_key"`
	KID            string `json:"kid"`
	LedgerKey      string `json:"ledger_key"`
	LedgerVerifier string `json:"ledger_verifier"`      // the line for auditors
	VerifierFile   string `json:"ledger_verifier_file"` // the same line in a file
	CardFile       string `json:"card_file"`
	Card           *card  `json:"card"`
}

func (a *app) initCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the keys and the database, once",
		Long: `init makes the signing key, the ledger's key, the folder of the ledger and the database at the places
that the configuration names. It is done once in a producer's life: where any of them exists nothing is
made. It leaves a card (public) to carry to each enclave, and the line by which auditors verify the ledger.`,
		Example: `  producer -c producer.yaml init
  producer -c producer.yaml init -o json`,
		GroupID: "setup",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inJSON, err := asJSON(format)
			if err != nil {
				return err
			}
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			m, err := a.create(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if inJSON {
				return program.PrintJSON(a.out, m)
			}
			_, err = fmt.Fprintf(a.out, `Made the database %s and the keys.

Carry to each enclave (public):
  card    %s
  issuer  %s
  stream  %s, generation %d, from seq 1
  key id  %s

Give to auditors (public, one line, also in %s):
  %s

Next: on the enclave's side,
  consumer trust add %s --expect %s --reason TEXT
`, m.Database, m.CardFile, cfg.Issuer, cfg.Stream, m.Card.Generation, m.KID, m.VerifierFile, m.LedgerVerifier, filepath.Base(m.CardFile), m.KID)
			return err
		},
	}
	outputFlag(cmd, &format)
	return cmd
}

// create makes everything or nothing.
func (a *app) create(ctx context.Context, cfg *Config) (_ *made, err error) {
	m := &made{
		Database: cfg.Database, SigningKey: cfg.Signing.Key, LedgerKey: cfg.Ledger.Key, CardFile: cfg.cardFile(1),
		VerifierFile: cfg.verifierFile(1),
	}
	fresh := []string{m.Database, m.SigningKey, m.LedgerKey, m.CardFile, m.VerifierFile, filepath.Join(cfg.Ledger.Dir, ledger.TilesFolder)}
	if cfg.Ledger.CheckpointCopy != "" {
		fresh = append(fresh, cfg.Ledger.CheckpointCopy)
	}
	for _, path := range fresh {
		if _, err := os.Lstat(path); err == nil {
			return nil, misusef("%s exists already: a producer is made once. To begin again on purpose, move the old one away as a whole; after a restore, use recover", path)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, misusef("%w", err)
		}
	}
	var files []string // made by this call, removed again if it fails
	defer func() {
		if err != nil {
			for _, f := range files {
				err = errors.Join(err, os.Remove(f))
			}
		}
	}()
	for _, path := range []string{m.Database, m.SigningKey, m.LedgerKey} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, misusef("%w", err)
		}
	}
	if err := os.MkdirAll(cfg.Ledger.Dir, 0o755); err != nil {
		return nil, misusef("%w", err)
	}
	signing, err := keys.GenerateSigning(cfg.Signing.Alg)
	if err != nil {
		return nil, err
	}
	if err := keys.WritePrivate(m.SigningKey, signing); err != nil {
		return nil, err
	}
	files = append(files, m.SigningKey)
	ledgerKey, err := keys.GenerateLedger()
	if err != nil {
		return nil, err
	}
	if err := keys.WritePrivate(m.LedgerKey, ledgerKey); err != nil {
		return nil, err
	}
	files = append(files, m.LedgerKey)
	if _, _, m.LedgerVerifier, err = cfg.ledgerKey(1); err != nil {
		return nil, err
	}
	if m.Card, err = cfg.card(signing.Public(), 1); err != nil {
		return nil, err
	}
	m.KID = m.Card.Keys[0].ID
	if err := m.Card.write(m.CardFile); err != nil {
		return nil, err
	}
	files = append(files, m.CardFile)
	if err := writeNew(m.VerifierFile, []byte(m.LedgerVerifier+"\n")); err != nil {
		return nil, err
	}
	files = append(files, m.VerifierFile)
	return m, a.createDatabase(ctx, cfg)
}

// createDatabase fills the database under another name and links it when it is whole: the database is
// what says that a producer exists.
func (a *app) createDatabase(ctx context.Context, cfg *Config) error {
	by, err := a.login()
	if err != nil {
		return err
	}
	tmp := cfg.Database + ".init"
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(tmp + suffix) // of an init that was killed
		defer os.Remove(tmp + suffix)
	}
	if err := store.Create(tmp, outbox.Schema); err != nil {
		return err
	}
	db, err := store.Open(tmp, outbox.Schema)
	if err != nil {
		return err
	}
	var audiences []string
	for _, e := range cfg.Enclaves {
		audiences = append(audiences, e.Audience)
	}
	id, err := ledger.ID(db)
	if err == nil {
		digest := schema.DigestOf(cfg.file.Bytes())
		err = outbox.Init(ctx, db, cfg.Issuer, cfg.Stream, audiences, a.now(),
			&entry.Started{
				Program: entry.ProgramProducer, Version: entry.ID(program.Version()), Go: entry.ID(runtime.Version()), FIPS: program.FIPS(), Mode: "init",
				Config: &digest, Ledger: id, Instance: uuid.NewString(),
			},
			&entry.Operator{By: entry.ID(by), Action: "init"})
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp, cfg.Database); err != nil {
		return err
	}
	return syncDir(filepath.Dir(cfg.Database))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (a *app) enclaveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "enclave",
		Short:   "Enclaves that joined after init",
		GroupID: "setup",
		Args:    noArgs,
		RunE:    help,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "add NAME",
		Short: "Begin a chain for an enclave that the configuration names",
		Long: `add begins the chain of messages for an enclave that was put into the configuration after init. Nobody
is announced by it: the next import announces everyone in the enclave's scope.`,
		Example: `  producer -c producer.yaml enclave add GOV-2`,
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			e, err := cfg.enclave(args[0])
			if err != nil {
				return err
			}
			by, err := a.login()
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), cfg, opening{unsealed: true})
			if err != nil {
				return err
			}
			err = outbox.AddEnclave(cmd.Context(), s.db, e.Audience, a.now(), &entry.Operator{By: entry.ID(by), Action: "enclave-add", Target: entry.ID(e.Audience)})
			if err = errors.Join(err, s.close()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "Enclave %s has a chain. Next: hand its operator the card (producer card), then import.\n", e.Name)
			return err
		},
	})
	return cmd
}
