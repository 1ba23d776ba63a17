package busqueue_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/e2e/servicebus/broker"
)

const (
	orderAway    = 15 * time.Millisecond // there and back
	orderBody    = 3 << 10               // octets: a sealed event
	orderBatch   = 500                   // messages asked for at a time
	orderSettled = 128                   // at the same time
	orderKey     = "hr"                  // one stream, one key
)

// What order costs that the queue could give, with the client alone and the service 15 ms away: to send in batches,
// and to receive and complete, as many at a time as the adapter has under way. "overtaken" are messages in a thousand
// that came after a later one. The endpoint has no partitions: a key is carried, and what it would put right
// cannot be seen here. The package's documentation draws the conclusion.
//
//	go test ./internal/queue/busqueue -run - -bench Order -benchtime 5000x
func BenchmarkOrder(b *testing.B) {
	key, session := orderKey, orderKey
	for _, way := range []struct {
		name         string
		key, session *string
		most         int // messages asked for at once
	}{
		{"plain", nil, nil, orderBatch},
		{"partition key", &key, nil, orderBatch},
		{"session", nil, &session, orderBatch},
		{"session, 10 at a time", nil, &session, 10},
		{"session, one at a time", nil, &session, 1},
	} {
		b.Run(way.name, func(b *testing.B) {
			s := newBus(b, broker.Queue{Sessions: way.session != nil, Lock: 5 * time.Minute})
			ctx, wire := b.Context(), far(b, s.Host())
			client := func(rule string) *azservicebus.Client {
				conf := s.TLSConfig()
				conf.ServerName = "127.0.0.1" // the client would look for a name with the port in the certificate
				c, err := azservicebus.NewClientFromConnectionString(s.ConnectionString(rule), &azservicebus.ClientOptions{TLSConfig: conf, CustomEndpoint: wire})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = c.Close(context.WithoutCancel(ctx)) })
				return c
			}
			from, to := client("sender"), client("listener")
			sender, err := from.NewSender(testQueue, nil)
			if err != nil {
				b.Fatal(err)
			}
			body := make([]byte, orderBody)
			message := func(n int) *azservicebus.Message {
				id := strconv.Itoa(n)
				return &azservicebus.Message{Body: body, MessageID: &id, PartitionKey: way.key, SessionID: way.session}
			}
			batch, err := sender.NewMessageBatch(ctx, nil) // which opens the link: some twenty times there and back
			if err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			for n := 0; n < b.N; {
				for ; n < b.N; n++ {
					if err := batch.AddMessage(message(n), nil); errors.Is(err, azservicebus.ErrMessageTooLarge) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
				if err := sender.SendMessageBatch(ctx, batch, nil); err != nil {
					b.Fatal(err)
				}
				if batch, err = sender.NewMessageBatch(ctx, nil); err != nil {
					b.Fatal(err)
				}
			}
			sent := time.Since(began)

			var receive func(most int) ([]*azservicebus.ReceivedMessage, error)
			var complete func(*azservicebus.ReceivedMessage) error
			if way.session != nil {
				r, err := to.AcceptSessionForQueue(ctx, testQueue, orderKey, nil)
				if err != nil {
					b.Fatal(err)
				}
				receive = func(most int) ([]*azservicebus.ReceivedMessage, error) { return r.ReceiveMessages(ctx, most, nil) }
				complete = func(m *azservicebus.ReceivedMessage) error { return r.CompleteMessage(ctx, m, nil) }
			} else {
				r, err := to.NewReceiverForQueue(testQueue, nil)
				if err != nil {
					b.Fatal(err)
				}
				receive = func(most int) ([]*azservicebus.ReceivedMessage, error) { return r.ReceiveMessages(ctx, most, nil) }
				complete = func(m *azservicebus.ReceivedMessage) error { return r.CompleteMessage(ctx, m, nil) }
			}
			highest, overtaken, seen := -1, 0, 0
			var settling sync.WaitGroup
			room := make(chan struct{}, orderSettled)
			take := func(most int) {
				list, err := receive(min(most, b.N-seen))
				if err != nil {
					b.Fatal(err)
				}
				seen += len(list)
				for _, m := range list {
					n, err := strconv.Atoi(m.MessageID)
					if err != nil {
						b.Fatal(err)
					}
					if n < highest {
						overtaken++
					}
					highest = max(highest, n)
					room <- struct{}{}
					settling.Go(func() {
						if err := complete(m); err != nil {
							b.Error(fmt.Errorf("complete message %d: %w", n, err))
						}
						<-room
					})
				}
			}
			take(1) // which opens the link
			began = time.Now()
			for seen < b.N {
				take(way.most)
			}
			settling.Wait()
			b.ReportMetric(float64(b.N)/sent.Seconds(), "sent/s")
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "received/s")
			b.ReportMetric(1000*float64(overtaken)/float64(b.N), "overtaken‰")
			b.ReportMetric(0, "ns/op") // both halves together say nothing
		})
	}
}

// far is addr at the other end of a long wire: whatever is said takes half of orderAway, either way.
func far(b *testing.B, addr string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", addr)
			if err != nil {
				near.Close()
				return
			}
			go carry(near, there)
			go carry(there, near)
		}
	}()
	return l.Addr().String()
}

// carry hands on what comes in, each piece at its time, and ends both ends with the one.
func carry(from, to net.Conn) {
	type piece struct {
		due  time.Time
		text []byte
	}
	wire := make(chan piece, 1<<12)
	go func() {
		defer to.Close()
		defer from.Close()
		for p := range wire {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.text); err != nil {
				break
			}
		}
		for range wire { // until the reader has noticed
		}
	}()
	defer close(wire)
	for buf := make([]byte, 64<<10); ; {
		n, err := from.Read(buf)
		if n > 0 {
			wire <- piece{time.Now().Add(orderAway / 2), slices.Clone(buf[:n])}
		}
		if err != nil {
			return
		}
	}
}
