package scope

import (
	"slices"
	"strings"
	"testing"

	"jmlbridge/internal/config"
	"jmlbridge/producer/source"
)

func parse(t *testing.T, text string) Rules {
	t.Helper()
	var r Rules
	if _, err := config.Parse("scope.yaml", []byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCrosses(t *testing.T) {
	r := parse(t, `
in:
  - when: [{column: Dept, in: [Security, SOC]}, {column: Country, equals: US}]
  - when: [{column: Title, matches: ".*Engineer"}]
out:
  - when: [{column: Contract, equals: "true"}]
`)
	if err := r.Compile(); err != nil {
		t.Fatal(err)
	}
	if got := r.Columns(); !slices.Equal(got, []string{"Contract", "Country", "Dept", "Title"}) {
		t.Errorf("columns: %v", got)
	}
	for _, c := range []struct {
		cells source.Cells
		want  bool
	}{
		{source.Cells{"Dept": "SOC", "Country": "US"}, true},
		{source.Cells{"Dept": "SOC", "Country": "DE"}, false},
		{source.Cells{"Dept": "soc", "Country": "US"}, false},
		{source.Cells{"Title": "Staff Engineer"}, true},
		{source.Cells{"Title": "Engineering"}, false},
		{source.Cells{"Title": "Engineer", "Contract": "true"}, false},
		{nil, false},
	} {
		if got := r.Crosses(c.cells); got != c.want {
			t.Errorf("%v: want %v, got %v", c.cells, c.want, got)
		}
	}
}

func TestNobodyByDefault(t *testing.T) {
	var zero Rules
	if zero.Crosses(source.Cells{"a": "b"}) {
		t.Error("the zero value lets someone cross")
	}
	if err := zero.Compile(); err == nil {
		t.Error("rules that let nobody cross are a mistake")
	}
	all := Rules{Everyone: true}
	if err := all.Compile(); err != nil || !all.Crosses(nil) {
		t.Errorf("everyone: %v", err)
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"everyone: true\nin: [{when: [{column: a, equals: b}]}]": "either",
		"everyone: true\nin: []":                                 "either",
		"in: []":                                                 "either",
		"in: [{when: [{column: a, in: []}]}]":                    "in[0].when[0]: in: want at least one value",
		"in: [{when: []}]":                                       "in[0]: want at least one condition",
		"in: [{when: [{column: a}]}]":                            "in[0].when[0]: want column and exactly one",
		"in: [{when: [{column: a, equals: b, in: [c]}]}]":        "in[0].when[0]: want column and exactly one",
		"everyone: true\nout: [{when: [{column: a, equals: b}, {column: a, matches: (}]}]": "out[0].when[1]: matches",
	} {
		r := parse(t, text)
		if err := r.Compile(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", text, want, err)
		}
	}
}
