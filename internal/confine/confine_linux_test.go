package confine_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jmlbridge/internal/confine"
)

// A confined process reads what it was left and dials where it may, and nothing else; it does not write or run.
func TestConfined(t *testing.T) {
	dir := os.Getenv("CONFINED")
	if dir == "" {
		begin(t)
		return
	}
	var own, other int
	if _, err := fmt.Sscan(os.Getenv("CONFINED_PORTS"), &own, &other); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(filepath.Join(dir, "other")) // what is open stays open
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	what, err := confine.To(confine.Left{Files: []string{filepath.Join(dir, "own"), filepath.Join(dir, "missing")}, Ports: []int{own}})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(what)
	if what != confine.Able() {
		t.Errorf("%+v was foretold, and it is %+v", confine.Able(), what)
	}
	if what.Calls {
		plainCalls(t, filepath.Join(dir, "other"), open)
	}
	if what.Ports {
		inPorts(t, own, other)
	}
	if !what.Files {
		return
	}
	if _, err := os.ReadFile(filepath.Join(dir, "own")); err != nil {
		t.Errorf("its own file: %v", err)
	}
	for name, do := range map[string]func() error{
		"read another file":    func() error { _, err := os.ReadFile(filepath.Join(dir, "other")); return err },
		"list the folder":      func() error { _, err := os.ReadDir(dir); return err },
		"write its own file":   func() error { return os.WriteFile(filepath.Join(dir, "own"), nil, 0o600) },
		"make a file":          func() error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) },
		"read another process": func() error { _, err := os.ReadFile("/proc/1/environ"); return err },
		"run a program":        func() error { return exec.Command("/proc/self/exe", "-test.run=^$").Run() },
	} {
		if do() == nil {
			t.Errorf("it could %s", name)
		}
	}
	if _, err := os.ReadFile("/etc/hosts"); err != nil && !os.IsNotExist(err) {
		t.Errorf("host names: %v", err)
	}
}

// begin runs the test again in a process that is to be confined, beside two listeners.
func begin(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"own", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ports []string
	for range 2 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestConfined$", "-test.v")
	cmd.Env = append(os.Environ(), "CONFINED="+dir, "CONFINED_PORTS="+strings.Join(ports, " "))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if walls := confine.Able(); walls != (confine.Walls{Files: true, Calls: true, Ports: true}) {
		t.Skipf("this system has not every wall: %s", walls)
	}
	if !strings.Contains(string(out), confine.Able().String()) {
		t.Errorf("it did not come so far:\n%s", out)
	}
}

// plainCalls tries what Landlock knows nothing of.
func plainCalls(t *testing.T, file string, open *os.File) {
	for name, do := range map[string]func() error{
		"dial a Unix socket":              func() error { _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
		"have a pair of Unix sockets":     func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0); return err },
		"change a mode":                   func() error { return os.Chmod(file, 0o644) },
		"change the mode of an open file": func() error { return open.Chmod(0o644) },
		"change an owner":                 func() error { return os.Lchown(file, os.Getuid(), os.Getgid()) },
		"change times":                    func() error { return os.Chtimes(file, time.Time{}, time.Now()) },
		"name an attribute":               func() error { return unix.Setxattr(file, "user.x", []byte("x"), 0) },
	} {
		if err := do(); !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EAFNOSUPPORT) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// inPorts tries every way to a host and port that the kernel has, at least those known to us.
func inPorts(t *testing.T, own, other int) {
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", own))
	if err != nil {
		t.Fatalf("its own port: %v", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("its own port: %v", err)
	}
	names, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("UDP: %v", err)
	}
	defer names.Close()
	if _, err := names.WriteTo([]byte("x"), names.LocalAddr()); err != nil {
		t.Errorf("UDP: %v", err)
	}

	to := func(port int) *unix.SockaddrInet4 {
		return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	}
	dial := func(domain, kind, protocol int) error {
		fd, err := unix.Socket(domain, kind, protocol)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, to(other))
	}
	socket := func(domain, kind, protocol int) error {
		fd, err := unix.Socket(domain, kind, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	sent := func(send func(fd int) error) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatalf("a plain socket: %v", err)
		}
		defer unix.Close(fd)
		return send(fd)
	}
	for name, try := range map[string]struct {
		do   func() error
		want error
	}{
		"TCP to another port":        {func() error { return dial(unix.AF_INET, unix.SOCK_STREAM, 0) }, unix.EACCES},
		"Multipath TCP":              {func() error { return dial(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) }, unix.EPROTONOSUPPORT},
		"SCTP":                       {func() error { return socket(unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_SCTP) }, unix.EPROTONOSUPPORT},
		"SCTP by its kind of socket": {func() error { return socket(unix.AF_INET, unix.SOCK_SEQPACKET, 0) }, unix.ESOCKTNOSUPPORT},
		"SMC":                        {func() error { return socket(unix.AF_SMC, unix.SOCK_STREAM, 0) }, unix.EAFNOSUPPORT},
		"a virtual machine's socket": {func() error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) }, unix.EAFNOSUPPORT},
		"Fast Open, sendto": {func() error {
			return sent(func(fd int) error { return unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, to(other)) })
		}, unix.EPERM},
		"Fast Open, sendmsg": {func() error {
			return sent(func(fd int) error { return unix.Sendmsg(fd, []byte("x"), nil, to(other), unix.MSG_FASTOPEN) })
		}, unix.EPERM},
		"Fast Open, sendmmsg": {func() error {
			return sent(func(fd int) error {
				_, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), 0, 0, unix.MSG_FASTOPEN, 0, 0)
				return errno
			})
		}, unix.EPERM},
		"io_uring": {func() error {
			_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
			return errno
		}, unix.EPERM},
	} {
		if err := try.do(); err != try.want {
			t.Errorf("%s: %v, want %v", name, err, try.want)
		}
	}
}
