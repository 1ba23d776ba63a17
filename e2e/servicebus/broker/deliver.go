package broker

import (
	"time"

	"jmlbridge/e2e/servicebus/amqp"
	"jmlbridge/e2e/servicebus/entity"
)

func (b *Broker) now() time.Time { return b.cfg.Clock.Now() }

// pump delivers messages to links with credit, one to each in turn.
func (b *Broker) pump(n *node) {
	if n.queue == nil {
		return
	}
	b.expire(n)
	b.acceptWaiting(n)
	for progress := true; progress; {
		progress = false
		for range len(n.receivers) {
			n.turn++
			if len(n.receivers) == 0 {
				return
			}
			l := n.receivers[n.turn%len(n.receivers)]
			if n.disabled || !l.ready() {
				continue
			}
			if m := n.queue.Head(l.group); m != nil && l.room(m) {
				b.deliver(l, m)
				progress = true
			}
		}
	}
}

// ready reports whether a message can go to the client now.
func (l *link) ready() bool {
	if l.credit <= 0 || l.gone || l.s.c.closed || l.s.c.silent {
		return false
	}
	if len(l.s.c.out) > highWater {
		l.s.c.starved = true // the writer calls again
		return false
	}
	return true
}

// room reports whether the client's window takes a whole message: a delivery is
// not left half sent.
func (l *link) room(m *entity.Message) bool {
	return uint32(len(m.Bare)+annotationRoom)/(l.s.c.limit-transferRoom)+1 <= l.s.window
}

// deliver sends the next message of the link's entity, as the faults in force
// will have it.
func (b *Broker) deliver(l *link, m *entity.Message) {
	q := l.node.queue
	var f *Fault
	if len(b.faults.list) > 0 {
		o := op{point: OnDeliver, conn: l.s.c, link: l, node: l.node, messages: []*entity.Message{m}}
		if f, _ = b.strike(o); f != nil {
			b.note(o, nil, f)
			switch f.Kind {
			case Reorder:
				if q.Postpone(m, max(f.Places, 1)) {
					return
				}
			case Lose:
				q.Take(b.now(), l.group, false)
				return
			case Duplicate:
				q.Repeat(b.now(), m)
			case Reset, Detach, End, CloseConn: // the message stays locked with nobody
				q.Take(b.now(), l.group, true)
				b.spoil(o, f, nil)
				return
			}
		}
	}
	q.Take(b.now(), l.group, !l.settled)
	b.scratch = b.encode(b.scratch[:0], m, nil)
	if f != nil && (f.Kind == Alter || f.Kind == PoisonIt) {
		b.scratch = f.deform(b.scratch)
	}
	id := l.s.delivery
	l.s.delivery++
	if !l.settled {
		l.s.unsettled[id] = delivery{l, m.Token}
	}
	tag := netGUID(m.Token)
	l.transfer(id, tag[:], b.scratch)
}

// transfer sends a payload as one delivery, in as many frames as it takes.
func (l *link) transfer(id uint32, tag []byte, payload []byte) {
	l.count++
	l.credit--
	t := &amqp.Transfer{Handle: l.handle, DeliveryID: amqp.Some(id), DeliveryTag: tag, MessageFormat: amqp.Some(0), Settled: l.settled}
	for room := int(l.s.c.limit) - transferRoom; ; payload = payload[room:] {
		part := payload
		if t.More = len(part) > room; t.More {
			part = part[:room]
		}
		l.s.nextOutgoing++
		l.s.window -= min(l.s.window, 1)
		l.s.send(t, part)
		if !t.More {
			return
		}
		t = &amqp.Transfer{Handle: l.handle, Settled: l.settled}
	}
}

// annotationRoom is more than header and annotations of a message take, unless
// its sender wrote many.
const annotationRoom = 1024

// transferRoom is more than frame header and performative of a transfer take.
const transferRoom = 96

// netGUID orders the bytes of a lock token as .NET does, which is how a delivery
// tag carries it.
func netGUID(u amqp.UUID) amqp.UUID {
	u[0], u[1], u[2], u[3] = u[3], u[2], u[1], u[0]
	u[4], u[5] = u[5], u[4]
	u[6], u[7] = u[7], u[6]
	return u
}

// Annotations of the service.
const (
	annSequence  = amqp.Symbol("x-opt-sequence-number")
	annEnqueued  = amqp.Symbol("x-opt-enqueued-time")
	annLocked    = amqp.Symbol("x-opt-locked-until")
	annScheduled = amqp.Symbol("x-opt-enqueue-sequence-number")
	annState     = amqp.Symbol("x-opt-message-state")
	annDeadFrom  = amqp.Symbol("x-opt-deadletter-source")
	annToken     = amqp.Symbol("x-opt-lock-token")
)

// encode writes a message as clients get it.
func (b *Broker) encode(dst []byte, m *entity.Message, deliveryAnnotations amqp.Map) []byte {
	out := amqp.Message{Header: &amqp.Header{Durable: m.Header.Durable, Priority: m.Header.Priority, TTL: m.Header.TTL, DeliveryCount: m.Deliveries},
		Delivery: deliveryAnnotations, Bare: m.Bare}
	a := make(amqp.Map, 0, len(m.Annotations)+6)
	a = append(a, m.Annotations...)
	a = append(a, amqp.Pair{Key: annSequence, Value: m.Sequence})
	if !m.EnqueuedAt.IsZero() {
		a = append(a, amqp.Pair{Key: annEnqueued, Value: m.EnqueuedAt})
	}
	if m.Locked() {
		a = append(a, amqp.Pair{Key: annLocked, Value: m.LockedUntil})
	}
	if m.Scheduled != 0 {
		a = append(a, amqp.Pair{Key: annScheduled, Value: m.Scheduled})
	}
	if m.State != entity.Active {
		a = append(a, amqp.Pair{Key: annState, Value: int32(m.State)})
	}
	if m.DeadFrom != "" {
		a = append(a, amqp.Pair{Key: annDeadFrom, Value: m.DeadFrom})
	}
	out.Annotations = a
	return out.Append(dst)
}

// disposition takes the outcome of deliveries. Each is answered, also when its
// lock is long gone: a client waits for that.
func (s *session) disposition(p *amqp.Disposition) {
	last := p.First
	if p.Last.Set {
		last = p.Last.Value
	}
	switch {
	case p.Role != amqp.Receiver:
		return // confirms what we have settled
	case last-p.First >= maxDisposition:
		s.fail(condNotAllowed, "disposition of deliveries %d to %d, at most %d at a time", p.First, last, maxDisposition)
		return
	}
	for id := p.First; ; id++ {
		s.outcome(id, p)
		if id == last {
			return
		}
	}
}

func (s *session) outcome(id uint32, p *amqp.Disposition) {
	d, known := s.unsettled[id]
	var n *node
	if known {
		n = d.link.node
	}
	if _, partly := p.State.(*amqp.Received); partly || p.State == nil && !p.Settled {
		return
	}
	delete(s.unsettled, id)
	o := op{point: OnSettle, conn: s.c, link: d.link, node: n, token: d.token}
	if !known { // nothing that a fault could spoil
		o.point = onNothing
	}
	s.c.b.act(o, func() *amqp.Error {
		if !known {
			return failed(entity.ErrLockLost)
		}
		return s.c.b.conclude(n, d.token, p.State)
	}, func(e *amqp.Error) {
		if p.Settled {
			return
		}
		answer := &amqp.Disposition{Role: amqp.Sender, First: id, Last: amqp.Some(id), Settled: true, State: p.State}
		if r, ok := p.State.(*amqp.Rejected); ok && r.Error != nil {
			answer.State = &amqp.Rejected{} // dead-lettered: without an error it means done
		}
		if e != nil {
			answer.State = &amqp.Rejected{Error: e}
		}
		s.send(answer, nil)
	})
}

// conclude does to a message what the outcome says.
func (b *Broker) conclude(n *node, token amqp.UUID, state amqp.State) *amqp.Error {
	b.expire(n)
	q, now := n.queue, b.now()
	var err error
	switch state := state.(type) {
	case *amqp.Accepted:
		err = q.Complete(token)
	case *amqp.Released, nil:
		err = q.Release(token)
	case *amqp.Modified:
		if state.Undeliverable {
			err = q.Defer(token, state.Annotations)
		} else {
			err = q.Abandon(now, token, state.Annotations)
		}
	case *amqp.Rejected:
		var info amqp.Map
		if state.Error != nil {
			info = state.Error.Info
		}
		reason, description, rest := deadLetterInfo(info)
		err = q.DeadLetter(token, reason, description, rest)
	}
	b.touch(n)
	return failed(err)
}

// deadLetterInfo takes the reason out of what came with a rejection.
func deadLetterInfo(info amqp.Map) (reason, description string, rest amqp.Map) {
	for _, p := range info {
		value, _ := p.Value.(string)
		switch p.Name() {
		case "DeadLetterReason":
			reason = value
		case "DeadLetterErrorDescription":
			description = value
		default:
			rest = append(rest, p)
		}
	}
	return reason, description, rest
}
