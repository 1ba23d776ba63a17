package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"jmlbridge/internal/store"
	"jmlbridge/producer/register"
	"jmlbridge/schema"
)

// state reads what was last said of a person.
func state(tx *store.Tx, c *chain, subject string) (register.State, error) {
	s := register.State{Open: c.generation, Restored: c.restored}
	var doc string
	err := tx.QueryRow("SELECT doc FROM person WHERE chain = ? AND subject = ?", c.ref, subject).Scan(&doc)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = nil
	case err == nil:
		err = json.Unmarshal([]byte(doc), &s)
	}
	if err == nil {
		err = tx.Each(wordsElsewhere+" AND person.subject = ?", []any{c.audience, subject}, func(scan func(...any) error) error {
			_, e, err := elsewhere(scan)
			s.Elsewhere = append(s.Elsewhere, e)
			return err
		})
	}
	if err != nil {
		return s, fmt.Errorf("read the register of subject %q: %w", subject, err)
	}
	return s, nil
}

// wordsElsewhere finds the states in the other enclaves of people of whom there is a word of an operator's in any.
const wordsElsewhere = `SELECT subject, aud, doc FROM chain JOIN person ON chain = ref WHERE aud <> ?
	AND EXISTS (SELECT 1 FROM chain AS c JOIN person AS word ON word.chain = c.ref WHERE word.subject = person.subject
		AND (word.doc ->> 'said_end' IS NOT NULL OR word.doc ->> 'said_bar' IS NOT NULL OR word.doc ->> 'by' = 'operator'
			OR word.doc ->> 'barred' IS NOT NULL))`

func elsewhere(scan func(...any) error) (subject string, e register.Elsewhere, err error) {
	var doc string
	if err := scan(&subject, &e.Audience, &doc); err != nil {
		return "", e, err
	}
	return subject, e, json.Unmarshal([]byte(doc), &e.State)
}

// Elsewhere is what stands in the other enclaves' registers, of people of whom an operator said something, by subject.
func (b *Box) Elsewhere(ctx context.Context, audience string) (map[string][]register.Elsewhere, error) {
	words := map[string][]register.Elsewhere{}
	err := b.db.Read().Each(wordsElsewhere, []any{audience}, func(scan func(...any) error) error {
		subject, e, err := elsewhere(scan)
		words[subject] = append(words[subject], e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what was said to other enclaves: %w", err)
	}
	return words, nil
}

// keep stores next unless it is what is there.
func keep(tx *store.Tx, ref int64, subject string, last, next *register.State, now time.Time) error {
	if next.Status == "" {
		return nil
	}
	was, err := json.Marshal(last)
	if err != nil {
		return err
	}
	doc, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if string(was) == string(doc) {
		return nil
	}
	var until, barred any // only the live expire, or are suspended
	if next.Status.Live() {
		for _, end := range []*schema.Instant{next.End, next.Leaves} {
			if end != nil && (until == nil || end.Unix() < until.(int64)) {
				until = end.Unix()
			}
		}
		if next.Barred != nil {
			barred = next.Barred.Unix()
		}
	}
	if _, err := tx.Exec("INSERT OR REPLACE INTO person (chain, subject, status, said, until, barred, doc) VALUES (?, ?, ?, ?, ?, ?, ?)",
		ref, subject, string(next.Status), now.Unix(), until, barred, string(doc)); err != nil {
		return fmt.Errorf("store the register of subject %q: %w", subject, err)
	}
	return nil
}
