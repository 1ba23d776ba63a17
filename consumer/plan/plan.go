package plan

import (
	"slices"
	"time"
	"unicode/utf16"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/policy"
	"jmlbridge/internal/directory"
	"jmlbridge/schema"
)

// maxEmployeeID is what Entra's employeeId holds, in characters (schema/event.md: where longer
// subject ids live).
const maxEmployeeID = 16

// Settling is how long a successful write is trusted against a read that does not show it: replicas
// lag, mostly by seconds. After it a read is believed, so a cut is looked at once more then.
const Settling = 10 * time.Minute

// Known is what the bridge remembers of its work on one account. It is stored as JSON; its member
// names are a database format. The zero value: nothing was ever done.
type Known struct {
	ID  string `json:"id,omitempty"`  // object id
	UPN string `json:"upn,omitempty"` // reserved before the create, so that a lost answer can be looked up
	// Passed counts the candidates for the name that other accounts of the tenant were found to bear.
	Passed int `json:"passed,omitempty"`
	// TriedAt is when a create was last begun that was not refused: an account may be there that no read shows
	// yet. Zero: there is no doubt.
	TriedAt time.Time `json:"tried_at,omitzero"`
	// DisabledAt and RevokedAt are when the bridge did so for the present cut; zero: not, or given
	// back since. Only what the bridge disabled does it enable again.
	DisabledAt time.Time `json:"disabled_at,omitzero"`
	RevokedAt  time.Time `json:"revoked_at,omitzero"`
	// EnablingAt is when an enable was last begun: what was cut before may be open again, and a read that
	// shows the account disabled may be older.
	EnablingAt time.Time `json:"enabling_at,omitzero"`
	// ConfirmedAt is when a look after Settling showed the account still disabled; zero: not yet.
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"`
	StrippedAt  time.Time `json:"stripped_at,omitzero"`
	DeletedAt   time.Time `json:"deleted_at,omitzero"`
	// Groups are those to which the bridge added the account and from which it has not removed it: a
	// membership can be missing from a read that comes too early.
	Groups  []string  `json:"groups,omitempty"`
	GivenAt time.Time `json:"given_at,omitzero"` // the last time a membership was given
	// Doubted are those of Groups that were not found when they were to be taken away, too soon after they
	// were given to believe it: see DoubtUntil.
	Doubted []string `json:"doubted,omitempty"`
	// Manager is the object id of the manager that was last set; empty: none.
	Manager string `json:"manager,omitempty"`
}

// IsCut reports whether the account is disabled and revoked by the bridge.
func (k Known) IsCut() bool { return k.disabled() && k.revoked() }

func (k Known) disabled() bool { return k.DisabledAt.After(k.EnablingAt) }
func (k Known) revoked() bool  { return k.RevokedAt.After(k.EnablingAt) }

// Enabling reports whether a read that shows the account disabled may be older than an enable.
func (k Known) Enabling(now time.Time) bool { return within(k.EnablingAt, now) && !k.disabled() }

// Hidden reports whether an account may be there that no read shows yet.
func (k Known) Hidden(now time.Time) bool { return within(k.TriedAt, now) }

// JustGiven reports whether a membership was given so lately that not every replica knows it.
func (k Known) JustGiven(group string, now time.Time) bool {
	return slices.Contains(k.Groups, group) && !slices.Contains(k.Doubted, group) && within(k.GivenAt, now)
}

// DoubtUntil is when doubted memberships are taken away once more, by then for good; until then only a read
// that shows one makes it to be taken away. Zero: there is none.
func (k Known) DoubtUntil() time.Time {
	if len(k.Doubted) == 0 {
		return time.Time{}
	}
	return k.GivenAt.Add(Settling)
}

// within reports whether a write at that time is too new for a read to be believed against it.
func within(at, now time.Time) bool { return !at.IsZero() && now.Sub(at) < Settling }

// Situation is everything a plan depends on.
type Situation struct {
	Issuer, Subject string
	View            fence.View
	Known           Known
	// Account is what was read of the account just now, memberships included; nil: there is none.
	// A partial or failed read must never get here: it is not a fact.
	Account *directory.Account
	// Manager is the object id of the manager's account; empty where it has none (yet).
	Manager string
	Now     time.Time
}

// Plan is what to do, what is held, and when to look again.
type Plan struct {
	Ops   []Op // by lane, in order
	Holds []Hold
}

// Lane is the lowest lane in which there is something to do; Idle where there is nothing.
func (p Plan) Lane() Lane {
	if len(p.Ops) == 0 {
		return Idle
	}
	return p.Ops[0].Lane
}

// For plans one person. Takes come before gives, each in its lane.
func For(s Situation, pol *policy.Policy) Plan {
	var p Plan
	if s.Account == nil {
		if s.View.Access {
			p.create(s, pol)
		}
		return p
	}
	if pol.IsProtected(s.Account.ID, s.Account.UPN) {
		return Plan{Holds: []Hold{{HoldProtected, s.Account.ID, !s.View.Access}}}
	}
	if s.Account.Mark != directory.Mark(s.Issuer, s.Subject) {
		return Plan{Holds: []Hold{{HoldNotOwned, s.Account.ID, !s.View.Access}}}
	}
	if s.View.Access {
		p.keep(s, pol)
	} else {
		p.cut(s, pol)
	}
	slices.SortStableFunc(p.Ops, func(a, b Op) int { return int(a.Lane - b.Lane) })
	return p
}

// Cut plans a cut without a look at the account: for one whose id the bridge knows from its own
// create, a disable and a revocation are right whatever its state, and nothing must come before them.
func Cut(s Situation, pol *policy.Policy) Plan {
	var p Plan
	if s.View.Access || s.Known.ID == "" {
		return p
	}
	if pol.IsProtected(s.Known.ID, s.Known.UPN) {
		return Plan{Holds: []Hold{{HoldProtected, s.Known.ID, true}}}
	}
	if !s.Known.disabled() {
		p.add(Op{Kind: DisableAccount, Lane: Disable})
	}
	if !s.Known.revoked() {
		p.add(Op{Kind: RevokeSessions, Lane: Revoke})
	}
	return p
}

func (p *Plan) add(op Op) { p.Ops = append(p.Ops, op) }

func (p *Plan) hold(code HoldCode, target string, takes bool) {
	p.Holds = append(p.Holds, Hold{code, target, takes})
}

// groups gives what the roles stand for, and holds the roles that the policy does not know.
func (p *Plan) groups(s Situation, pol *policy.Policy) []string {
	ids, unknown := pol.GroupsOf(s.View.Want.Roles)
	for _, role := range unknown {
		p.hold(HoldUnknownRole, role, false)
	}
	return ids
}

func (p *Plan) create(s Situation, pol *policy.Policy) {
	attrs := Attributes(s.Subject, s.View.Want.Person, pol)
	if attrs.UsageLocation == "" {
		p.hold(HoldNoUsageLocation, s.Subject, false)
		return
	}
	p.add(Op{Kind: CreateAccount, Lane: Give, Create: &directory.NewAccount{
		Mark:       directory.Mark(s.Issuer, s.Subject),
		Enabled:    true,
		Attributes: attrs,
	}})
	for _, g := range p.groups(s, pol) {
		p.add(Op{Kind: AddMember, Lane: Give, Group: g})
	}
	if s.Manager != "" { // last: a manager whose account is gone must not keep the rest from being given
		p.add(Op{Kind: SetManager, Lane: Give, Manager: s.Manager})
	}
}

// keep brings a person who has access to the desired state.
func (p *Plan) keep(s Situation, pol *policy.Policy) {
	wanted := p.groups(s, pol)
	for _, g := range memberships(s) {
		if pol.Listed(g) && !slices.Contains(wanted, g) {
			p.add(Op{Kind: RemoveMember, Lane: Take, Group: g})
		}
	}
	for _, g := range s.Known.Groups {
		if !pol.Listed(g) {
			p.hold(HoldForeignGroup, g, false) // we gave it, and may not take it any more
		}
	}
	from, to := s.Account.Attributes, Attributes(s.Subject, s.View.Want.Person, pol)
	if to.UsageLocation == "" {
		to.UsageLocation = from.UsageLocation // it cannot be cleared
	}
	if from != to {
		p.add(Op{Kind: UpdateAccount, Lane: Give, From: from, To: to})
	}
	if s.Account.Enabled != nil && !*s.Account.Enabled && (!s.Known.DisabledAt.IsZero() || !s.Known.Enabling(s.Now)) {
		if s.Known.DisabledAt.IsZero() {
			p.hold(HoldDisabledLocally, s.Account.ID, false)
			return // a local block stands: nothing more is given
		}
		p.add(Op{Kind: EnableAccount, Lane: Give})
	}
	for _, g := range wanted {
		if !slices.Contains(s.Account.Groups, g) && !s.Known.JustGiven(g, s.Now) {
			p.add(Op{Kind: AddMember, Lane: Give, Group: g})
		}
	}
	switch {
	case s.Manager != "" && s.Manager != s.Known.Manager:
		p.add(Op{Kind: SetManager, Lane: Give, Manager: s.Manager})
	case s.View.Want.Person.Manager == nil && s.Known.Manager != "":
		p.add(Op{Kind: ClearManager, Lane: Give})
	}
}

// memberships is what was read and what the bridge itself added, sorted. What was added and is in doubt is
// none until the doubt can be ended: planned again at once it would come before everything else for ever.
func memberships(s Situation) []string {
	all := slices.Clone(s.Account.Groups)
	for _, g := range s.Known.Groups {
		if !slices.Contains(s.Known.Doubted, g) || !s.Now.Before(s.Known.DoubtUntil()) {
			all = append(all, g)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// cut takes access away: at once what opens the door, then, once the engagement is over for good, the
// memberships, and the account itself after grace.
func (p *Plan) cut(s Situation, pol *policy.Policy) {
	enabled := s.Account.Enabled == nil || *s.Account.Enabled
	if s.Known.disabled() && within(s.Known.DisabledAt, s.Now) {
		enabled = false // our own write is newer than what some replica shows
	}
	if enabled || !s.Known.disabled() { // also where somebody else did it: the ledger must say that it is so
		p.add(Op{Kind: DisableAccount, Lane: Disable})
	}
	if !s.Known.revoked() || enabled {
		p.add(Op{Kind: RevokeSessions, Lane: Revoke})
	}
	if !s.View.Closed {
		return
	}
	for _, g := range memberships(s) {
		if pol.Listed(g) {
			p.add(Op{Kind: RemoveMember, Lane: Strip, Group: g})
		} else {
			p.hold(HoldForeignGroup, g, true)
		}
	}
	if due := DeleteAt(s.Known, pol); !due.IsZero() && !s.Now.Before(due) {
		p.add(Op{Kind: DeleteAccount, Lane: Delete})
	}
}

// ConfirmAt is when a cut is to be looked at once more, so that "disabled" is what the tenant says and
// not only what it answered; zero: it was, or there is none.
func ConfirmAt(k Known) time.Time {
	if k.DisabledAt.IsZero() || !k.ConfirmedAt.IsZero() || !k.DeletedAt.IsZero() {
		return time.Time{}
	}
	return k.DisabledAt.Add(Settling)
}

// DeleteAt is when a stripped account may be deleted; zero: never, or not known yet. Grace runs from
// the disable that the bridge did, not from a date in a message.
func DeleteAt(k Known, pol *policy.Policy) time.Time {
	if pol.Grace == 0 || k.DisabledAt.IsZero() || !k.DeletedAt.IsZero() {
		return time.Time{}
	}
	return k.DisabledAt.Add(time.Duration(pol.Grace))
}

// Attributes is what the bridge keeps on the account of a person.
func Attributes(subject string, person schema.Person, pol *policy.Policy) directory.Attributes {
	a := directory.Attributes{
		DisplayName:   cut(person.DisplayName, 256),
		GivenName:     cut(person.Name.GivenName, 64),
		Surname:       cut(person.Name.FamilyName, 64),
		EmployeeType:  cut(person.UserType, 64),
		JobTitle:      cut(person.Title, 128),
		Department:    cut(person.Department, 64),
		Company:       cut(person.Organization, 64),
		Division:      cut(person.Division, 64),
		CostCenter:    cut(person.CostCenter, 64),
		UsageLocation: person.UsageLocation,
	}
	if len(subject) <= maxEmployeeID {
		a.EmployeeID = subject
	}
	if a.UsageLocation == "" {
		a.UsageLocation = pol.UsageLocation
	}
	return a
}

// cut shortens s to what Graph takes, in UTF-16 units, without splitting a character: a title that is
// too long must not keep a person from being created.
func cut(s string, limit int) string {
	units := 0
	for i, r := range s {
		if units += utf16.RuneLen(r); units > limit {
			return s[:i]
		}
	}
	return s
}
