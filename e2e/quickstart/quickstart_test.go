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
		"built        auditor, consumer, egress, nats-server, producer, sandbox, servicebus",
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
	if !strings.Contains(strings.Join(strings.Fields(out), " "), "the enclave may have it a moment sooner") {
		t.Error("the output does not say why a message can be verified before it counts as queued")
	}
	// It takes a few seconds; a machine may be twenty times as slow before the promise is not kept.
	took := regexp.MustCompile(`It took (\d+\.\d)s, and \d+\.\ds before it to build`).FindStringSubmatch(out)
	if took == nil {
		t.Error("the output does not say how long it took beside the build")
	} else if seconds, err := strconv.ParseFloat(took[1], 64); err != nil || seconds >= 60 {
		t.Errorf("it takes under a minute, and took %s s (%v)", took[1], err)
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

// begin starts a command and returns when it has written a line with this text; wait is for its end.
func begin(t *testing.T, cmd *exec.Cmd, text string) (out *bytes.Buffer, wait func() error) {
	t.Helper()
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	out = new(bytes.Buffer)
	in := bufio.NewReader(pipe)
	for {
		line, err := in.ReadString('\n')
		out.WriteString(line)
		if err != nil {
			t.Fatalf("it ended before a line with %q: %s", text, out)
		}
		if strings.Contains(line, text) {
			break
		}
	}
	return out, func() error {
		_, err := io.Copy(out, in)
		return errors.Join(err, cmd.Wait())
	}
}

// Ctrl-C at a terminal goes to everything that was started there at once: to go run, to the quickstart and to
// whatever reads it. Whenever it comes, every program ends in order, nothing is left but what is told, and so is that.
func TestCtrlC(t *testing.T) {
	bin := programs(t)
	for _, c := range []struct {
		name, command string
		until         string
		also          func(temp string) (bool, error) // what has to be so as well before it comes
		heard         bool                            // its last words
	}{
		{"in the story", "exec go run . -bin " + bin, " applied ", nil, true},
		{"while it builds", "exec go run .", "1  Build", building, true},
		{"read by another", "go run . -bin " + bin + " | cat", " applied ", nil, false}, // the reader ends by the signal
	} {
		t.Run(c.name, func(t *testing.T) {
			temp := t.TempDir()
			cmd := exec.Command("sh", "-c", c.command)
			cmd.Env = append(os.Environ(), "TMPDIR="+temp, "GOTMPDIR="+temp)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, wait := begin(t, cmd, c.until)
			group := cmd.Process.Pid
			t.Cleanup(func() { _ = syscall.Kill(-group, syscall.SIGKILL) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if c.also != nil {
				if err := stage.Until(ctx, "it to be in the middle", func() (bool, error) { return c.also(temp) }); err != nil {
					t.Fatal(err)
				}
			}
			if err := syscall.Kill(-group, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			err := wait()
			var exit *exec.ExitError
			if c.heard && (!errors.As(err, &exit) || exit.ExitCode() != 1) || strings.TrimSpace(errs.String()) != "exit status 1" { // go run's word
				t.Errorf("want exit code 1, got %v: %s", err, errs.String())
			}
			if err := stage.Until(ctx, "everything to be gone", func() (bool, error) { return !lives(group) && len(alive(out.String())) == 0, nil }); err != nil {
				t.Errorf("%v: the group lives: %v; programs that still run: %v", err, lives(group), alive(out.String()))
			}
			left, err := os.ReadDir(temp)
			if err != nil {
				t.Fatal(err)
			}
			if len(left) != 1 || !left[0].IsDir() {
				t.Fatalf("want one folder to be left, got %v", left)
			}
			dir := filepath.Join(temp, left[0].Name())
			if !c.heard {
				endedInOrder(t, filepath.Join(dir, "logs"))
				return
			}
			for _, want := range []string{"Stopped by Ctrl-C", "Every program has ended.", "Left in   " + dir} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output does not say %q:\n%s", want, out)
				}
			}
			if strings.Contains(out.String(), "Not as promised") {
				t.Errorf("it complains:\n%s", out)
			}
		})
	}
}

// building says that go has begun with the programs.
func building(temp string) (bool, error) {
	works, err := filepath.Glob(filepath.Join(temp, "jmlbridge-quickstart-*", "bin", "*", "go-build*"))
	return len(works) > 0, err
}

// endedInOrder wants from the logs that each program was asked to end, and did.
func endedInOrder(t *testing.T, logs string) {
	t.Helper()
	for program, last := range map[string]string{"midpoint": "mid-point stopped", "producer": "producer stopped", "consumer": `"msg":"stopped"`} {
		log, err := os.ReadFile(filepath.Join(logs, program+".log"))
		if err != nil || !bytes.Contains(log, []byte(last)) {
			t.Errorf("the %s's log does not say %s: %v", program, last, err)
		}
	}
}

// lives says that some process of a group has not ended.
func lives(group int) bool {
	if syscall.Kill(-group, 0) != nil {
		return false
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return true // nothing tells the ended ones from the others
	}
	for _, name := range stats {
		stat, _ := os.ReadFile(name) // none: it has ended meanwhile
		if _, rest, ok := strings.Cut(string(stat), ") "); ok {
			if f := strings.Fields(rest); f[0] != "Z" && f[2] == strconv.Itoa(group) {
				return true
			}
		}
	}
	return false
}

// Even when the quickstart itself is killed, no program is left behind.
func TestKilled(t *testing.T) {
	if _, err := stage.SocketsOf(os.Getpid()); errors.Is(err, stage.ErrNoProc) {
		t.Skip("only Linux ends the children of a process that was killed")
	}
	exe := filepath.Join(t.TempDir(), "quickstart")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(exe, "-keep", filepath.Join(t.TempDir(), "kept"), "-bin", programs(t))
	out, wait := begin(t, cmd, "4  The first HR export")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = wait() // it was killed
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := stage.Until(ctx, "the programs to be gone", func() (bool, error) { return len(alive(out.String())) == 0, nil }); err != nil {
		t.Errorf("%v: %v still run", err, alive(out.String()))
	}
}

// nobodyLeft wants that all four programs were started and none still runs.
func nobodyLeft(t *testing.T, out string) {
	t.Helper()
	if n := len(pidShown.FindAllString(out, -1)); n != 4 {
		t.Errorf("want the pids of 4 programs in the output, got %d:\n%s", n, out)
	}
	if pids := alive(out); len(pids) > 0 {
		t.Errorf("programs still run: %v", pids)
	}
}

var pidShown = regexp.MustCompile(`(?m)^  (sandbox|mid-point|producer|consumer) +pid (\d+) `)

// alive lists the programs shown as started that still run, or have a child that does: each leads a group of its own.
func alive(out string) (pids []int) {
	for _, m := range pidShown.FindAllStringSubmatch(out, -1) {
		if pid, err := strconv.Atoi(m[2]); err == nil && lives(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestMisuse(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken, unknown := filepath.Join(full, "broken.yaml"), filepath.Join(full, "unknown.yaml")
	for name, text := range map[string]string{broken: "no list", unknown: "- {kind: nothing}\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-keep", full}, 2, "want a new or empty folder"},
		{[]string{"now"}, 2, "want no arguments"},
		{[]string{"-faults", filepath.Join(full, "missing")}, 2, "no such file"},
		{[]string{"-faults", broken}, 2, broken + ": faults: "},
		{[]string{"-faults", unknown}, 2, unknown + `: fault "": kind "nothing": expected one of`},
		{[]string{"-nonsense"}, 2, "not defined"},
		{[]string{"-workers", "3"}, 2, "want -set-up beside them"},
		{[]string{"-set-up", "enclave", "-workers", "3"}, 2, "want -containers beside it"},
		{[]string{"-h"}, 0, "Usage: go run ./e2e/quickstart"},
	} {
		var out bytes.Buffer
		if code := run(t.Context(), c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%v: exit code %d, output %q; want %d and %q", c.args, code, out.String(), c.code, c.want)
		}
	}
}

// The same story with Azure Service Bus between the two sides.
func TestServiceBus(t *testing.T) {
	var out bytes.Buffer
	code := run(t.Context(), []string{"-bin", programs(t), "-queue", "servicebus", "-keep", filepath.Join(t.TempDir(), "kept")}, &out, &out)
	for _, want := range []string{"Service Bus dialect", "12 people have an account", "consumer status --check: no alarm", "VERIFIES", "Everything came out as promised"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
}
