package outbox

import (
	"context"
	"errors"
	"slices"
	"testing"

	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/ledger/entry"
)

// signers are the keys of what was stored, in order.
func (b *bench) signers(t *testing.T) (list []string) {
	t.Helper()
	for e, err := range ledger.Entries(t.Context(), b.db, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := e.Body.(*entry.Sent); ok {
			list = append(list, s.Key)
		}
	}
	return list
}

func newSigner(t *testing.T) *seal.Signer {
	t.Helper()
	key, err := keys.GenerateSigning(keys.ES384)
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.NewSigner(&faulty{Signer: key})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A switch is where one key ends and the next begins, in every chain, for every process, whole or not at all.
func TestASwitchOfTheKeyIsOneTransaction(t *testing.T) {
	b := setup(t)
	ctx := context.Background()
	old, next := b.c.Signer, newSigner(t)
	if _, _, err := b.Switch(ctx); !errors.Is(err, ErrNoNext) {
		t.Errorf("without a next key: %v", err)
	}
	b.c.Next = next
	beside, err := New(b.db, b.c) // another process
	if err != nil {
		t.Fatal(err)
	}
	b.joins(t, gov1, "1", "2")
	b.joins(t, gov2, "1")

	// A note that does not fit the ledger fails all of it.
	if _, _, err := b.Switch(ctx, &entry.Operator{}); err == nil {
		t.Fatal("a switch that cannot be recorded happened")
	}
	b.joins(t, gov1, "3")
	was, list, err := b.Switch(ctx, &entry.Operator{By: "op", Action: "key-switch", Target: next.KID()})
	if err != nil || was != old.KID() || !slices.Equal(list, []Switched{{gov1, 1, 3}, {gov2, 1, 1}}) {
		t.Fatalf("%s %+v %v", was, list, err)
	}
	b.joins(t, gov1, "4")
	if _, err := beside.Heartbeat(ctx, gov2, 0); err != nil {
		t.Fatal(err)
	}
	if want := []string{old.KID(), old.KID(), old.KID(), old.KID(), next.KID(), next.KID()}; !slices.Equal(b.signers(t), want) {
		t.Errorf("want %q, got %q", want, b.signers(t))
	}
	if kid, err := InForce(b.db); err != nil || kid != next.KID() {
		t.Errorf("%s %v", kid, err)
	}
	if _, _, err := b.Switch(ctx); !errors.Is(err, ErrNoNext) {
		t.Errorf("to the key in force: %v", err)
	}
	// The next one takes the place of the old in the configuration; the old one alone is an error, never a signature.
	b.c.Signer, b.c.Next = next, nil
	b.joins(t, gov1, "5")
	b.c.Signer = old
	var wrong *KeyError
	if _, err := b.Heartbeat(ctx, gov1, 0); !errors.As(err, &wrong) || wrong.KID != next.KID() {
		t.Errorf("want the old key refused, got %v", err)
	}
}

// A next key that cannot be asked is not switched to.
func TestASwitchTriesTheNextKey(t *testing.T) {
	b := setup(t)
	key, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	away := &faulty{Signer: key, n: 1}
	if b.c.Next, err = seal.NewSigner(away); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Switch(context.Background()); err == nil {
		t.Fatal("switched to a key that does not answer")
	}
	if kid, err := InForce(b.db); err != nil || kid != "" {
		t.Errorf("%s %v", kid, err)
	}
}
