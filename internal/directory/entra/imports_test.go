package entra

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOneDoor: only this package knows Graph and its SDK.
func TestOneDoor(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		if dir, err := filepath.Abs(filepath.Dir(path)); err != nil || dir == here {
			return err
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return nil // not compiling is found by others
		}
		for _, i := range file.Imports {
			if strings.Contains(i.Path.Value, "github.com/microsoftgraph/") || strings.Contains(i.Path.Value, "github.com/microsoft/kiota") {
				t.Errorf("%s imports %s; only internal/directory/entra may", path, i.Path.Value)
			}
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Fatalf("%d files seen, %v", files, err)
	}
}
