package entry

import (
	"strconv"

	"jmlbridge/schema"
)

// appender is what encoding/json would write of a body, without its cost. Only the kinds of which there is one
// for each message have it; a test holds them against encoding/json, member by member.
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
	b = appendText(b, `"iss":`, m.Issuer)
	b = appendText(b, `,"stream":`, m.Stream)
	b = strconv.AppendInt(append(b, `,"generation":`...), int64(m.Generation), 10)
	b = strconv.AppendUint(append(b, `,"seq":`...), m.Seq, 10)
	b = appendDigest(b, `,"prev":`, m.Prev)
	b = appendOptional(b, `,"event":`, m.Event)
	b = appendOptional(b, `,"sub":`, m.Subject)
	if m.Engagement != 0 {
		b = strconv.AppendInt(append(b, `,"engagement":`...), int64(m.Engagement), 10)
	}
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
