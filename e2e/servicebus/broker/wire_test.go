package broker_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
	"jmlbridge/e2e/servicebus/broker"
)

// A peer speaks AMQP frame by frame, and not always well.
type peer struct {
	t    testing.TB
	conn net.Conn
}

func dial(t testing.TB, b *broker.Broker) *peer {
	t.Helper()
	c, err := b.Pipe()
	ok(t, err)
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	t.Cleanup(func() { c.Close() })
	return &peer{t, c}
}

func (p *peer) write(raw []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(raw); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) send(channel uint16, x amqp.Performative, payload ...byte) {
	p.t.Helper()
	p.write(amqp.AppendFrame(nil, amqp.TypeAMQP, channel, x, payload))
}

// next is the next frame that is no heartbeat; nil at the end of the connection.
func (p *peer) next() (amqp.Performative, []byte) {
	p.t.Helper()
	for {
		_, _, body, err := amqp.ReadFrame(p.conn, nil, 1<<20)
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		ok(p.t, err)
		if len(body) == 0 {
			continue
		}
		x, rest, err := amqp.DecodePerformative(body)
		ok(p.t, err)
		return x, rest
	}
}

// want is the next frame of a type.
func want[T amqp.Performative](p *peer) T {
	p.t.Helper()
	x, _ := p.next()
	got, is := x.(T)
	if !is {
		p.t.Fatalf("got %T %+v, want %T", x, x, got)
	}
	return got
}

func (p *peer) header(want [8]byte) {
	p.t.Helper()
	var got [8]byte
	if _, err := io.ReadFull(p.conn, got[:]); err != nil || got != want {
		p.t.Fatalf("header %q: %v", got, err)
	}
}

func (p *peer) login() *peer {
	p.t.Helper()
	p.write(amqp.HeaderSASL[:])
	p.header(amqp.HeaderSASL)
	if m := want[*amqp.SASLMechanisms](p); !slices.Equal(m.Mechanisms, []amqp.Symbol{"ANONYMOUS"}) {
		p.t.Fatalf("mechanisms %v", m.Mechanisms)
	}
	p.write(amqp.AppendFrame(nil, amqp.TypeSASL, 0, &amqp.SASLInit{Mechanism: "ANONYMOUS"}, nil))
	if o := want[*amqp.SASLOutcome](p); o.Code != 0 {
		p.t.Fatalf("outcome %d", o.Code)
	}
	p.write(amqp.HeaderAMQP[:])
	p.header(amqp.HeaderAMQP)
	p.send(0, &amqp.Open{Container: "peer", Hostname: "127.0.0.1", MaxFrameSize: 512, ChannelMax: 10})
	want[*amqp.Open](p)
	p.send(0, &amqp.Begin{IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 10})
	want[*amqp.Begin](p)
	return p
}

// token puts a token for the namespace, on handles 0 and 1 of a session of its own.
func (p *peer) token(b *broker.Broker, key, rule string) *peer {
	p.t.Helper()
	p.send(9, &amqp.Begin{IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 10})
	want[*amqp.Begin](p)
	p.send(9, &amqp.Attach{Name: "in", Handle: 0, Role: amqp.Sender, SenderSettle: amqp.Settled, Source: &amqp.Source{}, Target: &amqp.Target{Address: "$cbs"}})
	want[*amqp.Attach](p)
	want[*amqp.Flow](p)
	p.send(9, &amqp.Attach{Name: "out", Handle: 1, Role: amqp.Receiver, SenderSettle: amqp.Settled, Source: &amqp.Source{Address: "$cbs"}, Target: &amqp.Target{Address: "here"}})
	want[*amqp.Attach](p)
	zero := uint32(0)
	p.send(9, &amqp.Flow{NextIncoming: amqp.Some(0), IncomingWindow: 100, Handle: amqp.Some(1), DeliveryCount: amqp.Some(zero), LinkCredit: amqp.Some(10)})
	uri := "amqps://" + b.Host() + "/"
	ask := amqp.Bare{Properties: []any{"1", nil, nil, nil, "here"},
		Application: amqp.Map{{Key: "operation", Value: "put-token"}, {Key: "type", Value: "servicebus.windows.net:sastoken"}, {Key: "name", Value: uri}},
		Body:        amqp.AppendValue(nil, sas(key, uri, rule, time.Now().Add(time.Hour)))}
	p.send(9, &amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(0), DeliveryTag: []byte{0}, MessageFormat: amqp.Some(0), Settled: true}, ask.Append(nil)...)
	x, raw := p.next()
	if _, is := x.(*amqp.Transfer); !is {
		p.t.Fatalf("got %T %+v", x, x)
	}
	m, err := amqp.DecodeMessage(raw)
	ok(p.t, err)
	bare, err := amqp.DecodeBare(m.Bare)
	ok(p.t, err)
	if code, _ := bare.Application.Get("status-code"); code != int32(202) || bare.Property(amqp.CorrelationID) != "1" {
		p.t.Fatalf("reply: %+v", bare)
	}
	return p
}

const wireKey = "a key for the wire"

func wire(t testing.TB) (*broker.Broker, *peer) {
	b := start(t, broker.Config{Rules: []broker.Rule{{Name: "all", Key: wireKey, Rights: broker.Manage}}})
	return b, dial(t, b).login().token(b, wireKey, "all")
}

// What cannot be AMQP ends the connection, with a reason where one can be given.
func TestBadConnections(t *testing.T) {
	b := start(t, broker.Config{})
	t.Run("plain AMQP without SASL", func(t *testing.T) {
		p := dial(t, b)
		p.write(amqp.HeaderAMQP[:])
		p.header(amqp.HeaderSASL) // what it should have been
	})
	t.Run("another mechanism", func(t *testing.T) {
		p := dial(t, b)
		p.write(amqp.HeaderSASL[:])
		p.header(amqp.HeaderSASL)
		want[*amqp.SASLMechanisms](p)
		p.write(amqp.AppendFrame(nil, amqp.TypeSASL, 0, &amqp.SASLInit{Mechanism: "PLAIN"}, nil))
		if o := want[*amqp.SASLOutcome](p); o.Code != 1 {
			t.Fatalf("outcome %d", o.Code)
		}
	})
	for name, do := range map[string]func(*peer){
		"garbage":                        func(p *peer) { p.write([]byte("GET / HTTP/1.1\r\n\r\n")) },
		"frame too long":                 func(p *peer) { p.write([]byte{0, 2, 0, 0, 2, 0, 0, 0}) },
		"unknown performative":           func(p *peer) { p.write([]byte{0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x7f, 0x45}) },
		"SASL again":                     func(p *peer) { p.write(amqp.AppendFrame(nil, amqp.TypeSASL, 0, &amqp.SASLInit{}, nil)) },
		"session on a channel taken":     func(p *peer) { p.send(0, &amqp.Begin{}) },
		"attach without a session":       func(p *peer) { p.send(5, &amqp.Attach{Name: "l"}) },
		"transfer without a session":     func(p *peer) { p.send(5, &amqp.Transfer{}) },
		"channel beyond what is allowed": func(p *peer) { p.send(60_000, &amqp.Begin{}) },
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, b).login()
			do(p)
			if c := want[*amqp.Close](p); c.Error == nil || c.Error.Condition != "amqp:connection:framing-error" {
				t.Fatalf("closed with %+v", c.Error)
			}
			if x, _ := p.next(); x != nil {
				t.Fatalf("after the end: %T", x)
			}
		})
	}
}

func TestRefusedAttach(t *testing.T) {
	_, p := wire(t)
	for i, tt := range []struct {
		a    amqp.Attach
		cond amqp.Symbol
	}{
		{amqp.Attach{Role: amqp.Receiver, Source: &amqp.Source{Address: "nowhere"}, Target: &amqp.Target{}}, "amqp:not-found"},
		{amqp.Attach{Role: amqp.Receiver}, "amqp:not-found"},
		{amqp.Attach{Role: amqp.Sender, Target: &amqp.Target{Address: amqp.Coordinator}}, "amqp:not-implemented"},
		{amqp.Attach{Role: amqp.Sender, Target: &amqp.Target{Address: "jml/$DeadLetterQueue"}}, "amqp:not-allowed"},
		{amqp.Attach{Role: amqp.Receiver, ReceiverSettle: 7, Source: &amqp.Source{Address: "jml"}}, "amqp:invalid-field"},
	} {
		tt.a.Name, tt.a.Handle = "l", uint32(i)
		p.send(0, &tt.a)
		if a := want[*amqp.Attach](p); a.Source != nil || a.Target != nil || a.Name != "l" {
			t.Fatalf("attach %d: %+v", i, a)
		}
		d := want[*amqp.Detach](p)
		if !d.Closed || d.Error == nil || d.Error.Condition != tt.cond {
			t.Fatalf("attach %d: detached with %+v", i, d.Error)
		}
		p.send(0, &amqp.Detach{Handle: uint32(i), Closed: true}) // as clients answer
	}
	p.send(0, &amqp.Attach{Name: "a", Handle: 1, Role: amqp.Receiver, Source: &amqp.Source{Address: "jml"}, Target: &amqp.Target{}})
	want[*amqp.Attach](p)
	p.send(0, &amqp.Attach{Name: "b", Handle: 1, Role: amqp.Receiver, Source: &amqp.Source{Address: "jml"}, Target: &amqp.Target{}})
	if e := want[*amqp.End](p); e.Error == nil || e.Error.Condition != "amqp:session:handle-in-use" {
		t.Fatalf("ended with %+v", e.Error)
	}
}

// attached is a sender on handle 0 and a receiver on handle 1.
func attached(t testing.TB) (*broker.Broker, *peer) {
	b, p := wire(t)
	p.send(0, &amqp.Attach{Name: "s", Handle: 0, Role: amqp.Sender, Source: &amqp.Source{}, Target: &amqp.Target{Address: "JML"}})
	want[*amqp.Attach](p)
	if f := want[*amqp.Flow](p); f.LinkCredit.Value != 1000 {
		t.Fatalf("credit %+v", f)
	}
	p.send(0, &amqp.Attach{Name: "r", Handle: 1, Role: amqp.Receiver, ReceiverSettle: amqp.Second, Source: &amqp.Source{Address: "jml"}, Target: &amqp.Target{}})
	want[*amqp.Attach](p)
	return b, p
}

func body(s string) []byte {
	b := amqp.Bare{Data: [][]byte{[]byte(s)}}
	return b.Append(nil)
}

// Credit, windows, drain and echo are kept to.
func TestFlow(t *testing.T) {
	_, p := attached(t)
	for i := range uint32(5) {
		p.send(0, &amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(i), MessageFormat: amqp.Some(0)}, body("x")...)
		if d := want[*amqp.Disposition](p); d.First != i || !d.Settled {
			t.Fatalf("disposition %+v", d)
		}
	}
	credit := func(count, n uint32, drain, echo bool) {
		p.send(0, &amqp.Flow{NextIncoming: amqp.Some(0), IncomingWindow: 100, Handle: amqp.Some(1), DeliveryCount: amqp.Some(count), LinkCredit: amqp.Some(n), Drain: drain, Echo: echo})
	}
	credit(0, 2, false, true)
	for i := range uint32(2) {
		if x := want[*amqp.Transfer](p); x.DeliveryID.Value != i || len(x.DeliveryTag) != 16 {
			t.Fatalf("transfer %+v", x)
		}
	}
	if f := want[*amqp.Flow](p); f.DeliveryCount.Value != 2 || f.LinkCredit.Value != 0 || f.NextOutgoing != 2 {
		t.Fatalf("echo %+v", f)
	}
	credit(2, 9, true, false)
	for range 3 {
		want[*amqp.Transfer](p)
	}
	if f := want[*amqp.Flow](p); !f.Drain || f.DeliveryCount.Value != 11 || f.LinkCredit.Value != 0 {
		t.Fatalf("drained %+v", f)
	}
	// One disposition settles a range, whatever state its members are in, and each is answered.
	p.send(0, &amqp.Disposition{Role: amqp.Receiver, First: 0, Last: amqp.Some(5), State: &amqp.Accepted{}})
	for i := range uint32(6) {
		d := want[*amqp.Disposition](p)
		_, accepted := d.State.(*amqp.Accepted)
		r, rejected := d.State.(*amqp.Rejected)
		if d.First != i || accepted != (i < 5) || rejected && r.Error.Condition != "com.microsoft:message-lock-lost" {
			t.Fatalf("disposition %+v", d)
		}
	}
}

// A window of one transfer at a time.
func TestWindow(t *testing.T) {
	_, p := attached(t)
	p.send(0, &amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(0), MessageFormat: amqp.Some(0), More: true}, body(string(bytes.Repeat([]byte("a"), 250)))[:200]...)
	p.send(0, &amqp.Transfer{Handle: 0}, body(string(bytes.Repeat([]byte("a"), 250)))[200:]...)
	want[*amqp.Disposition](p)
	p.send(0, &amqp.Flow{NextIncoming: amqp.Some(0), IncomingWindow: 0, Handle: amqp.Some(1), DeliveryCount: amqp.Some(0), LinkCredit: amqp.Some(5), Echo: true})
	want[*amqp.Flow](p) // and no transfer
	p.send(0, &amqp.Flow{NextIncoming: amqp.Some(0), IncomingWindow: 4})
	x, raw := p.next()
	if first, is := x.(*amqp.Transfer); !is || first.More {
		t.Fatalf("got %T %+v", x, x)
	}
	if !bytes.Contains(raw, bytes.Repeat([]byte("a"), 250)) {
		t.Fatalf("%d bytes", len(raw))
	}
}

func TestBadTransfers(t *testing.T) {
	t.Run("aborted", func(t *testing.T) {
		b, p := attached(t)
		p.send(0, &amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(0), MessageFormat: amqp.Some(0), More: true}, 1, 2, 3)
		p.send(0, &amqp.Transfer{Handle: 0, Aborted: true})
		p.send(0, &amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(1), MessageFormat: amqp.Some(0)}, body("x")...)
		if d := want[*amqp.Disposition](p); d.First != 1 {
			t.Fatalf("disposition %+v", d)
		}
		if c := counts(t, b, "jml"); c.Active != 1 {
			t.Fatalf("counts: %+v", c)
		}
	})
	for name, x := range map[string]struct {
		format uint32
		body   []byte
		cond   amqp.Symbol
	}{
		"no message":            {0, []byte{1, 2, 3}, "amqp:decode-error"},
		"no message in a batch": {amqp.BatchFormat, body("\x01"), "amqp:decode-error"},
		"unknown format":        {7, body("x"), "amqp:not-implemented"},
	} {
		t.Run(name, func(t *testing.T) {
			_, p := attached(t)
			p.send(0, &amqp.Transfer{Handle: 0, DeliveryID: amqp.Some(0), MessageFormat: amqp.Some(x.format)}, x.body...)
			r, is := want[*amqp.Disposition](p).State.(*amqp.Rejected)
			if !is || r.Error == nil || r.Error.Condition != x.cond {
				t.Fatalf("state %+v", r)
			}
		})
	}
	t.Run("without a delivery id", func(t *testing.T) {
		_, p := attached(t)
		p.send(0, &amqp.Transfer{Handle: 0}, body("x")...)
		if d := want[*amqp.Detach](p); d.Error == nil {
			t.Fatal("detached without a reason")
		}
	})
	t.Run("on the wrong link", func(t *testing.T) {
		_, p := attached(t)
		p.send(0, &amqp.Transfer{Handle: 1, DeliveryID: amqp.Some(0)}, body("x")...)
		if e := want[*amqp.End](p); e.Error == nil {
			t.Fatal("ended without a reason")
		}
	})
	t.Run("too many settled at once", func(t *testing.T) {
		_, p := attached(t)
		p.send(0, &amqp.Disposition{Role: amqp.Receiver, Last: amqp.Some(1 << 31)})
		if e := want[*amqp.End](p); e.Error == nil {
			t.Fatal("ended without a reason")
		}
	})
}

// Whatever bytes come after the login, the broker lives and serves the next one.
func FuzzConnection(f *testing.F) {
	b := start(f, broker.Config{Rules: []broker.Rule{{Name: "all", Key: wireKey, Rights: broker.Manage}}})
	for _, x := range []amqp.Performative{&amqp.Begin{}, &amqp.Attach{Name: "l", Role: amqp.Receiver, Source: &amqp.Source{Address: "jml"}}, &amqp.Flow{Handle: amqp.Some(1)},
		&amqp.Transfer{DeliveryID: amqp.Some(0)}, &amqp.Disposition{Role: amqp.Receiver, State: &amqp.Rejected{}}, &amqp.Detach{}, &amqp.End{}, &amqp.Close{}} {
		f.Add(amqp.AppendFrame(nil, amqp.TypeAMQP, 0, x, body("x")))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := dial(t, b).login().token(b, wireKey, "all")
		p.send(0, &amqp.Attach{Name: "s", Handle: 0, Role: amqp.Sender, Source: &amqp.Source{}, Target: &amqp.Target{Address: "jml"}})
		p.send(0, &amqp.Attach{Name: "r", Handle: 1, Role: amqp.Receiver, Source: &amqp.Source{Address: "jml"}, Target: &amqp.Target{}})
		drained := make(chan struct{})
		go func() { defer close(drained); io.Copy(io.Discard, p.conn) }()
		p.conn.Write(raw) // the broker may hang up before all of it
		p.conn.Close()
		<-drained
	})
}
