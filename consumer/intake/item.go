package intake

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/queue"
	"jmlbridge/schema"
)

// item is one message on its way. Exactly one of refusal, opened and failed is set once it was opened.
type item struct {
	delivery queue.Delivery
	body     []byte
	parked   bool      // it comes from the parked ones
	came     time.Time // and is here since then

	wire    schema.Digest
	refusal *envelope.Error
	opened  *envelope.Opened
	failed  *envelope.UnaskedError // nothing is known of the message
	kid     string                 // of the trusted key that signed an opened message
	trust   int                    // the version of the trusted keys by which it was opened

	// Of one that failed:
	since time.Time // it did first
	told  bool      // it counts among those of which somebody was told

	// Of an opened message:
	frame   schema.Frame
	set     *schema.SET     // nil where the content was refused or is of a newer version
	core    *schema.CutCore // of a leaver or suspend of a newer version
	content *schema.RefusedError
	placed  bool // frame could be read: the message has a place in a chain
}

// open authenticates the message and reads it. It does not judge its place.
func (it *item) open(ring *envelope.Ring, trust envelope.Verifiers) {
	it.failed, it.refusal = nil, nil
	o, err := envelope.Open(it.body, ring, trust)
	if err != nil {
		it.wire = schema.DigestOf(it.body)
		if !errors.As(err, &it.refusal) && !errors.As(err, &it.failed) {
			it.failed = &envelope.UnaskedError{Err: err}
		}
		return
	}
	it.opened, it.wire, it.kid = o, o.WireDigest, o.Key.KID
	it.read(o.Payload)
}

// about is the person of whom an opened message speaks.
func (it *item) about() state.SubjectKey {
	return state.SubjectKey{Issuer: it.frame.Issuer, Subject: it.frame.Subject}
}

// read decodes verified octets.
func (it *item) read(payload []byte) {
	set, err := schema.Decode(payload)
	if err == nil {
		it.set, it.placed = set, true
		it.frame = schema.Frame{Issuer: set.Issuer, Audience: set.Audience, Stream: set.Stream, ID: set.ID, IssuedAt: set.IssuedAt,
			Subject: set.Subject, Kind: set.Event.Kind(), Version: set.Version}
		return
	}
	if !errors.As(err, &it.content) {
		it.content = &schema.RefusedError{Code: schema.CodeMalformed, Detail: err.Error()}
	}
	f, err := schema.DecodeFrame(payload)
	if err != nil {
		return
	}
	it.frame, it.placed = f, true
	if it.content.Code == schema.CodeNewerVersion && f.Kind.Cuts() {
		if core, err := schema.DecodeCutCore(payload); err == nil {
			it.core = &core
		}
	}
}

// message is what package admit judges.
func (it *item) message() admit.Message {
	m := admit.Message{Issuer: it.frame.Issuer, Audience: it.frame.Audience, Stream: it.frame.Stream, Payload: it.opened.PayloadDigest, Kind: it.frame.Kind}
	if !it.frame.IssuedAt.IsZero() {
		m.Issued = it.frame.IssuedAt.Time()
	}
	if it.content != nil {
		m.Content = admit.Code(it.content.Code)
	}
	return m
}

// again makes an item of an archived message, whose signature was verified when it came.
func again(m *state.Message) (*item, error) {
	octets, err := payload(m.JWS)
	if err != nil || schema.DigestOf(octets) != m.Payload {
		return nil, fmt.Errorf("archived message %d of stream %d is not what was archived (payload %s); the database was changed by another hand", m.Seq, m.StreamRef, m.Payload)
	}
	it := &item{wire: m.Wire, kid: m.KID, opened: &envelope.Opened{Payload: octets, JWS: m.JWS, WireDigest: m.Wire, PayloadDigest: m.Payload}}
	it.read(octets)
	return it, nil
}

// payload takes the payload octets out of an archived JWS.
func payload(jws []byte) ([]byte, error) {
	_, rest, _ := bytes.Cut(jws, []byte("."))
	middle, _, ok := bytes.Cut(rest, []byte("."))
	if !ok {
		return nil, errors.New("want a JWS")
	}
	return base64.RawURLEncoding.AppendDecode(nil, middle)
}
