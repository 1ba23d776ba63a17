package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// A Result is what a command that ended has left.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Lines are the log lines of a command that logs JSON on standard error.
func (r *Result) Lines() []Line {
	var list []Line
	for text := range strings.Lines(r.Stderr) {
		l := newLine(strings.TrimRight(text, "\n"), false)
		l.N = len(list) + 1
		list = append(list, l)
	}
	return list
}

func (s *Stage) producerFile() string { return filepath.Join(s.Commercial, "producer.yaml") }
func (s *Stage) consumerFile() string { return filepath.Join(s.EnclaveDir, "consumer.yaml") }

// ProducerDo runs a command of the producer with its configuration and a JSON log. Another exit code
// than 0 is an *ExitError beside the Result.
func (s *Stage) ProducerDo(ctx context.Context, args ...string) (*Result, error) {
	return s.run(ctx, nil, s.Programs.Producer, append([]string{"-c", s.producerFile(), "--log", "json", "--log-level", s.LogLevel}, args...)...)
}

// ConsumerDo runs a command of the consumer with its configuration.
func (s *Stage) ConsumerDo(ctx context.Context, args ...string) (*Result, error) {
	return s.run(ctx, nil, s.Programs.Consumer, append([]string{"-c", s.consumerFile()}, args...)...)
}

// ConsumerDoEnv is ConsumerDo with more in the environment.
func (s *Stage) ConsumerDoEnv(ctx context.Context, env []string, args ...string) (*Result, error) {
	return s.run(ctx, env, s.Programs.Consumer, append([]string{"-c", s.consumerFile()}, args...)...)
}

// AuditorDo runs a command of the auditor as it is given: it has no configuration.
func (s *Stage) AuditorDo(ctx context.Context, args ...string) (*Result, error) {
	return s.run(ctx, nil, s.Programs.Auditor, args...)
}

// Verify lets the auditor judge the consumer's ledger with what stands in AuditorDir: the ledger's key, the
// producer's card and the copied checkpoint. A ledger that does not verify is an *ExitError with code 3.
// args are further flags.
func (s *Stage) Verify(ctx context.Context, args ...string) (*Result, error) {
	return s.AuditorDo(ctx, append([]string{"verify", s.Ledger.Dir, "--ledger-key", filepath.Join(s.AuditorDir, "ledger.vkey"), "--trust", s.Card,
		"--copy", filepath.Join(s.AuditorDir, CheckpointCopy)}, args...)...)
}

func (s *Stage) run(ctx context.Context, env []string, path string, args ...string) (*Result, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = s.Dir
	if env != nil {
		cmd.Env = append(cmd.Environ(), env...)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := launch(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	r := &Result{Stdout: stdout.String(), Stderr: stderr.String()}
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.Code = exit.ExitCode()
		name := strings.Join(append([]string{filepath.Base(path)}, args...), " ")
		return r, &ExitError{name, r.Code, tail(r.Stderr+r.Stdout, 8)}
	}
	if err != nil {
		return r, fmt.Errorf("run %s: %w", filepath.Base(path), err)
	}
	return r, nil
}

// tail is the last n lines, indented.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-n):], "\n    ")
}
