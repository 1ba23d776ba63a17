//go:build unix && !linux

package stage

import (
	"os/exec"
	"syscall"
)

// launch starts cmd in a process group of its own, so that a Ctrl-C at the terminal reaches only us and
// we end the programs in order.
func launch(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd.Start()
}
