package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

func (a *app) backupCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the database, whole and at one moment, beside a running producer",
		Long: `backup writes a copy of the database to a new file that only you can read; it holds personal data. The copy is
whole and of one moment, also while "run" is running. It is on the ledger with its digest. A copy that is
put back does not know what was sent since, and every command that sends refuses it: see "After a restore"
in producer/README.md.`,
		Example: `  producer -c producer.yaml backup /mnt/backup/producer-2026-05-12.db --reason "nightly"`,
		GroupID: "ops",
		Args:    command.Exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if reason == "" {
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
			sum, size, err := s.db.Backup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			digest := schema.Digest(sum)
			if err := a.note(cmd.Context(), s.db, &entry.Operator{Action: "backup", Reason: entry.Text(reason), Digest: &digest}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "Copied to %s: %d octets, SHA-256 %s. It holds personal data.\n", args[0], size, digest)
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	return cmd
}
