package source

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"jmlbridge/internal/config"
	"jmlbridge/schema"
)

// record understands one row, or says why not.
func (im *Importer) record(r row) (rec Record, notes []Note, bad *RowError) {
	m := &im.m
	get := func(column string) string {
		if c := r.cells[column]; len(c) <= maxCell {
			return strings.TrimSpace(c)
		}
		return ""
	}
	rec = Record{Lines: []int{r.line}, Subject: get(m.Subject), Engagement: get(m.Engagement), Status: Active, Txn: get(m.Txn)}
	if err := checkSubject(rec.Subject); err != nil {
		return rec, nil, &RowError{Column: m.Subject, Reason: err.Error()}
	}
	if s := m.Status; s != nil {
		switch v := config.Text(get(s.Column)); {
		case slices.Contains(s.Active, v):
		case slices.Contains(s.Inactive, v):
			rec.Status = Inactive
		case slices.Contains(s.Suspended, v):
			rec.Leave = OnLeave
		default:
			return rec, nil, unlisted(s.Column, string(v), s.Active, s.Inactive, s.Suspended)
		}
	}
	// A row that says that someone left is taken whatever else is wrong with it: nothing but its id,
	// status, last day and reason will cross, and a misspelt country must not keep an account alive.
	left := rec.Status == Inactive
	for column, c := range r.cells {
		if !left && len(c) > maxCell {
			return rec, nil, &RowError{Column: column, Reason: "the cell is longer than 4096 octets"}
		}
	}
	if l := m.Leave; l != nil && !left {
		switch v := config.Text(get(l.Column)); {
		case slices.Contains(l.OnLeave, v):
			rec.Leave = OnLeave
		case slices.Contains(l.Present, v):
			rec.Leave = max(rec.Leave, Present) // a suspended status stands
		default:
			return rec, nil, unlisted(l.Column, string(v), l.OnLeave, l.Present)
		}
	} else if m.Status != nil && m.Status.Suspended != nil {
		rec.Leave = max(rec.Leave, Present)
	}
	if m.Reason != nil {
		if v := get(m.Reason.Column); v != "" {
			rec.Reason = orElse(m.Reason.Values[v], schema.ReasonOther)
		}
	}
	if schema.CheckTxn(rec.Txn) != nil { // it says nothing of the person, and no event could carry it
		rec.Txn = ""
		notes = append(notes, Note{r.line, rec.Subject, "the ticket cannot be one (at most 128 octets, no control characters); left out"})
	}
	var err error
	if rec.Start, err = im.date(get(m.Start), im.calendar.starts); err != nil && !left {
		return rec, nil, &RowError{Column: m.Start, Reason: err.Error()}
	}
	if rec.End, err = im.date(get(m.End), im.calendar.ends); err != nil {
		if !left {
			return rec, nil, &RowError{Column: m.End, Reason: err.Error()}
		}
		notes = append(notes, Note{r.line, rec.Subject, "the last day cannot be read; the end counts from this import"})
	}
	if rec.Start != nil && rec.Start.Unix() < 1 {
		day := time.Unix(1, 0).UTC() // instants of the wire begin there; any start that is past says the same
		rec.Start = &day
	}
	if !left && rec.Start != nil && rec.End != nil && rec.End.Before(*rec.Start) {
		return rec, nil, &RowError{Column: m.End, Reason: "the last day is before the first"}
	}
	if rec.Person, err = im.person(get); err != nil && !left {
		return rec, nil, &RowError{Column: m.Person.UsageLocation, Reason: err.Error()}
	}
	switch manager := get(m.Manager); {
	case manager == "":
	case checkSubject(manager) != nil:
		notes = append(notes, Note{r.line, rec.Subject, "the manager's id cannot be one; left out"})
	case manager == rec.Subject:
		notes = append(notes, Note{r.line, rec.Subject, "the person is named as their own manager; left out"})
	default:
		rec.Person.Manager = &schema.Manager{Value: manager}
	}
	for _, column := range im.decide { // of an object of JSON; nobody loses roles, or leaves the scope, by what is not said
		if _, there := r.cells[column]; !there && !left {
			return rec, nil, &RowError{Column: column, Reason: "the row does not have it, and scope or roles go by it: want null or an empty text where there is none"}
		}
	}
	rec.Roles = im.roles(r.cells)
	if len(im.scope) > 0 {
		rec.Cells = make(Cells, len(im.scope))
		for _, column := range im.scope {
			rec.Cells[column] = get(column)
		}
	}
	if !left {
		if bad := im.sendable(&rec); bad != nil {
			return rec, nil, bad
		}
	}
	return rec, notes, nil
}

func unlisted(column, got string, lists ...[]config.Text) *RowError {
	var known []string
	for _, l := range lists {
		for _, v := range l {
			known = append(known, string(v))
		}
	}
	return &RowError{Column: column, Reason: "want one of " + strings.Join(known, ", ") + "; got \"" + clip(got) + "\""}
}

func (im *Importer) date(cell string, edge time.Duration) (*time.Time, error) {
	if cell == "" {
		return nil, nil
	}
	t, err := im.calendar.instant(cell, edge)
	if err != nil {
		return nil, err
	}
	if y := t.Year(); y < 1900 || y > 9000 {
		return nil, errors.New("want a year from 1900 to 9000")
	}
	return &t, nil
}

func (im *Importer) person(get func(string) string) (p schema.Person, err error) {
	c := &im.m.Person
	p = schema.Person{
		Name: schema.Name{
			Formatted: get(c.Formatted), FamilyName: get(c.FamilyName), GivenName: get(c.GivenName), MiddleName: get(c.MiddleName),
		},
		DisplayName: get(c.DisplayName), UserType: get(c.UserType), Title: get(c.Title), Organization: get(c.Organization),
		Division: get(c.Division), Department: get(c.Department), CostCenter: get(c.CostCenter),
		UsageLocation: get(c.UsageLocation), PreferredAlias: get(c.PreferredAlias),
	}
	if p.DisplayName == "" {
		p.DisplayName = strings.TrimSpace(p.Name.GivenName + " " + p.Name.FamilyName)
	}
	if l := p.UsageLocation; l != "" && !IsCountry(l) {
		hint := ""
		if l == "UK" {
			hint = " (the United Kingdom is GB)"
		}
		return p, errors.New("want an ISO 3166-1 alpha-2 country code, got \"" + clip(l) + "\"" + hint + "; map it under source.values")
	}
	return p, nil
}

func (im *Importer) roles(cells Cells) []string {
	roles := []string{}
	for i := range im.m.Roles {
		r := &im.m.Roles[i]
		if r.Role != "" {
			if All(r.When, cells) {
				roles = append(roles, r.Role)
			}
			continue
		}
		// A list of JSON Lines comes one value a line.
		for line := range strings.SplitSeq(cells[r.Column], "\n") {
			for name := range strings.SplitSeq(line, orElse(r.Split, ";")) {
				if name = strings.TrimSpace(name); name != "" {
					roles = append(roles, name)
				}
			}
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// sendable refuses a row whose person no event could carry: text too long or with control characters,
// a role name that is none.
func (im *Importer) sendable(rec *Record) *RowError {
	j := &schema.Joiner{Engagement: schema.MaxEngagement, Person: rec.Person, Roles: rec.Roles, Start: schema.At(time.Unix(1, 0))}
	if rec.Start != nil {
		j.Start = schema.At(*rec.Start)
	}
	if rec.End != nil {
		end := schema.At(*rec.End)
		j.End = &end
	}
	err := im.fits(rec.Subject, j)
	if err == nil {
		return nil
	}
	var refused *schema.RefusedError
	if errors.As(err, &refused) {
		return &RowError{Column: im.columnOf(refused.Path), Reason: refused.Detail}
	}
	return &RowError{Reason: err.Error()}
}

// columnOf finds the column behind a member of the event, or names the member.
func (im *Importer) columnOf(path string) string {
	c := &im.m.Person
	for member, column := range map[string]string{
		"name.formatted": c.Formatted, "name.familyName": c.FamilyName, "name.givenName": c.GivenName, "name.middleName": c.MiddleName,
		"displayName": c.DisplayName, "userType": c.UserType, "title": c.Title, "organization": c.Organization, "division": c.Division,
		"department": c.Department, "costCenter": c.CostCenter, "usageLocation": c.UsageLocation, "preferredAlias": c.PreferredAlias,
	} {
		if column != "" && strings.HasSuffix(path, "person."+member) {
			return column
		}
	}
	switch {
	case strings.HasSuffix(path, ".end") && im.m.End != "":
		return im.m.End
	case strings.HasSuffix(path, ".start") && im.m.Start != "":
		return im.m.Start
	case strings.Contains(path, ".roles"): // a role's name comes of a cell: those of the mapping were checked
		for _, r := range im.m.Roles {
			if r.Column != "" {
				return r.Column
			}
		}
	}
	return path
}

// shortened is a long number as a spreadsheet writes it: its last digits are gone, and it may be anybody's.
var shortened = regexp.MustCompile(`^[0-9]([.,][0-9]+)?[eE]\+[0-9]+$`)

// checkSubject holds schema.MaxSubjectID and its alphabet.
func checkSubject(id string) error {
	if id == "" {
		return errors.New("the id is empty")
	}
	if len(id) > schema.MaxSubjectID {
		return errors.New("want an id of at most 64 characters")
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return errors.New("want an id of printable ASCII without spaces")
		}
	}
	if shortened.MatchString(id) {
		return errors.New("want the id itself, got what a spreadsheet makes of a long number; export that column as text")
	}
	return nil
}
