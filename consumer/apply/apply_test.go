package apply

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
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

// bridge is an engine over a real database and a tenant that speaks Graph over TLS.
type bridge struct {
	t      *testing.T
	db     *state.DB
	tenant *tenant.Server
	config Config
	seq    uint64
	clock  atomic.Int64 // nanoseconds that the engine's clock is ahead
}

func setup(t *testing.T, change ...func(*tenant.Config, *Config)) *bridge {
	t.Helper()
	b := &bridge{t: t}
	sandbox := tenant.Config{Seed: tenant.Seed{
		Groups: []tenant.SeedGroup{{ID: socID, DisplayName: "SOC"}, {ID: leadID, DisplayName: "Lead"}, {ID: otherID, DisplayName: "Other"}},
	}}
	b.config = Config{Policy: testPolicy(t, 1000, 1000), WritesPerSecond: 10000, Log: slog.New(slog.NewTextHandler(logs{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Now: func() time.Time { return time.Now().Add(time.Duration(b.clock.Load())) }}
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

// trust opens the stream in which the facts of a test stand.
func (b *bridge) trust() {
	key, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		b.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		b.t.Fatal(err)
	}
	k := &state.Key{Public: der, Key: admit.Key{Issuer: issuer, Stream: "hr", Kinds: []schema.Kind{schema.KindJoiner, schema.KindLeaver}}}
	err = b.db.Tx(b.t.Context(), func(tx *store.Tx) error {
		return state.TrustKey(tx, k, state.Pin{Generation: 1}, state.By{Login: "alice", Reason: "test", Now: time.Now()})
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func testPolicy(t *testing.T, give, cut int) *policy.Policy {
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, `version: 1
upn: {template: "{alias}", domain: rehearsal.example}
usage_location: US
grace: 30d
groups: {soc: {id: %s}, lead: {id: %s}}
roles: {analyst: {groups: [soc]}, lead: {groups: [soc, lead]}}
protected: [breakglass@rehearsal.example]
limits: {give_per_hour: %d, cut_per_hour: %d, urgent_per_hour: 1}
`, socID, leadID, give, cut))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// say folds a fact into its subject's row, as intake does.
func (b *bridge) say(subject string, f fence.Fact) {
	b.t.Helper()
	b.seq++
	f.Position = fence.Position{Engagement: max(1, f.Engagement), Generation: 1, Seq: b.seq}
	f.Sequenced = true
	if f.Effective.IsZero() {
		f.Effective = b.config.Now()
	}
	lane := plan.Give
	switch {
	case f.Kind.Cuts():
		lane = plan.Disable
	case f.Kind == schema.KindMover:
		lane = plan.Take
	}
	err := b.db.Tx(b.t.Context(), func(tx *store.Tx) error {
		k := state.SubjectKey{Issuer: issuer, Subject: subject}
		s, err := state.LoadSubject(tx, k)
		if err != nil {
			return err
		}
		if s == nil {
			s = &state.Subject{SubjectKey: k}
		}
		s.Doc, _ = fence.Accept(s.Doc, f)
		s.FactAt = b.config.Now()
		s.Raise(lane, b.config.Now(), f.Urgent)
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
	e.firstWait = 5 * time.Millisecond
	ctx, stop := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			b.dump()
			b.t.Fatal("the work did not come to its end in 20 s")
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
	now := b.config.Now()
	for lane := plan.Disable; lane <= plan.Delete; lane++ {
		if due, err := state.Due(b.db.Read(), lane, now.Add(time.Minute), 1, nil); err != nil || len(due) > 0 {
			return false
		}
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

func TestJoinerMoverLeaver(t *testing.T) {
	b := setup(t)
	b.join("1222", "Ana", "lead")
	b.settle()
	u := b.user("ana.ng")
	if !u.Enabled || !slices.Equal(u.Groups, []string{"Lead", "SOC"}) {
		t.Fatalf("joiner: enabled %v, groups %v", u.Enabled, u.Groups)
	}
	b.say("1222", fence.Fact{Kind: schema.KindMover, Person: person("Ana"), Roles: []string{"analyst"}})
	b.settle()
	if u := b.user("ana.ng"); !slices.Equal(u.Groups, []string{"SOC"}) {
		t.Fatalf("mover: groups %v", u.Groups)
	}
	b.say("1222", fence.Fact{Kind: schema.KindLeaver, Urgent: true})
	b.settle()
	if u := b.user("ana.ng"); u.Enabled || !u.SessionsRevoked || len(u.Groups) != 0 {
		t.Fatalf("leaver: enabled %v, revoked %v, groups %v", u.Enabled, u.SessionsRevoked, u.Groups)
	}
	b.explained()

	// Nothing comes back by itself, and nothing is done twice.
	before := len(b.tenant.Journal())
	b.settle()
	if after := len(b.tenant.Journal()); after != before {
		t.Errorf("%d more requests with nothing to do", after-before)
	}
	// After grace the account goes.
	b.clock.Store(int64(31 * 24 * time.Hour))
	b.settle()
	if n := b.writes("delete"); n != 1 {
		t.Errorf("%d deletes after grace, want 1", n)
	}
}

func TestSuspendAndResume(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindSuspend})
	b.settle()
	if u := b.user("ana.ng"); u.Enabled || !u.SessionsRevoked || len(u.Groups) != 1 {
		t.Fatalf("suspended: enabled %v, revoked %v, groups %v", u.Enabled, u.SessionsRevoked, u.Groups)
	}
	b.say("1", fence.Fact{Kind: schema.KindResume})
	b.settle()
	if u := b.user("ana.ng"); !u.Enabled || len(u.Groups) != 1 {
		t.Fatalf("resumed: enabled %v, groups %v", u.Enabled, u.Groups)
	}
	b.explained()
}

func TestFutureDates(t *testing.T) {
	b := setup(t)
	now := b.config.Now()
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Person: person("Ana"), Roles: []string{"analyst"}, Start: now.Add(24 * time.Hour)})
	b.settle()
	if n := b.writes("create"); n != 0 {
		t.Fatalf("%d accounts before the start", n)
	}
	b.clock.Store(int64(25 * time.Hour))
	b.settle()
	b.user("ana.ng")
	b.say("1", fence.Fact{Kind: schema.KindLeaver, Effective: now.Add(48 * time.Hour)})
	b.settle()
	if !b.user("ana.ng").Enabled {
		t.Fatal("disabled before the date")
	}
	b.clock.Store(int64(49 * time.Hour))
	b.settle()
	if b.user("ana.ng").Enabled {
		t.Fatal("enabled after the date")
	}
}

// Every write can be lost, and can be done with its answer lost; the tenant ends the same, and no
// account is made twice.
func TestLostAnswers(t *testing.T) {
	story := func(b *bridge) {
		b.join("1", "Ana", "lead")
		b.settle()
		b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"analyst"}})
		b.settle()
		b.say("1", fence.Fact{Kind: schema.KindLeaver})
		b.settle()
	}
	quiet := setup(t)
	story(quiet)
	want := quiet.tenant.Snapshot().Comparable()
	for _, fault := range []tenant.Fault{
		{Name: "503", Kind: tenant.Error, Status: 503},
		{Name: "503-done", Kind: tenant.Error, Status: 503, Applied: true},
		{Name: "504-done", Kind: tenant.Error, Status: 504, Applied: true},
		{Name: "dropped", Kind: tenant.Drop},
		{Name: "dropped-done", Kind: tenant.Drop, Applied: true},
		{Name: "broken-body", Kind: tenant.Break},
		{Name: "html-done", Kind: tenant.HTML, Status: 502, Applied: true},
		{Name: "throttled", Kind: tenant.Throttle, RetryAfter: -1},
		{Name: "unauthorized", Kind: tenant.Unauthorized},
	} {
		t.Run(fault.Name, func(t *testing.T) {
			b := setup(t)
			fault.Method, fault.Probability = "^(POST|PATCH|PUT|DELETE)$", 0.4
			fault.Path = "/v1.0/"
			b.tenant.AddFaults(fault)
			story(b)
			if got := b.tenant.Snapshot().Comparable(); got != want {
				t.Errorf("the tenant ended otherwise:\n%s\nwant\n%s", got, want)
			}
			if n := b.writes("create"); n != 1 {
				t.Errorf("%d accounts were made, want 1", n)
			}
			b.explained()
		})
	}
}

func TestReplicationDelay(t *testing.T) {
	b := setup(t, func(s *tenant.Config, _ *Config) {
		s.Replication = tenant.Replication{Lag: 30 * time.Millisecond, IndexLag: 60 * time.Millisecond, WriteLag: 20 * time.Millisecond}
	})
	for i := range 10 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "lead")
	}
	b.settle()
	for i := range 10 {
		if u := b.user(fmt.Sprintf("ana%c.ng", 'a'+i)); len(u.Groups) != 2 {
			t.Errorf("groups %v", u.Groups)
		}
	}
	if n := b.writes("create"); n != 10 {
		t.Errorf("%d accounts, want 10", n)
	}
	b.explained()
}

// A crash after the intent, or after the operations, leaves an intent without an outcome; the next run
// looks, answers it, and comes to the same end.
func TestInterrupted(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	gate := tenant.Fault{Name: "hold", Method: "^POST$", Path: "/v1.0/users$", Kind: tenant.Delay, Gate: "create", Applied: true, Count: 1}
	b.tenant.AddFaults(gate)
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	row, err := state.LoadSubject(b.db.Read(), state.SubjectKey{Issuer: issuer, Subject: "1"})
	if err != nil {
		t.Fatal(err)
	}
	// The process dies while the answer is under way: the goroutine is abandoned before its outcome.
	u := &unit{Engine: e, row: row, stream: "hr", now: e.Now(), attempt: 1, view: row.Doc.At(e.Now())}
	u.situation = plan.Situation{Issuer: issuer, Subject: "1", View: u.view, Now: u.now}
	p := plan.For(u.situation, e.Policy)
	if _, err := u.intend(t.Context(), p.Ops); err != nil {
		t.Fatal(err)
	}
	go u.try(t.Context(), p.Ops[0])
	b.tenant.WaitHeld(t.Context(), "create", 1)
	b.tenant.Release("create")

	b.settle()
	if n := b.writes("create"); n != 1 {
		t.Errorf("%d accounts, want 1", n)
	}
	if u := b.user("ana.ng"); len(u.Groups) != 1 {
		t.Errorf("groups %v", u.Groups)
	}
	intents, _ := b.explained()
	if intents < 2 {
		t.Errorf("%d intents, want the interrupted one and another", intents)
	}
}

func TestLeaversGoFirst(t *testing.T) {
	b := setup(t, func(s *tenant.Config, c *Config) { c.Workers, c.WritesPerSecond = 4, 200 })
	b.join("victim", "Vic", "analyst")
	b.settle()
	for i := range 100 {
		b.join(fmt.Sprintf("j%d", i), fmt.Sprintf("Joe%c%c", 'a'+i/26, 'a'+i%26), "analyst")
	}
	started := func() bool { return b.writes("create") > 3 }
	b.work(started)
	b.say("victim", fence.Fact{Kind: schema.KindLeaver})
	b.settle()
	created, cut := 0, -1
	for _, e := range b.tenant.Journal() {
		for _, c := range e.Changes {
			switch {
			case c.Op == "create":
				created++
			case c.Op == "update" && c.Set["accountEnabled"] == false && cut < 0:
				cut = created
			}
		}
	}
	if cut < 0 || cut > 60 {
		t.Errorf("the leaver was cut after %d accounts had been made; it must overtake the backlog", cut)
	}
}

// A write that the tenant confirmed is trusted against replicas that do not show it: nothing is written
// twice, however long they lag.
func TestLongReplicationDelay(t *testing.T) {
	b := setup(t, func(s *tenant.Config, _ *Config) {
		s.Replication = tenant.Replication{Lag: time.Hour, IndexLag: time.Hour}
	})
	b.join("1", "Ana", "analyst")
	b.settle()
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	b.work(func() bool { // the account itself is not shown for an hour either: strip goes on being tried
		return b.writes("revoke") == 1
	})
	if n := b.writes("create"); n != 1 {
		t.Errorf("%d accounts, want 1", n)
	}
	if n := b.writes("update"); n != 1 {
		t.Errorf("%d writes of the account, want the disable alone", n)
	}
}

// Ten minutes after a cut the account is looked at once more: what the tenant answered is not yet proof.
func TestCutIsConfirmed(t *testing.T) {
	for _, lied := range []bool{false, true} {
		t.Run(fmt.Sprintf("lied %v", lied), func(t *testing.T) {
			b := setup(t)
			b.join("1", "Ana", "analyst")
			b.settle()
			if lied {
				b.tenant.AddFaults(tenant.Fault{Name: "lie", Method: "^PATCH$", Path: "/users/", Body: "accountEnabled", Kind: tenant.Ignore, Count: 1})
			}
			b.say("1", fence.Fact{Kind: schema.KindLeaver})
			b.settle()
			if b.user("ana.ng").Enabled != lied {
				t.Fatalf("enabled %v", b.user("ana.ng").Enabled)
			}
			b.clock.Store(int64(plan.Settling + time.Minute))
			b.settle()
			if b.user("ana.ng").Enabled {
				t.Fatal("still enabled after the look")
			}
			alarms, err := state.Alarms(b.db.Read())
			if err != nil || (len(alarms) == 1 && alarms[0].Code == AlarmCutUndone) != lied {
				t.Fatalf("alarms %v, %v", alarms, err)
			}
			b.clock.Store(int64(2 * (plan.Settling + time.Minute)))
			b.settle()
			if alarms, _ := state.Alarms(b.db.Read()); len(alarms) != 0 {
				t.Errorf("alarms %v after the account was seen disabled", alarms)
			}
			seen := 0
			for e, err := range ledger.Entries(t.Context(), b.db.DB, 0) {
				if err != nil {
					t.Fatal(err)
				}
				if o, ok := e.Entry.Body.(*entry.Observed); ok && o.Account.State == entry.StateDisabled {
					seen++
				}
			}
			if seen != 1 {
				t.Errorf("%d observations that the account is disabled, want 1", seen)
			}
			b.explained()
		})
	}
}

// An attribute that the tenant refuses for good keeps nobody from the groups and becomes an alarm; a
// create that fails is followed by nothing.
func TestARefusedAttribute(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.tenant.AddFaults(tenant.Fault{Name: "no", Method: "^PATCH$", Path: "/users/", Kind: tenant.Error, Status: 400})
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"lead"}})
	b.work(func() bool {
		alarms, err := state.Alarms(b.db.Read())
		return err == nil && len(alarms) == 1 && alarms[0].Code == AlarmGiveFailing
	})
	if u := b.user("ana.ng"); len(u.Groups) != 2 {
		t.Errorf("groups %v", u.Groups)
	}
	b.tenant.RemoveFault("no")
	b.settle()
	if alarms, _ := state.Alarms(b.db.Read()); len(alarms) != 0 {
		t.Errorf("alarms %v after it succeeded", alarms)
	}
	b.explained()

	b.tenant.AddFaults(tenant.Fault{Name: "no", Method: "^POST$", Path: "/users$", Kind: tenant.Error, Status: 503, Count: 1})
	from := len(b.tenant.Journal())
	b.join("2", "Bea", "lead")
	b.settle()
	for _, j := range b.tenant.Journal()[from:] {
		if j.Status == 400 || strings.Contains(j.Path, "/users//") {
			t.Errorf("%s %s after a create that failed", j.Method, j.Path)
		}
	}
}

func TestManagerWhoJoinsLater(t *testing.T) {
	b := setup(t)
	report := person("Ana")
	report.Manager = &schema.Manager{Value: "boss"}
	b.say("1", fence.Fact{Kind: schema.KindJoiner, Person: report, Roles: []string{"analyst"}})
	b.settle()
	if m := b.user("ana.ng").Manager; m != "" {
		t.Fatalf("manager %q before there is one", m)
	}
	b.join("boss", "Bea", "lead")
	b.settle()
	if m := b.user("ana.ng").Manager; m != "bea.ng@rehearsal.example" {
		t.Errorf("manager %q", m)
	}
	b.explained()
}

// A leaver that is committed between a joiner's plan and its intent wins: no intent that gives follows it.
func TestFactBetweenPlanAndIntent(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	e, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	row, err := state.LoadSubject(b.db.Read(), state.SubjectKey{Issuer: issuer, Subject: "1"})
	if err != nil {
		t.Fatal(err)
	}
	u := &unit{Engine: e, row: row, stream: "hr", now: e.Now(), attempt: 1, view: row.Doc.At(e.Now())}
	u.situation = plan.Situation{Issuer: issuer, Subject: "1", View: u.view, Now: u.now}
	p := plan.For(u.situation, e.Policy)
	b.say("1", fence.Fact{Kind: schema.KindLeaver})
	if err := u.execute(t.Context(), p, plan.Give); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if n := b.writes("create"); n != 0 {
		t.Errorf("%d accounts for one who had left", n)
	}
	if n, _ := b.explained(); n != 0 {
		t.Errorf("%d intents", n)
	}
}

// What comes in together is done lane by lane, whoever it is about.
func TestLanesAcrossPersons(t *testing.T) {
	b := setup(t, func(s *tenant.Config, _ *Config) { s.Latency = 3 * time.Millisecond })
	for i := range 8 {
		b.join(fmt.Sprintf("l%d", i), fmt.Sprintf("Lea%c", 'a'+i), "analyst")
	}
	b.settle()
	from := len(b.tenant.Journal())
	for i := range 8 {
		b.join(fmt.Sprintf("j%d", i), fmt.Sprintf("Joe%c", 'a'+i), "analyst")
		b.say(fmt.Sprintf("l%d", i), fence.Fact{Kind: schema.KindLeaver})
	}
	b.settle()
	var revoked, created int
	for _, e := range b.tenant.Journal()[from:] {
		for _, c := range e.Changes {
			switch c.Op {
			case "revoke":
				revoked++
				if created > 0 {
					t.Fatal("a session was revoked after an account had been created")
				}
			case "create":
				created++
				if revoked < 8 {
					t.Fatalf("an account was created when only %d of 8 leavers' sessions were revoked", revoked)
				}
			}
		}
	}
	if revoked != 8 || created != 8 {
		t.Errorf("%d revoked, %d created; want 8 of each", revoked, created)
	}
}

func TestNotOursIsNotTouched(t *testing.T) {
	b := setup(t, func(s *tenant.Config, _ *Config) {
		s.Seed.Users = []tenant.SeedUser{
			{UserPrincipalName: "someone@rehearsal.example", DisplayName: "Someone", Properties: map[string]any{"employeeId": "77"}},
			{UserPrincipalName: "ana.ng@rehearsal.example", DisplayName: "Another Ana"},
		}
	})
	b.say("77", fence.Fact{Kind: schema.KindLeaver})
	b.join("77", "Sam", "analyst") // the leaver was first: no account
	b.join("78", "Ana", "analyst") // the name is another's
	b.settle()
	if u := b.user("someone"); !u.Enabled {
		t.Error("an account without our mark was disabled")
	}
	if u := b.user("ana.ng2"); len(u.Groups) != 1 {
		t.Errorf("a taken name gets a number: groups %v", u.Groups)
	}
	holds, err := state.Holds(b.db.Read())
	if err != nil || len(holds) != 1 || holds[0].Code != string(plan.HoldNotOwned) {
		t.Errorf("holds %v, %v; want one, not-owned", holds, err)
	}
	alarms, err := state.Alarms(b.db.Read())
	if err != nil || len(alarms) != 1 || alarms[0].Code != AlarmCutHeld {
		t.Errorf("alarms %v, %v; want one, cut-held", alarms, err)
	}
}

func TestGivesPastTheLimitAreHeldWhole(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 5, 100) })
	for i := range 6 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	if n := b.writes("create"); n != 0 {
		t.Fatalf("%d accounts, want none: the limit is 5 and 6 wait", n)
	}
	holds, err := state.Holds(b.db.Read())
	if err != nil || len(holds) != 1 || !strings.Contains(string(holds[0].Shown), `"count":6`) {
		t.Fatalf("holds %v, %v", holds, err)
	}
	decide(t, b, holds[0], state.HoldReleased)
	b.settle()
	if n := b.writes("create"); n != 6 {
		t.Errorf("%d accounts after the release, want 6", n)
	}
}

func TestCutsPastTheLimitWaitAndHappen(t *testing.T) {
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, 100, 2) })
	for i := range 4 {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c", 'a'+i), "analyst")
	}
	b.settle()
	for i := range 4 {
		b.say(fmt.Sprint(i), fence.Fact{Kind: schema.KindLeaver, Urgent: i == 0})
	}
	b.settle()
	enabled := func() (n int) {
		for i := range 4 {
			if b.user(fmt.Sprintf("ana%c.ng", 'a'+i)).Enabled {
				n++
			}
		}
		return n
	}
	if n := enabled(); n != 3 {
		t.Fatalf("%d accounts enabled, want 3: the urgent leaver goes, the others wait", n)
	}
	if alarms, _ := state.Alarms(b.db.Read()); len(alarms) != 1 || alarms[0].Severity != state.Critical {
		t.Errorf("alarms %v; want the loudest", alarms)
	}
	b.clock.Store(int64(31 * time.Minute))
	b.settle()
	if n := enabled(); n != 0 {
		t.Errorf("%d accounts enabled after cut_hold, want none", n)
	}
	if holds, _ := state.Holds(b.db.Read()); len(holds) != 0 {
		t.Errorf("%d holds stand after their time", len(holds))
	}
}

// One person whose work cannot be recorded, or for whom there is no name left, is set aside; the others go on.
func TestOnePersonDoesNotStopTheOthers(t *testing.T) {
	b := setup(t)
	err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
		for nth := range maxNames {
			upn := b.config.Policy.Nickname(person("Ana"), "1", nth) + "@rehearsal.example"
			if _, err := state.TakeName(tx, upn, state.SubjectKey{Issuer: issuer, Subject: "other"}, time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.join("1", "Ana", "analyst")
	b.join("no ledger takes this id", "Poison", "analyst")
	b.join("2", "Bob", "analyst")
	b.work(func() bool {
		alarms, err := state.Alarms(b.db.Read())
		holds, err2 := state.Holds(b.db.Read())
		return err == nil && err2 == nil && len(alarms) == 1 && len(holds) == 1 && b.tenant.Snapshot().User("bob.ng@rehearsal.example") != nil
	})
	if alarms, _ := state.Alarms(b.db.Read()); alarms[0].Code != AlarmInternal {
		t.Errorf("alarm %q, want %q", alarms[0].Code, AlarmInternal)
	}
	if holds, _ := state.Holds(b.db.Read()); holds[0].Code != string(holdNoName) {
		t.Errorf("hold %q, want %q", holds[0].Code, holdNoName)
	}
}

func TestObserveWritesNothing(t *testing.T) {
	b := setup(t)
	b.config.Observe = true
	b.join("1", "Ana", "analyst")
	b.work(func() bool {
		n, err := ledger.Size(b.db.DB)
		return err == nil && n >= 2
	})
	if n := b.writes("create", "update", "add-member"); n != 0 {
		t.Fatalf("%d writes", n)
	}
	b.explained()
	b.config.Observe = false
	b.settle()
	b.user("ana.ng")
}

// Observing shows the whole plan of a person, whichever lane it would begin in.
func TestObserveShowsThePlan(t *testing.T) {
	b := setup(t)
	b.join("1", "Ana", "analyst")
	b.settle()
	b.config.Observe = true
	b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"lead"}})
	before, err := ledger.Size(b.db.DB)
	if err != nil {
		t.Fatal(err)
	}
	b.work(func() bool {
		n, err := ledger.Size(b.db.DB)
		return err == nil && n == before+2
	})
	e, err := ledger.Get(b.db.DB, before)
	if err != nil {
		t.Fatal(err)
	}
	in, ok := e.Body.(*entry.Intent)
	if !ok || len(in.Ops) != 2 || in.Ops[0].Op != string(plan.UpdateAccount) || in.Ops[1].Op != string(plan.AddMember) || !in.Observe {
		t.Errorf("shown %+v, want the update and the membership", e.Body)
	}
}

// Observing shows everyone, though nobody's row moves on.
func TestObserveShowsEveryone(t *testing.T) {
	const people = 60 // more than are listed at once
	b := setup(t)
	b.config.Observe = true
	for i := range people {
		b.join(fmt.Sprint(i), fmt.Sprintf("Ana%c%c", 'a'+i/26, 'a'+i%26), "analyst")
	}
	b.work(func() bool {
		n, err := ledger.Size(b.db.DB)
		return err == nil && n == 1+2*people
	})
	if intents, _ := b.explained(); intents != people {
		t.Errorf("%d intents for %d people", intents, people)
	}
}

func decide(t *testing.T, b *bridge, h *state.Hold, to state.HoldState) {
	t.Helper()
	err := b.db.Tx(t.Context(), func(tx *store.Tx) error {
		_, _, err := state.DecideHold(tx, h.ID, h.Digest, to, "alice", "planned", 1, b.config.Now())
		if err != nil {
			return err
		}
		return state.LetThrough(tx, h.ID, b.config.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
}
