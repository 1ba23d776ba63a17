package source

import (
	"maps"
	"slices"
	"time"
)

// same reports whether two rows say the same of their person, as far as anything is taken from them.
func same(a, b *Record) bool { return len(differences([]Record{*a, *b})) == 0 }

// differences names what the records disagree on. Rows that all say that someone left need to agree only on what
// will cross of them.
func differences(rs []Record) []string {
	var names []string
	first := &rs[0]
	left := !slices.ContainsFunc(rs, func(r Record) bool { return r.Status != Inactive })
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
		if left && !slices.Contains([]string{"end", "engagement", "reason"}, f.name) {
			continue
		}
		for i := range rs[1:] {
			if !f.equal(first, &rs[1+i]) {
				names = append(names, f.name)
				break
			}
		}
	}
	return names
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
