package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// An export of JSON Lines goes the way of one in CSV: by its name or by --format, from a file or from standard input.
func TestImportJSONLines(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	lines := `{"id":1,"name":"A","dept":"sec","status":"a"}` + "\n" + `{"id":"2","name":"B","dept":"sales","status":"a"}` + "\n" + `{"id":"3","name":"C"` + "\n"
	out := p.must(t, "import", p.write(t, "export.jsonl", lines))
	for _, want := range []string{"3 rows = 2 accepted (2 people) + 1 refused + 0 held (0 people)", "refused  line 3 ", "1 change announced", "joiner   subject 1, engagement 1 (line 1)"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	if s := p.said(t, "1"); s.Person.DisplayName != "A" || s.Person.Department != "sec" {
		t.Errorf("announced %+v", s)
	}
	var r importReport
	code, out, errs := p.try(strings.Replace(lines, `"a"`, `"i"`, 1), "import", "-", "--format", "jsonl", "-o", "json")
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitDone || r.Enclaves[0].Cases["leaver"] != 1 || r.Enclaves[0].Sent != 1 {
		t.Errorf("the leaver of standard input: exit code %d, %v\n%s%s", code, err, out, errs)
	}
	if code, _, errs := p.try(lines, "import", "-"); code != exitMisused || !strings.Contains(errs, "give --format") {
		t.Errorf("standard input has no name: %d %s", code, errs)
	}
	if code, _, errs := p.try("", "import", p.write(t, "mac.csv", strings.ReplaceAll(people, "\n", "\r"))); code != exitMisused || !strings.Contains(errs, "a carriage return alone") {
		t.Errorf("line ends of an old Mac: %d %s", code, errs)
	}
}

func TestImportTakesNoNegativeNumbers(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	file := p.write(t, "export.csv", people)
	for _, args := range [][]string{{"--allow-absences", "-1"}, {"--complete", "--allow-absences", "-1"}, {"--allow-rehires", "-5", "--dry-run"}, {"--allow-transfers", "-2"}} {
		if code, _, errs := p.try("", append([]string{"import", file}, args...)...); code != exitMisused || !strings.Contains(errs, ": want a number from 0 up, got -") {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
	if p.seq(t) != 0 {
		t.Error("something was stored")
	}
}

// What is held back is told as it is: what was done beside it, and whether there is a flag.
func TestHeldBackIsToldAsItIs(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	var many strings.Builder
	many.WriteString("id,name,dept,status\n")
	for i := range 30 {
		fmt.Fprintf(&many, "%d,A,sec,a\n", i)
	}
	p.must(t, "import", p.write(t, "many.csv", many.String()))
	one, unreadable := p.write(t, "one.csv", "id,name,dept,status\n1,A,sec,a\n"), p.write(t, "unreadable.csv", "id,name,dept,status\n1,A,sec,a\n,B,sec,a\n")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{one}, "held back: 29 leavers that no row states; everything else was done. Look at them, then correct file or scope, or let them pass with the flag shown\n"},
		{[]string{one, "--dry-run"}, "to be held back: 29 leavers that no row states; nothing was stored (dry run). Look at them, then correct file or scope, or let them pass with the flag shown\n"},
		{[]string{unreadable}, "held back: 29 leavers that no row states; everything else was done. Look at them, then correct the file: no flag lets them pass\n"},
		{[]string{one, "--allow-absences", "28"}, "held back: 29 leavers"},
	} {
		code, _, errs := p.try("", append([]string{"import", "--complete"}, c.args...)...)
		if code != exitFailed || !strings.Contains(errs, "producer: "+c.want) {
			t.Errorf("%v: %d\n%s", c.args, code, errs)
		}
	}
	// At most so many: fewer pass too.
	if out := p.must(t, "import", "--complete", one, "--allow-absences", "500"); !strings.Contains(out, "by case: leaver 29, unchanged 1") {
		t.Error(out)
	}
}

// Whoever stored nothing and waits for nothing needs no runner; what waits from before is counted.
func TestHintOfTheRunner(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	nobody := p.write(t, "nobody.csv", "id,name,dept,status\n3,C,sales,a\n")
	for _, c := range []struct{ file, want string }{
		{nobody, ""},
		{p.write(t, "one.csv", "id,name,dept,status\n1,A,sec,a\n"), "producer: nothing relays what waits here (1 message): start producer -c " + p.config + " run\n"},
		{p.write(t, "export.csv", people), "(2 messages)"},
		{nobody, "(2 messages)"},
	} {
		code, _, errs := p.try("", "import", c.file, "--log-level", "warn")
		if code != exitDone || !strings.Contains(errs, c.want) || c.want == "" && errs != "" {
			t.Errorf("%s: want %q, got %d %q", c.file, c.want, code, errs)
		}
	}
}

// A row of somebody live that nobody can read may be that of a leaver: a script must not take it for done. The rest is done.
func TestImportOfALiveRowThatIsRefused(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	const head = "id,name,dept,status\n"
	p.must(t, "import", p.write(t, "export.csv", head+"1,A,sec,a\n2,B,sec,a\n3,C,sec,a\n"))
	for _, c := range []struct {
		rows, want string
		unread     int
	}{
		{"1,A,sec,inactive\n2,B,sec,i\n3,C,sec,a\n", "of 1 person, live until now, no row", 1},
		{"1,A,sec,a\n1,A,sec,i\n3,C,sec,inactive\n", "of 2 people, live until now, no row", 2},
		{"1,A,sec,a\n2,B,sec,whatever\n3,C,sec,a\n9,D,sec,unheard\n", "", 0}, // 2 has left by now, and 9 was never announced
	} {
		code, out, errs := p.try(head+c.rows, "import", "-", "--format", "csv", "-o", "json")
		var r importReport
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%s: %v\n%s%s", c.rows, err, out, errs)
		}
		if want := map[bool]int{true: exitFailed, false: exitDone}[c.unread > 0]; code != want || !strings.Contains(errs, c.want) || len(r.Enclaves[0].Unread) != c.unread {
			t.Errorf("%s: exit code %d, unread %q: %s", c.rows, code, r.Enclaves[0].Unread, errs)
		}
	}
}

// Somebody live without a row, in a file of which some row is nobody's or which has none, may have left: no good run.
func TestALiveOneWithoutARowBesideARowOfNobody(t *testing.T) {
	p := newPlace(t)
	p.must(t, "init")
	const header, first, second = "id,name,dept,status\n", "1,A,sec,a\n", "2,B,sec,a\n"
	p.must(t, "import", p.write(t, "all.csv", header+first+second))
	for name, c := range map[string]struct{ rows, want string }{
		"a cell too many":     {first + "2,B, Jr,sec,i\n", "some row has no readable id (refused, as listed), and no row names 1 person, live until now"},
		"a cut-off row":       {first + "2,B\n", "some row has no readable id"},
		"an id with a blank":  {first + "2\u200b,B,sec,i\n", "some row has no readable id"},
		"no row":              {"", "the file has no row, and no row names 2 people"},
		"one that is missing": {first, ""},
		"all of them, beside": {first + second + "x y,C,sec,a\n", ""},
	} {
		code, out, errs := p.try("", "import", p.write(t, "next.csv", header+c.rows))
		if (code == exitFailed) != (c.want != "") || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, want %q\n%s%s", name, code, c.want, out, errs)
		}
	}
}
