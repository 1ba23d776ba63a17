package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/envelope"
)

// The test binary is also the processes that the rows start.
func TestMain(m *testing.M) {
	if code, started := helper(); started {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// Every row is measured, small. What comes out is not judged: no timed tests.
func TestRows(t *testing.T) {
	args := []string{"-o", "json", "-messages", "48", "-rounds", "2", "-leavers", "2", "-people", "30", "-burst", "20", "-latency", "1ms", "-dir", filepath.Join(t.TempDir(), "b")}
	want := []string{"intake", "roster", "publish", "keystore-sign", "keystore-open", "bus-publish", "bus-intake", "bus-publish-away", "bus-intake-away", "bus-websocket", "verify", "leaver-idle", "leaver-busy", "memory", "leavers-burst", "leavers-held"}
	if testing.Short() {
		want = want[:3]
		args = append(args, "-only", strings.Join(want, ","))
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	if errs.Len() > 0 {
		t.Errorf("want no progress where standard error is not a terminal, got %q", errs.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != len(want) {
		t.Fatalf("want the rows %v, got %s", want, out.String())
	}
	for i, x := range r.Rows {
		if x.Name != want[i] || x.Ours == nil || x.Ours.Value <= 0 || x.Goal == "" || len(x.Notes) == 0 {
			t.Errorf("row %s: %+v", want[i], x)
		}
		if i < 3 && (x.Limit == nil || x.Limit.Value <= 0 || x.Ratio <= 0) {
			t.Errorf("row %s has no limit beside it: %+v", want[i], x)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, args := range [][]string{{"-only", "speed"}, {"-o", "xml"}, {"-rounds", "0"}, {"-messages", "9", "-rounds", "5"}, {"-latency", "1h"}, {"extra"}, {"-people", "1"}, {"-burst", "1"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != 2 || errs.Len() == 0 || out.Len() > 0 {
			t.Errorf("%v: exit code %d, %q on standard error; want 2 and why", args, code, errs.String())
		}
	}
}

func TestTable(t *testing.T) {
	r := &report{Go: "go1.26", Platform: "linux/amd64", Cores: 2, LoadBefore: "0.10 0.20 0.30", Rows: []*row{
		{Name: "intake", What: "all", Ours: &measure{1234.4, "msg/s"}, Limit: &measure{2000, "msg/s"}, Ratio: 0.617, Goal: "≥ 0.6", Met: true, Notes: []string{"a note"}},
		{Name: "memory", What: "peak", Ours: &measure{151.6, "MiB"}, Goal: "< 150 MiB"},
	}}
	var b bytes.Buffer
	if err := r.table(&b); err != nil {
		t.Fatal(err)
	}
	want := `go1.26 linux/amd64, 2 cores, load before 0.10 0.20 0.30, after -

ROW     WHAT  OURS         LIMIT        RATIO  GOAL       VERDICT
intake  all   1,234 msg/s  2,000 msg/s  0.62   ≥ 0.6      met
memory  peak  152 MiB      -            -      < 150 MiB  NOT MET

intake
  a note

`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("42 (a ) (b) S 1 42 42 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 1 0 100 1000 10"))
	if want := (cpu{1500 * time.Millisecond, 250 * time.Millisecond}); err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"", "42 (a) S", "42 (a) S 1 1 1 1 1 1 1 1 1 1 x 1 1"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is no stat", bad)
		}
	}
}

func TestParsePeak(t *testing.T) {
	got, err := parsePeak([]byte("Name:\tx\nVmPeak:\t  999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n"))
	if err != nil || got != 2<<20 {
		t.Errorf("got %d, %v; want %d", got, err, 2<<20)
	}
	if _, err := parsePeak([]byte("Name:\tx\n")); err == nil {
		t.Error("want an error where there is no VmHWM")
	}
}

func TestMedian(t *testing.T) {
	if m := median([]float64{5, 1, 3}); m != 3 {
		t.Errorf("got %v, want 3", m)
	}
	if m := median([]time.Duration{4, 1, 3, 2}); m != 2 {
		t.Errorf("got %v, want the lower middle, 2", m)
	}
}

// Requests that overlap count once, those before, after and about others not at all.
func TestAnswering(t *testing.T) {
	t0 := time.Unix(1_800_000_000, 0)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	var list []tenant.Entry
	for _, e := range []struct {
		ms   int
		path string
	}{{120, "/v1.0/users/A"}, {0, "/v1.0/users/A"}, {100, "/v1.0/users/A"}, {150, "/v1.0/users/B"}, {400, "/v1.0/users/A"}} {
		list = append(list, tenant.Entry{Time: at(e.ms), Path: e.path})
	}
	if got, want := answering(list, "A", 50*time.Millisecond, at(30), at(420)), 110*time.Millisecond; got != want {
		t.Errorf("got %s, want %s", got, want) // 20 of the first, 70 of two that overlap, 20 of the last
	}
}

// A profile of this process is read as go tool pprof would read it.
func TestParseProfile(t *testing.T) {
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil {
		t.Skip("something else is profiling:", err)
	}
	var used time.Duration
	for before, _ := ownCPU(); used < 300*time.Millisecond; {
		_, _ = envelope.Open(bytes.Repeat([]byte("x"), 1<<16), nil, nil)
		now, err := ownCPU()
		if err != nil {
			pprof.StopCPUProfile()
			t.Fatal(err)
		}
		used = now.minus(before).all()
	}
	pprof.StopCPUProfile()
	p, err := parseProfile(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, s := range p.shares() {
		sum += s.share
	}
	if p.total == 0 || sum < 0.999 || sum > 1.001 {
		t.Errorf("want shares of all samples, got %v of %d", p.shares(), p.total)
	}
	if _, err := parseProfile(b.Bytes()[:b.Len()/2]); err == nil {
		t.Error("half a profile was read")
	}
}

func TestStageOf(t *testing.T) {
	for _, c := range []struct{ stack, want string }{
		{"crypto/ecdh.x jmlbridge/internal/envelope.Open jmlbridge/consumer/intake.(*item).open", "open"},
		{"encoding/json.x jmlbridge/schema.Decode jmlbridge/consumer/intake.(*item).open", "decode"},
		{"runtime.mallocgc runtime.gcAssistAlloc jmlbridge/internal/envelope.Open", "garbage collection"},
		{"x jmlbridge/internal/store.(*Tx).Exec jmlbridge/internal/ledger.Append jmlbridge/consumer/intake.(*batch).take", "ledger"},
		{"x jmlbridge/internal/store.(*writer).exec jmlbridge/internal/store.(*writer).transact", "commit"},
		{"x jmlbridge/internal/store.(*Tx).Exec jmlbridge/consumer/state.AddMessage jmlbridge/consumer/intake.(*batch).take", "archive and people"},
		{"crypto/tls.x github.com/nats-io/nats%2ego.(*Conn).readLoop", "fetch and settle"},
		{"runtime.mcall", elsewhere},
	} {
		if got := stageOf(strings.Fields(c.stack)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.stack, got, c.want)
		}
	}
}
