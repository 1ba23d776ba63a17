package anyqueue

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/porttest"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/busqueue"
	"jmlbridge/internal/queue/queuetest"
)

// The test's binary is its own child, as the programs are.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ChildCommand {
		if err := RunChild(os.Stdin, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const testQueue = "jml-gov-1"

// bus is a Service Bus namespace of its own for one test, with the files that clients need.
type bus struct {
	*broker.Broker
	dir string
}

func newBus(t testing.TB, q broker.Queue) *bus {
	t.Helper()
	q.Name, q.Duplicates = testQueue, 10*time.Minute
	free, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.Start(broker.Config{Listen: free.String(), Queues: []broker.Queue{q}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &bus{b, t.TempDir()}
	s.write(t, "ca.pem", string(b.CA()), 0o644)
	for _, rule := range []string{"sender", "listener", "manager"} {
		s.write(t, rule, b.ConnectionString(rule), 0o600)
	}
	return s
}

func (s *bus) write(t testing.TB, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func (s *bus) config(rule string) Config {
	return Config{ServiceBus: &busqueue.Config{Namespace: s.Host(), Queue: testQueue, CA: filepath.Join(s.dir, "ca.pem"), ConnectionFile: filepath.Join(s.dir, rule), Proxy: "none"}}
}

func options(t testing.TB) Options {
	return Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// Service Bus through a child process, which is how the programs run it.
func TestConformance(t *testing.T) { queuetest.Run(t, conforming) }

func TestConformanceDisturbed(t *testing.T) { queuetest.RunDisturbed(t, conforming) }

// conforming is a queue of the conformance suite. Where faults are asked for, one of them kills a child: a reply that no
// client outlives.
func conforming(t *testing.T, set queuetest.Settings) queuetest.Queue {
	q := broker.Queue{Lock: set.Lease, MaxDeliveries: uint32(set.MaxDeliveries)}
	if set.MaxMessages > 0 {
		q.MaxBytes = int64(set.MaxMessages) * sizeOf(t)
	}
	s := newBus(t, q)
	stop, start := s.Stop, func() {
		if err := s.Start(); err != nil {
			t.Error(err)
		}
	}
	if set.Faults != 0 {
		stop, start = func() { s.Refuse(true) }, func() { s.Refuse(false) }
		deadly := broker.Fault{On: broker.OnManage, Kind: broker.Malformed, Skip: int(set.Faults % 4), Count: 1}
		if _, err := s.AddFaults(append(broker.Mishaps(set.Faults), deadly)...); err != nil {
			t.Fatal(err)
		}
	}
	receiver := func(pull string, from queue.Position) queue.Receiver {
		c := s.config("listener")
		c.ServiceBus.Patience, c.Pull = set.Patience, pull
		r, err := OpenReceiver(c, from, options(t))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	return queuetest.Queue{
		Publisher: func() queue.Publisher {
			c := s.config("sender")
			c.ServiceBus.Patience = set.Patience
			p, err := OpenPublisher(c, options(t))
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Receiver:  func() queue.Receiver { return receiver(Acked, nil) },
		Stop:      stop,
		Start:     start,
		SetsAside: true,
		Overtakes: true,
		Dark:      func(from queue.Position) queue.Receiver { return receiver(Dark, from) },
		Struck:    s.Struck,
	}
}

// sizeOf is what one small message of the suite takes of a queue's quota.
func sizeOf(t testing.TB) int64 {
	s := newBus(t, broker.Queue{})
	p, err := OpenPublisher(s.config("sender"), options(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Publish(t.Context(), []queue.Message{{ID: "id-000000", Body: []byte("body 000000")}}); err != nil {
		t.Fatal(err)
	}
	c, _ := s.Counts(testQueue)
	return c.Bytes
}
