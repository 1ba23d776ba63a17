package tenant

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Endpoints are what a client is configured with.
type Endpoints struct {
	Tenant    string // tenant id
	Authority string // authority host, https, with a closing slash
	Graph     string // Graph root without version: scope is Graph + "/.default"
	GraphV1   string // Graph + "/v1.0": the SDK's base URL
	Host      string // 127.0.0.1: the valid host, without port
	Control   string // root of the control API; "" when there is none
}

// Endpoints returns the tenant's addresses.
func (s *Server) Endpoints() Endpoints {
	host, _, _ := strings.Cut(strings.TrimPrefix(s.root, "https://"), ":")
	e := Endpoints{Tenant: s.tenantID, Authority: s.root + "/", Graph: s.root, GraphV1: s.root + "/v1.0", Host: host}
	if s.control != nil {
		e.Control = s.control.root
	}
	return e
}

// Credential is one app registration's way in.
type Credential struct {
	App
	Secret      string
	Certificate []byte // PEM of certificate and PKCS #8 key; nil when the app has none
}

// App returns the credential of the registration with this name; the zero one
// when there is none.
func (s *Server) App(name string) Credential {
	r := s.byName[name]
	if r == nil {
		return Credential{}
	}
	certificate, err := r.certificate(s.cfg.Now())
	if err != nil {
		s.cfg.Log.Error("an app registration is without its certificate", "app", r.ID, "err", err)
	}
	return Credential{App: r.App, Secret: r.Secret, Certificate: slices.Clone(certificate)}
}

// Apps returns all credentials, by name.
func (s *Server) Apps() []Credential {
	var out []Credential
	for _, r := range s.byName {
		out = append(out, s.App(r.Name))
	}
	slices.SortFunc(out, func(a, b Credential) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Transport is a fresh transport that trusts the tenant. The caller closes its
// idle connections.
func (s *Server) Transport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CA(), MinVersion: tls.VersionTLS12, Time: s.cfg.Now},
		ForceAttemptHTTP2: !s.cfg.HTTP1, MaxIdleConnsPerHost: 64}
}

// Token gets a token for Graph with an app's secret, over the wire.
func (s *Server) Token(ctx context.Context, app string) (string, error) {
	r := s.byName[app]
	if r == nil {
		return "", fmt.Errorf("no app registration %q", app)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {r.ID}, "client_secret": {r.Secret}, "scope": {s.root + "/.default"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.root+"/"+s.tenantID+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	t := s.Transport()
	defer t.CloseIdleConnections()
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return "", fmt.Errorf("ask for a token: %w", err)
	}
	defer resp.Body.Close()
	var got struct {
		Token string `json:"access_token"`
		Error string `json:"error_description"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBodyBytes)).Decode(&got); err != nil {
		return "", fmt.Errorf("read the token answer (status %d): %w", resp.StatusCode, err)
	}
	if got.Token == "" {
		return "", fmt.Errorf("no token for %s: %s", app, got.Error)
	}
	return got.Token, nil
}

// AddFaults puts faults in force and returns their names.
func (s *Server) AddFaults(list ...Fault) ([]string, error) { return s.faults.add(list...) }

// RemoveFault ends the fault with this name; "" ends all.
func (s *Server) RemoveFault(name string) { s.faults.remove(name) }

// Faults lists the faults in force and how often each has struck.
func (s *Server) Faults() []Hits { return s.faults.list() }

// Release lets go what the gate holds; later requests are held again.
func (s *Server) Release(gate string) { s.faults.release(gate) }

// WaitHeld returns when the gate holds at least n requests.
func (s *Server) WaitHeld(ctx context.Context, gate string, n int) error {
	return s.faults.waitHeld(ctx, gate, n)
}

// RevokeTokens voids all tokens of an app: 401, with a claims challenge for
// clients that declared CP1. New tokens are good.
func (s *Server) RevokeTokens(app string) error {
	r := s.byName[app]
	if r == nil {
		return fmt.Errorf("no app registration %q", app)
	}
	s.tokens.revoke(r.ID, s.cfg.Now())
	return nil
}

// An Outage is how the whole tenant fails.
type Outage string

// The outages.
const (
	NoOutage    Outage = "none"
	Unavailable Outage = "unavailable" // every request is answered 503
	Refused     Outage = "refused"     // connections are refused, open ones are cut
)

// SetOutage begins or ends an outage.
func (s *Server) SetOutage(o Outage) error {
	switch o {
	case NoOutage, "":
		s.down.Store(false)
		return s.listener.open()
	case Unavailable:
		s.down.Store(true)
		return s.listener.open()
	case Refused:
		s.listener.refuse()
		return nil
	}
	return fmt.Errorf("outage %q: expected none, unavailable or refused", o)
}

// Journal returns the kept entries, oldest first.
func (s *Server) Journal() []Entry { return s.journal.since(0) }

// JournalSince returns the kept entries after the n-th.
func (s *Server) JournalSince(n uint64) []Entry { return s.journal.since(n) }

// Snapshot returns the whole state at the primary, without replication delay.
func (s *Server) Snapshot() Snapshot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.dir.snapshot()
}

// Plant adds groups, units and users to the running tenant, as if they had
// always been there. Its tenant, apps and extensions are not looked at.
func (s *Server) Plant(seed Seed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dir.plant(seed)
}

// CreateGroup makes a group now: lagging replicas do not know it yet.
func (s *Server) CreateGroup(g SeedGroup) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.dir.plantGroup(g)
	if err != nil {
		return "", err
	}
	c.born = s.cfg.Now().UnixNano()
	return c.id, nil
}

// waitFor bounds a control request that waits for a gate.
const waitFor = 30 * time.Second
