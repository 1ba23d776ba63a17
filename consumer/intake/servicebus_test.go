package intake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/busqueue"
	"jmlbridge/internal/queue/memqueue"
)

// Over Service Bus, messages are settled several at once, and none before it is durably ours.
func TestSettlesInParallelAfterTheCommit(t *testing.T) {
	const n, before = 60, 15 // messages, and how many settlements go through until somebody looks
	w, p := setup(t)
	b, err := broker.Start(broker.Config{Queues: []broker.Queue{{Name: "jml", Lock: time.Minute}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	dir := t.TempDir()
	config := func(rule string) busqueue.Config {
		file := filepath.Join(dir, rule)
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "ca.pem"), b.CA(), 0o600), os.WriteFile(file, []byte(b.ConnectionString(rule)), 0o600)); err != nil {
			t.Fatal(err)
		}
		return busqueue.Config{Namespace: b.Host(), Queue: "jml", CA: filepath.Join(dir, "ca.pem"), ConnectionFile: file, Proxy: "none"}
	}
	pub, err := busqueue.OpenPublisher(config("sender"))
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	list := make([]queue.Message, n)
	for i := range list {
		list[i] = queue.Message{ID: fmt.Sprint(i), Body: p.joiner(fmt.Sprint(i), 1).wire}
	}
	if _, err := pub.Publish(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AddFaults(broker.Fault{On: broker.OnSettle, Kind: broker.Delay, Gate: "settle", Skip: before}); err != nil {
		t.Fatal(err)
	}
	rec, err := busqueue.OpenReceiver(config("listener"))
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	r := w.run(memqueue.New(memqueue.Options{}), func(c *Config) { c.Queue, c.Limits.Batch = rec, n })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const atOnce = 2
	if err := b.WaitHeld(ctx, "settle", atOnce); err != nil {
		t.Fatal(err)
	}
	if head := w.stream().Head; head < before+atOnce {
		t.Errorf("%d messages are being settled or were, and %d are on record", before+atOnce, head)
	}
	b.RemoveFault("")
	b.Release("settle")
	r.until("an empty queue", func() bool { c, _ := b.Counts("jml"); return c.Active+c.Locked == 0 })
	r.stop()
	r.end()
}
