package broker

import (
	"fmt"
	"slices"
	"strings"

	"jmlbridge/e2e/servicebus/amqp"
	"jmlbridge/e2e/servicebus/entity"
)

// An op is something that a fault can strike.
type op struct {
	point     Point
	conn      *conn
	link      *link // nil for open
	node      *node // nil where there is none
	operation string
	messages  []*entity.Message
	token     amqp.UUID // of settle
	malformed *bool     // of token and manage: set when the reply shall lack its properties
}

func (f *Fault) matches(o op) bool {
	if f.On != o.point || f.Operation != "" && f.Operation != o.operation {
		return false
	}
	if f.Entity != "" && (o.node == nil || !strings.EqualFold(f.Entity, o.node.path)) {
		return false
	}
	if f.Message == "" {
		return true
	}
	list := o.messages
	if o.point == OnSettle && o.node != nil {
		if m, err := o.node.queue.Holds(o.token); err == nil {
			list = []*entity.Message{m}
		}
	}
	return slices.ContainsFunc(list, func(m *entity.Message) bool { return m != nil && fmt.Sprint(m.ID) == f.Message })
}

// strike picks the faults for one op: at most one that spoils, and the delays.
func (b *Broker) strike(o op) (spoil *Fault, delays []Fault) {
	for _, h := range b.faults.list {
		if h.Kind != Delay && spoil != nil || !h.matches(o) {
			continue
		}
		h.Seen++
		if h.Seen <= h.Skip || h.Count > 0 && h.Hit >= h.Count || h.Probability > 0 && b.faults.rand.Float64() >= h.Probability {
			continue
		}
		h.Hit++
		if h.Kind == Delay {
			delays = append(delays, h.Fault)
			continue
		}
		hit := h.Fault
		spoil = &hit
	}
	return spoil, delays
}

// failure is the error of a fault.
func (f *Fault) failure() *amqp.Error {
	e := &amqp.Error{Condition: amqp.Symbol(f.Condition), Description: f.Description}
	if e.Description == "" {
		e.Description = "injected by fault " + f.Name
	}
	switch {
	case e.Condition != "":
	case f.Kind == Detach:
		e.Condition = condDetachForced
	case f.Kind == End:
		e.Condition = condInternal
	case f.Kind == CloseConn, f.On == OnOpen:
		e.Condition = condForced
	default:
		e.Condition = condBusy
	}
	return e
}

// act does an op and answers it, as the faults in force will have it. effect
// returns why it was refused; it may be nil. Callers hold mu, and both are
// called under it, perhaps later.
func (b *Broker) act(o op, effect func() *amqp.Error, answer func(*amqp.Error)) {
	if effect == nil {
		effect = func() *amqp.Error { return nil }
	}
	if len(b.faults.list) == 0 || o.point == onNothing {
		e := effect()
		b.note(o, e, nil)
		answer(e)
		return
	}
	f, delays := b.strike(o)
	b.wait(delays, false, func() {
		if f != nil && !f.Applied && slices.Contains(instead, f.Kind) {
			b.note(o, f.failure(), f)
			b.spoil(o, f, answer)
			return
		}
		e := b.effect(o, f, effect)
		b.note(o, e, f)
		b.wait(delays, true, func() {
			if f != nil && e == nil && f.Applied {
				b.spoil(o, f, answer)
				return
			}
			answer(e)
		})
	})
}

// effect makes an op take effect, with the faults that change the effect itself.
func (b *Broker) effect(o op, f *Fault, effect func() *amqp.Error) *amqp.Error {
	if f == nil {
		return effect()
	}
	switch f.Kind {
	case Ignore:
		return nil
	case Malformed:
		*o.malformed = true
	case Alter:
		for _, m := range o.messages {
			m.Bare = flipped(m.Bare)
		}
	case Duplicate:
		e := effect()
		if e == nil {
			b.repeat(o.node, o.messages...)
		}
		return e
	case Replay:
		m, _ := o.node.queue.Holds(o.token)
		e := effect()
		if e == nil && m != nil {
			b.repeat(o.node, m)
		}
		return e
	}
	return effect()
}

// spoil is what happens in place of the answer.
func (b *Broker) spoil(o op, f *Fault, answer func(*amqp.Error)) {
	switch f.Kind {
	case Error:
		e := f.failure()
		if f.Status != 0 {
			e.Info = amqp.Map{{Key: statusKey, Value: int32(f.Status)}}
		}
		answer(e)
	case Reset:
		o.conn.reset()
	case Silence:
		if o.point == OnOpen {
			o.conn.silent = true
		}
	case Detach:
		o.link.detach(f.failure())
	case End:
		o.link.s.drop(f.failure())
	case CloseConn:
		o.conn.end(f.failure())
	}
}

// statusKey, in the info of an injected error, holds the number to say.
const statusKey = amqp.Symbol("status")

type dialFault uint8

const (
	dialFine dialFault = iota
	dialReset
	dialSilence
)

// strikeDial says what becomes of a connection that comes in.
func (b *Broker) strikeDial() dialFault {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.refuses:
		return dialReset
	case b.silent:
		return dialSilence
	}
	f, _ := b.strike(op{point: OnDial})
	switch {
	case f == nil:
		return dialFine
	case f.Kind == Reset:
		return dialReset
	}
	return dialSilence
}
