package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger/entry"
)

// TestKilledAcrossNetworks sends 10,000 events across three networks while programs are killed at moments that
// chance chooses: producer, mid-point, the enclave's way out and consumer, each started again at once, as a
// container is. In between, the mid-point is cut off from the enclave for a while, and the tenant refuses
// every connection: it stands for Microsoft's, which is nobody's to kill. In the end tenant and ledger say
// the same of everyone as after a run of the same exports that nobody disturbed, on one machine without any of it.
func TestKilledAcrossNetworks(t *testing.T) {
	people, events := 3500, 10_000
	if testing.Short() {
		people, events = 60, 150
		t.Logf("-short: %d events instead of 10,000", events)
	} else if end, ok := t.Deadline(); ok && time.Until(end) < 2*waveTime {
		people, events = 350, 1000
		t.Logf("the deadline of these tests leaves no room on a slow machine: %d events instead of 10,000, which -timeout 30m gives", events)
	}
	const seed = 11
	busy := func(c stage.Config) stage.Config { // as fast as the programs let themselves be, with the journal kept whole
		c.Workers, c.Writes, c.Rehires, c.Lease = 32, 1000, 100_000, time.Second
		c.Sandbox = []string{"-journal-keep", "1000000"}
		return c
	}
	l := newLab(t)
	ctx, b := up(t, programs, busy(stage.Config{Network: l.network()}))
	tap := l.tap()
	out := l.egress(b)
	b.watchEnclave(out)
	if err := out.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(ctx); err != nil {
		t.Fatal(err)
	}
	storm := &trouble{lab: l, bridge: b, rnd: rand.New(rand.NewPCG(seed, 2)), done: tally{},
		programs: []*stage.Process{b.Producer, b.MidPoint, out, b.Consumer}}
	staff := newWorkforce(seed, 10_000, people)
	var exports, states []string
	for wave, said := 1, 0; said < events; wave++ {
		text := staff.export()
		if _, err := b.importText(ctx, text); err != nil {
			t.Fatal(err)
		}
		exports = append(exports, text)
		if err := storm.until(ctx, b.done); err != nil {
			t.Fatalf("wave %d, after %s: %v", wave, storm.done, err)
		}
		if err := b.settledIn(ctx, waveTime); err != nil {
			t.Fatalf("wave %d, after %s: %v", wave, storm.done, err)
		}
		state, err := b.Tenant.Comparable(ctx)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, state)
		if err := b.published(ctx); err != nil {
			t.Fatal(err)
		}
		entries, err := b.Ledger.Entries(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		said = len(messages(entries))
		staff.change(wave)
	}
	t.Logf("%d exports of %d people; in the meantime:%s", len(exports), people, storm.done)
	for _, p := range storm.programs {
		if !testing.Short() && storm.done["kill "+p.Name] == 0 {
			t.Errorf("%s was never killed", p.Name)
		}
	}
	odd, frames := tap.found()
	if lost, err := tap.lost(); err != nil || lost > 0 || frames == 0 || len(odd) > 0 {
		t.Errorf("on the enclave's wire, of %d frames (missed: %d, %v): %q", frames, lost, err, odd)
	}
	if err := b.whole(ctx, t, covered); err != nil {
		t.Error(err)
	}

	ctx, quietly := up(t, programs, busy(stage.Config{}))
	if err := quietly.begin(ctx); err != nil {
		t.Fatal(err)
	}
	for i, text := range exports {
		if _, err := quietly.importText(ctx, text); err != nil {
			t.Fatal(err)
		}
		if err := quietly.settledIn(ctx, waveTime); err != nil {
			t.Fatal(err)
		}
		state, err := quietly.Tenant.Comparable(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if state != states[i] {
			t.Fatalf("after export %d the tenant is another than undisturbed:\n%s", i+1, lineDiff(state, states[i]))
		}
	}
	if err := quietly.whole(ctx, t); err != nil {
		t.Error(err)
	}
	var did [2]map[string]int
	var read [2][]stage.Entry
	for i, x := range []*bridge{quietly, b} {
		list, err := x.deeds(ctx)
		if err != nil {
			t.Fatal(err)
		}
		did[i] = once(list)
		if read[i], err = x.Ledger.Entries(ctx, 0); err != nil {
			t.Fatal(err)
		}
	}
	// Not only what everything ends in is the same: nothing was done twice on the way there.
	if d := differ(did[0], did[1]); len(d) > 0 {
		t.Errorf("in the tenant, %d operations were done more often or less often than undisturbed, such as %q", len(d), d[:min(len(d), 20)])
	}
	if want, got := messages(read[0]), messages(read[1]); len(differ(want, got)) > 0 {
		t.Errorf("on the ledger, other messages than undisturbed: %q", differ(want, got))
	}
	if want, got := ends(read[0]), ends(read[1]); len(differ(want, got)) > 0 {
		t.Errorf("on the ledger, other operations than undisturbed: %q", differ(want, got))
	}
}

// waveTime is for all of one export to be done on a busy machine.
const waveTime = 5 * time.Minute

// messages is every admitted message about a person, as subject, engagement and event: numbers differ from run to
// run, since heartbeats take some too. What came twice counts once.
func messages(list []stage.Entry) map[string]int {
	n := map[string]int{}
	seen := map[uint64]bool{}
	for _, e := range list {
		if r, ok := e.Body.(*entry.Received); ok && r.Subject != "" && !seen[r.Seq] {
			seen[r.Seq] = true
			n[fmt.Sprint(r.Subject, " ", r.Engagement, " ", r.Event)]++
		}
	}
	return n
}

// ends is every operation that an outcome calls done, once a person, and every one of which it knows no end: one that
// a kill interrupted, or whose answer was lost. How often it had to be tried is chance, and where it had been done
// the next look shows it and nothing is done again. The tenant's journal says that each was, once.
func ends(list []stage.Entry) map[string]int {
	n := map[string]int{}
	intents := map[int64]*entry.Intent{}
	for _, e := range list {
		switch b := e.Body.(type) {
		case *entry.Intent:
			intents[e.Index] = b
		case *entry.Outcome:
			for _, r := range b.Results {
				open := r.Result == entry.ResultFailed && r.Code == directory.CodeLostAnswer
				switch r.Result {
				case entry.ResultApplied, entry.ResultAlready, entry.ResultFound, entry.ResultInterrupted:
					open = true
				}
				if open {
					op := intents[b.Intent].Ops[r.N-1]
					n[strings.Join([]string{b.Subject, op.Op, op.Target}, " ")] = 1
				}
			}
		}
	}
	return n
}

// trouble is what befalls a bridge.
type trouble struct {
	*lab
	bridge   *bridge
	programs []*stage.Process
	rnd      *rand.Rand
	done     tally
	next     []func(context.Context) (string, error) // what is left of a shuffle of all that can happen
}

// rounds is how often everything befalls a bridge for one export: more would keep a slow machine from getting on.
const rounds = 4

// until makes trouble until done says that everything is, or all rounds have been, and mends what it broke.
func (x *trouble) until(ctx context.Context, done func(context.Context) (bool, error)) error {
	for range rounds * (len(x.programs) + 2) {
		if ok, err := done(ctx); ok || err != nil {
			return err
		}
		moment := time.NewTimer(time.Duration(100+x.rnd.IntN(900)) * time.Millisecond)
		select {
		case <-moment.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if len(x.next) == 0 {
			for _, p := range x.programs {
				x.next = append(x.next, func(ctx context.Context) (string, error) {
					return "kill " + p.Name, errors.Join(p.Kill(), p.Start(ctx))
				})
			}
			x.next = append(x.next, x.severed, x.refused)
			x.rnd.Shuffle(len(x.next), func(i, j int) { x.next[i], x.next[j] = x.next[j], x.next[i] })
		}
		what, err := x.next[0](ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		x.done[what]++
		x.next = x.next[1:]
	}
	return nil
}

// severed cuts the mid-point off from the enclave for a while.
func (x *trouble) severed(ctx context.Context) (string, error) {
	x.cut("egress", "midpoint")
	defer x.join("egress", "midpoint")
	return "cut mid-point from enclave", x.pass(ctx, 1000, 3000)
}

// refused lets the tenant refuse connections for a while.
func (x *trouble) refused(ctx context.Context) (string, error) {
	if err := x.bridge.Tenant.Outage(ctx, tenant.Refused); err != nil {
		return "outage of the tenant", err
	}
	return "outage of the tenant", errors.Join(x.pass(ctx, 200, 1000), x.bridge.Tenant.Outage(ctx, tenant.NoOutage))
}

// pass lets some milliseconds go by.
func (x *trouble) pass(ctx context.Context, from, to int) error {
	moment := time.NewTimer(time.Duration(from+x.rnd.IntN(to-from)) * time.Millisecond)
	select {
	case <-moment.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
