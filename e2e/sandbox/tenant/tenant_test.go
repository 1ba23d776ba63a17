package tenant_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
)

// A clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A peer is a caller that knows nothing but HTTP.
type peer struct {
	t      *testing.T
	s      *tenant.Server
	client *http.Client
	token  string
	header map[string]string
}

// got is an answer as a test looks at it.
type got struct {
	status int
	header http.Header
	body   string
	err    error
}

func start(t *testing.T, cfg tenant.Config) *tenant.Server {
	t.Helper()
	s, err := tenant.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func as(t *testing.T, s *tenant.Server, app string) *peer {
	t.Helper()
	token, err := s.Token(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	return with(t, s, token)
}

func with(t *testing.T, s *tenant.Server, token string) *peer {
	tr := s.Transport()
	t.Cleanup(tr.CloseIdleConnections)
	return &peer{t: t, s: s, client: &http.Client{Transport: tr}, token: token, header: map[string]string{}}
}

// eventual is the same caller with ConsistencyLevel: eventual.
func (p *peer) eventual() *peer {
	q := *p
	q.header = map[string]string{"ConsistencyLevel": "eventual"}
	return &q
}

func (p *peer) do(method, path, body string) got {
	p.t.Helper()
	return p.send(p.t.Context(), method, path, []byte(body), nil)
}

func (p *peer) send(ctx context.Context, method, path string, body []byte, header map[string]string) got {
	p.t.Helper()
	url := path
	if !strings.HasPrefix(path, "https://") {
		url = p.s.Endpoints().GraphV1 + path
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.ReplaceAll(url, " ", "%20"), bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, m := range []map[string]string{p.header, header} {
		for k, v := range m {
			req.Header.Set(k, v)
		}
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return got{err: err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Header, string(raw), err}
}

// want fails unless the answer has this status and contains these texts.
func (g got) want(t *testing.T, status int, texts ...string) got {
	t.Helper()
	if g.err != nil {
		t.Fatalf("got error %v, want status %d", g.err, status)
	}
	if g.status != status {
		t.Fatalf("got status %d, want %d: %s", g.status, status, g.body)
	}
	for _, s := range texts {
		if !strings.Contains(g.body, s) {
			t.Fatalf("want %s in %s", s, g.body)
		}
	}
	return g
}

// field reads one string out of an answer.
func (g got) field(t *testing.T, name string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(g.body), &m); err != nil {
		t.Fatalf("%v in %s", err, g.body)
	}
	s, _ := m[name].(string)
	return s
}

func newUser(local string) string {
	return `{"@odata.type":"#microsoft.graph.user","accountEnabled":true,"displayName":"` + local + `","mailNickname":"` + local +
		`","userPrincipalName":"` + local + `@rehearsal.example","passwordProfile":{"password":"Xy9!` + "kkkkkkkk" + `","forceChangePasswordNextSignIn":true}}`
}

func (p *peer) create(local string) string {
	p.t.Helper()
	return p.do("POST", "/users", newUser(local)).want(p.t, 201).field(p.t, "id")
}

func seed() tenant.Seed {
	return tenant.Seed{
		Groups: []tenant.SeedGroup{{ID: "11111111-1111-1111-1111-111111111111", DisplayName: "SOC Analysts"},
			{DisplayName: "Everyone"}, {DisplayName: "Nested", MemberOf: []string{"Everyone"}},
			{ID: "22222222-2222-2222-2222-222222222222", DisplayName: "Role holders", RoleAssignable: true},
			{ID: "33333333-3333-3333-3333-333333333333", DisplayName: "By rule", Dynamic: true}},
		Units: []tenant.SeedUnit{{ID: "44444444-4444-4444-4444-444444444444", DisplayName: "Bridge"}},
		Users: []tenant.SeedUser{{ID: "55555555-5555-5555-5555-555555555555", UserPrincipalName: "breakglass@rehearsal.example",
			DisplayName: "Break Glass", Roles: []string{"Global Administrator"}, Groups: []string{"Nested"}}},
		Extensions: []string{"extension_0123456789abcdef0123456789abcdef_owner"},
	}
}

const (
	soc        = "11111111-1111-1111-1111-111111111111"
	roleGroup  = "22222222-2222-2222-2222-222222222222"
	ruleGroup  = "33333333-3333-3333-3333-333333333333"
	unit       = "44444444-4444-4444-4444-444444444444"
	breakGlass = "55555555-5555-5555-5555-555555555555"
	extension  = "extension_0123456789abcdef0123456789abcdef_owner"
)

func TestLifeOfAUser(t *testing.T) {
	c := newClock()
	s := start(t, tenant.Config{Seed: seed(), Now: c.Now})
	p := as(t, s, "bridge")
	g := p.do("POST", "/users", newUser("ada")).want(t, 201, `"userPrincipalName":"ada@rehearsal.example"`, `"businessPhones":[]`, `/v1.0/$metadata#users/$entity"`)
	id := g.field(t, "id")
	if g.header.Get("Request-Id") == "" || g.header.Get("Client-Request-Id") == "" || g.header.Get("X-Ms-Ags-Diagnostic") == "" ||
		g.header.Get("X-Ms-Resource-Unit") != "1" || g.header.Get("Date") != "Sun, 01 Mar 2026 12:00:00 GMT" {
		t.Fatalf("headers: %v", g.header)
	}
	p.do("POST", "/users", newUser("ADA")).want(t, 400, `"code":"Request_BadRequest"`,
		`"message":"Another object with the same value for property userPrincipalName already exists."`,
		`"details":[{"code":"ObjectConflict"`, `"target":"userPrincipalName"`, `"innerError":{"client-request-id":"`)
	c.add(time.Minute)
	p.do("PATCH", "/users/"+id, `{"accountEnabled":false,"employeeId":"E1"}`).want(t, 204)
	p.do("POST", "/users/"+id+"/revokeSignInSessions", "").want(t, 200, `"value":true`)
	p.do("GET", "/users/ada@rehearsal.example?$select=id,accountEnabled,employeeId,signInSessionsValidFromDateTime", "").
		want(t, 200, `"accountEnabled":false`, `"employeeId":"E1"`, `"signInSessionsValidFromDateTime":"2026-03-01T12:01:00Z"`)
	p.do("DELETE", "/users/"+id, "").want(t, 204)
	p.do("GET", "/users/"+id, "").want(t, 404, `"code":"Request_ResourceNotFound"`,
		`Resource '`+id+`' does not exist or one of its queried reference-property objects are not present.`)
	p.do("DELETE", "/users/"+id, "").want(t, 404)
	p.do("GET", "/directory/deletedItems/"+id, "").want(t, 200, strings.ReplaceAll(id, "-", "")+"ada@rehearsal.example")
	p.do("GET", "/directory/deletedItems/graph.user?$select=id", "").want(t, 200, id)
	p.do("POST", "/directory/deletedItems/"+id+"/restore", "").want(t, 200, `"ada@rehearsal.example"`)
	p.do("GET", "/users/"+id, "").want(t, 200)
}
