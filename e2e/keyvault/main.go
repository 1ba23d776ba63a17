// Program keyvault is a stand-in for Azure Key Vault on this machine, for rehearsals; see package standin for what
// it does and what it does not. It takes the tokens of a rehearsal tenant (e2e/sandbox).
package main

import (
	"context"
	"crypto/x509"
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

	"jmlbridge/e2e/keyvault/standin"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/keys"
)

const usage = `keyvault: a stand-in for Azure Key Vault on loopback

  go run ./e2e/keyvault -dir DIR -tenant TENANT/endpoints.json -allow APP=get,sign -key signing:EC-HSM

It takes the tokens that the rehearsal tenant of endpoints.json makes for ` + tenant.OtherResource + `.
It writes ca.pem into DIR, prints one line of JSON when it is ready (also DIR/keyvault.json) and ends with Ctrl-C.
Its keys are made at its start and are gone at its end.

While it runs, a line of JSON on standard input puts a fault in force, such as {"kind":"error","op":"sign","status":503};
an empty line ends all faults.

Exit codes: 0 ended as asked, 1 failed, 2 misused.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr) // 0 done, 1 failed, 2 misused
	stop()
	os.Exit(code)
}

// ready is the line that says where everything is.
type ready struct {
	URL      string           `json:"url"`
	Host     string           `json:"host"` // key_store of a custom cloud
	Resource string           `json:"resource"`
	CA       string           `json:"ca"` // path
	Keys     map[string]named `json:"keys"`
	PID      int              `json:"pid"`
}

type named struct {
	Version string `json:"version"`
	KID     string `json:"kid"`
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("keyvault", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	cfg := standin.Config{Access: map[string][]string{}, Resource: tenant.OtherResource}
	dir := fs.String("dir", "", "`folder` for ca.pem and keyvault.json (required)")
	endpoints := fs.String("tenant", "", "endpoints.json `file` of the rehearsal tenant (required)")
	fs.StringVar(&cfg.Listen, "listen", "127.0.0.1:0", "`address`; loopback only")
	fs.DurationVar(&cfg.Latency, "latency", 0, "of each answer")
	fs.IntVar(&cfg.Quota, "quota", 0, "transactions in 10 s; 0: no limit")
	var allow, made []string
	fs.Func("allow", "`APP=get,sign,...`: what the tenant's app of this name may do; repeat", func(s string) error { allow = append(allow, s); return nil })
	fs.Func("key", "`NAME:TYPE[:CURVE]` with type EC, EC-HSM, RSA or RSA-HSM; repeat", func(s string) error { made = append(made, s); return nil })
	misuse := func(err error) int { fmt.Fprintf(stderr, "keyvault: %v\n", err); return 2 }
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case *dir == "" || *endpoints == "" || fs.NArg() > 0:
		return misuse(errors.New("want -dir and -tenant, and no arguments"))
	}
	for _, k := range made {
		parts := strings.Split(k, ":")
		if len(parts) < 2 || len(parts) > 3 {
			return misuse(fmt.Errorf("-key %q: want NAME:TYPE or NAME:TYPE:CURVE", k))
		}
		cfg.Keys = append(cfg.Keys, standin.Key{Name: parts[0], Type: parts[1], Curve: append(parts, "")[2]})
	}
	if err := known(&cfg, *endpoints, allow); err != nil {
		return misuse(err)
	}
	if err := serve(ctx, cfg, *dir, stdin, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "keyvault: %v\n", err)
		return 1
	}
	return 0
}

// known takes authority and applications from the tenant's own description.
func known(cfg *standin.Config, endpoints string, allow []string) error {
	raw, err := os.ReadFile(endpoints)
	if err != nil {
		return err
	}
	var at struct {
		Tenant    string
		Authority string
		CA        string
		Apps      map[string]struct {
			ClientID string `json:"clientId"`
		}
	}
	if err := json.Unmarshal(raw, &at); err != nil {
		return fmt.Errorf("%s: %w", endpoints, err)
	}
	pem, err := os.ReadFile(at.CA)
	if err != nil {
		return err
	}
	cfg.Authority, cfg.Tenant, cfg.Roots = at.Authority, at.Tenant, x509.NewCertPool()
	cfg.Roots.AppendCertsFromPEM(pem)
	for _, a := range allow {
		name, list, _ := strings.Cut(a, "=")
		app, ok := at.Apps[name]
		if !ok {
			return fmt.Errorf("-allow %s: the tenant has no app of that name", name)
		}
		cfg.Access[strings.ToLower(app.ClientID)] = strings.Split(list, ",")
	}
	return nil
}

func serve(ctx context.Context, cfg standin.Config, dir string, stdin io.Reader, stdout, stderr io.Writer) error {
	s, err := standin.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	out := ready{URL: s.URL(), Host: s.Host(), Resource: s.Resource(), CA: filepath.Join(dir, "ca.pem"), Keys: map[string]named{}, PID: os.Getpid()}
	for _, k := range cfg.Keys {
		kid, err := keys.ID(s.Public(k.Name))
		if err != nil {
			return err
		}
		out.Keys[k.Name] = named{s.Version(k.Name), kid}
	}
	if err := os.WriteFile(out.CA, s.CAPEM(), 0o644); err != nil {
		return err
	}
	line, err := json.Marshal(out)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "keyvault.json"), line, 0o644); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "%s\n", line); err != nil {
		return err
	}
	go s.Commands(stdin, stderr)
	<-ctx.Done()
	return s.Close()
}
