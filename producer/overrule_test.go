package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jmlbridge/producer/register"
	"jmlbridge/producer/source"
	"jmlbridge/schema"
)

// dated is a place whose export has first days, absences and names of engagements.
func dated(t *testing.T) *place {
	t.Helper()
	p := newPlace(t)
	p.write(t, "producer.yaml", strings.Replace(template, "subject: id\n", "subject: id\n  start: first\n  engagement: contract\n  leave: {column: leave, on_leave: [y], present: [n]}\n", 1))
	p.must(t, "init")
	return p
}

// row is an export of one person of the department.
func (p *place) row(t *testing.T, dept, status, leave, contract, first string) string {
	t.Helper()
	return p.write(t, "row.csv", "id,name,dept,status,leave,contract,first\n7,A,"+dept+","+status+","+leave+","+contract+","+first+"\n")
}

// An offer that an operator withdrew before its first day stays withdrawn, however often the file that lags is imported.
func TestAnOfferThatWasWithdrawn(t *testing.T) {
	p := dated(t)
	first := time.Now().AddDate(0, 0, 10).Format(time.DateOnly)
	p.must(t, "import", p.row(t, "sec", "a", "n", "", first))
	p.must(t, "emit", "leaver", "7")
	if out := p.must(t, "import", p.row(t, "sec", "a", "n", "", first)); !strings.Contains(out, "by case: operator-overrules 1") {
		t.Errorf("the same file again:\n%s", out)
	}
	if s := p.said(t, "7"); s.Status != register.Closed || s.Engagement != 1 {
		t.Errorf("%+v", s)
	}
	if out := p.must(t, "emit", "--help"); !strings.Contains(out, "after the leaver and after every first day that was announced") {
		t.Errorf("the help:\n%s", out)
	}
}

// What an operator suspended no file resumes, not by an engagement of another name either, and the report says so.
func TestASuspensionIsCarriedOver(t *testing.T) {
	p := dated(t)
	p.must(t, "import", p.row(t, "sec", "a", "n", "k-1", "2026-01-01"))
	p.must(t, "emit", "suspend", "7", "--reason", "investigation")
	out := p.must(t, "import", p.row(t, "sec", "a", "n", "k-2", "2026-01-01"))
	for _, want := range []string{"suspend+joiner subject 7, engagement 2 (line 2)", "stands   lines 2 subject 7: an operator has suspended them as of ", "only emit resume ends it"} {
		if !strings.Contains(out, want) {
			t.Errorf("another name: want %q in\n%s", want, out)
		}
	}
	p.must(t, "import", p.row(t, "hr", "a", "n", "k-2", "2026-01-01"))
	p.must(t, "import", p.row(t, "sec", "a", "n", "k-2", "2026-01-01"))
	if s := p.said(t, "7"); s.Engagement != 3 || s.Status != register.Suspended || s.By != register.Operator {
		t.Errorf("out of the scope and back: %+v", s)
	}
	p.must(t, "emit", "resume", "7")
	if s := p.said(t, "7"); s.Status != register.Active {
		t.Errorf("resumed: %+v", s)
	}
}

// A leaver or suspension of a date to come leaves everybody live until then, to every other word that takes.
func TestWordsAheadSwallowNothing(t *testing.T) {
	p := dated(t)
	soon := time.Now().AddDate(0, 0, 7).UTC().Format(time.RFC3339)
	p.must(t, "import", p.row(t, "sec", "a", "n", "", "2026-01-01"))
	p.must(t, "emit", "suspend", "7", "--effective", soon)
	if out := p.must(t, "status"); !strings.Contains(out, "ACTIVE") || p.counts(t) != [3]int{1, 0, 0} {
		t.Errorf("suspended in 7 days: %v\n%s", p.counts(t), out)
	}
	p.must(t, "emit", "leaver", "7", "--effective", soon)
	if out := p.must(t, "import", p.row(t, "sec", "a", "y", "", "2026-01-01")); !strings.Contains(out, "suspend  subject 7") {
		t.Errorf("on leave:\n%s", out)
	}
	if got := p.counts(t); got != [3]int{0, 1, 0} {
		t.Errorf("on leave: %v", got)
	}
	if out := p.must(t, "emit", "suspend", "7"); !strings.Contains(out, "stored suspend") {
		t.Error(out)
	}
	p.must(t, "emit", "leaver", "7")
	if code, _, errs := p.try("", "emit", "suspend", "7"); code != exitMisused || !strings.Contains(errs, "no access of it left to take") || strings.Contains(errs, "joiner") {
		t.Errorf("suspend of who left: %d %s", code, errs)
	}
	out := p.must(t, "import", p.row(t, "sec", "a", "y", "", "2026-01-01"))
	if !strings.Contains(out, "stands   lines 2 subject 7: active, but an operator closed engagement 1 as of") {
		t.Errorf("the file lags:\n%s", out)
	}
	first := time.Now().AddDate(0, 0, 10).Format(time.DateOnly)
	p.must(t, "import", p.write(t, "other.csv", "id,name,dept,status,leave,contract,first\n8,A,sec,a,n,,"+first+"\n"))
	if code, _, errs := p.try("", "emit", "leaver", "8"); code != exitDone || !strings.Contains(errs, "the engagement never begins") {
		t.Errorf("a leaver before the first day: %d %s", code, errs)
	}
}

// counts are those of status: active, suspended, closed.
func (p *place) counts(t *testing.T) [3]int {
	t.Helper()
	var r report
	if err := json.Unmarshal([]byte(p.must(t, "status", "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	e := r.Enclaves[0]
	return [3]int{e.Active, e.Suspended, e.Closed}
}

// A restore that lost a joiner: whoever left since is cut all the same, and no number is given twice.
func TestRestoreThatLostAJoiner(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	const head = "id,name,dept,status\n"
	p.must(t, "import", p.write(t, "export.csv", head+"1,A,sec,a\n"))
	copied := filepath.Join(t.TempDir(), "copy.db")
	p.must(t, "backup", copied, "--reason", "nightly")
	p.must(t, "import", p.write(t, "export.csv", head+"1,A,sec,a\n2,B,sec,a\n3,C,sec,a\n4,D,sec,a\n"))
	text, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "data/producer.db", string(text))
	if out := p.must(t, "recover", "--force", "--reason", "disk lost"); !strings.Contains(out, "--complete") {
		t.Errorf("what is next:\n%s", out)
	}
	left := p.write(t, "export.csv", head+"1,A,sec,i\n2,B,sec,i\n3,C,sales,i\n5,E,sec,a\n")
	out := p.must(t, "import", left)
	for _, want := range []string{"leaver   subject 1, engagement 6 ", "leaver   subject 2, engagement 6 ", "joiner   subject 5, engagement 6 ", "leaver-after-restore 1", "never-announced 1"} {
		if !strings.Contains(out, want) { // who is out of scope does not cross
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	if out := p.must(t, "import", left); !strings.Contains(out, "0 changes") {
		t.Errorf("again:\n%s", out)
	}
	if out := p.must(t, "emit", "leaver", "4"); !strings.Contains(out, "stored leaver of subject 4") || p.said(t, "4").Engagement != 6 {
		t.Errorf("whom nobody here knows: %s", out)
	}
	p.must(t, "import", p.write(t, "export.csv", head+"1,A,sec,a\n5,E,sec,a\n"), "--complete")
	if s := p.said(t, "1"); s.Engagement != 7 {
		t.Errorf("want 7, since the lost register may have given up to 6, got %d", s.Engagement)
	}
	if out := p.must(t, "import", p.write(t, "export.csv", head+"5,E,sec,a\n6,F,sec,i\n")); !strings.Contains(out, "never-announced 1") {
		t.Errorf("a file that names everyone was imported since:\n%s", out)
	}
	if code, _, errs := p.try("", "emit", "leaver", "8"); code != exitMisused || !strings.Contains(errs, "--engagement") {
		t.Errorf("%d %s", code, errs)
	}
}

// A restore that lost an enclave, which is added anew: whoever left it since is cut all the same.
func TestRestoreThatLostAnEnclave(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	file := p.write(t, "export.csv", people)
	p.must(t, "import", file)
	copied := filepath.Join(t.TempDir(), "copy.db")
	p.must(t, "backup", copied, "--reason", "nightly")
	p.write(t, "producer.yaml", withSecond(template, "{everyone: true}"))
	p.must(t, "enclave", "add", "GOV-2")
	p.must(t, "import", file)
	text, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "data/producer.db", string(text))
	p.must(t, "recover", "--force", "--reason", "disk lost")
	p.must(t, "enclave", "add", "GOV-2")
	out := p.must(t, "import", p.write(t, "export.csv", "id,name,dept,status\n1,A,sec,a\n2,B,sec,a\n3,C,sales,i\n"))
	if !strings.Contains(out, "leaver   subject 3, engagement 6 ") || p.saidTo(t, 1, "3").Status != register.Closed {
		t.Errorf("who was live there before the loss, and has left:\n%s", out)
	}
}

// After a restore a leaver goes to the enclaves that are known to have the person, and it is said which others may.
func TestALeaverAfterARestoreNamesWhereItIsNotSaid(t *testing.T) {
	p := newPlace(t)
	p.write(t, "producer.yaml", withSecond(template, "{in: [{when: [{column: dept, equals: ir}]}]}"))
	p.must(t, "init")
	p.must(t, "import", p.write(t, "export.csv", people))
	if code, out, errs := p.try("", "emit", "leaver", "2"); code != exitDone || strings.Count(out, "stored") != 1 || strings.Contains(errs, "--enclave") {
		t.Errorf("before it: exit %d\n%s%s", code, out, errs)
	}
	p.must(t, "recover", "--force", "--reason", "disk lost")
	code, out, errs := p.try("", "emit", "leaver", "1")
	if code != exitDone || strings.Count(out, "stored") != 1 || !strings.Contains(errs, "say it with --enclave GOV-2 too") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code, out, errs := p.try("", "emit", "leaver", "1", "--enclave", "GOV-2"); code != exitDone || strings.Count(out, "stored") != 1 || strings.Contains(errs, "say it with") {
		t.Errorf("said there: exit %d\n%s%s", code, out, errs)
	}
}

// A restored register has not heard of everyone while a row of somebody who is here is held, overruled or waits for their return:
// what is lost may have them live, and their leaver must not be lost too.
func TestARestoredRegisterWaitsForWhoIsHeld(t *testing.T) {
	for _, name := range []string{"closed by the file", "closed by an operator", "on leave, never announced"} {
		p := dated(t)
		row := func(status, leave string) string {
			const head = "id,name,dept,status,leave,contract,first\n"
			return p.write(t, "left.csv", head+"7,A,sec,"+status+","+leave+",,2026-01-01\n8,B,sec,a,n,,2026-01-01\n")
		}
		leave := "n"
		switch name {
		case "closed by the file":
			p.must(t, "import", row("a", "n"))
			p.must(t, "import", row("i", "n"))
		case "closed by an operator":
			p.must(t, "import", row("a", "n"))
			p.must(t, "emit", "leaver", "7")
		default:
			leave = "y"
		}
		copied := filepath.Join(t.TempDir(), "copy.db")
		p.must(t, "backup", copied, "--reason", "nightly")
		p.must(t, "emit", "joiner", "7", "--display-name", "A")
		text, err := os.ReadFile(copied)
		if err != nil {
			t.Fatal(err)
		}
		p.write(t, "data/producer.db", string(text))
		p.must(t, "recover", "--force", "--reason", "disk lost")
		p.must(t, "import", "--complete", row("a", leave))
		if out := p.must(t, "import", row("i", "n")); !strings.Contains(out, "leaver-after-restore 1") {
			t.Errorf("%s:\n%s", name, out)
		}
	}
}

// An operator's word is on a person: it goes along where the file moves them into the scope of another enclave.
func TestAnOperatorsWordCrossesScopes(t *testing.T) {
	p := dated(t)
	text, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "producer.yaml", withSecond(string(text), "{in: [{when: [{column: dept, equals: ir}]}]}"))
	p.must(t, "enclave", "add", "GOV-2")
	file := func(seven, eight string) string {
		t.Helper()
		return p.write(t, "rows.csv", "id,name,dept,status,leave,contract,first\n7,A,"+seven+",a,n,k-1,2026-01-01\n8,B,"+eight+",a,n,k-1,2026-01-01\n9,C,sec,a,n,k-1,2026-01-01\n")
	}
	p.must(t, "import", file("sec", "sec"))
	p.must(t, "emit", "leaver", "7", "--reason", "termination")
	p.must(t, "emit", "suspend", "8", "--reason", "investigation")
	for range 2 { // also once the first enclave knows that they are out of its scope
		out := p.must(t, "import", file("ir", "ir"))
		if !strings.Contains(out, "subject 7: active, but an operator closed engagement 1 in enclave urn:jmlbridge:enclave:gov-1 as of ") {
			t.Errorf("the leaver:\n%s", out)
		}
	}
	if s := p.saidTo(t, 1, "7"); s.Status != "" {
		t.Errorf("whom an operator closed, in the other enclave: %+v", s)
	}
	if s := p.saidTo(t, 1, "8"); s.Status != register.Suspended || s.By != register.Operator {
		t.Errorf("whom an operator suspended, in the other enclave: %+v", s)
	}
}

// What one enclave heard of a person is no news in another: an older file, from before they changed contract and scope, brings nobody
// back whom an operator closed since.
func TestAnOlderFileCrossesNoScopes(t *testing.T) {
	p := dated(t)
	text, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "producer.yaml", withSecond(string(text), "{in: [{when: [{column: dept, equals: ir}]}]}"))
	p.must(t, "enclave", "add", "GOV-2")
	file := func(dept, contract string) string {
		t.Helper()
		return p.write(t, "rows.csv", "id,name,dept,status,leave,contract,first\n7,A,"+dept+",a,n,"+contract+",2026-01-01\n8,B,sec,a,n,k-1,2026-01-01\n9,C,ir,a,n,k-1,2026-01-01\n")
	}
	p.must(t, "import", file("sec", "k-1"))
	p.must(t, "import", file("ir", "k-2"))
	p.must(t, "emit", "leaver", "7", "--reason", "termination")
	for _, dept := range []string{"sec", "ir"} {
		if out := p.must(t, "import", file(dept, "k-1")); !strings.Contains(out, "operator-overrules 1") {
			t.Errorf("the old contract, in %s:\n%s", dept, out)
		}
		for i := range 2 {
			if s := p.saidTo(t, i, "7"); s.Status != register.Closed {
				t.Errorf("the old contract, in %s: enclave %d has %+v", dept, i, s)
			}
		}
	}
}

// Of what operators said of a person to any enclave the latest counts.
func TestTheLatestWordCountsForWhoEnters(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	later := now.Add(time.Hour)
	row := &source.Record{Subject: "7", Status: source.Active, Start: &now}
	emit := func(s register.State, e schema.Event, at time.Time) register.State {
		t.Helper()
		d, err := register.Emit(s, register.Said{Event: e}, at)
		if err != nil {
			t.Fatal(err)
		}
		return d.Next
	}
	seen := func(s, there register.State) register.State {
		s.Elsewhere = []register.Elsewhere{{Audience: "other", State: there}}
		return s
	}
	one := register.Diff(register.State{}, row, true, now).Next
	suspended := emit(one, &schema.Suspend{Effective: schema.At(now), Reason: schema.ReasonOther}, now)
	left := register.Diff(suspended, row, false, now).Next
	two := register.Diff(seen(register.State{}, left), row, true, now).Next
	if two.Status != register.Suspended {
		t.Fatalf("moved: %+v", two)
	}
	resumed := emit(two, &schema.Resume{Effective: schema.At(later), Reason: schema.ReasonOther}, later)
	if d := register.Diff(seen(left, resumed), row, true, later); d.Next.Status != register.Active || d.Next.Engagement != 2 {
		t.Errorf("resumed there, and back: %v %+v", d.Cases, d.Next)
	}
	closed := emit(one, &schema.Leaver{Effective: schema.At(now), Reason: schema.ReasonOther}, now)
	again := emit(seen(register.State{}, closed), &schema.Joiner{Person: schema.Person{DisplayName: "A"}, Start: schema.At(later)}, later)
	out := register.Diff(seen(again, closed), row, false, later).Next
	if d := register.Diff(seen(out, closed), row, true, later); d.Next.Status != register.Active || d.Next.Engagement != 2 {
		t.Errorf("taken back by an operator, out of the scope and in again: %v %+v", d.Cases, d.Next)
	}
}

// A leaver that an operator announced for a date to come keeps the person out of the other enclave, too, which would not hear of it.
func TestAPlannedLeaverEntersNoOtherEnclave(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	day := func(n int) *time.Time { d := now.AddDate(0, 0, n); return &d }
	joined := register.Diff(register.State{}, &source.Record{Subject: "7", Status: source.Active, Start: day(-9)}, true, now).Next
	planned, err := register.Emit(joined, register.Said{Event: &schema.Leaver{Effective: schema.At(*day(7)), Reason: schema.ReasonOther}}, now)
	if err != nil {
		t.Fatal(err)
	}
	enter := func(there register.State, first *time.Time, at time.Time) register.Decision {
		fresh := register.State{Elsewhere: []register.Elsewhere{{Audience: "other", State: there}}}
		return register.Diff(fresh, &source.Record{Subject: "7", Status: source.Active, Start: first}, true, at)
	}
	for name, d := range map[string]register.Decision{
		"before the date":   enter(planned.Next, day(-9), now),
		"after it":          enter(planned.Next, day(-9), *day(8)),
		"out of that scope": enter(register.Diff(planned.Next, &source.Record{Subject: "7", Status: source.Active, Start: day(-9)}, false, now).Next, day(-9), now),
	} {
		if d.Cases[0] != register.Overruled || len(d.Events) != 0 || d.Stands == nil {
			t.Errorf("%s: %v", name, d.Cases)
		}
	}
	if d := enter(planned.Next, day(9), *day(9)); d.Cases[0] != register.Join {
		t.Errorf("a first day after it: %v", d.Cases)
	}
	said := register.Diff(planned.Next, &source.Record{Subject: "7", Status: source.Inactive}, true, *day(8)).Next
	if d := enter(said, day(-9), *day(10)); d.Cases[0] != register.Join {
		t.Errorf("the file said that they left, and has them back: %v", d.Cases)
	}
}
