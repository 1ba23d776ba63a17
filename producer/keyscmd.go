package main

import (
	"crypto"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
)

// errKeys is the answer of "keys"; what is wrong was printed.
var errKeys = errors.New("not every key can be used")

func (a *app) keysCommand() *cobra.Command {
	var format string
	var adopt bool
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Show and try every key that the configuration names",
		Long: `keys reads every key file, and asks the key store for each key that lies there: whether it is the pinned
one, in hardware, and does what it is for. It tells where a key or the credential could do more than that.

For a key that is not pinned yet it shows the key id to compare and to put into the configuration as kid. Nothing
is changed, but by --adopt.`,
		Example: `  producer -c producer.yaml keys
  producer -c producer.yaml keys --adopt`,
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
			if adopt {
				if err := cfg.adoptSecond(cmd); err != nil {
					return err
				}
			}
			list := cfg.keeper.Report(cmd.Context(), cfg.uses())
			if inJSON {
				err = program.PrintJSON(a.out, list)
			} else {
				err = custody.Print(a.out, list)
			}
			if err == nil && !custody.Sound(list) {
				err = errKeys
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&adopt, "adopt", false, "take a second ledger key into use that is new in the configuration")
	command.OutputFlag(cmd, &format)
	return cmd
}

// uses lists the keys of the configuration.
func (c *Config) uses() []custody.Use {
	signing := custody.Use{Purpose: "signing", File: c.Signing.Key.Path, Ref: c.Signing.Key.Other, Op: "sign", Read: func() (crypto.PublicKey, error) {
		key, err := keys.ReadSigning(c.Signing.Key.Path)
		if err != nil {
			return nil, err
		}
		return key.Public(), c.checkAlg(c.Signing.Key, c.Signing.Alg, key.Public())
	}}
	list := []custody.Use{signing}
	if n := c.Signing.Next; n != nil {
		list = append(list, custody.Use{Purpose: "next", File: n.Key.Path, Ref: n.Key.Other, Op: "sign", Read: func() (crypto.PublicKey, error) {
			key, err := keys.ReadSigning(n.Key.Path)
			if err != nil {
				return nil, err
			}
			return key.Public(), c.checkAlg(n.Key, n.Alg, key.Public())
		}})
	}
	return append(list, custody.LedgerUses(c.Ledger.Key, c.Ledger.SecondKey)...)
}

// adoptSecond leaves the public half and the line of a second key that init did not know, or neither.
func (c *Config) adoptSecond(cmd *cobra.Command) (err error) {
	r := c.Ledger.SecondKey
	if r == nil {
		return c.file.Errorf("$.ledger.second_key", "there is none to adopt")
	}
	db, err := store.OpenRead(c.Database, outbox.Schema)
	if err != nil {
		return err
	}
	defer db.Close()
	generation, err := outbox.Generation(cmd.Context(), db)
	if err != nil {
		return err
	}
	if _, err := c.keeper.Adopt(cmd.Context(), *r, "sign"); err != nil {
		return err
	}
	_, line, err := c.verifiers(generation)
	if err == nil {
		err = writeNew(c.secondFile(generation), []byte(line+"\n"))
	}
	if err != nil {
		err = errors.Join(err, os.Remove(r.Public))
	}
	return err
}
