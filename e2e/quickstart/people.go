package main

import (
	"maps"
	"slices"
	"strings"

	"jmlbridge/e2e/stage"
)

// The two exports are written here, so this program may show people by name: it takes names from its own
// rows, never from a program's output. What is slightly wrong in the first is wrong on purpose.
var firstExport = []stage.Row{
	{ID: "10001", Given: "Grace", Family: "Hopper", Department: "Security", Title: "SOC Lead", First: "2021-03-01", Roles: "soc-lead"},
	{ID: "10002", Given: "Ada", Family: "Lovelace", Department: "Security", Title: "Analyst", Manager: "10001", First: "2023-09-01", Roles: "soc-analyst"},
	{ID: "10003", Given: "Alan", Family: "Turing", Country: "GB", Department: "Security", Title: "Analyst", Manager: "10001", First: "2022-06-07", Roles: "soc-analyst;on-call"},
	{ID: "10004", Given: "Annie", Family: "Easley", Department: "Platform", Title: "Engineer", First: "2020-01-15", Roles: "engineer"},
	{ID: "10005", Given: "Betty", Family: "Holberton", Department: "Security", Title: "Analyst", Manager: "10001", First: "2019-03-01", Roles: "soc-analyst"},
	{ID: "10006", Given: "Claude", Family: "Shannon", Department: "Platform", Title: "Engineer", Manager: "10004", First: "2024-04-30", Roles: "engineer"},
	{ID: "10007", Given: "Edith", Family: "Clarke", Department: "Security", Title: "Analyst", Manager: "10001", First: "2023-02-10", Roles: "soc-analyst;on-call"},
	{ID: "10008", Given: "Hedy", Family: "Lamarr", Country: "AT", Department: "Platform", Title: "Engineer", Manager: "10004", First: "2022-11-09", Roles: "engineer;on-call"},
	{ID: "10009", Given: "Jean", Family: "Bartik", Department: "Security", Title: "Analyst", Manager: "10001", First: "2021-12-27", Roles: "soc-analyst"},
	{ID: "10010", Given: "Karen", Family: "Spärck Jones", Country: "GB", Department: "Platform", Title: "Engineer", Manager: "10004", First: "2024-08-26", Roles: "engineer"},
	{ID: "10011", Given: "Mary", Family: "Jackson", Department: "Security", Title: "Contractor", Manager: "10001", First: "2025-01-01", Roles: "soc-analyst"},
	{ID: "10012", Given: "Tommy", Family: "Flowers", Country: "GB", Department: "Platform", Title: "Engineer", Manager: "10004", First: "2018-12-22", Roles: "engineer"},
	{ID: "10002", Given: "Ada", Family: "Lovelace", Department: "Security", Title: "Analyst", Manager: "10001", First: "2023-09-01", Roles: "soc-analyst"},                        // twice, and the same
	{ID: "10013", Given: "Radia", Family: "Perlman", Country: "XX", Department: "Platform", Title: "Engineer", Manager: "10004", First: "2025-02-01", Roles: "engineer"},          // no such country
	{ID: "10014", Given: "Katherine", Family: "Johnson", Department: "Security", Title: "Analyst", Manager: "10001", First: "2025-02-01", Roles: "soc-analyst"},                   // twice,
	{ID: "10014", Given: "Katherine", Family: "Johnson", Department: "Platform", Title: "Engineer", Manager: "10004", First: "2025-02-01", Roles: "engineer", Status: "Inactive"}, // and not the same
}

// secondExport is the first a while later.
func secondExport() []stage.Row {
	var rows []stage.Row
	seen := map[string]bool{}
	for _, r := range firstExport {
		if seen[r.ID] {
			continue // HR has cleaned up
		}
		seen[r.ID] = true
		switch r.ID {
		case "10005":
			r.Status, r.Reason = "Inactive", "Resigned"
		case "10006":
			r.Department, r.Title, r.Manager, r.Roles = "Security", "Analyst", "10001", "soc-analyst"
		case "10007":
			r.Leave = "Yes"
		case "10008":
			r.Status, r.Reason = "Inactive", "Dismissed"
		case "10009":
			r.Title, r.Roles = "Senior Analyst", "soc-lead;on-call"
		case "10011":
			r.Status, r.Reason = "Inactive", "Contract ended"
		case "10012":
			continue // missing: which says nothing
		case "10013":
			r.Country = "US"
		}
		rows = append(rows, r)
	}
	return rows
}

// A fate is what an export must come to for one person.
type fate string

const (
	joins     fate = "joins"
	moves     fate = "moves"
	leaves    fate = "leaves"
	suspended fate = "is suspended"
	unchanged fate = "stays as is"
	missing   fate = "is missing from the file"
	refused   fate = "has a row that cannot be taken"
	held      fate = "has rows that contradict each other"
)

// person is what must be true of somebody after an export.
type person struct {
	id, name      string
	upn           string
	fate          fate
	was, row      stage.Row // was: at the time of the export before
	account       bool      // exists
	enabled       bool
	revoked       bool
	groups        []string // display names, sorted
	manager       string   // user principal name; empty: not looked at
	gains, sheds  []string // group ids
	role, roleWas string
}

// newcomers is what the first export must come to.
func newcomers() []*person {
	var list []*person
	for i, r := range firstExport {
		if slices.ContainsFunc(firstExport[:i], func(o stage.Row) bool { return o.ID == r.ID }) {
			continue
		}
		p := newPerson(r)
		switch r.ID {
		case "10013":
			p.fate = refused
		case "10014":
			p.fate = held
		default:
			p.fate, p.account, p.enabled = joins, true, true
			p.groups, p.gains = groupsOf(r), groupIDs(r)
		}
		list = append(list, p)
	}
	return list
}

// changed is what the second export must come to.
func changed(before []*person) []*person {
	rows := map[string]stage.Row{}
	for _, r := range secondExport() {
		rows[r.ID] = r
	}
	var list []*person
	for _, b := range before {
		r, ok := rows[b.id]
		if !ok {
			r = b.row
		}
		p := newPerson(r)
		p.was, p.roleWas = b.row, b.role
		p.account, p.enabled, p.groups = true, true, groupsOf(r)
		had, has := groupIDs(b.row), groupIDs(r)
		if !b.account {
			had = nil
		}
		switch {
		case !ok:
			p.fate = missing
		case r.Status == "Inactive":
			p.fate, p.enabled, p.revoked, p.groups, has = leaves, false, true, nil, nil
		case r.Leave == "Yes":
			p.fate, p.enabled, p.revoked, p.groups, has = suspended, false, true, groupsOf(b.row), had
		case !b.account:
			p.fate = joins
		case r != b.row:
			p.fate = moves
		default:
			p.fate = unchanged
		}
		p.gains, p.sheds = without(has, had), without(had, has)
		list = append(list, p)
	}
	return withManagers(list, before)
}

func newPerson(r stage.Row) *person {
	return &person{id: r.ID, name: r.Given + " " + r.Family, upn: upnOf(r), row: r, role: strings.ReplaceAll(r.Roles, ";", ", ")}
}

// withManagers fills in the managers of those who get something, where the manager had an account before.
func withManagers(list, before []*person) []*person {
	for _, p := range list {
		i := slices.IndexFunc(before, func(m *person) bool { return m.id == p.row.Manager && m.account })
		if i >= 0 && (p.fate == joins || p.fate == moves) {
			p.manager = before[i].upn
		}
	}
	return list
}

// upnOf is what the policy's template makes of these people; none of them needs more than this.
func upnOf(r stage.Row) string {
	name := strings.NewReplacer("ä", "a", " ", "-").Replace(strings.ToLower(r.Given + "." + r.Family))
	return name + "@" + stage.Domain
}

func groupIDs(r stage.Row) []string {
	ids := map[string]bool{}
	for role := range strings.SplitSeq(r.Roles, ";") {
		for _, def := range stage.Roles() {
			for _, g := range stage.Groups() {
				if def.Name == role && slices.Contains(def.Groups, g.Name) {
					ids[g.ID] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

func groupsOf(r stage.Row) []string {
	var names []string
	for _, id := range groupIDs(r) {
		names = append(names, groupName(id))
	}
	slices.Sort(names)
	return names
}

func groupName(id string) string {
	for _, g := range stage.Groups() {
		if g.ID == id {
			return g.Display
		}
	}
	return id
}

func without(list, other []string) []string {
	var rest []string
	for _, x := range list {
		if !slices.Contains(other, x) {
			rest = append(rest, x)
		}
	}
	return rest
}

// needs are the operations that the ledger must answer for a person, as "op" or "op group".
func (p *person) needs() []string {
	var list []string
	switch p.fate {
	case joins:
		list = append(list, "create")
	case leaves, suspended:
		list = append(list, "disable", "revoke-sessions")
	}
	for _, g := range p.gains {
		list = append(list, "add-member "+g)
	}
	for _, g := range p.sheds {
		list = append(list, "remove-member "+g)
	}
	return list
}
