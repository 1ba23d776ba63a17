package natsqueue

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// maxProxyAnswer bounds, in octets, what a proxy may say before the tunnel stands.
const maxProxyAnswer = 16 << 10

// proxyDialer reaches the server through an HTTP proxy by CONNECT. The proxy sees the server's name
// and port, and TLS from then on; host names are resolved by the proxy, not by us.
type proxyDialer struct {
	addr string
	auth string // value of Proxy-Authorization; empty: none
}

func newProxyDialer(raw string) (*proxyDialer, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || (u.Path != "" && u.Path != "/") {
		return nil, errors.New("proxy: expected http://[user:password@]host:port") // raw may hold a password
	}
	d := &proxyDialer{addr: u.Host}
	if u.Port() == "" {
		d.addr = net.JoinHostPort(u.Hostname(), "80")
	}
	if u.User != nil {
		pass, _ := u.User.Password()
		d.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+pass))
	}
	return d, nil
}

// Dial implements nats.CustomDialer.
func (d *proxyDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.DialTimeout(network, d.addr, dialTimeout)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", d.addr, err)
	}
	tunnel, err := d.connect(conn, address)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", d.addr, err)
	}
	return tunnel, nil
}

func (d *proxyDialer) connect(conn net.Conn, address string) (net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, err
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if d.auth != "" {
		req.Header.Set("Proxy-Authorization", d.auth)
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: conn, N: maxProxyAnswer}
	r := bufio.NewReader(limited)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, fmt.Errorf("no answer to CONNECT: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("CONNECT %s answered %s", address, resp.Status)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	// The server speaks first: some of it may already be in r.
	limited.N = 1 << 62
	return &tunnelConn{Conn: conn, r: r}, nil
}

type tunnelConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *tunnelConn) Read(p []byte) (int, error) { return c.r.Read(p) }
