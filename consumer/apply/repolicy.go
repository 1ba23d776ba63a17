package apply

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
)

// PolicyChanged makes everyone due for whom another policy may mean something else: who was given other
// groups than it gives now, and who is held. What it takes goes before what it gives, and what it gives is
// inside the limits, like all that is given.
func PolicyChanged(tx *store.Tx, pol *policy.Policy, now time.Time) error {
	held := map[state.SubjectKey]bool{}
	open, err := state.Holds(tx)
	if err != nil {
		return err
	}
	for _, h := range open {
		held[h.SubjectKey] = true
	}
	due := map[state.SubjectKey]plan.Lane{}
	err = state.EachSubject(tx, func(s *state.Subject) error {
		var known plan.Known
		if len(s.Account) > 0 {
			if err := json.Unmarshal(s.Account, &known); err != nil {
				return fmt.Errorf("subject %s: read what is known of its account: %w", s.Subject, err)
			}
		}
		if v := s.Doc.At(now); v.Access && known.ID != "" {
			given, _ := pol.GroupsOf(v.Want.Roles)
			switch {
			case slices.ContainsFunc(known.Groups, func(g string) bool { return !slices.Contains(given, g) }):
				due[s.SubjectKey] = plan.Take
				return nil
			case slices.ContainsFunc(given, func(g string) bool { return !slices.Contains(known.Groups, g) }):
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
	for k, lane := range due {
		if err := state.Wake(tx, k, lane, now); err != nil {
			return err
		}
	}
	return nil
}
