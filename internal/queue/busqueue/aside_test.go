package busqueue_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/busqueue"
)

// That the dead letters cannot be read while the queue can is known after a while, and that they can be again at once.
func TestAsideRead(t *testing.T) {
	type receiver interface {
		queue.Receiver
		AsideRead() (read, known bool)
		Impatient(time.Duration)
	}
	for name, open := range map[string]func(*bus) receiver{
		"acked": func(s *bus) receiver { return s.receiver(s.config("listener")) },
		"dark":  func(s *bus) receiver { return s.openDark() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newBus(t, broker.Queue{Lock: time.Minute})
			const dead = testQueue + "/$DeadLetterQueue"
			s.fault(broker.Fault{Name: "dead", On: broker.OnAttach, Kind: broker.Error, Condition: "amqp:not-allowed", Entity: dead})
			r := open(s)
			r.Impatient(time.Millisecond)
			ctx, stop := context.WithCancel(limited(t))
			defer stop()
			failed := make(chan error, 1)
			go func() { _, err := r.Fetch(ctx, 1); failed <- err }()
			await := func(want bool) {
				t.Helper()
				for {
					read, known := r.AsideRead()
					if known && read == want {
						return
					}
					select {
					case err := <-failed:
						t.Fatalf("fetch: %v", err)
					case <-time.After(time.Millisecond):
					}
				}
			}
			await(false)
			s.RemoveFault("dead")
			await(true)
			s.fault(broker.Fault{On: broker.OnAttach, Kind: broker.Error, Condition: "amqp:not-allowed", Entity: dead})
			s.Reset()
			await(false)
			stop()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("fetch: %v", err)
			}
		})
	}
}

// It is not known while the queue cannot be read either, nor soon after that.
func TestAsideJudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("bad")
		a := busqueue.NewAside()
		check := func(queue, dead error, after time.Duration, wantRead, wantKnown bool) {
			t.Helper()
			a.Note(queue, dead)
			time.Sleep(after)
			a.Note(queue, dead)
			if read, known := a.Judge(); read != wantRead || known != wantKnown {
				t.Errorf("read %t, known %t; expected %t, %t", read, known, wantRead, wantKnown)
			}
		}
		check(bad, bad, time.Hour, false, false)
		check(nil, bad, 4*time.Minute, false, false)
		check(bad, bad, time.Minute, false, false)
		check(nil, bad, 4*time.Minute, false, false)
		check(nil, bad, time.Minute, false, true)
		check(nil, nil, 0, true, true)
		check(nil, bad, 4*time.Minute, false, false)
	})
}
