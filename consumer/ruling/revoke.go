package ruling

import (
	"context"
	"errors"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Revoke ends a key that was stolen: from a place on, what it signed is not its owner's word. What comes of it is
// refused; what is here has its place in the chain and its cuts, and what it gave is in question. Where a roster of it
// stood in for what is missing, and nobody else's word stands behind that, the chain goes back to before it. The hold is nil
// where nothing is in question.
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
		back, err := putBack(ctx, db, tx, s, by)
		if err != nil {
			return nil, err
		}
		if back || s.Unrostered != was {
			if err := state.SaveStream(tx, s); err != nil {
				return nil, err
			}
		}
	}
	return word.question(ctx, db, tx, ruled, by)
}

// ActionPutBack names, on the ledger, the message from which a stream goes on where a roster that is not believed any more
// had stood in for what comes after it.
const ActionPutBack = "put-back"

// AlarmCovered says that messages had not come when a roster stood in for them. It ends by itself.
const AlarmCovered = "gap-covered"

// putBack moves the head of a stream back to where the chain rests on nothing but what came of it and what is believed.
// Else whoever had the key could have covered more numbers than the producer uses in a year, and all that it says would be late.
func putBack(ctx context.Context, db *state.DB, tx *store.Tx, s *state.Stream, by state.By) (bool, error) {
	if s.State == admit.Closed || s.Covered == 0 {
		return false, nil
	}
	footing, hash, known, err := state.Footing(tx, s)
	if err != nil || footing >= s.Covered {
		return false, err
	}
	if !known {
		if hash, known, err = pin(ctx, db, s); err != nil {
			return false, err
		}
	}
	head, hash, err := state.Contiguous(tx, s, footing, hash)
	if err != nil || head == s.Head || head == footing && !known {
		return false, err
	}
	if ok, err := state.Disbelieved(tx, s, head); !ok {
		return false, err
	}
	highest, err := state.Reopen(tx, s, head, by.Now)
	if err != nil {
		return false, err
	}
	s.Head, s.HeadHash, s.Highest, s.Covered = head, hash, highest, min(s.Covered, footing)
	waitsSince(s, by.Now)
	o := &entry.Operator{By: by.Login, Action: ActionPutBack, Issuer: s.Issuer, Target: target(s.Name, s.Generation, head), Reason: entry.Text(by.Reason)}
	if head > 0 {
		o.Digest = &hash
	}
	if _, err := ledger.Append(tx, entry.New(by.Now, o)); err != nil {
		return false, err
	}
	over := []string{AlarmCovered}
	if s.Highest <= s.Head { // nothing waits any more that would end these
		over = append(over, string(admit.CodeGap), string(admit.CodeNewerVersion))
	}
	for _, code := range over {
		if _, err := state.ClearAlarm(tx, code, s.AlarmKey(), by.Now); err != nil {
			return true, err
		}
	}
	return true, nil
}

// pin is the hash after which a generation that was joined in its middle is followed, as the ledger has it.
func pin(ctx context.Context, db *state.DB, s *state.Stream) (hash schema.Digest, known bool, err error) {
	for e, err := range ledger.Entries(ctx, db.DB, 0) {
		if err != nil {
			return hash, false, err
		}
		t, ok := e.Body.(*entry.Trust)
		if ok && t.Issuer == s.Issuer && t.Stream == s.Name && t.Generation == s.Generation && t.AtSeq == s.Joined && t.Head != nil && (t.Action == entry.TrustAdd || t.Action == entry.TrustGeneration) {
			return *t.Head, true, nil
		}
	}
	return hash, false, nil
}
