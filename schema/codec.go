package schema

import (
	"bytes"
	"encoding/json"
	"strings"
)

// The claims as they stand on the wire. Member order here is the canonical order.
type wireSET struct {
	Iss    string                     `json:"iss"`
	Aud    string                     `json:"aud"`
	Jti    string                     `json:"jti"`
	Iat    int64                      `json:"iat"`
	Toe    *int64                     `json:"toe,omitempty"`
	Txn    string                     `json:"txn,omitempty"`
	SubID  *wireSubject               `json:"sub_id,omitempty"`
	Stream wireStream                 `json:"stream"`
	Events map[string]json.RawMessage `json:"events"`
	Pad    string                     `json:"pad,omitempty"`
}

type wireSubject struct {
	Format string `json:"format"`
	ID     string `json:"id"`
}

type wireStream struct {
	ID         string `json:"id"`
	Generation int    `json:"generation"`
	Seq        uint64 `json:"seq"`
	Prev       Digest `json:"prev"`
}

// Encode returns s in canonical form: the payload octets that are signed and chained. It refuses
// what Decode would refuse.
func Encode(s *SET) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return encode(s)
}

// EncodePadded fills s.Pad so that the payload is exactly SizeClass octets (roster parts are left as
// they are), and encodes it. An event that does not fit is refused with CodeTooLong.
func EncodePadded(s *SET) ([]byte, error) {
	if s.Event != nil && s.Event.Kind() == KindRoster {
		return Encode(s)
	}
	const member = len(`,"pad":""`)
	s.Pad = ""
	bare, err := Encode(s)
	if err != nil {
		return nil, err
	}
	room := SizeClass - len(bare) - member
	if room < 1 {
		return nil, refusef(CodeTooLong, "", "the event takes %d octets and at most %d fit the size class; shorten the person's attributes or the list of roles", len(bare), SizeClass-member-1)
	}
	s.Pad = strings.Repeat("0", room)
	return Encode(s)
}

// Decode reads a payload whose signature has been verified. Every error is a *RefusedError. A payload
// is accepted only in canonical form, so there is one spelling of each event.
func Decode(payload []byte) (*SET, error) {
	if len(payload) > MaxPayload {
		return nil, refusef(CodeTooLong, "", "the payload has %d octets; at most %d are read", len(payload), MaxPayload)
	}
	var w wireSET
	if err := strict(payload, &w); err != nil {
		return nil, err
	}
	s := &SET{Issuer: w.Iss, Audience: w.Aud, ID: w.Jti, IssuedAt: Instant{w.Iat}, Txn: w.Txn, Pad: w.Pad,
		Stream: Position{w.Stream.ID, w.Stream.Generation, w.Stream.Seq, w.Stream.Prev}}
	if w.Toe != nil {
		s.Occurred = &Instant{*w.Toe}
	}
	if w.SubID != nil {
		if w.SubID.Format != "opaque" {
			return nil, refusef(CodeBadValue, "sub_id.format", "want %q, got %q", "opaque", w.SubID.Format)
		}
		s.Subject = w.SubID.ID
	}
	if len(w.Events) != 1 {
		return nil, refusef(CodeEvents, "events", "want exactly one event, got %d", len(w.Events))
	}
	for uri, raw := range w.Events {
		kind, version, err := ParseURI(uri)
		if err != nil {
			return nil, refusef(CodeUnknownEvent, "events", "%v", err)
		}
		s.Version = version
		if s.Event = newEvent(kind); s.Event == nil {
			return nil, refusef(CodeUnknownEvent, "events", "%q is not an event of this program", uri)
		}
		if version != 1 {
			return nil, refusef(CodeNewerVersion, "events", "this program reads version 1 of %s, got version %d", kind, version)
		}
		if err := strict(raw, s.Event); err != nil {
			return nil, err
		}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	again, err := encode(s)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, payload) {
		return nil, refusef(CodeNotCanonical, "", "the payload is not in canonical form")
	}
	return s, nil
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

func encode(s *SET) ([]byte, error) {
	ev, err := marshal(s.Event)
	if err != nil {
		return nil, err
	}
	w := wireSET{Iss: s.Issuer, Aud: s.Audience, Jti: s.ID, Iat: s.IssuedAt.Unix(), Txn: s.Txn, Pad: s.Pad,
		Stream: wireStream{s.Stream.ID, s.Stream.Generation, s.Stream.Seq, s.Stream.Prev},
		Events: map[string]json.RawMessage{URI(s.Event.Kind(), s.Version): ev}}
	if s.Occurred != nil {
		sec := s.Occurred.Unix()
		w.Toe = &sec
	}
	if s.Subject != "" {
		w.SubID = &wireSubject{"opaque", s.Subject}
	}
	return marshal(w)
}

// marshal is json.Marshal without the escaping of <, > and &, which is for browsers.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func strict(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return refusef(CodeMalformed, "", "%v", err)
	}
	if dec.InputOffset() != int64(len(data)) {
		return refusef(CodeTrailing, "", "%d octets follow the JSON value", int64(len(data))-dec.InputOffset())
	}
	return nil
}
