package intake

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/memqueue"
)

// BenchmarkIntake takes in b.N messages, everything durable, and in the same run only opens the same
// messages on the same cores. The metric ratio is the one of the design's
// table: at least 0.6 is wanted. Half of the messages are about persons who are known already.
func BenchmarkIntake(b *testing.B) {
	w, p := setup(b)
	q := memqueue.New(memqueue.Options{Lease: time.Hour})
	pub := q.Publisher()
	bodies := make([][]byte, b.N)
	for i := range bodies {
		id := fmt.Sprintf("%07d", i%(b.N/2+1))
		var m sealed
		switch {
		case i > b.N/2 && i%4 == 0:
			m = p.leaver(id, 1)
		case i > b.N/2:
			m = p.mover(id, 1, "soc-analyst", "reader")
		default:
			m = p.joiner(id, 1, "soc-analyst", "on-call")
		}
		bodies[i] = m.wire
		if _, err := pub.Publish(b.Context(), []queue.Message{{Body: m.wire}}); err != nil {
			b.Fatal(err)
		}
	}
	trust := w.intake().trust.keys()

	b.ResetTimer()
	opening, openingCPU := time.Now(), cpu(b)
	openOnly(b, bodies, w.ring, trust)
	baseline, baselineCPU := time.Since(opening), cpu(b)-openingCPU

	ctx, stop := context.WithCancel(b.Context())
	c := w.config(q.Receiver())
	c.Committed = func() {
		if q.Len() == 0 {
			stop()
		}
	}
	in, err := New(c)
	if err != nil {
		b.Fatal(err)
	}
	working, workingCPU := time.Now(), cpu(b)
	go func() {
		for q.Len() > 0 {
			time.Sleep(time.Millisecond)
		}
		stop()
	}()
	if err := in.Run(ctx, b.Context()); err != nil && !errors.Is(err, context.Canceled) {
		b.Fatal(err)
	}
	all, allCPU := time.Since(working), cpu(b)-workingCPU
	b.StopTimer()
	if n, err := state.CountMessages(w.db.Read()); err != nil || n[6] != int64(b.N) {
		b.Fatalf("want %d admitted, got %v, %v", b.N, n, err)
	}
	n := float64(b.N)
	b.ReportMetric(float64(baseline.Microseconds())/n, "µs-open/msg")
	b.ReportMetric(float64(all.Microseconds())/n, "µs-intake/msg")
	b.ReportMetric(float64(baseline)/float64(all), "ratio")
	b.ReportMetric(float64(baselineCPU.Microseconds())/n, "µs-cpu-open/msg")
	b.ReportMetric(float64(allCPU.Microseconds())/n, "µs-cpu-intake/msg")
	b.ReportMetric(float64(baselineCPU)/float64(allCPU), "cpu-ratio")
	b.ReportMetric(0, "ns/op")
}

// cpu is what this process has used, which other programs on the machine disturb less than the clock.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// openOnly verifies and decrypts on all cores.
func openOnly(b *testing.B, bodies [][]byte, ring *envelope.Ring, trust envelope.Verifiers) {
	done := make(chan error)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		go func() {
			for i := w; i < len(bodies); i += workers {
				if _, err := envelope.Open(bodies[i], ring, trust); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}
