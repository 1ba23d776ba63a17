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
	"strings"
	"syscall"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
)

// setUpTime is for one side in containers, and for what it waits for from the others.
const setUpTime = 2 * time.Minute

const usage = `Usage: go run ./e2e/quickstart [-queue nats|servicebus] [-keep DIR] [-bin DIR] [-faults FILE]
       quickstart -containers DIR -bin DIR [-queue nats|servicebus] [-set-up SIDE [-workers N] [-writes N] [-rehires N] [-lease TIME]]

Builds the bridge's programs, sets up both sides on this machine, and sends a dozen people across,
twice: they join, then some move, some leave and one is suspended. Takes under a minute once the
programs are built; a first build takes some minutes. Needs Go and nothing else.

In the second form it is the containers' own, see docker-compose.yml: it sets up one side of the bridge in
the volumes that are mounted in DIR, or tells the story over the containers that run on them.

Exit codes: 0 everything came out as promised, 1 something did not (it says what), or it was
stopped by Ctrl-C, 2 misused ("go run" makes 1 of every other code).

Flags:
`

func main() {
	// A reader that is gone, as after a Ctrl-C with a pipe behind us, ends the programs in order too.
	ctx, unpipe := signal.NotifyContext(context.Background(), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends us at once; the kernel ends the programs then
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	unpipe()
	os.Exit(code)
}

// options are the flags.
type options struct {
	dir    string // where everything is made; exists and is empty
	bin    string // programs built before; empty: build
	faults string
	queue  string // kind of the mid-point

	containers bool   // the programs are run by somebody else, on the volumes in dir
	side       string // of what to set up there; empty: tell the story

	// What a crowd needs more of than a story; zero: what a story has.
	workers, rehires int
	writes           float64
	lease            time.Duration
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
	if o.side != "" {
		ctx, cancel := context.WithTimeout(ctx, setUpTime)
		defer cancel()
		if err := stage.SetUp(ctx, o.inContainers(), o.side); err != nil {
			fmt.Fprintf(stderr, "quickstart: set up %s: %v\n", o.side, err)
			return 1
		}
		fmt.Fprintf(stdout, "%s is set up\n", o.side)
		return 0
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
	containers := fs.String("containers", "", "`folder` with the volumes of a bridge in containers")
	fs.StringVar(&o.side, "set-up", "", "with -containers: set up this `side` and end: "+strings.Join(stage.Sides, ", "))
	fs.IntVar(&o.workers, "workers", 0, "with -set-up enclave: `number` of the consumer's workers")
	fs.Float64Var(&o.writes, "writes", 0, "with -set-up enclave: `number` of writes a second that the consumer allows itself")
	fs.IntVar(&o.rehires, "rehires", 0, "with -set-up commercial: `number` of people who may be hired again in one export")
	fs.DurationVar(&o.lease, "lease", 0, "with -set-up midpoint: `time` after which a NATS mid-point delivers again what was not settled")
	keep := fs.String("keep", "", "leave everything in this new `folder`; otherwise in a temporary one")
	fs.StringVar(&o.bin, "bin", "", "use the programs in this `folder` (an earlier run's bin) and build nothing")
	fs.StringVar(&o.faults, "faults", "", "`file` with faults of the rehearsal tenant (see e2e/sandbox), to see what becomes of them")
	fs.StringVar(&o.queue, "queue", stage.NATS, "`kind` of the mid-point: nats, or servicebus for a rehearsal of Azure Service Bus")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("want no arguments, got %q", fs.Arg(0))
	}
	if o.queue != stage.NATS && o.queue != stage.ServiceBus {
		return o, fmt.Errorf("-queue: want %s or %s, got %q", stage.NATS, stage.ServiceBus, o.queue)
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
	if o.faults != "" { // the tenant would find it only when everything is built
		raw, err := os.ReadFile(o.faults)
		if err != nil {
			return o, err
		}
		if _, err := tenant.ParseFaults(raw); err != nil {
			return o, fmt.Errorf("-faults: %s: %w", o.faults, err)
		}
	}
	if o.side == "" && (o.workers != 0 || o.writes != 0 || o.rehires != 0 || o.lease != 0) {
		return o, errors.New("-workers, -writes, -rehires, -lease: want -set-up beside them")
	}
	if *containers != "" {
		o.containers = true
		if o.bin == "" || *keep != "" || o.faults != "" {
			return o, errors.New("-containers: want -bin beside it, and neither -keep nor -faults")
		}
		o.dir, err = filepath.Abs(*containers)
		return o, err
	}
	if o.side != "" {
		return o, errors.New("-set-up: want -containers beside it")
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

// inContainers is the bridge of docker-compose.yml: its names on the networks are the services'.
func (o options) inContainers() stage.Config {
	return stage.Config{
		Dir: o.dir, Programs: stage.In(o.bin), Queue: o.queue, Workers: o.workers, Writes: o.writes, Rehires: o.rehires, Lease: o.lease,
		Network: &stage.Network{MidPoint: "midpoint", Tenant: "tenant", Proxy: "egress:3128"},
	}
}
