package anyqueue

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jmlbridge/e2e/servicebus/broker"
)

// A child that is started among secrets has none of them: not in its environment, not by an open file, not on its
// command line.
func TestChildInheritsNothing(t *testing.T) {
	s := newBus(t, broker.Queue{})
	for name, value := range surroundings {
		if name == "GODEBUG" { // of which the cryptographic module's mode must not change under us
			value = strings.TrimPrefix(os.Getenv(name)+","+value, ",")
		}
		t.Setenv(name, value)
	}
	s.write(t, "ledger.key", "hidden", 0o600)
	foreign, err := os.Open(filepath.Join(s.dir, "ledger.key"))
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if _, err := unix.FcntlInt(foreign.Fd(), unix.F_SETFD, 0); err != nil { // as a shell leaves it open
		t.Fatal(err)
	}
	r, err := OpenReceiver(s.config("listener"), nil, options(t))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	child := childOf(t, os.Getpid())

	var names []string
	for line := range strings.SplitSeq(strings.TrimSuffix(read(t, child, "environ"), "\x00"), "\x00") {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"GODEBUG", "GOGC", "GOMEMLIMIT", "GOTRACEBACK", "SSL_CERT_DIR", "SSL_CERT_FILE"}; !slices.Equal(names, want) {
		t.Errorf("its environment has %q, expected %q", names, want)
	}

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, child, "cmdline"), self+"\x00"+ChildCommand+"\x00"; got != want {
		t.Errorf("its command line is %q, expected %q", got, want)
	}

	ours, its := openFiles(t, "/proc/self"), openFiles(t, child)
	if !slices.Contains(slices.Collect(maps.Values(ours)), foreign.Name()) {
		t.Fatalf("we do not have %s open ourselves: %v", foreign.Name(), ours)
	}
	for fd, target := range its {
		switch shared := slices.Contains(slices.Collect(maps.Values(ours)), target); {
		case fd <= 2 && !strings.HasPrefix(target, "pipe:"):
			t.Errorf("file %d is %s, expected a pipe", fd, target)
		case fd > 2 && shared && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/sys/fs/cgroup/"): // each runtime's own
			t.Errorf("it has our %s open, as %d", target, fd)
		}
	}
}

// childOf is the folder in /proc of the one child of parent that speaks to a mid-point.
func childOf(t *testing.T, parent int) (dir string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		stat, err := os.ReadFile(filepath.Join(d, "stat"))
		if err != nil {
			continue // it has ended
		}
		// Behind the name, which may hold anything: the state and the parent.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if string(fields[0]) != "Z" && string(fields[1]) == strconv.Itoa(parent) {
			if dir != "" {
				t.Fatalf("two children: %s and %s", dir, d)
			}
			dir = d
		}
	}
	if dir == "" {
		t.Fatal("there is no child")
	}
	return dir
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// openFiles are the files that a process has open, by their numbers.
func openFiles(t *testing.T, dir string) map[int]string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	open := make(map[int]string)
	for _, e := range list {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if target, err := os.Readlink(filepath.Join(dir, "fd", e.Name())); err == nil { // else it was closed meanwhile
			open[fd] = target
		}
	}
	return open
}
