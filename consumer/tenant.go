package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/policy"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/directory/entra"
	"jmlbridge/internal/outbound"
)

// tenants are the two identities in the enclave's tenant; one object where they are the same.
type tenants struct {
	cut, grant *entra.Tenant
	cloud      cloud.Cloud
}

// openTenants reads the credentials. It sends nothing.
func openTenants(cfg *Config, log *slog.Logger) (*tenants, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f, t := cfg.file, &cfg.Tenant
	cl, err := t.Cloud.Cloud()
	if err != nil {
		return nil, f.Errorf("$.tenant.cloud", "%v", err)
	}
	way, err := outbound.New(t.Transport)
	if err != nil {
		return nil, f.Errorf("$.tenant.transport", "%v", err)
	}
	open := func(key string, cred cloud.CredentialConfig, transport *http.Transport) (*entra.Tenant, error) {
		e, err := entra.New(entra.Config{Cloud: cl, Transport: transport, Credential: cred, MarkAttribute: t.MarkAttribute, Log: log})
		if err != nil {
			return nil, f.Errorf(key, "%v", err)
		}
		return e, nil
	}
	cut, err := open("$.tenant.cut", t.Cut, way.Transport())
	if err != nil {
		return nil, err
	}
	if t.Cut == t.Grant {
		return &tenants{cut, cut, cl}, nil
	}
	grant, err := open("$.tenant.grant", t.Grant, way.Transport())
	if err != nil {
		return nil, err
	}
	return &tenants{cut, grant, cl}, nil
}

// nobody is the object id of no account.
const nobody = "00000000-0000-0000-0000-000000000000"

// tryCredentials asks the tenant for nobody, by each credential: a cut must not be what finds out that one is dead. It
// returns what the tenant said to each slot that it answered: nil, or an error that matches directory.ErrDenied; and why it
// did not answer the others.
func (t *tenants) tryCredentials(ctx context.Context) (said, unheard map[string]error) {
	said, unheard = map[string]error{}, map[string]error{}
	for slot, by := range map[string]*entra.Tenant{apply.SlotCut: t.cut, apply.SlotGrant: t.grant} {
		switch _, _, err := by.Get(ctx, nobody); {
		case errors.Is(err, directory.ErrDenied):
			said[slot] = err
		case err == nil, errors.Is(err, directory.ErrNotFound):
			said[slot] = nil
		default:
			unheard[slot] = err
		}
	}
	return said, unheard
}

// tenantReader is what checkTenant needs of a tenant.
type tenantReader interface {
	Group(ctx context.Context, id string) (directory.Group, directory.Receipt, error)
	Get(ctx context.Context, id string) (directory.Account, directory.Receipt, error)
	GetByUPN(ctx context.Context, upn string) (directory.Account, directory.Receipt, error)
}

// tenantChecks is how many things are asked for at once.
const tenantChecks = 4

// errUnchecked says that the tenant did not answer, so nothing is known about what the policy names.
var errUnchecked = errors.New("the tenant did not answer for what the policy names")

// checkTenant holds the policy against the tenant: its groups can be used, and every protected account
// exists, for a name with a slip of the pen protects nobody. An error about the policy is a *config.Error
// that names the line; one that wraps errUnchecked says that nothing was found out. notes is what an
// operator should know.
func checkTenant(ctx context.Context, t tenantReader, p *policy.Policy) (notes []string, err error) {
	var mu sync.Mutex // guards the three below
	var unknown []error
	names := slices.Sorted(maps.Keys(p.Groups))
	wrong := make([]error, len(names)+len(p.Protected)) // in this order
	g, ctx := errgroup.WithContext(directory.WithPriority(ctx, directory.High))
	g.SetLimit(tenantChecks)
	ask := func(i int, look func() (note string, wrong, err error)) {
		g.Go(func() error {
			note, bad, err := look()
			mu.Lock()
			defer mu.Unlock()
			wrong[i] = bad
			if note != "" {
				notes = append(notes, note)
			}
			if err != nil {
				unknown = append(unknown, err)
				if errors.Is(err, directory.ErrUnsent) {
					return err // no use asking for the others
				}
			}
			return nil
		})
	}
	for i, name := range names {
		ask(i, func() (string, error, error) { return checkGroup(ctx, t, p, name) })
	}
	for i := range p.Protected {
		ask(len(names)+i, func() (string, error, error) {
			wrong, err := checkProtected(ctx, t, p, i)
			return "", wrong, err
		})
	}
	_ = g.Wait() // it is among the unknown
	slices.Sort(notes)
	switch bad := errors.Join(wrong...); {
	case bad != nil:
		return notes, bad
	case len(unknown) > 0:
		return notes, fmt.Errorf("%w: %w", errUnchecked, errors.Join(unknown...))
	}
	return notes, nil
}

// checkGroup looks at one group of the policy. wrong is the policy's fault, err the tenant's.
func checkGroup(ctx context.Context, t tenantReader, p *policy.Policy, name string) (note string, wrong, err error) {
	id, at := p.Groups[name].ID, "$.groups."+name+".id"
	group, _, err := t.Group(ctx, id)
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return "", noGroup(p, name), nil
	case err != nil:
		return "", nil, err
	case group.Dynamic:
		wrong = p.Errorf(at, "group %s is dynamic: its rule decides who is in it, nobody can add to it; name an assigned group", id)
	case group.Foreign:
		wrong = p.Errorf(at, "group %s is managed outside this tenant (on premises or by the mail system); name a security group of the tenant", id)
	case group.RoleAssignable:
		note = fmt.Sprintf("group %s (%s) can carry directory roles: the grant credential needs RoleManagement.ReadWrite.Directory for it", name, id)
	}
	return note, wrong, nil
}

// noGroup says that the tenant does not have a group of the policy.
func noGroup(p *policy.Policy, name string) error {
	return p.Errorf("$.groups."+name+".id", "the tenant has no group %s; put the group's object id here or create the group", p.Groups[name].ID)
}

// checkProtected looks at one entry under protected. wrong is the policy's fault, err the tenant's.
func checkProtected(ctx context.Context, t tenantReader, p *policy.Policy, i int) (wrong, err error) {
	who := p.Protected[i]
	if strings.Contains(who, "@") {
		_, _, err = t.GetByUPN(ctx, who)
	} else {
		_, _, err = t.Get(ctx, strings.ToLower(who))
	}
	if errors.Is(err, directory.ErrNotFound) {
		return p.Errorf(fmt.Sprintf("$.protected[%d]", i), "the tenant has no account %q, so nobody is protected by this line; put the account's object id or user principal name here", who), nil
	}
	return nil, err
}

// Bounds on looking through the tenant.
const (
	maxPages    = 2000            // of one list, of up to 999 accounts or members each
	pageTries   = 6               // of one page
	pageWait    = 2 * time.Second // between two of them, where the tenant names no time
	maxPageWait = 2 * time.Minute // and where it does
)

// marker is what looking through a tenant needs of it.
type marker interface {
	Marked(ctx context.Context, link string) ([]directory.Account, string, directory.Receipt, error)
	Members(ctx context.Context, groupID, link string) ([]string, string, directory.Receipt, error)
}

// marked lists every account that bears the bridge's mark, once: a list that changes meanwhile may repeat one on another page.
// One that any page has enabled is.
func marked(ctx context.Context, t marker) (list []directory.Account, err error) {
	at := map[string]int{}
	err = eachPage(ctx, "marked accounts", func(link string) (string, error) {
		page, next, _, err := t.Marked(ctx, link)
		for _, a := range page {
			i, again := at[a.ID]
			switch {
			case !again:
				at[a.ID] = len(list)
				list = append(list, a)
			case a.Enabled != nil && *a.Enabled:
				list[i].Enabled = a.Enabled
			}
		}
		return next, err
	})
	return list, err
}

// members notes of each account in which groups of the policy it is, and returns how many memberships that are. Members
// that are none of these accounts are nobody of the bridge's. It reads group by group and keeps nothing of the others. An
// error about the policy is a *config.Error that names the line.
func members(ctx context.Context, t marker, p *policy.Policy, accounts []directory.Account) (n int, err error) {
	at := make(map[string]int, len(accounts))
	for i := range accounts {
		at[accounts[i].ID] = i
	}
	for _, name := range slices.Sorted(maps.Keys(p.Groups)) {
		id := p.Groups[name].ID
		err := eachPage(ctx, "members of group "+id, func(link string) (string, error) {
			page, next, _, err := t.Members(ctx, id, link)
			for _, member := range page {
				i, ours := at[member]
				if !ours || slices.Contains(accounts[i].Groups, id) {
					continue
				}
				accounts[i].Groups = append(accounts[i].Groups, id)
				n++
			}
			return next, err
		})
		if errors.Is(err, directory.ErrNotFound) {
			return 0, noGroup(p, name)
		}
		if err != nil {
			return 0, fmt.Errorf("read who is in group %s: %w", id, err)
		}
	}
	return n, nil
}

// eachPage reads a list to its end, with patience where the tenant throttles or does not answer. read takes in the page of a
// link and returns the link of the next one; where it fails it has taken in nothing.
func eachPage(ctx context.Context, what string, read func(link string) (next string, err error)) error {
	link, was := "", map[string]bool{}
	for range maxPages {
		var next string
		for try := 1; ; try++ {
			var err error
			if next, err = read(link); err == nil {
				break
			}
			if try == pageTries || !errors.Is(err, directory.ErrAmbiguous) && !errors.Is(err, directory.ErrThrottled) {
				return err
			}
			wait := min(max(directory.RetryAfter(err), pageWait), maxPageWait)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			}
		}
		if next == "" {
			return nil
		}
		if was[next] {
			return fmt.Errorf("the tenant's pages of %s lead back to one that was read", what)
		}
		link, was[next] = next, true
	}
	return fmt.Errorf("the tenant goes on after %d pages of %s", maxPages, what)
}
