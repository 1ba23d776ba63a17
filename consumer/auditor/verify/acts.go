package verify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// opClasses is what each operation does, whatever the ledger calls it.
var opClasses = map[string]string{
	"disable": entry.ClassTake, "revoke-sessions": entry.ClassTake, "remove-member": entry.ClassTake, "delete": entry.ClassTake,
	"create": entry.ClassGive, "update": entry.ClassGive, "set-manager": entry.ClassGive, "clear-manager": entry.ClassGive,
	"enable": entry.ClassGive, "add-member": entry.ClassGive,
}

// openIntent is an intent that has no outcome yet.
type openIntent struct {
	who
	ops     []string
	observe bool
	takes   bool
	at      time.Time
	since   time.Time // it cannot have been answered before, by the entries up to it
}

// intent asks whether what is about to be done is allowed and explained by what came before it.
func (v *verifier) intent(i *entry.Intent) {
	v.report.Checked.Intents++
	w := who{i.Issuer, i.Subject}
	p := v.person(w)
	if p.intent >= 0 {
		v.findWho(IntentUnanswered, w, "the intent at entry %d has no outcome, and another follows for the same person", p.intent)
		delete(v.open, p.intent)
	}
	o := &openIntent{who: w, observe: i.Observe, at: v.now, since: v.top}
	gives, takes := false, false
	for _, op := range i.Ops {
		o.ops = append(o.ops, op.Op)
		class, known := opClasses[op.Op]
		if !known {
			class = entry.ClassGive // nobody knows what it does
		}
		if class != op.Class {
			v.findWho(OpMislabelled, w, "operation %s is classed as %s", op.Op, op.Class)
		}
		if class == entry.ClassGive {
			gives = true
			v.report.Checked.Gives++
		} else {
			takes = true
			v.report.Checked.Takes++
		}
	}
	o.takes = takes
	v.open[v.index], p.intent = o, v.index
	if v.policy.IsZero() || i.Policy != v.policy {
		v.findWho(PolicyUnrecorded, w, "it was planned by policy %s; the ledger has %s in force", i.Policy, v.policy)
	}
	v.cites(w, &i.Cause)
	v.approved(w, p, i)
	if v.TilesOnly && v.byRoster(&i.Cause) {
		return // what it states is in the archive, which is not at hand
	}
	if gives {
		v.restored(w, p)
		v.give(w, p, i)
	}
	if takes {
		v.take(w, p, i)
	}
}

// give: nothing is given but what a fact in sequence says, and nothing against a leaver, suspend, end or
// lock that the enclave knew of.
func (v *verifier) give(w who, p *person, i *entry.Intent) {
	t := seconds(v.now)
	now := p.at(t)
	before := p.at(max(t-int64(look/time.Second), p.changed))
	s := now
	if !now.access && before.access {
		s = before
	}
	if was := p.at(seconds(later(v.now, v.high))); now.why == notStarted && was.access { // it had begun before the clock went back
		s = was
	}
	if (!s.access || p.lapsed) && v.mayHave(w, p, t) {
		return
	}
	if s.access && p.lapsed && seconds(v.now)-p.changed > int64(look/time.Second) {
		v.findWho(GiveAfterCut, w, "the person's lease ran out and nothing named the person since")
		return
	}
	if !s.access {
		if i.Cause.Position != nil {
			if list := v.cited(p, i.Cause.Position); len(list) > 0 && list[0].disowned != 0 {
				v.findWho(GiveDisowned, w, "it names message %d of generation %d, whose word was disowned at entry %d", i.Cause.Position.Seq, i.Cause.Position.Generation, list[0].disowned)
				return
			}
		}
		switch now.why {
		case "unknown":
			v.findWho(GiveWithoutFact, w, "no joiner or mover in sequence says that the person has access")
		case notStarted:
			v.findWho(GiveEarly, w, "the engagement begins at %s", time.Unix(now.want.start, 0).UTC().Format(time.RFC3339))
		default:
			v.findWho(GiveAfterCut, w, "the person has no access: %s", now.why)
		}
		return
	}
	if v.high.After(v.now) {
		switch was := p.at(seconds(v.high)); was.why {
		case "left", "suspended", "ended":
			if !v.mayHave(w, p, seconds(v.high)) {
				v.findWho(GiveAfterCut, w, "the person had no access before the clock went back: %s", was.why)
				return
			}
		}
	}
	if since, ok := v.stale[w.issuer]; ok && v.now.Sub(since) > look {
		v.findWho(GiveStale, w, "the issuer is silent since %s", entry.At(since))
	}
	c := &i.Cause
	switch c.Type {
	case entry.CauseMessage, entry.CauseSchedule:
		if c.Position == nil {
			v.findWho(CauseMissing, w, "it names no message")
			return
		}
		list := v.cited(p, c.Position)
		ok := false
		for _, f := range list {
			ok = ok || f == now.want || f == before.want || f.content != 0 && f.content == s.want.content && f.engagement == s.want.engagement
		}
		switch {
		case len(list) == 0:
			v.findWho(CauseMissing, w, "it names message %d of generation %d, which says nothing of this person", c.Position.Seq, c.Position.Generation)
		case !ok && list[0].disowned != 0:
			v.findWho(GiveDisowned, w, "it names message %d of generation %d, whose word was disowned at entry %d", c.Position.Seq, c.Position.Generation, list[0].disowned)
		case !ok || c.Position.Issuer != w.issuer:
			v.findWho(CauseMismatch, w, "it names message %d of generation %d; what holds is message %d of generation %d", c.Position.Seq, c.Position.Generation, s.want.seq, s.want.generation)
		}
	case entry.CausePolicy, entry.CauseReconcile:
		if !v.isKind(c.Entry, entry.KindPolicy, entry.KindStarted, entry.KindObserved) {
			v.findWho(CauseMissing, w, "it names no policy or observation of this ledger")
		}
	case entry.CauseOperator:
		if !v.isKind(c.Entry, entry.KindOperator, entry.KindReleased) {
			v.findWho(CauseMissing, w, "it names no act of an operator")
		}
	default:
		v.findWho(CauseMismatch, w, "a cause of type %s gives nothing", c.Type)
	}
}

// cited returns what the message at a place says of the person; only streams that the ledger opened count.
func (v *verifier) cited(p *person, at *entry.Position) []*fact {
	roster := v.heads[head{at.Issuer, point{at.Generation, at.Seq}}]
	if v.streams[streamKey{at.Issuer, at.Stream, "", at.Generation}] == nil && !roster {
		return nil
	}
	list := p.stated(at.Generation, at.Seq)
	if roster {
		list = append(list, p.confirmed(at.Generation, at.Seq)...)
	}
	return list
}

// take: everything taken names a cause that the ledger has and that says so. Whether it was overtaken
// meanwhile does not matter: taking is the safe side.
func (v *verifier) take(w who, p *person, i *entry.Intent) {
	c := &i.Cause
	switch c.Type {
	case entry.CauseMessage, entry.CauseSchedule:
		v.takeByMessage(w, p, i)
	case entry.CauseOperator:
		if c.Entry != nil && !slices.Contains(p.acts, *c.Entry) || c.Entry == nil && !p.locked && p.lock == 0 {
			v.findWho(CauseMissing, w, "no act of an operator on this person is recorded")
		}
	case entry.CauseLease:
		if !p.leased || closes(i) && p.lapse == 0 {
			v.findWho(CauseMissing, w, "no lease of the person that ran out, and says so, is recorded")
		}
	case entry.CausePolicy, entry.CauseReconcile:
		switch {
		case c.Type == entry.CausePolicy && v.policy.IsZero():
			v.findWho(CauseMissing, w, "no policy is recorded")
		case c.Type == entry.CauseReconcile && !v.isKind(c.Entry, entry.KindObserved):
			v.findWho(CauseMissing, w, "it names no observation of this ledger")
		case closes(i) && !p.lapsed && p.at(seconds(v.now)).access:
			v.findWho(CauseMismatch, w, "a cause of type %s takes memberships and nothing else from whoever has access", c.Type)
		}
	}
}

// closes reports whether an intent takes more than memberships.
func closes(i *entry.Intent) bool {
	return slices.ContainsFunc(i.Ops, func(op entry.Op) bool { return op.Op != "remove-member" && opClasses[op.Op] != entry.ClassGive })
}

func (v *verifier) takeByMessage(w who, p *person, i *entry.Intent) {
	c := i.Cause
	if c.Position == nil {
		v.findWho(CauseMissing, w, "it names no message")
		return
	}
	if v.approvalEnded(w, p, i) {
		return
	}
	if c.Position.Issuer != w.issuer {
		v.findWho(CauseMismatch, w, "it names message %d of generation %d of %s, which speaks of other people", c.Position.Seq, c.Position.Generation, c.Position.Issuer)
		return
	}
	list := v.cited(p, c.Position)
	if len(list) == 0 && v.beforeUs(c.Position) {
		v.report.Checked.ByPrevious++
		return
	}
	if len(list) == 0 && v.TilesOnly && v.repeated(c.Position) {
		return // what the heartbeat says is in the archive, which is not at hand
	}
	if len(list) == 0 && !v.parked[w.issuer] {
		v.findWho(CauseMissing, w, "it names message %d of generation %d, which says nothing of this person", c.Position.Seq, c.Position.Generation)
		return
	}
	t := seconds(later(v.now, v.high)) // what had come before the clock went back stands
	says := false
	for _, f := range list {
		switch f.kind {
		case leaver, suspend:
			says = says || f.from <= t
		case joiner, mover:
			says = says || !closes(i) || f.partial || f.end != 0 && f.end <= t || f.start > t-int64(look/time.Second)
		}
	}
	switch {
	case says:
	case v.byRoster(&c) && !p.at(t).access:
		// A roster that has the person as suspended, at its head: a message there may be the person's own and say something else.
	case v.parked[w.issuer]:
		// A verified message that was parked may cut. It is not in the archive until it is let in, and where
		// its own place is out of reach the cut bears the place of the furthest message.
		v.report.Checked.ByParked++
	default:
		v.findWho(CauseMismatch, w, "message %d of generation %d does not take access away now", c.Position.Seq, c.Position.Generation)
	}
}

// repeated reports whether a heartbeat past a place came that may repeat what a message there says.
func (v *verifier) repeated(at *entry.Position) bool {
	s := v.streams[streamKey{at.Issuer, at.Stream, "", at.Generation}]
	return s != nil && at.Seq < s.echoed
}

// beforeUs reports whether a place lies before where this ledger began to follow its stream, and another ledger did
// until then: what a message there says is on that one.
func (v *verifier) beforeUs(at *entry.Position) bool {
	if v.report.Ledger.Previous == nil {
		return false
	}
	for k, s := range v.streams {
		if k.issuer == at.Issuer && k.stream == at.Stream && (k.generation > at.Generation || k.generation == at.Generation && at.Seq < s.joined) {
			return true
		}
	}
	return false
}

// waitsForWord reports whether an intent that gives may have been cut short by the end of a run, and the next one waits, with all
// that gives, for a word of an issuer that is silent: only then it looks what became of it.
func (v *verifier) waitsForWord(o *openIntent) bool {
	heard, ok := v.heard[o.issuer]
	return !o.takes && len(v.report.Starts) > 0 && v.report.Starts[len(v.report.Starts)-1].Time.After(o.at) && (!ok || v.now.Sub(heard) <= v.Grace)
}

// outcome answers an intent.
func (v *verifier) outcome(o *entry.Outcome) {
	v.report.Checked.Outcomes++
	other := false
	w := who{o.Issuer, o.Subject}
	in := v.open[o.Intent]
	if in == nil {
		v.findWho(OutcomeUnexplained, w, "entry %d is no intent that waits for an outcome", o.Intent)
		return
	}
	if in.who != w {
		v.findWho(OutcomeUnexplained, w, "the intent at entry %d is about subject %s of %s", o.Intent, in.subject, in.issuer)
		return
	}
	delete(v.open, o.Intent)
	p := v.person(w)
	p.intent = -1
	whole, done := len(o.Results) == len(in.ops), true
	for n, r := range o.Results {
		whole = whole && r.N == n+1
	}
	if !whole {
		v.findWho(OutcomeIncomplete, w, "the intent at entry %d has %d operations; want one result for each, got %d", o.Intent, len(in.ops), len(o.Results))
	}
	for _, r := range o.Results {
		v.report.Counts.Results[r.Result]++
		if r.N > len(in.ops) || r.Result != entry.ResultApplied && r.Result != entry.ResultAlready && r.Result != entry.ResultFound {
			done = false
			continue
		}
		if r.Result == entry.ResultApplied && !slices.ContainsFunc(r.Requests, func(q entry.Request) bool { return q.Status/100 == 2 }) {
			v.findWho(RequestMissing, w, "operation %d of the intent at entry %d is applied, and no request that the directory answered well is named", r.N, o.Intent)
		}
		if in.observe {
			v.findWho(ObserveActed, w, "operation %d of the intent at entry %d was only to be shown, and is %s", r.N, o.Intent, r.Result)
		}
		at := v.now
		if r.At != nil && !r.At.After(v.now) && v.now.Sub(r.At.Time) <= look { // it is recorded at once
			at = r.At.Time
		}
		if opClasses[in.ops[r.N-1]] == entry.ClassTake {
			at = later(at, in.since)
		}
		if !v.owns(p, o.Account) {
			other = true
			continue // it says nothing of the person's own
		}
		v.did(w, p, in.ops[r.N-1], at)
	}
	if done && in.takes {
		v.denied = false // the tenant takes the credential
	}
	if other {
		v.findWho(AccountDiffers, w, "what the intent at entry %d says was done to account %s, which the ledger has as somebody else's", o.Intent, o.Account)
	}
}

// owns reports whether an account is the person's by the ledger. It is whose it was first, until it is seen to be gone.
func (v *verifier) owns(p *person, account string) bool {
	if account == "" {
		return true
	}
	if v.accounts[account] == nil {
		v.accounts[account] = p
	}
	return v.accounts[account] == p
}

// did takes in that an operation is so now.
func (v *verifier) did(w who, p *person, op string, at time.Time) {
	switch op {
	case "create", "enable":
		if !p.enabled {
			v.opened(p, at, true)
		}
		p.account, p.enabled = true, true
	case "disable":
		if slices.ContainsFunc(p.holds, func(o *openHold) bool { return o.code == cutLimit }) {
			v.overdue(w, p)
		}
		p.account, p.enabled = true, false
		v.disabled(w, p, at)
	case "revoke-sessions":
		v.revoked(p, at)
	case "delete":
		p.account, p.enabled, p.gone = false, false, true
		v.disabled(w, p, at)
		v.revoked(p, at)
	case "update", "set-manager", "clear-manager", "add-member":
		if !p.account { // one that was there before this ledger
			v.opened(p, at, true)
			p.account, p.enabled = true, true
		}
	}
}

func (v *verifier) observed(o *entry.Observed) {
	if s := o.Survey; s != nil {
		v.surveyed = true
		for _, c := range s.Counts {
			if c.Name == entry.SurveyForeign && c.Count > 0 {
				v.surveyed = false // the account of anybody may be among these
			}
		}
	}
	a := o.Account
	if a == nil {
		return
	}
	p := v.person(who{a.Issuer, a.Subject})
	mine := v.owns(p, a.Account)
	switch a.State {
	case entry.StateEnabled:
		if !p.enabled {
			v.opened(p, v.now, false)
		}
		p.account, p.enabled = true, true
	case entry.StateDisabled:
		p.account, p.enabled = true, false
		for _, c := range p.cuts {
			if c.State == CutUnknown {
				c.State = CutAlready
			}
		}
	case entry.StateDeleted, entry.StateGone:
		if mine {
			delete(v.accounts, a.Account)
		}
		p.account, p.enabled, p.gone = false, false, true
		for _, c := range p.cuts {
			if c.State == CutOpen || c.State == CutDone || c.State == CutUnknown {
				c.State = CutGone
			}
		}
		p.cuts = nil
	}
}

func (v *verifier) operator(o *entry.Operator) {
	if o.Action == "recall" {
		v.recalled(o)
		return
	}
	v.report.Operators = append(v.report.Operators, Act{Entry: v.index, Time: entry.At(v.now), By: o.By, Action: o.Action, Issuer: o.Issuer, Subject: o.Subject, Target: o.Target, Reason: o.Reason})
	if o.Action == "put-back" {
		v.putBack(o)
	}
	if o.Subject == "" {
		return
	}
	w := who{o.Issuer, o.Subject}
	switch p := v.person(w); o.Action {
	case "cut":
		p.acts = append(p.acts, v.index)
		if !p.locked {
			p.locked, p.lock, p.changed = true, v.index, seconds(v.now)
			v.cutByLock(w, p, o.First)
		}
	case "unlock":
		v.back(w, p, func(c *Cut) bool { return c.Kind == "lock" })
		p.locked, p.changed = false, seconds(v.now)
	case "undo":
		p.acts = append(p.acts, v.index)
	case "keep":
		p.kept()
		p.changed = seconds(v.now)
	}
}

// recalled takes in a leaver or suspend of the ledger before this one: nothing may be given against it, and it is to be
// carried out like any other. Or that what was suspended there was over.
func (v *verifier) recalled(o *entry.Operator) {
	kind, place, _ := strings.Cut(o.Target, "#")
	f := fact{kind: kindOf(schema.Kind(kind)), engagement: o.Engagement, from: unix(o.Effective), entry: v.index}
	n, err := fmt.Sscanf(place, "%d.%d", &f.generation, &f.seq)
	if err != nil || n != 2 || o.Effective == nil || o.Subject == "" || f.kind != leaver && f.kind != suspend && f.kind != resume {
		v.findf(EntryForm, "it recalls no leaver, suspend or resume: target %s", o.Target)
		return
	}
	f.sequenced, f.recalled = f.kind == resume, true
	w := who{o.Issuer, o.Subject}
	p := v.person(w)
	p.recalled = true
	v.beforeFact(w, p, f)
	if p.add(f) {
		p.changed = seconds(v.now)
		v.cutBy(w, p, f, *o.Effective, nil)
	}
}

// openHold is a hold that was not ended.
type openHold struct {
	code     string
	subjects []who
	until    time.Time // when one by the limit of cuts ends by itself
}

const (
	// cutLimit is the code of a hold on too many cuts: it ends by itself.
	cutLimit = "cut-limit"
	// limitHold is for how long it keeps one waiting at most, by whatever policy.
	limitHold = time.Hour
)

// blocks reports whether a hold still says why a cut is not done. One by the limit of cuts does until the cut was first to
// happen: newer words about the person, and the holds that they lead to, put it off no further.
func (v *verifier) blocks(o *openHold, c *Cut) bool {
	if o.code != cutLimit {
		return true
	}
	until := o.until
	if !c.heldUntil.IsZero() && c.heldUntil.Before(until) {
		until = c.heldUntil
	}
	return v.ran(until) <= v.slack()
}

// span is a time in which the enclave ran.
type span struct{ from, to time.Time }

// leastRun is what a start counts for at least: an enclave that starts again and again and does nothing has no reason for it.
const leastRun = time.Minute

// ran is for how long the enclave ran since a time; more than slack is all the same.
func (v *verifier) ran(since time.Time) (all time.Duration) {
	for i := len(v.runs) - 1; i >= 0 && all <= v.slack(); i-- {
		r := v.runs[i]
		if v.now.Before(r.to) { // judged as of a date
			r.to = v.now
		}
		switch began := !r.from.Before(since); {
		case began && !r.from.After(v.now):
			all += max(r.to.Sub(r.from), leastRun)
		case began:
		case r.to.After(since):
			return all + r.to.Sub(since)
		default:
			return all
		}
	}
	return all
}

// slack is within what time of running an enclave ends what is over.
func (v *verifier) slack() time.Duration { return max(v.Grace, DefaultGrace) }

// waits is told that a cut of the person is held by the limit of cuts until a time. It accuses an enclave that holds for
// longer what was to end before.
func (v *verifier) waits(w who, p *person, hold string, until time.Time) {
	var first *Cut
	for _, c := range p.cuts {
		if v.undone(p, c) && v.stands(w, p, c) && !c.heldUntil.IsZero() && (first == nil || c.heldUntil.Before(first.heldUntil)) {
			first = c
		}
	}
	if first != nil {
		if until.After(first.heldUntil) {
			v.extended(w, first, fmt.Sprintf("hold %s holds until %s the cut that was to happen at %s", hold, entry.At(until), entry.At(first.heldUntil)))
		}
		until = first.heldUntil
	}
	for _, c := range p.cuts {
		if v.undone(p, c) {
			c.heldUntil = until
		}
	}
}

// stands reports whether it is certain that a cut has been owed without a break since it was held.
func (v *verifier) stands(w who, p *person, c *Cut) bool {
	unsettled := slices.ContainsFunc(v.pending, func(x *roster) bool { return x.issuer == w.issuer && len(x.facts[w.subject]) > 0 })
	return !unsettled && c.Roster == nil && c.Kind != "lease" && !p.over(c, seconds(v.now)) && !p.at(seconds(v.now)).access
}

// overdue is told that a cut of the person was held until now by the limit of cuts.
func (v *verifier) overdue(w who, p *person) {
	for _, c := range p.cuts {
		if v.denied || c.heldUntil.IsZero() || !v.undone(p, c) || !v.stands(w, p, c) || v.ran(later(c.heldUntil, v.steady)) <= v.slack() {
			continue
		}
		v.extended(w, c, fmt.Sprintf("the cut was to happen at %s, and is held still", entry.At(c.heldUntil)))
	}
}

func (v *verifier) extended(w who, c *Cut, detail string) {
	if c.overheld {
		return
	}
	c.overheld = true
	i := v.index
	v.find(Finding{Code: HoldExtended, Entry: &i, Issuer: w.issuer, Subject: w.subject, Gen: c.generation, Seq: c.Seq, Detail: detail})
}

// excuses are the codes of holds and alarms that say why a cut is not done. Others, such as a hold on what
// is to be given, do not.
var excuses = map[string]bool{"protected": true, "not-owned": true, "ambiguous-mark": true, cutLimit: true,
	"cut-failing": true, "cut-held": true}

func (v *verifier) held(h *entry.Held) {
	v.report.Counts.Held[h.Code]++
	o := v.holds[h.Hold]
	if o == nil {
		o = &openHold{code: h.Code, until: v.now.Add(limitHold)}
		if h.Until != nil && h.Until.Before(o.until) {
			o.until = h.Until.Time
		}
		v.holds[h.Hold] = o
	}
	for _, s := range h.Subjects {
		w := who{s.Issuer, s.Subject}
		o.subjects = append(o.subjects, w)
		if p := v.person(w); excuses[h.Code] {
			p.holds = append(p.holds, o)
			if h.Code == cutLimit {
				v.waits(w, p, h.Hold, o.until)
			}
		}
	}
}

func (v *verifier) released(r *entry.Released) {
	o := v.holds[r.Hold]
	if o == nil {
		v.findf(HoldUnknown, "hold %s is ended (%s) and was never recorded, or was ended before", r.Hold, r.Action)
		return
	}
	delete(v.holds, r.Hold)
	discarded := excuses[o.code] && r.Action == entry.ReleasedDiscard && !(o.code == cutLimit && v.alone(r))
	for _, w := range o.subjects {
		p := v.person(w)
		if o.code == cutLimit && slices.Contains(p.holds, o) {
			v.overdue(w, p)
		}
		p.holds = slices.DeleteFunc(p.holds, func(x *openHold) bool { return x == o })
		if discarded {
			p.discarded = v.now.Add(discardTime)
			for _, c := range p.cuts {
				c.heldUntil = time.Time{} // what comes of it after all waits anew
			}
		}
	}
	if discarded {
		v.discards[r.Hold] = o
	}
	if r.Action == entry.ReleasedDiscard || r.Action == entry.ReleasedRelease {
		v.report.Rulings = append(v.report.Rulings, Ruling{Entry: v.index, Time: entry.At(v.now), Hold: r.Hold, Code: o.code, Action: r.Action, By: r.By, Subjects: len(o.subjects), Reason: r.Reason})
	}
}

// discardTime is how long a discard of cuts says why they are not done: the week that it may last, and an hour in which what it
// kept is done after all.
const discardTime = 7*24*time.Hour + time.Hour

// alone reports whether cuts were discarded by fewer than two operators, which is a finding, and no reason.
func (v *verifier) alone(r *entry.Released) bool {
	by := slices.Compact(slices.Sorted(slices.Values(r.By)))
	if len(by) >= 2 {
		return false
	}
	v.findf(DiscardAlone, "hold %s, which keeps cuts, is discarded by %d of the two operators that it takes", r.Hold, len(by))
	return true
}

func (v *verifier) alarm(a *entry.Alarm) {
	k, w := [2]string{a.Code, a.Key}, who{a.Issuer, a.Subject}
	raised := a.State == entry.AlarmRaised
	was := len(v.alarms[k]) > 0
	if raised {
		v.report.Counts.Alarms[a.Code]++
		if !slices.Contains(v.alarms[k], w) {
			v.alarms[k] = append(v.alarms[k], w)
			v.excused(a.Code, w, 1)
		}
	} else {
		v.alarms[k] = slices.DeleteFunc(v.alarms[k], func(x who) bool {
			ends := a.Subject == "" || x == w // of whom, where the end says so
			if ends {
				v.excused(a.Code, x, -1)
			}
			return ends
		})
		if len(v.alarms[k]) == 0 {
			delete(v.alarms, k)
		}
	}
	if was == (len(v.alarms[k]) > 0) {
		return
	}
	switch {
	case a.Code == "stale":
		if raised {
			v.stale[a.Key] = v.now
		} else {
			delete(v.stale, a.Key)
		}
	case a.Code == "disk-full" && !raised:
		v.resumed()
	case a.Code == "credential-denied" && a.Key == "cut":
		v.denied = raised
	case a.Code == "cut-discarded" && !raised && v.discards[a.Key] != nil: // its time is over: what it kept is due again
		for _, w := range v.discards[a.Key].subjects {
			v.person(w).discarded = time.Time{}
		}
		delete(v.discards, a.Key)
	}
}

// excused is told that so many more alarms of a code stand about a person. One about anybody else, by whatever key,
// excuses nothing: two issuers may have the same subject ids.
func (v *verifier) excused(code string, w who, more int) {
	if excuses[code] && w.issuer != "" && w.subject != "" {
		v.person(w).blocked += more
	}
}
