package apply

import (
	"context"
	"errors"
	"fmt"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/internal/directory"
)

// sight is what one look at the tenant showed. It exists only whole: an error is no sight.
type sight struct {
	account  *directory.Account // nil: there is none
	manager  string             // the account's, where it is to have one and none is known to be set; empty: none
	requests []directory.Request
}

// look finds the account of a person: by the object id where it is known, else by the mark, by
// employeeId, and by the user principal name that was reserved for it. An account without our mark is
// returned too; the plan will hold it as not owned.
func look(ctx context.Context, t Looker, of plan.Situation) (sight, error) {
	var s sight
	found, err := s.find(ctx, t, of.Issuer, of.Subject, of.Known)
	if err != nil {
		return sight{requests: s.requests}, err
	}
	if found == nil {
		return s, nil
	}
	groups, r, err := t.Groups(ctx, found.ID)
	s.requests = append(s.requests, r.Requests...)
	if err != nil {
		return sight{requests: s.requests}, fmt.Errorf("read memberships: %w", err)
	}
	found.Groups = groups
	s.account = found
	if of.Manager == "" || of.Known.Manager != "" || !ours(found, of) {
		return s, nil
	}
	s.manager, r, err = t.Manager(ctx, found.ID)
	s.requests = append(s.requests, r.Requests...)
	if err != nil && !errors.Is(err, directory.ErrNotFound) {
		return sight{requests: s.requests}, fmt.Errorf("read the manager: %w", err)
	}
	return s, nil
}

func ours(a *directory.Account, of plan.Situation) bool {
	return a != nil && a.Mark == directory.Mark(of.Issuer, of.Subject)
}

// into puts what was seen into a situation. What the bridge would give and finds is known from then on, as if it had
// given it: it may have, and lost its database.
func (s sight) into(of *plan.Situation, pol *policy.Policy) {
	of.Account = s.account
	if !ours(s.account, *of) {
		return
	}
	k := &of.Known
	k.ID, k.UPN = s.account.ID, s.account.UPN
	if !of.View.Access {
		return
	}
	stands, _ := plan.Groups(of.View, pol)
	k.Find(s.account.Groups, stands, of.Now)
	if k.Manager == "" && s.manager == of.Manager {
		k.Manager = s.manager
	}
}

func (s *sight) find(ctx context.Context, t Looker, issuer, subject string, known plan.Known) (*directory.Account, error) {
	if known.ID != "" {
		a, r, err := t.Get(ctx, known.ID)
		s.requests = append(s.requests, r.Requests...)
		if err == nil {
			return &a, nil
		}
		if !errors.Is(err, directory.ErrNotFound) {
			return nil, fmt.Errorf("read the account: %w", err)
		}
		if known.DeletedAt.IsZero() {
			// We made it and did not delete it: a replica that lags, or somebody deleted it by hand.
			return nil, &missingError{err}
		}
	}
	mark := directory.Mark(issuer, subject)
	marked, r, err := t.FindByMark(ctx, mark)
	s.requests = append(s.requests, r.Requests...)
	if err != nil {
		return nil, fmt.Errorf("find by the mark: %w", err)
	}
	if len(marked) > 1 {
		return nil, &ambiguousMarkError{len(marked)}
	}
	if len(marked) == 1 {
		return &marked[0], nil
	}
	if known.UPN != "" {
		a, r, err := t.GetByUPN(ctx, known.UPN)
		s.requests = append(s.requests, r.Requests...)
		if err == nil && a.Mark == mark {
			return &a, nil
		}
		if err != nil && !errors.Is(err, directory.ErrNotFound) {
			return nil, fmt.Errorf("find by the user principal name: %w", err)
		}
	}
	if len(subject) > 16 { // employeeId holds no more
		return nil, nil
	}
	same, r, err := t.FindByEmployeeID(ctx, subject)
	s.requests = append(s.requests, r.Requests...)
	if err != nil {
		return nil, fmt.Errorf("find by employeeId: %w", err)
	}
	for _, a := range same {
		if a.Mark == mark || a.Mark == "" {
			return &a, nil // without a mark: somebody else made it; held as not owned
		}
	}
	return nil, nil
}

// missingError: an account that the bridge made answers "not found". That may pass.
type missingError struct{ err error }

func (e *missingError) Error() string {
	return "the account that the bridge made is not found: " + e.err.Error()
}
func (e *missingError) Unwrap() error { return e.err }

// ambiguousMarkError: two accounts bear one mark. Nobody but a person can say which is right.
type ambiguousMarkError struct{ n int }

func (e *ambiguousMarkError) Error() string {
	return fmt.Sprintf("%d accounts bear the mark of this subject; want at most one: take the mark off those that are not the bridge's", e.n)
}
