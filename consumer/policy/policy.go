// Package policy is the enclave's own word on what a producer's facts mean here: which role name
// stands for which groups, how accounts are named, what is never touched and how much may change in
// an hour. No message can reach any of it.
//
// A policy is one YAML file, read strictly: an unknown key, a duplicate key or a role that names a
// group outside the allow-list is an error with its line, and nothing starts.
package policy

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"jmlbridge/schema"
)

// maxFile bounds a policy file, in octets.
const maxFile = 1 << 20

// Policy is one policy file, checked.
type Policy struct {
	// Version of the file's form; 1.
	Version int `yaml:"version"`
	// UPN makes user principal names. Never used to find or match a person: that is the mark's task.
	UPN Naming `yaml:"upn"`
	// UsageLocation (ISO 3166-1 alpha-2) stands in where a person brings none. Licences need one.
	UsageLocation string `yaml:"usage_location"`
	// Grace is how long a closed engagement's account stays, disabled and stripped, before it is
	// deleted (softly: Entra keeps it another 30 days). Zero: never deleted by the bridge.
	Grace Duration `yaml:"grace"`
	// Groups is the allow-list: the bridge adds to and removes from these and no others.
	Groups map[string]Group `yaml:"groups"`
	// Roles says which groups a producer's role name stands for. A role that is not here is held.
	Roles map[string]Role `yaml:"roles"`
	// Protected accounts (break-glass, service operators) are never touched, whatever a message says.
	Protected []string `yaml:"protected"`
	Limits    Limits   `yaml:"limits"`

	digest    string
	protected map[string]bool
	listed    map[string]string
}

// Naming of accounts.
type Naming struct {
	// Template over {givenName}, {familyName}, {alias} and {subject}, reduced to a-z, 0-9, '.', '-'
	// and '_'. {alias} is the person's preferred alias, else givenName.familyName, else the subject.
	// A name that another person bears, or bore within two years, gets a number.
	Template string `yaml:"template"`
	Domain   string `yaml:"domain"`
}

// Group on the allow-list.
type Group struct {
	ID string `yaml:"id"` // object id in the tenant
}

// Role of the producer's, as the enclave reads it.
type Role struct {
	Groups []string `yaml:"groups"` // names out of the allow-list
}

// Limits on planned effects, whatever caused them. A zero limit is refused: say a number.
type Limits struct {
	GivePerHour int `yaml:"give_per_hour"` // persons given something; past it all waiting gives are held
	CutPerHour  int `yaml:"cut_per_hour"`  // persons disabled; past it cuts wait, at most CutHold
	// CutHold is how long a cut past its limit may wait for two operators to discard it. Then it
	// happens. At most one hour (PS-4 at High); default 30m.
	CutHold Duration `yaml:"cut_hold"`
	// UrgentPerHour lets urgent leavers past a cut limit that is used up.
	UrgentPerHour int `yaml:"urgent_per_hour"`
}

// Duration is a time.Duration written like 30m, 24h or 30d.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days+" ", "%d ", &n); err == nil && n >= 0 && n <= 3650 && fmt.Sprint(n) == days {
			*d = Duration(time.Duration(n) * 24 * time.Hour)
			return nil
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("want a duration like 30m, 24h or 30d, got %q", s)
	}
	*d = Duration(v)
	return nil
}

// Load reads the policy file at path. Errors name the file and, where there is one, the line.
func Load(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() > maxFile {
		return nil, fmt.Errorf("read policy %s: larger than %d octets or unreadable", path, maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	p, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", path, err)
	}
	return p, nil
}

// Parse reads a policy from text and checks it.
func Parse(text []byte) (*Policy, error) {
	p := &Policy{Limits: Limits{CutHold: Duration(30 * time.Minute), UrgentPerHour: 5}, Grace: Duration(30 * 24 * time.Hour)}
	if err := yaml.UnmarshalWithOptions(text, p, yaml.Strict(), yaml.DisallowUnknownField()); err != nil {
		return nil, fmt.Errorf("%s", yaml.FormatError(err, false, true))
	}
	if err := p.check(text); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	p.digest = base64.RawURLEncoding.EncodeToString(sum[:])
	return p, nil
}

// Digest is the SHA-256 of the file, base64url: the policy's name on the ledger.
func (p *Policy) Digest() string { return p.digest }

var (
	objectID   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	roleName   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	domainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)
	country    = regexp.MustCompile(`^[A-Z]{2}$`)
	field      = regexp.MustCompile(`\{[^}]*\}`)
)

func (p *Policy) check(text []byte) error {
	at := func(path, format string, args ...any) error {
		return fmt.Errorf("%s%s: %s", line(text, path), strings.TrimPrefix(path, "$."), fmt.Sprintf(format, args...))
	}
	if p.Version != 1 {
		return at("$.version", "want 1, got %d", p.Version)
	}
	if !domainName.MatchString(p.UPN.Domain) {
		return at("$.upn.domain", "want a verified domain of the tenant like gov.example.us, got %q", p.UPN.Domain)
	}
	if p.UPN.Template == "" {
		p.UPN.Template = "{alias}"
	}
	for _, f := range field.FindAllString(p.UPN.Template, -1) {
		if !slices.Contains([]string{"{alias}", "{givenName}", "{familyName}", "{subject}"}, f) {
			return at("$.upn.template", "%s is no field; use {alias}, {givenName}, {familyName} or {subject}", f)
		}
	}
	if !field.MatchString(p.UPN.Template) {
		return at("$.upn.template", "names no field, so every account would have the same name")
	}
	if p.UsageLocation != "" && !country.MatchString(p.UsageLocation) {
		return at("$.usage_location", "want an ISO 3166-1 alpha-2 code like US, got %q", p.UsageLocation)
	}
	p.listed = map[string]string{}
	for name, g := range p.Groups {
		if !objectID.MatchString(g.ID) {
			return at("$.groups."+name+".id", "want the group's object id in lower case, got %q", g.ID)
		}
		if other, ok := p.listed[g.ID]; ok {
			return at("$.groups."+name+".id", "is also the id of %s", other)
		}
		p.listed[g.ID] = name
	}
	for name, r := range p.Roles {
		if len(name) > schema.MaxRole || !roleName.MatchString(name) {
			return at("$.roles."+name, "want a role name of lower-case letters, digits, '.', '_' and '-'")
		}
		for i, g := range r.Groups {
			if _, ok := p.Groups[g]; !ok {
				return at(fmt.Sprintf("$.roles.%s.groups[%d]", name, i), "%q is not in the allow-list under groups", g)
			}
		}
	}
	p.protected = map[string]bool{}
	for i, who := range p.Protected {
		if !objectID.MatchString(strings.ToLower(who)) && !strings.Contains(who, "@") {
			return at(fmt.Sprintf("$.protected[%d]", i), "want an object id or a user principal name, got %q", who)
		}
		p.protected[strings.ToLower(who)] = true
	}
	if len(p.protected) == 0 {
		return at("$.protected", "name at least one break-glass account that the bridge must never touch")
	}
	if p.Limits.GivePerHour < 1 {
		return at("$.limits.give_per_hour", "want at least 1, got %d", p.Limits.GivePerHour)
	}
	if p.Limits.CutPerHour < 1 {
		return at("$.limits.cut_per_hour", "want at least 1, got %d", p.Limits.CutPerHour)
	}
	if h := time.Duration(p.Limits.CutHold); h > time.Hour {
		return at("$.limits.cut_hold", "want at most 1h, since a cut must happen within an hour, got %v", h)
	}
	if p.Limits.UrgentPerHour < 0 {
		return at("$.limits.urgent_per_hour", "want 0 or more, got %d", p.Limits.UrgentPerHour)
	}
	return nil
}

// line finds where path stands in text, as "line 12: "; empty where the key is absent.
func line(text []byte, path string) string {
	pt, err := yaml.PathString(path)
	if err != nil {
		return ""
	}
	node, err := pt.ReadNode(strings.NewReader(string(text)))
	if err != nil || node == nil || node.GetToken() == nil {
		return ""
	}
	return fmt.Sprintf("line %d: ", node.GetToken().Position.Line)
}

// GroupsOf gives the group ids that roles stand for, sorted and without repeats, and the roles that
// the policy does not know.
func (p *Policy) GroupsOf(roles []string) (ids, unknown []string) {
	for _, role := range roles {
		r, ok := p.Roles[role]
		if !ok {
			unknown = append(unknown, role)
			continue
		}
		for _, g := range r.Groups {
			ids = append(ids, p.Groups[g].ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), unknown
}

// Listed reports whether the group with this object id is on the allow-list.
func (p *Policy) Listed(groupID string) bool { _, ok := p.listed[groupID]; return ok }

// IsProtected reports whether the account with this object id or user principal name must never be
// touched.
func (p *Policy) IsProtected(id, upn string) bool {
	return p.protected[strings.ToLower(id)] || p.protected[strings.ToLower(upn)]
}
