package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// alarmClock stands from a jump of the clock until an operator says that it is right.
const alarmClock = "clock"

// How far the clock may be from where it should be.
const (
	clockBack    = 5 * time.Second // corrections by NTP stay below it
	clockForward = 10 * time.Minute
)

// jump is a clock that is not where it should be.
type jump struct {
	against         string // entry.AgainstX
	expected, found time.Time
}

func (j *jump) offset() time.Duration { return j.found.Sub(j.expected) }

// jumped compares the clock with where it should be.
func jumped(against string, expected, found time.Time) *jump {
	expected, found = expected.Round(0), found.Round(0) // by the wall clock
	if d := found.Sub(expected); d < -clockBack || d > clockForward {
		return &jump{against, expected, found}
	}
	return nil
}

// between compares two readings of this process's clock: time that passed by the monotonic clock
// and not by the wall clock, or the other way round, is a jump.
func between(earlier, now time.Time) *jump {
	return jumped(entry.AgainstMonotonic, earlier.Round(0).Add(now.Sub(earlier)), now)
}

// sinceLedger compares the clock at start with the last entry. A program that did not run for long
// looks like a jump forward; that is why it is only a notice.
func sinceLedger(db *state.DB, now time.Time) (*jump, error) {
	size, err := ledger.Size(db.DB)
	if err != nil || size == 0 {
		return nil, err
	}
	last, err := ledger.Get(db.DB, size-1)
	if err != nil {
		return nil, err
	}
	return jumped(entry.AgainstLedger, last.Time, now), nil
}

// record puts a jump on the ledger and raises its alarm.
func (j *jump) record(tx *store.Tx, now time.Time) error {
	e := &entry.Clock{Action: entry.ClockJumped, Against: j.against, Expected: entry.MomentAt(j.expected), Found: entry.MomentAt(j.found), Offset: j.offset().Milliseconds()}
	first, err := ledger.Append(tx, entry.New(now, e))
	if err != nil {
		return err
	}
	a := state.Alarm{Code: alarmClock, Severity: state.Critical, Last: now, Entry: entry.Index(first)}
	switch {
	case j.offset() < 0:
		a.Text = fmt.Sprintf("the clock says %s and was at %s before (%v back): correct it, then `consumer clock confirm`", stamp(j.found), stamp(j.expected), -j.offset().Round(time.Second))
	case j.against == entry.AgainstLedger:
		a.Severity = state.Notice
		a.Text = fmt.Sprintf("the clock is %v past the last entry of the ledger: either nothing ran for so long, or the clock is wrong; `consumer clock confirm`", j.offset().Round(time.Second))
	default:
		a.Text = fmt.Sprintf("the clock jumped %v forward, to %s: correct it, then `consumer clock confirm`", j.offset().Round(time.Second), stamp(j.found))
	}
	_, err = state.RaiseAlarm(tx, a)
	return err
}

func (a *app) clockCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "clock", Short: "Say that the machine's clock is right again", GroupID: "ops", Args: noArgs, RunE: help,
		Long: `The enclave goes by its own clock. When it jumps, or is far from the ledger's last entry at start, the alarm
"clock" stands until an operator has looked at it.`}
	var reason string
	confirm := &cobra.Command{
		Use:     "confirm",
		Short:   "End the clock alarm",
		Example: `  consumer clock confirm --reason "NTP was down, fixed, CHG-12"`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reason == "" {
				return usagef("--reason: say what it was; it goes on the ledger")
			}
			by, err := a.by(reason)
			if err != nil {
				return err
			}
			db, _, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			if err := confirmClock(cmd.Context(), db, by); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "The clock is confirmed: %s.\n", stamp(by.Now))
			return err
		},
	}
	confirm.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	cmd.AddCommand(confirm)
	return cmd
}

func confirmClock(ctx context.Context, db *state.DB, by state.By) error {
	return db.Tx(ctx, func(tx *store.Tx) error {
		e := &entry.Clock{Action: entry.ClockConfirmed, Against: entry.AgainstLedger, Found: entry.MomentAt(by.Now), By: by.Login, Reason: entry.Text(by.Reason)}
		if _, err := ledger.Append(tx, entry.New(by.Now, e)); err != nil {
			return err
		}
		_, err := state.ClearAlarm(tx, alarmClock, "", by.Now)
		return err
	})
}
