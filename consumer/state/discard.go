package state

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/internal/store"
)

// discardedNote is on whoever's work operators dropped, until a new fact about the person comes.
func discardedNote(id int64) string { return fmt.Sprintf("discarded:%d", id) }

// Discarded reports whether a row's note says that operators dropped what waited for the person.
func (s *Subject) Discarded() bool { return strings.HasPrefix(s.Note, "discarded:") }

// DiscardedWith reports whether it was with that hold.
func (s *Subject) DiscardedWith(h *Hold) bool { return s.Note == discardedNote(h.ID) }

// DropHeld takes the work that waits behind a hold off the lanes, until a new fact comes. That one, or what is brought
// back, waits anew: operators decided that the wait of before ends in nothing.
func DropHeld(tx *store.Tx, id int64) error {
	_, err := tx.Exec(`UPDATE subject SET lane = 0, note = ?, cut_by = 0, take_by = 0 WHERE note = ?`, discardedNote(id), heldNote(id))
	return err
}

// RestoreDropped puts back into lane what was dropped with a hold, for the limits to judge again, and returns
// of how many persons. Of whom a new fact came since, that one counts.
func RestoreDropped(tx *store.Tx, id int64, lane plan.Lane, now time.Time) (int64, error) {
	res, err := tx.Exec(`UPDATE subject SET lane = ?, due = ?, attempts = 0, note = '' WHERE note = ?`, int64(lane), ms(now), discardedNote(id))
	if err != nil {
		return 0, fmt.Errorf("bring back what was discarded with hold %d: %w", id, err)
	}
	return res.RowsAffected()
}

// Lane is the lane whose work a hold of many keeps back.
func (h *Hold) Lane() (plan.Lane, error) {
	var shown struct {
		Lane string `json:"lane"`
	}
	if err := json.Unmarshal(h.Shown, &shown); err != nil {
		return plan.Idle, fmt.Errorf("hold %s: read what was shown: %w", h.Name(), err)
	}
	for lane := plan.Disable; lane <= plan.Delete; lane++ {
		if lane.String() == shown.Lane {
			return lane, nil
		}
	}
	return plan.Idle, fmt.Errorf("hold %s is of lane %q, which this program does not know", h.Name(), shown.Lane)
}

// SetLapse says when what is discarded with a hold comes back by itself; the zero time: not any more.
func SetLapse(tx *store.Tx, id int64, at time.Time) error {
	if _, err := tx.Exec(`UPDATE hold SET lapses = ? WHERE id = ?`, ms(at), id); err != nil {
		return fmt.Errorf("hold %d: say when what is discarded comes back: %w", id, err)
	}
	return nil
}

// Lapsing lists the holds that were discarded and come back by themselves, oldest first.
func Lapsing(r Reader) ([]*Hold, error) {
	return listHolds(r, ` WHERE state = 'discarded' AND lapses > 0 ORDER BY id`)
}

// Dropped counts of how many persons the work is still discarded with a hold.
func Dropped(r Reader, id int64) (n int64, err error) {
	err = r.QueryRow(`SELECT COUNT(*) FROM subject WHERE note = ?`, discardedNote(id)).Scan(&n)
	return n, err
}

// DiscardedHolds lists the holds that were discarded and of which somebody's work still is, oldest first.
func DiscardedHolds(r Reader) ([]*Hold, error) {
	return listHolds(r, ` WHERE state = 'discarded' AND EXISTS (SELECT 1 FROM subject WHERE note = 'discarded:' || hold.id) ORDER BY id`)
}
