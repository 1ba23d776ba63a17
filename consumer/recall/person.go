package recall

import (
	"cmp"
	"slices"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// word is one statement about a person, as the ledger tells of it.
type word struct {
	kind      schema.Kind
	at        fence.Position
	effective time.Time
	suspended bool // of a roster
	sequenced bool // it may give
	bounded   bool // it raised the engagement too far
	disowned  bool // by an operator: it gives nothing

	// The message that it came in, and the key that signed it. No key: an earlier recovery had it on the ledger.
	key, stream string
	from        admit.Point
}

// after reports whether it came in a message past the place.
func (w *word) after(p admit.Point) bool {
	return w.from.Generation > p.Generation || w.from.Generation == p.Generation && w.from.Seq > p.Seq
}

// same reports whether two statements of rosters differ in their place alone.
func (w *word) same(o *word) bool {
	return w.kind == schema.KindRoster && o.kind == w.kind && o.at.Engagement == w.at.Engagement && o.suspended == w.suspended && o.disowned == w.disowned && o.key == w.key
}

// person is what the ledger says of one: the statements themselves, so that it is judged by those that count in the end,
// and what is known of the account.
type person struct {
	words  []word
	lock   *fence.Lock // by an operator; nil: none
	denied *fence.Lock // an operator took back what a disowned word had given, and no good word came since; nil: not so

	given   int // the latest engagement that something was given for; 0: none
	account string
	cut     time.Time // the disable that stands; zero: the account may be open
	blocked time.Time // since when it stands beside one that was not the bridge's; zero: it does not
	doubt   time.Time // since when a disable of ours may have taken effect without an answer; zero: there is no doubt
	revoked time.Time
	deleted bool
}

// closed reports whether the account was disabled by us, and is there.
func (p *person) closed() bool { return p.account != "" && !p.cut.IsZero() && !p.deleted }

// known is what the executor is to know of the account.
func (p *person) known() plan.Known {
	return plan.Known{ID: p.account, DisabledAt: p.cut, RevokedAt: p.revoked, BlockedAt: p.blocked, DisablingAt: p.doubt}
}

// observed takes in how the account was seen to be.
func (p *person) observed(a *entry.Account, at time.Time) {
	switch a.State {
	case entry.StateGone, entry.StateDeleted:
		p.account = cmp.Or(a.Account, p.account)
		if a.State == entry.StateGone && a.Code == "" && p.cut.IsZero() {
			return // not by us, and it may have come back open since: it is looked for
		}
		p.deleted = p.deleted || a.Code != entry.CodeSeen // else there was none to be seen
	case entry.StateEnabled: // when the tenant was looked through
		p.account = cmp.Or(a.Account, p.account)
		p.cut, p.doubt, p.revoked, p.deleted = time.Time{}, time.Time{}, time.Time{}, false
	case entry.StateDisabled:
		p.account = cmp.Or(a.Account, p.account)
		if a.Code == entry.CodeSeen {
			return // by whomever: all others are by us
		}
		if a.Since != nil {
			at = a.Since.Time
		}
		if p.cut.IsZero() {
			p.cut = at
		}
		if a.Code == ActionRecall {
			p.revoked = at
		}
	}
}

// add keeps a statement that may matter once more.
func (p *person) add(w word) {
	switch w.kind {
	case schema.KindLeaver, schema.KindSuspend:
	case schema.KindJoiner, schema.KindMover, schema.KindResume, schema.KindRoster:
		if !w.sequenced || w.bounded {
			return // it gave nothing
		}
		p.denied = nil
	default:
		return
	}
	for i := range p.words {
		if o := &p.words[i]; o.kind == w.kind && o.at == w.at && !o.disowned && o.effective.Equal(w.effective) {
			return // heartbeats repeat it for a day
		}
	}
	if n := len(p.words); n > 1 && w.same(&p.words[n-1]) && w.same(&p.words[n-2]) {
		p.words[n-1] = w // of the rosters that say the same, the first and the last
		return
	}
	p.words = append(p.words, w)
}

// doc is what the statements that count come to, in the order in which they came, and without any wish: of whom they
// have as live it has the engagement alone. Suspensions of before untold are not in it: they may be over, and the next
// roster says whether they stand.
func (p *person) doc(untold fence.Position) fence.Subject {
	var doc fence.Subject
	for i := range p.words {
		w := &p.words[i]
		if w.disowned {
			continue
		}
		if e := w.at.Engagement; w.kind.Cuts() && !w.bounded && e > max(doc.StateFence.Engagement, doc.DesiredFence.Engagement) {
			doc.StateFence = fence.Position{Engagement: e} // a ledger before this one may have known of it
		}
		doc, _ = fence.Accept(doc, fence.Fact{Position: w.at, Kind: w.kind, Sequenced: w.sequenced, Effective: w.effective, Suspended: w.suspended})
	}
	doc.Suspensions = slices.DeleteFunc(doc.Suspensions, func(s fence.Suspension) bool {
		return cmp.Or(cmp.Compare(s.Generation, untold.Generation), cmp.Compare(s.Seq, untold.Seq)) < 0
	})
	doc.Lock = p.lock
	if open := slices.IndexFunc(doc.Suspensions, func(s fence.Suspension) bool { return s.Until.IsZero() }); open >= 0 && len(doc.Wants) == 0 {
		// What there is to suspend: its word is not on this ledger.
		doc.Wants = []fence.Want{{Position: fence.Position{Engagement: doc.Suspensions[open].Engagement}}}
	}
	return doc
}

// wasSuspended reports whether a suspension was spoken of.
func (p *person) wasSuspended() bool {
	return slices.ContainsFunc(p.words, func(w word) bool { return w.kind == schema.KindSuspend || w.kind == schema.KindResume || w.suspended })
}

// judge is what is to be known of the person again, without anything that could give; out says that there is no access
// by what counts, and why. partly says that not all was read of what rosters state, and untold up to where one that was
// applied may have ended a suspension.
func (p *person) judge(now time.Time, partly bool, untold fence.Position) (doc fence.Subject, why fence.Why, out bool) {
	doc = p.doc(untold)
	v := doc.At(now)
	why = v.Why
	switch why {
	case fence.WhyLeft:
		out = !partly || p.given <= v.Cause.Engagement // else a roster whose content is not at hand had them as live again
	case fence.WhySuspended, fence.WhyLocked:
		out = true
	case fence.WhyUnknown:
		if out = p.denied != nil; out {
			why = fence.WhyDisowned
		}
	}
	doc.Suspensions = slices.DeleteFunc(doc.Suspensions, func(s fence.Suspension) bool {
		return s.Engagement < v.Want.Engagement || !s.Until.IsZero() && !s.Until.After(now)
	})
	doc.Wants, doc.DesiredFence, doc.Ceilings = nil, fence.Position{}, nil
	n := 0
	if i := len(doc.Suspensions); i > 0 {
		n = doc.Suspensions[i-1].Engagement
	} else if !v.Closed && len(doc.Closings) > 0 {
		n = v.Want.Engagement // whoever left came back: no word on them is to bring the old leaver's cut
	}
	if n > 0 {
		// What there is to suspend, or is not closed: nothing of it is given, for the stream has no roster yet, and that says it anew.
		doc.Wants = []fence.Want{{Position: fence.Position{Engagement: n}}}
	}
	return doc, why, out
}
