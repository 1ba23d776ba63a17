package confine_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/internal/confine"
)

// A confined process reads what it was left, and nothing else; it does not write or run.
func TestConfined(t *testing.T) {
	dir := os.Getenv("CONFINED")
	if dir == "" {
		dir = t.TempDir()
		for _, name := range []string{"own", "other"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestConfined$", "-test.v")
		cmd.Env = append(os.Environ(), "CONFINED="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if text := string(out); strings.Contains(text, "no Landlock") {
			t.Skip("this kernel has no Landlock")
		}
		return
	}
	other, err := os.Open(filepath.Join(dir, "other")) // what is open stays open
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	what, err := confine.To(filepath.Join(dir, "own"), filepath.Join(dir, "missing"))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(what)
	if strings.Contains(what, "no Landlock") {
		return
	}
	if _, err := os.ReadFile(filepath.Join(dir, "own")); err != nil {
		t.Errorf("its own file: %v", err)
	}
	for name, do := range map[string]func() error{
		"read another file":    func() error { _, err := os.ReadFile(filepath.Join(dir, "other")); return err },
		"list the folder":      func() error { _, err := os.ReadDir(dir); return err },
		"write its own file":   func() error { return os.WriteFile(filepath.Join(dir, "own"), nil, 0o600) },
		"make a file":          func() error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) },
		"read another process": func() error { _, err := os.ReadFile("/proc/1/environ"); return err },
		"run a program":        func() error { return exec.Command("/proc/self/exe", "-test.run=^$").Run() },
	} {
		if do() == nil {
			t.Errorf("it could %s", name)
		}
	}
	if _, err := os.ReadFile("/etc/hosts"); err != nil && !os.IsNotExist(err) {
		t.Errorf("host names: %v", err)
	}
}
