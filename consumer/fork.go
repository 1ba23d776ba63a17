package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func (a *app) forkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fork",
		Short: "Streams that say two things: look at the branches, and say which is the chain",
		Long: `A stream that says two things gives nothing until you rule. Ask the producer's people, on a line that you know,
which of the branches is theirs: "producer status" over there shows the hash of its head. Was the producer restored
from a backup and runs "producer recover", take "consumer trust generation" instead.`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE:    command.Help,
	}
	cmd.AddCommand(a.forkList(), a.forkChoose())
	return cmd
}

// shownFork is a stream that says two things, as scripts read it.
type shownFork struct {
	Issuer     string        `json:"iss"`
	Stream     string        `json:"stream"`
	Generation int           `json:"generation"`
	Branches   []shownBranch `json:"branches"`
}

type shownBranch struct {
	Hash     schema.Digest  `json:"hash"` // of its first message that no other branch has
	Seq      uint64         `json:"seq"`
	Tip      uint64         `json:"tip"`
	TipHash  schema.Digest  `json:"tip_hash"`
	Followed bool           `json:"followed"` // what was followed before the fork was noticed
	Keys     []string       `json:"keys"`
	Kinds    map[string]int `json:"kinds"`
	Subjects []string       `json:"subjects"`
	Since    *time.Time     `json:"since,omitempty"` // when the first of it came
}

func showFork(f *ruling.Fork) shownFork {
	s := shownFork{Issuer: f.Stream.Issuer, Stream: f.Stream.Name, Generation: f.Stream.Generation}
	for _, b := range f.Branches {
		x := shownBranch{Hash: b.Hash, Seq: b.Seq, Tip: b.Tip, TipHash: b.TipHash, Followed: b.Followed, Keys: []string{}, Kinds: map[string]int{}, Subjects: []string{}}
		for _, m := range b.Own {
			x.Kinds[string(m.Event)]++
			if !slices.Contains(x.Keys, m.KID) {
				x.Keys = append(x.Keys, m.KID)
			}
			if m.Subject != "" && !slices.Contains(x.Subjects, m.Subject) {
				x.Subjects = append(x.Subjects, m.Subject)
			}
			if x.Since == nil || m.ReceivedAt.Before(*x.Since) {
				x.Since = &m.ReceivedAt
			}
		}
		s.Branches = append(s.Branches, x)
	}
	return s
}

func (a *app) forkList() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show every stream that says two things, with its branches",
		Example: `  consumer fork list
  consumer fork list -o json`,
		Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.reading(format, func(db *state.DB, inJSON bool) error {
				forks, err := ruling.Forks(db.Read())
				if err != nil {
					return err
				}
				list := []shownFork{}
				for _, f := range forks {
					list = append(list, showFork(f))
				}
				if inJSON {
					return program.PrintJSON(a.out, list)
				}
				if len(list) == 0 {
					_, err = fmt.Fprintln(a.out, "No stream says two things.")
					return err
				}
				for _, f := range list {
					if err := a.showFork(f); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	command.OutputFlag(cmd, &format)
	return cmd
}

func (a *app) showFork(f shownFork) error {
	fmt.Fprintf(a.out, "stream %s of %s, generation %d:\n", f.Stream, f.Issuer, f.Generation)
	var rows [][]string
	for _, b := range f.Branches {
		var kinds []string
		for _, k := range sortedKeys(b.Kinds) {
			kinds = append(kinds, fmt.Sprintf("%s %d", k, b.Kinds[k]))
		}
		since, followed := "-", ""
		if b.Since != nil {
			since = stamp(*b.Since)
		}
		if b.Followed {
			followed = "followed"
		}
		rows = append(rows, []string{b.Hash.String(), strconv.FormatUint(b.Seq, 10), strconv.FormatUint(b.Tip, 10), b.TipHash.String(), followed, since, strings.Join(kinds, ", "), strings.Join(b.Keys, ",")})
	}
	if err := program.Table(a.out, []string{"BRANCH", "FROM", "TO", "ITS HEAD", "", "CAME", "SAYS", "SIGNED BY"}, rows); err != nil {
		return err
	}
	for _, b := range f.Branches {
		if len(b.Subjects) > 0 {
			fmt.Fprintf(a.out, "  %s is about %s\n", b.Hash, strings.Join(b.Subjects, ", "))
		}
	}
	_, err := fmt.Fprintf(a.out, "\nTo rule:  consumer fork choose %s BRANCH --reason TEXT\n", f.Stream)
	return err
}

func (a *app) forkChoose() *cobra.Command {
	var issuer, reason string
	cmd := &cobra.Command{
		Use:   "choose STREAM BRANCH",
		Short: "Say which branch of a fork is the chain",
		Long: `choose takes the branch that has the message with this payload digest as the chain, which goes on from there. What
the other branches took away stays taken, and what they go on to say stops the stream no more. What they gave is
listed as a hold (` + ruling.Code + `): nothing more is given on it, and it stays until a good word comes or you decide
("consumer holds show"). A digest that begins with '-' comes last, after "--".

A ruling is not changed by another one. If it was wrong, the way back is a new generation: the producer's people run
"producer recover --force" where the right history is, and when nothing waits there any more, "consumer trust generation"
here. What goes on on a branch that was ruled out is the alarm ` + ruling.AlarmGoesOn + `.`,
		Example: `  consumer fork choose hr 4fJ2... --reason "head read out by J. Roe on the phone, INC-93"`,
		Args:    command.Exactly("STREAM", "BRANCH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var hash schema.Digest
			if err := hash.UnmarshalText([]byte(args[1])); err != nil {
				return command.Usagef("want the payload digest of a message of the branch: %w", err)
			}
			return a.acting(cmd.Context(), reason, "say how you know", func(db *state.DB, _ *Config, by state.By) error {
				var ru *ruling.Ruling
				err := db.Tx(cmd.Context(), func(tx *store.Tx) error {
					f, err := oneFork(tx, args[0], issuer)
					if err != nil {
						return err
					}
					ru, err = f.Choose(cmd.Context(), db, tx, hash, by)
					if errors.As(err, new(*ruling.RefusedError)) {
						return command.Misuse(err)
					}
					return err
				})
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "Stream %s goes on after message %d, on the branch of message %d, %s.\n", args[0], ru.Head, ru.Branch.Seq, ru.Branch.Hash)
				for _, o := range ru.Out {
					fmt.Fprintf(a.out, "Ruled out: messages %d to %d, from %s. Their cuts stay.\n", o.Seq, o.Tip, o.Hash)
				}
				if len(ru.Out) > 0 {
					fmt.Fprintf(a.out, "If more comes of that, the alarm %s says so. Was it theirs after all: %s\n", ruling.AlarmGoesOn, wayBack)
				}
				return a.tellQuestion(ru.Hold)
			})
		},
	}
	cmd.Flags().StringVar(&issuer, "issuer", "", "`URI` of the producer; needed where several have such a stream")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the ledger; required")
	return cmd
}

// wayBack is what to do about a ruling that was wrong.
const wayBack = "have the producer's people run `producer recover --force --reason TEXT` where that history is, and when nothing waits there any more, `consumer trust generation CARD --expect KEYID --reason TEXT` here"

// tellQuestion says what a ruling left to decide.
func (a *app) tellQuestion(h *state.Hold) (err error) {
	if h == nil {
		_, err = fmt.Fprintln(a.out, "Nothing was given on what does not count any more, of that generation.")
		return err
	}
	shown, _ := ruling.ParseShown(h)
	_, err = fmt.Fprintf(a.out, "On a word that does not count any more rests the access of %s: consumer holds show %s\n", persons(shown.Count), h.Name())
	return err
}

// oneFork finds the stream that an operator means.
func oneFork(r state.Reader, stream, issuer string) (*ruling.Fork, error) {
	forks, err := ruling.Forks(r)
	if err != nil {
		return nil, err
	}
	forks = slices.DeleteFunc(forks, func(f *ruling.Fork) bool {
		return f.Stream.Name != stream || issuer != "" && f.Stream.Issuer != issuer
	})
	switch len(forks) {
	case 0:
		streams, err := state.Streams(r)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(streams, func(s *state.Stream) bool {
			return s.Name == stream && (issuer == "" || s.Issuer == issuer) && s.State != admit.Closed && s.RuledOut > 0
		}) {
			return nil, command.Misusef("stream %s says one thing since it was ruled on, and a ruling is not changed by another one. Was it wrong: %s", stream, wayBack)
		}
		return nil, command.Misusef("stream %s says one thing; `consumer fork list` shows those that say two", stream)
	case 1:
		return forks[0], nil
	}
	return nil, command.Usagef("--issuer: %d producers have a forked stream %s; say whose", len(forks), stream)
}
