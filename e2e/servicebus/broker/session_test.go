package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/e2e/servicebus/broker"
)

// sessions is a queue that requires them, with a clock to turn.
func sessions(t testing.TB) (*broker.Broker, *broker.ManualClock) {
	clock := broker.NewManualClock(time.Now())
	return start(t, broker.Config{Clock: clock, Queues: []broker.Queue{{Name: "jml", Sessions: true, Lock: time.Minute}}}), clock
}

func sendTo(t testing.TB, s *azservicebus.Sender, session string, n int) {
	t.Helper()
	for i := range n {
		ok(t, s.SendMessage(limited(t), &azservicebus.Message{Body: fmt.Append(nil, session, i), SessionID: &session}, nil))
	}
}

func TestSessions(t *testing.T) {
	b, _ := sessions(t)
	s := sender(t, client(t, b, "sender"), "jml")
	condition(t, s.SendMessage(limited(t), &azservicebus.Message{Body: []byte("x")}, nil), "amqp:not-allowed")
	sendTo(t, s, "a", 2)
	sendTo(t, s, "b", 2)
	c := client(t, b, "listener")
	next, err := c.AcceptNextSessionForQueue(limited(t), "jml", nil)
	ok(t, err)
	if next.SessionID() != "a" {
		t.Fatalf("session %q", next.SessionID())
	}
	named, err := c.AcceptSessionForQueue(limited(t), "jml", "b", nil)
	ok(t, err)
	if d := time.Until(named.LockedUntil()); d < 50*time.Second || d > time.Minute {
		t.Fatalf("locked for %v", d)
	}
	_, err = client(t, b, "listener").AcceptSessionForQueue(limited(t), "jml", "b", nil)
	condition(t, err, "com.microsoft:session-cannot-be-locked")
	list, err := named.ReceiveMessages(limited(t), 2, nil)
	ok(t, err)
	if bodies(list) != "b0 b1 " || *list[0].SessionID != "b" {
		t.Fatalf("got %q", bodies(list))
	}
	ok(t, named.CompleteMessage(limited(t), list[0], nil))
	peeked, err := named.PeekMessages(limited(t), 9, nil)
	ok(t, err)
	if bodies(peeked) != "b1 " {
		t.Fatalf("peeked %q", bodies(peeked))
	}
	ok(t, named.SetSessionState(limited(t), []byte("half"), nil))
	ok(t, named.Close(limited(t))) // its lock ends, and what it held is not counted
	again, err := client(t, b, "listener").AcceptSessionForQueue(limited(t), "jml", "b", nil)
	ok(t, err)
	state, err := again.GetSessionState(limited(t), nil)
	if err != nil || string(state) != "half" {
		t.Fatalf("state %q: %v", state, err)
	}
	list, err = again.ReceiveMessages(limited(t), 2, nil)
	ok(t, err)
	if bodies(list) != "b1 " || list[0].DeliveryCount != 1 {
		t.Fatalf("got %q, count %d", bodies(list), list[0].DeliveryCount)
	}
}

// A queue with sessions has nothing for a plain receiver, and the other way round.
func TestSessionsRequired(t *testing.T) {
	b, _ := sessions(t)
	_, err := receiver(t, client(t, b, "listener"), "jml", nil).ReceiveMessages(limited(t), 1, nil)
	condition(t, err, "amqp:not-allowed")
	plain := start(t, broker.Config{})
	_, err = client(t, plain, "listener").AcceptSessionForQueue(limited(t), "jml", "a", nil)
	condition(t, err, "amqp:not-allowed")
}

// Who asks for the next session waits for one, until it comes or the time is over.
func TestNextSessionWaits(t *testing.T) {
	b, clock := sessions(t)
	type result struct {
		r   *azservicebus.SessionReceiver
		err error
	}
	got := make(chan result, 1)
	accept := func() {
		r, err := client(t, b, "listener").AcceptNextSessionForQueue(context.WithoutCancel(t.Context()), "jml", nil)
		got <- result{r, err}
	}
	go accept()
	ok(t, b.WaitAccepting(limited(t), "jml", 1))
	clock.Advance(time.Minute)
	r := <-got
	code(t, r.err, azservicebus.CodeTimeout)
	go accept()
	ok(t, b.WaitAccepting(limited(t), "jml", 1))
	sendTo(t, sender(t, client(t, b, "sender"), "jml"), "late", 1)
	if r := <-got; r.err != nil || r.r.SessionID() != "late" {
		t.Fatalf("got %v", r.err)
	}
}

// The lock on a session runs out unless it is renewed; then its link is detached,
// and what it held counts.
func TestSessionLock(t *testing.T) {
	b, clock := sessions(t)
	sendTo(t, sender(t, client(t, b, "sender"), "jml"), "a", 1)
	r, err := client(t, b, "listener").AcceptSessionForQueue(limited(t), "jml", "a", nil)
	ok(t, err)
	_, err = r.ReceiveMessages(limited(t), 1, nil)
	ok(t, err)
	clock.Advance(59 * time.Second)
	ok(t, r.RenewSessionLock(limited(t), nil))
	clock.Advance(59 * time.Second)
	if c := counts(t, b, "jml"); c.Locked != 1 {
		t.Fatalf("counts: %+v", c)
	}
	clock.Advance(time.Second)
	if c := counts(t, b, "jml"); c.Locked != 0 || c.LocksLost != 1 {
		t.Fatalf("counts: %+v", c)
	}
	other, err := client(t, b, "listener").AcceptNextSessionForQueue(limited(t), "jml", nil)
	ok(t, err)
	again, err := other.ReceiveMessages(limited(t), 1, nil)
	ok(t, err)
	if again[0].DeliveryCount != 2 {
		t.Fatalf("count %d", again[0].DeliveryCount)
	}
	ok(t, other.CompleteMessage(limited(t), again[0], nil))
}

func TestListSessions(t *testing.T) {
	b, clock := sessions(t)
	s := sender(t, client(t, b, "sender"), "jml")
	for _, id := range []string{"c", "a", "b"} {
		sendTo(t, s, id, 1)
	}
	c := client(t, b, "listener")
	pages := func(o *azservicebus.ListSessionsOptions) (ids []string) {
		for p := c.NewListSessionsForQueuePager("jml", o); p.More(); {
			page, err := p.NextPage(limited(t))
			ok(t, err)
			ids = append(ids, page.Sessions...)
		}
		return ids
	}
	if ids := pages(nil); !slices.Equal(ids, []string{"a", "b", "c"}) {
		t.Fatalf("sessions %v", ids)
	}
	r, err := c.AcceptSessionForQueue(limited(t), "jml", "b", nil)
	ok(t, err)
	before := clock.Now()
	clock.Advance(time.Second)
	ok(t, r.SetSessionState(limited(t), []byte("x"), nil))
	if ids := pages(&azservicebus.ListSessionsOptions{SessionStateUpdatedAfter: &before}); !slices.Equal(ids, []string{"b"}) {
		t.Fatalf("sessions %v", ids)
	}
	ok(t, r.SetSessionState(limited(t), nil, nil))
	if state, err := r.GetSessionState(limited(t), nil); err != nil || state != nil {
		t.Fatalf("state %q: %v", state, err)
	}
}

// A message that was sent once comes to each subscription.
func TestTopic(t *testing.T) {
	b := start(t, broker.Config{Topics: []broker.Topic{{Name: "events", Subscriptions: []broker.Queue{{Name: "one"}, {Name: "two"}}}}})
	send(t, sender(t, client(t, b, "sender"), "events"), 2)
	c := client(t, b, "listener")
	for _, name := range []string{"one", "two"} {
		r, err := c.NewReceiverForSubscription("events", name, nil)
		ok(t, err)
		if s := bodies(receive(t, r, 2)); s != "0 1 " {
			t.Fatalf("%s got %q", name, s)
		}
	}
	_, err := receiver(t, client(t, b, "listener"), "events", nil).ReceiveMessages(limited(t), 1, nil)
	condition(t, err, "amqp:not-allowed")
	err = sender(t, client(t, b, "sender"), "events/Subscriptions/one").SendMessage(limited(t), &azservicebus.Message{}, nil)
	condition(t, err, "amqp:not-allowed")
}

// Of what is not there it says so.
func TestNotImplemented(t *testing.T) {
	b := start(t, broker.Config{})
	_, err := receiver(t, client(t, b, "listener"), "jml", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueTransfer}).ReceiveMessages(limited(t), 1, nil)
	if err == nil || !strings.Contains(err.Error(), "amqp:not-implemented") { // the client takes a condition that it does not know for a lost connection
		t.Fatal(err)
	}
}
