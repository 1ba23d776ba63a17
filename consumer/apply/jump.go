package apply

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// How far the clock may be from where it should be.
const (
	ClockBack    = 5 * time.Second // corrections by NTP stay below it
	ClockForward = 10 * time.Minute
)

// leapWait is how long the executor itself takes the clock to be in doubt when it sees a jump: until then the alarm
// stands, or there is nobody to raise it.
const leapWait = 10 * time.Second

// Jump is a clock that is not where it should be.
type Jump struct {
	Against         string // entry.AgainstX
	Expected, Found time.Time
}

// Offset is how far the clock is ahead of where it should be.
func (j *Jump) Offset() time.Duration { return j.Found.Sub(j.Expected) }

// Jumped compares the clock with where it should be; nil: it is near enough.
func Jumped(against string, expected, found time.Time) *Jump {
	expected, found = expected.Round(0), found.Round(0) // by the wall clock
	if d := found.Sub(expected); d < -ClockBack || d > ClockForward {
		return &Jump{against, expected, found}
	}
	return nil
}

// Record puts a jump on the ledger and raises its alarm.
func (j *Jump) Record(tx *store.Tx, now time.Time) error {
	e := &entry.Clock{Action: entry.ClockJumped, Against: j.Against, Expected: entry.MomentAt(j.Expected), Found: entry.MomentAt(j.Found), Offset: j.Offset().Milliseconds()}
	first, err := ledger.Append(tx, entry.New(now, e))
	if err != nil {
		return err
	}
	a := state.Alarm{Code: AlarmClock, Severity: state.Critical, Last: now, Entry: entry.Index(first)}
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case j.Offset() < 0:
		a.Text = fmt.Sprintf("the clock says %s and was at %s before (%v back): correct it, then `consumer clock confirm`", stamp(j.Found), stamp(j.Expected), -j.Offset().Round(time.Second))
	case j.Against == entry.AgainstLedger:
		a.Severity = state.Notice
		a.Text = fmt.Sprintf("the clock is %v past the last entry of the ledger: either nothing ran for so long, or the clock is wrong; `consumer clock confirm`", j.Offset().Round(time.Second))
	default:
		a.Text = fmt.Sprintf("the clock jumped %v forward, to %s: correct it, then `consumer clock confirm`", j.Offset().Round(time.Second), stamp(j.Found))
	}
	if j.Offset() < 0 {
		if err := state.BringForward(tx, j.Offset(), now); err != nil {
			return err
		}
		high, err := state.ClockHigh(tx)
		if err == nil && j.Expected.After(high) {
			err = state.SetClockHigh(tx, j.Expected)
		}
		if err != nil {
			return err
		}
	}
	return raise(tx, a)
}

// standing is what the facts about a person come to now, where the clock was at high before it went back. What had been taken
// by then stays taken until somebody confirms the clock: nobody is given back what a date that seems to be ahead again took.
func standing(s *state.Subject, pol *policy.Policy, now, high time.Time) fence.View {
	v := s.Doc.At(now)
	if !high.After(now) {
		return v
	}
	was := s.Doc.At(high)
	switch was.Why {
	case fence.WhyLeft, fence.WhySuspended, fence.WhyEnded:
		return was
	case fence.WhyActive:
		v.Caps = append(slices.Concat(v.Caps, was.Caps), had(s, was, pol, high))
	}
	v.Approvals = slices.Clone(v.Approvals)
	for i := range v.Approvals {
		if a := &v.Approvals[i]; !a.Expiry.After(high) {
			a.Expiry = time.Unix(0, 0).UTC() // over, by every clock
		}
	}
	return v
}

// had are the roles of a view that stood for anything at a time, whatever capped them: not those that wanted an approval which
// had ended, or never came.
func had(s *state.Subject, v fence.View, pol *policy.Policy, at time.Time) []string {
	known, err := s.Known()
	return slices.DeleteFunc(slices.Clone(v.Want.Roles), func(role string) bool {
		unasked := err == nil && (known.ID != "" && known.Engagement == 0 || known.Engagement == v.Want.Engagement && len(known.Unasked[role]) > 0)
		return !unasked && unapproved(role, v, pol, at)
	})
}

// view is what the facts come to by what the engine knows of the clock: also a jump that it has just seen itself.
func (e *Engine) view(s *state.Subject, now time.Time) fence.View {
	e.leapt(now)
	e.mu.Lock()
	defer e.mu.Unlock()
	return standing(s, e.Policy, now, e.high)
}

// hearClock keeps where the clock was before it went back.
func (e *Engine) hearClock() error {
	high, err := state.ClockHigh(e.DB.Read())
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && (e.leap == 0 || high.After(e.high)) {
		e.high = high
	}
	return err
}

// ClockConfirmed is an operator's word that the clock is right: it ends the alarm. By a clock that was ahead, dates
// came and leases ran out too early, and what was noted then lies ahead of us: whoever is not as the clock now says is
// due, such a lease goes on, and every date is waited for anew.
func ClockConfirmed(tx *store.Tx, by state.By) error {
	e := &entry.Clock{Action: entry.ClockConfirmed, Against: entry.AgainstLedger, Found: entry.MomentAt(by.Now), By: by.Login, Reason: entry.Text(by.Reason)}
	if err := record(tx, by.Now, e); err != nil {
		return err
	}
	due := map[state.SubjectKey]plan.Lane{}
	notes := map[state.SubjectKey]plan.Known{}
	var lapsed []state.SubjectKey
	err := state.EachSubject(tx, func(s *state.Subject) error {
		var known plan.Known
		if len(s.Account) > 0 {
			if err := json.Unmarshal(s.Account, &known); err != nil {
				return fmt.Errorf("subject %s: read what is known of its account: %w", s.Subject, err)
			}
		}
		pulled := known.PullBack(by.Now)
		if pulled {
			notes[s.SubjectKey] = known
		}
		if l := s.Doc.Lapse; l != nil && l.Why == fence.WhyLease && l.At.After(by.Now) {
			lapsed = append(lapsed, s.SubjectKey)
		}
		switch v := s.Doc.At(by.Now); {
		case s.Held(): // when its time is over it is looked at by the clock of then
		case s.Discarded(): // operators decided, until a new fact comes or their time is over
		case v.Access && !v.Next.IsZero():
			due[s.SubjectKey] = plan.Take // what is stated for a date to come may have been done
		case v.Access && (known.ID == "" || !known.DisabledAt.IsZero()):
			due[s.SubjectKey] = plan.Give
		case !v.Access && known.ID != "" && known.DeletedAt.IsZero() && !known.IsCut():
			due[s.SubjectKey] = plan.Disable
		case !v.Access && pulled:
			due[s.SubjectKey] = plan.Strip // what comes a while after a cut waits from the cut as it is dated now
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k, known := range notes {
		if err := state.SetAccount(tx, k, encode(known)); err != nil {
			return err
		}
	}
	for _, k := range lapsed {
		if _, err := state.RestoreLeases(tx, k, by.Now); err != nil {
			return err
		}
		if err := record(tx, by.Now, &entry.Lease{Action: entry.LeaseExtended, Issuer: k.Issuer, Subject: k.Subject, Until: entry.MomentAt(by.Now), By: by.Login, Reason: entry.Text(by.Reason)}); err != nil {
			return err
		}
	}
	for k, lane := range due {
		if err := state.Wake(tx, k, lane, by.Now); err != nil {
			return err
		}
	}
	if err := state.BoundExtensions(tx, by.Now); err != nil {
		return err
	}
	if err := state.BoundWords(tx, by.Now); err != nil {
		return err
	}
	if err := state.Redate(tx, by.Now); err != nil {
		return err
	}
	if err := state.SetClockHigh(tx, time.Time{}); err != nil {
		return err
	}
	return clear(tx, AlarmClock, "", by.Now)
}

// leapt reports whether the clock jumped so lately that its alarm may not stand yet: what waits for the clock to be
// right must not slip through between the jump and the look that finds it.
func (e *Engine) leapt(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.lastSeen.IsZero() {
		passed := e.elapsed(e.lastSeen, now)
		if j := Jumped(entry.AgainstMonotonic, e.lastSeen.Round(0).Add(passed), now); j != nil {
			e.leap = leapWait
			if j.Offset() < 0 && j.Expected.After(e.high) {
				e.high = j.Expected
			}
		} else {
			e.leap = max(0, e.leap-max(0, passed))
		}
	}
	e.lastSeen = now
	return e.leap > 0
}
