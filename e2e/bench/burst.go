package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"jmlbridge/e2e/stage"
)

const (
	burstGoal     = 1.05 // times the disables alone, one after the other as the tenant's quota lets them
	throttledGoal = 0.01 // of all requests, answered 429
	fullBurst     = 10_000
	heldLimit     = 10 // cuts an hour, where the limit is to hold them
)

// burstRow lets everybody leave at once where the policy's limits allow it.
func burstRow(ctx context.Context, o *options) (_ []*row, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime+2*alone(o.burst))
	defer cancel()
	b, err := newBurst(ctx, o, "leavers-burst", 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := b.leave(ctx); err != nil {
		return nil, err
	}
	signed, err := signedAt(ctx, b.Stage, b.said, b.people[0])
	if err != nil {
		return nil, err
	}
	return b.measure(ctx, signed, "signed")
}

// heldRow is burstRow where the limit of cuts holds them, and an operator releases what is held.
func heldRow(ctx context.Context, o *options) (_ []*row, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime+2*alone(o.burst))
	defer cancel()
	b, err := newBurst(ctx, o, "leavers-held", heldLimit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := b.leave(ctx); err != nil {
		return nil, err
	}
	o.progress("leavers-held: all of them held")
	if err := b.counted(ctx, "everyone held or cut", `SELECT COUNT(*) FROM subject WHERE note LIKE 'held:%' OR counted = rev AND lane <> 1`); err != nil {
		return nil, err
	}
	out, err := b.ConsumerDo(ctx, "holds", "list", "-o", "json")
	if err != nil {
		return nil, err
	}
	var holds []struct{ ID, Digest string }
	if err := json.Unmarshal([]byte(out.Stdout), &holds); err != nil {
		return nil, fmt.Errorf("read the holds: %w", err)
	}
	begun := time.Now()
	for _, h := range holds {
		if _, err := b.ConsumerDo(ctx, "holds", "release", h.ID, "--digest", h.Digest, "--reason", "all of them leave"); err != nil {
			return nil, err
		}
	}
	b.note = fmt.Sprintf("%d holds, released one after the other in %s", len(holds), short(time.Since(begun)))
	return b.measure(ctx, begun, "released")
}

// alone is what the quota takes for one write for each of n people.
func alone(n int) time.Duration { return time.Duration(n) * time.Second / writes }

// burst is a crowd in a tenant that has Graph's quotas, and that is about to leave.
type burst struct {
	*crowd
	seen *watcher
	used cpu // of the consumer, by then
	note string
}

// newBurst makes it, with so many cuts an hour; 0: more than anybody needs.
func newBurst(ctx context.Context, o *options, name string, cutPerHour int) (_ *burst, err error) {
	b := new(burst)
	if b.crowd, err = newCrowd(ctx, o, name, o.burst, stage.Config{CutPerHour: cutPerHour}, "-quotas", "-quota-users", fmt.Sprint(o.burst)); err != nil {
		return nil, err
	}
	if err = b.plant(ctx); err == nil {
		err = b.join(ctx)
	}
	if err == nil {
		b.seen, err = watch(ctx, b.Stage)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	b.used, _ = cpuOf(b.Consumer.PID()) // zero where it cannot be read
	return b, nil
}

// measure waits for the last disable. The limit is what the quota takes for the disables alone.
func (b *burst) measure(ctx context.Context, from time.Time, since string) ([]*row, error) {
	disabled := map[string]bool{}
	var last time.Time
	requests, throttled, others := 0, 0, 0
	err := stage.Until(ctx, "everyone disabled", func() (bool, error) {
		if err := b.seen.read(ctx); err != nil {
			return false, err
		}
		for _, e := range b.seen.seen {
			requests++
			if e.Status == 429 {
				throttled++
			}
			for _, c := range e.Changes {
				switch {
				case c.Op == "update" && c.Set["accountEnabled"] == false:
					disabled[c.ID] = true
					last = e.Time.Add(b.o.latency)
				case len(disabled) < len(b.people):
					others++
				}
			}
		}
		b.seen.seen = nil
		b.o.progress("%s: %s of %s disabled", b.name, thousands(int64(len(disabled))), thousands(int64(len(b.people))))
		return len(disabled) == len(b.people), nil
	})
	if err != nil {
		return nil, err
	}
	used, _ := cpuOf(b.Consumer.PID())
	n := len(b.people)
	took, bound := last.Sub(from), alone(n)
	r := &row{Name: b.name, What: fmt.Sprintf("%s leavers at once, %s → last one disabled, beside the disables alone at the tenant's quota", thousands(int64(n)), since),
		Ours: seconds(took), Limit: seconds(bound), Ratio: took.Seconds() / bound.Seconds(), Goal: fmt.Sprintf("≤ %.2f, 429 < %.0f %%", burstGoal, 100*throttledGoal)}
	share := float64(throttled) / float64(requests)
	r.Met = r.Ratio <= burstGoal && share < throttledGoal
	r.note("%d of %s requests were answered 429 (%.2f %%); %d changes other than disables before the last of these", throttled, thousands(int64(requests)), 100*share, others)
	r.note("the limit is %d writes/s, Graph's 3,000 in 150 s; every answer of the tenant takes %s", writes, b.o.latency)
	if b.note != "" {
		r.note("%s", b.note)
	}
	if cost := used.all() - b.used.all(); cost > 0 {
		r.note("from the leavers' export to the last disable the consumer used %s of processor time, %.1f ms a leaver", short(cost), cost.Seconds()*1000/float64(n))
	}
	if n < fullBurst {
		r.note("the goal is for %s leavers: -full", thousands(fullBurst))
	}
	return []*row{r}, b.Stop(ctx)
}
