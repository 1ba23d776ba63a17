package tenant

import (
	"testing"
	"time"
)

func fuzzDirectory() *directory {
	var s Seed
	s.Tenant.Domains = []string{"rehearsal.example"}
	s.Extensions = []string{"extension_0123456789abcdef0123456789abcdef_owner"}
	d := newDirectory(time.Now, 0, s)
	u := &user{enabled: true}
	u.text[pUPN], u.text[pEmployeeID] = "ada@rehearsal.example", "E1"
	d.addUser("a", u)
	return d
}

// Whatever a $filter says, it is answered or refused; and where an index
// narrows the search, it finds what looking at everybody finds.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"employeeId eq 'E1'", "not(employeeId in ('E1','E2')) or accountEnabled eq true", "startsWith(displayName,'a''b') and id eq 'a'",
		"extension_0123456789abcdef0123456789abcdef_owner eq null", "((((", "'", "createdDateTime ge 2020-01-01T00:00:00Z",
		"onPremisesExtensionAttributes/extensionAttribute15 ne 'x'"} {
		f.Add(s)
	}
	d := fuzzDirectory()
	f.Fuzz(func(t *testing.T, s string) {
		p, bad := d.parseFilter(s)
		if bad != nil {
			if bad.status != 400 || bad.message == "" {
				t.Fatalf("refusal %+v", bad)
			}
			return
		}
		p.needsAdvanced()
		found := 0
		d.each(p, 1, 0, false, func(*entry, *user) bool { found++; return true })
		all := 0
		for _, e := range d.order {
			if p.match(e, e.cur) {
				all++
			}
		}
		if found != all {
			t.Fatalf("the index finds %d, everybody has %d", found, all)
		}
	})
}

// Whatever a PATCH says, it is applied or refused, and what it leaves can be
// written out again.
func FuzzAssign(f *testing.F) {
	for _, s := range []string{`{"accountEnabled":false}`, `{"employeeOrgData":{"division":null}}`, `{"employeeOrgData":null}`, `{"businessPhones":["1"]}`,
		`{"passwordProfile":{"password":"Abcdef12"}}`, `{"onPremisesExtensionAttributes":{"extensionAttribute1":"\u0000"}}`, `{"jobTitle":[]}`, `[]`, `{"@odata.type":1}`} {
		f.Add([]byte(s))
	}
	d := fuzzDirectory()
	fields, _ := d.selection("id,accountEnabled,employeeOrgData,onPremisesExtensionAttributes,jobTitle,otherMails,businessPhones")
	f.Fuzz(func(t *testing.T, raw []byte) {
		props, bad := decodeObject(raw)
		if bad != nil {
			return
		}
		u := d.order[0].cur.copyOf()
		if _, bad := d.assign(u, props, false); bad != nil {
			if bad.status < 400 {
				t.Fatalf("refusal %+v", bad)
			}
			return
		}
		if _, bad := decodeObject(append(appendUser(nil, d.order[0], u, fields, ""), '}')); bad != nil {
			t.Fatalf("%s leaves what is no JSON", raw)
		}
	})
}

func FuzzParseFaults(f *testing.F) {
	for _, s := range []string{"- {kind: error, status: 503, retryAfter: 2s}", `{"kind":"drop","applied":true}`, "", "- kind: [", "{", "! {0}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := ParseFaults(raw)
		if err != nil {
			return
		}
		newFaults(1).add(list...) // refused or in force, never a panic
	})
}
