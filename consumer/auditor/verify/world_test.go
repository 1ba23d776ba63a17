package verify

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/archive"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/schema"
)

const (
	origin  = "jmlbridge.internal/test/ledger"
	issuer  = "https://iam.mssp.example/jml"
	enclave = "urn:jmlbridge:enclave:gov-1"
)

var (
	noon       = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ledgerSeed = ed25519.NewKeyFromSeed(make([]byte, 32))
	policyA    = schema.DigestOf([]byte("policy a"))
	policyB    = schema.DigestOf([]byte("policy b"))
)

// world writes a ledger as a consumer would, one entry after the other, and publishes it.
type world struct {
	t       testing.TB
	now     time.Time
	entries []entry.Entry
	bodies  map[int][]byte // octets that stand for an entry, whatever it is
	rows    []archive.Row
	signer  *seal.Signer
	key     crypto.Signer
	other   *seal.Signer // a key that nobody trusts

	issuer string // of the next message
	stream string
	gen    int
	seq    uint64
	prev   schema.Digest

	dir    string
	trust  []byte   // the card
	cards  [][]byte // of other issuers
	second *voice   // of the partner
	line   string   // the ledger's key
}

// voice is where another issuer is in its stream.
type voice struct {
	signer *seal.Signer
	seq    uint64
	prev   schema.Digest
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: noon, gen: 1, issuer: issuer, stream: "hr", bodies: map[int][]byte{}, dir: t.TempDir()}
	w.key, w.signer = newSigner(t, keys.ES256)
	_, w.other = newSigner(t, keys.ES256)
	w.trust = cardOf(t, issuer, w.key)
	var err error
	if w.line, err = tiles.VerifierKey(origin, ledgerSeed.Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	return w
}

func newSigner(t testing.TB, alg keys.Alg) (crypto.Signer, *seal.Signer) {
	t.Helper()
	k, err := keys.GenerateSigning(alg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	return k, s
}

func cardOf(t testing.TB, issuer string, list ...crypto.Signer) []byte {
	t.Helper()
	c := map[string]any{"card": "jmlbridge-card/1", "issuer": issuer, "stream": "hr", "generation": 1, "enclave": enclave}
	var all []any
	for _, k := range list {
		text, err := keys.MarshalPublic(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		id, _ := keys.ID(k.Public())
		alg, _ := keys.SigningAlg(k.Public())
		all = append(all, map[string]any{"kid": id, "alg": alg, "public": string(text), "kinds": schema.Kinds})
	}
	c["keys"] = all
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// begin is what init and trust leave.
func (w *world) begin() *world {
	w.add(&entry.Started{Program: entry.ProgramConsumer, Version: "v1.0.0", Go: "go1.26", Mode: "init", Ledger: "L1", Enclave: enclave, Instance: "i1"})
	w.trusts(w.signer.KID(), 1)
	w.add(&entry.Started{Program: entry.ProgramConsumer, Version: "v1.0.0", Go: "go1.26", Mode: "run", Policy: &policyA, Ledger: "L1", Enclave: enclave, Instance: "i2"})
	return w
}

func (w *world) trusts(kid string, generation int) int64 {
	var kinds []string
	for _, k := range schema.Kinds {
		kinds = append(kinds, string(k))
	}
	return w.add(&entry.Trust{Action: entry.TrustAdd, Key: kid, Use: entry.UseSign, Issuer: w.issuer, Stream: "hr", Generation: generation, AtSeq: 1, Alg: "ES256", Events: kinds, By: "op"})
}

// add appends an entry of now, and lets 10 ms pass.
func (w *world) add(b entry.Body) int64 {
	w.entries = append(w.entries, entry.New(w.now, b))
	w.now = w.now.Add(10 * time.Millisecond)
	return int64(len(w.entries) - 1)
}

func (w *world) wait(d time.Duration) { w.now = w.now.Add(d) }

// say makes the producer's next message; it is not received yet.
func (w *world) say(subject string, e schema.Event) *said {
	w.t.Helper()
	w.seq++
	s := &said{set: &schema.SET{Issuer: w.issuer, Audience: enclave, ID: fmt.Sprintf("0192f0c1-0000-7000-8000-%012d", int(w.seq)+1000*w.gen),
		IssuedAt: schema.At(w.now), Subject: subject, Stream: schema.Position{ID: w.stream, Generation: w.gen, Seq: w.seq, Prev: w.prev}, Event: e, Version: 1}}
	payload, err := schema.EncodePadded(s.set)
	if err != nil {
		w.t.Fatal(err)
	}
	s.payload, s.digest, s.signer = payload, schema.DigestOf(payload), w.signer
	w.prev = s.digest
	return s
}

type said struct {
	set     *schema.SET
	payload []byte
	digest  schema.Digest
	signer  *seal.Signer
}

// take receives a message with a disposition, and archives it where that is new.
func (w *world) take(s *said, disposition, code string) int64 {
	w.t.Helper()
	if disposition != entry.DispositionDuplicate {
		jws, err := s.signer.Sign(s.payload)
		if err != nil {
			w.t.Fatal(err)
		}
		w.rows = append(w.rows, archive.Row{ID: int64(len(w.rows) + 1), Day: w.now, Payload: s.digest, JWS: string(jws)})
	}
	m := w.recorded(s)
	return w.add(&entry.Received{Message: m, Disposition: disposition, Code: code})
}

func (w *world) recorded(s *said) entry.Message {
	e := s.set
	m := entry.Message{Position: entry.Position{Issuer: e.Issuer, Stream: e.Stream.ID, Generation: e.Stream.Generation, Seq: e.Stream.Seq},
		Prev: e.Stream.Prev, Event: string(e.Event.Kind()) + ":v1", Subject: e.Subject, ID: e.ID, Payload: s.digest, Wire: schema.DigestOf([]byte(e.ID)),
		Key: s.signer.KID(), IssuedAt: &e.IssuedAt, Occurred: e.Occurred}
	switch e := e.Event.(type) {
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
		m.Roster = &entry.Roster{ID: e.ID, Part: e.Part, Parts: e.Parts, Digest: e.Digest, Generation: e.Head.Generation, Seq: e.Head.Seq, Hash: e.Head.Hash, Live: len(e.Live), Closed: len(e.Closed)}
	}
	return m
}

// hears is the ordinary case: said and admitted.
func (w *world) hears(subject string, e schema.Event) uint64 {
	w.t.Helper()
	s := w.say(subject, e)
	w.take(s, entry.DispositionAdmitted, "")
	return s.set.Stream.Seq
}

// intends appends an intent with the operations named, caused by the message at seq; the class follows.
func (w *world) intends(subject, code string, seq uint64, ops ...string) int64 {
	in := &entry.Intent{Who: entry.Who{Issuer: w.issuer, Subject: subject, Engagement: 1}, Policy: policyA,
		Cause: entry.Cause{Type: entry.CauseMessage, Code: code, Position: &entry.Position{Issuer: w.issuer, Stream: "hr", Generation: w.gen, Seq: seq}}}
	for i, op := range ops {
		class := opClasses[op]
		in.Ops = append(in.Ops, entry.Op{N: i + 1, Op: op, Class: class})
	}
	if code == "locked" {
		in.Cause = entry.Cause{Type: entry.CauseOperator, Code: code}
	}
	return w.add(in)
}

func (w *world) answers(subject string, intent int64, result string) int64 {
	o := &entry.Outcome{Intent: intent, Who: entry.Who{Issuer: w.issuer, Subject: subject, Engagement: 1}, Account: "a-" + subject}
	if w.issuer != issuer {
		o.Account = "p-" + subject
	}
	for i := range w.entries[intent].Body.(*entry.Intent).Ops {
		r := entry.Result{N: i + 1, Result: result, At: entry.MomentAt(w.now)}
		if result == entry.ResultApplied {
			r.Requests = []entry.Request{{Client: "c-1", Server: "s-1", Status: 204}}
		}
		o.Results = append(o.Results, r)
	}
	return w.add(o)
}

// does is an intent and its outcome.
func (w *world) does(subject, code string, seq uint64, ops ...string) {
	w.answers(subject, w.intends(subject, code, seq, ops...), entry.ResultApplied)
}

var somebody = schema.Person{DisplayName: "A Person"}

func (w *world) joiner(n int, roles ...string) *schema.Joiner {
	return &schema.Joiner{Engagement: n, Person: somebody, Roles: sorted(roles), Start: schema.At(noon.Add(-24 * time.Hour))}
}

func (w *world) mover(n int, roles ...string) *schema.Mover {
	return &schema.Mover{Engagement: n, Person: somebody, Roles: sorted(roles), Start: schema.At(noon.Add(-24 * time.Hour)), Effective: schema.At(w.now)}
}

func (w *world) leaver(n int) *schema.Leaver {
	return &schema.Leaver{Engagement: n, Effective: schema.At(w.now), Reason: schema.ReasonTermination}
}

func (w *world) suspend(n int) *schema.Suspend {
	return &schema.Suspend{Engagement: n, Effective: schema.At(w.now), Reason: schema.ReasonLeave}
}

func (w *world) resume(n int) *schema.Resume {
	return &schema.Resume{Engagement: n, Effective: schema.At(w.now), Reason: schema.ReasonReturn}
}

func sorted(roles []string) []string {
	if roles == nil {
		return []string{}
	}
	slices.Sort(roles)
	return roles
}

// joins makes a person with an account.
func (w *world) joins(subject string) uint64 {
	seq := w.hears(subject, w.joiner(1, "analyst"))
	w.does(subject, "active", seq, "create", "add-member")
	return seq
}

// leaves cuts a person in the ordinary way.
func (w *world) leaves(subject string) {
	seq := w.hears(subject, w.leaver(1))
	w.does(subject, "left", seq, "disable")
	w.does(subject, "left", seq, "revoke-sessions")
}

// publish writes the folder.
func (w *world) publish() *world {
	w.t.Helper()
	dir := filepath.Join(w.dir, "tiles")
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Fatal(err)
	}
	write := func(path string, data []byte) error {
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	}
	var b tiles.Builder
	for i, e := range w.entries {
		body := w.bodies[i]
		if body == nil {
			var err error
			if body, err = entry.Encode(e); err != nil {
				w.t.Fatal(err)
			}
		}
		if err := b.Add(body, write); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := b.Partials(write); err != nil {
		w.t.Fatal(err)
	}
	if err := write("checkpoint", w.checkpoint(tiles.Checkpoint{Size: b.Size, Root: b.Root()})); err != nil {
		w.t.Fatal(err)
	}
	if err := os.MkdirAll(w.archiveDir(), 0o700); err != nil {
		w.t.Fatal(err)
	}
	for rows := w.rows; len(rows) > 0; {
		day := archive.DayOf(rows[0].Day)
		n := 1
		for n < len(rows) && archive.DayOf(rows[n].Day) == day {
			n++
		}
		member, err := archive.Member(rows[:n])
		if err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.archiveDir(), archive.FileName(day)), member, 0o600); err != nil {
			w.t.Fatal(err)
		}
		rows = rows[n:]
	}
	return w
}

func (w *world) archiveDir() string { return filepath.Join(w.dir, "archive") }

func (w *world) checkpoint(c tiles.Checkpoint) []byte {
	w.t.Helper()
	s, _, err := tiles.NewSigner(origin, ledgerSeed)
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := tiles.Sign(c, s)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

func (w *world) options() Options {
	w.t.Helper()
	ks := Keys{}
	for _, card := range append([][]byte{w.trust}, w.cards...) {
		if err := ks.Add(card); err != nil {
			w.t.Fatal(err)
		}
	}
	return Options{Dir: w.dir, LedgerKey: w.line, Keys: ks}
}

// verify holds the ledger against its archive, and without it: whoever has the tiles alone must accuse nobody of what
// the archive explains.
func (w *world) verify(o Options) *Report {
	w.t.Helper()
	r, err := Run(context.Background(), o)
	if err != nil || o.TilesOnly {
		if err != nil {
			w.t.Fatal(err)
		}
		return r
	}
	o.TilesOnly = true
	blind, err := Run(context.Background(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range blind.Findings {
		if !slices.ContainsFunc(r.Findings, func(g Finding) bool { return (g.Code == f.Code || g.Code == EntryDiffers) && g.Subject == f.Subject }) {
			w.t.Errorf("--tiles-only accuses of what the archive explains: %+v", f)
		}
	}
	return r
}

// wants holds the report's findings against codes with their numbers: "code" or "code*3".
func wants(t *testing.T, r *Report, codes ...string) {
	t.Helper()
	var got []string
	for c, n := range r.Counts.Findings {
		if n == 1 {
			got = append(got, string(c))
		} else {
			got = append(got, fmt.Sprintf("%s*%d", c, n))
		}
	}
	slices.Sort(got)
	slices.Sort(codes)
	if !slices.Equal(got, codes) {
		var b strings.Builder
		_ = r.WriteText(&b)
		t.Fatalf("want findings %v, got %v\n%s", codes, got, b.String())
	}
	if r.Verifies != (len(codes) == 0) {
		t.Errorf("findings %v, and the verdict is %v", got, r.Verifies)
	}
}

func (w *world) readCheckpoint() []byte {
	w.t.Helper()
	raw, err := os.ReadFile(filepath.Join(w.dir, "tiles", "checkpoint"))
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

func (w *world) checkpointBy(name string, c tiles.Checkpoint) []byte {
	w.t.Helper()
	s, _, err := tiles.NewSigner(name, ledgerSeed)
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := tiles.Sign(c, s)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}
