package outbox

import (
	"context"

	"jmlbridge/internal/crash"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// Approve stores a second signer's word on a person. note is recorded with it.
func (b *Box) Approve(ctx context.Context, audience, subject, ticket string, e *schema.Approval, note ...entry.Body) (sent []Sent, err error) {
	err = b.db.Tx(ctx, func(tx *store.Tx) error {
		sent = nil
		c, err := b.chain(tx, audience)
		if err != nil {
			return err
		}
		iat, err := b.issue(c)
		if err != nil {
			return err
		}
		s, err := b.claims(c, iat)
		if err != nil {
			return err
		}
		s.Subject, s.Event, s.Txn = subject, e, ticket
		if sent, err = b.store(tx, c, []*schema.SET{s}); err != nil {
			return err
		}
		return record(tx, b.c.Now(), note)
	})
	if err != nil {
		return nil, err
	}
	crash.Point("producer-stored")
	b.logSent(ctx, sent)
	return sent, nil
}
