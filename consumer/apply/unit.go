package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/crash"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// unit is one pass over one person: look, plan, execute one lane, settle.
type unit struct {
	*Engine
	row       *state.Subject
	known     plan.Known
	view      fence.View
	now       time.Time
	seen      *directory.Account // nil: not looked, or there is none
	looked    []directory.Request
	wentLook  bool            // there was a look, whatever it showed
	blind     bool            // the look failed: nothing is known that could end a hold
	hung      context.Context // see claim
	shown     bool            // a read shows a membership that was taken, or that the tenant says is none: looked at once more
	supposed  bool            // view is that of a start which a clock in doubt has not reached
	attempt   int
	stream    string
	opened    []*state.Intent // left by a crash
	situation plan.Situation
}

// one works on a person, who was listed when the limits had been judged at a time. look says to give nothing yet that would
// count against them.
func (e *Engine) one(ctx context.Context, listed *state.Subject, judged time.Time, look bool) error {
	// The list was read before this person was claimed: whoever held the claim may have gone on since. Then the row is due at
	// another time than the one at which the limits counted it, and is listed anew.
	row, err := state.LoadSubject(e.DB.Read(), listed.SubjectKey)
	if err != nil {
		return err
	}
	now := e.Now()
	if row == nil || row.Lane != listed.Lane || !row.Due.Equal(listed.Due) || row.Due.After(now) {
		return nil
	}
	u := &unit{Engine: e, row: row, now: now, attempt: row.Attempts + 1}
	if u.known, err = row.Known(); err != nil {
		return err
	}
	e.mu.Lock()
	u.opened, u.hung = e.opened[row.SubjectKey], e.busy[row.SubjectKey].hung
	e.mu.Unlock()
	if u.stream, err = e.streamOf(row.Issuer); err != nil {
		return err
	}
	if done, err := e.lapses(ctx, row, now); done || err != nil {
		return err // it is due anew
	}
	u.view = e.view(row, u.now)
	if err := u.begun(); err != nil {
		return err
	}
	u.situation = plan.Situation{Issuer: row.Issuer, Subject: row.Subject, View: u.view, Known: u.known, Unnamed: row.Unnamed, Now: u.now, Uptime: u.up()}
	if m := u.view.Want.Person.Manager; m != nil && u.view.Access && m.Value != row.Subject {
		if u.situation.Manager, err = accountOf(e.DB.Read(), state.SubjectKey{Issuer: row.Issuer, Subject: m.Value}); err != nil {
			return err
		}
	}
	p, err := u.plan(ctx)
	if err != nil {
		return u.failed(ctx, err)
	}
	lane := p.Lane()
	if lane == plan.Idle || lane > row.Lane && !u.Observe {
		// Nothing to do here, or only what comes after other people's more urgent work.
		return u.settle(ctx, p, lane, nil)
	}
	if lane == plan.Take && row.Lane == plan.Give && row.Taken != row.Rev && !row.Released() && !row.Waited(plan.Take, u.now) && !u.Observe {
		return u.settle(ctx, p, lane, nil) // only the look showed it: it is counted before it is taken
	}
	if lane == plan.Give && row.Discarded() && !u.Observe {
		return u.settle(ctx, p, lane, nil) // only for what is taken
	}
	if lane == plan.Disable {
		if free, err := u.mayDisable(listed, judged); err != nil {
			return err
		} else if !free {
			return u.settleWith(ctx, p, lane, nil, func(tx *store.Tx) error { return state.Lacks(tx, row.SubjectKey, row.Rev) })
		}
	}
	if look && lane == plan.Give && row.Counted != row.Rev && !row.Released() {
		return u.DB.Do(ctx, func(tx *store.Tx) error { return state.Lacks(tx, row.SubjectKey, row.Rev) })
	}
	return u.execute(ctx, p, lane)
}

// mayDisable reports whether the limit of cuts has let the person through, who was listed at the time of a judgement: in
// another lane, or where nothing had seemed to be there to be disabled, it has not counted them, and does before it happens.
func (u *unit) mayDisable(listed *state.Subject, judged time.Time) (bool, error) {
	row := u.row
	if u.Observe || row.Counted == row.Rev || u.seen != nil && !open(*u.seen) || row.Released() && row.Lane <= plan.Revoke || row.Waited(plan.Disable, u.now) {
		return true, nil
	}
	if listed.Lane != plan.Disable {
		return false, nil
	}
	return u.disables(u.DB.Read(), listed, judged)
}

// plan looks at the account unless a cut of an account that the bridge made can go ahead at once.
func (u *unit) plan(ctx context.Context) (plan.Plan, error) {
	first := u.row.Attempts == 0 && len(u.opened) == 0
	if first && (u.row.Lane == plan.Disable || u.row.Lane == plan.Revoke) {
		p := plan.Cut(u.situation, u.Policy)
		if p.Lane() == plan.Disable && !u.Observe {
			p = plan.Cut(u.glance(ctx), u.Policy)
		}
		if len(p.Ops) > 0 || len(p.Holds) > 0 {
			return p, nil
		}
	}
	ctx, cancel := u.bounded(ctx)
	defer cancel()
	if u.row.Lane < plan.Give {
		ctx = directory.WithPriority(ctx, directory.High)
	}
	var t Looker = u.Cut
	if u.view.Access {
		t = u.Grant
	}
	s, err := look(ctx, t, u.situation)
	u.looked, u.wentLook = s.requests, true
	if err != nil {
		return plan.Plan{}, err
	}
	if s.account == nil && !u.view.Access && u.known.Trying() && u.known.Hidden(u.now) {
		return plan.Plan{}, errHidden
	}
	u.seen = s.account
	p := s.plan(&u.situation, u.Policy)
	u.known = u.situation.Known
	u.shown = s.account != nil && slices.ContainsFunc(s.account.Groups, func(g string) bool { return u.known.ShownLate(g, u.now) })
	if s.account == nil && !u.view.Access && !u.known.GoneAt.IsZero() {
		u.known.Miss(u.now)
	}
	return p, nil
}

// glanceTime is how long a cut waits for its glance.
const glanceTime = time.Second

// glance reads the account that is about to be disabled: whether somebody in the enclave has it disabled already, which no later
// word may undo, and whether it is to be touched at all. There is one try, and no answer is as good as any: the cut goes on.
func (u *unit) glance(ctx context.Context) plan.Situation {
	ctx, cancel := context.WithTimeout(directory.WithPriority(ctx, directory.High), glanceTime)
	defer cancel()
	defer context.AfterFunc(u.hung, cancel)()
	s := u.situation
	a, r, err := u.Cut.Get(ctx, u.known.ID)
	u.looked = r.Requests
	if err != nil {
		u.Log.Info("cut without a glance", "subject", u.row.Subject, "code", code(err))
		return s
	}
	if s.Account = &a; ours(&a, s) {
		u.known.See(a.Enabled, u.now)
		s.Known = u.known
	}
	return s
}

// streamOf is the stream in which an issuer speaks of people; empty where no key may.
func (e *Engine) streamOf(issuer string) (string, error) {
	e.mu.Lock()
	name, ok := e.streams[issuer]
	e.mu.Unlock()
	if ok {
		return name, nil
	}
	keys, err := state.Keys(e.DB.Read())
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range keys {
		if slices.Contains(k.Kinds, schema.KindLeaver) {
			e.streams[k.Issuer] = k.Stream
		}
	}
	return e.streams[issuer], nil
}

// execute carries out the operations of one lane: intent, attempt, outcome.
func (u *unit) execute(ctx context.Context, p plan.Plan, lane plan.Lane) error {
	if u.lacksRoom(lane) && !u.Observe {
		return nil // the disk ran low since this was listed, and the rest is for cuts: the row is due still
	}
	var ops []plan.Op
	for _, op := range p.Ops {
		if op.Lane == lane || u.Observe { // nothing follows what is only shown: all of it now
			ops = append(ops, op)
		}
	}
	ops = ops[:min(len(ops), maxOps)] // what is more is found by the next look
	was := u.known
	index, err := u.intend(ctx, ops)
	if err == errOvertaken {
		return nil // the fact left the row due, or the hold has it
	}
	if errors.Is(err, errNoName) {
		return u.settle(ctx, plan.Plan{Holds: append(p.Holds, plan.Hold{Code: holdNoName, Target: u.row.Subject})}, plan.Idle, nil)
	}
	if err != nil {
		return err
	}
	crash.Point("intent-durable")
	var results []done
	blocked := false // without an account, or with one that is still disabled, nothing more is given
	for _, op := range ops {
		if u.Observe {
			results = append(results, done{result: entry.ResultSkipped, code: "observe"})
			continue
		}
		if u.hung.Err() != nil {
			results = append(results, done{result: entry.ResultSkipped, code: "overtaken", retry: true})
			continue
		}
		if blocked {
			results = append(results, done{result: entry.ResultSkipped, code: "earlier-failed"})
			continue
		}
		d := u.try(ctx, op)
		if op.Kind == plan.CreateAccount && d.result == entry.ResultFailed && d.code != codeNameTaken && u.known.TriedAt.IsZero() {
			// That this one was refused says nothing of one before it that was not answered: its account may be there, by its name.
			if was.Trying() && was.Hidden(u.now) {
				u.known.TriedAt, u.known.UPN = was.TriedAt, was.UPN
			}
		}
		if d.unseen {
			u.unseen(&d, was)
		}
		crash.Point("operation-done")
		results = append(results, d)
		blocked = d.result == entry.ResultFailed && (op.Kind == plan.CreateAccount || op.Kind == plan.EnableAccount)
	}
	u.ungiven(ops, results, was)
	crash.Point("operations-done")
	if err := u.answer(ctx, p, lane, index, ops, results); err != nil {
		return err
	}
	crash.Point("outcome-durable")
	return nil
}

// unseen judges a create whose name conflicts with what no read shows: an account that an earlier attempt made, or, once that
// would be shown, something else that has the name, such as the address of a group.
func (u *unit) unseen(d *done, was plan.Known) {
	switch {
	case !was.Trying(): // nobody tried before: a proxy may have sent this one twice
	case was.Hidden(u.now):
		u.known.TriedAt = was.TriedAt // a conflict makes nothing that would be hidden for longer
	default:
		u.known.TriedAt, u.known.UPN = time.Time{}, ""
		u.known.Passed++
		d.code = codeNameTaken
	}
}

// ungiven takes back the doubt about memberships that were refused, or not tried at all.
func (u *unit) ungiven(ops []plan.Op, results []done, was plan.Known) {
	var not []string
	given := false
	for i, op := range ops {
		if d := results[i]; op.Kind == plan.AddMember {
			failed := d.result == entry.ResultSkipped || d.result == entry.ResultFailed && !d.lost
			if given = given || !failed; failed {
				not = append(not, op.Group)
			}
		}
	}
	if len(not) == 0 {
		return
	}
	u.known.NotGiven(not, was)
	if !given && u.known.ID == was.ID {
		u.known.GivenAt = was.GivenAt
	}
}

// try waits for the quota and makes one attempt. What was begun is finished even when ctx ends.
func (u *unit) try(ctx context.Context, op plan.Op) done {
	gov := u.cuts
	if op.Kind.Gives() {
		gov = u.gives
	}
	if err := gov.wait(ctx, !op.Kind.Gives()); err != nil {
		return done{result: entry.ResultSkipped, code: "stopping", retry: true}
	}
	work, cancel := u.bounded(context.WithoutCancel(ctx))
	defer cancel()
	before, doubt := u.known.DisabledAt, u.known.DisablingAt
	d := u.tenants.perform(work, op, &u.known, u.seen, u.Now)
	if op.Kind == plan.DisableAccount && d.result == entry.ResultFailed && doubt.Before(u.now) {
		u.known.DisablingAt = doubt // that this attempt was refused says nothing of the one before
	}
	if op.Kind == plan.RemoveMember && d.result == entry.ResultAlready && u.seen != nil && slices.Contains(u.seen.Groups, op.Group) {
		u.shown = true // perhaps a replica that does not know the membership yet
	}
	if !u.known.DisabledAt.Equal(before) {
		u.known.DisabledUp = u.up()
	}
	if d.code == directory.CodeThrottled || d.after > 0 {
		gov.quiet(min(max(d.after, time.Second), longestQuiet))
	}
	what := "applied"
	if d.result == entry.ResultFailed {
		what = "failed"
	}
	u.Log.Info(what, "subject", u.row.Subject, "op", string(op.Kind), "group", op.Group, "result", d.result, "code", d.code, "reason", d.why, "account", u.known.ID)
	return d
}

// bounded is ctx for as long as one operation may take.
func (u *unit) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, u.patience())
	stop := context.AfterFunc(u.hung, cancel)
	return ctx, func() { stop(); cancel() }
}

// patience is how long one operation may take. A cut that hangs gives its worker up soon, for others are to
// be cut; a tenant that is only slow is given more time at every attempt.
func (u *unit) patience() time.Duration {
	if u.row.Lane > plan.Revoke {
		return operationTime
	}
	return min(operationTime, u.firstCut<<min(u.attempt-1, 8))
}

// intend makes the intent durable, and with it whatever a later look will need: the name under which
// an account is about to be created.
func (u *unit) intend(ctx context.Context, ops []plan.Op) (index int64, err error) {
	gives := ops[0].Kind.Gives()
	err = u.DB.Do(ctx, func(tx *store.Tx) error {
		// A fact that came since the plan was made may forbid it: then it is planned anew.
		// What gives, or deletes, and was held in the meantime is not done either: the limit has not counted it. A cut goes on.
		overtaken, moved, err := state.Overtaken(tx, u.row)
		if err != nil {
			return err
		}
		if overtaken || moved && u.row.Lane >= plan.Give {
			return errOvertaken
		}
		if err := u.closeInterrupted(tx); err != nil {
			return err
		}
		k := u.known
		if !u.Observe {
			if err := u.prepare(tx, &k, ops); err != nil {
				return err
			}
		}
		cause, err := u.cause(gives)
		if err != nil {
			return err
		}
		if a := ended(ops); a != nil {
			cause = entry.Cause{Type: entry.CauseSchedule, Code: codeApproval, Position: u.placeOf(a)}
		}
		in := &entry.Intent{Who: u.who(), Account: k.ID, Cause: cause, Policy: u.Policy.Digest(), Due: entry.MomentAt(u.row.Due),
			Urgent: u.row.Urgent, Observe: u.Observe}
		if u.attempt > 1 {
			in.Attempt = u.attempt
		}
		for i, op := range ops {
			in.Ops = append(in.Ops, recorded(i+1, op))
			for _, a := range op.Approvals {
				if at := u.placeOf(&a); op.Kind.Gives() && !slices.Contains(in.Approvals, *at) && len(in.Approvals) < entry.MaxNames {
					in.Approvals = append(in.Approvals, *at)
				}
			}
		}
		if index, err = ledger.Append(tx, entry.New(u.Now(), in)); err != nil {
			return fmt.Errorf("record the intent: %w", err)
		}
		if err := u.count(tx, gives, ops); err != nil {
			return err
		}
		if !u.Observe {
			if err := u.keepName(tx, k); err != nil {
				return err
			}
			if err := state.SetAccount(tx, u.row.SubjectKey, encode(k)); err != nil {
				return err
			}
		}
		u.known = k
		list, err := json.Marshal(in.Ops)
		if err != nil {
			return err
		}
		return state.OpenIntent(tx, &state.Intent{Index: index, SubjectKey: u.row.SubjectKey, Ops: list, At: u.now})
	})
	if err == nil {
		u.Committed()
		u.Log.Info("planned", "subject", u.row.Subject, "lane", ops[0].Lane.String(), "operations", len(ops), "entry", index)
	}
	return index, err
}

// answer makes the outcome durable, together with everything that follows from it.
func (u *unit) answer(ctx context.Context, p plan.Plan, lane plan.Lane, index int64, ops []plan.Op, results []done) error {
	out := &entry.Outcome{Intent: index, Who: u.who(), Account: u.known.ID}
	for i, d := range results {
		r := entry.Result{N: i + 1, Result: d.result, Code: d.code, Requests: requests(d.requests)}
		if len(d.requests) > 0 {
			r.At = entry.MomentAt(u.Now())
		} else if d.result == entry.ResultAlready {
			r.Requests = requests(u.looked)
		}
		out.Results = append(out.Results, r)
	}
	err := u.settleWith(ctx, p, lane, results, func(tx *store.Tx) error {
		if _, err := ledger.Append(tx, entry.New(u.Now(), out)); err != nil {
			return fmt.Errorf("record the outcome: %w", err)
		}
		return state.CloseIntent(tx, index)
	})
	if err == nil {
		u.Committed()
		u.Log.Info("recorded", "subject", u.row.Subject, "lane", lane.String(), "intent", index)
	}
	return err
}

// closeInterrupted answers what a crash left unanswered.
func (u *unit) closeInterrupted(tx *store.Tx) error {
	for _, o := range u.opened {
		var ops []entry.Op
		if err := json.Unmarshal(o.Ops, &ops); err != nil {
			return fmt.Errorf("read intent %d: %w", o.Index, err)
		}
		out := &entry.Outcome{Intent: o.Index, Who: u.who()}
		for _, op := range ops {
			out.Results = append(out.Results, entry.Result{N: op.N, Result: entry.ResultInterrupted})
		}
		if _, err := ledger.Append(tx, entry.New(u.Now(), out)); err != nil {
			return fmt.Errorf("answer an interrupted intent: %w", err)
		}
		if err := state.CloseIntent(tx, o.Index); err != nil {
			return err
		}
	}
	if len(u.opened) > 0 {
		tx.After(func() {
			u.mu.Lock()
			delete(u.Engine.opened, u.row.SubjectKey)
			u.mu.Unlock()
			u.opened = nil
		})
	}
	return nil
}

var errOvertaken = errors.New("a newer fact came")

// errNoName: a preferred alias for the person, or another upn.template, helps.
var errNoName = errors.New("every candidate for the user principal name is taken")

// prepare notes in k what must be known of ops even if nothing is heard of them again.
func (u *unit) prepare(tx *store.Tx, k *plan.Known, ops []plan.Op) error {
	for _, op := range ops {
		switch op.Kind {
		case plan.CreateAccount:
			ok := false
			var err error
			if k.UPN != "" && !u.Policy.IsProtected("", k.UPN) { // from before: taken again, for the reserve of a name ends while it is in use
				if ok, err = state.TakeName(tx, k.UPN, u.row.SubjectKey, u.now); err != nil {
					return err
				}
			}
			if !ok {
				if k.UPN, err = u.reserve(tx); err != nil {
					return err
				}
			}
			k.TriedAt, k.Engagement = u.now, u.view.Want.Engagement
		case plan.DisableAccount:
			if k.DisablingAt.IsZero() { // else an earlier one is in doubt as well
				k.DisablingAt = u.now
			}
		case plan.DeleteAccount:
			k.DeletingAt = u.now
		case plan.EnableAccount:
			k.EnablingAt = u.now
		case plan.RemoveMember:
			k.Take(op.Group, u.now)
		case plan.AddMember:
			k.Giving(op.Group, u.now)
		}
	}
	return nil
}

// errHidden: the account of someone who must have none may be there, since the end of its create is not known.
var errHidden = errors.New("an account whose create was not answered is not shown; looking again until it must be")

// codeHidden is what such a cut waits for.
const codeHidden = "account-hidden"

// reserve finds a user principal name that nobody else bears, or bore within two years.
func (u *unit) reserve(tx *store.Tx) (string, error) {
	for nth := u.known.Passed; nth < maxNames; nth++ {
		upn := u.Policy.Nickname(u.view.Want.Person, u.row.Subject, nth) + "@" + u.Policy.UPN.Domain
		if u.Policy.IsProtected("", upn) { // whoever bore it could not be cut
			continue
		}
		ok, err := state.TakeName(tx, upn, u.row.SubjectKey, u.now)
		if err != nil {
			return "", err
		}
		if ok {
			return upn, nil
		}
	}
	return "", errNoName
}

// keepName keeps a name from others that the bridge did not give: of an account that was found, or that somebody renamed.
func (u *unit) keepName(tx *store.Tx, k plan.Known) error {
	was, err := u.row.Known()
	if err != nil || k.ID == "" || k.UPN == "" || k.UPN == was.UPN {
		return err
	}
	_, err = state.TakeName(tx, k.UPN, u.row.SubjectKey, u.now)
	return err
}

// codeApproval is why something is taken on the date on which a second signer's word ends.
const codeApproval = "approval-ended"

// ended is the approval whose end is why all of ops take something; nil where anything else is.
func ended(ops []plan.Op) (first *fence.Approval) {
	for i := range ops {
		if ops[i].Kind != plan.RemoveMember || len(ops[i].Approvals) == 0 {
			return nil
		}
		if first == nil {
			first = &ops[i].Approvals[0]
		}
	}
	return first
}

// placeOf is where an approval stands.
func (u *unit) placeOf(a *fence.Approval) *entry.Position {
	return &entry.Position{Issuer: u.row.Issuer, Stream: a.Stream, Generation: a.Generation, Seq: a.Seq}
}

func (u *unit) who() entry.Who {
	return entry.Who{Issuer: u.row.Issuer, Subject: u.row.Subject, Engagement: u.view.Cause.Engagement}
}

// cause names what decided: an operator's lock, or the fact at the view's position.
func (u *unit) cause(gives bool) (entry.Cause, error) {
	if u.view.Why == fence.WhyLocked {
		return entry.Cause{Type: entry.CauseOperator, Code: string(u.view.Why)}, nil
	}
	c := entry.Cause{Type: entry.CauseMessage, Code: string(u.view.Why)}
	if p := u.view.Cause; !p.IsZero() && u.stream != "" {
		// A roster taken before anything was said has no message at its head: message 1 begins it.
		c.Position = &entry.Position{Issuer: u.row.Issuer, Stream: u.stream, Generation: p.Generation, Seq: max(p.Seq, 1)}
	}
	switch {
	case u.view.Why == fence.WhyEnded:
		c.Type = entry.CauseSchedule
	case u.view.Why == fence.WhyLease || u.view.Why == fence.WhyDisowned || u.view.Access && !gives && u.view.Lapse != nil:
		l := u.view.Lapse
		c = entry.Cause{Type: entry.CauseLease, Code: string(l.Why), Entry: &l.Entry}
		if l.Why == fence.WhyDisowned {
			c.Type = entry.CauseOperator
		}
	}
	return c, nil
}

// recorded is op in the ledger's form: names of attributes, never their values.
func recorded(n int, op plan.Op) entry.Op {
	o := entry.Op{N: n, Op: string(op.Kind), Class: entry.ClassTake, Target: op.Group}
	if op.Kind.Gives() {
		o.Class = entry.ClassGive
	}
	switch op.Kind {
	case plan.SetManager:
		o.Target = op.Manager
	case plan.UpdateAccount:
		o.Attributes = changed(op.From, op.To)
	case plan.CreateAccount:
		o.Attributes = changed(directory.Attributes{}, op.Create.Attributes)
	}
	return o
}

// changed names the attributes that differ, as Graph names them.
func changed(from, to directory.Attributes) []string {
	var names []string
	for _, a := range []struct{ name, from, to string }{
		{"displayName", from.DisplayName, to.DisplayName}, {"givenName", from.GivenName, to.GivenName},
		{"surname", from.Surname, to.Surname}, {"employeeId", from.EmployeeID, to.EmployeeID},
		{"employeeType", from.EmployeeType, to.EmployeeType}, {"jobTitle", from.JobTitle, to.JobTitle},
		{"department", from.Department, to.Department}, {"companyName", from.Company, to.Company},
		{"division", from.Division, to.Division}, {"costCenter", from.CostCenter, to.CostCenter},
		{"usageLocation", from.UsageLocation, to.UsageLocation},
	} {
		if a.from != a.to {
			names = append(names, a.name)
		}
	}
	return names
}

func encode(k plan.Known) json.RawMessage {
	b, err := json.Marshal(k)
	if err != nil {
		panic("plan.Known is plain data: " + err.Error())
	}
	return b
}

// failed reschedules a person whose account could not be looked at.
func (u *unit) failed(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return nil // stopping: the row is due as it was
	}
	var missing *missingError
	var double *ambiguousMarkError
	switch {
	case errors.As(cause, &missing) && u.attempt >= goneAfter && !u.known.Hidden(u.now):
		return u.gone(ctx)
	case errors.As(cause, &double):
		return u.settleWith(ctx, plan.Plan{Holds: double.holds(u.view.Access)}, plan.Idle, nil, nil)
	}
	u.Log.Warn("look failed", "subject", u.row.Subject, "attempt", u.attempt, "err", safe(cause))
	why := code(cause)
	if cause == errHidden {
		why = codeHidden
	}
	u.blind = true
	return u.settleWith(ctx, plan.Plan{}, u.row.Lane, []done{{result: entry.ResultFailed, code: why, retry: true,
		denied: errors.Is(cause, directory.ErrDenied), after: directory.RetryAfter(cause)}}, nil)
}

// safe is an error's text without line breaks; directory errors hold no names and no tenant's words.
func safe(err error) string { return strings.ReplaceAll(err.Error(), "\n", " ") }
