package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jmlbridge/e2e/stage"
	"jmlbridge/internal/outbound/proxytest"
)

// An enclave has one way out: a proxy that wants a name and a password. Everything that the consumer does
// goes through it, by CONNECT: login, Graph, the mid-point and the key store.
func TestEverythingThroughAProxy(t *testing.T) {
	t.Parallel()
	p := proxytest.New(t, "bridge:let me out")
	secret := filepath.Join(t.TempDir(), "proxy.secret")
	if err := os.WriteFile(secret, []byte("bridge:let me out\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	way := fmt.Sprintf("proxy: %s, proxy_credentials: %q", p.URL(), secret)
	k := newKeyStore(t, way)
	ctx := t.Context()
	b, err := raise(ctx, k.dir, programs, stage.Config{ConsumerYAML: func(text string) string {
		return k.consumerYAML(k.replace(text, "proxy: none", way))
	}, ProducerYAML: func(text string) string {
		return k.producerYAML(text) + "transport: {" + way + "}\n"
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	if err := b.begin(ctx); err != nil {
		t.Fatal(err)
	}
	subject := b.joinFirst(ctx, t)
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

	host := func(address string) string {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil {
			t.Fatal(err)
		}
		return u.Host
	}
	queue, err := os.ReadFile(filepath.Join(b.EnclaveDir, "queue", "queue.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(queue), "tls://")
	midpoint := host(strings.FieldsFunc(string(queue)[at:], func(r rune) bool { return strings.ContainsRune(" \n]\"',", r) })[0])
	want := []string{host(b.Tenant.Authority), host(b.Tenant.GraphV1), midpoint, k.Host()}
	slices.Sort(want)
	want = slices.Compact(want)
	got := p.Asked()
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, want) || p.Refused() > 0 {
		t.Errorf("want tunnels to %q and nothing refused; got %q, %d refused", want, got, p.Refused())
	}
	for name, program := range map[string]*stage.Process{"consumer": b.Consumer, "producer": b.Producer} {
		s, err := stage.SocketsOf(program.PID())
		if errors.Is(err, stage.ErrNoProc) {
			t.Skipf("the programs' own connections cannot be seen: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Outbound) == 0 {
			t.Errorf("the %s has no connection", name)
		}
		for _, o := range s.Outbound {
			if !strings.HasSuffix(o, " "+p.Addr()) {
				t.Errorf("the %s has a connection past the proxy: %s", name, o)
			}
		}
	}
}

// The watch over the consumer's sockets would see a listener: it sees the mid-point's.
func TestListenersAreSeen(t *testing.T) {
	t.Parallel()
	ctx, b := up(t, programs, stage.Config{})
	b.watch(b.MidPoint)
	if err := b.MidPoint.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := stage.SocketsOf(b.MidPoint.PID()); errors.Is(err, stage.ErrNoProc) {
		t.Skipf("a listener cannot be seen here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	w := b.watched[0]
	b.watched = nil
	before := w.samples.Load() // some were taken before it listened, and one may be under way
	if err := b.until(ctx, "a sample of the mid-point's sockets", func() (bool, error) { return w.samples.Load() > before+1, nil }); err != nil {
		t.Fatal(err)
	}
	if err := w.end(); err == nil {
		t.Error("the mid-point listens, and it was not seen")
	}
}
