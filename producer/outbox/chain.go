package outbox

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// An UnknownEnclaveError names an enclave that the configuration has and the database does not.
type UnknownEnclaveError struct{ Audience string }

func (e *UnknownEnclaveError) Error() string {
	return fmt.Sprintf("enclave %s has no chain in the database yet; begin one with: producer enclave add", e.Audience)
}

// A KnownEnclaveError says that an enclave's chain has begun already.
type KnownEnclaveError struct{ Audience string }

func (e *KnownEnclaveError) Error() string {
	return fmt.Sprintf("enclave %s has a chain already; nothing was done", e.Audience)
}

// A ClockError says that the clock went back behind what was sent.
type ClockError struct{ Now, Last time.Time }

func (e *ClockError) Error() string {
	return fmt.Sprintf("the clock says %s, but the last message was issued at %s; set the clock right before anything is sent",
		e.Now.UTC().Format(time.RFC3339), e.Last.UTC().Format(time.RFC3339))
}

// chain is one enclave's row while a transaction holds it.
type chain struct {
	ref        int64
	audience   string
	generation int
	seq        uint64
	head       schema.Digest
	lastIAT    int64
	cutAfter   uint64
	restored   bool
}

func (b *Box) chain(tx *store.Tx, audience string) (*chain, error) {
	c := &chain{audience: audience}
	var head []byte
	err := tx.QueryRow("SELECT ref, generation, seq, head, last_iat, cut_after, restored FROM chain WHERE aud = ?", audience).
		Scan(&c.ref, &c.generation, &c.seq, &head, &c.lastIAT, &c.cutAfter, &c.restored)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, &UnknownEnclaveError{audience}
	}
	if err != nil {
		return nil, fmt.Errorf("read the chain of %s: %w", audience, err)
	}
	if len(head) != len(c.head) {
		return nil, fmt.Errorf("the chain of %s has a head of %d octets; the database is damaged", audience, len(head))
	}
	c.head = schema.Digest(head)
	return c, nil
}

// issue is the iat of the next message: never before the last one's.
func (b *Box) issue(c *chain) (schema.Instant, error) {
	now := b.c.Now()
	last := time.Unix(c.lastIAT, 0)
	if now.Before(last) {
		if last.Sub(now) > maxBack {
			return schema.Instant{}, &ClockError{now, last}
		}
		now = last
	}
	return schema.At(now), nil
}
