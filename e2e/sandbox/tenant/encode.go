package tenant

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A field is one selected property of a user.
type field struct {
	name string
	p    int // text property, or -1
}

// otherFields are a user's properties that are not plain text.
var otherFields = set("id", "accountEnabled", "businessPhones", "otherMails", "employeeOrgData", "onPremisesExtensionAttributes",
	"createdDateTime", "deletedDateTime", "signInSessionsValidFromDateTime", "refreshTokensValidFromDateTime", "proxyAddresses",
	"onPremisesSyncEnabled", "passwordProfile", "assignedLicenses", "identities")

// selection turns $select into fields. The empty string selects the documented
// default set. One extension attribute alone cannot be selected (documented).
func (d *directory) selection(list string) ([]field, *refusal) {
	names := defaultSelect
	if list != "" {
		names = strings.Split(list, ",")
	}
	out := make([]field, 0, len(names)+1)
	withID := false
	for _, name := range names {
		name = strings.TrimSpace(name)
		p, isText := textByName[name]
		switch {
		case isText && p < pPlain:
		case otherFields[name], d.extensions[name]:
			p = -1
		default:
			return nil, &refusal{status: 400, code: "BadRequest",
				message: fmt.Sprintf("Parsing OData Select and Expand failed: Could not find a property named '%s' on type 'microsoft.graph.user'.", name)}
		}
		withID = withID || name == "id"
		out = append(out, field{name, p})
	}
	return out, nil
}

// appendUser writes u with the selected properties, without the closing brace,
// after the given prefix members.
func appendUser(b []byte, e *entry, u *user, fields []field, prefix string) []byte {
	b = append(b, '{')
	b = append(b, prefix...)
	for i, f := range fields {
		if i > 0 || prefix != "" {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, f.name...)
		b = append(b, '"', ':')
		if f.p >= 0 {
			b = appendText(b, u.text[f.p])
			continue
		}
		b = appendOther(b, e, u, f.name)
	}
	return b
}

func appendOther(b []byte, e *entry, u *user, name string) []byte {
	switch name {
	case "id":
		return appendText(b, e.id)
	case "accountEnabled":
		return strconv.AppendBool(b, u.enabled)
	case "businessPhones":
		return appendList(b, u.phones)
	case "otherMails":
		return appendList(b, u.otherMails)
	case "assignedLicenses", "identities":
		return append(b, "[]"...)
	case "createdDateTime":
		return appendText(b, stamp(u.created))
	case "deletedDateTime":
		if u.deleted.IsZero() {
			return append(b, "null"...)
		}
		return appendText(b, stamp(u.deleted))
	case "signInSessionsValidFromDateTime", "refreshTokensValidFromDateTime":
		return appendText(b, stamp(u.sessionsFrom))
	case "proxyAddresses":
		if u.text[pMail] == "" {
			return append(b, "[]"...)
		}
		return appendList(b, []string{"SMTP:" + u.text[pMail]})
	case "employeeOrgData":
		if u.text[pCostCenter] == "" && u.text[pDivision] == "" {
			return append(b, "null"...)
		}
		b = append(b, `{"costCenter":`...)
		b = appendText(b, u.text[pCostCenter])
		b = append(b, `,"division":`...)
		b = appendText(b, u.text[pDivision])
		return append(b, '}')
	case "onPremisesExtensionAttributes":
		for i := range 15 {
			if i == 0 {
				b = append(b, `{"extensionAttribute`...)
			} else {
				b = append(b, `,"extensionAttribute`...)
			}
			b = strconv.AppendInt(b, int64(i+1), 10)
			b = append(b, `":`...)
			b = appendText(b, u.text[pExt1+i])
		}
		return append(b, '}')
	case "onPremisesSyncEnabled", "passwordProfile":
		return append(b, "null"...)
	}
	return appendText(b, u.extensions[name])
}

// appendText writes a string, or null for the empty one: Graph keeps no empty
// text. Plain ASCII takes the short way.
func appendText(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			enc, _ := json.Marshal(s) // a string always encodes
			return append(b, enc...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendList(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		if s == "" {
			b = append(b, '"', '"')
			continue
		}
		b = appendText(b, s)
	}
	return append(b, ']')
}

// appendContainer writes a group or unit with the selected properties; none
// selected means the usual ones.
func appendContainer(b []byte, c *container, names []string, prefix string) []byte {
	if len(names) == 0 {
		names = []string{"id", "displayName", "description"}
		if !c.unit {
			names = append(names, "groupTypes", "isAssignableToRole", "mailEnabled", "securityEnabled")
		}
	}
	b = append(b, '{')
	b = append(b, prefix...)
	for i, name := range names {
		if i > 0 || prefix != "" {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, '"', ':')
		switch name {
		case "id":
			b = appendText(b, c.id)
		case "displayName":
			b = appendText(b, c.name)
		case "description":
			b = appendText(b, c.description)
		case "groupTypes":
			if c.dynamic {
				b = append(b, `["DynamicMembership"]`...)
			} else {
				b = append(b, "[]"...)
			}
		case "isAssignableToRole":
			b = strconv.AppendBool(b, c.roleAssignable)
		case "mail":
			b = appendText(b, c.mail)
		case "mailEnabled":
			b = strconv.AppendBool(b, c.mailEnabled)
		case "securityEnabled":
			b = append(b, "true"...)
		case "membershipRule":
			if c.dynamic {
				b = append(b, `"user.accountEnabled -eq true"`...)
			} else {
				b = append(b, "null"...)
			}
		default:
			b = append(b, "null"...)
		}
	}
	return b
}
