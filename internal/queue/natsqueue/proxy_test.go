package natsqueue_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
)

// proxy is an HTTP CONNECT proxy that can also lose what passes through it.
type proxy struct {
	ln   net.Listener
	auth string // expected Proxy-Authorization

	dialled atomic.Value  // last address asked for
	mute    atomic.Bool   // answers vanish from now on
	deaf    atomic.Bool   // requests vanish from now on
	heard   chan struct{} // one token for each answer that was lost
	mu      sync.Mutex    // guards conns
	conns   []net.Conn
}

func newProxy(t testing.TB, auth string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, auth: auth, heard: make(chan struct{}, 1)}
	p.dialled.Store("")
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); p.cut(); wg.Wait() })
	return p
}

func (p *proxy) url(user string) string {
	if user != "" {
		user += "@"
	}
	return "http://" + user + p.ln.Addr().String()
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	if req.Method != http.MethodConnect || req.Header.Get("Proxy-Authorization") != p.auth {
		fmt.Fprint(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	p.dialled.Store(req.Host)
	up, err := net.Dial("tcp", req.Host)
	if err != nil {
		fmt.Fprint(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer up.Close()
	p.mu.Lock()
	p.conns = append(p.conns, c, up)
	p.mu.Unlock()
	fmt.Fprint(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.pass(c, up, &p.mute)
	}()
	p.pass(up, r, &p.deaf)
	<-done
}

// pass copies until either side ends; what comes while lost is set vanishes.
func (p *proxy) pass(to io.WriteCloser, from io.Reader, lost *atomic.Bool) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if lost.Load() {
			select {
			case p.heard <- struct{}{}:
			default:
			}
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut ends every connection and lets new ones pass everything.
func (p *proxy) cut() {
	p.mute.Store(false)
	p.deaf.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func TestProxy(t *testing.T) {
	s := newServer(t, nil)
	s.create(time.Minute, nil)
	const auth = "Basic dXNlcjpwQHNz" // user:p@ss
	p := newProxy(t, auth)

	c := s.config(natsqueue.RoleProducer)
	c.Proxy = p.url("user:p%40ss")
	if _, err := openPublisher(t, c).Publish(t.Context(), []queue.Message{{ID: "1", Body: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	// The name goes to the proxy as it stands: inside a closed network only the proxy can resolve it.
	if got, want := p.dialled.Load(), strings.TrimPrefix(s.url(), "tls://"); got != want {
		t.Fatalf("the proxy was asked for %q; expected %q", got, want)
	}

	c.Proxy, c.Patience = p.url("user:wrong"), 500*time.Millisecond
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
			p := newProxy(t, "")
			c := s.config(natsqueue.RoleProducer)
			c.Proxy = p.url("")
			pub := openPublisher(t, c)
			msgs := benchMessages(40)
			for i := range msgs {
				msgs[i].Body = []byte{byte(i)}
			}
			if n, err := pub.Publish(t.Context(), msgs[:10]); n != 10 || err != nil {
				t.Fatal(n, err)
			}
			lost := &p.deaf
			if kept {
				lost = &p.mute
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
			<-p.heard // an answer, or the request itself, is gone
			p.cut()
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
			if _, err := openPublisher(t, s.config(natsqueue.RoleProducer)).Publish(t.Context(), benchMessages(5)); err != nil {
				t.Fatal(err)
			}
			p := newProxy(t, "")
			c := s.config(natsqueue.RoleConsumer)
			c.Proxy = p.url("")
			rec := openReceiver(t, c)
			var batch []queue.Delivery
			for len(batch) < 5 {
				more, err := rec.Fetch(t.Context(), 5)
				if err != nil {
					t.Fatal(err)
				}
				batch = append(batch, more...)
			}
			lost := &p.deaf
			if kept {
				lost = &p.mute
			}
			lost.Store(true)
			failed := make(chan error, 1)
			go func() { failed <- rec.Settle(t.Context(), batch) }()
			<-p.heard
			p.cut()
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
