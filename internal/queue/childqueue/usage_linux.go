package childqueue

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ticks is what /proc counts in: 100 a second, on every architecture that Go runs on.
const tick = time.Second / 100

// usage is what a process takes. It is zero where that cannot be read.
type usage struct {
	cpu      time.Duration
	resident int64 // octets
}

func usageOf(pid int) (u usage) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u
	}
	// The fields begin behind the name, which may hold anything: utime is the 14th of all, rss the 24th.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 22 {
		return u
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(string(fields[i]), 10, 64)
		return n
	}
	u.cpu = time.Duration(number(11)+number(12)) * tick
	u.resident = number(21) * int64(os.Getpagesize())
	return u
}

// launch starts a child in a process group of its own: a Ctrl-C at the terminal is for us, and we end it. The
// kernel kills it when we die, and binds that to the thread that started it; so one thread, which never ends,
// starts them all.
func launch(cmd *exec.Cmd) error {
	keepOpenFiles()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	starterOnce.Do(func() {
		go func() {
			runtime.LockOSThread()
			for start := range starter {
				start()
			}
		}()
	})
	started := make(chan error)
	starter <- func() { started <- cmd.Start() }
	return <-started
}

// keepOpenFiles marks what we have open so that no child gets it. Go does so with what it opens itself; the rest is
// what whoever started us had left open.
func keepOpenFiles() {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // without /proc nothing here is known
	}
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

var (
	starter     = make(chan func())
	starterOnce sync.Once
)
