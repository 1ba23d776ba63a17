package stage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Programs are the four programs as files.
type Programs struct {
	Producer, Consumer, Auditor, Sandbox string
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
	args = append(args, "jmlbridge/producer", "jmlbridge/consumer", "jmlbridge/consumer/auditor", "jmlbridge/e2e/sandbox")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTime
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
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
		Auditor: filepath.Join(dir, "auditor"), Sandbox: filepath.Join(dir, "sandbox"),
	}
}
