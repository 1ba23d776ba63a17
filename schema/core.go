package schema

import "strconv"

// A Frame is what a payload must show to keep its place in the chain, whatever else it carries: a
// message whose signature, audience and stream verify but whose content is refused, or is of a newer
// version, still advances the chain (event.md §9).
type Frame struct {
	Issuer   string
	Audience string
	Stream   Position

	// The rest may be unreadable in content that is refused; it is then left at its zero value.
	ID       string
	IssuedAt Instant
	Subject  string
	Kind     Kind // of the single event, known to this program or not
	Version  int
}

// CutCore is the part of a leaver or suspend that is frozen for all versions: its names, places and
// meanings never change, so that a leaver of a version that this program does not know still cuts.
type CutCore struct {
	Frame
	Engagement int
	Effective  Instant
}

var (
	frameShape    = &shape{3, []string{"iss", "aud", "stream", "jti", "iat", "sub_id", "events"}}
	cutCoreShape  = &shape{7, []string{"iss", "aud", "jti", "iat", "stream", "sub_id", "events"}}
	cutEventShape = &shape{2, []string{"engagement", "effective"}}
	anySubject    = &shape{0, []string{"format", "id"}}
)

// DecodeFrame reads the frame of a payload whose signature has been verified. It passes over members
// that it does not know. Every error is a *RefusedError: not JSON, a member of the frame that is there
// twice, or an iss, aud or stream that is missing or bad.
func DecodeFrame(payload []byte) (Frame, error) {
	var f Frame
	if len(payload) > MaxPayload {
		return f, tooLong(len(payload), MaxPayload)
	}
	r := newReader(payload)
	r.lenient = true
	r.object(frameShape, func(name string) {
		switch name {
		case "iss":
			f.Issuer = r.string()
		case "aud":
			f.Audience = r.string()
		case "stream":
			f.Stream = r.position()
		case "jti":
			if id := r.maybeString(); checkUUID("", id) == nil {
				f.ID = id
			}
		case "iat":
			f.IssuedAt = r.maybeTime()
		case "sub_id":
			f.Subject = r.maybeSubject()
		case "events":
			f.Kind, f.Version = r.maybeEvent()
		}
	})
	r.end()
	if err := first(r.err, checkURI("iss", f.Issuer), checkURI("aud", f.Audience), checkStream(&f.Stream)); err != nil {
		return Frame{}, err
	}
	return f, nil
}

// DecodeCutCore reads the cut core of a payload whose signature has been verified and that carries a
// leaver or suspend of any version. It is strict about the core and passes over everything else. Every
// error is a *RefusedError.
func DecodeCutCore(payload []byte) (CutCore, error) {
	var c CutCore
	if len(payload) > MaxPayload {
		return c, tooLong(len(payload), MaxPayload)
	}
	r := newReader(payload)
	r.lenient = true
	r.object(cutCoreShape, func(name string) {
		switch name {
		case "iss":
			c.Issuer = r.string()
		case "aud":
			c.Audience = r.string()
		case "jti":
			c.ID = r.string()
		case "iat":
			c.IssuedAt = Instant{r.int()}
		case "stream":
			c.Stream = r.position()
		case "sub_id":
			c.Subject = r.subject()
		case "events":
			c.Version = r.events(func(kind Kind, _ int) {
				c.Kind = kind
				if !kind.Cuts() {
					r.refuse(CodeBadValue, "want a leaver or suspend")
				}
				r.object(cutEventShape, func(name string) {
					switch name {
					case "engagement":
						c.Engagement = r.small()
					case "effective":
						c.Effective = r.instant()
					}
				})
			})
		}
	})
	r.end()
	err := first(
		r.err,
		checkURI("iss", c.Issuer),
		checkURI("aud", c.Audience),
		checkUUID("jti", c.ID),
		checkClaimTime("iat", c.IssuedAt),
		checkStream(&c.Stream),
		checkEngagement("events."+string(c.Kind)+".engagement", c.Engagement),
		checkInstant("events."+string(c.Kind)+".effective", c.Effective),
	)
	if err != nil {
		return CutCore{}, err
	}
	return c, nil
}

// The maybe functions read what the frame can do without: a value of the wrong type or form is passed
// over and comes out as the zero value.

func (r *reader) maybeString() string {
	if r.next() == '"' {
		return r.string()
	}
	r.skip(maxDepth)
	return ""
}

func (r *reader) maybeTime() Instant {
	if c := r.next(); c != '-' && !digit(c) {
		r.skip(maxDepth)
		return Instant{}
	}
	sec, err := strconv.ParseInt(string(r.number()), 10, 64)
	if i := (Instant{sec}); err == nil && checkClaimTime("", i) == nil {
		return i
	}
	return Instant{}
}

func (r *reader) maybeSubject() (id string) {
	if r.next() != '{' {
		r.skip(maxDepth)
		return ""
	}
	var format string
	r.object(anySubject, func(name string) {
		switch name {
		case "format":
			format = r.maybeString()
		case "id":
			id = r.maybeString()
		}
	})
	if format != "opaque" || checkSubject("", id) != nil {
		return ""
	}
	return id
}

// maybeEvent returns the zero Kind unless there is exactly one event, with a URI of ours.
func (r *reader) maybeEvent() (kind Kind, version int) {
	if r.next() != '{' {
		r.skip(maxDepth)
		return "", 0
	}
	r.pos++
	count := 0
	for ; r.more(count == 0, '}'); count++ {
		kind, version, _ = ParseURI(r.string())
		if r.want(':', "':'") {
			r.skip(maxDepth)
		}
	}
	if count != 1 {
		return "", 0
	}
	return kind, version
}
