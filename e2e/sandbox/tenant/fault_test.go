package tenant_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
)

// Each fault that can come before or after the effect is tried both ways, over
// both versions of HTTP.
func TestFaultsLostAndKept(t *testing.T) {
	broken := func(t *testing.T, g got) {
		t.Helper()
		if g.err == nil {
			t.Fatalf("the answer came: %d %s", g.status, g.body)
		}
	}
	status := func(n int, texts ...string) func(*testing.T, got) {
		return func(t *testing.T, g got) { t.Helper(); g.want(t, n, texts...) }
	}
	for _, tt := range []struct {
		name  string
		fault tenant.Fault
		check func(*testing.T, got)
	}{
		{"500", tenant.Fault{Kind: tenant.Error, Status: 500}, status(500, `"code":"InternalServerError"`, `"innerError"`)},
		{"502", tenant.Fault{Kind: tenant.Error, Status: 502}, status(502, `"code":"BadGateway"`)},
		{"503", tenant.Fault{Kind: tenant.Error}, status(503, `"code":"ServiceUnavailable"`)},
		{"504", tenant.Fault{Kind: tenant.Error, Status: 504}, status(504, `"code":"GatewayTimeout"`)},
		{"dropped", tenant.Fault{Kind: tenant.Drop}, broken},
		{"html", tenant.Fault{Kind: tenant.HTML, Status: 502}, func(t *testing.T, g got) {
			t.Helper()
			if g.want(t, 502, "<html>").header.Get("Content-Type") != "text/html; charset=utf-8" {
				t.Fatal(g.header)
			}
		}},
		{"gateway", tenant.Fault{Kind: tenant.Gateway}, status(503, `{"Message":"Service Unavailable"}`)},
	} {
		for _, applied := range []bool{false, true} {
			for _, http1 := range []bool{false, true} {
				name := tt.name + map[bool]string{false: " lost", true: " kept"}[applied] + map[bool]string{true: " http1", false: ""}[http1]
				t.Run(name, func(t *testing.T) {
					s := start(t, tenant.Config{Seed: seed(), HTTP1: http1})
					p := as(t, s, "bridge")
					f := tt.fault
					f.Name, f.Method, f.Path, f.Applied, f.Count = "it", "^POST$", "^/v1.0/users$", applied, 1
					if _, err := s.AddFaults(f); err != nil {
						t.Fatal(err)
					}
					tt.check(t, p.do("POST", "/users", newUser("ada")))
					if there := s.Snapshot().User("ada@rehearsal.example") != nil; there != applied {
						t.Fatalf("the user exists: %t, want %t", there, applied)
					}
					j := s.Journal()
					last := j[len(j)-1]
					if last.Fault != "it" || last.Applied != applied || last.Broken != (tt.fault.Kind == tenant.Drop) {
						t.Fatalf("journal: %+v", last)
					}
					want := 201
					if applied {
						want = 400
					}
					p.do("POST", "/users", newUser("ada")).want(t, want)
					if h := s.Faults(); len(h) != 1 || h[0].Hit != 1 || h[0].Seen != 2 {
						t.Fatalf("hits: %+v", h)
					}
				})
			}
		}
	}
}

func TestBrokenBodies(t *testing.T) {
	for _, http1 := range []bool{false, true} {
		s := start(t, tenant.Config{Seed: seed(), HTTP1: http1})
		p := as(t, s, "bridge")
		add(t, s, tenant.Fault{Kind: tenant.Break, Method: "POST", Count: 1})
		g := p.do("POST", "/users", newUser("ada"))
		if g.err == nil || g.status != 201 {
			t.Fatalf("http1=%t: got %d, error %v; want 201 and a broken body", http1, g.status, g.err)
		}
		if http1 && !errors.Is(g.err, io.ErrUnexpectedEOF) {
			t.Fatalf("got %v", g.err)
		}
		if s.Snapshot().User("ada@rehearsal.example") == nil {
			t.Fatal("the write did not take effect")
		}
		s.RemoveFault("")
		add(t, s, tenant.Fault{Kind: tenant.Break, Method: "PATCH", Count: 1}) // no body to break inside of
		if g := p.do("PATCH", "/users/ada@rehearsal.example", `{"jobTitle":"x"}`); g.err == nil {
			t.Fatalf("got %d", g.status)
		}
		if s.Snapshot().User("ada@rehearsal.example").Properties["jobTitle"] != "x" {
			t.Fatal("the write did not take effect")
		}
		add(t, s, tenant.Fault{Kind: tenant.Garbage, Method: "GET", Count: 1})
		if g := p.do("GET", "/users", "").want(t, 200); g.body != `{"@odata.context":"` {
			t.Fatalf("body: %s", g.body)
		}
	}
}

func TestIgnore(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	id := p.create("ada")
	add(t, s, tenant.Fault{Kind: tenant.Ignore, Method: "PATCH", Body: `"accountEnabled":\s*false`}, tenant.Fault{Kind: tenant.Ignore, Path: "revokeSignInSessions"})
	p.do("PATCH", "/users/"+id, `{"accountEnabled":false}`).want(t, 204)
	p.do("POST", "/users/"+id+"/revokeSignInSessions", "").want(t, 200, `"value":true`)
	p.do("PATCH", "/users/"+id, `{"jobTitle":"x"}`).want(t, 204)
	u := s.Snapshot().User("ada@rehearsal.example")
	if !u.Enabled || u.SessionsRevoked || u.Properties["jobTitle"] != "x" {
		t.Fatalf("state: %+v", u)
	}
}

func TestMiddleboxes(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	id := p.create("ada")
	for _, f := range []tenant.Fault{{Kind: tenant.Empty}, {Kind: tenant.HTML, Status: 200}, {Kind: tenant.Gateway, Status: 200}} {
		f.Count = 1
		add(t, s, f)
		if g := p.do("PATCH", "/users/"+id, `{"accountEnabled":false}`).want(t, 200); (g.body == "") != (f.Kind == tenant.Empty) {
			t.Errorf("%s: body %q", f.Kind, g.body)
		}
	}
	if !s.Snapshot().User("ada@rehearsal.example").Enabled {
		t.Error("a request that did not arrive took effect")
	}
	if _, err := s.AddFaults(tenant.Fault{Kind: tenant.Error, Status: 200}); err == nil {
		t.Error("an error of status 200 was taken")
	}
}

// The token endpoint throttles too.
func TestThrottledTokens(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	add(t, s, tenant.Fault{Kind: tenant.Throttle, Path: "/oauth2/", Count: 1})
	if _, err := s.Token(t.Context(), "bridge"); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("error %v, want one that says why", err)
	}
	if _, err := s.Token(t.Context(), "bridge"); err != nil {
		t.Error(err)
	}
}

func TestThrottleStorm(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	add(t, s, tenant.Fault{Kind: tenant.Throttle, Count: 2, RetryAfter: 7 * time.Second}, tenant.Fault{Kind: tenant.Throttle, Count: 1, RetryAfter: -1},
		tenant.Fault{Kind: tenant.Error, Count: 1, RetryAfter: 3 * time.Second})
	for _, want := range []struct {
		status int
		after  string
	}{{429, "7"}, {429, "7"}, {429, ""}, {503, "3"}, {200, ""}} {
		if g := p.do("GET", "/users", "").want(t, want.status); g.header.Get("Retry-After") != want.after {
			t.Fatalf("Retry-After %q, want %q", g.header.Get("Retry-After"), want.after)
		}
	}
}

func TestUnauthorizedFault(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	add(t, s, tenant.Fault{Kind: tenant.Unauthorized, Count: 1, Claims: true}, tenant.Fault{Kind: tenant.Unauthorized, Count: 1})
	if g := p.do("GET", "/users", "").want(t, 401); g.header.Get("WWW-Authenticate") == "" {
		t.Fatal("no challenge")
	}
	if g := p.do("GET", "/users", "").want(t, 401); g.header.Get("WWW-Authenticate") != "" {
		t.Fatal("a challenge")
	}
}

func TestFaultSelection(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed(), FaultSeed: 3})
	p, reader := as(t, s, "bridge"), as(t, s, "reader")
	add(t, s, tenant.Fault{Name: "mine", Kind: tenant.Error, App: "reader", Path: `/users\?`, Skip: 1, Count: 1})
	for i, want := range []int{200, 503, 200} {
		p.do("GET", "/users?$top=1", "").want(t, 200)
		reader.do("GET", "/organization", "").want(t, 200)
		if g := reader.do("GET", "/users?$top=1", ""); g.status != want {
			t.Fatalf("request %d: got %d, want %d", i, g.status, want)
		}
	}
	s.RemoveFault("mine")
	add(t, s, tenant.Fault{Kind: tenant.Error, Probability: 0.3})
	hit := 0
	for range 100 {
		if p.do("GET", "/organization", "").status == 503 {
			hit++
		}
	}
	if hit < 10 || hit > 60 {
		t.Fatalf("%d of 100 hit with probability 0.3", hit)
	}
	add(t, s, tenant.Fault{Kind: tenant.Error, Path: "/oauth2/v2.0/token$", Count: 1})
	if _, err := s.Token(t.Context(), "cut"); err == nil {
		t.Fatal("the token endpoint answered")
	}
	for _, bad := range []tenant.Fault{{}, {Kind: "x"}, {Kind: tenant.Delay}, {Kind: tenant.Error, Path: "("}, {Kind: tenant.Error, Status: 200},
		{Kind: tenant.Error, Probability: 2}, {Kind: tenant.Ignore, Applied: true}} {
		if _, err := s.AddFaults(bad); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}

func TestGates(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	id := p.create("ada")
	add(t, s, tenant.Fault{Kind: tenant.Delay, Method: "PATCH", Body: "before", Gate: "before"},
		tenant.Fault{Kind: tenant.Delay, Method: "PATCH", Body: "after", Gate: "after", Applied: true})
	for _, gate := range []string{"before", "after"} {
		s.Release(gate) // with nobody there: later requests are held all the same
		done := make(chan got)
		go func() { done <- p.do("PATCH", "/users/"+id, `{"jobTitle":"`+gate+`"}`) }()
		if err := s.WaitHeld(t.Context(), gate, 1); err != nil {
			t.Fatal(err)
		}
		now := s.Snapshot().User("ada@rehearsal.example").Properties["jobTitle"]
		if (now == gate) != (gate == "after") {
			t.Fatalf("held at %s, the title is %q", gate, now)
		}
		s.Release(gate)
		(<-done).want(t, 204)
		if now := s.Snapshot().User("ada@rehearsal.example").Properties["jobTitle"]; now != gate {
			t.Fatalf("the title is %q", now)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := s.WaitHeld(ctx, "nothing", 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// Closing lets go what a gate still holds.
func TestCloseWithRequestsHeld(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	add(t, s, tenant.Fault{Kind: tenant.Delay, Gate: "g"})
	done := make(chan got)
	go func() { done <- p.do("GET", "/users", "") }()
	if err := s.WaitHeld(t.Context(), "g", 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if g := <-done; g.err == nil {
		t.Fatalf("got %d", g.status)
	}
}

func TestOutage(t *testing.T) {
	for _, http1 := range []bool{false, true} {
		s := start(t, tenant.Config{Seed: seed(), HTTP1: http1})
		p := as(t, s, "bridge")
		outage := func(o tenant.Outage) {
			t.Helper()
			if err := s.SetOutage(o); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			outage(tenant.Unavailable)
			p.do("POST", "/users", newUser("ada")).want(t, 503)
			if _, err := s.Token(t.Context(), "bridge"); err == nil {
				t.Fatal("the token endpoint answered")
			}
			outage(tenant.NoOutage)
			p.do("GET", "/users", "").want(t, 200)
			outage(tenant.Refused)
			// The first request may still find its old connection cut; a new
			// one is refused.
			p.do("GET", "/users", "")
			if g := p.do("GET", "/users", ""); !errors.Is(g.err, syscall.ECONNREFUSED) {
				t.Fatalf("got %d, %v; want the connection refused", g.status, g.err)
			}
			outage(tenant.NoOutage)
			p.do("GET", "/users", "").want(t, 200)
		}
		if err := s.SetOutage("flood"); err == nil {
			t.Fatal("accepted an unknown outage")
		}
		outage(tenant.Refused) // closing in an outage must not hang
	}
}

func add(t *testing.T, s *tenant.Server, faults ...tenant.Fault) {
	t.Helper()
	if _, err := s.AddFaults(faults...); err != nil {
		t.Fatal(err)
	}
}
