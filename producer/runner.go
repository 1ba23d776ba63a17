package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/producer/outbox"
)

// publishEvery is the least time between two publications of the ledger.
const publishEvery = time.Second

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
		Args:    noArgs,
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
	queues := make([]*natsqueue.Publisher, len(cfg.Enclaves))
	defer func() {
		for _, q := range queues {
			if q != nil {
				err = errors.Join(err, q.Close())
			}
		}
	}()
	for i := range cfg.Enclaves {
		if queues[i], err = natsqueue.OpenPublisher(cfg.Enclaves[i].Queue); err != nil {
			return misusef("queue of enclave %s: %w", cfg.Enclaves[i].Name, err)
		}
		if err := s.box.Known(ctx, cfg.Enclaves[i].Audience); err != nil {
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
	s.log.Info("producer running", "version", program.Version(), "instance", instance, "fips", program.FIPS().Enabled, "enclaves", len(cfg.Enclaves))
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return publisher.Run(gctx) })
	for i := range cfg.Enclaves {
		e := &cfg.Enclaves[i]
		g.Go(func() error { return stopped(gctx, s.box.Relay(gctx, e.Audience, queues[i])) })
		g.Go(func() error { return stopped(gctx, s.beat(gctx, e.Audience)) })
	}
	if a.started != nil {
		a.started()
	}
	err = g.Wait() // of the relays, the database's; of the publisher, that of its last publication
	s.log.Info("producer stopped", "instance", instance)
	return err
}

// stopped tells the end that was asked for from a failure.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// beat does what is due by the clock: announced ends, heartbeats, rosters, pruning. What fails is said
// and tried again: a heartbeat that stays out is an alarm in the enclave.
func (s *opened) beat(ctx context.Context, audience string) error {
	every := min(max(s.cfg.Heartbeat.D()/12, 100*time.Millisecond), 5*time.Second)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if err := s.tick(ctx, audience); err != nil && ctx.Err() == nil {
			s.log.Error("a heartbeat or roster could not be stored; it is tried again", "aud", audience, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (s *opened) tick(ctx context.Context, audience string) error {
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
		Args:    noArgs,
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
			s, err := a.open(cmd.Context(), cfg, opening{reports: true})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			if err := a.note(cmd.Context(), s.db, &entry.Operator{Action: "roster"}); err != nil {
				return err
			}
			for _, aud := range audiences {
				sent, err := s.box.Roster(cmd.Context(), aud, 0)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "stored a roster for %s in %d parts, seq %d to %d\n", aud, len(sent), sent[0].Seq, sent[len(sent)-1].Seq)
			}
			a.hintRelay(cfg)
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&enclaves, "enclave", nil, "`name` of an enclave; may be repeated (default: all)")
	return cmd
}
