package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/policy"
	"jmlbridge/internal/config"
)

func TestExamplesLoad(t *testing.T) {
	text, err := os.ReadFile("consumer.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := newFiles(t)
	f.write("consumer.yaml", string(text), 0o600)
	c, err := loadConfig(f.config)
	if err != nil {
		t.Fatal(err)
	}
	if want := f.path("keys/cut.pem"); c.Tenant.Cut.CertificateFile != want {
		t.Errorf("a relative path became %s, want %s", c.Tenant.Cut.CertificateFile, want)
	}
	if c.Tenant.Cut.Tenant != c.Tenant.ID {
		t.Error("a credential has not taken over the tenant's id")
	}
	if got := c.origin(); got != "jmlbridge.internal/gov-1/ledger" {
		t.Errorf("origin %s", got)
	}
	// What the example shows as the default is the default.
	d := defaults()
	if c.StaleAfter != d.StaleAfter || c.Ledger.Interval != d.Ledger.Interval || c.Liveness.Interval != d.Liveness.Interval || c.Log != d.Log ||
		c.Tenant.Workers != d.Tenant.Workers || c.Tenant.WritesPerSecond != d.Tenant.WritesPerSecond {
		t.Error("the example does not show the defaults")
	}
	if c.Ledger.Interval != config.Duration(time.Second) {
		t.Error("a duration was not read")
	}
	if _, err := policy.Load("policy.example.yaml"); err != nil {
		t.Error(err)
	}
}

// Each of these is misuse: exit 2, a message that names file and line or key, and nothing made.
func TestBadConfiguration(t *testing.T) {
	for _, c := range []struct{ name, from, to, say string }{
		{"unknown key", "stale_after: 5m", "stale_aftr: 5m", "consumer.yaml:18:1: unknown key"},
		{"duplicate key", "stale_after: 5m", "stale_after: 5m\nstale_after: 6m", "consumer.yaml:19"},
		{"number without unit", "stale_after: 5m", "stale_after: 5", "consumer.yaml:18"},
		{"stale too soon", "stale_after: 5m", "stale_after: 1s", "want 10s to 24h0m0s, got 1s"},
		{"enclave is no URI", "urn:jmlbridge:enclave:gov-1", "gov one", "consumer.yaml:1:"},
		{"short name", "name: GOV-1", "name: gov_1", `want a short name of A-Z, 0-9 and '-', like GOV-1, got "gov_1"`},
		{"no decryption key", "[keys/decryption.pem]", "[]", "consumer.yaml:4:"},
		{"unknown cloud", "name: custom", "name: AzureMars", "consumer.yaml:14:"},
		{"no cut credential", "cut: {kind: client-secret, client: @cut@, secret_file: keys/cut.secret}", "", "want the credential that takes access away"},
		{"mark attribute", "  cut: {kind", "  mark_attribute: employeeId\n  cut: {kind", `tenant.mark_attribute: mark attribute is "employeeId"; expected extensionAttribute1`},
		{"another tenant", "secret_file: keys/cut.secret", "secret_file: keys/cut.secret, tenant: elsewhere", "want the same tenant as tenant.id"},
		{"log format", "format: json", "format: xml", `want text or json, got "xml"`},
		{"log level", "level: info", "level: loud", `want debug, info, warn or error, got "loud"`},
		{"not YAML", "stale_after: 5m", "\tstale_after: [", "consumer.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFiles(t)
			for k, v := range f.values {
				c.from = strings.ReplaceAll(c.from, "@"+k+"@", v)
			}
			f.edit("consumer.yaml", c.from, c.to)
			for _, args := range [][]string{{"init"}, {"run"}, {"status"}} {
				code, out, errs := f.consumer(args...)
				if code != exitMisused || !strings.Contains(errs, c.say) || out != "" {
					t.Errorf("%v: exit %d, out %q, err %q; want exit 2 and %q", args, code, out, errs, c.say)
				}
			}
			f.nothingMade()
		})
	}
}

func (f *files) nothingMade() {
	f.t.Helper()
	for _, name := range []string{"consumer.db", "consumer.db.lock", "consumer.db-wal", "consumer.db.init", "keys/decryption.pem", "keys/ledger.pem", "ledger", "alarms.jsonl", "alive.json"} {
		if _, err := os.Lstat(f.path(name)); err == nil {
			f.t.Errorf("%s was made", name)
		}
	}
}

func TestClockJumps(t *testing.T) {
	at := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		found time.Duration
		jump  bool
	}{{0, false}, {-apply.ClockBack, false}, {-apply.ClockBack - time.Millisecond, true}, {apply.ClockForward, false}, {apply.ClockForward + time.Millisecond, true}} {
		if j := apply.Jumped("ledger", at, at.Add(c.found)); (j != nil) != c.jump {
			t.Errorf("%v from where it should be: jump %v, want %v", c.found, j != nil, c.jump)
		}
	}
	now := time.Now()
	if between(now, now.Add(time.Hour)) != nil {
		t.Error("an hour that passed by both clocks is a jump")
	}
}
