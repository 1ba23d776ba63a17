package outbox

import (
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
	if errors.Is(err, sql.ErrNoRows) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(doc), &s)
	}
	if err != nil {
		return s, fmt.Errorf("read the register of subject %q: %w", subject, err)
	}
	return s, nil
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
