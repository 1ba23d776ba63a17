package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"jmlbridge/internal/command"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/liveness"
	"jmlbridge/internal/program"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/producer/outbox"
)

const (
	publishEvery = time.Second // least time between two publications of the ledger
	maxReplaced  = 16          // replaced processes that wait to be noted for status
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Relay messages to the mid-point, with heartbeats and rosters, until stopped",
		Long: `run carries stored messages to each enclave's queue, in order, until the mid-point has confirmed them;
says a heartbeat every minute and a roster every day; makes leavers of those whose announced last day has
come; and publishes the ledger. While a mid-point is away messages wait in the database.

One runner at a time. import and emit work beside it. SIGINT or SIGTERM stops it after the message in
hand.`,
		Example: `  producer -c producer.yaml run --log json`,
		GroupID: "work",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			lock, err := takeLock(cfg.Database)
			if err != nil {
				return err
			}
			defer lock.Release()
			return stopped(cmd.Context(), a.work(cmd.Context(), cfg)) // also while the parts are still beginning
		},
	}
}

// childCommand is the process that speaks to a mid-point, where that is one of its own.
func childCommand() *cobra.Command {
	return &cobra.Command{
		Use: anyqueue.ChildCommand, Short: "The process that speaks to the mid-point; run and doctor start it", Hidden: true, Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error { return anyqueue.RunChild(os.Stdin, os.Stdout, os.Stderr) },
	}
}

// work is run, once we are the one runner.
func (a *app) work(ctx context.Context, cfg *Config) (err error) {
	var publisher *ledger.Publisher
	s, err := a.open(ctx, cfg, opening{wake: func() { publisher.Wake() }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	s.ledger.Interval = publishEvery
	s.ledger.Report = func(err error) {
		if err != nil {
			s.log.Error("the ledger was not published; it is tried again", "err", err)
		}
	}
	if publisher, err = ledger.New(s.ledger); err != nil {
		return err
	}
	queues := make([]queue.Publisher, len(cfg.Enclaves))
	defer func() {
		for _, q := range queues {
			if q != nil {
				err = errors.Join(err, q.Close())
			}
		}
	}()
	replaced := make([]chan error, len(cfg.Enclaves))
	for i, e := range cfg.Enclaves {
		replaced[i] = make(chan error, maxReplaced)
		o := anyqueue.Options{Log: s.log.With("aud", e.Audience), Replaced: func(why error) {
			select {
			case replaced[i] <- why:
			default: // the log has it
			}
		}}
		if queues[i], err = anyqueue.OpenPublisher(e.Queue.Via(cfg.Transport), o); err != nil {
			return command.Misusef("queue of enclave %s: %w", e.Name, err)
		}
		if err := outbox.Known(ctx, s.db, e.Audience); err != nil {
			return err
		}
		if err := s.box.NewCourier(ctx, e.Audience); err != nil {
			return err
		}
	}
	instance := uuid.NewString()
	started, err := s.startedEntry("run", instance)
	if err != nil {
		return err
	}
	if err := outbox.Record(ctx, s.db, a.now(), started); err != nil {
		return err
	}
	switch made, err := cfg.complete(s.key.Public(), s.generation); {
	case err != nil:
		s.log.Warn("the card or the ledger's line of this generation is missing and cannot be made; `producer recover` makes it where this user may write", "generation", s.generation, "err", err)
	case len(made) > 0:
		s.log.Warn("made what the recover that opened this generation had not left: carry the card to each enclave and the line of a ledger to auditors", "generation", s.generation, "files", made)
	}
	if cfg.Signing.Next != nil && s.next == nil {
		s.log.Warn("signing.next names a key that is not there: this run will not have it; make it (`producer key next`) and restart before `producer key switch`")
	}
	pulse := liveness.NewPulse(cfg.Liveness)
	doctor.Warn(s.log, checkHeld, cfg.examineHoldings())
	s.log.Info("producer running", "version", program.Version(), "instance", instance, "fips", program.FIPS().Enabled, "fips_module", program.FIPS().Version, "enclaves", len(cfg.Enclaves))
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return publisher.Run(gctx) })
	for i := range cfg.Enclaves {
		e := &cfg.Enclaves[i]
		g.Go(func() error { return stopped(gctx, s.box.Relay(gctx, e.Audience, queues[i])) })
		g.Go(func() error { return stopped(gctx, s.beat(gctx, e.Audience, pulse)) })
		g.Go(func() error { return stopped(gctx, s.noteReplaced(gctx, e.Audience, replaced[i])) })
	}
	if a.started != nil {
		a.started()
	}
	err = g.Wait() // of the relays, the database's; of the publisher, that of its last publication
	s.log.Info("producer stopped", "instance", instance)
	return err
}

// noteReplaced keeps for status what became of the process that speaks to the mid-point. What cannot be noted is in the
// log all the same.
func (s *opened) noteReplaced(ctx context.Context, audience string, replaced <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case why := <-replaced:
			if err := s.box.CourierReplaced(ctx, audience, why.Error()); err != nil && ctx.Err() == nil {
				s.log.Error("could not note for status that the process which speaks to the mid-point was replaced", "aud", audience, "err", err)
			}
		}
	}
}

// stopped tells the end that was asked for from a failure.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// beat does what is due by the clock: announced ends, heartbeats, rosters, pruning. What fails is said
// and tried again: a heartbeat that stays out is an alarm in the enclave. What goes well is a sign of life.
func (s *opened) beat(ctx context.Context, audience string, pulse *liveness.Pulse) error {
	every := min(max(s.cfg.Heartbeat.D()/12, 100*time.Millisecond), 5*time.Second)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if err := s.tick(ctx, audience); err != nil && ctx.Err() == nil {
			s.log.Error("a heartbeat or roster could not be stored; it is tried again", "aud", audience, "err", err)
		} else if err := pulse.Tell(); err != nil {
			s.log.Error("could not write the liveness file", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (s *opened) tick(ctx context.Context, audience string) error {
	if s.cfg.approves() {
		return nil // it speaks when its person does
	}
	_, err := s.box.Expire(ctx, audience)
	if _, rerr := s.box.Roster(ctx, audience, s.cfg.Roster.D()); rerr != nil {
		err = errors.Join(err, rerr)
	}
	beats, berr := s.box.Heartbeat(ctx, audience, s.cfg.Heartbeat.D())
	for _, b := range beats {
		s.log.Debug("heartbeat", "aud", audience, "seq", b.Seq, "jti", b.ID)
		if _, perr := s.box.Prune(ctx, audience); perr != nil {
			berr = errors.Join(berr, perr)
		}
	}
	return errors.Join(err, berr)
}

func (a *app) rosterCommand() *cobra.Command {
	var enclaves []string
	cmd := &cobra.Command{
		Use:   "roster",
		Short: "State the whole register now",
		Long: `roster stores a roster: everyone who is live and everyone closed lately, as positive facts. It heals gaps
in an enclave and renews leases. run stores one every day by itself.`,
		Example: `  producer -c producer.yaml roster
  producer -c producer.yaml roster --enclave GOV-1`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			var audiences []string
			for _, name := range enclaves {
				e, err := cfg.enclave(name)
				if err != nil {
					return err
				}
				audiences = append(audiences, e.Audience)
			}
			if len(audiences) == 0 {
				for _, e := range cfg.Enclaves {
					audiences = append(audiences, e.Audience)
				}
			}
			s, err := a.open(cmd.Context(), cfg, opening{reports: true, facts: true})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			if err := a.note(cmd.Context(), s.db, &entry.Operator{Action: "roster"}); err != nil {
				return err
			}
			var unsaid error // the rosters go to all, whether or not that can be told
			for _, aud := range audiences {
				sent, err := s.box.Roster(cmd.Context(), aud, 0)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "stored a roster for %s in %s, seq %d to %d\n", aud, count(len(sent), "part"), sent[0].Seq, sent[len(sent)-1].Seq)
				unsaid = cmp.Or(unsaid, err)
			}
			a.hintRelay(cmd.Context(), s)
			return unreported("the rosters are stored and will be sent", unsaid)
		},
	}
	cmd.Flags().StringSliceVar(&enclaves, "enclave", nil, "`name` of an enclave; may be repeated (default: all)")
	return cmd
}
