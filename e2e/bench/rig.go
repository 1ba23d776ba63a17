package main

import (
	"context"
	"errors"
	"path/filepath"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/internal/queue/natsqueue"
)

// rig is what a row measures between: a mid-point in a process of its own, and a producer's outbox that publishes to it. An
// enclave that receives from it is there once the row asks for one, for a waiting receiver takes part in what the mid-point does.
type rig struct {
	dir     string
	keys    pair
	queue   *queueProcess
	from    *sender
	to      *receiver      // with rec, the enclave
	rec     queue.Receiver // what is not there yet is nil
	tap     *tap           // on the way from the outbox to the mid-point
	receive func() (queue.Receiver, error)
	opened  []func() error // closes what was opened, the last first
}

// natsRig has the embedded mid-point.
func natsRig(ctx context.Context, dir string) (*rig, error) {
	q, err := startMidpoint(ctx, dir)
	if err != nil {
		return nil, err
	}
	return newRig(ctx, dir, q,
		func() (queue.Publisher, error) { return natsqueue.OpenPublisher(q.producer) },
		func() (queue.Receiver, error) { return natsqueue.OpenReceiver(q.consumer) })
}

// rig has a Service Bus namespace, spoken to by a child process, as the programs do.
func (b *bus) rig(ctx context.Context) (*rig, error) {
	return newRig(ctx, b.dir, &b.queueProcess,
		func() (queue.Publisher, error) { return anyqueue.OpenPublisher(b.config("sender", ""), silent) },
		func() (queue.Receiver, error) { return anyqueue.OpenReceiver(b.config("listener", ""), nil, silent) })
}

// newRig ends q with the rig, and where it fails.
func newRig(ctx context.Context, dir string, q *queueProcess, publish func() (queue.Publisher, error), receive func() (queue.Receiver, error)) (_ *rig, err error) {
	g := &rig{dir: dir, queue: q, receive: receive, opened: []func() error{q.stop}}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if g.keys, err = newPair(); err != nil {
		return nil, err
	}
	if g.from, err = newSender(ctx, filepath.Join(dir, "sender"), g.keys); err != nil {
		return nil, err
	}
	g.opened = append(g.opened, g.from.db.Close)
	pub, err := publish()
	if err != nil {
		return nil, err
	}
	g.opened = append(g.opened, pub.Close)
	g.tap = &tap{to: pub}
	return g, nil
}

// enclave makes one that receives.
func (g *rig) enclave(ctx context.Context) (err error) {
	if g.to, err = newReceiver(ctx, filepath.Join(g.dir, "receiver"), g.keys); err != nil {
		return err
	}
	g.opened = append(g.opened, g.to.db.Close)
	if g.rec, err = g.receive(); err != nil {
		return err
	}
	g.opened = append(g.opened, g.rec.Close)
	return nil
}

func (g *rig) close() (err error) {
	for ; len(g.opened) > 0; g.opened = g.opened[:len(g.opened)-1] {
		err = errors.Join(err, g.opened[len(g.opened)-1]())
	}
	return err
}
