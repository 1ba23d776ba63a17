package stage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Programs are the bridge's programs, and those of its rehearsal, as files.
type Programs struct {
	Producer, Consumer, Auditor string
	Sandbox, ServiceBus, Egress string
	NATS                        string // the stock server
}

// Build builds the programs into dir with the Go toolchain on PATH. flags go to `go build`, for example
// "-tags=crashpoints" or "-race". It is called from anywhere inside the module.
func Build(ctx context.Context, dir string, flags ...string) (Programs, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Programs{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Programs{}, err
	}
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, flags...)
	args = append(args, "jmlbridge/producer", "jmlbridge/consumer", "jmlbridge/consumer/auditor", "jmlbridge/e2e/sandbox", "jmlbridge/e2e/servicebus", "jmlbridge/e2e/egress",
		"github.com/nats-io/nats-server/v2")
	work, err := os.MkdirTemp(dir, "go-tmp-") // go leaves its own behind where it is interrupted early
	if err != nil {
		return Programs{}, err
	}
	defer os.RemoveAll(work)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOTMPDIR="+work)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) } // with the compilers under way
	cmd.WaitDelay = stopTime
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err = launch(cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		if ctx.Err() != nil {
			return Programs{}, ctx.Err()
		}
		return Programs{}, fmt.Errorf("build the programs: %w\n%s", err, bytes.TrimSpace(out.Bytes()))
	}
	return In(dir), nil
}

// In names the programs that Build left in dir.
func In(dir string) Programs {
	return Programs{
		Producer: filepath.Join(dir, "producer"), Consumer: filepath.Join(dir, "consumer"),
		Auditor: filepath.Join(dir, "auditor"), Sandbox: filepath.Join(dir, "sandbox"), ServiceBus: filepath.Join(dir, "servicebus"), Egress: filepath.Join(dir, "egress"),
		NATS: filepath.Join(dir, "nats-server"),
	}
}
