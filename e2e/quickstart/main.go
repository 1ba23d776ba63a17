// Quickstart sets up a whole bridge on this machine and sends people across it: it builds and starts the
// real programs as separate processes, makes every key and credential, hands the producer two HR exports
// and shows everyone's way, as it happens, down to the auditor's verdict on the ledger.
//
// It trusts none of the programs that it shows. What it prints is read from their own output, from the
// published ledgers under their public keys, and from the journal and state of the rehearsal tenant; a
// cut account counts as cut when the tenant says so. Whatever does not come out as promised ends it with
// exit code 1 and a sentence about what that was.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

const usage = `Usage: go run ./e2e/quickstart [-keep DIR] [-bin DIR] [-faults FILE]

Builds the bridge's programs, sets up both sides on this machine, and sends a dozen people across,
twice: they join, then some move, some leave and one is suspended. Takes under a minute once the
programs are built; a first build takes some minutes. Needs Go and nothing else.

Exit codes: 0 everything came out as promised, 1 something did not (it says what), or it was
stopped by Ctrl-C, 2 misused.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends us at once; the kernel ends the programs then
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the flags.
type options struct {
	dir    string // where everything is made; exists and is empty
	bin    string // programs built before; empty: build
	faults string
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "quickstart: %v\n", err)
		return 2
	}
	if err := newStory(o, newScreen(stdout)).tell(ctx); err != nil {
		return 1 // the story has said why
	}
	return 0
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	keep := fs.String("keep", "", "leave everything in this new `folder`; otherwise in a temporary one")
	fs.StringVar(&o.bin, "bin", "", "use the programs in this `folder` (an earlier run's bin) and build nothing")
	fs.StringVar(&o.faults, "faults", "", "`file` with faults of the rehearsal tenant (see e2e/sandbox), to see what becomes of them")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("want no arguments, got %q", fs.Arg(0))
	}
	for _, path := range []*string{&o.bin, &o.faults} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return o, err
		}
		if _, err := os.Stat(*path); err != nil {
			return o, err
		}
	}
	if *keep == "" {
		o.dir, err = os.MkdirTemp("", "jmlbridge-quickstart-")
		return o, err
	}
	if o.dir, err = filepath.Abs(*keep); err != nil {
		return o, err
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return o, err
	}
	list, err := os.ReadDir(o.dir)
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("-keep: want a new or empty folder; %s holds %d files", o.dir, len(list))
	}
	return o, err
}
