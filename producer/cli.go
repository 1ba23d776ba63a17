package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/internal/config"
	"jmlbridge/internal/ledger"
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

// Formats of output and log.
const (
	formatText = "text"
	formatJSON = "json"
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
	a := &app{in: in, out: out, err: errs, now: time.Now, login: login}
	return a.main(ctx, args)
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintf(a.err, "producer: %v\n", err)
		if errors.As(err, new(*usageError)) {
			fmt.Fprintln(a.err, "Run the command with --help for its use.")
		}
	}
	return exitCode(err)
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// misuseError is something around the program that a person must put right before anything can be done.
type misuseError struct{ error }

func (e *misuseError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func misusef(format string, args ...any) error { return &misuseError{fmt.Errorf(format, args...)} }

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, new(*usageError)), errors.As(err, new(*misuseError)), errors.As(err, new(*config.Error)),
		errors.As(err, new(*store.RefusedError)), errors.As(err, new(*store.LockedError)), errors.As(err, new(*ledger.BehindError)),
		errors.As(err, new(*source.FileError)), errors.As(err, new(*schema.RefusedError)), errors.As(err, new(*register.NonsenseError)),
		errors.As(err, new(*outbox.UnknownEnclaveError)), errors.As(err, new(*outbox.ClockError)), errors.As(err, new(*outbox.GoneError)),
		errors.As(err, new(*outbox.ForeignError)), errors.As(err, new(*announce.AbsurdError)),
		errors.As(err, new(*midpoint.InUseError)):
		return exitMisused
	}
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "producer",
		Short: "The commercial side of the bridge: facts in, a signed stream out",
		Long: `producer reads what HR knows of people, says what changed to one or more enclaves as signed and
encrypted messages, and keeps every message until the mid-point has confirmed it.

What it accepts is durable: the mid-point may be away for days. It keeps a ledger of what it sent. It
needs to know nothing of an enclave but its name, its public encryption key and its queue.

Exit codes: 0 done; 1 failed, or something was held back; 2 misused (flags, configuration, key files,
database or input are wrong: nothing was done).`,
		Example: `  producer -c producer.yaml init
  producer -c producer.yaml import export.csv --dry-run
  producer -c producer.yaml import export.csv
  producer -c producer.yaml emit leaver 4711 --reason termination --urgent
  producer -c producer.yaml run
  producer -c producer.yaml status`,
		Version:       program.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          help,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.logFormat != formatText && a.logFormat != formatJSON {
				return usagef("--log: want text or json, got %q", a.logFormat)
			}
			return nil
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.PersistentFlags().StringVarP(&a.configFile, "config", "c", "producer.yaml", "configuration `file`")
	root.PersistentFlags().StringVar(&a.logFormat, "log", formatText, "`format` of the log on standard error: text or json")
	root.PersistentFlags().TextVar(&a.logLevel, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn or error")
	_ = root.MarkPersistentFlagFilename("config", "yaml", "yml")
	_ = root.RegisterFlagCompletionFunc("log", cobra.FixedCompletions([]string{formatText, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
	root.AddGroup(&cobra.Group{ID: "setup", Title: "Setting up:"}, &cobra.Group{ID: "work", Title: "Working:"}, &cobra.Group{ID: "ops", Title: "Operators:"})
	root.AddCommand(a.initCommand(), a.cardCommand(), a.enclaveCommand(), a.midpointCommand(), a.importCommand(), a.emitCommand(), a.runCommand(),
		a.rosterCommand(), a.resendCommand(), a.statusCommand(), a.recoverCommand())
	return root
}

// help answers a command that only groups others.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return usagef("%s: there is no command %q", cmd.CommandPath(), args[0])
	}
	return usagef("%s: want no arguments, got %q", cmd.CommandPath(), args[0])
}

// exactly wants one argument for each name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usagef("%s: want %d arguments %v, got %d", cmd.CommandPath(), len(names), names, len(args))
	}
}

// logger writes what operators read; never people, only their ids.
func (a *app) logger() *slog.Logger {
	opts := &slog.HandlerOptions{Level: a.logLevel}
	if a.logFormat == formatJSON {
		return slog.New(slog.NewJSONHandler(a.err, opts))
	}
	return slog.New(slog.NewTextHandler(a.err, opts))
}

// login is who the operating system says is acting.
func login() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("who is acting: %w", err)
	}
	return u.Username, nil
}
