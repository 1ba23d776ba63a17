package intake

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

const (
	gov1 = "urn:jmlbridge:enclave:gov-1"
	iss  = "https://iam.mssp.example/jml"
)

var t0 = time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)

// producer writes one stream.
type producer struct {
	t          testing.TB
	issuer     string
	stream     string
	audience   string
	generation int
	seq        uint64
	prev       schema.Digest
	now        time.Time
	signer     *seal.Signer
	to         *seal.Recipient
	public     []byte // PKIX
	key        crypto.Signer
	edit       func([]byte) []byte // of the next payload, before it is signed
}

// sealed is one message of a producer.
type sealed struct {
	seq     uint64
	wire    []byte
	payload schema.Digest
}

func newProducer(t testing.TB, stream string, to *seal.Recipient) *producer {
	t.Helper()
	p := &producer{t: t, issuer: iss, stream: stream, audience: gov1, generation: 1, now: t0, to: to}
	p.rekey()
	return p
}

// rekey gives the producer a new key.
func (p *producer) rekey() {
	p.t.Helper()
	var err error
	if p.key, err = keys.GenerateSigning(keys.ES256); err != nil {
		p.t.Fatal(err)
	}
	if p.signer, err = seal.NewSigner(p.key); err != nil {
		p.t.Fatal(err)
	}
	if p.public, err = x509.MarshalPKIXPublicKey(p.key.Public()); err != nil {
		p.t.Fatal(err)
	}
}

// say writes the next message of the chain.
func (p *producer) say(subject string, e schema.Event) sealed {
	p.t.Helper()
	p.seq++
	id, err := uuid.NewV7()
	if err != nil {
		p.t.Fatal(err)
	}
	set := &schema.SET{Issuer: p.issuer, Audience: p.audience, ID: id.String(), IssuedAt: schema.At(p.now), Subject: subject, Event: e, Version: 1,
		Stream: schema.Position{ID: p.stream, Generation: p.generation, Seq: p.seq, Prev: p.prev}}
	payload, err := schema.EncodePadded(set)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.edit != nil {
		payload, p.edit = p.edit(payload), nil
	}
	return p.sign(payload)
}

// replace changes the next payload before it is signed.
func (p *producer) replace(from, to string) {
	p.edit = func(b []byte) []byte {
		changed := bytes.Replace(b, []byte(from), []byte(to), 1)
		if bytes.Equal(changed, b) {
			p.t.Fatalf("%s is not in the payload", from)
		}
		return changed
	}
}

// sign seals payload octets and chains them.
func (p *producer) sign(payload []byte) sealed {
	p.t.Helper()
	m, err := seal.Seal(payload, p.signer, p.to)
	if err != nil {
		p.t.Fatal(err)
	}
	p.prev = schema.DigestOf(payload)
	return sealed{p.seq, m.Wire, p.prev}
}

func (p *producer) joiner(subject string, n int, roles ...string) sealed {
	return p.say(subject, &schema.Joiner{Engagement: n, Person: schema.Person{DisplayName: "Ann Example", Department: "SOC"}, Roles: slices.Sorted(slices.Values(roles)), Start: schema.At(t0.Add(-time.Hour))})
}

func (p *producer) mover(subject string, n int, roles ...string) sealed {
	return p.say(subject, &schema.Mover{Engagement: n, Person: schema.Person{DisplayName: "Ann Example"}, Roles: slices.Sorted(slices.Values(roles)), Start: schema.At(t0.Add(-time.Hour)), Effective: schema.At(t0.Add(-time.Minute))})
}

func (p *producer) leaver(subject string, n int) sealed {
	return p.say(subject, &schema.Leaver{Engagement: n, Effective: schema.At(t0.Add(-time.Minute)), Reason: schema.ReasonTermination})
}

func (p *producer) heartbeat(cuts ...schema.CutNotice) sealed {
	if cuts == nil {
		cuts = []schema.CutNotice{}
	}
	return p.say("", &schema.Heartbeat{Cuts: cuts, Total: len(cuts)})
}

// world is an enclave with a database.
type world struct {
	t    testing.TB
	path string
	db   *state.DB
	ring *envelope.Ring
	to   *seal.Recipient
	now  atomic.Pointer[time.Time]
	in   *Intake

	queue Queue // set before the first message
}

func newWorld(t testing.TB) *world {
	t.Helper()
	key, err := keys.GenerateDecryption(keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, path: filepath.Join(t.TempDir(), "consumer.db")}
	if w.ring, err = envelope.NewRing(key); err != nil {
		t.Fatal(err)
	}
	if w.to, err = seal.NewRecipient(key.Public()); err != nil {
		t.Fatal(err)
	}
	w.set(t0)
	if err := state.Create(w.path, gov1, t0); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	t.Cleanup(func() { w.db.Close() })
	return w
}

func (w *world) set(now time.Time) { w.now.Store(&now) }

// reopen is a start of the program.
func (w *world) reopen() {
	w.t.Helper()
	if w.db != nil {
		w.db.Close()
	}
	var err error
	if w.db, err = state.Open(w.path); err != nil {
		w.t.Fatal(err)
	}
	w.in = nil
}

func (w *world) config(q Queue) Config {
	return Config{DB: w.db, Queue: q, Name: "test", Ring: w.ring, Now: func() time.Time { return *w.now.Load() }, Log: slog.New(slog.DiscardHandler), StaleAfter: 5 * time.Minute}
}

func (w *world) intake() *Intake {
	w.t.Helper()
	if w.in == nil {
		var err error
		if w.in, err = New(w.config(w.queue)); err != nil {
			w.t.Fatal(err)
		}
		w.sweep()
	}
	return w.in
}

func (w *world) sweep() {
	w.t.Helper()
	if err := w.in.Sweep(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) trust(p *producer, kinds ...schema.Kind) {
	w.t.Helper()
	if kinds == nil {
		kinds = schema.ProducerKinds
	}
	k := &state.Key{Public: p.public, Key: admit.Key{Issuer: p.issuer, Stream: p.stream, Kinds: kinds}}
	w.update(func(tx *store.Tx) error { return state.TrustKey(tx, k, state.Pin{}, w.by()) })
}

func (w *world) by() state.By { return state.By{Login: "ops", Now: *w.now.Load()} }

func (w *world) update(f func(*store.Tx) error) {
	w.t.Helper()
	if err := w.db.Update(w.t.Context(), f); err != nil {
		w.t.Fatal(err)
	}
}

// give takes messages in as one batch.
func (w *world) give(list ...sealed) {
	w.t.Helper()
	if err := w.tryGive(w.t.Context(), list...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tryGive(ctx context.Context, list ...sealed) error {
	in := w.intake()
	batch := make([]queue.Delivery, len(list))
	for i, m := range list {
		batch[i] = queue.Delivery{Body: m.wire, Position: fmt.Append(nil, m.seq)}
	}
	items, err := in.open(ctx, batch)
	if err != nil {
		return err
	}
	return in.commit(ctx, items)
}

func (w *world) subject(id string) *state.Subject {
	w.t.Helper()
	s, err := state.LoadSubject(w.db.Read(), state.SubjectKey{Issuer: iss, Subject: id})
	if err != nil {
		w.t.Fatal(err)
	}
	if s == nil {
		s = new(state.Subject)
	}
	return s
}

func (w *world) stream() *state.Stream {
	w.t.Helper()
	list, err := state.Streams(w.db.Read())
	if err != nil || len(list) == 0 {
		w.t.Fatalf("want a stream, got %v", err)
	}
	return list[0]
}

// entries is what the ledger says, in words.
func (w *world) entries() (list []string) {
	w.t.Helper()
	for e, err := range ledger.Entries(w.t.Context(), w.db.DB, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		switch x := e.Body.(type) {
		case *entry.Received:
			list = append(list, fmt.Sprintf("received %s %d %s", x.Event, x.Seq, x.Disposition)+suffix(x.Code))
		case *entry.Parked:
			list = append(list, "parked "+x.Code)
		case *entry.Refused:
			if x.Summary != nil {
				list = append(list, fmt.Sprintf("refused %s and %d more", x.Code, x.Summary.Count))
			} else {
				list = append(list, "refused "+x.Code)
			}
		case *entry.Alarm:
			list = append(list, x.State+" "+x.Code)
		default:
			list = append(list, string(e.Body.Kind()))
		}
	}
	return list
}

func suffix(code string) string {
	if code == "" {
		return ""
	}
	return ": " + code
}

// said is the entries after the first n, and their number.
func (w *world) want(skip int, want ...string) int {
	w.t.Helper()
	got := w.entries()
	if !slices.Equal(got[skip:], want) {
		w.t.Errorf("want these entries on the ledger:\n  %q\ngot:\n  %q", want, got[skip:])
	}
	return len(got)
}

func (w *world) alarms() (codes []string) {
	w.t.Helper()
	list, err := state.Alarms(w.db.Read())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range list {
		codes = append(codes, a.Code)
	}
	return codes
}

// sign2 signs octets that are not a SET of the chain.
func (p *producer) sign2(payload string) sealed {
	m, err := seal.Seal([]byte(payload), p.signer, p.to)
	if err != nil {
		p.t.Fatal(err)
	}
	return sealed{0, m.Wire, schema.DigestOf([]byte(payload))}
}
