package apply

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/fence"
	"jmlbridge/consumer/plan"
	"jmlbridge/consumer/state"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

func (b *bridge) row(subject string) *state.Subject {
	b.t.Helper()
	s, err := state.LoadSubject(b.db.Read(), state.SubjectKey{Issuer: issuer, Subject: subject})
	if err != nil || s == nil {
		b.t.Fatalf("subject %s: %v", subject, err)
	}
	return s
}

// silence makes the issuer one of which a heartbeat is expected and none ever came.
func (b *bridge) silence() {
	b.t.Helper()
	key, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		b.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		b.t.Fatal(err)
	}
	k := &state.Key{Public: der, Key: admit.Key{Issuer: issuer, Stream: "hr", Kinds: []schema.Kind{schema.KindHeartbeat}}}
	err = b.db.Tx(b.t.Context(), func(tx *store.Tx) error {
		return state.TrustKey(tx, k, state.Pin{}, state.By{Login: "alice", Reason: "test", Now: time.Now()})
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// A leaver stated for a date happens on it, whatever else waits for the person by then: something given
// that is held, that was discarded, or that waits for a heartbeat.
func TestLeaverOnItsDateWhateverWaits(t *testing.T) {
	for _, waits := range []string{"held", "discarded", "stale"} {
		t.Run(waits, func(t *testing.T) {
			b := setup(t, func(_ *tenant.Config, c *Config) {
				if waits != "stale" {
					c.Policy = testPolicy(t, 1, 100)
				}
			})
			now := b.config.Now()
			b.join("1", "Ana", "analyst")
			b.settle()
			b.say("1", fence.Fact{Kind: schema.KindLeaver, Effective: now.Add(24 * time.Hour)})
			b.settle()
			if waits == "stale" {
				b.silence()
			}
			b.say("1", fence.Fact{Kind: schema.KindMover, Person: person("Anna"), Roles: []string{"lead"}})
			b.work(func() bool {
				row := b.row("1")
				return row.Lane == plan.Give && (waits == "stale" || row.Held())
			})
			if waits == "discarded" {
				holds, err := state.Holds(b.db.Read())
				if err != nil || len(holds) != 1 {
					t.Fatalf("holds %v, %v", holds, err)
				}
				if err := b.db.Tx(t.Context(), func(tx *store.Tx) error { return state.DropHeld(tx, holds[0].ID) }); err != nil {
					t.Fatal(err)
				}
			}
			if !b.user("ana.ng").Enabled {
				t.Fatal("disabled before the date")
			}
			b.clock.Store(int64(25 * time.Hour))
			b.work(func() bool { return !b.user("ana.ng").Enabled })
		})
	}
}

// A look that fails is no effect, and neither is it a way past the limit.
func TestFailedLooksDoNotPassTheLimit(t *testing.T) {
	const limit, joiners = 3, 9
	b := setup(t, func(_ *tenant.Config, c *Config) { c.Policy = testPolicy(t, limit, 100) })
	b.tenant.AddFaults(tenant.Fault{Name: "away", Method: "^GET$", Path: "/users", Kind: tenant.Error, Status: 503, Count: joiners})
	for i := range joiners {
		id := fmt.Sprint(i)
		b.join(id, fmt.Sprintf("Ana%c", 'a'+i), "analyst")
		b.work(func() bool {
			row := b.row(id)
			return row.Attempts > 0 || row.Held() || row.Lane == plan.Idle
		})
	}
	b.settle()
	if n := b.writes("create"); n > limit { // fewer where several were judged together: they are held whole
		t.Errorf("%d accounts in an hour, want at most %d: that is the limit", n, limit)
	}
}
