package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
)

func TestBadSurroundings(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, p *place)
		want  string
		args  []string
	}{
		"unknown key": {func(t *testing.T, p *place) { p.write(t, "producer.yaml", template+"hearbeat: 1m\n") }, `producer.yaml:20:1: unknown key "hearbeat"`, []string{"status"}},
		"bad scope": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "equals: sec", "is: sec", 1))
		}, "producer.yaml:15:", []string{"status"}},
		"bad share": {func(t *testing.T, p *place) { p.write(t, "producer.yaml", template+"limits: {absences: {share: 2}}\n") },
			"producer.yaml:20:28: limits.absences.share: want a share of 0 to 1, where 0.02 is two of a hundred, got 2", []string{"status"}},
		"bad count": {func(t *testing.T, p *place) { p.write(t, "producer.yaml", template+"limits: {rehires: {count: -5}}\n") },
			"producer.yaml:20:27: limits.rehires.count: want a count from 0, got -5", []string{"status"}},
		"bad mapping": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "subject: id", "subject: \"\"", 1))
		}, "producer.yaml:17:", []string{"status"}},
		"bad audience": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "urn:jmlbridge:enclave:gov-1", "gov 1", 1))
		}, "producer.yaml:10:15", []string{"status"}},
		"one queue for two": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(withSecond(template, "{everyone: true}"), "stream: JML-GOV-2, subject: jml.GOV-2", "stream: JML-GOV-1, subject: jml.GOV-1", 1))
		}, "enclaves[1]: GOV-2 has the queue of GOV-1", []string{"status"}},
		"one Service Bus queue for two": {func(t *testing.T, p *place) {
			bus := "queue: {servicebus: {namespace: JML.servicebus.windows.net, queue: jml}}\n"
			text := regexp.MustCompile(`queue: \{nats.*\n`).ReplaceAllString(withSecond(template, "{everyone: true}"), bus)
			p.write(t, "producer.yaml", strings.Replace(text, "JML.", "jml.", 1))
		}, "GOV-2 has the queue of GOV-1", []string{"doctor"}},
		"endless reason": {func(*testing.T, *place) {}, "--reason: want at most 512 octets", []string{"resend", "--from", "1", "--reason", strings.Repeat("x", 513)}},
		"no database":    {func(t *testing.T, p *place) { mustRemove(t, p, "data/producer.db") }, "it does not exist", []string{"run"}},
		"no data folder": {func(t *testing.T, p *place) {
			if err := os.RemoveAll(filepath.Join(p.dir, "data")); err != nil {
				t.Fatal(err)
			}
		}, "it does not exist", []string{"run"}},
		"key for all": {func(t *testing.T, p *place) { mustChmod(t, p, "keys/signing.pem", 0o644) }, "can be used by others", []string{"emit", "leaver", "1"}},
		"other key": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "keys/signing.pem", "keys/signing.pem, alg: EdDSA", 1))
		}, "signs by ES256", []string{"emit", "leaver", "1"}},
		"no public key": {func(t *testing.T, p *place) { mustRemove(t, p, "enclave.pub.pem") }, "encryption key of enclave GOV-1 (its operators have it", []string{"import", "x.csv"}},
		"other stream": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "stream: hr", "stream: hr2", 1))
		}, "set it back", []string{"emit", "leaver", "1"}},
		"status of another": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "stream: hr", "stream: hr2", 1))
		}, "set it back", []string{"status"}},
		"card of another": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "/jml", "/jml2", 1))
		}, "set it back", []string{"card"}},
		"a folder": {func(t *testing.T, p *place) {
			if err := os.Mkdir(filepath.Join(p.dir, "none.csv"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is a folder; name the file in it", []string{"import", "none.csv"}},
		"wrong header": {func(t *testing.T, p *place) { p.write(t, "x.csv", "ID;name\n1;A\n") }, "wrong header: missing", []string{"import", "x.csv"}},
		"Latin-1":      {func(t *testing.T, p *place) { p.write(t, "x.csv", "id,name,dept,status\n1,J\xf6rg,sec,a\n") }, "x.csv:2: an octet 0xf6", []string{"import", "x.csv"}},
		"no file":      {func(t *testing.T, p *place) {}, "read the export", []string{"import", "none.csv"}},
		"no mapping": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", template[:strings.Index(template, "source:")])
		}, "source: an import needs", []string{"import", "x.csv"}},
		"no credential": {func(t *testing.T, p *place) {}, "queue of enclave GOV-1", []string{"run"}},
		"newer enclave": {func(t *testing.T, p *place) {
			p.write(t, "producer.yaml", strings.Replace(template, "gov-1\n    enc", "gov-2\n    enc", 1))
		}, "producer enclave add", []string{"emit", "joiner", "1", "--display-name", "x"}},
		"unknown command": {func(t *testing.T, p *place) {}, `there is no command "publish"`, []string{"publish"}},
		"unknown flag":    {func(t *testing.T, p *place) {}, "unknown flag", []string{"run", "--fast"}},
		"bad log":         {func(t *testing.T, p *place) {}, "--log: want text or json", []string{"status", "--log", "xml"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.must(t, "init")
			p.write(t, "x.csv", people)
			c.spoil(t, p)
			before := p.files(t)
			args := slices.Clone(c.args)
			for i := range args {
				if args[i] == "x.csv" || args[i] == "none.csv" {
					args[i] = filepath.Join(p.dir, args[i])
				}
			}
			code, _, errs := p.try("", args...)
			if code != exitMisused || !strings.Contains(errs, c.want) {
				t.Errorf("want exit code 2 and %q, got %d and %s", c.want, code, errs)
			}
			if after := p.files(t); after != before && name != "no credential" { // run takes its lock first
				t.Errorf("something was done:\n%s", after)
			}
		})
	}
}

func mustRemove(t *testing.T, p *place, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(p.dir, name)); err != nil {
		t.Fatal(err)
	}
}

func mustChmod(t *testing.T, p *place, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(filepath.Join(p.dir, name), mode); err != nil {
		t.Fatal(err)
	}
}

func TestNewerDatabase(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	newer := outbox.Schema
	newer.Version++
	newer.Migrations = map[int]string{outbox.Schema.Version: "CREATE TABLE later (x INTEGER) STRICT"}
	db, err := store.Open(filepath.Join(p.dir, "data/producer.db"), newer)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run"}, {"status"}, {"card"}, {"emit", "leaver", "1"}} {
		if code, _, errs := p.try("", args...); code != exitMisused || !strings.Contains(errs, "a newer program wrote it") {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
}
