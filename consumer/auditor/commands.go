package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"jmlbridge/consumer/auditor/verify"
	"jmlbridge/internal/command"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/program"
)

type verifyFlags struct {
	ledgerKey string
	secondKey string
	trust     []string
	copies    []string
	output    string
	tilesOnly bool
	grace     time.Duration
	cutLimit  time.Duration
}

func newVerify(stdout, stderr io.Writer) *cobra.Command {
	var fl verifyFlags
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Verify a published ledger; the exit code is the verdict",
		Long: `verify reads the published folder DIR (tiles/ and archive/) and reports whether everything in it verifies.

The ledger's key is the line that "consumer init" or "producer init" printed, as text or in a file. The
producers' cards must come from the producers, not from the enclave: with them the auditor checks every
signature itself, and sees keys that the enclave trusts and no producer has.

A ledger that is still being written can be verified: the checkpoint is read first, and what is newer than
it is left out. Progress is shown on a terminal only.

Exit codes: 0 the ledger verifies, 1 it could not be checked, 2 misuse, 3 it does not verify.`,
		Example: `  auditor verify /evidence/ledger --ledger-key ledger.vkey --trust producer-card.json
  auditor verify /evidence/ledger --ledger-key "$LINE" --trust a.json --trust b.json --cut-limit 1h
  auditor verify /evidence/ledger --ledger-key ledger.vkey --copy /worm/checkpoint --tiles-only`,
		Args: command.Exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			inJSON, err := command.AsJSON(fl.output)
			if err != nil {
				return err
			}
			o, err := fl.options(args[0])
			if err != nil {
				return err
			}
			bar := newProgress(stderr)
			o.Progress = bar.update
			report, err := verify.Run(cmd.Context(), o)
			bar.done()
			if err != nil {
				return err
			}
			if inJSON {
				err = program.PrintJSON(stdout, report)
			} else {
				err = report.WriteText(stdout)
			}
			if err != nil {
				return err
			}
			if !report.Verifies {
				return errDoesNot
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&fl.ledgerKey, "ledger-key", "", "the ledger's public key: its `line`, or a file with it")
	f.StringVar(&fl.secondKey, "second-key", "", "the ledger's second public key, which must have signed too: its `line`, or a file with it")
	f.StringArrayVar(&fl.trust, "trust", nil, "a producer's card, JWK or PEM public key; repeat for each `file`")
	f.StringArrayVar(&fl.copies, "copy", nil, "a checkpoint `file` kept elsewhere, which the ledger must extend; may repeat")
	f.BoolVar(&fl.tilesOnly, "tiles-only", false, "the archive is not at hand: check everything but the messages' signatures")
	f.DurationVar(&fl.cutLimit, "cut-limit", 0, "`time` after which a cut that was due (received, or effective if that is later) and not done is a finding, like 1h; 0: none")
	f.DurationVar(&fl.grace, "grace", verify.DefaultGrace, "`time` for which what is open when the ledger ends counts as under way; 0s for a ledger that goes on no more")
	command.OutputFlag(cmd, &fl.output)
	return cmd
}

func (fl *verifyFlags) options(dir string) (o verify.Options, err error) {
	if fl.grace < 0 || fl.cutLimit < 0 {
		return o, command.Usagef("want --grace and --cut-limit from 0 up")
	}
	o = verify.Options{Dir: dir, Keys: verify.Keys{}, TilesOnly: fl.tilesOnly, Grace: max(fl.grace, time.Nanosecond), CutLimit: fl.cutLimit}
	if o.LedgerKey, err = keyLine("ledger key", fl.ledgerKey, firstKey); err != nil {
		return o, err
	}
	if fl.secondKey != "" {
		if o.SecondKey, err = keyLine("second key", fl.secondKey, secondKey); err != nil {
			return o, err
		}
	}
	if len(fl.trust) == 0 && !fl.tilesOnly {
		return o, command.Usagef("want --trust with the card of each producer; without signatures ask for --tiles-only")
	}
	for _, path := range fl.trust {
		data, err := readFile(path)
		if err != nil {
			return o, err
		}
		if err := o.Keys.Add(data); err != nil {
			return o, command.Misusef("%s: %w", path, err)
		}
	}
	for _, path := range fl.copies {
		data, err := readFile(path)
		if err != nil {
			return o, err
		}
		o.Copies = append(o.Copies, verify.Copy{Name: filepath.Clean(path), Note: data})
	}
	return o, nil
}

func firstKey(line string) error  { _, err := note.NewVerifier(line); return err }
func secondKey(line string) error { _, err := tiles.NewSecondVerifier(line); return err }

// keyLine takes the line of a public key itself, or the name of a file that holds it.
func keyLine(what, s string, check func(line string) error) (string, error) {
	if s == "" {
		return "", command.Usagef("want --ledger-key: the line of the ledger's public key, or a file with it")
	}
	if check(s) == nil {
		return s, nil
	}
	data, err := readFile(s)
	if err != nil {
		return "", command.Misusef("%s: want a line like name+hash+key or a file with it: %w", what, err)
	}
	line := strings.TrimSpace(string(data))
	if err := check(line); err != nil {
		return "", command.Misusef("%s %s: want one line like name+hash+key: %w", what, s, err)
	}
	return line, nil
}

func newTimeline(stdout io.Writer) *cobra.Command {
	var key, issuer, output string
	cmd := &cobra.Command{
		Use:   "timeline SUBJECT DIR",
		Short: "Show everything that a ledger says about one person",
		Long: `timeline shows every entry of the published ledger DIR that names SUBJECT, the id that HR uses, in order:
what was received, what was done to the account and what the directory answered, holds, alarms and the acts of
operators. Every entry shown is proved to be under the signed checkpoint; run verify for the rest.

Exit codes: 0 done, also where the ledger names no such subject, 1 it could not be read, 2 misuse, 3 the ledger does not verify.`,
		Example: `  auditor timeline E1004711 /evidence/ledger --ledger-key ledger.vkey
  auditor timeline E1004711 /evidence/ledger --ledger-key ledger.vkey -o json`,
		Args: command.Exactly("SUBJECT", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			inJSON, err := command.AsJSON(output)
			if err != nil {
				return err
			}
			line, err := keyLine("ledger key", key, firstKey)
			if err != nil {
				return err
			}
			var out bytes.Buffer // until it is known to be about one person
			var issuers []string
			n := 0
			err = verify.Timeline(cmd.Context(), args[1], line, issuer, args[0], func(e verify.Event) error {
				n++
				if e.Issuer != "" && !slices.Contains(issuers, e.Issuer) {
					issuers = append(issuers, e.Issuer)
				}
				if inJSON {
					return json.NewEncoder(&out).Encode(e) // one object a line
				}
				_, err := fmt.Fprintf(&out, "%s  %7d  %-10s  %s\n", e.Time, e.Entry, e.Kind, e.Text)
				return err
			})
			if len(issuers) > 1 {
				slices.Sort(issuers)
				return errors.Join(err, command.Misusef("subject %s is a person of each of %d producers; say which with --iss: %s", args[0], len(issuers), strings.Join(issuers, ", ")))
			}
			if _, werr := out.WriteTo(stdout); err == nil {
				err = werr
			}
			if err == nil && n == 0 && !inJSON {
				_, err = fmt.Fprintf(stdout, "The ledger names no subject %s.\n", args[0])
			}
			return err
		},
	}
	cmd.Flags().StringVar(&key, "ledger-key", "", "the ledger's public key: its `line`, or a file with it")
	cmd.Flags().StringVar(&issuer, "iss", "", "`URI` of the producer; needed where several have the subject")
	command.OutputFlag(cmd, &output)
	return cmd
}

// progress is one line on a terminal, and nothing elsewhere. (The progress bar that the other programs use
// would bring net/http into this one.)
type progress struct {
	w     io.Writer // nil: no terminal
	shown time.Time
}

func newProgress(stderr io.Writer) *progress {
	if command.OnTerminal(stderr) {
		return &progress{w: stderr}
	}
	return &progress{}
}

func (p *progress) update(done, total int64) {
	if p.w == nil || time.Since(p.shown) < 200*time.Millisecond {
		return
	}
	p.shown = time.Now()
	fmt.Fprintf(p.w, "\r%3d %%  %d of %d entries", 100*done/max(total, 1), done, total)
}

func (p *progress) done() {
	if p.w != nil && !p.shown.IsZero() {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
