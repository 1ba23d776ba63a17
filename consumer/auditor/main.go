// Auditor verifies the ledger that a consumer or producer publishes, offline, from its folder and public
// keys only. README.md says what that proves and what it does not.
//
// It trusts nothing but the keys on its command line. It has no code that opens a connection, a database
// or a private key, and shares no judgement with the programs that it checks: see package verify.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/auditor/verify"
	"jmlbridge/internal/command"
	"jmlbridge/internal/program"
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
	err := command.Execute(ctx, root, args)
	var proof *verify.ProofError
	switch {
	case err == nil:
		return exitVerifies
	case errors.Is(err, errDoesNot):
		return exitDoesNot
	}
	command.PrintError(stderr, "auditor", err)
	switch {
	case errors.As(err, &proof):
		return exitDoesNot
	case command.Misused(err):
		return exitMisused
	}
	return exitFailed
}

// errDoesNot carries the verdict; the report has said why.
var errDoesNot = errors.New("the ledger does not verify")

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := command.Root(&cobra.Command{
		Use:   "auditor",
		Short: "Verify a bridge's ledger offline",
		Long: `auditor verifies the ledger that a consumer or producer publishes: the tree and its signature, the
producers' signatures, the chain of every stream, that every operation on the tenant was allowed,
explained and answered, and how long every cut took.

It needs the published folder and public keys only, and opens no connection.

Exit codes: 0 the ledger verifies, 1 it could not be checked, 2 misuse, 3 it does not verify.`,
		Example: `  auditor verify /evidence/ledger --ledger-key ledger.vkey --trust producer-card.json
  auditor verify /evidence/ledger --ledger-key ledger.vkey --trust producer-card.json --copy /worm/checkpoint -o json
  auditor timeline E1004711 /evidence/ledger --ledger-key ledger.vkey`,
		Version: program.Line(),
	}, stdout, stderr)
	root.AddCommand(newVerify(stdout, stderr), newTimeline(stdout))
	return root
}

// maxFile bounds a key or checkpoint file, in octets.
const maxFile = 64 << 10

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, command.Misusef("%w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, command.Misusef("read %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, command.Misusef("%s: want at most %d octets", path, maxFile)
	}
	return data, nil
}
