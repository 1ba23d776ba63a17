package broker

import (
	"slices"
	"strings"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
	"jmlbridge/e2e/servicebus/entity"
)

// Where a link leads.
type place uint8

const (
	toEntity place = iota
	toTokens
	toManagement
)

// A link is one link of a client, seen from our side. Everything of it is
// guarded by the broker's mu.
type link struct {
	s       *session
	handle  uint32
	name    string
	place   place
	node    *node // nil for $cbs
	sends   bool  // messages go to the client
	settled bool  // without waiting for an outcome
	gone    bool

	count  uint32 // deliveries so far, the link's delivery-count
	credit int32  // messages that the receiving side takes now

	group   *entity.Session // held by it, for a link that receives from one
	replyTo string          // of a link that brings replies
	replies [][]byte        // that wait for credit

	partial []byte // of the message coming in
	first   *amqp.Transfer

	pending *amqp.Attach // not answered yet: it waits for a session
}

const (
	managementSuffix = "/$management"
	transferSuffix   = "/$transfer/$deadletterqueue"
)

// attach attaches a link, or refuses it as the service does: by an attach
// without a source or target, and a detach with the reason.
func (s *session) attach(p *amqp.Attach) {
	if s.links[p.Handle] != nil || p.Handle >= maxLinks {
		s.fail(condHandleInUse, "attach of handle %d, which is taken or beyond %d", p.Handle, maxLinks-1)
		return
	}
	l := &link{s: s, handle: p.Handle, name: p.Name, sends: p.Role == amqp.Receiver, settled: p.SenderSettle == amqp.Settled}
	address := ""
	switch {
	case l.sends && p.Source != nil:
		address = p.Source.Address
		if p.Target != nil {
			l.replyTo = p.Target.Address
		}
	case !l.sends && p.Target != nil:
		address = p.Target.Address
	}
	b := s.c.b
	path := strings.ToLower(address)
	if path == "$cbs" {
		l.place = toTokens
	} else if rest, ok := strings.CutSuffix(path, managementSuffix); ok {
		l.place, path = toManagement, rest
	}
	l.node = b.nodes[path]
	o := op{point: OnAttach, conn: s.c, link: l, node: l.node}
	if l.place == toTokens { // before a token nothing is known of the client
		o.point = onNothing
	}
	var group *entity.Session
	b.act(o, func() *amqp.Error {
		if e := l.judge(p, address, path); e != nil {
			return e
		}
		if filter, ok := sessionFilter(p); ok && l.sends && l.place == toEntity {
			g, wait, e := l.acceptSession(p, filter)
			if e != nil || wait {
				return e
			}
			group = g
		}
		return nil
	}, func(e *amqp.Error) {
		switch {
		case e == waiting:
		case e != nil:
			if group != nil {
				l.node.queue.Leave(b.now(), group)
			}
			l.refuse(p, e)
		default:
			l.answer(p, group)
		}
	})
}

// judge says why a link may not be attached.
func (l *link) judge(p *amqp.Attach, address, path string) *amqp.Error {
	c := l.s.c
	switch {
	case address == amqp.Coordinator:
		return notImplemented("transactions")
	case strings.HasSuffix(path, transferSuffix):
		return notImplemented("transfer queues")
	case p.ReceiverSettle > amqp.Second || p.SenderSettle > amqp.Mixed:
		return failure(condInvalidField, "settle modes %d and %d", p.SenderSettle, p.ReceiverSettle)
	case l.place == toTokens:
		return nil
	}
	need := Send
	if l.sends {
		need = Listen
	}
	if l.place == toManagement {
		need = Send | Listen // either; each operation asks for its own
	}
	if e := c.allowed(path, need); e != nil {
		return e
	}
	switch n := l.node; {
	case n == nil:
		return failure(condNotFound, "The messaging entity '%s' could not be found.", address)
	case n.disabled:
		return failure(condDisabled, "The messaging entity '%s' is disabled.", n.path)
	case l.place == toManagement:
	case l.sends && n.isTopic:
		return failure(condNotAllowed, "'%s' is a topic; receive from one of its subscriptions", n.path)
	case !l.sends && !n.isTopic && (n.dead == nil || strings.Contains(path, "/subscriptions/")):
		return failure(condNotAllowed, "messages cannot be sent to '%s'", n.path)
	case l.sends:
		_, filtered := sessionFilter(p)
		if filtered != n.queue.Settings.Sessions {
			return failure(condNotAllowed, "'%s': sessions required: %t, session filter given: %t", n.path, n.queue.Settings.Sessions, filtered)
		}
	}
	return nil
}

// answer completes the attach.
func (l *link) answer(p *amqp.Attach, group *entity.Session) {
	b := l.s.c.b
	l.pending = nil
	if other := l.s.links[l.handle]; other != nil && other != l || l.s.c.sessions[l.s.channel] != l.s {
		if group != nil {
			l.node.queue.Leave(b.now(), group)
		}
		return // the session is gone, or the client was faster with another link
	}
	l.s.links[l.handle] = l
	a := &amqp.Attach{Name: p.Name, Handle: p.Handle, Role: !p.Role, SenderSettle: p.SenderSettle, ReceiverSettle: p.ReceiverSettle, Source: p.Source, Target: p.Target}
	if a.Source == nil {
		a.Source = &amqp.Source{}
	}
	if a.Target == nil {
		a.Target = &amqp.Target{}
	}
	if group != nil {
		l.group = group
		a.Source = &amqp.Source{Address: p.Source.Address, Filter: amqp.Map{{Key: filterName, Value: amqp.Described{Descriptor: filterCode, Value: group.ID}}}}
		a.Properties = amqp.Map{{Key: amqp.Symbol("com.microsoft:locked-until-utc"), Value: amqp.Ticks(group.LockedUntil)}}
	}
	if !l.sends {
		l.credit = senderCredit
		if l.place == toEntity {
			a.MaxMessageSize = b.cfg.MaxMessageBytes
			if n := b.cfg.MaxBatchBytes; n > 0 {
				a.Properties = amqp.Map{{Key: amqp.Symbol("com.microsoft:max-message-batch-size"), Value: n}}
			}
		}
	}
	l.s.send(a, nil)
	if !l.sends {
		l.tell(false)
	} else if l.place == toEntity {
		l.node.receivers = append(l.node.receivers, l)
	}
}

func (l *link) refuse(p *amqp.Attach, e *amqp.Error) {
	l.s.send(refusal(p), nil)
	l.s.send(&amqp.Detach{Handle: p.Handle, Closed: true, Error: e}, nil)
}

// refusal is the answer to an attach that has neither source nor target.
func refusal(p *amqp.Attach) *amqp.Attach {
	return &amqp.Attach{Name: p.Name, Handle: p.Handle, Role: !p.Role, SenderSettle: p.SenderSettle, ReceiverSettle: p.ReceiverSettle}
}

// tell sends the link's credit, as its receiver or, with drain, as its sender.
func (l *link) tell(drain bool) {
	l.s.tell(&amqp.Flow{Handle: amqp.Some(l.handle), DeliveryCount: amqp.Some(l.count), LinkCredit: amqp.Some(uint32(max(l.credit, 0))), Drain: drain})
}

// detach ends the link with a reason.
func (l *link) detach(e *amqp.Error) {
	if l.gone {
		return
	}
	if l.pending != nil {
		l.s.send(refusal(l.pending), nil)
	}
	l.s.send(&amqp.Detach{Handle: l.handle, Closed: true, Error: e}, nil)
	l.forget()
}

// forget ends the link on our side. A session that it holds is free again.
func (l *link) forget() {
	if l.gone {
		return
	}
	l.gone = true
	delete(l.s.links, l.handle)
	if l.node == nil {
		return
	}
	if i := slices.Index(l.node.receivers, l); i >= 0 {
		l.node.receivers = slices.Delete(l.node.receivers, i, i+1)
	}
	l.node.accepting = slices.DeleteFunc(l.node.accepting, func(a *accept) bool {
		if a.link == l {
			a.stop()
		}
		return a.link == l
	})
	if l.group != nil {
		l.node.queue.Leave(l.s.c.b.now(), l.group)
		l.group = nil
		l.s.c.b.touch(l.node)
	}
}

const filterName = amqp.Symbol("com.microsoft:session-filter")
const filterCode = uint64(0x137000000C)

// sessionFilter is the session that an attach asks for: an id, or nil for the
// next one.
func sessionFilter(p *amqp.Attach) (id *string, ok bool) {
	if p.Source == nil {
		return nil, false
	}
	v, ok := p.Source.Filter.Get(string(filterName))
	if d, described := v.(amqp.Described); described {
		v = d.Value
	}
	if s, named := v.(string); named {
		id = &s
	}
	return id, ok
}

// An accept is a link that waits until there is a session for it.
type accept struct {
	link *link
	stop func() bool // of the timer that ends the wait
}

// waiting is what act's effect returns when the answer comes later.
var waiting = &amqp.Error{}

func (l *link) acceptSession(p *amqp.Attach, id *string) (g *entity.Session, wait bool, e *amqp.Error) {
	b := l.s.c.b
	g, err := l.node.queue.Accept(b.now(), id)
	if err != nil {
		return nil, false, failed(err)
	}
	if g != nil {
		return g, false, nil
	}
	timeout := nextSessionWait
	if v, ok := p.Properties.Get("com.microsoft:timeout"); ok {
		if ms, ok := v.(uint32); ok {
			timeout = time.Duration(ms) * time.Millisecond
		}
	}
	l.pending = p
	l.s.links[l.handle] = l
	stop := b.cfg.Clock.AfterFunc(timeout, func() {
		b.do(func() {
			if l.pending != nil {
				l.detach(failure(condTimeout, "no session became available within %v", timeout))
			}
		})
	})
	l.node.accepting = append(l.node.accepting, &accept{l, stop})
	return nil, true, waiting
}

// acceptWaiting gives free sessions to who waits for one.
func (b *Broker) acceptWaiting(n *node) {
	for len(n.accepting) > 0 {
		g, err := n.queue.Accept(b.now(), nil)
		if err != nil || g == nil {
			return
		}
		a := n.accepting[0]
		n.accepting = n.accepting[1:]
		a.stop()
		a.link.answer(a.link.pending, g)
	}
}
