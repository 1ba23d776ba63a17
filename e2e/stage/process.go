package stage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	stopTime  = 90 * time.Second // for a program to end after it was asked to
	startTime = 3 * time.Minute  // for a program to say that it is ready
	keepLines = 20_000           // lines of a process in memory; its log file has all
	maxLine   = 1 << 20          // octets of a line; what is longer is cut
)

// A Process is one program that runs, can be stopped or killed, and started again. Its methods may be
// called from any goroutine; Start, Stop and Kill one at a time.
type Process struct {
	Name string
	// Env is added to the environment of the next Start.
	Env []string

	foreign bool // started, watched and ended by somebody else, who also has what it writes
	pid     int  // of a foreign process, where it can be seen

	path   string
	args   []string
	dir    string
	log    string          // file that gets every line
	ready  func(Line) bool // the line by which the program says that it works
	onLine func(*Process, Line)

	mu      sync.Mutex // guards what follows
	cmd     *exec.Cmd
	done    chan struct{} // closed when the process has ended and its last line is read
	ended   error         // what Wait said
	lines   []Line
	dropped int           // lines that are no longer in lines
	changed chan struct{} // closed and replaced with every line and at the end
}

// ExitError is a program that ended with another code than 0, or by a signal (code -1).
type ExitError struct {
	Name string
	Code int
	Last string // the last lines that it wrote
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("%s ended with exit code %d", e.Name, e.Code)
	if e.Code < 0 {
		how = e.Name + " was killed"
	}
	if e.Last != "" {
		how += ":\n" + e.Last
	}
	return how
}

// Start starts the program and waits until it says that it is ready.
func (p *Process) Start(ctx context.Context) error {
	after, err := p.Launch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	_, err = p.WaitFor(ctx, "its ready line", after, p.ready)
	return err
}

// Launch starts the program and does not wait. It returns the mark before its first line.
func (p *Process) Launch() (mark int, err error) {
	if p.Running() {
		return 0, fmt.Errorf("%s runs already", p.Name)
	}
	file, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(p.path, p.args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), p.Env...)
	outs := make([]io.ReadCloser, 2)
	if outs[0], err = cmd.StdoutPipe(); err == nil {
		outs[1], err = cmd.StderrPipe()
	}
	if err == nil {
		err = launch(cmd)
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("start %s: %w", p.Name, err), file.Close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	mark = p.dropped + len(p.lines)
	done := make(chan struct{})
	p.cmd, p.done, p.ended = cmd, done, nil
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	var readers sync.WaitGroup
	var writing sync.Mutex // lines of both streams go into one file
	for i, r := range outs {
		readers.Go(func() {
			p.read(r, i == 0, func(text string) {
				writing.Lock()
				defer writing.Unlock()
				fmt.Fprintln(file, text)
			})
		})
	}
	go func() {
		readers.Wait() // Wait closes the pipes, so it comes after the last line
		err := cmd.Wait()
		_ = file.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended = err
		close(done)
		p.tell()
	}()
	return mark, nil
}

// tell wakes whoever waits. The caller holds mu.
func (p *Process) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Process) read(r io.Reader, stdout bool, write func(string)) {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		text, err := in.ReadString('\n')
		if text = strings.TrimRight(text, "\r\n"); text != "" {
			text = text[:min(len(text), maxLine)]
			write(text)
			p.add(newLine(text, stdout))
		}
		if err != nil {
			return
		}
	}
}

func (p *Process) add(l Line) {
	p.mu.Lock()
	if len(p.lines) >= 2*keepLines {
		p.dropped += keepLines
		p.lines = append([]Line(nil), p.lines[keepLines:]...)
	}
	l.N = p.dropped + len(p.lines) + 1
	p.lines = append(p.lines, l)
	p.tell()
	p.mu.Unlock()
	if p.onLine != nil {
		p.onLine(p, l)
	}
}

// PID of the running process; 0 when it does not run.
func (p *Process) PID() int {
	if p.foreign {
		return p.pid
	}
	if !p.Running() {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Running says that the process was started and has not ended.
func (p *Process) Running() bool {
	if p.foreign {
		return true // as far as anybody told us
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Mark is the number of the last line so far: WaitFor and Lines look at later ones.
func (p *Process) Mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dropped + len(p.lines)
}

// Lines are the lines after a mark that are still kept.
func (p *Process) Lines(after int) []Line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Line(nil), p.since(after)...)
}

// since shares memory; the caller holds mu.
func (p *Process) since(after int) []Line {
	return p.lines[min(max(after-p.dropped, 0), len(p.lines)):]
}

// WaitFor returns the first line after a mark for which match holds, waiting for it until ctx ends. A
// process that ends before is an error.
func (p *Process) WaitFor(ctx context.Context, what string, after int, match func(Line) bool) (Line, error) {
	for {
		p.mu.Lock()
		fresh := append([]Line(nil), p.since(after)...)
		changed, done := p.changed, p.done
		p.mu.Unlock()
		for _, l := range fresh {
			if match(l) {
				return l, nil
			}
			after = l.N
		}
		if done == nil {
			return Line{}, fmt.Errorf("wait for %s of %s: it was never started", what, p.Name)
		}
		select {
		case <-changed:
			continue
		default:
		}
		select {
		case <-done:
			if p.Mark() > after {
				continue
			}
			return Line{}, fmt.Errorf("wait for %s of %s: %w", what, p.Name, p.exit(true))
		default:
		}
		select {
		case <-changed:
		case <-done:
		case <-ctx.Done():
			return Line{}, fmt.Errorf("wait for %s of %s: %w\n%s", what, p.Name, ctx.Err(), p.Last(5))
		}
	}
}

// Last is the end of what the process wrote, for people.
func (p *Process) Last(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var text []string
	for _, l := range p.lines[max(0, len(p.lines)-n):] {
		text = append(text, "    "+l.Text)
	}
	return strings.Join(text, "\n")
}

// exit is how the process ended; nil for code 0 unless early.
func (p *Process) exit(early bool) error {
	p.mu.Lock()
	err := p.ended
	p.mu.Unlock()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return &ExitError{p.Name, exit.ExitCode(), p.Last(5)}
	case err == nil && early:
		return fmt.Errorf("%s ended by itself:\n%s", p.Name, p.Last(5))
	}
	return err
}

// Wait waits until the process has ended by itself and says how: nil for exit code 0, an *ExitError for
// another one.
func (p *Process) Wait(ctx context.Context) error {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return fmt.Errorf("%s was never started", p.Name)
	}
	select {
	case <-done:
		return p.exit(false)
	case <-ctx.Done():
		return fmt.Errorf("%s does not end: %w", p.Name, ctx.Err())
	}
}

// Stop asks the process to end as an operator does, by SIGTERM, and waits. One that does not run is no
// error. One that does not end in time is killed, and that is.
func (p *Process) Stop(ctx context.Context) error {
	if p.foreign || !p.Running() {
		return nil
	}
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	err := p.Wait(ctx)
	if ctx.Err() != nil && p.Running() {
		return errors.Join(err, p.Kill())
	}
	return err
}

// Kill ends the process without any warning, by SIGKILL, and waits until it is gone.
func (p *Process) Kill() error {
	if p.foreign || !p.Running() {
		return nil
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	<-done
	return nil
}

func (p *Process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%v to %s: %w", s, p.Name, err)
	}
	return nil
}
