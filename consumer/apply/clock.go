package apply

import (
	"context"
	"slices"
	"strconv"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
)

// AlarmClock stands from a jump of the clock until an operator says that it is right. While it does, no lease
// runs out and nothing is deleted; what messages take goes on.
const AlarmClock = "clock"

// metaUptime is how long the executor was seen to run, in seconds, over all runs.
const metaUptime = "uptime"

// uptimeEvery is how often that is written.
const uptimeEvery = time.Minute

// clockDoubt reports whether the clock jumped and nobody confirmed it.
func (e *Engine) clockDoubt() (bool, error) {
	if e.leapt(e.Now()) {
		return true, nil
	}
	standing, err := state.Alarms(e.DB.Read())
	return slices.ContainsFunc(standing, func(a state.Alarm) bool { return a.Code == AlarmClock }), err
}

// begun keeps whoever has an open account from losing it to a clock that went back below the start: while the
// clock is in doubt, the account is the better witness that the engagement has begun. A start that was truly put
// off is looked at again, until the clock is confirmed. An account that was opened for an engagement before is no
// witness of this one: its cut is owed, by whatever clock.
func (u *unit) begun() error {
	if !opened(u.row, u.known, u.view, u.now) {
		return nil
	}
	doubt, err := u.clockDoubt()
	if err != nil || !doubt {
		return err
	}
	u.view = u.row.Doc.At(u.view.Want.Start)
	u.view.Next = u.now.Add(holdLook)
	u.supposed = true
	return nil
}

// opened reports whether the account was opened for an engagement that has not started by this clock, and is open. Where nobody
// noted for which it was, as before a recovery, the end of an earlier one is the witness against it.
func opened(s *state.Subject, known plan.Known, v fence.View, now time.Time) bool {
	if v.Why != fence.WhyNotStarted || known.ID == "" || known.IsCut() {
		return false
	}
	wanted := v.Want.Engagement
	if e := known.Engagement; e > 0 {
		return e >= wanted
	}
	return !slices.ContainsFunc(s.Doc.Closings, func(c fence.Closing) bool { return c.Engagement < wanted && !c.Effective.After(now) })
}

// View is what becomes of a person now, as the engine takes it.
func View(r state.Reader, s *state.Subject, pol *policy.Policy, now time.Time) (fence.View, error) {
	high, err := state.ClockHigh(r)
	if err != nil {
		return fence.View{}, err
	}
	v := standing(s, pol, now, high)
	known, err := s.Known()
	if err != nil || !opened(s, known, v, now) {
		return v, nil // what is not known of the account is told where it is looked at
	}
	alarms, err := state.Alarms(r)
	if slices.ContainsFunc(alarms, func(a state.Alarm) bool { return a.Code == AlarmClock }) {
		v = s.Doc.At(v.Want.Start)
	}
	return v, err
}

// age adds to the uptime, by the monotonic clock: a delete needs its grace in it too, so that
// neither a wall clock that is wrong nor a long pause deletes anybody early.
func (e *Engine) age(ctx context.Context, now time.Time) error {
	if !e.upKnown {
		before, err := Uptime(e.DB.Read())
		if err != nil {
			return err
		}
		e.uptime.Store(int64(before))
		e.upSaved, e.upKnown = e.uptime.Load(), true
	} else if d := now.Sub(e.upSeen); d > 0 {
		e.uptime.Add(int64(d))
	}
	e.upSeen = now
	sum := e.uptime.Load()
	if e.Observe || sum-e.upSaved < int64(uptimeEvery) {
		return nil
	}
	e.upSaved = sum
	return e.DB.Tx(ctx, func(tx *store.Tx) error {
		if err := state.DropEffects(tx, now.Add(-day-time.Hour)); err != nil {
			return err
		}
		return state.SetMeta(tx, metaUptime, strconv.FormatInt(sum/int64(time.Second), 10))
	})
}

// up is the uptime now.
func (e *Engine) up() time.Duration { return time.Duration(e.uptime.Load()) }

// Uptime is how long the executor has run, over all runs, to the minute.
func Uptime(r state.Reader) (time.Duration, error) {
	seconds, err := state.Meta(r, metaUptime)
	if err != nil {
		return 0, err
	}
	n, _ := strconv.ParseInt(seconds, 10, 64) // absent: none
	return time.Duration(n) * time.Second, nil
}
