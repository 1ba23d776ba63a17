package entra

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"

	"github.com/microsoftgraph/msgraph-sdk-go/models"

	"jmlbridge/internal/directory"
)

// accountSelect is what is asked of every account, beside the mark: Graph leaves out most of it unasked.
var accountSelect = []string{
	"id", "userPrincipalName", "accountEnabled", "signInSessionsValidFromDateTime",
	"displayName", "givenName", "surname", "employeeId", "employeeType", "jobTitle", "department",
	"companyName", "employeeOrgData", "usageLocation",
}

// markAttribute is the attribute that holds the ownership mark.
type markAttribute struct {
	name     string
	numbered bool // one of extensionAttribute1..15, which are members of onPremisesExtensionAttributes
}

var (
	numberedForm  = regexp.MustCompile(`^extensionAttribute([1-9]|1[0-5])$`)
	extensionForm = regexp.MustCompile(`^extension_[0-9a-f]{32}_[A-Za-z][A-Za-z0-9_]{0,63}$`)
)

// CheckMarkAttribute refuses what cannot be Config.MarkAttribute.
func CheckMarkAttribute(name string) error {
	_, err := parseMarkAttribute(name)
	return err
}

func parseMarkAttribute(name string) (markAttribute, error) {
	if name == "" {
		name = DefaultMarkAttribute
	}
	switch {
	case numberedForm.MatchString(name):
		return markAttribute{name, true}, nil
	case extensionForm.MatchString(name):
		return markAttribute{name, false}, nil
	}
	return markAttribute{}, fmt.Errorf("mark attribute is %q; expected extensionAttribute1 to extensionAttribute15, "+
		"or a directory extension such as extension_<application id without dashes>_<name>", name)
}

func (m markAttribute) selection() string {
	if m.numbered {
		return "onPremisesExtensionAttributes" // its members cannot be selected one by one
	}
	return m.name
}

// path is how a filter names the attribute.
func (m markAttribute) path() string {
	if m.numbered {
		return "onPremisesExtensionAttributes/" + m.name
	}
	return m.name
}

// set puts the mark on a user to be created.
func (m markAttribute) set(u models.Userable, mark string) {
	if !m.numbered {
		extra(u, map[string]any{m.name: mark})
		return
	}
	numbered := models.NewOnPremisesExtensionAttributes()
	// By name: the model has a setter for each of the fifteen.
	numbered.SetAdditionalData(map[string]any{m.name: mark})
	u.SetOnPremisesExtensionAttributes(numbered)
}

// get reads the mark of a user who was asked for with selection.
func (m markAttribute) get(u models.Userable) string {
	if !m.numbered {
		s, _ := u.GetAdditionalData()[m.name].(*string)
		return text(s)
	}
	n := u.GetOnPremisesExtensionAttributes()
	if n == nil {
		return ""
	}
	all := []func() *string{
		n.GetExtensionAttribute1, n.GetExtensionAttribute2, n.GetExtensionAttribute3, n.GetExtensionAttribute4,
		n.GetExtensionAttribute5, n.GetExtensionAttribute6, n.GetExtensionAttribute7, n.GetExtensionAttribute8,
		n.GetExtensionAttribute9, n.GetExtensionAttribute10, n.GetExtensionAttribute11, n.GetExtensionAttribute12,
		n.GetExtensionAttribute13, n.GetExtensionAttribute14, n.GetExtensionAttribute15,
	}
	for i, get := range all {
		if m.name == fmt.Sprintf("extensionAttribute%d", i+1) {
			return text(get())
		}
	}
	return ""
}

// account reads u. Nil where u is not an account.
func (t *Tenant) account(u models.Userable) *directory.Account {
	if u == nil || text(u.GetId()) == "" {
		return nil
	}
	a := &directory.Account{
		ID: text(u.GetId()), Mark: t.mark.get(u), UPN: text(u.GetUserPrincipalName()),
		Enabled: u.GetAccountEnabled(), EmployeeID: text(u.GetEmployeeId()),
		Attributes: directory.Attributes{
			DisplayName: text(u.GetDisplayName()), GivenName: text(u.GetGivenName()), Surname: text(u.GetSurname()),
			EmployeeID: text(u.GetEmployeeId()), EmployeeType: text(u.GetEmployeeType()), JobTitle: text(u.GetJobTitle()),
			Department: text(u.GetDepartment()), Company: text(u.GetCompanyName()), UsageLocation: text(u.GetUsageLocation()),
		},
	}
	if at := u.GetSignInSessionsValidFromDateTime(); at != nil {
		a.SessionsValidFrom = at.UTC()
	}
	if org := u.GetEmployeeOrgData(); org != nil {
		a.Attributes.Division, a.Attributes.CostCenter = text(org.GetDivision()), text(org.GetCostCenter())
	}
	return a
}

// changes is a new user with what differs from from to to, and whether anything does. A new one, because
// a fetched model sent back carries read-only properties; null goes through the additional data, because
// a nil member is left out.
func changes(from, to directory.Attributes) (models.Userable, bool) {
	u := models.NewUser()
	cleared := map[string]any{}
	changed := false
	put := func(name, old, val string, set func(*string)) {
		switch {
		case old == val:
			return
		case val == "":
			cleared[name] = nil
		default:
			set(&val)
		}
		changed = true
	}
	put("givenName", from.GivenName, to.GivenName, u.SetGivenName)
	put("surname", from.Surname, to.Surname, u.SetSurname)
	put("employeeId", from.EmployeeID, to.EmployeeID, u.SetEmployeeId)
	put("employeeType", from.EmployeeType, to.EmployeeType, u.SetEmployeeType)
	put("jobTitle", from.JobTitle, to.JobTitle, u.SetJobTitle)
	put("department", from.Department, to.Department, u.SetDepartment)
	put("companyName", from.Company, to.Company, u.SetCompanyName)
	// Graph lets neither of these be cleared.
	if to.DisplayName != "" {
		put("displayName", from.DisplayName, to.DisplayName, u.SetDisplayName)
	}
	if to.UsageLocation != "" {
		put("usageLocation", from.UsageLocation, to.UsageLocation, u.SetUsageLocation)
	}
	if from.Division != to.Division || from.CostCenter != to.CostCenter {
		u.SetEmployeeOrgData(orgData(to))
		changed = true
	}
	extra(u, cleared)
	return u, changed
}

// orgData always names both members: the one that is left out becomes null.
func orgData(a directory.Attributes) models.EmployeeOrgDataable {
	org := models.NewEmployeeOrgData()
	cleared := map[string]any{}
	put := func(name, val string, set func(*string)) {
		if val == "" {
			cleared[name] = nil
		} else {
			set(&val)
		}
	}
	put("division", a.Division, org.SetDivision)
	put("costCenter", a.CostCenter, org.SetCostCenter)
	org.SetAdditionalData(cleared)
	return org
}

func extra(u models.Userable, more map[string]any) {
	all := u.GetAdditionalData()
	if all == nil {
		all = map[string]any{}
	}
	for k, v := range more {
		all[k] = v
	}
	u.SetAdditionalData(all)
}

// password makes one that nobody will know, with a character of each of the four classes that a tenant
// can ask for.
func password() string {
	return rand.Text() + "-" + strings.ToLower(rand.Text()) + "7" // 260 bits
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
