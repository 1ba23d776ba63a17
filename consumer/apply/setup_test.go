package apply

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/policy"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/directory/entra"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

const (
	issuer  = "https://iam.mssp.example/jml"
	socID   = "11111111-1111-4111-8111-111111111111"
	leadID  = "22222222-2222-4222-8222-222222222222"
	otherID = "33333333-3333-4333-8333-333333333333"
)

// workTime is for what an engine is given to do, under the race detector on a busy machine too.
const workTime = 2 * time.Minute

// bridge is an engine over a real database and a tenant that speaks Graph over TLS.
type bridge struct {
	t      *testing.T
	db     *state.DB
	tenant *tenant.Server
	config Config
	seq    uint64
	voice  string       // the issuer that speaks; empty: the ordinary one
	clock  atomic.Int64 // nanoseconds that the engine's clock is ahead

	firstCut time.Duration // in place of the engine's own, if it is set
	engine   *Engine       // that works; what is said while it does comes with its Wake
}

func setup(t *testing.T, change ...func(*tenant.Config, *Config)) *bridge {
	t.Helper()
	b := &bridge{t: t}
	sandbox := tenant.Config{Seed: tenant.Seed{
		Groups: []tenant.SeedGroup{{ID: socID, DisplayName: "SOC"}, {ID: leadID, DisplayName: "Lead"}, {ID: otherID, DisplayName: "Other"}},
	}}
	b.config = Config{Policy: testPolicy(t, 1000, 1000), WritesPerSecond: 10000, Log: slog.New(slog.NewTextHandler(logs{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Now: b.now}
	for _, f := range change {
		f(&sandbox, &b.config)
	}
	var err error
	if b.tenant, err = tenant.Start(t.Context(), sandbox); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.tenant.Close() })
	path := filepath.Join(t.TempDir(), "consumer.db")
	if err := state.Create(path, "urn:jmlbridge:enclave:test", time.Now()); err != nil {
		t.Fatal(err)
	}
	if b.db, err = state.Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.db.Close() })
	b.trust()
	b.config.DB, b.config.Cut, b.config.Grant = b.db, b.connect("cut"), b.connect("grant")
	return b
}

func (b *bridge) connect(app string) *entra.Tenant {
	ep, cred := b.tenant.Endpoints(), b.tenant.App(app)
	secret := filepath.Join(b.t.TempDir(), app+".secret")
	write(b.t, secret, cred.Secret)
	cl, err := cloud.Config{Name: "custom", Authority: ep.Authority, GraphRoot: ep.GraphV1}.Cloud()
	if err != nil {
		b.t.Fatal(err)
	}
	t, err := entra.New(entra.Config{Cloud: cl, Transport: b.tenant.Transport(),
		Credential: cloud.CredentialConfig{Kind: "client-secret", Tenant: ep.Tenant, Client: cred.ID, SecretFile: secret}})
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

// now is the engine's clock.
func (b *bridge) now() time.Time { return time.Now().Add(time.Duration(b.clock.Load())) }

// trust opens the stream in which the facts of a test stand.
func (b *bridge) trust() { b.trustKey(issuer, schema.KindJoiner, schema.KindLeaver) }

// trustKey trusts a new key of an issuer's stream.
func (b *bridge) trustKey(issuer string, kinds ...schema.Kind) {
	b.t.Helper()
	key, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		b.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		b.t.Fatal(err)
	}
	k := &state.Key{Public: der, Key: admit.Key{Issuer: issuer, Stream: "hr", Kinds: kinds}}
	err = b.db.Tx(b.t.Context(), func(tx *store.Tx) error {
		return state.TrustKey(tx, k, state.Pin{}, state.By{Login: "alice", Reason: "test", Now: b.now()})
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func testPolicy(t *testing.T, give, cut int) *policy.Policy {
	p, err := policy.Parse("policy.yaml", []byte(testPolicyText(give, cut)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func testPolicyText(give, cut int) string {
	return fmt.Sprintf(`version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
grace: 30d
groups: {soc: {id: %s}, lead: {id: %s}}
roles: {analyst: {groups: [soc]}, lead: {groups: [soc, lead]}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: %d, cut_per_hour: %d, urgent_per_hour: 1}
`, socID, leadID, give, cut)
}

// say says the next thing of a person.
func (b *bridge) say(subject string, f fence.Fact) {
	b.t.Helper()
	b.seq++
	f.Position = fence.Position{Engagement: max(1, f.Engagement), Generation: 1, Seq: b.seq}
	f.Sequenced = true
	b.fold(subject, f)
}

// fold folds a fact into its subject's row, as intake does.
func (b *bridge) fold(subject string, f fence.Fact) {
	b.t.Helper()
	if f.Effective.IsZero() {
		f.Effective = b.config.Now()
	}
	err := b.db.Tx(b.t.Context(), func(tx *store.Tx) error {
		k := state.SubjectKey{Issuer: cmp.Or(b.voice, issuer), Subject: subject}
		s, err := state.LoadSubject(tx, k)
		if err != nil {
			return err
		}
		if s == nil {
			s = &state.Subject{SubjectKey: k}
		}
		before := s.Doc.At(b.config.Now())
		s.Doc, _ = fence.Accept(s.Doc, f)
		s.FactAt = b.config.Now()
		if err := s.Follow(tx, before, f, b.config.Now()); err != nil {
			return err
		}
		return state.SaveFacts(tx, s)
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bridge) join(subject, given string, roles ...string) {
	b.say(subject, fence.Fact{Kind: schema.KindJoiner, Person: person(given), Roles: roles})
}

func person(given string) schema.Person {
	return schema.Person{DisplayName: given + " Ng", Name: schema.Name{GivenName: given, FamilyName: "Ng"}, Title: "Analyst"}
}

// work runs the engine until done says so.
func (b *bridge) work(done func() bool) {
	b.t.Helper()
	e, err := New(b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	e.firstWait, e.firstCut = 5*time.Millisecond, cmp.Or(b.firstCut, e.firstCut)
	b.engine = e
	ctx, stop := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	deadline := time.Now().Add(workTime)
	for !done() {
		if time.Now().After(deadline) {
			b.dump()
			b.t.Fatalf("the work did not come to its end in %v", workTime)
		}
		select {
		case err := <-ended:
			b.t.Fatalf("the engine ended: %v", err)
		case <-time.After(2 * time.Millisecond): // polls a condition on real I/O
		}
	}
	stop()
	if err := <-ended; err != nil {
		b.t.Fatalf("the engine ended with %v", err)
	}
}

// idle: nothing is due, and no intent waits for its outcome.
func (b *bridge) idle() bool {
	soon := b.config.Now().Add(time.Minute)
	first, err := state.FirstDue(b.db.Read()) // of every lane at one moment: work goes from a later to an earlier one as well
	if err != nil || slices.ContainsFunc(first[:], func(at time.Time) bool { return !at.IsZero() && !at.After(soon) }) {
		return false
	}
	open, err := state.OpenIntents(b.db.Read())
	return err == nil && len(open) == 0
}

func (b *bridge) settle() { b.t.Helper(); b.work(b.idle) }

func (b *bridge) user(name string) tenant.UserState {
	b.t.Helper()
	u := b.tenant.Snapshot().User(name + "@rehearsal.example")
	if u == nil {
		b.dump()
		b.t.Fatalf("there is no account %s", name)
	}
	return *u
}

func (b *bridge) writes(ops ...string) (n int) {
	for _, e := range b.tenant.Journal() {
		for _, c := range e.Changes {
			if slices.Contains(ops, c.Op) {
				n++
			}
		}
	}
	return n
}

// explained checks the law: every intent has one outcome, and every change in the tenant came after an
// intent that names its operation.
func (b *bridge) explained() (intents, outcomes int) {
	b.t.Helper()
	open := map[int64]*entry.Intent{}
	for e, err := range ledger.Entries(b.t.Context(), b.db.DB, 0) {
		if err != nil {
			b.t.Fatal(err)
		}
		switch body := e.Entry.Body.(type) {
		case *entry.Intent:
			intents++
			open[e.Index] = body
		case *entry.Outcome:
			outcomes++
			in := open[body.Intent]
			if in == nil {
				b.t.Fatalf("outcome %d answers intent %d, which is not open", e.Index, body.Intent)
			}
			if len(in.Ops) != len(body.Results) {
				b.t.Fatalf("intent %d has %d operations, its outcome %d results", body.Intent, len(in.Ops), len(body.Results))
			}
			delete(open, body.Intent)
		}
	}
	if len(open) > 0 {
		b.t.Fatalf("%d intents have no outcome", len(open))
	}
	return intents, outcomes
}

func (b *bridge) dump() {
	for e, err := range ledger.Entries(context.Background(), b.db.DB, 0) {
		if err != nil {
			return
		}
		text, _ := entry.Encode(e.Entry)
		b.t.Logf("%d %s", e.Index, text)
	}
	for _, j := range b.tenant.Journal() {
		b.t.Logf("%s %s %d %s applied=%v fault=%s", j.Method, j.Path, j.Status, j.Code, j.Applied, j.Fault)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// logs sends log lines to the test's own log.
type logs struct{ t *testing.T }

func (l logs) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
