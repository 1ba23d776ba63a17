package outbox

import (
	"context"
	"crypto"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/store"
	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

const (
	issuer = "https://iam.mssp.example/jml"
	gov1   = "urn:jmlbridge:enclave:gov-1"
	gov2   = "urn:jmlbridge:enclave:gov-2"
)

// clock is a counter that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time       { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }

// faulty fails at its n-th signature from now; 0 never.
type faulty struct {
	crypto.Signer
	mu sync.Mutex
	n  int
}

func (f *faulty) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n--; f.n == 0 {
		return nil, errors.New("the key store is gone")
	}
	return f.Signer.Sign(r, digest, o)
}

type bench struct {
	*Box
	db    *store.DB
	path  string
	clock *clock
	key   *faulty
	ring  *envelope.Ring
	trust envelope.Trust
}

func setup(t testing.TB) *bench { return setupIn(t, t.TempDir()) }

func setupIn(t testing.TB, dir string) *bench {
	t.Helper()
	b := &bench{path: filepath.Join(dir, "producer.db"), clock: &clock{t: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)}}
	if err := store.Create(b.path, Schema); err != nil {
		t.Fatal(err)
	}
	signing, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	decryption, err := keys.GenerateDecryption(keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	b.key = &faulty{Signer: signing}
	if b.ring, err = envelope.NewRing(decryption); err != nil {
		t.Fatal(err)
	}
	trusted, err := envelope.NewTrustedKey(signing.Public())
	if err != nil {
		t.Fatal(err)
	}
	b.trust = envelope.Trust{trusted.KID: trusted}
	signer, err := seal.NewSigner(b.key)
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := seal.NewRecipient(decryption.Public())
	if err != nil {
		t.Fatal(err)
	}
	b.open(t)
	if err := Init(context.Background(), b.db, issuer, "hr", []string{gov1, gov2}, b.clock.now()); err != nil {
		t.Fatal(err)
	}
	b.Box, err = New(b.db, Config{
		Issuer: issuer, Stream: "hr", Signer: signer, Recipients: map[string]*seal.Recipient{gov1: recipient, gov2: recipient},
		ClosedFor: 14 * 24 * time.Hour, Now: b.clock.now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) open(t testing.TB) {
	t.Helper()
	var err error
	if b.db, err = store.Open(b.path, Schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.db.Close() })
	if b.Box != nil {
		b.Box.db = b.db
	}
}

// joins announces subjects in one transaction.
func (b *bench) joins(t testing.TB, aud string, subjects ...string) []Sent {
	t.Helper()
	sent, err := b.Update(context.Background(), aud, subjects, b.emit(&schema.Joiner{Person: schema.Person{DisplayName: "A"}, Roles: []string{}, Start: schema.At(b.clock.now())}))
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

func (b *bench) leave(t testing.TB, aud, subject string) []Sent {
	t.Helper()
	sent, err := b.Update(context.Background(), aud, []string{subject}, b.emit(&schema.Leaver{Effective: schema.At(b.clock.now()), Reason: "other"}))
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

func (b *bench) emit(e schema.Event) Decide {
	return func(_ string, last register.State) (register.Decision, error) {
		var fresh schema.Event
		switch e := e.(type) {
		case *schema.Joiner:
			c := *e
			fresh = &c
		case *schema.Leaver:
			c := *e
			fresh = &c
		default:
			fresh = e
		}
		return register.Emit(last, register.Said{Event: fresh}, b.clock.now())
	}
}

// midpoint keeps what was published, by the order of arrival, and fails as it is told.
type midpoint struct {
	mu     sync.Mutex
	got    []queue.Message
	answer func(n int) (confirm int, keep int, err error) // nil: everything is kept and confirmed
	came   chan struct{}                                  // a token after each Publish, if not nil
}

func (m *midpoint) Publish(_ context.Context, msgs []queue.Message) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	confirm, keep, err := len(msgs), len(msgs), error(nil)
	if m.answer != nil {
		confirm, keep, err = m.answer(len(msgs))
	}
	m.got = append(m.got, msgs[:keep]...)
	if m.came != nil {
		select {
		case m.came <- struct{}{}:
		default:
		}
	}
	return confirm, err
}

func (m *midpoint) messages() []queue.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]queue.Message(nil), m.got...)
}

// drain relays until nothing waits.
func (b *bench) drain(t testing.TB, aud string, m *midpoint) {
	t.Helper()
	r := b.relay(t, aud, m)
	for {
		n, err := r.step(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

func (b *bench) relay(t testing.TB, aud string, m *midpoint) *relay {
	t.Helper()
	r := &relay{b: b.Box, audience: aud, to: m}
	if err := b.db.Read().QueryRow("SELECT ref FROM chain WHERE aud = ?", aud).Scan(&r.ref); err != nil {
		t.Fatal(err)
	}
	return r
}

// chainOf opens messages as an enclave would, drops repetitions, and demands one chain without holes.
func (b *bench) chainOf(t testing.TB, aud string, msgs []queue.Message) []*schema.SET {
	t.Helper()
	var sets []*schema.SET
	bodies := map[string]string{}
	var head schema.Digest
	var seq uint64
	generation := 0
	for _, m := range msgs {
		if was, ok := bodies[m.ID]; ok {
			if was != string(m.Body) {
				t.Fatalf("message %s came with other octets", m.ID)
			}
			continue
		}
		bodies[m.ID] = string(m.Body)
		o, err := envelope.Open(m.Body, b.ring, b.trust)
		if err != nil {
			t.Fatal(err)
		}
		s, err := schema.Decode(o.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if s.Stream.Generation != generation {
			generation, seq, head = s.Stream.Generation, 0, schema.Digest{}
		}
		if s.Audience != aud || s.ID != m.ID || s.Stream.Seq != seq+1 || s.Stream.Prev != head {
			t.Fatalf("after %d of generation %d came %+v of %s", seq, generation, s.Stream, s.Audience)
		}
		if k := s.Event.Kind(); k != schema.KindRoster && len(o.Payload) != schema.SizeClass {
			t.Fatalf("a %s of %d octets gives itself away", k, len(o.Payload))
		}
		seq, head = s.Stream.Seq, o.PayloadDigest
		sets = append(sets, s)
	}
	return sets
}

func kinds(sets []*schema.SET) (ks []schema.Kind) {
	for _, s := range sets {
		ks = append(ks, s.Event.Kind())
	}
	return ks
}

// unsend makes everything wait again.
func (b *bench) unsend() error {
	return b.db.Tx(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE outbox SET sent = NULL")
		return err
	})
}
