// Command servicebus serves an Azure Service Bus namespace to rehearse against:
// queues, topics and sessions over AMQP 1.0, on TLS and on TLS WebSocket, in
// memory.
//
// It trusts everybody who can read -dir, where it leaves its CA certificate, its
// addresses and the connection strings of its rules. Messages are gone when it
// ends; the journal stays.
package main

import (
	"context"
	"encoding/json"
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

	"jmlbridge/e2e/servicebus/broker"
)

const usage = `servicebus serves a Service Bus namespace to rehearse against.

  go run ./e2e/servicebus -dir DIR -queue jml
  go run ./e2e/servicebus -dir DIR -queue jml -duplicates 10m -ttl 24h -dead-letter-expired
  go run ./e2e/servicebus -dir DIR -namespace namespace.yaml -faults faults.yaml
  go run ./e2e/servicebus -dir DIR -queue jml -listen :5671 -host midpoint    in a container

It writes into DIR: ca.pem, endpoints.json, journal.jsonl, control.token (mode 0600), and for each shared access
rule NAME its connection string in NAME.connection (mode 0600). Without rules of your own there are three: sender,
listener and manager. When it is ready it prints one line of JSON, which is endpoints.json. Ctrl-C ends it.

One address serves AMQP and WebSocket; a client for Go needs the server's name, without the port, in its TLS
configuration.

The control API (see endpoints.json; header "Authorization: Bearer" with control.token) is no part of Service Bus:

  GET    /counts                        what every entity holds and did
  GET    /faults                        faults in force, and how often each has struck
  POST   /faults                        a list in YAML or JSON, or one in braces; see below
  DELETE /faults, /faults/NAME          ends them
  POST   /outage/MODE                   none, refused (no connection), silent (connections on which nothing is heard)
  POST   /reset                         breaks every connection
  POST   /close?condition=C             closes every connection in order
  POST   /detach?entity=E&condition=C   detaches the links to E, or to E/$management
  POST   /expire-locks?entity=E         ends every lock on a message of E
  POST   /disable?entity=E, /enable?entity=E
  GET    /gates/NAME/held?n=N           waits up to 30 s until N operations are held by a delay with that gate
  POST   /gates/NAME/release            lets them go

A fault says on (dial open token attach send deliver settle manage), kind (error reset silence detach end close delay
ignore malformed replay duplicate lose alter reorder poison), and may say entity, operation, message, skip, count,
probability, applied, condition, description, status, gate, delay, places, poison, name.

Exit codes: 0 ended as asked, 1 failed, 2 misused.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr) // 0 done, 1 failed, 2 misused
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "servicebus: %v\n", err)
		return 2
	}
	if err := serve(ctx, o, stdout); err != nil {
		fmt.Fprintf(stderr, "servicebus: %v\n", err)
		var misused *broker.ConfigError
		if errors.As(err, &misused) {
			return 2
		}
		return 1
	}
	return 0
}

type options struct {
	cfg     broker.Config
	faults  []broker.Fault
	dir     string
	control string // address; "" for none
}

// parse reads the flags and the files that they name.
func parse(args []string, stderr io.Writer) (options, error) {
	fs := flag.NewFlagSet("servicebus", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	var o options
	var each broker.Queue
	var names []string
	fs.StringVar(&o.cfg.Listen, "listen", "127.0.0.1:0", "`address` of the namespace")
	fs.StringVar(&o.control, "control", "127.0.0.1:0", "`address` of the control API; empty for none")
	fs.Func("host", "`name` or address by which clients reach it, for its certificate; may be given again; the first one goes into connection strings", func(s string) error {
		o.cfg.Hosts = append(o.cfg.Hosts, s)
		return nil
	})
	fs.StringVar(&o.dir, "dir", "", "`folder` for certificates, connection strings and the journal (required)")
	fs.Func("queue", "`name` of a queue; may be given again", func(s string) error { names = append(names, s); return nil })
	fs.DurationVar(&each.Lock, "lock", time.Minute, "duration of locks, of every -queue")
	max := fs.Uint("max-deliveries", 10, "deliveries after which a message is dead-lettered, of every -queue")
	fs.DurationVar(&each.TTL, "ttl", 0, "longest life of messages, of every -queue; 0 means for ever")
	fs.BoolVar(&each.DeadLetterExpired, "dead-letter-expired", false, "dead-letter what expires, of every -queue")
	fs.DurationVar(&each.Duplicates, "duplicates", 0, "window of duplicate detection, of every -queue; 0 means none")
	namespace := fs.String("namespace", "", "YAML or JSON `file` with queues, topics, rules, and who issues tokens")
	faults := fs.String("faults", "", "YAML or JSON `file` with faults in force from the start")
	fs.Uint64Var(&o.cfg.MaxMessageBytes, "max-message", 256<<10, "`bytes` of a message or batch")
	fs.Uint64Var(&o.cfg.FaultSeed, "random-seed", 1, "seed of the faults' randomness")
	noJournal := fs.Bool("no-journal", false, "write no journal.jsonl (for benchmarks)")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case o.dir == "":
		return o, errors.New("-dir is required: a folder for certificates, connection strings and the journal")
	case len(names) == 0 && *namespace == "":
		return o, errors.New("-queue or -namespace is required: a namespace without entities serves nobody")
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return o, err
	}
	each.MaxDeliveries = uint32(*max)
	for _, name := range names {
		each.Name = name
		o.cfg.Queues = append(o.cfg.Queues, each)
	}
	if *namespace != "" {
		if err := broker.ReadNamespace(*namespace, &o.cfg); err != nil {
			return o, err
		}
	}
	if *faults != "" {
		raw, err := os.ReadFile(*faults)
		if err != nil {
			return o, fmt.Errorf("read faults: %w", err)
		}
		if o.faults, err = broker.ParseFaults(raw); err != nil {
			return o, fmt.Errorf("%s: %w", *faults, err)
		}
	}
	if !*noJournal {
		f, err := os.OpenFile(filepath.Join(o.dir, "journal.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return o, fmt.Errorf("open journal: %w", err)
		}
		o.cfg.Journal = f // closed with the process: an operation may be under way to the end
	}
	return o, nil
}

// endpoints is the form of endpoints.json and of the line printed when ready.
type endpoints struct {
	Address      string          `json:"address"`   // host and port on which it listens
	Host         string          `json:"host"`      // host and port in connection strings
	WebSocket    string          `json:"webSocket"` // URL
	CA           string          `json:"ca"`        // path of the CA certificate
	Journal      string          `json:"journal"`   // path of the journal
	Entities     []string        `json:"entities"`
	Rules        map[string]rule `json:"rules"` // by name
	Control      string          `json:"control,omitempty"`
	ControlToken string          `json:"controlTokenFile,omitempty"`
	PID          int             `json:"pid"`
}

type rule struct {
	Rights           string `json:"rights"`
	ConnectionString string `json:"connectionString"`
	File             string `json:"file"` // that holds it
}

func serve(ctx context.Context, o options, stdout io.Writer) error {
	b, err := broker.Start(o.cfg)
	if err != nil {
		return err
	}
	defer b.Close()
	if _, err := b.AddFaults(o.faults...); err != nil {
		return err
	}
	var control *broker.Control
	if o.control != "" {
		if control, err = b.Control(o.control); err != nil {
			return err
		}
		defer control.Close()
	}
	line, err := leave(b, control, o.dir)
	if err != nil {
		return err
	}
	if _, err := stdout.Write(line); err != nil {
		return fmt.Errorf("tell that it is ready: %w", err)
	}
	<-ctx.Done()
	return b.Close()
}

// leave writes the files that a client needs; endpoints.json comes last, so
// whoever finds it finds the rest.
func leave(b *broker.Broker, control *broker.Control, dir string) ([]byte, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	out := endpoints{Address: b.Addr(), Host: b.Host(), WebSocket: b.WebSocket(), CA: filepath.Join(dir, "ca.pem"),
		Journal: filepath.Join(dir, "journal.jsonl"), Entities: b.Entities(), Rules: map[string]rule{}, PID: os.Getpid()}
	if err := replace(out.CA, b.CA(), 0o644); err != nil {
		return nil, err
	}
	if control != nil {
		out.Control, out.ControlToken = control.URL, filepath.Join(dir, "control.token")
		if err := replace(out.ControlToken, []byte(control.Token+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	for _, r := range b.Rules() {
		x := rule{Rights: r.Rights.String(), ConnectionString: b.ConnectionString(r.Name), File: filepath.Join(dir, strings.ReplaceAll(r.Name, string(filepath.Separator), "_")+".connection")}
		if err := replace(x.File, []byte(x.ConnectionString+"\n"), 0o600); err != nil {
			return nil, err
		}
		out.Rules[r.Name] = x
	}
	line, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	line = append(line, '\n')
	return line, replace(filepath.Join(dir, "endpoints.json"), line, 0o600)
}

// replace writes a file whole, with this mode, or leaves the old one.
func replace(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
