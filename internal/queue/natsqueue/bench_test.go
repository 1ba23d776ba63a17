package natsqueue_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
)

const (
	benchBody  = 4 << 10 // octets: one padded event, sealed
	benchBatch = 500
)

func benchMessages(n int) []queue.Message {
	body := make([]byte, benchBody)
	rand.Read(body)
	run := rand.Text()
	out := make([]queue.Message, n)
	for i := range out {
		out[i] = queue.Message{ID: fmt.Sprintf("%s-%d", run, i), Body: body}
	}
	return out
}

// BenchmarkPublish is ours against what nats.go does by itself (PublishAsync, then wait for the
// batch), turn by turn on the same server, every write synced. One operation is a batch of 500 each.
func BenchmarkPublish(b *testing.B) {
	s := newServer(b, nil)
	s.create(time.Minute, func(c *jetstream.StreamConfig) { c.MaxBytes = 8 << 30 })
	conf := s.config(natsqueue.RoleProducer)
	p := openPublisher(b, conf)
	key, err := nats.NkeyOptionFromSeed(conf.NKey)
	if err != nil {
		b.Fatal(err)
	}
	nc, err := nats.Connect(conf.URL[0], nats.RootCAs(conf.CA), key)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	var ours, raw time.Duration
	for b.Loop() {
		msgs := benchMessages(benchBatch)
		start := time.Now()
		if _, err := p.Publish(context.Background(), msgs); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(start)

		msgs = benchMessages(benchBatch)
		start = time.Now()
		for _, m := range msgs {
			if _, err := js.PublishAsync(testSubject, m.Body, jetstream.WithMsgID(m.ID)); err != nil {
				b.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
		raw += time.Since(start)
	}
	n := float64(b.N * benchBatch)
	b.ReportMetric(n/ours.Seconds(), "ours/s")
	b.ReportMetric(n/raw.Seconds(), "raw/s")
	b.ReportMetric(raw.Seconds()/ours.Seconds(), "ratio")
}

// BenchmarkFetchSettle drains a filled work queue in batches, everything settled and confirmed.
func BenchmarkFetchSettle(b *testing.B) {
	for _, policy := range []jetstream.RetentionPolicy{jetstream.WorkQueuePolicy, jetstream.LimitsPolicy} {
		b.Run(policy.String(), func(b *testing.B) {
			s := newServer(b, nil)
			s.create(time.Minute, func(c *jetstream.StreamConfig) { c.MaxBytes, c.Retention = 8<<30, policy })
			if _, err := openPublisher(b, s.config(natsqueue.RoleProducer)).Publish(context.Background(), benchMessages(b.N)); err != nil {
				b.Fatal(err)
			}
			r := openReceiver(b, s.config(natsqueue.RoleConsumer))
			b.SetBytes(benchBody)
			b.ResetTimer()
			for left := b.N; left > 0; {
				batch, err := r.Fetch(context.Background(), min(left, benchBatch))
				if err != nil {
					b.Fatal(err)
				}
				if err := r.Settle(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
				left -= len(batch)
			}
		})
	}
}
