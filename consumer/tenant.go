package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"jmlbridge/consumer/policy"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/directory/entra"
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
	transport, err := cloud.NewTransport(t.Transport)
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
	cut, err := open("$.tenant.cut", t.Cut, transport)
	if err != nil {
		return nil, err
	}
	if t.Cut == t.Grant {
		return &tenants{cut, cut, cl}, nil
	}
	grant, err := open("$.tenant.grant", t.Grant, transport.Clone())
	if err != nil {
		return nil, err
	}
	return &tenants{cut, grant, cl}, nil
}

// groupReader is what checkGroups needs of a tenant.
type groupReader interface {
	Group(ctx context.Context, id string) (directory.Group, directory.Receipt, error)
}

// groupChecks is how many groups are asked for at once.
const groupChecks = 4

// errUnchecked says that the tenant did not answer, so nothing is known about the policy's groups.
var errUnchecked = errors.New("the tenant did not answer for the policy's groups")

// checkGroups compares the policy's groups with the tenant's. An error about a group is a *config.Error
// that names the line; one that wraps errUnchecked says that nothing was found out. notes is what an
// operator should know.
func checkGroups(ctx context.Context, t groupReader, p *policy.Policy) (notes []string, err error) {
	var mu sync.Mutex // guards the three below
	var wrong, unknown []error
	names := make([]string, 0, len(p.Groups))
	for name := range p.Groups {
		names = append(names, name)
	}
	slices.Sort(names)
	results := make(map[string]error, len(names))
	g, ctx := errgroup.WithContext(directory.WithPriority(ctx, directory.High))
	g.SetLimit(groupChecks)
	for _, name := range names {
		g.Go(func() error {
			id := p.Groups[name].ID
			group, _, err := t.Group(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			at := "$.groups." + name + ".id"
			switch {
			case errors.Is(err, directory.ErrNotFound):
				results[name] = p.Errorf(at, "the tenant has no group %s; put the group's object id here or create the group", id)
			case err != nil:
				unknown = append(unknown, err)
				if errors.Is(err, directory.ErrUnsent) {
					return err // no use asking for the others
				}
			case group.Dynamic:
				results[name] = p.Errorf(at, "group %s is dynamic: its rule decides who is in it, nobody can add to it; name an assigned group", id)
			case group.Foreign:
				results[name] = p.Errorf(at, "group %s is managed outside this tenant (on premises or by the mail system); name a security group of the tenant", id)
			case group.RoleAssignable:
				notes = append(notes, fmt.Sprintf("group %s (%s) can carry directory roles: the grant credential needs RoleManagement.ReadWrite.Directory for it", name, id))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil && len(results) == 0 {
		return nil, fmt.Errorf("%w: %w", errUnchecked, err)
	}
	for _, name := range names {
		if results[name] != nil {
			wrong = append(wrong, results[name])
		}
	}
	slices.Sort(notes)
	switch {
	case len(wrong) > 0:
		return notes, errors.Join(wrong...)
	case len(unknown) > 0:
		return notes, fmt.Errorf("%w: %w", errUnchecked, errors.Join(unknown...))
	}
	return notes, nil
}
