package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/stage"
)

// TestNothingReachesTheEnclave looks at the wire. While a bridge works across three networks, an outsider on the
// commercial side, the producer's machine and the mid-point's try to reach every machine of the enclave, by
// routes through whoever stands on two networks. Not one packet of theirs is on the enclave's wire, nothing
// inside is dialled but the way out and the tenant, and nobody inside listens where the mid-point could hear it.
func TestNothingReachesTheEnclave(t *testing.T) { nothingReaches(t, newLab(t), stage.NATS, 1<<16-1) }

// TestNothingReachesTheEnclaveByServiceBus looks at the same with another mid-point, where children of the programs speak to it;
// of the ports it tries a few.
func TestNothingReachesTheEnclaveByServiceBus(t *testing.T) {
	b := nothingReaches(t, newLab(t), stage.ServiceBus, 0)
	for _, w := range b.watched {
		if w.name == "consumer" && w.children.Load() == 0 {
			t.Error("the process that speaks to the mid-point was never looked at")
		}
	}
}

// nothingReaches tries every port up to a number where the way out has one foot outside, of those up to 1024 everywhere, and
// in any case the ports that programs like ours have.
func nothingReaches(t *testing.T, l *lab, queue string, ports int) *bridge {
	ctx, b := up(t, programs, stage.Config{Network: l.network(), Queue: queue})
	tap := l.tap()
	out := l.egress(b)
	b.watchEnclave(out)
	if err := out.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(ctx); err != nil {
		t.Fatal(err)
	}
	subject := b.joinFirst(ctx, t)

	// Everyone's best way in: a route through each machine that stands on their network and on another one.
	routes := map[string]string{"outsider": producerOutside, "producer": egressOutside, "midpoint": egressOutside}
	for name, via := range routes {
		l.ip("-n", l.mark+name, "route", "add", enclaveOfMachine, "via", via)
	}
	l.ip("-n", l.mark+"outsider", "route", "add", midpointNet+"0/24", "via", producerOutside)

	var likely, all []int
	for port := 1; port <= 1<<16-1; port++ {
		known := port <= min(1024, ports) || slices.Contains([]int{22, 80, 443, egressPort, stage.MidPointPort, stage.ServiceBusPort, 5672, 8080, 8443, 9090, 9100}, port)
		if known {
			likely = append(likely, port)
		}
		if known || port <= ports {
			all = append(all, port)
		}
	}
	for name := range routes {
		for _, address := range []string{egressInside, tenantAt, consumerAt} {
			open, answered := l.scan(name, address, likely, 50*time.Millisecond)
			if address == egressInside && name != "outsider" { // the machine itself answers, for all its addresses; no port is open
				answered = nil
			}
			if len(open)+len(answered) > 0 {
				t.Errorf("from %s, %s: open %v, answered %v", name, address, open, answered)
			}
			if err := l.throw(name, address, likely); err != nil {
				t.Fatalf("from %s to %s: %v", name, address, err)
			}
		}
	}
	// The way out has one foot outside: it has no door there, neither at its outer nor at its inner address.
	for _, address := range []string{egressOutside, egressInside} {
		open, answered := l.scan("midpoint", address, all, time.Second)
		if len(open) > 0 || len(answered) != len(all) {
			t.Errorf("the way out, at %s from the mid-point: open %v, %d of %d ports answered", address, open, len(answered), len(all))
		}
	}
	b.leaves(ctx, t, subject) // and meanwhile the bridge does its work
	odd, frames := tap.found()
	if lost, err := tap.lost(); err != nil || lost > 0 || frames == 0 || len(odd) > 0 {
		t.Errorf("on the enclave's wire, of %d frames (missed: %d, %v): %q", frames, lost, err, odd)
	}
	t.Logf("%d frames on the enclave's wire, all of them between its own machines", frames)

	// The same scan finds a door where there is one, and the same eyes see a packet that comes in.
	if open, _ := l.scan("consumer", egressInside, all, time.Second); !slices.Equal(open, []int{egressPort}) {
		t.Errorf("the way out, from the enclave: want %d open, got %v", egressPort, open)
	}
	l.sysctl("egress", "net/ipv4/ip_forward", "1")
	if err := l.throw("midpoint", consumerAt, []int{9}); err != nil {
		t.Fatal(err)
	}
	err := b.until(ctx, "a forwarded packet to be seen", func() (bool, error) {
		odd, _ := tap.found()
		return slices.ContainsFunc(odd, func(what string) bool {
			return strings.HasPrefix(what, fmt.Sprintf("a packet from %s to %s ", midpointAt, consumerAt))
		}), nil
	})
	if err != nil {
		t.Error(err)
	}
	return b
}

// watchEnclave watches every program in the enclave: what listens there, listens on the enclave's own network.
func (b *bridge) watchEnclave(out *stage.Process) {
	b.watch(b.Consumer)
	b.watch(out, "tcp "+b.Network.Proxy)
	b.watch(b.Sandbox, "tcp6 [00000000000000000000000000000000]:"+strconv.Itoa(stage.TenantPort), "unix "+filepath.Join(b.TenantDir, "control.sock"))
}

// leaves lets somebody leave, and waits until the tenant says that they are out.
func (b *bridge) leaves(ctx context.Context, t *testing.T, subject string) {
	t.Helper()
	if _, err := b.ProducerDo(ctx, "emit", "leaver", subject, "--reason", "termination"); err != nil {
		t.Fatal(err)
	}
	if err := b.settled(ctx); err != nil {
		t.Fatal(err)
	}
	state, err := b.Tenant.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if u := state.User("first.leaver@" + stage.Domain); u == nil || u.Enabled || !u.SessionsRevoked {
		t.Errorf("the leaver's account: %+v", u)
	}
}
