package main

import (
	"context"
	"fmt"
	"time"

	"jmlbridge/consumer/state"
	"jmlbridge/e2e/stage"
	"path/filepath"
)

const (
	memoryGoal = 150 << 20       // octets
	secondLife = 5 * time.Second // how long the restarted consumer works on the backlog
)

// memoryRow looks at the consumer that has taken everyone in and works on the backlog, and then at one
// that starts on the full database.
func memoryRow(ctx context.Context, s *stage.Stage, o *options) (*row, error) {
	o.progress("memory: everyone taken in")
	if err := everyone(ctx, s, o.people); err != nil {
		return nil, err
	}
	first, err := peakOf(s.Consumer.PID())
	if err != nil {
		return nil, err
	}
	o.progress("memory: started again")
	if err := s.Consumer.Stop(ctx); err != nil {
		return nil, err
	}
	if err := s.Consumer.Start(ctx); err != nil {
		return nil, err
	}
	t := time.NewTimer(secondLife)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	second, err := peakOf(s.Consumer.PID())
	if err != nil {
		return nil, err
	}
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	r := &row{Name: "memory", What: fmt.Sprintf("peak resident memory of consumer run, %s subjects", thousands(int64(o.people))),
		Ours: &measure{mib(max(first, second)), "MiB"}, Goal: fmt.Sprintf("< %d MiB", memoryGoal>>20), Met: max(first, second) < memoryGoal}
	r.note("while it took everyone in and worked on the backlog %.0f MiB; started again on the full database %.0f MiB", mib(first), mib(second))
	if o.people < 100_000 {
		r.note("the goal is for 100,000 subjects: -full")
	}
	return r, nil
}

// everyone waits until the consumer has at least n people in its database.
func everyone(ctx context.Context, s *stage.Stage, n int) error {
	db, err := state.OpenRead(filepath.Join(s.EnclaveDir, "consumer.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	return stage.Until(ctx, "everyone in the consumer's database", func() (bool, error) {
		var got int
		err := db.Read().QueryRowContext(ctx, "SELECT COUNT(*) FROM subject").Scan(&got)
		return got >= n, err
	})
}
