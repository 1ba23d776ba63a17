package intake

import (
	"context"
	"fmt"
	"strings"
	"time"

	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/crash"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// A whole roster is applied in steps, a transaction each: what waited before its head is put aside, its parts
// are folded one after the other, and last those are looked for whom it does not name. Between two steps
// other messages are taken in, so that a leaver never waits for a roster; the fences make the order of the
// two indifferent. A crash leaves a step done or not, and a step that is done twice changes nothing.

// rosterStep is how many persons or messages one step deals with, where it does not follow the parts.
const rosterStep = 500

// stillParts is how many parts that say nothing new one step deals with: about as much work as folding one.
const stillParts = 4

// StepRoster takes the next step of the roster whose turn it is, on the caller's goroutine. more says that another
// step is to follow. Run does so by itself whenever nothing else is to be done; like Take it must not run beside that.
func (in *Intake) StepRoster(ctx context.Context) (more bool, err error) {
	err = in.DB.Update(ctx, func(tx *store.Tx) error {
		more = false
		r, err := state.RosterToApply(tx)
		if err != nil || r == nil {
			return err
		}
		b, err := in.begin(tx)
		if err != nil {
			return err
		}
		s, err := b.followed(r.StreamRef)
		if err != nil {
			return err
		}
		if err := b.step(r, s); err != nil {
			return fmt.Errorf("roster %s: %w", r.ID, err)
		}
		if err := state.SaveRoster(tx, r); err != nil {
			return err
		}
		more = true
		_, err = b.end()
		return err
	})
	if err != nil {
		return false, fmt.Errorf("apply a roster: %w", err)
	}
	in.rosters = more
	if more {
		crash.Point("roster-step")
		in.Committed()
	}
	return more, nil
}

// applyRosters applies whatever rosters are whole.
func (in *Intake) applyRosters(ctx context.Context) error {
	for {
		if more, err := in.StepRoster(ctx); err != nil || !more {
			return err
		}
	}
}

func (b *batch) followed(ref int64) (*stream, error) {
	for _, s := range b.streams {
		if s.Ref == ref {
			return s, nil
		}
	}
	return nil, fmt.Errorf("stream %d: %w", ref, state.ErrNotFound)
}

func (b *batch) step(r *state.Roster, s *stream) error {
	switch {
	case r.Overtaken < r.Head.Seq && r.Head.Generation == s.Generation:
		return b.overtake(r, s)
	case r.Done < r.Parts:
		return b.stated(r, s)
	}
	return b.unnamed(r, s)
}

// overtake puts aside what waited before the head: what it took away has acted, and the roster states what it
// came to.
func (b *batch) overtake(r *state.Roster, s *stream) error {
	list, err := state.Overtake(b.tx, s.Ref, r.Overtaken, r.Head.Seq, rosterStep, b.now)
	if err != nil {
		return err
	}
	by := entry.Cause{Type: entry.CauseMessage, Position: &entry.Position{Issuer: s.Issuer, Stream: s.Name, Generation: r.Head.Generation, Seq: r.Head.Seq}}
	for _, m := range list {
		if m.Subject == "" || m.Event.Cuts() {
			continue
		}
		_, err := b.record(&entry.Superseded{Who: entry.Who{Issuer: s.Issuer, Subject: m.Subject}, Fence: entry.FenceDesired, By: by, Code: "roster",
			Position: &entry.Position{Issuer: s.Issuer, Stream: s.Name, Generation: s.Generation, Seq: m.Seq}})
		if err != nil {
			return err
		}
	}
	if r.Overtaken = r.Head.Seq; len(list) == rosterStep {
		r.Overtaken = list[len(list)-1].Seq
	}
	return nil
}

// stated deals with the next part, or with a few that say nothing new: those are neither read nor folded.
func (b *batch) stated(r *state.Roster, s *stream) error {
	issued := until(r.Issued, b.now)
	for range stillParts {
		p, err := state.LoadPart(b.tx, r, r.Done+1)
		if err != nil {
			return err
		}
		still, err := state.Stated(b.tx, s.Issuer, p, r.Head, issued)
		if err != nil {
			return err
		}
		if !still {
			return b.news(r, s, issued)
		}
		if err := state.ConfirmPart(b.tx, s.Issuer, p, r.Head, issued); err != nil {
			return err
		}
		r.Named += p.Live
		if r.Done++; r.Done == r.Parts {
			return nil
		}
	}
	return nil
}

// news folds the statements of the next part, one by one.
func (b *batch) news(r *state.Roster, s *stream, issued time.Time) error {
	e, err := rosterPart(b.tx, r, r.Done+1)
	if err != nil {
		return err
	}
	if err := b.load(s.Issuer, e); err != nil {
		return err
	}
	for i := range e.Live {
		l := &e.Live[i]
		if err := b.fromRoster(state.SubjectKey{Issuer: s.Issuer, Subject: l.Subject}, live(l, r), r); err != nil {
			return err
		}
	}
	closed := map[string]int{} // to the last engagement that is closed
	for i := range e.Closed {
		c := &e.Closed[i]
		f := fence.Fact{Kind: schema.KindLeaver, Position: atHead(c.Engagement, r), Sequenced: true, Effective: c.Effective.Time()}
		if err := b.fromRoster(state.SubjectKey{Issuer: s.Issuer, Subject: c.Subject}, f, r); err != nil {
			return err
		}
		closed[c.Subject] = c.Engagement // they come in order
	}
	if _, err := b.end(); err != nil { // persons of whom it says anything new are there from here on
		return err
	}
	for i := range e.Live {
		l := &e.Live[i]
		k := state.SubjectKey{Issuer: s.Issuer, Subject: l.Subject}
		delete(closed, k.Subject)
		if b.subjects[k].Doc.Outgrown(l.Engagement, r.Head) {
			continue // it does not name who the person is by now
		}
		var word schema.Digest
		if b.subjects[k].Doc.Settled(live(l, r), issued) {
			word = l.Digest()
		}
		if err := state.Confirm(b.tx, k, word, r.Head, issued); err != nil {
			return err
		}
		if i == 0 || e.Live[i-1].Subject != k.Subject {
			r.Named++
		}
	}
	for subject, engagement := range closed {
		k := state.SubjectKey{Issuer: s.Issuer, Subject: subject}
		if b.subjects[k].Doc.Outgrown(engagement, r.Head) {
			continue
		}
		if err := state.Confirm(b.tx, k, schema.Digest{}, r.Head, issued); err != nil {
			return err
		}
		r.Named++
	}
	clear(b.subjects)
	r.Done++
	return nil
}

// live is the fact that a roster states of a live engagement.
func live(l *schema.LiveEngagement, r *state.Roster) fence.Fact {
	return fence.Fact{Kind: schema.KindRoster, Position: atHead(l.Engagement, r), Sequenced: true, Effective: l.Since.Time(), Suspended: l.State == schema.StateSuspended,
		Person: l.Person, Roles: l.Roles, Start: l.Start.Time(), End: timeOf(l.End)}
}

// atHead is where a roster's statements stand: at its head.
func atHead(engagement int, r *state.Roster) fence.Position {
	return fence.Position{Engagement: engagement, Generation: r.Head.Generation, Seq: r.Head.Seq}
}

// load reads the persons of a part in one query.
func (b *batch) load(iss string, e *schema.Roster) error {
	ids := make([]string, 0, len(e.Live)+len(e.Closed))
	for i := range e.Live {
		ids = append(ids, e.Live[i].Subject)
	}
	for i := range e.Closed {
		ids = append(ids, e.Closed[i].Subject)
	}
	return b.loadSubjects(iss, ids)
}

// fromRoster folds one statement, where it says anything that is not known.
func (b *batch) fromRoster(k state.SubjectKey, f fence.Fact, r *state.Roster) error {
	s, err := b.subject(k)
	if err != nil {
		return err
	}
	outgrown := s.Doc.Outgrown(f.Engagement, r.Head)
	if f.Kind == schema.KindRoster && !outgrown {
		b.renew(s, r.Issued)
	}
	if s.Unnamed && !outgrown { // it is named again
		s.Unnamed, s.changed, s.FactAt = false, true, b.now
		s.Raise(plan.Give, b.now, false)
		if _, err := state.EndHolds(b.tx, k, false, b.now, string(plan.HoldUnnamed)); err != nil {
			return err
		}
	}
	if f.Kind == schema.KindRoster && s.Doc.Says(f, b.sure(k.Issuer)) {
		return nil
	}
	known := f.Kind == schema.KindRoster && s.Doc.Says(f, b.now) // as long as our clock is not put back
	before := s.Doc.At(b.now)
	doc, verdict := fence.Accept(s.Doc, f)
	switch verdict {
	case fence.Bounded:
		if err := b.jump(k, f.Position, r); err != nil || !f.Kind.Cuts() {
			return err
		}
	case fence.Inert:
		return nil
	}
	if f.Kind == schema.KindLeaver && len(doc.Closings) == len(s.Doc.Closings) && doc.At(b.now).Closed == before.Closed && sameClosings(doc, s.Doc) {
		return nil // a leaver that came says so already
	}
	doc.Compact(b.sure(k.Issuer), b.now)
	s.Doc, s.changed, s.FactAt = doc, true, b.now
	if !known {
		r.Changed++
	}
	after := doc.At(b.now)
	if f.Kind == schema.KindRoster && after.Closed && after.Why == fence.WhyLeft && after.Want.Engagement == f.Engagement &&
		after.Cause.Compare(f.Position) <= 0 && (f.End.IsZero() || after.ClosedAt.Before(f.End)) { // no contradiction: a leaver that was said after the roster was taken, or the end that it states
		b.against(k, r)
	}
	return s.Follow(b.tx, before, f, b.now)
}

// shownAgainst is how many of whom a roster contradicts leavers an alarm names.
const shownAgainst = 8

// against notes that a roster has somebody as live whom a leaver ended: the alarm names the first, the log all.
func (b *batch) against(k state.SubjectKey, r *state.Roster) {
	if r.Against++; len(r.AgainstIDs) < shownAgainst {
		r.AgainstIDs = append(r.AgainstIDs, k.Subject)
	}
	roster := r.ID
	b.tx.After(func() {
		b.Log.Warn("roster contradicts a leaver", "subject", k.Subject, "issuer", k.Issuer, "roster", roster)
	})
}

func sameClosings(a, b fence.Subject) bool {
	for i := range a.Closings {
		if a.Closings[i] != b.Closings[i] {
			return false
		}
	}
	return true
}

// jump is raised for a statement whose engagement is out of reach.
func (b *batch) jump(k state.SubjectKey, p fence.Position, r *state.Roster) error {
	a := state.AlarmOf(alarmJump, k)
	a.Severity, a.Last = state.Warning, b.now
	a.Text = fmt.Sprintf("roster %s raises the engagement of subject %s to %d, too far; it gives nothing, and takes what is known. Ask the producer, and look for a stolen key", r.ID, k.Subject, p.Engagement)
	_, err := state.RaiseAlarm(b.tx, a)
	return err
}

// unnamed looks for people who have access and whom the roster does not name. Nothing is taken from them:
// absence is no fact. They are held: nothing more is given to them until they are named.
func (b *batch) unnamed(r *state.Roster, s *stream) error {
	list, err := state.NotStated(b.tx, s.Issuer, r.Cursor, r.Head, rosterStep)
	if err != nil {
		return err
	}
	for _, p := range list {
		r.Cursor = p.Subject
		v := p.Doc.At(b.now)
		at := admitPoint(v.Want.Position)
		if at.after(r.Head) || !v.Access && (v.Why != fence.WhyUnknown || len(p.Account) == 0) {
			continue // said since, or nobody who has access
		}
		r.Unnamed++
		if p.Unnamed {
			continue
		}
		if err := state.Leave(b.tx, p.SubjectKey); err != nil {
			return err
		}
		shown := state.ShowOne(p.SubjectKey, v.Cause.Engagement, string(plan.HoldUnnamed), []string{p.SubjectKey.Subject})
		h := &state.Hold{SubjectKey: p.SubjectKey, Code: string(plan.HoldUnnamed), Shown: shown, Created: b.now,
			Subjects: []entry.Who{{Issuer: p.Issuer, Subject: p.SubjectKey.Subject, Engagement: v.Want.Engagement}}}
		if _, err := state.OpenHold(b.tx, h); err != nil {
			return err
		}
	}
	if len(list) == rosterStep {
		return nil
	}
	return b.applied(r, s)
}

type point struct {
	generation int
	seq        uint64
}

func admitPoint(p fence.Position) point { return point{p.Generation, p.Seq} }

func (p point) after(h schema.RosterHead) bool {
	return p.generation > h.Generation || p.generation == h.Generation && p.seq > h.Seq
}

// applied ends the application, and says what it found.
func (b *batch) applied(r *state.Roster, s *stream) error {
	r.State, r.DoneAt = state.RosterApplied, b.now
	_, last, err := state.RosterSpan(b.tx, s.Ref, r.ID)
	if err != nil {
		return err
	}
	if err := b.renewed(r, s, last); err != nil {
		return err
	}
	unnamed, against := "", ""
	if r.Unnamed > 0 {
		u := state.Unnamed{Count: r.Unnamed, Roster: r.ID, Stream: s.Name}
		if err := state.SetUnnamed(b.tx, streamName{s.Issuer, s.Name}.key(), u); err != nil {
			return err
		}
		unnamed = u.Text()
	}
	if r.Against > 0 {
		more := ""
		if n := r.Against - len(r.AgainstIDs); n > 0 {
			more = fmt.Sprintf(" and %d more, whom the log names", n)
		}
		against = fmt.Sprintf("roster %s of stream %s states %d as live whom a leaver ended: they stay out. Subjects %s%s. The producer may have been restored from a backup; who comes back needs a new engagement",
			r.ID, s.Name, r.Against, strings.Join(r.AgainstIDs, ", "), more)
	}
	for _, a := range []struct{ code, text string }{{alarmUnnamed, unnamed}, {alarmAgainst, against}} {
		key := streamName{s.Issuer, s.Name}.key()
		if a.text == "" {
			_, err = state.ClearAlarm(b.tx, a.code, key, b.now)
		} else {
			_, err = state.RaiseAlarm(b.tx, state.Alarm{Code: a.code, Key: key, Severity: state.Warning, Text: a.text, Last: b.now, Issuer: s.Issuer, Stream: s.Name})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
