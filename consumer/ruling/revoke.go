package ruling

import (
	"context"
	"errors"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
)

// Revoke ends a key that was stolen: from a place on, what it signed is not its owner's word. What comes of it is
// refused; what is here has its place in the chain and its cuts, and what it gave is in question. The hold is nil
// where nothing is.
func Revoke(ctx context.Context, db *state.DB, tx *store.Tx, kid string, from admit.Point, by state.By) (*state.Hold, error) {
	k, err := state.KeyByID(tx, kid)
	if errors.Is(err, state.ErrNotFound) {
		return nil, refusef("%v; `consumer trust list` shows the keys", err)
	}
	if err != nil {
		return nil, err
	}
	ruled, err := state.RevokeKey(tx, k, admit.Point{Generation: from.Generation, Seq: from.Seq - 1}, by)
	if err != nil {
		return nil, err
	}
	streams, err := state.Streams(tx)
	if err != nil {
		return nil, err
	}
	word := newDisowned(k.Issuer, k.Stream)
	for _, s := range streams {
		if s.Issuer != k.Issuer || s.Name != k.Stream || s.Generation < from.Generation {
			continue
		}
		first := uint64(1)
		if s.Generation == from.Generation {
			first = from.Seq
		}
		list, err := state.SignedFrom(tx, s.Ref, kid, first)
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			if err := word.add(tx, m, s.Generation, by.Now); err != nil {
				return nil, err
			}
		}
		was := s.Unrostered
		if s.Unrostered, err = unrostered(tx, s); err != nil {
			return nil, err
		}
		if s.Unrostered != was {
			if err := state.SaveStream(tx, s); err != nil {
				return nil, err
			}
		}
	}
	return word.question(ctx, db, tx, ruled, by)
}
