// Package midpoint is the embedded mid-point: a NATS server with JetStream, run from its Go module,
// that takes sealed messages from the producer and keeps them until the enclave has pulled them.
//
// Nobody trusts it; see package queue. It is built so that it deserves less trust still:
//
//   - What it confirms is on the disk: file storage, every write synced, checked on the running
//     server and not only in its options. It refuses to start otherwise.
//   - Each enclave has a NATS account, a stream and two credentials of its own. The producer's may
//     publish to one subject and hear its confirmations. The consumer's may pull from one durable
//     consumer and acknowledge; it has an account beside, in which an answer asks for nothing, wherever
//     it is sent. Neither can read, change, purge or delete anything else, nor see another enclave.
//   - Streams and consumers are made by the mid-point itself, over in-process connections with keys
//     that live as long as the process. No client may make one.
//   - TLS only; no monitoring port, no websocket, no cluster port.
//
// Retention is by limits, and the mid-point itself trims what the enclave has settled (trim.go). Work
// queue retention would trim by itself, but it writes and syncs a tombstone for each message before
// it confirms the settlement: measured with 4 KiB messages on two cores, fetch and settle then run at
// 4,000 a second instead of 40,000, for a durability of settlements that nobody needs (a settlement
// that is lost only repeats a message). Interest retention drops what is published while the
// consumer is missing. The price is that the stream's deny_purge flag, which would bind our trimmer
// too, is not set: clients are refused purge by their permissions, like everything else. A full stream
// refuses new messages (DiscardNew) and never drops old ones.
//
// Invariant: starting never creates. Init makes a store once; a store that is missing, empty, of
// another version or without a configured enclave's stream is an error, never a fresh start.
package midpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"jmlbridge/internal/liveness"
	"jmlbridge/internal/queue/natsqueue"
)

// Server is a running mid-point.
type Server struct {
	srv  *server.Server
	lock io.Closer
	addr string

	admins []*admin // our own connections, one for each enclave
	stop   context.CancelFunc
	trims  sync.WaitGroup
	once   sync.Once
}

// Run serves until ctx ends, then flushes everything and returns nil. log gets ids and counts, never
// a payload.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	s, err := Start(ctx, cfg, log)
	if ctx.Err() != nil { // stopped while starting
		if err == nil {
			s.Stop()
		}
		return nil
	}
	if err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() { s.srv.WaitForShutdown(); close(gone) }()
	select {
	case <-ctx.Done():
		log.Info("mid-point stops")
		s.Stop()
		log.Info("mid-point stopped, everything is on disk")
		return nil
	case <-gone:
		s.Stop()
		return errors.New("the mid-point's server stopped by itself; the log says why")
	}
}

// Start starts the server on a store that Init made, and returns when it is ready for clients. ctx
// bounds the start only. Where the configuration, or a file that it names, is in the way, the error is
// a *RefusedError.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := checkStore(cfg.Store); err != nil {
		return nil, err
	}
	cert, err := newCertificate(cfg.Cert, cfg.Key, log)
	if err != nil {
		return nil, err
	}
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, cfg, log, func(o *server.Options) {
		o.Host, o.Port = host, port
		o.DontListen = false
		o.TLS = true
		o.TLSTimeout = handshakeWait.Seconds()
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}
	}, adjust)
	if err != nil {
		return nil, err
	}
	log.Info("mid-point ready", "address", s.addr, "enclaves", len(cfg.Enclaves), "sync_always", true)
	return s, nil
}

// Addr is the address it listens on, host:port.
func (s *Server) Addr() string { return s.addr }

// Stop ends every connection, flushes and closes the store. It returns when that is done; stopping
// twice is no error.
func (s *Server) Stop() {
	s.once.Do(func() {
		s.stop()
		s.trims.Wait()
		for _, a := range s.admins {
			a.nc.Close()
		}
		s.srv.Shutdown()
		s.srv.WaitForShutdown()
		s.lock.Close()
	})
}

// prepare is what is done to each enclave before clients are told that the server is ready: create
// (Init, Add) or adjust (Start).
type prepare func(context.Context, *admin) error

// start runs the server, without a port unless listen opens one, prepares each enclave and then
// looks at the running server.
func start(ctx context.Context, cfg Config, log *slog.Logger, listen func(*server.Options), prep prepare) (_ *Server, err error) {
	lock, err := lockStore(cfg.Store)
	if err != nil {
		return nil, err
	}
	keys, err := newAdminKeys(cfg)
	if err != nil {
		lock.Close()
		return nil, err
	}
	opts, err := options(cfg, keys)
	if err != nil {
		lock.Close()
		return nil, err
	}
	if listen != nil {
		listen(opts)
		// The server itself tells its log alone that it cannot, and only time shows it.
		l, err := net.Listen("tcp", cfg.Listen)
		if err != nil {
			lock.Close()
			return nil, fmt.Errorf("the mid-point cannot listen on %s: %w", cfg.Listen, err)
		}
		l.Close()
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	srv.SetLoggerV2(serverLog{log}, false, false, false)
	living, stop := context.WithCancel(context.Background())
	s := &Server{srv: srv, lock: lock, stop: stop}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	srv.Start()
	if !srv.Running() {
		return nil, fmt.Errorf("the mid-point did not start; is %s in use, and the store in %s sound? (the log says more)", cfg.Listen, cfg.Store)
	}
	for _, e := range cfg.Enclaves {
		a, err := newAdmin(srv, e, keys[e.Name])
		if err != nil {
			return nil, err
		}
		s.admins = append(s.admins, a)
		if err := prep(ctx, a); err != nil {
			return nil, err
		}
	}
	if err := checkLive(srv, cfg); err != nil {
		return nil, err
	}
	pulse := liveness.NewPulse("")
	if listen != nil {
		pulse = liveness.NewPulse(cfg.Liveness)
	}
	for _, a := range s.admins {
		s.trims.Go(func() { a.trim(living, pulse, log) })
	}
	if listen != nil {
		if !srv.ReadyForConnections(readyWait) {
			return nil, fmt.Errorf("the mid-point does not listen on %s after %s", cfg.Listen, readyWait)
		}
		s.addr = srv.Addr().String()
	}
	return s, nil
}

// options are the server's, everything but the port.
func options(cfg Config, keys adminKeys) (*server.Options, error) {
	o := &server.Options{}
	// Accounts with JetStream can be declared in NATS's configuration language only. The names are
	// checked ([A-Z0-9-]), so nothing can be smuggled in.
	var text strings.Builder
	text.WriteString("accounts {\n")
	for _, e := range cfg.Enclaves {
		fmt.Fprintf(&text, "  %q { jetstream: enabled, exports: [", e.Name)
		passes := append(e.consumerAsks(), server.JSApiAccountInfo) // that one so that the server does not give the account its whole API
		for _, subject := range passes {
			fmt.Fprintf(&text, "{ service: %q, response_type: stream, accounts: [%q] }\n", subject, e.readers())
		}
		fmt.Fprintf(&text, "] }\n  %q { imports: [", e.readers())
		for _, subject := range passes {
			fmt.Fprintf(&text, "{ service: { account: %q, subject: %q } }\n", e.Name, subject)
		}
		text.WriteString("] }\n")
	}
	text.WriteString("}\n")
	if err := o.ProcessConfigString(text.String()); err != nil {
		return nil, fmt.Errorf("mid-point: %w", err)
	}
	accounts := make(map[string]*server.Account)
	for _, a := range o.Accounts {
		accounts[a.Name] = a
	}
	for _, e := range cfg.Enclaves {
		acc := accounts[e.Name]
		standard := map[string]struct{}{"STANDARD": {}} // TCP with TLS
		o.Nkeys = append(o.Nkeys,
			&server.NkeyUser{Nkey: keys[e.Name].public, Account: acc, AllowedConnectionTypes: map[string]struct{}{"IN_PROCESS": {}}},
			&server.NkeyUser{Nkey: e.Producer, Account: acc, Permissions: producerMay(e), AllowedConnectionTypes: standard},
			&server.NkeyUser{Nkey: e.Consumer, Account: accounts[e.readers()], Permissions: consumerMay(e), AllowedConnectionTypes: standard})
	}
	o.ServerName = "jmlbridge-midpoint"
	o.DontListen = true
	o.NoSigs = true // signals are the program's
	o.JetStream = true
	o.StoreDir = cfg.Store
	o.JetStreamMaxStore = maxStore
	o.SyncAlways = true
	o.DisableJetStreamBanner = true
	o.MaxPayload = maxMessage
	o.MaxConn = connections * (1 + len(cfg.Enclaves))
	o.MaxSubs = subscriptions
	o.AuthTimeout = handshakeWait.Seconds()
	o.PingInterval = pingEvery
	o.MaxPingsOut = 2
	return o, nil
}

// producerMay: publish to the enclave's one subject, hear its confirmations.
func producerMay(e Enclave) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{e.Subject()}},
		Subscribe: &server.SubjectPermission{Allow: []string{natsqueue.InboxOf(natsqueue.RoleProducer, e.Stream()) + ".>"}},
	}
}

// consumerMay: look its one durable consumer up, pull from it, acknowledge to it, hear the answers; or, dark, read
// its one stream by number, hear the answers, and nothing that would change anything.
func consumerMay(e Enclave) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: e.consumerAsks()},
		Subscribe: &server.SubjectPermission{Allow: []string{natsqueue.InboxOf(natsqueue.RoleConsumer, e.Stream()) + ".>"}},
	}
}

func (e Enclave) consumerAsks() []string {
	at := e.Stream() + "." + durable
	if e.dark() {
		return []string{"$JS.API.DIRECT.GET." + e.Stream()}
	}
	return []string{"$JS.API.CONSUMER.INFO." + at, "$JS.API.CONSUMER.MSG.NEXT." + at, "$JS.ACK." + at + ".>"}
}

// readers is the account of the enclave's consumer, beside that of its stream. Whoever asks says to which subject the answer goes, and
// the server sends it there by its own right: out of the stream's own account, an empty answer would delete the stream.
func (e Enclave) readers() string { return e.Name + ".consumer" }

// checkLive asks the running server, not its options, whether what it confirms is on the disk.
func checkLive(srv *server.Server, cfg Config) error {
	js, err := srv.Jsz(&server.JSzOptions{Accounts: true, Streams: true, Config: true})
	if err != nil {
		return fmt.Errorf("mid-point: ask the running server for its storage settings: %w", err)
	}
	if !js.Config.SyncAlways {
		return errors.New("the running server does not sync every write (sync_always is off): it could lose what it confirmed; refused")
	}
	found := make(map[string]bool)
	for _, acc := range js.AccountDetails {
		for _, st := range acc.Streams {
			if st.Config == nil {
				return fmt.Errorf("mid-point: the running server does not tell the settings of stream %s", st.Name)
			}
			if st.Config.PersistMode == server.AsyncPersistMode || st.Config.Storage != server.FileStorage {
				return fmt.Errorf("stream %s confirms before it has written (storage %s, persist_mode %s): refused", st.Name, st.Config.Storage, st.Config.PersistMode)
			}
			found[st.Name] = true
		}
	}
	for _, e := range cfg.Enclaves {
		if !found[e.Stream()] {
			return fmt.Errorf("the running server does not show stream %s", e.Stream())
		}
	}
	return nil
}

func splitListen(listen string) (string, int, error) {
	host, p, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, refusef("listen", "%q: expected host:port", listen)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, refusef("listen", "%q: expected a port number after the colon", listen)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if port == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(port), nil
}

const marker = "MIDPOINT-STORE"

const markerText = "jmlbridge mid-point store, version 1\n"

// checkStore refuses a folder that Init did not make, for example one whose disk is not mounted.
func checkStore(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, marker))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return refusef("store", "%s holds no mid-point store; is its disk mounted? (a new one is made by init only)", dir)
	case err != nil:
		return refusef("store", "%v", err)
	case string(raw) != markerText:
		return refusef("store", "%s is of another version: expected %q, found %q", dir, markerText, string(raw[:min(len(raw), 80)]))
	}
	return nil
}

// serverLog puts the server's own lines into our log.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(f string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Warnf(f string, v ...any)   { l.log.Warn("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Fatalf(f string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Errorf(f string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Debugf(f string, v ...any)  { l.log.Debug("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Tracef(string, ...any)      {}

// Limits of the server.
const (
	maxMessage    = maxBody + 4<<10 // octets of one message with its headers
	connections   = 16              // clients for each enclave, and as many to spare
	subscriptions = 64              // for each client
	maxStore      = 1 << 50         // octets; each stream has its own limit, one of the server's only gets in the way of changing it
	handshakeWait = 5 * time.Second // TLS, then authentication
	readyWait     = 30 * time.Second
	pingEvery     = 20 * time.Second // a dead client is noticed after two unanswered pings
)
