package tenant_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
)

func TestCreateRefusals(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "admin")
	for _, tt := range []struct {
		name   string
		change map[string]any // nil value deletes
		text   string
	}{
		{"no display name", map[string]any{"displayName": nil}, "A value is required for property 'displayName' of resource 'User'."},
		{"no nickname", map[string]any{"mailNickname": nil}, "'mailNickname'"},
		{"no user name", map[string]any{"userPrincipalName": nil}, "'userPrincipalName'"},
		{"no enabled", map[string]any{"accountEnabled": nil}, "'accountEnabled'"},
		{"no password", map[string]any{"passwordProfile": nil}, "A password must be specified to create a new user."},
		{"weak password", map[string]any{"passwordProfile": map[string]any{"password": "secret"}}, "password complexity"},
		{"foreign domain", map[string]any{"userPrincipalName": "a@elsewhere.example"}, "verified domain names"},
		{"bad user name", map[string]any{"userPrincipalName": "a b@rehearsal.example"}, "Property userPrincipalName is invalid."},
		{"long employeeId", map[string]any{"employeeId": "12345678901234567"}, `"code":"InvalidLength"`},
		{"country name", map[string]any{"usageLocation": "Germany"}, "'usageLocation'"},
		{"lower case country", map[string]any{"usageLocation": "de"}, "'usageLocation'"},
		{"read-only", map[string]any{"id": "x"}, "Property 'id' is read-only"},
		{"unknown", map[string]any{"shoeSize": 4}, "Invalid property 'shoeSize'."},
		{"unknown part", map[string]any{"onPremisesExtensionAttributes": map[string]any{"extensionAttribute16": "x"}}, "Invalid property 'extensionAttribute16'."},
		{"unregistered extension", map[string]any{"extension_ffff_x": "x"}, "extension properties are not available"},
		{"number for text", map[string]any{"jobTitle": 4}, "'jobTitle'"},
		{"bad date", map[string]any{"employeeHireDate": "2026-01-01"}, "'employeeHireDate'"},
		{"two phones", map[string]any{"businessPhones": []string{"1", "2"}}, "'businessPhones'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m map[string]any
			if err := json.Unmarshal([]byte(newUser("ada")), &m); err != nil {
				t.Fatal(err)
			}
			for k, v := range tt.change {
				if v == nil {
					delete(m, k)
				} else {
					m[k] = v
				}
			}
			raw, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			p.do("POST", "/users", string(raw)).want(t, 400, tt.text, `"code":"Request_BadRequest"`)
		})
	}
	p.do("POST", "/users", `{"accountEnabled":`).want(t, 400, `"code":"BadRequest"`, "Unable to read JSON request payload.")
	p.send(t.Context(), "POST", "/users", []byte(newUser("ada")), map[string]string{"Content-Type": "text/plain"}).want(t, 400, "Unable to read JSON request payload.")
	if n := len(s.Snapshot().Users); n != 1 {
		t.Fatalf("%d users after refusals only", n)
	}
}

// The address of a group or of another user is nobody's user name.
func TestAddressesAreTaken(t *testing.T) {
	sd := seed()
	sd.Groups = append(sd.Groups, tenant.SeedGroup{DisplayName: "List", MailEnabled: true, Mail: "ada@rehearsal.example"})
	s := start(t, tenant.Config{Seed: sd})
	p := as(t, s, "admin")
	p.do("POST", "/users", newUser("ada")).want(t, 400, `"code":"Request_BadRequest"`, `"code":"ObjectConflict"`, `"target":"proxyAddresses"`)
	id := p.do("POST", "/users", newUser("bob")).want(t, 201).field(t, "id")
	p.do("PATCH", "/users/"+id, `{"mail":"cam@rehearsal.example"}`).want(t, 204)
	p.do("PATCH", "/users/"+id, `{"jobTitle":"Analyst"}`).want(t, 204)
	p.do("POST", "/users", newUser("cam")).want(t, 400, `"target":"proxyAddresses"`)
}

func TestPatch(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "admin")
	id := p.create("ada")
	p.do("PATCH", "/users/"+id, `{"employeeOrgData":{"costCenter":"C","division":"D"},"jobTitle":"Analyst","onPremisesExtensionAttributes":{"extensionAttribute1":"one","extensionAttribute15":"mark"},"`+extension+`":"mine"}`).want(t, 204)
	p.do("PATCH", "/users/"+id, `{"employeeOrgData":{"division":"E"},"jobTitle":null,"onPremisesExtensionAttributes":{"extensionAttribute1":null}}`).want(t, 204)
	p.do("GET", "/users/"+id+"?$select=employeeOrgData,jobTitle,onPremisesExtensionAttributes,"+extension, "").want(t, 200,
		`"employeeOrgData":{"costCenter":null,"division":"E"}`, `"jobTitle":null`, `"extensionAttribute1":null`, `"extensionAttribute15":"mark"`, `"`+extension+`":"mine"`)
	for _, body := range []string{`{"displayName":null}`, `{"displayName":""}`, `{"mail":null}`, `{"usageLocation":null}`, `{"createdDateTime":"2026-01-01T00:00:00Z"}`,
		`{"employeeId":"12345678901234567"}`, `{"accountEnabled":"false"}`, `{"userPrincipalName":"breakglass@rehearsal.example"}`} {
		p.do("PATCH", "/users/"+id, body).want(t, 400, `"Request_BadRequest"`)
	}
	p.do("PATCH", "/users/"+id, `{"aboutMe":"x"}`).want(t, 403, `"Authorization_RequestDenied"`)
	p.do("PATCH", "/users/nobody@rehearsal.example", `{"jobTitle":"x"}`).want(t, 404, `"Request_ResourceNotFound"`)
	p.do("PATCH", "/users/"+id, `{"mail":"ada@mail.example"}`).want(t, 204)
	other := p.create("bob")
	p.do("PATCH", "/users/"+other, `{"mail":"ADA@mail.example"}`).want(t, 400, `"ObjectConflict"`, "proxyAddresses")
	p.do("PATCH", "/users/"+other, `{"userPrincipalName":"Robert@rehearsal.example"}`).want(t, 204)
	p.do("GET", "/users/robert@rehearsal.example", "").want(t, 200)
	p.do("GET", "/users/bob@rehearsal.example", "").want(t, 404)
}

func TestPermissions(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	admin := as(t, s, "admin")
	id := admin.create("ada")
	if g := admin.do("POST", "/groups/"+roleGroup+"/members/$ref", ref(s, admin.create("priv"))); g.status != 204 {
		t.Fatal(g.body)
	}
	for _, tt := range []struct {
		app, method, path, body string
		status                  int
	}{
		{"cut", "POST", "/users", newUser("x"), 403},
		{"cut", "PATCH", "/users/" + id, `{"accountEnabled":false}`, 204},
		{"cut", "PATCH", "/users/" + id, `{"accountEnabled":false,"jobTitle":"x"}`, 403},
		{"cut", "PUT", "/users/" + id + "/manager/$ref", ref(s, breakGlass), 403},
		{"cut", "POST", "/directory/administrativeUnits/" + unit + "/members/$ref", ref(s, id), 403},
		{"cut", "POST", "/users/" + id + "/revokeSignInSessions", "", 200},
		{"cut", "POST", "/groups/" + roleGroup + "/members/$ref", ref(s, id), 403},
		{"reader", "PATCH", "/users/" + id, `{"accountEnabled":false}`, 403},
		{"reader", "POST", "/users/" + id + "/revokeSignInSessions", "", 403},
		{"reader", "DELETE", "/users/" + id, "", 403},
		{"reader", "POST", "/groups/" + soc + "/members/$ref", ref(s, id), 403},
		{"grant", "PATCH", "/users/" + id, `{"passwordProfile":{"password":"Abcdef12!"}}`, 403},
		{"grant", "PATCH", "/users/" + id, `{"employeeLeaveDateTime":"2026-01-01T00:00:00Z"}`, 403},
		{"admin", "PATCH", "/users/" + id, `{"employeeLeaveDateTime":"2026-01-01T00:00:00Z"}`, 204},
		// A privileged target takes a directory role of the app itself.
		{"grant", "PATCH", "/users/" + breakGlass, `{"accountEnabled":false}`, 403},
		{"grant", "PATCH", "/users/priv@rehearsal.example", `{"accountEnabled":false}`, 403},
		{"grant", "PATCH", "/users/priv@rehearsal.example", `{"jobTitle":"x"}`, 204},
		{"grant", "DELETE", "/users/priv@rehearsal.example", "", 403},
		{"cut", "PATCH", "/users/priv@rehearsal.example", `{"accountEnabled":false}`, 204},
	} {
		g := as(t, s, tt.app).do(tt.method, tt.path, tt.body)
		if g.status != tt.status {
			t.Errorf("%s %s %s %s: got %d, want %d: %s", tt.app, tt.method, tt.path, tt.body, g.status, tt.status, g.body)
		}
		if g.status == 403 {
			g.want(t, 403, `"code":"Authorization_RequestDenied"`, `"message":"Insufficient privileges to complete the operation."`)
		}
	}
	if u := s.Snapshot().User("breakglass@rehearsal.example"); !u.Enabled {
		t.Error("the break-glass account was disabled")
	}
}

// A member of a restricted unit takes a directory role of the app itself, too.
func TestRestrictedUnits(t *testing.T) {
	sd := seed()
	sd.Units = append(sd.Units, tenant.SeedUnit{DisplayName: "Restricted", Restricted: true})
	sd.Users = append(sd.Users, tenant.SeedUser{UserPrincipalName: "ada@rehearsal.example", DisplayName: "Ada", Units: []string{"Restricted"}})
	s := start(t, tenant.Config{Seed: sd})
	as(t, s, "grant").do("PATCH", "/users/ada@rehearsal.example", `{"accountEnabled":false}`).want(t, 403, `"code":"Authorization_RequestDenied"`)
	as(t, s, "grant").do("PATCH", "/users/ada@rehearsal.example", `{"jobTitle":"x"}`).want(t, 204)
	as(t, s, "cut").do("PATCH", "/users/ada@rehearsal.example", `{"accountEnabled":false}`).want(t, 204)
}

func TestGuestSessionsStand(t *testing.T) {
	c := newClock()
	sd := seed()
	sd.Users[0].Properties = map[string]any{"userType": "Guest"}
	s := start(t, tenant.Config{Seed: sd, Now: c.Now})
	c.add(time.Minute)
	as(t, s, "bridge").do("POST", "/users/"+breakGlass+"/revokeSignInSessions", "").want(t, 200)
	if s.Snapshot().User("breakglass@rehearsal.example").SessionsRevoked {
		t.Error("a guest's sessions were revoked")
	}
}

func TestManager(t *testing.T) {
	s := start(t, tenant.Config{Seed: seed()})
	p := as(t, s, "grant")
	id, boss := p.create("ada"), p.create("boss")
	path := "/users/" + id + "/manager"
	p.do("GET", path, "").want(t, 404, `"Request_ResourceNotFound"`)
	p.do("PUT", path+"/$ref", ref(s, boss)).want(t, 204)
	p.do("PUT", path+"/$ref", ref(s, boss)).want(t, 204)
	p.do("GET", path+"?$select=id", "").want(t, 200, boss, `"@odata.type":"#microsoft.graph.user"`)
	p.do("GET", path+"/$ref", "").want(t, 200, "/v1.0/users/"+boss)
	p.do("GET", "/users/"+id+"?$select=id&$expand=manager($select=id,displayName)", "").want(t, 200, `"manager":{"@odata.type":"#microsoft.graph.user","id":"`+boss+`","displayName":"boss"}`)
	p.do("PUT", path+"/$ref", ref(s, "no-such-user")).want(t, 404)
	p.do("PUT", path+"/$ref", `{"@odata.id":"nonsense"}`).want(t, 400, "@odata.id")
	p.do("PUT", path+"/$ref", `{"@odata.id":"users/`+boss+`"}`).want(t, 400, "@odata.id")
	p.do("DELETE", path+"/$ref", "").want(t, 204)
	p.do("GET", path, "").want(t, 404)
	p.do("PUT", path+"/$ref", ref(s, boss)).want(t, 204)
	p.do("DELETE", "/users/"+boss, "").want(t, 204)
	p.do("GET", path, "").want(t, 404)
	bound := strings.Replace(newUser("carl"), "{", `{"manager@odata.bind":"`+s.Endpoints().GraphV1+`/users/`+id+`",`, 1)
	p.do("POST", "/users", bound).want(t, 201)
	p.do("GET", "/users/carl@rehearsal.example/manager?$select=id", "").want(t, 200, id)
}

func TestRestore(t *testing.T) {
	c := newClock()
	s := start(t, tenant.Config{Seed: seed(), Now: c.Now})
	p := as(t, s, "bridge")
	id := p.create("ada")
	p.do("POST", "/groups/"+soc+"/members/$ref", ref(s, id)).want(t, 204)
	p.do("DELETE", "/users/"+id, "").want(t, 204)
	if g := p.do("GET", "/groups/"+soc+"/members", "").want(t, 200); strings.Contains(g.body, id) {
		t.Fatal("a deleted user is shown as a member")
	}
	again := p.create("ada") // the name is free
	p.do("POST", "/directory/deletedItems/"+id+"/restore", "").want(t, 400, `"ObjectConflict"`)
	p.do("POST", "/directory/deletedItems/"+id+"/restore", `{"newUserPrincipalName":"ada2@rehearsal.example"}`).want(t, 200, "ada2@rehearsal.example")
	p.do("GET", "/groups/"+soc+"/members", "").want(t, 200, id)
	p.do("POST", "/directory/deletedItems/"+id+"/restore", "").want(t, 404)
	p.do("DELETE", "/users/"+again, "").want(t, 204)
	p.do("DELETE", "/directory/deletedItems/"+again, "").want(t, 204)
	p.do("GET", "/directory/deletedItems/"+again, "").want(t, 404)
	p.do("DELETE", "/users/"+id, "").want(t, 204)
	c.add(31 * 24 * time.Hour)
	p = as(t, s, "bridge")
	p.do("POST", "/directory/deletedItems/"+id+"/restore", "").want(t, 404)
}

func TestGzip(t *testing.T) {
	s := start(t, tenant.Config{})
	p := as(t, s, "bridge")
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write([]byte(newUser("ada"))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h := map[string]string{"Content-Encoding": "gzip"}
	p.send(t.Context(), "POST", "/users", z.Bytes(), h).want(t, 201)
	p.send(t.Context(), "POST", "/users", []byte(newUser("bob")), h).want(t, 400, `"code":"BadRequest"`)
	if s.Snapshot().User("bob@rehearsal.example") != nil {
		t.Error("a plain body under a gzip header was applied")
	}
}

func TestUnknownCalls(t *testing.T) {
	s := start(t, tenant.Config{})
	p := as(t, s, "admin")
	p.do("GET", "/users/x/photos", "").want(t, 400, "Resource not found for the segment 'photos'.")
	p.do("GET", "/nonsense", "").want(t, 400, "Resource not found for the segment 'nonsense'.")
	p.do("PUT", "/users", "").want(t, http.StatusMethodNotAllowed)
	p.do("GET", "/users?$orderby=displayName", "").want(t, 400, `"Request_UnsupportedQuery"`)
	p.do("GET", "/organization?$filter=id eq 'x'", "").want(t, 400, `"Request_UnsupportedQuery"`)
	p.do("GET", "/organization", "").want(t, 200, s.Endpoints().Tenant, `"name":"rehearsal.example"`)
	p.do("GET", "/organization/"+s.Endpoints().Tenant, "").want(t, 200, `"displayName":"Rehearsal"`)
}

func ref(s *tenant.Server, id string) string {
	return `{"@odata.id":"` + s.Endpoints().GraphV1 + `/directoryObjects/` + id + `"}`
}
