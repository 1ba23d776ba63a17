package stage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Sides are what is set up apart where each program has files of its own, in this order. The tenant runs before
// the enclave's turn, with what SetUp left for it first of all.
var Sides = []string{"tenant", "midpoint", "enclave", "commercial", "trust"}

const (
	// kidFile holds the producer's key id, as its people read it out: it reaches the enclave by another way than the card.
	kidFile = "producer.kid"
	// sentFile is the line by which the producer's ledger is verified.
	sentFile = "sent.vkey"
)

// SetUp sets up one side in a layout whose folders are volumes: it needs that side's folder, the media to it and
// from it under carried/, and the auditor's folder. The enclave's turn also needs the tenant's folder, where its
// credentials are; no turn needs another side's keys. It waits for what must have been carried there before. What
// is already set up is an error that says so.
func SetUp(ctx context.Context, c Config, side string) error {
	s, err := apart(c)
	if err != nil {
		return err
	}
	setUpMidPoint, before := s.setUpMidPoint, []string(nil)
	if s.Queue == ServiceBus { // its credentials are made when it begins
		before = []string{s.namespaceFile()}
		setUpMidPoint = func(ctx context.Context) error { return s.setUpMidPointBy(ctx, s.setUpServiceBusApart) }
	}
	steps := map[string]struct {
		made string   // what is there afterwards
		wait []string // what must have come before
		step func(context.Context) error
	}{
		"tenant":   {s.seedFile(), nil, func(context.Context) error { return write(s.seedFile(), s.seed()) }},
		"midpoint": {s.MidPointDir, before, setUpMidPoint},
		"enclave": {s.consumerFile(), []string{s.endpointsFile(), filepath.Join(s.medium("enclave"), "queue")}, func(ctx context.Context) error {
			if err := s.connectTenant(); err != nil {
				return err
			}
			return s.setUpEnclave(ctx)
		}},
		"commercial": {s.producerFile(), []string{filepath.Join(s.medium("commercial"), "queue"), filepath.Join(s.medium("commercial"), "gov-1.pub.pem")}, s.setUpCommercialApart},
		"trust":      {s.cardInEnclave(), []string{filepath.Join(s.medium("enclave"), "producer-card.json"), filepath.Join(s.AuditorDir, kidFile)}, s.setUpTrustApart},
	}
	do, ok := steps[side]
	if !ok {
		return fmt.Errorf("want one of the sides %s, got %q", strings.Join(Sides, ", "), side)
	}
	switch _, err := os.Stat(do.made); {
	case err == nil:
		return fmt.Errorf("%s is set up already (%s is there), and the rehearsal tenant forgets everything when it ends: begin afresh without the volumes of before (docker compose down --volumes)", side, do.made)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, name := range do.wait {
		if err := Until(ctx, name, func() (bool, error) {
			_, err := os.Stat(name)
			if errors.Is(err, fs.ErrNotExist) {
				return false, nil
			}
			return err == nil, err
		}); err != nil {
			return err
		}
	}
	return do.step(ctx)
}

// Attach is the stage of a bridge whose programs are started, watched and ended by somebody else, such as a
// container engine, in the layout of SetUp. The consumer is process 1 of the process namespace that we share, or
// its sockets cannot be seen.
func Attach(ctx context.Context, c Config) (*Stage, error) {
	s, err := apart(c)
	if err != nil {
		return nil, err
	}
	if err := s.connectTenant(); err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(s.AuditorDir, "ledger.vkey"))
	if err != nil {
		return nil, err
	}
	sent, err := os.ReadFile(filepath.Join(s.AuditorDir, sentFile))
	if err != nil {
		return nil, err
	}
	kid, err := os.ReadFile(filepath.Join(s.AuditorDir, kidFile))
	if err != nil {
		return nil, err
	}
	s.Sent = &Ledger{Dir: filepath.Join(s.Commercial, "ledger"), Key: strings.TrimSpace(string(sent))}
	s.Ledger = &Ledger{Dir: filepath.Join(s.EnclaveDir, "ledger"), Key: strings.TrimSpace(string(key))}
	s.Card, s.SigningKID = filepath.Join(s.AuditorDir, "producer-card.json"), strings.TrimSpace(string(kid))
	for name, p := range map[string]**Process{"sandbox": &s.Sandbox, "midpoint": &s.MidPoint, "producer": &s.Producer, "consumer": &s.Consumer} {
		*p = &Process{Name: name, foreign: true}
	}
	s.Consumer.pid = 1
	return s, s.Tenant.ping(ctx)
}

// apart is the layout in which every side has a folder of its own and the mid-point's is a volume.
func apart(c Config) (*Stage, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	c.defaults()
	s := newStage(c)
	s.MidPointDir = filepath.Join(s.MidPointDir, "made") // init makes it, beside what it makes first
	return s, nil
}

// ping asks whether the tenant answers.
func (t *Tenant) ping(ctx context.Context) error {
	_, err := t.Faults(ctx)
	return err
}

func (s *Stage) seedFile() string      { return filepath.Join(s.TenantDir, "seed.yaml") }
func (s *Stage) endpointsFile() string { return filepath.Join(s.TenantDir, "endpoints.json") }
func (s *Stage) cardInEnclave() string { return filepath.Join(s.EnclaveDir, "producer-card.json") }

func (s *Stage) setUpCommercialApart(ctx context.Context) error {
	if err := s.setUpCommercial(ctx); err != nil {
		return err
	}
	return errors.Join(write(filepath.Join(s.AuditorDir, sentFile), s.Sent.Key+"\n"), write(filepath.Join(s.AuditorDir, kidFile), s.SigningKID+"\n"))
}

func (s *Stage) setUpTrustApart(ctx context.Context) error {
	kid, err := os.ReadFile(filepath.Join(s.AuditorDir, kidFile))
	if err != nil {
		return err
	}
	s.SigningKID = strings.TrimSpace(string(kid))
	return s.setUpTrust(ctx)
}
