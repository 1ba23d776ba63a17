// Package standin is a key store that speaks the part of the documented Key Vault REST interface which the bridge
// uses, over TLS on loopback, for tests and rehearsals: the 401 challenge, GET of a key, sign, verify, encrypt,
// decrypt, wrapkey, unwrapkey, and the list of keys. It checks tokens by the keys that a rehearsal tenant
// publishes, permissions by application and what each key is for, and can fail in the ways that [Fault] names.
//
// What it is not: hardware (a key that calls itself EC-HSM lies in this process's memory), durable (keys are new
// each time, unless they are given), a judge of roles in Azure's own form, or an oracle of how the real service
// words its errors: codes are the documented ones, texts are like those that were seen. It has no soft delete,
// no rotation, no backup, no import, no attestation, no symmetric keys, and answers whatever api-version is asked.
// Managed HSM differs from Key Vault by its address and resource only.
//
// Nothing of the product imports it.
package standin

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxBody = 64 << 10 // octets of a request
	window  = 10 * time.Second
)

// Permissions of an application, as an access policy names them.
const (
	Get       = "get"
	List      = "list"
	Sign      = "sign"
	Verify    = "verify"
	Encrypt   = "encrypt"
	Decrypt   = "decrypt"
	WrapKey   = "wrapKey"
	UnwrapKey = "unwrapKey"
)

// Config is a key store to be.
type Config struct {
	Listen string // address, loopback only; "" means 127.0.0.1:0

	Authority string         // base URL of the token endpoint, e.g. https://127.0.0.1:8443/
	Tenant    string         // its tenant
	Roots     *x509.CertPool // by which the authority's certificate is verified
	Resource  string         // for which tokens must be made; "" means https:// and our own address

	Keys   []Key
	Access map[string][]string // permissions by application id

	Latency time.Duration // from the request to its answer, however many are under way
	Quota   int           // transactions in 10 s; 0 means no limit

	Log *slog.Logger // nil means silence
}

// Key is a key to be made.
type Key struct {
	Name       string        `json:"name" yaml:"name"`
	Type       string        `json:"kty" yaml:"kty"`               // EC, EC-HSM, RSA, RSA-HSM
	Curve      string        `json:"crv" yaml:"crv"`               // of an EC key: P-256 (default), P-384
	Size       int           `json:"size" yaml:"size"`             // of an RSA key: bits; default 3072
	Ops        []string      `json:"key_ops" yaml:"key_ops"`       // what it may do; default: all that its type can
	Disabled   bool          `json:"disabled" yaml:"disabled"`     // attributes.enabled is false
	Exportable bool          `json:"exportable" yaml:"exportable"` // attributes.exportable is true
	NotBefore  time.Time     `json:"-" yaml:"-"`
	Expires    time.Time     `json:"-" yaml:"-"`
	Private    crypto.Signer `json:"-" yaml:"-"` // nil: a new one
}

// Server is a key store that is running. Its methods may be called from any goroutine.
type Server struct {
	cfg      Config
	root     string
	ca       *authority
	tokens   *tokens
	quota    *rate.Limiter // nil: no limit
	faults   faults
	http     *http.Server
	served   chan error
	now      func() time.Time
	inFlight atomic.Int64

	mu    sync.Mutex // guards what follows; never held while a key works
	keys  map[string][]*stored
	stats Stats
}

// Stats counts what was asked.
type Stats struct {
	Operations map[string]int // requests with a good token, by operation
	Unasked    int            // requests without a token, which got a challenge
	Throttled  int
	Parallel   int // most requests that were under way at once
}

// Start serves cfg until ctx ends or Close is called.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(cfg.Listen)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("listen address %q is not on loopback: use 127.0.0.1 or [::1]", cfg.Listen)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if !strings.HasSuffix(cfg.Authority, "/") || cfg.Tenant == "" {
		return nil, errors.New("want an authority that ends in a slash, and a tenant")
	}
	s := &Server{cfg: cfg, keys: map[string][]*stored{}, served: make(chan error, 1), now: time.Now}
	s.stats.Operations = map[string]int{}
	if cfg.Quota > 0 {
		s.quota = rate.NewLimiter(rate.Limit(float64(cfg.Quota)/window.Seconds()), cfg.Quota)
	}
	for _, k := range cfg.Keys {
		if _, err := s.AddKey(k); err != nil {
			return nil, err
		}
	}
	if s.ca, err = newAuthority(s.now()); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, err
	}
	s.root = "https://" + l.Addr().String()
	if s.cfg.Resource == "" {
		s.cfg.Resource = s.root
	}
	s.tokens = newTokens(s.cfg)
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.ca.leaf}, MinVersion: tls.VersionTLS12},
	}
	go func() { s.served <- s.http.ServeTLS(l, "", "") }()
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return s, nil
}

// Close ends the store; requests under way are cut off. It may be called twice.
func (s *Server) Close() error {
	s.http.Close()
	err := <-s.served
	s.served <- http.ErrServerClosed
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// URL is the store's address, without a slash at its end.
func (s *Server) URL() string { return s.root }

// Host is the store's host and port: what a custom cloud names as its key_store.
func (s *Server) Host() string { return strings.TrimPrefix(s.root, "https://") }

// Resource is that for which tokens must be made.
func (s *Server) Resource() string { return s.cfg.Resource }

// CAPEM is the authority that signed the store's certificate.
func (s *Server) CAPEM() []byte { return slices.Clone(s.ca.pem) }

// AddKey makes a key, or a new version of one, and returns the version.
func (s *Server) AddKey(k Key) (version string, err error) {
	made, err := makeKey(k, s.now())
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[strings.ToLower(k.Name)] = append(s.keys[strings.ToLower(k.Name)], made)
	return made.version, nil
}

// Version is the newest version of a key; "" if there is none.
func (s *Server) Version(name string) string {
	if k := s.find(name, ""); k != nil {
		return k.version
	}
	return ""
}

// Public is the public half of the newest version of a key.
func (s *Server) Public(name string) crypto.PublicKey { return s.find(name, "").private.Public() }

// Enable sets whether a key may be used at all.
func (s *Server) Enable(name string, enabled bool) {
	k := s.find(name, "")
	s.mu.Lock()
	defer s.mu.Unlock()
	k.Disabled = !enabled
}

// Allow sets an application's permissions.
func (s *Server) Allow(app string, permissions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	access := map[string][]string{}
	for a, p := range s.cfg.Access {
		access[a] = p
	}
	access[app] = permissions
	s.cfg.Access = access
}

// Stats is what was asked so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.stats
	c.Operations = map[string]int{}
	for k, v := range s.stats.Operations {
		c.Operations[k] = v
	}
	return c
}

// find returns a version of a key, the newest if version is empty.
func (s *Server) find(name, version string) *stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := s.keys[strings.ToLower(name)]
	for _, k := range slices.Backward(versions) {
		if version == "" || k.version == version {
			return k
		}
	}
	return nil
}

func (s *Server) may(app, permission string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.cfg.Access[app], permission)
}
