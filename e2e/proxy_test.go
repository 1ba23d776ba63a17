package e2e

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// proxy is an outbound proxy as an enclave has one: it knows CONNECT and nothing else, asks for a name and
// a password, and remembers who was asked for.
type proxy struct {
	addr string
	auth string // value of Proxy-Authorization that it wants

	mu       sync.Mutex // guards what follows
	reached  []string   // host:port of every tunnel
	rejected int
}

func newProxy(t *testing.T, user, password string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), auth: "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
	var tunnels sync.WaitGroup
	tunnels.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			tunnels.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close() }) // tunnels end with the programs
	return p
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	if req.Method != http.MethodConnect || req.Header.Get("Proxy-Authorization") != p.auth {
		p.mu.Lock()
		p.rejected++
		p.mu.Unlock()
		io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
		return
	}
	out, err := net.Dial("tcp", req.Host)
	if err != nil {
		io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer out.Close()
	p.mu.Lock()
	p.reached = append(p.reached, req.Host)
	p.mu.Unlock()
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		return
	}
	go func() {
		io.Copy(out, in)
		out.Close()
	}()
	io.Copy(c, out)
}

// through is who was reached, each once, and how many requests were turned away.
func (p *proxy) through() (hosts []string, rejected int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hosts = slices.Clone(p.reached)
	slices.Sort(hosts)
	return slices.Compact(hosts), p.rejected
}
