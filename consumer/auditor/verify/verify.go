package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/schema"
)

// The two parts of a published ledger.
const (
	tilesFolder   = "tiles"
	archiveFolder = "archive"
)

// Limits of what is held against a ledger.
const (
	// DefaultGrace is how old, by the newest entry, an unanswered intent or a cut that is not done must be
	// before it is a finding: what is younger is under way.
	DefaultGrace = 5 * time.Minute

	// rosterLimit is how long the enclave may run with a whole roster that it does not apply. A step of it waits for
	// messages that come in, and for room on the disk.
	rosterLimit = time.Hour

	// look is how long the executor may take from seeing what is due to recording its intent. A date that
	// passes in between is not held against it; a message that came in between is.
	look = 2 * time.Minute
)

// Options say what to verify and by what.
type Options struct {
	Dir       string // the published folder: tiles/ and archive/
	LedgerKey string // the verifier key line of the ledger: origin+hash+key
	SecondKey string // that of its second key, which must have signed the checkpoint too; "" for none
	Keys      Keys   // of the producers
	TilesOnly bool   // the archive is not at hand: signatures are not checked
	Copies    []Copy // checkpoints kept elsewhere, which the ledger must extend

	Grace    time.Duration // 0: DefaultGrace
	CutLimit time.Duration // 0: none; else each cut that took longer from when it was due is a finding

	Progress func(done, total int64) // called now and then; may be nil
}

// Copy is a checkpoint that was kept where the ledger's machine cannot write.
type Copy struct {
	Name string // for the report
	Note []byte
}

// Run verifies a ledger. The error is that it could not be done; what does not verify is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	verifier, err := note.NewVerifier(o.LedgerKey)
	if err != nil {
		return nil, fmt.Errorf("want a ledger key like name+hash+key on one line: %w", err)
	}
	var second note.Verifier
	if o.SecondKey != "" {
		if second, err = tiles.NewSecondVerifier(o.SecondKey); err != nil {
			return nil, err
		}
		if second.Name() != verifier.Name() {
			return nil, fmt.Errorf("the second key is of %s, the first of %s: want both of one ledger", second.Name(), verifier.Name())
		}
	}
	v := newVerifier(o)
	v.report.Ledger.Origin = verifier.Name()
	dir := filepath.Join(o.Dir, tilesFolder)
	raw, err := os.ReadFile(filepath.Join(dir, tiles.CheckpointFile)) // first of all: the ledger may grow on
	if err != nil {
		return nil, fmt.Errorf("read the ledger's checkpoint: %w", err)
	}
	reader, err := tiles.OpenReaderAt(dir, raw, verifier)
	if err != nil {
		v.find(Finding{Code: CheckpointBad, Where: tiles.CheckpointFile, Detail: err.Error()})
		return v.done(), nil
	}
	if second != nil {
		if err := tiles.CheckSecond(raw, second); err != nil {
			v.find(Finding{Code: SecondMissing, Where: tiles.CheckpointFile, Detail: err.Error()})
		} else {
			v.report.Ledger.Second = true
		}
	}
	size := reader.Checkpoint().Size
	v.report.Ledger.Size, v.report.Ledger.Root = size, reader.Checkpoint().Root.String()
	copies := v.copies(verifier, second, size)
	if !o.TilesOnly {
		if v.archive, err = openArchive(ctx, filepath.Join(o.Dir, archiveFolder), o.Keys); err != nil {
			return nil, err
		}
		defer v.archive.close()
	}
	t := &tree{dir: dir, broken: func(path, why string) {
		v.find(Finding{Code: TileBroken, Where: path, Detail: why})
	}}
	v.same(copies, t)
	whole, err := v.entries(ctx, reader, t, copies)
	if err != nil {
		return nil, err
	}
	if whole {
		t.end()
		if t.root() != hash(reader.Checkpoint().Root) {
			v.find(Finding{Code: TreeBroken, Where: tiles.CheckpointFile, Detail: "the entries do not hash to the root that the checkpoint names"})
		}
		if err := v.end(ctx); err != nil {
			return nil, err
		}
	}
	return v.done(), nil
}

// decoded is an entry after the work that can be done out of order.
type decoded struct {
	index int64
	leaf  hash
	size  int
	entry entry.Entry
	err   error
}

// batchSize is how many entries a worker takes at a time.
const batchSize = 128

// entries judges every entry in order. whole is false where the tree broke and the rest was not judged.
func (v *verifier) entries(ctx context.Context, r *tiles.Reader, t *tree, copies map[int64][]checkpointCopy) (whole bool, err error) {
	p := newPipe(ctx, func(emit func([]tiles.Leaf) bool) error { return batches(r.Entries(ctx, 0), emit) }, decode)
	defer p.close()
	total := r.Checkpoint().Size
	for {
		batch, ok, err := p.next(ctx)
		var broken *treeError
		switch {
		case errors.As(err, &broken):
			if errors.Is(err, fs.ErrPermission) || ctx.Err() != nil {
				return false, err
			}
			v.find(Finding{Code: TreeBroken, Entry: &t.size, Detail: broken.Error() + "; nothing from here on was judged"})
			return false, nil
		case err != nil:
			return false, err
		case !ok:
			return true, nil
		}
		for i := range batch {
			d := &batch[i]
			t.add(d.leaf)
			v.same(copies, t)
			v.index = d.index
			if d.err != nil {
				v.findf(EntryForm, "%v", d.err)
				continue
			}
			if err := v.step(ctx, &d.entry); err != nil {
				return false, err
			}
		}
		v.report.Checked.Entries = t.size
		if v.Progress != nil {
			v.Progress(t.size, total)
		}
	}
}

// treeError is an error of the tiles reader: an entry that is not proved.
type treeError struct{ err error }

func (e *treeError) Error() string { return e.err.Error() }
func (e *treeError) Unwrap() error { return e.err }

func batches(entries iter.Seq2[tiles.Leaf, error], emit func([]tiles.Leaf) bool) error {
	var batch []tiles.Leaf
	for leaf, err := range entries {
		if err != nil {
			if len(batch) > 0 {
				emit(batch)
			}
			return &treeError{err}
		}
		if batch = append(batch, leaf); len(batch) == batchSize {
			if !emit(batch) {
				return nil
			}
			batch = make([]tiles.Leaf, 0, batchSize)
		}
	}
	if len(batch) > 0 {
		emit(batch)
	}
	return nil
}

func decode(batch []tiles.Leaf) ([]decoded, error) {
	out := make([]decoded, len(batch))
	for i, leaf := range batch {
		d := &out[i]
		d.index, d.leaf, d.size = leaf.Index, leafHash(leaf.Body), len(leaf.Body)
		d.entry, d.err = decodeEntry(leaf.Body)
	}
	return out, nil
}

type checkpointCopy struct {
	name string
	tiles.Checkpoint
}

// copies opens the checkpoints that were kept elsewhere, by size. They may be older than the second key, but a
// signature of it must be good.
func (v *verifier) copies(verifier, second note.Verifier, size int64) map[int64][]checkpointCopy {
	bySize := map[int64][]checkpointCopy{}
	for _, c := range v.Copies {
		cp, err := tiles.OpenCheckpoint(c.Note, verifier)
		if err == nil && second != nil {
			var absent *note.UnverifiedNoteError
			if err = tiles.CheckSecond(c.Note, second); errors.As(err, &absent) {
				err = nil
			}
		}
		switch {
		case err != nil:
			v.find(Finding{Code: CopyBad, Where: c.Name, Detail: err.Error()})
		case cp.Size > size:
			v.find(Finding{Code: Rollback, Where: c.Name, Detail: fmt.Sprintf("it vouches for %d entries and the ledger has %d: entries were taken back, or the folder is an older one", cp.Size, size)})
		default:
			bySize[cp.Size] = append(bySize[cp.Size], checkpointCopy{c.Name, cp})
		}
	}
	return bySize
}

// same compares the tree with the copies of its present size.
func (v *verifier) same(copies map[int64][]checkpointCopy, t *tree) {
	list, ok := copies[t.size]
	if !ok {
		return
	}
	delete(copies, t.size)
	for _, c := range list {
		if t.root() != hash(c.Root) {
			v.find(Finding{Code: HistoryChanged, Where: c.name, Detail: fmt.Sprintf("the first %d entries are not those that it vouches for", c.Size)})
			continue
		}
		v.report.Checked.Copies++
	}
}

// verifier is what is known at one entry of the ledger.
type verifier struct {
	Options
	report  *Report
	archive *shelf
	index   int64
	now     time.Time // of the entry
	before  time.Time // of the entry before
	top     time.Time // of the latest entry, since the ledger last said that the clock went back
	high    time.Time // where the enclave's clock was before it went back; zero: it did not, or somebody confirmed it
	runs    []span    // when the enclave could end holds, as far as it said
	steady  time.Time // since when entries follow each other without a long pause, in which it may not have run

	started      *entry.Started
	policy       schema.Digest // in force
	policyBefore schema.Digest
	trusted      map[string]*trusted
	signers      map[string]int32 // keys of messages, numbered
	streams      map[streamKey]*stream
	latest       map[streamKey]int // by key without generation: the latest generation
	persons      map[who]*person
	accounts     map[string]*person        // by id
	again        map[schema.Digest]message // taken from the archive, and named by more than one entry
	unread       unread
	kinds        []byte // of each entry, for causes that name one: see kindByte
	open         map[int64]*openIntent
	holds        map[string]*openHold
	discards     map[string]*openHold // by hold: what operators discarded
	alarms       map[[2]string][]who  // by code and key: about whom those that stand are; of nobody in particular where it is about no person
	surveyed     bool                 // the tenant was looked through: whoever has an account in it is named here
	denied       bool                 // the tenant refuses the credential that cuts
	stale        map[string]time.Time
	heard        map[string]time.Time // by issuer: when one that was not silent was first heard in this run
	parked       map[string]bool      // issuers of whom a verified message was parked
	rosters      map[rosterKey]*roster
	pending      []*roster         // whole, and not said to be applied
	endings      []ending          // suspensions that end on a date to come, by date
	heads        map[head]bool     // at which a whole roster was taken
	unseen       map[string]unseen // by issuer
	listed       map[Code]int
	lastAct      lastAct
	otherActs    int
}

func newVerifier(o Options) *verifier {
	return &verifier{Options: o, report: newReport(o), trusted: map[string]*trusted{}, signers: map[string]int32{}, streams: map[streamKey]*stream{}, latest: map[streamKey]int{},
		persons: map[who]*person{}, accounts: map[string]*person{}, again: map[schema.Digest]message{}, open: map[int64]*openIntent{}, holds: map[string]*openHold{}, discards: map[string]*openHold{},
		alarms: map[[2]string][]who{}, stale: map[string]time.Time{}, heard: map[string]time.Time{}, parked: map[string]bool{}, rosters: map[rosterKey]*roster{}, heads: map[head]bool{}, unseen: map[string]unseen{}, listed: map[Code]int{}}
}

func (v *verifier) find(f Finding) {
	v.report.Counts.Findings[f.Code]++
	if v.listed[f.Code]++; v.listed[f.Code] <= maxListed {
		v.report.Findings = append(v.report.Findings, f)
	}
}

// findf is a finding about the entry at hand.
func (v *verifier) findf(code Code, format string, args ...any) {
	i := v.index
	v.find(Finding{Code: code, Entry: &i, Detail: fmt.Sprintf(format, args...)})
}

func (v *verifier) findWho(code Code, w who, format string, args ...any) {
	i := v.index
	v.find(Finding{Code: code, Entry: &i, Issuer: w.issuer, Subject: w.subject, Detail: fmt.Sprintf(format, args...)})
}

func (v *verifier) findAt(code Code, m *entry.Message, format string, args ...any) {
	i := v.index
	v.find(Finding{Code: code, Entry: &i, Issuer: m.Issuer, Subject: m.Subject, Stream: m.Stream, Gen: m.Generation, Seq: m.Seq, Detail: fmt.Sprintf(format, args...)})
}

// step judges one entry.
func (v *verifier) step(ctx context.Context, e *entry.Entry) error {
	kind := e.Body.Kind()
	v.report.Counts.Entries[string(kind)]++
	v.kinds = append(v.kinds, kindByte(kind))
	if v.index == 0 {
		v.report.Ledger.First = entry.At(e.Time)
		if kind != entry.KindStarted {
			v.findf(StartMissing, "the first entry is %s; want started", kind)
		}
	}
	if e.Time.Sub(v.now) > v.slack() {
		v.steady = e.Time
	}
	v.before, v.now = v.now, e.Time
	v.top = later(v.top, v.now)
	if n := len(v.runs); n > 0 {
		v.runs[n-1].to = v.now
	}
	v.report.Ledger.Last = entry.At(e.Time)
	v.ended()
	switch b := e.Body.(type) {
	case *entry.Started:
		v.start(b)
	case *entry.Received:
		return v.received(ctx, b)
	case *entry.Sent:
		return v.sent(ctx, b)
	case *entry.Parked:
		v.report.Counts.Parked[b.Code]++
		if b.Position != nil {
			v.parked[b.Position.Issuer] = true
		}
	case *entry.Refused:
		n := int64(1)
		if b.Summary != nil {
			n = b.Summary.Count
		}
		v.report.Counts.Refused[b.Code] += n
	case *entry.Held:
		v.held(b)
	case *entry.Released:
		v.released(b)
	case *entry.Intent:
		v.intent(b)
	case *entry.Outcome:
		v.outcome(b)
	case *entry.Observed:
		v.observed(b)
	case *entry.Operator:
		v.operator(b)
	case *entry.Trust:
		v.trust(b)
	case *entry.Policy:
		// A start names its policy first, and the entry about the change follows it.
		told := v.policy == b.Digest && b.Previous != nil && *b.Previous == v.policyBefore
		if b.Previous != nil && *b.Previous != v.policy && !v.policy.IsZero() && !told {
			v.findf(PolicyUnrecorded, "it follows policy %s, and %s was in force", b.Previous, v.policy)
		}
		v.newPolicy(b.Digest)
	case *entry.Lease:
		v.by(b.By, b.Reason)
		switch {
		case b.Action == entry.LeaseExpired && b.Subject != "":
			w := who{b.Issuer, b.Subject}
			p := v.person(w)
			p.leased = true
			if b.Role == "" && !p.lapsed {
				p.lapsed, p.lapse, p.changed = true, v.index, seconds(v.now)
				v.cut(p, &Cut{Issuer: w.issuer, Subject: w.subject, Engagement: b.Engagement, Kind: "lease", True: entry.At(v.now), Due: entry.At(v.now)})
			}
		case b.Action == entry.LeaseExtended && b.Subject != "":
			w := who{b.Issuer, b.Subject}
			v.named(w, v.person(w))
		case b.Action == entry.LeaseExtended: // of everybody
			for _, w := range v.lapsedOf(b.Issuer) {
				v.named(w, v.person(w))
			}
		case b.Action == entry.LeaseRenewed && b.Subject == "":
			v.applied(b)
		}
	case *entry.Alarm:
		v.alarm(b)
	case *entry.Clock:
		v.by(b.By, b.Reason)
		if b.Action == entry.ClockConfirmed || b.Offset < 0 {
			v.top = v.now
		}
		switch {
		case b.Action == entry.ClockConfirmed:
			v.high = time.Time{}
		case b.Offset < 0 && b.Expected != nil:
			v.high = later(v.high, b.Expected.Time)
		}
		v.resumed()
	}
	return nil
}

func (v *verifier) start(s *entry.Started) {
	v.resumed()
	clear(v.heard)
	v.report.Starts = append(v.report.Starts, Start{Entry: v.index, Time: entry.At(v.now), Program: s.Program, Version: s.Version, FIPS: s.FIPS.Enabled, Module: s.FIPS.Version, Mode: s.Mode})
	if v.started == nil {
		v.started = s
		v.report.Ledger.Program, v.report.Ledger.ID, v.report.Ledger.Enclave = s.Program, s.Ledger, s.Enclave
		v.report.Ledger.Previous = s.Previous
	} else if f := v.started; s.Program != f.Program || s.Ledger != f.Ledger || s.Enclave != f.Enclave {
		v.findf(IdentityMixed, "it names %s, ledger %s, enclave %q; the first start named %s, %s, %q", s.Program, s.Ledger, s.Enclave, f.Program, f.Ledger, f.Enclave)
	}
	if s.Policy != nil {
		v.newPolicy(*s.Policy)
	}
}

func (v *verifier) newPolicy(d schema.Digest) {
	if d != v.policy {
		v.policyBefore, v.policy = v.policy, d
		v.report.Policies = append(v.report.Policies, Policy{Entry: v.index, Time: entry.At(v.now), Digest: d})
	}
}

func (v *verifier) person(w who) *person {
	p := v.persons[w]
	if p == nil {
		p = &person{intent: -1}
		v.persons[w] = p
	}
	return p
}

// kindByte is a kind's place in entry.Kinds: one octet an entry.
func kindByte(k entry.Kind) byte {
	for i, o := range entry.Kinds {
		if o == k {
			return byte(i)
		}
	}
	return 0xff
}

// isKind reports whether the entry at i exists, comes before the one at hand and is of the kind.
func (v *verifier) isKind(i *int64, kinds ...entry.Kind) bool {
	if i == nil || *i < 0 || *i >= int64(len(v.kinds))-1 {
		return false
	}
	for _, k := range kinds {
		if bytes.Equal(v.kinds[*i:*i+1], []byte{kindByte(k)}) {
			return true
		}
	}
	return false
}
