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
	"jmlbridge/internal/ledger/entry"
)

const (
	lookEvery = 50 * time.Millisecond
	actTime   = 90 * time.Second // for all of one export to arrive; it takes a few seconds, and more on a busy machine
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
	screen  *screen
	foreign bool // somebody else runs the programs, and has their logs
	people  map[string]*person

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

// doubt is a claim of the consumer that the tenant's journal does not bear out.
type doubt struct{ subject, text string }

func newFollower(s *stage.Stage, out *screen, foreign bool) *follower {
	return &follower{Stage: s, screen: out, foreign: foreign, journal: map[string][]tenant.Entry{}, accounts: map[string]string{},
		intents: map[int64]*entry.Intent{}, cuts: map[string]*cut{}, last: map[string]string{}}
}

// doubt keeps the first doubt about somebody; the consumer may try again, with the same end.
func (f *follower) doubt(subject, text string) {
	if !slices.ContainsFunc(f.doubts, func(d doubt) bool { return d.subject == subject }) {
		f.doubts = append(f.doubts, doubt{subject, text})
	}
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
			at := l.Time
			if t, err := time.Parse(time.RFC3339Nano, l.String("time")); err == nil {
				at = t
			}
			f.published(at, uint64(l.Int("first_seq")), uint64(l.Int("last_seq")))
		}
	}
	if f.foreign {
		if err := f.askPublished(ctx); err != nil {
			return err
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

// askPublished asks the producer's own status how far the mid-point has confirmed, where its log is not ours to
// read. Messages are sent in order, so what waits is the newest.
func (f *follower) askPublished(ctx context.Context) error {
	if f.confirmed >= f.highest() {
		return nil
	}
	res, err := f.ProducerDo(ctx, "status", "-o", "json")
	if err != nil {
		return err
	}
	var st struct {
		Enclaves []struct{ Seq, Waiting uint64 }
	}
	if err := json.Unmarshal([]byte(res.Stdout), &st); err != nil || len(st.Enclaves) != 1 {
		return fmt.Errorf("read the producer's status: %w", cmp.Or(err, errors.New("want one enclave in it")))
	}
	if confirmed := st.Enclaves[0].Seq - st.Enclaves[0].Waiting; confirmed > f.confirmed {
		f.published(time.Now(), f.confirmed+1, confirmed)
	}
	return nil
}

// highest is the highest number that was announced.
func (f *follower) highest() (seq uint64) {
	for n := range f.announced {
		seq = max(seq, n)
	}
	return seq
}

// published takes up that the mid-point confirmed some messages.
func (f *follower) published(at time.Time, first, last uint64) {
	for seq := first; seq <= last; seq++ {
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
		f.doubt(o.Subject, fmt.Sprintf("ledger entry %d answers intent %d, which was not seen before it", e.Index, o.Intent))
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
			f.doubt(o.Subject, fmt.Sprintf("%s (%s): the consumer recorded %q as applied (ledger entry %d), but the tenant's journal shows that %s changed nothing",
				f.name(o.Subject), o.Subject, op.Op, e.Index, f.requests(r)))
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
	arrange(f.pending)
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

// arrange sorts steps by time. A producer may log that the mid-point confirmed a message a moment after
// the consumer has it; everyone's queued comes first all the same.
func arrange(steps []step) {
	slices.SortStableFunc(steps, func(a, b step) int { return a.at.Compare(b.at) })
	places := map[string][]int{} // by subject
	for i, s := range steps {
		mine := append(places[s.subject], i)
		places[s.subject] = mine
		for n := len(mine) - 1; s.stage == sQueued && n > 0; n-- {
			steps[mine[n]], steps[mine[n-1]] = steps[mine[n-1]], steps[mine[n]]
		}
	}
}

func (f *follower) show(s step) {
	f.last[s.subject] = s.stage
	colour, ok := stageColour[s.stage]
	if !ok {
		colour = red
	}
	f.screen.step(s.at.Sub(f.began), f.name(s.subject), s.stage, colour, s.text, s.ref)
}
