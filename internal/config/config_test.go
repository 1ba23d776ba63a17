package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type sample struct {
	Name     string                `yaml:"name"`
	Count    int                   `yaml:"count"`
	Every    Duration              `yaml:"every"`
	Values   []Text                `yaml:"values"`
	Map      map[string]Text       `yaml:"map"`
	Inner    struct{ A, B string } `yaml:"inner"`
	Optional *struct {
		X int `yaml:"x"`
	} `yaml:"optional"`
}

func TestParse(t *testing.T) {
	v := sample{Count: 7}
	f, err := Parse("/etc/x/a.yaml", []byte("# a comment\nname: n\nevery: 1d12h\nvalues: [True, 007, 1.0, text, '', no]\nmap: {UK: GB, NO: NO}\n"), &v)
	if err != nil {
		t.Fatal(err)
	}
	if v.Count != 7 || v.Every.D() != 36*time.Hour {
		t.Errorf("default or duration lost: %+v", v)
	}
	want := []Text{"True", "007", "1.0", "text", "", "no"}
	for i, w := range want {
		if v.Values[i] != w {
			t.Errorf("value %d: want %q as written, got %q", i, w, v.Values[i])
		}
	}
	if v.Map["NO"] != "NO" || v.Map["UK"] != "GB" {
		t.Errorf("map: %v", v.Map)
	}
	if got := f.Path("keys/a.pem"); got != "/etc/x/keys/a.pem" {
		t.Errorf("relative path: %s", got)
	}
	if f.Path("") != "" || f.Path("/abs") != "/abs" {
		t.Error("empty and absolute paths stay")
	}
	if !f.Has("$.every") || f.Has("$.count") {
		t.Error("Has")
	}
}

func TestMistakesNameTheirPlace(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"unknown key":     {"name: a\nnmae: b\n", `a.yaml:2:1: unknown key "nmae"`},
		"unknown deep":    {"name: a\ninner:\n  c: d\n", `a.yaml:3:3: unknown key "c"`},
		"fraction":        {"count: 0.9\n", `a.yaml:1:8: count: want a whole number, got 0.9`},
		"quoted beside":   {"name: 1\ncount: \"1\"\n", `a.yaml:2:8: count: want a whole number, got text`},
		"quoted":          {"count: \"200\"\n", `a.yaml:1:8: count: want a whole number, got text`},
		"other base":      {"count: 0x1p3\n", `a.yaml:1:8: count: want a whole number, got 0x1p3`},
		"wrong type":      {"count: many\n", `a.yaml:1:8: count: want a whole number, got text`},
		"wrong type deep": {"inner: {every: [a]}\n", "a.yaml:1:"},
		"list for text":   {"name: [a]\n", `a.yaml:1:7: `},
		"bad duration":    {"name: a\nevery: 60\n", `a.yaml:2:8: want a duration like 90s, 5m, 24h or 14d, got "60"`},
		"twice":           {"name: a\nname: b\n", `a.yaml:2:1: `},
		"not YAML":        {"name: [a\n", `a.yaml:1:`},
		"empty":           {"", "a.yaml: the file is empty"},
		"only a comment":  {"# nothing\n", "a.yaml: the file is empty"},
		"two documents":   {"name: a\n---\nname: b\n", "a.yaml:3:"},
		"byte order mark": {"\xef\xbb\xbfname: a\n", "byte order mark"},
		"not UTF-8":       {"name: \xff\n", "want UTF-8"},
		"a list in list":  {"values: [[a]]\n", "a.yaml:1:10: want one value"},
	} {
		t.Run(name, func(t *testing.T) {
			var v sample
			_, err := Parse("a.yaml", []byte(c.in), &v)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

func TestErrorf(t *testing.T) {
	var v sample
	f, err := Parse("a.yaml", []byte("name: a\ninner:\n  a: b\nvalues:\n  - x\n  - y\n"), &v)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"$.values[1]":   "a.yaml:6:5: values[1]: wrong",
		"$.inner.a":     "a.yaml:3:6: inner.a: wrong",
		"$.inner.b":     "a.yaml:3:",
		"$.count":       "a.yaml: count: wrong",
		"$.optional.x":  "a.yaml: optional.x: wrong",
		"$.values[9].z": "a.yaml:5:",
	} {
		if got := f.Errorf(path, "wrong").Error(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: want %q, got %q", path, want, got)
		}
	}
}

func TestLoadRefusesTheFile(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open.yaml")
	if err := os.WriteFile(open, []byte("name: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		open:                            "lets everyone change it",
		filepath.Join(dir, "none.yaml"): "no such file",
		dir:                             "want a regular file",
	} {
		var v sample
		_, err := Load(name, &v)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", name, want, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{"0s": 0, "60s": time.Minute, "14d": 336 * time.Hour, "1d1s": 24*time.Hour + time.Second} {
		if got, err := ParseDuration(in); err != nil || got.D() != want {
			t.Errorf("%s: want %v, got %v, %v", in, want, got, err)
		}
	}
	for _, in := range []string{"", "d", "1", "-1s", "1d-1s", "1 d", "99999999d", "one"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q: want an error, got %v", in, got)
		}
	}
}

// FuzzParse: nothing that someone writes panics, and every refusal names the file.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"name: a\n", "values: [a, b]\n", "inner: {a: b}\n", "every: 1d\n", "&a [*a]", "? x\n: y", "optional:\n  x: 1\n", "- a\n- b\n", "a: &x {b: *x}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v sample
		if _, err := Parse("a.yaml", data, &v); err != nil && !strings.HasPrefix(err.Error(), "a.yaml:") {
			t.Errorf("error does not name the file: %v", err)
		}
	})
}

// TestPathOr: a path alone, or a mapping that is as strict as any other, with the place of what is wrong.
func TestPathOr(t *testing.T) {
	type Inner struct {
		Vault string `yaml:"vault"`
	}
	type other struct {
		File  string `yaml:"file"`
		Inner `yaml:",inline"`
	}
	type doc struct {
		Key  PathOr[other]   `yaml:"key"`
		List []PathOr[other] `yaml:"list"`
	}
	var d doc
	if _, err := Parse("x.yaml", []byte("key: {file: a, vault: b}\nlist:\n  - keys/x.pem\n  - vault: v\n"), &d); err != nil {
		t.Fatal(err)
	}
	if d.Key.Other == nil || d.Key.Path != "" || d.Key.Other.File != "a" || d.Key.Other.Vault != "b" ||
		len(d.List) != 2 || d.List[0].Path != "keys/x.pem" || d.List[0].Other != nil || d.List[1].Other == nil || d.List[1].Other.Vault != "v" {
		t.Errorf("%+v", d)
	}
	for text, says := range map[string]string{
		"key: {vualt: b}\n":          `x.yaml:1:7: unknown key "vualt"`,
		"list:\n  - a\n  - {x: 1}\n": `x.yaml:3:6: unknown key "x"`,
		"key: [a]\n":                 "x.yaml:1:",
		"key: {vault: {a: b}}\n":     "x.yaml:1:",
	} {
		var d doc
		if _, err := Parse("x.yaml", []byte(text), &d); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v; expected it to say %q", text, err, says)
		}
	}
}
