package main

import (
	"errors"
	"fmt"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/command"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// restore brings back what was discarded with a hold. It lets nothing past a limit: what comes back is counted
// like new work, and may be held again. One operator is enough, also for cuts, since access only shrinks by it.
func restore(tx *store.Tx, w word) (string, error) {
	id, shown, by := w.id, w.digest, w.by
	h, err := state.HoldByID(tx, id)
	if errors.Is(err, state.ErrNotFound) {
		return "", command.Misuse(err)
	}
	if err != nil {
		return "", err
	}
	_, many := setOf(h)
	switch {
	case !many || h.State != state.HoldDiscarded:
		return "", command.Misusef("hold %s (%s) is %s: only what was discarded can be brought back; `consumer holds list --discarded` shows those", h.Name(), h.Code, h.State)
	case h.Digest != shown:
		return "", command.Misusef("hold %s has digest %s, not the one given; look at it again", h.Name(), h.Digest)
	}
	lane, err := h.Lane()
	if err != nil {
		return "", err
	}
	n, err := state.RestoreDropped(tx, id, lane, by.Now)
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", command.Misusef("nothing of hold %s is discarded any more: a new fact came about everybody in it, and that one counts", h.Name())
	}
	if err := apply.EndDiscard(tx, h, by.Now); err != nil {
		return "", err
	}
	_, err = ledger.Append(tx, entry.New(by.Now, &entry.Operator{By: by.Login, Action: "restore", Target: h.Name(), Digest: &h.Digest, Reason: entry.Text(by.Reason)}))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("What hold %s kept from %s comes back, inside the limits.", h.Name(), persons(int(n))), nil
}
