package broker

import (
	"strings"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
	"jmlbridge/e2e/servicebus/entity"
)

// manage does one management operation.
func (r *request) manage() (result, *amqp.Error) {
	n, b := r.link.node, r.link.s.c.b
	need := Listen
	if r.operation == "schedule-message" || r.operation == "cancel-scheduled-message" {
		need = Send
	}
	if e := r.link.s.c.allowed(strings.ToLower(n.path), need); e != nil {
		return result{}, e
	}
	if n.disabled {
		return result{}, failure(condDisabled, "The messaging entity '%s' is disabled.", n.path)
	}
	if n.isTopic && need != Send {
		return result{}, failure(condNotAllowed, "'%s' is a topic", n.path)
	}
	b.expire(n)
	defer b.touch(n)
	switch r.operation {
	case "renew-lock":
		return r.renewLock(n.queue, b.now())
	case "renew-session-lock":
		return r.renewSession(n.queue, b.now())
	case "update-disposition":
		return r.settle(b, n)
	case "peek-message":
		return r.peek(b, n.queue)
	case "receive-by-sequence-number":
		return r.receive(b, n.queue)
	case "schedule-message":
		return r.schedule(b, n)
	case "cancel-scheduled-message":
		return r.cancel(n)
	case "get-session-state", "set-session-state":
		return r.sessionState(n.queue, b.now())
	case "get-message-sessions":
		return r.sessions(n.queue)
	}
	return result{}, notImplemented("the management operation " + r.operation)
}

// argument reads one argument of a type.
func argument[T any](r *request, name string) (T, *amqp.Error) {
	v, _ := r.args.Get(name)
	t, ok := v.(T)
	if !ok {
		return t, failure(condArgument, "%s of type %T, expected %T", name, v, t)
	}
	return t, nil
}

// array reads an argument that is an array of a type.
func array[T any](r *request, name string) ([]T, *amqp.Error) {
	list, e := argument[amqp.Array](r, name)
	if e != nil {
		return nil, e
	}
	out := make([]T, len(list))
	for i, v := range list {
		t, ok := v.(T)
		if !ok {
			return nil, failure(condArgument, "%s holds a %T, expected %T", name, v, t)
		}
		out[i] = t
	}
	return out, nil
}

func (r *request) renewLock(q *entity.Queue, now time.Time) (result, *amqp.Error) {
	tokens, e := array[amqp.UUID](r, "lock-tokens")
	if e != nil {
		return result{}, e
	}
	ends := amqp.Array{}
	for _, t := range tokens {
		until, err := q.Renew(now, t)
		if err != nil {
			return result{}, failed(err)
		}
		ends = append(ends, until)
	}
	return result{200, amqp.Map{{Key: "expirations", Value: ends}}}, nil
}

func (r *request) renewSession(q *entity.Queue, now time.Time) (result, *amqp.Error) {
	id, e := argument[string](r, "session-id")
	if e != nil {
		return result{}, e
	}
	s := q.Session(id)
	if s == nil || !r.holds(s) {
		return result{}, failure(condSessionLockLost, "The lock on the session %q is not held by this client.", id)
	}
	return result{200, amqp.Map{{Key: "expiration", Value: q.RenewSession(now, s)}}}, nil
}

// holds reports whether a link of the requesting connection holds a session.
func (r *request) holds(s *entity.Session) bool {
	for _, l := range r.link.node.receivers {
		if l.group == s && l.s.c == r.link.s.c {
			return true
		}
	}
	return false
}

func (r *request) settle(b *Broker, n *node) (result, *amqp.Error) {
	tokens, e := array[amqp.UUID](r, "lock-tokens")
	if e != nil {
		return result{}, e
	}
	properties, _ := r.args.Get("properties-to-modify")
	modify, _ := properties.(amqp.Map)
	for _, t := range tokens {
		if _, err := n.queue.Holds(t); err != nil {
			return result{}, failed(err) // all or none
		}
	}
	now := b.now()
	for _, t := range tokens {
		var err error
		switch status := r.args.Text("disposition-status"); status {
		case "completed":
			err = n.queue.Complete(t)
		case "abandoned":
			err = n.queue.Abandon(now, t, modify)
		case "defered":
			err = n.queue.Defer(t, modify)
		case "suspended":
			err = n.queue.DeadLetter(t, r.args.Text("deadletter-reason"), r.args.Text("deadletter-description"), modify)
		default:
			return result{}, failure(condArgument, "disposition-status %q", status)
		}
		if err != nil {
			return result{}, failed(err)
		}
	}
	return result{200, nil}, nil
}

func (r *request) peek(b *Broker, q *entity.Queue) (result, *amqp.Error) {
	from, e := argument[int64](r, "from-sequence-number")
	if e != nil {
		return result{}, e
	}
	count, e := argument[int32](r, "message-count")
	if e != nil {
		return result{}, e
	}
	var session *string
	if id, ok := r.args.Get("session-id"); ok {
		if s, ok := id.(string); ok {
			session = &s
		}
	} else if name := r.props.Text("associated-link-name"); name != "" {
		for _, l := range r.link.node.receivers {
			if l.name == name && l.group != nil {
				session = &l.group.ID
			}
		}
	}
	list := []any{}
	for _, m := range q.Peek(from, int(max(0, min(count, maxPeek))), session) {
		list = append(list, amqp.Map{{Key: "message", Value: b.encode(nil, m, nil)}})
	}
	if len(list) == 0 {
		return result{204, nil}, nil
	}
	return result{200, amqp.Map{{Key: "messages", Value: list}}}, nil
}

func (r *request) receive(b *Broker, q *entity.Queue) (result, *amqp.Error) {
	numbers, e := array[int64](r, "sequence-numbers")
	if e != nil {
		return result{}, e
	}
	mode, e := argument[uint32](r, "receiver-settle-mode")
	if e != nil {
		return result{}, e
	}
	got, err := q.Receive(b.now(), numbers, mode == 1)
	if err != nil {
		return result{}, failed(err)
	}
	list := []any{}
	for _, m := range got {
		raw := b.encode(nil, m, amqp.Map{{Key: annToken, Value: m.Token}})
		list = append(list, amqp.Map{{Key: "message", Value: raw}, {Key: "lock-token", Value: m.Token}})
	}
	return result{200, amqp.Map{{Key: "messages", Value: list}}}, nil
}

func (r *request) schedule(b *Broker, n *node) (result, *amqp.Error) {
	if n.isTopic {
		return result{}, notImplemented("scheduling on topics")
	}
	entries, e := argument[[]any](r, "messages")
	if e != nil {
		return result{}, e
	}
	var list []*entity.Message
	for _, x := range entries {
		entry, _ := x.(amqp.Map)
		raw, _ := entry.Get("message")
		encoded, ok := raw.([]byte)
		if !ok {
			return result{}, failure(condArgument, "messages: a message of type %T, expected binary", raw)
		}
		m, err := entity.NewMessage(encoded)
		if err != nil {
			return result{}, failure(condDecode, "%v", err)
		}
		if uint64(len(encoded)) > b.cfg.MaxMessageBytes {
			return result{}, failure(condTooLarge, "The message of %d bytes is larger than %d.", len(encoded), b.cfg.MaxMessageBytes)
		}
		list = append(list, m)
	}
	if e := b.enqueue(n, list); e != nil {
		return result{}, e
	}
	numbers := amqp.Array{}
	for _, m := range list {
		numbers = append(numbers, m.Sequence)
	}
	return result{200, amqp.Map{{Key: "sequence-numbers", Value: numbers}}}, nil
}

func (r *request) cancel(n *node) (result, *amqp.Error) {
	numbers, e := array[int64](r, "sequence-numbers")
	if e != nil {
		return result{}, e
	}
	if n.isTopic {
		return result{}, notImplemented("scheduling on topics")
	}
	return result{200, nil}, failed(n.queue.Cancel(numbers))
}

func (r *request) sessionState(q *entity.Queue, now time.Time) (result, *amqp.Error) {
	id, e := argument[string](r, "session-id")
	if e != nil {
		return result{}, e
	}
	s := q.Session(id)
	if s == nil || !r.holds(s) {
		return result{}, failure(condSessionLockLost, "The lock on the session %q is not held by this client.", id)
	}
	if r.operation == "get-session-state" {
		var state any
		if raw := q.SessionState(s); raw != nil {
			state = raw
		}
		return result{200, amqp.Map{{Key: "session-state", Value: state}}}, nil
	}
	v, _ := r.args.Get("session-state")
	state, _ := v.([]byte)
	q.SetSessionState(now, s, state)
	return result{200, nil}, nil
}

// anyTime is what a client says that wants every session (the year 10000 or
// later, which .NET cannot say).
var anyTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

func (r *request) sessions(q *entity.Queue) (result, *amqp.Error) {
	since, e := argument[time.Time](r, "last-updated-time")
	if e != nil {
		return result{}, e
	}
	skip, e := argument[int32](r, "skip")
	if e != nil {
		return result{}, e
	}
	top, e := argument[int32](r, "top")
	if e != nil {
		return result{}, e
	}
	if since.After(anyTime) {
		since = time.Time{}
	}
	ids := q.Sessions(since)
	ids = ids[max(0, min(int(skip), len(ids))):]
	ids = ids[:max(0, min(int(top), len(ids)))]
	if len(ids) == 0 {
		return result{204, nil}, nil
	}
	list := amqp.Array{}
	for _, id := range ids {
		list = append(list, id)
	}
	return result{200, amqp.Map{{Key: "skip", Value: skip + int32(len(ids))}, {Key: "sessions-ids", Value: list}}}, nil
}
