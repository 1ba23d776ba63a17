package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/internal/config"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/queue/natsqueue"
)

// answers is a tenant that says one thing of every group, and one of every account.
type answers struct {
	group directory.Group
	err   error
	who   error
}

func (a answers) Get(context.Context, string) (directory.Account, directory.Receipt, error) {
	return directory.Account{}, directory.Receipt{}, a.who
}

func (a answers) GetByUPN(context.Context, string) (directory.Account, directory.Receipt, error) {
	return directory.Account{}, directory.Receipt{}, a.who
}

func (a answers) Group(context.Context, string) (directory.Group, directory.Receipt, error) {
	return a.group, directory.Receipt{}, a.err
}

func TestCheckTenant(t *testing.T) {
	pol, err := policy.Parse("policy.yaml", []byte(policyText))
	if err != nil {
		t.Fatal(err)
	}
	unsent := &directory.Error{Op: "group", Code: directory.CodeNoConnection, Kinds: []error{directory.ErrAmbiguous, directory.ErrUnsent}}
	denied := &directory.Error{Op: "group", Code: directory.CodeDenied, Kinds: []error{directory.ErrDenied}}
	missing := &directory.Error{Op: "group", Code: directory.CodeNotFound, Kinds: []error{directory.ErrNotFound}}
	for _, c := range []struct {
		name      string
		tenant    answers
		wrong     string // part of an error about the policy
		unchecked bool
		notes     int
	}{
		{"good", answers{group: directory.Group{ID: soc}}, "", false, 0},
		{"missing", answers{err: missing}, "has no group", false, 0},
		{"dynamic", answers{group: directory.Group{ID: soc, Dynamic: true}}, "is dynamic", false, 0},
		{"foreign", answers{group: directory.Group{ID: soc, Foreign: true}}, "outside this tenant", false, 0},
		{"role-assignable", answers{group: directory.Group{ID: soc, RoleAssignable: true}}, "", false, 1},
		{"no connection", answers{err: unsent}, "", true, 0},
		{"denied", answers{err: denied}, "", true, 0},
		{"no such account", answers{who: missing}, "has no account", false, 0},
		{"no such account, and groups not answered for", answers{err: denied, who: missing}, "has no account", false, 0},
		{"accounts not answered for", answers{who: unsent}, "", true, 0},
	} {
		notes, err := checkTenant(t.Context(), c.tenant, pol)
		if len(notes) != c.notes {
			t.Errorf("%s: notes %q", c.name, notes)
		}
		if errors.Is(err, errUnchecked) != c.unchecked {
			t.Errorf("%s: unchecked is not %v: %v", c.name, c.unchecked, err)
		}
		where, wrong := errors.AsType[*config.Error](err)
		if wrong != (c.wrong != "") {
			t.Errorf("%s: %v", c.name, err)
		}
		line := 7
		if c.tenant.who != nil {
			line = 10
		}
		if wrong && (where.Line != line || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: line %d, %v; want line %d and %q", c.name, where.Line, err, line, c.wrong)
		}
		if wrong && !strings.HasPrefix(groupText(err), fmt.Sprintf("policy line %d: ", line)) {
			t.Errorf("%s: alarm text %q", c.name, groupText(err))
		}
		if c.unchecked == (exitCode(err) == exitMisused) && err != nil {
			t.Errorf("%s: exit %d", c.name, exitCode(err))
		}
	}
}

// lists is a tenant that lists members: pages of a group by its id, and what the first requests say instead.
type lists struct {
	pages map[string][][]string
	fails []error
}

func (l *lists) Marked(context.Context, string) ([]directory.Account, string, directory.Receipt, error) {
	return nil, "", directory.Receipt{}, errors.New("nobody asks")
}

func (l *lists) Members(_ context.Context, id, link string) ([]string, string, directory.Receipt, error) {
	if len(l.fails) > 0 {
		err := l.fails[0]
		l.fails = l.fails[1:]
		return nil, "", directory.Receipt{}, err
	}
	pages, n := l.pages[id], len(link)
	if len(pages) == 0 {
		return nil, "", directory.Receipt{}, &directory.Error{Op: "members", Code: directory.CodeNotFound, Kinds: []error{directory.ErrNotFound}}
	}
	if n == len(pages)-1 {
		return pages[n], "", directory.Receipt{}, nil
	}
	return pages[n], link + ">", directory.Receipt{}, nil
}

// pagesOf is a tenant whose marked accounts stand on pages, of which the last leads to the page of next.
type pagesOf struct {
	marker
	pages [][]directory.Account
	next  string
	asked int
}

func (p *pagesOf) Marked(_ context.Context, link string) ([]directory.Account, string, directory.Receipt, error) {
	p.asked++
	if n := len(link); n < len(p.pages)-1 {
		return p.pages[n], link + ">", directory.Receipt{}, nil
	}
	return p.pages[len(p.pages)-1], p.next, directory.Receipt{}, nil
}

// An account that a list repeats, since others came or went between two pages, is one account; where any page has it enabled
// it is. Pages that lead back to one that was read are no list.
func TestMarkedAccountsOnTwoPages(t *testing.T) {
	on, off := true, false
	l := &pagesOf{pages: [][]directory.Account{{{ID: "a", Enabled: &off}, {ID: "b", Enabled: &on}}, {{ID: "b", Enabled: &off}, {ID: "a", Enabled: &on}, {ID: "c", Enabled: &off}}}}
	list, err := marked(t.Context(), l)
	if err != nil || len(list) != 3 || !*list[0].Enabled || !*list[1].Enabled || *list[2].Enabled {
		t.Errorf("%+v, %v", list, err)
	}
	l.next, l.asked = ">", 0
	if _, err := marked(t.Context(), l); err == nil || l.asked > 3 {
		t.Errorf("of pages in a circle: %v after %d", err, l.asked)
	}
}

// In which groups of the policy the bridge's accounts are is read to the end, with patience, and of nobody else anything is
// kept. A group that is not there is the policy's fault, and the tenant's silence is an error.
func TestMembers(t *testing.T) {
	pol, err := policy.Parse("policy.yaml", []byte(policyText))
	if err != nil {
		t.Fatal(err)
	}
	read := func(l *lists) (all []directory.Account, n int, err error) {
		all = []directory.Account{{ID: "a"}, {ID: "b"}, {ID: "c"}}
		synctest.Test(t, func(t *testing.T) { n, err = members(t.Context(), l, pol, all) })
		return all, n, err
	}
	busy := &directory.Error{Op: "members", Code: directory.CodeThrottled, After: time.Hour, Kinds: []error{directory.ErrThrottled}}
	pages := map[string][][]string{soc: {{"x", "a"}, {"y"}, {"a", "c"}}}
	all, n, err := read(&lists{pages: pages, fails: []error{busy, busy}})
	if err != nil || n != 2 || !slices.Equal(all[0].Groups, []string{soc}) || all[1].Groups != nil || !slices.Equal(all[2].Groups, []string{soc}) {
		t.Errorf("%d memberships, %+v, %v", n, all, err)
	}
	if _, _, err := read(&lists{pages: pages, fails: slices.Repeat([]error{busy}, pageTries)}); !errors.Is(err, directory.ErrThrottled) || !strings.Contains(err.Error(), soc) {
		t.Errorf("of a tenant that only throttles: %v", err)
	}
	_, _, err = read(&lists{})
	where, wrong := errors.AsType[*config.Error](err)
	if !wrong || where.Line != 7 || !strings.Contains(err.Error(), "has no group") {
		t.Errorf("of a group that is not there: %v", err)
	}
}

// A tenant that does not answer is said for each person, and is a failure.
func TestPlanWithoutTenant(t *testing.T) {
	f := newFiles(t)
	f.init()
	f.people(f.open(), plan.Give, "give-limit", "100001", "100002")
	code, out, errs := f.consumer("plan")
	if code != exitFailed || strings.Count(out, "  error  ") != 2 || !strings.Contains(errs, "2 of 2 persons") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

func TestProxyOfQueue(t *testing.T) {
	for _, c := range []struct{ proxy, credentials, want, wantCredentials string }{
		{"", "", "http://proxy.internal:3128", "proxy.secret"},
		{"none", "", "none", ""},
		{"http://other.internal:8080", "", "http://other.internal:8080", ""}, // the secret is not for another proxy
		{"http://other.internal:8080", "other.secret", "http://other.internal:8080", "other.secret"},
	} {
		cfg := defaults()
		cfg.Tenant.Transport.Proxy, cfg.Tenant.Transport.ProxyCredentials = "http://proxy.internal:3128", "proxy.secret"
		cfg.Queue.NATS = &natsqueue.Config{Proxy: c.proxy, ProxyCredentials: c.credentials}
		if q := cfg.Queue.Via(cfg.Tenant.Transport).NATS; q.Proxy != c.want || q.ProxyCredentials != c.wantCredentials {
			t.Errorf("%+v: %q, %q", c, q.Proxy, q.ProxyCredentials)
		}
	}
}

// A card for another enclave is not for us.
func TestCardOfAnotherEnclave(t *testing.T) {
	f := newFiles(t)
	f.init()
	f.card("card.json", signing(t), "hr", 1)
	f.edit("card.json", `"generation":1`, `"generation":1,"enclave":"urn:jmlbridge:enclave:gov-2"`)
	if code, _, errs := f.consumer("trust", "add", f.path("card.json"), "--reason", "x"); code != exitMisused || !strings.Contains(errs, "gov-2") {
		t.Errorf("exit %d, %s", code, errs)
	}
}
