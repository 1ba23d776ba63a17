package source

import (
	"fmt"
	"slices"
	"strings"

	"jmlbridge/internal/config"
	"jmlbridge/schema"
)

// Mapping says what the columns of an export mean. Columns that it does not name are not read.
type Mapping struct {
	// Delimiter separates the cells of a CSV row: "," (default), ";" or "tab".
	Delimiter config.Text `yaml:"delimiter,omitempty"`

	// Values rewrites cells before anything looks at them: column -> as written -> as meant.
	Values map[string]map[string]config.Text `yaml:"values,omitempty"`

	// Subject is the column with the HR id: 1 to 64 printable ASCII characters, never given to another person.
	Subject string `yaml:"subject"`

	// Engagement is the column with the source's own key of an employment, if it has one: when it
	// changes, one engagement has ended and another begun.
	Engagement string `yaml:"engagement,omitempty"`

	// Status decides who is employed. Without it, everyone in the file is.
	Status *StatusColumn `yaml:"status,omitempty"`

	// Leave decides who is on leave and so suspended. Without it, the file never suspends or resumes anyone.
	Leave *LeaveColumn `yaml:"leave,omitempty"`

	Start   string        `yaml:"start,omitempty"`   // column with the first day
	End     string        `yaml:"end,omitempty"`     // column with the last day
	Manager string        `yaml:"manager,omitempty"` // column with the manager's HR id
	Reason  *ReasonColumn `yaml:"reason,omitempty"`
	Txn     string        `yaml:"ticket,omitempty"` // column with the source's ticket number
	Dates   Dates         `yaml:"dates,omitempty"`
	Person  Person        `yaml:"person"`

	// Roles are names that the enclave's policy gives a meaning; every rule that holds adds its roles.
	Roles []RoleRule `yaml:"roles,omitempty"`
}

// StatusColumn lists how active and inactive are spelt. Any other value refuses the row.
type StatusColumn struct {
	Column   string        `yaml:"column"`
	Active   []config.Text `yaml:"active"`
	Inactive []config.Text `yaml:"inactive"`
	// Suspended values mean employed and on leave, for sources that put it into the status.
	Suspended []config.Text `yaml:"suspended,omitempty"`
}

// LeaveColumn lists how on leave and present are spelt. Any other value refuses the row.
type LeaveColumn struct {
	Column  string        `yaml:"column"`
	OnLeave []config.Text `yaml:"on_leave"`
	Present []config.Text `yaml:"present"`
}

// ReasonColumn translates the source's words for why someone leaves into the schema's. What is not
// listed is "other".
type ReasonColumn struct {
	Column string            `yaml:"column"`
	Values map[string]string `yaml:"values"`
}

// Person names the columns of a person's attributes. An empty display name is made of given and family
// name.
type Person struct {
	DisplayName    string `yaml:"displayName,omitempty"`
	Formatted      string `yaml:"formatted,omitempty"`
	GivenName      string `yaml:"givenName,omitempty"`
	MiddleName     string `yaml:"middleName,omitempty"`
	FamilyName     string `yaml:"familyName,omitempty"`
	UserType       string `yaml:"userType,omitempty"`
	Title          string `yaml:"title,omitempty"`
	Organization   string `yaml:"organization,omitempty"`
	Division       string `yaml:"division,omitempty"`
	Department     string `yaml:"department,omitempty"`
	CostCenter     string `yaml:"costCenter,omitempty"`
	UsageLocation  string `yaml:"usageLocation,omitempty"` // ISO 3166-1 alpha-2, after Values
	PreferredAlias string `yaml:"preferredAlias,omitempty"`
}

// RoleRule adds Role where all of When hold, or the names in the cell Column, split at Split.
type RoleRule struct {
	Role   string      `yaml:"role,omitempty"`
	When   []Condition `yaml:"when,omitempty"`
	Column string      `yaml:"column,omitempty"`
	Split  string      `yaml:"split,omitempty"` // default ";"
}

// A MappingError says which key of the mapping is wrong; Key is a path below the mapping.
type MappingError struct {
	Key    string
	Reason string
}

func (e *MappingError) Error() string { return e.Key + ": " + e.Reason }

func wrong(key, format string, args ...any) error {
	return &MappingError{key, fmt.Sprintf(format, args...)}
}

// Importer reads exports by one mapping. It is not changed by reading.
type Importer struct {
	m        Mapping
	calendar calendar
	comma    rune
	needed   []string // columns that must be there
	scope    []string // columns whose cells go into Record.Cells
	decide   []string // columns by which scope and roles go
	fits     func(subject string, j *schema.Joiner) error
}

// New checks m. scope lists further columns that scope rules look at. fits says whether an event about
// the person can be sent at all (schema.EncodePadded with the longest claims in use), so that a row
// which never could is refused with its line.
func New(m Mapping, scope []string, fits func(subject string, j *schema.Joiner) error) (*Importer, error) {
	im := &Importer{m: m, scope: scope, fits: fits}
	var err error
	if im.calendar, err = newCalendar(m.Dates); err != nil {
		key, reason, _ := strings.Cut(err.Error(), ": ")
		return nil, wrong(key, "%s", reason)
	}
	switch m.Delimiter {
	case "", ",":
		im.comma = ','
	case ";":
		im.comma = ';'
	case "tab", "\t":
		im.comma = '\t'
	default:
		return nil, wrong("delimiter", `want ",", ";" or "tab", got %q`, m.Delimiter)
	}
	if m.Subject == "" {
		return nil, wrong("subject", "want the column with the HR id")
	}
	if m.Person.DisplayName == "" && (m.Person.GivenName == "" || m.Person.FamilyName == "") {
		return nil, wrong("person", "want a column for displayName, or for givenName and familyName")
	}
	if s := m.Status; s != nil && (s.Column == "" || len(s.Active) == 0 || len(s.Inactive) == 0) {
		return nil, wrong("status", "want column, active and inactive")
	}
	if l := m.Leave; l != nil && (l.Column == "" || len(l.OnLeave) == 0 || len(l.Present) == 0) {
		return nil, wrong("leave", "want column, on_leave and present")
	}
	if s := m.Status; s != nil {
		if v, twice := repeated(s.Active, s.Inactive, s.Suspended); twice {
			return nil, wrong("status", "%q stands in two lists; a value means one of active, inactive and suspended", v)
		}
	}
	if l := m.Leave; l != nil {
		if v, twice := repeated(l.OnLeave, l.Present); twice {
			return nil, wrong("leave", "%q stands in two lists; a value means either on_leave or present", v)
		}
	}
	if r := m.Reason; r != nil {
		if r.Column == "" {
			return nil, wrong("reason", "want column")
		}
		for from, to := range r.Values {
			if !slices.Contains(schema.Reasons(schema.KindLeaver), to) {
				return nil, wrong("reason.values", "%q: want one of %s, got %q", from, strings.Join(schema.Reasons(schema.KindLeaver), ", "), to)
			}
		}
	}
	im.m.Roles = slices.Clone(m.Roles)
	for i := range im.m.Roles {
		r := &im.m.Roles[i]
		key := fmt.Sprintf("roles[%d]", i)
		if (r.Role == "") == (r.Column == "") || r.Column != "" && r.When != nil {
			return nil, wrong(key, "want either role with when, or column with split")
		}
		if r.Role != "" {
			if err := schema.CheckRole(r.Role); err != nil {
				return nil, wrong(key+".role", "want a role name of a-z, 0-9, '.', '_' and '-' that begins with a letter or digit, of at most %d octets, got %q", schema.MaxRole, r.Role)
			}
		}
		r.When = slices.Clone(r.When)
		for j := range r.When {
			if err := r.When[j].Compile(); err != nil {
				return nil, wrong(fmt.Sprintf("%s.when[%d]", key, j), "%v", err)
			}
		}
	}
	im.needed = im.columns()
	im.decide = slices.Clone(scope)
	for _, r := range im.m.Roles {
		for _, c := range r.When {
			im.decide = append(im.decide, c.Column)
		}
		if r.Column != "" {
			im.decide = append(im.decide, r.Column)
		}
	}
	return im, nil
}

// repeated finds a value that stands in more than one of the lists.
func repeated(lists ...[]config.Text) (v config.Text, found bool) {
	for i, l := range lists {
		for _, v := range l {
			if slices.ContainsFunc(lists[:i], func(other []config.Text) bool { return slices.Contains(other, v) }) {
				return v, true
			}
		}
	}
	return "", false
}

// columns lists every column that is read, sorted.
func (im *Importer) columns() []string {
	m := &im.m
	p := &m.Person
	names := []string{
		m.Subject, m.Engagement, m.Start, m.End, m.Manager, m.Txn, p.DisplayName, p.Formatted, p.GivenName, p.MiddleName, p.FamilyName,
		p.UserType, p.Title, p.Organization, p.Division, p.Department, p.CostCenter, p.UsageLocation, p.PreferredAlias,
	}
	if m.Status != nil {
		names = append(names, m.Status.Column)
	}
	if m.Leave != nil {
		names = append(names, m.Leave.Column)
	}
	if m.Reason != nil {
		names = append(names, m.Reason.Column)
	}
	for _, r := range m.Roles {
		names = append(names, r.Column)
		for _, c := range r.When {
			names = append(names, c.Column)
		}
	}
	names = append(names, im.scope...)
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(s string) bool { return s == "" })
}
