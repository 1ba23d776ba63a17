package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/ledger/entry"
)

const (
	lookEvery = 50 * time.Millisecond
	actTime   = 45 * time.Second // for all of one export to arrive; it takes a few seconds
)

// The stages of everyone's way, in order.
const (
	sFact     = "fact"
	sQueued   = "queued"
	sVerified = "verified"
	sPlanned  = "planned"
	sApplied  = "applied"
	sLedger   = "ledger"
)

var stageColour = map[string]string{sFact: blue, sQueued: violet, sVerified: cyan, sPlanned: yellow, sApplied: green, sLedger: dim}

// step is something that was seen of somebody's way.
type step struct {
	at                        time.Time
	subject, stage, text, ref string
	seq                       uint64 // of verified: not shown before the message was seen queued
}

// follower shows what happens to people. It reads the producer's log, the consumer's published ledger and
// the tenant's journal, each for itself; what one of them claims is not taken for what another one saw.
type follower struct {
	*stage.Stage
	screen *screen
	people map[string]*person

	began     time.Time // the export was handed to the producer
	logMark   int
	nextEntry int64
	journalAt uint64
	journal   map[string][]tenant.Entry // by client-request-id
	accounts  map[string]string         // object id -> subject, by the mark on the account when it was created
	intents   map[int64]*entry.Intent

	announced map[uint64]string // seq -> subject
	confirmed uint64            // highest seq that the mid-point confirmed
	pending   []step
	did       map[string]map[string]bool // subject -> operations that the ledger answered well
	last      map[string]string          // subject -> the last stage seen
	cuts      map[string]*cut
	doubts    []doubt // what the ledger says and the journal does not
}

// cut is when somebody's access ended, by the tenant's own journal.
type cut struct{ disabled, revoked time.Time }

// doubt is a claim of the consumer that the tenant's journal does not bear out.
type doubt struct{ subject, text string }

func newFollower(s *stage.Stage, out *screen) *follower {
	return &follower{Stage: s, screen: out, journal: map[string][]tenant.Entry{}, accounts: map[string]string{},
		intents: map[int64]*entry.Intent{}, cuts: map[string]*cut{}, last: map[string]string{}}
}

// report is what `producer import -o json` says.
type report struct {
	Rows, Accepted int
	Refused        []struct {
		Line                    int
		Column, Subject, Reason string
	}
	Held []struct {
		Subject string
		Lines   []int
		Reason  string
	}
	Enclaves []struct {
		Changes []struct {
			Subject    string
			Lines      []int
			Events     []string
			Engagement int
		}
	}
}

// announce hands an export to the producer and shows what it made of it.
func (f *follower) announce(ctx context.Context, file string, people []*person) error {
	f.people, f.announced, f.did = map[string]*person{}, map[uint64]string{}, map[string]map[string]bool{}
	for _, p := range people {
		f.people[p.id] = p
		f.did[p.id] = map[string]bool{}
	}
	var err error
	if f.nextEntry, err = f.Ledger.Size(); err != nil {
		return err
	}
	f.logMark = f.Producer.Mark()
	f.began = time.Now()
	res, err := f.ProducerDo(ctx, "import", file, "-o", "json")
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal([]byte(res.Stdout), &r); err != nil || len(r.Enclaves) != 1 {
		return fmt.Errorf("read the import's report: %w", cmp.Or(err, errors.New("want one enclave in it")))
	}
	done := time.Now()
	for _, x := range r.Refused {
		f.show(step{at: done, subject: x.Subject, stage: "refused", text: fmt.Sprintf("line %d, %s: %s", x.Line, x.Column, x.Reason)})
	}
	for _, x := range r.Held {
		f.show(step{at: done, subject: x.Subject, stage: "held", text: fmt.Sprintf("lines %s: %s", join(x.Lines, " and "), x.Reason)})
	}
	for _, l := range res.Lines() {
		if l.Msg() == "announced" {
			seq := uint64(l.Int("seq"))
			f.announced[seq] = l.String("subject")
		}
	}
	for _, c := range r.Enclaves[0].Changes {
		f.show(step{at: done, subject: c.Subject, stage: sFact, text: f.fact(c.Subject, strings.Join(c.Events, " + ")), ref: "line " + join(c.Lines, "+")})
	}
	return nil
}

func join(list []int, sep string) string {
	var b strings.Builder
	for i, n := range list {
		if i > 0 {
			b.WriteString(sep)
		}
		fmt.Fprint(&b, n)
	}
	return b.String()
}

// fact says in words what HR's row says.
func (f *follower) fact(subject, kind string) string {
	p := f.people[subject]
	if p == nil {
		return kind
	}
	switch p.fate {
	case joins:
		return kind + ": " + p.role
	case moves:
		return kind + ": " + p.roleWas + " -> " + p.role
	case leaves:
		return kind + ": " + strings.ToLower(p.row.Reason)
	case suspended:
		return kind + ": on leave"
	}
	return kind
}

// follow shows everyone's way until all that must happen has been answered on the ledger.
func (f *follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, actTime)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := f.look(ctx); err != nil {
			return err
		}
		f.flush(len(f.doubts) > 0)
		if len(f.doubts) > 0 {
			return nil // whoever told it decides; what comes after would rest on it
		}
		if len(f.open()) == 0 && len(f.pending) == 0 {
			return nil
		}
		for _, p := range []*stage.Process{f.Sandbox, f.MidPoint, f.Producer, f.Consumer} {
			if !p.Running() {
				return fmt.Errorf("%s ended: %w", p.Name, cmp.Or(p.Wait(ctx), errors.New("nobody asked it to")))
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.flush(true)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("not everything happened within %v:\n%s", actTime, strings.Join(f.open(), "\n"))
			}
			return ctx.Err()
		}
	}
}

// open says of whom something is still missing, and how far they came.
func (f *follower) open() []string {
	var list []string
	for id, p := range f.people {
		var waits []string
		for _, n := range p.needs() {
			if !f.did[id][n] {
				op, group, _ := strings.Cut(n, " ")
				waits = append(waits, strings.TrimSpace(op+" "+groupName(group)))
			}
		}
		if len(waits) > 0 {
			list = append(list, fmt.Sprintf("%s (%s): no answer on the ledger to %s; last seen: %s", p.name, id, strings.Join(waits, ", "), cmp.Or(f.last[id], "nothing")))
		}
	}
	slices.Sort(list)
	return list
}

// look collects what is new at every source.
func (f *follower) look(ctx context.Context) error {
	for _, l := range f.Producer.Lines(f.logMark) {
		f.logMark = l.N
		if l.Msg() == "published" {
			f.published(l)
		}
	}
	entries, err := f.Ledger.Entries(ctx, f.nextEntry)
	if err != nil {
		return err
	}
	if len(entries) > 0 { // the journal after the ledger: what an outcome speaks of is in it
		if err := f.readJournal(ctx); err != nil {
			return err
		}
	}
	for _, e := range entries {
		f.nextEntry = e.Index + 1
		switch b := e.Body.(type) {
		case *entry.Received:
			f.received(e, b)
		case *entry.Intent:
			f.intents[e.Index] = b
			f.add(step{at: e.Time, subject: b.Subject, stage: sPlanned, text: planned(b), ref: ref(e)})
		case *entry.Outcome:
			f.outcome(e, b)
		case *entry.Held:
			for _, w := range b.Subjects {
				f.add(step{at: e.Time, subject: w.Subject, stage: "held", text: b.Code, ref: ref(e)})
			}
		}
	}
	return nil
}

func ref(e stage.Entry) string { return fmt.Sprintf("#%d", e.Index) }

func (f *follower) published(l stage.Line) {
	at := l.Time
	if t, err := time.Parse(time.RFC3339Nano, l.String("time")); err == nil {
		at = t
	}
	last := uint64(l.Int("last_seq"))
	for seq := uint64(l.Int("first_seq")); seq <= last; seq++ {
		if subject := f.announced[seq]; subject != "" {
			f.add(step{at: at, subject: subject, stage: sQueued, text: "signed, encrypted, confirmed", ref: fmt.Sprintf("seq %d", seq)})
		}
	}
	f.confirmed = max(f.confirmed, last)
}

func (f *follower) received(e stage.Entry, r *entry.Received) {
	if r.Subject == "" {
		return // heartbeats and rosters
	}
	text := "all of the enclave's checks hold"
	if r.Disposition != entry.DispositionAdmitted {
		text = strings.TrimSpace("taken as " + r.Disposition + " " + r.Code)
	}
	f.add(step{at: e.Time, subject: r.Subject, stage: sVerified, text: text, ref: ref(e), seq: r.Seq})
}

func planned(in *entry.Intent) string {
	var words []string
	for _, op := range in.Ops {
		switch op.Op {
		case "add-member":
			words = append(words, together("+ "+groupName(op.Target)))
		case "remove-member":
			words = append(words, together("- "+groupName(op.Target)))
		case "create":
			words = append(words, "create account")
		case "update":
			words = append(words, "update "+strings.Join(op.Attributes, " and "))
		case "disable":
			words = append(words, "disable account")
		default:
			words = append(words, strings.ReplaceAll(op.Op, "-", " "))
		}
	}
	return strings.Join(words, ", ")
}

// outcome shows what the tenant's journal has of the requests that an outcome names, and then the outcome.
func (f *follower) outcome(e stage.Entry, o *entry.Outcome) {
	in := f.intents[o.Intent]
	if in == nil {
		f.doubts = append(f.doubts, doubt{o.Subject, fmt.Sprintf("ledger entry %d answers intent %d, which was not seen before it", e.Index, o.Intent)})
		return
	}
	var words []string
	var when time.Time
	writes, bad := 0, ""
	for _, r := range o.Results {
		op := in.Ops[min(r.N, len(in.Ops))-1]
		switch r.Result {
		case entry.ResultApplied, entry.ResultAlready, entry.ResultFound:
			if d := f.did[o.Subject]; d != nil {
				d[strings.TrimSpace(op.Op+" "+groupTarget(op))] = true
			}
		default:
			bad = strings.TrimSpace(op.Op + " " + r.Result + " " + r.Code)
		}
		changed := false
		for _, q := range r.Requests {
			for _, j := range f.journal[q.Client] {
				for _, c := range j.Changes {
					words = append(words, changeText(c))
					changed = true
				}
				if j.Applied {
					writes++
					when = j.Time
				}
			}
		}
		if r.Result == entry.ResultApplied && !changed {
			f.doubts = append(f.doubts, doubt{o.Subject, fmt.Sprintf("%s (%s): the consumer recorded %q as applied (ledger entry %d), but the tenant's journal shows that %s changed nothing",
				f.name(o.Subject), o.Subject, op.Op, e.Index, f.requests(r))})
			f.add(step{at: e.Time, subject: o.Subject, stage: "NOT done", text: "the tenant's journal shows no effect"})
		}
	}
	if len(words) > 0 {
		f.add(step{at: when, subject: o.Subject, stage: sApplied, text: strings.Join(words, ", "), ref: fmt.Sprintf("%d write%s", writes, plural(writes))})
	}
	text := fmt.Sprintf("outcome of #%d, checkpointed", o.Intent)
	if bad != "" {
		text = fmt.Sprintf("outcome of #%d: %s", o.Intent, bad)
	}
	f.add(step{at: e.Time, subject: o.Subject, stage: sLedger, text: text, ref: ref(e)})
}

func groupTarget(op entry.Op) string {
	if strings.HasSuffix(op.Op, "-member") {
		return op.Target
	}
	return ""
}

// requests says what the journal has of a result's requests.
func (f *follower) requests(r entry.Result) string {
	var words []string
	for _, q := range r.Requests {
		for _, j := range f.journal[q.Client] {
			path, _, _ := strings.Cut(j.Path, "?")
			words = append(words, fmt.Sprintf("%s %s (answered %d)", j.Method, path, j.Status))
		}
	}
	return cmp.Or(strings.Join(words, " and "), "it has no such request, which")
}

// readJournal takes up the tenant's new requests, and learns whose account is whose from the mark that an
// account got when it was created.
func (f *follower) readJournal(ctx context.Context) error {
	list, err := f.Tenant.Journal(ctx, f.journalAt)
	if err != nil {
		return err
	}
	for _, j := range list {
		f.journalAt = j.N
		if j.ClientRequestID != "" {
			f.journal[j.ClientRequestID] = append(f.journal[j.ClientRequestID], j)
		}
		for _, c := range j.Changes {
			if c.Op == "create" {
				for id := range f.people {
					if mentions(c.Set, directory.Mark(stage.Issuer, id)) {
						f.accounts[c.ID] = id
					}
				}
			}
			f.cutSeen(c, j.Time)
		}
	}
	return nil
}

// mentions says that a value is somewhere among properties.
func mentions(set map[string]any, value string) bool {
	for _, v := range set {
		switch v := v.(type) {
		case string:
			if v == value {
				return true
			}
		case map[string]any:
			if mentions(v, value) {
				return true
			}
		}
	}
	return false
}

func (f *follower) cutSeen(c tenant.Change, at time.Time) {
	id := f.accounts[c.ID]
	if id == "" {
		return
	}
	k := f.cuts[id]
	if k == nil {
		k = new(cut)
		f.cuts[id] = k
	}
	if enabled, ok := c.Set["accountEnabled"].(bool); ok && c.Op == "update" && !enabled && k.disabled.IsZero() {
		k.disabled = at
	}
	if c.Op == "revoke" && k.revoked.IsZero() {
		k.revoked = at
	}
}

func changeText(c tenant.Change) string {
	switch c.Op {
	case "create":
		name, _, _ := strings.Cut(c.Name, "@")
		return name + " created"
	case "add-member":
		return together("+ " + c.TargetName)
	case "remove-member":
		return together("- " + c.TargetName)
	case "set-manager":
		return "manager set"
	case "revoke":
		return "sessions revoked"
	case "update":
		if enabled, ok := c.Set["accountEnabled"].(bool); ok {
			if enabled {
				return "account enabled"
			}
			return "account disabled"
		}
		return "attributes updated"
	}
	return c.Op
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

func (f *follower) name(subject string) string {
	if p := f.people[subject]; p != nil {
		return p.name
	}
	return subject
}

// add takes a step up, its time to the millisecond as on the ledger: what was seen in the same one stays in
// the order in which it was added.
func (f *follower) add(s step) {
	s.at = s.at.Truncate(time.Millisecond)
	f.pending = append(f.pending, s)
}

// flush shows what was collected, in the order of its own times; a message is not shown as verified
// before it was seen queued.
func (f *follower) flush(all bool) {
	slices.SortStableFunc(f.pending, func(a, b step) int { return a.at.Compare(b.at) })
	var rest []step
	waits := map[string]bool{}
	for _, s := range f.pending {
		if !all && (waits[s.subject] || s.seq > f.confirmed) {
			rest = append(rest, s)
			waits[s.subject] = true
			continue
		}
		f.show(s)
	}
	f.pending = rest
}

func (f *follower) show(s step) {
	f.last[s.subject] = s.stage
	colour, ok := stageColour[s.stage]
	if !ok {
		colour = red
	}
	f.screen.step(s.at.Sub(f.began), f.name(s.subject), s.stage, colour, s.text, s.ref)
}
