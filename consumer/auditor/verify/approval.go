package verify

import (
	"cmp"
	"slices"
	"time"

	"jmlbridge/internal/ledger/entry"
)

// approval is a second signer's word, as it was received in sequence.
type approval struct {
	stream     string
	generation int
	seq        uint64
	engagement int
	roles      []string
	expiry     int64
	source     source
	disowned   bool
}

// approves takes in an approval.
func (v *verifier) approves(r *entry.Received, m *message) {
	if m.approval == nil || r.Subject == "" {
		return
	}
	p := v.person(who{r.Issuer, r.Subject})
	p.approvals = append(p.approvals, approval{r.Stream, r.Generation, r.Seq, m.approval.Engagement, m.approval.Roles, m.approval.Expiry.Unix(), v.sourceOf(&r.Message), false})
}

// approvalAt finds a person's approval by its place.
func (p *person) approvalAt(at *entry.Position) *approval {
	for i := range p.approvals {
		if a := &p.approvals[i]; a.stream == at.Stream && a.generation == at.Generation && a.seq == at.Seq {
			return a
		}
	}
	return nil
}

// lastWord is the last approval of a role for an engagement in the stream of a: a, or one after it.
func (p *person) lastWord(a *approval, role string) *approval {
	last := a
	for i := range p.approvals {
		b := &p.approvals[i]
		if !b.disowned && b.stream == a.stream && b.engagement == a.engagement && slices.Contains(b.roles, role) &&
			cmp.Or(cmp.Compare(b.generation, last.generation), cmp.Compare(b.seq, last.seq)) > 0 {
			last = b
		}
	}
	return last
}

// approved holds the approvals that an intent names against those that came: each is of this person and engagement,
// not over, and the word of another key in another stream than the fact's.
func (v *verifier) approved(w who, p *person, i *entry.Intent) {
	if v.TilesOnly {
		return // until when they are good is in the archive
	}
	t := seconds(v.now)
	for n := range i.Approvals {
		at := &i.Approvals[n]
		a := p.approvalAt(at)
		switch {
		case a == nil || at.Issuer != w.issuer:
			v.findWho(ApprovalMissing, w, "it rests on approval %d of stream %s, which did not come in sequence or is of somebody else", at.Seq, at.Stream)
		case i.Cause.Position != nil && i.Cause.Position.Stream == a.stream:
			v.findWho(ApprovalMissing, w, "approval %d stands in the stream of the fact that it is to approve", at.Seq)
		case a.disowned:
			v.findWho(GiveDisowned, w, "it rests on approval %d of stream %s, whose word was disowned", at.Seq, at.Stream)
		case a.engagement != i.Engagement:
			v.findWho(ApprovalMissing, w, "approval %d is for engagement %d, and engagement %d is given", at.Seq, a.engagement, i.Engagement)
		case a.expiry <= t-int64(look/time.Second):
			v.findWho(ApprovalMissing, w, "approval %d was good until %s", at.Seq, time.Unix(a.expiry, 0).UTC().Format(time.RFC3339))
		case !slices.ContainsFunc(a.roles, func(role string) bool { return p.lastWord(a, role).expiry > t-int64(look/time.Second) }):
			v.findWho(ApprovalMissing, w, "approval %d was taken back by a later one of its stream, which is over", at.Seq)
		}
	}
}

// approvalEnded judges what is taken because an approval ended; ok is false where the cause is something else.
func (v *verifier) approvalEnded(w who, p *person, i *entry.Intent) (ok bool) {
	if i.Cause.Code != "approval-ended" {
		return false
	}
	if v.TilesOnly {
		return true
	}
	a := p.approvalAt(i.Cause.Position)
	switch {
	case a == nil || i.Cause.Position.Issuer != w.issuer:
		v.findWho(CauseMissing, w, "it names approval %d of stream %s, which did not come or is of somebody else", i.Cause.Position.Seq, i.Cause.Position.Stream)
	case a.expiry > seconds(v.now):
		v.findWho(CauseMismatch, w, "approval %d is good until %s", a.seq, time.Unix(a.expiry, 0).UTC().Format(time.RFC3339))
	case slices.ContainsFunc(i.Ops, func(op entry.Op) bool { return op.Op != "remove-member" }):
		v.findWho(CauseMismatch, w, "the end of an approval takes memberships and nothing else")
	}
	return true
}
