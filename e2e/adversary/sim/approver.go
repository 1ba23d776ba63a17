package sim

import (
	"time"

	"github.com/google/uuid"

	"jmlbridge/internal/envelope/seal"
	"jmlbridge/schema"
)

// approvals is the stream of a second signer.
const approvals = "approvals"

// approver is a second signer: another person than the producer's, with a key and a stream of their own. It neither
// dies nor forgets; what it says goes through the same hands.
type approver struct {
	p    *producer
	last uint64
	head schema.Digest
}

func (a *approver) signer() *seal.Signer { return a.p.w.lab.signers[approversKey] }

// approve is the approver's word on somebody: that they may have the role until a date, or that they may no longer.
func (a *approver) approve() {
	w := a.p.w
	subject := w.anyone()
	engagement := 1
	for _, s := range a.p.said {
		if _, ok := s.event.(*schema.Joiner); ok && s.subject == subject && w.chance(60) {
			engagement++ // they may think of one that is over, or of the next
		}
	}
	until := w.clock.now()
	if w.chance(80) {
		until = until.Add(w.upTo(time.Duration(1+w.mood.days) * 24 * time.Hour))
	}
	e := &schema.Approval{Engagement: engagement, Roles: []string{"lead"}, Expiry: schema.At(until)}
	body, hash := w.sealed(a.p, a.signer(), w.lab.to, enclave, subject, e, schema.Position{ID: approvals, Generation: 1, Seq: a.last + 1, Prev: a.head})
	a.last, a.head = a.last+1, hash
	w.mid.accept(a.p, body, "")
}

// sealed is a message of the producer's issuer by some key, and for somebody's eyes.
func (w *world) sealed(p *producer, signer *seal.Signer, to *seal.Recipient, audience, subject string, event schema.Event, at schema.Position) ([]byte, schema.Digest) {
	id, err := uuid.NewV7()
	if err != nil {
		w.broken("make an id: %v", err)
	}
	payload, err := schema.EncodePadded(&schema.SET{Issuer: p.issuer, Audience: audience, ID: id.String(), IssuedAt: schema.At(w.clock.now()), Subject: subject, Event: event, Version: 1, Stream: at})
	if err != nil {
		w.broken("encode a message: %v", err)
	}
	s, err := seal.Seal(payload, signer, to)
	if err != nil {
		w.broken("seal a message: %v", err)
	}
	return s.Wire, schema.DigestOf(payload)
}
