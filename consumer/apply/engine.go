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
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
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
	Log       *slog.Logger
	Now       func() time.Time
}

// Limits of the executor.
const (
	operationTime = 60 * time.Second // one operation on the tenant, token included
	reserved      = 2                // workers kept for disable, revoke and take; Workers is at least one more
	idlePoll      = 30 * time.Second // how long nobody looks at the table, at most
	longestQuiet  = 30 * time.Second // how long one answer may silence an application, whatever it asks: a leaver must be tried again
	lateGive      = 5                // failures in a row after which a give that does not succeed is an alarm
	lateCut       = 3                // failures in a row after which a cut that does not succeed is an alarm
	goneAfter     = 6                // failures in a row after which an account that is not found is gone, if it is not new
	maxNames      = 64               // candidates for one user principal name
	holdLook      = time.Hour        // between two looks at a person whom something in the tenant holds
	showAhead     = 1000             // persons read at once by run --observe
	turnBatch     = 1000             // persons whose date has come, made due in one transaction
)

// Engine executes. Make one with New.
type Engine struct {
	Config
	tenants tenants
	cuts    *governor
	gives   *governor
	wake    chan struct{} // capacity 1

	firstWait time.Duration // after a failure; tests shorten it

	mu      sync.Mutex // guards the four below; never held across I/O
	busy    map[state.SubjectKey]plan.Lane
	seen    map[state.SubjectKey]int64           // run --observe: the Rev for which a plan was shown
	opened  map[state.SubjectKey][]*state.Intent // intents that a crash left without an outcome
	streams map[string]string                    // by issuer: the stream that speaks of people
	worker  sync.WaitGroup

	// Owned by dispatch.
	giveBound, cutBound bound
	staleIssuers        []string // silent: their gives wait
	staleAlarms         []string // silent for so long that it is an alarm
	staleChecked        time.Time
	staleKnown          bool
	toShow              map[plan.Lane][]*state.Subject // run --observe
	started             time.Time
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
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	e := &Engine{Config: c, tenants: tenants{c.Cut, c.Grant}, wake: make(chan struct{}, 1), firstWait: firstWait,
		busy: map[state.SubjectKey]plan.Lane{}, seen: map[state.SubjectKey]int64{},
		opened: map[state.SubjectKey][]*state.Intent{}, streams: map[string]string{}, toShow: map[plan.Lane][]*state.Subject{}}
	e.cuts = newGovernor(c.WritesPerSecond)
	e.gives = e.cuts
	if !c.SharedQuota {
		e.gives = newGovernor(c.WritesPerSecond)
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
	e.started = e.Now()
	if err := e.recover(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	fatal := make(chan error, 1)
	for {
		wait, err := e.dispatch(ctx, fatal)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case err := <-fatal:
			timer.Stop()
			return err
		case <-e.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
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
	for lane := plan.Disable; lane <= plan.Delete; lane++ {
		free := e.free(lane)
		if free <= 0 {
			continue // a worker that ends wakes us
		}
		var except []string
		upTo := now
		switch lane {
		case plan.Give:
			except = stale
			upTo, err = e.guardGives(ctx, now, except)
		case plan.Disable:
			upTo, err = e.guardCuts(ctx, now)
		}
		if err != nil {
			return 0, err
		}
		due, err := e.due(lane, upTo, free+e.Workers, except)
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
				e.start(ctx, s, fatal)
			}
		}
	}
	wait := idlePoll
	if len(stale) > 0 && (!now.Equal(e.staleChecked) || len(e.staleAlarms) < len(stale)) {
		wait = guardEvery // a heartbeat may have come since the last look, or the silence become an alarm
	}
	if now.After(e.giveBound.upTo) || now.After(e.cutBound.upTo) {
		wait = guardEvery // work came after the last look at the limits: judge it soon
	}
	next, err := state.NextDue(e.DB.Read(), now)
	if err != nil || next.IsZero() {
		return wait, err
	}
	return min(wait, max(time.Millisecond, next.Sub(now))), nil
}

// due lists who is worked on next in lane.
func (e *Engine) due(lane plan.Lane, upTo time.Time, limit int, except []string) ([]*state.Subject, error) {
	if !e.Observe {
		return state.Due(e.DB.Read(), lane, upTo, limit, except)
	}
	// Nobody's row moves on, so those who were shown are passed over: many at a time, for it takes a reading
	// of all of them.
	if len(e.toShow[lane]) == 0 {
		list, err := state.DueBut(e.DB.Read(), lane, upTo, showAhead, except, func(s *state.Subject) bool {
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
		if busy < plan.Give {
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
	e.busy[s.SubjectKey] = s.Lane
	return true
}

func (e *Engine) start(ctx context.Context, s *state.Subject, fatal chan<- error) {
	e.worker.Add(1)
	go func() {
		defer e.worker.Done()
		err := e.one(ctx, s)
		if err != nil && ctx.Err() == nil {
			err = e.postpone(ctx, s, err)
		}
		e.mu.Lock()
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
	}()
}
