package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// Waits after a failure. The tenant's own wish (Retry-After) goes before them.
const (
	firstWait   = time.Second
	longestWait = 5 * time.Minute
	longestCut  = 30 * time.Second // what takes access away is tried again sooner
)

// settle leaves the row without having touched the tenant.
func (u *unit) settle(ctx context.Context, p plan.Plan, lane plan.Lane, results []done) error {
	return u.settleWith(ctx, p, lane, results, nil)
}

// settleWith writes, in one transaction, what happens to the row next, the holds and alarms that
// follow from the plan and the results, and what extra adds.
func (u *unit) settleWith(ctx context.Context, p plan.Plan, lane plan.Lane, results []done, extra func(*store.Tx) error) error {
	confirmed := u.confirm()
	if u.view.Access && !u.supposed && u.known.ID != "" && (u.seen != nil || u.known.Engagement > 0) {
		var groups []string
		if u.seen != nil {
			groups = u.seen.Groups
		}
		u.known.Allow(u.view.Want, groups, u.Policy)
	}
	w := u.next(p, lane, results)
	w.NoCut, w.NoTake = u.nothingLeft(p, lane, results)
	if bad, failed := worst(results); len(results) > 0 && (!failed || bad.denied) {
		u.hear(u.slot(p, lane), failed)
	}
	// The outcome of what was done must be recorded even when the program is stopping.
	return u.DB.Do(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		if err := u.closeInterrupted(tx); err != nil {
			return err
		}
		if extra != nil {
			if err := extra(tx); err != nil {
				return err
			}
		}
		if u.Observe { // the row stays due: a real run does it
			if u.blind {
				return nil
			}
			return state.Shown(tx, u.row.SubjectKey, u.row.Rev, lane)
		}
		if !u.blind {
			if err := u.holds(tx, p); err != nil {
				return err
			}
		}
		if err := u.alarms(tx, p, lane, results); err != nil {
			return err
		}
		if err := u.managers(tx, results, &w); err != nil {
			return err
		}
		if confirmed {
			seen := &entry.Account{Who: u.who(), Account: u.known.ID, State: entry.StateDisabled, Closed: u.view.Closed}
			if err := record(tx, u.now, &entry.Observed{Account: seen}); err != nil {
				return err
			}
		}
		if err := u.keepName(tx, u.known); err != nil {
			return err
		}
		if !u.known.DeletedAt.IsZero() {
			if err := state.FreeNames(tx, u.row.SubjectKey, "", u.now); err != nil {
				return err
			}
		}
		_, err := state.Settle(tx, u.row.SubjectKey, u.row.Rev, w)
		return err
	})
}

// confirm notes that a look, long enough after the cut, showed the account disabled.
func (u *unit) confirm() bool {
	at := plan.ConfirmAt(u.known)
	if u.view.Access || u.seen == nil || u.seen.Enabled == nil || *u.seen.Enabled || at.IsZero() || u.now.Before(at) {
		return false
	}
	u.known.ConfirmedAt = u.now
	return true
}

// managers keeps who waits for whose account, so that a manager may join after the people who name them.
func (u *unit) managers(tx *store.Tx, results []done, w *state.Work) error {
	if m := u.view.Want.Person.Manager; m != nil && u.view.Access && u.situation.Manager == "" && m.Value != u.row.Subject { // nobody is told to be their own
		boss := state.SubjectKey{Issuer: u.row.Issuer, Subject: m.Value}
		if err := state.AwaitManager(tx, u.row.SubjectKey, boss); err != nil {
			return err
		}
		id, err := accountOf(tx, boss) // it may have been made since this person was planned
		if err != nil {
			return err
		}
		switch {
		case id == "":
		case w.Lane == plan.Idle:
			w.Lane, w.Due = plan.Give, u.now
		case w.Attempts == 0 && w.Note == "" && w.Due.After(u.now): // a date to come, such as that of an announced end
			w.Due = u.now
		}
	}
	if u.known.ID == "" || !u.known.DeletedAt.IsZero() {
		return nil
	}
	// At every settling, not only where the account was made: it may have been found, as after a recovery.
	return state.WakeReports(tx, u.row.SubjectKey, u.now)
}

// nothingLeft reports whether by this pass nothing is left to be cut, and no role to be taken, of what holds by limits may
// keep waiting.
func (u *unit) nothingLeft(p plan.Plan, lane plan.Lane, results []done) (noCut, noTake bool) {
	if u.blind || u.supposed {
		return false, false
	}
	_, failed := worst(results)
	executed := len(results) > 0 && !failed
	noCut = u.view.Access || u.view.Why == fence.WhyUnknown || executed && lane == plan.Disable || u.wentLook && (u.seen == nil || !open(*u.seen))
	noTake = u.view.Closed || u.wentLook && u.view.Access && (executed && lane == plan.Take ||
		!slices.ContainsFunc(p.Ops, func(op plan.Op) bool { return op.Lane == plan.Take }))
	return noCut, noTake
}

// next works out the row's lane and due date.
func (u *unit) next(p plan.Plan, lane plan.Lane, results []done) state.Work {
	w := state.Work{Account: encode(u.known), Urgent: u.row.Urgent}
	note := u.row.Note
	if !u.row.Released() && !u.row.Discarded() {
		note = ""
	}
	if bad, ok := worst(results); ok {
		w.Lane, w.Attempts, w.Note = u.row.Lane, u.attempt, note
		if lane == plan.Disable || lane == plan.Revoke { // also where it was found in a later lane
			w.Lane = min(w.Lane, lane)
		}
		if w.Note == "" {
			w.Note = bad.code
		}
		longest := longestWait
		if w.Lane < plan.Give {
			longest = longestCut
		}
		wait := min(longest, u.firstWait<<min(u.attempt-1, 16))
		after := bad.after
		if w.Lane < plan.Give {
			after = min(after, longestWait) // nobody keeps access for a day, and unseen, because a gateway says so
		}
		w.Due = u.Now().Add(max(after, wait/2+u.Jitter(wait)))
		if bad.code == codeNameTaken {
			w.Due = u.Now()
		}
		return w
	}
	now := u.Now()
	later := func(l plan.Lane, at time.Time) {
		if !at.IsZero() && (w.Lane == plan.Idle || at.Before(w.Due)) {
			w.Lane, w.Due = l, at
		}
	}
	// by is later for what has a date. Where it has come, and a look led to nothing, something keeps it from being
	// done: due at once it would be looked at without end.
	by := func(l plan.Lane, at time.Time) {
		if !at.IsZero() && !at.After(u.now) && u.wentLook { // had come when it was looked: a row is due up to a millisecond before
			at = now.Add(holdLook)
		}
		later(l, at)
	}
	executed := len(results) > 0
	for i, op := range p.Ops {
		if op.Lane == plan.Give && u.row.Discarded() { // by operators, and what was taken has another reason
			break
		}
		if op.Lane > lane || !executed || i == maxOps {
			// What one limit let through says nothing to another one.
			if w.Note = note; op.Lane != u.row.Lane && max(op.Lane, u.row.Lane) > plan.Revoke {
				w.Note = ""
			}
			w.Urgent = w.Urgent || op.Lane == plan.Disable && u.view.Urgent
			later(op.Lane, now)
			return w
		}
	}
	quick := u.seen == nil && u.situation.Account == nil && len(p.Ops) > 0 && lane < plan.Give
	gone := !u.known.GoneAt.IsZero() && !u.view.Access
	if gone { // it would come back open
		later(plan.Strip, now.Add(holdLook))
	}
	if u.view.Closed && u.known.ID != "" && u.known.DeletedAt.IsZero() && !gone {
		if quick {
			later(plan.Strip, now) // the account was not looked at yet
			return w
		}
		if u.known.StrippedAt.IsZero() {
			u.known.StrippedAt, u.known.StrippedUp = now, u.up()
			w.Account = encode(u.known)
		}
		by(plan.Delete, plan.DeleteAt(u.known, u.Policy, now, u.up()))
	}
	if !u.view.Closed && !u.known.StrippedAt.IsZero() { // a new engagement, of which nothing was given yet
		u.known.StrippedAt, u.known.StrippedUp = time.Time{}, 0
		w.Account = encode(u.known)
	}
	if !u.view.Access {
		by(plan.Strip, plan.ConfirmAt(u.known))
		if at := u.recovered.Add(plan.Settling); u.known.ID == "" && at.After(now) && !u.recovered.After(now) {
			later(plan.Strip, at) // one that was made just before the loss is known to nobody, and not every replica shows it
		}
	}
	shown := time.Time{}
	if u.shown {
		shown = u.known.TakenAt.Add(plan.Settling)
	}
	switch { // whoever is only suspended keeps memberships, also those in doubt
	case u.view.Access:
		by(plan.Take, u.known.DoubtUntil())
		by(plan.Take, shown)
	case u.view.Closed:
		by(plan.Strip, u.known.DoubtUntil())
		by(plan.Strip, shown)
	}
	if heldByTenant(p) {
		if u.view.Access {
			later(plan.Take, now.Add(holdLook))
		} else {
			later(plan.Strip, now.Add(holdLook))
		}
		w.Note = string(p.Holds[0].Code)
	}
	if at := u.view.Next; !at.IsZero() {
		l := plan.Take
		if v := u.row.Doc.At(at); !v.Access {
			l = plan.Disable
		}
		later(l, at)
	}
	if w.Lane == plan.Idle {
		w.Urgent = false
		if len(p.Holds) > 0 {
			w.Note = string(p.Holds[0].Code)
		}
	}
	if u.row.Discarded() {
		w.Note = note
	}
	return w
}

// worst is the failure that decides when to try again; ok is false where there is none.
func worst(results []done) (d done, ok bool) {
	for _, r := range results {
		if r.result != entry.ResultFailed && !r.retry {
			continue
		}
		if !ok {
			d, ok = r, true
		}
		d.after = max(d.after, r.after)
	}
	return d, ok
}

// planHolds are the codes that a plan can hold with: those that the present plan does not name end.
var planHolds = []plan.HoldCode{plan.HoldUnknownRole, plan.HoldProtected, plan.HoldNotOwned, plan.HoldDisabledLocally,
	plan.HoldForeignGroup, plan.HoldNoUsageLocation, plan.HoldUnnamed, plan.HoldUnapproved, holdAmbiguousMark, holdMissing, holdNoName}

// heldByTenant reports whether p is held by something that somebody may put right in the tenant, of which
// no message and no policy tells.
func heldByTenant(p plan.Plan) bool {
	return slices.ContainsFunc(p.Holds, func(h plan.Hold) bool {
		switch h.Code {
		case plan.HoldUnknownRole, plan.HoldNoUsageLocation, plan.HoldUnnamed, plan.HoldUnapproved, plan.HoldDisowned, holdNoName:
			return false
		}
		return true
	})
}

const (
	holdAmbiguousMark plan.HoldCode = "ambiguous-mark"  // several accounts bear the mark
	holdNoName        plan.HoldCode = "no-name"         // every candidate for the user principal name is taken
	holdMissing       plan.HoldCode = "account-missing" // the account that the bridge made is gone, and its person is not
)

// holds makes the open holds of the person those of the plan.
func (u *unit) holds(tx *store.Tx, p plan.Plan) error {
	targets := map[plan.HoldCode][]string{}
	for _, h := range p.Holds {
		targets[h.Code] = append(targets[h.Code], h.Target)
	}
	standing, err := state.HeldAs(tx, u.row.SubjectKey)
	if err != nil {
		return err
	}
	for _, code := range planHolds {
		var err error
		if t := targets[code]; len(t) > 0 {
			err = u.open(tx, code, t)
		} else if slices.Contains(standing, string(code)) {
			_, err = state.EndHolds(tx, u.row.SubjectKey, false, u.now, string(code))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unit) open(tx *store.Tx, code plan.HoldCode, targets []string) error {
	shown := state.ShowOne(u.row.SubjectKey, u.view.Cause.Engagement, string(code), targets)
	cause, err := u.cause(true)
	if err != nil {
		return err
	}
	_, err = state.OpenHold(tx, &state.Hold{SubjectKey: u.row.SubjectKey, Code: string(code), Shown: shown, Created: u.now,
		Subjects: []entry.Who{u.who()}, Cause: &cause})
	return err
}

// Codes of the alarms that the executor raises.
const (
	AlarmCutFailing   = "cut-failing"       // an account that must be disabled is not, after several attempts
	AlarmGiveFailing  = "give-failing"      // something is given to a person and does not succeed, after several attempts
	AlarmStripFailing = "strip-failing"     // what is left of the account of someone who is cut is not taken, after several attempts
	AlarmCutUndone    = "cut-undone"        // an account that the bridge disabled was found enabled
	AlarmCutHeld      = "cut-held"          // a rule of ours keeps a cut from happening
	AlarmDenied       = "credential-denied" // the tenant refuses a credential
	AlarmStale        = "stale"             // an issuer is silent: its gives wait
	AlarmPolicyLimit  = "policy-limit"      // a change of the policy takes groups from more persons than may be cut in an hour
	AlarmGiveLimit    = "give-limit"        // more is to be given in an hour or a day than the policy allows
	AlarmTakeLimit    = "take-limit"        // more persons are to lose roles than the policy allows
	AlarmDiscarded    = "cut-discarded"     // operators keep access that facts take away
	AlarmDeleteLimit  = "delete-limit"      // more is to be deleted in a day than the policy allows
	AlarmInternal     = "internal"          // the work on one person fails for a reason of ours
	AlarmLease        = "lease-ending"      // leases end soon, for nothing is heard of their people
	AlarmCutLimit     = "cut-limit"         // more is to be cut in an hour than the policy allows
)

// DeniedText is what AlarmDenied says of a credential slot.
func DeniedText(slot, why string) string {
	return "the tenant refuses the " + slot + " credential (" + why + "); look at its permissions and expiry, then nothing else is needed"
}

func (u *unit) alarms(tx *store.Tx, p plan.Plan, lane plan.Lane, results []done) error {
	bad, failed := worst(results)
	about := func(code string, severity state.Severity, text string) error {
		a := state.AlarmOf(code, u.row.SubjectKey)
		a.Severity, a.Text, a.Last = severity, text, u.now
		return raise(tx, a)
	}
	over := func(code string) error {
		_, err := state.ClearAlarmOf(tx, code, u.row.SubjectKey, u.now)
		return err
	}
	if !u.view.Access && (u.row.Lane == plan.Disable || u.row.Lane == plan.Revoke) {
		switch {
		case failed && u.attempt >= lateCut:
			if err := about(AlarmCutFailing, state.Critical, fmt.Sprintf("the cut of subject %s has not succeeded (%s); disable the account by hand if it must be now", u.row.Subject, bad.said())); err != nil {
				return err
			}
		case !failed: // a newer fact may have begun the count of attempts anew
			if err := over(AlarmCutFailing); err != nil {
				return err
			}
		}
	} else if u.view.Access { // there is nothing to be cut any more
		if err := over(AlarmCutFailing); err != nil {
			return err
		}
	}
	switch {
	case failed && u.view.Access && u.attempt >= lateGive && !(bad.denied && u.refused(u.slot(p, lane))): // else the alarm on the credential says it
		if err := about(AlarmGiveFailing, state.Warning, fmt.Sprintf("what subject %s is to have has not succeeded (%s); the ledger's outcomes say which operation", u.row.Subject, bad.said())); err != nil {
			return err
		}
	case !failed && u.row.Attempts > 0 || !u.view.Access:
		if err := over(AlarmGiveFailing); err != nil {
			return err
		}
	}
	slot := u.slot(p, lane)
	switch {
	case failed && !u.blind && !u.view.Access && u.row.Lane >= plan.Strip && u.attempt >= lateGive && !(bad.denied && u.refused(slot)):
		if err := about(AlarmStripFailing, state.Warning, fmt.Sprintf("the account of subject %s is disabled, and what else is to be taken of it is not (%s); the ledger's outcomes say which operation", u.row.Subject, bad.said())); err != nil {
			return err
		}
	case !failed && u.row.Lane >= plan.Strip || u.view.Access:
		if err := over(AlarmStripFailing); err != nil {
			return err
		}
	}
	switch {
	case failed && bad.denied:
		err := raise(tx, state.Alarm{Code: AlarmDenied, Key: slot, Severity: state.Critical, Last: u.now,
			Text: DeniedText(slot, bad.said())})
		if err != nil {
			return err
		}
	case len(results) > 0 && !failed:
		if err := clear(tx, AlarmDenied, slot, u.now); err != nil {
			return err
		}
	}
	switch at := plan.ConfirmAt(u.known); {
	case u.view.Access || !u.known.ConfirmedAt.IsZero():
		if err := over(AlarmCutUndone); err != nil {
			return err
		}
	case u.seen != nil && u.seen.Enabled != nil && *u.seen.Enabled && !u.situation.Known.DisabledAt.IsZero() && !u.now.Before(plan.ConfirmAt(u.situation.Known)) && !at.IsZero():
		again := "it is disabled once more"
		if failed || len(results) == 0 {
			again = "it is to be disabled once more"
		}
		if err := about(AlarmCutUndone, state.Critical, fmt.Sprintf("the account of subject %s was enabled again after the bridge had disabled it, or never was disabled although the tenant said so; %s. Find out who did it", u.row.Subject, again)); err != nil {
			return err
		}
	}
	for _, h := range p.Holds {
		if h.Takes && h.Code != plan.HoldForeignGroup {
			if h.Code == holdAmbiguousMark {
				return about(AlarmCutHeld, state.Critical, fmt.Sprintf("subject %s must have no access, and account %s, which is enabled, bears the person's mark beside another one (%s): disable it by hand if it is the person's, else take the mark off it", u.row.Subject, h.Target, h.Code))
			}
			what := "do it by hand"
			if u.seen != nil && !open(*u.seen) {
				what = "it is disabled already, so nobody signs in by it: revoke its sessions, and take what else it has, by hand"
			}
			return about(AlarmCutHeld, state.Critical, fmt.Sprintf("subject %s must lose access and the bridge will not touch the account (%s); %s", u.row.Subject, h.Code, what))
		}
	}
	if err := over(AlarmInternal); err != nil {
		return err
	}
	if u.blind {
		return nil
	}
	return over(AlarmCutHeld)
}

// gone records that an account which the bridge made is not in the tenant any more. For whoever was cut that is the end of
// the matter, and for whoever was to be it is once it cannot come back; for anybody else a person must say what it means.
func (u *unit) gone(ctx context.Context) error {
	seen := &entry.Account{Who: u.who(), Account: u.known.ID, State: entry.StateGone, Closed: u.view.Closed}
	p := plan.Plan{}
	switch {
	case u.view.Access && !u.known.DeletingAt.IsZero(): // it was the bridge, before the person came back: another one is made
		u.known.DeletedAt, u.known.DeletingAt = u.now, time.Time{}
		p.Ops = []plan.Op{{Kind: plan.CreateAccount, Lane: plan.Give}}
	case u.view.Access:
		seen.Code = "missing"
		p.Holds = []plan.Hold{{Code: holdMissing, Target: u.known.ID}}
	default:
		u.known.Miss(u.now)
	}
	return u.settleWith(ctx, p, plan.Idle, nil, func(tx *store.Tx) error {
		return record(tx, u.now, &entry.Observed{Account: seen})
	})
}

// postpone sets one person aside whose work fails for a reason of ours, such as an entry that does not
// fit the ledger's form: it must not stop everybody else's. Only what cannot even be set aside is fatal.
func (e *Engine) postpone(ctx context.Context, s *state.Subject, cause error) error {
	e.Log.Error("work failed", "subject", s.Subject, "lane", s.Lane.String(), "err", safe(cause))
	now := e.Now()
	var opened []*state.Intent
	err := e.DB.Do(ctx, func(tx *store.Tx) error {
		row, err := state.LoadSubject(tx, s.SubjectKey) // what was noted of the account before it failed stands
		if err != nil {
			return err
		}
		w := state.Work{Account: row.Account, Lane: s.Lane, Due: now.Add(longestCut), Urgent: s.Urgent, Attempts: s.Attempts + 1, Note: codeInternal}
		if s.Released() {
			w.Note = s.Note
		}
		if opened, err = state.OpenIntents(tx); err != nil {
			return err
		}
		if _, err := state.Settle(tx, s.SubjectKey, s.Rev, w); err != nil {
			return err
		}
		a := state.AlarmOf(AlarmInternal, s.SubjectKey)
		a.Severity, a.Last = state.Critical, now
		a.Text = "work on subject " + s.Subject + " fails inside the bridge; the log says why. If access must go, take it by hand"
		return raise(tx, a)
	})
	if err != nil {
		return errors.Join(cause, err)
	}
	e.mu.Lock()
	e.opened[s.SubjectKey] = slices.DeleteFunc(opened, func(o *state.Intent) bool { return o.SubjectKey != s.SubjectKey })
	e.mu.Unlock()
	e.Committed()
	return nil
}

// codeInternal is the note on a row whose work fails for a reason of ours.
const codeInternal = "internal"

// count notes the effect of an intent against the hourly limits, once for each fact, unless an operator or the end of its
// wait let it through.
func (u *unit) count(tx *store.Tx, gives bool, ops []plan.Op) error {
	deletes := ops[0].Kind == plan.DeleteAccount // after a cut that was counted
	if u.Observe {
		return nil
	}
	disables, strips := ops[0].Kind == plan.DisableAccount, ops[0].Kind == plan.RemoveMember && u.view.Access
	if u.row.Released() || disables && u.row.Waited(plan.Disable, u.now) || strips && u.row.Waited(plan.Take, u.now) {
		if disables { // should somebody undo it, the repetition is no further one
			return state.CountOnce(tx, u.row.SubjectKey, u.row.Rev)
		}
		return nil
	}
	if disables && u.seen != nil && u.seen.Enabled != nil && !*u.seen.Enabled {
		return nil // it is so already: nobody loses anything
	}
	if strips {
		if u.row.Taken == u.row.Rev {
			return nil
		}
		if err := state.TakenOnce(tx, u.row.SubjectKey, u.row.Rev); err != nil {
			return err
		}
		return state.AddEffects(tx, classTake, 1, u.now)
	}
	if u.row.Counted == u.row.Rev && !deletes || deletes && u.attempt > 1 {
		return nil
	}
	class := ""
	switch {
	case gives:
		class = classGive
	case disables:
		class = classCut
		if u.row.Urgent {
			used, err := state.Effects(tx, classUrgent, u.now.Add(-time.Hour))
			if err != nil {
				return err
			}
			if used < int64(u.Policy.Limits.UrgentPerHour) { // past their own allowance they are cuts like any other
				class = classUrgent
			}
		}
	case deletes:
		class = classDelete
	default:
		return nil
	}
	if err := state.CountOnce(tx, u.row.SubjectKey, u.row.Rev); err != nil {
		return err
	}
	return state.AddEffects(tx, class, 1, u.now)
}

// Classes of counted effects; they stand in the database.
const (
	classGive   = "give"
	classCut    = "cut"
	classUrgent = "urgent"
	classTake   = "take" // persons who lose roles and keep the account
	classDelete = "delete"
	classPolicy = "policy" // persons from whom a change of the policy takes groups
)

// recover answers for what a crash, or a full disk, left: whoever has an intent without an outcome is due, and
// looked at. Nobody may be worked on meanwhile.
func (e *Engine) recover(ctx context.Context) error {
	opened, err := state.OpenIntents(e.DB.Read())
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.opened = map[state.SubjectKey][]*state.Intent{}
	for _, o := range opened {
		e.opened[o.SubjectKey] = append(e.opened[o.SubjectKey], o)
	}
	e.mu.Unlock()
	if len(opened) == 0 {
		return nil
	}
	e.Log.Info("looking again at what was interrupted", "intents", len(opened))
	return e.DB.Tx(ctx, func(tx *store.Tx) error {
		for _, o := range opened {
			if err := state.WakeInterrupted(tx, o.SubjectKey, e.Now()); err != nil {
				return err
			}
		}
		return nil
	})
}
