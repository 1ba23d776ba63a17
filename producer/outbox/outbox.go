// Package outbox numbers, chains, signs, encrypts and stores what is said to each enclave, and relays it
// to the mid-point.
//
// A change of the register, the message that says it, its number and its ledger entry are one database
// transaction: accepted means durable, and nothing is said that is not remembered. A message's octets
// never change once it is stored; the relay may publish them again, never others under the same number.
// The mid-point is not trusted: a queue that is dead, full or lying only lengthens the outbox.
//
// Several processes may write at the same time (import beside run): numbers are given inside the
// transaction. Only one may relay (store.Take).
package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"jmlbridge/internal/crash"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

const (
	// cutWindow is how long heartbeats repeat a cut.
	cutWindow = 24 * time.Hour
	// maxBack is how far the clock may be behind the last message before nothing more is numbered:
	// an enclave judges freshness by our iat.
	maxBack = 5 * time.Minute
	// chunk is how many messages are sealed before they are written: bounds memory, keeps all
	// processors busy.
	chunk = 256
)

// Config is what a Box works with.
type Config struct {
	Issuer     string
	Stream     string
	Signer     *seal.Signer
	Next       *seal.Signer               // what an operator may switch to; nil: nothing. Which of the two signs stands in the database
	Sealers    int                        // messages signed and encrypted at once; 0: one on each processor. A key that is asked over the network wants more
	Recipients map[string]*seal.Recipient // by audience: every enclave that this producer speaks to
	Approvals  bool                       // the stream is a second signer's: nobody is registered, and no roster begins a generation
	ClosedFor  time.Duration              // how long a roster repeats closed engagements
	Now        func() time.Time
	Log        *slog.Logger
	Wake       func()     // called when messages were stored or relayed; never blocks; may be nil
	Announce   slog.Level // of the line for each message that is stored; the zero value is info
}

// Box is the producer's state in its database. Its methods may be called from many goroutines.
type Box struct {
	db *store.DB
	c  Config
}

// New checks that the database is of the configured producer.
func New(db *store.DB, c Config) (*Box, error) {
	if err := Belongs(db, c.Issuer, c.Stream); err != nil {
		return nil, err
	}
	return &Box{db, c}, nil
}

// A ForeignError says that the database is another producer's than the configured one.
type ForeignError struct{ reason string }

func (e *ForeignError) Error() string { return e.reason }

// Belongs returns a *ForeignError unless the database is of that issuer and stream.
func Belongs(db *store.DB, issuer, stream string) error {
	var is, has string
	if err := db.Read().QueryRow("SELECT issuer, stream FROM producer").Scan(&is, &has); err != nil {
		return fmt.Errorf("read whose database %s is: %w", db.Path(), err)
	}
	if is != issuer || has != stream {
		return &ForeignError{fmt.Sprintf("database %s is of issuer %s, stream %s; the configuration says issuer %s, stream %s: a stream's name never changes, set it back", db.Path(), is, has, issuer, stream)}
	}
	return nil
}

// Sent is a message that was numbered and stored; the relay has it from here.
type Sent struct {
	Audience   string          `json:"aud"`
	Subject    string          `json:"subject,omitempty"`
	Kind       schema.Kind     `json:"kind"`
	Generation int             `json:"generation"`
	Seq        uint64          `json:"seq"`
	ID         string          `json:"jti"`
	Issued     schema.Instant  `json:"iat"`
	Cases      []register.Case `json:"-"`
}

// claims is a message that has everything but its place in the chain.
func (b *Box) claims(c *chain, iat schema.Instant) (*schema.SET, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make a message id: %w", err)
	}
	return &schema.SET{
		Issuer: b.c.Issuer, Audience: c.audience, ID: id.String(), IssuedAt: iat, Version: 1,
		Stream: schema.Position{ID: b.c.Stream, Generation: c.generation, Seq: c.seq + 1, Prev: c.head},
	}, nil
}

// draft is a message on its way into the outbox.
type draft struct {
	set     *schema.SET
	payload []byte
	hash    schema.Digest
	sealed  seal.Sealed
}

// store gives sets their numbers, in order, and makes all of them part of tx.
func (b *Box) store(tx *store.Tx, c *chain, sets []*schema.SET) ([]Sent, error) {
	recipient := b.c.Recipients[c.audience]
	if recipient == nil {
		return nil, fmt.Errorf("enclave %s: no encryption key is configured", c.audience)
	}
	var all []Sent
	for len(sets) > 0 {
		n := min(chunk, len(sets))
		if sets[0].Event.Kind() == schema.KindRoster {
			n = min(n, 4*runtime.GOMAXPROCS(0)) // a part is fifty times an event
		}
		sent, err := b.storeChunk(tx, c, sets[:n], recipient)
		if err != nil {
			return nil, err
		}
		all = append(all, sent...)
		sets = sets[n:]
	}
	if _, err := tx.Exec("UPDATE chain SET seq = ?, head = ?, last_iat = ? WHERE ref = ?", int64(c.seq), c.head[:], c.lastIAT, c.ref); err != nil {
		return nil, fmt.Errorf("move the chain of %s on: %w", c.audience, err)
	}
	if b.c.Wake != nil && len(all) > 0 {
		tx.After(b.c.Wake)
	}
	return all, nil
}

func (b *Box) storeChunk(tx *store.Tx, c *chain, sets []*schema.SET, recipient *seal.Recipient) ([]Sent, error) {
	drafts := make([]draft, len(sets))
	for i, s := range sets { // one after another: each names the hash of the one before
		s.Stream = schema.Position{ID: b.c.Stream, Generation: c.generation, Seq: c.seq + 1, Prev: c.head}
		payload, err := schema.EncodePadded(s)
		if err != nil {
			return nil, fmt.Errorf("%s of subject %q: %w", s.Event.Kind(), s.Subject, err)
		}
		drafts[i] = draft{set: s, payload: payload, hash: schema.DigestOf(payload)}
		c.seq, c.head, c.lastIAT = s.Stream.Seq, drafts[i].hash, s.IssuedAt.Unix()
	}
	signer, err := b.signer(tx)
	if err != nil {
		return nil, err
	}
	if err := b.seal(drafts, signer, recipient); err != nil {
		return nil, err
	}
	now := b.c.Now()
	sent := make([]Sent, len(drafts))
	for i := range drafts {
		d := &drafts[i]
		s := d.set
		kind := s.Event.Kind()
		if err := put(tx, c, d, now); err != nil {
			return nil, fmt.Errorf("store message %d: %w", s.Stream.Seq, err)
		}
		if kind.Cuts() {
			engagement, effective := aboutCut(s.Event)
			if _, err := tx.Exec("INSERT INTO cut VALUES (?, ?, ?, ?, ?, ?, ?)",
				c.ref, int64(s.Stream.Seq), s.Subject, engagement, string(kind), effective.Unix(), now.Unix()); err != nil {
				return nil, fmt.Errorf("remember cut %d: %w", s.Stream.Seq, err)
			}
		}
		if _, err := ledger.Append(tx, entry.New(now, b.record(c, d, signer, recipient))); err != nil {
			return nil, err
		}
		sent[i] = Sent{Audience: c.audience, Subject: s.Subject, Kind: kind, Generation: s.Stream.Generation, Seq: s.Stream.Seq, ID: s.ID, Issued: s.IssuedAt}
	}
	return sent, nil
}

func put(tx *store.Tx, c *chain, d *draft, now time.Time) error {
	s := d.set
	res, err := tx.Exec("INSERT INTO outbox (chain, generation, seq, jti, event, subject, stored) VALUES (?, ?, ?, ?, ?, ?, ?)",
		c.ref, s.Stream.Generation, int64(s.Stream.Seq), s.ID, string(s.Event.Kind()), s.Subject, now.UnixMilli())
	if err != nil {
		return err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return err
	}
	_, err = tx.Exec("INSERT INTO wire VALUES (?, ?)", id, d.sealed.Wire)
	return err
}

// seal signs and encrypts several messages at once. The first failure ends it: a key store that is away is not asked
// for every message.
func (b *Box) seal(drafts []draft, signer *seal.Signer, recipient *seal.Recipient) error {
	if len(drafts) == 1 {
		var err error
		drafts[0].sealed, err = seal.Seal(drafts[0].payload, signer, recipient)
		return err
	}
	sealers := b.c.Sealers
	if sealers <= 0 {
		sealers = runtime.GOMAXPROCS(0)
	}
	sealers = min(sealers, len(drafts))
	g, failed := errgroup.WithContext(context.Background())
	for w := range sealers {
		g.Go(func() (err error) {
			for i := w; i < len(drafts) && failed.Err() == nil; i += sealers {
				if drafts[i].sealed, err = seal.Seal(drafts[i].payload, signer, recipient); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func aboutCut(e schema.Event) (engagement int, effective schema.Instant) {
	switch e := e.(type) {
	case *schema.Leaver:
		return e.Engagement, e.Effective
	case *schema.Suspend:
		return e.Engagement, e.Effective
	}
	return 0, schema.Instant{}
}

// record is the ledger entry of a message: ids, digests and instants, nothing of the person.
func (b *Box) record(c *chain, d *draft, signer *seal.Signer, recipient *seal.Recipient) *entry.Sent {
	s := d.set
	iat := s.IssuedAt
	m := entry.Message{
		Position: entry.Position{Issuer: s.Issuer, Stream: s.Stream.ID, Generation: s.Stream.Generation, Seq: s.Stream.Seq},
		Prev:     s.Stream.Prev, Event: fmt.Sprintf("%s:v%d", s.Event.Kind(), s.Version), Subject: s.Subject, ID: s.ID, Txn: s.Txn,
		Payload: d.hash, Wire: schema.DigestOf(d.sealed.Wire), Key: signer.KID(), Recipient: recipient.KID(), IssuedAt: &iat, Occurred: s.Occurred,
	}
	switch e := s.Event.(type) {
	case *schema.Joiner:
		m.Engagement = e.Engagement
	case *schema.Mover:
		m.Engagement, m.Effective = e.Engagement, &e.Effective
	case *schema.Leaver:
		m.Engagement, m.Effective = e.Engagement, &e.Effective
	case *schema.Suspend:
		m.Engagement, m.Effective = e.Engagement, &e.Effective
	case *schema.Resume:
		m.Engagement, m.Effective = e.Engagement, &e.Effective
	case *schema.Approval:
		m.Engagement = e.Engagement
	case *schema.Heartbeat:
		n := len(e.Cuts)
		m.Cuts = &n
	case *schema.Roster:
		m.Roster = &entry.Roster{
			ID: e.ID, Part: e.Part, Parts: e.Parts, Digest: e.Digest, Generation: e.Head.Generation, Seq: e.Head.Seq, Hash: e.Head.Hash,
			Live: len(e.Live), Closed: len(e.Closed),
		}
	}
	return &entry.Sent{Message: m, Audience: c.audience}
}

// Decide is asked, inside the transaction, what is to be said of a person of whom last was said.
type Decide func(subject string, last register.State) (register.Decision, error)

// Update asks decide about each subject and makes all that it decides durable in one transaction. When
// decide or anything else fails, nothing of it happened. An error of the commit itself leaves that open:
// deciding again shows, for what is known says nothing new. notes go on the ledger with it: who acted, say.
func (b *Box) Update(ctx context.Context, audience string, subjects []string, decide Decide, notes ...entry.Body) ([]Sent, error) {
	return b.update(ctx, audience, subjects, decide, func(tx *store.Tx) error { return record(tx, b.c.Now(), notes) })
}

func (b *Box) update(ctx context.Context, audience string, subjects []string, decide Decide, note func(*store.Tx) error) (sent []Sent, err error) {
	err = b.db.Tx(ctx, func(tx *store.Tx) error {
		sent = nil
		c, err := b.chain(tx, audience)
		if err != nil {
			return err
		}
		iat, err := b.issue(c)
		if err != nil {
			return err
		}
		var sets []*schema.SET
		for _, subject := range subjects {
			last, err := state(tx, c, subject)
			if err != nil {
				return err
			}
			d, err := decide(subject, last)
			if err != nil {
				return err
			}
			for _, said := range d.Events {
				s, err := b.claims(c, iat)
				if err != nil {
					return err
				}
				s.Subject, s.Event, s.Occurred, s.Txn = subject, said.Event, said.Occurred, said.Txn
				sets = append(sets, s)
			}
			if err := keep(tx, c.ref, subject, &last, &d.Next, b.c.Now()); err != nil {
				return err
			}
		}
		if len(sets) > 0 {
			if sent, err = b.store(tx, c, sets); err != nil {
				return err
			}
		}
		return note(tx)
	})
	if err != nil {
		return nil, err
	}
	crash.Point("producer-stored")
	b.logSent(ctx, sent)
	return sent, nil
}

func (b *Box) logSent(ctx context.Context, sent []Sent) {
	if !b.c.Log.Enabled(ctx, b.c.Announce) {
		return
	}
	for _, s := range sent {
		b.c.Log.Log(ctx, b.c.Announce, "announced", "subject", s.Subject, "kind", s.Kind, "aud", s.Audience, "generation", s.Generation, "seq", s.Seq, "jti", s.ID)
	}
}
