package intake

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"jmlbridge/internal/envelope"
	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/queue"
)

// stored is a decryption key in a store that can be away.
type stored struct {
	*rsa.PrivateKey
	away *atomic.Bool
}

func (k stored) Decrypt(r io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if k.away.Load() {
		return nil, errors.New("the store does not answer")
	}
	return k.PrivateKey.Decrypt(r, msg, opts)
}

// Whoever waits for a key store is told after half a minute, and once; what ends with the run stays told.
func TestAKeyStoreThatIsAwayIsTold(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	ring, err := envelope.NewRing(stored{key, &away})
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.NewRecipient(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := seal.Seal([]byte("{}"), newProducer(t, "hr", to).signer, to)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var told []bool
		in := &Intake{Config: Config{Ring: ring, Log: slog.New(slog.DiscardHandler), Unopened: func(waits bool) { told = append(told, waits) }}, fetching: ctx}
		done := make(chan error)
		open := func() { go func() { _, err := in.open(ctx, []queue.Delivery{{Body: sealed.Wire}}); done <- err }() }
		expect := func(want ...bool) {
			t.Helper()
			if synctest.Wait(); !slices.Equal(told, want) {
				t.Fatalf("told %v, want %v", told, want)
			}
		}
		away.Store(true)
		open()
		time.Sleep(unopenedAfter - time.Second)
		expect()
		open() // the other line
		time.Sleep(2 * unopenedAfter)
		expect(true)
		away.Store(false)
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		expect(true, false)
		away.Store(true)
		open()
		time.Sleep(2 * unopenedAfter)
		cancel()
		if err := <-done; err == nil {
			t.Fatal("opened without the store")
		}
		expect(true, false, true)
	})
}
