package e2e

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/stage"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
)

// Where the programs can be killed: every durable step has a name (package crash). The list must be whole,
// which TestEveryStepIsNamed sees to.
var (
	consumerSteps = append([]string{"intake-opened", "intake-written", "intake-committed", "intake-settled", "roster-step",
		"intent-durable", "operation-done", "operations-done", "outcome-durable"}, ledgerSteps()...)
	producerSteps = []string{"producer-stored", "producer-published", "producer-marked"}
)

func ledgerSteps() (names []string) {
	for _, s := range ledger.Steps {
		names = append(names, "ledger-"+string(s))
	}
	return names
}

// TestEveryStepIsNamed finds the points in the programs' source.
func TestEveryStepIsNamed(t *testing.T) {
	found := map[string]bool{}
	for _, dir := range []string{"../consumer", "../producer", "../internal"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				fn, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || len(call.Args) != 1 || fn.Sel.Name != "Point" {
					return true
				}
				if pkg, ok := fn.X.(*ast.Ident); !ok || pkg.Name != "crash" {
					return true
				}
				switch arg := call.Args[0].(type) {
				case *ast.BasicLit:
					found[strings.Trim(arg.Value, `"`)] = true
				default: // "ledger-" and the step
					for _, s := range ledgerSteps() {
						found[s] = true
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := append(slices.Clone(consumerSteps), producerSteps...)
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Errorf("the programs can be killed at\n%q\nand are killed at\n%q", got, want)
	}
}

// tally counts kills by step.
type tally map[string]int

func (t tally) total() (n int) {
	for _, k := range t {
		n += k
	}
	return n
}

func (t tally) String() string {
	var b strings.Builder
	for _, step := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(&b, "\n  %4d %s", t[step], step)
	}
	return b.String()
}

// anyMoment is the kill that no name chooses.
const anyMoment = "any moment"

// TestKilledConsumer kills the consumer at every named durable step, many times, and at moments that
// chance chooses, while people come, move and go. It is started again each time, on what the kill left. In
// the end the tenant is as after a run of the same exports without kills; no account was made and no
// membership changed twice; and the ledger is whole.
func TestKilledConsumer(t *testing.T) {
	quota := 105 // of each of two bridges
	if testing.Short() {
		quota = 11
		t.Logf("-short: %d kills of each of two consumers instead of 105", quota)
	}
	for _, seed := range []uint64{7, 8} {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			killedConsumer(t, seed, quota)
		})
	}
}

func killedConsumer(t *testing.T, seed uint64, quota int) {
	const people = 14
	ctx, b := up(t, armed, killConfig())
	if err := b.MidPoint.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Producer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	b.watch(b.Consumer)

	rnd := rand.New(rand.NewPCG(seed, 1))
	staff := newWorkforce(seed, 1000, people)
	kills := tally{}
	var exports, states []string
	steps := append(slices.Clone(consumerSteps), anyMoment, anyMoment)
	var order []string // what is left of a shuffle of steps, so that all are reached alike
	for wave := 1; kills.total() < quota; wave++ {
		text := staff.export()
		if _, err := b.importText(ctx, text); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ProducerDo(ctx, "roster"); err != nil { // so that there is one to die in
			t.Fatal(err)
		}
		exports = append(exports, text)
		for kills.total() < quota {
			if len(order) == 0 {
				order = slices.Clone(steps)
				rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			}
			step := order[0]
			died, err := b.killAt(ctx, rnd, step)
			if err != nil {
				t.Fatalf("wave %d, after %d kills, at %s: %v", wave, kills.total(), step, err)
			}
			if !died {
				break // nothing left to do that would get there
			}
			kills[step]++
			order = order[1:]
		}
		if err := b.Consumer.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := b.settled(ctx); err != nil {
			t.Fatalf("wave %d: %v", wave, err)
		}
		state, err := b.Tenant.Comparable(ctx)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, state)
		if err := b.Consumer.Kill(); err != nil {
			t.Fatal(err)
		}
		staff.change(wave)
	}
	t.Logf("%d kills in %d waves of %d people:%s", kills.total(), len(exports), people, kills)
	if !testing.Short() {
		for _, step := range consumerSteps {
			if kills[step] < 3 {
				t.Errorf("killed at %s only %d times", step, kills[step])
			}
		}
	}
	if err := b.Consumer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.whole(ctx, t, covered); err != nil {
		t.Error(err)
	}

	// The same without a kill.
	ctx, quietly := up(t, armed, killConfig())
	if err := quietly.begin(ctx); err != nil {
		t.Fatal(err)
	}
	for i, text := range exports {
		if _, err := quietly.importText(ctx, text); err != nil {
			t.Fatal(err)
		}
		if err := quietly.settled(ctx); err != nil {
			t.Fatal(err)
		}
		state, err := quietly.Tenant.Comparable(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if state != states[i] {
			t.Fatalf("after export %d the tenant is another than without kills:\n%s", i+1, lineDiff(state, states[i]))
		}
	}
	want, err := quietly.deeds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.deeds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differ(once(want), once(got)) {
		t.Errorf("with kills: %s", d)
	}
	if err := quietly.whole(ctx, t); err != nil {
		t.Error(err)
	}
}

// killConfig is a bridge in which there is always something under way: the tenant takes its time, and what
// was pulled and not settled comes again soon.
func killConfig() stage.Config {
	return stage.Config{Lease: time.Second, Workers: 4, Sandbox: []string{"-latency", "8ms"}, LedgerInterval: 5 * time.Millisecond}
}

// killAt starts the consumer and lets it be killed at a visit of step that chance chooses. It says whether
// that came to pass: where everything is done and the step was not reached it kills it all the same.
func (b *bridge) killAt(ctx context.Context, rnd *rand.Rand, step string) (died bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	seq, _, err := b.announced(ctx)
	if err != nil {
		return false, err
	}
	visit := 1
	switch {
	case strings.HasPrefix(step, "intake-"), step == "ledger-"+string(ledger.StepPlaces): // seldom more than one in a run
	case strings.HasPrefix(step, "ledger-"):
		visit += rnd.IntN(2)
	default:
		visit += rnd.IntN(4)
	}
	if step != anyMoment {
		b.Consumer.Env = []string{fmt.Sprintf("JMLBRIDGE_CRASH=%s:%d", step, visit)}
	}
	defer func() { b.Consumer.Env = nil }()
	if _, err := b.Consumer.Launch(); err != nil {
		return false, err
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Consumer.Wait(ctx) }()
	var moment <-chan time.Time
	if step == anyMoment {
		moment = time.After(time.Duration(rnd.Int64N(int64(400 * time.Millisecond))))
	}
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			var exit *stage.ExitError
			if errors.As(err, &exit) && exit.Code < 0 {
				return true, nil
			}
			return false, fmt.Errorf("the consumer ended and was not killed: %w\n%s", err, b.Consumer.Last(10))
		case <-moment:
			return true, b.Consumer.Kill()
		case <-look.C:
			quiet, err := b.quiet(seq)
			if err != nil {
				return false, err
			}
			if quiet {
				// What it still does, publishing and the next heartbeats, can get there only at other steps.
				if strings.HasPrefix(step, "intake-") || strings.HasPrefix(step, "ledger-") {
					continue
				}
				return false, b.Consumer.Kill()
			}
		}
	}
}

// TestAKillAlarmsNobody kills the consumer while it holds messages that are not committed. What is sent next comes
// before they come again: that is no gap to wake somebody for.
func TestAKillAlarmsNobody(t *testing.T) {
	t.Parallel()
	ctx, b := up(t, armed, stage.Config{Lease: 5 * time.Second})
	if err := b.begin(ctx); err != nil {
		t.Fatal(err)
	}
	leaver := b.joinFirst(ctx, t)
	if err := b.Consumer.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ProducerDo(ctx, "emit", "leaver", leaver, "--reason", "termination"); err != nil {
		t.Fatal(err)
	}
	if died, err := b.killAt(ctx, rand.New(rand.NewPCG(1, 1)), "intake-opened"); err != nil || !died {
		t.Fatalf("killed: %t, %v", died, err)
	}
	if _, err := b.say(ctx, stage.Row{ID: "1002", Given: "Second", Family: "Joiner", Roles: "soc-analyst"}); err != nil {
		t.Fatal(err)
	}
	mark := b.Consumer.Mark()
	if err := b.Consumer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.wait(ctx, "what came behind the gap", mark, func(l stage.Line) bool { return l.Has("received", "disposition", "gap") }); err != nil {
		t.Fatal(err)
	}
	if err := b.whole(ctx, t); err != nil {
		t.Error(err)
	}
	entries, err := b.Ledger.Entries(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if a, ok := e.Body.(*entry.Alarm); ok && a.Code == "gap" {
			t.Errorf("want no alarm of a gap on the ledger, got %+v", a)
		}
	}
}

// covered is the notice that a roster stands in for messages that did not come: those which a killed consumer had
// fetched come again after their lease, and a roster may come before them.
const covered = "gap-covered hr#1@https://iam.mssp.example/jml"

// again is the notice that many messages came again, as they do after a crash, and when the machine is too busy
// to settle them within their lease.
const again = "flood replay"

// whole stops both programs, and holds what they leave against others' tools: nothing is missing, nothing
// was lost or refused. Alarms that may stand beside the notice of repetitions are given by code and key.
func (b *bridge) whole(ctx context.Context, t *testing.T, may ...string) error {
	t.Helper()
	if err := b.settled(ctx); err != nil {
		return err
	}
	if err := b.unalarmed(ctx, may...); err != nil {
		return err
	}
	for _, p := range []*stage.Process{b.Consumer, b.Producer} {
		if err := p.Stop(ctx); err != nil {
			return fmt.Errorf("stop %s: %w", p.Name, err)
		}
	}
	for name, l := range map[string]*stage.Ledger{"consumer": b.Ledger, "producer": b.Sent} {
		if err := runFsck(ctx, filepath.Join(l.Dir, "tiles"), l.Key); err != nil {
			return fmt.Errorf("fsck of the %s's ledger: %w", name, err)
		}
	}
	r, err := b.AuditorDo(ctx, "verify", b.Ledger.Dir, "--ledger-key", filepath.Join(b.AuditorDir, "ledger.vkey"), "--trust", b.Card)
	if err != nil {
		return fmt.Errorf("auditor: %w\n%s", err, r.Stdout)
	}
	if r, err := b.AuditorDo(ctx, "verify", b.Sent.Dir, "--ledger-key", b.Sent.Key, "--tiles-only"); err != nil {
		return fmt.Errorf("auditor, on the producer's ledger: %w\n%s", err, r.Stdout)
	}
	return nil
}

// unalarmed waits until no alarm stands but the notice of repetitions and those that may: one of a connection that was
// lost, or of a machine that was too slow for a heartbeat, ends by itself.
func (b *bridge) unalarmed(ctx context.Context, may ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var stand []string
	err := stage.Until(ctx, "no alarm to stand", func() (bool, error) {
		all, err := b.alarms()
		stand = slices.DeleteFunc(all, func(a string) bool { return a == again || slices.Contains(may, a) })
		return len(stand) == 0, err
	})
	if err != nil {
		return fmt.Errorf("%w; these stand: %q", err, stand)
	}
	return nil
}

// lineDiff shows the lines in which two texts differ.
func lineDiff(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			fmt.Fprintf(&out, "line %d\n  want %s\n  got  %s\n", i+1, x, y)
		}
		if out.Len() > 2000 {
			break
		}
	}
	return out.String()
}
