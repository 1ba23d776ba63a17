package e2e

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/stage"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// TestCluster sends people across a mid-point of three NATS servers. The one that leads the stream is killed in the middle
// of a delivery and comes back later, then another one. Both programs go on with the servers that are left, on their own; in
// the end the tenant is as after the same exports over a mid-point that nobody disturbed, nothing was done twice, and the
// enclave's ledger has every message that the producer's has, once.
func TestCluster(t *testing.T) {
	t.Parallel()
	ctx, b := up(t, programs, stage.Config{Queue: stage.Cluster, Lease: time.Second})
	if err := b.begin(ctx); err != nil {
		t.Fatal(err)
	}
	staff := newWorkforce(11, 1000, 40)
	var exports []string
	say := func() {
		t.Helper()
		exports = append(exports, staff.export())
		if _, err := b.importText(ctx, staff.export()); err != nil {
			t.Fatal(err)
		}
		staff.change(len(exports))
	}
	settled := func() {
		t.Helper()
		if err := b.settled(ctx); err != nil {
			t.Fatal(err)
		}
	}
	leader := func() *stage.Process {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		p, err := b.Leader(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	say()
	settled()
	b.doctors(ctx, t, "3 keep the stream")

	var killed []*stage.Process
	for range 2 {
		victim := leader()
		if slices.Contains(killed, victim) { // it leads again; another one is to go
			victim = b.Nodes[slices.IndexFunc(b.Nodes, func(n *stage.Process) bool { return n != victim })]
		}
		mark := b.Consumer.Mark()
		say()
		if _, err := b.wait(ctx, "the first message of an export", mark, func(l stage.Line) bool {
			return l.Has("received", "disposition", "admitted") && l.String("subject") != ""
		}); err != nil {
			t.Fatal(err)
		}
		if err := victim.Kill(); err != nil {
			t.Fatal(err)
		}
		killed = append(killed, victim)
		settled()
		say() // with two servers
		settled()
		b.doctors(ctx, t, victim.Name+" is ") // away, or so many messages behind
		if err := victim.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	leader() // all three have everything again
	say()
	if err := b.whole(ctx, t); err != nil {
		t.Error(err)
	}
	b.carried(ctx, t)
	for _, n := range b.Nodes {
		for _, l := range n.Lines(0) {
			if strings.Contains(l.Text, "critical write error") {
				t.Errorf("%s has given up its copy of the stream: %s", n.Name, l.Text)
			}
		}
	}
	got, err := b.Tenant.Comparable(ctx)
	if err != nil {
		t.Fatal(err)
	}
	gotDeeds, err := b.deeds(ctx)
	if err != nil {
		t.Fatal(err)
	}

	ctx, quietly := up(t, programs, stage.Config{})
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
		t.Errorf("the tenant is another than over a mid-point that nobody disturbed:\n%s", lineDiff(want, got))
	}
	wantDeeds, err := quietly.deeds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differ(once(wantDeeds), once(gotDeeds)) {
		t.Errorf("over the cluster: %s", d)
	}
}

// doctors asks both programs' doctors until their finding on replicas says this: the servers notice each other's state
// with a delay.
func (b *bridge) doctors(ctx context.Context, t *testing.T, says string) {
	t.Helper()
	for name, do := range map[string]func(context.Context, ...string) (*stage.Result, error){"producer": b.ProducerDo, "consumer": b.ConsumerDo} {
		last := &stage.Result{}
		if err := b.until(ctx, name+" doctor to say "+says, func() (bool, error) {
			r, err := do(ctx, "doctor")
			var exit *stage.ExitError
			if err != nil && !errors.As(err, &exit) {
				return false, err
			}
			last = r
			return strings.Contains(r.Stdout, says), nil
		}); err != nil {
			t.Errorf("%v\n%s", err, last.Stdout)
		}
	}
}

// carried holds the consumer's published ledger against the producer's: whatever was sent up to the enclave's head was taken in
// once, with the payload that was sent.
func (b *bridge) carried(ctx context.Context, t *testing.T) {
	t.Helper()
	sent, err := b.Sent.Entries(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	took, err := b.Ledger.Entries(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	times, head := map[schema.Digest]int{}, uint64(0)
	for _, e := range took {
		if r, ok := e.Body.(*entry.Received); ok && r.Disposition != entry.DispositionDuplicate {
			times[r.Payload]++
			head = max(head, r.Seq)
		}
	}
	n := 0
	for _, e := range sent {
		if s, ok := e.Body.(*entry.Sent); ok && s.Seq <= head {
			if n++; times[s.Payload] != 1 {
				t.Errorf("message %d was sent once and taken in %d times", s.Seq, times[s.Payload])
			}
			delete(times, s.Payload)
		}
	}
	if n == 0 || len(times) > 0 {
		t.Errorf("%d messages were sent; %d that were not were taken in", n, len(times))
	}
	t.Logf("%d messages sent and taken in once", n)
}
