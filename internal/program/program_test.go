package program

import (
	"crypto/fips140"
	"strings"
	"testing"

	"jmlbridge/internal/ledger/entry"
)

func TestVersion(t *testing.T) {
	if v := Version(); !strings.HasPrefix(v, "devel") || entry.ID(v) != v {
		t.Errorf("version %q: want one of a development build that the ledger takes", v)
	}
	release = "v1.2.3"
	defer func() { release = "" }()
	if v := Version(); v != release {
		t.Errorf("version %q of release %s", v, release)
	}
}

func TestFIPS(t *testing.T) {
	if f := FIPS(); f.Enabled != fips140.Enabled() || f.Enabled != (f.Version != "") {
		t.Errorf("%+v, and the module is on: %v", f, fips140.Enabled())
	}
}

func TestPrint(t *testing.T) {
	var b strings.Builder
	if err := PrintJSON(&b, map[string]string{"a": "<&>"}); err != nil || b.String() != "{\n  \"a\": \"<&>\"\n}\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	b.Reset()
	if err := Table(&b, []string{"ID", "WHAT"}, [][]string{{"1", "x"}, {"100", "y"}, {"2", ""}}); err != nil || b.String() != "ID   WHAT\n1    x\n100  y\n2\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}
