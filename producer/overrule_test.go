package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jmlbridge/producer/register"
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
