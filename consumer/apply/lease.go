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
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

const (
	leaseEvery = time.Minute    // between two looks at the leases
	leaseBatch = 500            // persons in one transaction
	leaseLook  = 24 * time.Hour // between two looks at somebody whose lease does not run now
	warnEvery  = 24 * time.Hour // between two alarms on leases that end soon
	lastDay    = 24 * time.Hour // before the first end the alarm is as loud as can be
)

// leases looks at everybody of whom nothing was said for half of the shortest lease: whose lease ran out loses
// access, reversibly, through the planner and the limits like any other cut. While the clock is in doubt
// nobody's lease runs out. It returns when the next one ends; zero: not soon.
func (e *Engine) leases(ctx context.Context, now time.Time, doubt bool) error {
	if e.Observe || doubt || now.Sub(e.leasesChecked) < leaseEvery && !now.Before(e.leasesChecked) {
		return nil
	}
	since := now.Add(-e.Policy.ShortestLease() / 2)
	for {
		list, err := state.Leases(e.DB.Read(), since, now, leaseBatch)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		err = e.DB.Tx(ctx, func(tx *store.Tx) error {
			for _, listed := range list {
				s, err := state.LoadSubject(tx, listed.SubjectKey) // a word may have come since
				if err != nil {
					return err
				}
				if err := e.lease(tx, s, now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look at leases: %w", err)
		}
		e.Committed()
		if len(list) < leaseBatch {
			break
		}
	}
	e.leasesChecked = now
	return e.warn(ctx, now)
}

// lease takes what ran out for one person, and notes when to look again.
func (e *Engine) lease(tx *store.Tx, s *state.Subject, now time.Time) error {
	l, ran := lapse(s, e.Policy, now)
	if !ran {
		at := l.End
		switch {
		case s.Doc.Lapse != nil && s.Doc.Lapse.Roles == nil:
			at = state.Never // not before something is said
		case at.IsZero():
			at = now.Add(leaseLook)
		}
		return state.LookAtLease(tx, s.SubjectKey, at, at.Equal(l.End))
	}
	v := s.Doc.At(now)
	who := entry.Who{Issuer: s.Issuer, Subject: s.SubjectKey.Subject, Engagement: v.Want.Engagement}
	var first int64
	roles := l.Roles
	if l.Whole {
		roles = []string{""}
	}
	for i, role := range roles {
		index, err := ledger.Append(tx, entry.New(now, &entry.Lease{Action: entry.LeaseExpired, Issuer: who.Issuer, Subject: who.Subject, Engagement: who.Engagement,
			Role: role, Previous: entry.MomentAt(s.SaidAt)}))
		if err != nil {
			return err
		}
		if i == 0 {
			first = index
		}
	}
	taken, before := l.Roles, s.Doc.Lapse // what an operator took stays taken
	if before != nil && before.Why == fence.WhyLease {
		if !l.Whole {
			taken = slices.Compact(slices.Sorted(slices.Values(slices.Concat(before.Roles, taken))))
		}
		before = before.Before
	}
	s.Doc.Lapse = &fence.Lapse{Why: fence.WhyLease, At: now.UTC(), Entry: first, Roles: taken, Before: before}
	s.FactAt = now
	lane := plan.Disable
	if !l.Whole {
		lane = plan.Take
	}
	s.Raise(lane, now, false)
	if err := state.SaveFacts(tx, s); err != nil {
		return err
	}
	next := l.End
	if l.Whole {
		next = state.Never
	}
	return state.LookAtLease(tx, s.SubjectKey, next, !l.Whole)
}

// lapse tells what is left of a person's leases, and whether something ran out that is not taken yet.
func lapse(s *state.Subject, pol *policy.Policy, now time.Time) (l policy.Lease, ran bool) {
	if s == nil || s.SaidAt.IsZero() {
		return l, false
	}
	bare := s.Doc
	if bare.Lapse != nil {
		if bare.Lapse.Roles == nil {
			return l, false // all of it is taken
		}
		bare.Lapse = nil
	}
	v := bare.At(now)
	if !v.Access {
		return l, false
	}
	l = pol.Lease(v.Want.Roles, s.SaidAt, s.Extended, now)
	return l, l.Whole || slices.ContainsFunc(l.Roles, func(r string) bool { return s.Doc.Lapse == nil || !slices.Contains(s.Doc.Lapse.Roles, r) })
}

// warn keeps the alarm on leases that end if nothing is heard, and raises it anew every day.
func (e *Engine) warn(ctx context.Context, now time.Time) error {
	ending, err := state.LeasesEnding(e.DB.Read(), now)
	if err != nil {
		return err
	}
	standing, err := state.Alarms(e.DB.Read())
	if err != nil {
		return err
	}
	over := map[string]state.Alarm{}
	for _, a := range standing {
		if a.Code == AlarmLease {
			over[a.Key] = a
		}
	}
	if len(ending) == 0 && len(over) == 0 {
		return nil
	}
	return e.DB.Tx(ctx, func(tx *store.Tx) error {
		for _, x := range ending {
			was, stood := over[x.Issuer]
			delete(over, x.Issuer)
			a := state.Alarm{Code: AlarmLease, Key: x.Issuer, Severity: state.Warning, Last: now, Issuer: x.Issuer,
				Text: fmt.Sprintf("nothing was said lately of %d with access, whose leases end if nothing is: the first at %s. Look at the producer and the mid-point; `consumer lease extend` puts it off", x.Count, x.First.UTC().Format(time.RFC3339))}
			if x.First.Sub(now) < lastDay {
				a.Severity = state.Critical
			}
			if stood && was.Severity == a.Severity && now.Sub(was.Last) < warnEvery {
				continue
			}
			if err := raise(tx, a); err != nil {
				return err
			}
			if err := record(tx, now, &entry.Lease{Action: entry.LeaseWarned, Issuer: x.Issuer, Count: x.Count, Until: entry.MomentAt(x.First)}); err != nil {
				return err
			}
		}
		for key := range over {
			if err := clear(tx, AlarmLease, key, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// lapses takes what ran out for one person before anything is planned: a word that was long on its way must not
// open an account for the moment until the next look.
func (e *Engine) lapses(ctx context.Context, s *state.Subject, now time.Time) (bool, error) {
	if e.Observe {
		return false, nil
	}
	if _, ran := lapse(s, e.Policy, now); !ran {
		return false, nil
	}
	doubt, err := e.clockDoubt()
	if err != nil || doubt {
		return false, err
	}
	return true, e.DB.Tx(ctx, func(tx *store.Tx) error {
		again, err := state.LoadSubject(tx, s.SubjectKey)
		if err != nil {
			return err
		}
		return e.lease(tx, again, now)
	})
}
