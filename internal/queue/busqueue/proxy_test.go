package busqueue_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/outbound/proxytest"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/busqueue"
)

// By a proxy with a password everything crosses, on either transport. A wrong password is said, with the proxy's
// answer and without the password.
func TestProxy(t *testing.T) {
	for _, transport := range []string{busqueue.AMQP, busqueue.WebSocket} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := newBus(t, broker.Queue{})
			p := proxytest.New(t, "user:p@ss")
			config := func(rule, credentials string) busqueue.Config {
				c := s.config(rule)
				c.Transport, c.Proxy = transport, p.URL()
				c.ProxyCredentials = filepath.Join(t.TempDir(), "proxy.secret")
				write(t, c.ProxyCredentials, credentials+"\n", 0o600)
				return c
			}
			if n, err := s.publisher(config("sender", "user:p@ss")).Publish(limited(t), messages(0, 3)); n != 3 || err != nil {
				t.Fatalf("publish: %d, %v", n, err)
			}
			r := s.receiver(config("listener", "user:p@ss"))
			for n := 0; n < 3; {
				got, err := r.Fetch(limited(t), 3)
				if err != nil {
					t.Fatalf("fetch: %v", err)
				}
				if err := r.Settle(limited(t), got); err != nil {
					t.Fatalf("settle: %v", err)
				}
				n += len(got)
			}
			asked := p.Asked()
			// The name goes to the proxy as it stands: inside a closed network only the proxy can resolve it.
			if len(asked) < 2 || slices.ContainsFunc(asked, func(a string) bool { return a != s.Host() }) {
				t.Errorf("the proxy was asked for %q; expected %s from either side", asked, s.Host())
			}

			c := config("sender", "user:guessed")
			c.Patience = 500 * time.Millisecond
			_, err := s.publisher(c).Publish(limited(t), messages(3, 4))
			if !errors.Is(err, queue.ErrUnreachable) || !strings.Contains(err.Error(), "CONNECT "+s.Host()+" answered 407") {
				t.Fatalf("wrong password: %v; expected ErrUnreachable with the proxy's answer", err)
			}
			if strings.Contains(err.Error(), "guessed") {
				t.Errorf("a password is in %q", err)
			}
		})
	}
}
