package tenant_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
)

func TestReplicationLag(t *testing.T) {
	c := newClock()
	s := start(t, tenant.Config{Seed: seed(), Now: c.Now, Replication: tenant.Replication{Lag: 5 * time.Second, IndexLag: 30 * time.Second}})
	p := as(t, s, "bridge")
	byID := "?$select=id,jobTitle,accountEnabled"
	find := "/users?$select=id&$filter=" + url.QueryEscape("employeeId eq 'E1'")
	id := p.create("ada")
	p.do("GET", "/users/"+id+byID, "").want(t, 404)
	p.do("GET", "/users/ada@rehearsal.example"+byID, "").want(t, 404)
	p.do("POST", "/users", newUser("ada")).want(t, 400, "ObjectConflict") // the primary knows
	p.do("PATCH", "/users/"+id, `{"employeeId":"E1","jobTitle":"one"}`).want(t, 204)
	p.do("POST", "/groups/"+soc+"/members/$ref", ref(s, id)).want(t, 204)
	p.do("POST", "/groups/"+soc+"/members/$ref", ref(s, id)).want(t, 400, "already exist")
	shown := func() bool {
		return strings.Contains(p.do("GET", "/groups/"+soc+"/members?$select=id", "").want(t, 200).body, id)
	}
	if shown() {
		t.Fatal("a lagging replica shows the new member")
	}
	c.add(5 * time.Second)
	p.do("GET", "/users/"+id+byID, "").want(t, 200, `"jobTitle":"one"`)
	if !shown() {
		t.Fatal("after the lag the member is still missing")
	}
	if got := ids(t, p.do("GET", find, "")); got != "" {
		t.Fatalf("the index already knows %s", got)
	}
	c.add(25 * time.Second)
	if got := ids(t, p.do("GET", find, "")); got != id {
		t.Fatalf("the index finds %q", got)
	}
	p.do("PATCH", "/users/"+id, `{"accountEnabled":false,"employeeId":"E2"}`).want(t, 204)
	p.do("DELETE", "/groups/"+soc+"/members/"+id+"/$ref", "").want(t, 204)
	p.do("GET", "/users/"+id+byID, "").want(t, 200, `"accountEnabled":true`)
	if !shown() {
		t.Fatal("a lagging replica has already lost the member")
	}
	if ids(t, p.do("GET", find, "")) != id {
		t.Fatal("a lagging index has already lost the old value")
	}
	c.add(5 * time.Second)
	p.do("GET", "/users/"+id+byID, "").want(t, 200, `"accountEnabled":false`)
	if shown() {
		t.Fatal("after the lag the member is still there")
	}
	c.add(25 * time.Second)
	if got := ids(t, p.do("GET", find, "")); got != "" {
		t.Fatalf("the index still finds %s by the old value", got)
	}
	// Far later, the old versions are forgotten and all is as before.
	for range 3 {
		c.add(time.Hour)
		p = as(t, s, "bridge")
		p.do("PATCH", "/users/"+id, `{"employeeId":"E1"}`).want(t, 204)
		c.add(time.Minute)
		if ids(t, p.do("GET", find, "")) != id {
			t.Fatal("the value that came back is not found")
		}
		p.do("DELETE", "/users/"+id, "").want(t, 204)
		p.do("GET", "/users/"+id+byID, "").want(t, 200)
		c.add(time.Minute)
		p.do("GET", "/users/"+id+byID, "").want(t, 404)
		p.do("POST", "/directory/deletedItems/"+id+"/restore", "").want(t, 200)
		p.do("PATCH", "/users/"+id, `{"employeeId":"E3"}`).want(t, 204)
	}
}

func TestWriteLag(t *testing.T) {
	c := newClock()
	s := start(t, tenant.Config{Seed: seed(), Now: c.Now, Replication: tenant.Replication{WriteLag: 10 * time.Second}})
	p := as(t, s, "bridge")
	id := p.create("ada")
	p.do("PATCH", "/users/"+id, `{"jobTitle":"x"}`).want(t, 404, `"Request_ResourceNotFound"`)
	p.do("POST", "/groups/"+soc+"/members/$ref", ref(s, id)).want(t, 404)
	group, err := s.CreateGroup(tenant.SeedGroup{DisplayName: "Fresh"})
	if err != nil {
		t.Fatal(err)
	}
	p.do("POST", "/groups/"+group+"/members/$ref", ref(s, breakGlass)).want(t, 400,
		"The source resource object or one of the objects being referenced don't exist.")
	c.add(10 * time.Second)
	p.do("PATCH", "/users/"+id, `{"jobTitle":"x"}`).want(t, 204)
	p.do("POST", "/groups/"+group+"/members/$ref", ref(s, id)).want(t, 204)
	// A membership that began or ended a moment ago is not known to a write either.
	p.do("DELETE", "/groups/"+group+"/members/"+id+"/$ref", "").want(t, 404)
	c.add(10 * time.Second)
	p.do("DELETE", "/groups/"+group+"/members/"+id+"/$ref", "").want(t, 204)
	p.do("POST", "/groups/"+group+"/members/$ref", ref(s, id)).want(t, 400, "already exist")
	c.add(10 * time.Second)
	p.do("POST", "/groups/"+group+"/members/$ref", ref(s, id)).want(t, 204)
}

// With a share, some reads meet a replica that is current and some do not.
func TestLagShare(t *testing.T) {
	c := newClock()
	s := start(t, tenant.Config{Seed: seed(), Now: c.Now, FaultSeed: 7, Replication: tenant.Replication{Lag: time.Minute, Share: 0.5}})
	p := as(t, s, "bridge")
	id := p.create("ada")
	seen := map[int]int{}
	for range 60 {
		seen[p.do("GET", "/users/"+id, "").status]++
	}
	if seen[200] < 10 || seen[404] < 10 {
		t.Fatalf("answers: %v", seen)
	}
}
