// Adversary plays schedules against the bridge: producers that crash and are restored from backups, a mid-point in
// the hands of an enemy, a consumer that crashes and whose clock jumps, and a tenant that throttles, lags and loses
// answers, all of it on one clock and from one number. Package sim says how, package model what must hold.
//
// It prints a table of what the schedules came to, and each one that broke an invariant with the number by
// which it can be played again. With -state it notes how far it came and goes on from there the next time.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"jmlbridge/e2e/adversary/sim"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == worker {
		os.Exit(work(os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// progress is what -state keeps.
type progress struct {
	From   uint64        `json:"from"`   // the first schedule
	Next   uint64        `json:"next"`   // all before it were played
	Spent  time.Duration `json:"spent"`  // nanoseconds of wall clock
	CPU    time.Duration `json:"cpu"`    // nanoseconds of processor time
	Counts sim.Counts    `json:"counts"` //
	Failed []failed      `json:"failed,omitempty"`
}

type failed struct {
	Seed uint64 `json:"seed"`
	Text string `json:"text"`
}

// run returns 0: no invariant was broken, 1: one was, or something failed, 2: misused.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	f := flag.NewFlagSet("adversary", flag.ContinueOnError)
	f.SetOutput(errs)
	n := f.Uint64("n", 1000, "how many schedules to play")
	from := f.Uint64("from", 0, "`number` of the first")
	workers := f.Int("workers", runtime.GOMAXPROCS(0), "schedules at a time, each in a process of its own")
	statePath := f.String("state", "", "`file` that keeps how far it came, to go on from there")
	most := f.Int("failures", 20, "end after so many schedules that broke an invariant")
	if err := f.Parse(args); err != nil {
		return 2
	}
	if f.NArg() > 0 || *n == 0 || *workers < 1 {
		fmt.Fprintln(errs, "adversary: want -n and -workers of at least 1, and no arguments")
		return 2
	}
	p := progress{From: *from, Next: *from}
	if *statePath != "" {
		if err := p.load(*statePath, *from); err != nil {
			fmt.Fprintf(errs, "adversary: %v\n", err)
			return 2
		}
	}
	if err := play(ctx, &p, *from+*n, *workers, *most, *statePath, out); err != nil {
		fmt.Fprintf(errs, "adversary: %v\n", err)
		return 1
	}
	fmt.Fprintf(out, "\n%s", table(p.Counts))
	if done := p.Counts.Schedules; done > 0 {
		fmt.Fprintf(out, "schedules %d to %d in %s, %.1f ms of processor time each\n", p.From, p.Next-1, p.Spent.Round(time.Second), p.CPU.Seconds()*1000/float64(done))
	}
	if len(p.Failed) > 0 {
		fmt.Fprintf(out, "%d schedules broke an invariant\n", len(p.Failed))
		return 1
	}
	if p.Next < *from+*n {
		fmt.Fprintf(out, "interrupted before schedule %d\n", p.Next)
		return 1
	}
	return 0
}

// load reads where an earlier run ended; a file that is not there is the beginning.
func (p *progress) load(path string, from uint64) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, p); err != nil {
		return fmt.Errorf("%s is no state of this program: %w", path, err)
	}
	if p.From != from {
		return fmt.Errorf("%s is of a run from %d, this one is from %d; name another file", path, p.From, from)
	}
	return nil
}

func (p *progress) save(path string) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// chunk is how many schedules a worker takes at a time; progress is kept by chunks.
const chunk = 50

// play plays the schedules up to end.
func play(ctx context.Context, p *progress, end uint64, workers, most int, path string, out io.Writer) error {
	var mu sync.Mutex // guards all below; held across the writing of the state
	var failure error
	started, cpu := time.Now(), processorTime()
	spent, used := p.Spent, p.CPU
	next := p.Next
	done := map[uint64]bool{} // chunks that ended out of order, by their first
	var played time.Duration  // processor time of the workers
	take := func() (s span, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil || failure != nil || next >= end || len(p.Failed) >= most {
			return s, false
		}
		s = span{next, min(next+chunk, end)}
		next = s.Last
		return s, true
	}
	finish := func(a answer) {
		mu.Lock()
		defer mu.Unlock()
		p.Counts.Add(a.Counts)
		p.Failed = append(p.Failed, a.Failed...)
		done[a.First] = true
		for done[p.Next] {
			delete(done, p.Next)
			p.Next = min(p.Next+chunk, end)
		}
		played += a.CPU
		p.Spent, p.CPU = spent+time.Since(started), used+processorTime()-cpu+played
		for _, b := range a.Failed {
			fmt.Fprintf(out, "schedule %d: %s\n  replay it with: go test ./e2e/... -run Adversary -seed %d\n", b.Seed, b.Text, b.Seed)
		}
		if err := p.save(path); err != nil && failure == nil {
			failure = err
		}
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			if err := employ(take, finish); err != nil {
				mu.Lock()
				failure = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failure
}

// worker is the one argument of a process that plays for another. SQLite has one allocator and one page cache in a
// process, under locks for which schedules side by side would wait.
const worker = "worker"

// span is what a worker is to play.
type span struct{ First, Last uint64 }

// answer is what came of a span.
type answer struct {
	span
	Counts sim.Counts
	Failed []failed
	CPU    time.Duration // since the answer before
}

// employ has a worker play what take gives out.
func employ(take func() (span, bool), finish func(answer)) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(self, worker)
	c.Env = append(os.Environ(), "GOMAXPROCS=1") // a schedule is one goroutine, and the other workers need the processors
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close(), c.Wait()) }()
	to, from := json.NewEncoder(in), json.NewDecoder(out)
	for {
		s, ok := take()
		if !ok {
			return nil
		}
		if err := to.Encode(s); err != nil {
			return fmt.Errorf("schedules %d to %d: %w", s.First, s.Last-1, err)
		}
		var a answer
		if err := from.Decode(&a); err != nil {
			return fmt.Errorf("schedules %d to %d: the process that played them ended: %w", s.First, s.Last-1, err)
		}
		finish(a)
	}
}

// work is the worker: it plays until nobody asks any more. An interrupt is for whoever asks.
func work(in io.Reader, out, errs io.Writer) int {
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	debug.SetGCPercent(400) // schedules are short and make much that dies at once; beyond this the heap outgrows the processor's caches
	lab, err := sim.NewLab(inMemory(os.TempDir()))
	if err != nil {
		fmt.Fprintf(errs, "adversary: %v\n", err)
		return 1
	}
	defer lab.Close()
	asked, answers := json.NewDecoder(in), json.NewEncoder(out)
	var before time.Duration
	for {
		var a answer
		if err := asked.Decode(&a.span); err != nil {
			return 0
		}
		for s := a.First; s < a.Last; s++ {
			c, err := lab.Run(s, nil)
			a.Counts.Add(c)
			if err != nil {
				a.Failed = append(a.Failed, failed{s, err.Error()})
			}
		}
		now := processorTime()
		a.CPU, before = now-before, now
		if err := answers.Encode(a); err != nil {
			return 1
		}
	}
}

// inMemory is a folder whose files are in memory, where there is one: every commit is synchronous, and a
// schedule makes hundreds.
func inMemory(otherwise string) string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() && syscall.Access(shm, 2) == nil {
		return shm
	}
	return otherwise
}

func processorTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// table is what an evaluator reads.
func table(c sim.Counts) string {
	return fmt.Sprintf(`schedules        %9d
messages         %9d  written by the producer
acknowledged     %9d  to the mid-point
applied          %9d  operations on the tenant
crashes          %9d  of producers and of the consumer
lost             %9d  acknowledged, and not in the archive
duplicated       %9d  accounts
resurrected      %9d  given to someone who had left
unreported gaps  %9d  forks, and branches that go on
`, c.Schedules, c.Messages, c.Acknowledged, c.Applied, c.Crashes, c.Lost, c.Duplicated, c.Resurrected, c.Unreported)
}
