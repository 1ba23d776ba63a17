package entra

import (
	"encoding/json"
	"strings"
	"testing"

	"jmlbridge/internal/directory"
)

func TestCreate(t *testing.T) {
	const extension = "extension_0123456789abcdef0123456789abcdef_jmlMark"
	passwords := map[string]bool{}
	for attribute, mark := range map[string]string{
		"":                    `"onPremisesExtensionAttributes":{"extensionAttribute15":"jmlbridge:0123456789ab:pat.doe"}`,
		"extensionAttribute3": `"onPremisesExtensionAttributes":{"extensionAttribute3":"jmlbridge:0123456789ab:pat.doe"}`,
		extension:             `"` + extension + `":"jmlbridge:0123456789ab:pat.doe"`,
	} {
		s := newStub(t, says(201, jsonType, `{"id":"`+userID+`","userPrincipalName":"`+userUPN+`"}`))
		cfg := s.config(t)
		cfg.MarkAttribute = attribute
		log, logged := capture()
		cfg.Log = log
		newcomer := newcomer
		newcomer.Attributes.CostCenter = ""
		got, receipt, err := open(t, cfg).Create(t.Context(), newcomer)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != userID || got.Mark != newcomer.Mark || got.Enabled == nil || !*got.Enabled || got.Attributes != newcomer.Attributes {
			t.Errorf("made %+v", got)
		}
		sent := s.requests()
		checkHeaders(t, sent, receipt)
		var body struct {
			PasswordProfile struct{ Password string }
		}
		if err := json.Unmarshal([]byte(sent[0].body), &body); err != nil {
			t.Fatal(err)
		}
		p := body.PasswordProfile.Password
		if len(p) < 32 || passwords[p] || !strings.ContainsAny(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") ||
			!strings.ContainsAny(p, "abcdefghijklmnopqrstuvwxyz") || !strings.ContainsAny(p, "0123456789") || !strings.ContainsAny(p, "-") {
			t.Errorf("password of %d characters is short, repeated or poor", len(p))
		}
		passwords[p] = true
		if strings.Contains(logged.String(), p) {
			t.Error("the password was logged")
		}
		sameJSON(t, strings.Replace(sent[0].body, p, "P", 1), `{"@odata.type":"#microsoft.graph.user","accountEnabled":true,
			"userPrincipalName":"`+userUPN+`","mailNickname":"pat.doe","displayName":"Pat Doe","givenName":"Pat","surname":"Doe",
			"employeeId":"E-pat.doe","employeeType":"Employee","jobTitle":"Analyst","department":"SOC","companyName":"MSSP","usageLocation":"US",
			"employeeOrgData":{"division":"Defense","costCenter":null},`+mark+`,
			"passwordProfile":{"password":"P","forceChangePasswordNextSignIn":true}}`)
	}
}

// TestUpdate: only what differs, null for what is cleared, and employeeOrgData whole.
func TestUpdate(t *testing.T) {
	full := newcomer.Attributes
	without := func(change func(*directory.Attributes)) directory.Attributes {
		a := full
		change(&a)
		return a
	}
	for name, tt := range map[string]struct {
		to   directory.Attributes
		want string
	}{
		"nothing":        {full, ""},
		"one":            {without(func(a *directory.Attributes) { a.JobTitle = "Lead" }), `{"jobTitle":"Lead"}`},
		"cleared":        {without(func(a *directory.Attributes) { a.JobTitle, a.EmployeeID = "", "" }), `{"jobTitle":null,"employeeId":null}`},
		"cost center":    {without(func(a *directory.Attributes) { a.CostCenter = "1" }), `{"employeeOrgData":{"division":"Defense","costCenter":"1"}}`},
		"no cost center": {without(func(a *directory.Attributes) { a.CostCenter = "" }), `{"employeeOrgData":{"division":"Defense","costCenter":null}}`},
		"no org at all":  {without(func(a *directory.Attributes) { a.CostCenter, a.Division = "", "" }), `{"employeeOrgData":{"division":null,"costCenter":null}}`},
		"never cleared":  {without(func(a *directory.Attributes) { a.UsageLocation, a.DisplayName = "", "" }), ""},
		"everything at once": {directory.Attributes{}, `{"givenName":null,"surname":null,"employeeId":null,"employeeType":null,"jobTitle":null,
			"department":null,"companyName":null,"employeeOrgData":{"division":null,"costCenter":null}}`},
		"odd characters": {without(func(a *directory.Attributes) { a.Surname = "O\"Br\\ien\u2028\u0001 <Ünal> \U0001F600\n" }),
			`{"surname":"O\"Br\\ien\u2028\u0001 <Ünal> 😀\n"}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, says(204, "", ""))
			receipt, err := s.tenant(t).Update(t.Context(), userID, full, tt.to)
			if err != nil {
				t.Fatal(err)
			}
			sent := s.requests()
			checkHeaders(t, sent, receipt)
			if tt.want == "" {
				if len(sent) != 0 {
					t.Errorf("sent %v for nothing", sent)
				}
				return
			}
			sameJSON(t, sent[0].body, strings.Replace(tt.want, "{", `{"@odata.type":"#microsoft.graph.user",`, 1))
		})
	}
}

// TestMisuse: an argument that would make another request of it makes none.
func TestMisuse(t *testing.T) {
	s := newStub(t, says(204, "", ""))
	tenant := s.tenant(t)
	for _, bad := range []string{"", "../groups/x", "a/b", "$count", "me@x", "a b", strings.Repeat("a", 65), "-"} {
		for name, f := range map[string]func() error{
			"get":       func() error { _, _, err := tenant.Get(t.Context(), bad); return err },
			"groups":    func() error { _, _, err := tenant.Groups(t.Context(), bad); return err },
			"group":     func() error { _, _, err := tenant.Group(t.Context(), bad); return err },
			"manager":   func() error { _, _, err := tenant.Manager(t.Context(), bad); return err },
			"disable":   func() error { _, err := tenant.Disable(t.Context(), bad); return err },
			"enable":    func() error { _, err := tenant.Enable(t.Context(), bad); return err },
			"revoke":    func() error { _, err := tenant.RevokeSessions(t.Context(), bad); return err },
			"delete":    func() error { _, err := tenant.Delete(t.Context(), bad); return err },
			"remove":    func() error { _, err := tenant.RemoveMember(t.Context(), groupID, bad); return err },
			"remove 2":  func() error { _, err := tenant.RemoveMember(t.Context(), bad, userID); return err },
			"add":       func() error { _, err := tenant.AddMember(t.Context(), groupID, bad); return err },
			"manager 2": func() error { _, err := tenant.SetManager(t.Context(), userID, bad); return err },
			"clear":     func() error { _, err := tenant.ClearManager(t.Context(), bad); return err },
			"update": func() error {
				_, err := tenant.Update(t.Context(), bad, directory.Attributes{}, newcomer.Attributes)
				return err
			},
		} {
			wantKinds(t, name+" "+bad, f(), directory.CodeMisuse, directory.ErrInvalid, directory.ErrUnsent)
		}
	}
	_, _, err := tenant.GetByUPN(t.Context(), "$count")
	wantKinds(t, "upn", err, directory.CodeMisuse, directory.ErrInvalid, directory.ErrUnsent)
	_, _, err = tenant.FindByMark(t.Context(), "")
	wantKinds(t, "mark", err, directory.CodeMisuse, directory.ErrInvalid, directory.ErrUnsent)
	unmarked := newcomer
	unmarked.Mark = ""
	_, _, err = tenant.Create(t.Context(), unmarked)
	wantKinds(t, "create without a mark", err, directory.CodeMisuse, directory.ErrInvalid, directory.ErrUnsent)
	if n := s.count() + s.tokenRequests(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}
