package busqueue_test

import (
	"context"
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

const testQueue = "jml-gov-1"

// bus is a Service Bus namespace of its own for one test, with the files that clients need.
type bus struct {
	t testing.TB
	*broker.Broker
	ca    string
	files map[string]string // connection string files by rule
}

func newBus(t testing.TB, q broker.Queue, edit ...func(*broker.Config)) *bus {
	t.Helper()
	if q.Name == "" {
		q.Name = testQueue
	}
	if q.Duplicates == 0 {
		q.Duplicates = 10 * time.Minute
	}
	free, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	conf := broker.Config{Listen: free.String(), Queues: []broker.Queue{q}}
	for _, e := range edit {
		e(&conf)
	}
	b, err := broker.Start(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	s := &bus{t: t, Broker: b, ca: filepath.Join(dir, "ca.pem"), files: map[string]string{}}
	write(t, s.ca, string(b.CA()), 0o644)
	for _, rule := range []string{"sender", "listener", "manager"} {
		s.files[rule] = filepath.Join(dir, rule+".sas")
		write(t, s.files[rule], b.ConnectionString(rule)+"\n", 0o600)
	}
	return s
}

func (s *bus) config(rule string) busqueue.Config {
	return busqueue.Config{Namespace: s.Host(), Queue: testQueue, CA: s.ca, ConnectionFile: s.files[rule], Proxy: "none"}
}

func (s *bus) publisher(c busqueue.Config) *busqueue.Publisher {
	s.t.Helper()
	p, err := busqueue.OpenPublisher(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { p.Close() })
	return p
}

func (s *bus) receiver(c busqueue.Config) *busqueue.Receiver {
	s.t.Helper()
	r, err := busqueue.OpenReceiver(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.Close() })
	return r
}

func (s *bus) start() {
	if err := s.Start(); err != nil {
		s.t.Error(err)
	}
}

func write(t testing.TB, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// sizeOf is what one small message of the suite takes of a queue's quota.
func sizeOf(t testing.TB) int64 {
	s := newBus(t, broker.Queue{})
	p := s.publisher(s.config("sender"))
	if _, err := p.Publish(t.Context(), []queue.Message{{ID: "id-000000", Body: []byte("body 000000")}}); err != nil {
		t.Fatal(err)
	}
	c, _ := s.Counts(testQueue)
	return c.Bytes
}

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestConformance(t *testing.T) {
	for _, transport := range []string{busqueue.AMQP, busqueue.WebSocket} {
		t.Run(transport, func(t *testing.T) { queuetest.Run(t, conforming(transport)) })
	}
}

// The transports take turns: what stands on them is the same.
func TestConformanceDisturbed(t *testing.T) {
	queuetest.RunDisturbed(t, func(t *testing.T, set queuetest.Settings) queuetest.Queue {
		return conforming([]string{busqueue.AMQP, busqueue.WebSocket}[set.Faults%2])(t, set)
	})
}

// conforming makes a queue of the conformance suite.
func conforming(transport string) func(*testing.T, queuetest.Settings) queuetest.Queue {
	return func(t *testing.T, set queuetest.Settings) queuetest.Queue {
		q := broker.Queue{Lock: set.Lease, MaxDeliveries: uint32(set.MaxDeliveries)}
		if set.MaxMessages > 0 {
			q.MaxBytes = int64(set.MaxMessages) * sizeOf(t)
		}
		s := newBus(t, q)
		stop, start := s.Stop, s.start
		if set.Faults != 0 {
			s.fault(broker.Mishaps(set.Faults)...)
			stop, start = func() { s.Refuse(true) }, func() { s.Refuse(false) }
		}
		config := func(rule string) busqueue.Config {
			c := s.config(rule)
			c.Transport, c.Patience = transport, set.Patience
			return c
		}
		return queuetest.Queue{
			Publisher: func() queue.Publisher { return s.publisher(config("sender")) },
			Receiver:  func() queue.Receiver { return s.receiver(config("listener")) },
			Stop:      stop,
			Start:     start,
			SetsAside: true,
			Overtakes: true,
			Dark: func(from queue.Position) queue.Receiver {
				r, err := busqueue.OpenDark(config("listener"), from)
				if err != nil {
					t.Fatal(err)
				}
				return r
			},
			Struck: s.Struck,
		}
	}
}
