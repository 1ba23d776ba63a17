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
)

// An enclave has one way out: a proxy that wants a name and a password. Everything that the consumer does
// goes through it, by CONNECT: login, Graph and the mid-point.
func TestEverythingThroughAProxy(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "bridge", "let me out")
	secret := filepath.Join(t.TempDir(), "proxy.secret")
	if err := os.WriteFile(secret, []byte("bridge:let me out\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, b := up(t, programs, stage.Config{ConsumerYAML: func(text string) string {
		with := strings.Replace(text, "proxy: none", fmt.Sprintf("proxy: http://%s, proxy_credentials: %q", p.addr, secret), 1)
		if with == text {
			t.Error("found no place for the proxy")
		}
		return with
	}})
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
	want := []string{host(b.Tenant.Authority), host(b.Tenant.GraphV1), midpoint}
	slices.Sort(want)
	want = slices.Compact(want)
	if got, rejected := p.through(); !slices.Equal(got, want) || rejected > 0 {
		t.Errorf("want tunnels to %q and nothing rejected; got %q, %d rejected", want, got, rejected)
	}
	s, err := stage.SocketsOf(b.Consumer.PID())
	if errors.Is(err, stage.ErrNoProc) {
		t.Skipf("the consumer's own connections cannot be seen: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Outbound) == 0 {
		t.Error("the consumer has no connection")
	}
	for _, o := range s.Outbound {
		if !strings.HasSuffix(o, " "+p.addr) {
			t.Errorf("the consumer has a connection past the proxy: %s", o)
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
	if err := b.until(ctx, "a sample of the mid-point's sockets", func() (bool, error) { return w.samples.Load() > 1, nil }); err != nil {
		t.Fatal(err)
	}
	if err := w.end(); err == nil {
		t.Error("the mid-point listens, and it was not seen")
	}
}
