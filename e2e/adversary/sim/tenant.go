package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"jmlbridge/internal/directory"
)

// tenant is a directory as apply.Cutter and apply.Granter see it. It throttles, it loses answers of what it
// did and of what it did not do, and its replicas lag. What it confirms is so.
type tenant struct {
	w        *world
	accounts []*account
	requests int

	calm bool // no faults, no lag: the adversary rests
	lag  time.Duration
}

// account is one account and how it was before: replicas show the past.
type account struct {
	id, upn  string
	versions []version
}

type version struct {
	at      time.Time
	mark    string
	enabled bool
	deleted bool
	groups  []string
	attrs   directory.Attributes
	manager string
}

func (a *account) now() *version { return &a.versions[len(a.versions)-1] }

// as is the account at a replica that is this late; nil: it does not know it.
func (a *account) as(of time.Time) *version {
	for i := len(a.versions) - 1; i >= 0; i-- {
		if !a.versions[i].at.After(of) {
			return &a.versions[i]
		}
	}
	return nil
}

// change begins a new version.
func (a *account) change(now time.Time) *version {
	v := *a.now()
	v.at, v.groups = now, slices.Clone(v.groups)
	a.versions = append(a.versions, v)
	return a.now()
}

func fail(op, code string, kinds ...error) *directory.Error {
	return &directory.Error{Op: op, Code: code, Kinds: kinds}
}

// fate is what becomes of one request.
type fate int

const (
	answered fate = iota
	throttled
	refusedForNow // 503, and not done
	lost          // no answer, and not done
	lostDone      // no answer, and done
	unsent
)

// call is one request. Between it and its answer anything may happen to the program, or in the world.
func (t *tenant) call(op string) (f fate, r directory.Receipt, err error) {
	w := t.w
	w.consumer.seam("tenant-before")
	t.requests++
	r.Requests = []directory.Request{{ClientRequestID: fmt.Sprintf("request-%d", t.requests), Status: 200}}
	if !t.calm {
		w.interlude()
		if w.chance(8) {
			w.clock.pass(w.upTo(3 * time.Second))
		}
		if w.chance(w.mood.faults) {
			f = throttled + fate(w.rng.IntN(int(unsent-throttled)+1))
		}
	}
	switch f {
	case throttled:
		e := fail(op, directory.CodeThrottled, &directory.ThrottledError{})
		e.After = time.Duration(1+w.rng.IntN(10)) * time.Second
		err = e
	case refusedForNow:
		err = fail(op, directory.CodeUnavailable, directory.ErrAmbiguous)
	case lost, lostDone:
		err = fail(op, directory.CodeLostAnswer, directory.ErrAmbiguous)
	case unsent:
		err = fail(op, directory.CodeNoConnection, directory.ErrAmbiguous, directory.ErrUnsent)
	}
	if err != nil {
		r.Requests[0].Status = 0
	}
	return f, r, err
}

// write is a request that changes an account. do changes it, and says what the tenant answers.
func (t *tenant) write(op, id, target string, do func(a *account) error) (directory.Receipt, error) {
	f, r, err := t.call(op)
	if f != answered && f != lostDone {
		t.w.consumer.seam("tenant-after")
		return r, err
	}
	a := t.find(id)
	if a == nil || a.now().deleted {
		if err == nil {
			err = fail(op, directory.CodeNotFound, directory.ErrNotFound)
		}
		t.w.consumer.seam("tenant-after")
		return r, err
	}
	if v := a.as(t.replica()); v == nil && f == answered { // made so lately that not every replica knows it
		t.w.consumer.seam("tenant-after")
		return r, fail(op, directory.CodeNotFound, directory.ErrNotFound)
	}
	before := len(a.versions)
	if derr := do(a); err == nil {
		err = derr
	}
	if len(a.versions) != before {
		t.w.wrote(op, a.now().mark, target)
	}
	t.w.consumer.seam("tenant-after")
	return r, err
}

// replica is the time up to which whoever answers knows of changes.
func (t *tenant) replica() time.Time {
	if t.calm || t.lag == 0 || t.w.rng.IntN(2) == 0 {
		return t.w.clock.now()
	}
	return t.w.clock.now().Add(-t.w.upTo(t.lag))
}

func (t *tenant) find(id string) *account {
	for _, a := range t.accounts {
		if a.id == id {
			return a
		}
	}
	return nil
}

func (a *account) show(v *version) directory.Account {
	enabled := v.enabled
	return directory.Account{ID: a.id, Mark: v.mark, UPN: a.upn, Enabled: &enabled, EmployeeID: v.attrs.EmployeeID, Attributes: v.attrs}
}

// list is what a replica knows of those that fit.
func (t *tenant) list(op string, fits func(*account, *version) bool) (found []directory.Account, r directory.Receipt, err error) {
	_, r, err = t.call(op)
	if err != nil {
		return nil, r, err
	}
	at := t.replica()
	for _, a := range t.accounts {
		if v := a.as(at); v != nil && !v.deleted && fits(a, v) {
			found = append(found, a.show(v))
		}
	}
	return found, r, nil
}

func (t *tenant) one(op string, fits func(*account, *version) bool) (directory.Account, directory.Receipt, error) {
	found, r, err := t.list(op, fits)
	if err == nil && len(found) == 0 {
		err = fail(op, directory.CodeNotFound, directory.ErrNotFound)
	}
	if err != nil {
		return directory.Account{}, r, err
	}
	return found[0], r, nil
}

// Get implements apply.Looker.
func (t *tenant) Get(_ context.Context, id string) (directory.Account, directory.Receipt, error) {
	return t.one("get", func(a *account, _ *version) bool { return a.id == id })
}

// GetByUPN implements apply.Looker.
func (t *tenant) GetByUPN(_ context.Context, upn string) (directory.Account, directory.Receipt, error) {
	return t.one("get-by-upn", func(a *account, _ *version) bool { return a.upn == upn })
}

// FindByMark implements apply.Looker.
func (t *tenant) FindByMark(_ context.Context, mark string) ([]directory.Account, directory.Receipt, error) {
	return t.list("find-by-mark", func(_ *account, v *version) bool { return v.mark == mark })
}

// FindByEmployeeID implements apply.Looker.
func (t *tenant) FindByEmployeeID(_ context.Context, id string) ([]directory.Account, directory.Receipt, error) {
	return t.list("find-by-employee", func(_ *account, v *version) bool { return v.attrs.EmployeeID == id })
}

// Groups implements apply.Looker.
func (t *tenant) Groups(_ context.Context, id string) ([]string, directory.Receipt, error) {
	_, r, err := t.call("groups")
	if err != nil {
		return nil, r, err
	}
	a := t.find(id)
	if a == nil || a.as(t.replica()) == nil {
		return nil, r, fail("groups", directory.CodeNotFound, directory.ErrNotFound)
	}
	return slices.Clone(a.as(t.replica2(a)).groups), r, nil
}

// Manager implements apply.Looker.
func (t *tenant) Manager(_ context.Context, id string) (string, directory.Receipt, error) {
	_, r, err := t.call("manager")
	if err != nil {
		return "", r, err
	}
	manager := ""
	if a := t.find(id); a != nil {
		manager = a.as(t.replica2(a)).manager
	}
	if manager == "" {
		return "", r, fail("manager", directory.CodeNotFound, directory.ErrNotFound)
	}
	return manager, r, nil
}

// replica2 is the time of a replica that knows a.
func (t *tenant) replica2(a *account) time.Time {
	if at := t.replica(); !at.Before(a.versions[0].at) {
		return at
	}
	return a.versions[0].at
}

// Disable implements apply.Cutter.
func (t *tenant) Disable(_ context.Context, id string) (directory.Receipt, error) {
	return t.write("disable", id, "", func(a *account) error {
		if a.now().enabled {
			a.change(t.w.clock.now()).enabled = false
		}
		return nil
	})
}

// RevokeSessions implements apply.Cutter.
func (t *tenant) RevokeSessions(_ context.Context, id string) (directory.Receipt, error) {
	return t.write("revoke-sessions", id, "", func(a *account) error {
		a.change(t.w.clock.now())
		return nil
	})
}

// RemoveMember implements apply.Cutter.
func (t *tenant) RemoveMember(_ context.Context, group, id string) (directory.Receipt, error) {
	return t.write("remove-member", id, group, func(a *account) error {
		if !slices.Contains(a.now().groups, group) {
			return fail("remove-member", directory.CodeNotFound, directory.ErrNotFound)
		}
		v := a.change(t.w.clock.now())
		v.groups = slices.DeleteFunc(v.groups, func(g string) bool { return g == group })
		return nil
	})
}

// Delete implements apply.Cutter.
func (t *tenant) Delete(_ context.Context, id string) (directory.Receipt, error) {
	return t.write("delete", id, "", func(a *account) error {
		a.change(t.w.clock.now()).deleted = true
		return nil
	})
}

// Create implements apply.Granter.
func (t *tenant) Create(_ context.Context, n directory.NewAccount) (directory.Account, directory.Receipt, error) {
	f, r, err := t.call("create")
	if f != answered && f != lostDone {
		t.w.consumer.seam("tenant-after")
		return directory.Account{}, r, err
	}
	for _, a := range t.accounts {
		if a.upn == n.UPN && !a.now().deleted {
			if err == nil {
				err = fail("create", directory.CodeConflict, directory.ErrConflict)
			}
			t.w.consumer.seam("tenant-after")
			return directory.Account{}, r, err
		}
	}
	a := &account{id: fmt.Sprintf("account-%d", len(t.accounts)+1), upn: n.UPN}
	a.versions = []version{{at: t.w.clock.now(), mark: n.Mark, enabled: n.Enabled, attrs: n.Attributes}}
	t.accounts = append(t.accounts, a)
	t.w.wrote("create", n.Mark, "")
	t.w.consumer.seam("tenant-after")
	if err != nil {
		return directory.Account{}, r, err
	}
	return a.show(a.now()), r, nil
}

// Update implements apply.Granter.
func (t *tenant) Update(_ context.Context, id string, _, to directory.Attributes) (directory.Receipt, error) {
	return t.write("update", id, "", func(a *account) error {
		a.change(t.w.clock.now()).attrs = to
		return nil
	})
}

// Enable implements apply.Granter.
func (t *tenant) Enable(_ context.Context, id string) (directory.Receipt, error) {
	return t.write("enable", id, "", func(a *account) error {
		if !a.now().enabled {
			a.change(t.w.clock.now()).enabled = true
		}
		return nil
	})
}

// AddMember implements apply.Granter.
func (t *tenant) AddMember(_ context.Context, group, id string) (directory.Receipt, error) {
	return t.write("add-member", id, group, func(a *account) error {
		if slices.Contains(a.now().groups, group) {
			return fail("add-member", directory.CodeAlready, directory.ErrAlready)
		}
		v := a.change(t.w.clock.now())
		v.groups = append(v.groups, group)
		slices.Sort(v.groups)
		return nil
	})
}

// SetManager implements apply.Granter.
func (t *tenant) SetManager(_ context.Context, id, manager string) (directory.Receipt, error) {
	return t.write("set-manager", id, manager, func(a *account) error {
		a.change(t.w.clock.now()).manager = manager
		return nil
	})
}

// ClearManager implements apply.Granter.
func (t *tenant) ClearManager(_ context.Context, id string) (directory.Receipt, error) {
	return t.write("clear-manager", id, "", func(a *account) error {
		a.change(t.w.clock.now()).manager = ""
		return nil
	})
}
