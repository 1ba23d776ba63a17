package broker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/e2e/servicebus/entity"
)

// pair is a sender and a receiver of queue "jml".
func pair(t testing.TB, b *broker.Broker) (*azservicebus.Sender, *azservicebus.Receiver) {
	t.Helper()
	return sender(t, client(t, b, "sender"), "jml"), receiver(t, client(t, b, "listener"), "jml", nil)
}

func counts(t testing.TB, b *broker.Broker, path string) entity.Counts {
	t.Helper()
	c, ok := b.Counts(path)
	if !ok {
		t.Fatalf("no entity %q", path)
	}
	return c
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func code(t testing.TB, err error, want azservicebus.Code) {
	t.Helper()
	var e *azservicebus.Error
	if !errors.As(err, &e) || e.Code != want {
		t.Fatalf("got %v, want code %s", err, want)
	}
}

func condition(t testing.TB, err error, want amqp.ErrCond) {
	t.Helper()
	var e *amqp.Error
	if !errors.As(err, &e) || e.Condition != want {
		t.Fatalf("got %v, want condition %s", err, want)
	}
}

func TestReceiveAndDelete(t *testing.T) {
	b := start(t, broker.Config{})
	send(t, sender(t, client(t, b, "sender"), "jml"), 3)
	r := receiver(t, client(t, b, "listener"), "jml", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	if s := bodies(receive(t, r, 3)); s != "0 1 2 " {
		t.Fatalf("got %q", s)
	}
	if c := counts(t, b, "jml"); c.Active+c.Locked != 0 || c.Completed != 3 {
		t.Fatalf("counts: %+v", c)
	}
}

// An abandoned message is back in its place, counted, and ends in the
// dead-letter queue with the properties that were set on it.
func TestAbandon(t *testing.T) {
	b := start(t, broker.Config{Queues: []broker.Queue{{Name: "jml", MaxDeliveries: 2}}})
	s, r := pair(t, b)
	send(t, s, 2)
	got := receive(t, r, 2)
	ok(t, r.AbandonMessage(limited(t), got[0], &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"tried": "once"}}))
	again := receive(t, r, 1)[0]
	if string(again.Body) != "0" || again.DeliveryCount != 2 || again.ApplicationProperties["tried"] != "once" {
		t.Fatalf("message: %+v", again)
	}
	ok(t, r.AbandonMessage(limited(t), again, nil))
	dead := receiver(t, client(t, b, "listener"), "jml", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	m := receive(t, dead, 1)[0]
	if string(m.Body) != "0" || m.DeadLetterReason == nil || *m.DeadLetterReason != "MaxDeliveryCountExceeded" || m.DeadLetterSource == nil || *m.DeadLetterSource != "jml" {
		t.Fatalf("dead: %+v", m)
	}
	ok(t, dead.CompleteMessage(limited(t), m, nil))
	if c := counts(t, b, "jml"); c.Dead != 0 || c.DeadLetter != 1 || c.Abandoned != 2 {
		t.Fatalf("counts: %+v", c)
	}
}

func TestDeadLetter(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	send(t, s, 2)
	got := receive(t, r, 2)
	why, more := "unreadable", "not a JWE"
	ok(t, r.DeadLetterMessage(limited(t), got[0], &azservicebus.DeadLetterOptions{Reason: &why, ErrorDescription: &more, PropertiesToModify: map[string]any{"n": int32(7)}}))
	// The same by lock token alone, over $management.
	ok(t, r.DeadLetterMessage(limited(t), &azservicebus.ReceivedMessage{LockToken: got[1].LockToken}, &azservicebus.DeadLetterOptions{Reason: &why}))
	dead := receiver(t, client(t, b, "listener"), "jml", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	for i, m := range receive(t, dead, 2) {
		if *m.DeadLetterReason != why || *m.SequenceNumber != *got[i].SequenceNumber || !m.EnqueuedTime.Equal(*got[i].EnqueuedTime) {
			t.Fatalf("message: %+v", m)
		}
		if i == 0 && (*m.DeadLetterErrorDescription != more || m.ApplicationProperties["n"] != int32(7)) {
			t.Fatalf("message: %+v", m.ApplicationProperties)
		}
	}
}

func TestDefer(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	send(t, s, 2)
	for _, m := range receive(t, r, 2) {
		ok(t, r.DeferMessage(limited(t), m, nil))
	}
	if c := counts(t, b, "jml"); c.Deferred != 2 || c.Active+c.Locked != 0 {
		t.Fatalf("counts: %+v", c)
	}
	peeked, err := r.PeekMessages(limited(t), 5, nil)
	ok(t, err)
	if len(peeked) != 2 || peeked[1].State != azservicebus.MessageStateDeferred {
		t.Fatalf("peeked: %+v", peeked)
	}
	got, err := r.ReceiveDeferredMessages(limited(t), []int64{*peeked[1].SequenceNumber}, nil)
	ok(t, err)
	if bodies(got) != "1 " || got[0].LockToken == ([16]byte{}) {
		t.Fatalf("got %+v", got)
	}
	if _, err := r.ReceiveDeferredMessages(limited(t), []int64{*peeked[1].SequenceNumber}, nil); err == nil {
		t.Fatal("a locked message was received again")
	}
	ok(t, r.CompleteMessage(limited(t), got[0], nil))
	if c := counts(t, b, "jml"); c.Deferred != 1 || c.Completed != 1 {
		t.Fatalf("counts: %+v", c)
	}
}

// A lock that runs out puts the message back and counts; its token is worth
// nothing then, on the link and over $management.
func TestLockExpiry(t *testing.T) {
	clock := broker.NewManualClock(time.Now())
	b := start(t, broker.Config{Clock: clock, Queues: []broker.Queue{{Name: "jml", Lock: 30 * time.Second}}})
	s, r := pair(t, b)
	send(t, s, 1)
	m := receive(t, r, 1)[0]
	if d := m.LockedUntil.Sub(clock.Now()); d > 30*time.Second || d < 29*time.Second {
		t.Fatalf("locked for %v", d)
	}
	clock.Advance(20 * time.Second)
	ok(t, r.RenewMessageLock(limited(t), m, nil))
	clock.Advance(29 * time.Second)
	if c := counts(t, b, "jml"); c.Locked != 1 {
		t.Fatalf("counts: %+v", c)
	}
	clock.Advance(time.Second)
	if c := counts(t, b, "jml"); c.Locked != 0 || c.Active != 1 || c.LocksLost != 1 {
		t.Fatalf("counts: %+v", c)
	}
	code(t, r.CompleteMessage(limited(t), m, nil), azservicebus.CodeLockLost)
	code(t, r.CompleteMessage(limited(t), &azservicebus.ReceivedMessage{LockToken: m.LockToken}, nil), azservicebus.CodeLockLost)
	code(t, r.RenewMessageLock(limited(t), m, nil), azservicebus.CodeLockLost)
	if again := receive(t, r, 1)[0]; again.DeliveryCount != 2 || again.LockToken == m.LockToken {
		t.Fatalf("message: %+v", again)
	}
}

// Locks outlive the link and the connection under which they were taken, and can
// be settled by token from another one.
func TestSettleAfterReconnect(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	send(t, s, 2)
	got := receive(t, r, 2)
	b.Reset()
	again := receiver(t, client(t, b, "listener"), "jml", nil)
	for _, m := range got {
		ok(t, again.CompleteMessage(limited(t), &azservicebus.ReceivedMessage{LockToken: m.LockToken}, nil))
	}
	if c := counts(t, b, "jml"); c.Completed != 2 || c.Locked != 0 {
		t.Fatalf("counts: %+v", c)
	}
}

func TestTimeToLive(t *testing.T) {
	for _, keep := range []bool{false, true} {
		clock := broker.NewManualClock(time.Now())
		b := start(t, broker.Config{Clock: clock, Queues: []broker.Queue{{Name: "jml", TTL: time.Hour, Lock: time.Minute, DeadLetterExpired: keep}}})
		s, r := pair(t, b)
		send(t, s, 2)
		short := 10 * time.Minute
		ok(t, s.SendMessage(limited(t), &azservicebus.Message{Body: []byte("short"), TimeToLive: &short}, nil))
		clock.Advance(10 * time.Minute)
		if c := counts(t, b, "jml"); c.Active != 2 || c.Expired != 1 {
			t.Fatalf("keep %t: counts: %+v", keep, c)
		}
		m := receive(t, r, 1)[0]
		clock.Advance(50 * time.Minute) // the lock of m runs out before its life
		if c := counts(t, b, "jml"); c.Active+c.Locked != 0 || c.Expired != 3 || (c.Dead == 3) != keep {
			t.Fatalf("keep %t: counts: %+v", keep, c)
		}
		code(t, r.CompleteMessage(limited(t), m, nil), azservicebus.CodeLockLost)
		if !keep {
			continue
		}
		dead := receiver(t, client(t, b, "listener"), "jml", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
		for _, m := range receive(t, dead, 3) {
			if m.DeadLetterReason == nil || *m.DeadLetterReason != "TTLExpiredException" {
				t.Fatalf("message: %+v", m)
			}
		}
	}
}

func TestDuplicates(t *testing.T) {
	clock := broker.NewManualClock(time.Now())
	b := start(t, broker.Config{Clock: clock, Queues: []broker.Queue{{Name: "jml", Duplicates: time.Minute}}})
	s, _ := pair(t, b)
	send(t, s, 3)
	send(t, s, 4)
	if c := counts(t, b, "jml"); c.Active != 4 || c.Duplicates != 3 {
		t.Fatalf("counts: %+v", c)
	}
	clock.Advance(time.Minute)
	send(t, s, 4)
	if c := counts(t, b, "jml"); c.Active != 8 {
		t.Fatalf("counts: %+v", c)
	}
}

func TestSchedule(t *testing.T) {
	clock := broker.NewManualClock(time.Now())
	b := start(t, broker.Config{Clock: clock})
	s, r := pair(t, b)
	later := clock.Now().Add(time.Hour)
	var list []*azservicebus.Message
	for _, text := range []string{"a", "b", "c"} {
		list = append(list, &azservicebus.Message{Body: []byte(text)})
	}
	numbers, err := s.ScheduleMessages(limited(t), list, later, nil)
	ok(t, err)
	if !slices.Equal(numbers, []int64{1, 2, 3}) {
		t.Fatalf("numbers: %v", numbers)
	}
	ok(t, s.CancelScheduledMessages(limited(t), []int64{2}, nil))
	if err := s.CancelScheduledMessages(limited(t), []int64{2}, nil); err == nil {
		t.Fatal("cancelled twice")
	}
	ok(t, s.SendMessage(limited(t), &azservicebus.Message{Body: []byte("d"), ScheduledEnqueueTime: &later}, nil))
	peeked, err := r.PeekMessages(limited(t), 9, nil)
	ok(t, err)
	if bodies(peeked) != "a c d " || peeked[0].State != azservicebus.MessageStateScheduled {
		t.Fatalf("peeked: %+v", peeked)
	}
	clock.Advance(time.Hour)
	got := receive(t, r, 3)
	if bodies(got) != "a c d " || *got[0].EnqueuedSequenceNumber != 1 || *got[0].SequenceNumber <= 3 || !got[0].EnqueuedTime.Equal(later.Truncate(time.Millisecond)) {
		t.Fatalf("got: %+v", got[0])
	}
}

func TestPeek(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	if list, err := r.PeekMessages(limited(t), 5, nil); err != nil || len(list) > 0 {
		t.Fatalf("peeked %v: %v", list, err)
	}
	send(t, s, 10)
	var all []*azservicebus.ReceivedMessage
	for range 4 {
		list, err := r.PeekMessages(limited(t), 3, nil)
		ok(t, err)
		all = append(all, list...)
	}
	if bodies(all) != "0 1 2 3 4 5 6 7 8 9 " || all[0].LockedUntil != nil {
		t.Fatalf("peeked %s", bodies(all))
	}
	from := int64(7)
	list, err := r.PeekMessages(limited(t), 100, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
	ok(t, err)
	if bodies(list) != "6 7 8 9 " {
		t.Fatalf("peeked %s", bodies(list))
	}
	if c := counts(t, b, "jml"); c.Active != 10 || c.Delivered != 0 {
		t.Fatalf("counts: %+v", c)
	}
}

// What the client releases by itself is back in place and not counted.
func TestRelease(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	ctx, stop := context.WithCancel(limited(t))
	done := make(chan error)
	go func() {
		_, err := r.ReceiveMessages(ctx, 1, nil)
		done <- err
	}()
	held, err := b.AddFaults(broker.Fault{On: broker.OnSettle, Kind: broker.Delay, Gate: "released"})
	ok(t, err)
	ok(t, b.WaitCredit(limited(t), "jml", 1))
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	send(t, s, 1)
	ok(t, b.WaitHeld(limited(t), "released", 1)) // the credit is still there, and the client's releaser took the message
	b.RemoveFault(held[0])
	b.Release("released")
	m := receive(t, r, 1)[0]
	if m.DeliveryCount != 1 {
		t.Fatalf("delivery count %d", m.DeliveryCount)
	}
	if c := counts(t, b, "jml"); c.Released != 1 || c.Abandoned != 0 {
		t.Fatalf("counts: %+v", c)
	}
}

// Two receivers share what comes.
func TestCompetingReceivers(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	other := receiver(t, client(t, b, "listener"), "jml", nil)
	got := make(chan []*azservicebus.ReceivedMessage)
	for _, r := range []*azservicebus.Receiver{r, other} {
		go func() {
			list, err := r.ReceiveMessages(limited(t), 10, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Second})
			if err != nil {
				t.Error(err)
			}
			got <- list
		}()
	}
	ok(t, b.WaitCredit(limited(t), "jml", 20))
	send(t, s, 20)
	if x, y := <-got, <-got; len(x) != 10 || len(y) != 10 {
		t.Fatalf("%d and %d messages", len(x), len(y))
	}
}
