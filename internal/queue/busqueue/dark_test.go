package busqueue_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

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

// A queue that was made anew begins to count anew: what lies in it is behind the cursor, and comes as soon as its oldest message
// shows that it is younger than what was looked at. Where it is the same queue, nothing comes twice.
func TestDarkKnowsAQueueThatWasMadeAnew(t *testing.T) {
	s := newBus(t, broker.Queue{Lock: time.Minute, MaxDeliveries: 1})
	p := s.publisher(s.config("sender"))
	if _, err := p.Publish(limited(t), messages(0, 3)); err != nil {
		t.Fatal(err)
	}
	open := func(from string) *busqueue.Dark {
		d, err := busqueue.OpenDark(s.config("listener"), queue.Position(from))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		d.Doubting(time.Millisecond)
		return d
	}
	now := time.Now()
	d := open(fmt.Sprintf("dark 500 0 %d", now.Add(-time.Hour).UnixMilli()))
	got, err := d.Fetch(limited(t), 10)
	if err != nil || len(got) != 3 || string(got[0].Body) != string(messages(0, 3)[0].Body) {
		t.Fatalf("%d messages, %v; want the queue from its beginning", len(got), err)
	}
	last := string(got[2].Position)
	for _, from := range []string{last, fmt.Sprintf("dark 500 0 %d", now.Add(time.Hour).UnixMilli()), "dark 500 0", "dark 500 0 0"} {
		d := open(from)
		ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond) // a look, one at the oldest message, and a look
		if got, err := d.Fetch(ctx, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("from %q: %d messages came again, %v", from, len(got), err)
		}
		cancel()
	}
}

// odd publishes messages that make the client panic, as anybody can who may send.
func (s *bus) odd(n, size int) {
	s.t.Helper()
	s.send(n, &azservicebus.Message{Body: make([]byte, size), ApplicationProperties: map[string]any{"DeadLetterReason": int64(1)}})
}

// long publishes messages that no publisher of ours would.
func (s *bus) long(n, size int) {
	s.t.Helper()
	s.send(n, &azservicebus.Message{Body: make([]byte, size)})
}

// send publishes a message n times past our publisher.
func (s *bus) send(n int, m *azservicebus.Message) {
	s.t.Helper()
	conf := s.TLSConfig()
	conf.ServerName = "127.0.0.1" // the client would look for a name with the port in the certificate
	client, err := azservicebus.NewClientFromConnectionString(s.ConnectionString("sender"), &azservicebus.ClientOptions{TLSConfig: conf})
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close(context.Background())
	sender, err := client.NewSender(testQueue, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for range n {
		if err := sender.SendMessage(limited(s.t), m, nil); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Messages that make the client panic cost a dark receiver no more questions than others, come like others to be judged, and
// are behind it for good.
func TestDarkPoison(t *testing.T) {
	for name, c := range map[string]struct{ odd, size, most, asked int }{
		"many":  {1000, 10, 250, 20},
		"large": {80, 180 << 10, 250, 20}, // more than is heard of one answer
		"few":   {40, 10, 3, 40},
	} {
		t.Run(name, func(t *testing.T) {
			s := newBus(t, broker.Queue{Lock: time.Minute})
			p := s.publisher(s.config("sender"))
			r := s.receiver(s.config("listener"))
			if err := r.Settle(limited(t), s.fetched(r, 300)); err != nil { // the numbers begin far behind the first
				t.Fatal(err)
			}
			r.Close()
			// It strikes nothing, and counts.
			s.fault(broker.Fault{On: broker.OnManage, Operation: "peek-message", Kind: broker.Error, Entity: testQueue, Skip: math.MaxInt})
			publish := func(from, to int) {
				t.Helper()
				if _, err := p.Publish(limited(t), messages(from, to)); err != nil {
					t.Fatal(err)
				}
			}
			s.odd(c.odd, c.size)
			publish(300, 303)
			s.odd(c.odd/10, c.size)
			publish(303, 306)
			s.odd(1, c.size)
			total := c.odd + c.odd/10 + 7
			var all, good []string
			var at queue.Position
			take := func(d *busqueue.Dark, n int) {
				t.Helper()
				for len(all) < n {
					got, err := d.Fetch(limited(t), c.most)
					if err != nil {
						t.Fatal(err)
					}
					for _, d := range got {
						all, at = append(all, string(d.Body)), d.Position
						if strings.HasPrefix(string(d.Body), "body") {
							good = append(good, string(d.Body))
						} else if len(d.Body) != c.size {
							t.Errorf("%d octets of %d came", len(d.Body), c.size)
						}
					}
				}
			}
			d := s.openDark()
			take(d, total)
			d.Close()
			if n := s.Faults()[0].Seen; n > c.asked {
				t.Errorf("it asked %d times, expected at most %d", n, c.asked)
			}
			d, err := busqueue.OpenDark(s.config("listener"), at)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			publish(306, 307)
			take(d, total+1)
			if want := strings.Fields("300 301 302 303 304 305 306"); strings.Join(good, " ") != "body "+strings.Join(want, " body ") || len(all) != total+1 {
				t.Errorf("of %d, expected %d, came %q", len(all), total+1, good)
			}
		})
	}
}

// One that is longer than what is heard of an answer is skipped, and nothing else with it.
func TestDarkPoisonTooLong(t *testing.T) {
	s := newBus(t, broker.Queue{Lock: time.Minute}, func(c *broker.Config) { c.MaxMessageBytes = 16 << 20 })
	p := s.publisher(s.config("sender"))
	r := s.receiver(s.config("listener"))
	if err := r.Settle(limited(t), s.fetched(r, 5)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	s.odd(1, 9<<20)
	if _, err := p.Publish(limited(t), messages(5, 7)); err != nil {
		t.Fatal(err)
	}
	d := s.openDark()
	ctx := limited(t)
	for n := 5; n < 7; {
		got, err := d.Fetch(ctx, 10)
		if err != nil && (!errors.Is(err, queue.ErrUnreachable) || ctx.Err() != nil) { // on a busy machine 9 MiB may take longer than its patience
			t.Fatal(err)
		}
		for _, m := range got {
			if want := fmt.Sprintf("body %03d", n); string(m.Body) != want {
				t.Fatalf("%d octets came, expected %q", len(m.Body), want)
			}
			n++
		}
	}
}
