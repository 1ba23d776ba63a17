// Package policy is the enclave's own word on what a producer's facts mean here: which role name
// stands for which groups, how accounts are named, what is never touched and how much may change in
// an hour. No message can reach any of it.
//
// A policy is one YAML file, read strictly: an unknown key, a duplicate key or a role that names a
// group outside the allow-list is an error with its line, and nothing starts.
package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/language"

	"jmlbridge/internal/config"
	"jmlbridge/schema"
)

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
	Grace config.Duration `yaml:"grace"`
	// LeaseLength is how long access outlives the last event or roster that named the person; default 7 days.
	LeaseLength config.Duration `yaml:"lease"`
	// Groups is the allow-list: the bridge adds to and removes from these and no others.
	Groups map[string]Group `yaml:"groups"`
	// Roles says which groups a producer's role name stands for. A role that is not here is held.
	Roles map[string]Role `yaml:"roles"`
	// Protected accounts (break-glass, service operators) are never touched, whatever a message says.
	Protected []string `yaml:"protected"`
	Limits    Limits   `yaml:"limits"`

	file      *config.File
	digest    schema.Digest
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
	// Approval is "required" where a second signer must have approved the role for the person.
	Approval string `yaml:"approval"`
	// LeaseLength in the place of the policy's, for this role; zero: the policy's.
	LeaseLength config.Duration `yaml:"lease"`
}

// Limits on planned effects, whatever caused them. A zero limit is refused: say a number.
type Limits struct {
	// What is counted is effects, once for each fact: a person who is disabled twice is two.
	GivePerHour int `yaml:"give_per_hour"` // persons given something; past it all waiting gives are held
	CutPerHour  int `yaml:"cut_per_hour"`  // persons disabled; past it cuts wait, at most CutHold
	// GivePerDay and CutPerDay bound the same in 24 hours; default ten times the hour's.
	GivePerDay int `yaml:"give_per_day"`
	CutPerDay  int `yaml:"cut_per_day"`
	// CutShare bounds the persons disabled in 24 hours to so many in a hundred of the open accounts, where they
	// are more than CutFloor: a small crew may change as a whole. 0, where it is not said: no such bound.
	CutShare int `yaml:"cut_share"`
	CutFloor int `yaml:"cut_floor"` // default 10
	// DeletePerDay: accounts deleted; past it all waiting deletes are held. Default CutPerDay.
	DeletePerDay int `yaml:"delete_per_day"`
	// TakePerHour: persons who lose roles and keep their account, whatever takes those; past it that waits, at most
	// CutHold. Default CutPerHour; TakePerDay ten times the hour's. CutShare and CutFloor bound them too, by themselves.
	TakePerHour int `yaml:"take_per_hour"`
	TakePerDay  int `yaml:"take_per_day"`
	// CutHold is how long a cut past its limit may wait for two operators to discard it. Then it
	// happens. At most one hour (PS-4 at High); default 30m.
	CutHold config.Duration `yaml:"cut_hold"`
	// UrgentPerHour lets urgent leavers past a cut limit that is used up.
	UrgentPerHour int `yaml:"urgent_per_hour"`
}

// Load reads the policy file at path. An error about its content is a *config.Error: it names the file
// and the line.
func Load(path string) (*Policy, error) {
	p := defaults()
	f, err := config.Load(path, p)
	if err != nil {
		return nil, err
	}
	return p.finish(f)
}

// Parse is Load for content that was read already; name is for messages.
func Parse(name string, text []byte) (*Policy, error) {
	p := defaults()
	f, err := config.Parse(name, text, p)
	if err != nil {
		return nil, err
	}
	return p.finish(f)
}

func defaults() *Policy {
	return &Policy{
		UPN:   Naming{Template: "{alias}"},
		Grace: config.Duration(30 * 24 * time.Hour),

		LeaseLength: config.Duration(7 * 24 * time.Hour),
		Limits:      Limits{CutHold: config.Duration(30 * time.Minute), UrgentPerHour: 5, CutFloor: 10},
	}
}

func (p *Policy) finish(f *config.File) (*Policy, error) {
	if err := p.check(f.Errorf, f.Has); err != nil {
		return nil, err
	}
	p.file = f
	p.digest = schema.DigestOf(f.Bytes())
	return p, nil
}

// Digest is the SHA-256 of the file: the policy's name on the ledger.
func (p *Policy) Digest() schema.Digest { return p.digest }

// Errorf is an error at the place of a YAML path in the policy's file, for what only the tenant can
// tell, such as a group that does not exist.
func (p *Policy) Errorf(path, format string, args ...any) error {
	return p.file.Errorf(path, format, args...)
}

// Bounds of a lease. Rosters come daily by default: with a lease below two days one that is lost cuts everybody.
const (
	minLease = time.Hour
	maxLease = 90 * 24 * time.Hour
)

var (
	objectID   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	roleName   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	domainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)
	field      = regexp.MustCompile(`\{[^}]*\}`)
)

func (p *Policy) check(at func(path, format string, args ...any) error, said func(path string) bool) error {
	if p.Version != 1 {
		return at("$.version", "want 1, got %d", p.Version)
	}
	if !domainName.MatchString(p.UPN.Domain) {
		return at("$.upn.domain", "want a verified domain of the tenant like gov.example.us, got %q", p.UPN.Domain)
	}
	for _, f := range field.FindAllString(p.UPN.Template, -1) {
		if !slices.Contains([]string{"{alias}", "{givenName}", "{familyName}", "{subject}"}, f) {
			return at("$.upn.template", "%s is no field; use {alias}, {givenName}, {familyName} or {subject}", f)
		}
	}
	if !field.MatchString(p.UPN.Template) {
		return at("$.upn.template", "names no field, so every account would have the same name")
	}
	if p.UsageLocation != "" && !isCountry(p.UsageLocation) {
		return at("$.usage_location", "want a country of ISO 3166-1 alpha-2 like US (the United Kingdom is GB), got %q", p.UsageLocation)
	}
	if d := time.Duration(p.LeaseLength); d < minLease || d > maxLease {
		return at("$.lease", "want %v to %v, got %v", minLease, maxLease, p.LeaseLength)
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
		if d := time.Duration(r.LeaseLength); d != 0 && (d < minLease || d > maxLease) {
			return at("$.roles."+name+".lease", "want %v to %v, got %v", minLease, maxLease, r.LeaseLength)
		}
		if r.LeaseLength > p.LeaseLength {
			return at("$.roles."+name+".lease", "want at most the policy's own, %v, got %v: a role's lease is shorter than the rest, never longer", p.LeaseLength, r.LeaseLength)
		}
		if r.Approval != "" && r.Approval != approvalRequired {
			return at("$.roles."+name+".approval", "want %s, or nothing, got %q", approvalRequired, r.Approval)
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
	if err := p.Limits.checkDays(at, said); err != nil {
		return err
	}
	if h := time.Duration(p.Limits.CutHold); h > time.Hour {
		return at("$.limits.cut_hold", "want at most 1h, since a cut must happen within an hour, got %v", h)
	}
	if p.Limits.UrgentPerHour < 0 {
		return at("$.limits.urgent_per_hour", "want 0 or more, got %d", p.Limits.UrgentPerHour)
	}
	return nil
}

// checkDays fills and checks the limits that go over more than an hour.
func (l *Limits) checkDays(at func(path, format string, args ...any) error, said func(path string) bool) error {
	for _, d := range []struct {
		key   string
		v     *int
		hour  int // at least so many
		whole int // what it is where it is not said
	}{
		{"take_per_hour", &l.TakePerHour, 1, l.CutPerHour},
		{"give_per_day", &l.GivePerDay, l.GivePerHour, 10 * l.GivePerHour},
		{"cut_per_day", &l.CutPerDay, l.CutPerHour, 10 * l.CutPerHour},
		{"delete_per_day", &l.DeletePerDay, 1, 10 * l.CutPerHour},
	} {
		if *d.v == 0 && !said("$.limits."+d.key) {
			*d.v = d.whole
		}
		if *d.v < d.hour {
			return at("$.limits."+d.key, "want at least %d, got %d", d.hour, *d.v)
		}
	}
	if l.TakePerDay == 0 && !said("$.limits.take_per_day") {
		l.TakePerDay = 10 * l.TakePerHour
	}
	if l.TakePerDay < l.TakePerHour {
		return at("$.limits.take_per_day", "want at least %d, got %d", l.TakePerHour, l.TakePerDay)
	}
	if l.CutShare < 0 || l.CutShare > 100 || l.CutShare == 0 && said("$.limits.cut_share") {
		return at("$.limits.cut_share", "want 1 to 100 of a hundred open accounts, or nothing for no such bound, got %d", l.CutShare)
	}
	if l.CutFloor < 1 {
		return at("$.limits.cut_floor", "want at least 1, got %d", l.CutFloor)
	}
	return nil
}

// unassigned are codes that the language package takes for countries and ISO 3166-1 only reserves, took back or
// leaves to everybody.
const unassigned = "AC AN CP CQ CS DG EA EZ FQ IC NT PC SU TA UN XK YU"

// isCountry reports whether ISO 3166-1 assigns code to a country. UK, EU and XK are none: the tenant
// refuses them as a usage location.
func isCountry(code string) bool {
	r, err := language.ParseRegion(code)
	return err == nil && r.String() == code && r.IsCountry() && r.Canonicalize() == r && len(code) == 2 && !strings.Contains(unassigned, code)
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

const approvalRequired = "required"

// NeedsApproval reports whether a role is given only with a second signer's word.
func (p *Policy) NeedsApproval(role string) bool { return p.Roles[role].Approval == approvalRequired }

// Listed reports whether the group with this object id is on the allow-list.
func (p *Policy) Listed(groupID string) bool { _, ok := p.listed[groupID]; return ok }

// IsProtected reports whether the account with this object id or user principal name must never be
// touched.
func (p *Policy) IsProtected(id, upn string) bool {
	return p.protected[strings.ToLower(id)] || p.protected[strings.ToLower(upn)]
}
