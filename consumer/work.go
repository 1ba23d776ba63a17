package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/intake"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/config"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/store"
)

// Times of a run.
const (
	policyTime   = 20 * time.Second       // for all that the policy names in the tenant, at start
	recheckEvery = time.Minute            // until the policy could be held against the tenant
	watchEvery   = 250 * time.Millisecond // how soon an operator's command is noticed
	shutdownTime = 90 * time.Second       // for what was fetched; an operation on the tenant has 60 s of its own
)

// Codes of the alarms that belong to the process itself.
const (
	alarmUnchecked   = "policy-unchecked"
	alarmGroup       = "policy-group"
	alarmUnpublished = "ledger-unpublished"
	alarmUnreachable = "midpoint-unreachable"
	alarmRefused     = "midpoint-refused"
	alarmUnopened    = "key-store"
	alarmSyslog      = "syslog-unreachable"
	alarmUnwritten   = "alarms-unwritten"
)

func uncheckedAlarm(now time.Time) state.Alarm {
	return state.Alarm{Code: alarmUnchecked, Severity: state.Warning, Last: now, Text: "the tenant did not answer at start, so it is not known whether every group and protected account of the policy exists"}
}

func clearPolicyAlarms(tx *store.Tx, now time.Time) error {
	for _, code := range []string{alarmUnchecked, alarmGroup} {
		if _, err := state.ClearAlarm(tx, code, "", now); err != nil {
			return err
		}
	}
	return nil
}

// work runs the parts until ctx ends, and then ends them in order: no more fetching; what was fetched is
// committed and settled, operations under way are finished and their outcomes recorded; the last
// checkpoint is published. One part that fails ends all of them so.
func (r *runner) work(ctx context.Context) error {
	publisher, err := ledger.New(r.ledger())
	if err != nil {
		return err
	}
	engine, err := apply.New(apply.Config{DB: r.db, Policy: r.policy, Cut: r.tenants.cut, Grant: r.tenants.grant, SharedQuota: r.cfg.Tenant.sharedQuota(),
		WritesPerSecond: r.cfg.Tenant.WritesPerSecond, Workers: r.cfg.Tenant.Workers, StaleAfter: r.cfg.StaleAfter.D(), Observe: r.observe,
		Committed: publisher.Wake, Room: r.space, Log: r.log, Now: r.now})
	if err != nil {
		return err
	}
	in, err := intake.New(intake.Config{DB: r.db, Queue: r.queue, Name: r.cfg.Queue.Name(), Ring: r.ring, Openers: r.cfg.openers(), Now: r.now, Log: r.log, StaleAfter: r.cfg.StaleAfter.D(),
		Unopened: r.unopened, Room: r.space, Committed: func() { engine.Wake(); publisher.Wake() }})
	if err != nil {
		return err
	}
	watch, err := r.newWatch(context.WithoutCancel(ctx), engine.Wake, publisher.Wake)
	if err != nil {
		return err
	}
	defer watch.close()

	publishing, stopPublishing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPublishing()
	published := make(chan error, 1)
	go func() { published <- publisher.Run(publishing) }()

	telling, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	told := make(chan struct{})
	go func() {
		defer close(told)
		if r.collector != nil {
			r.collector.Run(telling)
		}
	}()
	defer func() { stopTelling(); <-told }()

	settling, stopSettling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSettling()
	g, fetching := errgroup.WithContext(ctx)
	context.AfterFunc(fetching, func() {
		r.log.Info("ending", "waits_at_most", shutdownTime.String())
		time.AfterFunc(shutdownTime, stopSettling)
	})
	g.Go(func() error { return part("intake", in.Run(fetching, settling)) })
	g.Go(func() error { return part("executor", engine.Run(fetching)) })
	g.Go(func() error { return part("watch", watch.run(fetching)) })
	if r.unchecked || r.dead() {
		g.Go(func() error { return part("tenant check", r.recheck(fetching)) })
	}
	err = g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // stopped while a part was still beginning
	}
	if err != nil {
		r.log.Error("stopping after an error", "err", oneLine(err))
	}
	watch.last() // alarms that the last work raised
	stopPublishing()
	err = errors.Join(err, part("publish the ledger", <-published))
	r.log.Info("stopped")
	return err
}

func part(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// recheck asks the tenant again until it has answered for the policy and takes both credentials.
func (r *runner) recheck(ctx context.Context) error {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for r.unchecked || r.dead() {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		try, cancel := context.WithTimeout(ctx, policyTime)
		var err error
		answered := false
		if r.unchecked {
			_, err = checkTenant(try, r.tenants.grant, r.policy)
			answered = !errors.Is(err, errUnchecked)
		}
		said, _ := r.tenants.tryCredentials(try)
		maps.Copy(r.said, said)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		r.unchecked = r.unchecked && !answered
		terr := r.db.Tx(ctx, func(tx *store.Tx) error {
			if herr := r.heard(tx, r.now()); herr != nil || !answered {
				return herr
			}
			if cerr := clearPolicyAlarms(tx, r.now()); cerr != nil || err == nil {
				return cerr
			}
			r.log.Error("the policy names what the tenant does not have", "err", oneLine(err))
			_, rerr := state.RaiseAlarm(tx, state.Alarm{Code: alarmGroup, Severity: state.Critical, Last: r.now(), Text: groupText(err)})
			return rerr
		})
		if terr != nil {
			return terr
		}
	}
	return nil
}

// groupText says which lines of the policy are wrong, without paths of this machine.
func groupText(err error) string {
	if e, ok := errors.AsType[*config.Error](err); ok {
		return fmt.Sprintf("policy line %d: %s", e.Line, e.Reason)
	}
	return "the policy names what the tenant does not have"
}

// published hears how each publication ended.
func (r *runner) published(err error) {
	if err != nil {
		r.space.Full(err)
		r.log.Error("could not publish the ledger; trying again", "err", oneLine(err))
	}
	if failed := err != nil; failed == r.failing && !r.unheard {
		return
	}
	r.unheard, r.failing = false, err != nil
	r.stands(state.Alarm{Code: alarmUnpublished, Severity: state.Critical,
		Text: "the ledger cannot be published: what is recorded is not yet out of this machine's reach"}, err != nil)
}

// collects hears how it goes with the collector of alarms.
func (r *runner) collects(err error) {
	if err != nil {
		r.log.Warn("the collector of alarms does not hear us; trying again", "err", oneLine(err))
	}
	r.stands(state.Alarm{Code: alarmSyslog, Severity: state.Warning, Text: "the collector of alarms under alarms.syslog does not answer, or does not let us in; the alarms file has what it does not hear"}, err != nil)
}

// midpoint hears how fetching goes.
func (r *runner) midpoint(refused, unreachable bool) {
	r.stands(state.Alarm{Code: alarmRefused, Severity: state.Critical, Text: "the mid-point does not let us in, its queue is not what was promised, or a file for it cannot be used here; nothing comes in. The log says which"}, refused)
	r.stands(state.Alarm{Code: alarmUnreachable, Severity: state.Warning, Text: "the mid-point does not answer; nothing comes in"}, unreachable)
}

// unopened hears whether messages wait for the key store.
func (r *runner) unopened(waiting bool) {
	r.stands(state.Alarm{Code: alarmUnopened, Severity: state.Critical, Text: "a key store does not answer for a decryption key: what came for that key is not opened, leavers too. The log says which and why"}, waiting)
}

// change is an alarm of the process that is to be raised, or cleared.
type change struct {
	state.Alarm
	stands bool
}

// stands raises or clears an alarm of the process. Where that cannot be recorded, as on a full disk, watch tries again: whoever
// calls tells only what changes.
func (r *runner) stands(a state.Alarm, stands bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.Last = r.now()
	if err := r.record(change{a, stands}); err != nil {
		r.log.Error("could not record an alarm; trying again", "code", a.Code, "err", oneLine(err))
	}
}

// again records what could not be.
func (r *runner) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, code := range slices.Sorted(maps.Keys(r.unrecorded)) {
		if r.record(r.unrecorded[code]) != nil {
			return
		}
	}
}

// record needs mu to be held. Alarms of the process have no keys.
func (r *runner) record(c change) error {
	err := r.db.Tx(context.Background(), func(tx *store.Tx) (err error) {
		if c.stands {
			_, err = state.RaiseAlarm(tx, c.Alarm)
		} else {
			_, err = state.ClearAlarm(tx, c.Code, "", c.Last)
		}
		return err
	})
	if err == nil {
		delete(r.unrecorded, c.Code)
		return nil
	}
	if r.unrecorded == nil {
		r.unrecorded = map[string]change{}
	}
	r.unrecorded[c.Code] = c
	return err
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
