// Command bench measures what the design promises, each thing beside its own limit in the same run.
//
// A row is ours, the limit and their ratio. Ours and the limit take turns, round by round, and the
// medians are compared, so that whatever else the machine does hits both alike. Everything is real:
// the mid-point is a process of its own on loopback that syncs every write, databases are on the disk
// under -dir, and the rows about leavers and memory run the built programs against the rehearsal tenant.
// Nothing leaves this machine, and every row is bounded in messages and time.
//
// It trusts the machine's clock and its accounting of processor time, and nobody but the user who runs
// it. It reports; whether a goal is met never decides its exit code.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"jmlbridge/internal/queue/anyqueue"
)

const usage = `bench measures the bridge beside its own limits, on this machine and in this run.

  go run ./e2e/bench                     every row, the three large ones with 10,000 people
  go run ./e2e/bench -full               the same with 100,000 people, and 10,000 leavers at once; takes half an hour
  go run ./e2e/bench -only intake,publish
  go run ./e2e/bench -o json

Rows:
  intake        fetch, open, admit, record, commit, settle; beside only opening the same messages
  roster        a roster that changes nothing, taken in and applied; beside reading it once
  publish       the producer's relay; beside nats.go publishing the same octets
  keystore-sign, keystore-open   keys in a store 15 ms away, many operations at once; beside one at a time
  bus-publish   the same as publish through Azure Service Bus, beside its client's batched sends
  bus-intake    the same as intake, beside its client that receives and completes in parallel
  bus-publish-away, bus-intake-away   both with an endpoint whose answers take -away
  bus-websocket messages carried over WebSockets, beside plain TLS
  verify        the auditor over the ledger of an enclave; beside the hashes and signatures alone
  leaver-idle   from signed to account disabled, on top of the tenant's own response times
  leaver-busy   the same behind a backlog of joiners, with the tenant's write quota
  leavers-burst many leavers at once, beside their disables alone at the tenant's write quota
  leavers-held  the same where the limit of cuts holds them, from the operator's release
  memory        peak resident memory of "consumer run" with that many people

Exit codes: 0 measured (also where a goal is not met), 1 failed, 2 misused.

`

// options are the flags.
type options struct {
	only     []string
	json     bool
	full     bool
	messages int // of intake and publish, over all rounds
	rounds   int
	leavers  int
	burst    int           // leavers at once
	people   int           // in the roster, behind whom the busy leaver stands, and of whom memory is measured
	latency  time.Duration // of each answer of the tenant
	away     time.Duration // of each answer of a Service Bus endpoint that is not on this machine
	dir      string
	progress func(format string, args ...any)
}

// rows in the order in which they are measured.
var rows = []struct {
	names []string
	run   func(context.Context, *options) ([]*row, error)
}{
	{[]string{"intake"}, intakeRow},
	{[]string{"roster"}, rosterRow},
	{[]string{"publish"}, publishRow},
	{[]string{"keystore-sign", "keystore-open"}, keystoreRows}, // one store serves both
	{[]string{"bus-publish", "bus-intake"}, busNear},           // one endpoint serves both
	{[]string{"bus-publish-away", "bus-intake-away"}, busFar},
	{[]string{"bus-websocket"}, webRow},
	{[]string{"verify"}, verifyRow},
	{[]string{"leaver-idle"}, idleRow},
	{[]string{"leaver-busy", "memory"}, busyRows}, // one stage serves both
	{[]string{"leavers-burst"}, burstRow},
	{[]string{"leavers-held"}, heldRow},
}

// helper runs this process as one of those that the rows start, if it was started as one.
func helper() (code int, started bool) {
	if file := os.Getenv(asMidpoint); file != "" {
		return serveMidpoint(file), true
	}
	if dir := os.Getenv(asBus); dir != "" {
		return serveBus(dir), true
	}
	if len(os.Args) > 1 && os.Args[1] == anyqueue.ChildCommand {
		if err := anyqueue.RunChild(os.Stdin, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %v\n", err)
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

func main() {
	if code, started := helper(); started {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr) // 0 measured, 1 failed, 2 misused
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 2
	}
	if err := bench(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{progress: func(string, ...any) {}}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	only := fs.String("only", "", "comma-separated `names` of the rows to measure (default: all)")
	output := fs.String("o", "table", "output `format`: table or json")
	fs.BoolVar(&o.full, "full", false, "100,000 people in place of 10,000, and 10,000 leavers at once in place of 1,000")
	fs.IntVar(&o.messages, "messages", 40_000, "messages of intake and of publish, over all rounds")
	fs.IntVar(&o.rounds, "rounds", 5, "rounds in which ours and the limit take turns")
	fs.IntVar(&o.leavers, "leavers", 20, "idle leavers")
	fs.IntVar(&o.burst, "burst", 0, "leavers at once (default 1000, with -full 10000)")
	fs.IntVar(&o.people, "people", 0, "people of roster, leaver-busy and memory, and five times those of verify (default 10000, with -full 100000)")
	fs.DurationVar(&o.latency, "latency", 50*time.Millisecond, "of every answer of the tenant")
	fs.DurationVar(&o.away, "away", 15*time.Millisecond, "of every answer of the Service Bus endpoint in the rows that end in -away")
	fs.StringVar(&o.dir, "dir", "", "`folder` for everything, which is kept (default: a temporary one)")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, name := range o.only {
		if !slices.ContainsFunc(rows, func(r struct {
			names []string
			run   func(context.Context, *options) ([]*row, error)
		}) bool {
			return slices.Contains(r.names, name)
		}) {
			return nil, fmt.Errorf("-only: there is no row %q; see -h", name)
		}
	}
	switch *output {
	case "json":
		o.json = true
	case "table":
	default:
		return nil, fmt.Errorf("-o: want table or json, got %q", *output)
	}
	if o.people == 0 {
		o.people = 10_000
		if o.full {
			o.people = 100_000
		}
	}
	if o.burst == 0 {
		o.burst = 1000
		if o.full {
			o.burst = fullBurst
		}
	}
	for _, n := range []struct {
		flag            string
		v, least, limit int
	}{{"messages", o.messages, 8, 1_000_000}, {"rounds", o.rounds, 1, 100}, {"leavers", o.leavers, 1, 500}, {"burst", o.burst, 2 * heldLimit, 100_000}, {"people", o.people, 10, 1_000_000}} {
		if n.v < n.least || n.v > n.limit {
			return nil, fmt.Errorf("-%s: want %d to %d, got %d", n.flag, n.least, n.limit, n.v)
		}
	}
	if o.messages < 8*o.rounds {
		return nil, fmt.Errorf("-messages: want at least 8 for each of %d rounds, got %d", o.rounds, o.messages)
	}
	if o.latency < 0 || o.latency > 5*time.Second {
		return nil, fmt.Errorf("-latency: want 0s to 5s, got %s", o.latency)
	}
	if o.away < 0 || o.away > time.Second {
		return nil, fmt.Errorf("-away: want 0s to 1s, got %s", o.away)
	}
	return o, nil
}

func (o *options) wants(names []string) bool {
	return len(o.only) == 0 || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(o.only, n) })
}

func bench(ctx context.Context, o *options, stdout, stderr io.Writer) (err error) {
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		o.progress = func(format string, args ...any) {
			fmt.Fprintf(stderr, "\r\x1b[K%s", fmt.Sprintf(format, args...))
		}
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "jmlbridge-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	} else if err := os.Mkdir(o.dir, 0o700); err != nil {
		return fmt.Errorf("-dir: want a folder that does not exist yet: %w", err)
	}
	r := newReport()
	for _, e := range rows {
		if !o.wants(e.names) {
			continue
		}
		list, err := e.run(ctx, o)
		o.progress("")
		if err != nil {
			return fmt.Errorf("%s: %w", strings.Join(e.names, ", "), err)
		}
		for _, x := range list {
			if o.wants([]string{x.Name}) {
				r.Rows = append(r.Rows, x)
			}
		}
	}
	r.finish()
	if o.json {
		return r.json(stdout)
	}
	return r.table(stdout)
}
