// Package queuetest is the conformance suite for the adapters of package queue: what every queue
// must do, whoever runs it. It waits on real conditions with deadlines and trusts nothing but
// bodies.
//
// It uses a queue as the bridge does, and so the same tests hold with faults on the way (RunDisturbed), where a call
// that fails with ErrUnreachable is made again. What an undisturbed queue promises beyond that is then
// out of anybody's hands, and each becomes what is left of it:
//
//   - A message may come again before it was settled or although it was: its answer was lost, ours was, or its lease
//     ran out meanwhile. It is known by its body, and every message comes.
//   - What was on its way to us on a connection that fell comes after its lease, and others before it. Within
//     one fetch, and over all fetches of a dark receiver, the order stands.
//   - The queue has delivered, stored and set aside what we never heard of: its counts are bounds.
package queuetest

import (
	"context"
	"flag"
	"hash/fnv"
	"sync"
	"testing"
	"time"

	"jmlbridge/internal/queue"
)

// Settings are what a test needs of its queue.
type Settings struct {
	Lease         time.Duration // until a fetched message comes again
	Patience      time.Duration // until an outage is reported
	MaxMessages   int           // 0: enough for any test
	MaxDeliveries int           // after which a queue that does so sets a message aside; 0: enough for any test
	Faults        uint64        // the seed of those that strike the way to it; 0: there are none
}

// Queue is one queue, empty at first, with ways to it. What it opens is closed by the test.
type Queue struct {
	Publisher func() queue.Publisher
	Receiver  func() queue.Receiver

	// Stop makes the queue unreachable and Start ends that; messages survive. Where tests run beside each other, it must
	// not need a port again that it gave away.
	Stop, Start func()
	// SetsAside says that the queue puts a message aside after MaxDeliveries, from where a receiver takes it.
	SetsAside bool
	// Overtakes says that over several fetches a message may come after a later one, as where a client hands back what it
	// had in hand and a machine is slow. Within one it never does.
	Overtakes bool
	// Dark opens a receiver that acknowledges nothing and begins behind a position; nil: there is none.
	Dark func(queue.Position) queue.Receiver
	// Struck is how many faults have struck so far, where Settings.Faults asks for some. They are those of an honest
	// mid-point and an unsound way to it, come to an end, and the first strikes the first use.
	Struck func() int
}

const (
	// deadline bounds one test. It is never waited out on a machine that works.
	deadline = 60 * time.Second

	// shortLease is waited out. What is fetched must be settled within it also where a machine is slow, and has other tests to run.
	shortLease = time.Second

	// What a fault took away comes again after a lease, which is waited out: it is short, and longer than an adapter tries to
	// settle, lest all that it holds come again meanwhile. Patience is short since much of it hides what strikes.
	disturbedLease    = 3 * time.Second
	disturbedPatience = 500 * time.Millisecond
	// disturbedLimit bounds a disturbed test, some of whose calls run into an adapter's own deadlines.
	disturbedLimit = 3 * deadline
)

// seed plays other faults than those that every run plays: go test ./internal/queue/busqueue -run Disturbed -faults 7
var seed = flag.Uint64("faults", 1, "strike the disturbed queues with the faults of this `seed`")

// tests are what a queue must do, each with what it needs of it.
var tests = []struct {
	name string
	set  Settings
	test func(*env)
}{
	{"order", Settings{}, order},
	{"nothing published", Settings{}, nothing},
	{"a message wakes a waiting fetch", Settings{}, wakes},
	{"a lease runs out", Settings{Lease: shortLease}, redelivery},
	{"settle twice", Settings{Lease: shortLease}, settleTwice},
	{"what a dead receiver had fetched", Settings{}, leftBehind},
	{"settle after the lease ran out", Settings{Lease: shortLease}, settleLate},
	{"order of old and new within a fetch", Settings{Lease: shortLease}, orderMixed},
	{"the server restarts", Settings{Lease: shortLease, Patience: 300 * time.Millisecond}, restart},
	{"restart under a waiting fetch", Settings{Patience: deadline}, restartWaiting},
	{"full", Settings{MaxMessages: 8}, full},
	{"close while fetching", Settings{}, closeFetching},
	{"cancel while fetching", Settings{}, cancelFetching},
	{"closed publisher", Settings{}, closedPublisher},
	{"duplicate id", Settings{}, duplicate},
	{"huge body", Settings{}, huge},
	{"settle beside a fetch", Settings{}, settleBeside},
	{"foreign delivery", Settings{}, foreign},
	{"a message that is delivered too often", Settings{Lease: shortLease, MaxDeliveries: 2}, setAside},
	{"dark", Settings{}, dark},
	{"dark over a restart", Settings{Patience: 300 * time.Millisecond}, darkRestart},
}

// Run runs the suite; open makes a fresh queue for one test.
func Run(t *testing.T, open func(*testing.T, Settings) Queue) {
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			if c.set.Lease == 0 {
				c.set.Lease = deadline
			}
			if c.set.Patience == 0 {
				c.set.Patience = 5 * time.Second
			}
			begin(t, open, deadline, c.set, c.test)
		})
	}
}

// RunDisturbed runs the suite while faults strike the way to the queue. Which ones follows from the seed alone; what
// they meet there does not.
func RunDisturbed(t *testing.T, open func(*testing.T, Settings) Queue) {
	turns := make(chan struct{}, 8) // several at a time, whatever the processors: for the most part they wait
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, c := range tests {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			t.Run(c.name, func(t *testing.T) { disturbed(t, open, c.name, c.set, c.test) })
		})
	}
}

func disturbed(t *testing.T, open func(*testing.T, Settings) Queue, name string, set Settings, test func(*env)) {
	if set.Lease == 0 {
		set.Lease = disturbedLease
	}
	if set.Patience == 0 {
		set.Patience = disturbedPatience
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	set.Faults = max(1, h.Sum64()^*seed)
	begin(t, open, disturbedLimit, set, func(e *env) {
		defer func() {
			if t.Failed() {
				t.Logf("after %d faults of -faults %d", e.q.Struck(), *seed)
			}
		}()
		test(e)
		e.goesOn()
		if e.q.Struck() == 0 {
			e.Error("no fault has struck: this was the suite without any")
		}
	})
}

func begin(t *testing.T, open func(*testing.T, Settings) Queue, limit time.Duration, set Settings, test func(*env)) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	q := open(t, set)
	e := &env{T: t, ctx: ctx, set: set, q: q, disturbed: set.Faults != 0}
	e.pub, e.rec = q.Publisher(), q.Receiver()
	defer e.pub.Close()
	defer func() { e.rec.Close() }() // whichever is the last
	test(e)
}
