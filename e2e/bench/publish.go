package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
)

const publishGoal = 0.8

// publishRow lets the relay empty a filled outbox, up to the last message marked as sent. The limit
// publishes the same octets with nats.go alone, asynchronously with all of the library's window, to the
// same stream of the same server.
func publishRow(ctx context.Context, o *options) (_ []*row, err error) {
	g, err := natsRig(ctx, filepath.Join(o.dir, "publish"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	raw, err := newRaw(g.queue.producer)
	if err != nil {
		return nil, err
	}
	defer raw.nc.Close()
	from, t := g.from, g.tap

	n := o.messages / o.rounds
	var ours, limit []spent
	var octets int
	for round := 0; round <= o.rounds; round++ { // round 0 warms up
		o.progress("publish: round %d of %d", round, o.rounds)
		if err := from.say(ctx, n); err != nil {
			return nil, err
		}
		// In turns: in every second round the library goes first, with the octets of the round before.
		var a, b spent
		relay := func() error {
			a, err = meter(g.queue, func() error { return from.relay(ctx, t) })
			return err
		}
		alone := func() error {
			b, err = meter(g.queue, func() error { return raw.publish(ctx, fmt.Sprintf("raw-%d", round), t.msgs) })
			return err
		}
		if round%2 == 0 {
			t.take()
			err = errors.Join(relay(), alone())
		} else {
			err = errors.Join(alone(), func() error { t.take(); return relay() }())
		}
		if err != nil {
			return nil, err
		}
		if len(t.msgs) != n {
			return nil, fmt.Errorf("want %d messages relayed, got %d", n, len(t.msgs))
		}
		if round > 0 {
			ours, limit = append(ours, a), append(limit, b)
			for _, m := range t.msgs {
				octets += len(m.Body)
			}
		}
	}
	r := &row{Name: "publish", What: "outbox → mid-point → marked as sent, beside nats.go alone", Goal: fmt.Sprintf("≥ %.1f", publishGoal)}
	r.Ours, r.Limit, r.Ratio = rates(n, ours, limit)
	r.Met = r.Ratio >= publishGoal
	r.note("%d rounds of %s messages in turns, %s octets each; one server, every write synced before it is confirmed", o.rounds, thousands(int64(n)), thousands(int64(octets/(n*o.rounds))))
	r.spread(ours, limit)
	var a, b, am, bm cpu
	for i := range ours {
		a, b, am, bm = a.plus(ours[i].own), b.plus(limit[i].own), am.plus(ours[i].midpoint), bm.plus(limit[i].midpoint)
	}
	us := func(c cpu) float64 { return float64(c.all().Nanoseconds()) / 1e3 / float64(n*len(ours)) }
	r.note("processor time a message: relay %.0f µs and mid-point %.0f µs; nats.go alone %.0f µs and %.0f µs", us(a), us(am), us(b), us(bm))
	return []*row{r}, nil
}

// raw is nats.go as anyone would use it to publish much, with the producer's credential.
type raw struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	subject string
}

func newRaw(c natsqueue.Config) (*raw, error) {
	key, err := nats.NkeyOptionFromSeed(c.NKey)
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(c.URL[0], nats.RootCAs(c.CA), key, nats.CustomInboxPrefix(natsqueue.InboxOf(natsqueue.RoleProducer, c.Stream)))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &raw{nc, js, c.Subject}, nil
}

func (r *raw) publish(ctx context.Context, run string, msgs []queue.Message) error {
	futures := make([]jetstream.PubAckFuture, len(msgs))
	for i, m := range msgs {
		f, err := r.js.PublishAsync(r.subject, m.Body, jetstream.WithMsgID(fmt.Sprintf("%s-%d", run, i)), jetstream.WithStallWait(roundTime))
		if err != nil {
			return err
		}
		futures[i] = f
	}
	select {
	case <-r.js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(roundTime):
		return errors.New("nats.go alone: not everything was confirmed")
	}
	for _, f := range futures {
		select {
		case err := <-f.Err():
			return fmt.Errorf("nats.go alone: %w", err)
		default:
		}
	}
	return nil
}
