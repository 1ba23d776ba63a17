package state

import (
	"fmt"
	"time"

	"jmlbridge/internal/store"
)

// MetaPolicy is the key under which the digest of the policy stands that was last in force.
const MetaPolicy = "policy"

// Meta returns a fact about the file itself; empty where it has none of this key.
func Meta(r Reader, key string) (value string, err error) {
	_, err = found(r.QueryRow(`SELECT value FROM meta WHERE key = ?`, key).Scan(&value))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", key, err)
	}
	return value, nil
}

const metaRecovered = "recovered"

// SetRecovered notes when this database was made in place of a lost one.
func SetRecovered(tx *store.Tx, at time.Time) error {
	return SetMeta(tx, metaRecovered, at.UTC().Format(time.RFC3339Nano))
}

// Recovered is when this database was made in place of a lost one; zero: it was not.
func Recovered(r Reader) (at time.Time, err error) {
	text, err := Meta(r, metaRecovered)
	if err != nil || text == "" {
		return at, err
	}
	if at, err = time.Parse(time.RFC3339Nano, text); err != nil {
		return at, fmt.Errorf("read when the database was recovered: %w", err)
	}
	return at, nil
}

// SetMeta keeps a fact about the file. Those that Create wrote never change and are refused.
func SetMeta(tx *store.Tx, key, value string) error {
	switch key {
	case "enclave", "id", "created":
		return fmt.Errorf("%s of a database never changes", key)
	}
	_, err := tx.Exec(`INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2`, key, value)
	if err != nil {
		return fmt.Errorf("keep %s: %w", key, err)
	}
	return nil
}

const metaClockHigh = "clock-high"

// ClockHigh is where the clock was before it went back; zero: it did not, or somebody confirmed it since.
func ClockHigh(r Reader) (high time.Time, err error) {
	value, err := Meta(r, metaClockHigh)
	if err != nil || value == "" {
		return high, err
	}
	if high, err = time.Parse(time.RFC3339Nano, value); err != nil {
		return high, fmt.Errorf("read where the clock was before it went back: %w", err)
	}
	return high, nil
}

// SetClockHigh keeps it; zero ends it.
func SetClockHigh(tx *store.Tx, high time.Time) error {
	if high.IsZero() {
		return SetMeta(tx, metaClockHigh, "")
	}
	return SetMeta(tx, metaClockHigh, high.UTC().Format(time.RFC3339Nano))
}
