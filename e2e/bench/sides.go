package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/store"
	"jmlbridge/producer/outbox"
	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

// pair is the two keys between a producer and an enclave, as the programs make them by default.
type pair struct {
	signing    crypto.Signer
	decryption crypto.Signer
}

func newPair() (p pair, err error) {
	if p.signing, err = keys.GenerateSigning(keys.ES256); err != nil {
		return p, err
	}
	p.decryption, err = keys.GenerateDecryption(keys.P256)
	return p, err
}

// sender is the producer's outbox, as the producer itself uses it.
type sender struct {
	db     *store.DB
	box    *outbox.Box
	marked chan struct{} // told after the relay marked a batch as sent, and when messages were stored
	people int           // announced so far
}

func newSender(ctx context.Context, dir string, p pair) (_ *sender, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "producer.db")
	if err := store.Create(path, outbox.Schema); err != nil {
		return nil, err
	}
	s := &sender{marked: make(chan struct{}, 1)}
	if s.db, err = store.Open(path, outbox.Schema); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.db.Close())
		}
	}()
	if err := outbox.Init(ctx, s.db, issuer, streamName, []string{audience}, time.Now()); err != nil {
		return nil, err
	}
	signer, err := seal.NewSigner(p.signing)
	if err != nil {
		return nil, err
	}
	to, err := seal.NewRecipient(p.decryption.Public())
	if err != nil {
		return nil, err
	}
	s.box, err = outbox.New(s.db, outbox.Config{Issuer: issuer, Stream: streamName, Signer: signer, Recipients: map[string]*seal.Recipient{audience: to},
		ClosedFor: 14 * 24 * time.Hour, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Wake: func() {
			select {
			case s.marked <- struct{}{}:
			default:
			}
		}})
	return s, err
}

// stored is how many messages one transaction stores, as an import does.
const stored = 1000

// say stores n messages: of four, two are joiners, one is a mover and one a leaver of people who joined
// before. Without anyone to move yet all are joiners.
func (s *sender) say(ctx context.Context, n int) error {
	known := s.people
	left := min(known, n/4)
	for done := 0; done < n; {
		var subjects []string
		events := map[string]schema.Event{}
		now := schema.At(time.Now())
		for ; done < n && len(subjects) < stored; done++ {
			var id string
			switch {
			case done%4 == 2 && done/4 < left:
				id = subject(known - 1 - done/4)
				events[id] = &schema.Mover{Person: person(id), Roles: []string{"on-call", "soc-analyst"}, Start: now, Effective: now}
			case done%4 == 3 && done/4 < left:
				id = subject(done / 4) // of the oldest; whoever has left before is not taken again, see below
				events[id] = &schema.Leaver{Effective: now, Reason: schema.ReasonTermination}
			default:
				id = subject(s.people)
				s.people++
				events[id] = &schema.Joiner{Person: person(id), Roles: []string{"soc-analyst"}, Start: now}
			}
			subjects = append(subjects, id)
		}
		_, err := s.box.Update(ctx, audience, subjects, func(id string, last register.State) (register.Decision, error) {
			event := events[id]
			if _, joins := event.(*schema.Joiner); !joins && !last.Status.Live() { // left in an earlier round: the next engagement
				event = &schema.Joiner{Person: person(id), Roles: []string{"soc-analyst"}, Start: now}
			}
			return register.Emit(last, register.Said{Event: event}, time.Now())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// join stores n joiners.
func (s *sender) join(ctx context.Context, n int) error {
	for left := n; left > 0; {
		now := schema.At(time.Now())
		var subjects []string
		for ; left > 0 && len(subjects) < stored; left-- {
			subjects = append(subjects, subject(s.people))
			s.people++
		}
		_, err := s.box.Update(ctx, audience, subjects, func(id string, last register.State) (register.Decision, error) {
			return register.Emit(last, register.Said{Event: &schema.Joiner{Person: person(id), Roles: []string{"soc-analyst"}, Start: now}}, time.Now())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func subject(i int) string { return fmt.Sprintf("%07d", 1_000_000+i) }

// person is as full as HR systems give them.
func person(id string) schema.Person {
	return schema.Person{Name: schema.Name{GivenName: "Grace-" + id, FamilyName: "Example"}, DisplayName: "Grace-" + id + " Example", UserType: "Employee",
		Title: "Security Analyst", Organization: "Example Defense", Division: "Managed Services", Department: "Security Operations", CostCenter: "4711", UsageLocation: "US"}
}

// waiting is how many messages the relay has not marked as sent.
func (s *sender) waiting(ctx context.Context) (n int, err error) {
	err = s.db.Read().QueryRowContext(ctx, "SELECT COUNT(*) FROM outbox WHERE sent IS NULL").Scan(&n)
	return n, err
}

// relay publishes what is stored, until all of it is marked as sent.
func (s *sender) relay(ctx context.Context, to outbox.Publisher) error {
	ctx, stop := context.WithTimeout(ctx, roundTime)
	defer stop()
	relayed := make(chan error, 1)
	go func() { relayed <- s.box.Relay(ctx, audience, to) }()
	for {
		select {
		case err := <-relayed:
			return fmt.Errorf("relay: %w", err)
		case <-s.marked:
		}
		n, err := s.waiting(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	stop()
	if err := <-relayed; !errors.Is(err, context.Canceled) {
		return fmt.Errorf("relay: %w", err)
	}
	return nil
}

// roundTime bounds one round of one side: whatever takes longer is broken, not slow.
const roundTime = 10 * time.Minute

// tap keeps what goes through.
type tap struct {
	to outbox.Publisher

	mu   sync.Mutex // guards msgs
	msgs []queue.Message
}

// Publish implements outbox.Publisher.
func (t *tap) Publish(ctx context.Context, msgs []queue.Message) (int, error) {
	n, err := t.to.Publish(ctx, msgs)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.msgs = append(t.msgs, msgs[:n]...)
	return n, err
}

// take returns what went through since the last call.
func (t *tap) take() []queue.Message {
	t.mu.Lock()
	defer t.mu.Unlock()
	msgs := t.msgs
	t.msgs = nil
	return msgs
}

// receiver is an enclave that trusts the producer of p.
type receiver struct {
	db    *state.DB
	ring  *envelope.Ring
	trust envelope.Trust // what intake will find in the database too
}

func newReceiver(ctx context.Context, dir string, p pair) (_ *receiver, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	r := new(receiver)
	if r.ring, err = envelope.NewRing(p.decryption); err != nil {
		return nil, err
	}
	trusted, err := envelope.NewTrustedKey(p.signing.Public())
	if err != nil {
		return nil, err
	}
	r.trust = envelope.TrustIn(trusted)
	der, err := x509.MarshalPKIXPublicKey(p.signing.Public())
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "consumer.db")
	if err := state.Create(path, audience, time.Now()); err != nil {
		return nil, err
	}
	if r.db, err = state.Open(path); err != nil {
		return nil, err
	}
	err = r.db.Update(ctx, func(tx *store.Tx) error {
		return state.TrustKey(tx, &state.Key{Public: der, Key: admit.Key{Issuer: issuer, Stream: streamName, Kinds: schema.ProducerKinds}}, state.Pin{}, state.By{Login: "bench", Now: time.Now()})
	})
	if err != nil {
		return nil, errors.Join(err, r.db.Close())
	}
	return r, nil
}
