package broker_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/e2e/servicebus/entity"
)

func add(t testing.TB, b *broker.Broker, f ...broker.Fault) {
	t.Helper()
	if _, err := b.AddFaults(f...); err != nil {
		t.Fatal(err)
	}
}

func text(s string) *azservicebus.Message {
	id := s
	return &azservicebus.Message{Body: []byte(s), MessageID: &id}
}

// What a fault on sending leaves in the queue, and what the client says.
func TestSendFaults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fault  broker.Fault
		window time.Duration // of duplicate detection
		there  string        // bodies in the queue after one SendMessage of "x"
		err    string        // part of the error; "" is none
	}{
		{"lost before it is kept", broker.Fault{Kind: broker.Reset, Count: 1}, 0, "x ", ""},
		{"kept, and the answer lost", broker.Fault{Kind: broker.Reset, Applied: true, Count: 1}, 0, "x x ", ""},
		{"kept, lost, and known again", broker.Fault{Kind: broker.Reset, Applied: true, Count: 1}, time.Minute, "x ", ""},
		{"never answered", broker.Fault{Kind: broker.Silence}, 0, "", "deadline"},
		{"kept and never answered", broker.Fault{Kind: broker.Silence, Applied: true}, 0, "x ", "deadline"},
		{"busy once", broker.Fault{Kind: broker.Error, Count: 1}, 0, "x ", ""},
		{"kept but said to be busy", broker.Fault{Kind: broker.Error, Applied: true, Count: 1}, 0, "x x ", ""},
		{"disabled", broker.Fault{Kind: broker.Error, Condition: "com.microsoft:entity-disabled"}, 0, "", "com.microsoft:entity-disabled"},
		{"full", broker.Fault{Kind: broker.Error, Condition: "amqp:resource-limit-exceeded"}, 0, "", "amqp:resource-limit-exceeded"},
		{"unauthorized", broker.Fault{Kind: broker.Error, Condition: "amqp:unauthorized-access"}, 0, "", "unauthorized"},
		{"link detached", broker.Fault{Kind: broker.Detach, Count: 1}, 0, "x ", ""},
		{"kept and the link detached", broker.Fault{Kind: broker.Detach, Applied: true, Count: 1}, 0, "x x ", ""},
		{"detached as busy", broker.Fault{Kind: broker.Detach, Condition: "com.microsoft:server-busy", Count: 1}, 0, "", "server-busy"}, // the sender never recovers
		{"session ended", broker.Fault{Kind: broker.End, Count: 1}, 0, "x ", ""},
		{"connection closed", broker.Fault{Kind: broker.CloseConn, Count: 1}, 0, "x ", ""},
		{"dropped in silence", broker.Fault{Kind: broker.Ignore}, 0, "", ""},
		{"doubled", broker.Fault{Kind: broker.Duplicate}, time.Minute, "x x ", ""},
		{"altered", broker.Fault{Kind: broker.Alter}, 0, "y ", ""},
		{"of another message", broker.Fault{Kind: broker.Ignore, Message: "z"}, 0, "x ", ""},
		{"of another entity", broker.Fault{Kind: broker.Ignore, Entity: "other"}, 0, "x ", ""},
		{"later", broker.Fault{Kind: broker.Ignore, Skip: 1}, 0, "x ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, broker.Config{Queues: []broker.Queue{{Name: "jml", Duplicates: tt.window}}}, func(t *testing.T, b *broker.Broker, client func(string) *azservicebus.Client) {
				tt.fault.On = broker.OnSend
				add(t, b, tt.fault)
				err := sender(t, client("sender"), "jml").SendMessage(limited(t), text("x"), nil)
				if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				there, err := receiver(t, client("listener"), "jml", nil).PeekMessages(limited(t), 10, nil)
				ok(t, err)
				if bodies(there) != tt.there {
					t.Fatalf("%q are there, want %q", bodies(there), tt.there)
				}
			})
		})
	}
}

// What a fault on delivery makes of messages 0, 1 and 2.
func TestDeliverFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault broker.Fault
		n     int
		got   string
	}{
		{"doubled", broker.Fault{Kind: broker.Duplicate, Count: 1}, 4, "0 1 2 0 "},
		{"lost", broker.Fault{Kind: broker.Lose, Message: "1"}, 2, "0 2 "},
		{"altered", broker.Fault{Kind: broker.Alter, Message: "1"}, 3, "0 0 2 "},
		{"reordered", broker.Fault{Kind: broker.Reorder, Message: "0"}, 3, "1 0 2 "},
		{"reordered further", broker.Fault{Kind: broker.Reorder, Message: "0", Places: 2}, 3, "1 2 0 "},
		{"connection reset", broker.Fault{Kind: broker.Reset, Message: "0"}, 2, "1 2 "},
		{"link detached", broker.Fault{Kind: broker.Detach, Message: "0"}, 2, "1 2 "},
		{"session ended", broker.Fault{Kind: broker.End, Message: "0"}, 2, "1 2 "},
		{"connection closed", broker.Fault{Kind: broker.CloseConn, Message: "0"}, 2, "1 2 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, broker.Config{}, func(t *testing.T, b *broker.Broker, client func(string) *azservicebus.Client) {
				tt.fault.On = broker.OnDeliver
				send(t, sender(t, client("sender"), "jml"), 3)
				add(t, b, tt.fault)
				got := receive(t, receiver(t, client("listener"), "jml", nil), tt.n)
				if bodies(got) != tt.got {
					t.Fatalf("got %q, want %q", bodies(got), tt.got)
				}
				lost := tt.fault.Kind == broker.Reset || tt.fault.Kind == broker.Detach || tt.fault.Kind == broker.End || tt.fault.Kind == broker.CloseConn
				if c := counts(t, b, "jml"); lost && c.Locked != 3 {
					t.Fatalf("a message should be locked with nobody: %+v", c)
				}
			})
		})
	}
}

// Each way to trip the reader does what it is known to do to the client.
func TestPoison(t *testing.T) {
	get := func(t *testing.T, f broker.Fault) (m *azservicebus.ReceivedMessage, panicked any) {
		b := start(t, broker.Config{})
		s, r := pair(t, b)
		send(t, s, 1)
		f.On, f.Kind = broker.OnDeliver, broker.PoisonIt
		add(t, b, f)
		defer func() { panicked = recover() }()
		return receive(t, r, 1)[0], nil
	}
	for _, p := range []broker.Poison{broker.AnnotationType, broker.AnnotationNull, broker.ReasonType} {
		if m, panicked := get(t, broker.Fault{Poison: p}); panicked == nil {
			t.Errorf("%s: no panic but %+v", p, m)
		}
	}
	for p, want := range map[broker.Poison]func(m *azservicebus.ReceivedMessage) bool{
		broker.IDType:        func(m *azservicebus.ReceivedMessage) bool { return m.MessageID == "" },
		broker.NoHeader:      func(m *azservicebus.ReceivedMessage) bool { return m.DeliveryCount == 0 },
		broker.NoAnnotations: func(m *azservicebus.ReceivedMessage) bool { return m.SequenceNumber == nil },
		broker.NoProperties:  func(m *azservicebus.ReceivedMessage) bool { return m.MessageID == "" && m.DeliveryCount == 0 },
		broker.TwoBodies:     func(m *azservicebus.ReceivedMessage) bool { return m.Body == nil },
		broker.ValueBody:     func(m *azservicebus.ReceivedMessage) bool { return m.Body == nil },
		broker.NoBody:        func(m *azservicebus.ReceivedMessage) bool { return m.Body == nil },
		broker.Lies: func(m *azservicebus.ReceivedMessage) bool {
			return *m.SequenceNumber == -1 && m.DeliveryCount == 1_000_001 && m.MessageID == "invented" && *m.SessionID == "session" && *m.DeadLetterReason == "invented"
		},
	} {
		if m, panicked := get(t, broker.Fault{Poison: p}); panicked != nil || !want(m) {
			t.Errorf("%s: %v, %+v", p, panicked, m)
		}
	}
}

// Bytes that are no message cost the link; the message is locked with nobody.
func TestGarbage(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	send(t, s, 1)
	add(t, b, broker.Fault{On: broker.OnDeliver, Kind: broker.PoisonIt, Poison: broker.Garbage, Count: 1})
	if list, err := r.ReceiveMessages(limited(t), 1, nil); err != nil || list != nil {
		t.Fatalf("got %v, %v", list, err)
	}
	b.ExpireLocks("jml")
	if m := receive(t, r, 1)[0]; m.DeliveryCount != 2 {
		t.Fatalf("delivery count %d", m.DeliveryCount)
	}
}

func TestSettleFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault broker.Fault
		err   string
		left  entity.Counts // active and locked ones
	}{
		{"lock lost", broker.Fault{Kind: broker.Error, Condition: "com.microsoft:message-lock-lost"}, "locklost", entity.Counts{Locked: 1}},
		{"done, but said to be lost", broker.Fault{Kind: broker.Error, Condition: "com.microsoft:message-lock-lost", Applied: true}, "locklost", entity.Counts{}},
		{"never answered", broker.Fault{Kind: broker.Silence}, "deadline", entity.Counts{Locked: 1}},
		{"done and never answered", broker.Fault{Kind: broker.Silence, Applied: true}, "deadline", entity.Counts{}},
		{"connection reset", broker.Fault{Kind: broker.Reset}, "connlost", entity.Counts{Locked: 1}},
		{"done and connection reset", broker.Fault{Kind: broker.Reset, Applied: true}, "connlost", entity.Counts{}},
		{"link detached", broker.Fault{Kind: broker.Detach}, "", entity.Counts{}}, // the client turns to $management
		{"done and link detached", broker.Fault{Kind: broker.Detach, Applied: true}, "locklost", entity.Counts{}},
		{"not done", broker.Fault{Kind: broker.Ignore}, "", entity.Counts{Locked: 1}},
		{"done and comes again", broker.Fault{Kind: broker.Replay}, "", entity.Counts{Active: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, broker.Config{Queues: []broker.Queue{{Name: "jml", Lock: 5 * time.Minute}}}, func(t *testing.T, b *broker.Broker, client func(string) *azservicebus.Client) {
				send(t, sender(t, client("sender"), "jml"), 1)
				r := receiver(t, client("listener"), "jml", nil)
				m := receive(t, r, 1)[0]
				tt.fault.On = broker.OnSettle
				add(t, b, tt.fault)
				err := r.CompleteMessage(limited(t), m, nil)
				if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				if c := counts(t, b, "jml"); c.Active != tt.left.Active || c.Locked != tt.left.Locked {
					t.Fatalf("counts: %+v", c)
				}
			})
		})
	}
}

func TestAttachFaults(t *testing.T) {
	for cond, want := range map[string]string{"amqp:unauthorized-access": "unauthorized", "amqp:not-found": "amqp:not-found", "com.microsoft:entity-disabled": "entity-disabled", "amqp:not-allowed": "not-allowed"} {
		b := start(t, broker.Config{})
		add(t, b, broker.Fault{On: broker.OnAttach, Kind: broker.Error, Condition: cond})
		_, err := receiver(t, client(t, b, "listener"), "jml", nil).ReceiveMessages(limited(t), 1, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", cond, err)
		}
	}
	for _, kind := range []broker.Kind{broker.Error, broker.Reset, broker.End, broker.CloseConn} {
		bubble(t, broker.Config{}, func(t *testing.T, b *broker.Broker, client func(string) *azservicebus.Client) {
			add(t, b, broker.Fault{On: broker.OnAttach, Kind: kind, Count: 1})
			ok(t, sender(t, client("sender"), "jml").SendMessage(limited(t), text("x"), nil))
			if h := b.Faults()[0]; h.Hit != 1 {
				t.Errorf("%s struck %d times", kind, h.Hit)
			}
		})
	}
}

func TestTokenFaults(t *testing.T) {
	for status, want := range map[int]azservicebus.Code{401: azservicebus.CodeUnauthorizedAccess, 404: azservicebus.CodeNotFound} {
		b := start(t, broker.Config{})
		add(t, b, broker.Fault{On: broker.OnToken, Kind: broker.Error, Status: status, Count: 1})
		s := sender(t, client(t, b, "sender"), "jml")
		code(t, s.SendMessage(limited(t), text("x"), nil), want)
		ok(t, s.SendMessage(limited(t), text("x"), nil)) // usable again
	}
	bubble(t, broker.Config{}, func(t *testing.T, b *broker.Broker, client func(string) *azservicebus.Client) {
		add(t, b, broker.Fault{On: broker.OnToken, Kind: broker.Silence, Count: 1})
		s := sender(t, client("sender"), "jml")
		if err := s.SendMessage(limited(t), text("x"), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		for _, f := range []broker.Fault{{On: broker.OnToken, Kind: broker.Error, Status: 500}, {On: broker.OnToken, Kind: broker.Reset}, {On: broker.OnOpen, Kind: broker.Error}, {On: broker.OnOpen, Kind: broker.Reset}} {
			b.Reset() // so that there is an open and a token again
			f.Count = 1
			add(t, b, f)
			ok(t, s.SendMessage(limited(t), text("x"), nil))
		}
		for _, h := range b.Faults() {
			if h.Hit != 1 {
				t.Errorf("%s on %s struck %d times", h.Kind, h.On, h.Hit)
			}
		}
	})
}

func TestManageFaults(t *testing.T) {
	bubble(t, broker.Config{Queues: []broker.Queue{{Name: "jml", Lock: 5 * time.Minute}}}, func(t *testing.T, b *broker.Broker, client func(string) *azservicebus.Client) {
		send(t, sender(t, client("sender"), "jml"), 1)
		r := receiver(t, client("listener"), "jml", nil)
		m := receive(t, r, 1)[0]
		renew := func(kind broker.Kind, status int) error {
			b.RemoveFault("")
			add(t, b, broker.Fault{On: broker.OnManage, Operation: "renew-lock", Count: 1, Kind: kind, Status: status})
			return r.RenewMessageLock(limited(t), m, nil)
		}
		if err := renew(broker.Silence, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		code(t, renew(broker.Error, 410), azservicebus.CodeLockLost)
		code(t, renew(broker.Error, 401), azservicebus.CodeUnauthorizedAccess)
		ok(t, renew(broker.Error, 503))
		ok(t, renew(broker.Reset, 0))
		if c := counts(t, b, "jml"); c.Locked != 1 {
			t.Fatalf("counts: %+v", c)
		}
	})
}

// A connection that comes in is broken, or left without a word.
func TestDialFaults(t *testing.T) {
	b := start(t, broker.Config{})
	add(t, b, broker.Fault{On: broker.OnDial, Kind: broker.Reset, Count: 1})
	ok(t, sender(t, client(t, b, "sender"), "jml").SendMessage(limited(t), text("x"), nil))
	b.RemoveFault("")
	add(t, b, broker.Fault{On: broker.OnDial, Kind: broker.Silence})
	c, err := net.Dial("tcp", b.Addr())
	ok(t, err)
	defer c.Close()
	ok(t, b.WaitMute(limited(t), 1))
	b.Silence(false) // ends it
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("read %d bytes, %v", n, err)
	}
}

// A gate holds an operation before its effect, or its answer after it.
func TestGates(t *testing.T) {
	b := start(t, broker.Config{})
	s, _ := pair(t, b)
	add(t, b, broker.Fault{On: broker.OnSend, Kind: broker.Delay, Gate: "before"}, broker.Fault{On: broker.OnSend, Kind: broker.Delay, Gate: "after", Applied: true})
	sent := make(chan error)
	go func() { sent <- s.SendMessage(limited(t), text("x"), nil) }()
	ok(t, b.WaitHeld(limited(t), "before", 1))
	if c := counts(t, b, "jml"); c.Active != 0 {
		t.Fatalf("counts: %+v", c)
	}
	b.Release("before")
	ok(t, b.WaitHeld(limited(t), "after", 1))
	if c := counts(t, b, "jml"); c.Active != 1 {
		t.Fatalf("counts: %+v", c)
	}
	select {
	case err := <-sent:
		t.Fatalf("answered at a gate: %v", err)
	default:
	}
	b.Release("after")
	ok(t, <-sent)
}

func TestDisable(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	send(t, s, 1)
	b.Disable("jml", true)
	_, err := r.ReceiveMessages(limited(t), 1, nil)
	condition(t, err, "com.microsoft:entity-disabled")
	condition(t, s.SendMessage(limited(t), text("x"), nil), "com.microsoft:entity-disabled")
	b.Disable("jml", false)
	receive(t, r, 1)
	// A sender keeps a link that was detached with a condition that it takes for fatal, for ever.
	condition(t, s.SendMessage(limited(t), text("x"), nil), "com.microsoft:entity-disabled")
	ok(t, sender(t, client(t, b, "sender"), "jml").SendMessage(limited(t), text("x"), nil))
}

func TestClosedConnections(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	send(t, s, 1)
	b.CloseConnections("amqp:connection:forced")
	ok(t, s.SendMessage(limited(t), text("1"), nil))
	if list := receive(t, r, 2); bodies(list) != "0 1 " {
		t.Fatalf("got %q", bodies(list))
	}
}

func TestImpossibleFaults(t *testing.T) {
	b := start(t, broker.Config{})
	for name, f := range map[string]broker.Fault{
		"nowhere":           {Kind: broker.Error},
		"kind of elsewhere": {On: broker.OnDial, Kind: broker.Detach},
		"delay of nothing":  {On: broker.OnSend, Kind: broker.Delay},
		"no poison":         {On: broker.OnDeliver, Kind: broker.PoisonIt},
		"too probable":      {On: broker.OnSend, Kind: broker.Reset, Probability: 2},
		"negative":          {On: broker.OnSend, Kind: broker.Reset, Skip: -1},
	} {
		_, err := b.AddFaults(f)
		if bad := (*broker.ConfigError)(nil); !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(b.Faults()); n != 0 {
		t.Errorf("%d faults in force", n)
	}
}
