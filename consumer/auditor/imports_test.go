package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// deps returns what pkg reaches, each package with its imports.
func deps(t *testing.T, pkg string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", `{{.ImportPath}} {{join .Imports " "}}`, pkg)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		all[f[0]] = f[1:]
	}
	if len(all) < 50 {
		t.Fatalf("go list names only %d packages", len(all))
	}
	return all
}

// The auditor's own code and all that it reaches knows no network. What the program as a whole links of
// package net comes from the command line library alone, for flags that hold addresses; it has none of
// them, and nothing that speaks a protocol or secures a connection is there.
func TestNoNetwork(t *testing.T) {
	for pkg := range deps(t, "jmlbridge/consumer/auditor/verify") {
		if pkg == "net" || strings.HasPrefix(pkg, "net/") || pkg == "crypto/tls" || pkg == "crypto/x509" || pkg == "os/exec" || strings.HasPrefix(pkg, "database/") {
			t.Errorf("package verify reaches %s", pkg)
		}
	}
	for pkg, imports := range deps(t, "jmlbridge/consumer/auditor") {
		switch {
		case pkg == "crypto/tls", pkg == "crypto/x509", pkg == "os/exec", pkg == "plugin", strings.HasPrefix(pkg, "database/"):
			t.Errorf("the auditor reaches %s", pkg)
		case strings.HasPrefix(pkg, "net/") && pkg != "net/netip" && pkg != "net/url":
			t.Errorf("the auditor reaches %s", pkg)
		case slices.Contains(imports, "net") && pkg != "github.com/spf13/pflag":
			t.Errorf("%s brings package net into the auditor", pkg)
		}
	}
}

// A second opinion shares the forms and the reader of tiles, and no judgement: of this module and of
// others, it reaches exactly these; packages command and
// program are its command line and its version, and no more.
func TestNoSharedJudgement(t *testing.T) {
	ours := []string{"jmlbridge/schema", "jmlbridge/internal/ledger/entry", "jmlbridge/internal/ledger/tiles", "jmlbridge/internal/program", "jmlbridge/internal/command", "jmlbridge/consumer/auditor", "jmlbridge/consumer/auditor/verify"}
	modules := []string{"golang.org/x/mod/sumdb/", "golang.org/x/term", "golang.org/x/sys/", "github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/inconshreveable/mousetrap"}
	for pkg := range deps(t, "jmlbridge/consumer/auditor") {
		first, _, _ := strings.Cut(pkg, "/")
		switch {
		case first == "jmlbridge":
			if !slices.Contains(ours, pkg) {
				t.Errorf("the auditor reaches %s", pkg)
			}
		case first == "vendor" || !strings.Contains(first, "."): // the standard library
		case !slices.ContainsFunc(modules, func(m string) bool { return strings.HasPrefix(pkg, m) }):
			t.Errorf("the auditor reaches %s", pkg)
		}
	}
}
