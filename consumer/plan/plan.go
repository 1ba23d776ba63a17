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

// Bin is for how long an account that somebody deleted can come back as it was, with what it was in (Entra keeps it 30 days).
const Bin = 31 * 24 * time.Hour

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
	// DisabledUp is how long the program had run by then, over all runs: see DeleteAt.
	DisabledUp time.Duration `json:"disabled_up,omitempty"`
	// StrippedAt is when nothing was left to take from the account of an engagement that is over, and StrippedUp how
	// long the program had run by then; zero: not yet, or the engagement is not over any more.
	StrippedAt time.Time     `json:"stripped_at,omitzero"`
	StrippedUp time.Duration `json:"stripped_up,omitempty"`
	// DisablingAt is when a disable was begun of which no answer is known: the account may be disabled, and then
	// it was the bridge. Zero: there is no doubt.
	DisablingAt time.Time `json:"disabling_at,omitzero"`
	// BlockedAt is when the account was found disabled, and it was not the bridge; zero: it was not, or somebody enabled it
	// since. No message undoes that, and what the bridge disabled after it is not its own to enable.
	BlockedAt time.Time `json:"blocked_at,omitzero"`
	// EnablingAt is when an enable was last begun: what was cut before may be open again, and a read that
	// shows the account disabled may be older.
	EnablingAt time.Time `json:"enabling_at,omitzero"`
	// ConfirmedAt is when a look after Settling showed the account still disabled; zero: not yet.
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"`
	DeletedAt   time.Time `json:"deleted_at,omitzero"`
	// DeletingAt is when a delete was begun of which no answer is known: where the account is gone, it was the bridge. Zero:
	// there is no doubt.
	DeletingAt time.Time `json:"deleting_at,omitzero"`
	// GoneAt is when an account that was to be cut was found not to be there, and the bridge had not deleted it: it may come
	// back, for as long as Bin. Zero: it is there, or will not.
	GoneAt time.Time `json:"gone_at,omitzero"`
	// Groups are those to which the bridge added the account, or of the allow-list in which it found it, and from
	// which it has not removed it: a membership can be missing from a read that comes too early.
	Groups  []string  `json:"groups,omitempty"`
	GivenAt time.Time `json:"given_at,omitzero"` // the last time a membership was given
	// Doubted are those of Groups that were not found when they were to be taken away, too soon after they
	// were given to believe it, and those of which it is not known whether they were given: see DoubtUntil.
	Doubted []string `json:"doubted,omitempty"`
	// Taken are the groups from which the bridge removed the account last: a read that comes too early may show the
	// membership still.
	Taken   []string  `json:"taken,omitempty"`
	TakenAt time.Time `json:"taken_at,omitzero"`
	// Manager is the object id of the manager that was last set; empty: none.
	Manager string `json:"manager,omitempty"`
	// Engagement is the last for which the account was to be open; 0: not known, as of an account that was found.
	Engagement int `json:"engagement,omitempty"`
	// Unasked are the groups that roles of that engagement stood for while the policy asked no second signer for them, by the
	// role: see [Known.Allow].
	Unasked map[string][]string `json:"unasked,omitempty"`
}

// Allow keeps for which engagement the account is to be open, and what roles give by nobody's word but the producer's: those of
// which the policy asks no other, and of the rest what they gave in this engagement when it did not. Of an account that was
// found, groups are all that is known: nobody can say any more by whose word it is in them.
func (k *Known) Allow(want fence.Want, groups []string, pol *policy.Policy) {
	unasked := map[string][]string{}
	for _, role := range want.Roles {
		ids, _ := pol.GroupsOf([]string{role})
		if pol.NeedsApproval(role) {
			ids = slices.DeleteFunc(slices.Clone(ids), func(g string) bool {
				return !k.unasked(want.Engagement, role, g) || k.Engagement == 0 && !slices.Contains(groups, g)
			})
		}
		if len(ids) > 0 {
			unasked[role] = ids
		}
	}
	k.Engagement, k.Unasked = want.Engagement, unasked
}

// unasked reports whether a group of a role that the policy wants approved may rest on a time when it did not.
func (k Known) unasked(engagement int, role, group string) bool {
	return k.Engagement == 0 || k.Engagement == engagement && slices.Contains(k.Unasked[role], group)
}

// MayBeOpen reports whether somebody who is to have no access may have an account that the bridge has not cut.
func (k Known) MayBeOpen() bool {
	return k.Trying() || k.ID != "" && k.DeletedAt.IsZero() && !k.IsCut()
}

// Trying reports whether a create was begun, and not refused, since there was no account, or since the one that is known was
// found to be gone: what the bridge knows to be cut is that one then.
func (k Known) Trying() bool {
	gone := k.DeletedAt
	if gone.IsZero() {
		gone = k.GoneAt
	}
	return !k.TriedAt.IsZero() && (k.ID == "" || !gone.IsZero() && k.TriedAt.After(gone))
}

// PullBack brings what was noted by a clock that was ahead to now, in the order in which it happened, and reports
// whether there was anything: else a write would be trusted against every read until that time comes.
func (k *Known) PullBack(now time.Time) bool {
	all := []*time.Time{&k.TriedAt, &k.DisabledAt, &k.RevokedAt, &k.DisablingAt, &k.BlockedAt, &k.GoneAt, &k.EnablingAt, &k.ConfirmedAt, &k.DeletingAt, &k.StrippedAt, &k.GivenAt, &k.TakenAt}
	all = slices.DeleteFunc(all, func(t *time.Time) bool { return !t.After(now) })
	slices.SortStableFunc(all, func(a, b *time.Time) int { return a.Compare(*b) })
	was, to := time.Time{}, now.UTC().Add(-time.Duration(len(all)))
	for _, t := range all {
		if t.After(was) {
			to = to.Add(1)
		}
		was, *t = *t, to
	}
	return len(all) > 0
}

// IsCut reports whether the account is disabled and revoked by the bridge.
func (k Known) IsCut() bool { return k.disabled() && k.revoked() }

// Disables reports whether a cut would disable the account, as far as the bridge knows.
func (k Known) Disables() bool {
	return k.Trying() || k.MayBeOpen() && !k.disabled() && k.GoneAt.IsZero()
}

// Miss keeps that the account, which nobody is to have, is not there.
func (k *Known) Miss(now time.Time) {
	switch {
	case k.IsCut(): // so it would come back
		k.DeletedAt, k.GoneAt = now, time.Time{}
	case k.GoneAt.IsZero():
		k.GoneAt = now
	case now.Sub(k.GoneAt) >= Bin:
		k.DeletedAt, k.GoneAt = now, time.Time{}
	}
}

func (k Known) disabled() bool { return k.DisabledAt.After(k.EnablingAt) }
func (k Known) revoked() bool  { return k.RevokedAt.After(k.EnablingAt) }

// Meet keeps that an account is there. One after another that is deleted or gone has none of that one's past, but for what was in
// doubt: that was to be given to it. What was deleted and is read once no read is older is back, and has its grace anew.
func (k *Known) Meet(id string, now time.Time) {
	switch {
	case k.ID != "" && k.ID != id:
		*k = Known{TriedAt: k.TriedAt, Engagement: k.Engagement, Groups: k.Doubted, Doubted: k.Doubted, GivenAt: k.GivenAt}
	case !k.DeletedAt.IsZero() && !within(k.DeletedAt, now):
		k.DeletedAt, k.StrippedAt, k.StrippedUp = time.Time{}, time.Time{}, 0
	}
	if !within(k.DeletingAt, now) {
		k.DeletingAt = time.Time{}
	}
	k.ID, k.GoneAt = id, time.Time{}
}

// See keeps of a look whether somebody else than the bridge has the account disabled. enabled is as it was read; nil: it was
// not stated.
func (k *Known) See(enabled *bool, now time.Time) { k.BlockedAt = k.blockedAt(enabled, now) }

func (k Known) blockedAt(enabled *bool, now time.Time) time.Time {
	switch {
	case enabled == nil:
	case *enabled && !within(k.BlockedAt, now): // else the read may be older
		return time.Time{}
	case !*enabled && k.BlockedAt.IsZero() && k.DisabledAt.IsZero() && k.DisablingAt.IsZero() && !k.Enabling(now):
		return now
	}
	return k.BlockedAt
}

// Enabling reports whether a read that shows the account disabled may be older than an enable.
func (k Known) Enabling(now time.Time) bool { return within(k.EnablingAt, now) && !k.disabled() }

// Hidden reports whether an account may be there that no read shows yet.
func (k Known) Hidden(now time.Time) bool { return within(k.TriedAt, now) }

// Giving keeps that a membership is about to be given, or that the end of that is not known: it may be there, and no read show it.
func (k *Known) Giving(group string, now time.Time) {
	if !slices.Contains(k.Groups, group) {
		k.Groups = append(slices.Clone(k.Groups), group)
	}
	k.Doubted, k.GivenAt = append(slices.DeleteFunc(slices.Clone(k.Doubted), func(g string) bool { return g == group }), group), now
}

// NotGiven takes back what Giving kept of memberships that were not given after all; was is what was known before.
func (k *Known) NotGiven(groups []string, was Known) {
	not := func(old []string) func(string) bool {
		return func(g string) bool { return slices.Contains(groups, g) && !slices.Contains(old, g) }
	}
	k.Groups = slices.DeleteFunc(slices.Clone(k.Groups), not(was.Groups))
	k.Doubted = slices.DeleteFunc(slices.Clone(k.Doubted), not(was.Doubted))
}

// JustGiven reports whether a membership was given so lately that not every replica knows it.
func (k Known) JustGiven(group string, now time.Time) bool {
	return slices.Contains(k.Groups, group) && !slices.Contains(k.Doubted, group) && within(k.GivenAt, now)
}

// Take keeps that a membership is taken, or about to be: what a read shows of it is older for a while.
func (k *Known) Take(group string, now time.Time) {
	taken := []string{group}
	for _, g := range k.Taken {
		if g != group && k.JustTaken(g, now) {
			taken = append(taken, g)
		}
	}
	k.Taken, k.TakenAt = taken, now
}

// JustTaken reports whether a membership was taken so lately that a read which shows it may be older.
func (k Known) JustTaken(group string, now time.Time) bool {
	return slices.Contains(k.Taken, group) && within(k.TakenAt, now)
}

// ShownLate reports whether a read that shows a membership is older than its removal, as far as is known: one that failed
// left it among Groups.
func (k Known) ShownLate(group string, now time.Time) bool {
	return k.JustTaken(group, now) && !slices.Contains(k.Groups, group)
}

// Find keeps the memberships in groups of the allow-list that a look showed. Whoever gave them, as a bridge whose database
// was lost, they are ours to take and to answer for like what we gave.
func (k *Known) Find(seen []string, now time.Time) {
	for _, g := range seen {
		if !slices.Contains(k.Groups, g) && !k.JustTaken(g, now) {
			k.Groups = append(slices.Clone(k.Groups), g)
		}
	}
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
	// Unnamed says that the producer's last roster does not name the person.
	Unnamed bool
	Now     time.Time
	Uptime  time.Duration // how long the program has run, over all runs
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

// For plans one person. Takes come before gives, each in its lane. Of whom nothing is known nothing is done: an account of
// theirs is one of before.
func For(s Situation, pol *policy.Policy) Plan {
	p := whole(s, pol)
	if !s.View.Access {
		return p
	}
	if s.Unnamed {
		p.hold(HoldUnnamed, s.Subject, false)
	}
	if s.View.Doubt != nil {
		p.hold(HoldDisowned, s.Subject, false)
	}
	if s.Unnamed || s.View.Doubt != nil {
		p.Ops = slices.DeleteFunc(p.Ops, func(op Op) bool { return op.Kind.Gives() })
	}
	return p
}

func whole(s Situation, pol *policy.Policy) Plan {
	var p Plan
	if s.View.Why == fence.WhyUnknown {
		return p
	}
	if s.Account == nil {
		if s.View.Access {
			p.create(s, pol)
		}
		return p
	}
	if held := untouchable(s, pol); held != nil {
		return Plan{Holds: []Hold{*held}}
	}
	if s.View.Access {
		p.keep(s, pol)
	} else {
		p.cut(s, pol)
	}
	slices.SortStableFunc(p.Ops, func(a, b Op) int { return int(a.Lane - b.Lane) })
	return p
}

// Cut plans a cut without a whole look at the account: for one whose id the bridge knows from its own create, a disable and
// a revocation are right whatever its state, and nothing but a glance that tells whether the account may be touched must come
// before them. Where the glance showed nothing, s.Account is nil.
func Cut(s Situation, pol *policy.Policy) Plan {
	var p Plan
	if s.View.Access || s.View.Why == fence.WhyUnknown || s.Known.ID == "" || !s.Known.GoneAt.IsZero() {
		return p
	}
	if held := untouchable(s, pol); held != nil {
		return Plan{Holds: []Hold{*held}}
	}
	if !s.Known.disabled() {
		p.add(Op{Kind: DisableAccount, Lane: Disable})
	}
	if !s.Known.revoked() {
		p.add(Op{Kind: RevokeSessions, Lane: Revoke})
	}
	return p
}

// untouchable is why the account is nobody's to touch; nil where it is not so. A name protects whoever bears it now.
func untouchable(s Situation, pol *policy.Policy) *Hold {
	id, upn := s.Known.ID, s.Known.UPN
	if s.Account != nil {
		id, upn = s.Account.ID, s.Account.UPN
	}
	switch {
	case pol.IsProtected(id, upn):
		return &Hold{HoldProtected, id, !s.View.Access}
	case s.Account != nil && s.Account.Mark != directory.Mark(s.Issuer, s.Subject):
		return &Hold{HoldNotOwned, id, !s.View.Access}
	}
	return nil
}

func (p *Plan) add(op Op) { p.Ops = append(p.Ops, op) }

func (p *Plan) hold(code HoldCode, target string, takes bool) {
	p.Holds = append(p.Holds, Hold{code, target, takes})
}

// Groups is what a person is to be in: what the roles of the last word in sequence stand for, as far as every
// word further on stands for it too. A group that the old roles and the new ones both stand for is not taken
// for as long as a gap lasts, only to be given back. The roles that the policy does not know are told apart.
func Groups(v fence.View, pol *policy.Policy) (ids, unknown []string) {
	ids, unknown = pol.GroupsOf(v.Want.Roles)
	return under(v, ids, pol), v.Within(unknown, func(roles []string) []string { return roles })
}

// Given is what of Groups is to be given now: not what waits for a second signer's word.
func Given(v fence.View, pol *policy.Policy, now time.Time) []string {
	var p Plan
	return p.groups(Situation{View: v, Now: now}, pol).ids
}

// under is ids as far as every word further on stands for them too.
func under(v fence.View, ids []string, pol *policy.Policy) []string {
	return v.Within(ids, func(roles []string) []string {
		stands, _ := pol.GroupsOf(roles)
		return stands
	})
}

// wants is what the roles of a person come to in groups.
type wants struct {
	ids   []string                    // sorted
	by    map[string][]fence.Approval // of those in ids that rest on approvals alone
	spare []string                    // of roles that nobody approved and that were had before: not given, and not taken, for nobody stated when
	ended map[string][]fence.Approval // of roles whose approval ended: taken on the date that it stated
}

// groups gives what the roles stand for, and holds the roles that the policy does not know, and those that want an
// approval which is not there.
func (p *Plan) groups(s Situation, pol *policy.Policy) wants {
	w := wants{by: map[string][]fence.Approval{}, ended: map[string][]fence.Approval{}}
	_, unknown := Groups(s.View, pol)
	var free []string
	for _, role := range s.View.Want.Roles {
		if !pol.NeedsApproval(role) {
			free = append(free, role)
		}
	}
	w.ids, _ = pol.GroupsOf(free)
	for _, role := range unknown {
		p.hold(HoldUnknownRole, role, false)
	}
	for _, role := range s.View.Want.Roles {
		if !pol.NeedsApproval(role) {
			continue
		}
		good, ended := approvals(s, role)
		ids, _ := pol.GroupsOf([]string{role})
		for _, g := range ids {
			switch {
			case len(good) > 0 && !slices.Contains(w.ids, g):
				w.by[g] = append(w.by[g], good[0])
			case len(good) > 0:
			case len(ended) > 0:
				w.ended[g] = append(w.ended[g], ended...)
			case s.Known.unasked(s.View.Want.Engagement, role, g):
				w.spare = append(w.spare, g)
			}
		}
		if len(good) == 0 {
			p.hold(HoldUnapproved, role, false)
		}
	}
	for g := range w.by {
		w.ids = append(w.ids, g)
	}
	slices.Sort(w.ids)
	w.ids, w.spare = under(s.View, w.ids, pol), under(s.View, w.spare, pol)
	return w
}

// approvals lists a person's approvals for a role: those that are good now, and those that ended.
func approvals(s Situation, role string) (good, ended []fence.Approval) {
	for _, a := range s.View.Approvals {
		switch {
		case a.Role != role:
		case s.Now.Before(a.Expiry):
			good = append(good, a)
		default:
			ended = append(ended, a)
		}
	}
	return good, ended
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
	w := p.groups(s, pol)
	for _, g := range w.ids {
		p.add(Op{Kind: AddMember, Lane: Give, Group: g, Approvals: w.by[g]})
	}
	if s.Manager != "" { // last: a manager whose account is gone must not keep the rest from being given
		p.add(Op{Kind: SetManager, Lane: Give, Manager: s.Manager})
	}
}

// keep brings a person who has access to the desired state.
func (p *Plan) keep(s Situation, pol *policy.Policy) {
	wanted := p.groups(s, pol)
	for _, g := range memberships(s) {
		if pol.Listed(g) && !slices.Contains(wanted.ids, g) && !slices.Contains(wanted.spare, g) {
			p.add(Op{Kind: RemoveMember, Lane: Take, Group: g, Approvals: wanted.ended[g]})
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
	// Ours, whatever the read shows: a disable that was not answered, or one that this replica does not know yet.
	ours := s.Known.DisabledAt.IsZero() && !s.Known.DisablingAt.IsZero() || s.Known.disabled() && within(s.Known.DisabledAt, s.Now)
	disabled := s.Account.Enabled != nil && !*s.Account.Enabled
	switch {
	case disabled && !s.Known.blockedAt(s.Account.Enabled, s.Now).IsZero():
		p.hold(HoldDisabledLocally, s.Account.ID, false)
		return // a local block stands: nothing more is given
	case ours || disabled && !s.Known.DisabledAt.IsZero():
		p.add(Op{Kind: EnableAccount, Lane: Give})
	}
	for _, g := range wanted.ids {
		// One in doubt is given again, whatever the read shows: the answer ends the doubt. So is one that was just taken.
		if slices.Contains(s.Known.Doubted, g) || s.Known.JustTaken(g, s.Now) || !slices.Contains(s.Account.Groups, g) && !s.Known.JustGiven(g, s.Now) {
			p.add(Op{Kind: AddMember, Lane: Give, Group: g, Approvals: wanted.by[g]})
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
	// Nor is what was taken just now and is read still: it would be taken over and over until the read is newer.
	all := slices.DeleteFunc(slices.Clone(s.Account.Groups), func(g string) bool { return s.Known.ShownLate(g, s.Now) })
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
	if due := DeleteAt(s.Known, pol, s.Now, s.Uptime); !due.IsZero() && !s.Now.Before(due) {
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

// DeleteAt is when a stripped account may be deleted; zero: never, or not known yet. Grace runs from what the bridge
// did last, the disable or, where that was for a suspension, the strip, not from a date in a message. It must have
// passed in observed uptime too: neither a clock that was wrong nor a long pause deletes anybody before somebody
// could look.
func DeleteAt(k Known, pol *policy.Policy, now time.Time, uptime time.Duration) time.Time {
	grace := time.Duration(pol.Grace)
	if grace == 0 || k.DisabledAt.IsZero() || k.StrippedAt.IsZero() || !k.DeletedAt.IsZero() {
		return time.Time{}
	}
	from, up := k.DisabledAt, k.DisabledUp
	if k.StrippedAt.After(from) {
		from, up = k.StrippedAt, k.StrippedUp
	}
	at := from.Add(grace)
	if left := grace - (uptime - up); left > 0 && now.Add(left).After(at) {
		return now.Add(left)
	}
	return at
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
