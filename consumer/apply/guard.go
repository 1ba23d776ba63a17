package apply

import (
	"context"
	"fmt"
	"slices"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/store"
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

// A verdict is what the limits say of the work of one lane, in one state of the database.
type verdict struct {
	waiting int64 // how many were counted
	past    *past // nil: all of it is inside

	looking   bool      // of gives: first at who may have all of it
	givesPast time.Time // of gives: since when a hold waits for that; zero: it does not
}

// past is work past a limit: all of it is held.
type past struct {
	code        string
	until       time.Time
	spareUrgent bool
	severity    state.Severity
	waiting     int64
	left        room
}

// judge holds the due work of a lane against its limits.
func (e *Engine) judge(r state.Reader, lane plan.Lane, now time.Time, except []string) (v verdict, err error) {
	switch lane {
	case plan.Give:
		v, err = e.judgeGives(r, now, except)
	case plan.Disable:
		v, err = e.judgeCuts(r, now)
	case plan.Take:
		v, err = e.judgeTakes(r, now)
	case plan.Delete:
		v, err = e.judgeDeletes(r, now)
	}
	if err != nil {
		return verdict{}, fmt.Errorf("check the limits of lane %s: %w", lane, err)
	}
	return v, nil
}

// next lists who is worked on next in lane, as far as its limits let them. What is counted and what is listed is one state
// of the database: what were written in between would slip past the limit.
func (e *Engine) next(ctx context.Context, lane plan.Lane, now time.Time, limit int, except []string) (due []*state.Subject, err error) {
	var over bool
	err = e.snapshot(ctx, func(r state.Reader) error {
		v, err := e.bound(r, lane, now, except)
		if over = v.past != nil; err != nil || over {
			return err
		}
		due, err = e.due(r, lane, e.bounds[lane].upTo, limit, except)
		return err
	})
	if err != nil || !over {
		return due, err
	}
	// Work may have come or gone since: what is held is judged again where nothing else can write.
	var held *past
	err = e.DB.Tx(ctx, func(tx *store.Tx) error {
		v, err := e.judge(tx, lane, now, except)
		if err != nil {
			return err
		}
		if held = v.past; held != nil {
			if err := e.hold(tx, now, lane, held); err != nil {
				return fmt.Errorf("hold lane %s: %w", lane, err)
			}
		}
		e.judged(lane, now, v)
		due, err = e.due(tx, lane, now, limit, except)
		return err
	})
	if err == nil && held != nil {
		e.Committed()
		l := held.left.tightest()
		e.Log.Warn("held", "lane", lane.String(), "code", held.code, "waiting", held.waiting, "spent", l.spent, "limit", l.most, "over", l.over)
	}
	return due, err
}

// bound finds up to which due date the work of lane may start, unless that was found just now. Where it is past a limit,
// that is left to the hold.
func (e *Engine) bound(r state.Reader, lane plan.Lane, now time.Time, except []string) (v verdict, err error) {
	switch {
	case e.Observe:
		e.bounds[lane].upTo = now
	case !e.bounds[lane].good(now):
		if v, err = e.judge(r, lane, now, except); err == nil && v.past == nil {
			e.judged(lane, now, v)
		}
	}
	return v, err
}

// judged keeps a verdict.
func (e *Engine) judged(lane plan.Lane, now time.Time, v verdict) {
	e.bounds[lane] = bound{upTo: now, checked: now, waiting: v.waiting}
	if lane == plan.Give {
		e.looking, e.givesPast = v.looking, v.givesPast
	}
}

// judgeGives compares all that waits to be given with what is left of the hour, before any of it is
// done: past the limit all of it is held. Who is due may have all already, as after another policy or a recovery:
// where it depends on them, they are looked at first, and nothing is given meanwhile.
func (e *Engine) judgeGives(r state.Reader, now time.Time, except []string) (v verdict, err error) {
	if v.waiting, err = state.AtMostDue(r, plan.Give, now); err != nil || v.waiting == 0 {
		return v, err
	}
	l := &e.Policy.Limits
	room, _, err := spent(r, now, classGive, l.GivePerHour, l.GivePerDay)
	if err != nil || v.waiting <= room.least() {
		return v, err
	}
	waiting, certain, err := state.CountGives(r, now, except)
	if err != nil || waiting == 0 || waiting <= room.least() {
		return v, err
	}
	if certain < waiting {
		if certain > room.least() {
			v.givesPast = gathering(e.givesPast, now)
		}
		if v.looking = certain <= room.least() || !v.givesPast.IsZero(); v.looking {
			return v, nil
		}
	}
	v.waiting, v.past = waiting, &past{AlarmGiveLimit, state.Never, false, state.Warning, waiting, room}
	return v, nil
}

// sift puts whoever is to be given something, and loses roles by the same word, into the lane of takes: there all of it is
// compared with what is left before any is taken. That is judged by what is known without a look, so that a roster which
// moves everybody after a recovery is judged whole. What only a look shows comes there one by one. more says that it is not
// done: until then nothing is taken so, and nothing given.
func (e *Engine) sift(ctx context.Context, now time.Time, except []string) (more bool, err error) {
	if e.Observe || e.Room.Level() != disk.Ample {
		return false, nil // nothing is given
	}
	list, err := state.Unsifted(e.DB.Read(), now, siftBatch, except)
	if err != nil || len(list) == 0 {
		return false, err
	}
	moved := false
	err = e.DB.Tx(ctx, func(tx *store.Tx) error {
		for _, s := range list {
			takes, err := e.loses(tx, s, now)
			if err != nil {
				return err
			}
			if err := state.Sift(tx, s, takes); err != nil {
				return err
			}
			moved = moved || takes
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("look who loses by what is given: %w", err)
	}
	if moved { // they may have been due for long: what was found of that lane serves no more
		e.bounds[plan.Take] = bound{}
	}
	return len(list) == siftBatch, nil
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

// judgeCuts does the same for disables, but what is held there happens by itself after cut_hold, and
// urgent leavers have an allowance of their own. Who is in this lane and is not to be disabled is not counted, and not held:
// whoever has access again by a newer fact, or never had an account.
func (e *Engine) judgeCuts(r state.Reader, now time.Time) (v verdict, err error) {
	if v.waiting, err = state.AtMostDue(r, plan.Disable, now); err != nil || v.waiting == 0 {
		return v, err
	}
	room, err := e.roomTo(r, now, classCut, e.Policy.Limits.CutPerHour, e.Policy.Limits.CutPerDay, v.waiting)
	if err != nil || v.waiting <= room.least() {
		return v, err
	}
	var cuts, urgent int64
	err = e.eachEffect(r, plan.Disable, now, func(s *state.Subject) error {
		cuts++
		if s.Urgent {
			urgent++
		}
		return nil
	})
	if err != nil || cuts <= room.least() {
		return v, err
	}
	usedUrgent, err := state.Effects(r, classUrgent, now.Add(-time.Hour))
	if err != nil {
		return v, err
	}
	spare := usedUrgent+urgent <= int64(e.Policy.Limits.UrgentPerHour)
	if spare && urgent >= cuts {
		return v, nil
	}
	v.past = &past{AlarmCutLimit, now.Add(time.Duration(e.Policy.Limits.CutHold)), spare, state.Critical, cuts, room}
	return v, nil
}

// eachEffect calls f for everybody whose work in lane is due and is a further effect to its limits: of cuts, whoever is to be
// disabled, and of roles that are taken, whoever loses any; of those whom nobody has released, who are not counted yet,
// and who have not waited for as long as that may last.
func (e *Engine) eachEffect(r state.Reader, lane plan.Lane, now time.Time, f func(*state.Subject) error) error {
	return state.EachUncounted(r, lane, now, func(s *state.Subject) (err error) {
		is := !s.Waited(lane, now)
		switch {
		case !is:
		case lane == plan.Disable:
			is, err = e.disables(r, s, now)
		case lane == plan.Take:
			is, err = e.loses(r, s, now)
		}
		if err != nil || !is {
			return err
		}
		return f(s)
	})
}

// disables reports whether a person is to be disabled, as far as it is known without a look, or by the last one.
func (e *Engine) disables(r state.Reader, s *state.Subject, now time.Time) (bool, error) {
	if v := e.view(s, now); v.Access || v.Why == fence.WhyUnknown {
		return false, nil
	}
	known, err := s.Known()
	if err != nil {
		return false, nil // the work on the person fails, and says so
	}
	if known.Disables() || s.Lacking == s.Rev {
		return true, nil
	}
	if known.ID != "" && known.DeletedAt.IsZero() {
		return false, nil
	}
	return state.Bears(r, directory.Mark(s.Issuer, s.Subject))
}

// judgeTakes counts whoever loses roles and keeps the account: a mover, by a change of the policy, by a role's
// lease. Past the limit that waits as cuts do. Who is in this lane and loses nothing is not counted, and not held.
func (e *Engine) judgeTakes(r state.Reader, now time.Time) (v verdict, err error) {
	if v.waiting, err = state.AtMostDue(r, plan.Take, now); err != nil || v.waiting == 0 {
		return v, err
	}
	room, err := e.roomTo(r, now, classTake, e.Policy.Limits.TakePerHour, e.Policy.Limits.TakePerDay, v.waiting)
	if err != nil || v.waiting <= room.least() {
		return v, err
	}
	losing := int64(0)
	err = e.eachEffect(r, plan.Take, now, func(*state.Subject) error {
		losing++
		return nil
	})
	if err != nil {
		return v, err
	}
	if losing > room.least() {
		v.past = &past{AlarmTakeLimit, now.Add(time.Duration(e.Policy.Limits.CutHold)), false, state.Critical, losing, room}
	}
	return v, nil
}

// loses reports whether roles are to be taken from a person, and were not counted yet, nor have waited for as long as they
// may. Whose account nobody has looked at since a recovery is where it was found then.
func (e *Engine) loses(r state.Reader, s *state.Subject, now time.Time) (bool, error) {
	v := s.Doc.At(now)
	if !v.Access || s.Taken == s.Rev || s.Waited(plan.Take, now) {
		return false, nil
	}
	known, err := s.Known()
	if err != nil {
		return false, nil // the work on the person fails, and says so
	}
	in := known.Groups
	if known.ID == "" {
		if in, err = state.GroupsFound(r, directory.Mark(s.Issuer, s.Subject)); err != nil {
			return false, err
		}
	}
	return len(lost(in, v, e.Policy)) > 0, nil
}

// lost is of which of these groups a person is to be a member no more, of those that may be touched.
func lost(in []string, v fence.View, pol *policy.Policy) (ids []string) {
	given, _ := plan.Groups(v, pol)
	for _, g := range in {
		if !slices.Contains(given, g) && pol.Listed(g) {
			ids = append(ids, g)
		}
	}
	return ids
}

// judgeDeletes holds all deletes that wait where they are more than the day allows: what is deleted is hard to
// have back.
func (e *Engine) judgeDeletes(r state.Reader, now time.Time) (v verdict, err error) {
	if v.waiting, err = state.AtMostDue(r, plan.Delete, now); err != nil || v.waiting == 0 {
		return v, err
	}
	used, err := state.Effects(r, classDelete, now.Add(-day))
	room := room{{"in 24 hours", int64(e.Policy.Limits.DeletePerDay), used}}
	if err != nil || v.waiting <= room.least() {
		return v, err
	}
	waiting, err := state.CountUncounted(r, plan.Delete, now)
	if err == nil && waiting > room.least() {
		v.past = &past{AlarmDeleteLimit, state.Never, false, state.Warning, waiting, room}
	}
	return v, err
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

// spent is what is left of a class in an hour and in a day, and what was done of it in the day.
func spent(r state.Reader, now time.Time, class string, perHour, perDay int) (left room, whole int64, err error) {
	hour, err := state.Effects(r, class, now.Add(-time.Hour))
	if err != nil {
		return nil, 0, err
	}
	whole, err = state.Effects(r, class, now.Add(-day))
	return room{{"in an hour", int64(perHour), hour}, {"in 24 hours", int64(perDay), whole}}, whole, err
}

// roomTo is what is left of a class that the share bounds too. It counts the open accounts only where the share
// could matter: that takes a reading of all persons.
func (e *Engine) roomTo(r state.Reader, now time.Time, class string, perHour, perDay int, waiting int64) (room, error) {
	l := &e.Policy.Limits
	left, whole, err := spent(r, now, class, perHour, perDay)
	if err != nil {
		return nil, err
	}
	if l.CutShare == 0 || whole+waiting <= int64(l.CutFloor) {
		return left, nil
	}
	open, err := state.OpenAccounts(r)
	if class == classCut {
		open += whole // those cut in these 24 hours were open when they began
	}
	share := max(int64(l.CutFloor), open*int64(l.CutShare)/100)
	return append(left, limit{fmt.Sprintf("in 24 hours, %d of a hundred open accounts or %d, whichever is more,", l.CutShare, l.CutFloor), share, whole}), err
}

// past says that the limit was reached.
func (l limit) past() string {
	return fmt.Sprintf(", past the limit of %d %s (%d done)", l.most, l.over, l.spent)
}
