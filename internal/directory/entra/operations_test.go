package entra

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"jmlbridge/internal/directory"
)

const selected = "$select=id,userPrincipalName,accountEnabled,signInSessionsValidFromDateTime,displayName,givenName,surname," +
	"employeeId,employeeType,jobTitle,department,companyName,employeeOrgData,usageLocation,onPremisesExtensionAttributes"

const patJSON = `{"id":"` + userID + `","userPrincipalName":"Pat.Doe@agency.example","accountEnabled":false,
 "signInSessionsValidFromDateTime":"2026-11-20T08:09:10Z","displayName":"Pat Doe","givenName":"Pat","surname":null,
 "employeeId":"E-pat.doe","employeeType":"Employee","jobTitle":"Analyst","department":"SOC","companyName":"MSSP",
 "employeeOrgData":{"division":"Defense","costCenter":null},"usageLocation":"US",
 "onPremisesExtensionAttributes":{"extensionAttribute1":"other","extensionAttribute15":"jmlbridge:0123456789ab:pat.doe"}}`

func pat() directory.Account {
	no := false
	return directory.Account{
		ID: userID, Mark: "jmlbridge:0123456789ab:pat.doe", UPN: "Pat.Doe@agency.example", Enabled: &no,
		SessionsValidFrom: time.Date(2026, 11, 20, 8, 9, 10, 0, time.UTC), EmployeeID: "E-pat.doe",
		Attributes: directory.Attributes{DisplayName: "Pat Doe", GivenName: "Pat", EmployeeID: "E-pat.doe", EmployeeType: "Employee",
			JobTitle: "Analyst", Department: "SOC", Company: "MSSP", Division: "Defense", UsageLocation: "US"},
	}
}

// TestWrites: what goes out for each write, and what may come back for it.
func TestWrites(t *testing.T) {
	for _, tt := range []struct {
		op     string
		line   string
		body   string // JSON with BASE for the root
		answer http.HandlerFunc
	}{
		{"disable", "PATCH /v1.0/users/" + userID, `{"accountEnabled":false,"@odata.type":"#microsoft.graph.user"}`, says(204, "", "")},
		{"enable", "PATCH /v1.0/users/" + userID, `{"accountEnabled":true,"@odata.type":"#microsoft.graph.user"}`, says(204, "", "")},
		{"revoke-sessions", "POST /v1.0/users/" + userID + "/revokeSignInSessions", ``, says(204, "", "")},
		{"revoke-sessions", "POST /v1.0/users/" + userID + "/revokeSignInSessions", ``,
			says(200, jsonType, `{"@odata.context":"https://graph.microsoft.us/v1.0/$metadata#Edm.Boolean","value":true}`)},
		{"revoke-sessions", "POST /v1.0/users/" + userID + "/revokeSignInSessions", ``, says(200, "", "")},
		{"revoke-sessions", "POST /v1.0/users/" + userID + "/revokeSignInSessions", ``, says(202, jsonType, "")},
		{"remove-member", "DELETE /v1.0/groups/" + groupID + "/members/" + userID + "/$ref", ``, says(204, "", "")},
		{"delete", "DELETE /v1.0/users/" + userID, ``, says(204, "", "")},
		{"add-member", "POST /v1.0/groups/" + groupID + "/members/$ref", `{"@odata.id":"BASE/directoryObjects/` + userID + `"}`, says(204, "", "")},
		{"set-manager", "PUT /v1.0/users/" + userID + "/manager/$ref", `{"@odata.id":"BASE/users/` + bossID + `"}`, says(204, "", "")},
		{"clear-manager", "DELETE /v1.0/users/" + userID + "/manager/$ref", ``, says(204, "", "")},
		{"update", "PATCH /v1.0/users/" + userID, `{"@odata.type":"#microsoft.graph.user","displayName":"Pat Doe","givenName":"Pat","surname":"Doe",
			"employeeId":"E-pat.doe","employeeType":"Employee","jobTitle":"Analyst","department":"SOC","companyName":"MSSP","usageLocation":"US",
			"employeeOrgData":{"division":"Defense","costCenter":"4711"}}`, says(204, "", "")},
	} {
		t.Run(tt.op, func(t *testing.T) {
			s := newStub(t, tt.answer)
			receipt, err := operations[tt.op](t.Context(), s.tenant(t))
			if err != nil {
				t.Fatal(err)
			}
			got := s.requests()
			if len(got) != 1 || got[0].line != tt.line {
				t.Fatalf("sent %v, expected one %s", got, tt.line)
			}
			sameJSON(t, got[0].body, strings.ReplaceAll(tt.body, "BASE", s.URL+"/v1.0"))
			checkHeaders(t, got, receipt)
			taking := map[string]bool{"disable": true, "revoke-sessions": true, "remove-member": true, "delete": true}
			want := ""
			if taking[tt.op] {
				want = "High"
			}
			if p := got[0].header.Get("X-Ms-Throttle-Priority"); p != want {
				t.Errorf("priority %q, expected %q", p, want)
			}
		})
	}
}

// checkHeaders: one client-request-id a request, of our making, and the receipt has it beside the answer's.
func checkHeaders(t *testing.T, got []seen, receipt directory.Receipt) {
	t.Helper()
	if len(receipt.Requests) != len(got) {
		t.Fatalf("receipt of %d requests, %d were sent", len(receipt.Requests), len(got))
	}
	ids := map[string]bool{}
	for i, g := range got {
		values := g.header.Values("Client-Request-Id")
		if len(values) != 1 || uuid.Validate(values[0]) != nil || ids[values[0]] {
			t.Errorf("client-request-id %q: expected one fresh UUID", values)
			continue
		}
		ids[values[0]] = true
		r := receipt.Requests[i]
		if r.ClientRequestID != values[0] || r.RequestID != fmt.Sprintf("srv-%d", i+1) || r.Status == 0 {
			t.Errorf("receipt %+v does not match request %q", r, values)
		}
		if e := g.header.Get("Content-Encoding"); e != "" {
			t.Errorf("body sent as %s", e)
		}
		if a := g.header.Get("Authorization"); !strings.HasPrefix(a, "Bearer token-") {
			t.Errorf("authorization %q", a)
		}
		if g.body != "" && g.header.Get("Content-Length") == "" {
			t.Error("body without a length")
		}
	}
}

func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	if want == "" || got == "" {
		if got != want {
			t.Errorf("body %q, expected %q", got, want)
		}
		return
	}
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("sent %q: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("sent\n%s\nexpected\n%s", got, want)
	}
}

func TestGet(t *testing.T) {
	s := newStub(t, says(200, jsonType, patJSON))
	tenant := s.tenant(t)
	got, receipt, err := tenant.Get(directory.WithPriority(t.Context(), directory.Low), userID)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, pat()) {
		t.Errorf("got %+v", got)
	}
	sent := s.requests()
	if want := "GET /v1.0/users/" + userID + " " + selected; sent[0].line != want {
		t.Errorf("sent %s\nexpected %s", sent[0].line, want)
	}
	if p := sent[0].header.Get("X-Ms-Throttle-Priority"); p != "Low" {
		t.Errorf("priority %q", p)
	}
	checkHeaders(t, sent, receipt)
	if got, _, err = tenant.GetByUPN(t.Context(), userUPN); err != nil || !reflect.DeepEqual(got, pat()) {
		t.Errorf("by UPN: %+v, %v", got, err)
	}
	if want := "GET /v1.0/users/" + userUPN + " " + selected; s.requests()[1].line != want {
		t.Errorf("sent %s", s.requests()[1].line)
	}
}

// TestUnasked: what was not answered is not false.
func TestUnasked(t *testing.T) {
	s := newStub(t, says(200, jsonType, `{"id":"`+userID+`"}`))
	got, _, err := s.tenant(t).Get(t.Context(), userID)
	if err != nil || got.Enabled != nil || !got.SessionsValidFrom.IsZero() {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Marked reads page by page, and takes nothing whose mark only looks like one.
func TestMarked(t *testing.T) {
	const extension = "extension_0123456789abcdef0123456789abcdef_jmlMark"
	for _, tt := range []struct{ name, attribute, line string }{
		{"numbered", "", "GET /v1.0/users $filter=onPremisesExtensionAttributes/extensionAttribute15 ne null $select=id,accountEnabled,onPremisesExtensionAttributes $count=true $top=999"},
		{"extension", extension, "GET /v1.0/users $filter=" + extension + " ne null $select=id,accountEnabled," + extension + " $count=true $top=999"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s *stub
			s = newStub(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", jsonType)
				user := func(id, mark string) string {
					return fmt.Sprintf(`{"id":%q,"accountEnabled":true,"onPremisesExtensionAttributes":{"extensionAttribute15":%q},%q:%q}`, id, mark, extension, mark)
				}
				switch r.URL.Query().Get("page") {
				case "":
					fmt.Fprintf(w, `{"value":[%s,%s],"@odata.nextLink":"%s/v1.0/users?page=2"}`, user("u1", "jmlbridge:0123456789ab:1"), user("u2", "JMLBRIDGE:0123456789ab:2"), s.URL)
				case "2":
					fmt.Fprintf(w, `{"value":[%s]}`, user("u3", "jmlbridge:0123456789ab:3"))
				}
			})
			cfg := s.config(t)
			cfg.MarkAttribute = tt.attribute
			tenant := open(t, cfg)
			first, next, _, err := tenant.Marked(t.Context(), "")
			if err != nil || len(first) != 1 || first[0].ID != "u1" || next == "" {
				t.Fatalf("first page: %+v, next %q, %v", first, next, err)
			}
			second, end, _, err := tenant.Marked(t.Context(), next)
			if err != nil || len(second) != 1 || second[0].Mark != "jmlbridge:0123456789ab:3" || end != "" {
				t.Fatalf("second page: %+v, next %q, %v", second, end, err)
			}
			sent := s.requests()
			if sent[0].line != tt.line {
				t.Errorf("sent %s\nexpected %s", sent[0].line, tt.line)
			}
			for i, r := range sent {
				if e := r.header.Get("ConsistencyLevel"); e != "eventual" {
					t.Errorf("page %d: ConsistencyLevel %q, expected eventual", i+1, e)
				}
			}
		})
	}
	for name, body := range map[string]string{
		"no list":           `{}`,
		"no account":        `{"value":[{"accountEnabled":true}]}`,
		"enabled or not":    `{"value":[{"id":"u1","onPremisesExtensionAttributes":{"extensionAttribute15":"jmlbridge:x:1"}}]}`,
		"another's address": `{"value":[],"@odata.nextLink":"https://elsewhere.example/v1.0/users?page=2"}`,
	} {
		s := newStub(t, says(200, jsonType, body))
		list, next, _, err := s.tenant(t).Marked(t.Context(), "")
		if name == "another's address" && err == nil { // it shows when it is followed
			_, _, _, err = s.tenant(t).Marked(t.Context(), next)
		}
		if err == nil || len(list) > 0 {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
}

// Members reads page by page, whatever the members are, and takes no half answer for a list.
func TestMembers(t *testing.T) {
	var s *stub
	s = newStub(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		switch r.URL.Query().Get("page") {
		case "":
			fmt.Fprintf(w, `{"value":[{"@odata.type":"#microsoft.graph.user","id":"u1"},{"@odata.type":"#microsoft.graph.group","id":"g1"}],"@odata.nextLink":"%s/v1.0/groups/%s/members?page=2"}`, s.URL, groupID)
		case "2":
			fmt.Fprint(w, `{"value":[{"@odata.type":"#microsoft.graph.device","id":"d1"},{"@odata.type":"#microsoft.graph.novelty","id":"n1"}]}`)
		}
	})
	tenant := s.tenant(t)
	first, next, _, err := tenant.Members(t.Context(), groupID, "")
	if err != nil || !slices.Equal(first, []string{"u1", "g1"}) || next == "" {
		t.Fatalf("first page: %v, next %q, %v", first, next, err)
	}
	second, end, _, err := tenant.Members(t.Context(), groupID, next)
	if err != nil || !slices.Equal(second, []string{"d1", "n1"}) || end != "" {
		t.Fatalf("second page: %v, next %q, %v", second, end, err)
	}
	if line := s.requests()[0].line; line != "GET /v1.0/groups/"+groupID+"/members $select=id $top=999" {
		t.Errorf("sent %s", line)
	}
	for name, body := range map[string]string{
		"no list": `{}`, "no id": `{"value":[{"@odata.type":"#microsoft.graph.user"}]}`, "another's address": `{"value":[],"@odata.nextLink":"https://elsewhere.example/v1.0/groups"}`,
	} {
		s := newStub(t, says(200, jsonType, body))
		list, next, _, err := s.tenant(t).Members(t.Context(), groupID, "")
		if name == "another's address" && err == nil { // it shows when it is followed
			_, _, _, err = s.tenant(t).Members(t.Context(), groupID, next)
		}
		if err == nil || len(list) > 0 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
}

func TestFind(t *testing.T) {
	const extension = "extension_0123456789abcdef0123456789abcdef_jmlMark"
	for _, tt := range []struct {
		name, attribute, line, eventual string
		find                            func(context.Context, *Tenant) ([]directory.Account, directory.Receipt, error)
	}{
		{"mark", "", "GET /v1.0/users $filter=onPremisesExtensionAttributes/extensionAttribute15 eq 'jmlbridge:0123456789ab:o''pat' " + selected + " $count=true", "eventual",
			func(ctx context.Context, t *Tenant) ([]directory.Account, directory.Receipt, error) {
				return t.FindByMark(ctx, "jmlbridge:0123456789ab:o'pat")
			}},
		{"mark in an extension", extension, "GET /v1.0/users $filter=" + extension + " eq 'jmlbridge:0123456789ab:o''pat' " +
			strings.Replace(selected, "onPremisesExtensionAttributes", extension, 1), "",
			func(ctx context.Context, t *Tenant) ([]directory.Account, directory.Receipt, error) {
				return t.FindByMark(ctx, "jmlbridge:0123456789ab:o'pat")
			}},
		{"employee id", "", "GET /v1.0/users $filter=employeeId eq 'E''1' " + selected, "",
			func(ctx context.Context, t *Tenant) ([]directory.Account, directory.Receipt, error) {
				return t.FindByEmployeeID(ctx, "E'1")
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s *stub
			// Two pages; the second holds one that differs by case only, which Graph's eq does not see.
			s = newStub(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", jsonType)
				user := func(id, mark, employee string) string {
					return fmt.Sprintf(`{"id":%q,"employeeId":%q,"onPremisesExtensionAttributes":{"extensionAttribute15":%q},%q:%q}`, id, employee, mark, extension, mark)
				}
				if r.URL.Query().Get("page") == "" {
					fmt.Fprintf(w, `{"value":[%s],"@odata.nextLink":"%s/v1.0/users?page=2"}`, user("u1", "jmlbridge:0123456789ab:o'pat", "E'1"), s.URL)
					return
				}
				fmt.Fprintf(w, `{"value":[%s,%s]}`, user("u2", "jmlbridge:0123456789ab:O'PAT", "e'1"), user("u3", "jmlbridge:0123456789ab:o'pat", "E'1"))
			})
			cfg := s.config(t)
			cfg.MarkAttribute = tt.attribute
			got, receipt, err := tt.find(t.Context(), open(t, cfg))
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 || got[0].ID != "u1" || got[1].ID != "u3" {
				t.Errorf("found %+v", got)
			}
			sent := s.requests()
			if sent[0].line != tt.line {
				t.Errorf("sent %s\nexpected %s", sent[0].line, tt.line)
			}
			for i, r := range sent {
				if e := r.header.Get("ConsistencyLevel"); e != tt.eventual {
					t.Errorf("page %d: ConsistencyLevel %q, expected %q", i+1, e, tt.eventual)
				}
			}
			checkHeaders(t, sent, receipt)
		})
	}
	t.Run("one on two pages", func(t *testing.T) { // as where an account changes its place between them
		const user = `{"id":"u1","onPremisesExtensionAttributes":{"extensionAttribute15":"m"}}`
		var s *stub
		s = newStub(t, func(w http.ResponseWriter, r *http.Request) {
			next := ""
			if r.URL.Query().Get("page") == "" {
				next = fmt.Sprintf(`,"@odata.nextLink":"%s/v1.0/users?page=2"`, s.URL)
			}
			says(200, jsonType, `{"value":[`+user+`]`+next+`}`)(w, r)
		})
		if got, _, err := s.tenant(t).FindByMark(t.Context(), "m"); err != nil || len(got) != 1 {
			t.Errorf("%v, %v: want one account once", got, err)
		}
	})
	t.Run("nobody", func(t *testing.T) {
		s := newStub(t, says(200, jsonType, `{"@odata.count":0,"value":[]}`))
		if got, _, err := s.tenant(t).FindByMark(t.Context(), "m"); err != nil || len(got) != 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestGroups(t *testing.T) {
	var s *stub
	s = newStub(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		if r.URL.Query().Get("page") == "" {
			fmt.Fprintf(w, `{"value":[{"@odata.type":"#microsoft.graph.group","id":"g2"},{"@odata.type":"#microsoft.graph.directoryRole","id":"r1"}],
				"@odata.nextLink":"%s/v1.0/users/%s/memberOf?page=2"}`, s.URL, userID)
			return
		}
		io.WriteString(w, `{"value":[{"@odata.type":"#microsoft.graph.administrativeUnit","id":"a1"},{"@odata.type":"#microsoft.graph.group","id":"g1"}]}`)
	})
	got, receipt, err := s.tenant(t).Groups(t.Context(), userID)
	if err != nil || !reflect.DeepEqual(got, []string{"g1", "g2"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if want := "GET /v1.0/users/" + userID + "/memberOf $select=id $top=999"; s.requests()[0].line != want {
		t.Errorf("sent %s", s.requests()[0].line)
	}
	checkHeaders(t, s.requests(), receipt)
	// What does not say that it is no group may be one.
	untyped := newStub(t, says(200, jsonType, `{"value":[{"id":"g1"}]}`))
	got, _, err = untyped.tenant(t).Groups(t.Context(), userID)
	if wantKinds(t, "untyped", err, directory.CodeUnreadable, directory.ErrAmbiguous); got != nil {
		t.Errorf("untyped: %v", got)
	}
}

func TestGroup(t *testing.T) {
	for _, tt := range []struct {
		body string
		want directory.Group
	}{
		{`"displayName":"SOC","groupTypes":[],"isAssignableToRole":null,"mailEnabled":false`, directory.Group{Name: "SOC"}},
		{`"displayName":"D","groupTypes":["DynamicMembership"]`, directory.Group{Name: "D", Dynamic: true}},
		{`"displayName":"R","isAssignableToRole":true`, directory.Group{Name: "R", RoleAssignable: true}},
		{`"displayName":"S","onPremisesSyncEnabled":true`, directory.Group{Name: "S", Foreign: true}},
		{`"displayName":"M","mailEnabled":true,"groupTypes":[]`, directory.Group{Name: "M", Foreign: true}},
		{`"displayName":"U","mailEnabled":true,"groupTypes":["Unified"]`, directory.Group{Name: "U"}},
	} {
		s := newStub(t, says(200, jsonType, `{"id":"`+groupID+`",`+tt.body+`}`))
		got, _, err := s.tenant(t).Group(t.Context(), groupID)
		tt.want.ID = groupID
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v", tt.body, got, err)
		}
		if want := "GET /v1.0/groups/" + groupID + " $select=id,displayName,groupTypes,isAssignableToRole,onPremisesSyncEnabled,mailEnabled"; s.requests()[0].line != want {
			t.Errorf("sent %s", s.requests()[0].line)
		}
	}
}

func TestManager(t *testing.T) {
	s := newStub(t, says(200, jsonType, `{"@odata.type":"#microsoft.graph.user","id":"`+bossID+`"}`))
	got, _, err := s.tenant(t).Manager(t.Context(), userID)
	if err != nil || got != bossID {
		t.Errorf("%s, %v", got, err)
	}
}
