package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"jmlbridge/e2e/stage"
)

// told is one finished run.
type told struct {
	dir  string
	out  string
	code int
}

// happy is one run with nothing wrong and nothing built before; the other tests use the programs that it
// built.
var happy = sync.OnceValue(func() told {
	dir := filepath.Join(scratch, "kept")
	var out bytes.Buffer
	code := run(context.Background(), []string{"-keep", dir}, &out, &out)
	return told{dir, out.String(), code}
})

var scratch string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "quickstart-test-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(scratch)
		return m.Run()
	}())
}

func programs(t *testing.T) string {
	t.Helper()
	if h := happy(); h.code != 0 {
		t.Fatalf("exit code %d:\n%s", h.code, h.out)
	}
	return filepath.Join(happy().dir, "bin")
}

// Everything comes out as promised, everyone's way is shown stage by stage, and everything is left.
func TestAsPromised(t *testing.T) {
	programs(t)
	out, dir := happy().out, happy().dir
	for _, want := range []string{
		"built        producer, consumer, auditor and sandbox in ",
		"Radia Perlman      refused  line 15, Country: ", "Katherine Johnson  held     lines 16 and 17: ",
		"12 people have an account", "2 people whose rows were refused or held have none",
		"3 leavers: disabled, sessions revoked, out of every group", "1 missing from the file: untouched",
		"is named by an outcome on the ledger", "consumer status --check: no alarm", "VERIFIES",
		"Everything came out as promised", "Everything is left in " + dir,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if _, err := stage.SocketsOf(os.Getpid()); err == nil && !strings.Contains(out, "the consumer listens on no socket: looked ") {
		t.Error("the output does not say that the consumer listens nowhere")
	}
	first, second, _ := strings.Cut(out, "5  The second HR export")
	first, _, _ = strings.Cut(first, "The tenant's own word")
	for _, p := range newcomers() {
		if p.fate == joins {
			inOrder(t, first, p.name, "fact", "queued", "verified", "planned", "applied", "ledger")
		}
	}
	for _, p := range changed(newcomers()) {
		switch p.fate {
		case moves, joins:
			inOrder(t, second, p.name, "fact", "queued", "verified", "planned", "applied", "ledger")
		case leaves, suspended:
			inOrder(t, second, p.name, "fact", "queued", "verified", "planned  disable account", "applied  account disabled", "ledger",
				"planned  revoke sessions", "applied  sessions revoked", "ledger")
			if !regexp.MustCompile(p.name + ` +(resigned|dismissed|contract ended|on leave) +\d+\.\d\ds +\d+\.\d\ds`).MatchString(second) {
				t.Errorf("the table of cuts lacks %s", p.name)
			}
		case unchanged, missing:
			if strings.Contains(second, p.name) {
				t.Errorf("%s %s, and is shown in the second act", p.name, p.fate)
			}
		}
	}
	for _, f := range []string{"commercial/producer.yaml", "commercial/hr-2.csv", "enclave/consumer.db", "enclave/ledger/tiles/checkpoint", "tenant/journal.jsonl", "logs/consumer.log"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Errorf("what was said to be left is not: %v", err)
		}
	}
	nobodyLeft(t, out)
}

// inOrder wants lines about somebody with these stages one after another.
func inOrder(t *testing.T, out, name string, stages ...string) {
	t.Helper()
	rest := out
	for _, s := range stages {
		m := regexp.MustCompile(`(?m)^  \+\d+\.\d\ds +` + name + ` +` + s).FindStringIndex(rest)
		if m == nil {
			t.Errorf("%s: no %q after what comes before it", name, s)
			return
		}
		rest = rest[m[1]:]
	}
}

// Into a pipe goes plain text that fits, apart from the paths of this machine.
func TestPlainInPipe(t *testing.T) {
	programs(t)
	for i, line := range strings.Split(happy().out, "\n") {
		if strings.ContainsAny(line, "\x1b\r") {
			t.Errorf("line %d: control characters in %q", i+1, line)
		}
		if n := utf8.RuneCountInString(line); n > wide && !strings.Contains(line, happy().dir) {
			t.Errorf("line %d has %d columns: %s", i+1, n, line)
		}
		for _, r := range line {
			if r > '~' && r != 'ä' {
				t.Errorf("line %d: %q in a pipe", i+1, r)
			}
		}
	}
}

// A tenant that says yes to a disable and does nothing is found out, although the consumer believes it.
func TestIgnoredDisable(t *testing.T) {
	bin := programs(t)
	faults := filepath.Join(t.TempDir(), "faults.yaml")
	const text = "- {name: ignored, method: ^PATCH$, path: /users/, body: '\"accountEnabled\":false', skip: 1, kind: ignore}\n"
	if err := os.WriteFile(faults, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code := run(t.Context(), []string{"-keep", filepath.Join(t.TempDir(), "kept"), "-bin", bin, "-faults", faults}, &out, &out)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	flat := strings.Join(strings.Fields(strings.ReplaceAll(out.String(), "|", " ")), " ")
	for _, want := range []string{
		"Not as promised", "the account must be disabled, but the tenant says that it is still enabled",
		`the consumer recorded "disable" as applied`, "(answered 204) changed nothing",
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("the output does not say %q", want)
		}
	}
	if strings.Contains(flat, "VERIFIES") || strings.Contains(flat, "as promised |") {
		t.Error("it went on to a verdict")
	}
	if t.Failed() {
		t.Log(out.String())
	}
	nobodyLeft(t, out.String())
}

// child starts the quickstart as a process and returns when it has come to the first export.
func child(t *testing.T) (*exec.Cmd, *bytes.Buffer, func() error) {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "quickstart")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(exe, "-keep", filepath.Join(t.TempDir(), "kept"), "-bin", programs(t))
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var out bytes.Buffer
	in := bufio.NewReader(pipe)
	for {
		line, err := in.ReadString('\n')
		out.WriteString(line)
		if err != nil {
			t.Fatalf("it ended before the first export: %s", out.String())
		}
		if strings.Contains(line, "4  The first HR export") {
			break
		}
	}
	return cmd, &out, func() error {
		_, err := io.Copy(&out, in)
		return errors.Join(err, cmd.Wait())
	}
}

// Ctrl-C ends every program in order, and says so.
func TestCtrlC(t *testing.T) {
	cmd, out, wait := child(t)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("want exit code 1, got %v", err)
	}
	if !strings.Contains(out.String(), "Stopped by Ctrl-C") || strings.Contains(out.String(), "Not as promised") {
		t.Errorf("want a word about Ctrl-C and no complaint:\n%s", out)
	}
	nobodyLeft(t, out.String())
}

// Even when the quickstart itself is killed, no program is left behind.
func TestKilled(t *testing.T) {
	if _, err := stage.SocketsOf(os.Getpid()); errors.Is(err, stage.ErrNoProc) {
		t.Skip("only Linux ends the children of a process that was killed")
	}
	cmd, out, wait := child(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = wait() // it was killed
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := stage.Until(ctx, "the programs to be gone", func() (bool, error) { return len(alive(t, out.String())) == 0, nil }); err != nil {
		t.Errorf("%v: %v still run", err, alive(t, out.String()))
	}
}

// nobodyLeft wants that no program that was started still runs.
func nobodyLeft(t *testing.T, out string) {
	t.Helper()
	if pids := alive(t, out); len(pids) > 0 {
		t.Errorf("programs still run: %v", pids)
	}
}

var pidShown = regexp.MustCompile(`(?m)^  (sandbox|mid-point|producer|consumer) +pid (\d+) `)

// alive lists the programs shown as started that still run and are children of ours or of nobody.
func alive(t *testing.T, out string) (pids []int) {
	t.Helper()
	found := pidShown.FindAllStringSubmatch(out, -1)
	if len(found) != 4 {
		t.Fatalf("want the pids of 4 programs in the output, got %d:\n%s", len(found), out)
	}
	for _, m := range found {
		pid, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Kill(pid, 0) == nil && !zombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// zombie says that a process has ended and only its parent has not looked yet.
func zombie(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	return ok && strings.HasPrefix(rest, "Z")
}

func TestMisuse(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-keep", full}, 2, "want a new or empty folder"},
		{[]string{"now"}, 2, "want no arguments"},
		{[]string{"-faults", filepath.Join(full, "missing")}, 2, "no such file"},
		{[]string{"-nonsense"}, 2, "not defined"},
		{[]string{"-h"}, 0, "Usage: go run ./e2e/quickstart"},
	} {
		var out bytes.Buffer
		if code := run(t.Context(), c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%v: exit code %d, output %q; want %d and %q", c.args, code, out.String(), c.code, c.want)
		}
	}
}
