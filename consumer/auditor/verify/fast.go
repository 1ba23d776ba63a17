package verify

import (
	"bytes"
	"encoding"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// decodeEntry reads one entry, strictly. Most entries are of three kinds, and have nothing in them that
// needs unescaping: for those a plain reader fills the body in a fraction of the time of encoding/json. It
// may be careless, since what it read is believed only if it encodes to the same octets again. Whatever
// it does not know it leaves to entry.Decode.
func decodeEntry(data []byte) (entry.Entry, error) {
	if e, ok := quick(data); ok {
		if again, err := entry.Encode(e); err == nil && bytes.Equal(again, data) {
			return e, nil
		}
	}
	return entry.Decode(data)
}

func quick(data []byte) (e entry.Entry, ok bool) {
	s := scan{b: data}
	var m entry.Moment
	s.lit(`{"v":1,"time":`)
	s.text(&m)
	s.lit(`,"kind":`)
	kind := s.str()
	s.lit(`,"`)
	s.lit(kind)
	s.lit(`":{`)
	if s.bad {
		return e, false
	}
	e.Time = m.Time
	switch entry.Kind(kind) {
	case entry.KindReceived:
		e.Body = s.received()
	case entry.KindIntent:
		e.Body = s.intent()
	case entry.KindOutcome:
		e.Body = s.outcome()
	default:
		return e, false
	}
	s.lit("}}")
	return e, !s.bad && s.i == len(data)
}

// scan reads canonical JSON whose members come in a known order.
type scan struct {
	b   []byte
	i   int
	bad bool // once set, nothing read is of use
}

func (s *scan) lit(l string) {
	if len(s.b)-s.i < len(l) || string(s.b[s.i:s.i+len(l)]) != l {
		s.bad = true
		return
	}
	s.i += len(l)
}

// member reports whether name comes next, and moves behind its colon.
func (s *scan) member(name string) bool {
	i := s.i
	if i < len(s.b) && s.b[i] == ',' {
		i++
	}
	n := len(name)
	if s.bad || len(s.b)-i < n+3 || s.b[i] != '"' || string(s.b[i+1:i+1+n]) != name || s.b[i+1+n] != '"' || s.b[i+2+n] != ':' {
		return false
	}
	s.i = i + n + 3
	return true
}

func (s *scan) raw() []byte {
	if s.bad || s.i >= len(s.b) || s.b[s.i] != '"' {
		s.bad = true
		return nil
	}
	end := bytes.IndexByte(s.b[s.i+1:], '"')
	if end < 0 || bytes.IndexByte(s.b[s.i+1:s.i+1+end], '\\') >= 0 {
		s.bad = true
		return nil
	}
	r := s.b[s.i+1 : s.i+1+end]
	s.i += end + 2
	return r
}

func (s *scan) str() string { return string(s.raw()) }

func (s *scan) text(t encoding.TextUnmarshaler) {
	if r := s.raw(); !s.bad && t.UnmarshalText(r) != nil {
		s.bad = true
	}
}

func (s *scan) num() (n uint64) {
	from := s.i
	for ; s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' && s.i-from < 18; s.i++ {
		n = 10*n + uint64(s.b[s.i]-'0')
	}
	s.bad = s.bad || s.i == from
	return n
}

func (s *scan) optional(name string, to *string) {
	if s.member(name) {
		*to = s.str()
	}
}

func (s *scan) optionalNum(name string, to *int) {
	if s.member(name) {
		*to = int(s.num())
	}
}

func (s *scan) optionalBool(name string, to *bool) {
	if s.member(name) {
		s.lit("true")
		*to = true
	}
}

func (s *scan) instant(name string, to **schema.Instant) {
	if s.member(name) {
		*to = new(schema.Instant)
		s.text(*to)
	}
}

func (s *scan) moment(name string, to **entry.Moment) {
	if s.member(name) {
		*to = new(entry.Moment)
		s.text(*to)
	}
}

func (s *scan) digest(name string, to *schema.Digest) {
	if s.member(name) {
		s.text(to)
	}
}

func (s *scan) position(p *entry.Position) {
	s.optional("iss", &p.Issuer)
	s.optional("stream", &p.Stream)
	s.optionalNum("generation", &p.Generation)
	if s.member("seq") {
		p.Seq = s.num()
	}
}

func (s *scan) who(w *entry.Who) {
	s.optional("iss", &w.Issuer)
	s.optional("sub", &w.Subject)
	s.optionalNum("engagement", &w.Engagement)
}

func (s *scan) received() *entry.Received {
	r := new(entry.Received)
	s.position(&r.Position)
	s.digest("prev", &r.Prev)
	s.optional("event", &r.Event)
	s.optional("sub", &r.Subject)
	s.optionalNum("engagement", &r.Engagement)
	s.optional("jti", &r.ID)
	s.optional("txn", &r.Txn)
	s.digest("payload", &r.Payload)
	s.digest("wire", &r.Wire)
	s.optional("key", &r.Key)
	s.optional("recipient", &r.Recipient)
	s.instant("iat", &r.IssuedAt)
	s.instant("toe", &r.Occurred)
	s.instant("effective", &r.Effective)
	if s.member("cuts") {
		n := int(s.num())
		r.Cuts = &n
	}
	s.optional("disposition", &r.Disposition)
	s.optional("code", &r.Code)
	s.optionalBool("stale", &r.Stale)
	return r
}

// list reads the elements of an array of objects.
func (s *scan) list(name string, one func()) {
	if !s.member(name) {
		return
	}
	s.lit("[")
	for !s.bad {
		s.lit("{")
		one()
		s.lit("}")
		if s.i < len(s.b) && s.b[s.i] == ',' {
			s.i++
			continue
		}
		break
	}
	s.lit("]")
}

func (s *scan) intent() *entry.Intent {
	in := new(entry.Intent)
	s.who(&in.Who)
	s.optional("account", &in.Account)
	s.list("ops", func() {
		var o entry.Op
		s.optionalNum("n", &o.N)
		s.optional("op", &o.Op)
		s.optional("class", &o.Class)
		s.optional("target", &o.Target)
		if s.member("attributes") {
			s.lit("[")
			for !s.bad {
				o.Attributes = append(o.Attributes, s.str())
				if s.i >= len(s.b) || s.b[s.i] != ',' {
					break
				}
				s.i++
			}
			s.lit("]")
		}
		in.Ops = append(in.Ops, o)
	})
	if s.member("cause") {
		s.lit("{")
		s.optional("type", &in.Cause.Type)
		if s.member("position") {
			in.Cause.Position = new(entry.Position)
			s.lit("{")
			s.position(in.Cause.Position)
			s.lit("}")
		}
		if s.member("entry") {
			in.Cause.Entry = entry.Index(int64(s.num()))
		}
		s.optional("code", &in.Cause.Code)
		s.lit("}")
	}
	s.digest("policy", &in.Policy)
	s.moment("due", &in.Due)
	s.optionalNum("attempt", &in.Attempt)
	s.optional("hold", &in.Hold)
	s.optionalBool("urgent", &in.Urgent)
	s.optionalBool("observe", &in.Observe)
	return in
}

func (s *scan) outcome() *entry.Outcome {
	o := new(entry.Outcome)
	if s.member("intent") {
		o.Intent = int64(s.num())
	}
	s.who(&o.Who)
	s.optional("account", &o.Account)
	s.list("results", func() {
		var r entry.Result
		s.optionalNum("n", &r.N)
		s.optional("result", &r.Result)
		s.optional("code", &r.Code)
		s.moment("at", &r.At)
		s.list("requests", func() {
			var q entry.Request
			s.optional("client", &q.Client)
			s.optional("server", &q.Server)
			s.optionalNum("status", &q.Status)
			s.optional("code", &q.Code)
			s.optional("method", &q.Method)
			s.optionalNum("attempt", &q.Retry)
			r.Requests = append(r.Requests, q)
		})
		o.Results = append(o.Results, r)
	})
	return o
}
