package outbox

import (
	"context"
	"errors"
	"fmt"

	"jmlbridge/internal/envelope/seal"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
)

// A KeyError says that the configuration does not name the key in force.
type KeyError struct{ KID string }

func (e *KeyError) Error() string {
	return fmt.Sprintf("key %s is in force and the configuration names another one: name it under signing.key, or under signing.next, and restart", e.KID)
}

// InForce is the id of the key that an operator switched to; empty: the one of the configuration from the beginning.
func InForce(db *store.DB) (kid string, err error) {
	if err = db.Read().QueryRow("SELECT kid FROM producer").Scan(&kid); err != nil {
		err = fmt.Errorf("read which signing key is in force: %w", err)
	}
	return kid, err
}

// signer is the key by which this transaction signs. The database says which: so a switch is one transaction, and
// every process follows it with its next message.
func (b *Box) signer(tx *store.Tx) (*seal.Signer, error) {
	var kid string
	if err := tx.QueryRow("SELECT kid FROM producer").Scan(&kid); err != nil {
		return nil, fmt.Errorf("read which signing key is in force: %w", err)
	}
	for _, s := range []*seal.Signer{b.c.Signer, b.c.Next} {
		if s != nil && (kid == "" || kid == s.KID()) {
			return s, nil
		}
	}
	return nil, &KeyError{kid}
}

// Switched is where the old key ends in an enclave's chain.
type Switched struct {
	Audience   string `json:"aud"`
	Generation int    `json:"generation"`
	Last       uint64 `json:"last"` // the last number that the old key signed
}

// ErrNoNext says that there is no other key to switch to.
var ErrNoNext = errors.New("no next key")

// Switch lets the next key sign everything from here on, in every chain, and returns where the old one ends. What was
// signed stays as it is. note is recorded with it.
func (b *Box) Switch(ctx context.Context, note ...entry.Body) (old string, list []Switched, err error) {
	if b.c.Next == nil {
		return "", nil, ErrNoNext
	}
	// A key that cannot be asked now must not become the only one that may sign a leaver.
	if _, err := b.c.Next.Sign([]byte("{}")); err != nil {
		return "", nil, fmt.Errorf("try the next key: %w", err)
	}
	err = b.db.Tx(ctx, func(tx *store.Tx) error {
		list = nil
		s, err := b.signer(tx)
		if err != nil {
			return err
		}
		if old = s.KID(); old == b.c.Next.KID() {
			return ErrNoNext
		}
		if _, err := tx.Exec("UPDATE producer SET kid = ?", b.c.Next.KID()); err != nil {
			return fmt.Errorf("switch the signing key: %w", err)
		}
		err = tx.Each("SELECT aud, generation, seq FROM chain ORDER BY ref", nil, func(scan func(...any) error) error {
			var x Switched
			err := scan(&x.Audience, &x.Generation, &x.Last)
			list = append(list, x)
			return err
		})
		if err != nil {
			return err
		}
		return record(tx, b.c.Now(), note)
	})
	return old, list, err
}
