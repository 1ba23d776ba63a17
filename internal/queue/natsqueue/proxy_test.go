package natsqueue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/outbound/proxytest"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
)

// secret is a file with the proxy's user and password.
func secret(t *testing.T, line string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.secret")
	if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProxy(t *testing.T) {
	s := newServer(t, nil)
	s.create(time.Minute, nil)
	p := proxytest.New(t, "user:p@ss")

	c := s.config(natsqueue.RoleProducer)
	c.Proxy, c.ProxyCredentials = p.URL(), secret(t, "user:p@ss")
	if _, err := openPublisher(t, c).Publish(t.Context(), []queue.Message{{ID: "1", Body: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	// The name goes to the proxy as it stands: inside a closed network only the proxy can resolve it.
	if got, want := p.Asked(), []string{strings.TrimPrefix(s.url(), "tls://")}; !slices.Equal(got, want) {
		t.Fatalf("the proxy was asked for %q; expected %q", got, want)
	}

	c.ProxyCredentials, c.Patience = secret(t, "user:wrong"), 500*time.Millisecond
	_, err := openPublisher(t, c).Publish(t.Context(), []queue.Message{{ID: "2", Body: []byte("x")}})
	if !errors.Is(err, queue.ErrUnreachable) || !strings.Contains(err.Error(), "407") {
		t.Fatalf("wrong proxy password: %v; expected ErrUnreachable that tells the proxy's answer", err)
	}
	if strings.Contains(err.Error(), "wrong") {
		t.Fatalf("the error shows the proxy's password: %v", err)
	}
}

// Publishing fails in both ways; afterwards every message is there once and in order.
func TestPublishAnswerLost(t *testing.T) {
	for _, kept := range []bool{false, true} {
		t.Run(map[bool]string{false: "lost", true: "done, but the answer was lost"}[kept], func(t *testing.T) {
			s := newServer(t, nil)
			s.create(time.Minute, nil)
			p := proxytest.New(t, "")
			c := s.config(natsqueue.RoleProducer)
			c.Proxy = p.URL()
			pub := openPublisher(t, c)
			msgs := benchMessages(40)
			for i := range msgs {
				msgs[i].Body = []byte{byte(i)}
			}
			if n, err := pub.Publish(t.Context(), msgs[:10]); n != 10 || err != nil {
				t.Fatal(n, err)
			}
			lost := &p.Requests
			if kept {
				lost = &p.Answers
			}
			lost.Store(true)
			failed := make(chan error, 1)
			go func() {
				n, err := pub.Publish(t.Context(), msgs[10:])
				if n != 0 {
					err = fmt.Errorf("%d confirmed by nobody (%v)", n, err)
				}
				failed <- err
			}()
			<-p.Lost // an answer, or the request itself, is gone
			p.Cut()
			if err := <-failed; !errors.Is(err, queue.ErrUnreachable) {
				t.Fatalf("connection cut: %v; expected ErrUnreachable", err)
			}
			if n, err := pub.Publish(t.Context(), msgs[10:]); n != 30 || err != nil {
				t.Fatalf("publish again: %d, %v", n, err)
			}
			rec := openReceiver(t, s.config(natsqueue.RoleConsumer))
			for i := 0; i < 40; {
				batch, err := rec.Fetch(t.Context(), 100)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range batch {
					if d.Body[0] != byte(i) {
						t.Fatalf("message %d where %d was expected", d.Body[0], i)
					}
					i++
				}
			}
			s.admin(func(ctx context.Context, js jetstream.JetStream) error {
				st, err := js.Stream(ctx, testStream)
				if err == nil && st.CachedInfo().State.Msgs != 40 {
					err = fmt.Errorf("%d messages in the stream; expected 40", st.CachedInfo().State.Msgs)
				}
				return err
			})
		})
	}
}

// Settling fails in both ways; what was lost comes again, what was done does not, settling again is fine.
func TestSettleAnswerLost(t *testing.T) {
	for _, kept := range []bool{false, true} {
		t.Run(map[bool]string{false: "lost", true: "done, but the answer was lost"}[kept], func(t *testing.T) {
			s := newServer(t, nil)
			s.create(500*time.Millisecond, nil)
			if _, err := openPublisher(t, s.config(natsqueue.RoleProducer)).Publish(t.Context(), benchMessages(6)); err != nil {
				t.Fatal(err)
			}
			p := proxytest.New(t, "")
			c := s.config(natsqueue.RoleConsumer)
			c.Proxy = p.URL()
			rec := openReceiver(t, c)
			var batch []queue.Delivery
			for len(batch) < 6 {
				more, err := rec.Fetch(t.Context(), 6)
				if err != nil {
					t.Fatal(err)
				}
				batch = append(batch, more...)
			}
			// Once this is answered, nothing older is on its way in either direction: what vanishes is of the Settle below.
			if err := rec.Settle(t.Context(), batch[:1]); err != nil {
				t.Fatal(err)
			}
			batch = batch[1:]
			lost := &p.Requests
			if kept {
				lost = &p.Answers
			}
			lost.Store(true)
			failed := make(chan error, 1)
			go func() { failed <- rec.Settle(t.Context(), batch) }()
			<-p.Lost
			p.Cut()
			if err := <-failed; !errors.Is(err, queue.ErrUnreachable) {
				t.Fatalf("connection cut: %v; expected ErrUnreachable", err)
			}
			if kept {
				if err := rec.Settle(t.Context(), batch); err != nil {
					t.Fatalf("settle again: %v", err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
				defer cancel()
				if again, err := rec.Fetch(ctx, 5); len(again) > 0 || !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("%d settled messages came again, %v", len(again), err)
				}
				return
			}
			seen := 0
			for seen < 5 {
				again, err := rec.Fetch(t.Context(), 5)
				if err != nil {
					t.Fatal(err)
				}
				if err := rec.Settle(t.Context(), again); err != nil {
					t.Fatal(err)
				}
				seen += len(again)
			}
		})
	}
}
