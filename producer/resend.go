package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/producer/outbox"
)

func (a *app) resendCommand() *cobra.Command {
	var from, to uint64
	var enclave, reason, format string
	cmd := &cobra.Command{
		Use:   "resend --from N --reason TEXT",
		Short: "Publish messages again that the mid-point lost",
		Long: `resend lets run publish messages again that the mid-point had confirmed and then lost: the same octets under
the same numbers, so that an enclave which misses them closes its gap and one which has them takes them for
the repetitions that they are. Only messages that are still in the database can be sent again: they are
deleted a day after they were sent, once a roster covers them. It is an operator's act and goes on the ledger.`,
		Example: `  producer -c producer.yaml resend --from 118 --to 121 --reason "mid-point's disk was exchanged"
  producer -c producer.yaml resend --from 118 --enclave GOV-1 --reason "queue purged by mistake"`,
		GroupID: "ops",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			inJSON, err := asJSON(format)
			if err != nil {
				return err
			}
			switch {
			case from == 0:
				return usagef("resend: want --from, the first number to be sent again, from 1 on")
			case cmd.Flags().Changed("to") && to < from:
				return usagef("resend: want --to at or after --from %d, got %d", from, to)
			case reason == "":
				return usagef("resend: want --reason, for the ledger")
			}
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			e := &cfg.Enclaves[0]
			if enclave != "" {
				if e, err = cfg.enclave(enclave); err != nil {
					return err
				}
			} else if len(cfg.Enclaves) > 1 {
				return usagef("resend: each enclave has numbers of its own; name one with --enclave")
			}
			s, err := a.open(cmd.Context(), cfg, opening{unsealed: true})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			by, err := a.login()
			if err != nil {
				return err
			}
			r, err := s.box.Resend(cmd.Context(), e.Audience, from, to, func(r *outbox.Resent) entry.Body {
				return &entry.Operator{
					By: entry.ID(by), Action: "resend", Issuer: cfg.Issuer, Reason: entry.Text(reason),
					Target: entry.ID(fmt.Sprintf("%d:%d-%d:%s", r.Generation, r.From, r.To, r.Audience)),
				}
			})
			if err != nil {
				return fmt.Errorf("enclave %s: %w", e.Name, err)
			}
			a.hintRelay(cfg)
			if inJSON {
				return program.PrintJSON(a.out, r)
			}
			_, err = fmt.Fprintf(a.out, "for %s, generation %d, seq %d to %d: %d messages are published again, %d waited anyway\n", r.Audience, r.Generation, r.From, r.To, r.Again, r.Waiting)
			return err
		},
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "first `number` (seq) to be sent again")
	cmd.Flags().Uint64Var(&to, "to", 0, "last `number` (default: the last one that was given)")
	cmd.Flags().StringVar(&enclave, "enclave", "", "`name` of the enclave; not needed where there is one")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger: what was lost, and how")
	outputFlag(cmd, &format)
	return cmd
}
