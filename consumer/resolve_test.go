package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"jmlbridge/consumer/alarms"
)

// Where a code is not a constant, these are all that it may be. A place that is added fails the test until it is here.
var variableCodes = map[string][]string{
	"apply/hold.go:hold":            {"give-limit", "cut-limit", "take-limit", "delete-limit"},
	"apply/hold.go:open":            {"give-limit", "cut-limit", "take-limit", "delete-limit", "policy-limit"},
	"apply/settle.go:alarms":        {"cut-failing", "cut-held", "cut-undone", "give-failing", "strip-failing"},
	"apply/settle.go:open":          nil, // of a plan.Hold: constants of the type HoldCode
	"intake/alarms.go:alarm":        nil, // its callers
	"intake/alarms.go:alarms":       {"gap", "newer-version", "fork"},
	"intake/applyroster.go:applied": {"unnamed", "roster-contradicts"},
	"intake/parked.go:parkVerified": {"generation", "fast-forward", "future"},
	"status.go:gather":              nil, // those of the table
}

// sources are the files that raise alarms and open holds.
type sources struct {
	t      *testing.T
	consts map[string]string // by package-qualified and bare name, of this module's packages
	alarms map[string]string // code: where
	holds  map[string]string
	left   map[string]string // expressions that are no constant: where
}

func readSources(t *testing.T) *sources {
	t.Helper()
	s := &sources{t: t, consts: map[string]string{}, alarms: map[string]string{}, holds: map[string]string{}, left: map[string]string{}}
	files := map[string]*ast.File{}
	for _, dir := range []string{"admit", "plan", "state", "ruling", "apply", "intake", "."} { // after what each imports
		list, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range list {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = f
			s.constants(f)
		}
	}
	for name, f := range files {
		s.file(name, f)
	}
	return s
}

func (s *sources) constants(f *ast.File) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, sp := range g.Specs {
			v := sp.(*ast.ValueSpec)
			for i, n := range v.Names {
				if i >= len(v.Values) {
					continue
				}
				if c, ok := v.Values[i].(*ast.CallExpr); ok { // string(admit.CodeX), of a package that was read before
					if text, ok := s.code(f.Name.Name, c); ok {
						s.consts[f.Name.Name+"."+n.Name] = text
					}
				}
				if lit, ok := v.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					text, _ := strconv.Unquote(lit.Value)
					s.consts[f.Name.Name+"."+n.Name] = text
					if t, ok := v.Type.(*ast.Ident); ok && t.Name == "HoldCode" {
						s.holds[text] = f.Name.Name + "." + n.Name
					} else if sel, ok := v.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "HoldCode" {
						s.holds[text] = f.Name.Name + "." + n.Name
					}
				}
			}
		}
	}
}

// code is what an expression is, where it is a constant.
func (s *sources) code(pkg string, e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.Ident:
		text, ok := s.consts[pkg+"."+e.Name]
		return text, ok
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			text, ok := s.consts[x.Name+"."+e.Sel.Name]
			return text, ok
		}
	case *ast.CallExpr: // string(x)
		if len(e.Args) == 1 {
			return s.code(pkg, e.Args[0])
		}
	}
	return "", false
}

func (s *sources) file(name string, f *ast.File) {
	pkg := f.Name.Name
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		at := name + ":" + fn.Name.Name
		note := func(into map[string]string, e ast.Expr) {
			if code, ok := s.code(pkg, e); ok {
				into[code] = at
			} else {
				s.left[at] = "a code that is no constant"
			}
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				typ := ""
				switch t := n.Type.(type) {
				case *ast.Ident:
					typ = pkg + "." + t.Name
				case *ast.SelectorExpr:
					typ = t.X.(*ast.Ident).Name + "." + t.Sel.Name
				}
				into := map[string]map[string]string{"state.Alarm": s.alarms, "state.Hold": s.holds}[typ]
				if into == nil || pkg == "state" {
					return true
				}
				for _, el := range n.Elts {
					if kv, ok := el.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Code" {
						note(into, kv.Value)
					}
				}
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				switch {
				case ok && sel.Sel.Name == "AlarmOf":
					note(s.alarms, n.Args[0])
				case !ok || sel.Sel.Name != "alarm":
				case pkg == "intake":
					note(s.alarms, n.Args[0])
				case pkg == "main": // of the status alone
					note(s.alarms, n.Args[1])
				}
			}
			return true
		})
	}
}

// An operator can see and resolve every hold and every alarm from the command line: each has its line on the page and its
// advice, and every command that those name is there, with its flags.
func TestEveryHoldAndAlarmCanBeResolved(t *testing.T) {
	s := readSources(t)
	for at := range s.left {
		if _, ok := variableCodes[at]; !ok {
			t.Errorf("%s raises an alarm or opens a hold of a code that is no constant: name all that it may be in this test", at)
		}
	}
	for at, codes := range variableCodes {
		if _, ok := s.left[at]; !ok {
			t.Errorf("%s raises nothing of a variable code any more", at)
		}
		for _, code := range codes {
			s.alarms[code] = at
		}
	}
	if len(s.alarms) < 30 || len(s.holds) < 12 {
		t.Fatalf("found only %d alarms and %d holds in the sources: %v, %v", len(s.alarms), len(s.holds), s.alarms, s.holds)
	}
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := string(page)
	_, after, _ := strings.Cut(tables, "\n## Alarms\n")
	alarmTable, after, _ := strings.Cut(after, "\n## Holds\n")
	holdTable, _, _ := strings.Cut(after, "\n## Files\n")
	row := func(table, code string) bool {
		return slices.ContainsFunc(strings.Split(table, "\n"), func(l string) bool {
			cell, _, _ := strings.Cut(strings.TrimPrefix(l, "| "), " |")
			return strings.HasPrefix(l, "| ") && strings.Contains(cell, "`"+code+"`")
		})
	}
	for code, at := range s.alarms {
		if !slices.Contains(alarms.Codes(), code) {
			t.Errorf("alarm %s (%s) has no advice", code, at)
		}
		if !row(alarmTable, code) {
			t.Errorf("alarm %s (%s) has no row in README.md", code, at)
		}
	}
	for _, code := range alarms.Codes() {
		if s.alarms[code] == "" {
			t.Errorf("there is advice on %s, which nothing raises", code)
		}
	}
	for code, at := range s.holds {
		limit := strings.HasSuffix(code, "-limit") // ended by release or discard, which TestRestoreBringsBackWhatWasDiscarded does with each
		if ends[code] == "" && !limit {
			t.Errorf("hold %s (%s) says not how it ends", code, at)
		}
		if !row(holdTable, code) {
			t.Errorf("hold %s (%s) has no row in README.md", code, at)
		}
	}
	root := (&app{}).root()
	named := regexp.MustCompile("`consumer ([^`]+)`")
	seen := 0
	check := func(where, text string) {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			seen++
			if why := unknownCommand(root, m[1]); why != "" {
				t.Errorf("%s names `consumer %s`: %s", where, m[1], why)
			}
		}
	}
	for _, code := range alarms.Codes() {
		check("the advice on "+code, alarms.Advice(code))
	}
	for code, end := range ends {
		check("the end of "+code, end)
	}
	check("README.md", tables)
	if seen < 40 {
		t.Errorf("only %d commands are named", seen)
	}
}

// unknownCommand says what is wrong with a command line; empty: nothing.
func unknownCommand(root *cobra.Command, line string) string {
	cmd := root
	words := strings.Fields(strings.NewReplacer("[", "", "]", "", ",", "", "…", "").Replace(line))
	for i, w := range words {
		if flag, ok := strings.CutPrefix(w, "--"); ok {
			if cmd.Flags().Lookup(flag) == nil && cmd.InheritedFlags().Lookup(flag) == nil && flag != "version" && flag != "help" {
				return "it has no flag --" + flag
			}
			continue
		}
		sub := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == w })
		if sub < 0 {
			if i == 0 || cmd.HasSubCommands() && cmd != root && strings.ToLower(w) == w && !strings.HasPrefix(words[i-1], "-") {
				return "there is no command " + w
			}
			continue
		}
		cmd = cmd.Commands()[sub]
	}
	return ""
}
