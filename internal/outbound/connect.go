package outbound

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"time"
)

// DialContext opens a TCP connection to address, a host and port, by the proxy where there is one. What travels
// on it must be TLS: the proxy for it is the one for https.
func (w *Way) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	proxy, err := w.proxyFor(address)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return w.dial.DialContext(ctx, network, address)
	}
	if proxy.Scheme != "http" && proxy.Scheme != "https" { // that of the environment; its address may hold a password
		return nil, fmt.Errorf("HTTPS_PROXY in the environment is one by %.16q; want one by http or https, which knows CONNECT", proxy.Scheme)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	at := hostPort(proxy)
	conn, err := w.dial.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", at, err)
	}
	tunnel, err := w.tunnel(ctx, conn, proxy, address)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", at, err)
	}
	return tunnel, nil
}

// errProxyAuth is a proxy's answer to a user and password that it does not take, or to none.
var errProxyAuth = errors.New("407 Proxy Authentication Required")

// Advise is what to do about an error of DialContext: do, or what the proxy's answer says.
func Advise(err error, do string) string {
	if errors.Is(err, errProxyAuth) {
		return "the proxy wants a user and a password, or others than these: correct proxy_credentials, a file with one line user:password and mode 0600"
	}
	return do
}

// Proxied reports whether the way to address, a host and port, is by a proxy.
func (w *Way) Proxied(address string) (bool, error) {
	proxy, err := w.proxyFor(address)
	return proxy != nil, err
}

func (w *Way) proxyFor(address string) (*url.URL, error) {
	if w.proxy == nil {
		return nil, nil
	}
	proxy, err := w.proxy(&url.URL{Scheme: "https", Host: address})
	if err != nil { // its text repeats the value, which may hold a password
		return nil, errors.New("HTTPS_PROXY in the environment is not an address")
	}
	return proxy, nil
}

func hostPort(proxy *url.URL) string {
	port := proxy.Port()
	if port == "" {
		if port = "80"; proxy.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(proxy.Hostname(), port)
}

// tunnel asks the proxy at the other end of conn for a way to address. ctx bounds it.
func (w *Way) tunnel(ctx context.Context, conn net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if proxy.Scheme == "https" {
		c := w.TLS()
		c.ServerName = proxy.Hostname()
		t := tls.Client(conn, c)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = t
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)))
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
	if resp.StatusCode == http.StatusProxyAuthRequired {
		return nil, fmt.Errorf("CONNECT %s answered %w", address, errProxyAuth)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("CONNECT %s answered %.200s", address, resp.Status)
	}
	// Its body is left alone: what follows is the tunnel, whatever length a header states (RFC 9110, 9.3.6).
	if !stop() {
		return nil, ctx.Err()
	}
	// A server may speak first: some of it may already be in r.
	limited.N = math.MaxInt64
	return &tunnelConn{Conn: conn, r: r}, nil
}

type tunnelConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *tunnelConn) Read(p []byte) (int, error) { return c.r.Read(p) }
