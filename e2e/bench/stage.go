package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/schema"
)

// As the product has them by default.
const (
	heartbeat = 60 * time.Second
	stale     = 5 * time.Minute
	interval  = time.Second // of the ledger's publication
	workers   = 16
	writes    = 20 // a second
)

const stepTime = 10 * time.Minute // bounds everything that is waited for on a stage

// newStage sets up the real programs with the product's defaults; the tenant takes o.latency for each
// answer.
func newStage(ctx context.Context, o *options, name string, sandbox ...string) (*stage.Stage, error) {
	return newStageWith(ctx, o, stage.Config{}, name, sandbox...)
}

// newStageWith is newStage where c says something else of what it does not set.
func newStageWith(ctx context.Context, o *options, c stage.Config, name string, sandbox ...string) (*stage.Stage, error) {
	o.progress("%s: building the programs", name)
	programs, err := stage.Build(ctx, filepath.Join(o.dir, "bin"))
	if err != nil {
		return nil, err
	}
	o.progress("%s: setting up", name)
	c.Dir, c.Programs = filepath.Join(o.dir, name), programs
	c.Heartbeat, c.StaleAfter, c.LedgerInterval, c.Workers, c.Writes = heartbeat, stale, interval, workers, cmp.Or(c.Writes, writes)
	c.Sandbox = append([]string{"-latency", o.latency.String(), "-journal-keep", "200000"}, sandbox...)
	return stage.New(ctx, c)
}

// someone is person i of a group of people.
func someone(group string, i int) stage.Row {
	return stage.Row{ID: fmt.Sprintf("%s%06d", group[:1], i), Given: group, Family: fmt.Sprintf("P%06d", i), Department: "Security Operations", Title: "Analyst", Roles: "soc-analyst"}
}

func upn(r stage.Row) string {
	return strings.ToLower(r.Given + "." + r.Family + "@" + stage.Domain)
}

// bring imports n people of a group.
func bring(ctx context.Context, s *stage.Stage, group string, n int) (people []stage.Row, err error) {
	for i := range n {
		people = append(people, someone(group, i))
	}
	file := filepath.Join(s.Dir, group+".csv")
	if err := os.WriteFile(file, []byte(stage.Export(people...)), 0o600); err != nil {
		return nil, err
	}
	_, err = s.ProducerDo(ctx, "import", file)
	return people, err
}

// settled waits until everyone has an enabled account in its group.
func settled(ctx context.Context, s *stage.Stage, people []stage.Row) error {
	return stage.Until(ctx, "accounts of everyone", func() (bool, error) {
		now, err := s.Tenant.State(ctx)
		if err != nil {
			return false, err
		}
		for _, p := range people {
			if u := now.User(upn(p)); u == nil || !u.Enabled || len(u.Groups) == 0 {
				return false, nil
			}
		}
		return true, nil
	})
}

// watcher follows the tenant's journal.
type watcher struct {
	s    *stage.Stage
	next uint64 // the last entry that was seen
	seen []tenant.Entry
}

func watch(ctx context.Context, s *stage.Stage) (*watcher, error) {
	w := &watcher{s: s}
	if err := w.read(ctx); err != nil {
		return nil, err
	}
	w.seen = nil
	return w, nil
}

func (w *watcher) read(ctx context.Context) error {
	list, err := w.s.Tenant.Journal(ctx, w.next)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		w.next = list[len(list)-1].N
	}
	w.seen = append(w.seen, list...)
	return nil
}

// disabled waits until the tenant was told to disable someone, and returns that request.
func (w *watcher) disabled(ctx context.Context, p stage.Row) (found tenant.Entry, err error) {
	err = stage.Until(ctx, "the account of "+p.ID+" disabled", func() (bool, error) {
		if err := w.read(ctx); err != nil {
			return false, err
		}
		i := slices.IndexFunc(w.seen, func(e tenant.Entry) bool {
			return e.Applied && slices.ContainsFunc(e.Changes, func(c tenant.Change) bool {
				return c.Op == "update" && strings.EqualFold(c.Name, upn(p)) && c.Set["accountEnabled"] == false
			})
		})
		if i >= 0 {
			found = w.seen[i]
		}
		return i >= 0, nil
	})
	return found, err
}

// answering is how long, between from and to, the tenant had at least one request about an account in hand:
// time that its answers took and nobody else. Tokens are answered without latency.
func answering(list []tenant.Entry, account string, latency time.Duration, from, to time.Time) (total time.Duration) {
	list = slices.SortedFunc(slices.Values(list), func(a, b tenant.Entry) int { return a.Time.Compare(b.Time) })
	for _, e := range list {
		if !strings.Contains(e.Path, account) {
			continue
		}
		begin, end := e.Time, e.Time.Add(latency)
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		if end.After(begin) {
			total += end.Sub(begin)
			from = end
		}
	}
	return total
}

// emitLeaver announces a leaver through the command line.
func emitLeaver(ctx context.Context, s *stage.Stage, p stage.Row) error {
	_, err := s.ProducerDo(ctx, "emit", "leaver", p.ID, "--reason", "termination")
	return err
}

// signedAt reads from the producer's ledger when someone's leaver was signed.
func signedAt(ctx context.Context, s *stage.Stage, from int64, p stage.Row) (time.Time, error) {
	e, err := s.Sent.Wait(ctx, "the leaver "+p.ID, from, func(e stage.Entry) bool {
		sent, ok := e.Body.(*entry.Sent)
		return ok && sent.Subject == p.ID && sent.Event == string(schema.KindLeaver)+":v1"
	})
	return e.Time, err
}

// idleRow announces leavers one by one while nothing else is to be done.
func idleRow(ctx context.Context, o *options) (_ []*row, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	s, err := newStage(ctx, o, "leaver-idle")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	people, err := bring(ctx, s, "leaver", o.leavers)
	if err != nil {
		return nil, err
	}
	if err := settled(ctx, s, people); err != nil {
		return nil, err
	}
	w, err := watch(ctx, s)
	if err != nil {
		return nil, err
	}
	from, err := s.Sent.Size()
	if err != nil {
		return nil, err
	}
	cuts := make([]tenant.Entry, len(people))
	for i, p := range people {
		o.progress("leaver-idle: %d of %d", i+1, len(people))
		if err := emitLeaver(ctx, s, p); err != nil {
			return nil, err
		}
		if cuts[i], err = w.disabled(ctx, p); err != nil {
			return nil, err
		}
		// The next one finds nothing to do: sessions revoked and memberships taken.
		err := stage.Until(ctx, "the rest of the leaver "+p.ID, func() (bool, error) {
			now, err := s.Tenant.State(ctx)
			if err != nil {
				return false, err
			}
			u := now.User(upn(p))
			return u != nil && u.SessionsRevoked && len(u.Groups) == 0, nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := w.read(ctx); err != nil {
		return nil, err
	}
	var whole, tenants, top []time.Duration
	for i, p := range people {
		signed, err := signedAt(ctx, s, from, p)
		if err != nil {
			return nil, err
		}
		answered := cuts[i].Time.Add(o.latency)
		took := answered.Sub(signed)
		theirs := answering(w.seen, cuts[i].Changes[0].ID, o.latency, signed, answered)
		whole, tenants, top = append(whole, took), append(tenants, theirs), append(top, took-theirs)
	}
	r := &row{Name: "leaver-idle", What: "signed → account disabled, on top of the tenant's responses (median)", Goal: "max < 1 s",
		Ours: seconds(median(top)), Limit: seconds(median(tenants)), Met: slices.Max(top) < time.Second}
	r.note("%d leavers one by one, nothing else to do; every answer of the tenant takes %s; the limit is what its answers took, up to the one to the disable", len(people), o.latency)
	r.note("on top: median %s, max %s; whole way: median %s, max %s", short(median(top)), short(slices.Max(top)), short(median(whole)), short(slices.Max(whole)))
	return []*row{r}, s.Stop(ctx)
}

func seconds(d time.Duration) *measure { return &measure{d.Seconds(), "s"} }

func short(d time.Duration) string { return d.Round(time.Millisecond).String() }

// overtaken counts the persons that the consumer began to give something between the admission of
// someone's leaver and the intent to disable that account: index by index of its own ledger.
func overtaken(ctx context.Context, s *stage.Stage, from int64, p stage.Row) (n int, err error) {
	list, err := s.Ledger.Entries(ctx, from)
	if err != nil {
		return 0, err
	}
	admitted := false
	for _, e := range list {
		switch b := e.Body.(type) {
		case *entry.Received:
			if b.Subject == p.ID && strings.HasPrefix(b.Event, string(schema.KindLeaver)+":") {
				admitted = true
			}
		case *entry.Intent:
			if !admitted {
				continue
			}
			if b.Subject == p.ID {
				return n, nil
			}
			n++
		}
	}
	return 0, fmt.Errorf("the ledger shows no intent for the leaver %s after its admission", p.ID)
}

// cut is how one leaver behind the backlog fared.
type cut struct {
	took      time.Duration
	overtaken int
}

func worst(list []cut) cut {
	return slices.MaxFunc(list, func(a, b cut) int { return cmp.Compare(a.took, b.took) })
}

// busyRows fills the mid-point with joiners while the consumer is away, with a leaver last, and lets it
// come back; then announces more leavers while it works on the backlog. Its memory is measured on the way.
func busyRows(ctx context.Context, o *options) (_ []*row, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*stepTime)
	defer cancel()
	s, err := newStage(ctx, o, "leaver-busy", "-quotas", "-quota-users", fmt.Sprint(o.people))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	leavers, err := bring(ctx, s, "leaver", 6)
	if err != nil {
		return nil, err
	}
	if err := settled(ctx, s, leavers); err != nil {
		return nil, err
	}
	if err := s.Consumer.Stop(ctx); err != nil {
		return nil, err
	}
	away, err := s.Ledger.Size()
	if err != nil {
		return nil, err
	}
	o.progress("leaver-busy: importing %s joiners", thousands(int64(o.people)))
	if _, err := bring(ctx, s, "joiner", o.people); err != nil {
		return nil, err
	}
	if err := emitLeaver(ctx, s, leavers[0]); err != nil {
		return nil, err
	}
	o.progress("leaver-busy: filling the mid-point")
	if err := published(ctx, s); err != nil {
		return nil, err
	}

	o.progress("leaver-busy: the consumer comes back")
	w, err := watch(ctx, s)
	if err != nil {
		return nil, err
	}
	back := time.Now()
	if err := s.Consumer.Start(ctx); err != nil {
		return nil, err
	}
	at, n, err := cutOf(ctx, s, w, away, leavers[0])
	if err != nil {
		return nil, err
	}
	behind := cut{at.Sub(back), n}
	used, _ := cpuOf(s.Consumer.PID()) // zero where it cannot be read
	var within []cut
	for i, p := range leavers[1:] {
		o.progress("leaver-busy: leaver %d of %d beside the backlog", i+1, len(leavers)-1)
		before, err := s.Ledger.Size()
		if err != nil {
			return nil, err
		}
		sent, err := s.Sent.Size()
		if err != nil {
			return nil, err
		}
		if err := emitLeaver(ctx, s, p); err != nil {
			return nil, err
		}
		at, n, err := cutOf(ctx, s, w, before, p)
		if err != nil {
			return nil, err
		}
		signed, err := signedAt(ctx, s, sent, p)
		if err != nil {
			return nil, err
		}
		within = append(within, cut{at.Sub(signed), n})
	}
	if err := w.read(ctx); err != nil {
		return nil, err
	}
	throttled := 0
	for _, e := range w.seen {
		if e.Status == 429 {
			throttled++
		}
	}
	memory, err := memoryRow(ctx, s, o)
	if err != nil {
		return nil, err
	}
	all := append([]cut{behind}, within...)
	most := slices.MaxFunc(all, func(a, b cut) int { return cmp.Compare(a.overtaken, b.overtaken) }).overtaken
	r := &row{Name: "leaver-busy", What: fmt.Sprintf("leaver behind %s joiners: worst time to disabled", thousands(int64(o.people))), Goal: "< 30 s, first",
		Ours: seconds(worst(all).took), Met: worst(all).took < 30*time.Second && most <= workers}
	r.note("behind %s joiners in the mid-point, from the start of the consumer that was away: %s", thousands(int64(o.people)), short(behind.took))
	if used.all() > 0 {
		r.note("until then the consumer used %s of processor time, %.0f µs a message: everything that it does beside the intake, and log lines, too",
			short(used.all()), float64(used.all().Microseconds())/float64(o.people))
	}
	r.note("beside the backlog of joiners that %d writes/s cannot empty, from signed: worst %s of %d", writes, short(worst(within).took), len(within))
	r.note("other persons begun between a leaver's admission and its intent: at most %d; %d workers may have one under way", most, workers)
	r.note("%d of %s requests were answered 429; every answer of the tenant takes %s", throttled, thousands(int64(len(w.seen))), o.latency)
	if o.people < 100_000 {
		r.note("with -full the backlog is 100,000")
	}
	return []*row{r, memory}, s.Stop(ctx)
}

// cutOf waits for someone's account to be disabled and returns when that was, and how many persons were
// begun first.
func cutOf(ctx context.Context, s *stage.Stage, w *watcher, from int64, p stage.Row) (at time.Time, begun int, err error) {
	e, err := w.disabled(ctx, p)
	if err != nil {
		return at, 0, err
	}
	_, err = s.Ledger.Wait(ctx, "the intent to disable "+p.ID, from, func(e stage.Entry) bool {
		i, ok := e.Body.(*entry.Intent)
		return ok && i.Subject == p.ID
	})
	if err != nil {
		return at, 0, err
	}
	begun, err = overtaken(ctx, s, from, p)
	return e.Time, begun, err
}

// published waits until the relay has nothing left.
func published(ctx context.Context, s *stage.Stage) error {
	for {
		mark := s.Producer.Mark()
		out, err := s.ProducerDo(ctx, "status", "-o", "json")
		if err != nil {
			return err
		}
		var status struct {
			Enclaves []struct {
				Waiting int `json:"waiting"`
			} `json:"enclaves"`
		}
		if err := json.Unmarshal([]byte(out.Stdout), &status); err != nil || len(status.Enclaves) != 1 {
			return fmt.Errorf("read the producer's status %q: %w", out.Stdout, err)
		}
		if status.Enclaves[0].Waiting == 0 {
			return nil
		}
		if _, err := s.Producer.WaitFor(ctx, "the relay", mark, func(l stage.Line) bool { return l.Msg() == "published" }); err != nil {
			return err
		}
	}
}
