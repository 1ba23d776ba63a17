package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/config"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
	"jmlbridge/producer/announce"
	"jmlbridge/producer/midpoint"
	"jmlbridge/producer/outbox"
	"jmlbridge/producer/register"
	"jmlbridge/producer/source"
	"jmlbridge/schema"
)

// Exit codes.
const (
	exitDone    = 0 // what was asked for is done
	exitFailed  = 1 // it was not, or only in part: something is held back
	exitMisused = 2 // flags, configuration, a key file, the database or the input are wrong; nothing was done
)

// app is one invocation: where it reads its configuration and whom it talks to.
type app struct {
	configFile string
	logFormat  string
	logLevel   slog.Level
	in         io.Reader
	out        io.Writer
	err        io.Writer
	now        func() time.Time
	login      func() (string, error) // who acts
	started    func()                 // run: everything works; for tests
}

// run is the whole program but the process.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	a := &app{in: in, out: out, err: errs, now: time.Now, login: command.Operator}
	return a.main(ctx, args)
}

// checkReason refuses a reason that would not stand on the ledger whole.
func checkReason(reason string) error {
	if len(reason) > entry.MaxText {
		return command.Usagef("--reason: want at most %d octets, which is what the ledger keeps of it, got %d", entry.MaxText, len(reason))
	}
	return nil
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	err := command.Execute(ctx, root, args)
	if err != nil {
		command.PrintError(a.err, "producer", err)
		if store.IsFull(err) && !a.aboutReport(err) {
			fmt.Fprintln(a.err, a.fullText())
		}
	}
	return exitCode(err)
}

// aboutReport reports whether err says that what was printed could not be written, which is told where that happens.
func (a *app) aboutReport(err error) bool {
	out, ok := a.out.(*os.File)
	unwritten, failed := errors.AsType[*fs.PathError](err)
	return ok && failed && unwritten.Path == out.Name()
}

// fullText says what to do about a disk without room. The database is the file that every command writes, also one that
// only looks: its shared memory lies beside it.
func (a *app) fullText() string {
	where := "the file that is named"
	if cfg, err := loadConfig(a.configFile); err == nil {
		where = cfg.Database + ", or the file that is named"
	}
	return "The disk is full, or a quota: make room on the volume of " + where + ", and run the command again. What was accepted before stays."
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case command.Misused(err), errors.As(err, new(*config.Error)),
		errors.As(err, new(*store.RefusedError)), errors.As(err, new(*store.UnfinishedError)), errors.As(err, new(*store.LockedError)), errors.As(err, new(*ledger.BehindError)),
		errors.As(err, new(*source.FileError)), errors.As(err, new(*schema.RefusedError)), errors.As(err, new(*register.NonsenseError)),
		errors.As(err, new(*outbox.UnknownEnclaveError)), errors.As(err, new(*outbox.KnownEnclaveError)), errors.As(err, new(*outbox.ClockError)), errors.As(err, new(*outbox.GoneError)),
		errors.As(err, new(*outbox.ForeignError)), errors.As(err, new(*outbox.KeyError)), errors.As(err, new(*announce.AbsurdError)),
		errors.As(err, new(*midpoint.InUseError)), errors.As(err, new(*midpoint.RefusedError)):
		return exitMisused
	}
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := command.Root(&cobra.Command{
		Use:   "producer",
		Short: "The commercial side of the bridge: facts in, a signed stream out",
		Long: `producer reads what HR knows of people, says what changed to one or more enclaves as signed and
encrypted messages, and keeps every message until the mid-point has confirmed it.

What it accepts is durable: the mid-point may be away for days. It keeps a ledger of what it sent. It
needs to know nothing of an enclave but its name, its public encryption key and its queue.

Exit codes: 0 done; 1 failed, a limit held leavers or rehires back, or no row of somebody who is live was accepted; 2 misused (flags, configuration, key files,
database or input are wrong: nothing was done).`,
		Example: `  producer -c producer.yaml init
  producer -c producer.yaml import export.csv --dry-run
  producer -c producer.yaml import export.csv
  producer -c producer.yaml emit leaver 4711 --reason termination --urgent
  producer -c producer.yaml run
  producer -c producer.yaml status`,
		Version: program.Line(),
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.logFormat != command.Text && a.logFormat != command.JSON {
				return command.Usagef("--log: want text or json, got %q", a.logFormat)
			}
			return nil
		},
	}, a.out, a.err)
	root.SetIn(a.in)
	root.PersistentFlags().StringVarP(&a.configFile, "config", "c", "producer.yaml", "configuration `file`")
	root.PersistentFlags().StringVar(&a.logFormat, "log", command.Text, "`format` of the log on standard error: text or json")
	root.PersistentFlags().TextVar(&a.logLevel, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn or error")
	_ = root.MarkPersistentFlagFilename("config", "yaml", "yml")
	_ = root.RegisterFlagCompletionFunc("log", cobra.FixedCompletions([]string{command.Text, command.JSON}, cobra.ShellCompDirectiveNoFileComp))
	root.AddGroup(&cobra.Group{ID: "setup", Title: "Setting up:"}, &cobra.Group{ID: "work", Title: "Working:"}, &cobra.Group{ID: "ops", Title: "Operators:"})
	root.AddCommand(a.initCommand(), a.keysCommand(), a.keyCommand(), a.cardCommand(), a.enclaveCommand(), a.midpointCommand(), a.importCommand(), a.emitCommand(), a.approveCommand(), a.runCommand(),
		a.rosterCommand(), a.resendCommand(), a.statusCommand(), a.aliveCommand(), a.backupCommand(), a.recoverCommand(), a.doctorCommand(), childCommand())
	return root
}

// logger writes what operators read; never people, only their ids.
func (a *app) logger() *slog.Logger {
	return command.Logger(a.err, a.logFormat, a.logLevel)
}
