package tenant

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// A Server is a tenant that is running. Its methods may be called from any
// goroutine.
type Server struct {
	cfg      Config
	tenantID string
	root     string   // https://127.0.0.1:PORT, or under its Name: authority host and Graph root in one
	roots    []string // root and its other spellings
	ca       *authority

	mu  sync.RWMutex // guards dir; never held across I/O
	dir *directory

	apps     map[string]*registration // by client id
	byName   map[string]*registration
	tokens   *tokens
	throttle *throttle
	faults   *faults
	journal  *journal
	received passwords
	down     atomic.Bool // outage: everything is 503
	listener *listener
	http     *http.Server
	control  *controlServer
	served   chan error
}

// Start makes a tenant and serves it until ctx ends or Close is called. What is
// wrong with cfg itself is a [*ConfigError].
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s, err := build(cfg)
	if err != nil {
		return nil, &ConfigError{err}
	}
	if s.tokens, err = newTokens(); err != nil {
		return nil, err
	}
	if s.ca, err = newAuthority(s.cfg.Now(), s.cfg.Name); err != nil {
		return nil, err
	}
	if err := s.listen(ctx); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { s.Close() })
	return s, nil
}

// A ConfigError is a Config that cannot be served: the caller's to mend.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// build makes the tenant that cfg describes, without a way in.
func build(cfg Config) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, tenantID: strings.ToLower(cfg.Seed.Tenant.ID), apps: map[string]*registration{}, byName: map[string]*registration{},
		faults: newFaults(cfg.FaultSeed), journal: &journal{out: cfg.Journal, keep: cfg.JournalKeep}, served: make(chan error, 1)}
	s.throttle = newThrottle(cfg.Quotas, s.tenantID)
	for _, a := range cfg.Seed.Apps {
		r := register(a)
		if s.apps[r.ID] != nil || s.byName[r.Name] != nil {
			return nil, fmt.Errorf("two app registrations are called %s or have the id %s", r.Name, r.ID)
		}
		s.apps[r.ID], s.byName[r.Name] = r, r
	}
	if _, err := s.faults.add(cfg.Faults...); err != nil {
		return nil, err
	}
	s.dir = newDirectory(cfg.Now, cfg.Replication.horizon(), cfg.Seed)
	if err := s.dir.plant(cfg.Seed); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context) error {
	l, err := newListener(s.cfg.Listen)
	if err != nil {
		return err
	}
	s.listener = l
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	s.root = "https://" + l.Addr().String()
	if s.cfg.Name != "" {
		s.root = "https://" + net.JoinHostPort(strings.ToLower(s.cfg.Name), port)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]"} {
		s.roots = append(s.roots, "https://"+host+":"+port)
	}
	s.roots = slices.Insert(slices.DeleteFunc(s.roots, func(r string) bool { return r == s.root }), 0, s.root)
	s.http = &http.Server{Handler: s, TLSConfig: s.ca.config(s.cfg.HTTP1), ReadHeaderTimeout: 30 * time.Second,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug), ConnState: l.track,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) }}
	if s.cfg.HTTP1 {
		s.http.TLSNextProto = noHTTP2
	}
	if s.cfg.Control != "" {
		if s.control, err = startControl(s, s.cfg.Control); err != nil {
			l.Close()
			return err
		}
	}
	go func() { s.served <- s.http.ServeTLS(l, "", "") }()
	return nil
}

// Close ends the tenant: requests under way are cut off. It may be called
// twice, and reports whether the journal was written whole.
func (s *Server) Close() error {
	s.http.Close()
	if s.control != nil {
		s.control.Close()
	}
	s.listener.Close()
	if err := <-s.served; err != nil && !errors.Is(err, http.ErrServerClosed) {
		s.served <- nil
		return fmt.Errorf("serve tenant: %w", err)
	}
	s.served <- nil
	return s.journal.failure()
}

// rootFor is the root under the name that the caller used.
func (s *Server) rootFor(host string) string {
	if r := "https://" + strings.ToLower(host); slices.Contains(s.roots, r) {
		return r
	}
	return s.root
}

// ServeHTTP answers for Entra and Graph alike: the first path segment tells
// them apart.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		panic(http.ErrAbortHandler) // the caller went away, or sends without end
	}
	c := &call{s: s, method: r.Method, header: r.Header, body: raw, now: s.cfg.Now(),
		requestID: uuid.NewString(), clientID: clientRequestID(r.Header)}
	c.path = r.URL.EscapedPath()
	c.query, _ = url.ParseQuery(r.URL.RawQuery) // what cannot be read counts as absent
	entry := Entry{Time: c.now, Method: c.method, Path: c.path, RequestID: c.requestID, ClientRequestID: c.clientID}
	if r.URL.RawQuery != "" {
		entry.Path += "?" + r.URL.RawQuery
	}
	rest, isGraph := strings.CutPrefix(c.path, "/v1.0/")
	if isGraph {
		parts, ok := split(rest)
		c.parts = parts
		if !ok {
			c.parts = nil
		}
	}
	s.serve(w, r, c, &entry, isGraph)
}

// serve runs one request: outage, caller, faults, quota, effect, journal, wire.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, c *call, entry *Entry, isGraph bool) {
	if s.down.Load() {
		a := refuse(&refusal{status: 503, code: "ServiceUnavailable", message: "The service is temporarily unavailable."})
		s.answer(w, c, entry, a, nil)
		return
	}
	var denied *answer
	appName := ""
	if isGraph {
		if c.app, denied = s.tokens.judge(r.Header.Get("Authorization"), s.roots, c.now); denied == nil {
			appName = c.app.Name
		}
	} else if form, err := url.ParseQuery(string(c.body)); err == nil {
		if app := s.apps[strings.ToLower(form.Get("client_id"))]; app != nil {
			appName = app.Name
		}
	}
	entry.App = appName
	if denied != nil {
		s.answer(w, c, entry, *denied, nil)
		return
	}
	plain, unzipped := gunzip(c.header, c.body)
	if isGraph {
		s.received.note(plain)
	}
	spoil, delays := s.faults.strike(c.method, entry.Path, appName, plain)
	s.faults.wait(r.Context(), delays, false)
	c.now = s.cfg.Now() // a request that was held takes effect when it goes on
	c.body = plain
	a := spoil.early(c)
	if a == nil {
		got := s.effect(r, c, isGraph, unzipped)
		a = &got
		if spoil != nil {
			a = spoil.late(c, got)
		}
	}
	if len(delays) > 0 {
		s.faults.wait(r.Context(), delays, true)
	}
	if isGraph && s.cfg.Latency > 0 {
		s.faults.wait(r.Context(), []Fault{{Delay: s.cfg.Latency}}, false)
	}
	s.answer(w, c, entry, *a, spoil)
}

// effect is what the request does when nothing spoils it.
func (s *Server) effect(r *http.Request, c *call, isGraph, unzipped bool) answer {
	if !isGraph {
		a, _ := s.entra(r, c.body, c.now)
		return a
	}
	kind, _, err := mime.ParseMediaType(c.header.Get("Content-Type"))
	if !unzipped || len(c.body) > 0 && (err != nil || kind != "application/json") { // the SDK's trap: plain JSON under the header of a gzip body
		return refuse(&refusal{status: 400, code: "BadRequest",
			message: "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format."})
	}
	route, bad := c.find()
	if bad != nil {
		c.units = 1
		return refuse(bad)
	}
	c.units = cost(route.units, c)
	if over := s.throttle.admit(c, route.writes()); over != nil {
		return *over
	}
	if !c.app.allows(route.any...) {
		return refuse(denied())
	}
	if bad := c.checkOptions(route); bad != nil {
		return refuse(bad)
	}
	c.advanced = strings.EqualFold(c.header.Get("ConsistencyLevel"), "eventual")
	lagging := s.faults.chance(s.cfg.Replication.Share)
	if c.method == http.MethodGet || !route.writes() {
		s.mu.RLock()
		defer s.mu.RUnlock()
	} else {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	c.now = s.cfg.Now() // under the lock: time goes forward with the order of the writes
	c.look(s.cfg.Replication, lagging)
	return route.handle(c)
}

// look chooses the moment that the request's replica has reached. Without a
// lag that is always the newest state, whatever the clock does.
func (c *call) look(r Replication, lagging bool) {
	at := func(lag time.Duration) int64 {
		if !lagging || lag <= 0 {
			return math.MaxInt64
		}
		return c.now.Add(-lag).UnixNano()
	}
	c.view, c.ixView, c.known = at(r.Lag), at(r.IndexLag), at(r.WriteLag)
}

// answer journals the request and puts its answer, or what a fault leaves of
// it, on the wire.
func (s *Server) answer(w http.ResponseWriter, c *call, entry *Entry, a answer, spoil *Fault) {
	if a.status != 0 {
		c.finish(&a)
	}
	entry.Status, entry.Units, entry.Applied, entry.Seq, entry.Changes = a.status, c.units, c.applied, c.seq, c.changes
	if a.refused != nil {
		entry.Code = a.refused.code
	}
	if spoil != nil {
		entry.Fault = spoil.Name
		entry.Broken = spoil.Kind == Drop || spoil.Kind == Break
		if spoil.Kind == Drop {
			entry.Status = 0
		}
	}
	s.journal.add(*entry)
	if !entry.Broken {
		a.write(w)
		return
	}
	if spoil.Kind == Break && len(a.body) > 0 {
		half := a
		whole := len(a.body)
		half.body = a.body[:whole/2]
		half.writePart(w, whole)
	}
	panic(http.ErrAbortHandler) // net/http then breaks the connection or resets the stream
}

// gunzip unpacks a body whose header says gzip. It reports false, with the
// body as it came, when that is not true.
func gunzip(h http.Header, body []byte) ([]byte, bool) {
	if !strings.EqualFold(h.Get("Content-Encoding"), "gzip") {
		return body, true
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body, false
	}
	out, err := io.ReadAll(io.LimitReader(z, maxBodyBytes+1))
	if err != nil || len(out) > maxBodyBytes {
		return body, false
	}
	return out, true
}

func unescape(s string) (string, error) { return url.PathUnescape(s) }

func newID() string { return uuid.NewString() }

// CA returns a pool with the authority that signed the tenant's certificate.
func (s *Server) CA() *x509.CertPool { return s.ca.pool() }

// CAPEM is that authority as PEM.
func (s *Server) CAPEM() []byte { return slices.Clone(s.ca.pem) }
