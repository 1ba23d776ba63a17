package schema

import (
	"bytes"
	"strings"
)

// Encode returns s in canonical form (event.md §3): the payload octets that are signed and chained. It
// refuses what Decode would refuse.
func Encode(s *SET) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	payload := appendSET(make([]byte, 0, SizeClass), s)
	if err := checkSize(s.Event.Kind(), len(payload)); err != nil {
		return nil, err
	}
	return payload, nil
}

// EncodePadded fills s.Pad so that the payload is exactly SizeClass octets (roster parts are left as
// they are), and encodes it. An event that does not fit is refused with CodeTooLong.
func EncodePadded(s *SET) ([]byte, error) {
	s.Pad = ""
	if s.Event != nil && s.Event.Kind() == KindRoster {
		return Encode(s)
	}
	const member = len(`,"pad":""`)
	bare, err := Encode(s)
	if err != nil {
		return nil, err
	}
	room := SizeClass - len(bare) - member
	if room < 1 {
		return nil, refusef(CodeTooLong, "", "the event takes %d octets and at most %d fit the size class; shorten the person's attributes or the list of roles", len(bare), SizeClass-member-1)
	}
	s.Pad = zeros[:room]
	return Encode(s)
}

// zeros is the longest padding. Every message bears some, and they share its octets.
var zeros = strings.Repeat("0", SizeClass)

// padding is string(b), without a copy where b is what padding should be.
func padding(b []byte) string {
	if len(b) <= len(zeros) && string(b) == zeros[:len(b)] {
		return zeros[:len(b)]
	}
	return string(b)
}

// Decode reads a payload whose signature has been verified. Every error is a *RefusedError. A payload
// is accepted only in canonical form, so there is one spelling of each event.
//
// A payload that claims a newer version of a known event is answered with CodeNewerVersion whatever else
// is strange in it: only a newer program can judge that.
func Decode(payload []byte) (*SET, error) {
	s, err := decode(payload)
	if err == nil {
		return s, nil
	}
	f, ferr := DecodeFrame(payload)
	if ferr == nil && f.Version > 1 && newEvent(f.Kind) != nil {
		return nil, newer(f.Kind, f.Version)
	}
	if re, ok := err.(*RefusedError); ok && re.Code == CodeNewerVersion {
		return nil, ferr // no version could have such a frame
	}
	return nil, err
}

func decode(payload []byte) (*SET, error) {
	if len(payload) > MaxPayload {
		return nil, tooLong(len(payload), MaxPayload)
	}
	r := newReader(payload)
	s := r.set()
	r.end()
	if r.err != nil {
		return nil, r.err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if err := checkSize(s.Event.Kind(), len(payload)); err != nil {
		return nil, err
	}
	if !bytes.Equal(appendSET(make([]byte, 0, len(payload)), s), payload) {
		return nil, refusef(CodeNotCanonical, "", "the payload is not in canonical form: order of members, white space, escapes, spelling of numbers, empty optional members")
	}
	return s, nil
}

// DecodeEvent reads the value of one event of version 1, as it stands under its URI, from a person or
// another program: every rule but the canonical spelling holds. Every error is a *RefusedError.
func DecodeEvent(kind Kind, data []byte) (Event, error) {
	if len(data) > MaxPayload {
		return nil, tooLong(len(data), MaxPayload)
	}
	e := newEvent(kind)
	if e == nil {
		return nil, refusef(CodeUnknownEvent, "", "%q is not an event of this program", clip(string(kind)))
	}
	r := newReader(bytes.TrimRight(data, " \t\r\n"))
	e.read(r)
	r.end()
	if r.err != nil {
		return nil, r.err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

// checkSize holds event.md §6: only roster parts leave the size class.
func checkSize(k Kind, n int) error {
	if n > MaxPayload {
		return tooLong(n, MaxPayload)
	}
	if k != KindRoster && n > SizeClass {
		return tooLong(n, SizeClass)
	}
	return nil
}

func tooLong(n, most int) error {
	return refusef(CodeTooLong, "", "%d octets came where at most %d are read", n, most)
}

func newer(k Kind, version int) error {
	return refusef(CodeNewerVersion, "events", "this program reads version 1 of %s, got version %d", k, version)
}

func newEvent(k Kind) Event {
	switch k {
	case KindJoiner:
		return new(Joiner)
	case KindMover:
		return new(Mover)
	case KindLeaver:
		return new(Leaver)
	case KindSuspend:
		return new(Suspend)
	case KindResume:
		return new(Resume)
	case KindHeartbeat:
		return new(Heartbeat)
	case KindRoster:
		return new(Roster)
	case KindApproval:
		return new(Approval)
	}
	return nil
}
