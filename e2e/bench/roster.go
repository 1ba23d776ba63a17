package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"jmlbridge/consumer/intake"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/queue"
	"jmlbridge/schema"
)

const rosterGoal = 1.5 // times reading it once

// rosterRow takes in and applies the daily roster of an enclave in which nothing has changed. The limit reads the same
// parts once: it verifies, decrypts and decodes them. Both are processor time, for a roster may take its time on the
// clock and shares the machine with what cuts.
func rosterRow(ctx context.Context, o *options) (_ []*row, err error) {
	g, err := natsRig(ctx, filepath.Join(o.dir, "roster"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.enclave(ctx); err != nil {
		return nil, err
	}
	from, to, t := g.from, g.to, g.tap

	for left := o.people; left > 0; { // in pieces that the mid-point holds
		o.progress("roster: %d people still to join", left)
		n := min(left, rosterJoins)
		if err := from.join(ctx, n); err != nil {
			return nil, err
		}
		if err := from.relay(ctx, t); err != nil {
			return nil, err
		}
		if err := to.takeIn(ctx, g.rec, n); err != nil {
			return nil, err
		}
		left -= n
	}
	t.take()
	var ours, limit []spent
	var parts, octets int
	var before, peak int64                       // resident memory
	for round := 0; round <= o.rounds; round++ { // round 0 warms up: the first roster after what it states is folded
		o.progress("roster: round %d of %d", round, o.rounds)
		if _, err := from.box.Roster(ctx, audience, 0); err != nil {
			return nil, err
		}
		if err := from.relay(ctx, t); err != nil {
			return nil, err
		}
		msgs := t.take()
		apply := func() (spent, error) {
			had, unknown := newPeak()
			s, err := meter(g.queue, func() error { return to.takeRoster(ctx, g.rec, len(msgs)) })
			if most, perr := peakOf(os.Getpid()); unknown == nil && perr == nil && most > peak {
				before, peak = had, most
			}
			return s, err
		}
		read := func() (spent, error) { return meter(g.queue, func() error { return to.readRoster(msgs) }) }
		var a, b spent
		if round%2 == 0 {
			if a, err = apply(); err == nil {
				b, err = read()
			}
		} else if b, err = read(); err == nil {
			a, err = apply()
		}
		if err == nil {
			err = to.unchanged(o.people)
		}
		if err != nil {
			return nil, err
		}
		if round > 0 {
			ours, limit, parts, octets = append(ours, a), append(limit, b), len(msgs), 0
			for _, m := range msgs {
				octets += len(m.Body)
			}
		}
	}
	cpu := func(s spent) time.Duration { return s.own.all() }
	wall := func(s spent) time.Duration { return s.wall }
	r := &row{Name: "roster", What: fmt.Sprintf("processor time to take in and apply a roster of %s people that changes nothing, beside reading it once", thousands(int64(o.people))),
		Ours: seconds(middle(ours, cpu)), Limit: seconds(middle(limit, cpu)), Goal: fmt.Sprintf("≤ %.1f", rosterGoal)}
	r.Ratio = r.Ours.Value / r.Limit.Value
	r.Met = r.Ratio <= rosterGoal
	var ratios []float64
	for i := range ours {
		ratios = append(ratios, cpu(ours[i]).Seconds()/cpu(limit[i]).Seconds())
	}
	r.note("%d rounds in turns; %s parts, %s octets on the wire in all; ratios of the single rounds: %.2f to %.2f", o.rounds, thousands(int64(parts)), thousands(int64(octets)), slices.Min(ratios), slices.Max(ratios))
	r.note("on the clock %.3g s, from the first part fetched to the roster applied and on the ledger; reading it on one core %.3g s", middle(ours, wall).Seconds(), middle(limit, wall).Seconds())
	if peak > 0 {
		r.note("meanwhile the process, in which the producer and all messages are too, had at most %d MiB resident, %d MiB more than before", peak>>20, (peak-before)>>20)
	}
	if o.people < 100_000 {
		r.note("the goal is for 100,000 people: -full")
	}
	return []*row{r}, nil
}

// rosterJoins is how many people join before they are taken in.
const rosterJoins = 20_000

// takeRoster takes n parts in and applies the roster that they are.
func (r *receiver) takeRoster(ctx context.Context, q intake.Queue, n int) error {
	in, err := r.run(ctx, q, n)
	for more := err == nil; more && err == nil; {
		more, err = in.StepRoster(ctx)
	}
	return err
}

// readRoster reads every part once, on one core, and does nothing else.
func (r *receiver) readRoster(msgs []queue.Message) error {
	for _, m := range msgs {
		opened, err := envelope.Open(m.Body, r.ring, r.trust)
		if err != nil {
			return err
		}
		set, err := schema.Decode(opened.Payload)
		if err != nil {
			return err
		}
		if _, ok := set.Event.(*schema.Roster); !ok {
			return fmt.Errorf("want parts of a roster alone, got a %s", set.Event.Kind())
		}
	}
	return nil
}

// unchanged checks that the last roster was applied whole, and found nothing new.
func (r *receiver) unchanged(people int) error {
	list, err := state.Rosters(r.db.Read(), 1)
	if err != nil {
		return err
	}
	if len(list) != 1 || list[0].State != state.RosterApplied || list[0].Named != people || list[0].Changed != 0 || list[0].Unnamed != 0 {
		return fmt.Errorf("want a roster applied that names %d people and changes nothing, got %+v", people, list)
	}
	return nil
}
