package entra

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/microsoftgraph/msgraph-sdk-go/groups"
	"github.com/microsoftgraph/msgraph-sdk-go/models"
	"github.com/microsoftgraph/msgraph-sdk-go/users"

	"jmlbridge/internal/directory"
)

// errEmpty is a good answer without what was asked for. It is not "not found": a read that failed in
// part is never a fact.
var errEmpty = errors.New("an answer without what was asked for")

// Get reads one account by its object id.
func (t *Tenant) Get(ctx context.Context, id string) (directory.Account, directory.Receipt, error) {
	if err := checkIDs("get", id); err != nil {
		return directory.Account{}, directory.Receipt{}, err
	}
	return t.one(ctx, "get", id, func(a *directory.Account) bool { return strings.EqualFold(a.ID, id) })
}

// GetByUPN reads one account by its user principal name.
func (t *Tenant) GetByUPN(ctx context.Context, upn string) (directory.Account, directory.Receipt, error) {
	if i := strings.IndexByte(upn, '@'); i < 1 || strings.HasPrefix(upn, "$") {
		return directory.Account{}, directory.Receipt{}, misuse("get-by-upn", "not a user principal name")
	}
	return t.one(ctx, "get-by-upn", upn, func(a *directory.Account) bool { return strings.EqualFold(a.UPN, upn) })
}

func (t *Tenant) one(ctx context.Context, op, key string, right func(*directory.Account) bool) (directory.Account, directory.Receipt, error) {
	var got directory.Account
	receipt, err := t.do(ctx, op, func(ctx context.Context) error {
		u, err := t.users().ByUserId(key).Get(ctx, &users.UserItemRequestBuilderGetRequestConfiguration{
			QueryParameters: &users.UserItemRequestBuilderGetQueryParameters{Select: t.selection()},
		})
		if err != nil {
			return err
		}
		a := t.account(u)
		if a == nil || !right(a) {
			return errEmpty
		}
		got = *a
		return nil
	})
	return got, receipt, err
}

func (t *Tenant) selection() []string {
	return append(slices.Clip(accountSelect), t.mark.selection())
}

// FindByMark finds the accounts that carry mark, exactly as it is written. An index answers where the mark
// is in an extensionAttribute, and it lags: that nothing is found right after a create says nothing.
func (t *Tenant) FindByMark(ctx context.Context, mark string) ([]directory.Account, directory.Receipt, error) {
	return t.find(ctx, "find-by-mark", t.mark.path(), mark, t.mark.numbered,
		func(a directory.Account) bool { return a.Mark == mark })
}

// FindByEmployeeID finds the accounts that carry an employee id, exactly as it is written.
func (t *Tenant) FindByEmployeeID(ctx context.Context, employeeID string) ([]directory.Account, directory.Receipt, error) {
	return t.find(ctx, "find-by-employee-id", "employeeId", employeeID, false,
		func(a directory.Account) bool { return a.EmployeeID == employeeID })
}

// find asks for path eq value. Graph compares without regard to case, so exact decides.
func (t *Tenant) find(ctx context.Context, op, path, value string, advanced bool, exact func(directory.Account) bool) ([]directory.Account, directory.Receipt, error) {
	if value == "" {
		return nil, directory.Receipt{}, misuse(op, "nothing to look for")
	}
	filter := path + " eq '" + strings.ReplaceAll(value, "'", "''") + "'"
	query := &users.UsersRequestBuilderGetQueryParameters{Filter: &filter, Select: t.selection()}
	if advanced {
		count := true
		query.Count = &count
	}
	var found []directory.Account
	receipt, err := t.do(ctx, op, func(ctx context.Context) error {
		callOf(ctx).eventual = advanced
		all, err := collect(op, func(link string) (page[models.Userable], error) {
			if link != "" {
				return orNil[page[models.Userable]](t.users().WithUrl(link).Get(ctx, nil))
			}
			return orNil[page[models.Userable]](t.users().Get(ctx, &users.UsersRequestBuilderGetRequestConfiguration{QueryParameters: query}))
		})
		if err != nil {
			return err
		}
		for _, u := range all {
			a := t.account(u)
			if a == nil {
				return errEmpty
			}
			again := func(b directory.Account) bool { return b.ID == a.ID } // a list that changes meanwhile may repeat it on the next page
			if exact(*a) && !slices.ContainsFunc(found, again) {
				found = append(found, *a)
			}
		}
		return nil
	})
	if err != nil {
		return nil, receipt, err
	}
	return found, receipt, nil
}

// Marked reads one page of the accounts that carry any mark of the bridge: their ids, marks and whether they are
// enabled. The first page has an empty link; next is empty behind the last one. One page is one attempt.
func (t *Tenant) Marked(ctx context.Context, link string) (list []directory.Account, next string, _ directory.Receipt, err error) {
	// Every account that has the attribute: of neither kind is startsWith documented, and of the numbered ones it is denied.
	filter, top, count := t.mark.path()+" ne null", int32(pageSize), true
	query := &users.UsersRequestBuilderGetQueryParameters{Filter: &filter, Top: &top, Count: &count,
		Select: []string{"id", "accountEnabled", t.mark.selection()}}
	receipt, err := t.do(ctx, "marked", func(ctx context.Context) error {
		callOf(ctx).eventual = true
		var p page[models.Userable]
		var err error
		if link != "" {
			p, err = orNil[page[models.Userable]](t.users().WithUrl(link).Get(ctx, nil))
		} else {
			p, err = orNil[page[models.Userable]](t.users().Get(ctx, &users.UsersRequestBuilderGetRequestConfiguration{QueryParameters: query}))
		}
		if err != nil {
			return err
		}
		if p == nil || p.GetValue() == nil { // no list is not an empty list
			return errEmpty
		}
		for _, u := range p.GetValue() {
			a := t.account(u)
			if a == nil || a.Enabled == nil {
				return errEmpty
			}
			if strings.HasPrefix(a.Mark, directory.MarkPrefix) {
				list = append(list, *a)
			}
		}
		if next = text(p.GetOdataNextLink()); next != "" && next == link {
			return errEmpty
		}
		return nil
	})
	if err != nil {
		return nil, "", receipt, err
	}
	return list, next, receipt, nil
}

// Groups lists the ids of the groups that the account is a direct member of, sorted. Directory roles and
// administrative units are not groups.
func (t *Tenant) Groups(ctx context.Context, id string) ([]string, directory.Receipt, error) {
	const op = "groups"
	if err := checkIDs(op, id); err != nil {
		return nil, directory.Receipt{}, err
	}
	var ids []string
	receipt, err := t.do(ctx, op, func(ctx context.Context) error {
		top := int32(pageSize)
		memberOf := t.users().ByUserId(id).MemberOf()
		all, err := collect(op, func(link string) (page[models.DirectoryObjectable], error) {
			if link != "" {
				return orNil[page[models.DirectoryObjectable]](memberOf.WithUrl(link).Get(ctx, nil))
			}
			return orNil[page[models.DirectoryObjectable]](memberOf.Get(ctx, &users.ItemMemberOfRequestBuilderGetRequestConfiguration{
				QueryParameters: &users.ItemMemberOfRequestBuilderGetQueryParameters{Select: []string{"id"}, Top: &top},
			}))
		})
		if err != nil {
			return err
		}
		for _, o := range all {
			if o == nil || text(o.GetId()) == "" || text(o.GetOdataType()) == "" { // of no type it may be a group
				return errEmpty
			}
			if _, ok := o.(models.Groupable); ok {
				ids = append(ids, text(o.GetId()))
			}
		}
		return nil
	})
	if err != nil {
		return nil, receipt, err
	}
	slices.Sort(ids)
	return slices.Compact(ids), receipt, nil
}

// Members reads one page of the direct members of a group: their object ids, whatever they are, for devices and groups
// can be among them. The first page has an empty link; next is empty behind the last one. One page is one attempt.
// ErrNotFound: there is no such group.
func (t *Tenant) Members(ctx context.Context, groupID, link string) (ids []string, next string, _ directory.Receipt, err error) {
	const op = "members"
	if err := checkIDs(op, groupID); err != nil {
		return nil, "", directory.Receipt{}, err
	}
	top := int32(pageSize)
	receipt, err := t.do(ctx, op, func(ctx context.Context) error {
		members := t.groups().ByGroupId(groupID).Members()
		var p page[models.DirectoryObjectable]
		var err error
		if link != "" {
			p, err = orNil[page[models.DirectoryObjectable]](members.WithUrl(link).Get(ctx, nil))
		} else {
			p, err = orNil[page[models.DirectoryObjectable]](members.Get(ctx, &groups.ItemMembersRequestBuilderGetRequestConfiguration{
				QueryParameters: &groups.ItemMembersRequestBuilderGetQueryParameters{Select: []string{"id"}, Top: &top},
			}))
		}
		if err != nil {
			return err
		}
		if p == nil || p.GetValue() == nil { // no list is not an empty list
			return errEmpty
		}
		for _, o := range p.GetValue() {
			if o == nil || text(o.GetId()) == "" {
				return errEmpty
			}
			ids = append(ids, text(o.GetId()))
		}
		if next = text(p.GetOdataNextLink()); next != "" && next == link {
			return errEmpty
		}
		return nil
	})
	if err != nil {
		return nil, "", receipt, err
	}
	return ids, next, receipt, nil
}

// Manager reads the id of the account's manager. ErrNotFound: it has none, or there is no such account.
func (t *Tenant) Manager(ctx context.Context, id string) (string, directory.Receipt, error) {
	const op = "manager"
	if err := checkIDs(op, id); err != nil {
		return "", directory.Receipt{}, err
	}
	var manager string
	receipt, err := t.do(ctx, op, func(ctx context.Context) error {
		m, err := t.users().ByUserId(id).Manager().Get(ctx, &users.ItemManagerRequestBuilderGetRequestConfiguration{
			QueryParameters: &users.ItemManagerRequestBuilderGetQueryParameters{Select: []string{"id"}},
		})
		if err != nil {
			return err
		}
		if m == nil || text(m.GetId()) == "" {
			return errEmpty
		}
		manager = text(m.GetId())
		return nil
	})
	return manager, receipt, err
}

// Group reads what a policy must know of a group.
func (t *Tenant) Group(ctx context.Context, groupID string) (directory.Group, directory.Receipt, error) {
	const op = "group"
	if err := checkIDs(op, groupID); err != nil {
		return directory.Group{}, directory.Receipt{}, err
	}
	var got directory.Group
	receipt, err := t.do(ctx, op, func(ctx context.Context) error {
		g, err := t.groups().ByGroupId(groupID).Get(ctx, &groups.GroupItemRequestBuilderGetRequestConfiguration{
			QueryParameters: &groups.GroupItemRequestBuilderGetQueryParameters{Select: []string{
				"id", "displayName", "groupTypes", "isAssignableToRole", "onPremisesSyncEnabled", "mailEnabled",
			}},
		})
		if err != nil {
			return err
		}
		if g == nil || !strings.EqualFold(text(g.GetId()), groupID) {
			return errEmpty
		}
		is := func(b *bool) bool { return b != nil && *b }
		got = directory.Group{
			ID: text(g.GetId()), Name: text(g.GetDisplayName()),
			Dynamic:        slices.Contains(g.GetGroupTypes(), "DynamicMembership"),
			RoleAssignable: is(g.GetIsAssignableToRole()),
			// A mail-enabled group that is not a Microsoft 365 group belongs to Exchange.
			Foreign: is(g.GetOnPremisesSyncEnabled()) || is(g.GetMailEnabled()) && !slices.Contains(g.GetGroupTypes(), "Unified"),
		}
		return nil
	})
	return got, receipt, err
}

// page is one page of a list of Graph's.
type page[T any] interface {
	GetValue() []T
	GetOdataNextLink() *string
}

// orNil keeps a missing answer from becoming a page that is not nil.
func orNil[P any](p any, err error) (P, error) {
	got, _ := p.(P)
	return got, err
}

// collect reads every page. get with an empty link asks for the first. Where a link may lead is the
// transport's business.
func collect[T any](op string, get func(link string) (page[T], error)) ([]T, error) {
	var all []T
	link := ""
	for range maxPages {
		p, err := get(link)
		if err != nil {
			return nil, err
		}
		if p == nil || p.GetValue() == nil { // no list is not an empty list
			return nil, errEmpty
		}
		all = append(all, p.GetValue()...)
		next := text(p.GetOdataNextLink())
		if next == "" {
			return all, nil
		}
		if next == link {
			return nil, errEmpty
		}
		link = next
	}
	return nil, &directory.Error{Op: op, Code: directory.CodeTooLong, Kinds: []error{directory.ErrInvalid}}
}
