package broker_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/e2e/servicebus/broker"
)

// The traps that the client is known to step into are all here to step into.
// What they say of it holds for azservicebus v1.11.0; a newer one may have mended
// some, and then the adapter's guards against them can go.

// A link that is detached as busy is kept, dead: call after call brings nothing.
func TestTrapWedge(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	send(t, s, 1)
	receive(t, r, 1)
	if n := b.DetachLinks("jml", "com.microsoft:server-busy"); n != 2 {
		t.Fatalf("%d links detached", n)
	}
	b.ExpireLocks("jml") // there is something to receive
	for range 1000 {
		if list, err := r.ReceiveMessages(limited(t), 1, nil); list != nil || err != nil {
			t.Fatalf("got %v, %v", list, err)
		}
	}
	if err := r.Close(limited(t)); err == nil {
		t.Fatal("closing should report why the link is dead")
	}
	receive(t, receiver(t, client(t, b, "listener"), "jml", nil), 1)
}

// A message from before a connection was lost is settled by its token only, after
// the client has tried the dead link for most of a minute.
func TestTrapOldConnection(t *testing.T) {
	bubble(t, broker.Config{Queues: []broker.Queue{{Name: "jml", Lock: 5 * time.Minute}}}, func(t *testing.T, b *broker.Broker, client func(string) *azservicebus.Client) {
		s, r := sender(t, client("sender"), "jml"), receiver(t, client("listener"), "jml", nil)
		send(t, s, 1)
		m := receive(t, r, 1)[0]
		b.Reset()
		before := time.Now()
		if err := r.CompleteMessage(t.Context(), m, nil); err == nil {
			t.Fatal("settled on a link that is gone")
		}
		if d := time.Since(before); d < 30*time.Second || d > time.Minute {
			t.Fatalf("gave up after %v", d)
		}
		ok(t, r.CompleteMessage(t.Context(), &azservicebus.ReceivedMessage{LockToken: m.LockToken}, nil))
		if c := counts(t, b, "jml"); c.Completed != 1 {
			t.Fatalf("counts: %+v", c)
		}
	})
}

// A silent network is noticed after a minute.
func TestTrapSilence(t *testing.T) {
	bubble(t, broker.Config{}, func(t *testing.T, b *broker.Broker, client func(string) *azservicebus.Client) {
		r := receiver(t, client("listener"), "jml", nil)
		s := sender(t, client("sender"), "jml")
		send(t, s, 1)
		receive(t, r, 1)
		done := make(chan error)
		go func() {
			list, err := r.ReceiveMessages(t.Context(), 1, nil)
			if list != nil {
				err = errors.New("something came")
			}
			done <- err
		}()
		ok(t, b.WaitCredit(t.Context(), "jml", 1))
		before := time.Now()
		b.Silence(true)
		ok(t, <-done)
		if d := time.Since(before); d != time.Minute {
			t.Fatalf("noticed after %v", d)
		}
		b.Silence(false)
		send(t, s, 1)
		receive(t, r, 1)
	})
}

// Idle connections stay: each side says something in time.
func TestHeartbeat(t *testing.T) {
	bubble(t, broker.Config{Queues: []broker.Queue{{Name: "jml", Lock: 2 * time.Hour}}}, func(t *testing.T, b *broker.Broker, client func(string) *azservicebus.Client) {
		s, r := sender(t, client("sender"), "jml"), receiver(t, client("listener"), "jml", nil)
		send(t, s, 1)
		m := receive(t, r, 1)[0]
		time.Sleep(time.Hour)
		if n := b.Connections(); n != 2 {
			t.Fatalf("%d connections", n)
		}
		ok(t, r.CompleteMessage(t.Context(), m, nil)) // on its own link
	})
}

// Locks run out by themselves in virtual time too.
func TestLockExpiryInBubble(t *testing.T) {
	bubble(t, broker.Config{Queues: []broker.Queue{{Name: "jml", Lock: 30 * time.Second, MaxDeliveries: 3}}}, func(t *testing.T, b *broker.Broker, client func(string) *azservicebus.Client) {
		s, r := sender(t, client("sender"), "jml"), receiver(t, client("listener"), "jml", nil)
		send(t, s, 1)
		for n := range uint32(3) {
			if m := receive(t, r, 1)[0]; m.DeliveryCount != n+1 {
				t.Fatalf("delivery %d", m.DeliveryCount)
			}
			time.Sleep(30 * time.Second)
		}
		if c := counts(t, b, "jml"); c.Dead != 1 || c.LocksLost != 3 {
			t.Fatalf("counts: %+v", c)
		}
	})
}

// A reply without properties kills the process that asked: it is tried in a child.
func TestTrapMalformedReply(t *testing.T) {
	for _, on := range []broker.Point{broker.OnToken, broker.OnManage} {
		b := start(t, broker.Config{})
		send(t, sender(t, client(t, b, "sender"), "jml"), 1)
		add(t, b, broker.Fault{On: on, Kind: broker.Malformed})
		cmd := exec.Command(os.Args[0], "-test.run=^TestPeekAsChild$")
		cmd.Env = append(os.Environ(), "PEEK_AT="+b.ConnectionString("listener"), "PEEK_CA="+string(b.CA()))
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !strings.Contains(string(out), "nil pointer dereference") {
			t.Errorf("on %s: %v\n%s", on, err, out)
		}
	}
}

func TestPeekAsChild(t *testing.T) {
	text := os.Getenv("PEEK_AT")
	if text == "" {
		t.Skip("only as a child of TestTrapMalformedReply")
	}
	c, err := azservicebus.NewClientFromConnectionString(text, &azservicebus.ClientOptions{TLSConfig: trusting(os.Getenv("PEEK_CA"))})
	ok(t, err)
	_, err = receiver(t, c, "jml", nil).PeekMessages(limited(t), 1, nil)
	ok(t, err)
}
