package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
)

const (
	// guardEvery is how often at most a long queue of work is counted: what came later is judged then.
	guardEvery = 500 * time.Millisecond
	// quickCount is how much work is counted so quickly that it is done at every look: a leaver who comes
	// alone must not wait for the next count.
	quickCount = 500
	// gather is how long a hold on gives waits at most for looks at who may have all already, so that it shows nobody else.
	gather = time.Minute
)

// bound is up to which due date a lane's work was found to be inside its limit.
type bound struct {
	upTo    time.Time
	checked time.Time
	waiting int64 // counted then
}

// good reports whether what was found still serves at now.
func (b *bound) good(now time.Time) bool {
	return b.waiting > quickCount && now.Sub(b.checked) < guardEvery && !now.Before(b.checked)
}

// guardGives compares all that waits to be given with what is left of the hour, before any of it is
// done: past the limit all of it is held. Who is due may have all already, as after another policy or a recovery:
// where it depends on them, they are looked at first, and nothing is given meanwhile. It returns up to which due date
// work may start.
func (e *Engine) guardGives(ctx context.Context, now time.Time, except []string) (time.Time, error) {
	return e.guard(ctx, now, plan.Give, &e.giveBound, func() (int64, error) {
		past := e.givesPast
		e.looking, e.givesPast = false, time.Time{}
		most, err := state.AtMostDue(e.DB.Read(), plan.Give, now)
		if err != nil || most == 0 {
			return 0, err
		}
		room, err := e.roomToGive(now)
		if err != nil || most <= room.least() {
			return most, err
		}
		waiting, certain, err := state.CountGives(e.DB.Read(), now, except)
		if err != nil || waiting == 0 || waiting <= room.least() {
			return most, err
		}
		if certain < waiting {
			if certain > room.least() {
				e.givesPast = gathering(past, now)
			}
			if e.looking = certain <= room.least() || !e.givesPast.IsZero(); e.looking {
				return most, nil
			}
		}
		return waiting, e.hold(ctx, now, plan.Give, AlarmGiveLimit, state.Never, false, state.Warning, waiting, room)
	})
}

// gathering is since when a hold waits for looks, where it waited since past; zero: it waits no longer.
func gathering(past, now time.Time) time.Time {
	if past.IsZero() || now.Before(past) {
		return now
	}
	if now.Sub(past) >= gather {
		return time.Time{}
	}
	return past
}

// guardCuts does the same for disables, but what is held there happens by itself after cut_hold, and
// urgent leavers have an allowance of their own.
func (e *Engine) guardCuts(ctx context.Context, now time.Time) (time.Time, error) {
	if err := e.expire(ctx, now); err != nil {
		return time.Time{}, err
	}
	return e.guard(ctx, now, plan.Disable, &e.cutBound, func() (int64, error) {
		waiting, urgent, err := state.CountDue(e.DB.Read(), plan.Disable, now, nil)
		if err != nil || waiting == 0 {
			return 0, err
		}
		room, err := e.roomTo(now, classCut, e.Policy.Limits.CutPerHour, e.Policy.Limits.CutPerDay, waiting)
		if err != nil || waiting <= room.least() {
			return waiting, err
		}
		usedUrgent, err := state.Effects(e.DB.Read(), classUrgent, now.Add(-time.Hour))
		if err != nil {
			return 0, err
		}
		spare := usedUrgent+urgent <= int64(e.Policy.Limits.UrgentPerHour)
		if spare && urgent >= waiting {
			return waiting, nil
		}
		until := now.Add(time.Duration(e.Policy.Limits.CutHold))
		return waiting, e.hold(ctx, now, plan.Disable, AlarmCutLimit, until, spare, state.Critical, waiting, room)
	})
}

// guardTakes counts whoever loses roles and keeps the account: a mover, by a change of the policy, by a role's
// lease. Past the limit that waits as cuts do. Who is in this lane and loses nothing is not counted, and not held.
func (e *Engine) guardTakes(ctx context.Context, now time.Time) (time.Time, error) {
	return e.guard(ctx, now, plan.Take, &e.takeBound, func() (int64, error) {
		most, err := state.AtMostDue(e.DB.Read(), plan.Take, now)
		if err != nil || most == 0 {
			return 0, err
		}
		room, err := e.roomTo(now, classTake, e.Policy.Limits.TakePerHour, e.Policy.Limits.TakePerDay, most)
		if err != nil || most <= room.least() {
			return most, err
		}
		due, err := state.Due(e.DB.Read(), plan.Take, now, 1<<30, nil)
		if err != nil {
			return 0, err
		}
		losing := int64(0)
		for _, s := range due {
			if !s.Released() && e.loses(s, now) {
				losing++
			}
		}
		if losing <= room.least() {
			return most, nil
		}
		return most, e.hold(ctx, now, plan.Take, AlarmTakeLimit, now.Add(time.Duration(e.Policy.Limits.CutHold)), false, state.Critical, losing, room)
	})
}

// loses reports whether roles are to be taken from a person, and were not counted yet.
func (e *Engine) loses(s *state.Subject, now time.Time) bool {
	var known plan.Known
	if len(s.Account) == 0 || json.Unmarshal(s.Account, &known) != nil {
		return false // nothing was given; or the work on the person fails, and says so
	}
	v := s.Doc.At(now)
	given, _ := plan.Groups(v, e.Policy)
	return v.Access && s.Taken != s.Rev && slices.ContainsFunc(known.Groups, func(g string) bool { return !slices.Contains(given, g) && e.Policy.Listed(g) })
}

// guardDeletes holds all deletes that wait where they are more than the day allows: what is deleted is hard to
// have back.
func (e *Engine) guardDeletes(ctx context.Context, now time.Time) (time.Time, error) {
	return e.guard(ctx, now, plan.Delete, &e.deleteBound, func() (int64, error) {
		waiting, _, err := state.CountDue(e.DB.Read(), plan.Delete, now, nil)
		if err != nil || waiting == 0 {
			return 0, err
		}
		used, err := state.Effects(e.DB.Read(), classDelete, now.Add(-day))
		room := room{{"in 24 hours", int64(e.Policy.Limits.DeletePerDay), used}}
		if err != nil || waiting <= room.least() {
			return waiting, err
		}
		return waiting, e.hold(ctx, now, plan.Delete, AlarmDeleteLimit, state.Never, false, state.Warning, waiting, room)
	})
}

const day = 24 * time.Hour

// room is what the limits of one class leave.
type room []limit

type limit struct {
	over        string // over what it goes, for people
	most, spent int64
}

func (r room) least() int64 {
	least := int64(1 << 62)
	for _, l := range r {
		least = min(least, l.most-l.spent)
	}
	return least
}

// tightest is the limit that leaves the least.
func (r room) tightest() limit {
	return slices.MinFunc(r, func(a, b limit) int { return int((a.most - a.spent) - (b.most - b.spent)) })
}

func (e *Engine) roomToGive(now time.Time) (room, error) {
	hour, err := state.Effects(e.DB.Read(), classGive, now.Add(-time.Hour))
	if err != nil {
		return nil, err
	}
	whole, err := state.Effects(e.DB.Read(), classGive, now.Add(-day))
	return room{{"in an hour", int64(e.Policy.Limits.GivePerHour), hour}, {"in 24 hours", int64(e.Policy.Limits.GivePerDay), whole}}, err
}

// roomTo is what is left of a class that the share bounds too. It counts the open accounts only where the share
// could matter: that takes a reading of all persons.
func (e *Engine) roomTo(now time.Time, class string, perHour, perDay int, waiting int64) (room, error) {
	l := &e.Policy.Limits
	hour, err := state.Effects(e.DB.Read(), class, now.Add(-time.Hour))
	if err != nil {
		return nil, err
	}
	whole, err := state.Effects(e.DB.Read(), class, now.Add(-day))
	if err != nil {
		return nil, err
	}
	r := room{{"in an hour", int64(perHour), hour}, {"in 24 hours", int64(perDay), whole}}
	if l.CutShare == 0 || whole+waiting <= int64(l.CutFloor) {
		return r, nil
	}
	open, err := state.OpenAccounts(e.DB.Read())
	if class == classCut {
		open += whole // those cut in these 24 hours were open when they began
	}
	share := max(int64(l.CutFloor), open*int64(l.CutShare)/100)
	return append(r, limit{fmt.Sprintf("in 24 hours, %d of a hundred open accounts or %d, whichever is more,", l.CutShare, l.CutFloor), share, whole}), err
}

// past says that the limit was reached.
func (l limit) past() string {
	return fmt.Sprintf(", past the limit of %d %s (%d done)", l.most, l.over, l.spent)
}

func (e *Engine) guard(ctx context.Context, now time.Time, lane plan.Lane, b *bound, check func() (waiting int64, err error)) (time.Time, error) {
	if e.Observe {
		return now, nil
	}
	if b.good(now) {
		return b.upTo, nil
	}
	waiting, err := check()
	if err != nil {
		return time.Time{}, fmt.Errorf("check the limits of lane %s: %w", lane, err)
	}
	*b = bound{upTo: now, checked: now, waiting: waiting}
	return now, nil
}
