package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/config"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/program"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
	"jmlbridge/schema"
)

// maxApproval bounds how long one approval may last: it has to be thought about again.
const maxApproval = 366 * 24 * time.Hour

// approveFlags are the members of an approval on a command line.
type approveFlags struct {
	enclaves        []string
	engagement      int
	roles           []string
	length, expiry  string
	ticket, subject string
	wait            time.Duration
}

func (a *app) approveCommand() *cobra.Command {
	var f approveFlags
	var format string
	cmd := &cobra.Command{
		Use:   "approve SUBJECT",
		Short: "Approve roles of a person, as the second signer",
		Long: `approve says that SUBJECT, the HR id, may have the roles named until a time. It is another person's word than the
producer's: it takes a configuration of its own with "speaks: approvals", a key that signs nothing else and a stream of
its own, under the producer's issuer. Where an enclave's policy asks for it the role is given with it and not before,
and taken when it ends. A later approval of the same role takes the place of an earlier one: to take one back, approve
with --for 0s.

It is sent at once where no "producer run" of this configuration relays it.`,
		Example: `  producer -c approver.yaml approve 4711 --role tenant-admin --for 90d --ticket CHG-88
  producer -c approver.yaml approve 4711 --engagement 2 --role tenant-admin --expiry 2027-01-01T00:00:00Z
  producer -c approver.yaml approve 4711 --role tenant-admin --for 0s`,
		GroupID: "work",
		Args:    command.Exactly("SUBJECT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			inJSON, err := command.AsJSON(format)
			if err != nil {
				return err
			}
			f.subject = args[0]
			sent, err := a.approve(cmd.Context(), &f)
			if inJSON && (err == nil || len(sent) > 0) {
				return errors.Join(err, program.PrintJSON(a.out, sent))
			}
			for _, s := range sent {
				_, werr := fmt.Fprintf(a.out, "stored approval of subject %s, engagement %d, for %s as seq %d (jti %s)\n", s.Subject, f.engagement, s.Audience, s.Seq, s.ID)
				err = errors.Join(err, unreported(fmt.Sprintf("stored for %s as number %d, and will be sent", s.Audience, s.Seq), werr))
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.enclaves, "enclave", nil, "`name` of an enclave to say it to; may be repeated (default: all)")
	fl.IntVar(&f.engagement, "engagement", 1, "`number` of the engagement that it is for: the enclave's hold says which, and it is no good for another")
	fl.StringArrayVar(&f.roles, "role", nil, "role `name`; may be repeated; required")
	fl.StringVar(&f.length, "for", "", "`time` from now until which it is good, like 90d")
	fl.StringVar(&f.expiry, "expiry", "", "`instant` (RFC 3339) until which it is good, in the place of --for")
	fl.StringVar(&f.ticket, "ticket", "", "the `ticket` under which it was approved")
	fl.DurationVar(&f.wait, "wait", 30*time.Second, "`time` to wait for the mid-point; 0 only stores it")
	command.OutputFlag(cmd, &format)
	return cmd
}

// until is the expiry that the flags state.
func (f *approveFlags) until(now time.Time) (time.Time, error) {
	if (f.length == "") == (f.expiry == "") {
		return now, command.Usagef("say until when: --for or --expiry")
	}
	end := now
	if f.expiry != "" {
		i, err := optional("--expiry", f.expiry, now)
		if err != nil {
			return now, err
		}
		if i == nil {
			return now, command.Usagef("--expiry: want an instant, got %q", f.expiry)
		}
		end = i.Time()
	} else {
		d, err := config.ParseDuration(f.length)
		if err != nil || d.D() < 0 {
			return now, command.Usagef("--for: want a time like 90d, got %q", f.length)
		}
		end = now.Add(d.D())
	}
	if end.After(now.Add(maxApproval)) {
		return now, command.Usagef("an approval lasts a year at most; want at most %s", now.Add(maxApproval).UTC().Format(time.RFC3339))
	}
	return end, nil
}

func (a *app) approve(ctx context.Context, f *approveFlags) (all []outbox.Sent, err error) {
	if len(f.roles) == 0 {
		return nil, command.Usagef("--role: name the roles that are approved")
	}
	end, err := f.until(a.now())
	if err != nil {
		return nil, err
	}
	cfg, err := loadConfig(a.configFile)
	if err != nil {
		return nil, err
	}
	if !cfg.approves() {
		return nil, cfg.file.Errorf("$.speaks", "a producer of facts approves none: whoever approves has a configuration and a key of their own, with speaks: %s", speaksApprovals)
	}
	var targets []*Enclave
	for _, name := range f.enclaves {
		e, err := cfg.enclave(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(targets, e) {
			targets = append(targets, e)
		}
	}
	for i := range cfg.Enclaves {
		if len(f.enclaves) == 0 {
			targets = append(targets, &cfg.Enclaves[i])
		}
	}
	s, err := a.open(ctx, cfg, opening{reports: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	by, err := a.login()
	if err != nil {
		return nil, err
	}
	roles := slices.Compact(slices.Sorted(slices.Values(f.roles)))
	for _, e := range targets {
		sent, err := s.box.Approve(ctx, e.Audience, f.subject, f.ticket, &schema.Approval{Engagement: f.engagement, Roles: roles, Expiry: schema.At(end)},
			&entry.Operator{By: entry.ID(by), Action: "approve", Issuer: cfg.Issuer, Subject: entry.ID(f.subject), Engagement: f.engagement, Until: entry.MomentAt(end), Target: entry.ID(f.ticket)})
		all = append(all, sent...)
		if err != nil {
			return all, fmt.Errorf("enclave %s: %w", e.Name, err)
		}
	}
	return all, a.send(ctx, s, targets, f.wait)
}

// send relays what waits, where nobody else does.
func (a *app) send(ctx context.Context, s *opened, targets []*Enclave, limit time.Duration) error {
	if limit <= 0 {
		a.hintRelay(ctx, s)
		return nil
	}
	lock, err := takeLock(s.cfg.Database)
	if errors.As(err, new(*store.LockedError)) {
		return nil // run does it
	}
	if err != nil {
		return err
	}
	defer lock.Release()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	failed := make([]error, len(targets))
	var all sync.WaitGroup
	for i, e := range targets { // at once: one mid-point that is away keeps nothing from the next
		all.Go(func() {
			if err := s.sendTo(ctx, e); err != nil {
				failed[i] = fmt.Errorf("it is stored, and the mid-point of enclave %s has not confirmed it; the next approve or producer run sends it: %w", e.Name, err)
			}
		})
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	p, err := ledger.New(s.ledger)
	if err != nil {
		return err
	}
	return p.Publish(ctx)
}

// sendTo relays to one enclave until nothing waits.
func (s *opened) sendTo(ctx context.Context, e *Enclave) (err error) {
	q, err := anyqueue.OpenPublisher(e.Queue.Via(s.cfg.Transport), anyqueue.Options{Log: s.log.With("aud", e.Audience)})
	if err != nil {
		return err
	}
	relaying, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.box.Relay(relaying, e.Audience, q) }()
	defer func() {
		stop()
		err = errors.Join(err, q.Close())
	}()
	tick := time.NewTicker(sendPoll)
	defer tick.Stop()
	for {
		waiting, err := s.waiting(ctx, e.Audience)
		if err != nil || waiting == 0 {
			stop()
			return errors.Join(err, stopped(relaying, <-ended))
		}
		select {
		case <-tick.C:
		case err := <-ended:
			return err
		}
	}
}

// sendPoll is how often it is looked whether the mid-point has confirmed everything.
const sendPoll = 20 * time.Millisecond

func (s *opened) waiting(ctx context.Context, audience string) (int, error) {
	all, err := outbox.StatusOf(ctx, s.db, time.Now())
	for _, x := range all {
		if x.Audience == audience {
			return x.Waiting, err
		}
	}
	return 0, err
}
