// Package ruling carries out what operators rule about the word of a producer: which branch of a fork is the
// chain, and from where on a stolen key was not its owner's.
//
// A ruling never gives and never cuts. What takes access away stays done, whoever said it. What gave access on a
// word that does not count any more is in question: it is listed for review, nothing more is given on it, and it
// stays until an operator takes it back or a good word comes. All of a ruling is one transaction, with the entries
// that say so.
package ruling

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Code of the hold on grants in question and of the alarm that stands meanwhile.
const Code = string(plan.HoldDisowned)

// RefusedError is a ruling that makes no sense as things are. Nothing was changed.
type RefusedError struct{ reason string }

func (e *RefusedError) Error() string { return e.reason }

func refusef(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// point is a place in a stream.
type point struct {
	generation int
	seq        uint64
}

// disowned is the word that a ruling disowns.
type disowned struct {
	issuer    string
	said      map[string]map[point]bool // by subject: where an event about the person stands
	heads     map[point]bool            // of the rosters
	back      map[string]bool           // subjects whose suspension it ended
	stream    string                    // of the approvals
	approvals map[string]map[point]bool // by subject: where an approval stands
	first     time.Time                 // when the first of it came
	came      map[schema.Digest]bool    // its messages, by their payload
}

func newDisowned(issuer, stream string) *disowned {
	return &disowned{issuer: issuer, stream: stream, said: map[string]map[point]bool{}, heads: map[point]bool{}, back: map[string]bool{}, approvals: map[string]map[point]bool{}, came: map[schema.Digest]bool{}}
}

// add takes in a message, as it stands in the archive before the ruling. Only what was admitted in its place ever
// gave anything.
func (d *disowned) add(tx *store.Tx, m *state.Message, generation int, now time.Time) error {
	d.came[m.Payload] = true
	if d.first.IsZero() || m.ReceivedAt.Before(d.first) {
		d.first = m.ReceivedAt
	}
	switch m.Event {
	case schema.KindJoiner, schema.KindMover, schema.KindResume:
		if m.Disposition != admit.Admitted {
			return nil
		}
		if d.said[m.Subject] == nil {
			d.said[m.Subject] = map[point]bool{}
		}
		d.said[m.Subject][point{generation, m.Seq}] = true
		d.back[m.Subject] = d.back[m.Subject] || m.Event == schema.KindResume
	case schema.KindApproval:
		if d.approvals[m.Subject] == nil {
			d.approvals[m.Subject] = map[point]bool{}
		}
		d.approvals[m.Subject][point{generation, m.Seq}] = true
	case schema.KindRoster:
		return d.addRoster(tx, m, now)
	}
	return nil
}

// addRoster takes in the roster of which m is a part. It is never to be believed.
func (d *disowned) addRoster(tx *store.Tx, m *state.Message, now time.Time) error {
	r, err := state.RosterAt(tx, m.StreamRef, m.Seq)
	if err != nil || r == nil || r.State == state.RosterBroken {
		return err
	}
	if r.State == state.RosterApplied || r.Done > 0 {
		d.heads[point{r.Head.Generation, r.Head.Seq}] = true
	}
	r.State, r.DoneAt = state.RosterBroken, now
	return state.SaveRoster(tx, r)
}

// bad tells of a person's places which are of that word. What a good roster has confirmed since is not.
func (d *disowned) bad(s *state.Subject) func(fence.Position) bool {
	said, confirmed := d.said[s.SubjectKey.Subject], s.Doc.Confirmed
	vouched := confirmed.Generation > 0 && !d.heads[point{confirmed.Generation, confirmed.Seq}]
	return func(p fence.Position) bool {
		at := point{p.Generation, p.Seq}
		return (said[at] || d.heads[at]) && !(vouched && confirmed.Compare(p) >= 0)
	}
}

// leaseLeft is how long access lasts at least after a ruling that leases do not count from a word any more: a ruling
// takes nothing by itself, and there is a day, with its alarm, to have a good word said or to put the end off.
const leaseLeft = 24 * time.Hour

// last tells whether the last that named a person is of that word, so that the leases count from it.
func (d *disowned) last(s *state.Subject) bool {
	var last point
	later := func(p point) {
		if p.generation > last.generation || p.generation == last.generation && p.seq > last.seq {
			last = p
		}
	}
	for _, p := range []fence.Position{s.Doc.Confirmed, s.Doc.Resumed.Position, s.Doc.StateFence} {
		later(point{p.Generation, p.Seq})
	}
	for _, w := range s.Doc.Wants {
		later(point{w.Generation, w.Seq})
	}
	for p := range d.said[s.SubjectKey.Subject] {
		later(p)
	}
	return d.said[s.SubjectKey.Subject][last] || d.heads[last]
}

// Shown is what an operator sees of grants in question, and what the hold's digest covers.
type Shown struct {
	Code     string   `json:"code"`
	Lane     string   `json:"lane"`
	Count    int      `json:"count"`
	Entry    int64    `json:"entry"` // of the ruling, on the ledger
	Subjects []Person `json:"subjects"`
}

// Person is one whose access rests on a word in question.
type Person struct {
	Issuer     string   `json:"iss"`
	Subject    string   `json:"sub"`
	Engagement int      `json:"engagement"`
	Seq        uint64   `json:"seq"`               // of the word
	Roles      []string `json:"roles,omitempty"`   // that it names
	Opened     bool     `json:"opened,omitempty"`  // on it an account was made or enabled
	Perhaps    bool     `json:"perhaps,omitempty"` // of Opened: that was before the database was lost, and nobody knows on whose word
	Groups     []string `json:"groups,omitempty"`  // to which the account was added on it
}

// ParseShown reads what a hold of this package shows; ok is false for any other.
func ParseShown(h *state.Hold) (s Shown, ok bool) {
	if h.Code != Code {
		return s, false
	}
	err := json.Unmarshal(h.Shown, &s)
	return s, err == nil
}

// question marks everybody whose access rests on the word, and opens the hold on what was given; nil where there
// is nobody. ruled is the entry of the ruling.
func (d *disowned) question(ctx context.Context, db *state.DB, tx *store.Tx, ruled int64, by state.By) (*state.Hold, error) {
	var marked, renewed []*state.Subject
	earlier, err := undecided(tx)
	if err != nil {
		return nil, err
	}
	before, err := beforeLoss(tx)
	if err != nil {
		return nil, err
	}
	was := map[state.SubjectKey]given{} // by an earlier ruling of which nobody has decided
	err = state.EachSubject(tx, func(s *state.Subject) error {
		if s.Issuer != d.issuer {
			return nil
		}
		if s.SaidAt.After(d.first) && d.last(s) {
			s.SaidAt = d.first
			renewed = append(renewed, s)
		}
		if q := s.Doc.Doubt; q != nil && !q.Denied {
			was[s.SubjectKey] = earlier[q.Entry][s.SubjectKey]
		}
		doc, ok := fence.Disown(s.Doc, ruled, d.bad(s))
		doc, roles := fence.DisownApprovals(doc, ruled, func(a fence.Approval) bool {
			return a.Stream == d.stream && d.approvals[s.SubjectKey.Subject][point{a.Generation, a.Seq}]
		})
		if ok || len(roles) > 0 {
			s.Doc, s.FactAt = doc, by.Now
			marked = append(marked, s)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for head := range d.heads {
		if err := state.Unstate(tx, d.issuer, head.generation, head.seq); err != nil {
			return nil, err
		}
	}
	for _, s := range renewed {
		if err := state.Unrenew(tx, s.SubjectKey, d.first, by.Now.Add(leaseLeft)); err != nil {
			return nil, err
		}
	}
	shown := Shown{Code: Code, Lane: plan.Give.String(), Entry: ruled}
	var whom []entry.Who
	var list map[string]given
	if len(marked) > 0 {
		if list, err = d.given(ctx, db); err != nil {
			return nil, err
		}
	}
	for _, s := range marked {
		s.Raise(plan.Idle, by.Now, false)
		v, asked := s.Doc.At(by.Now), s.Doc.Question(by.Now) != nil
		g := list[s.SubjectKey.Subject].and(was[s.SubjectKey])
		unvouched := !slices.ContainsFunc(s.Doc.Wants, func(w fence.Want) bool { return !w.Doubted })
		if t := s.Doc.Tainted; t != nil && unvouched {
			g = g.and(given{t.Opened, t.Groups})
		}
		if asked && (g.opened || len(g.groups) > 0) {
			s.Doc.Tainted = &fence.Tainted{Opened: g.opened, Groups: g.groups}
		}
		if err := state.SaveFacts(tx, s); err != nil {
			return nil, err
		}
		if !asked {
			continue // whatever it gave is over
		}
		perhaps := false
		if unvouched && !g.opened {
			if perhaps, err = before.opened(tx, s); err != nil {
				return nil, err
			}
		}
		shown.Subjects = append(shown.Subjects, Person{Issuer: s.Issuer, Subject: s.SubjectKey.Subject, Engagement: v.Want.Engagement, Seq: v.Want.Seq,
			Roles: s.Doc.Desired(by.Now).Roles, Opened: g.opened || perhaps, Perhaps: perhaps, Groups: g.groups})
		whom = append(whom, entry.Who{Issuer: s.Issuer, Subject: s.SubjectKey.Subject, Engagement: v.Want.Engagement})
	}
	if shown.Count = len(shown.Subjects); shown.Count == 0 {
		return nil, nil
	}
	text, err := json.Marshal(shown)
	if err != nil {
		return nil, err
	}
	// The ruling makes the key: that of another one must not end it.
	h := &state.Hold{SubjectKey: state.SubjectKey{Subject: fmt.Sprintf("entry-%d", ruled)}, Code: Code, Shown: text, Created: by.Now, Subjects: whom,
		Cause: &entry.Cause{Type: entry.CauseOperator, Entry: &ruled}}
	if _, err := state.OpenHold(tx, h); err != nil {
		return nil, err
	}
	_, err = state.RaiseAlarm(tx, inDoubt(h, shown, shown.Subjects, by.Now))
	return h, err
}

// inDoubt is the alarm that stands while anybody of a hold is in question.
func inDoubt(h *state.Hold, shown Shown, open []Person, now time.Time) state.Alarm {
	have := 0
	for _, p := range open {
		if p.Opened || len(p.Groups) > 0 {
			have++
		}
	}
	return state.Alarm{Code: Code, Key: h.Name(), Severity: state.Warning, Last: now, Issuer: open[0].Issuer, Entry: &shown.Entry,
		Text: fmt.Sprintf("%d are in question by a word that an operator disowned (%d were given something on it): nothing more is given to them, and they keep what they have until a good word comes or you decide; see `consumer holds show %s`", len(open), have, h.Name())}
}

// given is what was given to one person.
type given struct {
	opened bool
	groups []string
}

// and is what both were.
func (g given) and(o given) given {
	all := given{opened: g.opened || o.opened, groups: slices.Clone(g.groups)}
	for _, id := range o.groups {
		if !slices.Contains(all.groups, id) {
			all.groups = append(all.groups, id)
		}
	}
	return all
}

// loss is whether the database was made in place of a lost one, of which this ledger does not tell who was given what.
type loss bool

func beforeLoss(r state.Reader) (loss, error) {
	at, err := state.Recovered(r)
	return loss(!at.IsZero()), err
}

// opened reports whether a person has an account of before the loss.
func (l loss) opened(r state.Reader, s *state.Subject) (bool, error) {
	if !l {
		return false, nil
	}
	known, err := s.Known()
	if err != nil || known.ID != "" {
		return known.TriedAt.IsZero() && known.DeletedAt.IsZero() && !known.IsCut(), err
	}
	return state.Bears(r, directory.Mark(s.Issuer, s.SubjectKey.Subject))
}

// undecided is what the open holds show as given, by the entry of the ruling and by person: the next ruling on a person takes the
// place of the one before, and what that was about goes on to be in question.
func undecided(r state.Reader) (map[int64]map[state.SubjectKey]given, error) {
	open, err := state.Holds(r)
	if err != nil {
		return nil, err
	}
	list := map[int64]map[state.SubjectKey]given{}
	for _, h := range open {
		shown, ok := ParseShown(h)
		if !ok {
			continue
		}
		list[shown.Entry] = map[state.SubjectKey]given{}
		for _, p := range shown.Subjects {
			list[shown.Entry][state.SubjectKey{Issuer: p.Issuer, Subject: p.Subject}] = given{p.Opened, p.Groups}
		}
	}
	return list, nil
}

// given reads from the ledger what was given on the word since it came. The caller holds the database for
// writing, so nothing is given meanwhile.
func (d *disowned) given(ctx context.Context, db *state.DB) (map[string]given, error) {
	size, err := ledger.Size(db.DB)
	if err != nil {
		return nil, err
	}
	var failed error
	from := sort.Search(int(size), func(i int) bool {
		e, err := ledger.Get(db.DB, int64(i))
		if err != nil {
			failed = err
		}
		return !e.Time.Before(d.first)
	})
	if failed != nil {
		return nil, failed
	}
	list, whole, err := d.givenFrom(ctx, db, int64(from))
	if err == nil && !whole && from > 0 { // the clock was ahead then, and is not any more
		list, _, err = d.givenFrom(ctx, db, 0)
	}
	return list, err
}

// givenFrom is given from an entry on; whole tells whether all of the word came there.
func (d *disowned) givenFrom(ctx context.Context, db *state.DB, from int64) (list map[string]given, whole bool, err error) {
	list = map[string]given{}
	came := maps.Clone(d.came)
	intents := map[int64]*entry.Intent{}
	for e, err := range ledger.Entries(ctx, db.DB, from) {
		if err != nil {
			return nil, false, err
		}
		switch b := e.Body.(type) {
		case *entry.Received:
			delete(came, b.Payload)
		case *entry.Intent:
			if b.Issuer == d.issuer && (b.Cause.Position != nil && b.Cause.Position.Stream == d.stream && d.names(b.Subject, b.Cause.Position) || d.approved(b)) {
				intents[e.Index] = b
			}
		case *entry.Outcome:
			if in := intents[b.Intent]; in != nil {
				g := list[in.Subject]
				g.add(in, b)
				list[in.Subject] = g
				delete(intents, b.Intent)
			}
		}
	}
	for _, in := range intents { // under way, or interrupted: it may have happened
		g := list[in.Subject]
		g.add(in, nil)
		list[in.Subject] = g
	}
	return list, len(came) == 0, nil
}

// approved tells whether an intent rests on an approval that is disowned.
func (d *disowned) approved(in *entry.Intent) bool {
	return slices.ContainsFunc(in.Approvals, func(p entry.Position) bool {
		return p.Stream == d.stream && d.approvals[in.Subject][point{p.Generation, p.Seq}]
	})
}

// names tells whether a cause is of the word. What is enabled for a resume has what is desired as its cause, which
// stands before it.
func (d *disowned) names(subject string, p *entry.Position) bool {
	at := point{p.Generation, p.Seq}
	return d.said[subject][at] || d.heads[at] || d.back[subject]
}

// add takes in what an intent has given by its outcome; nil: nobody knows.
func (g *given) add(in *entry.Intent, out *entry.Outcome) {
	done := func(n int) bool {
		if out == nil {
			return true
		}
		return slices.ContainsFunc(out.Results, func(r entry.Result) bool {
			return r.N == n && (r.Result == entry.ResultApplied || r.Result == entry.ResultFound || r.Result == entry.ResultInterrupted)
		})
	}
	for _, op := range in.Ops {
		switch plan.Kind(op.Op) {
		case plan.CreateAccount, plan.EnableAccount:
			g.opened = g.opened || done(op.N)
		case plan.AddMember:
			if done(op.N) && !slices.Contains(g.groups, op.Target) {
				g.groups = append(g.groups, op.Target)
			}
		}
	}
}
