package broker

import (
	"strings"

	"jmlbridge/e2e/servicebus/amqp"
)

// A request is what came to $cbs or $management.
type request struct {
	link      *link
	operation string // without com.microsoft:
	args      amqp.Map
	props     amqp.Map
}

// result is what goes back when nothing failed.
type result struct {
	status int32
	body   any
}

// request handles a message that came on a link to $cbs or $management.
func (l *link) request(bare *amqp.Bare) {
	c := l.s.c
	if c.closed || c.silent || l.gone {
		return
	}
	id := bare.Property(amqp.MessageID)
	replyTo, _ := bare.Property(amqp.ReplyTo).(string)
	r := request{link: l, operation: strings.TrimPrefix(bare.Application.Text("operation"), "com.microsoft:"), props: bare.Application}
	r.args, _ = bare.Value().(amqp.Map)
	malformed := false
	o := op{point: OnManage, conn: c, link: l, node: l.node, operation: r.operation, malformed: &malformed}
	out := result{status: 200} // what is said of something ignored
	effect := func() (e *amqp.Error) {
		out, e = r.manage()
		return e
	}
	status, description := "statusCode", "statusDescription"
	if l.place == toTokens {
		o.point = OnToken
		status, description = "status-code", "status-description"
		effect = func() *amqp.Error {
			out = result{status: 202}
			if r.operation != "put-token" {
				return notImplemented("the operation " + r.operation + " of $cbs")
			}
			token, _ := bare.Value().(string)
			return c.putToken(r.props.Text("type"), r.props.Text("name"), token)
		}
	}
	c.b.act(o, effect, func(e *amqp.Error) {
		to := l.s.bringer(l.place, replyTo)
		if to == nil {
			return
		}
		props := amqp.Map{{Key: status, Value: out.status}, {Key: description, Value: "OK"}}
		if e != nil {
			code := statusOf(e)
			props = amqp.Map{{Key: status, Value: code}, {Key: description, Value: e.Description}, {Key: "errorCondition", Value: e.Condition}}
			out.body = nil
		}
		answer := amqp.Bare{Application: props}
		if !malformed {
			answer.Properties = []any{nil, nil, nil, nil, nil, id}
		}
		answer.Body = amqp.AppendValue(nil, out.body)
		if to.replies = append(to.replies, answer.Append(nil)); len(to.replies) > maxReplies {
			to.detach(failure(condTransferLimit, "%d replies wait for credit", len(to.replies)))
		}
		to.reply()
	})
}

// statusOf is the number to say for an error; an injected one may name it.
func statusOf(e *amqp.Error) int32 {
	if v, ok := e.Info.Get(string(statusKey)); ok {
		return v.(int32)
	}
	return status(e)
}

// reply sends the replies that wait, as far as there is credit: a client may ask
// before it has given any.
func (l *link) reply() {
	for len(l.replies) > 0 && l.credit > 0 && !l.gone {
		id := l.s.delivery
		l.s.delivery++
		tag := netGUID(l.s.c.b.newToken())
		l.transfer(id, tag[:], l.replies[0])
		l.replies = l.replies[1:]
	}
}

// bringer is the link of a connection that brings replies to an address.
func (s *session) bringer(p place, address string) *link {
	for _, x := range s.c.sessions {
		for _, l := range x.links {
			if l.sends && l.place == p && l.replyTo == address {
				return l
			}
		}
	}
	return nil
}
