package busqueue_test

import (
	"slices"
	"testing"
	"time"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/e2e/servicebus/entity"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/busqueue"
)

// openDark opens a dark receiver that begins with the oldest message.
func (s *bus) openDark() *busqueue.Dark {
	s.t.Helper()
	d, err := busqueue.OpenDark(s.config("listener"), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { d.Close() })
	return d
}

// setAside publishes a message that the service sets aside, and takes everything else from the queue.
func (s *bus) setAside(p *busqueue.Publisher, id string) {
	s.t.Helper()
	ctx := limited(s.t)
	if _, err := p.Publish(ctx, []queue.Message{{ID: id, Body: []byte(id)}}); err != nil {
		s.t.Fatal(err)
	}
	r := s.receiver(s.config("listener"))
	for came := false; !came; {
		got, err := r.Fetch(ctx, 100)
		if err != nil {
			s.t.Fatal(err)
		}
		others := slices.DeleteFunc(got, func(d queue.Delivery) bool {
			mine := string(d.Body) == id && !d.DeadLettered
			came = came || mine
			return mine
		})
		if err := r.Settle(ctx, others); err != nil {
			s.t.Fatal(err)
		}
	}
	r.Close()
	s.ExpireLocks(testQueue)
	s.await("one dead letter", func(c entity.Counts) bool { return c.Dead == 1 && c.Active+c.Locked == 0 })
}

// What was set aside comes while the queue has something new at every look, and what is in the queue comes while the dead
// letters cannot be read.
func TestDarkLooksAtBoth(t *testing.T) {
	s := newBus(t, broker.Queue{Lock: time.Minute, MaxDeliveries: 1})
	p, d := s.publisher(s.config("sender")), s.openDark()
	n := 0
	next := func() []queue.Delivery {
		t.Helper()
		ctx := limited(t)
		if _, err := p.Publish(ctx, messages(n, n+1)); err != nil {
			t.Fatal(err)
		}
		n++
		got, err := d.Fetch(ctx, 10)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	next() // it has looked at both, and there is no dead letter
	s.setAside(p, "leaver")
	for began := time.Now(); ; {
		got := next()
		if d := got[0]; d.DeadLettered {
			if string(d.Body) != "leaver" {
				t.Errorf("%q was set aside", d.Body)
			}
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("it did not come with the %d that were published since", n)
		}
	}
	s.fault(broker.Fault{On: broker.OnManage, Kind: broker.Error, Entity: testQueue + "/$DeadLetterQueue"})
	for began := time.Now(); s.Faults()[0].Hit == 0 && time.Since(began) < 30*time.Second; {
		next()
	}
	if got := next(); s.Faults()[0].Hit == 0 || got[0].DeadLettered {
		t.Errorf("%+v, and %q came", s.Faults(), got[0].Body)
	}
}
