package sim

import (
	"context"
	"math/rand/v2"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/intake"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Thieves is the first schedule in which somebody has a producer's signing key as well as the mid-point. Those before it
// have no thief.
const Thieves = 1 << 32

// thief has the first producer's first key, from a place on, and signs in its stream. The producer's people get their next
// key and the enclave's revoke the stolen one, from that place, now and then from a later one, and more than once.
type thief struct {
	w    *world
	p    *producer
	rng  *rand.Rand
	from admit.Point // the first place that the producer's people do not vouch for; zero: the key is theirs alone yet

	generation int // of what was signed last
	last       uint64
	head       schema.Digest
}

func newThief(w *world, seed uint64) *thief {
	w.mood.fills, w.mood.losses, w.mood.newer, w.mood.days = 0, 0, 0, 0
	return &thief{w: w, p: w.producers[0], rng: rand.New(rand.NewPCG(seed, 0x746869656600))}
}

func (t *thief) chance(percent int) bool { return t.rng.IntN(100) < percent }

func (t *thief) stolen() bool { return t.from.Generation > 0 }

// act is something that the thief does, or that is done about it; false: nothing.
func (t *thief) act() bool {
	switch n := t.rng.IntN(100); {
	case !t.stolen():
		if n < 15 && t.p.key == firstKey {
			t.generation, t.last, t.head = t.p.generation, t.p.last, t.p.head
			t.from = admit.Point{Generation: t.generation, Seq: t.last + 1}
			t.w.tracef("the key of %d is stolen at %d/%d", t.p.n, t.generation, t.last)
		}
		return false
	case n < 25:
		for range 1 + t.rng.IntN(3) {
			t.say()
		}
	case n < 29 && t.p.opened > 0:
		t.rekey()
	case n < 33 && t.p.opened > 0:
		if t.p.key == firstKey && t.chance(80) {
			t.rekey()
		}
		at := t.from
		if t.chance(25) {
			at.Seq += uint64(t.rng.IntN(4))
		}
		t.revoke(at)
	case n < 36 && t.p.opened > 0:
		t.w.consumer.decide([]string{ruling.Code}, t.w.consumer.undo)
	default:
		return false
	}
	return true
}

// found is when everybody knows: the producer has its next key, and the stolen one is revoked from where on it was.
func (t *thief) found() {
	if t.stolen() {
		t.rekey()
		t.revoke(t.from)
	}
}

// say signs something in the producer's stream: after what the thief said last, after what the producer did, or far ahead.
func (t *thief) say() {
	w, p := t.w, t.p
	at := schema.Position{ID: stream, Generation: t.generation, Seq: t.last + 1, Prev: t.head}
	switch n := t.rng.IntN(10); {
	case n < 5:
		at.Generation, at.Seq, at.Prev = p.generation, p.last+1, p.head
	case n < 7:
		at.Generation, at.Seq = p.generation, p.last+2+uint64(t.rng.IntN(20))
		for i := range at.Prev {
			at.Prev[i] = byte(t.rng.IntN(256))
		}
	}
	if behind(admit.Point{Generation: at.Generation, Seq: at.Seq}, t.from) {
		return // the producer went back to before that, and says it itself
	}
	subject := w.people(t.rng)
	last, err := p.box.State(context.Background(), enclave, subject)
	if err != nil {
		w.broken("read the register: %v", err)
	}
	n := max(1, last.Engagement)
	now := schema.At(w.clock.now())
	var e schema.Event
	switch t.rng.IntN(7) {
	case 0, 1:
		e = &schema.Joiner{Engagement: last.Engagement + 1, Person: person(subject), Roles: []string{"lead"}, Start: schema.At(epoch)}
	case 2, 3:
		e = &schema.Mover{Engagement: n, Person: person(subject), Roles: []string{"lead"}, Start: schema.At(epoch), Effective: now}
	case 4:
		e = &schema.Resume{Engagement: n, Effective: now, Reason: schema.ReasonReturn}
	case 5:
		e = &schema.Leaver{Engagement: n, Effective: now, Reason: schema.ReasonTermination}
	case 6:
		h := &schema.Heartbeat{Cuts: []schema.CutNotice{}}
		if at.Seq > 2 {
			h.Cuts = append(h.Cuts, schema.CutNotice{Subject: subject, Engagement: n, Kind: schema.KindLeaver, Seq: at.Seq - 1, Effective: now})
		}
		h.Total = len(h.Cuts)
		e, subject = h, ""
	}
	body, hash := w.sealed(p, w.lab.signers[p.n*keysEach+firstKey], w.lab.to, enclave, subject, e, at)
	w.tracef("the thief signs a %s of %s", e.Kind(), subject)
	w.mid.accept(p, body, "")
	w.mid.stored[len(w.mid.stored)-1].truth.Key = p.n*keysEach + firstKey
	t.generation, t.last, t.head = at.Generation, at.Seq, hash
}

// people is one of the people, by somebody's own dice.
func (w *world) people(rng *rand.Rand) string { return persons[rng.IntN(w.mood.people)] }

var persons = [...]string{"P-1", "P-2", "P-3", "P-4", "P-5", "P-6"}

// rekey is the producer's next key, and `consumer trust add`.
func (t *thief) rekey() {
	p, c := t.p, t.w.consumer
	if p.key == nextKey {
		return
	}
	p.stop()
	p.key = nextKey
	p.start()
	p.look()
	c.operate(func(tx *store.Tx) error {
		return state.TrustKey(tx, t.w.lab.key(p.n, nextKey), state.Pin{}, by(c.clock()))
	})
	t.w.tracef("operator trusts the next key of %d", p.n)
	c.sweep()
}

// revoke is `consumer trust revoke` of the stolen key.
func (t *thief) revoke(from admit.Point) {
	p, c := t.p, t.w.consumer
	c.operate(func(tx *store.Tx) error {
		if _, err := ruling.Revoke(context.Background(), c.db, tx, t.w.lab.kids[p.n*keysEach+firstKey], from, by(c.clock())); err != nil {
			return err
		}
		return intake.Voices(tx, c.clock())
	})
	t.w.tracef("operator revokes the stolen key of %d from %d/%d on", p.n, from.Generation, from.Seq)
	p.model.Revoke(stream, p.n*keysEach+firstKey, from.Generation, from.Seq)
	c.sweep()
}

// final holds the stream against what must be once all that is honest came and a roster of the next key was taken in.
func (t *thief) final() {
	p, c := t.p, t.w.consumer
	if !t.stolen() {
		return
	}
	var head int64
	if err := c.db.Read().QueryRow("SELECT head_seq FROM stream WHERE iss = ? AND stream = ? AND generation = ?", p.issuer, stream, p.opened).Scan(&head); err != nil {
		t.w.broken("read the head of a stream: %v", err)
	}
	if p.opened != p.generation || uint64(head) != p.last {
		t.w.failf("covered for good", "the producer of %d stands at %d/%d, and it is followed up to %d/%d", p.n, p.generation, p.last, p.opened, head)
	}
}
