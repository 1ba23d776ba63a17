package main

import (
	"bytes"
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

	"jmlbridge/internal/command"
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
type heldBackError struct {
	leavers, rehires int
	flags, unlimited bool // some can be let pass by a flag; some by none
	dry              bool
}

func (e *heldBackError) add(h announce.HeldBack) {
	if h.What == "rehires" {
		e.rehires += h.Count
	} else {
		e.leavers += h.Count
	}
	e.flags, e.unlimited = e.flags || h.Flag != "", e.unlimited || h.Flag == ""
}

func (e *heldBackError) Error() string {
	var what []string
	if e.leavers > 0 {
		what = append(what, count(e.leavers, "leaver")+" that no row states")
	}
	if e.rehires > 0 {
		what = append(what, fmt.Sprintf("%d of those who had left and are active again", e.rehires))
	}
	held, rest, cure := "held back", "everything else was done", "correct file or scope"
	if e.dry {
		held, rest = "to be held back", "nothing was stored (dry run)"
	}
	switch {
	case e.flags && e.unlimited:
		cure += ", or where a flag is shown let them pass with it"
	case e.flags:
		cure += ", or let them pass with the flag shown"
	default:
		cure = "correct the file: no flag lets them pass"
	}
	return held + ": " + strings.Join(what, ", ") + "; " + rest + ". Look at them, then " + cure
}

// nobodyError makes a script notice live people without a row, beside a row of whom nobody knows whose it is, or in a file
// without any.
type nobodyError struct {
	people int
	rows   bool // there are some
}

func (e *nobodyError) Error() string {
	why := "the file has no row, and"
	if e.rows {
		why = "some row has no readable id (refused, as listed), and"
	}
	return fmt.Sprintf("%s no row names %s, live until now: whether they left is not known. Put the file right and import it again", why, persons(e.people))
}

// unreadError makes a script notice that the file says of live people what nobody can read.
type unreadError struct{ people int }

func (e *unreadError) Error() string {
	return fmt.Sprintf("of %s, live until now, no row was accepted (refused or held, as listed): whether they left is not known. Put these rows right and import the file again", persons(e.people))
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
day is before the leaver that HR stated, or was announced before it, is held.

After recover, a row of somebody who has left is said as a leaver also where nothing was announced of them,
until a file was taken whole with --complete.

Exit code 1 when leavers or rehires were held back by a limit, or no row of somebody who is live was accepted, or
somebody is live and in no row while some row has no readable id, or the file has no row at all.`,
		Example: `  producer -c producer.yaml import export.csv --dry-run
  producer -c producer.yaml import export.csv
  producer -c producer.yaml import full.jsonl --complete
  hr-dump | producer -c producer.yaml import - --format csv -o json`,
		GroupID: "work",
		Args:    command.Exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			inJSON, err := command.AsJSON(format)
			if err != nil {
				return err
			}
			for _, n := range []struct {
				flag  string
				count int
			}{{"allow-absences", o.AllowAbsences}, {"allow-transfers", o.AllowTransfers}, {"allow-rehires", o.AllowRehires}} {
				if n.count < 0 {
					return command.Usagef("--%s: want a number from 0 up, got %d", n.flag, n.count)
				}
			}
			if o.AllowAbsences > 0 && !complete {
				return command.Usagef("--allow-absences needs --complete: absence says nothing otherwise")
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
			if perr != nil && dry {
				perr = fmt.Errorf("the report, which is all that a dry run makes, could not be written: %w", perr)
			} else {
				perr = unreported("what was announced is stored and will be sent", perr)
			}
			return errors.Join(err, perr)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print what would be said; store nothing")
	cmd.Flags().BoolVar(&complete, "complete", false, "the file names everyone: who is missing has left, inside limits.absences")
	cmd.Flags().IntVar(&o.AllowAbsences, "allow-absences", 0, "let at most this `number` of absences pass although it is past the limit")
	cmd.Flags().IntVar(&o.AllowTransfers, "allow-transfers", 0, "let at most this `number` of people leave the scope although it is past the limit")
	cmd.Flags().IntVar(&o.AllowRehires, "allow-rehires", 0, "let at most this `number` of people come back although it is past the limit")
	cmd.Flags().StringVar(&fileFormat, "format", "", "`format` of the file: csv or jsonl (default: by its name)")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{source.CSV, source.JSONL}, cobra.ShellCompDirectiveNoFileComp))
	command.OutputFlag(cmd, &format)
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
	s, err := a.open(ctx, cfg, opening{unsealed: dry, reports: true, facts: true})
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
		if err := outbox.Known(ctx, s.db, e.Audience); err != nil {
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
	var held *heldBackError
	unread, nowhere := map[string]bool{}, 0
	for i := range r.Enclaves {
		e := &r.Enclaves[i]
		nowhere = max(nowhere, e.Absent)
		for _, subject := range e.Unread {
			unread[subject] = true
		}
		for _, h := range e.HeldBack {
			if held == nil {
				held = &heldBackError{dry: dry}
			}
			held.add(h)
		}
		if dry {
			continue
		}
		res, err := e.Do(ctx, s.box, now, a.progress(len(e.Changes), "announcing to "+e.Enclave))
		if res != nil {
			e.Sent, e.Skipped = len(res.Sent), res.Skipped
		}
		if err == nil && o.Complete && len(snap.Refused)+len(snap.Held)+len(e.HeldBack)+len(e.Skipped)+e.Unsaid == 0 {
			err = s.box.Complete(ctx, e.Audience)
		}
		if err != nil {
			return r, fmt.Errorf("announce to %s: %w; what was stored stays, and importing the file again does the rest", e.Enclave, err)
		}
	}
	if !dry {
		a.hintRelay(ctx, s)
	}
	if held != nil {
		err = held
	}
	if len(unread) > 0 {
		err = errors.Join(err, &unreadError{len(unread)})
	}
	if nowhere > 0 && (snap.Unreadable || snap.Rows == 0) {
		err = errors.Join(err, &nobodyError{nowhere, snap.Rows > 0})
	}
	return r, err
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

// hintRelay says when messages wait here and nothing carries them to the mid-point. It is a hint: where it cannot be known
// it stays away.
func (a *app) hintRelay(ctx context.Context, s *opened) {
	all, err := outbox.StatusOf(ctx, s.db, a.now())
	if err != nil {
		return
	}
	waiting := 0
	for _, e := range all {
		waiting += e.Waiting
	}
	if pid, err := store.Holder(s.cfg.Database); err == nil && pid == 0 && waiting > 0 {
		a.remark(fmt.Sprintf("nothing relays what waits here (%s): start producer -c %s run", count(waiting, "message"), a.configFile),
			"nothing relays what waits here: start run", "waiting", waiting)
	}
}

// remark tells beside the result what whoever acts should know, on standard error: in a sentence, or as a line of the log
// where a program reads that. attrs hold ids and counts, never people.
func (a *app) remark(sentence, msg string, attrs ...any) {
	if a.logFormat == command.JSON {
		a.logger().Warn(msg, attrs...)
		return
	}
	fmt.Fprintf(a.err, "producer: %s\n", sentence)
}

func (a *app) readInput(name string) (string, error) {
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", command.Misusef("read the export: %w", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return "", command.Misusef("want an export, but %s is a folder; name the file in it", name)
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

func (r *importReport) print(out io.Writer) error {
	w := new(bytes.Buffer)
	did := "announced"
	if r.DryRun {
		did = "would be announced (dry run: nothing was stored)"
	}
	fmt.Fprintf(w, "%s: %s = %d accepted (%s) + %d refused + %d held (%s)\n", r.File, count(r.Rows, "row"), r.Accepted, persons(r.People), len(r.Refused), r.HeldRows, persons(len(r.Held)))
	for i, e := range r.Refused {
		if i == shown {
			fmt.Fprintf(w, "  ... and %d more; -o json lists all\n", len(r.Refused)-shown)
			break
		}
		fmt.Fprintf(w, "  refused  line %-6d %s%s%s\n", e.Line, prefixed("subject ", e.Subject, ", "), prefixed("column ", e.Column, ": "), e.Reason)
	}
	printHeld(w, "held", r.Held)
	for _, e := range r.Enclaves {
		fmt.Fprintf(w, "\nenclave %s (%d live before): %s %s\n", e.Enclave, e.Live, count(len(e.Changes), "change"), did)
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
		printHeld(w, "held", e.Held)
		printHeld(w, "stands", e.Overruled)
		for _, h := range e.HeldBack {
			fmt.Fprintf(w, "  HELD BACK %s: %s.", count(h.Count, strings.TrimSuffix(h.What, "s")), h.Why)
			if h.Flag != "" {
				fmt.Fprintf(w, " To let at most so many pass: %s %d", h.Flag, h.Count)
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
	_, err := out.Write(w.Bytes())
	return err
}

func printHeld(w io.Writer, what string, held []source.Held) {
	for i, h := range held {
		if i == shown {
			fmt.Fprintf(w, "  ... and %d more; -o json lists all\n", len(held)-shown)
			break
		}
		fmt.Fprintf(w, "  %-8s lines %s subject %s: %s\n", what, lines(h.Lines), h.Subject, h.Reason)
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
