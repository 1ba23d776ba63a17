package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func (a *app) backupCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the database, whole and at one moment, beside a running consumer",
		Long: `backup writes a copy of the database to a new file that only you can read; it holds personal data. The copy is
whole and of one moment, also while "run" is running. It is on the ledger with its digest. A copy that is
put back is older than what was published since, and "run" refuses it: see "An old database was put back"
in consumer/README.md.`,
		Example: `  consumer backup /mnt/backup/consumer-2026-05-12.db --reason "nightly"`,
		GroupID: "ops",
		Args:    command.Exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.acting(cmd.Context(), reason, "say why", func(db *state.DB, _ *Config, by state.By) error {
				sum, size, err := db.Backup(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				digest := schema.Digest(sum)
				err = db.Tx(cmd.Context(), func(tx *store.Tx) error {
					_, err := ledger.Append(tx, entry.New(by.Now, &entry.Operator{By: by.Login, Action: "backup", Reason: entry.Text(by.Reason), Digest: &digest}))
					return err
				})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "Copied to %s: %d octets, SHA-256 %s. It holds personal data.\n", args[0], size, digest)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	return cmd
}
