package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Microsoft's own sample export, by its example configuration: every row is accounted for, and nothing in
// it, nor a half of it, makes a leaver.
func TestMicrosoftSample(t *testing.T) {
	file := sample(t)
	p := newPlace(t)
	text, err := os.ReadFile("microsoft-sample.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "producer.yaml", strings.Replace(string(text), "keys/gov-1.pub.pem", "enclave.pub.pem", 1))
	p.must(t, "init")
	report := func(args ...string) (r importReport) {
		t.Helper()
		if err := json.Unmarshal([]byte(p.must(t, append([]string{"import", "-o", "json"}, args...)...)), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := report("--dry-run", file)
	r := report(file)
	if r.Rows != 1000 || r.Accepted+len(r.Refused)+r.HeldRows != 1000 {
		t.Errorf("%d rows: %d accepted, %d refused, %d held", r.Rows, r.Accepted, len(r.Refused), r.HeldRows)
	}
	if r.People != 411 || len(r.Held) != 213 || len(r.Refused) != 0 {
		t.Errorf("%d people, %d held, %d refused: %v", r.People, len(r.Held), len(r.Refused), r.Refused)
	}
	e := r.Enclaves[0]
	total := 0
	for _, n := range e.Cases {
		total += n
	}
	if total != r.People || e.Cases["joiner"] == 0 || e.Cases["leaver"] != 0 || e.Sent != len(e.Changes) {
		t.Errorf("%d people, sent %d, %v", total, e.Sent, e.Cases)
	}
	if planned := before.Enclaves[0]; !maps.Equal(planned.Cases, e.Cases) || planned.Sent != 0 {
		t.Errorf("the plan was %v, done was %v", planned.Cases, e.Cases)
	}
	if again := report(file); len(again.Enclaves[0].Changes) != 0 {
		t.Errorf("the same file again says %d things", len(again.Enclaves[0].Changes))
	}
	// Half of the file, called complete.
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	half := p.write(t, "half.csv", strings.Join(strings.SplitAfter(string(data), "\n")[:500], ""))
	code, out, _ := p.try("", "import", half, "--complete", "-o", "json")
	var cut importReport
	if err := json.Unmarshal([]byte(out), &cut); err != nil || code != exitFailed {
		t.Fatalf("exit code %d, %v", code, err)
	}
	if h := cut.Enclaves[0]; h.Cases["leaver"] != 0 || len(h.HeldBack) != 1 || h.HeldBack[0].Count != h.Absent {
		t.Errorf("%v, held back %+v", h.Cases, h.HeldBack)
	}
}

// sample finds the shared test data beside the module.
func sample(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(filepath.Dir(dir), "shared", "data", "hr", "workers-1000.csv")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the sample export is not beside this clone (%s)", path)
	}
	return path
}
