package apply

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

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
	due := map[state.SubjectKey]plan.Lane{}
	var losing []shownEntry
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
			case len(extra) > 0:
				due[s.SubjectKey] = plan.Take
				// What a message takes does not wait, and of what has left the allow-list nothing is taken.
				if (s.Lane == plan.Idle || s.Lane >= plan.Give) && slices.ContainsFunc(extra, pol.Listed) {
					losing = append(losing, shownEntry{s.Issuer, s.SubjectKey.Subject, v.Want.Engagement, v.Want.Seq})
				}
				return nil
			case slices.ContainsFunc(plan.Given(v, pol, now), func(g string) bool { return !slices.Contains(known.Groups, g) }):
				due[s.SubjectKey] = plan.Give
				return nil
			}
		}
		if held[s.SubjectKey] {
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
	used, err := state.Effects(tx, classPolicy, now.Add(-time.Hour))
	if err != nil {
		return err
	}
	if n := int64(len(losing)); used+n <= int64(pol.Limits.CutPerHour) {
		err = state.AddEffects(tx, classPolicy, n, now)
	} else {
		err = holdLosses(tx, pol, losing, now)
		for _, x := range losing {
			delete(due, state.SubjectKey{Issuer: x.Issuer, Subject: x.Subject})
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
	return nil
}

// holdLosses puts what a policy takes from many persons behind one hold.
func holdLosses(tx *store.Tx, pol *policy.Policy, losing []shownEntry, now time.Time) error {
	until := now.Add(time.Duration(pol.Limits.CutHold))
	shown := shownHold{Code: AlarmPolicyLimit, Lane: plan.Take.String(), Count: len(losing), Until: &until, Subjects: losing}
	list, err := json.Marshal(shown)
	if err != nil {
		return err
	}
	h := &state.Hold{SubjectKey: state.SubjectKey{Subject: now.UTC().Format("20060102T150405.000")}, Code: AlarmPolicyLimit, Shown: list, Created: now, Expires: until,
		Cause: &entry.Cause{Type: entry.CausePolicy}}
	for _, x := range losing {
		h.Subjects = append(h.Subjects, entry.Who{Issuer: x.Issuer, Subject: x.Subject, Engagement: x.Engagement})
	}
	if _, err := state.OpenHold(tx, h); err != nil {
		return err
	}
	for _, x := range losing {
		if err := state.HoldPerson(tx, h.ID, state.SubjectKey{Issuer: x.Issuer, Subject: x.Subject}, plan.Take, until); err != nil {
			return err
		}
	}
	text, err := limitText(tx, h, &until, int64(shown.Count), ", more than may be cut in an hour")
	if err != nil {
		return err
	}
	return raise(tx, state.Alarm{Code: AlarmPolicyLimit, Severity: state.Critical, Last: now, Text: text + ". If the file is wrong, put it right and restart"})
}
