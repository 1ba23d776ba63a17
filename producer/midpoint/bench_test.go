package midpoint_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/producer/midpoint"
)

const benchBatch = 500

// BenchmarkFetchSettle drains a filled mid-point in batches of 500, everything settled and confirmed.
func BenchmarkFetchSettle(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	made, err := midpoint.Init(b.Context(), filepath.Join(b.TempDir(), "mp"), midpoint.Setup{
		Hosts: []string{"127.0.0.1"}, Listen: "127.0.0.1:0", Enclaves: []string{"GOV-1"},
	}, log)
	if err != nil {
		b.Fatal(err)
	}
	cfg := readConfig(b, made.Config)
	cfg.Enclaves[0].MaxMiB = 8 << 10
	srv, err := midpoint.Start(b.Context(), cfg, log)
	if err != nil {
		b.Fatal(err)
	}
	defer srv.Stop()
	pub, err := natsqueue.OpenPublisher(readQueue(b, made.Producers["GOV-1"], srv.Addr()))
	if err != nil {
		b.Fatal(err)
	}
	defer pub.Close()
	body := make([]byte, 4<<10)
	rand.Read(body)
	msgs := make([]queue.Message, b.N)
	for i := range msgs {
		msgs[i] = queue.Message{ID: fmt.Sprint(i), Body: body}
	}
	if _, err := pub.Publish(context.Background(), msgs); err != nil {
		b.Fatal(err)
	}
	rec, err := natsqueue.OpenReceiver(readQueue(b, made.Consumers["GOV-1"], srv.Addr()))
	if err != nil {
		b.Fatal(err)
	}
	defer rec.Close()
	b.SetBytes(int64(len(body)))
	b.ResetTimer()
	for left := b.N; left > 0; {
		batch, err := rec.Fetch(context.Background(), min(left, benchBatch))
		if err != nil {
			b.Fatal(err)
		}
		if err := rec.Settle(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
		left -= len(batch)
	}
}
