package broker_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// The endpoint shares no code with what is tested against it: of this module it
// imports itself alone, and outside its tests nothing of the client.
func TestImports(t *testing.T) {
	var files []string
	for _, dir := range []string{"../*.go", "../amqp/*.go", "../entity/*.go", "../broker/*.go"} {
		more, err := filepath.Glob(dir)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	if len(files) < 20 {
		t.Fatalf("only %d files", len(files))
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			name := strings.Trim(i.Path.Value, `"`)
			test := strings.HasSuffix(path, "_test.go")
			ours := strings.HasPrefix(name, "jmlbridge/") && !strings.HasPrefix(name, "jmlbridge/e2e/servicebus/")
			if ours && !(test && name == "jmlbridge/e2e/seed") || strings.HasPrefix(name, "github.com/Azure/") && !test {
				t.Errorf("%s imports %s", path, name)
			}
		}
	}
}
