// Command sandbox serves a directory tenant to rehearse against: Entra's token
// endpoint and the part of Microsoft Graph that the bridge uses, over TLS on
// loopback, in memory.
//
// It trusts everybody on this machine who can read -dir, where it leaves its CA
// certificate, its addresses and the credentials of its app registrations. Its
// state is gone when it ends; the journal stays.
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
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"jmlbridge/e2e/sandbox/tenant"
)

const usage = `sandbox serves a tenant to rehearse against (Entra tokens and Microsoft Graph), on loopback.

  go run ./e2e/sandbox -dir DIR
  go run ./e2e/sandbox -dir DIR -seed seed.yaml -quotas -lag 2s -faults faults.yaml

It writes into DIR: ca.pem, endpoints.json, journal.jsonl, and for each app registration NAME
NAME.secret and NAME.pem (mode 0600), and control.token. When it is ready it prints one line
of JSON, which is endpoints.json. Ctrl-C ends it.

The control API (see endpoints.json; header "Authorization: Bearer" with control.token) is no part of Graph:

  GET    /state, /state/comparable      who and what is there; comparable leaves ids and times out
  GET    /journal?since=N               every request, as JSON Lines
  GET    /passwords                     those that clients sent, from memory: for looking whether anybody else kept one
  GET    /faults                        faults in force, and how often each has struck
  POST   /faults                        a list in YAML or JSON, or one in braces: kind (error drop break html gateway empty garbage throttle
                                        unauthorized ignore delay), method, path, body (regular expressions), app, skip,
                                        count, probability, applied, status, retryAfter, claims, gate, delay, name
  DELETE /faults, /faults/NAME          ends them
  POST   /outage/MODE                   none, unavailable (503) or refused (no connection)
  GET    /gates/NAME/held?n=N           waits up to 30 s until N requests are held by a delay with that gate
  POST   /gates/NAME/release            lets them go
  POST   /tokens/APP/revoke             voids the tokens that an app has
  POST   /plant                         adds groups, units and users of a seed

seed.example.yaml beside this program shows a seed.

Exit codes: 0 ended as asked, 1 failed, 2 misused.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr) // 0 done, 1 failed, 2 misused
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, dir, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "sandbox: %v\n", err)
		return 2
	}
	defer dir.Close() // and with it ends the hold on the folder
	if err := serve(ctx, cfg, dir.Name(), stdout); err != nil {
		fmt.Fprintf(stderr, "sandbox: %v\n", err)
		var misused *tenant.ConfigError
		if errors.As(err, &misused) {
			return 2
		}
		return 1
	}
	return 0
}

// parse reads the flags and the files that they name.
func parse(args []string, stderr io.Writer) (tenant.Config, *os.File, error) {
	fs := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	cfg := tenant.Config{}
	fs.StringVar(&cfg.Listen, "listen", "127.0.0.1:0", "`address` of the tenant; loopback only, unless -name is given")
	fs.StringVar(&cfg.Name, "name", "", "`host` name or address that it has on a private network, such as that of containers; whoever is there gets to it")
	fs.StringVar(&cfg.Control, "control", "127.0.0.1:0", "`address` of the control API: loopback only, or unix:PATH; empty for none")
	dir := fs.String("dir", "", "`folder` for certificates, credentials and the journal (required)")
	seed := fs.String("seed", "", "YAML or JSON `file` with tenant, apps, groups, units and users")
	faults := fs.String("faults", "", "YAML or JSON `file` with faults in force from the start")
	tenantID := fs.String("tenant", "", "tenant `id`; otherwise the seed's, or a random one")
	quotas := fs.Bool("quotas", false, "throttle as Graph documents it")
	size := fs.Int("quota-users", 1000, "size of the tenant, which decides its resource units (<50, 50 to 500, more)")
	fs.IntVar(&cfg.Quotas.Writes.N, "write-quota", 0, "writes per 150 s and app, in place of Graph's 3000 (implies -quotas)")
	fs.DurationVar(&cfg.Replication.Lag, "lag", 0, "how far reads by id and of memberships lag behind")
	fs.DurationVar(&cfg.Replication.IndexLag, "index-lag", 0, "how far $filter lags behind; at least -lag")
	fs.DurationVar(&cfg.Replication.WriteLag, "write-lag", 0, "how long writes do not know an object just created, or a membership just begun or ended")
	fs.Float64Var(&cfg.Replication.Share, "lag-share", 1, "share of requests that meet a lagging replica, 0 to 1")
	fs.DurationVar(&cfg.TokenLife, "token-life", time.Hour, "life of access tokens")
	fs.DurationVar(&cfg.CAELife, "cae-token-life", 24*time.Hour, "life of tokens under continuous access evaluation")
	fs.DurationVar(&cfg.Latency, "latency", 0, "added to every Graph answer")
	fs.BoolVar(&cfg.HTTP1, "http1", false, "speak HTTP/1.1 only")
	fs.Uint64Var(&cfg.FaultSeed, "random-seed", 1, "seed of the faults' randomness")
	fs.IntVar(&cfg.JournalKeep, "journal-keep", 0, "journal entries kept in memory for the control API; 0 means 50000, -1 none")
	noJournal := fs.Bool("no-journal", false, "write no journal.jsonl (for benchmarks)")
	if err := fs.Parse(args); err != nil {
		return cfg, nil, err
	}
	if fs.NArg() > 0 {
		return cfg, nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *dir == "" {
		return cfg, nil, errors.New("-dir is required: a folder for certificates, credentials and the journal")
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return cfg, nil, err
	}
	if *seed != "" {
		var err error
		if cfg.Seed, err = tenant.ReadSeed(*seed); err != nil {
			return cfg, nil, err
		}
	}
	if *tenantID != "" {
		cfg.Seed.Tenant.ID = *tenantID
	}
	if *faults != "" {
		raw, err := os.ReadFile(*faults)
		if err != nil {
			return cfg, nil, fmt.Errorf("read faults: %w", err)
		}
		if cfg.Faults, err = tenant.ParseFaults(raw); err != nil {
			return cfg, nil, fmt.Errorf("%s: %w", *faults, err)
		}
	}
	if n := cfg.Quotas.Writes.N; *quotas || n > 0 {
		cfg.Quotas = tenant.DefaultQuotas(*size)
		if n > 0 {
			cfg.Quotas.Writes.N = n
		}
	}
	cfg.Replication.IndexLag = max(cfg.Replication.IndexLag, cfg.Replication.Lag)
	folder, err := hold(*dir)
	if err != nil {
		return cfg, nil, err
	}
	if !*noJournal {
		f, err := os.OpenFile(filepath.Join(*dir, "journal.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			folder.Close()
			return cfg, nil, fmt.Errorf("open journal: %w", err)
		}
		cfg.Journal = f // closed with the process: a request may be under way to the end
	}
	return cfg, folder, nil
}

// hold keeps every other sandbox off a folder, until the file is closed or the process ends.
func hold(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("another sandbox works in %s: give this one a folder of its own", dir)
		}
		return nil, err
	}
	return f, nil
}

// endpoints is the form of endpoints.json and of the line printed when ready.
type endpoints struct {
	Tenant       string         `json:"tenant"`
	Authority    string         `json:"authority"` // https, closing slash
	Graph        string         `json:"graph"`     // root without version
	GraphV1      string         `json:"graphV1"`   // base URL for an SDK
	Host         string         `json:"host"`      // valid host, without port
	Scope        string         `json:"scope"`
	CA           string         `json:"ca"`      // path of the CA certificate
	Journal      string         `json:"journal"` // path of the journal
	Control      string         `json:"control,omitempty"`
	ControlToken string         `json:"controlTokenFile,omitempty"`
	Apps         map[string]app `json:"apps"` // by name
	PID          int            `json:"pid"`
}

type app struct {
	ClientID       string   `json:"clientId"`
	SecretFile     string   `json:"secretFile"`
	CertificatePEM string   `json:"certificateFile,omitempty"` // certificate and key
	Permissions    []string `json:"permissions"`
}

func serve(ctx context.Context, cfg tenant.Config, dir string, stdout io.Writer) error {
	s, err := tenant.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	line, err := leave(s, dir)
	if err != nil {
		return err
	}
	if _, err := stdout.Write(line); err != nil {
		return fmt.Errorf("tell that it is ready: %w", err)
	}
	<-ctx.Done()
	return s.Close()
}

// leave writes the files that a client needs; endpoints.json comes last, so
// whoever finds it finds the rest.
func leave(s *tenant.Server, dir string) ([]byte, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	ep := s.Endpoints()
	out := endpoints{Tenant: ep.Tenant, Authority: ep.Authority, Graph: ep.Graph, GraphV1: ep.GraphV1, Host: ep.Host, Scope: ep.Graph + "/.default",
		CA: filepath.Join(dir, "ca.pem"), Journal: filepath.Join(dir, "journal.jsonl"), Control: ep.Control, Apps: map[string]app{}, PID: os.Getpid()}
	if err := replace(out.CA, s.CAPEM(), 0o644); err != nil {
		return nil, err
	}
	if ep.Control != "" {
		out.ControlToken = filepath.Join(dir, "control.token")
		if err := replace(out.ControlToken, []byte(s.ControlToken()+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	for _, c := range s.Apps() {
		a := app{ClientID: c.ID, SecretFile: filepath.Join(dir, c.Name+".secret"), Permissions: c.Permissions}
		if err := replace(a.SecretFile, []byte(c.Secret+"\n"), 0o600); err != nil {
			return nil, err
		}
		if c.Certificate != nil {
			a.CertificatePEM = filepath.Join(dir, c.Name+".pem")
			if err := replace(a.CertificatePEM, c.Certificate, 0o600); err != nil {
				return nil, err
			}
		}
		out.Apps[c.Name] = a
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
