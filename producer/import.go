package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/producer/announce"
	"jmlbridge/producer/outbox"
	"jmlbridge/producer/source"
	"jmlbridge/schema"
)

// importReport is what an import came to, for people and scripts.
type importReport struct {
	File     string            `json:"file"`
	Digest   schema.Digest     `json:"digest"`
	DryRun   bool              `json:"dry_run"`
	Rows     int               `json:"rows"`
	Accepted int               `json:"accepted"` // rows
	People   int               `json:"people"`   // in them
	Refused  []source.RowError `json:"refused"`
	Held     []source.Held     `json:"held"`
	HeldRows int               `json:"held_rows"`
	Notes    []source.Note     `json:"notes,omitempty"`
	Enclaves []importEnclave   `json:"enclaves"`
}

type importEnclave struct {
	*announce.Plan
	Sent    int      `json:"sent"` // events
	Skipped []string `json:"skipped,omitempty"`
}

// heldBackError makes a script notice that leavers or rehires wait for a person.
type heldBackError struct{ leavers, rehires int }

func (e *heldBackError) Error() string {
	var what []string
	if e.leavers > 0 {
		what = append(what, fmt.Sprintf("%d leavers that no row states", e.leavers))
	}
	if e.rehires > 0 {
		what = append(what, fmt.Sprintf("%d people who had left and are active again", e.rehires))
	}
	return strings.Join(what, " and ") + " are held back; everything else was done. Look at them, then let them pass with the flag shown, or correct file or scope"
}

func (a *app) importCommand() *cobra.Command {
	var dry, complete bool
	var fileFormat, format string
	var o announce.Options
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Read an HR export and announce what changed",
		Long: `import reads a whole HR export, compares it with what was announced before, and stores an event for
every change and every enclave. The same file again changes nothing.

A leaver is a row that says so: status inactive, or a last day that is past, of a person announced before.
A row that cannot be read is refused, rows of one id that contradict each other are held, and both leave
the person as announced. Who is missing from the file stays too, unless --complete says that the file
names everyone and the number is inside limits.absences. Everything is reported with its line.

An older export must not bring leavers back: rehires are limited by limits.rehires, and a row whose first
day is before the leaver that HR stated is held.

Exit code 1 when leavers or rehires were held back by a limit.`,
		Example: `  producer -c producer.yaml import export.csv --dry-run
  producer -c producer.yaml import export.csv
  producer -c producer.yaml import full.jsonl --complete
  hr-dump | producer -c producer.yaml import - --format csv -o json`,
		GroupID: "work",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			inJSON, err := asJSON(format)
			if err != nil {
				return err
			}
			if (o.AllowAbsences > 0) && !complete {
				return usagef("--allow-absences needs --complete: absence says nothing otherwise")
			}
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			o.Complete, o.Limits = complete, cfg.Limits
			r, err := a.imports(cmd.Context(), cfg, args[0], fileFormat, o, dry)
			if r == nil {
				return err
			}
			var perr error
			if inJSON {
				perr = program.PrintJSON(a.out, r)
			} else {
				perr = r.print(a.out)
			}
			return errors.Join(err, perr)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print what would be said; store nothing")
	cmd.Flags().BoolVar(&complete, "complete", false, "the file names everyone: who is missing has left, inside limits.absences")
	cmd.Flags().IntVar(&o.AllowAbsences, "allow-absences", 0, "let this `number` of absences pass although it is past the limit")
	cmd.Flags().IntVar(&o.AllowTransfers, "allow-transfers", 0, "let this `number` of people leave the scope although it is past the limit")
	cmd.Flags().IntVar(&o.AllowRehires, "allow-rehires", 0, "let this `number` of people come back although it is past the limit")
	cmd.Flags().StringVar(&fileFormat, "format", "", "`format` of the file: csv or jsonl (default: by its name)")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{source.CSV, source.JSONL}, cobra.ShellCompDirectiveNoFileComp))
	outputFlag(cmd, &format)
	return cmd
}

func (a *app) imports(ctx context.Context, cfg *Config, name, format string, o announce.Options, dry bool) (*importReport, error) {
	im, err := cfg.importer()
	if err != nil {
		return nil, err
	}
	data, err := a.readInput(name)
	if err != nil {
		return nil, err
	}
	if format == "" {
		switch strings.ToLower(filepath.Ext(name)) {
		case ".csv", ".tsv", ".txt":
			format = source.CSV
		case ".jsonl", ".ndjson", ".json":
			format = source.JSONL
		}
	}
	snap, err := im.Read(name, format, strings.NewReader(data))
	if err != nil {
		return nil, err
	}
	s, err := a.open(ctx, cfg, opening{unsealed: dry, reports: true})
	if err != nil {
		return nil, err
	}
	defer s.close()
	r := &importReport{
		File: name, Digest: schema.DigestOf([]byte(data)), DryRun: dry, Rows: snap.Rows, Accepted: snap.Accepted(), People: len(snap.Records),
		Refused: snap.Refused, Held: snap.Held, HeldRows: snap.HeldRows(), Notes: snap.Notes,
	}
	now := a.now()
	for i := range cfg.Enclaves { // all plans before the first word, so that a mistake in one says nothing in another
		e := &cfg.Enclaves[i]
		if err := s.box.Known(ctx, e.Audience); err != nil {
			return nil, err
		}
		p, err := announce.Make(ctx, s.box, announce.Enclave{Audience: e.Audience, Name: e.Name, Scope: &e.Scope}, snap, o, now)
		if err != nil {
			return nil, err
		}
		r.Enclaves = append(r.Enclaves, importEnclave{Plan: p})
	}
	if !dry { // before the first word: what follows has a cause on the ledger, also if it is cut short
		if err := a.note(ctx, s.db, &entry.Operator{Action: "import", Digest: &r.Digest, Reason: entry.Text(r.summary())}); err != nil {
			return nil, err
		}
	}
	var held heldBackError
	for i := range r.Enclaves {
		e := &r.Enclaves[i]
		for _, h := range e.HeldBack {
			if h.What == "rehires" {
				held.rehires += h.Count
			} else {
				held.leavers += h.Count
			}
		}
		if dry {
			continue
		}
		res, err := e.Do(ctx, s.box, now, a.progress(len(e.Changes), "announcing to "+e.Enclave))
		if res != nil {
			e.Sent, e.Skipped = len(res.Sent), res.Skipped
		}
		if err != nil {
			return r, fmt.Errorf("announce to %s: %w; what was stored stays, and importing the file again does the rest", e.Enclave, err)
		}
	}
	if !dry {
		a.hintRelay(cfg)
	}
	if held != (heldBackError{}) {
		return r, &held
	}
	return r, nil
}

// note records an operator's act.
func (a *app) note(ctx context.Context, db *store.DB, op *entry.Operator) error {
	by, err := a.login()
	if err != nil {
		return err
	}
	op.By = entry.ID(by)
	return outbox.Record(ctx, db, a.now(), op)
}

// hintRelay says when nothing will carry to the mid-point what was just stored.
func (a *app) hintRelay(cfg *Config) {
	pid, err := store.Holder(cfg.Database)
	switch {
	case err != nil || pid != 0:
	case a.logFormat == formatJSON:
		a.logger().Warn("stored; nothing relays it now: start run")
	default:
		fmt.Fprintf(a.err, "producer: stored; nothing relays it now: start producer -c %s run\n", a.configFile)
	}
}

func (a *app) readInput(name string) (string, error) {
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", misusef("read the export: %w", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return "", misusef("want an export, but %s is a folder; name the file in it", name)
		}
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, source.MaxFile+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return string(data), nil
}

func (r *importReport) summary() string {
	return fmt.Sprintf("rows %d, accepted %d, refused %d, held %d", r.Rows, r.Accepted, len(r.Refused), r.HeldRows)
}

// shown is how many lines of one kind a report for people lists.
const shown = 40

func (r *importReport) print(w io.Writer) error {
	did := "announced"
	if r.DryRun {
		did = "would be announced (dry run: nothing was stored)"
	}
	fmt.Fprintf(w, "%s: %d rows = %d accepted (%d people) + %d refused + %d held (%d people)\n", r.File, r.Rows, r.Accepted, r.People, len(r.Refused), r.HeldRows, len(r.Held))
	for i, e := range r.Refused {
		if i == shown {
			fmt.Fprintf(w, "  ... and %d more; -o json lists all\n", len(r.Refused)-shown)
			break
		}
		fmt.Fprintf(w, "  refused  line %-6d %s%s%s\n", e.Line, prefixed("subject ", e.Subject, ", "), prefixed("column ", e.Column, ": "), e.Reason)
	}
	printHeld(w, r.Held)
	for _, e := range r.Enclaves {
		fmt.Fprintf(w, "\nenclave %s (%d live before): %d changes %s\n", e.Enclave, e.Live, len(e.Changes), did)
		for i, c := range e.Changes {
			if i == shown {
				fmt.Fprintf(w, "  ... and %d more; -o json lists all\n", len(e.Changes)-shown)
				break
			}
			where := "absent"
			if len(c.Lines) > 0 {
				where = "line " + lines(c.Lines)
			}
			fmt.Fprintf(w, "  %-8s subject %s, engagement %d (%s)\n", joinKinds(c.Kinds), c.Subject, c.Engagement, where)
		}
		printHeld(w, e.Held)
		for _, h := range e.HeldBack {
			fmt.Fprintf(w, "  HELD BACK %d %s: %s.", h.Count, h.What, h.Why)
			if h.Flag != "" {
				fmt.Fprintf(w, " To let exactly these pass: %s %d", h.Flag, h.Count)
			}
			fmt.Fprintf(w, "\n    %s\n", strings.Join(h.People[:min(shown, len(h.People))], " "))
		}
		if len(e.Skipped) > 0 {
			fmt.Fprintf(w, "  left for the next import, changed meanwhile: %s\n", strings.Join(e.Skipped, " "))
		}
		for i, n := range e.Notes {
			if i == shown {
				fmt.Fprintf(w, "  ... and %d more notes; -o json lists all\n", len(e.Notes)-shown)
				break
			}
			fmt.Fprintf(w, "  note     line %-6d subject %s: %s\n", n.Line, n.Subject, n.Text)
		}
		var cases []string
		for c, n := range e.Cases {
			cases = append(cases, fmt.Sprintf("%s %d", c, n))
		}
		slices.Sort(cases)
		if len(cases) > 0 {
			fmt.Fprintf(w, "  by case: %s\n", strings.Join(cases, ", "))
		}
	}
	for i, n := range r.Notes {
		if i == shown {
			fmt.Fprintf(w, "  ... and %d more notes; -o json lists all\n", len(r.Notes)-shown)
			break
		}
		fmt.Fprintf(w, "  note     line %-6d subject %s: %s\n", n.Line, n.Subject, n.Text)
	}
	return nil
}

func printHeld(w io.Writer, held []source.Held) {
	for i, h := range held {
		if i == shown {
			fmt.Fprintf(w, "  ... and %d more; -o json lists all\n", len(held)-shown)
			break
		}
		fmt.Fprintf(w, "  held     lines %s subject %s: %s\n", lines(h.Lines), h.Subject, h.Reason)
	}
}

func prefixed(before, s, after string) string {
	if s == "" {
		return ""
	}
	return before + s + after
}

func lines(ns []int) string {
	out := make([]string, len(ns))
	for i, n := range ns {
		out[i] = strconv.Itoa(n)
	}
	return strings.Join(out, "+")
}

func joinKinds(ks []schema.Kind) string {
	out := make([]string, len(ks))
	for i, k := range ks {
		out[i] = string(k)
	}
	return strings.Join(out, "+")
}
