package tenant

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

var countryCode = regexp.MustCompile(`^[A-Z]{2}$`)

// A detail is one member of an error's details.
type detail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Target  string `json:"target,omitempty"`
}

// A refusal is an error answer of Graph.
type refusal struct {
	status  int
	code    string
	message string
	details []detail
}

func badRequest(format string, args ...any) *refusal {
	return &refusal{status: 400, code: "Request_BadRequest", message: fmt.Sprintf(format, args...)}
}

func invalid(prop, code, format string, args ...any) *refusal {
	r := badRequest(format, args...)
	r.details = []detail{{Code: code, Message: r.message, Target: prop}}
	return r
}

func conflict(prop string) *refusal {
	return invalid(prop, "ObjectConflict", "Another object with the same value for property %s already exists.", prop)
}

func denied() *refusal {
	return &refusal{status: 403, code: "Authorization_RequestDenied", message: "Insufficient privileges to complete the operation."}
}

func notFound(id string) *refusal {
	return &refusal{status: 404, code: "Request_ResourceNotFound",
		message: fmt.Sprintf("Resource '%s' does not exist or one of its queried reference-property objects are not present.", id)}
}

func unsupported(format string, args ...any) *refusal {
	return &refusal{status: 400, code: "Request_UnsupportedQuery", message: fmt.Sprintf(format, args...)}
}

// assign writes the properties of a request body into the unpublished version
// u. It returns what it set, for the journal, and the refusal if one property
// is not acceptable; then u must be thrown away. Uniqueness is not judged here.
//
// The texts of refusals for unknown and over-long properties are not
// documented; the codes are.
func (d *directory) assign(u *user, props map[string]any, creating bool) (map[string]any, *refusal) {
	did := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(props)) { // sorted: the same body gives the same refusal
		value := props[name]
		if strings.HasPrefix(name, "@odata.") {
			continue // a type annotation
		}
		switch {
		case readOnly[name]:
			return nil, badRequest("Property '%s' is read-only and cannot be set.", name)
		case notAppOnly[name]:
			return nil, denied()
		case name == "manager@odata.bind" && creating:
			continue // the caller resolves it
		}
		did[name] = value
		bad := d.assignOne(u, name, value, creating)
		if bad != nil {
			return nil, bad
		}
	}
	if _, there := did["passwordProfile"]; there {
		did["passwordProfile"] = "set" // never kept
	}
	return did, nil
}

func (d *directory) assignOne(u *user, name string, value any, creating bool) *refusal {
	switch name {
	case "accountEnabled":
		on, ok := value.(bool)
		if !ok {
			return invalid(name, "InvalidValue", "Invalid value specified for property 'accountEnabled' of resource 'User'.")
		}
		u.enabled = on
		return nil
	case "passwordProfile":
		return checkPassword(value, creating)
	case "businessPhones":
		list, bad := texted(name, value, 1, 64)
		u.phones = list
		return bad
	case "otherMails":
		list, bad := texted(name, value, maxOtherMails, 250)
		u.otherMails = list
		return bad
	case "employeeOrgData":
		return d.assignParts(u, name, value, true, func(key string) int {
			p, ok := textByName[name+"/"+key]
			if !ok {
				return -1
			}
			return p
		})
	case "onPremisesExtensionAttributes":
		return d.assignParts(u, name, value, false, func(key string) int {
			p, ok := textByName[name+"/"+key]
			if !ok {
				return -1
			}
			return p
		})
	}
	if strings.HasPrefix(name, "extension_") {
		return d.assignExtension(u, name, value)
	}
	p, ok := textByName[name]
	if !ok || p >= pPlain {
		return badRequest("Invalid property '%s'.", name)
	}
	return d.assignText(u, p, name, value)
}

// assignParts sets the members of a complex property. When whole, members that
// are left out become null: the documented trap of employeeOrgData.
func (d *directory) assignParts(u *user, name string, value any, whole bool, find func(string) int) *refusal {
	parts, ok := value.(map[string]any)
	if value != nil && !ok {
		return invalid(name, "InvalidValue", "Invalid value specified for property '%s' of resource 'User'.", name)
	}
	if whole {
		u.text[pCostCenter], u.text[pDivision] = "", ""
	}
	for key, v := range parts {
		if strings.HasPrefix(key, "@odata.") {
			continue
		}
		p := find(key)
		if p < 0 {
			return badRequest("Invalid property '%s'.", key)
		}
		if bad := d.assignText(u, p, key, v); bad != nil {
			return bad
		}
	}
	return nil
}

func (d *directory) assignExtension(u *user, name string, value any) *refusal {
	if !d.extensions[name] {
		return badRequest("The following extension properties are not available: %s.", name)
	}
	s, ok := value.(string)
	if value != nil && !ok || utf8.RuneCountInString(s) > maxExtension {
		return invalid(name, "InvalidValue", "Invalid value specified for property '%s' of resource 'User'.", name)
	}
	u.setExtension(name, s)
	return nil
}

func (d *directory) assignText(u *user, p int, name string, value any) *refusal {
	t := &texts[p]
	if value == nil {
		if t.fixed {
			return invalid(name, "InvalidValue", "Invalid value specified for property '%s' of resource 'User'.", name)
		}
		u.text[p] = ""
		return nil
	}
	s, ok := value.(string)
	limit := t.max
	if limit == 0 {
		limit = 1024
	}
	switch {
	case !ok, s == "" && t.fixed:
		return invalid(name, "InvalidValue", "Invalid value specified for property '%s' of resource 'User'.", name)
	case p == pUsageLocation && !countryCode.MatchString(s):
		return invalid(name, "InvalidValue", "Invalid value specified for property 'usageLocation' of resource 'User'.")
	case utf8.RuneCountInString(s) > limit:
		return invalid(name, "InvalidLength", "Invalid value specified for property '%s' of resource 'User'.", name)
	case p == pUPN:
		if bad := d.checkUPN(s); bad != nil {
			return bad
		}
	case p == pMailNickname && strings.ContainsAny(s, "@()\\[]\";:<>, \t"):
		return invalid(name, "InvalidValue", "Invalid value specified for property 'mailNickname' of resource 'User'.")
	case t.instant:
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return invalid(name, "InvalidValue", "Invalid value specified for property '%s' of resource 'User'.", name)
		}
		s = stamp(when)
	}
	u.text[p] = s
	return nil
}

var upnLocal = regexp.MustCompile(`^[A-Za-z0-9'._!#^~-]{1,64}$`) // documented characters, Azure AD's user names

func (d *directory) checkUPN(s string) *refusal {
	at := strings.LastIndexByte(s, '@')
	if at < 1 || !upnLocal.MatchString(s[:at]) || strings.HasSuffix(s[:at], ".") {
		return invalid("userPrincipalName", "InvalidValue", "Property userPrincipalName is invalid.")
	}
	if !d.domains[strings.ToLower(s[at+1:])] {
		return invalid("userPrincipalName", "InvalidValue",
			"The domain portion of the userPrincipalName property is invalid. You must use one of the verified domain names in your organization.")
	}
	return nil
}

// checkPassword wants a password that a default policy takes: eight characters
// of three kinds.
func checkPassword(value any, creating bool) *refusal {
	m, ok := value.(map[string]any)
	if !ok {
		return invalid("passwordProfile", "InvalidValue", "Invalid value specified for property 'passwordProfile' of resource 'User'.")
	}
	pw, given := m["password"].(string)
	if !given {
		if creating {
			return badRequest("A password must be specified to create a new user.")
		}
		return nil
	}
	kinds := 0
	for _, class := range []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ "} {
		if strings.ContainsAny(pw, class) {
			kinds++
		}
	}
	if len(pw) < 8 || len(pw) > 256 || kinds < 3 {
		return invalid("password", "InvalidValue",
			"The specified password does not comply with password complexity requirements. Please provide a different password.")
	}
	return nil
}

// checkNew judges what POST /users additionally wants: the five required
// properties, and a user name and mail that nobody has.
func (d *directory) checkNew(u *user, props map[string]any) *refusal {
	for _, name := range []string{"accountEnabled", "displayName", "mailNickname", "userPrincipalName"} {
		if _, there := props[name]; !there {
			return invalid(name, "MissingValue", "A value is required for property '%s' of resource 'User'.", name)
		}
	}
	if _, there := props["passwordProfile"]; !there {
		return badRequest("A password must be specified to create a new user.")
	}
	return d.unique(nil, u)
}

// unique judges the properties that no two live users may share.
func (d *directory) unique(self *entry, u *user) *refusal {
	if h := d.holder(pUPN, u.text[pUPN]); h != nil && h != self {
		return conflict("userPrincipalName")
	}
	for _, p := range []int{pMail, pUPN} {
		if address := u.text[p]; address == "" || self != nil && self.cur.live() && self.cur.text[p] == address {
			continue
		} else if d.addressed(self, address) {
			return conflict("proxyAddresses") // mail makes the primary one
		}
	}
	return nil
}

// addressed reports whether address is mail of a live object other than self. Proxy addresses are unique over users, groups and
// contacts (documented); that a user name counts as one is what tenants with mailboxes report.
func (d *directory) addressed(self *entry, address string) bool {
	if h := d.holder(pMail, address); h != nil && h != self {
		return true
	}
	return slices.ContainsFunc(d.sorted, func(g *container) bool { return g.mail != "" && fold(g.mail) == fold(address) })
}

func texted(name string, value any, most, length int) ([]string, *refusal) {
	bad := invalid(name, "InvalidValue", "Invalid value specified for property '%s' of resource 'User'.", name)
	list, ok := value.([]any)
	if !ok || len(list) > most {
		return nil, bad
	}
	out := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok || utf8.RuneCountInString(s) > length {
			return nil, bad
		}
		out = append(out, s)
	}
	return out, nil
}

func localPart(upn string) string {
	local, _, _ := strings.Cut(upn, "@")
	return local
}

// stamp writes a time as Graph does: UTC, whole seconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// decodeObject reads a request body that must be one JSON object.
func decodeObject(body []byte) (map[string]any, *refusal) {
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil || m == nil {
		return nil, &refusal{status: 400, code: "BadRequest",
			message: "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format."}
	}
	return m, nil
}
