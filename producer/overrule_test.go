package main

import (
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
