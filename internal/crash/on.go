//go:build crashpoints

package crash

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

var (
	mu     sync.Mutex
	visits = map[string]int{}
)

// Point kills the process where the environment says so.
func Point(name string) {
	want, visit, ok := strings.Cut(os.Getenv("JMLBRIDGE_CRASH"), ":")
	if !ok || want != name {
		return
	}
	n, err := strconv.Atoi(visit)
	if err != nil {
		return
	}
	mu.Lock()
	visits[name]++
	reached := visits[name] == n
	mu.Unlock()
	if reached {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way; nothing more may happen
	}
}
