package stage

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// launch starts cmd in a process group of its own, so that a Ctrl-C at the terminal reaches only us and
// we end the programs in order. The kernel kills it when we die without having done so: that is bound
// to the thread that started it, so one thread, which never ends, starts them all.
func launch(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	starterOnce.Do(func() {
		go func() {
			runtime.LockOSThread()
			for start := range starter {
				start()
			}
		}()
	})
	result := make(chan error)
	starter <- func() { result <- cmd.Start() }
	return <-result
}

var (
	starter     = make(chan func())
	starterOnce sync.Once
)
