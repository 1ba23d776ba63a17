package alarms

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)

func gap(text string) Line {
	return Line{Code: "gap", Key: "hr#1@x", Severity: "critical", Since: t0, Text: text, Do: Advice("gap")}
}

func lines(t *testing.T, path string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		var line Line
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			out = append(out, "torn")
			continue
		}
		out = append(out, line.State+" "+line.Code+" "+line.Text)
	}
	return out
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alarms.jsonl")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	sync := func(standing ...Line) {
		t.Helper()
		if err := f.Sync(standing, t0); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, list ...string) {
		t.Helper()
		if got := lines(t, path); strings.Join(got, "\n") != strings.Join(list, "\n") {
			t.Errorf("%s:\ngot  %q\nwant %q", what, got, list)
		}
	}
	sync()
	if _, err := os.Stat(path); err == nil {
		t.Error("a file that says nothing was made")
	}
	sync(gap("one"))
	sync(gap("one"))
	want("once", "raised gap one")
	sync(gap("two"))
	want("changed", "raised gap one", "raised gap two")

	// Another process goes on where this one ended.
	if f, err = Open(path); err != nil {
		t.Fatal(err)
	}
	sync(gap("two"))
	want("after a restart", "raised gap one", "raised gap two")

	// A line that a crash tore does not swallow the next one.
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString(`{"time":"2026`); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if f, err = Open(path); err != nil {
		t.Fatal(err)
	}
	sync()
	want("after a crash", "raised gap one", "raised gap two", "torn", "cleared gap two")

	// Rotated away: what stands is said again in the new file.
	sync(gap("three"))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	sync(gap("three"))
	want("after rotation", "raised gap three")
}

// A file that cannot be written is tried again, and nothing is lost.
func TestWriteFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	f, err := Open(filepath.Join(dir, "alarms.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync([]Line{gap("one")}, t0); err == nil {
		t.Fatal("wrote into a folder that is not there")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync([]Line{gap("one")}, t0); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, f.path); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

// What a power cut, or somebody else, left in the file keeps nobody from going on with it; nor does a file that cannot be read.
func TestLeftInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alarms.jsonl")
	said := `{"state":"raised","code":"gap","key":"hr#1@x"}` + "\n"
	if err := os.WriteFile(path, []byte(said+strings.Repeat("\x00", 3*maxLine)+"\n"+`{"state":"raised","code":"fork"}`+"\n"+strings.Repeat("x", 2*maxLine)), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil || len(f.says) != 2 {
		t.Fatalf("%v, it says %v", err, f.says)
	}
	if err := f.Sync(nil, t0); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, path); len(got) != 6 || !strings.HasPrefix(got[4], "cleared fork") || !strings.HasPrefix(got[5], "cleared gap") {
		t.Errorf("got %.200q", got)
	}
	folder := t.TempDir() // reading one fails whoever asks
	if f, err = Open(folder); err == nil || f == nil {
		t.Fatalf("%v, %v", f, err)
	}
	if err := f.Sync([]Line{gap("one")}, t0); err == nil {
		t.Error("wrote into a folder")
	}
	f.path = path
	if err := f.Sync([]Line{gap("one")}, t0); err != nil {
		t.Error(err)
	}
}

func FuzzFold(f *testing.F) {
	f.Add(`{"state":"raised","code":"gap"}` + "\n" + `{"state":"cleared","code":"gap"}` + "\n{")
	f.Fuzz(func(t *testing.T, text string) {
		says, err := fold(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for id, l := range says {
			if l.State != Raised || l.id() != id {
				t.Errorf("%q stands as %+v", id, l)
			}
		}
	})
}
