package schema_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that safety.md names exists where it says, every invariant and every attack names one. A test that runs
// scripts is named with one of them.
func TestSafetyNamesTestsThatExist(t *testing.T) {
	page, err := os.ReadFile("safety.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z0-9/]+): (Test[A-Za-z0-9]+)(?:/([a-z0-9-]+))?`")
	seen := 0
	for _, m := range named.FindAllSubmatch(page, -1) {
		seen++
		files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(string(m[1])), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(text, []byte("\nfunc "+string(m[2])+"("))
		}
		if !found {
			t.Errorf("there is no %s in %s", m[2], m[1])
		}
		if script := string(m[3]); script != "" {
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(string(m[1])), "testdata", "scripts", script+".txtar")); err != nil {
				t.Error(err)
			}
		}
	}
	if seen < 40 {
		t.Errorf("safety.md names %d tests: that is not the page", seen)
	}
	rows := 0
	for _, section := range []string{"## 2. ", "## 5. "} {
		_, text, _ := strings.Cut(string(page), section)
		text, _, _ = strings.Cut(text, "\n## ")
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| attack") || strings.HasPrefix(line, "| |") {
				continue
			}
			rows++
			if !named.MatchString(line) {
				t.Errorf("no test is named for: %.60s", line)
			}
		}
	}
	if rows < 25 {
		t.Errorf("safety.md has %d rows of invariants and attacks", rows)
	}
}
