package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Change the signing key inside the stream",
		Long: `key changes the signing key in three steps, while everything runs. Name the next key under signing.next: "key next"
makes it and leaves a card, and a "run" that is restarted behind that has the key. When every enclave has trusted it, "key switch"
lets it sign from the next message on and prints by which command each enclave retires the old key. Then it is named under
signing.key.`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE:    command.Help,
	}
	cmd.AddCommand(a.keyNext(), a.keySwitch())
	return cmd
}

// nextKey is what "key next" leaves.
type nextKey struct {
	KID      string `json:"kid"`
	Key      string `json:"key"` // where it lies
	CardFile string `json:"card_file"`
	Card     *card  `json:"card"`
}

func (a *app) keyNext() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "next",
		Short: "Make the next signing key, and its card",
		Long: `next makes the key that the configuration names under signing.next, or takes it into use where it lies in a key store,
and leaves a card (public) to carry to each enclave. It signs nothing before "key switch". Said again, it shows the
same key and card.`,
		Example: `  producer -c producer.yaml key next`,
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
			n, err := a.makeNext(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if inJSON {
				return program.PrintJSON(a.out, n)
			}
			_, err = fmt.Fprintf(a.out, `The next key is %s, in %s.

Carry to each enclave (public): %s
On the enclave's side, before anything else:
  consumer trust add %s --expect %s --reason TEXT

Then restart producer run, and when every enclave has done it:
  producer key switch --reason TEXT
`, n.KID, n.Key, n.CardFile, filepath.Base(n.CardFile), n.KID)
			return err
		},
	}
	command.OutputFlag(cmd, &format)
	return cmd
}

func (a *app) makeNext(ctx context.Context, cfg *Config) (*nextKey, error) {
	next := cfg.Signing.Next
	if next == nil {
		return nil, cfg.file.Errorf("$.signing.next", "name the next key here: next: {key: keys/signing-2.pem}")
	}
	db, err := store.OpenRead(cfg.Database, outbox.Schema)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if err := outbox.Belongs(db, cfg.Issuer, cfg.Stream); err != nil {
		return nil, err
	}
	generation, err := outbox.Generation(ctx, db)
	if err != nil {
		return nil, err
	}
	key, err := cfg.nextKey()
	if err != nil {
		return nil, err
	}
	var public crypto.PublicKey
	if key != nil {
		public = key.Public()
	} else if public, err = cfg.makeKey(ctx, next.Key, next.Alg); err != nil {
		return nil, err
	}
	n := &nextKey{Key: custody.Describe(next.Key)}
	if n.Card, err = cfg.card(public, generation); err != nil {
		return nil, err
	}
	n.KID = n.Card.Keys[0].ID
	n.CardFile = filepath.Join(filepath.Dir(cfg.file.Name()), "producer-card-"+strings.TrimLeft(n.KID[:12], "-_")+".json")
	err = n.Card.write(n.CardFile)
	if !errors.Is(err, os.ErrExist) {
		return n, err
	}
	there, err := os.ReadFile(n.CardFile)
	if err != nil {
		return nil, err
	}
	if text, err := n.Card.text(); err != nil || !bytes.Equal(there, text) {
		return nil, errors.Join(err, command.Misusef("%s is not this key's card as it is now: it is of before a recovery or of another configuration, or was not written to its end; move it away and say this again", n.CardFile))
	}
	return n, nil
}

// switched is what "key switch" leaves.
type switched struct {
	Old      string            `json:"old"`
	KID      string            `json:"kid"`
	Enclaves []outbox.Switched `json:"enclaves"`
}

func (a *app) keySwitch() *cobra.Command {
	var reason, format string
	cmd := &cobra.Command{
		Use:   "switch",
		Short: "Let the next key sign from the next message on",
		Long: `switch is one transaction: what was stored before it bears the old key, what comes after it the next one, whoever
stores it. It prints, for each enclave, the command by which its operator retires the old key. An enclave that does not
trust the next key yet keeps what comes and lets it in when it does; until then it hears no leaver. It cannot be
switched back: a key that was in force before is named as the next one again.`,
		Example: `  producer -c producer.yaml key switch --reason "yearly change of keys, CHG-31"`,
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			inJSON, err := command.AsJSON(format)
			if err != nil {
				return err
			}
			if strings.TrimSpace(reason) == "" {
				return command.Usagef("--reason: say why; it goes on the ledger")
			}
			if err := checkReason(reason); err != nil {
				return err
			}
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), cfg, opening{unsealed: true})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			if s.next == nil {
				return command.Misusef("there is no next key; name it under signing.next and run: producer key next")
			}
			by, err := a.login()
			if err != nil {
				return err
			}
			w := switched{KID: s.next.KID()}
			w.Old, w.Enclaves, err = s.box.Switch(cmd.Context(), &entry.Operator{By: entry.ID(by), Action: "key-switch", Target: w.KID, Reason: entry.Text(reason)})
			if errors.Is(err, outbox.ErrNoNext) {
				return command.Misusef("key %s is in force already", w.KID)
			}
			if err != nil {
				return err
			}
			if inJSON {
				return program.PrintJSON(a.out, w)
			}
			_, err = fmt.Fprintf(a.out, "Key %s signs from here on.\n", w.KID)
			for _, e := range w.Enclaves {
				_, werr := fmt.Fprintf(a.out, "In %s, when it is up to number %d (not where the old key was revoked, which ended it already):\n  consumer trust retire --at-seq %d --generation %d --reason TEXT -- %s\n", e.Audience, e.Last, e.Last, e.Generation, w.Old)
				err = cmp.Or(err, werr)
			}
			_, werr := fmt.Fprintln(a.out, "Then name the key under signing.key and leave signing.next out. From now on hand out what `producer card` prints: producer-card.json of init has the old key.")
			return unreported("the key signs from here on", cmp.Or(err, werr))
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	command.OutputFlag(cmd, &format)
	return cmd
}

// makeKey makes a signing key in its file, or takes the pinned one of a store into use. It returns the public half.
func (c *Config) makeKey(ctx context.Context, at custody.Key, alg keys.Alg) (crypto.PublicKey, error) {
	if r := at.Other; r != nil {
		pub, err := c.keeper.Adopt(ctx, *r, "sign")
		if err == nil {
			if err = c.checkAlg(at, alg, pub); err != nil {
				err = errors.Join(err, os.Remove(r.Public))
			}
		}
		return pub, err
	}
	key, err := keys.GenerateSigning(alg)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(at.Path), 0o700); err != nil {
		return nil, command.Misusef("%w", err)
	}
	return key.Public(), keys.WritePrivate(at.Path, key)
}

// nextKey opens the next key; nil where there is none, or it is not made yet.
func (c *Config) nextKey() (crypto.Signer, error) {
	n := c.Signing.Next
	if n == nil {
		return nil, nil
	}
	file := n.Key.Path
	if r := n.Key.Other; r != nil {
		file = r.Public
	}
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	key, err := c.keeper.Signing(n.Key)
	if err != nil {
		return nil, command.Misusef("next signing key: %w", err)
	}
	return key, c.checkAlg(n.Key, n.Alg, key.Public())
}

// keyInForce is the one of the configured keys that signs, as the database says.
func (c *Config) keyInForce(db *store.DB) (crypto.Signer, error) {
	kid, err := outbox.InForce(db)
	if err != nil {
		return nil, err
	}
	key, err := c.signingKey()
	if err != nil || kid == "" {
		return key, err
	}
	next, err := c.nextKey()
	if err != nil {
		return nil, err
	}
	for _, k := range []crypto.Signer{key, next} {
		if k == nil {
			continue
		}
		if id, err := keys.ID(k.Public()); err == nil && id == kid {
			return k, nil
		}
	}
	return nil, &outbox.KeyError{KID: kid}
}
