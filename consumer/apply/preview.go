package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/directory"
)

// Preview plans one person as the engine would now, by looking at the tenant, and writes nothing
// anywhere.
func Preview(ctx context.Context, t Looker, r state.Reader, row *state.Subject, pol *policy.Policy, now time.Time) (plan.Plan, error) {
	uptime, err := Uptime(r)
	if err != nil {
		return plan.Plan{}, err
	}
	view, err := View(r, row, pol, now)
	if err != nil {
		return plan.Plan{}, err
	}
	s := plan.Situation{Issuer: row.Issuer, Subject: row.Subject, View: view, Unnamed: row.Unnamed, Now: now, Uptime: uptime}
	if len(row.Account) > 0 {
		if err := json.Unmarshal(row.Account, &s.Known); err != nil {
			return plan.Plan{}, fmt.Errorf("subject %s: read what is known of its account: %w", row.Subject, err)
		}
	}
	if m := s.View.Want.Person.Manager; m != nil && s.View.Access && m.Value != row.Subject {
		var err error
		if s.Manager, err = accountOf(r, state.SubjectKey{Issuer: row.Issuer, Subject: m.Value}); err != nil {
			return plan.Plan{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, operationTime)
	defer cancel()
	seen, err := look(directory.WithPriority(ctx, directory.Low), t, s)
	if err != nil {
		return plan.Plan{}, err
	}
	return seen.plan(&s, pol), nil
}

// accountOf is the object id of a person's account; empty where it has none.
func accountOf(r state.Reader, k state.SubjectKey) (string, error) {
	s, err := state.LoadSubject(r, k)
	if err != nil || s == nil || len(s.Account) == 0 {
		return "", err
	}
	var known plan.Known
	if err := json.Unmarshal(s.Account, &known); err != nil {
		return "", fmt.Errorf("subject %s: read what is known of its account: %w", k.Subject, err)
	}
	if !known.DeletedAt.IsZero() || !known.GoneAt.IsZero() {
		return "", nil
	}
	return known.ID, nil
}
