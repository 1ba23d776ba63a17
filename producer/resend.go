package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/producer/outbox"
)

func (a *app) resendCommand() *cobra.Command {
	var from, to seqFlag
	var enclave, reason, format string
	cmd := &cobra.Command{
		Use:   "resend --from N --reason TEXT",
		Short: "Publish messages again that the mid-point lost",
		Long: `resend lets run publish messages again that the mid-point had confirmed and then lost: the same octets under
the same numbers, so that an enclave which misses them closes its gap and one which has them takes them for
the repetitions that they are. Only messages that are still in the database can be sent again: they are
deleted a day after they were sent, once a roster covers them. It is an operator's act and goes on the ledger.
Where N is the one after the last number that was made, nothing was lost: it says so and does nothing, exit code 0.
An enclave that has more than 20 of them already shows the alarm "flood" for "replay", a notice: tell its operators.`,
		Example: `  producer -c producer.yaml resend --from 118 --to 121 --reason "mid-point's disk was exchanged"
  producer -c producer.yaml resend --from 118 --enclave GOV-1 --reason "queue purged by mistake"`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			inJSON, err := command.AsJSON(format)
			if err != nil {
				return err
			}
			switch {
			case from == 0:
				return command.Usagef("resend: want --from, the first number to be sent again, from 1 on")
			case cmd.Flags().Changed("to") && to < from:
				return command.Usagef("resend: want --to at or after --from %d, got %d", from, to)
			case reason == "":
				return command.Usagef("resend: want --reason, for the ledger")
			}
			if err := checkReason(reason); err != nil {
				return err
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
				return command.Usagef("resend: each enclave has numbers of its own; name one with --enclave")
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
			r, err := s.box.Resend(cmd.Context(), e.Audience, uint64(from), uint64(to), func(r *outbox.Resent) entry.Body {
				return &entry.Operator{
					By: entry.ID(by), Action: "resend", Issuer: cfg.Issuer, Reason: entry.Text(reason),
					Target: entry.ID(fmt.Sprintf("%d:%d-%d:%s", r.Generation, r.From, r.To, r.Audience)),
				}
			})
			if err != nil {
				return fmt.Errorf("enclave %s: %w", e.Name, err)
			}
			nothing := r.From > r.To
			if !nothing {
				a.hintRelay(cmd.Context(), s)
			}
			switch {
			case inJSON:
				err = program.PrintJSON(a.out, r)
			case nothing && r.To == 0:
				_, err = fmt.Fprintf(a.out, "for %s, generation %d, no message was made yet: nothing was lost, and there is nothing to send again\n", r.Audience, r.Generation)
			case nothing:
				_, err = fmt.Fprintf(a.out, "for %s, generation %d, seq %d is the last that was made: nothing was lost, and there is nothing to send again\n", r.Audience, r.Generation, r.To)
			default:
				_, err = fmt.Fprintf(a.out, "for %s, generation %d, seq %d to %d: %s to be published again, %d waited anyway\n", r.Audience, r.Generation, r.From, r.To, count(int(r.Again), "message"), r.Waiting)
			}
			if nothing {
				return err
			}
			return unreported(fmt.Sprintf("%s will be published again", count(int(r.Again), "message")), err)
		},
	}
	cmd.Flags().Var(&from, "from", "first `number` (seq) to be sent again")
	cmd.Flags().Var(&to, "to", "last `number` (default: the last one that was given)")
	cmd.Flags().StringVar(&enclave, "enclave", "", "`name` of the enclave; not needed where there is one")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger: what was lost, and how")
	command.OutputFlag(cmd, &format)
	return cmd
}

// seqFlag is a flag that takes the number of a message.
type seqFlag uint64

func (f *seqFlag) String() string { return strconv.FormatUint(uint64(*f), 10) }

func (*seqFlag) Type() string { return "uint" }

func (f *seqFlag) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n == 0 {
		return errors.New("want the number (seq) of a message, from 1 on")
	}
	*f = seqFlag(n)
	return nil
}
