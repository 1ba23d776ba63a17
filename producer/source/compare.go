package source

import (
	"maps"
	"slices"
	"time"

	"jmlbridge/schema"
)

// same reports whether two rows say the same of their person, as far as anything is taken from them.
func same(a, b *Record) bool { return len(differences([]Record{*a, *b})) == 0 }

// differences names what the records disagree on. Rows that all say that someone left do not: see [Record.leave].
func differences(rs []Record) []string {
	var names []string
	first := &rs[0]
	if !slices.ContainsFunc(rs, func(r Record) bool { return r.Status != Inactive }) {
		return nil
	}
	for _, f := range []struct {
		name  string
		equal func(a, b *Record) bool
	}{
		{"status", func(a, b *Record) bool { return a.Status == b.Status }},
		// Of a row that says inactive no leave is read; that it differs in status is said by itself.
		{"leave", func(a, b *Record) bool { return a.Leave == b.Leave || (a.Status == Inactive) != (b.Status == Inactive) }},
		{"start", func(a, b *Record) bool { return sameTime(a.Start, b.Start) }},
		{"end", func(a, b *Record) bool { return sameTime(a.End, b.End) }},
		{"engagement", func(a, b *Record) bool { return a.Engagement == b.Engagement }},
		{"name", func(a, b *Record) bool {
			return a.Person.Name == b.Person.Name && a.Person.DisplayName == b.Person.DisplayName
		}},
		{"manager", func(a, b *Record) bool { return managerOf(a) == managerOf(b) }},
		{"other attributes", func(a, b *Record) bool {
			x, y := a.Person, b.Person
			x.Name, x.DisplayName, x.Manager, y.Manager = y.Name, y.DisplayName, nil, nil
			return x == y
		}},
		{"roles", func(a, b *Record) bool { return slices.Equal(a.Roles, b.Roles) }},
		{"reason", func(a, b *Record) bool { return a.Reason == b.Reason && a.Txn == b.Txn }},
		{"scope", func(a, b *Record) bool { return maps.Equal(a.Cells, b.Cells) }},
	} {
		for i := range rs[1:] {
			if !f.equal(first, &rs[1+i]) {
				names = append(names, f.name)
				break
			}
		}
	}
	return names
}

// leave takes into the record of somebody who left a further row that says so too. The last of their last days counts, and none where one
// row states none; of what the rows disagree on besides, nothing.
func (r *Record) leave(also *Record) {
	switch {
	case r.End == nil || also.End == nil:
		r.End = nil
	case also.End.After(*r.End):
		r.End = also.End
	}
	if r.Reason != also.Reason {
		r.Reason = schema.ReasonOther
	}
	if r.Txn != also.Txn {
		r.Txn = ""
	}
	if r.Engagement != also.Engagement {
		r.Engagement = ""
	}
}

func managerOf(r *Record) string {
	if r.Person.Manager == nil {
		return ""
	}
	return r.Person.Manager.Value
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}
