package apply

import (
	"time"

	"jmlbridge/consumer/plan"
)

// Slots of credentials.
const (
	SlotCut   = "cut"
	SlotGrant = "grant"
)

// Limits of asking a tenant that refuses a credential. One account alone may be refused, such as that of an
// administrator, and says nothing of others; so many refusals in a row do.
const (
	denials   = 16               // in a row, without one success: then asking slows down
	denyGives = 30 * time.Second // between two rounds of questions then, at most: every attempt is two ledger entries
	denyCuts  = 5 * time.Second  // the same for cuts, since whoever mends the permission must not wait to see one
)

// denial is what a tenant said to one credential lately; Engine.mu guards it.
type denial struct {
	row   int       // refusals since the last success
	until time.Time // nothing new is begun before
}

// slot is the credential that a unit used: to look, where no operation was planned, or for its lane.
func (u *unit) slot(p plan.Plan, lane plan.Lane) string {
	if !u.view.Access || lane < plan.Give && len(p.Ops) > 0 {
		return SlotCut
	}
	return SlotGrant
}

// refused reports whether a credential seems to be refused whoever is spoken of: an alarm on each would say nothing more.
func (e *Engine) refused(slot string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if slot == SlotGrant {
		return e.denied[1].row >= denials
	}
	return e.denied[0].row >= denials
}

// hear counts refusals in a row.
func (e *Engine) hear(slot string, denied bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := &e.denied[0]
	most := denyCuts
	if slot == SlotGrant {
		d, most = &e.denied[1], denyGives
	}
	if !denied {
		*d = denial{}
		return
	}
	if d.row++; d.row >= denials {
		d.until = e.Now().Add(min(most, time.Second<<min(d.row-denials, 8)))
	}
}

// pause is how long nothing is begun in lane, since its credential is refused. A move that takes is begun with
// a look by the other credential, which is why both slots must be open for it.
func (e *Engine) pause(lane plan.Lane, now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	var wait time.Duration
	for i := range e.denied {
		if i == 0 && lane == plan.Give || i == 1 && lane != plan.Give && lane != plan.Take {
			continue
		}
		if d := e.denied[i].until.Sub(now); d <= denyGives { // beyond it the clock went back
			wait = max(wait, d)
		}
	}
	return wait
}
