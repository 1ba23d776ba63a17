// Package scope decides who crosses at all: whose facts are sent to an enclave.
//
// The rules are the commercial side's own and look at the export's columns. Nobody crosses by default:
// the zero value lets no one through. A person who was announced and leaves the scope is a leaver with
// the reason transfer, which package register makes of it.
package scope

import (
	"errors"
	"fmt"
	"slices"

	"jmlbridge/producer/source"
)

// Rules let a person cross when Everyone is set or a rule of In holds, and no rule of Out does.
type Rules struct {
	Everyone bool   `yaml:"everyone,omitempty"`
	In       []Rule `yaml:"in,omitempty"`
	Out      []Rule `yaml:"out,omitempty"`
}

// Rule holds when all its conditions do.
type Rule struct {
	When []source.Condition `yaml:"when"`
}

// Compile checks the rules and makes them ready. The error names the key below the rules.
func (r *Rules) Compile() error {
	if r.Everyone == (len(r.In) > 0) || r.Everyone && r.In != nil {
		return errors.New("want either everyone: true or rules under in; without one nobody crosses")
	}
	for _, list := range []struct {
		name  string
		rules []Rule
	}{{"in", r.In}, {"out", r.Out}} {
		for i := range list.rules {
			when := list.rules[i].When
			if len(when) == 0 {
				return fmt.Errorf("%s[%d]: want at least one condition under when", list.name, i)
			}
			for j := range when {
				if err := when[j].Compile(); err != nil {
					return fmt.Errorf("%s[%d].when[%d]: %w", list.name, i, j, err)
				}
			}
		}
	}
	return nil
}

// Columns lists the columns that the rules look at, sorted.
func (r *Rules) Columns() []string {
	var names []string
	for _, rule := range slices.Concat(r.In, r.Out) {
		for _, c := range rule.When {
			names = append(names, c.Column)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Crosses reports whether the person of a row is in scope.
func (r *Rules) Crosses(cells source.Cells) bool {
	holds := func(rule Rule) bool { return len(rule.When) > 0 && source.All(rule.When, cells) }
	return (r.Everyone || slices.ContainsFunc(r.In, holds)) && !slices.ContainsFunc(r.Out, holds)
}

// Has reports whether a record is in scope: of somebody who left, one of their rows.
func (r *Rules) Has(rec *source.Record) bool {
	return r.Crosses(rec.Cells) || slices.ContainsFunc(rec.Also, r.Crosses)
}
