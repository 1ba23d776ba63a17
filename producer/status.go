package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
)

// report is what status says.
type report struct {
	Issuer     string          `json:"issuer"`
	Stream     string          `json:"stream"`
	Generation int             `json:"generation"`
	KID        string          `json:"kid"`
	Runner     int             `json:"runner"`          // process id; 0 when nothing relays
	Ledger     int64           `json:"ledger"`          // entries
	Guard      string          `json:"guard,omitempty"` // why a start would be refused
	Enclaves   []outbox.Status `json:"enclaves"`
}

func (a *app) statusCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what was said, what waits, and whether anything relays it",
		Long: `status reads the database beside a runner or without one. "waiting" are messages that the mid-point has
not confirmed; they are durable here. It changes nothing.`,
		Example: `  producer -c producer.yaml status
  producer -c producer.yaml status -o json | jq '.enclaves[].waiting'`,
		GroupID: "ops",
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
			r, err := a.status(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if inJSON {
				return program.PrintJSON(a.out, r)
			}
			return r.print(a.out, a.now())
		},
	}
	command.OutputFlag(cmd, &format)
	return cmd
}

func (a *app) status(ctx context.Context, cfg *Config) (*report, error) {
	db, err := store.OpenRead(cfg.Database, outbox.Schema)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if err := outbox.Belongs(db, cfg.Issuer, cfg.Stream); err != nil {
		return nil, err
	}
	key, err := cfg.keyInForce(db)
	if err != nil {
		return nil, err
	}
	r := &report{Issuer: cfg.Issuer, Stream: cfg.Stream}
	if r.KID, err = keys.ID(key.Public()); err != nil {
		return nil, err
	}
	if r.Enclaves, err = outbox.StatusOf(ctx, db, a.now()); err != nil {
		return nil, err
	}
	if r.Generation, err = outbox.Generation(ctx, db); err != nil {
		return nil, err
	}
	if r.Ledger, err = ledger.Size(db); err != nil {
		return nil, err
	}
	if r.Runner, err = store.Holder(cfg.Database); err != nil {
		return nil, err
	}
	c, err := cfg.ledgerConfig(db, r.Generation)
	if err != nil {
		return nil, err
	}
	if err := ledger.CheckNotBehind(ctx, c); errors.As(err, new(*ledger.BehindError)) {
		r.Guard = err.Error()
	} else if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *report) print(w io.Writer, now time.Time) error {
	runner := "nothing relays (producer run)"
	if r.Runner != 0 {
		runner = fmt.Sprintf("process %d relays", r.Runner)
	}
	fmt.Fprintf(w, "issuer %s, stream %s, generation %d, key %s\nledger %d entries; %s\n", r.Issuer, r.Stream, r.Generation, r.KID, r.Ledger, runner)
	if r.Guard != "" {
		fmt.Fprintf(w, "A START WOULD BE REFUSED: %s\n", r.Guard)
	}
	var rows [][]string
	heads, replaced := "", ""
	for _, e := range r.Enclaves {
		if p := e.Replaced; p != nil {
			run := "this run"
			if r.Runner == 0 {
				run = "the last run"
			}
			replaced += fmt.Sprintf("%s: the process that speaks to the mid-point was replaced %s in %s, last %s ago: %s\n",
				e.Audience, count(p.Count, "time"), run, now.Sub(p.Last).Round(time.Second), p.Why)
		}
		heads += fmt.Sprintf("head of %s: generation %d, seq %d, hash %s\n", e.Audience, e.Generation, e.Seq, e.Head)
		oldest := "-"
		if e.Oldest != nil {
			oldest = now.Sub(*e.Oldest).Round(time.Second).String()
		}
		rows = append(rows, []string{
			e.Audience, strconv.FormatUint(e.Seq, 10), strconv.Itoa(e.Active), strconv.Itoa(e.Suspended), strconv.Itoa(e.Closed),
			strconv.Itoa(e.Waiting), oldest, stamp(e.LastSent), stamp(e.Heartbeat), stamp(e.Roster),
		})
	}
	fmt.Fprintln(w)
	if err := program.Table(w, []string{"ENCLAVE", "SEQ", "ACTIVE", "SUSPENDED", "CLOSED", "WAITING", "OLDEST", "LAST SENT", "HEARTBEAT", "ROSTER"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprint(w, "\n", heads, replaced)
	return err
}
