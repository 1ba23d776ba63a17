package ledger

import (
	"os/exec"
	"strings"
	"testing"
)

// What an auditor builds on reaches neither a network nor a database, and nothing of ours but the
// contract and itself.
func TestReadersReachNoNetworkAndNoDatabase(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./entry", "./tiles", "./archive").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 20 {
		t.Fatalf("go list named only %d packages", len(deps))
	}
	for _, d := range deps {
		switch {
		case d == "net", strings.HasPrefix(d, "net/"), strings.HasPrefix(d, "database/"), strings.HasPrefix(d, "modernc.org/"):
			t.Errorf("reaches %s", d)
		case strings.HasPrefix(d, "jmlbridge/") && d != "jmlbridge/schema" && !strings.HasPrefix(d, "jmlbridge/internal/ledger/"):
			t.Errorf("reaches %s", d)
		}
	}
}
