package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

const (
	// guardEvery is how often at most a long queue of work is counted: what came later is judged then.
	guardEvery = 500 * time.Millisecond
	// quickCount is how much work is counted so quickly that it is done at every look: a leaver who comes
	// alone must not wait for the next count.
	quickCount = 500
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
// done: past the limit all of it is held. It returns up to which due date work may start.
func (e *Engine) guardGives(ctx context.Context, now time.Time, except []string) (time.Time, error) {
	return e.guard(ctx, now, plan.Give, &e.giveBound, func() (int64, error) {
		most, err := state.AtMostDue(e.DB.Read(), plan.Give, now)
		if err != nil || most == 0 {
			return 0, err
		}
		used, err := state.Effects(e.DB.Read(), classGive, now.Add(-time.Hour))
		if err != nil || used+most <= int64(e.Policy.Limits.GivePerHour) {
			return most, err
		}
		waiting, _, err := state.CountDue(e.DB.Read(), plan.Give, now, except)
		if err != nil || waiting == 0 || used+waiting <= int64(e.Policy.Limits.GivePerHour) {
			return most, err
		}
		return waiting, e.hold(ctx, now, plan.Give, AlarmGiveLimit, state.Never, false, state.Warning,
			waiting, used, e.Policy.Limits.GivePerHour)
	})
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
		used, err := state.Effects(e.DB.Read(), classCut, now.Add(-time.Hour))
		if err != nil || used+waiting <= int64(e.Policy.Limits.CutPerHour) {
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
		return waiting, e.hold(ctx, now, plan.Disable, AlarmCutLimit, until, spare, state.Critical,
			waiting, used, e.Policy.Limits.CutPerHour)
	})
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

// shownHold is what an operator sees of a hold of many, and what its digest covers.
type shownHold struct {
	Code     string       `json:"code"`
	Lane     string       `json:"lane"`
	Count    int          `json:"count"`
	Until    *time.Time   `json:"until,omitempty"`
	Subjects []shownEntry `json:"subjects"`
}

type shownEntry struct {
	Issuer     string `json:"iss"`
	Subject    string `json:"sub"`
	Engagement int    `json:"engagement"`
	Seq        uint64 `json:"seq"`
}

// hold puts everything that is due in lane behind one hold.
func (e *Engine) hold(ctx context.Context, now time.Time, lane plan.Lane, code string, until time.Time, spareUrgent bool, severity state.Severity, waiting, used int64, limit int) error {
	err := e.DB.Tx(ctx, func(tx *store.Tx) error {
		due, err := state.Due(tx, lane, now, 1<<30, nil)
		if err != nil {
			return err
		}
		shown := shownHold{Code: code, Lane: lane.String()}
		if until != state.Never {
			shown.Until = &until
		}
		var whom []entry.Who
		for _, s := range due {
			if s.Released() || s.Counted == s.Rev || spareUrgent && s.Urgent { // as state.HoldLane
				continue
			}
			p := s.Doc.At(now).Cause
			shown.Subjects = append(shown.Subjects, shownEntry{s.Issuer, s.Subject, p.Engagement, p.Seq})
			whom = append(whom, entry.Who{Issuer: s.Issuer, Subject: s.Subject, Engagement: p.Engagement})
		}
		shown.Count = len(shown.Subjects)
		if shown.Count == 0 {
			return nil
		}
		text, err := json.Marshal(shown)
		if err != nil {
			return err
		}
		// The time makes the key: a second hold of the same kind must not end the first.
		h := &state.Hold{SubjectKey: state.SubjectKey{Subject: now.UTC().Format("20060102T150405.000")}, Code: code, Shown: text, Created: now, Subjects: whom}
		if shown.Until != nil {
			h.Expires = until
		}
		if _, err := state.OpenHold(tx, h); err != nil {
			return err
		}
		if err := state.HoldLane(tx, h.ID, lane, now, until, spareUrgent); err != nil {
			return err
		}
		return raise(tx, state.Alarm{Code: code, Severity: severity, Last: now, Text: alarmText(h, shown)})
	})
	if err != nil {
		return fmt.Errorf("hold lane %s: %w", lane, err)
	}
	e.Committed()
	e.Log.Warn("held", "lane", lane.String(), "code", code, "waiting", waiting, "in_last_hour", used, "limit", limit)
	return nil
}

func alarmText(h *state.Hold, shown shownHold) string {
	if shown.Until != nil {
		return fmt.Sprintf("hold %s: past the hourly limit of cuts, %d waiting; it happens at %s unless two operators discard them; see `consumer holds show %s`", h.Name(), shown.Count, shown.Until.UTC().Format(time.RFC3339), h.Name())
	}
	return fmt.Sprintf("hold %s: past the hourly limit of gives, %d waiting; nothing of it happens until `consumer holds release %s` or `discard`", h.Name(), shown.Count, h.Name())
}

// ClearLimit ends the alarm of a limit when nothing is held by it any more.
func ClearLimit(tx *store.Tx, code string, now time.Time) error {
	if code != AlarmCutLimit && code != AlarmGiveLimit {
		return nil
	}
	open, err := state.Holds(tx)
	if err != nil || slices.ContainsFunc(open, func(h *state.Hold) bool { return h.Code == code }) {
		return err
	}
	return clear(tx, code, "", now)
}

// expire ends the holds whose time is over: what they kept is due by its date already, and must not be
// held a second time.
func (e *Engine) expire(ctx context.Context, now time.Time) error {
	open, err := state.Holds(e.DB.Read())
	if err != nil {
		return err
	}
	over := slices.DeleteFunc(open, func(h *state.Hold) bool { return h.Expires.IsZero() || h.Expires.After(now) })
	if len(over) == 0 {
		return nil
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

// stale lists the issuers that have been silent for too long, and keeps their alarms.
func (e *Engine) stale(ctx context.Context, now time.Time) ([]string, error) {
	if now.Sub(e.staleChecked) < guardEvery && !now.Before(e.staleChecked) {
		return e.staleIssuers, nil
	}
	issuers, err := state.Issuers(e.DB.Read())
	if err != nil {
		return nil, err
	}
	var silent, alarming []string
	for _, iss := range issuers {
		since, ok, err := state.FreshSince(e.DB.Read(), iss)
		if err != nil {
			return nil, err
		}
		if ok && now.Sub(since) > e.StaleAfter {
			silent = append(silent, iss)
			// Nothing could be heard while nobody listened: the alarm waits as long as a silence would.
			if now.Sub(e.started) > e.StaleAfter {
				alarming = append(alarming, iss)
			}
		}
	}
	if !slices.Equal(alarming, e.staleAlarms) || !e.staleKnown {
		err := e.DB.Tx(ctx, func(tx *store.Tx) error {
			for _, iss := range issuers {
				var err error
				if slices.Contains(alarming, iss) {
					err = raise(tx, state.Alarm{Code: AlarmStale, Key: iss, Severity: state.Critical, Last: now, Issuer: iss,
						Text: fmt.Sprintf("no valid heartbeat of this issuer for more than %v: what it would give waits, what it would cut may be withheld; look at the mid-point and the producer", e.StaleAfter)})
				} else if !slices.Contains(silent, iss) {
					err = clear(tx, AlarmStale, iss, now)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		e.Committed()
	}
	e.staleIssuers, e.staleAlarms, e.staleChecked, e.staleKnown = silent, alarming, now, true
	return silent, nil
}
