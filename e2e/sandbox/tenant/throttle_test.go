package tenant_test

import (
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
)

func TestWriteQuota(t *testing.T) {
	c := newClock()
	s := start(t, tenant.Config{Seed: seed(), Now: c.Now, Quotas: tenant.Quotas{Writes: tenant.Quota{N: 10, Per: 10 * time.Second}}})
	p, other := as(t, s, "grant"), as(t, s, "cut")
	for range 8 {
		if g := p.do("PATCH", "/users/"+breakGlass, `{"jobTitle":"x"}`).want(t, 204); g.header.Get("X-Ms-Throttle-Limit-Percentage") != "" {
			t.Fatal("the percentage came too early")
		}
	}
	if g := p.do("PATCH", "/users/"+breakGlass, `{"jobTitle":"x"}`).want(t, 204); g.header.Get("X-Ms-Throttle-Limit-Percentage") != "0.9" {
		t.Fatalf("percentage: %v", g.header)
	}
	p.do("PATCH", "/users/"+breakGlass, `{"jobTitle":"last"}`).want(t, 204)
	g := p.do("PATCH", "/users/"+breakGlass, `{"jobTitle":"late"}`).want(t, 429, `"code":"TooManyRequests"`, `"code":"429"`, `"status":"429"`, `"request-id"`)
	if g.header.Get("Retry-After") != "1" || g.header.Get("X-Ms-Throttle-Information") != "WriteLimitExceeded" ||
		g.header.Get("X-Ms-Throttle-Scope") != "Tenant_Application/Write/"+s.App("grant").ID+"/"+s.Endpoints().Tenant {
		t.Fatalf("headers: %v", g.header)
	}
	if got := s.Snapshot().User("breakglass@rehearsal.example").Properties["jobTitle"]; got != "last" {
		t.Fatalf("a throttled write took effect: %s", got)
	}
	p.do("GET", "/users", "").want(t, 200)                                          // reads are not writes
	other.do("POST", "/users/"+breakGlass+"/revokeSignInSessions", "").want(t, 200) // each app has its own
	c.add(3 * time.Second)
	p.do("PATCH", "/users/"+breakGlass, `{"jobTitle":"y"}`).want(t, 204)
}

func TestUnitQuota(t *testing.T) {
	c := newClock()
	s := start(t, tenant.Config{Seed: seed(), Now: c.Now, Quotas: tenant.Quotas{Units: tenant.Quota{N: 10, Per: 10 * time.Second}}})
	p := as(t, s, "bridge")
	for _, tt := range []struct {
		path  string
		units string
	}{
		{"/users", "2"}, {"/users?$select=id", "1"}, {"/users?$select=id&$top=5", "1"}, {"/groups/" + soc + "/members", "3"},
		{"/users/" + breakGlass + "?$expand=manager", "2"},
	} {
		if g := p.do("GET", tt.path, "").want(t, 200); g.header.Get("X-Ms-Resource-Unit") != tt.units {
			t.Errorf("%s costs %s, want %s", tt.path, g.header.Get("X-Ms-Resource-Unit"), tt.units)
		}
	}
	g := p.do("GET", "/users", "").want(t, 429)
	if g.header.Get("X-Ms-Throttle-Information") != "ResourceUnitLimitExceeded" || !strings.HasPrefix(g.header.Get("X-Ms-Throttle-Scope"), "Tenant_Application/ReadWrite/") {
		t.Fatalf("headers: %v", g.header)
	}
}

func TestDefaultQuotas(t *testing.T) {
	for users, units := range map[int]int{10: 3500, 50: 5000, 500: 5000, 501: 8000} {
		if got := tenant.DefaultQuotas(users).Units.N; got != units {
			t.Errorf("%d users: %d units, want %d", users, got, units)
		}
	}
	if w := tenant.DefaultQuotas(1000).Writes; w.N != 3000 || w.Per != 150*time.Second {
		t.Errorf("writes: %s", w)
	}
}
