// Package apply carries out what the facts and the policy want, one person at a time.
//
// It is level-triggered: it takes a person's row when it is due, works out from the facts what must be
// so now, looks at the account, plans, and executes the lane of the plan that comes first. What was
// done once is seen to be done and not done again; a newer fact simply changes the row. Across persons
// a lower lane always goes first: all disables, then all session revocations, then the roles that
// movers lost, then everything that gives, then strips, then deletes.
//
// The intent of every operation is durable on the ledger before the tenant is touched, its outcome
// before the work is called done. A crash in between leaves an intent without an outcome: it is
// answered as interrupted, and the next plan begins with a look.
//
// The tenant is trusted to say the truth, late.
package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/store"
)

// Config of an Engine.
type Config struct {
	DB     *state.DB
	Policy *policy.Policy
	Cut    Cutter
	Grant  Granter // may have the same credential as Cut
	// SharedQuota says that Cut and Grant are one application to the tenant and share its quota.
	SharedQuota bool
	// WritesPerSecond of one application; default 20, Graph's 3,000 in 150 s.
	WritesPerSecond float64
	// Workers is how many persons are worked on at once; default 16.
	Workers int
	// StaleAfter holds gives of an issuer that has not sent a valid heartbeat for so long; default 5m.
	StaleAfter time.Duration
	// Observe plans and records, and writes nothing to the tenant.
	Observe bool
	// Committed is called when something was added to the ledger; may be nil.
	Committed func()
	// Room on the disk: where it is low, what gives waits, and what deletes. nil: always enough. Who changes it
	// calls [Engine.Wake].
	Room Room
	Log  *slog.Logger

	// The clock; the defaults are those of package time. A caller of [Engine.Step] gives one that it moves itself.
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Jitter func(most time.Duration) time.Duration // a random wait from 0 to below most
}

// Limits of the executor.
const (
	operationTime = 60 * time.Second // one operation on the tenant, token included
	firstCut      = 10 * time.Second // the same for the first attempt to cut; each further one may take twice as long
	reserved      = 2                // workers kept for disable, revoke and take; Workers is at least one more
	untried       = 4                // of every 16 workers: kept from cuts that failed before, so that others get through
	idlePoll      = 30 * time.Second // how long nobody looks at the table, at most
	longestQuiet  = 30 * time.Second // how long one answer may silence an application, whatever it asks: a leaver must be tried again
	lateGive      = 5                // failures in a row after which a give that does not succeed is an alarm
	lateCut       = 3                // failures in a row after which a cut that does not succeed is an alarm
	goneAfter     = 6                // failures in a row after which an account that is not found is gone, if it is not new
	maxOps        = 128              // operations of one intent: its outcome, with what was sent for each, has to fit an entry of the ledger
	maxNames      = 64               // candidates for one user principal name
	holdLook      = time.Hour        // between two looks at a person whom something in the tenant holds
	showAhead     = 1000             // persons read at once by run --observe
	turnBatch     = 1000             // persons whose date has come, made due in one transaction
	siftBatch     = 2000             // persons who are to be given something, judged for what they lose, between two looks for cuts
)

// Engine executes. Make one with New.
type Engine struct {
	Config
	tenants tenants
	cuts    *governor
	gives   *governor
	wake    chan struct{} // capacity 1

	recovered time.Time                                             // when the database was made in place of a lost one; zero: it was not
	snapshot  func(context.Context, func(state.Reader) error) error // one state of the database; tests write while it is read
	elapsed   func(from, to time.Time) time.Duration                // by the monotonic clock; tests let the other one jump
	firstWait time.Duration                                         // after a failure; tests shorten it
	firstCut  time.Duration                                         // for the first attempt to cut; tests shorten it

	mu       sync.Mutex // guards those below up to worker; never held across I/O
	busy     map[state.SubjectKey]claim
	seen     map[state.SubjectKey]int64           // run --observe: the Rev for which a plan was shown
	opened   map[state.SubjectKey][]*state.Intent // intents that a crash left without an outcome
	streams  map[string]string                    // by issuer: the stream that speaks of people
	denied   [2]denial                            // of the cut and the grant credential
	leap     time.Duration                        // how long the clock is in doubt for a jump that nobody has recorded yet
	lastSeen time.Time                            // the clock, when it was last looked at for that
	high     time.Time                            // where the clock was before it went back; zero: it did not, or somebody confirmed it
	worker   sync.WaitGroup

	uptime atomic.Int64 // nanoseconds that the program ran, over all runs

	// Owned by dispatch.
	bounds        [plan.Delete + 1]bound
	looking       bool      // before anything is given, at who may have all of it
	givesPast     time.Time // since when a hold on gives waits for that; zero: it does not
	tidied        time.Time
	crowded       bool     // a hold of many stood then
	staleIssuers  []string // silent: their gives wait
	staleAlarms   []string // silent for so long that it is an alarm
	staleChecked  time.Time
	staleOpened   int64 // the last stream opened by then
	staleKnown    bool
	toShow        map[plan.Lane][]*state.Subject // run --observe
	started       time.Time
	leasesChecked time.Time
	upSeen        time.Time // when uptime was last added to
	upSaved       int64     // what of it is in the database
	upKnown       bool
	alone         bool // Step calls, not Run: work is done where it is found
	stumbled      bool // the last Step ended with an error
}

// claim is work on one person that is under way.
type claim struct {
	lane  plan.Lane
	again bool // it has failed before
	rev   int64
	since time.Time
	hung  context.Context // ends, by errOvertaken, where the work hangs and a cut of the person came since
	stop  context.CancelCauseFunc
}

// New checks c and fills its defaults.
func New(c Config) (*Engine, error) {
	if c.DB == nil || c.Policy == nil || c.Cut == nil || c.Grant == nil {
		return nil, errors.New("the executor needs a database, a policy and both credentials")
	}
	if c.WritesPerSecond <= 0 {
		c.WritesPerSecond = 20
	}
	if c.Workers <= 0 {
		c.Workers = 16
	}
	c.Workers = max(c.Workers, reserved+1)
	if c.StaleAfter <= 0 {
		c.StaleAfter = 5 * time.Minute
	}
	if c.Committed == nil {
		c.Committed = func() {}
	}
	if c.Room == nil {
		c.Room = endless{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.After == nil {
		c.After = time.After
	}
	if c.Jitter == nil {
		c.Jitter = rand.N[time.Duration]
	}
	e := &Engine{Config: c, tenants: tenants{c.Cut, c.Grant}, wake: make(chan struct{}, 1), elapsed: func(from, to time.Time) time.Duration { return to.Sub(from) }, firstWait: firstWait, firstCut: firstCut,
		busy: map[state.SubjectKey]claim{}, seen: map[state.SubjectKey]int64{},
		opened: map[state.SubjectKey][]*state.Intent{}, streams: map[string]string{}, toShow: map[plan.Lane][]*state.Subject{}}
	var err error
	if e.recovered, err = state.Recovered(c.DB.Read()); err != nil {
		return nil, err
	}
	e.snapshot = func(ctx context.Context, f func(state.Reader) error) error {
		return e.DB.Read().Snapshot(ctx, func(s *store.Snapshot) error { return f(s) })
	}
	e.cuts = newGovernor(c.WritesPerSecond, c.Now, c.After)
	e.gives = e.cuts
	if !c.SharedQuota {
		e.gives = newGovernor(c.WritesPerSecond, c.Now, c.After)
	}
	return e, nil
}

// Wake tells the engine that something may be due. It never blocks.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then finishes the operations that are under way: a leaver is not torn in
// half. It returns only errors of the database; those of the tenant are retried.
func (e *Engine) Run(ctx context.Context) error {
	defer e.worker.Wait()
	if err := e.begin(ctx); err != nil {
		return err
	}
	fatal := make(chan error, 1)
	for {
		wait, err := e.dispatch(ctx, fatal)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if err := e.outlast(ctx, err, fatal); err != nil {
				return err
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case err := <-fatal:
			timer.Stop()
			if err := e.outlast(ctx, err, fatal); err != nil {
				return err
			}
		case <-e.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// begin notes when the engine started, and who was left without an outcome.
func (e *Engine) begin(ctx context.Context) error {
	e.started = e.Now()
	return e.recover(context.WithoutCancel(ctx))
}

// Step is one round of Run on the caller's goroutine: what is due now and inside the limits, the lowest lane
// first, one person after another. It returns how long nothing else can be due. One that follows an error, as of a
// full disk, first looks at what could not be recorded. It is for a caller that owns the clock, and must not run beside
// Run or itself.
func (e *Engine) Step(ctx context.Context) (time.Duration, error) {
	if !e.alone {
		if err := e.begin(ctx); err != nil {
			return 0, err
		}
		e.alone = true
	}
	if e.stumbled {
		if err := e.recover(ctx); err != nil {
			return 0, err
		}
	}
	fatal := make(chan error, 1)
	wait, err := e.dispatch(ctx, fatal)
	select {
	case err = <-fatal:
	default:
	}
	e.stumbled = err != nil
	return wait, err
}

// dispatch starts as much due work as there are free workers, lowest lane first, and tells how long
// nothing else can be due.
func (e *Engine) dispatch(ctx context.Context, fatal chan<- error) (time.Duration, error) {
	now := e.Now()
	if err := e.turn(ctx, now); err != nil {
		return 0, err
	}
	stale, err := e.stale(ctx, now)
	if err != nil {
		return 0, err
	}
	if err := e.age(ctx, now); err != nil {
		return 0, err
	}
	if err := e.tidy(ctx, now); err != nil {
		return 0, err
	}
	doubt, err := e.clockDoubt()
	if err != nil {
		return 0, err
	}
	if err := e.hearClock(); err != nil {
		return 0, err
	}
	if err := e.leases(ctx, now, doubt); err != nil {
		return 0, err
	}
	sifting, err := e.sift(ctx, now, stale)
	if err != nil {
		return 0, err
	}
	hangs, err := e.giveUp(now)
	if err != nil {
		return 0, err
	}
	first, err := state.FirstDue(e.DB.Read()) // what comes later wakes us
	if err != nil {
		return 0, err
	}
	var denied time.Duration // the next look at what a refused credential keeps waiting; 0: there is none
	for lane := plan.Disable; lane <= plan.Delete; lane++ {
		free := e.free(lane)
		if free <= 0 {
			continue // a worker that ends wakes us
		}
		if doubt && lane == plan.Delete || sifting && (lane == plan.Take || lane == plan.Give) {
			continue
		}
		if e.lacksRoom(lane) {
			continue
		}
		if d := e.pause(lane, now); d > 0 {
			denied = min(d, cmp.Or(denied, d))
			continue
		}
		if lane == plan.Disable {
			if err := e.expire(ctx, now); err != nil {
				return 0, err
			}
		}
		if first[lane].IsZero() || first[lane].After(now) && !e.Observe {
			e.judged(lane, now, verdict{})
			continue
		}
		var except []string
		if lane == plan.Give {
			except = stale
		}
		due, err := e.next(ctx, lane, now, free+e.Workers, except)
		if err != nil {
			return 0, fmt.Errorf("look for work: %w", err)
		}
		for i, s := range due {
			if free == 0 {
				break
			}
			if e.Observe {
				e.toShow[lane] = due[i+1:]
			}
			if e.take(s) {
				free--
				e.start(ctx, s, e.bounds[lane].upTo, lane == plan.Give && e.looking, fatal)
			}
		}
		if e.alone && len(due) > 0 { // it is done already, and may have made more due
			if first, err = state.FirstDue(e.DB.Read()); err != nil {
				return 0, err
			}
		}
	}
	wait := idlePoll
	if sifting {
		wait = time.Millisecond
	}
	if len(stale) > 0 && (!now.Equal(e.staleChecked) || len(e.staleAlarms) < len(stale)) {
		wait = min(wait, guardEvery) // a heartbeat may have come since the last look, or the silence become an alarm
	}
	if e.looking || now.After(e.bounds[plan.Give].upTo) || now.After(e.bounds[plan.Disable].upTo) || now.After(e.bounds[plan.Take].upTo) {
		wait = min(wait, guardEvery) // work came after the last look at the limits: judge it soon
	}
	if denied > 0 {
		wait = min(wait, denied)
	}
	if e.crowded {
		wait = min(wait, tidyEvery) // the alarm on it is to say who waits still
	}
	if hangs > 0 {
		wait = min(wait, hangs)
	}
	if cut := first[plan.Disable]; e.alone && !cut.IsZero() && !cut.After(now) && e.pause(plan.Disable, now) == 0 {
		wait = time.Millisecond // found in another lane: it is judged next
	}
	next, err := state.NextDue(e.DB.Read(), now)
	if err != nil || next.IsZero() {
		return wait, err
	}
	return min(wait, max(time.Millisecond, next.Sub(now))), nil
}

// due lists who is worked on next in lane.
func (e *Engine) due(r state.Reader, lane plan.Lane, upTo time.Time, limit int, except []string) ([]*state.Subject, error) {
	if lane == plan.Give && e.looking {
		return state.DueUnsure(r, upTo, limit, except)
	}
	if !e.Observe {
		list, err := state.Due(r, lane, upTo, limit, except)
		if err != nil || lane > plan.Revoke {
			return list, err
		}
		return e.spread(r, list, lane, upTo, limit, except)
	}
	// Nobody's row moves on, so those who were shown are passed over: many at a time, for it takes a reading
	// of all of them.
	if len(e.toShow[lane]) == 0 {
		list, err := state.DueBut(r, lane, upTo, showAhead, except, func(s *state.Subject) bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			rev, shown := e.seen[s.SubjectKey]
			return shown && rev == s.Rev
		})
		if err != nil {
			return nil, err
		}
		e.toShow[lane] = list
	}
	return e.toShow[lane], nil
}

// spread keeps cuts that failed before from taking up every worker: while their answers hang, those that were
// never tried get through. list is what is due, in its order.
func (e *Engine) spread(r state.Reader, list []*state.Subject, lane plan.Lane, upTo time.Time, limit int, except []string) ([]*state.Subject, error) {
	e.mu.Lock()
	left := e.Workers - max(1, untried*e.Workers/16)
	for _, c := range e.busy {
		if c.again {
			left--
		}
	}
	var failed []*state.Subject
	for _, s := range list {
		if _, busy := e.busy[s.SubjectKey]; !busy && s.Attempts > 0 {
			failed = append(failed, s)
		}
	}
	e.mu.Unlock()
	if len(failed) <= left {
		return list, nil
	}
	list, err := state.DueUntried(r, lane, upTo, limit, except)
	return append(list, failed[:max(0, left)]...), err
}

// turn makes everyone due whose date has come.
func (e *Engine) turn(ctx context.Context, now time.Time) error {
	for {
		yes, err := state.Turning(e.DB.Read(), now)
		if err == nil && yes {
			err = e.DB.Tx(ctx, func(tx *store.Tx) error { return state.Turn(tx, now, turnBatch) })
		}
		if err != nil {
			return fmt.Errorf("look whose date has come: %w", err)
		}
		if !yes {
			return nil
		}
	}
}

// free is how many workers may start in lane. A few are kept for what takes access away, so that a
// leaver never waits for a joiner to end; and nothing gives while something that takes is under way,
// since its next step may be due when it ends. (A revocation does not wait so for another person's
// disable: one answer that hangs must not keep everybody's sessions alive.)
func (e *Engine) free(lane plan.Lane) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.Workers - len(e.busy)
	if lane < plan.Give {
		return n
	}
	for _, busy := range e.busy {
		if busy.lane < plan.Give {
			return 0
		}
	}
	return n - reserved
}

// take claims a person: work on one person is serial.
func (e *Engine) take(s *state.Subject) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.busy[s.SubjectKey]; ok {
		return false
	}
	if rev, ok := e.seen[s.SubjectKey]; ok && e.Observe && rev == s.Rev {
		return false
	}
	hung, stop := context.WithCancelCause(context.Background())
	e.busy[s.SubjectKey] = claim{s.Lane, s.Attempts > 0, s.Rev, e.Now(), hung, stop}
	return true
}

// giveUp ends the wait for answers that hang where a cut of the same person came since: work on one person is serial, and
// a cut is tried at once when it is new, whatever an earlier attempt or something that is given waits for. It returns how
// long until the next work under way may be said to hang; 0: none.
func (e *Engine) giveUp(now time.Time) (next time.Duration, err error) {
	old := map[state.SubjectKey]claim{}
	e.mu.Lock()
	for k, c := range e.busy {
		if left := e.firstCut - now.Sub(c.since); left <= 0 {
			old[k] = c
		} else if next == 0 || left < next {
			next = left
		}
	}
	e.mu.Unlock()
	for k, c := range old {
		s, err := state.LoadSubject(e.DB.Read(), k)
		if err != nil {
			return 0, err
		}
		if s != nil && s.Rev != c.rev && s.Lane == plan.Disable && !s.Due.After(now) {
			c.stop(errOvertaken)
		}
	}
	return next, nil
}

func (e *Engine) start(ctx context.Context, s *state.Subject, judged time.Time, look bool, fatal chan<- error) {
	work := func() {
		err := e.one(ctx, s, judged, look)
		if err != nil && ctx.Err() == nil && !e.Room.Full(err) {
			err = e.postpone(ctx, s, err)
		}
		e.mu.Lock()
		e.busy[s.SubjectKey].stop(nil)
		delete(e.busy, s.SubjectKey)
		if e.Observe && err == nil {
			e.seen[s.SubjectKey] = s.Rev
		}
		e.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			select {
			case fatal <- err:
			default:
			}
		}
		e.Wake()
	}
	if e.alone {
		work()
	} else {
		e.worker.Go(work)
	}
}
