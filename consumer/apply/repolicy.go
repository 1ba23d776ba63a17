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
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// PolicyChanged makes everyone due for whom another policy may mean something else: who was given other
// groups than it gives now, and who is held. What it takes goes before what it gives, and what it gives is
// inside the limits, like all that is given. Where it takes from more persons in an hour than may be cut, all of
// that is held as cuts are: a slip in the file must not strip everybody at the next start.
func PolicyChanged(tx *store.Tx, pol *policy.Policy, now time.Time) error {
	held := map[state.SubjectKey]bool{}
	open, err := state.Holds(tx)
	if err != nil {
		return err
	}
	for _, h := range open {
		held[h.SubjectKey] = true
	}
	found, err := state.AllGroupsFound(tx)
	if err != nil {
		return err
	}
	lapsing, err := state.Lapsing(tx)
	if err != nil {
		return err
	}
	uptime, err := Uptime(tx)
	if err != nil {
		return err
	}
	due := map[state.SubjectKey]plan.Lane{}
	deletes := map[state.SubjectKey]time.Time{}
	var losing sets
	n := int64(0)
	until := now.Add(time.Duration(pol.Limits.CutHold))
	err = state.EachSubject(tx, func(s *state.Subject) error {
		var known plan.Known
		if len(s.Account) > 0 {
			if err := json.Unmarshal(s.Account, &known); err != nil {
				return fmt.Errorf("subject %s: read what is known of its account: %w", s.Subject, err)
			}
		}
		in := known.Groups
		if known.ID == "" { // nobody has looked since a recovery: what is given is found out by that
			in = found[directory.Mark(s.Issuer, s.SubjectKey.Subject)]
		}
		if v := s.Doc.At(now); v.Access && (known.ID != "" || len(lost(in, v, pol)) > 0) {
			stands, _ := plan.Groups(v, pol)
			extra := slices.DeleteFunc(slices.Clone(in), func(g string) bool { return slices.Contains(stands, g) })
			switch {
			case slices.ContainsFunc(lapsing, s.DiscardedWith): // comes back by itself, and is planned by the policy of then
				return nil
			case len(extra) > 0:
				due[s.SubjectKey] = plan.Take
				// What a message takes does not wait, and of what has left the allow-list nothing is taken.
				if (s.Lane == plan.Idle || s.Lane >= plan.Give) && !s.Discarded() && slices.ContainsFunc(extra, pol.Listed) && !s.Waited(plan.Take, now) {
					losing.add(s, plan.Take, until, v.Want.Position)
					n++
				}
				return nil
			case s.Discarded(): // it stays so
				return nil
			case slices.ContainsFunc(plan.Given(v, pol, now), func(g string) bool { return !slices.Contains(known.Groups, g) }):
				due[s.SubjectKey] = plan.Give
				return nil
			case slices.ContainsFunc(v.Want.Roles, func(role string) bool { return unapproved(role, v, pol, now) }):
				due[s.SubjectKey] = plan.Give // keeps what was had before anybody asked, and is held for the rest
				return nil
			}
		}
		if (s.Lane == plan.Delete || s.Lane == plan.Idle) && s.Attempts == 0 && s.Note == "" && s.Doc.At(now).Closed {
			if at := plan.DeleteAt(known, pol, now, uptime); s.Lane == plan.Delete || !at.IsZero() {
				deletes[s.SubjectKey] = at
			}
		}
		if held[s.SubjectKey] && !s.Discarded() {
			due[s.SubjectKey] = plan.Give
			if !s.Doc.At(now).Access {
				due[s.SubjectKey] = plan.Strip
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k, at := range deletes { // grace is another one
		if err := state.DeleteAt(tx, k, at); err != nil {
			return err
		}
	}
	used, err := state.Effects(tx, classPolicy, now.Add(-time.Hour))
	if err != nil {
		return err
	}
	if used+n <= int64(pol.Limits.CutPerHour) {
		err = state.AddEffects(tx, classPolicy, n, now)
	} else {
		err = holdLosses(tx, losing, n, now)
		for _, x := range losing {
			for _, p := range x.persons {
				delete(due, state.SubjectKey{Issuer: p.Issuer, Subject: p.Subject})
			}
		}
	}
	if err != nil {
		return err
	}
	for k, lane := range due {
		if err := state.Wake(tx, k, lane, now); err != nil {
			return err
		}
	}
	return state.LookAtLeases(tx) // they may be shorter now
}

// unapproved reports whether a role wants an approval that is not there, or not any more.
func unapproved(role string, v fence.View, pol *policy.Policy, now time.Time) bool {
	return pol.NeedsApproval(role) && !slices.ContainsFunc(v.Approvals, func(a fence.Approval) bool { return a.Role == role && now.Before(a.Expiry) })
}

// holdLosses puts what a policy takes from n persons behind holds.
func holdLosses(tx *store.Tx, losing sets, n int64, now time.Time) error {
	h, until, err := losing.open(tx, AlarmPolicyLimit, plan.Take, &entry.Cause{Type: entry.CausePolicy}, now)
	if err != nil {
		return err
	}
	text, err := limitText(tx, h, until, n, ", more than may be cut in an hour")
	if err != nil {
		return err
	}
	return raise(tx, state.Alarm{Code: AlarmPolicyLimit, Severity: state.Critical, Last: now, Text: text + ". If the file is wrong, put it right and restart"})
}
