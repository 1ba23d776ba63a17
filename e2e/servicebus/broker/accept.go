package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// accept takes connections until the listener is closed. What speaks HTTP after
// the TLS handshake becomes a WebSocket, everything else is AMQP: one address
// serves both, where the service has two ports.
func (b *Broker) accept(l net.Listener, upgrades *upgrades) {
	defer upgrades.Close()
	config := b.ca.server()
	for {
		socket, err := l.Accept()
		if err != nil {
			return
		}
		if !b.admit(socket) {
			continue
		}
		b.conns.Go(func() {
			switch b.strikeDial() {
			case dialReset:
				if t, ok := socket.(*net.TCPConn); ok {
					t.SetLinger(0)
				}
				b.part(socket)
				return
			case dialSilence:
				b.hold(socket)
				return
			}
			secure := tls.Server(socket, config)
			socket.SetDeadline(time.Now().Add(handshakeTime))
			in := bufio.NewReaderSize(secure, maxFrame)
			first, err := in.Peek(1)
			socket.SetDeadline(time.Time{})
			if err != nil {
				b.part(socket)
				return
			}
			peeked := &peekedConn{Conn: secure, b: b, in: in, socket: socket}
			if first[0] == 'A' {
				b.serve(peeked, socket)
				return
			}
			upgrades.offer(peeked)
		})
	}
}

// admit knows a socket from the first moment, so that a shut door shuts all.
func (b *Broker) admit(socket net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		socket.Close()
		return false
	}
	b.sockets[socket] = false
	return true
}

// part closes a socket and forgets it.
func (b *Broker) part(socket net.Conn) {
	socket.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sockets, socket)
}

// hold keeps a connection open without a word, until somebody closes it.
func (b *Broker) hold(socket net.Conn) {
	b.do(func() { b.sockets[socket] = true })
	io.Copy(io.Discard, socket)
	b.part(socket)
}

// peekedConn gives back the bytes that were looked at.
type peekedConn struct {
	net.Conn
	b      *Broker
	in     *bufio.Reader
	socket net.Conn
}

func (c *peekedConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (c *peekedConn) Close() error {
	err := c.Conn.Close()
	c.b.part(c.socket)
	return err
}

// upgrades is the listener of the HTTP server: connections that turned out to
// speak it.
type upgrades struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newUpgrades(addr net.Addr) *upgrades {
	return &upgrades{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (u *upgrades) Addr() net.Addr { return u.addr }

func (u *upgrades) Close() error {
	u.once.Do(func() { close(u.done) })
	return nil
}

func (u *upgrades) Accept() (net.Conn, error) {
	select {
	case c := <-u.conns:
		return c, nil
	case <-u.done:
		return nil, net.ErrClosed
	}
}

func (u *upgrades) offer(c net.Conn) {
	select {
	case u.conns <- c:
	case <-u.done:
		c.Close()
	}
}

type socketKey struct{}

const webSocketPath = "/$servicebus/websocket"

// upgrade turns a request for the documented path into AMQP over WebSocket.
func (b *Broker) upgrade(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != webSocketPath {
		http.NotFound(w, r)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"AMQPWSB10", "amqp"}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // it has answered
	}
	if ws.Subprotocol() == "" {
		ws.Close(websocket.StatusPolicyViolation, "subprotocol AMQPWSB10 expected")
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	socket, _ := r.Context().Value(socketKey{}).(net.Conn)
	b.serve(websocket.NetConn(ctx, ws, websocket.MessageBinary), socket)
}

// below is the socket under a connection of the HTTP server.
func below(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, socketKey{}, c.(*peekedConn).socket)
}
