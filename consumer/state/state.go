// Package state is what the consumer remembers: one SQLite file, all of its tables and all SQL on them.
//
// It decides nothing. Its callers hold the rules (admit, fence, plan, policy) and bring them together in
// transactions; what must change together changes through one [store.Tx], with the ledger entry that
// explains it. Functions that only read take a [Reader], which a transaction and the pool of reading
// connections both are.
//
// The file is trusted as far as its owner is: whoever can write it can make the consumer do anything that
// the tenant's permissions allow. It is bound to one enclave when it is made.
package state

import (
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"jmlbridge/internal/ledger"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

//go:embed schema.sql
var tables string

// appID marks the file as the consumer's: "JMLc".
const appID = 0x4a4d4c63

// migrations bring the tables from each version to the next: 1 to 2 for how long a cut waits at most, for which looks at a
// lease are its end, and for alarms about a person, which were kept by the subject alone and would stand for ever by that key.
var migrations = map[int]string{
	1: `ALTER TABLE subject ADD COLUMN lease_end INTEGER NOT NULL DEFAULT 0;
		ALTER TABLE subject ADD COLUMN cut_by INTEGER NOT NULL DEFAULT 0;
		ALTER TABLE subject ADD COLUMN take_by INTEGER NOT NULL DEFAULT 0;
		CREATE INDEX hold_expires ON hold (expires) WHERE state = 'open' AND expires > 0;
		UPDATE alarm SET key = replace(replace(replace(key, '%', '%25'), '@', '%40'), '#', '%23') || '@' || (SELECT iss FROM subject WHERE subject = alarm.key)
			WHERE code IN ('cut-failing', 'give-failing', 'cut-undone', 'cut-held', 'internal', 'engagement-jump', 'content-refused')
			AND (SELECT COUNT(*) FROM subject WHERE subject = alarm.key) = 1;`,
}

// Schema describes the file to package store.
func Schema() store.Schema {
	return store.Schema{App: appID, Name: "jmlbridge consumer", Version: 2, DDL: tables + ledger.DDL, Migrations: migrations}
}

// Reader is what reading functions need: a *store.Reader of [DB.Read], or a *store.Tx.
type Reader interface {
	Each(query string, args []any, row func(scan func(...any) error) error) error
	QueryRow(query string, args ...any) *sql.Row
}

// DB is the open file of one enclave.
type DB struct {
	*store.DB
	enclave string
	id      string
}

// Enclave is the URI of the enclave to which the file is bound.
func (db *DB) Enclave() string { return db.enclave }

// ID tells this database from every other.
func (db *DB) ID() string { return db.id }

// Create makes the file for the enclave with this URI. It refuses a path that exists.
func Create(path, enclave string, now time.Time) error {
	if enclave == "" || len(enclave) > schema.MaxURI {
		return fmt.Errorf("want the enclave's URI of 1 to %d octets, got %d", schema.MaxURI, len(enclave))
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	s := Schema()
	// Part of creation itself: a file without these does not exist.
	s.DDL += fmt.Sprintf("\nINSERT INTO meta (key, value) VALUES ('enclave', %s), ('id', '%s'), ('created', '%s');\n",
		quote(enclave), hex.EncodeToString(id[:]), now.UTC().Format(time.RFC3339))
	return store.Create(path, s)
}

// quote makes a SQL string literal; DDL takes no parameters.
func quote(s string) string {
	b := []byte{'\''}
	for i := range len(s) {
		if s[i] == '\'' {
			b = append(b, '\'')
		}
		b = append(b, s[i])
	}
	return string(append(b, '\''))
}

// Open opens the file for reading and writing.
func Open(path string) (*DB, error) {
	s, err := store.Open(path, Schema())
	if err != nil {
		return nil, err
	}
	return bind(s)
}

// OpenRead opens the file for reading only.
func OpenRead(path string) (*DB, error) {
	s, err := store.OpenRead(path, Schema())
	if err != nil {
		return nil, err
	}
	return bind(s)
}

func bind(s *store.DB) (*DB, error) {
	db := &DB{DB: s}
	err := s.Read().QueryRow(`SELECT (SELECT value FROM meta WHERE key = 'enclave'), (SELECT value FROM meta WHERE key = 'id')`).Scan(&db.enclave, &db.id)
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("database %s: read which enclave it belongs to: %w", s.Path(), err)
	}
	return db, nil
}

// Check refuses a file of another enclave than the one configured.
func (db *DB) Check(enclave string) error {
	if enclave != db.enclave {
		return &store.RefusedError{Path: db.Path(), Reason: fmt.Sprintf("it belongs to enclave %q and the configuration says %q; a database serves one enclave for ever", db.enclave, enclave)}
	}
	return nil
}

// Update runs f in a transaction and returns when it is durable.
func (db *DB) Update(ctx context.Context, f func(*store.Tx) error) error { return db.Tx(ctx, f) }

// ErrNotFound says that there is no such row. Errors wrap it.
var ErrNotFound = errors.New("not there")

func found(err error) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// each runs a query and calls row for every row.
func each(r Reader, row func(scan func(...any) error) error, query string, args ...any) error {
	return r.Each(query, args, row)
}

// ms is t as it stands in the tables; 0 is "never".
func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// digest scans 32 octets.
type digest struct{ d *schema.Digest }

func (x digest) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(x.d) {
		return fmt.Errorf("want a digest of %d octets, got %T of %d", len(x.d), v, len(b))
	}
	copy(x.d[:], b)
	return nil
}

// instant scans milliseconds.
type instant struct{ t *time.Time }

func (x instant) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("want milliseconds, got %T", v)
	}
	*x.t = at(n)
	return nil
}
