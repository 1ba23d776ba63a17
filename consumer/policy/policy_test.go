package policy

import (
	"strings"
	"testing"
	"time"

	"jmlbridge/schema"
)

const good = `version: 1
upn:
  template: "{alias}"
  domain: gov.example.us
usage_location: US
grace: 30d
groups:
  soc: {id: 11111111-1111-4111-8111-111111111111}
  soc-lead: {id: 22222222-2222-4222-8222-222222222222}
roles:
  analyst: {groups: [soc]}
  lead: {groups: [soc, soc-lead]}
protected:
  - breakglass@gov.example.us
limits:
  give_per_hour: 100
  cut_per_hour: 20
`

func TestParse(t *testing.T) {
	p, err := Parse("policy.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if time.Duration(p.Grace) != 30*24*time.Hour || time.Duration(p.Limits.CutHold) != 30*time.Minute {
		t.Errorf("grace %v, cut_hold %v", time.Duration(p.Grace), time.Duration(p.Limits.CutHold))
	}
	ids, unknown := p.GroupsOf([]string{"analyst", "lead", "pilot"})
	if len(ids) != 2 || len(unknown) != 1 || unknown[0] != "pilot" {
		t.Errorf("GroupsOf: %v, unknown %v", ids, unknown)
	}
	if !p.IsProtected("", "BreakGlass@gov.example.us") || p.IsProtected("", "ana@gov.example.us") {
		t.Error("protected accounts are matched without regard to case, and no others")
	}
	if !p.Listed("11111111-1111-4111-8111-111111111111") || p.Listed("33333333-1111-4111-8111-111111111111") {
		t.Error("the allow-list")
	}
}

func TestRefusalsNameTheLine(t *testing.T) {
	for _, tc := range []struct{ name, from, to, want string }{
		{"unknown key", "usage_location: US", "usage_locaton: US", "policy.yaml:5:1"},
		{"no country", "usage_location: US", "usage_location: UK", "policy.yaml:5:"},
		{"duplicate key", "grace: 30d", "grace: 30d\ngrace: 1d", "policy.yaml:7:1"},
		{"bad duration", "grace: 30d", "grace: soon", "policy.yaml:6:"},
		{"role names a group off the list", "analyst: {groups: [soc]}", "analyst: {groups: [nets]}", `policy.yaml:11:`},
		{"group id", "11111111-1111-4111-8111-111111111111", "SOC", "policy.yaml:8:"},
		{"two names for one group", "22222222-2222-4222-8222-222222222222", "11111111-1111-4111-8111-111111111111", "is also the id"},
		{"template field", "{alias}", "{nick}", "policy.yaml:3:"},
		{"template without a field", "{alias}", "user", "policy.yaml:3:"},
		{"domain", "domain: gov.example.us", "domain: gov", "policy.yaml:4:"},
		{"country", "US", "UK9", "policy.yaml:5:"},
		{"nobody protected", "  - breakglass@gov.example.us\n", "  []\n", "break-glass"},
		{"limit missing", "  give_per_hour: 100\n", "", "give_per_hour"},
		{"a fraction", "cut_per_hour: 20", "cut_per_hour: 0.9", "cut_per_hour: want a whole number, got 0.9"},
		{"a share of none", "cut_per_hour: 20", "cut_per_hour: 20\n  cut_share: 0", "want 1 to 100"},
		{"none in a day", "cut_per_hour: 20", "cut_per_hour: 20\n  delete_per_day: 0", "want at least 1, got 0"},
		{"no losses in a day", "cut_per_hour: 20", "cut_per_hour: 20\n  take_per_day: 0", "take_per_day: want at least"},
		{"hold too long", "cut_per_hour: 20", "cut_per_hour: 20\n  cut_hold: 2h", "at most 1h"},
		{"a role's lease beyond the policy's", "lead: {groups: [soc, soc-lead]}", "lead: {groups: [soc, soc-lead], lease: 8d}", "want at most the policy's own, 168h0m0s, got 192h0m0s"},
		{"version", "version: 1", "version: 2", "policy.yaml:1:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(good, tc.from, tc.to, 1)
			if text == good {
				t.Fatal("the fault was not planted")
			}
			_, err := Parse("policy.yaml", []byte(text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestNickname(t *testing.T) {
	p, err := Parse("policy.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	person := func(given, family, alias string) schema.Person {
		return schema.Person{Name: schema.Name{GivenName: given, FamilyName: family}, PreferredAlias: alias}
	}
	for _, tc := range []struct {
		person  schema.Person
		subject string
		nth     int
		want    string
	}{
		{person("Talya", "Fleeta", ""), "1222", 0, "talya.fleeta"},
		{person("Talya", "Fleeta", ""), "1222", 1, "talya.fleeta2"},
		{person("José María", "Núñez", ""), "1", 0, "jose-maria.nunez"},
		{person("Jürgen", "Groß", "jg"), "1", 0, "jg"},
		{person("", "李", ""), "EMP-7", 0, "emp-7"},
		{person("", "", ""), "!!", 0, "u"},
		{person("..x", "y..", ""), "1", 0, "x.y"},
		{person(strings.Repeat("a", 80), "b", ""), "1", 1, strings.Repeat("a", maxNickname) + "2"},
	} {
		if got := p.Nickname(tc.person, tc.subject, tc.nth); got != tc.want {
			t.Errorf("Nickname(%q, %q, %d) = %q, want %q", tc.person.Name.GivenName, tc.subject, tc.nth, got, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("version: 1\nroles: {a: {groups: [x]}}"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("protected: ! {0}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("policy.yaml", text)
		if (p == nil) == (err == nil) {
			t.Fatal("either a policy or an error")
		}
	})
}
