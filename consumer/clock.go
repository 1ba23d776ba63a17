package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// between compares two readings of this process's clock: time that passed by the monotonic clock
// and not by the wall clock, or the other way round, is a jump.
func between(earlier, now time.Time) *apply.Jump {
	return apply.Jumped(entry.AgainstMonotonic, earlier.Round(0).Add(now.Sub(earlier)), now)
}

// sinceLedger compares the clock at start with the last entry. A program that did not run for long
// looks like a jump forward; that is why it is only a notice.
func sinceLedger(db *state.DB, now time.Time) (*apply.Jump, error) {
	size, err := ledger.Size(db.DB)
	if err != nil || size == 0 {
		return nil, err
	}
	last, err := ledger.Get(db.DB, size-1)
	if err != nil {
		return nil, err
	}
	return apply.Jumped(entry.AgainstLedger, last.Time, now), nil
}

func (a *app) clockCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "clock", Short: "Say that the machine's clock is right again", GroupID: "ops", Args: command.NoArgs, RunE: command.Help,
		Long: `The enclave goes by its own clock. When it jumps, or is far from the ledger's last entry at start, the alarm
"clock" stands until an operator has looked at it.`}
	var reason string
	confirm := &cobra.Command{
		Use:     "confirm",
		Short:   "End the clock alarm",
		Example: `  consumer clock confirm --reason "NTP was down, fixed, CHG-12"`,
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.acting(cmd.Context(), reason, "say what it was", func(db *state.DB, _ *Config, by state.By) error {
				if err := confirmClock(cmd.Context(), db, by); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.out, "The clock is confirmed: %s.\n", stamp(by.Now))
				return err
			})
		},
	}
	confirm.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	cmd.AddCommand(confirm)
	return cmd
}

func confirmClock(ctx context.Context, db *state.DB, by state.By) error {
	return db.Tx(ctx, func(tx *store.Tx) error { return apply.ClockConfirmed(tx, by) })
}
