// Egress is the enclave's one way out, as a rehearsal has it: a proxy that is asked by CONNECT, lets
// through to the destinations it was given, and refuses everything else.
//
// It stands with one foot in the enclave and one outside, so its own manners are part of the boundary. It
// listens on the enclave's interface alone (not merely at an address of it: a machine with two networks
// answers for all its addresses on both), forwards no packet, and opens a connection only outwards, when
// somebody inside asks. It trusts nobody on either side and sees ciphertext only: TLS is end to end
// between the consumer and the mid-point.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/elazarl/goproxy"
)

const usage = `egress lets CONNECT through to a few destinations, from one network.

  egress -listen 10.79.3.2:3128 -allow midpoint:4222
  egress -listen 10.79.3.2:3128 -check

-listen must name an address of this machine; the proxy listens on the interface that has it, and on no
other. -check says by its exit code whether a proxy listens there, for a container's health.

Exit codes: 0 ended as asked, or healthy; 1 failed; 2 misused.

`

// Bounds of one connection.
const (
	headWait  = 10 * time.Second // until the CONNECT has come, the first or another
	dialWait  = 10 * time.Second // until the destination has answered
	checkWait = 2 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("egress", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	listen := fs.String("listen", "", "`address` in the enclave, host:port (required)")
	allow := fs.String("allow", "", "`destinations`, host:port, separated by commas; spelled as the clients ask for them")
	check := fs.Bool("check", false, "only look whether a proxy listens at -listen")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	log := slog.New(slog.NewJSONHandler(stdout, nil))
	for destination := range strings.SplitSeq(*allow, ",") {
		host, port, err := net.SplitHostPort(strings.TrimSpace(destination))
		if *allow != "" && (err != nil || host == "" || port == "") {
			fmt.Fprintf(stderr, "egress: -allow: want HOST:PORT, got %q\n", destination)
			return 2
		}
	}
	var err error
	switch {
	case *listen == "", *allow == "" && !*check, fs.NArg() > 0:
		fmt.Fprintln(stderr, "egress: want -listen HOST:PORT, and -allow HOST:PORT or -check")
		return 2
	case *check:
		var c net.Conn
		if c, err = net.DialTimeout("tcp", *listen, checkWait); err == nil {
			err = c.Close()
		}
	default:
		err = serve(ctx, *listen, strings.Split(*allow, ","), log)
	}
	if err != nil {
		fmt.Fprintf(stderr, "egress: %v\n", err)
		return 1
	}
	return 0
}

// serve lets through until ctx ends.
func serve(ctx context.Context, listen string, allow []string, log *slog.Logger) error {
	l, err := listenOn(ctx, listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: newGate(allow, log), ReadHeaderTimeout: headWait, IdleTimeout: headWait, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	context.AfterFunc(ctx, func() { srv.Close() })
	log.Info("egress ready", "address", l.Addr().String(), "allowed", len(allow))
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// gate is the rule; the tunnels themselves are goproxy's.
type gate struct {
	allowed map[string]bool
	tunnel  *goproxy.ProxyHttpServer
	log     *slog.Logger
}

func newGate(allow []string, log *slog.Logger) *gate {
	g := &gate{allowed: map[string]bool{}, tunnel: goproxy.NewProxyHttpServer(), log: log}
	for _, host := range allow {
		g.allowed[strings.ToLower(strings.TrimSpace(host))] = true
	}
	dialer := &net.Dialer{Timeout: dialWait}
	g.tunnel.ConnectDial = func(network, address string) (net.Conn, error) { // never by the environment's proxy: this is the last one
		c, err := dialer.Dial(network, address)
		if err != nil {
			return nil, err
		}
		return whole{c}, nil
	}
	return g
}

// whole is a connection that cannot be closed in one direction alone. Where it could, goproxy would leave the other direction to whoever
// is outside, who need only say nothing to keep two descriptors for each connection that the inside has given up.
type whole struct{ net.Conn }

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The tunnel goes to where the request line says, which r.Host is not where that names no host.
	if r.Method != http.MethodConnect || !g.allowed[strings.ToLower(r.URL.Host)] {
		g.log.Warn("refused", "method", r.Method, "destination", r.Host)
		http.Error(w, "egress: only CONNECT, and only to what the enclave's operators allow", http.StatusForbidden)
		return
	}
	g.log.Info("tunnel", "destination", r.Host)
	g.tunnel.ServeHTTP(w, r)
}
