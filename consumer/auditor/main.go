// Auditor verifies the ledger that a consumer or producer publishes, offline, from its folder and public
// keys only. README.md says what that proves and what it does not.
//
// It trusts nothing but the keys on its command line. It has no code that opens a connection, a database
// or a private key, and shares no judgement with the programs that it checks: see package verify.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/auditor/verify"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes: they are the verdict.
const (
	exitVerifies = 0
	exitFailed   = 1 // it could not be done
	exitMisused  = 2 // flags, or a key file that is none
	exitDoesNot  = 3 // the ledger does not verify
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var misuse *misuseError
	var proof *verify.ProofError
	switch {
	case err == nil:
		return exitVerifies
	case errors.Is(err, errDoesNot):
		return exitDoesNot
	case errors.As(err, &proof):
		fmt.Fprintln(stderr, "auditor:", err)
		return exitDoesNot
	case errors.As(err, &misuse):
		fmt.Fprintln(stderr, "auditor:", err)
		return exitMisused
	}
	fmt.Fprintln(stderr, "auditor:", err)
	return exitFailed
}

// errDoesNot carries the verdict; the report has said why.
var errDoesNot = errors.New("the ledger does not verify")

type misuseError struct{ err error }

func (e *misuseError) Error() string { return e.err.Error() }
func (e *misuseError) Unwrap() error { return e.err }

func misusef(format string, args ...any) error { return &misuseError{fmt.Errorf(format, args...)} }

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "auditor",
		Short: "Verify a bridge's ledger offline",
		Long: `auditor verifies the ledger that a consumer or producer publishes: the tree and its signature, the
producers' signatures, the chain of every stream, that every operation on the tenant was allowed,
explained and answered, and how long every cut took.

It needs the published folder and public keys only, and opens no connection.

Exit codes: 0 the ledger verifies, 1 it could not be checked, 2 misuse, 3 it does not verify.`,
		Example: `  auditor verify /evidence/ledger --ledger-key ledger.pub --trust producer-card.json
  auditor verify /evidence/ledger --ledger-key ledger.pub --trust producer-card.json --copy /worm/checkpoint -o json
  auditor timeline E1004711 /evidence/ledger --ledger-key ledger.pub`,
		SilenceUsage: true, SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misusef("want a command, verify or timeline, got %q; see auditor --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misusef("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(newVerify(stdout, stderr), newTimeline(stdout))
	return root
}

// exactly wants so many arguments, and calls anything else misuse.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return misusef("want %d arguments %v, got %d; see %s --help", len(names), names, len(args), cmd.CommandPath())
		}
		return nil
	}
}

// maxFile bounds a key or checkpoint file, in octets.
const maxFile = 64 << 10

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, misusef("%w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, misusef("read %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, misusef("%s: want at most %d octets", path, maxFile)
	}
	return data, nil
}
