package outbox

import (
	"context"
	"fmt"
	"time"

	"jmlbridge/internal/store"
)

// maxWhy bounds, in characters, what is kept of why a courier was replaced: part of it is another process's word.
const maxWhy = 200

// Replaced tells of the courier of one enclave, the process that speaks to its mid-point where that is one of its own,
// how often it had to be replaced since the last NewCourier.
type Replaced struct {
	Count int       `json:"count"`
	Last  time.Time `json:"last"`
	Why   string    `json:"why"` // the last time
}

// NewCourier begins to count anew: a run begins.
func (b *Box) NewCourier(ctx context.Context, audience string) error {
	return b.courier(ctx, "DELETE FROM courier WHERE chain = (SELECT ref FROM chain WHERE aud = ?)", audience)
}

// CourierReplaced notes that the courier was replaced, and why.
func (b *Box) CourierReplaced(ctx context.Context, audience, why string) error {
	if r := []rune(why); len(r) > maxWhy {
		why = string(r[:maxWhy])
	}
	return b.courier(ctx, `INSERT INTO courier (chain, replaced, last, why) SELECT ref, 1, ?2, ?3 FROM chain WHERE aud = ?1
		ON CONFLICT (chain) DO UPDATE SET replaced = replaced + 1, last = ?2, why = ?3`, audience, b.c.Now().UnixMilli(), why)
}

func (b *Box) courier(ctx context.Context, query string, args ...any) error {
	err := b.db.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("note what became of the courier: %w", err)
	}
	return nil
}
