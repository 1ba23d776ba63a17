package busqueue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/e2e/servicebus/entity"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/busqueue"
)

func messages(from, to int) (list []queue.Message) {
	for i := from; i < to; i++ {
		list = append(list, queue.Message{ID: fmt.Sprintf("id-%03d", i), Body: fmt.Appendf(nil, "body %03d", i)})
	}
	return list
}

func (s *bus) fault(list ...broker.Fault) {
	s.t.Helper()
	if _, err := s.AddFaults(list...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *bus) await(what string, ok func(entity.Counts) bool) {
	s.t.Helper()
	if err := s.WaitFor(limited(s.t), testQueue, ok); err != nil {
		c, _ := s.Counts(testQueue)
		s.t.Fatalf("%s: %v; %+v", what, err, c)
	}
}

// all publishes n messages and fetches and settles until everything is gone from the queue. It returns what came, by
// body, how often.
func (s *bus) all(p *busqueue.Publisher, r *busqueue.Receiver, n int) map[string]int {
	s.t.Helper()
	ctx := limited(s.t)
	for left := messages(0, n); len(left) > 0; {
		k, err := p.Publish(ctx, left)
		left = left[k:]
		if err != nil && !errors.Is(err, queue.ErrUnreachable) {
			s.t.Fatalf("publish: %v", err)
		}
	}
	seen := map[string]int{}
	for {
		if c, _ := s.Counts(testQueue); len(seen) == n && c.Active+c.Locked+c.Dead == 0 {
			return seen
		}
		try, cancel := context.WithTimeout(ctx, time.Second)
		got, err := r.Fetch(try, 50)
		cancel()
		if err != nil && !errors.Is(err, queue.ErrUnreachable) && !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			c, _ := s.Counts(testQueue)
			s.t.Fatalf("fetch: %v; %d of %d came, %+v", err, len(seen), n, c)
		}
		for _, d := range got {
			seen[string(d.Body)]++
		}
		_ = r.Settle(ctx, got) // what it did not settle comes again
	}
}

// Whatever goes wrong on the way, every message is there in the end, and the queue is empty.
func TestNothingIsLost(t *testing.T) {
	for name, faults := range map[string][]broker.Fault{
		"send: connection breaks before":          {{On: broker.OnSend, Kind: broker.Reset, Count: 1}},
		"send: accepted, and the answer lost":     {{On: broker.OnSend, Kind: broker.Reset, Count: 1, Applied: true}},
		"send: server busy":                       {{On: broker.OnSend, Kind: broker.Error, Count: 2}},
		"send: the link goes (trap A)":            {{On: broker.OnSend, Kind: broker.Detach, Condition: "com.microsoft:server-busy", Count: 1}},
		"send: twice there":                       {{On: broker.OnSend, Kind: broker.Duplicate, Count: 1}},
		"deliver: twice there":                    {{On: broker.OnDeliver, Kind: broker.Duplicate, Count: 3}},
		"deliver: out of order":                   {{On: broker.OnDeliver, Kind: broker.Reorder, Skip: 3, Count: 5}},
		"deliver: the link goes":                  {{On: broker.OnDeliver, Kind: broker.Detach, Skip: 5, Count: 2}},
		"deliver: the link goes busy (trap A)":    {{On: broker.OnDeliver, Kind: broker.Detach, Condition: "com.microsoft:server-busy", Skip: 5, Count: 1}},
		"deliver: the link times out (trap A)":    {{On: broker.OnDeliver, Kind: broker.Detach, Condition: "com.microsoft:timeout", Skip: 5, Count: 1}},
		"deliver: the connection breaks":          {{On: broker.OnDeliver, Kind: broker.Reset, Skip: 5, Count: 2}},
		"settle: the connection breaks":           {{On: broker.OnSettle, Kind: broker.Reset, Skip: 5, Count: 1}},
		"settle: done, and the connection breaks": {{On: broker.OnSettle, Kind: broker.Reset, Skip: 5, Count: 1, Applied: true}},
		"settle: never answered":                  {{On: broker.OnSettle, Kind: broker.Silence, Count: 2}},
		"settle: the link goes busy":              {{On: broker.OnSettle, Kind: broker.Detach, Condition: "com.microsoft:server-busy", Count: 1}},
		"settle: comes again as a new one":        {{On: broker.OnSettle, Kind: broker.Replay, Count: 2}},
		"attach: refused for a while":             {{On: broker.OnAttach, Kind: broker.Error, Count: 3}},
		"token: refused for a while":              {{On: broker.OnToken, Kind: broker.Error, Condition: "com.microsoft:server-busy", Count: 2}},
		"open: the connection breaks":             {{On: broker.OnOpen, Kind: broker.Reset, Count: 3}},
		"dial: the connection breaks":             {{On: broker.OnDial, Kind: broker.Reset, Count: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newBus(t, broker.Queue{Lock: 2 * time.Second, MaxDeliveries: 100})
			s.fault(faults...)
			seen := s.all(s.publisher(s.config("sender")), s.receiver(s.config("listener")), 40)
			for i := range 40 {
				if seen[fmt.Sprintf("body %03d", i)] == 0 {
					t.Errorf("message %d did not come", i)
				}
			}
		})
	}
}

// Trap B: a message that trips the client does not take its neighbours along. In the end the service sets it aside, from
// where it is read; one that is merely odd comes as it is, and one without a body comes empty.
func TestPoison(t *testing.T) {
	const odd, bad = "id-007", "body 007"
	for poison, want := range map[broker.Poison]struct {
		body  string
		aside bool
	}{
		broker.AnnotationType: {bad, true}, broker.AnnotationNull: {bad, true}, broker.ReasonType: {bad, true}, broker.Garbage: {bad, true},
		broker.IDType: {bad, false}, broker.NoHeader: {bad, false}, broker.NoProperties: {bad, false}, broker.NoAnnotations: {bad, false},
		broker.Lies: {bad, false}, broker.TwoBodies: {"", false}, broker.ValueBody: {"", false}, broker.NoBody: {"", false},
	} {
		t.Run(string(poison), func(t *testing.T) {
			t.Parallel()
			s := newBus(t, broker.Queue{Lock: time.Second, MaxDeliveries: 4})
			p := s.publisher(s.config("sender"))
			if _, err := p.Publish(limited(t), messages(0, 20)); err != nil {
				t.Fatal(err)
			}
			s.fault(broker.Fault{On: broker.OnDeliver, Kind: broker.PoisonIt, Poison: poison, Message: odd, Entity: testQueue})
			r := s.receiver(s.config("listener"))
			came := map[string]bool{}
			for len(came) < 20 {
				got, err := r.Fetch(limited(t), 50)
				if errors.Is(err, queue.ErrUnreachable) {
					continue
				}
				if err != nil {
					t.Fatalf("%d came: %v", len(came), err)
				}
				for _, d := range got {
					came[string(d.Body)] = true
					if d.DeadLettered != (want.aside && string(d.Body) == want.body) {
						t.Errorf("%q was set aside: %t", d.Body, d.DeadLettered)
					}
				}
				_ = r.Settle(limited(t), got)
			}
			if !came[want.body] {
				t.Errorf("%q did not come", want.body)
			}
			s.await("an empty queue", func(c entity.Counts) bool { return c.Active+c.Locked+c.Dead == 0 })
		})
	}
}

// Trap C: what came before a lost connection is settled on the next one at once, by its lock token.
func TestSettleOnTheNextConnection(t *testing.T) {
	s := newBus(t, broker.Queue{})
	p, r := s.publisher(s.config("sender")), s.receiver(s.config("listener"))
	if _, err := p.Publish(limited(t), messages(0, 10)); err != nil {
		t.Fatal(err)
	}
	var got []queue.Delivery
	for len(got) < 10 {
		more, err := r.Fetch(limited(t), 10)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, more...)
	}
	s.Reset()
	begin := time.Now()
	for {
		err := r.Settle(limited(t), got)
		if err == nil {
			break
		}
		if !errors.Is(err, queue.ErrUnreachable) {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("settling took %s", took)
	}
	if c, _ := s.Counts(testQueue); c.Completed != 10 || c.Locked != 0 {
		t.Errorf("%+v", c)
	}
}

// What a person has to change is said at once, and is over when it was changed.
func TestRefused(t *testing.T) {
	one := messages(0, 1)
	publish := func(s *bus, c busqueue.Config) error { _, err := s.publisher(c).Publish(limited(s.t), one); return err }
	fetch := func(s *bus, c busqueue.Config) error { _, err := s.receiver(c).Fetch(limited(s.t), 1); return err }
	for name, c := range map[string]struct {
		try  func(*bus, busqueue.Config) error
		rule string
		edit func(*bus, *busqueue.Config)
		want string
	}{
		"publish without the right": {publish, "listener", nil, "our credential"},
		"fetch without the right":   {fetch, "sender", nil, "our credential"},
		"no such queue":             {publish, "sender", func(_ *bus, c *busqueue.Config) { c.Queue = "other" }, "no such queue"},
		"disabled":                  {publish, "sender", func(s *bus, _ *busqueue.Config) { s.Disable(testQueue, true) }, "disabled"},
		"another certificate": {publish, "sender", func(s *bus, c *busqueue.Config) {
			c.CA = newBus(s.t, broker.Queue{}).ca
		}, "certificate"},
		"another certificate, WebSocket": {fetch, "listener", func(s *bus, c *busqueue.Config) {
			c.CA, c.Transport = newBus(s.t, broker.Queue{}).ca, busqueue.WebSocket
		}, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newBus(t, broker.Queue{})
			conf := s.config(c.rule)
			if c.edit != nil {
				c.edit(s, &conf)
			}
			begin := time.Now()
			err := c.try(s, conf)
			if !errors.Is(err, queue.ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v; expected ErrRefused with %q", err, c.want)
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %s to say so", took)
			}
		})
	}
}

// A batch is settled at once: the service has all of the settlements before it answers one.
func TestSettlesInParallel(t *testing.T) {
	const n = 20
	s := newBus(t, broker.Queue{Lock: time.Minute})
	r := s.receiver(s.config("listener"))
	batch := s.fetched(r, n)
	s.fault(broker.Fault{On: broker.OnSettle, Kind: broker.Delay, Gate: "settle"})
	done := make(chan error, 1)
	go func() { done <- r.Settle(limited(t), batch) }()
	if err := s.WaitHeld(limited(t), "settle", n); err != nil {
		t.Fatal(err)
	}
	s.RemoveFault("")
	s.Release("settle")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.await("an empty queue", func(c entity.Counts) bool { return c.Active+c.Locked+c.Dead == 0 })
}

// fetched publishes n messages and fetches them all.
func (s *bus) fetched(r *busqueue.Receiver, n int) (all []queue.Delivery) {
	s.t.Helper()
	if _, err := s.publisher(s.config("sender")).Publish(limited(s.t), messages(0, n)); err != nil {
		s.t.Fatal(err)
	}
	for len(all) < n {
		got, err := r.Fetch(limited(s.t), n)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, got...)
	}
	return all
}

// What is lost in the middle of a batch's settlement, with the answers of some, costs the batch nothing: the rest is settled
// on what stands next.
func TestALinkIsLostWhileABatchIsSettled(t *testing.T) {
	const n = 200
	const busy = "com.microsoft:server-busy" // a detached link that is taken for a living one
	onLink := broker.Fault{On: broker.OnSettle, Skip: 5, Count: 1}
	byToken := broker.Fault{On: broker.OnManage, Operation: "update-disposition", Skip: 5, Count: 1}
	var wg sync.WaitGroup // all at a time, whatever the processors: for the most part they wait
	defer wg.Wait()
	for name, lost := range map[string]func(link, token *broker.Fault){
		"the link": func(l, _ *broker.Fault) { l.Kind = broker.Detach },
		"the connection, then the link of tokens": func(l, k *broker.Fault) { l.Kind, k.Kind, k.Condition = broker.Reset, broker.Detach, busy },
		"two connections":                         func(l, k *broker.Fault) { l.Kind, k.Kind = broker.Reset, broker.Reset },
	} {
		for _, done := range []bool{false, true} {
			wg.Go(func() {
				t.Run(fmt.Sprintf("%s, done %t", name, done), func(t *testing.T) {
					s := newBus(t, broker.Queue{Lock: time.Hour})
					c := s.config("listener")
					c.Patience = time.Minute
					r := s.receiver(c)
					batch := s.fetched(r, n)
					l, k := onLink, byToken
					l.Applied, k.Applied = done, done
					lost(&l, &k)
					strikes := 1
					s.fault(l)
					if k.Kind != "" {
						s.fault(k)
						strikes++
					}
					if err := r.Settle(limited(t), batch); err != nil {
						t.Error(err)
					}
					if c, _ := s.Counts(testQueue); c.Completed != n || c.Locked+c.Active != 0 || s.Struck() != strikes {
						t.Errorf("%d of %d faults struck, and of %d messages: %+v", s.Struck(), strikes, n, c)
					}
				})
			})
		}
	}
}

// A batch that is made while the one before it is on its way goes only once that is confirmed: where it is refused, what was made is
// made again of what is left, and everything comes once and in order.
func TestBatchBehindARefusedOne(t *testing.T) {
	for name, f := range map[string]broker.Fault{
		"the first is refused":   {On: broker.OnSend, Kind: broker.Error, Condition: "amqp:resource-limit-exceeded", Count: 1},
		"the second is refused":  {On: broker.OnSend, Kind: broker.Error, Condition: "amqp:resource-limit-exceeded", Skip: 1, Count: 1},
		"the first is too large": {On: broker.OnSend, Kind: broker.Error, Condition: "amqp:link:message-size-exceeded", Count: 1}, // as a batch: no message is
		"the second is cut off":  {On: broker.OnSend, Kind: broker.Reset, Skip: 1, Count: 1},
		"the second link is cut": {On: broker.OnSend, Kind: broker.Detach, Skip: 1, Count: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newBus(t, broker.Queue{})
			s.fault(f)
			ctx, p, r := limited(t), s.publisher(s.config("sender")), s.receiver(s.config("listener"))
			list := messages(0, 300)
			for i := range list { // five batches
				list[i].Body = append(list[i].Body, make([]byte, 4<<10)...)
			}
			for left := list; len(left) > 0; {
				n, err := p.Publish(ctx, left)
				left = left[n:]
				if err != nil && !errors.Is(err, queue.ErrUnreachable) && !errors.Is(err, queue.ErrFull) {
					t.Fatalf("publish: %v", err)
				}
			}
			for n := 0; n < len(list); {
				got, err := r.Fetch(ctx, 100)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range got {
					if n == len(list) || string(d.Body) != string(list[n].Body) {
						t.Fatalf("message %d is %.20q", n, d.Body)
					}
					n++
				}
				if err := r.Settle(ctx, got); err != nil {
					t.Fatal(err)
				}
			}
			s.await("something is there twice", func(c entity.Counts) bool { return c.Active+c.Locked+c.Dead == 0 })
			if hits := s.Faults(); hits[0].Hit != 1 {
				t.Errorf("the fault struck %d times", hits[0].Hit)
			}
		})
	}
}
