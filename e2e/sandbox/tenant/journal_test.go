package tenant_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"jmlbridge/e2e/sandbox/tenant"
)

// A sink collects the journal's lines.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.b.Write(p) }

func (s *sink) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func TestJournal(t *testing.T) {
	var out sink
	s := start(t, tenant.Config{Seed: seed(), Journal: &out})
	p := as(t, s, "bridge")
	p.header["client-request-id"] = "my-id"
	id := p.create("ada")
	g := p.do("PATCH", "/users/"+id, `{"accountEnabled":false}`).want(t, 204)
	p.do("POST", "/groups/"+soc+"/members/$ref", ref(s, id)).want(t, 204)
	p.do("POST", "/groups/"+soc+"/members/$ref", ref(s, id)).want(t, 400)
	p.do("GET", "/users?$select=id", "").want(t, 200)
	if g.header.Get("Client-Request-Id") != "my-id" {
		t.Fatalf("echo: %v", g.header)
	}
	j := s.Journal()
	if len(j) != 6 { // the token, and five of ours
		t.Fatalf("%d entries", len(j))
	}
	create, patch, add, again, list := j[1], j[2], j[3], j[4], j[5]
	if create.Status != 201 || !create.Applied || create.Changes[0].Op != "create" || create.Changes[0].Set["passwordProfile"] != "set" {
		t.Errorf("create: %+v", create)
	}
	if patch.App != "bridge" || patch.ClientRequestID != "my-id" || patch.RequestID != g.header.Get("Request-Id") || patch.Seq <= create.Seq ||
		patch.Changes[0].Set["accountEnabled"] != false || patch.Changes[0].Name != "ada@rehearsal.example" {
		t.Errorf("patch: %+v", patch)
	}
	if add.Changes[0].Op != "add-member" || add.Changes[0].TargetName != "SOC Analysts" || add.Changes[0].Target != soc {
		t.Errorf("add: %+v", add)
	}
	if again.Applied || again.Status != 400 || again.Code != "Request_BadRequest" || len(again.Changes) != 0 {
		t.Errorf("again: %+v", again)
	}
	if list.Path != "/v1.0/users?$select=id" && list.Path != "/v1.0/users?%24select=id" || list.Units != 1 {
		t.Errorf("list: %+v", list)
	}
	if since := s.JournalSince(patch.N); len(since) != 3 {
		t.Errorf("%d entries since the patch", len(since))
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != len(j) {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines {
		var e tenant.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.N != j[i].N || e.Status != j[i].Status {
			t.Errorf("line %d: %s", i, line)
		}
	}
	for _, secret := range []string{p.token, s.App("bridge").Secret, "Xy9!"} {
		if strings.Contains(out.String(), secret) {
			t.Error("the journal holds a secret")
		}
	}
	// Two ids are the caller's mistake, and show.
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.Endpoints().GraphV1+"/users", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Client-Request-Id"] = []string{"one", "two"}
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	j = s.Journal()
	if got := j[len(j)-1].ClientRequestID; got != "one, two" {
		t.Errorf("client-request-id %q", got)
	}
}

func TestJournalKeepsTheNewest(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed(), JournalKeep: 5})
	p := as(t, s, "reader")
	for range 30 {
		p.do("GET", "/organization", "").want(t, 200)
	}
	if j := s.Journal(); len(j) != 5 || j[4].N != 31 {
		t.Fatalf("%d entries, %+v", len(j), j)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestJournalFailureIsTold(t *testing.T) {
	s, err := tenant.Start(t.Context(), tenant.Config{Journal: fullDisk{}})
	if err != nil {
		t.Fatal(err)
	}
	as(t, s, "reader")
	for range 2 {
		if err := s.Close(); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Fatalf("got %v", err)
		}
	}
}

// Two tenants that went different ways to the same end compare equal.
func TestComparable(t *testing.T) {
	var ends []string
	for _, detour := range []bool{false, true} {
		s := start(t, tenant.Config{Seed: seed()})
		p := as(t, s, "bridge")
		if detour {
			id := p.create("temp")
			p.do("DELETE", "/users/"+id, "").want(t, 204)
			p.do("DELETE", "/directory/deletedItems/"+id, "").want(t, 204)
		}
		id := p.create("ada")
		p.do("POST", "/groups/"+soc+"/members/$ref", ref(s, id)).want(t, 204)
		p.do("PUT", "/users/"+id+"/manager/$ref", ref(s, breakGlass)).want(t, 204)
		if detour {
			p.do("DELETE", "/groups/"+soc+"/members/"+id+"/$ref", "").want(t, 204)
			p.do("POST", "/groups/"+soc+"/members/$ref", ref(s, id)).want(t, 204)
		}
		p.do("POST", "/users/"+id+"/revokeSignInSessions", "").want(t, 200)
		ends = append(ends, s.Snapshot().Comparable())
		if u := s.Snapshot().User("ADA@rehearsal.example"); u.Manager != "breakglass@rehearsal.example" || !u.SessionsRevoked {
			t.Fatalf("state: %+v", u)
		}
		p.do("PATCH", "/users/"+id, `{"accountEnabled":false}`).want(t, 204)
		if s.Snapshot().Comparable() == ends[len(ends)-1] {
			t.Fatal("a disable makes no difference")
		}
	}
	if ends[0] != ends[1] {
		t.Fatalf("different:\n%s\n%s", ends[0], ends[1])
	}
}

// Many callers at once, for the race detector, with an invariant at the end:
// every user name was given once.
func TestManyAtOnce(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed(), Quotas: tenant.DefaultQuotas(10), Replication: tenant.Replication{Share: 0.5}})
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			p := as(t, s, "bridge")
			for i := range 10 {
				g := p.do("POST", "/users", newUser(fmt.Sprintf("u%d", (n+i)%10)))
				if g.status != 201 && g.status != 400 {
					t.Errorf("got %d %v", g.status, g.err)
					return
				}
				p.do("GET", "/users", "").want(t, 200)
				p.do("PATCH", fmt.Sprintf("/users/u%d@rehearsal.example", i), fmt.Sprintf(`{"employeeId":"E%d"}`, n))
				p.do("POST", "/groups/"+soc+"/members/$ref", `{"@odata.id":"`+s.Endpoints().GraphV1+fmt.Sprintf(`/users/u%d@rehearsal.example"}`, i))
				s.Snapshot()
				s.Journal()
			}
		})
	}
	wg.Wait()
	created := 0
	for _, e := range s.Journal() {
		if e.Status == 201 {
			created++
		}
	}
	if created != 10 || len(s.Snapshot().Users) != 11 {
		t.Fatalf("%d created, %d there", created, len(s.Snapshot().Users))
	}
}

func TestControl(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed(), Control: "127.0.0.1:0"})
	p := as(t, s, "bridge")
	c := with(t, s, s.ControlToken())
	root := s.Endpoints().Control
	with(t, s, "wrong").do("GET", root+"/state", "").want(t, 401)
	c.do("POST", root+"/faults", "- {name: one, kind: error, method: POST, count: 1, retryAfter: 2s}\n").want(t, 200, `["one"]`)
	if g := p.do("POST", "/users", newUser("ada")).want(t, 503); g.header.Get("Retry-After") != "2" {
		t.Fatal(g.header)
	}
	c.do("GET", root+"/faults", "").want(t, 200, `"hit":1`)
	c.do("DELETE", root+"/faults/one", "").want(t, 200)
	c.do("GET", root+"/faults", "").want(t, 200, `[]`)
	c.do("POST", root+"/faults", `{"kind":"error","shoeSize":4}`).want(t, 400, "shoeSize")
	c.do("POST", root+"/faults", `{"kind":"nothing"}`).want(t, 400, "nothing")
	c.do("POST", root+"/faults", `{"kind":"delay","gate":"g","method":"PATCH"}`).want(t, 200)
	id := p.create("ada")
	done := make(chan got)
	go func() { done <- p.do("PATCH", "/users/"+id, `{"accountEnabled":false}`) }()
	c.do("GET", root+"/gates/g/held?n=1", "").want(t, 200)
	c.do("POST", root+"/gates/g/release", "").want(t, 200)
	(<-done).want(t, 204)
	c.do("GET", root+"/state", "").want(t, 200, `"userPrincipalName":"ada@rehearsal.example","accountEnabled":false`)
	if g := c.do("GET", root+"/state/comparable", "").want(t, 200); g.body != s.Snapshot().Comparable() {
		t.Fatal("the comparable state differs")
	}
	c.do("GET", root+"/journal?since=2", "").want(t, 200, `"op":"update"`)
	c.do("POST", root+"/outage/unavailable", "").want(t, 200)
	p.do("GET", "/users", "").want(t, 503)
	c.do("POST", root+"/outage/none", "").want(t, 200)
	c.do("POST", root+"/outage/flood", "").want(t, 400)
	c.do("POST", root+"/plant", "users: [{userPrincipalName: new@rehearsal.example, displayName: New}]").want(t, 200)
	p.do("GET", "/users/new@rehearsal.example", "").want(t, 200)
	c.do("POST", root+"/tokens/bridge/revoke", "").want(t, 200)
	p.do("GET", "/users", "").want(t, 401)
	c.do("POST", root+"/tokens/nobody/revoke", "").want(t, 400)
	c.do("DELETE", root+"/faults", "").want(t, 200)
}
