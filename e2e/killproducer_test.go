package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/stage"
	"jmlbridge/internal/ledger"
)

// TestKilledProducer kills the producer at every durable step of its own: while it imports, while it
// relays, while it publishes its ledger. What it accepted is said once, under one number; what it had not
// accepted is said by the next import. The enclave notices nothing but repetitions.
func TestKilledProducer(t *testing.T) {
	t.Parallel()
	quota := 48
	if testing.Short() {
		quota = 5
		t.Logf("-short: %d kills instead of 48", quota)
	}
	ctx, b := up(t, armed, stage.Config{Lease: time.Second})
	if err := b.MidPoint.Start(ctx); err != nil {
		t.Fatal(err)
	}
	b.watch(b.Consumer)
	if err := b.Consumer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(9, 1))
	staff := newWorkforce(9, 1000, 12)
	kills := tally{}
	var exports []string
	steps := append([]string{anyMoment}, producerSteps...)
	for _, s := range ledger.Steps {
		switch s {
		case ledger.StepArchive, ledger.StepArchiveRecorded, ledger.StepCopy: // the producer keeps neither here
		default:
			steps = append(steps, "ledger-"+string(s))
		}
	}
	for wave := 1; kills.total() < quota; wave++ {
		text := staff.export()
		exports = append(exports, text)
		file := filepath.Join(b.Dir, fmt.Sprintf("killed-%d.csv", wave))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		some := slices.Clone(steps)
		rnd.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		some = some[:len(some)/2]
		if wave%2 == 0 { // while the export still has something to say
			some[0] = "producer-stored"
		}
		for i, step := range some {
			killed, err := b.killProducer(ctx, rnd, step, file)
			if err != nil {
				t.Fatalf("wave %d, at %s: %v", wave, step, err)
			}
			if killed {
				kills[step]++
			}
			if i == 0 {
				if _, err := b.ProducerDo(ctx, "import", file); err != nil {
					t.Fatalf("import after a kill at %s: %v", step, err)
				}
			}
		}
		if r, err := b.ProducerDo(ctx, "import", file, "--dry-run", "-o", "json"); err != nil || !strings.Contains(r.Stdout, `"changes": []`) {
			t.Fatalf("wave %d: the import is done, and yet: %s %v", wave, r.Stdout, err)
		}
		if err := b.Producer.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := b.settled(ctx); err != nil {
			t.Fatal(err)
		}
		if err := b.Producer.Kill(); err != nil {
			t.Fatal(err)
		}
		staff.change(wave)
	}
	t.Logf("%d kills in %d waves:%s", kills.total(), len(exports), kills)
	if !testing.Short() {
		for _, step := range steps {
			if kills[step] == 0 {
				t.Errorf("never killed at %s", step)
			}
		}
	}
	if err := b.Producer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	got, err := b.Tenant.Comparable(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.whole(ctx, t); err != nil {
		t.Error(err)
	}

	ctx, quietly := up(t, armed, stage.Config{})
	if err := quietly.begin(ctx); err != nil {
		t.Fatal(err)
	}
	for _, text := range exports {
		if _, err := quietly.importText(ctx, text); err != nil {
			t.Fatal(err)
		}
		if err := quietly.settled(ctx); err != nil {
			t.Fatal(err)
		}
	}
	want, err := quietly.Tenant.Comparable(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("the tenant is another than without kills:\n%s", lineDiff(want, got))
	}
	wantDeeds, err := quietly.deeds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	gotDeeds, err := b.deeds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differ(once(wantDeeds), once(gotDeeds)) {
		t.Errorf("with kills: %s", d)
	}
}

// killProducer lets the producer be killed at a step: the import, where that is the step, else the relay.
func (b *bridge) killProducer(ctx context.Context, rnd *rand.Rand, step, file string) (killed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if step == "producer-stored" {
		cmd := exec.CommandContext(ctx, b.Programs.Producer, "-c", filepath.Join(b.Commercial, "producer.yaml"), "import", file)
		cmd.Env = append(os.Environ(), "JMLBRIDGE_CRASH="+step+":1")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit) && !exit.Exited():
			return true, nil
		case err == nil: // it had nothing to say any more
			return false, nil
		}
		return false, fmt.Errorf("%w\n%s", err, out)
	}
	b.Producer.Env = nil
	if step != anyMoment {
		b.Producer.Env = []string{"JMLBRIDGE_CRASH=" + step + ":1"}
	}
	defer func() { b.Producer.Env = nil }()
	if _, err := b.Producer.Launch(); err != nil {
		return false, err
	}
	if step == anyMoment {
		after := time.NewTimer(time.Duration(rnd.Int64N(int64(500 * time.Millisecond))))
		<-after.C
		return true, b.Producer.Kill()
	}
	err = b.Producer.Wait(ctx) // the next heartbeat gets there, if nothing else does
	var exit *stage.ExitError
	if errors.As(err, &exit) && exit.Code < 0 {
		return true, nil
	}
	return false, fmt.Errorf("the producer ended and was not killed: %w\n%s", err, b.Producer.Last(10))
}
