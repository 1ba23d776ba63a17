package entra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"jmlbridge/internal/directory"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/outbound/proxytest"
)

// clock is a hand-driven clock.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// TestRevokedToken: a token that Graph refuses is asked for anew by the next call, and refusals without
// end do not flood the authority.
func TestRevokedToken(t *testing.T) {
	var mu sync.Mutex
	revoked := map[string]bool{}
	s := newStub(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		bad := revoked[r.Header.Get("Authorization")]
		mu.Unlock()
		if bad {
			refuses(401, "InvalidAuthenticationToken", "Access token has been revoked.", "")(w, r)
			return
		}
		w.WriteHeader(204)
	})
	c := &clock{at: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}
	cfg := s.config(t)
	cfg.Now = c.now
	tenant := open(t, cfg)
	disable := func() error { _, err := tenant.Disable(t.Context(), userID); return err }
	for range 3 {
		if err := disable(); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.tokenRequests(); n != 1 {
		t.Fatalf("%d tokens for three calls", n)
	}

	mu.Lock()
	revoked["Bearer token-1"] = true
	mu.Unlock()
	// Many calls see it at once; the credential is dropped once.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := disable(); err != nil && !errors.Is(err, directory.ErrDenied) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := disable(); err != nil {
		t.Fatalf("after the token was dropped: %v", err)
	}
	tokens := s.tokenRequests()
	if tokens < 2 {
		t.Fatal("no new token was asked for")
	}

	// Now every token is refused.
	mu.Lock()
	for n := range 100 {
		revoked[fmt.Sprintf("Bearer token-%d", n)] = true
	}
	mu.Unlock()
	for range 5 {
		wantKinds(t, "refused", disable(), directory.CodeToken, directory.ErrDenied)
	}
	if n := s.tokenRequests(); n != tokens {
		t.Errorf("%d more tokens within %s", n-tokens, dropInterval)
	}
	c.pass(dropInterval)
	for range 5 {
		wantKinds(t, "refused", disable(), directory.CodeToken, directory.ErrDenied)
	}
	if n := s.tokenRequests(); n != tokens+1 {
		t.Errorf("%d more tokens, expected one every %s", n-tokens, dropInterval)
	}
}

func TestTokenRequestsFail(t *testing.T) {
	aadsts := `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided for pat.doe. Trace ID: x","error_codes":[7000215]}`
	for _, tt := range []struct {
		name             string
		status           int
		body, retryAfter string
		requests         int
		code, reason     string
		kinds            []error
	}{
		{"wrong secret", 401, aadsts, "", 1, directory.CodeCredential, "AADSTS7000215", []error{directory.ErrDenied, directory.ErrUnsent}},
		{"no such tenant", 400, `{"error":"invalid_request","error_description":"AADSTS90002: Tenant not found."}`, "", 1,
			directory.CodeCredential, "AADSTS90002", []error{directory.ErrDenied, directory.ErrUnsent}},
		{"authority down", 503, `<html>pat.doe</html>`, "1", 3, directory.CodeNoToken, "", []error{directory.ErrAmbiguous, directory.ErrUnsent}},
		{"no token inside", 200, `{}`, "", 1, directory.CodeNoToken, "", []error{directory.ErrAmbiguous, directory.ErrUnsent}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // the retries of the authority's outage take real seconds
			s := newStub(t, says(204, "", ""))
			s.token = func(int) (int, string, string) { return tt.status, tt.body, tt.retryAfter }
			receipt, err := s.tenant(t).Disable(t.Context(), userID)
			e := wantKinds(t, tt.name, err, tt.code, tt.kinds...)
			if e.Reason != tt.reason {
				t.Errorf("reason %q", e.Reason)
			}
			if n := s.tokenRequests(); n != tt.requests {
				t.Errorf("%d token requests, expected %d", n, tt.requests)
			}
			if s.count() != 0 || len(receipt.Requests) != 0 {
				t.Errorf("Graph was asked without a token")
			}
			impersonal(t, err.Error())
		})
	}
}

// TestRenewedSecret: a credential that the authority refused is read again from its file.
func TestRenewedSecret(t *testing.T) {
	s := newStub(t, says(204, "", ""))
	s.token = func(n int) (int, string, string) {
		if n == 1 {
			return 401, `{"error":"invalid_client","error_description":"AADSTS7000222: expired"}`, ""
		}
		return 0, "", ""
	}
	cfg := s.config(t)
	tenant := open(t, cfg)
	_, err := tenant.Disable(t.Context(), userID)
	wantKinds(t, "expired", err, directory.CodeCredential, directory.ErrDenied, directory.ErrUnsent)
	if err := os.Remove(cfg.Credential.SecretFile); err != nil {
		t.Fatal(err)
	}
	_, err = tenant.Disable(t.Context(), userID)
	wantKinds(t, "file away", err, directory.CodeCredential, directory.ErrDenied, directory.ErrUnsent)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	write(t, cfg.Credential.SecretFile, []byte("another"))
	if _, err := tenant.Disable(t.Context(), userID); err != nil {
		t.Error(err)
	}
}

func TestProxy(t *testing.T) {
	p := proxytest.New(t, "bridge:s3cret:with colon")
	s := newStub(t, says(204, "", ""))
	file := filepath.Join(t.TempDir(), "proxy")
	through := func(t *testing.T, credentials string) *Tenant {
		t.Helper()
		write(t, file, []byte(credentials+"\n"))
		way, err := outbound.New(outbound.Config{CAFile: s.caFile, Proxy: p.URL(), ProxyCredentials: file})
		if err != nil {
			t.Fatal(err)
		}
		tr := way.Transport()
		t.Cleanup(tr.CloseIdleConnections)
		cfg := s.config(t)
		cfg.Transport = tr
		return open(t, cfg)
	}
	if _, err := through(t, "bridge:s3cret:with colon").Disable(t.Context(), userID); err != nil {
		t.Fatal(err)
	}
	if len(p.Asked()) == 0 || s.tokenRequests() != 1 || s.count() != 1 {
		t.Errorf("%v connects, %d tokens, %d requests", p.Asked(), s.tokenRequests(), s.count())
	}
	for _, host := range p.Asked() {
		if host != strings.TrimPrefix(s.URL, "https://") {
			t.Errorf("connected to %s", host)
		}
	}
	_, err := through(t, "bridge:wrong").Disable(t.Context(), userID)
	wantKinds(t, "wrong password", err, directory.CodeNoToken, directory.ErrAmbiguous, directory.ErrUnsent)
	if strings.Contains(err.Error(), "wrong") || s.count() != 1 {
		t.Errorf("%v", err)
	}
}

// TestAnotherCloudsHost: where the hosts disagree the SDK would send no token and no error; here nothing
// leaves.
func TestAnotherCloudsHost(t *testing.T) {
	s := newStub(t, says(204, "", ""))
	tenant := s.tenant(t)
	r := &recorder{next: http.DefaultTransport, root: root(t, s.config(t)), now: time.Now, log: tenant.log}
	c := &call{op: "disable"}
	req, _ := http.NewRequestWithContext(context.WithValue(t.Context(), callKey{}, c), "PATCH", s.URL+"/v1.0/users/x", strings.NewReader("{}"))
	if _, err := r.RoundTrip(req); !errors.Is(err, errNoToken) {
		t.Errorf("%v", err)
	}
	if _, err := r.RoundTrip(req.WithContext(t.Context())); !errors.Is(err, errNoCall) {
		t.Errorf("%v", err)
	}
	if s.count() != 0 {
		t.Error("a request without a token left")
	}
}
