package outbox

import (
	"context"
	"strings"
	"testing"
	"time"
)

// How often a courier was replaced is counted by enclave and by run; only so much is kept of why.
func TestReplacedCouriers(t *testing.T) {
	b := setup(t)
	ctx := context.Background()
	of := func(aud string) *Replaced {
		t.Helper()
		all, err := StatusOf(ctx, b.db, b.clock.now())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if s.Audience == aud {
				return s.Replaced
			}
		}
		t.Fatalf("no status of %s", aud)
		return nil
	}
	for _, why := range []string{"signal: killed", strings.Repeat("ä", 10*maxWhy)} {
		b.clock.pass(time.Minute)
		if err := b.CourierReplaced(ctx, gov1, why); err != nil {
			t.Fatal(err)
		}
	}
	r := of(gov1)
	if r == nil || r.Count != 2 || !r.Last.Equal(b.clock.now()) || r.Why != strings.Repeat("ä", maxWhy) {
		t.Errorf("%+v", r)
	}
	if r := of(gov2); r != nil {
		t.Errorf("the other enclave's: %+v", r)
	}
	if err := b.NewCourier(ctx, gov1); err != nil {
		t.Fatal(err)
	}
	if r := of(gov1); r != nil {
		t.Errorf("in a new run: %+v", r)
	}
}
