package main

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// Every finding code is explained to auditors, and none that there is not.
func TestReadmeHasEveryCode(t *testing.T) {
	code, err := os.ReadFile("verify/finding.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	list := func(text []byte, pattern string) (codes []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
			codes = append(codes, string(m[1]))
		}
		slices.Sort(codes)
		return codes
	}
	defined, explained := list(code, `Code += "([a-z-]+)"`), list(page, "(?m)^\\| `([a-z-]+)` \\|")
	if len(defined) < 40 || !slices.Equal(defined, explained) {
		t.Errorf("finding.go has\n%v\nREADME.md explains\n%v", defined, explained)
	}
}
