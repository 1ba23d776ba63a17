package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/config"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
)

// Exit codes.
const (
	exitDone    = 0 // what was asked for is done
	exitFailed  = 1 // it was not
	exitMisused = 2 // flags, configuration, policy, a key file or the database are wrong; nothing was done

	// status --check: the worst that stands and needs a person.
	exitNotice   = 3
	exitWarning  = 4
	exitCritical = 5
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
	a := &app{out: out, err: errs, now: time.Now, login: command.Operator}
	return a.main(ctx, args)
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	err := command.Execute(ctx, root, args)
	if err != nil && !errors.As(err, new(*severityError)) {
		command.PrintError(a.err, "consumer", err)
		var unwritten *fs.PathError
		if report := errors.As(err, &unwritten) && unwritten.Path == os.Stdout.Name(); store.IsFull(err) && !report {
			fmt.Fprintln(a.err, "The disk is full, and no reserve is left: make room. Until the consumer runs again, disable leavers by hand.")
		}
	}
	return exitCode(err)
}

// severityError is the answer of status --check; what it is about was printed.
type severityError struct {
	n     int
	worst state.Severity
}

func (e *severityError) Error() string {
	return fmt.Sprintf("%d things need a person, the worst of them: %s", e.n, e.worst)
}

func (e *severityError) code() int {
	switch e.worst {
	case state.Notice:
		return exitNotice
	case state.Warning:
		return exitWarning
	}
	return exitCritical
}

func exitCode(err error) int {
	if stands, ok := errors.AsType[*severityError](err); ok {
		return stands.code()
	}
	switch {
	case err == nil:
		return exitDone
	case command.Misused(err), errors.As(err, new(*config.Error)),
		errors.As(err, new(*store.RefusedError)), errors.As(err, new(*store.UnfinishedError)), errors.As(err, new(*store.LockedError)), errors.As(err, new(*ledger.BehindError)):
		return exitMisused
	}
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := command.Root(&cobra.Command{
		Use:   "consumer",
		Short: "The enclave's side of the bridge: pull, decide, act, record",
		Long: `consumer pulls signed facts about people from a mid-point, decides by the enclave's own policy what
they mean, acts in the enclave's tenant, and records all of it on a ledger that an auditor can verify.

It only dials out and never listens. Who acts is the login of the operating system, never a flag.

Exit codes: 0 done; 1 failed; 2 misused (flags, configuration, policy, key files, database: nothing
was done). "status --check" exits with the worst that stands and needs a person: 3 notice, 4 warning,
5 critical.`,
		Example: `  consumer -c consumer.yaml init
  consumer -c consumer.yaml trust add producer-card.json --expect 3bYcZ... --reason "key ceremony of 12 May"
  consumer -c consumer.yaml run --observe
  consumer -c consumer.yaml run
  consumer -c consumer.yaml status`,
		Version: program.Line(),
	}, a.out, a.err)
	root.PersistentFlags().StringVarP(&a.configFile, "config", "c", "consumer.yaml", "configuration `file`")
	_ = root.MarkPersistentFlagFilename("config", "yaml", "yml")
	root.AddGroup(&cobra.Group{ID: "setup", Title: "Setting up:"}, &cobra.Group{ID: "work", Title: "Working:"}, &cobra.Group{ID: "ops", Title: "Operators:"})
	root.AddCommand(a.initCommand(), a.recoverCommand(), a.keysCommand(), a.trustCommand(), a.runCommand(), a.planCommand(), a.statusCommand(), a.aliveCommand(), a.holdsCommand(), a.cutCommand(), a.unlockCommand(), a.clockCommand(), a.doctorCommand(), childCommand())
	root.AddCommand(a.forkCommand(), a.leaseCommand(), a.backupCommand(), a.unclaimedCommand(), a.parkedCommand())
	return root
}

// reading runs what only looks at the database.
func (a *app) reading(format string, do func(db *state.DB, inJSON bool) error) error {
	inJSON, err := command.AsJSON(format)
	if err != nil {
		return err
	}
	db, _, err := a.openRead()
	if err != nil {
		return err
	}
	defer db.Close()
	return do(db, inJSON)
}

// acting runs an act of an operator on the database, with a reason for the ledger; without one it asks for it so.
func (a *app) acting(ctx context.Context, reason, ask string, do func(*state.DB, *Config, state.By) error) error {
	if strings.TrimSpace(reason) == "" {
		return command.Usagef("--reason: %s; it goes on the ledger", ask)
	}
	by, err := a.by(reason)
	if err != nil {
		return err
	}
	db, cfg, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	return do(db, cfg, by)
}

// who is the login in the form in which it stands on the ledger and in the database.
func (a *app) who() (string, error) {
	login, err := a.login()
	return strings.ReplaceAll(entry.ID(login), ",", "?"), err
}

// logger writes what operators read; never people, only their ids.
func (a *app) logger(l Log) *slog.Logger {
	return command.Logger(a.err, l.Format, l.level())
}
