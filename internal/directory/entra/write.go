package entra

import (
	"context"
	"strings"

	"github.com/microsoftgraph/msgraph-sdk-go/models"

	"jmlbridge/internal/directory"
)

// Taking access away. These ask Graph to throttle everyone else first.

// Disable blocks sign-in. It is idempotent.
func (t *Tenant) Disable(ctx context.Context, id string) (directory.Receipt, error) {
	return t.setEnabled(directory.WithPriority(ctx, directory.High), "disable", id, false)
}

// RevokeSessions ends every session that began before now. It is idempotent; apps notice within minutes.
func (t *Tenant) RevokeSessions(ctx context.Context, id string) (directory.Receipt, error) {
	const op = "revoke-sessions"
	if err := checkIDs(op, id); err != nil {
		return directory.Receipt{}, err
	}
	return t.do(directory.WithPriority(ctx, directory.High), op, func(ctx context.Context) error {
		// 204 by the documentation, 200 with a boolean in practice.
		_, err := t.users().ByUserId(id).RevokeSignInSessions().PostAsRevokeSignInSessionsPostResponse(ctx, nil)
		return err
	})
}

// RemoveMember takes the account out of a group. ErrNotFound: it is not in it, or one of the two is gone.
func (t *Tenant) RemoveMember(ctx context.Context, groupID, id string) (directory.Receipt, error) {
	const op = "remove-member"
	if err := checkIDs(op, groupID, id); err != nil {
		return directory.Receipt{}, err
	}
	return t.do(directory.WithPriority(ctx, directory.High), op, func(ctx context.Context) error {
		// Ref: without it the same path would delete the account.
		return t.groups().ByGroupId(groupID).Members().ByDirectoryObjectId(id).Ref().Delete(ctx, nil)
	})
}

// Delete deletes the account softly: it can be restored for 30 days.
func (t *Tenant) Delete(ctx context.Context, id string) (directory.Receipt, error) {
	const op = "delete"
	if err := checkIDs(op, id); err != nil {
		return directory.Receipt{}, err
	}
	return t.do(directory.WithPriority(ctx, directory.High), op, func(ctx context.Context) error {
		return t.users().ByUserId(id).Delete(ctx, nil)
	})
}

// Giving access.

// Create makes an account with a random password that is kept nowhere; the person comes in another way.
// It is not idempotent: ErrConflict means to go and look whether the account is this one.
func (t *Tenant) Create(ctx context.Context, n directory.NewAccount) (directory.Account, directory.Receipt, error) {
	const op = "create"
	for _, must := range []struct{ name, value string }{
		{"mark", n.Mark}, {"user principal name", n.UPN}, {"mail nickname", n.MailNickname}, {"display name", n.Attributes.DisplayName},
	} {
		if must.value == "" {
			return directory.Account{}, directory.Receipt{}, misuse(op, "no "+must.name)
		}
	}
	var made directory.Account
	receipt, err := t.do(ctx, op, func(ctx context.Context) error {
		u, _ := changes(directory.Attributes{}, n.Attributes)
		u.SetAccountEnabled(&n.Enabled)
		u.SetUserPrincipalName(&n.UPN)
		u.SetMailNickname(&n.MailNickname)
		t.mark.set(u, n.Mark)
		secret, force := password(), true
		profile := models.NewPasswordProfile()
		profile.SetPassword(&secret)
		profile.SetForceChangePasswordNextSignIn(&force)
		u.SetPasswordProfile(profile)
		got, err := t.users().Post(ctx, u, nil)
		if err != nil {
			return err
		}
		a := t.account(got)
		if a == nil || !strings.EqualFold(a.UPN, n.UPN) {
			return errEmpty
		}
		// The answer holds Graph's own choice of properties: what was written is trusted instead.
		made = directory.Account{ID: a.ID, Mark: n.Mark, UPN: a.UPN, Enabled: &n.Enabled,
			EmployeeID: n.Attributes.EmployeeID, Attributes: n.Attributes}
		return nil
	})
	return made, receipt, err
}

// Update changes the attributes that differ from from to to, and nothing else. Without a difference it
// sends nothing.
func (t *Tenant) Update(ctx context.Context, id string, from, to directory.Attributes) (directory.Receipt, error) {
	const op = "update"
	if err := checkIDs(op, id); err != nil {
		return directory.Receipt{}, err
	}
	u, changed := changes(from, to)
	if !changed {
		return directory.Receipt{}, nil
	}
	return t.patch(ctx, op, id, u)
}

// Enable lets the account sign in again. It is idempotent.
func (t *Tenant) Enable(ctx context.Context, id string) (directory.Receipt, error) {
	return t.setEnabled(ctx, "enable", id, true)
}

// AddMember puts the account into a group. ErrAlready: it is in it. ErrInvalid can mean that too, where
// Graph words its refusal in another way: look at the groups before giving up.
func (t *Tenant) AddMember(ctx context.Context, groupID, id string) (directory.Receipt, error) {
	const op = "add-member"
	if err := checkIDs(op, groupID, id); err != nil {
		return directory.Receipt{}, err
	}
	return t.do(ctx, op, func(ctx context.Context) error {
		ref := models.NewReferenceCreate()
		link := t.root + "/directoryObjects/" + id // this cloud's address, for Graph knows no other's
		ref.SetOdataId(&link)
		return t.groups().ByGroupId(groupID).Members().Ref().Post(ctx, ref, nil)
	})
}

// SetManager makes managerID the account's manager, whoever was before.
func (t *Tenant) SetManager(ctx context.Context, id, managerID string) (directory.Receipt, error) {
	const op = "set-manager"
	if err := checkIDs(op, id, managerID); err != nil {
		return directory.Receipt{}, err
	}
	return t.do(ctx, op, func(ctx context.Context) error {
		ref := models.NewReferenceUpdate()
		link := t.root + "/users/" + managerID
		ref.SetOdataId(&link)
		return t.users().ByUserId(id).Manager().Ref().Put(ctx, ref, nil)
	})
}

// ClearManager leaves the account without a manager. ErrNotFound: it had none.
func (t *Tenant) ClearManager(ctx context.Context, id string) (directory.Receipt, error) {
	const op = "clear-manager"
	if err := checkIDs(op, id); err != nil {
		return directory.Receipt{}, err
	}
	return t.do(ctx, op, func(ctx context.Context) error {
		return t.users().ByUserId(id).Manager().Ref().Delete(ctx, nil)
	})
}

func (t *Tenant) setEnabled(ctx context.Context, op, id string, enabled bool) (directory.Receipt, error) {
	if err := checkIDs(op, id); err != nil {
		return directory.Receipt{}, err
	}
	u := models.NewUser()
	u.SetAccountEnabled(&enabled)
	return t.patch(ctx, op, id, u)
}

func (t *Tenant) patch(ctx context.Context, op, id string, u models.Userable) (directory.Receipt, error) {
	return t.do(ctx, op, func(ctx context.Context) error {
		_, err := t.users().ByUserId(id).Patch(ctx, u, nil)
		return err
	})
}
