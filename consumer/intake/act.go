package intake

import (
	"fmt"
	"strconv"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/ruling"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// act folds what a recorded message says, as far as its verdict lets it, and puts it on the ledger. was is
// its row where it waited in the archive until now.
func (b *batch) act(it *item, s *stream, v admit.Verdict, was *state.Message, filled bool) error {
	code := string(v.Code)
	made, verdict, err := b.fold(it, v)
	if err != nil {
		return err
	}
	if v.Disposition == admit.Admitted {
		if err := b.heard(streamName{s.Issuer, s.Name}); err != nil {
			return err
		}
	}
	if verdict == fence.Bounded {
		code = string(admit.CodeFastForward)
	}
	// A waiting message that its gap lets in was recorded when it came; the entry of the one that filled
	// the gap, and the alarm's end, say the rest. Of one that was late, or overtaken, they do not.
	if was == nil || v.Disposition != admit.Admitted || code != "" || was.Code == admit.CodeNewerVersion || was.Code == admit.CodeCovered {
		index, err := b.received(it, s, v, code, filled)
		if err != nil {
			return err
		}
		if v.Disposition == admit.ContentRefused {
			if err := b.unreadable(it, s, code, index); err != nil {
				return err
			}
		}
		if verdict == fence.Bounded {
			a := state.AlarmOf(alarmJump, it.about())
			a.Severity, a.Last, a.Stream, a.Entry = state.Warning, b.now, s.Name, entry.Index(index)
			a.Text = fmt.Sprintf("message %d of stream %s raises the engagement of subject %s too far; it gives nothing. Ask the producer, and look for a stolen key", it.frame.Stream.Seq, s.Name, it.frame.Subject)
			if _, err := state.RaiseAlarm(b.tx, a); err != nil {
				return err
			}
		}
	}
	if v.Disposition == admit.RuledOut {
		here := it.came
		if was != nil {
			here = was.ReceivedAt
		}
		if err := ruling.GoesOn(b.tx, s.Stream, b.keys[it.kid], it.message(), here, b.now); err != nil {
			return err
		}
	}
	if made != nil && verdict == fence.Inert && v.Acts == admit.Fully {
		if err := b.superseded(it, made); err != nil {
			return err
		}
	}
	return b.streamwide(it, s, v)
}

// alarmJump says that someone's engagement was raised too far. It ends by itself, since what it is about is
// over when it stands.
const alarmJump = "engagement-jump"

// alarmContent says that a message in its place says something that we may not take. It ends by itself.
const alarmContent = "content-refused"

// alarmForgotten says that a producer that began to number anew took access of an engagement that a later one followed in
// its numbering of before: it does not know of that one, and whose access it takes goes on. It ends when that access does,
// or with the next word on the present engagement.
const alarmForgotten = "engagement-forgotten"

// forgotten raises that alarm where a fact calls for it.
func (b *batch) forgotten(k state.SubjectKey, f *fence.Fact, stream string) error {
	if !f.Kind.Cuts() {
		return nil
	}
	p, err := b.subject(k)
	if err != nil {
		return err
	}
	w := p.Doc.Desired(b.now)
	if f.Generation <= w.Generation || f.Engagement >= w.Engagement || w.Generation == 0 || !p.Doc.At(b.now).Access {
		return nil
	}
	a := state.AlarmOf(alarmForgotten, k)
	a.Severity, a.Last, a.Stream = state.Critical, b.now, stream
	// The same for every such message: those that are parked are told of whenever they are tried again.
	a.Text = fmt.Sprintf("stream %s takes access from subject %s for an engagement before %d, which was announced in generation %d: its producer has forgotten that one, as a restore from a backup does, and the access goes on. Ask HR, and cut by hand who left",
		stream, k.Subject, w.Engagement, w.Generation)
	_, err = state.RaiseAlarm(b.tx, a)
	return err
}

// unreadable raises that alarm. The chain goes on past such a message, so nothing else would tell that a
// leaver may have been in it.
func (b *batch) unreadable(it *item, s *stream, code string, index int64) error {
	a := state.Alarm{Code: alarmContent, Key: s.AlarmKey(), Severity: state.Warning, Last: b.now,
		Issuer: it.frame.Issuer, Stream: it.frame.Stream.ID, Subject: it.frame.Subject, Entry: entry.Index(index),
		Text: fmt.Sprintf("message %d of stream %s is in its place and what it says is refused (%s): have the producer's people say it again, rightly", it.frame.Stream.Seq, s.Name, code)}
	if it.frame.Kind.Cuts() || it.frame.Kind == "" {
		a.Severity = state.Critical
		if it.frame.Subject != "" {
			a.Key = it.about().AlarmKey()
		}
		a.Text += "; it may take access away, so ask whose, and cut by hand"
	}
	_, err := state.RaiseAlarm(b.tx, a)
	return err
}

// fold folds the fact that a message states about its subject; made is nil where it states none that may
// act.
func (b *batch) fold(it *item, v admit.Verdict) (made *fence.Fact, verdict fence.Verdict, err error) {
	f, ok := fact(it)
	if v.Acts == admit.Nothing || !ok {
		return nil, fence.Inert, nil
	}
	f.Sequenced = v.Acts == admit.Fully
	f.Generation, f.Seq = v.At.Generation, v.At.Seq
	k := it.about()
	if verdict, err = b.accept(k, f); err != nil {
		return nil, verdict, err
	}
	if err := b.forgotten(k, &f, it.frame.Stream.ID); err != nil {
		return nil, verdict, err
	}
	if f.Sequenced {
		err = b.named(k, f.Engagement, it.frame.IssuedAt.Time())
	}
	return &f, verdict, err
}

// named notes that an event in its place named a person: leases count from when it was issued. One of an engagement that
// another followed says nothing of whether that goes on.
func (b *batch) named(k state.SubjectKey, engagement int, issued time.Time) error {
	s, err := b.subject(k)
	if err != nil || engagement < s.Doc.Desired(b.now).Engagement {
		return err
	}
	b.renew(s, issued)
	if !s.Unnamed {
		return nil
	}
	s.Unnamed = false
	_, err = state.EndHolds(b.tx, k, false, b.now, string(plan.HoldUnnamed))
	return err
}

// accept folds one fact into a person's record and makes the person due where that changed it.
func (b *batch) accept(k state.SubjectKey, f fence.Fact) (fence.Verdict, error) {
	s, err := b.subject(k)
	if err != nil {
		return fence.Inert, err
	}
	doc, verdict := fence.Accept(s.Doc, f)
	if verdict == fence.Inert || !f.Sequenced && fence.Same(doc, s.Doc, b.sure(k.Issuer), b.now) {
		return verdict, nil
	}
	before := s.Doc.At(b.now)
	doc.Compact(b.sure(k.Issuer), b.now) // by which a good word ends what took access for want of one
	s.Doc, s.changed, s.FactAt = doc, true, b.now
	return verdict, s.Follow(b.tx, before, f, b.now)
}

// sure is up to when all is past for certain, of what an issuer says.
func (b *batch) sure(iss string) time.Time {
	var issued time.Time
	for _, s := range b.streams {
		if s.Issuer == iss && s.Issued.After(issued) {
			issued = s.Issued
		}
	}
	return fence.Sure(b.now, issued)
}

// fact is what a message states about its subject, without its place.
func fact(it *item) (f fence.Fact, ok bool) {
	if c := it.core; c != nil {
		return fence.Fact{Position: fence.Position{Engagement: c.Engagement}, Kind: c.Kind, Effective: c.Effective.Time()}, c.Subject != ""
	}
	if it.set == nil || it.set.Subject == "" {
		return f, false
	}
	f.Kind = it.set.Event.Kind()
	switch e := it.set.Event.(type) {
	case *schema.Joiner:
		f.Engagement, f.Person, f.Roles, f.Start, f.End = e.Engagement, e.Person, e.Roles, e.Start.Time(), timeOf(e.End)
	case *schema.Mover:
		f.Engagement, f.Person, f.Roles, f.Start, f.End = e.Engagement, e.Person, e.Roles, e.Start.Time(), timeOf(e.End)
		f.Effective = e.Effective.Time()
	case *schema.Leaver:
		f.Engagement, f.Effective, f.Urgent = e.Engagement, e.Effective.Time(), e.Urgent
	case *schema.Suspend:
		f.Engagement, f.Effective = e.Engagement, e.Effective.Time()
	case *schema.Resume:
		f.Engagement, f.Effective = e.Engagement, e.Effective.Time()
	default:
		return f, false
	}
	return f, true
}

func timeOf(i *schema.Instant) time.Time {
	if i == nil {
		return time.Time{}
	}
	return i.Time()
}

// streamwide handles what messages say that is not about one person.
func (b *batch) streamwide(it *item, s *stream, v admit.Verdict) error {
	if it.set == nil || v.Acts == admit.Nothing {
		return nil
	}
	switch e := it.set.Event.(type) {
	case *schema.Approval:
		if v.Acts == admit.Fully {
			return b.approve(it, e, v)
		}
	case *schema.Heartbeat:
		return b.heartbeat(it, e, s, v)
	case *schema.Roster:
		if v.Disposition == admit.Admitted || v.Disposition == admit.Ahead {
			return b.collect(it, e, s, v)
		}
	}
	return nil
}

// approve folds a second signer's word. It gives nothing by itself, and says nothing of whether the person is here:
// no lease is renewed by it.
func (b *batch) approve(it *item, e *schema.Approval, v admit.Verdict) error {
	s, err := b.subject(it.about())
	if err != nil {
		return err
	}
	for _, role := range e.Roles {
		doc, changed := fence.Approve(s.Doc, fence.Approval{Stream: it.frame.Stream.ID, Generation: v.At.Generation, Seq: v.At.Seq, Engagement: e.Engagement, Role: role, Expiry: e.Expiry.Time()})
		if !changed {
			continue
		}
		s.Doc, s.changed, s.FactAt = doc, true, b.now
		if len(doc.Wants) > 0 {
			s.Raise(plan.Give, b.now, false)
		}
	}
	return nil
}

// heartbeat notes freshness and lets the cuts that it repeats act where the messages themselves did not
// come: withholding a leaver then needs every later heartbeat withheld as well.
func (b *batch) heartbeat(it *item, e *schema.Heartbeat, s *stream, v admit.Verdict) error {
	if v.Disposition == admit.Admitted || v.Disposition == admit.Ahead {
		// By what it states and not by when it came: a queue that delays everything is stale too. A clock
		// ahead of ours must not make it last longer.
		iat := it.set.IssuedAt.Time()
		if iat.After(b.now) {
			iat = b.now
		}
		if iat.After(s.HeartbeatIAT) {
			s.HeartbeatIAT, s.HeartbeatAt, s.touched = iat, b.now, true
		}
	}
	key := b.keys[it.kid]
	for _, c := range e.Cuts {
		// Where a roster stands in for it, it may never have come, and the roster may not be applied yet. Of another branch
		// than ours, which may show only behind a gap, what we have at its place is another message.
		known := v.Disposition == admit.Admitted && c.Seq >= s.Joined && c.Seq <= s.Head && c.Seq > s.Covered
		if known { // and it acted, unless what it says was refused
			unreadable, err := state.Unreadable(b.tx, s.Ref, c.Seq)
			if err != nil {
				return err
			}
			known = !unreadable
		}
		if known || c.Seq >= it.frame.Stream.Seq || !c.Kind.Cuts() || key == nil || !key.May(c.Kind) {
			continue
		}
		at := fence.Position{Engagement: c.Engagement, Generation: v.At.Generation, Seq: min(c.Seq, v.At.Seq)}
		_, err := b.accept(state.SubjectKey{Issuer: it.frame.Issuer, Subject: c.Subject}, fence.Fact{Position: at, Kind: c.Kind, Effective: c.Effective.Time()})
		if err != nil {
			return err
		}
	}
	return nil
}

// superseded records a statement that a later one had made void before it came.
func (b *batch) superseded(it *item, f *fence.Fact) error {
	s, err := b.subject(it.about())
	if err != nil {
		return err
	}
	by := s.Doc.DesiredFence
	if c := s.Doc.Confirmed; c.Compare(by) > 0 {
		by = c
	}
	x := &entry.Superseded{Who: entry.Who{Issuer: it.frame.Issuer, Subject: it.frame.Subject, Engagement: f.Engagement}, Fence: entry.FenceDesired, Position: place(it)}
	x.By = entry.Cause{Type: entry.CauseMessage, Position: &entry.Position{Issuer: it.frame.Issuer, Stream: it.frame.Stream.ID, Generation: by.Generation, Seq: max(by.Seq, 1)}}
	_, err = b.record(x)
	return err
}

// place is where a message stands, in the ledger's form.
func place(it *item) *entry.Position {
	p := it.frame.Stream
	return &entry.Position{Issuer: it.frame.Issuer, Stream: p.ID, Generation: p.Generation, Seq: p.Seq}
}

// received puts a recorded message on the ledger.
func (b *batch) received(it *item, s *stream, v admit.Verdict, code string, filled bool) (int64, error) {
	f := &it.frame
	r := &entry.Received{Disposition: disposition(it, v, filled), Code: code}
	r.Message = entry.Message{Position: *place(it), Prev: f.Stream.Prev, Subject: f.Subject, ID: f.ID,
		Payload: it.opened.PayloadDigest, Wire: it.wire, Key: it.kid, Recipient: it.opened.Recipient}
	if f.Kind != "" {
		r.Event = entry.ID(string(f.Kind) + ":v" + strconv.Itoa(f.Version))
	}
	if !f.IssuedAt.IsZero() {
		r.IssuedAt = &f.IssuedAt
	}
	if c := it.core; c != nil {
		r.Engagement, r.Effective = c.Engagement, &c.Effective
	}
	if it.set != nil {
		r.Txn, r.Occurred = entry.Text(it.set.Txn), it.set.Occurred
		switch e := it.set.Event.(type) {
		case *schema.Joiner:
			r.Engagement = e.Engagement
		case *schema.Mover:
			r.Engagement, r.Effective = e.Engagement, &e.Effective
		case *schema.Leaver:
			r.Engagement, r.Effective = e.Engagement, &e.Effective
		case *schema.Suspend:
			r.Engagement, r.Effective = e.Engagement, &e.Effective
		case *schema.Resume:
			r.Engagement, r.Effective = e.Engagement, &e.Effective
		case *schema.Approval:
			r.Engagement = e.Engagement
		case *schema.Heartbeat:
			n := len(e.Cuts)
			r.Cuts = &n
		case *schema.Roster:
			r.Roster = &entry.Roster{ID: e.ID, Part: e.Part, Parts: e.Parts, Digest: e.Digest, Generation: e.Head.Generation,
				Seq: e.Head.Seq, Hash: e.Head.Hash, Live: len(e.Live), Closed: len(e.Closed)}
		}
	}
	r.Stale = b.StaleAfter > 0 && b.now.Sub(s.HeartbeatIAT) > b.StaleAfter
	return b.record(r)
}

// disposition is the verdict in the ledger's words.
func disposition(it *item, v admit.Verdict, filled bool) string {
	switch v.Disposition {
	case admit.Admitted:
		if filled {
			return entry.DispositionFilled
		}
		return entry.DispositionAdmitted
	case admit.ContentRefused:
		return entry.DispositionRefused
	case admit.Ahead:
		return entry.DispositionGap
	case admit.Late:
		return entry.DispositionFilled
	case admit.Forked, admit.RuledOut:
		return entry.DispositionFork
	case admit.Duplicate:
		return entry.DispositionDuplicate
	case admit.Behind:
		if v.Code == admit.CodeOldGeneration {
			return entry.DispositionGeneration
		}
	case admit.Parked:
		if it.core != nil {
			return entry.DispositionCutCore
		}
	}
	return entry.DispositionHeld
}
