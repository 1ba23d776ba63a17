package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/internal/directory"
)

// sight is what one look at the tenant showed. It exists only whole: an error is no sight.
type sight struct {
	account  *directory.Account  // nil: there is none
	manager  string              // the account's, where it is to have one and none is known to be set; empty: none
	twins    []directory.Account // others that bear the mark of somebody who was cut
	requests []directory.Request
}

// look finds the account of a person: by the object id where it is known, else by the mark, by
// employeeId, and by the user principal name that was reserved for it. An account without our mark is
// returned too; the plan will hold it as not owned.
func look(ctx context.Context, t Looker, of plan.Situation) (sight, error) {
	var s sight
	found, err := s.find(ctx, t, of.Issuer, of.Subject, of.Known)
	gone := (*missingError)(nil)
	if err != nil && !errors.As(err, &gone) {
		return sight{requests: s.requests}, err
	}
	if terr := s.findTwins(ctx, t, of); terr != nil {
		return sight{requests: s.requests}, terr
	}
	if gone != nil {
		if len(s.twins) > 0 { // then the end of the known one is not the end of the matter
			err = &ambiguousMarkError{s.twins}
		}
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

// findTwins finds whoever else bears the mark of a person whose known account is cut: access that the cut did not take.
// Not before, for no cut waits for it.
func (s *sight) findTwins(ctx context.Context, t Looker, of plan.Situation) error {
	if of.View.Access || of.Known.ID == "" || !of.Known.DeletedAt.IsZero() || !of.Known.IsCut() {
		return nil
	}
	marked, r, err := t.FindByMark(ctx, directory.Mark(of.Issuer, of.Subject))
	s.requests = append(s.requests, r.Requests...)
	if err != nil {
		return fmt.Errorf("find by the mark: %w", err)
	}
	s.twins = slices.DeleteFunc(marked, func(a directory.Account) bool { return a.ID == of.Known.ID })
	return nil
}

// plan is what to do by what was seen. A twin is held, and touched by nobody but a person, who alone can say whose it is;
// and while there is one, the account that we know is deleted by nobody, or the twin would pass for it.
func (s sight) plan(of *plan.Situation, pol *policy.Policy) plan.Plan {
	s.into(of, pol)
	p := plan.For(*of, pol)
	if len(s.twins) > 0 {
		p.Holds = append(p.Holds, (&ambiguousMarkError{s.twins}).holds(of.View.Access)...)
		p.Ops = slices.DeleteFunc(p.Ops, func(op plan.Op) bool { return op.Kind == plan.DeleteAccount })
	}
	return p
}

func ours(a *directory.Account, of plan.Situation) bool {
	return a != nil && a.Mark == directory.Mark(of.Issuer, of.Subject)
}

// into puts what was seen into a situation. A membership that the bridge finds, and may take, is known from then on as if it
// had given it: it may have, and lost its database; and what is to be taken is counted by what is known.
func (s sight) into(of *plan.Situation, pol *policy.Policy) {
	of.Account = s.account
	if !ours(s.account, *of) {
		return
	}
	k := &of.Known
	k.Meet(s.account.ID, of.Now)
	k.UPN = s.account.UPN
	k.See(s.account.Enabled, of.Now)
	k.Find(slices.DeleteFunc(slices.Clone(s.account.Groups), func(g string) bool { return !pol.Listed(g) }), of.Now)
	if !of.View.Access {
		return
	}
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
		if known.DeletedAt.IsZero() && known.GoneAt.IsZero() {
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
		return nil, &ambiguousMarkError{marked}
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

// ambiguousMarkError: accounts bear one person's mark, and which of them is the person's nobody but a person can say.
// They are those that are there; one more may have been, which is known and gone.
type ambiguousMarkError struct{ accounts []directory.Account }

func (e *ambiguousMarkError) Error() string {
	var ids []string
	for _, a := range e.accounts {
		ids = append(ids, a.ID)
	}
	return fmt.Sprintf("the mark of this subject is on more accounts than one, of which are there: %s; take it off those that are not the person's", strings.Join(ids, ", "))
}

// holds are one for each of them.
func (e *ambiguousMarkError) holds(access bool) (list []plan.Hold) {
	for _, a := range e.accounts {
		list = append(list, plan.Hold{Code: holdAmbiguousMark, Target: a.ID, Takes: !access && open(a)})
	}
	return list
}

// open reports whether somebody may sign in by an account, as far as it is known.
func open(a directory.Account) bool { return a.Enabled == nil || *a.Enabled }
