package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
)

// tidyEvery is between two looks at the holds of many: at what operators discarded of cuts, and at who still waits.
const tidyEvery = 10 * time.Second

// expire ends the holds whose time is over: what they kept is due by its date already, and must not be
// held a second time.
func (e *Engine) expire(ctx context.Context, now time.Time) error {
	over, err := state.Over(e.DB.Read(), now)
	if err != nil || len(over) == 0 {
		return err
	}
	return e.DB.Tx(ctx, func(tx *store.Tx) error {
		for _, h := range over {
			if _, err := state.EndHolds(tx, h.SubjectKey, true, now, h.Code); err != nil {
				return err
			}
			if err := state.LetThrough(tx, h.ID, now); err != nil {
				return err
			}
			if err := ClearLimit(tx, h.Code, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// tidy looks after the holds of many.
func (e *Engine) tidy(ctx context.Context, now time.Time) error {
	if e.Observe || now.Sub(e.tidied) < tidyEvery && !now.Before(e.tidied) {
		return nil
	}
	e.tidied = now
	if err := e.discards(ctx, now); err != nil {
		return err
	}
	if err := e.dwindle(ctx, now); err != nil {
		return err
	}
	return e.recount(ctx, now)
}

// recount lets the alarm on people whom a roster does not name say how many of them have access still, and ends it with
// the last. The roster raised it under the code of their holds, and counted once.
func (e *Engine) recount(ctx context.Context, now time.Time) error {
	type fewerUnnamed struct {
		state.Alarm
		left state.Unnamed
	}
	fewer := func(r state.Reader) (list []fewerUnnamed, err error) {
		standing, err := state.Alarms(r)
		if err != nil {
			return nil, err
		}
		var open []*state.Hold
		for _, a := range standing {
			if a.Code != string(plan.HoldUnnamed) {
				continue
			}
			u, ok, err := state.UnnamedOf(r, a.Key)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue // the next roster counts
			}
			if open == nil {
				if open, err = state.Holds(r); err != nil {
					return nil, err
				}
			}
			n := 0
			_, issuer, _ := strings.Cut(a.Key, "@") // the key is a stream's: no name of one has an @
			for _, h := range open {
				if h.Code == string(plan.HoldUnnamed) && h.Issuer == issuer {
					n++
				}
			}
			if n >= u.Count {
				continue
			}
			u.Count = n
			list = append(list, fewerUnnamed{a, u})
		}
		return list, nil
	}
	if list, err := fewer(e.DB.Read()); err != nil || len(list) == 0 {
		return err
	}
	return e.DB.Tx(ctx, func(tx *store.Tx) error {
		list, err := fewer(tx)
		if err != nil {
			return err
		}
		for _, a := range list {
			if a.left.Count == 0 {
				err = clear(tx, a.Code, a.Key, now)
			} else {
				a.Last, a.Text = now, a.left.Text()
				err = raise(tx, a.Alarm)
			}
			if err == nil {
				err = state.SetUnnamed(tx, a.Key, a.left)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// dwindle ends the holds behind which nobody waits any more, since newer facts or operators decided on each, and lets the
// alarm on the others say how many do.
func (e *Engine) dwindle(ctx context.Context, now time.Time) error {
	open, err := state.Holds(e.DB.Read())
	e.crowded = slices.ContainsFunc(open, func(h *state.Hold) bool { return ofMany(h.Code) })
	if err != nil || !e.crowded {
		return err
	}
	return e.DB.Tx(ctx, func(tx *store.Tx) error {
		say, idle, err := waitingBehind(tx) // one alarm speaks of all holds of a code
		if err != nil {
			return err
		}
		for _, h := range idle {
			if _, err := state.EndHolds(tx, h.SubjectKey, false, now, h.Code); err != nil {
				return err
			}
			if err := ClearLimit(tx, h.Code, now); err != nil {
				return err
			}
			e.Log.Info("nobody waits behind the hold any more", "hold", h.Name(), "code", h.Code)
		}
		standing, err := state.Alarms(tx)
		if err != nil {
			return err
		}
		for _, a := range standing {
			b := say[a.Code]
			if b == nil {
				continue
			}
			// Up to what is waiting the text is the same as long as as many wait.
			text := b.alarm(a.Code)
			if so, _, _ := strings.Cut(text, ";"); strings.HasPrefix(a.Text, so) {
				continue
			}
			a.Text, a.Last = text, now
			if err := raise(tx, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// discards keeps what operators discarded of cuts in sight: it comes back when its time is over, and the alarm on
// it ends with the last person for whom it still holds.
func (e *Engine) discards(ctx context.Context, now time.Time) error {
	list, err := state.Lapsing(e.DB.Read())
	if err != nil || len(list) == 0 {
		return err
	}
	return e.DB.Tx(ctx, func(tx *store.Tx) error {
		standing, err := state.Alarms(tx)
		if err != nil {
			return err
		}
		for _, h := range list {
			n, err := state.Dropped(tx, h.ID)
			if err != nil {
				return err
			}
			if n > 0 && now.Before(h.Lapses) {
				a := discardAlarm(h, n, h.Lapses, now)
				if slices.ContainsFunc(standing, func(s state.Alarm) bool { return s.Code == a.Code && s.Key == a.Key && s.Text != a.Text }) {
					if err := raise(tx, a); err != nil { // of some of them newer facts or operators decided
						return err
					}
				}
				continue
			}
			if n > 0 {
				lane, err := h.Lane()
				if err != nil {
					return err
				}
				if _, err := state.RestoreDropped(tx, h.ID, lane, now); err != nil {
					return err
				}
				e.Log.Warn("what was discarded comes back", "hold", h.Name(), "persons", n)
			}
			if err := EndDiscard(tx, h, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// EndDiscard ends the alarm on discarded cuts: they came back, or new facts count in their place.
func EndDiscard(tx *store.Tx, h *state.Hold, now time.Time) error {
	if err := state.SetLapse(tx, h.ID, time.Time{}); err != nil {
		return err
	}
	return clear(tx, AlarmDiscarded, h.Name(), now)
}

// DiscardStands raises that alarm: somebody keeps access that a fact takes away.
func DiscardStands(tx *store.Tx, h *state.Hold, persons int, until, now time.Time) error {
	if err := state.SetLapse(tx, h.ID, until); err != nil {
		return err
	}
	return raise(tx, discardAlarm(h, int64(persons), until, now))
}

func discardAlarm(h *state.Hold, persons int64, until, now time.Time) state.Alarm {
	return state.Alarm{Code: AlarmDiscarded, Key: h.Name(), Severity: state.Critical, Last: now, Text: fmt.Sprintf(
		"operators discarded hold %s: what facts take from %d persons is not taken before %s; `consumer holds restore %s` takes it now", h.Name(), persons, until.UTC().Format(time.RFC3339), h.Name())}
}
