package main

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// The tenant shares no code with what is tested against it: of this module it
// imports itself alone. Its tests know the flag -seed too, which every test
// under e2e is handed.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("tenant/*.go")
	if err != nil || len(more) == 0 {
		t.Fatalf("no files of package tenant: %v", err)
	}
	for _, path := range append(files, more...) {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			name := strings.Trim(i.Path.Value, `"`)
			if name == "jmlbridge/e2e/seed" && strings.HasSuffix(path, "_test.go") {
				continue
			}
			if strings.HasPrefix(name, "jmlbridge/") && name != "jmlbridge/e2e/sandbox/tenant" || strings.Contains(name, "msgraph") {
				t.Errorf("%s imports %s", path, name)
			}
		}
	}
}
