// Package announce makes of an export what is to be said to each enclave, shows it, and says it.
//
// A plan is computed from what is stored and changes nothing. Carrying it out decides each person again
// inside the transaction that stores the events; whoever was changed by someone else meanwhile is left
// for the next import, unless what the file says only takes access. Two kinds of leavers are not stated by a row and are therefore limited: absence
// from a file that the operator calls complete, and leaving the scope, which one edit of a rule can do to
// everyone. Rehires are limited too, since an older export has everyone in it who left since. Past a
// limit they are held back, and everything else goes on.
package announce

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"jmlbridge/producer/outbox"
	"jmlbridge/producer/register"
	"jmlbridge/producer/scope"
	"jmlbridge/producer/source"
	"jmlbridge/schema"
)

// batch is how many people are decided in one transaction.
const batch = 1000

// An AbsurdError refuses a file that is said to be complete and would make a leaver of everyone.
type AbsurdError struct{ Reason string }

func (e *AbsurdError) Error() string { return e.Reason }

// Limit lets n leavers or rehires of one kind pass when n is at most Count, or at most Share of those who are live.
type Limit struct {
	Count int     `yaml:"count"`
	Share float64 `yaml:"share"`
}

func (l Limit) lets(n, live int) bool { return n <= l.Count || float64(n) <= l.Share*float64(live) }

// Limits hold for one import and one enclave.
type Limits struct {
	Absences  Limit `yaml:"absences"`
	Transfers Limit `yaml:"transfers"`
	Rehires   Limit `yaml:"rehires"` // joiners of people who had left: an older export makes them of all leavers since
}

// Options of one import.
type Options struct {
	Complete       bool // the operator says that the file names everyone
	AllowAbsences  int  // lets this many pass all the same; shown by a dry run before
	AllowTransfers int
	AllowRehires   int
	Limits         Limits
}

// Enclave is where to, and who crosses.
type Enclave struct {
	Audience string
	Name     string
	Scope    *scope.Rules
}

// Change is what will be said of one person.
type Change struct {
	Subject    string          `json:"subject"`
	Lines      []int           `json:"lines,omitempty"` // none for someone absent
	Cases      []register.Case `json:"cases"`
	Kinds      []schema.Kind   `json:"events"`
	Engagement int             `json:"engagement"`

	rec   *source.Record // nil for someone absent
	in    bool
	last  register.State
	quiet bool // says nothing, but the register remembers something
}

// Plan is what an import comes to for one enclave.
type Plan struct {
	Enclave   string                `json:"enclave"`
	Audience  string                `json:"aud"`
	Live      int                   `json:"live_before"`
	Cases     map[register.Case]int `json:"cases"`
	Changes   []Change              `json:"changes"`
	Notes     []source.Note         `json:"notes,omitempty"`
	Absent    int                   `json:"absent"`              // live people whom the file does not name
	Held      []source.Held         `json:"held,omitempty"`      // active, which contradicts the leaver that was said, or a known person under another spelling of the id
	Overruled []source.Held         `json:"overruled,omitempty"` // taken, but an operator's word stands against it
	HeldBack  []HeldBack            `json:"held_back,omitempty"` // what a limit stopped
	Unread    []string              `json:"unread,omitempty"`    // live people of whose rows none was accepted: whether they left is not known
	Confirmed int                   `json:"-"`                   // changes of the register that say nothing
	Unsaid    int                   `json:"-"`                   // people who are here by the file, not by the register, and of whom nothing is said

	quiet []Change
}

// HeldBack is a set of leavers or rehires that a rule stopped.
type HeldBack struct {
	What   string   `json:"what"` // absences, transfers or rehires
	Count  int      `json:"count"`
	Why    string   `json:"why"`
	Flag   string   `json:"flag,omitempty"` // with Count lets these pass
	People []string `json:"subjects"`
}

// Make computes the plan.
func Make(ctx context.Context, box *outbox.Box, e Enclave, snap *source.Snapshot, o Options, now time.Time) (*Plan, error) {
	p := &Plan{Enclave: e.Name, Audience: e.Audience, Cases: map[register.Case]int{}, Changes: []Change{}}
	nobody, err := box.Nobody(ctx, e.Audience)
	if err != nil {
		return nil, err
	}
	states := map[string]register.State{}
	err = box.States(ctx, e.Audience, func(subject string, s register.State) error {
		states[subject] = s
		if s.Status.Live() {
			p.Live++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	elsewhere, err := box.Elsewhere(ctx, e.Audience)
	if err != nil {
		return nil, err
	}
	for i := range snap.Records {
		id := snap.Records[i].Subject
		s, known := states[id]
		if !known {
			s = nobody
		}
		s.Elsewhere = elsewhere[id]
		states[id] = s
	}
	alike := respelt(snap, states, elsewhere)
	records := slices.DeleteFunc(slices.Clone(snap.Records), func(r source.Record) bool {
		subject, ok := alike[fold(r.Subject)]
		live := states[subject].Status.Live()
		if !ok || states[r.Subject].Status != "" || !live && (r.Status == source.Inactive || !e.Scope.Has(&r)) {
			return false
		}
		p.misspells(&r, subject, live)
		return true
	})
	p.managers(e, records, states, now)
	accepted := map[string]bool{}
	for i := range records {
		accepted[records[i].Subject] = true
	}
	for subject, s := range states {
		if s.Status.Live() && (snap.Names(subject) || alike[fold(subject)] == subject) && !accepted[subject] {
			p.Unread = append(p.Unread, subject)
		}
	}
	slices.Sort(p.Unread)
	var transfers, rehires []Change
	for i := range records {
		rec := &records[i]
		last := states[rec.Subject]
		in := e.Scope.Has(rec)
		d := register.Diff(last, rec, in, now)
		c := change(rec.Subject, rec, in, last, &d)
		if !in && rec.Status != source.Inactive && len(d.Events) > 0 {
			transfers = append(transfers, c)
			continue
		}
		if !d.Next.Status.Live() && slices.ContainsFunc(d.Cases, func(c register.Case) bool {
			return c == register.Overruled || c == register.Contradict || c == register.Away
		}) {
			p.Unsaid++
		}
		if slices.ContainsFunc(d.Cases, func(c register.Case) bool { return c == register.Overruled || c == register.Kept }) {
			p.Overruled = append(p.Overruled, source.Held{Subject: rec.Subject, Lines: rec.Lines, Reason: standing(&d)})
		}
		if last.Status == register.Closed && slices.Contains(d.Cases, register.Rehire) {
			rehires = append(rehires, c)
			continue
		}
		if slices.Contains(d.Cases, register.Contradict) {
			p.Held = append(p.Held, source.Held{Subject: rec.Subject, Lines: rec.Lines, Reason: fmt.Sprintf(
				"active with the first day %s, but announced as a leaver as of %s; if the file is the newer word, it states a first day after that and after those announced, or emit a joiner",
				schema.At(*rec.Start), last.Since)})
		}
		p.add(c)
	}
	var absent []Change
	for subject, s := range states {
		if s.Status.Live() && !snap.Names(subject) && alike[fold(subject)] != subject {
			d := register.Absent(s, now)
			absent = append(absent, change(subject, nil, true, s, &d))
		}
	}
	p.Absent = len(absent)
	slices.SortFunc(absent, func(a, b Change) int { return cmp.Compare(a.Subject, b.Subject) })
	leaving := len(transfers) // without a row that says so
	if o.Complete {
		leaving += len(absent)
	}
	if leaving == p.Live && leaving > 1 { // a few may go, but count is no word for everyone: a register may be small
		o.Limits.Transfers.Count, o.Limits.Absences.Count = 0, 0
	}
	p.limit("rehires", rehires, o.Limits.Rehires, o.AllowRehires, "--allow-rehires",
		"had left and are active again; check that the export is not an older one")
	p.limit("transfers", transfers, o.Limits.Transfers, o.AllowTransfers, "--allow-transfers",
		"leave the scope; check the scope rules")
	switch {
	case !o.Complete: // absence says nothing
	case snap.Accepted() == 0:
		return nil, &AbsurdError{fmt.Sprintf("--complete: want a file that names everyone, but no row of it was accepted, and %d people are live in enclave %s; nothing was done", p.Live, e.Name)}
	case len(absent) == 0:
	case len(absent) == p.Live:
		return nil, &AbsurdError{fmt.Sprintf("--complete: not one of the %d people who are live in enclave %s is in the file; want the right file, or emit their leavers; nothing was done", p.Live, e.Name)}
	case snap.Unreadable:
		p.hold("absences", absent, "some row has no readable id, so who is absent is not known; correct the file", "")
	default:
		p.limit("absences", absent, o.Limits.Absences, o.AllowAbsences, "--allow-absences", "are absent; check that the export is complete")
	}
	// What takes access away is said first.
	slices.SortStableFunc(p.Changes, func(a, b Change) int { return cmp.Compare(rank(&a), rank(&b)) })
	return p, nil
}

// standing says which word of an operator stands against a record, and how it ends.
func standing(d *register.Decision) string {
	s, said := &d.Next, ""
	if d.Stands != nil {
		s, said = &d.Stands.State, " in enclave "+d.Stands.Audience
	}
	switch {
	case s.Barred != nil && slices.Contains(d.Cases, register.Kept):
		return fmt.Sprintf("an operator has suspended them%s as of %s, which holds in engagement %d; only emit resume ends it", said, *s.Barred, d.Next.Engagement)
	case s.Status == register.Closed:
		return fmt.Sprintf("active, but an operator closed engagement %d%s as of %s; it stays closed until the file says that they left, or states a first day after that and after those announced, or emit a joiner", s.Engagement, said, s.Since)
	case s.Leaves != nil:
		return fmt.Sprintf("another engagement, but an operator closes engagement %d as of %s; it goes on until then", s.Engagement, *s.Leaves)
	case s.Barred != nil:
		return fmt.Sprintf("an operator has suspended them as of %s, which holds in engagement %d; only emit resume ends it", *s.Barred, s.Engagement)
	}
	return "an operator's word stands"
}

func change(subject string, rec *source.Record, in bool, last register.State, d *register.Decision) Change {
	c := Change{Subject: subject, Cases: d.Cases, Engagement: d.Next.Engagement, rec: rec, in: in, last: last}
	if rec != nil {
		c.Lines = rec.Lines
	}
	for _, s := range d.Events {
		c.Kinds = append(c.Kinds, s.Event.Kind())
	}
	c.quiet = len(d.Events) == 0 && (d.Next.By != last.By || d.Next.Key != last.Key || d.Next.Inferred != last.Inferred || len(d.Next.Former) != len(last.Former))
	return c
}

func rank(c *Change) int {
	if c.Kinds[0].Cuts() {
		return 0
	}
	return 1
}

func (p *Plan) add(c Change) {
	for _, k := range c.Cases {
		p.Cases[k]++
	}
	switch {
	case len(c.Kinds) > 0:
		p.Changes = append(p.Changes, c)
	case c.quiet:
		p.quiet = append(p.quiet, c)
	}
}

func (p *Plan) limit(what string, set []Change, l Limit, allowed int, flag, why string) {
	if len(set) == 0 {
		return
	}
	if l.lets(len(set), p.Live) || len(set) <= allowed {
		for _, c := range set {
			p.add(c)
		}
		return
	}
	p.hold(what, set, "more people than the limit "+why, flag)
}

func (p *Plan) hold(what string, set []Change, why, flag string) {
	h := HeldBack{What: what, Count: len(set), Why: why, Flag: flag}
	for _, c := range set {
		h.People = append(h.People, c.Subject)
	}
	p.HeldBack = append(p.HeldBack, h)
}

// DropStranger leaves out of p the reference to a manager whom the enclave was not told of and is not about to be, and
// reports that it did: an id of someone who does not cross must not cross either. p may share its manager with others.
func DropStranger(p *schema.Person, told func(subject string) bool) bool {
	if p.Manager == nil || told(p.Manager.Value) {
		return false
	}
	p.Manager = nil
	return true
}

// fold is an id without what a spreadsheet, or whoever types it, makes of it: case, leading zeros, the apostrophe that keeps
// them, and the .0 of a number that was taken for a fraction.
func fold(id string) string {
	return strings.ToLower(strings.TrimLeft(strings.TrimPrefix(strings.TrimSuffix(id, ".0"), "'"), "0"))
}

// Alike finds somebody who is live in an enclave and whose id differs from another one in spelling alone; empty: nobody.
func Alike(ctx context.Context, box *outbox.Box, audience, id string) (found string, err error) {
	err = box.States(ctx, audience, func(subject string, s register.State) error {
		if subject != id && s.Status.Live() && fold(subject) == fold(id) && (found == "" || subject < found) {
			found = subject
		}
		return nil
	})
	return found, err
}

// respelt finds the people whom the file does not name, but an id of which nothing was announced that differs from theirs in
// spelling alone; by the folded id. Whoever is live goes before whoever has left, or of whom an operator spoke elsewhere.
func respelt(snap *source.Snapshot, states map[string]register.State, elsewhere map[string][]register.Elsewhere) map[string]string {
	unnamed := map[string]string{}
	consider := func(subject string) {
		f := fold(subject)
		was, live := unnamed[f], states[subject].Status.Live()
		if !snap.Names(subject) && (was == "" || live && !states[was].Status.Live() || live == states[was].Status.Live() && subject < was) {
			unnamed[f] = subject
		}
	}
	for subject, s := range states {
		if s.Status != "" {
			consider(subject)
		}
	}
	for subject := range elsewhere {
		consider(subject)
	}
	found := map[string]string{}
	for i := range snap.Records {
		id := snap.Records[i].Subject
		if subject := unnamed[fold(id)]; subject != "" && states[id].Status == "" {
			found[fold(id)] = subject
		}
	}
	return found
}

// misspells holds a record that may be of another person's id in another spelling: what it says of them, above all that they
// left, must not be lost on a stranger, nor give them a second account, or one anew where they had left.
func (p *Plan) misspells(r *source.Record, subject string, live bool) {
	was, way := "who had left and has no row; correct the id", ""
	if live {
		was, way = "who is live and has no row; correct the id", fmt.Sprintf(", or where it was changed for good, emit the leaver of %s first", subject)
	}
	p.Unsaid++
	p.Held = append(p.Held, source.Held{Subject: r.Subject, Lines: r.Lines, Reason: fmt.Sprintf(
		"nothing was announced of this id, and it differs in case, leading zeros, an apostrophe or a final .0 alone from subject %s, %s%s; where it is somebody else, emit the joiner of %s, and the file is taken from then on",
		subject, was, way, r.Subject)})
}

// managers drops the references to strangers, and notes it where it would have crossed. records are the caller's own.
func (p *Plan) managers(e Enclave, records []source.Record, states map[string]register.State, now time.Time) {
	joining := map[string]bool{}
	for i := range records {
		rec := &records[i]
		d := register.Diff(states[rec.Subject], rec, e.Scope.Has(rec), now)
		if slices.Contains(d.Cases, register.Join) {
			joining[rec.Subject] = true
		}
	}
	for i := range records {
		rec := &records[i]
		stranger := DropStranger(&rec.Person, func(m string) bool { return joining[m] || states[m].Status != "" })
		if stranger && (joining[rec.Subject] || states[rec.Subject].Status.Live()) {
			p.Notes = append(p.Notes, source.Note{Line: rec.Lines[0], Subject: rec.Subject, Text: "the manager is not announced to this enclave; left out"})
		}
	}
}

// Result is what carrying out a plan came to.
type Result struct {
	Sent    []outbox.Sent
	Skipped []string // changed by someone else since the plan was made
}

// cuts reports whether d takes access and does nothing else: that waits for no other import.
func cuts(d *register.Decision) bool {
	return len(d.Events) > 0 && !slices.ContainsFunc(d.Events, func(s register.Said) bool { return !s.Event.Kind().Cuts() })
}

// Do carries p out, a batch in a transaction. An error leaves whole batches done: importing the file
// again does the rest. progress hears how many people are done; it may be nil.
func (p *Plan) Do(ctx context.Context, box *outbox.Box, now time.Time, progress func(done int)) (*Result, error) {
	res := &Result{}
	todo := slices.Concat(p.Changes, p.quiet)
	for done := 0; done < len(todo); {
		part := todo[done:min(done+batch, len(todo))]
		byID := make(map[string]*Change, len(part))
		subjects := make([]string, len(part))
		for i := range part {
			subjects[i] = part[i].Subject
			byID[part[i].Subject] = &part[i]
		}
		var skipped []string
		sent, err := box.Update(ctx, p.Audience, subjects, func(subject string, last register.State) (register.Decision, error) {
			c := byID[subject]
			var d register.Decision
			if c.rec == nil {
				d = register.Absent(last, now)
			} else {
				d = register.Diff(last, c.rec, c.in, now)
			}
			last = last.At(now)
			same := last.Engagement == c.last.Engagement
			if (!same || last.Status != c.last.Status || last.By != c.last.By) && !(same && cuts(&d)) {
				skipped = append(skipped, subject)
				return register.Decision{Cases: []register.Case{register.Unchanged}, Next: last}, nil
			}
			return d, nil
		})
		if err != nil {
			return res, err
		}
		res.Sent = append(res.Sent, sent...)
		res.Skipped = append(res.Skipped, skipped...)
		done += len(part)
		if progress != nil {
			progress(done)
		}
	}
	return res, nil
}
