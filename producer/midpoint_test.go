package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What a person must put right is misuse, and is named with its place: nothing was done, and trying again would not help.
func TestMidpointMisuse(t *testing.T) {
	p := newPlace(t)
	at := func(name string) string { return filepath.Join(p.dir, "mid", name) }
	p.must(t, "midpoint", "init", at(""), "--host", "127.0.0.1", "--listen", "127.0.0.1:0", "--enclave", "GOV-1")
	p.must(t, "midpoint", "init", filepath.Join(p.dir, "other"), "--host", "127.0.0.1", "--listen", "127.0.0.1:0", "--enclave", "GOV-1")
	config, err := os.ReadFile(at("midpoint/midpoint.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// broken replaces a file for as long as one case runs; an empty text removes it.
	broken := func(name, text string) func(*testing.T) {
		return func(t *testing.T) {
			was, err := os.ReadFile(at(name))
			if err == nil {
				err = os.Remove(at(name))
			}
			if err == nil && text != "" {
				err = os.WriteFile(at(name), []byte(text), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.WriteFile(at(name), was, 0o600); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	edited := func(old, with string) func(*testing.T) {
		text := strings.Replace(string(config), old, with, 1)
		if text == string(config) {
			t.Fatalf("no %q in\n%s", old, config)
		}
		return broken("midpoint/midpoint.yaml", text)
	}
	run, renew := []string{"run", at("midpoint/midpoint.yaml")}, []string{"renew", at("midpoint/midpoint.yaml"), at("ca")}
	line := func(key string) string { // the place of a setting's value, as errors name it
		before, _, _ := strings.Cut(string(config), "\n"+key+":")
		return "midpoint.yaml:" + strconv.Itoa(strings.Count(before, "\n")+2) + ":" + strconv.Itoa(len(key)+3) + ": "
	}
	for name, c := range map[string]struct {
		spoil func(*testing.T)
		want  []string
		args  []string
	}{
		"key for all": {func(t *testing.T) {
			if err := os.Chmod(at("midpoint/server.key"), 0o644); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(at("midpoint/server.key"), 0o600) })
		}, []string{line("key"), "server.key can be used by others (mode 0644)"}, run},
		"bad listen":     {edited("listen: 127.0.0.1:0", "listen: localhost"), []string{line("listen"), "expected host:port"}, run},
		"bad port":       {edited("listen: 127.0.0.1:0", "listen: localhost:many"), []string{line("listen"), "expected a port number"}, run},
		"no store":       {edited("store: store", "store: elsewhere"), []string{line("store"), "holds no mid-point store; is its disk mounted?"}, run},
		"store of later": {broken("midpoint/store/MIDPOINT-STORE", "version 9\n"), []string{line("store"), "of another version"}, run},
		"no certificate": {broken("midpoint/server.pem", ""), []string{line("cert"), "server.pem: no such file"}, run},
		"junk for it":    {broken("midpoint/server.pem", "junk"), []string{line("cert"), "server.pem holds no certificate"}, run},
		"no key":         {broken("midpoint/server.key", ""), []string{line("key"), "server.key: no such file"}, run},
		"junk key":       {broken("midpoint/server.key", "junk"), []string{line("key"), "server.key: expected the private key of"}, run},
		"bad nkey":       {edited("producer: U", "producer: SU"), []string{"enclaves[0].producer: of GOV-1: expected a public user nkey"}, run},
		"bad name":       {edited("name: GOV-1", "name: gov.1"), []string{"enclaves[0].name: \"gov.1\": expected 1 to 32 of A-Z"}, run},
		"never added":    {edited("name: GOV-1", "name: GOV-7"), []string{line("store"), "GOV-7 has no stream in this store"}, run},
		"no enclaves":    {broken("midpoint/midpoint.yaml", "listen: 127.0.0.1:0\nstore: store\ncert: server.pem\nkey: server.key\nenclaves: []\n"), []string{"midpoint.yaml:5:11: enclaves: none"}, run},
		"nothing set":    {broken("midpoint/midpoint.yaml", "listen: 127.0.0.1:0\n"), []string{"midpoint.yaml: store: not set"}, run},

		"no such file":                {func(*testing.T) {}, []string{"/nowhere.yaml: no such file; want the midpoint.yaml that midpoint init made"}, []string{"run", "/nowhere.yaml"}},
		"renew without a certificate": {broken("midpoint/server.pem", ""), []string{line("cert"), "server.pem: no such file"}, renew},
		"renew of junk":               {broken("midpoint/server.pem", "junk"), []string{line("cert"), "server.pem holds no certificate"}, renew},
		"renew with a junk key":       {broken("midpoint/server.key", "junk"), []string{line("key"), "server.key: expected the private key of"}, renew},
		"renew without authority":     {func(*testing.T) {}, []string{"the authority in /nowhere", "midpoint-ca.key"}, []string{"renew", run[1], "/nowhere"}},
		"renew by a junk authority":   {broken("ca/midpoint-ca.key", "junk"), []string{"the authority in " + at("ca")}, renew},
		"renew by another authority":  {func(*testing.T) {}, []string{"the authority in " + filepath.Join(p.dir, "other/ca") + " did not sign the present certificate", "midpoint-ca.pem"}, []string{"renew", run[1], filepath.Join(p.dir, "other/ca")}},
		"add with junk for a URL":     {func(*testing.T) {}, []string{`"http://x y" is not a URL; expected tls://host:port`}, []string{"add", run[1], "GOV-2", "--into", at(""), "--url", "http://x y"}},
		"add without a scheme":        {func(*testing.T) {}, []string{`"localhost:4390" has scheme "localhost"; only tls:// is used`}, []string{"add", run[1], "GOV-2", "--into", at(""), "--url", "localhost:4390"}},
		"add with a bad port":         {func(*testing.T) {}, []string{"has port 70000; expected 1 to 65535"}, []string{"add", run[1], "GOV-2", "--into", at(""), "--url", "tls://localhost:70000"}},
		"init of a bad host":          {func(*testing.T) {}, []string{`host "queue.example:4222": want a DNS name`}, []string{"init", at("new"), "--host", "queue.example:4222", "--enclave", "GOV-1"}},
		"add of a bad name":           {func(*testing.T) {}, []string{"expected 1 to 32 of A-Z"}, []string{"add", run[1], "gov 2", "--into", at(""), "--url", "tls://127.0.0.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.spoil(t)
			before := p.files(t)
			code, _, errs := p.try("", append([]string{"midpoint"}, c.args...)...)
			if code != exitMisused {
				t.Errorf("want exit code 2, got %d: %s", code, errs)
			}
			for _, want := range c.want {
				if !strings.Contains(errs, want) {
					t.Errorf("want %q in %s", want, errs)
				}
			}
			if after := p.files(t); after != before && name != "never added" { // the store's lock is taken first
				t.Errorf("something was done:\n%s", after)
			}
		})
	}
	p.must(t, append([]string{"midpoint"}, renew...)...)
}
