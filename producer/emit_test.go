package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/command"
	"jmlbridge/producer/outbox"
	"jmlbridge/producer/register"
)

// said is what the enclave was told last of somebody, as the register has it.
func (p *place) said(t *testing.T, subject string) (s register.State) {
	t.Helper()
	return p.saidTo(t, 0, subject)
}

// saidTo is what was said last of a person to one of the enclaves.
func (p *place) saidTo(t *testing.T, enclave int, subject string) (s register.State) {
	t.Helper()
	cfg, err := loadConfig(p.config)
	if err != nil {
		t.Fatal(err)
	}
	o, err := (&app{err: t.Output(), now: time.Now}).open(t.Context(), cfg, opening{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	if s, err = o.box.State(t.Context(), cfg.Enclaves[enclave].Audience, subject); err != nil {
		t.Fatal(err)
	}
	return s
}

// seq is the number that was given last.
func (p *place) seq(t *testing.T) uint64 {
	t.Helper()
	var r report
	if err := json.Unmarshal([]byte(p.must(t, "status", "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	return r.Enclaves[0].Seq
}

// The id of somebody who does not cross does not cross as a manager either, whoever states the event and however.
// A file that lags takes an emitted mover back, as the help says.
func TestAFileUndoesAMover(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	export := p.write(t, "export.csv", people)
	p.must(t, "import", export)
	p.must(t, "emit", "mover", "1", "--display-name", "B")
	if out := p.must(t, "import", export); !strings.Contains(out, "mover    subject 1") {
		t.Errorf("the same file again:\n%s", out)
	}
}

func TestEmitLeavesStrangersOut(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	p.must(t, "emit", "joiner", "1", "--display-name", "Ada")
	for i, c := range []struct {
		in, manager string
		args        []string
	}{
		{"", "", []string{"joiner", "2", "--display-name", "Bo", "--manager", "8888"}},
		{"", "1", []string{"mover", "2", "--manager", "1"}},
		{"", "", []string{"mover", "2", "--manager", "8888"}},
		{`{"engagement":1,"person":{"displayName":"Cy","manager":{"value":"8888"}},"roles":[],"start":"2026-01-01T00:00:00Z"}`, "", []string{"joiner", "3", "-"}},
		{`{"engagement":1,"person":{"displayName":"Cy","manager":{"value":"1"}},"roles":[],"start":"2026-01-01T00:00:00Z","effective":"2026-01-01T00:00:00Z"}`, "1", []string{"mover", "3", "-"}},
	} {
		code, _, errs := p.try(c.in, append([]string{"emit"}, c.args...)...)
		if code != exitDone || strings.Contains(errs, "the manager of subject "+c.args[1]+" is not announced to enclave GOV-1; left out") != (c.manager == "") {
			t.Errorf("%d: exit code %d, %s", i, code, errs)
		}
		got := ""
		if m := p.said(t, c.args[1]).Person.Manager; m != nil {
			got = m.Value
		}
		if got != c.manager {
			t.Errorf("%d: want the manager %q, got %q", i, c.manager, got)
		}
	}
	if _, _, errs := p.try("", "emit", "joiner", "4", "--display-name", "Di", "--manager", "8888", "--log", "json"); !strings.Contains(errs, `"msg":"the manager is not announced to this enclave; left out","enclave":"GOV-1","subject":"4"`) {
		t.Errorf("for programs: %s", errs)
	}
}

// A manager whom one enclave does not know is named to the next, which does.
func TestAStrangerToOneEnclaveAlone(t *testing.T) {
	p := newPlace(t)
	p.write(t, "producer.yaml", withSecond(template, "{everyone: true}"))
	p.must(t, "init")
	p.must(t, "import", p.write(t, "export.csv", people)) // 3 is in the second enclave only
	const joiner = `{"engagement":1,"person":{"displayName":"D","manager":{"value":"3"}},"roles":[],"start":"2026-01-01T00:00:00Z"}`
	code, out, errs := p.try(joiner, "emit", "joiner", "4", "-", "--enclave", "GOV-1,GOV-2")
	if code != exitDone || strings.Count(out, "stored") != 2 || !strings.Contains(errs, "the manager of subject 4 is not announced to enclave GOV-1") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	if one, two := p.saidTo(t, 0, "4").Person.Manager, p.saidTo(t, 1, "4").Person.Manager; one != nil || two == nil || two.Value != "3" {
		t.Errorf("%v, %v", one, two)
	}
}

// Whoever types a flag that says nothing of the event meant another one.
func TestEmitRefusesOtherFlags(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	p.must(t, "emit", "joiner", "1", "--display-name", "Ada")
	joiner := `{"engagement":1,"person":{"displayName":"Cy"},"roles":[],"start":"2026-01-01T00:00:00Z"}`
	for want, args := range map[string][]string{
		"a suspend does not take --display-name, --role, --urgent; it takes --engagement, --effective, --reason, and --enclave": {"suspend", "1", "--urgent", "--role", "x", "--display-name", "Q"},
		"a leaver does not take --country, --role; it takes --engagement, --effective, --reason, --urgent,":                     {"leaver", "1", "--role", "x", "--country", "DE"},
		"a joiner does not take --urgent; it takes --engagement, --display-name":                                                {"joiner", "2", "--urgent", "--display-name", "x"},
		"a joiner does not take --effective;":                       {"joiner", "2", "--effective", "2026-01-01T00:00:00Z", "--display-name", "x"},
		"a mover does not take --reason; it takes":                  {"mover", "1", "--reason", "other", "--title", "x"},
		"a resume does not take --end;":                             {"resume", "1", "--end", "none"},
		"--country, --title and standard input both describe":       {"joiner", "2", "-", "--country", "DE", "--title", "x"},
		"--effective: want an instant like":                         {"leaver", "1", "--effective", "none"},
		"--start: want an instant like":                             {"joiner", "2", "--display-name", "x", "--start", "none"},
		"standard input: want the JSON of one leaver":               {"leaver", "1", "-"},
		"--occurred: want when it became true, which is past":       {"leaver", "1", "--occurred", "2999-01-01T00:00:00Z"},
		"an object with at least engagement, person, roles, start,": {"mover", "1", "-"},
	} {
		in := joiner
		if args[0] != "joiner" {
			in = "junk"
		}
		before := p.seq(t)
		code, _, errs := p.try(in, append([]string{"emit"}, args...)...)
		if code != exitMisused || !strings.Contains(errs, want) || p.seq(t) != before {
			t.Errorf("%v: want exit code 2 and %q, got %d: %s", args, want, code, errs)
		}
	}
	for _, args := range [][]string{{"joiner", "5", "--engagement", "1", "--role", "a", "--alias", "x", "--end", "2999-01-01T00:00:00Z", "--given-name", "E", "--ticket", "T-1", "-o", "json", "--log-level", "warn"},
		{"mover", "5", "--effective", "now", "--occurred", "now", "--enclave", "GOV-1", "--title", "x"}, {"suspend", "5", "--reason", "leave"}, {"resume", "5"}, {"leaver", "5", "--urgent"}} {
		p.must(t, append([]string{"emit"}, args...)...)
	}
}

// One empty role is none: whoever had some has none after it.
func TestEmitTakesAllRoles(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	p.must(t, "emit", "joiner", "1", "--display-name", "Ada", "--role", "a", "--role", "b")
	p.must(t, "emit", "mover", "1", "--role", "")
	if s := p.saidTo(t, 0, "1"); len(s.Roles) != 0 {
		t.Errorf("roles %v, want none", s.Roles)
	}
}

// What the schema refuses is told by the flag that was typed.
func TestEmitNamesTheFlag(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	p.must(t, "emit", "joiner", "1", "--display-name", "Ada")
	long := strings.Repeat("x", 300)
	for want, args := range map[string][]string{
		"--display-name: must not be empty":        {"joiner", "2"},
		"--title: want at most 256 octets":         {"mover", "1", "--title", long},
		"--given-name: ":                           {"joiner", "2", "--display-name", "x", "--given-name", "a\tb"},
		"--family-name: want at most":              {"joiner", "2", "--display-name", "x", "--family-name", long},
		"--role: ":                                 {"mover", "1", "--role", "SOC Lead"},
		"--manager): want somebody else":           {"joiner", "2", "--display-name", "x", "--manager", "2"},
		"--country): want an ISO 3166-1":           {"joiner", "2", "--display-name", "x", "--country", "XX"},
		"--reason: want one of leave, ":            {"suspend", "1", "--reason", "termination"},
		"--engagement: ":                           {"leaver", "9", "--engagement", "-3"},
		"--ticket: want at most":                   {"suspend", "1", "--ticket", long},
		"SUBJECT: ":                                {"joiner", "a b", "--display-name", "x"},
		"--end: ":                                  {"joiner", "2", "--display-name", "x", "--start", "2998-01-01T00:00:00Z", "--end", "2997-01-01T00:00:00Z"},
		"want one of [joiner mover leaver suspend": {"promote", "1"},
	} {
		if code, _, errs := p.try("", append([]string{"emit"}, args...)...); code != exitMisused || !strings.Contains(errs, want) || strings.Contains(errs, "events.") {
			t.Errorf("%v: want exit code 2 and %q, got %d: %s", args, want, code, errs)
		}
	}
	out := p.must(t, "emit", "--help")
	for _, want := range []string{"Of a leaver: termination,", "Of a suspend: leave, investigation, other", "Of a resume: return, other"} {
		if !strings.Contains(out, want) {
			t.Errorf("the help does not say %q:\n%s", want, out)
		}
	}
}

// A clock far behind what was sent numbers nothing: that is for a person to put right, before anything is done.
func TestClockBehind(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	p.must(t, "emit", "joiner", "1", "--display-name", "Ada")
	file := p.write(t, "export.csv", people)
	for _, args := range [][]string{{"emit", "leaver", "1"}, {"import", file}, {"roster"}} {
		var out, errs strings.Builder
		a := &app{in: strings.NewReader(""), out: &out, err: &errs, now: func() time.Time { return time.Now().Add(-time.Hour) }, login: command.Operator}
		if code := a.main(t.Context(), append([]string{"-c", p.config}, args...)); code != exitMisused || !strings.Contains(errs.String(), "the clock says") {
			t.Errorf("%v: want exit code 2, got %d: %s", args, code, errs.String())
		}
	}
	if got := exitCode(fmt.Errorf("enclave GOV-1: %w", &outbox.ClockError{})); got != exitMisused {
		t.Errorf("exit code %d", got)
	}
}

// After a restore a leaver of an unknown id may be of somebody who was lost; of one that differs in spelling alone from that
// of a live person it is a slip.
func TestEmitAfterARestoreKnowsASlip(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	p.must(t, "emit", "joiner", "P017", "--display-name", "Ada")
	p.must(t, "recover", "--force", "--reason", "disk lost")
	if code, _, errs := p.try("", "emit", "leaver", "p017"); code != exitMisused || !strings.Contains(errs, "differs in spelling alone from subject P017") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	p.must(t, "emit", "leaver", "p018")
	p.must(t, "emit", "leaver", "P017")
}
