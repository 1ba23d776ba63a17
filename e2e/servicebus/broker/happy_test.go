package broker_test

import (
	"crypto/tls"
	"net/http"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/e2e/servicebus/entity"
)

func httpClient(b *broker.Broker) *http.Client {
	c := b.TLSConfig()
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.RootCAs}}}
}

// A batch goes in and comes out under peek-lock, over each transport.
func TestSendReceiveComplete(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(testing.TB, *broker.Broker, string) *azservicebus.Client
	}{
		{"amqps", client},
		{"websocket AMQPWSB10", func(t testing.TB, b *broker.Broker, rule string) *azservicebus.Client {
			return webClient(t, b, rule, "AMQPWSB10")
		}},
		{"websocket amqp", func(t testing.TB, b *broker.Broker, rule string) *azservicebus.Client {
			return webClient(t, b, rule, "amqp")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := start(t, broker.Config{})
			send(t, sender(t, tt.make(t, b, "sender"), "jml"), 5)
			r := receiver(t, tt.make(t, b, "listener"), "jml", nil)
			got := receive(t, r, 5)
			if s := bodies(got); s != "0 1 2 3 4 " {
				t.Fatalf("got %q", s)
			}
			m := got[3]
			if m.MessageID != "3" || m.DeliveryCount != 1 || m.SequenceNumber == nil || *m.SequenceNumber != 4 || m.LockedUntil == nil || m.EnqueuedTime == nil {
				t.Fatalf("message: %+v", m)
			}
			if c, _ := b.Counts("JML"); c.Locked != 5 || c.Active != 0 {
				t.Fatalf("counts: %+v", c)
			}
			for _, m := range got {
				if err := r.CompleteMessage(limited(t), m, nil); err != nil {
					t.Fatal(err)
				}
			}
			if c, _ := b.Counts("jml"); c.Locked+c.Active != 0 || c.Completed != 5 || c.Bytes != 0 {
				t.Fatalf("counts: %+v", c)
			}
		})
	}
}

// What was sent before an outage is there after it, under the same address.
func TestStopAndStart(t *testing.T) {
	b := start(t, broker.Config{})
	s := sender(t, client(t, b, "sender"), "jml")
	r := receiver(t, client(t, b, "listener"), "jml", nil)
	send(t, s, 2)
	receive(t, r, 1)
	addr := b.Addr()
	b.Stop()
	if n := b.Connections(); n != 0 {
		t.Fatalf("%d connections after Stop", n)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	if b.Addr() != addr {
		t.Fatalf("moved from %s to %s", addr, b.Addr())
	}
	send(t, s, 1)
	if c, _ := b.Counts("jml"); c != (entity.Counts{Active: 2, Locked: 1, Sent: 3, Delivered: 1, Bytes: c.Bytes}) {
		t.Fatalf("counts: %+v", c)
	}
	if s := bodies(receive(t, r, 2)); s != "1 0 " {
		t.Fatalf("got %q", s)
	}
}
