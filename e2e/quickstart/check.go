package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
	"jmlbridge/internal/ledger/entry"
)

// checkTenant holds the tenant's own state against what the export must have come to.
func (s *story) checkTenant(ctx context.Context, people []*person) {
	state, err := s.bridge.Tenant.State(ctx)
	if err != nil {
		s.problems = append(s.problems, err.Error())
		return
	}
	var wrong []string
	n := map[fate]int{}
	enabled := 0
	for _, p := range people {
		n[p.fate]++
		if p.enabled {
			enabled++
		}
		for _, w := range differs(state.User(p.upn), p) {
			wrong = append(wrong, fmt.Sprintf("%s (%s) %s: %s", p.name, p.id, p.fate, w))
		}
	}
	for _, u := range state.Users {
		if strings.EqualFold(u.UserPrincipalName, stage.BreakGlass) {
			if now := fmt.Sprintf("%+v", u); now != s.breakGlass {
				wrong = append(wrong, "the break-glass account was touched: "+now+" and before "+s.breakGlass)
			}
			continue
		}
		if !slices.ContainsFunc(people, func(p *person) bool { return p.account && strings.EqualFold(p.upn, u.UserPrincipalName) }) {
			wrong = append(wrong, "the tenant has an account "+u.UserPrincipalName+" that nobody asked for")
		}
	}
	promised := func(what string, fates ...fate) {
		total := 0
		for _, f := range fates {
			total += n[f]
		}
		if total > 0 && len(wrong) == 0 {
			s.screen.check(true, fmt.Sprintf(what, total))
		}
	}
	s.screen.say("The tenant's own word, read from its state:")
	if people[0].fate == joins {
		promised("%d people have an account, enabled, with exactly the groups that the policy gives their roles", joins)
		promised("%d people whose rows were refused or held have none", refused, held)
	} else {
		promised("%d people who joined late have an account; their rows were corrected", joins)
		promised("%d people who moved have the groups of their new roles and no others", moves)
		promised("%d leavers: disabled, sessions revoked, out of every group", leaves)
		promised("%d suspended: disabled, sessions revoked; the groups wait for the return", suspended)
		promised("%d missing from the file: untouched, since absence is never a leaver", missing)
		promised("%d others: as they were", unchanged)
	}
	if len(wrong) == 0 {
		s.screen.check(true, "the break-glass account: never touched; and no account that nobody asked for")
	}
	for _, w := range wrong {
		s.screen.check(false, w)
	}
	s.problems = append(s.problems, wrong...)
}

// doubted makes a problem of every doubt, with the tenant's word on whoever should have been cut.
func (s *story) doubted(ctx context.Context) error {
	if len(s.follow.doubts) == 0 {
		return nil
	}
	state, err := s.bridge.Tenant.State(ctx)
	if err != nil {
		return err
	}
	for _, d := range s.follow.doubts {
		s.problems = append(s.problems, d.text)
		s.screen.check(false, d.text)
		p := s.follow.people[d.subject]
		if p == nil {
			continue
		}
		if u := state.User(p.upn); u != nil && u.Enabled && !p.enabled {
			s.problems = append(s.problems, fmt.Sprintf("%s (%s) %s: %s", p.name, p.id, p.fate, stillEnabled))
		}
	}
	return nil
}

const stillEnabled = "the account must be disabled, but the tenant says that it is still enabled"

// differs says what about an account is not as it must be.
func differs(u *tenant.UserState, p *person) (wrong []string) {
	if u == nil || !p.account {
		if u != nil {
			return []string{"there must be no account, but the tenant has " + u.UserPrincipalName}
		}
		if p.account {
			return []string{"there must be an account " + p.upn + ", but the tenant has none"}
		}
		return nil
	}
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	switch {
	case u.SoftDeleted:
		say("the account must exist, but it is deleted")
	case u.Enabled && !p.enabled:
		say(stillEnabled)
	case !u.Enabled && p.enabled:
		say("the account must be enabled, but the tenant says that it is disabled")
	}
	if p.revoked && !u.SessionsRevoked {
		say("its sessions must be revoked, but the tenant says that they are not")
	}
	if !p.revoked && u.SessionsRevoked {
		say("nobody asked to revoke its sessions, but the tenant says that they were")
	}
	got := slices.Clone(u.Groups)
	slices.Sort(got)
	if !slices.Equal(got, p.groups) {
		say("its groups must be %s, but the tenant says %s", listOr(p.groups, "none"), listOr(got, "none"))
	}
	if p.manager != "" && !strings.EqualFold(u.Manager, p.manager) {
		say("its manager must be %s, but the tenant says %s", p.manager, listOr([]string{u.Manager}, "none"))
	}
	return wrong
}

func listOr(list []string, none string) string {
	if text := strings.Join(list, ", "); text != "" {
		return text
	}
	return none
}

// idle waits until the consumer says that it has nothing left to do, and everything that it recorded is
// published and was shown.
func (s *story) idle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, actTime)
	defer cancel()
	var st struct {
		Ledger struct {
			Size int64 `json:"size"`
		} `json:"ledger"`
		Backlog     map[string]int64 `json:"backlog"`
		OpenIntents int              `json:"open_intents"`
	}
	return stage.Until(ctx, "the consumer to have nothing left to do", func() (bool, error) {
		res, err := s.bridge.ConsumerDo(ctx, "status", "-o", "json")
		if err != nil {
			return false, err
		}
		if err := json.Unmarshal([]byte(res.Stdout), &st); err != nil {
			return false, fmt.Errorf("read the consumer's status: %w", err)
		}
		left := int64(st.OpenIntents)
		for _, n := range st.Backlog {
			left += n
		}
		if err := s.follow.look(ctx); err != nil {
			return false, err
		}
		done := left == 0 && s.follow.nextEntry >= st.Ledger.Size
		s.follow.flush(done)
		return done, nil
	})
}

// lookBack holds the sources against each other while everything still runs.
func (s *story) lookBack(ctx context.Context) error {
	s.screen.section("6  Looking back")
	before := len(s.problems)
	check := func(text string, found []string) {
		if len(found) == 0 {
			s.screen.check(true, text)
		}
		for _, f := range found {
			s.screen.check(false, f)
		}
		s.problems = append(s.problems, found...)
	}
	explained, unexplained, err := s.reconcile(ctx)
	if err != nil {
		return err
	}
	check(fmt.Sprintf("every one of the %d writes in the tenant's journal is named by an outcome on the ledger, by its client-request-id", explained), unexplained)
	res, err := s.bridge.ConsumerDo(ctx, "status", "--check")
	var exit *stage.ExitError
	switch {
	case err == nil:
		check("consumer status --check: no alarm, nothing held", nil)
	case errors.As(err, &exit) && exit.Code >= 3: // by severity
		check("", []string{"consumer status --check says that something needs a person:\n" + strings.TrimSpace(res.Stdout)})
	default:
		return err
	}
	looks, outbound, heard := s.ears.soFar()
	switch {
	case looks == 0:
		s.screen.say("Not checked: whether the consumer listens on a socket; this system has no /proc.")
	case len(heard) == 0:
		s.screen.check(true, fmt.Sprintf("the consumer listens on no socket: looked %d times in /proc/%d while it ran; it only dialled out, to %s", looks, s.bridge.Consumer.PID(), s.where(outbound)))
	}
	if len(s.problems) > before {
		s.screen.print("")
	}
	return nil
}

// where names the addresses that the consumer dialled.
func (s *story) where(addresses []string) string {
	var names []string
	for _, a := range addresses {
		_, address, _ := strings.Cut(a, " ")
		switch {
		case strings.Contains(s.bridge.Tenant.Graph, address), s.containers && strings.HasSuffix(address, fmt.Sprintf(":%d", stage.TenantPort)):
			names = append(names, "the tenant")
		case s.containers:
			names = append(names, "the way out to the mid-point")
		default:
			names = append(names, "the mid-point")
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(slices.Compact(names), " and ")
}

// reconcile finds writes of the bridge's identities in the tenant's journal that no outcome names.
func (s *story) reconcile(ctx context.Context) (explained int, unexplained []string, err error) {
	entries, err := s.bridge.Ledger.Entries(ctx, 0)
	if err != nil {
		return 0, nil, err
	}
	named := map[string]bool{}
	for _, e := range entries {
		if o, ok := e.Body.(*entry.Outcome); ok {
			for _, r := range o.Results {
				for _, q := range r.Requests {
					named[q.Client] = true
				}
			}
		}
	}
	journal, err := s.bridge.Tenant.Journal(ctx, 0)
	for _, j := range journal {
		switch {
		case !j.Applied:
		case named[j.ClientRequestID]:
			explained++
		default:
			unexplained = append(unexplained, fmt.Sprintf("the tenant's journal has %s %s (entry %d), which no outcome on the ledger names", j.Method, j.Path, j.N))
		}
	}
	return explained, unexplained, err
}
