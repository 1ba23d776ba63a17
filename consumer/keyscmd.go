package main

import (
	"crypto"
	"errors"

	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/program"
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
		Example: `  consumer -c consumer.yaml keys
  consumer -c consumer.yaml keys --adopt`,
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
				if cfg.Ledger.SecondKey == nil {
					return cfg.file.Errorf("$.ledger.second_key", "there is none to adopt")
				}
				var undo undo
				if _, err := undo.secondKey(cmd.Context(), cfg, cfg.verifierFile()); err != nil {
					return undo.all(err)
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
func (c *Config) uses() (list []custody.Use) {
	for _, k := range c.Keys.Decryption {
		list = append(list, custody.Use{Purpose: "decryption", File: k.Path, Ref: k.Other, Op: "decrypt", Read: func() (crypto.PublicKey, error) {
			key, err := keys.ReadDecryption(k.Path)
			if err != nil {
				return nil, err
			}
			return key.Public(), nil
		}})
	}
	return append(list, custody.LedgerUses(c.Ledger.Key, c.Ledger.SecondKey)...)
}
