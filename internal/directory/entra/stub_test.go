package entra

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/outbound"
)

const (
	tenantID = "11111111-2222-3333-4444-555555555555"
	clientID = "99999999-8888-7777-6666-555555555555"
	userID   = "aaaaaaaa-0000-0000-0000-000000000001"
	bossID   = "aaaaaaaa-0000-0000-0000-000000000002"
	groupID  = "bbbbbbbb-0000-0000-0000-000000000001"
	secret   = "the-client-secret"
	userUPN  = "pat.doe@agency.example"
)

// seen is one request as it arrived at Graph.
type seen struct {
	line   string // method and path, with the query decoded
	header http.Header
	body   string
}

// stub is a server with a token endpoint and, for everything else, answer.
type stub struct {
	*httptest.Server
	caFile string

	mu     sync.Mutex
	answer http.HandlerFunc                         // of Graph; called with the lock not held
	token  func(n int) (status int, body, h string) // overrides the nth token answer; h is a Retry-After
	tokens int                                      // token requests so far
	graph  []seen
}

func newStub(t *testing.T, answer http.HandlerFunc) *stub {
	t.Helper()
	s := &stub{answer: answer}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	s.caFile = filepath.Join(t.TempDir(), "ca.pem")
	write(t, s.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return s
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *stub) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"token_endpoint":"%[1]s/%[2]s/oauth2/v2.0/token","authorization_endpoint":"%[1]s/%[2]s/oauth2/v2.0/authorize","issuer":"%[1]s/%[2]s/v2.0"}`, s.URL, tenantID)
	case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token"):
		s.mu.Lock()
		s.tokens++
		n, override := s.tokens, s.token
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if override != nil {
			if status, body, after := override(n); status != 0 {
				if after != "" {
					w.Header().Set("Retry-After", after)
				}
				w.WriteHeader(status)
				io.WriteString(w, body)
				return
			}
		}
		fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"token-%d"}`, n)
	default:
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		line := r.Method + " " + r.URL.Path
		if q := r.URL.Query(); len(q) > 0 {
			for _, k := range []string{"$filter", "$select", "$count", "$top"} {
				if q.Has(k) {
					line += " " + k + "=" + q.Get(k)
				}
			}
			if q.Has("page") {
				line += " page=" + q.Get("page")
			}
		}
		s.mu.Lock()
		s.graph = append(s.graph, seen{line, r.Header.Clone(), string(body)})
		answer := s.answer
		s.mu.Unlock()
		w.Header().Set("Request-Id", fmt.Sprintf("srv-%d", s.count()))
		answer(w, r)
	}
}

func (s *stub) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.graph)
}

func (s *stub) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.graph...)
}

func (s *stub) tokenRequests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens
}

func (s *stub) config(t *testing.T) Config {
	t.Helper()
	c, err := cloud.Config{Name: cloud.Custom, Authority: s.URL, GraphRoot: s.URL + "/v1.0"}.Cloud()
	if err != nil {
		t.Fatal(err)
	}
	way, err := outbound.New(outbound.Config{CAFile: s.caFile, Proxy: "none"})
	if err != nil {
		t.Fatal(err)
	}
	tr := way.Transport()
	t.Cleanup(tr.CloseIdleConnections)
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, []byte(secret+"\n"))
	return Config{
		Cloud: c, Transport: tr,
		Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret, Tenant: tenantID, Client: clientID, SecretFile: file},
	}
}

func (s *stub) tenant(t *testing.T) *Tenant { return open(t, s.config(t)) }

func open(t *testing.T, cfg Config) *Tenant {
	t.Helper()
	tenant, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tenant
}

// says answers every request alike.
func says(status int, contentType, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

const jsonType = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"

// refuses answers as Graph does when it refuses.
func refuses(status int, code, message, details string, headers ...string) http.HandlerFunc {
	if details == "" {
		details = "[]"
	}
	m, _ := json.Marshal(message)
	return says(status, "application/json", fmt.Sprintf(
		`{"error":{"code":%q,"message":%s,"details":%s,"innerError":{"date":"2026-11-23T00:00:00","request-id":"r","client-request-id":"c"}}}`,
		code, m, details), headers...)
}

// operations is every method, called with plain arguments.
var operations = map[string]func(context.Context, *Tenant) (directory.Receipt, error){
	"get": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		_, r, err := t.Get(ctx, userID)
		return r, err
	},
	"get-by-upn": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		_, r, err := t.GetByUPN(ctx, userUPN)
		return r, err
	},
	"find-by-mark": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		_, r, err := t.FindByMark(ctx, "jmlbridge:0123456789ab:pat.doe")
		return r, err
	},
	"find-by-employee-id": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		_, r, err := t.FindByEmployeeID(ctx, "E-pat.doe")
		return r, err
	},
	"groups": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		_, r, err := t.Groups(ctx, userID)
		return r, err
	},
	"group": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		_, r, err := t.Group(ctx, groupID)
		return r, err
	},
	"members": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		_, _, r, err := t.Members(ctx, groupID, "")
		return r, err
	},
	"manager": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		_, r, err := t.Manager(ctx, userID)
		return r, err
	},
	"disable": func(ctx context.Context, t *Tenant) (directory.Receipt, error) { return t.Disable(ctx, userID) },
	"revoke-sessions": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		return t.RevokeSessions(ctx, userID)
	},
	"remove-member": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		return t.RemoveMember(ctx, groupID, userID)
	},
	"delete": func(ctx context.Context, t *Tenant) (directory.Receipt, error) { return t.Delete(ctx, userID) },
	"create": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		_, r, err := t.Create(ctx, newcomer)
		return r, err
	},
	"update": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		return t.Update(ctx, userID, directory.Attributes{}, newcomer.Attributes)
	},
	"enable": func(ctx context.Context, t *Tenant) (directory.Receipt, error) { return t.Enable(ctx, userID) },
	"add-member": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		return t.AddMember(ctx, groupID, userID)
	},
	"set-manager": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		return t.SetManager(ctx, userID, bossID)
	},
	"clear-manager": func(ctx context.Context, t *Tenant) (directory.Receipt, error) {
		return t.ClearManager(ctx, userID)
	},
}

var newcomer = directory.NewAccount{
	Mark: "jmlbridge:0123456789ab:pat.doe", UPN: userUPN, MailNickname: "pat.doe", Enabled: true,
	Attributes: directory.Attributes{
		DisplayName: "Pat Doe", GivenName: "Pat", Surname: "Doe", EmployeeID: "E-pat.doe", EmployeeType: "Employee",
		JobTitle: "Analyst", Department: "SOC", Company: "MSSP", Division: "Defense", CostCenter: "4711", UsageLocation: "US",
	},
}

// capture is a logger at level debug and what it wrote.
func capture() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})), &b
}

func root(t *testing.T, c Config) *url.URL {
	t.Helper()
	u, err := url.Parse(c.Cloud.GraphRoot)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
