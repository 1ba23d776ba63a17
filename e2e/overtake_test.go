package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
)

// A leaver comes behind hundreds of joiners that the tenant's quota lets through slowly. Whoever is being
// created at that moment is finished; nobody else is begun before the leaver is out.
func TestLeaverOvertakesJoiners(t *testing.T) {
	t.Parallel()
	const joiners, workers = 300, 8
	ctx, b := up(t, programs, stage.Config{Workers: workers, Writes: 20, Sandbox: []string{"-quotas"}})
	if err := b.begin(ctx); err != nil {
		t.Fatal(err)
	}
	leaver := b.joinFirst(ctx, t)
	crowd := newWorkforce(3, 2000, joiners)
	if _, err := b.importText(ctx, crowd.export()); err != nil {
		t.Fatal(err)
	}
	created := 0
	if _, err := b.wait(ctx, "a few joiners", 0, func(l stage.Line) bool {
		if l.Has("applied", "op", "create") {
			created++
		}
		return created > 20
	}); err != nil {
		t.Fatal(err)
	}
	mark := b.Consumer.Mark()
	if _, err := b.ProducerDo(ctx, "emit", "leaver", leaver, "--reason", "termination"); err != nil {
		t.Fatal(err)
	}
	known, err := b.wait(ctx, "the leaver to come in", mark, func(l stage.Line) bool { return l.Has("received", "event", "leaver:v1", "subject", leaver) })
	if err != nil {
		t.Fatal(err)
	}
	cut, err := b.wait(ctx, "the cut", mark, func(l stage.Line) bool {
		return l.Has("applied", "subject", leaver, "op", "revoke-sessions", "result", "applied")
	})
	if err != nil {
		t.Fatal(err)
	}
	begun := 0
	for _, l := range b.Consumer.Lines(known.N) {
		if l.N < cut.N && l.Has("planned", "lane", "give") {
			begun++
		}
	}
	t.Logf("cut %v after it came in; %d joiners were begun in between", cut.Time.Sub(known.Time), begun)
	// One look at the database may have been under way when the leaver was written to it.
	if begun > workers {
		t.Errorf("%d joiners were begun before the leaver was cut; want at most what one look finds for %d workers", begun, workers)
	}
	state, err := b.Tenant.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(state.Users); n > joiners/2 {
		t.Errorf("%d accounts are there already: there was no backlog to overtake", n)
	}
	if u := state.User("first.leaver@" + stage.Domain); u == nil || u.Enabled || !u.SessionsRevoked {
		t.Errorf("the leaver's account: %+v", u)
	}
}

// The quota of the application that gives is used up, and the tenant answers 429 for minutes to come. The
// leaver is cut all the same, by the other application.
func TestLeaverWhileGrantsAreThrottled(t *testing.T) {
	t.Parallel()
	ctx, b := up(t, programs, stage.Config{Sandbox: []string{"-write-quota", "60"}})
	if err := b.begin(ctx); err != nil {
		t.Fatal(err)
	}
	leaver := b.joinFirst(ctx, t)
	if _, err := b.importText(ctx, newWorkforce(4, 2000, 200).export()); err != nil {
		t.Fatal(err)
	}
	throttled := func(e tenant.Entry) bool { return e.App == "grant" && e.Status == http.StatusTooManyRequests }
	if err := b.until(ctx, "the grants to be throttled", func() (bool, error) {
		journal, err := b.Tenant.Journal(ctx, 0)
		return slices.ContainsFunc(journal, throttled), err
	}); err != nil {
		t.Fatal(err)
	}
	mark := b.Consumer.Mark()
	if _, err := b.ProducerDo(ctx, "emit", "leaver", leaver, "--reason", "termination"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.wait(ctx, "the cut", mark, func(l stage.Line) bool {
		return l.Has("applied", "subject", leaver, "op", "revoke-sessions", "result", "applied")
	}); err != nil {
		t.Fatal(err)
	}
	state, err := b.Tenant.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(state.Users); n > 100 {
		t.Errorf("%d accounts are there already: nothing was throttled", n)
	}
	if u := state.User("first.leaver@" + stage.Domain); u == nil || u.Enabled || !u.SessionsRevoked {
		t.Errorf("the leaver's account: %+v", u)
	}
}

// joinFirst lets one person join and returns the id.
func (b *bridge) joinFirst(ctx context.Context, t *testing.T) (subject string) {
	t.Helper()
	subject = "1001"
	if _, err := b.say(ctx, stage.Row{ID: subject, Given: "First", Family: "Leaver", Roles: "soc-analyst"}); err != nil {
		t.Fatal(err)
	}
	if err := b.settled(ctx); err != nil {
		t.Fatal(err)
	}
	return subject
}

// wait is the consumer's WaitFor with a deadline.
func (b *bridge) wait(ctx context.Context, what string, after int, match func(stage.Line) bool) (stage.Line, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, err := b.Consumer.WaitFor(ctx, what, after, match)
	if err != nil {
		return l, fmt.Errorf("%w\n%s", err, b.Consumer.Last(10))
	}
	return l, nil
}

// until is stage.Until with a deadline.
func (b *bridge) until(ctx context.Context, what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return stage.Until(ctx, what, holds)
}
