package broker_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/coder/websocket"

	"jmlbridge/e2e/servicebus/broker"
)

// start makes a broker with a queue "jml" unless cfg has queues.
func start(t testing.TB, cfg broker.Config) *broker.Broker {
	t.Helper()
	if cfg.Queues == nil {
		cfg.Queues = []broker.Queue{{Name: "jml"}}
	}
	b, err := broker.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// client is an unmodified client over plain TLS.
func client(t testing.TB, b *broker.Broker, rule string) *azservicebus.Client {
	return clientWith(t, b, rule, &azservicebus.ClientOptions{TLSConfig: b.TLSConfig()})
}

// webClient is one over a TLS WebSocket.
func webClient(t testing.TB, b *broker.Broker, rule string, protocols ...string) *azservicebus.Client {
	return clientWith(t, b, rule, &azservicebus.ClientOptions{NewWebSocketConn: func(ctx context.Context, args azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
		ws, _, err := websocket.Dial(ctx, args.Host, &websocket.DialOptions{Subprotocols: protocols, HTTPClient: httpClient(b)})
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}})
}

func clientWith(t testing.TB, b *broker.Broker, rule string, o *azservicebus.ClientOptions) *azservicebus.Client {
	t.Helper()
	if o.RetryOptions.MaxRetries == 0 {
		o.RetryOptions = azservicebus.RetryOptions{MaxRetries: 2, RetryDelay: time.Millisecond, MaxRetryDelay: 10 * time.Millisecond}
	}
	c, err := azservicebus.NewClientFromConnectionString(b.ConnectionString(rule), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// bubble runs a test in virtual time: broker and client talk in memory, and
// minutes pass at once.
func bubble(t *testing.T, cfg broker.Config, f func(t *testing.T, b *broker.Broker, client func(rule string) *azservicebus.Client)) {
	synctest.Test(t, func(t *testing.T) {
		cfg.Listen = broker.PipeOnly
		b := start(t, cfg)
		f(t, b, func(rule string) *azservicebus.Client {
			return clientWith(t, b, rule, &azservicebus.ClientOptions{
				NewWebSocketConn: func(context.Context, azservicebus.NewWebSocketConnArgs) (net.Conn, error) { return b.Pipe() }})
		})
	})
}

func sender(t testing.TB, c *azservicebus.Client, queue string) *azservicebus.Sender {
	t.Helper()
	s, err := c.NewSender(queue, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func receiver(t testing.TB, c *azservicebus.Client, queue string, o *azservicebus.ReceiverOptions) *azservicebus.Receiver {
	t.Helper()
	r, err := c.NewReceiverForQueue(queue, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// limited is the time after which a step over the wire hangs. In a bubble it costs nothing.
func limited(t testing.TB) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(stop)
	return ctx
}

// send sends messages 0 to n-1 in one batch, each with its number as body and id.
func send(t testing.TB, s *azservicebus.Sender, n int) {
	t.Helper()
	batch, err := s.NewMessageBatch(limited(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		id := fmt.Sprint(i)
		if err := batch.AddMessage(&azservicebus.Message{Body: []byte(id), MessageID: &id}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SendMessageBatch(limited(t), batch, nil); err != nil {
		t.Fatal(err)
	}
}

// receive gets n messages, however many calls it takes.
func receive(t testing.TB, r *azservicebus.Receiver, n int) []*azservicebus.ReceivedMessage {
	t.Helper()
	var all []*azservicebus.ReceivedMessage
	ctx := limited(t)
	for len(all) < n {
		list, err := r.ReceiveMessages(ctx, n-len(all), nil)
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(all), n, err)
		}
		all = append(all, list...)
	}
	return all
}

func bodies(list []*azservicebus.ReceivedMessage) string {
	s := ""
	for _, m := range list {
		s += string(m.Body) + " "
	}
	return s
}

// trusting is the TLS configuration of a process that knows the CA only.
func trusting(ca string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca))
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}
