package source

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"jmlbridge/internal/config"
)

// Condition is a test on one column of a row. Exactly one of Equals, In and Matches is given. Values are
// compared as they stand in the file after the configured value maps, case and all.
type Condition struct {
	Column  string        `yaml:"column"`
	Equals  *config.Text  `yaml:"equals,omitempty"`
	In      []config.Text `yaml:"in,omitempty"`
	Matches string        `yaml:"matches,omitempty"` // a regular expression (RE2) that must match the whole cell

	re *regexp.Regexp
}

// Compile checks c and makes it ready for Holds.
func (c *Condition) Compile() error {
	given := 0
	for _, is := range []bool{c.Equals != nil, c.In != nil, c.Matches != ""} {
		if is {
			given++
		}
	}
	if c.Column == "" || given != 1 {
		return fmt.Errorf("want column and exactly one of equals, in and matches")
	}
	if c.In != nil && len(c.In) == 0 {
		return fmt.Errorf("in: want at least one value; a list of none holds for nobody")
	}
	if c.Matches != "" {
		re, err := regexp.Compile(`^(?:` + c.Matches + `)$`)
		if err != nil {
			return fmt.Errorf("matches: %w", err)
		}
		c.re = re
	}
	return nil
}

// Holds reports whether the row fulfils c; spaces around a cell are none of it, as everywhere. Until Compile has succeeded,
// matches holds for nothing.
func (c *Condition) Holds(cells Cells) bool {
	v := strings.TrimSpace(cells[c.Column])
	switch {
	case c.Equals != nil:
		return v == string(*c.Equals)
	case c.In != nil:
		return slices.Contains(c.In, config.Text(v))
	case c.re != nil:
		return c.re.MatchString(v)
	}
	return false
}

// All reports whether every one of cs holds; that of none is true.
func All(cs []Condition, cells Cells) bool {
	for i := range cs {
		if !cs[i].Holds(cells) {
			return false
		}
	}
	return true
}
