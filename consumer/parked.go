package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/intake"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func (a *app) parkedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "Messages that wait for trust, a key, the clock or a newer program: list, drop",
		Long: `A parked message may become valid: it is tried again by itself when a key is trusted, a generation is opened, the clock
is corrected or a newer program runs. What a trusted key signed has cut already where it cuts. What will never become
valid, such as a stranger's messages or one that is dated years ahead, fills a quota: drop it.`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE:    command.Help,
	}
	cmd.AddCommand(a.parkedList(), a.parkedDrop())
	return cmd
}

// shownParked is the messages that wait for one thing under one key, as scripts read them.
type shownParked struct {
	Code   string        `json:"code"`
	Key    string        `json:"kid,omitempty"` // that they name; nobody vouches for it
	Count  int           `json:"count"`
	Bytes  int64         `json:"bytes"`
	Since  time.Time     `json:"since"`
	Digest schema.Digest `json:"digest"` // of exactly these messages
}

func (a *app) parkedList() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show what waits, by code and key",
		Example: `  consumer parked list
  consumer parked list -o json`,
		Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.reading(format, func(db *state.DB, inJSON bool) error {
				sets, err := state.ParkedSets(db.Read())
				if err != nil {
					return err
				}
				list := []shownParked{}
				var rows [][]string
				for _, s := range sets {
					list = append(list, shownParked{s.Code, s.KID, s.Count, s.Bytes, s.Since.UTC(), s.Digest})
					rows = append(rows, []string{s.Code, strconv.Itoa(s.Count), strconv.FormatInt(s.Bytes, 10), age(a.now(), s.Since), s.Digest.String(), s.KID})
				}
				if inJSON {
					return program.PrintJSON(a.out, list)
				}
				if len(rows) == 0 {
					_, err = fmt.Fprintln(a.out, "Nothing is parked.")
					return err
				}
				return program.Table(a.out, []string{"CODE", "COUNT", "BYTES", "AGE", "DIGEST", "KEY"}, rows)
			})
		},
	}
	command.OutputFlag(cmd, &format)
	return cmd
}

func (a *app) parkedDrop() *cobra.Command {
	var key, digest, reason string
	cmd := &cobra.Command{
		Use:   "drop CODE",
		Short: "Give up exactly the messages that were shown",
		Long: `drop gives up the messages that "parked list" showed under a code and this digest. A leaver may be among those of
a key that is not trusted: whatever its producer still wants to say it must send again, or say with its next roster.
What such messages cut already stays cut.`,
		Example: `  consumer parked drop unknown-key --digest 9k2... --reason "nobody's key, INC-95"`,
		Args:    command.Exactly("CODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var shown schema.Digest
			if err := shown.UnmarshalText([]byte(digest)); err != nil {
				return command.Usagef("--digest: give the digest that `consumer parked list` printed: what you saw is what is dropped: %w", err)
			}
			return a.acting(cmd.Context(), reason, "say why", func(db *state.DB, _ *Config, by state.By) error {
				n := 0
				err := db.Tx(cmd.Context(), func(tx *store.Tx) (err error) {
					if n, err = state.DropParked(tx, args[0], key, shown, by); err != nil {
						return err
					}
					return intake.EndParked(tx, by.Now)
				})
				if errors.Is(err, state.ErrChanged) || errors.Is(err, state.ErrNotFound) {
					return command.Misuse(err)
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "%d parked under %s are dropped.\n", n, args[0])
				return err
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "`id` of the key that they name, as shown; the digest says which without it")
	cmd.Flags().StringVar(&digest, "digest", "", "`digest` of what was shown; required")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	return cmd
}
