package apply

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger/entry"
)

// done is what became of one operation.
type done struct {
	result   string // an entry.ResultX constant
	code     string
	why      string // what the tenant itself says, where it does: its code, and the property that it is about
	requests []directory.Request
	retry    bool // failed, and may succeed later
	denied   bool // the credential was refused: somebody must look at it
	lost     bool // no usable answer came: it may be done
	unseen   bool // the name of a create conflicts, and no account is shown that has it
	after    time.Duration
}

// tenants are the two credential slots.
type tenants struct {
	cut   Cutter
	grant Granter
}

// perform makes one attempt at op on the account in k and keeps k in step with what is known to have
// happened. seen is what was read just before, if anything was: what is so already is not done again.
func (t tenants) perform(ctx context.Context, op plan.Op, k *plan.Known, seen *directory.Account, now func() time.Time) done {
	var r directory.Receipt
	var err error
	switch op.Kind {
	case plan.DisableAccount:
		if seen != nil && seen.Enabled != nil && !*seen.Enabled && !k.Enabling(now()) {
			k.ID = seen.ID
			disabled(k, now())
			return done{result: entry.ResultAlready, code: byWhom(k)}
		}
		switch r, err = t.cut.Disable(ctx, k.ID); {
		case err == nil:
			disabled(k, now())
			return done{result: entry.ResultApplied, code: byWhom(k), requests: r.Requests}
		case !unanswered(err):
			k.DisablingAt = time.Time{} // refused: nothing was done
		}
	case plan.RevokeSessions:
		if r, err = t.cut.RevokeSessions(ctx, k.ID); err == nil {
			k.RevokedAt = now()
		}
	case plan.RemoveMember:
		r, err = t.cut.RemoveMember(ctx, op.Group, k.ID)
		if errors.Is(err, directory.ErrNotFound) && k.JustGiven(op.Group, now()) {
			// Perhaps a replica that does not know the membership yet, perhaps an earlier removal whose
			// answer was lost: it stays on our list, to be taken away again when that is settled.
			k.Doubted = append(slices.Clone(k.Doubted), op.Group)
			return judge(op.Kind, r, err)
		}
		if err == nil || errors.Is(err, directory.ErrNotFound) {
			k.Groups, k.Doubted = without(k.Groups, op.Group), without(k.Doubted, op.Group)
			k.Take(op.Group, now())
		}
	case plan.DeleteAccount:
		r, err = t.cut.Delete(ctx, k.ID)
		if err == nil || errors.Is(err, directory.ErrNotFound) {
			k.DeletedAt, k.DeletingAt = now(), time.Time{}
		}
	case plan.CreateAccount:
		return t.create(ctx, op, k)
	case plan.UpdateAccount:
		r, err = t.grant.Update(ctx, k.ID, op.From, op.To)
	case plan.SetManager:
		if r, err = t.grant.SetManager(ctx, k.ID, op.Manager); err == nil {
			k.Manager = op.Manager
		}
	case plan.ClearManager:
		r, err = t.grant.ClearManager(ctx, k.ID)
		if err == nil || errors.Is(err, directory.ErrNotFound) {
			k.Manager = ""
		}
	case plan.EnableAccount:
		if r, err = t.grant.Enable(ctx, k.ID); err == nil {
			k.DisabledAt, k.DisablingAt, k.RevokedAt, k.ConfirmedAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
			k.StrippedAt, k.StrippedUp, k.DeletingAt = time.Time{}, 0, time.Time{}
		}
	case plan.AddMember:
		r, err = t.grant.AddMember(ctx, op.Group, k.ID)
		if unanswered(err) { // also where a create has made a new account of k since it was prepared
			k.Giving(op.Group, now())
		}
		if errors.Is(err, directory.ErrAlready) && k.JustTaken(op.Group, now()) {
			// Perhaps a replica that does not know the removal yet: it is in doubt, and given once more when that is settled.
			k.Giving(op.Group, now())
			return judge(op.Kind, r, err)
		}
		if err == nil || errors.Is(err, directory.ErrAlready) {
			k.GivenAt, k.Doubted, k.Taken = now(), without(k.Doubted, op.Group), without(k.Taken, op.Group)
			if !slices.Contains(k.Groups, op.Group) {
				k.Groups = append(slices.Clone(k.Groups), op.Group)
			}
		}
	}
	return judge(op.Kind, r, err)
}

func without(groups []string, group string) []string {
	return slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return g == group })
}

// disabled notes a disable. What was revoked before an enable whose end was not known is to be revoked again.
func disabled(k *plan.Known, now time.Time) {
	if !k.EnablingAt.IsZero() {
		k.RevokedAt, k.EnablingAt = time.Time{}, time.Time{}
	}
	k.DisabledAt, k.DisablingAt, k.ConfirmedAt = now, time.Time{}, time.Time{}
}

// byWhom is the code of a disable: of one that somebody in the enclave had done before, it says so. The ledger is all that
// is left to tell it where the database is lost.
func byWhom(k *plan.Known) string {
	if k.BlockedAt.IsZero() {
		return ""
	}
	return string(plan.HoldDisabledLocally)
}

// create makes the account under the name reserved in k. A conflict means "go and look": the first
// attempt may have taken effect, or the name is somebody else's.
func (t tenants) create(ctx context.Context, op plan.Op, k *plan.Known) done {
	n := *op.Create
	n.UPN = k.UPN
	n.MailNickname = nickname(k.UPN)
	a, r, err := t.grant.Create(ctx, n)
	if err == nil {
		*k = plan.Known{ID: a.ID, UPN: k.UPN, TriedAt: k.TriedAt, Engagement: k.Engagement} // a new account: what was done to an earlier one is history
		return done{result: entry.ResultApplied, requests: r.Requests}
	}
	if !errors.Is(err, directory.ErrConflict) {
		if !unanswered(err) {
			// Refused: nothing was made. The name may be why, so it is chosen again, by the policy of then.
			k.TriedAt, k.UPN = time.Time{}, ""
		}
		return judge(op.Kind, r, err)
	}
	there, look, lookErr := t.grant.GetByUPN(ctx, n.UPN)
	requests := append(r.Requests, look.Requests...)
	switch {
	case lookErr == nil && there.Mark == n.Mark:
		*k = plan.Known{ID: there.ID, UPN: k.UPN, TriedAt: k.TriedAt, Engagement: k.Engagement}
		return done{result: entry.ResultFound, requests: requests}
	case lookErr == nil:
		k.TriedAt = time.Time{}
		k.UPN = "" // borne by somebody else: the next attempt reserves another
		k.Passed++
		return done{result: entry.ResultFailed, code: codeNameTaken, requests: requests, retry: true}
	default: // a replica that does not show it yet, or no answer: nothing is known
		return done{result: entry.ResultFailed, code: directory.CodeConflict, why: why(err), requests: requests, retry: true,
			unseen: errors.Is(lookErr, directory.ErrNotFound)}
	}
}

// codeNameTaken: the user principal name is borne by an account that is not this person's.
const codeNameTaken = "name-taken"

// judge turns an answer into a result. Not found after a removal or a delete is what was wanted; a
// lost answer is a failure that will be looked at before anything is repeated.
func judge(kind plan.Kind, r directory.Receipt, err error) done {
	d := done{requests: r.Requests, after: directory.RetryAfter(err)}
	switch {
	case err == nil:
		d.result = entry.ResultApplied
		return d
	case errors.Is(err, directory.ErrAlready),
		errors.Is(err, directory.ErrNotFound) && (kind == plan.RemoveMember || kind == plan.DeleteAccount || kind == plan.ClearManager):
		d.result = entry.ResultAlready
		return d
	}
	d.result, d.code, d.why, d.retry = entry.ResultFailed, code(err), why(err), true
	d.denied, d.lost = errors.Is(err, directory.ErrDenied), unanswered(err)
	return d
}

// unanswered reports whether what failed may have taken effect.
func unanswered(err error) bool {
	return errors.Is(err, directory.ErrAmbiguous) && !errors.Is(err, directory.ErrUnsent)
}

// code is the stable code of a failed operation.
func code(err error) string {
	if e, ok := errors.AsType[*directory.Error](err); ok && e.Code != "" {
		return e.Code
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return directory.CodeLostAnswer
	default:
		return directory.CodeUnreadable
	}
}

// why is the tenant's own reason for a failure; empty where it gave none.
func why(err error) string {
	e, ok := errors.AsType[*directory.Error](err)
	switch {
	case !ok:
		return ""
	case e.Reason != "" && e.Target != "":
		return e.Reason + " on " + e.Target
	}
	return cmp.Or(e.Reason, e.Target)
}

// said is a failure for people.
func (d done) said() string {
	if d.why == "" {
		return d.code
	}
	return d.code + "; the tenant says " + d.why
}

// requests puts what was sent into the ledger's form.
func requests(sent []directory.Request) []entry.Request {
	if len(sent) > entry.MaxRequests {
		sent = sent[len(sent)-entry.MaxRequests:]
	}
	var out []entry.Request
	for _, q := range sent {
		out = append(out, entry.Request{Client: entry.ID(q.ClientRequestID), Server: entry.ID(q.RequestID), Status: q.Status})
	}
	return out
}

func nickname(upn string) string {
	for i, r := range upn {
		if r == '@' {
			return upn[:i]
		}
	}
	return upn
}
