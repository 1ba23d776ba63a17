package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/internal/config"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
)

// Exit codes.
const (
	exitDone     = 0 // what was asked for is done
	exitFailed   = 1 // it was not
	exitMisused  = 2 // flags, configuration, policy, a key file or the database are wrong; nothing was done
	exitSeverity = 3 // status --check: something stands that needs a person
)

// app is one invocation: where it reads its configuration and whom it talks to.
type app struct {
	configFile string
	out        io.Writer
	err        io.Writer
	now        func() time.Time
	login      func() (string, error) // who acts
}

// run is the whole program but the process.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	a := &app{out: out, err: errs, now: time.Now, login: operator}
	return a.main(ctx, args)
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.As(err, new(*severityError)) {
		fmt.Fprintf(a.err, "consumer: %v\n", err)
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

// severityError is the answer of status --check; what it is about was printed.
type severityError struct{ n int }

func (e *severityError) Error() string { return fmt.Sprintf("%d things need a person", e.n) }

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, new(*severityError)):
		return exitSeverity
	case errors.As(err, new(*usageError)), errors.As(err, new(*misuseError)), errors.As(err, new(*config.Error)),
		errors.As(err, new(*store.RefusedError)), errors.As(err, new(*store.LockedError)), errors.As(err, new(*ledger.BehindError)):
		return exitMisused
	}
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "consumer",
		Short: "The enclave's side of the bridge: pull, decide, act, record",
		Long: `consumer pulls signed facts about people from a mid-point, decides by the enclave's own policy what
they mean, acts in the enclave's tenant, and records all of it on a ledger that an auditor can verify.

It only dials out and never listens. Who acts is the login of the operating system, never a flag.

Exit codes: 0 done; 1 failed; 2 misused (flags, configuration, policy, key files, database: nothing
was done); 3 from "status --check" when something stands that needs a person.`,
		Example: `  consumer -c consumer.yaml init
  consumer -c consumer.yaml trust add producer-card.json --reason "key ceremony of 12 May"
  consumer -c consumer.yaml run --observe
  consumer -c consumer.yaml run
  consumer -c consumer.yaml status`,
		Version:       program.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          help,
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.PersistentFlags().StringVarP(&a.configFile, "config", "c", "consumer.yaml", "configuration `file`")
	_ = root.MarkPersistentFlagFilename("config", "yaml", "yml")
	root.AddGroup(&cobra.Group{ID: "setup", Title: "Setting up:"}, &cobra.Group{ID: "work", Title: "Working:"}, &cobra.Group{ID: "ops", Title: "Operators:"})
	root.AddCommand(a.initCommand(), a.trustCommand(), a.runCommand(), a.planCommand(), a.statusCommand(), a.holdsCommand(), a.cutCommand(), a.unlockCommand(), a.clockCommand())
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
func (a *app) logger(l Log) *slog.Logger {
	opts := &slog.HandlerOptions{Level: l.level()}
	if l.Format == formatJSON {
		return slog.New(slog.NewJSONHandler(a.err, opts))
	}
	return slog.New(slog.NewTextHandler(a.err, opts))
}
