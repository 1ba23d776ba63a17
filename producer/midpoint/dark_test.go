package midpoint_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/producer/midpoint"
)

// A stream that is pulled dark is read as often as anyone likes, from wherever; it outlives a restart, and what
// is older than it is kept is not there any more.
func TestDark(t *testing.T) {
	s := newSetup(t, func(c *midpoint.Config) {
		dark(c)
		c.Enclaves[0].Keep, c.Enclaves[0].DuplicateWindow = 2*time.Second, time.Second
	})
	s.start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pub, err := natsqueue.OpenPublisher(s.client(s.made.Producers["GOV-1"]))
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	say := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if _, err := pub.Publish(ctx, []queue.Message{{ID: fmt.Sprint(i), Body: fmt.Append(nil, i)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(from queue.Position, n int) (all []queue.Delivery) {
		t.Helper()
		d, err := natsqueue.OpenDark(s.client(s.made.Consumers["GOV-1"]), from)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for len(all) < n {
			batch, err := d.Fetch(ctx, 10)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Settle(ctx, batch); err != nil {
				t.Fatal(err)
			}
			all = append(all, batch...)
		}
		return all
	}
	say(0, 3)
	first := read(nil, 3)
	if again := read(nil, 3); string(again[0].Body) != "0" {
		t.Fatalf("want it read once more from the beginning, got %q", again[0].Body)
	}
	// Until all of it is too old, and then what came later: the numbers in between are missing, and that is
	// for whoever follows the chain inside to see.
	for {
		probe, err := natsqueue.OpenDark(s.client(s.made.Consumers["GOV-1"]), nil)
		if err != nil {
			t.Fatal(err)
		}
		short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
		_, err = probe.Fetch(short, 10)
		stop()
		probe.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil || ctx.Err() != nil {
			t.Fatalf("want what was kept to go by its age, got %v", err)
		}
	}
	say(3, 5)
	if late := read(first[0].Position, 2); string(late[0].Body) != "3" || string(late[1].Body) != "4" {
		t.Fatalf("want what is left, got %q and %q", late[0].Body, late[1].Body)
	}
}
