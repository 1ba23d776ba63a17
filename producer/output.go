package main

import (
	"log/slog"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// outputFlag adds -o to a command that scripts may want to read.
func outputFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", formatText, "`format` of the output: text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{formatText, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
}

// asJSON checks the value of -o.
func asJSON(format string) (bool, error) {
	switch format {
	case formatText:
		return false, nil
	case formatJSON:
		return true, nil
	}
	return false, usagef("-o: want text or json, got %q", format)
}

// stamp is a time for people; a dash where there is none.
func stamp(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// onTerminal reports whether somebody looks at the log as it is written.
func (a *app) onTerminal() bool {
	f, ok := a.err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// announceLevel is that of the line for each message: for programs always info, but not in the way of a
// report that somebody reads.
func announceLevel(reader bool, format string) slog.Level {
	if reader && format == formatText {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// progress shows how far long work is, on a terminal only.
func (a *app) progress(total int, what string) func(done int) {
	if !a.onTerminal() || total == 0 {
		return nil
	}
	bar := progressbar.NewOptions(total, progressbar.OptionSetWriter(a.err), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	return func(done int) { _ = bar.Set(done) }
}
