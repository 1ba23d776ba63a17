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

	"jmlbridge/internal/command"
	"jmlbridge/internal/keys/custody"
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

	SecondVerifier     string `json:"second_verifier,omitempty"` // of the ledger's second key, if it has one
	SecondVerifierFile string `json:"second_verifier_file,omitempty"`
}

func (a *app) initCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the keys and the database, once",
		Long: `init makes the signing key, the ledger's key, the folder of the ledger and the database at the places
that the configuration names. It is done once in a producer's life: where any of them exists nothing is
made. One that was killed is named by the next one, with what it left. It leaves a card (public) to carry to each enclave, and the line by which auditors verify the ledger.`,
		Example: `  producer -c producer.yaml init
  producer -c producer.yaml init -o json`,
		GroupID: "setup",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inJSON, err := command.AsJSON(format)
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
			for _, e := range cfg.Enclaves {
				if host := e.Queue.Placeholder(); host != "" {
					fmt.Fprintf(a.err, "producer: warning: %s, the queue of %s, is a host of examples; name yours before `producer run`\n", host, e.Name)
				}
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
%s
Next: on the enclave's side,
  consumer trust add %s --expect %s --reason TEXT
`, m.Database, m.CardFile, cfg.Issuer, cfg.Stream, m.Card.Generation, m.KID, m.VerifierFile, m.LedgerVerifier, secondLine(m.SecondVerifier, m.SecondVerifierFile), filepath.Base(m.CardFile), m.KID)
			return err
		},
	}
	command.OutputFlag(cmd, &format)
	return cmd
}

// create makes everything or nothing.
func (a *app) create(ctx context.Context, cfg *Config) (_ *made, err error) {
	m := &made{
		Database: cfg.Database, SigningKey: custody.Describe(cfg.Signing.Key), LedgerKey: custody.DescribeLedger(cfg.Ledger.Key), CardFile: cfg.cardFile(1),
		VerifierFile: cfg.verifierFile(1),
	}
	signing, ledgerKey := cfg.Signing.Key.Path, custody.File(cfg.Ledger.Key)
	if r := cfg.Signing.Key.Other; r != nil {
		signing = r.Public
	}
	fresh := []string{m.Database, signing, ledgerKey, m.CardFile, m.VerifierFile, filepath.Join(cfg.Ledger.Dir, ledger.TilesFolder), cfg.Ledger.CheckpointCopy}
	if r := cfg.Ledger.SecondKey; r != nil {
		fresh = append(fresh, r.Public, cfg.secondFile(1))
	}
	if err := store.CheckFounding(m.Database); err != nil {
		return nil, err
	}
	for _, path := range fresh {
		if path == "" {
			continue
		}
		if _, err := os.Lstat(path); err == nil {
			return nil, command.Misusef("%s exists already: a producer is made once. To begin again on purpose, move the old one away as a whole; after a restore, use recover", path)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, command.Misusef("%w", err)
		}
	}
	for _, path := range []string{m.Database, signing, ledgerKey} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, command.Misusef("%w", err)
		}
	}
	if err := os.MkdirAll(cfg.Ledger.Dir, 0o755); err != nil {
		return nil, command.Misusef("%w", err)
	}
	makes := []string{signing, ledgerKey, m.CardFile, m.VerifierFile}
	if r := cfg.Ledger.SecondKey; r != nil {
		makes = append(makes, r.Public, cfg.secondFile(1))
	}
	founding, err := store.BeginFounding(m.Database, makes, func(path string) error { return store.Create(path, outbox.Schema) })
	if err != nil {
		return nil, err
	}
	var files []string // made by this call, removed again if it fails
	defer func() {
		if err != nil {
			for _, f := range files {
				err = errors.Join(err, os.Remove(f))
			}
			err = errors.Join(err, founding.Undo())
		}
	}()
	keep := func(path string, err error) error {
		if err == nil {
			files = append(files, path)
		}
		return err
	}
	public, err := cfg.makeKey(ctx, cfg.Signing.Key, cfg.Signing.Alg)
	if err := keep(signing, err); err != nil {
		return nil, err
	}
	_, err = cfg.keeper.MakeLedger(ctx, cfg.Ledger.Key)
	if err := keep(ledgerKey, err); err != nil {
		return nil, err
	}
	if r := cfg.Ledger.SecondKey; r != nil {
		_, err := cfg.keeper.Adopt(ctx, *r, "sign")
		if err := keep(r.Public, err); err != nil {
			return nil, err
		}
	}
	if m.LedgerVerifier, m.SecondVerifier, err = cfg.verifiers(1); err != nil {
		return nil, err
	}
	if m.SecondVerifier != "" {
		m.SecondVerifierFile = cfg.secondFile(1)
		if err := keep(m.SecondVerifierFile, writeNew(m.SecondVerifierFile, []byte(m.SecondVerifier+"\n"))); err != nil {
			return nil, err
		}
	}
	if m.Card, err = cfg.card(public, 1); err != nil {
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
	if err := a.fillDatabase(ctx, cfg, founding.Database()); err != nil {
		return nil, err
	}
	return m, founding.Finish()
}

// secondLine tells of a ledger's second key, where there is one.
func secondLine(line, file string) string {
	if line == "" {
		return ""
	}
	return fmt.Sprintf("and of the second key (also in %s):\n  %s\n", file, line)
}

// fillDatabase begins the chains and the ledger in the new database at path.
func (a *app) fillDatabase(ctx context.Context, cfg *Config, path string) error {
	by, err := a.login()
	if err != nil {
		return err
	}
	db, err := store.Open(path, outbox.Schema)
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
	return errors.Join(err, db.Close())
}

func (a *app) enclaveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "enclave",
		Short:   "Enclaves that joined after init",
		GroupID: "setup",
		Args:    command.NoArgs,
		RunE:    command.Help,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "add NAME",
		Short: "Begin a chain for an enclave that the configuration names",
		Long: `add begins the chain of messages for an enclave that was put into the configuration after init. Nobody
is announced by it: the next import announces everyone in the enclave's scope.`,
		Example: `  producer -c producer.yaml enclave add GOV-2`,
		Args:    command.Exactly("NAME"),
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
