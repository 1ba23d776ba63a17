package broker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
)

// A conn is one connection of a client. Its goroutine reads and handles frames;
// another one writes what has gathered in out, so that many frames leave in one
// write.
type conn struct {
	b      *Broker
	net    net.Conn // AMQP
	socket net.Conn // below TLS or WebSocket: what a reset resets
	in     *bufio.Reader
	wake   chan struct{} // something is in out, or the connection is closed

	// Guarded by the broker's mu.
	id       uint64
	out      []byte
	starved  bool // messages were held back until out is written
	silent   bool // nothing leaves and nothing is heard any more
	closed   bool
	closing  bool          // ends when out is written
	limit    uint32        // bytes of a frame that the client takes
	idle     time.Duration // within which the client wants to hear something
	opened   bool          // its open frame has come
	sessions map[uint16]*session
	claims   map[string]claim
}

// serve speaks to a client until the connection ends.
func (b *Broker) serve(amqpConn, socket net.Conn) {
	in := bufio.NewReaderSize(amqpConn, maxFrame)
	if p, ok := amqpConn.(*peekedConn); ok {
		in = p.in
	}
	c := &conn{b: b, net: amqpConn, socket: socket, in: in, wake: make(chan struct{}, 1),
		limit: minFrame, sessions: map[uint16]*session{}, claims: map[string]claim{}}
	if !b.welcome(c) {
		c.net.Close()
		return
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
		c.net.SetReadDeadline(time.Now().Add(farewell)) // for the client to hang up
	}()
	err := c.read()
	b.do(func() {
		b.gone(c)
		if err != nil && !errors.Is(err, io.EOF) && !c.silent && !c.closed {
			c.send(0, &amqp.Close{Error: &amqp.Error{Condition: condFraming, Description: err.Error()}}, nil)
		}
		c.closing = true
		c.poke()
	})
	c.net.SetWriteDeadline(time.Now().Add(farewell))
	<-written
	c.net.Close()
	socket.Close()
}

// welcome counts a connection in, unless the door is shut.
func (b *Broker) welcome(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return false
	}
	b.accepted++
	c.id, c.silent = b.accepted, b.silent
	b.live[c] = true
	return true
}

// gone forgets a connection with its links. Locks on messages stay.
func (b *Broker) gone(c *conn) {
	for _, s := range c.sessions {
		s.end()
	}
	c.sessions = map[uint16]*session{}
	for _, cl := range c.claims {
		cl.stop()
	}
	c.claims = map[string]claim{}
	delete(b.live, c)
}

// reset breaks the connection at once. Callers hold mu.
func (c *conn) reset() {
	if c.closed {
		return
	}
	c.closed = true
	c.out = nil
	c.b.gone(c)
	if t, ok := c.socket.(*net.TCPConn); ok {
		t.SetLinger(0) // an RST, not a farewell
	}
	c.socket.Close()
	c.poke()
}

// resetAll breaks every connection. Callers hold mu.
func (b *Broker) resetAll() {
	for c := range b.live {
		c.reset()
	}
	for socket := range b.sockets {
		socket.Close()
	}
}

// poke wakes the writer.
func (c *conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// send puts a frame on its way. Callers hold mu.
func (c *conn) send(channel uint16, p amqp.Performative, payload []byte) {
	if c.closed || c.silent || c.closing {
		return
	}
	c.out = amqp.AppendFrame(c.out, amqp.TypeAMQP, channel, p, payload)
	if len(c.out) > maxOut {
		c.reset() // it does not read
		return
	}
	c.poke()
}

// write writes what gathers in out, and heartbeats.
func (c *conn) write() {
	heartbeat := time.NewTimer(time.Hour)
	defer heartbeat.Stop()
	var buf []byte
	for {
		beat := false
		select {
		case <-c.wake:
		case <-heartbeat.C:
			beat = true
		}
		c.b.mu.Lock()
		buf, c.out = c.out, buf[:0]
		closed, closing, silent, starved, idle := c.closed, c.closing, c.silent, c.starved, c.idle
		c.starved = false
		c.b.mu.Unlock()
		if closed || silent && closing {
			return
		}
		if beat && len(buf) == 0 && !silent && idle > 0 {
			buf = amqp.AppendFrame(buf, amqp.TypeAMQP, 0, nil, nil)
		}
		c.b.flush() // a failure is told by Close
		if len(buf) > 0 && !silent {
			if _, err := c.net.Write(buf); err != nil {
				c.b.do(c.reset)
				return
			}
		}
		if closing {
			return
		}
		if starved {
			c.b.do(func() {
				for _, s := range c.sessions {
					for _, l := range s.links {
						c.b.touch(l.node)
					}
				}
			})
		}
		if idle > 0 {
			heartbeat.Reset(idle / 2)
		}
	}
}

// read does the handshake and handles frames until the end.
func (c *conn) read() error {
	if err := c.handshake(); err != nil {
		return err
	}
	var buf [maxFrame]byte
	for {
		kind, channel, body, err := amqp.ReadFrame(c.in, buf[:], maxFrame)
		if err != nil {
			return err
		}
		if len(body) == 0 {
			continue
		}
		if kind != amqp.TypeAMQP {
			return errors.New("SASL frame after the SASL exchange")
		}
		p, payload, err := amqp.DecodePerformative(body)
		if err != nil {
			return err
		}
		if err := c.handle(channel, p, payload); err != nil {
			return err
		}
	}
}

// header expects the client's protocol header, and answers with what it should
// have been in any case.
func (c *conn) header(want [8]byte) error {
	var got [8]byte
	if _, err := io.ReadFull(c.in, got[:]); err != nil {
		return err
	}
	c.say(want[:])
	if got != want {
		return fmt.Errorf("protocol header %q, expected %q", got, want)
	}
	return nil
}

// say sends bytes of the handshake.
func (c *conn) say(raw []byte) {
	c.b.do(func() {
		if !c.silent && !c.closed {
			c.out = append(c.out, raw...)
			c.poke()
		}
	})
}

// handshake exchanges headers and SASL, up to and without the open frame.
func (c *conn) handshake() error {
	if err := c.header(amqp.HeaderSASL); err != nil {
		return err
	}
	c.say(amqp.AppendFrame(nil, amqp.TypeSASL, 0, &amqp.SASLMechanisms{Mechanisms: []amqp.Symbol{"ANONYMOUS"}}, nil))
	kind, _, body, err := amqp.ReadFrame(c.in, nil, minFrame)
	if err != nil {
		return err
	}
	p, _, err := amqp.DecodePerformative(body)
	if err != nil {
		return err
	}
	init, ok := p.(*amqp.SASLInit)
	if !ok || kind != amqp.TypeSASL {
		return fmt.Errorf("SASL init expected, got %T", p)
	}
	if init.Mechanism != "ANONYMOUS" {
		c.say(amqp.AppendFrame(nil, amqp.TypeSASL, 0, &amqp.SASLOutcome{Code: 1}, nil))
		return fmt.Errorf("SASL mechanism %q, expected ANONYMOUS", init.Mechanism)
	}
	c.say(amqp.AppendFrame(nil, amqp.TypeSASL, 0, &amqp.SASLOutcome{}, nil))
	return c.header(amqp.HeaderAMQP)
}

// handle acts on one frame. An error ends the connection.
func (c *conn) handle(channel uint16, p amqp.Performative, payload []byte) (err error) {
	if t, ok := p.(*amqp.Transfer); ok {
		return c.transfer(channel, t, payload)
	}
	c.b.do(func() {
		if c.silent || c.closed {
			return
		}
		if !c.opened {
			open, ok := p.(*amqp.Open)
			if !ok {
				err = fmt.Errorf("open expected, got %T", p)
				return
			}
			c.open(open)
			return
		}
		switch p := p.(type) {
		case *amqp.Begin:
			err = c.begin(channel, p)
			return
		case *amqp.Close:
			c.send(0, &amqp.Close{}, nil)
			err = io.EOF
			return
		}
		s := c.sessions[channel]
		if s == nil {
			if _, late := p.(*amqp.End); !late {
				err = fmt.Errorf("%T on channel %d, on which there is no session", p, channel)
			}
			return
		}
		s.handle(p)
	})
	return err
}

// open answers the client's open frame.
func (c *conn) open(p *amqp.Open) {
	c.opened = true
	c.limit = min(max(p.MaxFrameSize, minFrame), maxFrame)
	c.idle = p.IdleTimeout
	c.b.act(op{point: OnOpen, conn: c}, nil, func(e *amqp.Error) {
		c.send(0, &amqp.Open{Container: "rehearsal", MaxFrameSize: maxFrame, ChannelMax: maxSessions - 1, IdleTimeout: defaultIdle,
			Properties: amqp.Map{{Key: amqp.Symbol("product"), Value: "rehearsal Service Bus"}}}, nil)
		if e != nil {
			c.end(e)
		}
	})
	c.poke()
}

// end closes the connection with an error, in order.
func (c *conn) end(e *amqp.Error) {
	c.send(0, &amqp.Close{Error: e}, nil)
	c.closing = true
	c.b.gone(c)
	c.poke()
}
