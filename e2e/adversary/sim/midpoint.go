package sim

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/e2e/adversary/model"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/queue"
	"jmlbridge/schema"
)

// midpoint is the queue in the adversary's hands. What it hands out, how often, in which order and in what
// shape is its own affair; it has seen everything that was published, and holds a key that was retired.
type midpoint struct {
	w       *world
	stored  []*message // everything that was published, in order
	waiting []*message // not handed out yet, or to come again
	kept    []*message // withheld until the adversary rests
	calm    bool
}

// message is one body on the queue.
type message struct {
	body []byte
	// Of an authentic one:
	from    *producer
	truth   *model.Message
	settled bool
	gone    bool // it came before a database was lost
}

// publisher is the mid-point as one producer's relay sees it, which is stopped after one batch, whatever its end.
type publisher struct {
	p    *producer
	stop func()
}

// Publish implements the outbox's publisher.
func (b *publisher) Publish(_ context.Context, msgs []queue.Message) (int, error) {
	p, w := b.p, b.p.w
	defer b.stop()
	n, lost := len(msgs), false
	if !w.calm && w.chance(10) {
		n, lost = w.rng.IntN(len(msgs)+1), true
	}
	p.seam("publishing")
	for _, q := range msgs[:n] {
		w.mid.accept(p, q.Body, q.ID)
		p.seam("published")
	}
	if lost {
		return w.rng.IntN(n + 1), errors.New("the mid-point does not answer")
	}
	return n, nil
}

// accept stores one published message.
func (m *midpoint) accept(p *producer, body []byte, id string) {
	x := m.w.authentic(p, body, id)
	m.stored = append(m.stored, x)
	m.waiting = append(m.waiting, x)
	m.w.tracef("published %s", x)
}

func (x *message) String() string {
	if x.truth == nil {
		return "something else"
	}
	at, newer := x.truth.Stream, ""
	if at.ID != stream {
		newer = " in stream " + at.ID
	}
	if x.truth.Newer {
		newer = " of a newer version"
	}
	return fmt.Sprintf("%d: %d/%d %s %s%s", x.from.n, at.Generation, at.Seq, x.truth.Event.Kind(), x.truth.Subject, newer)
}

// authentic reads a message of the producer's the way that only its recipient can.
func (w *world) authentic(p *producer, body []byte, id string) *message {
	wire := schema.DigestOf(body)
	if x := w.known[wire]; x != nil {
		return x
	}
	payload, err := w.lab.signed[id], error(nil) // to open it as well takes as long as the consumer's opening
	if payload == nil || w.mood.newer > 0 {      // whose messages are written again under their names
		payload, err = w.read(body)
	}
	if err != nil {
		w.broken("the producer published what does not open: %v", err)
	}
	hash := schema.DigestOf(payload)
	set, newer := p.newer[hash], true
	if set == nil {
		if set, err = schema.Decode(payload); err != nil {
			w.broken("the producer published what does not decode: %v", err)
		}
		newer = false
	}
	x := &message{body: body, from: p, truth: &model.Message{SET: set, Hash: hash, Newer: newer, Key: w.lab.keyOf[id]}}
	w.known[wire] = x
	w.count.Messages++
	return x
}

// read is the payload of what an honest producer wrote. Whether the signature is good, the consumer finds out.
func (w *world) read(body []byte) ([]byte, error) {
	jws, _, err := envelope.Decrypt(body, w.lab.ring)
	if err != nil {
		return nil, err
	}
	parts := bytes.Split(jws, []byte("."))
	if len(parts) != 3 {
		return nil, fmt.Errorf("want the 3 parts of a JWS, got %d", len(parts))
	}
	return base64.RawURLEncoding.AppendDecode(nil, parts[1])
}

// fetch hands out up to max messages.
func (m *midpoint) fetch(max int) (batch []*message) {
	w := m.w
	if m.calm {
		n := min(max, len(m.waiting))
		batch, m.waiting = m.waiting[:n:n], m.waiting[n:]
		return batch
	}
	if w.chance(w.mood.freeze) {
		return nil
	}
	for len(batch) < max && len(m.waiting) > 0 {
		i := 0
		if w.chance(w.mood.reorder) {
			i = w.rng.IntN(len(m.waiting))
		}
		x := m.waiting[i]
		m.waiting = slices.Delete(m.waiting, i, i+1)
		switch {
		case w.chance(w.mood.drop):
			m.kept = append(m.kept, x)
			w.tracef("withheld %s", x)
			continue
		case w.chance(w.mood.alter):
			batch = append(batch, &message{body: w.altered(x.body)})
			m.kept = append(m.kept, x)
			w.tracef("altered %s", x)
			continue
		case w.chance(w.mood.repeat):
			m.waiting = append(m.waiting, x)
		}
		batch = append(batch, x)
	}
	if w.chance(w.mood.forge) {
		for range 1 + w.rng.IntN(3) {
			if x := w.forged(); x != nil {
				batch = slices.Insert(batch, w.rng.IntN(len(batch)+1), x)
			}
		}
	}
	if w.chance(w.mood.flood) {
		x := &message{body: []byte("a.b.c.d.e")}
		for range 30 {
			batch = append(batch, x)
		}
		w.tracef("flooded")
	}
	return batch
}

// again takes back what was handed out and not settled: it comes once more.
func (m *midpoint) again(batch []*message) {
	for _, x := range batch {
		if x.truth != nil {
			m.waiting = append(m.waiting, x)
		}
	}
}

// rest makes an honest queue of it: what was withheld is handed out, in the order of publishing.
func (m *midpoint) rest() {
	m.calm = true
	m.waiting, m.kept = nil, nil
	for _, x := range m.stored {
		if !x.settled && !slices.Contains(m.waiting, x) {
			m.waiting = append(m.waiting, x)
		}
	}
}

// altered changes one octet, cuts the body short, or puts two messages together.
func (w *world) altered(body []byte) []byte {
	b := bytes.Clone(body)
	switch w.rng.IntN(3) {
	case 0:
		i := w.rng.IntN(len(b))
		if b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
		if bytes.Equal(b, body) {
			b[i] = 'C'
		}
		return b
	case 1:
		return b[:w.rng.IntN(len(b))]
	}
	parts, with := bytes.Split(b, []byte(".")), bytes.Split(w.mid.stored[w.rng.IntN(len(w.mid.stored))].body, []byte("."))
	i := w.rng.IntN(len(parts))
	parts[i] = with[i]
	if spliced := bytes.Join(parts, []byte(".")); w.known[schema.DigestOf(spliced)] == nil {
		return spliced
	}
	return b[1:]
}

// forged is a message that the producer never wrote, or one for somebody else; nil where nothing can be made
// yet.
func (w *world) forged() *message {
	p := w.anyProducer()
	at := schema.Position{ID: stream, Generation: p.generation, Seq: p.last + 1 + uint64(w.rng.IntN(3)), Prev: p.head}
	if at.Prev.IsZero() {
		at.Seq = 1
	}
	subject := w.anyone()
	var event schema.Event = &schema.Joiner{Engagement: 1 + w.rng.IntN(3), Person: person(subject), Roles: []string{"lead"}, Start: schema.At(epoch)}
	if w.chance(30) {
		event = &schema.Leaver{Engagement: 1 + w.rng.IntN(3), Effective: schema.At(epoch), Reason: schema.ReasonTermination}
	}
	audience, signer, to := enclave, w.lab.signers[strangersKey], w.lab.to
	if a := p.second; a != nil && w.chance(30) { // of two signers one is not the other
		if signer = a.signer(); w.chance(50) {
			signer, at = p.signer(), schema.Position{ID: approvals, Generation: 1, Seq: a.last + 1, Prev: a.head}
			event = &schema.Approval{Engagement: 1 + w.rng.IntN(3), Roles: []string{"lead"}, Expiry: schema.At(w.clock.now().Add(24 * time.Hour))}
		}
		body, _ := w.sealed(p, signer, to, audience, subject, event, at)
		w.tracef("forged a %s of %s in stream %s by the other key", event.Kind(), subject, at.ID)
		return &message{body: body}
	}
	switch kind := w.rng.IntN(4); {
	case kind == 0 && p.retired && behind(p.retiredAt, admit.Point{Generation: at.Generation, Seq: at.Seq}): // the old key, found in a drawer
		signer = w.lab.signers[p.n*keysEach+firstKey]
	case kind == 0 && len(w.producers) > 1: // one producer's key, and another's name
		signer = w.producers[(p.n+1)%len(w.producers)].signer()
	case kind == 1:
		audience, to = other, w.lab.toOther
		signer = p.signer()
	case kind == 2: // another enclave's message, opened there and sealed to us
		audience = other
		signer = p.signer()
	case kind == 3 && len(w.mid.stored) > 0: // an old one again
		x := w.mid.stored[w.rng.IntN(len(w.mid.stored))]
		w.tracef("replayed %s", x)
		return x
	}
	body, _ := w.sealed(p, signer, to, audience, subject, event, at)
	w.tracef("forged a %s of %s by key %s for %s", event.Kind(), subject, signer.KID()[:6], audience)
	return &message{body: body}
}
