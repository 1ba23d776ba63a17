package main

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
	"jmlbridge/schema"
)

// cardForm is the version of the file's form; "consumer trust add" reads it strictly.
const cardForm = "jmlbridge-card/1"

// card is what is carried to an enclave by hand: who speaks, in which stream and generation, and the
// public half of the key. It begins at seq 1 of the generation.
type card struct {
	Card       string    `json:"card"` // cardForm
	Issuer     string    `json:"issuer"`
	Stream     string    `json:"stream"`
	Generation int       `json:"generation"`
	Keys       []cardKey `json:"keys"`
}

type cardKey struct {
	ID        string        `json:"kid"`
	Alg       keys.Alg      `json:"alg"`
	Public    string        `json:"public"` // PKIX in PEM
	Kinds     []schema.Kind `json:"kinds"`
	NotBefore *time.Time    `json:"not_before,omitempty"`
	NotAfter  *time.Time    `json:"not_after,omitempty"`
}

// signs lists what this producer may sign. An approval is another person's word, by another key, in a stream that has
// nothing else.
func (c *Config) signs() []schema.Kind {
	if c.approves() {
		return []schema.Kind{schema.KindApproval}
	}
	return schema.ProducerKinds
}

func (c *Config) card(public crypto.PublicKey, generation int) (*card, error) {
	kid, err := keys.ID(public)
	if err != nil {
		return nil, err
	}
	alg, err := keys.SigningAlg(public)
	if err != nil {
		return nil, err
	}
	pem, err := keys.MarshalPublic(public)
	if err != nil {
		return nil, err
	}
	from, to := c.Signing.from, c.Signing.to
	next, err := c.nextKey()
	if err != nil {
		return nil, err
	}
	if next != nil {
		if id, err := keys.ID(next.Public()); err == nil && id == kid {
			from, to = c.Signing.Next.from, c.Signing.Next.to
		}
	}
	return &card{
		Card: cardForm, Issuer: c.Issuer, Stream: c.Stream, Generation: generation,
		Keys: []cardKey{{ID: kid, Alg: alg, Public: string(pem), Kinds: c.signs(), NotBefore: from, NotAfter: to}},
	}, nil
}

// cardFile is where the card of a generation is put: beside the configuration.
func (c *Config) cardFile(generation int) string {
	name := "producer-card.json"
	if generation > 1 {
		name = fmt.Sprintf("producer-card-g%d.json", generation)
	}
	return filepath.Join(filepath.Dir(c.file.Name()), name)
}

// verifierFile is where the line is put by which auditors verify the ledger of a generation.
func (c *Config) verifierFile(generation int) string {
	name := "producer-ledger.vkey"
	if generation > 1 {
		name = fmt.Sprintf("producer-ledger-g%d.vkey", generation)
	}
	return filepath.Join(filepath.Dir(c.file.Name()), name)
}

func (k *card) text() ([]byte, error) {
	text, err := json.MarshalIndent(k, "", "  ")
	return append(text, '\n'), err
}

func (k *card) write(path string) error {
	text, err := k.text()
	if err != nil {
		return err
	}
	return writeNew(path, text)
}

// writeNew writes a public file that must not exist.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func (a *app) cardCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "card",
		Short: "Print the card that an enclave's operator needs to trust this producer",
		Long: `card prints the public card: issuer, stream, generation and the public key with what it may sign. The
operator of an enclave gives it to "consumer trust add". Compare the key id by another way, such as the
phone, since whoever changes the card on its way would be trusted instead.`,
		Example: `  producer -c producer.yaml card > producer-card.json`,
		GroupID: "setup",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			db, err := store.OpenRead(cfg.Database, outbox.Schema)
			if err != nil {
				return err
			}
			defer db.Close()
			if err := outbox.Belongs(db, cfg.Issuer, cfg.Stream); err != nil {
				return err
			}
			generation, err := outbox.Generation(cmd.Context(), db)
			if err != nil {
				return err
			}
			key, err := cfg.keyInForce(db)
			if err != nil {
				return err
			}
			k, err := cfg.card(key.Public(), generation)
			if err != nil {
				return err
			}
			return program.PrintJSON(a.out, k)
		},
	}
}
