// Package proxytest is an outbound proxy for tests, on a socket of loopback: it knows CONNECT and nothing else, can want a
// user and a password, remembers who was asked for, and can lose what passes through it.
package proxytest

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy is one at work. Its fields are set before it is first used.
type Proxy struct {
	// Dial reaches whom a client asks for, a host and port; nil: where that is.
	Dial func(address string) (net.Conn, error)

	// Requests and Answers, once set, lose what clients and what their far ends say from then on, until Cut.
	Requests, Answers atomic.Bool
	// Lost has a token as soon as something was lost.
	Lost chan struct{}

	address string
	auth    string // expected Proxy-Authorization

	mu      sync.Mutex // guards what follows
	asked   []string
	refused int
	conns   []net.Conn
	to      *string  // see To; nil: where a client asks for
	passed  [2]int   // octets, either way
	marks   [2][]int // at which of them a connection breaks, in order
	broken  int
}

// The two ways through a proxy.
const (
	requests = iota // from the client
	answers
)

// New starts a proxy that wants the user and password, as user:password; "" wants none. It ends with the test.
func New(t testing.TB, user string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Lost: make(chan struct{}, 1), address: l.Addr().String()}
	if user != "" {
		p.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(user))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.keep(c)
			wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		wg.Wait()
	})
	return p
}

// URL is the proxy's address, as a configuration has it.
func (p *Proxy) URL() string { return "http://" + p.address }

// Addr is its host and port.
func (p *Proxy) Addr() string { return p.address }

// Asked are the hosts and ports that tunnels were made to, in their order and as they were asked for.
func (p *Proxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// Refused is how many requests were turned away, for want of the password.
func (p *Proxy) Refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// Break breaks so many connections by chance that a seed repeats: one ends after so many octets, all connections together and
// either way, and what follows them on it is lost. On the first octets the first one breaks, and each of the others after about
// twice as many as the one before, so that some break early and some in full flow.
func (p *Proxy) Break(seed uint64, n int) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	p.mu.Lock()
	defer p.mu.Unlock()
	within, at := 256, [2]int{}
	for i := range n {
		way := rnd.IntN(2)
		at[way] += 1 + rnd.IntN(within<<i)
		p.marks[way] = append(p.marks[way], at[way])
	}
}

// Broken is how many connections Break has broken.
func (p *Proxy) Broken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// let says how many of n octets pass, and whether the connection breaks behind them.
func (p *Proxy) let(way, n int) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.marks[way]; len(m) > 0 && p.passed[way]+n >= m[0] {
		n = m[0] - p.passed[way]
		p.passed[way], p.marks[way] = m[0], m[1:]
		p.broken++
		return n, true
	}
	p.passed[way] += n
	return n, false
}

// To leads whoever asks for anybody to one address, a host and port; "" leads nobody anywhere. So a server can come back at
// another port than the one that it gave away.
func (p *Proxy) To(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = &address
}

// dial reaches whom a client asks for.
func (p *Proxy) dial(address string) (net.Conn, error) {
	if p.Dial != nil {
		return p.Dial(address)
	}
	p.mu.Lock()
	if p.to != nil {
		address = *p.to
	}
	p.mu.Unlock()
	if address == "" {
		return nil, errors.New("there is nobody")
	}
	return net.Dial("tcp", address)
}

// Cut ends every connection and lets new ones pass everything.
func (p *Proxy) Cut() {
	p.Requests.Store(false)
	p.Answers.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *Proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
}

func (p *Proxy) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	if req.Method != http.MethodConnect || req.Header.Get("Proxy-Authorization") != p.auth {
		p.mu.Lock()
		p.refused++
		p.mu.Unlock()
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
		return
	}
	up, err := p.dial(req.Host)
	if err != nil {
		_, _ = fmt.Fprint(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer up.Close()
	p.keep(up)
	p.mu.Lock()
	p.asked = append(p.asked, req.Host)
	p.mu.Unlock()
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.pass(c, up, answers)
	}()
	p.pass(up, r, requests)
	<-done
}

// pass copies until either side ends or a connection breaks; what comes while losing is set vanishes.
func (p *Proxy) pass(to io.WriteCloser, from io.Reader, way int) {
	defer to.Close()
	losing := [2]*atomic.Bool{&p.Requests, &p.Answers}[way]
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && losing.Load() {
			select {
			case p.Lost <- struct{}{}:
			default:
			}
		} else {
			n, breaks := p.let(way, n)
			if _, werr := to.Write(buf[:n]); werr != nil || breaks {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
