package broker

import (
	"fmt"

	"jmlbridge/e2e/servicebus/amqp"
	"jmlbridge/e2e/servicebus/entity"
)

// transfer takes in a message or a part of one. What costs time, decoding, is
// done outside the lock: only this goroutine touches what gathers in a link.
func (c *conn) transfer(channel uint16, p *amqp.Transfer, payload []byte) error {
	l, whole, err := c.gather(channel, p, payload)
	if err != nil || l == nil {
		return err
	}
	first, raw := l.first, whole
	l.first, l.partial = nil, nil
	if l.place != toEntity {
		message, err := amqp.DecodeMessage(raw)
		if err != nil {
			return err
		}
		bare, err := amqp.DecodeBare(message.Bare)
		if err != nil {
			return err
		}
		c.b.do(func() {
			l.accepted(first, nil)
			l.request(&bare)
		})
		return nil
	}
	list, why := messages(first.MessageFormat.Value, raw)
	c.b.do(func() {
		if c.closed || c.silent || l.gone {
			return
		}
		if why == nil && uint64(len(raw)) > c.b.cfg.MaxMessageBytes {
			why = failure(condTooLarge, "The message of %d bytes is larger than %d.", len(raw), c.b.cfg.MaxMessageBytes)
		}
		c.b.act(op{point: OnSend, conn: c, link: l, node: l.node, messages: list}, func() *amqp.Error {
			if why != nil {
				return why
			}
			return c.b.enqueue(l.node, list)
		}, func(e *amqp.Error) { l.accepted(first, e) })
	})
	return nil
}

// gather adds a frame to its link and returns the link when the message is
// whole.
func (c *conn) gather(channel uint16, p *amqp.Transfer, payload []byte) (whole *link, raw []byte, err error) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	s := c.sessions[channel]
	if s == nil {
		return nil, nil, fmt.Errorf("transfer on channel %d, on which there is no session", channel)
	}
	s.nextIncoming++
	if s.taken++; s.taken >= incomingWindow/2 {
		s.tell(&amqp.Flow{})
	}
	l := s.links[p.Handle]
	switch {
	case l == nil:
		return nil, nil, nil // it crossed a detach of ours
	case l.sends:
		s.fail(condNotAllowed, "transfer on a link that receives")
		return nil, nil, nil
	case p.Aborted:
		l.first, l.partial = nil, nil
		return nil, nil, nil
	case l.first == nil && (!p.DeliveryID.Set || l.credit <= 0):
		l.detach(failure(condTransferLimit, "message without a delivery id or beyond the credit"))
		return nil, nil, nil
	}
	if l.first == nil {
		l.first = p
	}
	l.first.Settled = l.first.Settled || p.Settled
	limit := c.b.cfg.MaxMessageBytes + maxFrame // the excess is judged with the whole message
	if l.place != toEntity {
		limit = maxManagement
	}
	if uint64(len(l.partial)+len(payload)) > limit {
		l.detach(failure(condTooLarge, "The message is larger than %d bytes.", limit))
		return nil, nil, nil
	}
	l.partial = append(l.partial, payload...)
	if p.More {
		return nil, nil, nil
	}
	l.count++
	if l.credit--; l.credit <= senderCredit/2 {
		l.credit = senderCredit
		l.tell(false)
	}
	return l, l.partial, nil
}

// messages reads what one transfer carries.
func messages(format uint32, raw []byte) ([]*entity.Message, *amqp.Error) {
	read := func(raw []byte) (*entity.Message, *amqp.Error) {
		m, err := entity.NewMessage(append([]byte(nil), raw...))
		if err != nil {
			return nil, failure(condDecode, "%v", err)
		}
		return m, nil
	}
	switch format {
	case 0:
		m, e := read(raw)
		if e != nil {
			return nil, e
		}
		return []*entity.Message{m}, nil
	case amqp.BatchFormat:
		envelope, err := amqp.DecodeMessage(raw)
		if err != nil {
			return nil, failure(condDecode, "%v", err)
		}
		bare, err := amqp.DecodeBare(envelope.Bare)
		if err != nil {
			return nil, failure(condDecode, "%v", err)
		}
		list := make([]*entity.Message, len(bare.Data))
		for i, data := range bare.Data {
			var e *amqp.Error
			if list[i], e = read(data); e != nil {
				return nil, e
			}
		}
		return list, nil
	}
	return nil, notImplemented(fmt.Sprintf("message format %#x", format))
}

// accepted answers a transfer, unless the client has settled it already.
func (l *link) accepted(p *amqp.Transfer, e *amqp.Error) {
	if p.Settled || l.gone {
		return
	}
	d := &amqp.Disposition{Role: amqp.Receiver, First: p.DeliveryID.Value, Settled: true, State: &amqp.Accepted{}}
	if e != nil {
		d.State = &amqp.Rejected{Error: e}
	}
	l.s.send(d, nil)
}

// enqueue takes all of the messages in, or none.
func (b *Broker) enqueue(n *node, list []*entity.Message) *amqp.Error {
	if n.disabled {
		return failure(condDisabled, "The messaging entity '%s' is disabled.", n.path)
	}
	targets := n.targets()
	for _, t := range targets {
		b.expire(t)
		if !t.queue.Fits(list...) {
			return failed(entity.ErrFull)
		}
		for _, m := range list {
			if t.queue.Settings.Sessions && !m.HasSession {
				return failed(entity.ErrNoSession)
			}
		}
	}
	now := b.now()
	for _, t := range targets {
		for _, m := range list {
			if n.isTopic {
				scheduled := m.ScheduledAt
				m = m.Copy()
				m.ScheduledAt = scheduled
			}
			if _, err := t.queue.Send(now, m); err != nil {
				return failed(err)
			}
		}
		b.touch(t)
	}
	return nil
}

// targets are the queues that get what is sent to a node.
func (n *node) targets() []*node {
	if n.isTopic {
		return n.topic
	}
	return []*node{n}
}

// repeat puts copies of messages where they went, past duplicate detection.
func (b *Broker) repeat(n *node, list ...*entity.Message) {
	for _, t := range n.targets() {
		for _, m := range list {
			t.queue.Repeat(b.now(), m)
		}
		b.touch(t)
	}
}
