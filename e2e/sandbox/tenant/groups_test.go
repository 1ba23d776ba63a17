package tenant_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"jmlbridge/e2e/sandbox/tenant"
)

func TestMembership(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	id := p.create("ada")
	members := "/groups/" + soc + "/members"
	p.do("POST", members+"/$ref", ref(s, id)).want(t, 204)
	p.do("POST", members+"/$ref", ref(s, id)).want(t, 400, `"code":"Request_BadRequest"`,
		`"message":"One or more added object references already exist for the following modified properties: 'members'."`)
	p.do("POST", members+"/$ref", ref(s, "99999999-9999-9999-9999-999999999999")).want(t, 404, `"Request_ResourceNotFound"`)
	p.do("POST", "/groups/99999999-9999-9999-9999-999999999999/members/$ref", ref(s, id)).want(t, 404, `"Request_ResourceNotFound"`)
	p.do("POST", members+"/$ref", `{"@odata.id":"https://graph.microsoft.com/v1.0/directoryObjects/`+id+`"}`).want(t, 400)
	p.do("GET", members+"?$select=id", "").want(t, 200, `{"@odata.type":"#microsoft.graph.user","id":"`+id+`"}`)
	p.do("GET", members+"/graph.user?$select=id", "").want(t, 400, `"Request_UnsupportedQuery"`)
	p.eventual().do("GET", members+"/graph.user?$select=id&$count=true", "").want(t, 200, id)
	p.do("GET", "/users/"+id+"/memberOf?$select=id,displayName", "").want(t, 200, `{"@odata.type":"#microsoft.graph.group","id":"`+soc+`","displayName":"SOC Analysts"}`)
	p.do("DELETE", members+"/"+id+"/$ref", "").want(t, 204)
	p.do("DELETE", members+"/"+id+"/$ref", "").want(t, 404, `"Request_ResourceNotFound"`)
	if g := p.do("GET", members, "").want(t, 200); strings.Contains(g.body, id) {
		t.Fatal("still a member")
	}
	p.do("POST", members+"/$ref", ref(s, id)).want(t, 204)
	if got := s.Snapshot().User("ada@rehearsal.example").Groups; len(got) != 1 {
		t.Fatalf("groups: %v", got)
	}
}

func TestGroupsThatRefuse(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	id := p.create("ada")
	p.do("POST", "/groups/"+roleGroup+"/members/$ref", ref(s, id)).want(t, 403, `"Authorization_RequestDenied"`)
	p.do("POST", "/groups/"+ruleGroup+"/members/$ref", ref(s, id)).want(t, 400, "dynamic membership")
	p.do("DELETE", "/groups/"+ruleGroup+"/members/"+id+"/$ref", "").want(t, 400, "dynamic membership")
	p.do("GET", "/groups/"+ruleGroup, "").want(t, 200, `"groupTypes":["DynamicMembership"]`)
	p.do("GET", "/groups/"+roleGroup, "").want(t, 200, `"isAssignableToRole":true`)
	as(t, s, "admin").do("POST", "/groups/"+roleGroup+"/members/$ref", ref(s, id)).want(t, 204)
}

// Without $ref the DELETE goes to the user: the trap is rehearsed as it is.
func TestDeleteWithoutRef(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	id := p.create("ada")
	p.do("POST", "/groups/"+soc+"/members/$ref", ref(s, id)).want(t, 204)
	p.do("DELETE", "/groups/"+soc+"/members/"+id, "").want(t, 204)
	p.do("GET", "/users/"+id, "").want(t, 404)
}

func TestUnits(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	id := p.create("ada")
	path := "/directory/administrativeUnits/" + unit
	p.do("GET", path, "").want(t, 200, `"displayName":"Bridge"`)
	p.do("GET", "/directory/administrativeUnits?$filter=displayName eq 'Bridge'", "").want(t, 200, unit)
	p.do("POST", path+"/members/$ref", `{"@odata.id":"`+s.Endpoints().GraphV1+`/users/`+id+`"}`).want(t, 204)
	p.do("POST", path+"/members/$ref", ref(s, id)).want(t, 400, "already exist")
	p.do("GET", path+"/members?$select=id", "").want(t, 200, id)
	p.do("GET", "/users/"+id+"/memberOf", "").want(t, 200, "#microsoft.graph.administrativeUnit")
	p.do("DELETE", path+"/members/"+id+"/$ref", "").want(t, 204)
	p.do("DELETE", path+"/members/"+id+"/$ref", "").want(t, 404)
	p.do("GET", "/groups/"+unit, "").want(t, 404)
}

func TestNestedGroups(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "bridge")
	direct := p.do("GET", "/users/"+breakGlass+"/memberOf", "").want(t, 200, `"Nested"`)
	if strings.Contains(direct.body, "Everyone") {
		t.Fatal("memberOf shows what is only transitive")
	}
	p.do("GET", "/users/"+breakGlass+"/transitiveMemberOf", "").want(t, 200, `"Nested"`, `"Everyone"`)
	p.do("GET", "/users/"+breakGlass+"/transitiveMemberOf/graph.group", "").want(t, 400, `"Request_UnsupportedQuery"`)
	p.eventual().do("GET", "/users/"+breakGlass+"/transitiveMemberOf/graph.group?$count=true", "").want(t, 200, `"@odata.count":2`)
	var groups struct {
		Value []struct{ ID, DisplayName string }
	}
	if err := json.Unmarshal([]byte(p.do("GET", "/groups?$filter=displayName eq 'everyone'&$select=id,displayName", "").want(t, 200).body), &groups); err != nil {
		t.Fatal(err)
	}
	if len(groups.Value) != 1 {
		t.Fatalf("found %v", groups.Value)
	}
	everyone := groups.Value[0].ID
	p.do("POST", "/users/"+breakGlass+"/checkMemberGroups", `{"groupIds":["`+everyone+`","`+soc+`"]}`).want(t, 200, `"value":["`+everyone+`"]`)
	p.do("POST", "/users/"+breakGlass+"/getMemberGroups", `{"securityEnabledOnly":false}`).want(t, 200, everyone)
	p.do("POST", "/users/"+breakGlass+"/checkMemberGroups", `{}`).want(t, 400)
	many := strings.Repeat(`"x",`, 20) + `"x"`
	p.do("POST", "/users/"+breakGlass+"/checkMemberGroups", `{"groupIds":[`+many+`]}`).want(t, 400, "At most 20")
	p.do("GET", "/groups?$filter=startsWith(displayName,'SOC')", "").want(t, 200, soc)
	p.do("GET", "/groups?$filter=mailEnabled eq true", "").want(t, 400, `"Request_UnsupportedQuery"`)
}

// list follows the next links to the end and returns the ids and the pages.
func list(t *testing.T, p *peer, path string) (ids []string, pages int) {
	t.Helper()
	for path != "" {
		var page struct {
			Value []struct{ ID string } `json:"value"`
			Next  string                `json:"@odata.nextLink"`
		}
		if err := json.Unmarshal([]byte(p.do("GET", path, "").want(t, 200).body), &page); err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Value {
			ids = append(ids, v.ID)
		}
		path = page.Next
		pages++
	}
	return ids, pages
}

func TestPaging(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	var sd tenant.Seed
	for i := range 250 {
		sd.Users = append(sd.Users, tenant.SeedUser{UserPrincipalName: fmt.Sprintf("u%03d@rehearsal.example", i), DisplayName: "U",
			Groups: []string{"SOC Analysts"}, Properties: map[string]any{"department": "Night"}})
	}
	if err := s.Plant(sd); err != nil {
		t.Fatal(err)
	}
	p := as(t, s, "reader")
	for _, tt := range []struct {
		path       string
		ids, pages int
	}{
		{"/users?$select=id", 251, 3},
		{"/users?$select=id&$top=999", 251, 1},
		{"/users?$select=id&$top=125", 251, 3},
		{"/users?$select=id&$top=50&$filter=" + url.QueryEscape("department eq 'night'"), 250, 5},
		{"/groups/" + soc + "/members?$select=id", 250, 3},
		{"/groups/" + soc + "/members?$select=id&$top=250", 250, 1},
		{"/groups?$select=id&$top=2", 5, 3},
	} {
		ids, pages := list(t, p, tt.path)
		seen := map[string]bool{}
		for _, id := range ids {
			seen[id] = true
		}
		if len(ids) != tt.ids || len(seen) != tt.ids || pages != tt.pages {
			t.Errorf("%s: %d ids (%d different) on %d pages, want %d on %d", tt.path, len(ids), len(seen), pages, tt.ids, tt.pages)
		}
	}
	p.do("GET", "/users?$top=1000", "").want(t, 400)
	p.do("GET", "/users?$skiptoken=!", "").want(t, 400)
	p.do("GET", "/users?$select=shoeSize", "").want(t, 400, "Could not find a property named 'shoeSize'")
	p.do("GET", "/users/$count", "").want(t, 400)
	p.eventual().do("GET", "/users/$count", "").want(t, 200, "251")
	p.eventual().do("GET", "/users?$count=true&$top=1&$select=id", "").want(t, 200, `"@odata.count":251`)

	// Pages stay in step while members go: nobody is skipped.
	g := as(t, s, "grant")
	first, _ := list(t, g, "/groups/"+soc+"/members?$select=id&$top=250")
	var page struct {
		Next string `json:"@odata.nextLink"`
	}
	if err := json.Unmarshal([]byte(g.do("GET", "/groups/"+soc+"/members?$select=id", "").body), &page); err != nil {
		t.Fatal(err)
	}
	for _, id := range first[:150] {
		g.do("DELETE", "/groups/"+soc+"/members/"+id+"/$ref", "").want(t, 204)
	}
	if rest, _ := list(t, g, page.Next); len(rest) != 100 || rest[0] != first[150] {
		t.Errorf("after removals the rest has %d members, want 100", len(rest))
	}
}
