// Package internal holds no code: its test holds the whole module to the rules on who may know whom,
// which the design calls the walls between its parts.
package internal

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

const (
	module = "jmlbridge"
	root   = ".."
)

// listed is what `go list` says of one package.
type listed struct {
	ImportPath string
	Name       string
	Dir        string
	Doc        string
	Standard   bool
	GoFiles    []string
	Imports    []string // of the non-test files
	Deps       []string // everything that those reach
}

// tree is every package that the module is built of.
type tree struct {
	all  map[string]*listed
	ours []*listed // of this module, by path
}

func load(t *testing.T) *tree {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Name,Dir,Doc,Standard,GoFiles,Imports,Deps", "./...")
	cmd.Dir = root
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, errs.Bytes())
	}
	tr := &tree{all: map[string]*listed{}}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(listed)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		tr.all[p.ImportPath] = p
		if isOurs(p.ImportPath) {
			tr.ours = append(tr.ours, p)
		}
	}
	slices.SortFunc(tr.ours, func(a, b *listed) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	if len(tr.ours) < 20 || len(tr.all) < 200 {
		t.Fatalf("go list named %d packages, %d of them ours: that is not the module", len(tr.all), len(tr.ours))
	}
	return tr
}

func isOurs(p string) bool { return p == module || strings.HasPrefix(p, module+"/") }

// within reports whether package p lies in folder dir of the module.
func within(p, dir string) bool {
	dir = module + "/" + dir
	return p == dir || strings.HasPrefix(p, dir+"/")
}

// under are the packages of a folder and below it. A folder that is not there fails the test, so that a
// rule cannot lose its subject by a rename.
func (tr *tree) under(t *testing.T, dir string) (list []*listed) {
	t.Helper()
	for _, p := range tr.ours {
		if within(p.ImportPath, dir) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		t.Errorf("there is no package in %s", dir)
	}
	return list
}

// reaches fails the test for every package of dir that gets to something forbidden, directly or not, and
// shows the way.
func (tr *tree) reaches(t *testing.T, dir string, forbidden func(string) bool) {
	t.Helper()
	for _, p := range tr.under(t, dir) {
		for _, d := range p.Deps {
			if forbidden(d) {
				t.Errorf("%s", strings.Join(tr.way(p.ImportPath, d), "\n\timports "))
				break
			}
		}
	}
}

// way is a shortest chain of imports.
func (tr *tree) way(from, to string) []string {
	before := map[string]string{from: ""}
	for next := []string{from}; len(next) > 0; next = next[1:] {
		if next[0] == to {
			var chain []string
			for p := to; p != ""; p = before[p] {
				chain = append(chain, p)
			}
			slices.Reverse(chain)
			return chain
		}
		if p := tr.all[next[0]]; p != nil {
			for _, i := range p.Imports {
				if _, seen := before[i]; !seen {
					before[i] = next[0]
					next = append(next, i)
				}
			}
		}
	}
	return []string{from, to}
}

func anyOf(paths ...string) func(string) bool {
	return func(p string) bool {
		return slices.ContainsFunc(paths, func(f string) bool { return p == f || strings.HasPrefix(p, f+"/") })
	}
}

func TestWalls(t *testing.T) {
	tr := load(t)

	t.Run("the contract stands alone", func(t *testing.T) {
		for _, p := range tr.under(t, "schema") {
			for _, d := range p.Deps {
				if isOurs(d) && !within(d, "schema") {
					t.Errorf("%s reaches %s", p.ImportPath, d)
				}
			}
		}
	})

	t.Run("the enclave cannot sign events", func(t *testing.T) {
		tr.under(t, "internal/envelope/seal")
		tr.reaches(t, "consumer", anyOf(module+"/internal/envelope/seal"))
		tr.reaches(t, "consumer", anyOf(module+"/producer"))
	})

	t.Run("the commercial side knows no tenant", func(t *testing.T) {
		tr.reaches(t, "producer", anyOf(module+"/consumer", module+"/internal/directory"))
	})

	// Adapters are found by their place, so that a new one is held too.
	t.Run("adapters know neither each other nor are they known", func(t *testing.T) {
		const choice = module + "/internal/queue/anyqueue" // knows every queue, on behalf of the programs
		var adapters []string
		for _, seam := range []string{"internal/queue", "internal/directory"} {
			for _, p := range tr.under(t, seam) {
				if p.ImportPath != path.Join(module, seam) && p.ImportPath != choice && !strings.HasSuffix(p.ImportPath, "test") {
					adapters = append(adapters, p.ImportPath)
				}
			}
		}
		if len(adapters) < 3 {
			t.Errorf("only %q are adapters", adapters)
		}
		for _, a := range adapters {
			for _, d := range tr.all[a].Deps {
				if slices.Contains(adapters, d) {
					t.Errorf("adapter %s reaches adapter %s", a, d)
				}
			}
		}
		for _, p := range tr.ours {
			// Which adapter runs is known to programs and their choice only; the mid-point's own set-up writes
			// the configuration of one.
			if p.Name == "main" || p.ImportPath == choice || within(p.ImportPath, "e2e") || within(p.ImportPath, "producer/midpoint") || strings.HasSuffix(p.ImportPath, "test") {
				continue
			}
			for _, i := range p.Imports {
				if slices.Contains(adapters, i) {
					t.Errorf("%s imports adapter %s; it should say in an interface what it needs", p.ImportPath, i)
				}
			}
		}
	})

	t.Run("Graph stays behind one door", func(t *testing.T) {
		for _, p := range tr.ours {
			for _, i := range p.Imports {
				if (strings.HasPrefix(i, "github.com/microsoftgraph/") || strings.HasPrefix(i, "github.com/microsoft/kiota")) && !within(p.ImportPath, "internal/directory/entra") {
					t.Errorf("%s imports %s", p.ImportPath, i)
				}
			}
		}
	})

	t.Run("Service Bus stays behind one door", func(t *testing.T) {
		client := anyOf("github.com/Azure/azure-sdk-for-go/sdk/messaging", "github.com/Azure/go-amqp", "github.com/coder/websocket")
		for _, p := range tr.ours {
			for _, i := range p.Imports {
				if client(i) && !within(p.ImportPath, "internal/queue/busqueue") && !within(p.ImportPath, "e2e") {
					t.Errorf("%s imports %s", p.ImportPath, i)
				}
			}
		}
	})

	t.Run("key stores stay behind one door", func(t *testing.T) {
		tr.under(t, "internal/keys/vault")
		for _, p := range tr.ours {
			for _, i := range p.Imports {
				if strings.HasPrefix(i, "github.com/Azure/azure-sdk-for-go/sdk/security/") && !within(p.ImportPath, "internal/keys/vault") {
					t.Errorf("%s imports %s", p.ImportPath, i)
				}
			}
		}
	})

	t.Run("the auditor is a second opinion, offline", func(t *testing.T) {
		tr.reaches(t, "consumer/auditor", anyOf("net/http", "crypto/tls", "database/sql", "modernc.org/sqlite", "github.com/nats-io",
			"github.com/Azure", "github.com/microsoft", "github.com/microsoftgraph", module+"/internal/queue", module+"/internal/directory", module+"/internal/store"))
		tr.reaches(t, "consumer/auditor", anyOf(module+"/consumer/admit", module+"/consumer/fence", module+"/consumer/intake",
			module+"/consumer/apply", module+"/consumer/plan", module+"/consumer/state"))
	})

	t.Run("products know no rehearsal", func(t *testing.T) {
		for _, p := range tr.ours {
			if !within(p.ImportPath, "e2e") && !strings.HasSuffix(p.ImportPath, "test") { // conformance suites
				for _, d := range p.Deps {
					if within(d, "e2e") || d == "testing" {
						t.Errorf("%s", strings.Join(tr.way(p.ImportPath, d), "\n\timports "))
					}
				}
			}
		}
	})

	t.Run("the adversary's oracle is a second opinion", func(t *testing.T) {
		tr.reaches(t, "e2e/adversary/model", func(p string) bool { return isOurs(p) && !within(p, "e2e/adversary/model") && !within(p, "schema") })
	})

	t.Run("every test under e2e knows -seed", func(t *testing.T) {
		folders := map[string]bool{} // with tests; true: one of them imports the flag
		err := filepath.WalkDir(filepath.Join(root, "e2e"), func(name string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, "_test.go") {
				return err
			}
			raw, err := os.ReadFile(name)
			folders[filepath.Dir(name)] = folders[filepath.Dir(name)] || bytes.Contains(raw, []byte(`"`+module+`/e2e/seed"`))
			return err
		})
		if err != nil || len(folders) < 5 {
			t.Fatalf("%d folders with tests: %v", len(folders), err)
		}
		for name, knows := range folders {
			if !knows {
				t.Errorf("%s: import _ \"%s/e2e/seed\" in a test, or the way to replay the adversary's schedules is refused there", name, module)
			}
		}
	})

	t.Run("a normal build cannot be made to crash", func(t *testing.T) {
		if p := tr.all[module+"/internal/crash"]; p == nil || !slices.Equal(p.GoFiles, []string{"off.go"}) {
			t.Errorf("internal/crash is built of %+v, want off.go alone", p)
		}
	})

	t.Run("every package says what it is", func(t *testing.T) {
		for _, p := range tr.ours {
			first, _, _ := strings.Cut(p.Doc, " ")
			if len(p.GoFiles) == 0 {
				continue // tests only
			}
			name := path.Base(p.ImportPath) // a command's comment may begin with its name
			if !slices.Contains([]string{"Package", "Program", "Command", strings.ToUpper(name[:1]) + name[1:]}, first) {
				t.Errorf("%s has no package comment, or one that does not begin with Package, Program, Command or its own name: %q", p.ImportPath, p.Doc)
			}
		}
	})
}

// TestRulesArePure: what decides does so from its arguments alone. Packages fmt and time bring parts of os
// with them, so what counts is what our own files name, and which packages beyond those can be reached.
func TestRulesArePure(t *testing.T) {
	tr := load(t)
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Sleep"}
	direct := anyOf("os", "net", "log", "io/ioutil", "database", "syscall", "math/rand", "crypto/rand", "path/filepath", "context", "sync")
	for _, dir := range []string{"schema", "consumer/admit", "consumer/fence", "consumer/plan"} {
		tr.reaches(t, dir, anyOf("net", "log", "database", "modernc.org", "os/exec", "github.com/nats-io"))
		for _, p := range tr.under(t, dir) {
			for _, name := range p.GoFiles {
				at := filepath.Join(p.Dir, name)
				file, err := parser.ParseFile(token.NewFileSet(), at, nil, parser.SkipObjectResolution)
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range file.Imports {
					if imported := strings.Trim(i.Path.Value, `"`); direct(imported) {
						t.Errorf("%s imports %s", at, imported)
					}
				}
				ast.Inspect(file, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok {
						if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, s.Sel.Name) {
							t.Errorf("%s calls time.%s; the time is an argument", at, s.Sel.Name)
						}
					}
					return true
				})
			}
		}
	}
}

// TestTree holds what a clone brings with it.
func TestTree(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace) > 0 || len(mod.Exclude) > 0 {
		t.Errorf("go.mod replaces or excludes modules: what is built must be what is named")
	}
	if mod.Module.Mod.Path != module {
		t.Errorf("want module %s, got %s", module, mod.Module.Mod.Path)
	}
	// Paths of a machine on which this was written, put together here so that this file names none.
	var machines [][]byte
	for _, dir := range []string{"work", "root", "home"} {
		machines = append(machines, []byte("/"+dir+"/"))
	}
	files := 0
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || name == filepath.Join(root, "bin")):
			return filepath.SkipDir
		case !d.Type().IsRegular(), d.Name() == ".git": // a file in a working tree beside the clone
			return nil
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		if bytes.IndexByte(raw, 0) >= 0 {
			return nil
		}
		for n, line := range bytes.Split(raw, []byte("\n")) {
			for _, m := range machines {
				if i := bytes.Index(line, m); i >= 0 && (i == 0 || strings.ContainsRune(" \t\"'`(=:", rune(line[i-1]))) {
					t.Errorf("%s:%d names a path of one machine: %s", name, n+1, line)
				}
			}
		}
		return nil
	})
	if err != nil || files < 100 {
		t.Errorf("%d files seen: %v", files, err)
	}
}
