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
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"jmlbridge/e2e/adversary/sim"
)

func main() {
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
	workers := f.Int("workers", runtime.GOMAXPROCS(0), "schedules at a time")
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
	debug.SetGCPercent(400) // schedules are short and make much that dies at once; beyond this the heap outgrows the processor's caches
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
	take := func() (first, last uint64, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil || failure != nil || next >= end || len(p.Failed) >= most {
			return 0, 0, false
		}
		first, last = next, min(next+chunk, end)
		next = last
		return first, last, true
	}
	finish := func(first, last uint64, count sim.Counts, bad []failed) {
		mu.Lock()
		defer mu.Unlock()
		p.Counts.Add(count)
		p.Failed = append(p.Failed, bad...)
		done[first] = true
		for done[p.Next] {
			delete(done, p.Next)
			p.Next = min(p.Next+chunk, end)
		}
		p.Spent, p.CPU = spent+time.Since(started), used+processorTime()-cpu
		for _, b := range bad {
			fmt.Fprintf(out, "schedule %d: %s\n  replay it with: go test ./e2e/... -run Adversary -seed %d\n", b.Seed, b.Text, b.Seed)
		}
		if err := p.save(path); err != nil && failure == nil {
			failure = err
		}
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			lab, err := sim.NewLab(inMemory(os.TempDir()))
			if err != nil {
				mu.Lock()
				failure = err
				mu.Unlock()
				return
			}
			defer lab.Close()
			for {
				first, last, ok := take()
				if !ok {
					return
				}
				var count sim.Counts
				var bad []failed
				for s := first; s < last; s++ {
					c, err := lab.Run(s, nil)
					count.Add(c)
					if err != nil {
						bad = append(bad, failed{s, err.Error()})
					}
				}
				finish(first, last, count, bad)
			}
		})
	}
	wg.Wait()
	return failure
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
unreported gaps  %9d  and forks
`, c.Schedules, c.Messages, c.Acknowledged, c.Applied, c.Crashes, c.Lost, c.Duplicated, c.Resurrected, c.Unreported)
}
