package entry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

const (
	head     = `{"v":1,"time":"`
	afterT   = `","kind":"`
	minEntry = len(head) + len(momentForm) + len(afterT)
)

// Encode returns e in canonical form (section 2). It refuses what Decode would refuse.
func Encode(e Entry) ([]byte, error) { return Append(make([]byte, 0, 1024), e) }

// Append is Encode that appends to b.
func Append(b []byte, e Entry) ([]byte, error) {
	if e.Body == nil {
		return nil, errors.New("ledger entry without a body")
	}
	kind := e.Body.Kind()
	if !plausible(e.Time) {
		return nil, fmt.Errorf("ledger entry %s: time %v is not one of our era", kind, e.Time)
	}
	var c checker
	e.Body.check(&c)
	if c.err != nil {
		return nil, fmt.Errorf("ledger entry %s: %w", kind, c.err)
	}
	start := len(b)
	b = At(e.Time).AppendFormat(append(b, head...), momentForm)
	b = append(append(b, afterT...), kind...)
	b = append(append(append(b, `","`...), kind...), `":`...)
	b, err := appendBody(b, e.Body)
	if err != nil {
		return nil, fmt.Errorf("ledger entry %s: %w", kind, err)
	}
	b = append(b, '}')
	if n := len(b) - start; n > MaxSize {
		return nil, fmt.Errorf("ledger entry %s takes %d octets; at most %d fit", kind, n, MaxSize)
	}
	return b, nil
}

func appendBody(b []byte, body Body) ([]byte, error) {
	if a, ok := body.(appender); ok {
		return a.append(b)
	}
	return appendJSON(b, body)
}

// appendJSON appends v as encoding/json has it, but with <, > and & as they are.
func appendJSON(b []byte, v any) ([]byte, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return append(b, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...), nil
}

// Decode reads one entry. An unknown version, kind or member, a member twice, a value outside its
// rule or another spelling than the canonical one is refused.
func Decode(data []byte) (Entry, error) {
	var e Entry
	if len(data) > MaxSize {
		return e, fmt.Errorf("ledger entry has %d octets; at most %d are read", len(data), MaxSize)
	}
	// The frame has one spelling, so it is compared and not parsed.
	if len(data) < minEntry || string(data[:len(head)]) != head {
		return e, fmt.Errorf("want a ledger entry of version %d, beginning %s", Version, head)
	}
	rest := string(data[len(head):])
	t, err := parseMoment(rest[:len(momentForm)])
	if err != nil {
		return e, fmt.Errorf("ledger entry: %w", err)
	}
	rest, ok := strings.CutPrefix(rest[len(momentForm):], afterT)
	name, rest, ok2 := strings.Cut(rest, `"`)
	if !ok || !ok2 {
		return e, errors.New("want a ledger entry whose time is followed by its kind")
	}
	body := newBody(Kind(name))
	if body == nil {
		return e, fmt.Errorf("ledger entry of a kind that version %d has not: %.40q", Version, name)
	}
	rest, ok = strings.CutPrefix(rest, `,"`+name+`":`)
	rest, ok2 = strings.CutSuffix(rest, "}")
	if !ok || !ok2 {
		return e, fmt.Errorf("ledger entry %s: want exactly the member %q after the kind", name, name)
	}
	dec := json.NewDecoder(strings.NewReader(rest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(body); err != nil {
		return e, fmt.Errorf("ledger entry %s: %w", name, err)
	}
	e = Entry{t, body}
	again, err := Encode(e) // which checks every member
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, data) {
		return Entry{}, fmt.Errorf("ledger entry %s is not in canonical form", name)
	}
	return e, nil
}

func newBody(k Kind) Body {
	switch k {
	case KindStarted:
		return new(Started)
	case KindReceived:
		return new(Received)
	case KindParked:
		return new(Parked)
	case KindRefused:
		return new(Refused)
	case KindHeld:
		return new(Held)
	case KindReleased:
		return new(Released)
	case KindSuperseded:
		return new(Superseded)
	case KindIntent:
		return new(Intent)
	case KindOutcome:
		return new(Outcome)
	case KindObserved:
		return new(Observed)
	case KindOperator:
		return new(Operator)
	case KindTrust:
		return new(Trust)
	case KindPolicy:
		return new(Policy)
	case KindLease:
		return new(Lease)
	case KindClock:
		return new(Clock)
	case KindAlarm:
		return new(Alarm)
	case KindSent:
		return new(Sent)
	}
	return nil
}
