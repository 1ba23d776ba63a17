package entry

import (
	"strconv"

	"jmlbridge/schema"
)

// appender is what encoding/json would write of a body, without its cost. Only the kinds of which there is one
// for each message or each act have it; a test holds them against encoding/json, member by member.
type appender interface {
	append(b []byte) ([]byte, error)
}

func (r *Received) append(b []byte) ([]byte, error) {
	b, err := r.Message.append(append(b, '{'))
	if err != nil {
		return nil, err
	}
	b = appendText(b, `,"disposition":`, r.Disposition)
	b = appendOptional(b, `,"code":`, r.Code)
	if r.Stale {
		b = append(b, `,"stale":true`...)
	}
	return append(b, '}'), nil
}

func (s *Sent) append(b []byte) ([]byte, error) {
	b, err := s.Message.append(append(b, '{'))
	if err != nil {
		return nil, err
	}
	return append(appendText(b, `,"aud":`, s.Audience), '}'), nil
}

// append writes the members, as they stand in the body that embeds m.
func (m *Message) append(b []byte) ([]byte, error) {
	b = appendDigest(m.Position.append(b), `,"prev":`, m.Prev)
	b = appendOptional(b, `,"event":`, m.Event)
	b = appendOptional(b, `,"sub":`, m.Subject)
	b = appendNumber(b, `,"engagement":`, m.Engagement)
	b = appendOptional(b, `,"jti":`, m.ID)
	b = appendOptional(b, `,"txn":`, m.Txn)
	b = appendDigest(b, `,"payload":`, m.Payload)
	b = appendDigest(b, `,"wire":`, m.Wire)
	b = appendText(b, `,"key":`, m.Key)
	b = appendOptional(b, `,"recipient":`, m.Recipient)
	b = appendInstant(b, `,"iat":`, m.IssuedAt)
	b = appendInstant(b, `,"toe":`, m.Occurred)
	b = appendInstant(b, `,"effective":`, m.Effective)
	if m.Roster != nil {
		var err error
		if b, err = appendJSON(append(b, `,"roster":`...), m.Roster); err != nil {
			return nil, err
		}
	}
	if m.Cuts != nil {
		b = strconv.AppendInt(append(b, `,"cuts":`...), int64(*m.Cuts), 10)
	}
	return b, nil
}

func (i *Intent) append(b []byte) ([]byte, error) {
	b = appendOptional(i.Who.append(append(b, '{')), `,"account":`, i.Account)
	b = appendList(append(b, `,"ops":`...), i.Ops, Op.append)
	b = i.Cause.append(append(b, `,"cause":`...))
	b = appendMoment(appendDigest(b, `,"policy":`, i.Policy), `,"due":`, i.Due)
	b = appendOptional(appendNumber(b, `,"attempt":`, i.Attempt), `,"hold":`, i.Hold)
	if i.Urgent {
		b = append(b, `,"urgent":true`...)
	}
	if i.Observe {
		b = append(b, `,"observe":true`...)
	}
	if len(i.Approvals) > 0 {
		b = appendList(append(b, `,"approvals":`...), i.Approvals, Position.object)
	}
	return append(b, '}'), nil
}

func (o Op) append(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"n":`...), int64(o.N), 10)
	b = appendText(appendText(b, `,"op":`, o.Op), `,"class":`, o.Class)
	b = appendOptional(b, `,"target":`, o.Target)
	if len(o.Attributes) > 0 {
		b = appendList(append(b, `,"attributes":`...), o.Attributes, func(s string, b []byte) []byte { return appendText(b, "", s) })
	}
	return append(b, '}')
}

func (o *Outcome) append(b []byte) ([]byte, error) {
	b = strconv.AppendInt(append(b, `{"intent":`...), o.Intent, 10)
	b = appendOptional(o.Who.append(append(b, ',')), `,"account":`, o.Account)
	return append(appendList(append(b, `,"results":`...), o.Results, Result.append), '}'), nil
}

func (r Result) append(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"n":`...), int64(r.N), 10)
	b = appendOptional(appendText(b, `,"result":`, r.Result), `,"code":`, r.Code)
	b = appendMoment(b, `,"at":`, r.At)
	if len(r.Requests) > 0 {
		b = appendList(append(b, `,"requests":`...), r.Requests, Request.append)
	}
	return append(b, '}')
}

func (q Request) append(b []byte) []byte {
	b = appendOptional(appendText(b, `{"client":`, q.Client), `,"server":`, q.Server)
	b = appendOptional(appendNumber(b, `,"status":`, q.Status), `,"code":`, q.Code)
	return append(appendNumber(appendOptional(b, `,"method":`, q.Method), `,"attempt":`, q.Retry), '}')
}

func (c *Cause) append(b []byte) []byte {
	b = appendText(b, `{"type":`, c.Type)
	if c.Position != nil {
		b = c.Position.object(append(b, `,"position":`...))
	}
	if c.Entry != nil {
		b = strconv.AppendInt(append(b, `,"entry":`...), *c.Entry, 10)
	}
	return append(appendOptional(b, `,"code":`, c.Code), '}')
}

// append writes the members, as they stand in what embeds w.
func (w *Who) append(b []byte) []byte {
	return appendNumber(appendText(appendText(b, `"iss":`, w.Issuer), `,"sub":`, w.Subject), `,"engagement":`, w.Engagement)
}

// append writes the members, as they stand in what embeds p.
func (p *Position) append(b []byte) []byte {
	b = appendText(appendText(b, `"iss":`, p.Issuer), `,"stream":`, p.Stream)
	b = strconv.AppendInt(append(b, `,"generation":`...), int64(p.Generation), 10)
	return strconv.AppendUint(append(b, `,"seq":`...), p.Seq, 10)
}

func (p Position) object(b []byte) []byte { return append(p.append(append(b, '{')), '}') }

// appendList writes a list; nil is null, as with encoding/json.
func appendList[T any](b []byte, list []T, one func(T, []byte) []byte) []byte {
	if list == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, x := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(x, b)
	}
	return append(b, ']')
}

func appendNumber(b []byte, prefix string, n int) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(b, prefix...), int64(n), 10)
}

func appendMoment(b []byte, prefix string, m *Moment) []byte {
	if m == nil {
		return b
	}
	b = m.UTC().AppendFormat(append(append(b, prefix...), '"'), momentForm)
	return append(b, '"')
}

func appendDigest(b []byte, prefix string, d schema.Digest) []byte {
	b, _ = d.AppendText(append(append(b, prefix...), '"')) // never fails
	return append(b, '"')
}

func appendInstant(b []byte, prefix string, i *schema.Instant) []byte {
	if i == nil {
		return b
	}
	b, _ = i.AppendText(append(append(b, prefix...), '"')) // never fails
	return append(b, '"')
}

func appendOptional(b []byte, prefix, s string) []byte {
	if s == "" {
		return b
	}
	return appendText(b, prefix, s)
}

func appendText(b []byte, prefix, s string) []byte {
	b = append(b, prefix...)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			b, _ = appendJSON(b, s) // a string never fails
			return b
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
