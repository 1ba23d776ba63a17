package broker_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/e2e/servicebus/entity"
)

const benchBody = 2 << 10 // bytes

// Batches of 100 go in from four senders.
func BenchmarkSend(b *testing.B) {
	s := start(b, broker.Config{})
	c := client(b, s, "sender")
	body := make([]byte, benchBody)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.SetBytes(benchBody)
	b.ResetTimer()
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			to := sender(b, c, "jml")
			for n := 0; left.Add(-100) > -100; n++ {
				batch, err := to.NewMessageBatch(b.Context(), nil)
				if err != nil {
					b.Error(err)
					return
				}
				for k := range 100 {
					id := fmt.Sprint(i, n, k)
					if err := batch.AddMessage(&azservicebus.Message{Body: body, MessageID: &id}, nil); err != nil {
						b.Error(err)
						return
					}
				}
				if err := to.SendMessageBatch(b.Context(), batch, nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// Messages come out to four receivers, 100 at a time, and are completed in parallel.
func BenchmarkReceiveComplete(b *testing.B) {
	for _, tt := range []struct {
		name string
		make func(testing.TB, *broker.Broker, string) *azservicebus.Client
	}{
		{"amqps", client},
		{"websocket", func(t testing.TB, s *broker.Broker, rule string) *azservicebus.Client {
			return webClient(t, s, rule, "AMQPWSB10")
		}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			s := start(b, broker.Config{})
			to := sender(b, client(b, s, "sender"), "jml")
			body := make([]byte, benchBody)
			n := (b.N + 99) / 100 * 100
			for range n / 100 {
				batch, err := to.NewMessageBatch(b.Context(), nil)
				if err != nil {
					b.Fatal(err)
				}
				for range 100 {
					if err := batch.AddMessage(&azservicebus.Message{Body: body}, nil); err != nil {
						b.Fatal(err)
					}
				}
				if err := to.SendMessageBatch(b.Context(), batch, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(benchBody)
			b.ResetTimer()
			ctx, stop := context.WithCancel(b.Context())
			defer stop()
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() {
					r := receiver(b, tt.make(b, s, "listener"), "jml", nil)
					for ctx.Err() == nil {
						list, err := r.ReceiveMessages(ctx, 100, nil)
						if err != nil {
							return
						}
						var settle sync.WaitGroup
						for _, m := range list {
							settle.Go(func() {
								if err := r.CompleteMessage(b.Context(), m, nil); err != nil {
									b.Error(err)
								}
							})
						}
						settle.Wait()
					}
				})
			}
			if err := s.WaitFor(limited(b), "jml", func(c entity.Counts) bool { return c.Completed == n }); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msgs/s")
			stop()
			group.Wait()
		})
	}
}
