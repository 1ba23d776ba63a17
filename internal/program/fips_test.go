package program

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestFIPSOfAProcess: what a process says of itself is what the environment made of it.
func TestFIPSOfAProcess(t *testing.T) {
	if os.Getenv("PROGRAM_TEST_FIPS") != "" {
		f := FIPS()
		t.Logf("enabled %v, version %q, line %q", f.Enabled, f.Version, Line())
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]string{"on": "enabled true", "only": "enabled true", "off": "enabled false"} {
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestFIPSOfAProcess$", "-test.v")
		cmd.Env = append(os.Environ(), "PROGRAM_TEST_FIPS=1", "GODEBUG=fips140="+mode)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || strings.Contains(string(out), `version ""`) != (mode == "off") {
			t.Errorf("fips140=%s: %v\n%s", mode, err, out)
		}
	}
}
