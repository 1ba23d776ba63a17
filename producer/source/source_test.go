package source

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/language"
	"pgregory.net/rapid"

	"jmlbridge/internal/config"
	"jmlbridge/schema"
)

// fits stands for the outbox: it encodes j as it would be sent.
func fits(subject string, j *schema.Joiner) error {
	_, err := schema.EncodePadded(&schema.SET{
		Issuer: "https://iam.mssp.example/jml", Audience: "urn:jmlbridge:enclave:gov-1", ID: "01890a5d-ac96-774b-bcce-b302099a8057",
		IssuedAt: schema.At(time.Unix(1_700_000_000, 0)), Subject: subject, Version: 1, Event: j,
		Stream: schema.Position{ID: "hr", Generation: 1, Seq: 2, Prev: schema.DigestOf(nil)},
	})
	return err
}

func messy() Mapping {
	return Mapping{
		Values:  map[string]map[string]config.Text{"Country": {"UK": "GB"}},
		Subject: "WorkerID",
		Status:  &StatusColumn{Column: "Status", Active: []config.Text{"Active"}, Inactive: []config.Text{"Inactive"}},
		Leave:   &LeaveColumn{Column: "OnLeave", OnLeave: []config.Text{"Yes"}, Present: []config.Text{"No"}},
		Start:   "FirstDay", End: "LastDay", Manager: "Manager",
		Dates:  Dates{Zone: "Europe/Berlin", Starts: "08:00"},
		Person: Person{GivenName: "GivenName", FamilyName: "FamilyName", UsageLocation: "Country", Department: "Department", Title: "Title"},
		Roles:  []RoleRule{{Column: "Roles"}, {Role: "security", When: []Condition{{Column: "Department", Matches: "Sec.*"}}}},
	}
}

func importer(t testing.TB, m Mapping, scope ...string) *Importer {
	t.Helper()
	im, err := New(m, scope, fits)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func read(t testing.TB, im *Importer, format, text string) *Snapshot {
	t.Helper()
	s, err := im.Read("export", format, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMessyExport(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "testdata", "messy.csv"))
	if err != nil {
		t.Fatal(err)
	}
	s := read(t, importer(t, messy(), "Department"), CSV, string(data))
	var accepted []string
	for _, r := range s.Records {
		accepted = append(accepted, r.Subject)
	}
	if want := []string{"1001", "1002", "1003", "1004", "1005", "1006", "1015"}; !slices.Equal(accepted, want) {
		t.Errorf("accepted: want %v, got %v", want, accepted)
	}
	refused := map[int]string{10: "Status", 11: "FirstDay", 12: "WorkerID", 13: "Country", 14: "LastDay", 15: "", 16: "", 17: "Roles"}
	// The rows stand in lines 2 to 19: the refused ones are shifted by the header.
	for _, r := range s.Refused {
		column, ok := refused[r.Line-1]
		if !ok || column != r.Column {
			t.Errorf("line %d: refused for column %q: %s", r.Line, r.Column, r.Reason)
		}
		delete(refused, r.Line-1)
	}
	if len(refused) > 0 {
		t.Errorf("not refused: %v", refused)
	}
	if len(s.Held) != 1 || s.Held[0].Subject != "1007" || !slices.Equal(s.Held[0].Lines, []int{9, 10}) || !strings.Contains(s.Held[0].Reason, "name") {
		t.Errorf("held: %+v", s.Held)
	}
	if s.Rows != 18 || s.Accepted()+len(s.Refused)+s.HeldRows() != s.Rows {
		t.Errorf("rows do not add up: %d = %d + %d + %d", s.Rows, s.Accepted(), len(s.Refused), s.HeldRows())
	}
	if !s.Unreadable {
		t.Error("a row without an id must forbid the judgement of absence")
	}
	if !s.Names("1008") || !s.Names("1007") || s.Names("1012") || s.Names("4711") {
		t.Error("Names")
	}
	ada := s.Records[0]
	if ada.Person.UsageLocation != "GB" || ada.Person.DisplayName != "Ada Lovelace" || ada.Person.Manager.Value != "1002" || ada.Leave != Present {
		t.Errorf("record: %+v", ada)
	}
	if !slices.Equal(ada.Roles, []string{"analyst", "on-call", "security"}) {
		t.Errorf("roles: %v", ada.Roles)
	}
	if want := time.Date(2024, 2, 1, 7, 0, 0, 0, time.UTC); !ada.Start.Equal(want) {
		t.Errorf("08:00 in Berlin: want %v, got %v", want, ada.Start)
	}
	betty := s.Records[3]
	if want := time.Date(2024, 5, 31, 22, 0, 0, 0, time.UTC); betty.Status != Inactive || !betty.End.Equal(want) {
		t.Errorf("the end of the last day in Berlin: want %v, got %v", want, betty.End)
	}
	if s.Records[2].Leave != OnLeave {
		t.Error("Yes is on leave")
	}
}

func TestWholeFileRefused(t *testing.T) {
	good := "WorkerID,Status,OnLeave,GivenName,FamilyName,Country,Department,Title,Manager,FirstDay,LastDay,Roles\n"
	for name, c := range map[string]struct{ format, in, want string }{
		"empty":              {CSV, " \n", "the file is empty"},
		"UTF-16 with mark":   {CSV, "\xff\xfeW\x00o\x00", "UTF-16"},
		"UTF-16 without":     {CSV, "W\x00o\x00r\x00", "UTF-16"},
		"UTF-16, big end":    {CSV, "\x00W\x00o\x00r\x00k\x00\n", "UTF-16"},
		"UTF-16, of names":   {CSV, "I\x00D\x00,\x00N\x00a\x00m\x00e\x00\n\x001\x00,\x00\x1f\x674\x4e", "UTF-16"},
		"one NUL":            {CSV, good + "1,Active,No,A\x00a,Byron,DE,S,T,,,,\n", "export:2: a NUL octet"},
		"one NUL, far":       {CSV, good + strings.Repeat("1,Active,No,A,Byron,DE,S,T,,,,\n", 200) + "\x00", "export:202: a NUL octet"},
		"NULs in a row":      {CSV, good + strings.Repeat("\x00", 4096), "export:2: a NUL octet"},
		"one NUL, JSON":      {JSONL, `{"WorkerID":"1","GivenName":"A` + "\x00" + `"}` + "\n", "export:1: a NUL octet"},
		"Latin-1":            {CSV, good + "1,Active,No,J\xf6rg,B,DE,S,T,,,,\n", "export:2: an octet 0xf6 that is not UTF-8"},
		"header missing":     {CSV, "WorkerID,status,GivenName\n", "missing Country, Department, FamilyName, FirstDay, LastDay, Manager, OnLeave, Roles, Status (found as status: case counts), Title; found WorkerID, status, GivenName"},
		"header twice":       {CSV, strings.Replace(good, "Title", "Status", 1), "Status 2 times"},
		"other delimiter":    {CSV, strings.ReplaceAll(good, ",", ";"), `set source.delimiter to ";"`},
		"CR alone":           {CSV, strings.ReplaceAll(good+"1,Active,No,Ada,Byron,DE,S,T,,,,\n", "\n", "\r"), `with: tr '\r' '\n'`},
		"CR alone, but last": {CSV, strings.ReplaceAll(good+"1,Active,No,Ada,Byron,DE,S,T,,,,", "\n", "\r") + "\n", "a carriage return alone"},
		"CR alone, JSON":     {JSONL, `{"WorkerID":"1"}` + "\r" + `{"WorkerID":"2","GivenName":"Ada"}` + "\r", "a carriage return alone"},
		"no header":          {CSV, "1,Active,No,Ada,Byron,DE,S,T,,,,\n", "line 1 names none of them; its cells (12) are not shown"},
		"nor a delimiter":    {CSV, "1;Active;No;Ada;Byron\n", "its cells (1) are not shown"},
		"format":             {"xlsx", "x", "want the format csv or jsonl"},
		"no format":          {"", "x", "a workbook (.xls, .xlsx) must be exported"},
		"quote in a header":  {CSV, "Wor\"kerID,Status\n", `want a cell with quotes in it as "a ""b"" c"`},
		"no JSON objects":    {JSONL, "1\n\"Ada\"\n", "export:1: want one JSON object a line, and no line is one"},
		"JSON array":         {JSONL, `[{"WorkerID":"1"},` + "\n" + `{"WorkerID":"2"}]` + "\n", "want one JSON object a line, got one JSON array"},
		"JSON cut off":       {JSONL, `{"WorkerID":"1","GivenName":"Ada` + "\n", "export:1: want one JSON object a line"},
		"JSON spread out":    {JSONL, "{\n\"WorkerID\": \"1\"\n}\n", "and no line is one"},
		"JSON other members": {JSONL, `{"a":1}` + "\n", "found a"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := importer(t, messy()).Read("export", c.format, strings.NewReader(c.in))
			var fe *FileError
			if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
			if strings.Contains(err.Error(), "Ada") {
				t.Errorf("a person in an error: %v", err)
			}
		})
	}
	for row, want := range map[string]string{`1,Active,No,A"da`: "at octet 14 of line 2", `1,Active,No,"Ad"a`: "at octet 16 of line 2"} {
		s := read(t, importer(t, messy()), CSV, good+row+",Byron,DE,S,T,,,,\n")
		if len(s.Refused) != 1 || !strings.Contains(fmt.Sprint(s.Refused), "want a cell with quotes") || !strings.Contains(fmt.Sprint(s.Refused), want) {
			t.Errorf("%s: want %s, got %+v", row, want, s.Refused)
		}
	}
	if s := read(t, importer(t, messy()), CSV, "\xef\xbb\xbf"+good+"1,Active,No,Jörg,B,DE,S,T,,,,\r\n"); len(s.Records) != 1 || s.Records[0].Person.Name.GivenName != "Jörg" {
		t.Errorf("a byte order mark in UTF-8 is harmless: %+v", s)
	}
}

func TestJSONLines(t *testing.T) {
	m := messy()
	m.Status.Suspended = []config.Text{"Away"}
	m.Leave = nil
	s := read(t, importer(t, m), JSONL, `
{"WorkerID":7,"Status":"Active","GivenName":"A","FamilyName":"B","Country":"US","Department":"Sec","Title":"T","Manager":null,"FirstDay":"2024-01-01T09:30:00+01:00","LastDay":"","Roles":["b","a"]}
{"WorkerID":"8","Status":"Away","GivenName":"A","FamilyName":"B","OnLeave":true,"Department":"","Title":"","Roles":[]}
{"WorkerID":"9","WorkerID":"10","Status":"Active"}
{"WorkerID":"11","Status":{"x":1}}
{"WorkerID":"12"
not json
{"WorkerID":"13"}
`)
	if len(s.Records) != 2 || s.Rows != 7 || len(s.Refused) != 5 || !s.Unreadable {
		t.Fatalf("got %+v", s)
	}
	if r := s.Records[0]; r.Subject != "7" || !slices.Equal(r.Roles, []string{"a", "b", "security"}) || !r.Start.Equal(time.Date(2024, 1, 1, 8, 30, 0, 0, time.UTC)) || r.Leave != Present {
		t.Errorf("record: %+v", r)
	}
	if s.Records[1].Leave != OnLeave || s.Records[1].Status != Active {
		t.Errorf("a suspended status: %+v", s.Records[1])
	}
}

// A quote that is closed some rows further on swallows those rows. They are refused and not absent, and the row that it
// stands in counts, above all where it says that somebody left. A cell of several lines that are no rows is one.
func TestRowsInsideACell(t *testing.T) {
	header := "WorkerID,Status,OnLeave,GivenName,FamilyName,Country,Department,Title,Manager,FirstDay,LastDay,Roles,Notes\n"
	row := func(id, status, notes string) string {
		return id + "," + status + ",No,A,B,US,Sec,T,,,,a," + notes + "\n"
	}
	s := read(t, importer(t, messy()), CSV, header+row("1", "Inactive", `"on call`)+row("2", "Active", "")+row("3", "Active", `monitor 24"`)+row("4", "Active", "\"a, b\nand c\""))
	if len(s.Records) != 2 || s.Records[0].Status != Inactive || s.Records[1].Subject != "4" || !s.Unreadable {
		t.Errorf("got %+v", s)
	}
	if len(s.Refused) != 1 || s.Refused[0].Line != 3 || !strings.Contains(s.Refused[0].Reason, "to line 4 is inside a cell that begins with a quote in line 2") {
		t.Errorf("refused: %+v", s.Refused)
	}
	if s.Rows != 3 || s.Accepted()+len(s.Refused)+s.HeldRows() != s.Rows {
		t.Errorf("%d rows", s.Rows)
	}

	// In the middle of a row, what follows the cell is the other person's: nothing of the row is taken.
	s = read(t, importer(t, messy()), CSV, "WorkerID,Notes,Status,OnLeave,GivenName,FamilyName,Country,Department,Title,Manager,FirstDay,LastDay,Roles\n"+
		"1,\"on call,Active,No,A,B,US,Sec,T,,,,a\n2,monitor 24\",Inactive,No,C,D,US,Sec,T,,,,a\n")
	if len(s.Records) != 0 || len(s.Refused) != 1 || s.Refused[0].Line != 2 || !s.Unreadable || s.Rows != 1 {
		t.Errorf("in the middle: %+v", s)
	}
}

// Spaces around a cell are none of it, whoever looks at it: the scope, the roles or what is sent.
func TestSpacesAroundCells(t *testing.T) {
	s := read(t, importer(t, messy(), "Department"), CSV, "WorkerID,Status,OnLeave,GivenName,FamilyName,Country,Department,Title,Manager,FirstDay,LastDay,Roles\n"+"7,Active,No,A,B,US, Security\t,Analyst ,,,, a ;b \n")
	if len(s.Records) != 1 {
		t.Fatalf("got %+v", s)
	}
	r := s.Records[0]
	if !slices.Equal(r.Roles, []string{"a", "b", "security"}) || r.Cells["Department"] != "Security" || r.Person.Title != "Analyst" {
		t.Errorf("%+v", r)
	}
}

// Nobody leaves the scope, or loses roles, by a member that an object does not have; one that is null is empty, and who left has left.
func TestAnObjectWithoutAMemberThatDecides(t *testing.T) {
	s := read(t, importer(t, messy(), "Clearance"), JSONL, `
{"WorkerID":"7","Status":"Active","GivenName":"A","FamilyName":"B","Country":"US","Clearance":"S","OnLeave":"No","Department":"","Title":"","Manager":"","FirstDay":"","LastDay":"","Roles":[]}
{"WorkerID":"8","Status":"Active","GivenName":"A","FamilyName":"B","OnLeave":"No"}
{"WorkerID":"9","Status":"Active","GivenName":"A","FamilyName":"B","OnLeave":"No","Department":"","Roles":null,"Clearance":null}
{"WorkerID":"10","Status":"Inactive"}
{"WorkerID":"11","Status":"Active","GivenName":"A","FamilyName":"B","OnLeave":"No","Department":"","Clearance":null}
{"WorkerID":"12","Status":"Active","GivenName":"A","FamilyName":"B","OnLeave":"No","Roles":"a","Clearance":null}
`)
	var taken []string
	for _, r := range s.Records {
		taken = append(taken, r.Subject)
	}
	slices.Sort(taken)
	refused := map[string]string{}
	for _, r := range s.Refused {
		refused[r.Subject] = r.Column
	}
	if !slices.Equal(taken, []string{"10", "7", "9"}) || !maps.Equal(refused, map[string]string{"8": "Clearance", "11": "Roles", "12": "Department"}) {
		t.Errorf("taken %v, refused %+v", taken, s.Refused)
	}
}

// A row that says someone left counts although the rest of it is unusable.
func TestInactiveRowNeedsLittle(t *testing.T) {
	m := messy()
	m.Reason = &ReasonColumn{Column: "Title", Values: map[string]string{"quit": "resignation"}}
	header := "WorkerID,Status,OnLeave,GivenName,FamilyName,Country,Department,Title,Manager,FirstDay,LastDay,Roles\n"
	s := read(t, importer(t, m), CSV, header+"1,Inactive,No,,,Mars,S,quit,,someday,soon,Big Boss\n2,Inactive,No,,,Mars,S,fled,,,,\n"+
		"3,Inactive,,,,,,,,,,\n4,Inactive,maybe,"+strings.Repeat("x", maxCell+1)+",,,,,,,,\n"+
		"5,Inactive,No,Ada,Byron,GB,A,,,,,\n5,Inactive,Yes,Ada,King,US,B,,1,,,Big Boss\n")
	if len(s.Refused) > 0 || len(s.Held) > 0 {
		t.Errorf("refused %+v, held %+v", s.Refused, s.Held)
	}
	for _, r := range s.Records[2:] {
		if r.Status != Inactive {
			t.Errorf("record %+v", r)
		}
	}
	if len(s.Records) != 5 || s.Records[0].Status != Inactive || s.Records[0].Reason != "resignation" || s.Records[1].Reason != "other" || len(s.Notes) != 1 {
		t.Errorf("got %+v", s)
	}
}

// Who left by every one of their rows has left, whatever these disagree on: several contracts end on several days.
func TestSeveralRowsOfWhoLeft(t *testing.T) {
	m := simpleContracts()
	const header = "id,status,name,contract,end,why,ticket\n"
	for rows, want := range map[string]struct{ end, reason, txn string }{
		"7,i,A,k-1,2020-01-01,quit,T-1\n7,i,A,k-2,2026-02-01,quit,T-1\n":                   {"2026-02-02", "resignation", "T-1"},
		"7,i,A,k-2,2026-02-01,quit,T-1\n7,i,A,k-1,2020-01-01,fled,T-2\n":                   {"2026-02-02", "other", ""},
		"7,i,A,k-1,2020-01-01,,\n7,i,A,k-2,,,\n7,i,A,k-3,2026-02-01,,\n":                   {"", "", ""},
		"7,i,A,k-1,2020-01-01,quit,\n7,i,A,k-2,2026-02-01,,\n7,i,A,k-3,2021-02-01,quit,\n": {"2026-02-02", "other", ""},
	} {
		s := read(t, importer(t, m), CSV, header+rows)
		if len(s.Held)+len(s.Refused) > 0 || len(s.Records) != 1 || s.Accepted() != s.Rows {
			t.Errorf("%q: held %+v, refused %+v", rows, s.Held, s.Refused)
			continue
		}
		r, end := s.Records[0], ""
		if r.End != nil {
			end = r.End.Format(time.DateOnly)
		}
		if r.Status != Inactive || end != want.end || r.Reason != want.reason || r.Txn != want.txn {
			t.Errorf("%q: %+v, ends %q", rows, r, end)
		}
	}
	if s := read(t, importer(t, m), CSV, header+"7,i,A,k-1,2020-01-01,,\n7,a,A,k-2,2026-02-01,,\n"); len(s.Held) != 1 {
		t.Errorf("one row says active: %+v", s)
	}
}

// A long id that a spreadsheet shortened is nobody's: the row may be of any of those whose ids begin so.
func TestAnIDThatWasShortened(t *testing.T) {
	s := read(t, importer(t, simpleContracts()), CSV, "id,status,name,contract,end,why,ticket\n1.23457E+15,i,A,,,,\n\"4,2e+12\",a,A,,,,\n12E+5,a,A,,,,\n1.2E5,a,A,,,,\n")
	if len(s.Refused) != 2 || !s.Unreadable || s.Refused[0].Subject != "" || s.Accepted() != 2 {
		t.Errorf("%+v", s)
	}
}

func simpleContracts() Mapping {
	return Mapping{
		Subject: "id", Engagement: "contract", End: "end", Txn: "ticket", Person: Person{DisplayName: "name"},
		Status: &StatusColumn{Column: "status", Active: []config.Text{"a"}, Inactive: []config.Text{"i"}},
		Reason: &ReasonColumn{Column: "why", Values: map[string]string{"quit": "resignation"}},
	}
}

// Rows that contradict are told by what differs: where one says inactive nothing else was read of leave.
// A ticket that no event could carry is left out: it must not stop the leaver, nor the people beside it.
func TestATicketThatIsNone(t *testing.T) {
	m := messy()
	m.Txn, m.Roles = "Roles", nil
	im := importer(t, m)
	const head = "WorkerID,Status,OnLeave,FirstDay,LastDay,Manager,GivenName,FamilyName,Country,Department,Title,Roles\n"
	for ticket, want := range map[string]string{
		"CHG-1": "CHG-1", "": "", strings.Repeat("x", schema.MaxTxn): strings.Repeat("x", schema.MaxTxn), strings.Repeat("x", schema.MaxTxn+1): "", "\"a\nb\"": "", "a\u202eb": "",
	} {
		s := read(t, im, CSV, head+"1,Inactive,,,,,,,,,,"+ticket+"\n")
		if len(s.Records) != 1 || s.Records[0].Txn != want || len(s.Notes) > 0 != (ticket != want) {
			t.Errorf("%q: %+v, %v, %v", ticket, s.Records, s.Refused, s.Notes)
		}
	}
}

func TestWhatContradicts(t *testing.T) {
	header := "WorkerID,Status,OnLeave,GivenName,FamilyName,Country,Department,Title,Manager,FirstDay,LastDay,Roles\n"
	for rows, want := range map[string]string{
		"1,Active,No,Ada,B,GB,A,,,,,\n1,Inactive,No,Ada,B,GB,A,,,,,\n": "contradict each other in: status",
		"1,Active,No,Ada,B,GB,A,,,,,\n1,Active,Yes,Ada,B,GB,A,,,,,\n":  "contradict each other in: leave",
	} {
		if s := read(t, importer(t, messy()), CSV, header+rows); len(s.Held) != 1 || !strings.HasSuffix(s.Held[0].Reason, want) {
			t.Errorf("want %q, got %+v", want, s.Held)
		}
	}
}

func TestMappingMistakes(t *testing.T) {
	for want, change := range map[string]func(*Mapping){
		"subject: ":          func(m *Mapping) { m.Subject = "" },
		"person: ":           func(m *Mapping) { m.Person = Person{GivenName: "x"} },
		"status: ":           func(m *Mapping) { m.Status.Inactive = nil },
		"leave: ":            func(m *Mapping) { m.Leave.Column = "" },
		`status: "Inactive"`: func(m *Mapping) { m.Status.Active = []config.Text{"Active", "Inactive"} },
		`leave: "No"`:        func(m *Mapping) { m.Leave.OnLeave = []config.Text{"Yes", "No"} },
		"delimiter: ":        func(m *Mapping) { m.Delimiter = "|" },
		"dates.zone: ":       func(m *Mapping) { m.Dates.Zone = "Mars/Olympus" },
		"dates.formats: ":    func(m *Mapping) { m.Dates.Formats = []string{"DD.MM."} },
		"dates.ends: ":       func(m *Mapping) { m.Dates.Ends = "25:00" },
		"roles[0]: ":         func(m *Mapping) { m.Roles = []RoleRule{{Role: "a", Column: "b"}} },
		"roles[0].when[0]:":  func(m *Mapping) { m.Roles = []RoleRule{{Role: "a", When: []Condition{{Column: "b", Matches: "("}}}} },
		"reason.values: ":    func(m *Mapping) { m.Reason = &ReasonColumn{Column: "a", Values: map[string]string{"x": "fired"}} },
	} {
		m := messy()
		change(&m)
		_, err := New(m, nil, fits)
		var me *MappingError
		if !errors.As(err, &me) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestDates(t *testing.T) {
	c, err := newCalendar(Dates{Formats: []string{"DD.MM.YYYY", "YYYY-MM-DD hh:mm"}, Zone: "Europe/Berlin", Ends: "18:30"})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"31.03.2024":             "2024-03-31T16:30:00Z", // the clocks went forward that morning
		"27.10.2024":             "2024-10-27T17:30:00Z", // and back that one
		"2024-07-01 12:00":       "2024-07-01T10:00:00Z",
		"2024-07-01T12:00:00.9Z": "2024-07-01T12:00:00Z",
	} {
		got, err := c.instant(in, c.ends)
		if err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: want %s, got %v, %v", in, want, got, err)
		}
	}
	for _, in := range []string{"31.02.2024", "2024-07-01", "x"} {
		if got, err := c.instant(in, 0); err == nil {
			t.Errorf("%s: want an error, got %v", in, got)
		}
	}
}

func TestCountries(t *testing.T) {
	codes := strings.Fields(countries)
	if len(codes) != 249 || !slices.IsSorted(codes) {
		t.Errorf("ISO 3166-1 assigns 249 codes; the list has %d", len(codes))
	}
	for _, c := range codes {
		if r, err := language.ParseRegion(c); err != nil || !r.IsCountry() || !IsCountry(c) {
			t.Errorf("%s is no country", c)
		}
	}
	for _, c := range []string{"UK", "EU", "XK", "AN", "ZZ", "us", "D ", " D", "", "DEU", "E "} {
		if IsCountry(c) {
			t.Errorf("%q passes", c)
		}
	}
}

// Whatever the rows are, each is accounted for once, and a person is accepted only when all rows agree.
func TestEveryRowIsAccountedFor(t *testing.T) {
	im := importer(t, messy())
	rapid.Check(t, func(t *rapid.T) {
		cell := rapid.SampledFrom([]string{"1", "2", "3", "", "Active", "Inactive", "No", "Yes", "a\"b", "\"", "US", "UK", "x y", "2024-01-01", "ö", "\"q\nr\""})
		var b strings.Builder
		b.WriteString("WorkerID,Status,OnLeave,GivenName,FamilyName,Country,Department,Title,Manager,FirstDay,LastDay,Roles\n")
		for range rapid.IntRange(1, 20).Draw(t, "rows") {
			row := []string{
				rapid.SampledFrom([]string{"1", "2", "3", "4", "", "a b"}).Draw(t, "id"), rapid.SampledFrom([]string{"Active", "Inactive", "?"}).Draw(t, "status"), "No",
				rapid.SampledFrom([]string{"A", "B", "\"q\nr\"", "a\"b"}).Draw(t, "name"), "F", "US", "S", "T", "", "", cell.Draw(t, "last"), "",
			}
			if rapid.IntRange(0, 9).Draw(t, "short") == 0 {
				row = row[:4]
			}
			b.WriteString(strings.Join(row, ",") + "\n")
		}
		s, err := im.Read("export", CSV, strings.NewReader(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		if s.Accepted()+len(s.Refused)+s.HeldRows() != s.Rows {
			t.Fatalf("%d rows, %d accepted, %d refused, %d held", s.Rows, s.Accepted(), len(s.Refused), s.HeldRows())
		}
		seen := map[string]bool{}
		for _, r := range s.Refused {
			seen[r.Subject] = true
		}
		for _, h := range s.Held {
			seen[h.Subject] = true
		}
		for _, r := range s.Records {
			if seen[r.Subject] {
				t.Fatalf("%s is accepted and also refused, held or accepted before", r.Subject)
			}
			seen[r.Subject] = true
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add(CSV, "WorkerID,Status\n1,Active\n")
	f.Add(JSONL, `{"WorkerID":"1","Status":"Active","GivenName":"A","FamilyName":"B"}`)
	f.Add(CSV, "WorkerID,Status,OnLeave,GivenName,FamilyName,Country,Department,Title,Manager,FirstDay,LastDay,Roles\n\"1,Active,No,A,B,US\n")
	im := importer(f, messy())
	f.Fuzz(func(t *testing.T, format, text string) {
		s, err := im.Read("export", format, strings.NewReader(text))
		if err == nil && s.Accepted()+len(s.Refused)+s.HeldRows() != s.Rows {
			t.Errorf("rows do not add up: %+v", s)
		}
	})
}

// A role that no message may bear is a mistake of the mapping, and not of the rows.
func TestARoleNameIsChecked(t *testing.T) {
	m := messy()
	m.Roles[1].Role = "SOC Lead!"
	var wrong *MappingError
	if _, err := New(m, nil, fits); !errors.As(err, &wrong) || wrong.Key != "roles[1].role" {
		t.Errorf("want it refused at roles[1].role, got %v", err)
	}
}
