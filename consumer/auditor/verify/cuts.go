package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// CutState says what became of a cut.
type CutState string

// States of a Cut.
const (
	CutOpen      CutState = "open"      // not due yet, or the account is still open
	CutDone      CutState = "done"      // the account was disabled
	CutAlready   CutState = "already"   // it was disabled before
	CutGone      CutState = "gone"      // it does not exist any more
	CutNone      CutState = "none"      // there was no account
	CutUnknown   CutState = "unknown"   // an earlier ledger may know of an account, and this one says nothing of it; or see Cut.Roster
	CutOvertaken CutState = "overtaken" // access came back, or the date was moved, before it was due or done
	CutUnderWay  CutState = "under-way" // due, and younger than the grace
	CutHeld      CutState = "held"      // a hold or alarm stands that says why not
	CutDiscarded CutState = "discarded" // operators let it not happen
	CutNever     CutState = "missing"   // a finding
)

// Cut is one statement that took all access from a person, and how long it took to be so.
type Cut struct {
	Issuer     string        `json:"iss"`
	Subject    string        `json:"sub"`
	Engagement int           `json:"engagement,omitempty"`
	Kind       string        `json:"kind"`  // leaver, suspend, end, lease or lock
	Entry      int64         `json:"entry"` // where it was received
	Seq        uint64        `json:"seq,omitempty"`
	True       entry.Moment  `json:"true"`     // when it became true: toe or iat, or effective if that is later
	Received   entry.Moment  `json:"received"` //
	Due        entry.Moment  `json:"due"`      // received, or effective if that is later
	Disabled   *entry.Moment `json:"disabled,omitempty"`
	Revoked    *entry.Moment `json:"revoked,omitempty"`
	State      CutState      `json:"state"`
	Recalled   bool          `json:"recalled,omitempty"` // it stood on an earlier ledger; Received is when this one began with it
	// Roster is the entry with which a roster became whole that may say that the cut is over, and whose statements are not at hand.
	Roster *int64 `json:"roster,omitempty"`

	generation int
	heldUntil  time.Time // when it was to happen, as it was first held by the limit of cuts; zero: it was not
	recorded   time.Time // of the entry by which it was disabled
	overheld   bool      // it was held for longer: said once
}

// cutBy notes that a fact takes all access away.
func (v *verifier) cutBy(w who, p *person, f fact, issued schema.Instant, occurred *schema.Instant) {
	if f.kind != leaver && f.kind != suspend {
		return
	}
	begins := max(f.from, seconds(v.now))
	until, ends := int64(0), false
	if s := p.at(begins); s.want != nil && s.want.engagement > f.engagement {
		if s.why != notStarted {
			return // of an engagement that is over anyway
		}
		until, ends = s.want.start, true
	}
	if f.kind == suspend {
		over, ok := p.ends(&f)
		if ok && over <= begins {
			return // it was over before it began, or before it was heard, as where a heartbeat repeats what a lost ledger had
		}
		if ok && (!ends || over < until) {
			until, ends = over, true
		}
	}
	stated := issued.Time()
	if occurred != nil {
		stated = occurred.Time()
	}
	effective := time.Unix(f.from, 0).UTC()
	kind := "leaver"
	if f.kind == suspend {
		kind = "suspend"
	}
	c := &Cut{Issuer: w.issuer, Subject: w.subject, Engagement: f.engagement, Kind: kind, Seq: f.seq, Recalled: f.recalled, generation: f.generation,
		True: entry.At(later(stated, effective)), Due: entry.At(later(v.now, effective))}
	if f.kind == leaver { // what was stated as the end is not waited for
		overtake(p, func(o *Cut) bool { return o.Kind == "end" && o.Engagement <= f.engagement && o.Due.Unix() > begins })
	}
	v.cut(p, c)
	if ends {
		v.endsOn(until, w, c)
	}
}

// cutByLock notes an operator's cut; first is who acted on an earlier ledger, nil where it was on this one.
func (v *verifier) cutByLock(w who, p *person, first *entry.First) {
	c := &Cut{Issuer: w.issuer, Subject: w.subject, Kind: "lock", True: entry.At(v.now), Due: entry.At(v.now)}
	if first != nil {
		c.True, c.Recalled, p.recalled = first.At, true, true
	}
	v.cut(p, c)
}

// lapsedOf lists the people of an issuer whose access ended by a lease, by subject.
func (v *verifier) lapsedOf(issuer string) (list []who) {
	for w, p := range v.persons {
		if w.issuer == issuer && p.lapsed {
			list = append(list, w)
		}
	}
	slices.SortFunc(list, func(a, b who) int { return cmp.Compare(a.subject, b.subject) })
	return list
}

// named is told that something in its place named a person: what lapsed before is over.
func (v *verifier) named(w who, p *person) {
	if !p.lapsed {
		return
	}
	s := p.at(seconds(v.now))
	v.back(w, p, func(c *Cut) bool {
		if c.Kind == "lease" && s.why == notStarted && s.want.engagement > c.Engagement {
			return false // beforeFact has it
		}
		return c.Kind == "lease"
	})
	p.lapsed, p.changed = false, seconds(v.now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (v *verifier) cut(p *person, c *Cut) {
	c.Entry, c.Received, c.State = v.index, entry.At(v.now), CutOpen
	if u, ok := v.unseen[c.Issuer]; ok && c.generation > 0 && u.mayEnd(c) {
		c.Roster = &u.entry
	}
	p.discarded = time.Time{}
	v.report.Cuts = append(v.report.Cuts, c)
	switch due := !c.Due.After(v.now); {
	case !p.account && p.intent < 0:
		if c.State = v.without(p); c.State == CutUnknown && !due {
			c.State = CutOpen
		}
	case p.account && !p.enabled && due:
		c.State = CutAlready
	}
	p.cuts = append(p.cuts, c)
}

// without is what a cut comes to while this ledger tells of no account. One that follows a lost ledger does not know what was made
// under that one, unless the tenant was looked through, or the account is known to be gone. Of those whom it
// recalls it names each who had none.
func (v *verifier) without(p *person) CutState {
	switch {
	case p.gone:
		return CutGone
	case v.report.Ledger.Previous == nil, v.surveyed && !p.recalled:
		return CutNone
	}
	return CutUnknown
}

// took is told of a joiner or mover that came into sequence: a stated end is a cut to come.
func (v *verifier) took(w who, p *person, f fact) {
	if f.kind != joiner && f.kind != mover || !f.sequenced {
		return
	}
	v.back(w, p, func(c *Cut) bool { return c.Kind == "end" && c.Engagement >= f.engagement }) // beforeFact has the others
	if f.end == 0 {
		return
	}
	end := time.Unix(f.end, 0).UTC()
	c := &Cut{Issuer: w.issuer, Subject: w.subject, Engagement: f.engagement, Kind: "end", Seq: f.seq, generation: f.generation,
		True: entry.At(end), Due: entry.At(later(v.now, end))}
	v.cut(p, c)
	if c.State == CutNone || c.State == CutGone { // the account is about to be made
		c.State = CutOpen
	}
}

// beforeFact settles what a fact that gives access back leaves undone, before it counts.
func (v *verifier) beforeFact(w who, p *person, f fact) {
	switch {
	case !f.sequenced:
	case f.kind == resume:
		ended := func(c *Cut) bool {
			return c.Kind == "suspend" && c.Engagement == f.engagement && (c.generation < f.generation || c.generation == f.generation && c.Seq < f.seq)
		}
		if f.from <= seconds(v.now) {
			v.back(w, p, ended)
			return
		}
		for _, c := range p.cuts {
			if ended(c) {
				v.endsOn(f.from, w, c)
			}
		}
	case f.kind == joiner, f.kind == mover && f.from <= seconds(v.now):
		before := func(c *Cut) bool { return c.Kind != "lock" && c.Engagement < f.engagement }
		if f.start <= seconds(v.now) {
			v.back(w, p, before)
			return
		}
		for _, c := range p.cuts {
			if before(c) {
				v.endsOn(f.start, w, c)
			}
		}
	}
}

// ending is a suspension that is over from a date on, or a cut of an engagement after which the next begins on one. Until
// then it is to be carried out.
type ending struct {
	who
	on  int64
	cut *Cut
}

func (v *verifier) endsOn(on int64, w who, c *Cut) {
	i, _ := slices.BinarySearchFunc(v.endings, on+1, func(e ending, t int64) int { return cmp.Compare(e.on, t) })
	v.endings = slices.Insert(v.endings, i, ending{w, on, c})
}

// ended settles what the cuts that are over by now leave undone, as of the date of each. It comes before the entry at hand,
// which may end the hold that says why.
func (v *verifier) ended() {
	now := v.now
	for len(v.endings) > 0 && v.endings[0].on <= seconds(now) {
		e := v.endings[0]
		v.endings = v.endings[1:]
		p := v.person(e.who)
		if !slices.Contains(p.cuts, e.cut) {
			continue
		}
		switch s := p.at(e.on); {
		case s.why == notStarted && s.want.engagement > e.cut.Engagement: // put off since
			v.endsOn(s.want.start, e.who, e.cut)
		case p.over(e.cut, e.on): // else an operator disowned what was to end it
			v.now = time.Unix(e.on, 0).UTC()
			v.back(e.who, p, func(c *Cut) bool { return c == e.cut })
		}
	}
	v.now = now
}

// over reports whether at t a cut is nothing to be carried out any more.
func (p *person) over(c *Cut, t int64) bool {
	if s := p.at(t); s.want != nil && s.want.engagement > c.Engagement {
		return true
	}
	for i := range p.facts {
		if f := &p.facts[i]; f.kind == suspend && f.engagement == c.Engagement && f.generation == c.generation && f.seq == c.Seq {
			until, ok := p.ends(f)
			return ok && until <= t
		}
	}
	return false
}

// back ends the cuts that match, since access comes back. One that should long have been done is a finding.
func (v *verifier) back(w who, p *person, match func(*Cut) bool) {
	for _, c := range p.cuts {
		if !match(c) {
			continue
		}
		if v.unrevoked(p, c) && c.Roster == nil {
			v.missedRevoke(w, c)
		}
		if !v.undone(p, c) || v.excuse(p, c) != "" || !v.owed(c.Due.Time) {
			continue
		}
		if c.Roster != nil {
			c.State = CutUnknown
		} else {
			v.missed(w, c)
		}
	}
	overtake(p, match)
}

// owed reports whether what was to be done since a time should have been done: the enclave ran for longer than that takes.
func (v *verifier) owed(since time.Time) bool {
	return v.now.Sub(since) > v.Grace && v.ran(since) > v.Grace
}

func overtake(p *person, match func(*Cut) bool) {
	p.cuts = slices.DeleteFunc(p.cuts, func(c *Cut) bool {
		if !match(c) {
			return false
		}
		if c.State == CutOpen || c.State == CutUnknown && c.Roster == nil {
			c.State = CutOvertaken
		}
		return true
	})
}

// undone reports whether a cut is due and the account open.
func (v *verifier) undone(p *person, c *Cut) bool {
	return c.State == CutOpen && p.account && p.enabled && !c.Due.After(v.now)
}

// unrevoked reports whether an account was disabled by a cut, and its sessions should have been revoked since.
func (v *verifier) unrevoked(p *person, c *Cut) bool {
	return c.State == CutDone && c.Revoked == nil && p.account && v.excuse(p, c) == "" && v.owed(c.recorded)
}

func (v *verifier) missedRevoke(w who, c *Cut) {
	i := c.Entry
	v.find(Finding{Code: RevokeMissing, Entry: &i, Issuer: w.issuer, Subject: w.subject, Gen: c.generation, Seq: c.Seq,
		Detail: fmt.Sprintf("disabled at %s, and its sessions were never revoked", c.Disabled)})
}

func (v *verifier) missed(w who, c *Cut) {
	c.State = CutNever
	i := c.Entry
	v.find(Finding{Code: CutMissing, Entry: &i, Issuer: w.issuer, Subject: w.subject, Gen: c.generation, Seq: c.Seq,
		Detail: fmt.Sprintf("access ended by %s at %s and the account was not disabled; no hold or alarm says why", c.Kind, c.Due)})
}

// excuse is why a due cut is not a finding.
func (v *verifier) excuse(p *person, c *Cut) CutState {
	switch {
	case v.now.Before(p.discarded):
		return CutDiscarded
	case p.blocked > 0 || slices.ContainsFunc(p.holds, func(o *openHold) bool { return v.blocks(o, c) }) || v.denied:
		return CutHeld
	}
	return ""
}

// opened is told that an account is open from now on, by us or by somebody who was not seen: cuts that had nothing to do have
// it now, but for those that may be over.
func (v *verifier) opened(p *person, at time.Time, byUs bool) {
	p.cuts = slices.DeleteFunc(p.cuts, func(c *Cut) bool {
		if c.Roster != nil && c.State != CutOpen && !byUs {
			c.State = CutUnknown
		}
		return c.Roster != nil && c.State != CutOpen
	})
	for _, c := range p.cuts {
		switch c.State {
		case CutNone, CutUnknown, CutGone, CutAlready, CutDone:
			c.State, c.Disabled, c.Revoked, c.heldUntil = CutOpen, nil, nil, time.Time{}
			c.Due = entry.At(later(c.Due.Time, at))
		}
	}
}

func (v *verifier) disabled(w who, p *person, at time.Time) {
	for _, c := range p.cuts {
		// None, unknown: nobody knew of an account, such as one whose create was interrupted by a crash.
		if c.State != CutOpen && c.State != CutNone && c.State != CutUnknown || c.Due.After(at.Add(time.Second)) {
			continue
		}
		if c.Roster != nil && at.Sub(c.Due.Time) > v.Grace { // perhaps for something else
			c.State = CutUnknown
			continue
		}
		c.State, c.Disabled, c.recorded = CutDone, entry.MomentAt(at), v.now
		if late := at.Sub(c.Due.Time); v.CutLimit > 0 && late > v.CutLimit {
			i := v.index
			v.find(Finding{Code: CutLate, Entry: &i, Issuer: w.issuer, Subject: w.subject, Gen: c.generation, Seq: c.Seq,
				Detail: fmt.Sprintf("disabled %v after it was due; the limit is %v", late.Round(time.Millisecond), v.CutLimit)})
		}
	}
}

func (v *verifier) revoked(p *person, at time.Time) {
	for _, c := range p.cuts {
		if c.State == CutDone && c.Revoked == nil {
			c.Revoked = entry.MomentAt(at)
		}
	}
}

// end judges what is open when the ledger ends, and finishes the report.
func (v *verifier) end(ctx context.Context) error {
	r := v.report
	for i, o := range v.open {
		if !v.owed(o.at) || v.waitsForWord(o) {
			r.Open.Intents++
			continue
		}
		v.find(Finding{Code: IntentUnanswered, Entry: &i, Issuer: o.issuer, Subject: o.subject, Detail: "it has no outcome"})
	}
	for w, p := range v.persons {
		v.endPerson(w, p)
	}
	for _, s := range v.streams {
		r.Streams = append(r.Streams, Stream{Issuer: s.issuer, Stream: s.stream, Audience: s.audience, Generation: s.generation, First: s.joined, Head: s.head,
			Hash: s.hash, Highest: s.highest, Messages: s.messages, Missing: s.missing(), Gaps: s.gaps, Forks: s.forks, Repeats: s.repeats, Closed: s.closed, Forked: s.forked})
	}
	v.endRosters()
	if v.archive == nil {
		return nil
	}
	unlisted, newer, err := v.archive.rest(ctx)
	if err != nil {
		return err
	}
	if v.now.Sub(v.unread.since) <= v.Grace && newer == 0 {
		r.Open.Unarchived = v.unread.n
	} else {
		v.flushMissing()
	}
	for _, m := range unlisted {
		v.find(Finding{Code: ArchiveUnlisted, Where: fmt.Sprintf("%s:%d", m.file, m.line), Detail: "no entry names this message, though entries name later ones"})
	}
	for _, m := range v.archive.broken {
		where := m.file
		if m.line > 0 {
			where = fmt.Sprintf("%s:%d", m.file, m.line)
		}
		v.find(Finding{Code: m.fault, Where: where, Detail: m.detail})
	}
	r.Open.Newer, r.Open.Torn = newer, v.archive.torn
	return nil
}

func (v *verifier) endPerson(w who, p *person) {
	if p.account {
		v.report.Checked.Accounts++
		if p.enabled {
			v.report.Checked.Enabled++
		}
	}
	access := p.at(seconds(v.now)).access && !p.lapsed
	found := false
	for _, c := range p.cuts {
		switch {
		case c.State == CutUnknown && access:
			c.State = CutOvertaken
		case c.State == CutOpen && !c.Due.After(v.now):
			switch why := v.excuse(p, c); {
			case access:
				c.State = CutOvertaken
			case !p.account:
				c.State = v.without(p)
			case !p.enabled:
				c.State = CutAlready
			case why != "":
				c.State = why
			case !v.owed(c.Due.Time):
				c.State = CutUnderWay
			case c.Roster != nil:
				c.State = CutUnknown
			case !found:
				found = true
				v.missed(w, c)
			default:
				c.State = CutNever
			}
		case access || !v.unrevoked(p, c):
		case c.Roster != nil:
			c.State = CutUnknown
		case !found:
			found = true
			v.missedRevoke(w, c)
		}
	}
}
