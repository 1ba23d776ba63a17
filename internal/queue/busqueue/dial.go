package busqueue

import (
	"context"
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/coder/websocket"

	"jmlbridge/internal/queue"
)

const (
	dialTime    = 15 * time.Second // proxy, TLS and upgrade included
	wsReadLimit = 4 << 20          // octets of one WebSocket message; the service sends AMQP frames of 64 KiB
	wsPath      = "/$servicebus/websocket"
)

// Subprotocols that the service may know AMQP under: the registered name, and that of the library's examples.
var wsProtocols = []string{"AMQPWSB10", "amqp"}

// dialer makes the connections of one client, and remembers how many and why the last attempt failed.
type dialer struct {
	a *account

	mu    sync.Mutex // guards what follows
	count uint64     // connections made
	last  error      // of the last attempt; nil: it succeeded
	conn  net.Conn   // the last one
	heard *heard     // on the last one; nil: nobody listens
}

// dial is azservicebus.ClientOptions.NewWebSocketConn, for plain AMQP as well. ctx is that of the call that
// happens to need a connection: it bounds the attempt, never the connection.
func (d *dialer) dial(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := d.a.connect(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last = err; err == nil {
		d.count++
		d.conn = conn
		if d.heard != nil {
			d.heard = &heard{parts: map[string][]byte{}}
			return &hearing{conn, d.heard}, nil
		}
	}
	return conn, err
}

// listen is what the service says on the connection that stands. From its first call on, connections that are made are
// heard.
func (d *dialer) listen() *heard {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.heard == nil {
		d.heard = &heard{}
	}
	return d.heard
}

// made is the number of the connection that stands, if one does.
func (d *dialer) made() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

func (d *dialer) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// cut ends the connection under a client that does not end it itself.
func (d *dialer) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		_ = d.conn.Close()
	}
}

func (a *account) address() string {
	if _, _, err := net.SplitHostPort(a.Namespace); err == nil {
		return a.Namespace
	}
	port := "5671"
	switch {
	case a.plain:
		port = "5672"
	case a.Transport == WebSocket:
		port = "443"
	}
	return net.JoinHostPort(a.host, port)
}

// connect opens what AMQP is spoken on. Its errors say what failed, and wrap what callers decide on.
func (a *account) connect(ctx context.Context) (net.Conn, error) {
	if a.Transport == WebSocket && !a.plain {
		return a.webSocket(ctx)
	}
	conn, err := a.reach(ctx, "tcp", a.address())
	if err != nil {
		return nil, err
	}
	if a.plain {
		return conn, nil
	}
	conf := a.way.TLS()
	conf.ServerName = a.host
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, explainTLS(err)
	}
	return secure, nil
}

// unreachedError is that of a connection on which nothing was said yet.
type unreachedError struct{ why error }

func (e *unreachedError) Error() string { return fmt.Sprintf("%v (%v)", queue.ErrUnreachable, e.why) }
func (e *unreachedError) Unwrap() error { return queue.ErrUnreachable }

func (a *account) reach(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := a.way.DialContext(ctx, network, address)
	if err != nil {
		return nil, &unreachedError{err}
	}
	return conn, nil
}

func explainTLS(err error) error {
	var unreached *unreachedError
	if errors.As(err, &unreached) {
		return unreached
	}
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &verify) || errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) {
		return fmt.Errorf("%w: its certificate is not one that we trust; check ca and namespace, and whether a proxy inspects TLS (%v)", queue.ErrRefused, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("the connection stands, and nothing came on it in time")
	}
	return fmt.Errorf("%w (TLS: %v)", queue.ErrUnreachable, err)
}

// stayingClient goes where it is sent and nowhere on: a redirect would let whoever answers for the namespace choose what we dial, also
// without TLS, among hosts that perhaps only we reach.
func stayingClient(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (a *account) webSocket(ctx context.Context) (net.Conn, error) {
	t := a.way.Transport()
	t.Proxy, t.DialContext = nil, a.reach // by the proxy as well, whose answer net/http would not tell of
	t.ForceAttemptHTTP2 = false           // an upgrade is of HTTP/1.1
	t.TLSClientConfig.NextProtos = []string{"http/1.1"}
	t.HTTP2 = nil
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	var ws *websocket.Conn
	var resp *http.Response
	var err error
	// The handshake's SHA-1 only echoes a nonce and protects nothing; TLS does.
	fips140.WithoutEnforcement(func() {
		ws, resp, err = websocket.Dial(ctx, "wss://"+a.address()+wsPath, &websocket.DialOptions{HTTPClient: stayingClient(t), Subprotocols: wsProtocols})
	})
	if err != nil {
		t.CloseIdleConnections()
		if resp != nil {
			return nil, fmt.Errorf("%w (the WebSocket was answered with %s)", queue.ErrUnreachable, resp.Status)
		}
		return nil, explainTLS(err)
	}
	ws.SetReadLimit(wsReadLimit)
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}
