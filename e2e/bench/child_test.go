package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/internal/queue/childqueue"
	"jmlbridge/internal/queue/natsqueue"
)

// What it costs to have the adapter of NATS in a child process, as that of Service Bus is: the same messages
// published, then fetched and settled, and the processor time that the process and its child take for one, without what
// the child takes to start. Package anyqueue draws the conclusion.
//
//	go test ./e2e/bench -run - -bench NATSInAChild -benchtime 40000x -count 5
func BenchmarkNATSInAChild(b *testing.B) {
	q, err := startMidpoint(b.Context(), filepath.Join(b.TempDir(), "mid"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := q.stop(); err != nil {
			b.Error(err)
		}
	}()
	const (
		octets = 4310 // of a sealed event of the smallest size class
		batch  = 500
	)
	body, run := make([]byte, octets), 0
	for _, in := range []string{"process", "child"} {
		b.Run(in, func(b *testing.B) {
			run++
			msgs := make([]queue.Message, b.N)
			for i := range msgs {
				msgs[i] = queue.Message{ID: fmt.Sprintf("%d-%d", run, i), Body: body}
			}
			// measure is the time of work on an end that is opened for it, and the processor time beside idle.
			measure := func(what string, work func(ends) error) {
				idle := used(b)
				e := openNATS(b, q, in == "child")
				e.close(b)
				start := used(b)
				idle = start - idle
				e = openNATS(b, q, in == "child")
				began := time.Now()
				if err := work(e); err != nil {
					b.Fatal(err)
				}
				took := time.Since(began)
				e.close(b)
				b.ReportMetric(float64(b.N)/took.Seconds(), what+"/s")
				b.ReportMetric(float64((used(b)-start-idle).Nanoseconds())/1000/float64(b.N), "cpu-µs/"+what)
			}
			measure("published", func(e ends) error {
				for n := 0; n < len(msgs); {
					k, err := e.Publish(b.Context(), msgs[n:min(n+batch, len(msgs))])
					if err != nil {
						return err
					}
					n += k
				}
				return nil
			})
			measure("received", func(e ends) error {
				for n := 0; n < len(msgs); {
					got, err := e.Fetch(b.Context(), min(batch, len(msgs)-n))
					if err == nil {
						err = e.Settle(b.Context(), got)
					}
					if err != nil {
						return err
					}
					n += len(got)
				}
				return nil
			})
			b.ReportMetric(0, "ns/op")
		})
	}
}

// ends are both ends of a queue.
type ends struct {
	queue.Publisher
	queue.Receiver
}

func (e ends) close(b *testing.B) {
	if err := e.Publisher.Close(); err != nil {
		b.Error(err)
	}
	if err := e.Receiver.Close(); err != nil {
		b.Error(err)
	}
}

// openNATS opens both, each in a child of its own or in this process.
func openNATS(b *testing.B, q *queueProcess, child bool) (e ends) {
	if !child {
		pub, err := natsqueue.OpenPublisher(q.producer)
		if err != nil {
			b.Fatal(err)
		}
		rec, err := natsqueue.OpenReceiver(q.consumer)
		if err != nil {
			b.Fatal(err)
		}
		return ends{pub, rec}
	}
	command := func(c natsqueue.Config) childqueue.Command {
		self, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		block, err := json.Marshal(anyqueue.Config{NATS: &c})
		if err != nil {
			b.Fatal(err)
		}
		return childqueue.Command{Path: self, Args: []string{anyqueue.ChildCommand}, Config: block, Log: slog.New(slog.DiscardHandler)}
	}
	pub, err := childqueue.OpenPublisher(command(q.producer))
	if err != nil {
		b.Fatal(err)
	}
	rec, err := childqueue.OpenReceiver(command(q.consumer), nil)
	if err != nil {
		b.Fatal(err)
	}
	return ends{pub, rec}
}

// used is the processor time of this process and of the children that have ended.
func used(b *testing.B) (d time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		d += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return d
}
