package sim

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// rule is `consumer fork choose`: mostly the branch that the producer's people go on with, by their word on the
// phone, sometimes another one. It returns false where nothing could be ruled.
func (c *consumer) rule(p *producer) bool {
	w := c.w
	c.sweep() // the program looks every few seconds, and nobody rules sooner
	// What the producer's people have: the chain back from its head.
	theirs := map[schema.Digest]bool{}
	for head := p.head; !theirs[head]; {
		theirs[head] = true
		if i := slices.IndexFunc(w.mid.stored, func(x *message) bool { return x.from == p && x.truth.Hash == head }); i >= 0 {
			head = w.mid.stored[i].truth.Stream.Prev
		}
	}
	var chosen schema.Digest
	var ru *ruling.Ruling
	var err error
	c.room.outgrown(func() {
		err = c.db.Update(context.Background(), func(tx *store.Tx) error {
			forks, err := ruling.Forks(tx)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(forks, func(f *ruling.Fork) bool { return f.Stream.Issuer == p.issuer && f.Stream.Name == stream })
			if i < 0 {
				w.failf("unreported fork", "the stream of %d says two things, and there is nothing to rule on", p.n)
			}
			list := slices.SortedFunc(slices.Values(forks[i].Branches), func(a, b ruling.Branch) int { return cmp.Compare(came(a), came(b)) }) // hashes are made by chance
			n := slices.IndexFunc(list, func(b ruling.Branch) bool { return theirs[b.TipHash] })
			if n < 0 || w.chance(20) {
				n = w.rng.IntN(len(list))
			}
			chosen = list[n].Hash
			ru, err = forks[i].Choose(context.Background(), c.db, tx, chosen, by(c.clock()))
			return err
		})
	})
	if errors.As(err, new(*ruling.RefusedError)) {
		w.tracef("operator cannot rule on the fork of %d: %v", p.n, err)
		return false
	}
	if err != nil {
		w.broken("rule on a fork: %v", err)
	}
	out := map[schema.Digest]bool{}
	err = c.db.Read().Each("SELECT payload FROM message JOIN stream ON ref = stream_ref WHERE iss = ? AND stream = ? AND generation = ? AND disposition = 9", []any{p.issuer, stream, p.opened},
		func(scan func(...any) error) error {
			var hash []byte
			err := scan(&hash)
			out[schema.Digest(hash)] = true
			return err
		})
	if err != nil {
		w.broken("read what was ruled out: %v", err)
	}
	if out[chosen] {
		w.failf("ruled out", "the branch that was chosen")
	}
	w.tracef("operator rules on the fork of %d: it goes on after %d, and %d messages are not of the chain", p.n, ru.Head, len(out))
	var head []byte
	if err := c.db.Read().QueryRow("SELECT head_hash FROM stream WHERE iss = ? AND stream = ? AND generation = ?", p.issuer, stream, p.opened).Scan(&head); err != nil {
		w.broken("read the head of a stream: %v", err)
	}
	p.model.Rule(ru.Head, schema.Digest(head), func(hash schema.Digest) bool { return out[hash] })
	c.sweep()
	return true
}

// came is when a branch's first message came; 0: none did, and a roster tells of it.
func came(b ruling.Branch) int64 {
	if len(b.Own) == 0 {
		return 0
	}
	return b.Own[0].ID
}

// undo takes back what was given on words that were ruled out, of whom no good word came.
func (c *consumer) undo(tx *store.Tx, h *state.Hold) error {
	list, err := ruling.Question(tx, h, c.clock())
	if err != nil || len(list) == 0 {
		return err
	}
	if _, err := ruling.Undo(tx, h.ID, h.Digest, nil, c.policy, by(c.clock())); err != nil {
		return err
	}
	for _, x := range list {
		c.w.tracef("operator takes back what %s of %d was given", x.Subject, c.w.of(x.Issuer).n)
		c.w.of(x.Issuer).model.Undo(x.Subject)
	}
	return nil
}
