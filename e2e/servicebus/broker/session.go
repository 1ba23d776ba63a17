package broker

import (
	"fmt"

	"jmlbridge/e2e/servicebus/amqp"
)

// A session is one AMQP session. It has the channel number and its links the
// handles that the client chose. Everything of it is guarded by the broker's mu.
type session struct {
	c       *conn
	channel uint16
	links   map[uint32]*link

	nextOutgoing uint32 // of our transfers
	window       uint32 // transfers that the client takes now
	nextIncoming uint32 // of the client's transfers
	taken        uint32 // of them since the client was last told our window

	delivery  uint32 // next delivery id of ours
	unsettled map[uint32]delivery
}

// A delivery of ours that waits for its outcome.
type delivery struct {
	link  *link
	token amqp.UUID
}

func (c *conn) begin(channel uint16, p *amqp.Begin) error {
	if channel >= maxSessions || c.sessions[channel] != nil {
		return fmt.Errorf("begin on channel %d, which is taken or beyond %d", channel, maxSessions-1)
	}
	s := &session{c: c, channel: channel, links: map[uint32]*link{}, unsettled: map[uint32]delivery{}, window: p.IncomingWindow, nextIncoming: p.NextOutgoing}
	c.sessions[channel] = s
	s.send(&amqp.Begin{RemoteChannel: channel, Answer: true, IncomingWindow: incomingWindow, OutgoingWindow: incomingWindow, HandleMax: maxLinks - 1}, nil)
	return nil
}

// send sends a frame of the session, unless it has ended meanwhile.
func (s *session) send(p amqp.Performative, payload []byte) {
	if s.c.sessions[s.channel] == s {
		s.c.send(s.channel, p, payload)
	}
}

// fail ends the session with an error.
func (s *session) fail(condition amqp.Symbol, format string, args ...any) {
	s.drop(&amqp.Error{Condition: condition, Description: fmt.Sprintf(format, args...)})
}

func (s *session) drop(e *amqp.Error) {
	s.send(&amqp.End{Error: e}, nil)
	s.end()
	delete(s.c.sessions, s.channel)
}

// end forgets the links. Locks on messages stay, those on sessions end.
func (s *session) end() {
	for _, l := range s.links {
		l.forget()
	}
}

func (s *session) handle(p amqp.Performative) {
	switch p := p.(type) {
	case *amqp.Attach:
		s.attach(p)
	case *amqp.Flow:
		s.flow(p)
	case *amqp.Disposition:
		s.disposition(p)
	case *amqp.Detach:
		if l := s.links[p.Handle]; l != nil {
			l.detach(nil)
		} // else it answers a detach of ours
	case *amqp.End:
		s.drop(nil)
	default:
		s.fail(condNotAllowed, "%T within a session", p)
	}
}

// flow takes the client's windows and the credit that it gives to a link.
func (s *session) flow(p *amqp.Flow) {
	s.window = p.IncomingWindow + p.NextIncoming.Value - s.nextOutgoing
	if !p.Handle.Set {
		for _, l := range s.links {
			s.c.b.touch(l.node)
		}
		if p.Echo {
			s.tell(&amqp.Flow{})
		}
		return
	}
	l := s.links[p.Handle.Value]
	if l == nil {
		return // it may have crossed a detach of ours
	}
	if l.sends {
		l.credit = int32(p.DeliveryCount.Value + p.LinkCredit.Value - l.count)
		s.c.b.touch(l.node)
		l.reply()
		if l.node != nil {
			s.c.b.pump(l.node)
		}
		if p.Drain && l.credit > 0 {
			l.count += uint32(l.credit)
			l.credit = 0
		}
	}
	if p.Echo || p.Drain {
		l.tell(p.Drain)
	}
}

// tell sends a flow with the session's numbers filled in.
func (s *session) tell(p *amqp.Flow) {
	p.NextIncoming, p.IncomingWindow = amqp.Some(s.nextIncoming), incomingWindow
	p.NextOutgoing, p.OutgoingWindow = s.nextOutgoing, incomingWindow
	s.taken = 0
	s.send(p, nil)
}
