package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/config"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

func (a *app) leaseCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "lease", Short: "How long access outlives the last word on a person", GroupID: "ops", Args: command.NoArgs, RunE: command.Help,
		Long: `Access lasts for a time after the last event or roster that named the person ("lease" in the policy, 7 days).
Then it is suspended, reversibly, and the next word on the person restores it: a bridge that is cut off
fails closed on a stated date. The alarm "lease-ending" tells before that.`}
	cmd.AddCommand(a.leaseExtend())
	return cmd
}

func (a *app) leaseExtend() *cobra.Command {
	var reason, issuer, length string
	var all bool
	cmd := &cobra.Command{
		Use:   "extend [SUBJECT...]",
		Short: "Let leases last longer, for as long as you say",
		Long: `extend puts off the end of leases: of the subjects named, or with --all of everybody of a producer. Who was
suspended for a lease gets access back, inside the limits. It ends by itself, after 30 days at most.`,
		Example: `  consumer lease extend --all --for 3d --reason "mid-point down, INC-12"
  consumer lease extend 100042 --for 7d --reason "HR confirmed by telephone"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return command.Usagef("name the subjects, or say --all")
			}
			d, err := config.ParseDuration(length)
			if err != nil || d.D() <= 0 || d.D() > state.MaxExtension {
				return command.Usagef("--for: want a time like 3d, at most %v, got %q", config.Duration(state.MaxExtension), length)
			}
			return a.acting(cmd.Context(), reason, "say why", func(db *state.DB, _ *Config, by state.By) error {
				return a.extend(cmd.Context(), db, args, issuer, by.Now.Add(d.D()), by)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	cmd.Flags().StringVar(&length, "for", "", "`time` from now until which the leases last at least; required")
	cmd.Flags().StringVar(&issuer, "issuer", "", "`URI` of the producer; needed where several are followed")
	cmd.Flags().BoolVar(&all, "all", false, "everybody of the producer")
	return cmd
}

func (a *app) extend(ctx context.Context, db *state.DB, subjects []string, issuer string, until time.Time, by state.By) error {
	var n, restored int64
	var least time.Time // until which all of them last
	err := db.Tx(ctx, func(tx *store.Tx) error {
		var whom []state.SubjectKey
		for _, s := range subjects {
			k, _, err := spoken(tx, s, issuer, "extend")
			if err != nil {
				return err
			}
			whom = append(whom, k)
		}
		if len(subjects) == 0 {
			iss, err := oneIssuer(tx, issuer)
			if err != nil {
				return err
			}
			whom = []state.SubjectKey{{Issuer: iss}}
		}
		for _, k := range whom {
			m, err := state.Extend(tx, k, until, by.Now)
			if err != nil {
				return err
			}
			back, err := state.RestoreLeases(tx, k, by.Now)
			if err != nil {
				return err
			}
			n, restored = n+m, restored+back
			to, err := state.ExtendedTo(tx, k)
			if err != nil {
				return err
			}
			if !to.IsZero() && (least.IsZero() || to.Before(least)) {
				least = to
			}
			if back == 0 && to.UnixMilli() > until.UnixMilli() {
				continue // all of them last longer anyway: nothing was done
			}
			e := &entry.Lease{Action: entry.LeaseExtended, Issuer: k.Issuer, Subject: k.Subject, Until: entry.MomentAt(until), By: by.Login, Reason: entry.Text(by.Reason)}
			if k.Subject == "" {
				e.Count = m
			}
			if _, err := ledger.Append(tx, entry.New(by.Now, e)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if least.UnixMilli() > until.UnixMilli() {
		_, err = fmt.Fprintf(a.out, "Leases of %s last until %s at least, as was said before: %s is sooner and changes nothing; %d had run out and are restored.\n",
			persons(int(n)), stamp(least), stamp(until), restored)
		return err
	}
	_, err = fmt.Fprintf(a.out, "Leases of %s last until %s at least; %d had run out and are restored.\n", persons(int(n)), stamp(until), restored)
	return err
}

// oneIssuer is the producer that is meant.
func oneIssuer(r state.Reader, named string) (string, error) {
	issuers, err := state.Issuers(r)
	switch {
	case err != nil:
		return "", err
	case named == "" && len(issuers) == 1:
		return issuers[0], nil
	case named == "":
		return "", command.Usagef("--issuer: %d producers are followed; say which", len(issuers))
	}
	for _, iss := range issuers {
		if iss == named {
			return iss, nil
		}
	}
	return "", command.Misusef("no stream of %s is followed", named)
}
