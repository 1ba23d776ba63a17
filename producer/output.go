package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/schollz/progressbar/v3"

	"jmlbridge/internal/command"
)

// count is a number of things, each of them called one.
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// unreported tells that what was done stays done where only the report of it could not be written.
func unreported(done string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s; only its report could not be written: %w", done, err)
}

func persons(n int) string {
	if n == 1 {
		return "1 person"
	}
	return fmt.Sprintf("%d people", n)
}

// stamp is a time for people; a dash where there is none.
func stamp(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// announceLevel is that of the line for each message: for programs always info, but not in the way of a
// report that somebody reads.
func announceLevel(reader bool, format string) slog.Level {
	if reader && format == command.Text {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// progress shows how far long work is, on a terminal only.
func (a *app) progress(total int, what string) func(done int) {
	if !command.OnTerminal(a.err) || total == 0 {
		return nil
	}
	bar := progressbar.NewOptions(total, progressbar.OptionSetWriter(a.err), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	return func(done int) { _ = bar.Set(done) }
}
