package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/internal/doctor"
)

// doctor goes the way that run goes: by the proxy of the transport, where the mid-point names none of its own.
func TestDoctorGoesByTheProxy(t *testing.T) {
	p := newPlace(t)
	p.queue(t, "{servicebus: {namespace: bus.invalid, queue: jml-gov-1, connection_file: connection}}")
	p.write(t, "connection", "Endpoint=sb://bus.invalid/;SharedAccessKeyName=producer;SharedAccessKey=a2V5;EntityPath=jml-gov-1")
	p.write(t, "proxy-credentials", "user:password")
	code, out, errs := p.try("", "doctor")
	if code != exitFailed || !strings.Contains(out, "by a proxy") || !strings.Contains(out, "proxy 127.0.0.1:1: ") || strings.Contains(out, "password") {
		t.Errorf("exit code %d; expected that the proxy at 127.0.0.1:1 is not reached\n%s%s", code, out, errs)
	}
}

// doctor warns of how credentials are held, and so does the log of a run.
func TestDoctorWarnsOfHeldCredentials(t *testing.T) {
	p := newPlace(t)
	p.write(t, "proxy-credentials", "user:password")
	p.write(t, "secret", "hidden")
	p.queue(t, "{servicebus: {namespace: bus.servicebus.usgovcloudapi.net, queue: jml-gov-1, cloud: {name: AzureGovernment}, credential: {kind: client-secret, tenant: t, client: c, secret_file: secret}}}")
	const warning = "queue of GOV-1 is a client secret"
	if code, out, errs := p.try("", "doctor"); code != exitFailed || !strings.Contains(out, warning) || strings.Contains(out, "hidden") {
		t.Errorf("exit code %d; expected %q\n%s%s", code, warning, out, errs)
	}
	p.must(t, "init")
	stop, log := p.runner(t)
	stop()
	if text := log.String(); !strings.Contains(text, `"of":"queue of GOV-1","note":"is a client secret`) {
		t.Errorf("expected the warning in the log\n%s", text)
	}
}

// doctor looks at the files by which run would be refused, and changes none.
func TestDoctorLooksAtFiles(t *testing.T) {
	found := func(p *place) string {
		t.Helper()
		before := p.files(t)
		cfg, err := loadConfig(p.config)
		if err != nil {
			t.Fatal(err)
		}
		list := cfg.examineFiles(t.Context())
		if p.files(t) != before {
			t.Error("it left a file")
		}
		var bad []string
		for _, f := range list {
			if f.Verdict == doctor.Bad {
				bad = append(bad, f.Name+": "+f.Text+" "+f.Do)
			}
		}
		return strings.Join(bad, "\n")
	}
	p := newPlace(t)
	if text := found(p); !strings.Contains(text, "signing.pem") || !strings.Contains(text, "database: ") || !strings.Contains(text, "`producer init`") {
		t.Errorf("before init: %s", text)
	}
	p.must(t, "init")
	if text := found(p); text != "" {
		t.Errorf("all is well, and it says %s", text)
	}
	for _, c := range []struct {
		name string
		bad  func(p *place) error
		say  string
	}{
		{"no key of the enclave", func(p *place) error { return os.Remove(filepath.Join(p.dir, "enclave.pub.pem")) }, "key of GOV-1: "},
		{"no volume for the copy", func(p *place) error { return os.Remove(filepath.Join(p.dir, "copy")) }, "checkpoint copy: the folder of "},
		{"another audience", func(p *place) error {
			return os.WriteFile(p.config, []byte(strings.Replace(template, "enclave:gov-1", "enclave:gov-9", 1)), 0o600)
		}, "chain of GOV-1: enclave urn:jmlbridge:enclave:gov-9 has no chain"},
		{"another stream", func(p *place) error {
			return os.WriteFile(p.config, []byte(strings.Replace(template, "stream: hr", "stream: payroll", 1)), 0o600)
		}, "database: database "},
		{"a database that everyone reads", func(p *place) error { return os.Chmod(filepath.Join(p.dir, "data/producer.db"), 0o644) }, "chmod 600"},
		{"a ledger's key that everyone reads", func(p *place) error { return os.Chmod(filepath.Join(p.dir, "keys/ledger.pem"), 0o644) }, "ledger: ledger key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			p.must(t, "init")
			if err := c.bad(p); err != nil {
				t.Fatal(err)
			}
			if text := found(p); !strings.Contains(text, c.say) {
				t.Errorf("expected %q, got %q", c.say, text)
			}
		})
	}
}

// queue gives the place another mid-point, behind a proxy that is not there.
func (p *place) queue(t *testing.T, block string) {
	t.Helper()
	const direct = "{nats: {url: [\"tls://127.0.0.1:1\"], nkey: none.nk, stream: JML-GOV-1, subject: jml.GOV-1}}"
	if !strings.Contains(template, direct) {
		t.Fatal("the template has another queue")
	}
	p.write(t, "producer.yaml", strings.Replace(template, direct, block, 1)+"transport: {proxy: \"http://127.0.0.1:1\", proxy_credentials: proxy-credentials}\n")
}
