// Package ledger is the append-only record that each program keeps.
//
// [Append] writes entries inside the caller's transaction, so that an entry and the state it explains
// become durable together or not at all; a [Publisher] signs checkpoints of the tree over them and
// writes it as plain files that stock tools verify; [CheckNotBehind] keeps a restored old database
// from running. schema/ledger.md is the specification.
//
// It trusts the database file and the ledger key. Its invariant: what a checkpoint has named is never
// otherwise; every crash leaves a state from which the next start goes on.
package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/tlog"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/store"
)

// DDL makes the tables of a ledger and gives it an id; it is part of the program's own.
const DDL = `
CREATE TABLE ledger_entry (
	idx  INTEGER PRIMARY KEY, -- 0 and up, without holes
	body BLOB NOT NULL        -- canonical entry
) STRICT;
CREATE TABLE ledger_frontier ( -- one row: the right edge of the tree over all of ledger_entry
	one    INTEGER PRIMARY KEY CHECK (one = 1),
	id     TEXT NOT NULL,      -- of this ledger, for ever
	size   INTEGER NOT NULL,
	hashes BLOB NOT NULL
) STRICT;
INSERT INTO ledger_frontier VALUES (1, lower(hex(randomblob(16))), 0, x'');
CREATE TABLE ledger_checkpoint ( -- signed; stored here before it leaves the machine
	size INTEGER PRIMARY KEY,
	root BLOB NOT NULL,
	note BLOB NOT NULL
) STRICT;
CREATE TABLE ledger_place (   -- where a checkpoint was put, and of which size at least
	name TEXT PRIMARY KEY,    -- tiles, copy
	path TEXT NOT NULL,
	size INTEGER NOT NULL
) STRICT;
CREATE TABLE ledger_archive ( -- archive files: what lies beyond length is torn
	day    TEXT PRIMARY KEY,  -- YYYY-MM-DD
	length INTEGER NOT NULL,  -- octets
	rows   INTEGER NOT NULL
) STRICT;
CREATE TABLE ledger_archived ( -- one row: the last message that is in the archive
	one    INTEGER PRIMARY KEY CHECK (one = 1),
	cursor INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_archived VALUES (1, 0);
`

// tail is the frontier while a unit of work appends to it: read once, written once.
type tail struct {
	tiles.Frontier
	body []byte // of the entry that is written: one after the other in the same memory
}

type tailKey struct{}

// Append puts entries at the end of the ledger, as part of tx, and returns the index of the first;
// the others follow it. An entry that breaks its form fails the whole call: nothing may happen that
// cannot be recorded.
func Append(tx *store.Tx, entries ...entry.Entry) (first int64, err error) {
	t, ok := tx.Value(tailKey{}).(*tail)
	if !ok {
		f, err := frontier(tx)
		if err != nil {
			return 0, err
		}
		t = &tail{Frontier: *f}
		tx.SetValue(tailKey{}, t)
		tx.Before(func() error {
			if _, err := tx.Exec("UPDATE ledger_frontier SET size = ?, hashes = ? WHERE one = 1", t.Size, t.MarshalHashes()); err != nil {
				return fmt.Errorf("append to the ledger: %w", err)
			}
			return nil
		})
	}
	first = t.Size
	for _, e := range entries {
		if t.body, err = entry.Append(t.body[:0], e); err != nil {
			return 0, err
		}
		if _, err := tx.Exec("INSERT INTO ledger_entry VALUES (?, ?)", t.Size, t.body); err != nil {
			return 0, fmt.Errorf("append to the ledger: %w", err)
		}
		t.Frontier.Append(tlog.RecordHash(t.body))
	}
	return first, nil
}

// rowReader is a transaction, or the reading side of a store.
type rowReader interface {
	QueryRow(query string, args ...any) *sql.Row
}

func frontier(q rowReader) (*tiles.Frontier, error) {
	var size int64
	var hashes []byte
	if err := q.QueryRow("SELECT size, hashes FROM ledger_frontier").Scan(&size, &hashes); err != nil {
		return nil, fmt.Errorf("read the ledger's frontier: %w", err)
	}
	return tiles.ParseFrontier(size, hashes)
}

// ID is the ledger's own id, which was made with the database.
func ID(db *store.DB) (id string, err error) {
	if err = db.Read().QueryRow("SELECT id FROM ledger_frontier").Scan(&id); err != nil {
		return "", fmt.Errorf("read the ledger's id: %w", err)
	}
	return id, nil
}

// Size is the number of entries that are durable.
func Size(db *store.DB) (int64, error) {
	f, err := frontier(db.Read())
	if err != nil {
		return 0, err
	}
	return f.Size, nil
}

// Get reads the entry at index i from the database.
func Get(db *store.DB, i int64) (entry.Entry, error) {
	var body []byte
	if err := db.Read().QueryRow("SELECT body FROM ledger_entry WHERE idx = ?", i).Scan(&body); err != nil {
		return entry.Entry{}, fmt.Errorf("read ledger entry %d: %w", i, err)
	}
	e, err := entry.Decode(body)
	if err != nil {
		return entry.Entry{}, fmt.Errorf("ledger entry %d: %w", i, err)
	}
	return e, nil
}

// Entries reads entries from index first on, as many as are durable, from the database. It reads in
// pieces and holds no transaction open. An error is the last thing it yields.
func Entries(ctx context.Context, db *store.DB, first int64) iter.Seq2[Indexed, error] {
	return func(yield func(Indexed, error) bool) {
		for raw, err := range bodies(ctx, db, first, -1) {
			if err != nil {
				yield(Indexed{}, err)
				return
			}
			e, err := entry.Decode(raw.body)
			if err != nil {
				yield(Indexed{}, fmt.Errorf("ledger entry %d: %w", raw.index, err))
				return
			}
			if !yield(Indexed{raw.index, e}, nil) {
				return
			}
		}
	}
}

// Indexed is an entry with its place.
type Indexed struct {
	Index int64
	entry.Entry
}

type rawEntry struct {
	index int64
	body  []byte
}

const piece = 512 // entries read from the database at once

// bodies reads the entries [first, end), or all that are there if end is negative; a hole is an error.
func bodies(ctx context.Context, db *store.DB, first, end int64) iter.Seq2[rawEntry, error] {
	read := func(from, to int64) (batch []rawEntry, err error) {
		rows, err := db.Read().QueryContext(ctx, "SELECT idx, body FROM ledger_entry WHERE idx >= ? AND idx < ? ORDER BY idx", from, to)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for rows.Next() {
			var r rawEntry
			if err := rows.Scan(&r.index, &r.body); err != nil {
				return nil, err
			}
			if want := from + int64(len(batch)); r.index != want {
				return nil, fmt.Errorf("entry %d is missing", want)
			}
			batch = append(batch, r)
		}
		return batch, rows.Err()
	}
	return func(yield func(rawEntry, error) bool) {
		for from := first; end < 0 || from < end; {
			to := from + piece
			if end >= 0 {
				to = min(to, end)
			}
			batch, err := read(from, to)
			if err == nil && end >= 0 && int64(len(batch)) != to-from {
				err = fmt.Errorf("entry %d is missing", from+int64(len(batch)))
			}
			if err != nil {
				yield(rawEntry{}, fmt.Errorf("read the ledger from its database: %w", err))
				return
			}
			for _, r := range batch {
				if !yield(r, nil) {
					return
				}
			}
			if from = to; int64(len(batch)) < piece && end < 0 {
				return
			}
		}
	}
}
