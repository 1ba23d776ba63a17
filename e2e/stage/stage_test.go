package stage_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
	"jmlbridge/internal/ledger/entry"
)

var programs stage.Programs

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "stage-bin-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if programs, err = stage.Build(context.Background(), dir); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

func set(t *testing.T, c stage.Config) (context.Context, *stage.Stage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	c.Dir, c.Programs = filepath.Join(t.TempDir(), "bridge"), programs
	s, err := stage.New(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return ctx, s
}

func importRows(ctx context.Context, t *testing.T, s *stage.Stage, name string, rows ...stage.Row) {
	t.Helper()
	file := filepath.Join(s.Dir, name)
	if err := os.WriteFile(file, []byte(stage.Export(rows...)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ProducerDo(ctx, "import", file); err != nil {
		t.Fatal(err)
	}
}

// outcome matches the answer to an intent about a person.
func outcome(subject string) func(stage.Entry) bool {
	return func(e stage.Entry) bool {
		o, ok := e.Body.(*entry.Outcome)
		return ok && o.Subject == subject
	}
}

// A joiner and a leaver cross; the tenant says so, and so does the ledger. Everything ends cleanly, and
// a killed consumer starts again.
func TestBridge(t *testing.T) {
	ctx, s := set(t, stage.Config{Lease: time.Second})
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	ada := stage.Row{ID: "1001", Given: "Ada", Family: "Lovelace", Roles: "soc-analyst"}
	importRows(ctx, t, s, "1.csv", ada)
	joined, err := s.Ledger.Wait(ctx, "the joiner's outcome", 0, outcome("1001"))
	if err != nil {
		t.Fatal(err)
	}
	state, err := s.Tenant.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	u := state.User("ada.lovelace@" + stage.Domain)
	if u == nil || !u.Enabled || !slices.Equal(u.Groups, []string{"SOC Analysts"}) {
		t.Fatalf("the joiner's account: %+v", u)
	}

	if err := s.Consumer.Kill(); err != nil {
		t.Fatal(err)
	}
	if s.Consumer.Running() || s.Consumer.PID() != 0 {
		t.Error("a killed consumer runs")
	}
	mark := s.Consumer.Mark()
	if err := s.Consumer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	ada.Status = "Inactive"
	importRows(ctx, t, s, "2.csv", ada)
	if _, err := s.Consumer.WaitFor(ctx, "the cut", mark, func(l stage.Line) bool { return l.Has("recorded", "subject", "1001", "lane", "revoke") }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ledger.Wait(ctx, "the leaver's outcome", joined.Index+1, outcome("1001")); err != nil {
		t.Fatal(err)
	}
	if state, err = s.Tenant.State(ctx); err != nil {
		t.Fatal(err)
	}
	if u = state.User("ada.lovelace@" + stage.Domain); u == nil || u.Enabled || !u.SessionsRevoked {
		t.Errorf("the leaver's account: %+v", u)
	}
	journal, err := s.Tenant.Journal(ctx, 0)
	if err != nil || !slices.ContainsFunc(journal, func(e tenant.Entry) bool { return e.Applied && e.App == "cut" }) {
		t.Errorf("no write by the cutting app in %d journal entries; %v", len(journal), err)
	}
	if _, err := s.Sent.Wait(ctx, "something sent on the producer's ledger", 0, func(e stage.Entry) bool { return e.Body.Kind() == entry.KindSent }); err != nil {
		t.Error(err)
	}
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if res, err := s.Verify(ctx); err != nil {
		t.Errorf("the auditor: %v\n%s", err, res.Stdout)
	}
}

// Faults reach the sandbox with their durations, and can be taken back.
func TestFaults(t *testing.T) {
	ctx, s := set(t, stage.Config{})
	f := tenant.Fault{Name: "slow", Path: "/users", Kind: tenant.Throttle, RetryAfter: 2 * time.Second}
	if err := s.Tenant.AddFaults(ctx, f); err != nil {
		t.Fatal(err)
	}
	got, err := s.Tenant.Faults(ctx)
	if err != nil || len(got) != 1 || got[0].RetryAfter != f.RetryAfter {
		t.Fatalf("faults: %+v, %v", got, err)
	}
	if err := s.Tenant.RemoveFault(ctx, "slow"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Tenant.Faults(ctx); err != nil || len(got) != 0 {
		t.Errorf("faults after their removal: %+v, %v", got, err)
	}
}

// A program that ends instead of becoming ready is told with its code and its words, and nothing waits
// for the deadline.
func TestEndsEarly(t *testing.T) {
	ctx, s := set(t, stage.Config{})
	policy := filepath.Join(s.EnclaveDir, "policy.yaml")
	text, err := os.ReadFile(policy)
	if err == nil {
		err = os.WriteFile(policy, bytes.Replace(text, []byte("version: 1"), []byte("version: 7"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = s.Consumer.Start(ctx)
	var exit *stage.ExitError
	if !errors.As(err, &exit) || exit.Code != 2 || !strings.Contains(exit.Last, "policy.yaml") {
		t.Errorf("want exit code 2 and a word about policy.yaml, got %v", err)
	}
	if res, err := s.ConsumerDo(ctx, "status", "--nonsense"); !errors.As(err, &exit) || res.Code != 2 {
		t.Errorf("want exit code 2 for a flag that is none, got %+v, %v", res, err)
	}
}

// The kernel's tables show a listener as one, and a client as none.
func TestSockets(t *testing.T) {
	ctx, s := set(t, stage.Config{})
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	server, err := stage.SocketsOf(s.MidPoint.PID())
	if errors.Is(err, stage.ErrNoProc) {
		t.Skipf("a listener cannot be seen here: %v", err)
	}
	if err != nil || len(server.Listening) != 1 {
		t.Errorf("the mid-point listens once; got %+v, %v", server, err)
	}
	err = stage.Until(ctx, "the consumer's connection", func() (bool, error) {
		client, err := stage.SocketsOf(s.Consumer.PID())
		if len(client.Listening) != 0 {
			t.Errorf("the consumer listens: %+v", client)
		}
		return len(client.Outbound) > 0, err
	})
	if err != nil {
		t.Error(err)
	}
}
