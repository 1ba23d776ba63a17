package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is processor time that was used.
type cpu struct{ User, System time.Duration }

func (c cpu) all() time.Duration { return c.User + c.System }

func (c cpu) minus(d cpu) cpu { return cpu{c.User - d.User, c.System - d.System} }

func (c cpu) plus(d cpu) cpu { return cpu{c.User + d.User, c.System + d.System} }

// ownCPU is what this process has used.
func ownCPU() (c cpu, err error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return c, fmt.Errorf("read the processor time used: %w", err)
	}
	return cpu{time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())}, nil
}

// childrenCPU is what the children of this process that run have used, without those of the given ids. It is zero where that
// cannot be read.
func childrenCPU(except ...int) (total cpu) {
	folders, err := os.ReadDir("/proc")
	if err != nil {
		return total
	}
	for _, f := range folders {
		pid, err := strconv.Atoi(f.Name())
		if err != nil || slices.Contains(except, pid) {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:]) // from field 3 on; the fourth is the parent
		if len(fields) < 2 || string(fields[1]) != strconv.Itoa(os.Getpid()) {
			continue
		}
		if c, err := parseStat(text); err == nil {
			total = total.plus(c)
		}
	}
	return total
}

// errNoProc says that figures of other processes cannot be read here.
var errNoProc = errors.New("the figures of another process are read from /proc, which only Linux has")

// clockTick is the unit of processor time in /proc/PID/stat: USER_HZ, which is 100 on every platform
// that Go runs on.
const clockTick = 10 * time.Millisecond

// cpuOf is what another process has used, in steps of clockTick.
func cpuOf(pid int) (c cpu, err error) {
	if runtime.GOOS != "linux" {
		return c, errNoProc
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return c, err
	}
	return parseStat(text)
}

// parseStat reads fields 14 and 15 of proc_pid_stat(5). The second field is a name in parentheses and may
// hold anything, so the count begins after the last one.
func parseStat(text []byte) (c cpu, err error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:]) // from field 3 on
	if len(fields) < 13 {
		return c, fmt.Errorf("want at least 15 fields in /proc/PID/stat, got %q", text)
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return c, err
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	return cpu{time.Duration(user) * clockTick, time.Duration(system) * clockTick}, err
}

// peakOf is the largest that a process's resident memory has been, in octets.
func peakOf(pid int) (int64, error) {
	if runtime.GOOS != "linux" {
		return 0, errNoProc
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parsePeak(text)
}

// newPeak begins the peak of this process anew, without what only waits to be collected, and returns what it has now.
func newPeak() (int64, error) {
	if runtime.GOOS != "linux" {
		return 0, errNoProc
	}
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // proc_pid_clear_refs(5)
		return 0, err
	}
	return peakOf(os.Getpid())
}

// parsePeak reads VmHWM of proc_pid_status(5), which is in KiB.
func parsePeak(text []byte) (int64, error) {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte("VmHWM:"))
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB"))), 10, 64)
		return kib << 10, err
	}
	return 0, errors.New("/proc/PID/status has no VmHWM")
}
