package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/recall"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
)

// closeUnclaimed is the action on the ledger of whoever closes one.
const closeUnclaimed = "unclaimed-close"

func (a *app) unclaimedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unclaimed",
		Short: "Accounts that a lost database knew, and whose people nobody has named since",
		Long: `After "consumer recover" every account in the tenant that bears the bridge's mark waits for the producer's roster to
name its person. One that no roster names may be a leaver's: ask HR. Take it away with "consumer cut SUBJECT", which
ends it here too; what is no person's of the bridge, put right in the tenant and close.`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE:    command.Help,
	}
	cmd.AddCommand(a.unclaimedList(), a.unclaimedClose())
	return cmd
}

// shownClaim is one account, as scripts read it.
type shownClaim struct {
	Account  string          `json:"account"`
	Issuer   string          `json:"iss,omitempty"`
	Subject  string          `json:"subject,omitempty"`
	Mark     string          `json:"mark"`
	Enabled  bool            `json:"enabled_when_found"`
	FoundAt  time.Time       `json:"found_at"`
	Standing recall.Standing `json:"standing"`
}

var standings = map[recall.Standing]string{
	recall.Waiting: "waits for the producer's roster, or its turn",
	recall.Unknown: "no roster names the person",
	recall.Second:  "the person has another account",
	recall.Foreign: "marked by an issuer that is not trusted",
}

func (a *app) unclaimedList() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show every one of them",
		Example: `  consumer unclaimed list
  consumer unclaimed list -o json`,
		Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.reading(format, func(db *state.DB, inJSON bool) error {
				claims, err := recall.Claims(db.Read())
				if err != nil {
					return err
				}
				list := []shownClaim{}
				var rows [][]string
				for _, c := range claims {
					if c.Standing == recall.Claimed { // the runner has not noticed yet
						continue
					}
					list = append(list, shownClaim{c.Account, c.Issuer, c.Subject, c.Mark, c.Enabled, c.FoundAt.UTC(), c.Standing})
					enabled := "disabled"
					if c.Enabled {
						enabled = "enabled"
					}
					who := c.Subject
					if who == "" {
						who = c.Mark
					}
					rows = append(rows, []string{c.Account, who, enabled, standings[c.Standing], c.Issuer})
				}
				if inJSON {
					return program.PrintJSON(a.out, list)
				}
				if len(list) == 0 {
					_, err = fmt.Fprintln(a.out, "Every account is claimed.")
					return err
				}
				issuers, err := state.Issuers(db.Read())
				if err != nil {
					return err
				}
				return a.peopleTable(issuers, []string{"ACCOUNT", "SUBJECT", "WHEN FOUND", "STANDING"}, rows)
			})
		},
	}
	command.OutputFlag(cmd, &format)
	return cmd
}

func (a *app) unclaimedClose() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "close ACCOUNT",
		Short:   "Say that an account has been seen to, and nobody of the bridge's is behind it",
		Example: `  consumer unclaimed close 7f9a3c1e-... --reason "deleted by hand, INC-7"`,
		Args:    command.Exactly("ACCOUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.acting(cmd.Context(), reason, "say why", func(db *state.DB, _ *Config, by state.By) error {
				err := db.Tx(cmd.Context(), func(tx *store.Tx) error {
					if err := state.Claim(tx, args[0]); err != nil {
						return err
					}
					_, err := ledger.Append(tx, entry.New(by.Now, &entry.Operator{By: by.Login, Action: closeUnclaimed, Target: args[0], Reason: entry.Text(by.Reason)}))
					return err
				})
				if errors.Is(err, state.ErrNotFound) {
					return command.Misusef("%s is none of the unclaimed accounts; see consumer unclaimed list", args[0])
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "Account %s is closed.\n", args[0])
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	return cmd
}
