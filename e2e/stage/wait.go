package stage

import (
	"context"
	"fmt"
	"time"
)

// pollEvery is how often a condition on files or on the sandbox is looked at.
const pollEvery = 20 * time.Millisecond

// Until looks at a condition until it holds. When ctx ends before, the error names what was waited for.
func Until(ctx context.Context, what string, holds func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, err := holds()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}
