// Compose makes what the images of docker-compose.yml are built from: every program as one static binary for
// Linux, and the empty folders at which the volumes are mounted, in e2e/compose/image. The images add nothing
// to it, so they build where no registry can be reached.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// imageDir is where everything goes, below the module's root. Git ignores it.
const imageDir = "e2e/compose/image"

// programs go to bin/ under the last part of their path.
var programs = []string{"./producer", "./consumer", "./consumer/auditor", "./e2e/sandbox", "./e2e/servicebus", "./e2e/egress", "./e2e/quickstart",
	"./e2e/compose/crowd"}

// folders get volumes. They are made here since a new volume takes owner and mode from the image's folder.
var folders = []string{"commercial", "midpoint", "enclave", "enclave/ledger", "tenant", "auditor", "carried/commercial", "carried/enclave", "logs"}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "compose: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("The images' content is in", imageDir+"; next: docker compose up --build")
}

func run() error {
	if len(os.Args) > 1 {
		return fmt.Errorf("want no arguments, got %q", os.Args[1])
	}
	if _, err := os.Stat("docker-compose.yml"); err != nil {
		return fmt.Errorf("want to be run where docker-compose.yml is: %w", err)
	}
	bin := filepath.Join(imageDir, "bin") + string(filepath.Separator)
	for _, name := range folders {
		if err := os.MkdirAll(filepath.Join(imageDir, "bridge", name), 0o700); err != nil {
			return err
		}
	}
	cmd := exec.Command("go", append([]string{"build", "-trimpath", "-o", bin}, programs...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
