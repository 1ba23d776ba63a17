// Package store keeps a program's state in one SQLite file.
//
// It knows no domain: the caller brings the tables. What it holds up is durability and ownership.
// A transaction that was acknowledged survives SIGKILL and power loss (WAL, synchronous=FULL);
// opening never creates, so a bad mount is an error and not an empty state; a file of another
// program, of a newer version or readable by the world is refused; and [Take] lets only one runner
// work at a time, while any number of processes read and other commands may still write.
//
// It trusts the disk to keep what fsync acknowledged, and everyone with write access to the file.
package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	_ "modernc.org/sqlite" // the driver "sqlite": SQLite in pure Go, so that a release needs no C
)

// A Schema says what a program keeps in its file.
type Schema struct {
	App     int32  // application_id of the file: which program owns it; never changes
	Name    string // the program in words, for error messages
	Version int    // user_version: of the tables; starts at 1
	DDL     string // the tables of Version, for [Create]

	// Migrations[v] is SQL that brings tables of version v to v+1. A version without one is refused.
	Migrations map[int]string
}

// A RefusedError says why a file was not opened or not created: a wrong file or a wrong mode. The
// disk is as it was. Programs answer it with the exit code for misuse.
type RefusedError struct {
	Path   string
	Reason string // what was expected, what came, what to do
}

func (e *RefusedError) Error() string { return fmt.Sprintf("database %s: %s", e.Path, e.Reason) }

func refusef(path, format string, args ...any) error {
	return &RefusedError{path, fmt.Sprintf(format, args...)}
}

// Tuning. Figures are of the benchmark in this package.
const (
	busyTimeout   = 60_000   // milliseconds that a write waits for other processes' transactions: they take turns by chance, and an import makes one after the other
	writerCache   = 24 << 10 // KiB of page cache for the writing connection
	readerCache   = 2 << 10  // KiB for each reading connection
	maxReaders    = 4        // connections
	pageSize      = 8192     // octets; rows of messages are wide, and fewer pages are fewer writes (about 15 % less CPU than 4096)
	checkpointAt  = 4000     // pages in the WAL at which SQLite moves them home
	walLimit      = 64 << 20 // octets that the WAL file keeps after a checkpoint
	maxGroup      = 64       // units in one shared transaction
	maxStatements = 512      // prepared statements kept, of the writer and of the readers; queries are constants, so this is never reached
)

// DB is an open file: one connection that writes, a few that read. Its methods may be called from
// many goroutines.
type DB struct {
	path   string
	base   string  // of the data source names
	writes *sql.DB // one connection, pinned by w; nil when opened for reading
	reads  *Reader
	w      *writer
	group  group
	once   sync.Once
}

// Create makes a new file at path with the tables of s, mode 0600. It refuses a path that exists,
// and a crash leaves either nothing at path or the whole database.
func Create(path string, s Schema) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return refusef(path, "it exists already; a database is created once and never over another")
	}
	// Built under another name and linked when complete: link fails where the name is taken.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("create database %s: %w", path, err)
	}
	tmp := f.Name()
	defer func() {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(tmp + suffix)
		}
	}()
	if err := f.Close(); err != nil {
		return fmt.Errorf("create database %s: %w", path, err)
	}
	if err := fill(tmp, s); err != nil {
		return fmt.Errorf("create database %s: %w", path, err)
	}
	if err := syncPath(tmp); err != nil {
		return fmt.Errorf("create database %s: %w", path, err)
	}
	if err := os.Link(tmp, path); err != nil {
		if os.IsExist(err) {
			return refusef(path, "it exists already; a database is created once and never over another")
		}
		return fmt.Errorf("create database %s: %w", path, err)
	}
	if err := syncPath(filepath.Dir(path)); err != nil {
		return fmt.Errorf("create database %s: %w", path, err)
	}
	return nil
}

func fill(path string, s Schema) error {
	db, err := open(path)
	if err != nil {
		return err
	}
	if err := db.openWriter(); err != nil {
		_ = db.Close()
		return err
	}
	err = db.Tx(context.Background(), func(tx *Tx) error {
		for _, q := range []string{
			fmt.Sprintf("PRAGMA application_id = %d", s.App), fmt.Sprintf("PRAGMA user_version = %d", s.Version), s.DDL,
		} {
			if err := tx.script(q); err != nil {
				return err
			}
		}
		return nil
	})
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	return err
}

// Open opens the file at path for reading and writing, bringing its tables to s.Version. A runner
// holds [Take] before it opens; other commands open without, and their transactions interleave.
func Open(path string, s Schema) (*DB, error) { return checked(path, s, true) }

// OpenRead opens the file at path for reading only, beside a runner or without one.
func OpenRead(path string, s Schema) (*DB, error) { return checked(path, s, false) }

func checked(path string, s Schema, write bool) (*DB, error) {
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return nil, refusef(path, "it does not exist; check the path and the mount. Opening never creates: a new database is made by init, once; for one that is lost, put its newest backup back, or see recover")
	case err != nil:
		return nil, fmt.Errorf("open database: %w", err)
	case !info.Mode().IsRegular():
		return nil, refusef(path, "want a regular file, got %s", info.Mode().Type())
	case info.Mode().Perm()&0o007 != 0:
		return nil, refusef(path, "its mode %04o lets everyone in; want 0600 (chmod 600 %s)", info.Mode().Perm(), path)
	}
	db, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	// The writer comes last: it turns the file to WAL, which must not happen to a stranger's.
	if err = db.check(s, write); err == nil && write {
		if err = db.openWriter(); err == nil {
			err = db.migrate(s)
		}
	}
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

func open(path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// mode=rw: SQLite itself must not create either. Pragmas are constants of this package.
	db := &DB{path: path, base: "file:" + (&url.URL{Path: abs}).EscapedPath() + fmt.Sprintf(
		"?mode=rw&_dqs=0&_busy_timeout=%d&_synchronous=FULL&_foreign_keys=1&_pragma=temp_store(MEMORY)", busyTimeout)}
	reads, err := sql.Open("sqlite", db.base+fmt.Sprintf("&_pragma=cache_size(-%d)&_query_only=1", readerCache))
	if err != nil {
		return nil, err
	}
	db.reads = newReader(reads)
	db.reads.SetMaxOpenConns(maxReaders)
	db.reads.SetMaxIdleConns(maxReaders)
	return db, nil
}

func (db *DB) openWriter() (err error) {
	db.writes, err = sql.Open("sqlite", db.base+fmt.Sprintf(
		"&_pragma=page_size(%d)&_journal_mode=WAL&_pragma=cache_size(-%d)&_pragma=wal_autocheckpoint(%d)&_pragma=journal_size_limit(%d)",
		pageSize, writerCache, checkpointAt, walLimit))
	if err != nil {
		return fmt.Errorf("open database %s: %w", db.path, err)
	}
	db.writes.SetMaxOpenConns(1)
	if db.w, err = newWriter(db.writes); err != nil {
		return fmt.Errorf("open database %s: %w", db.path, err)
	}
	return nil
}

// check holds the file against s.
func (db *DB) check(s Schema, write bool) error {
	var app, version int
	if err := db.reads.QueryRow("PRAGMA application_id").Scan(&app); IsFull(err) {
		return fmt.Errorf("open database %s: %w", db.path, err)
	} else if isDamaged(err) {
		return refusef(db.path, "want a database of %s, but the file is none, or is damaged (%v); check the path, and restore a backup only if it is the right one", s.Name, err)
	} else if err != nil {
		return refusef(db.path, "it could not be looked at (%v), which does not mean that it is damaged. The folder, the file, and those that end in -wal and -shm beside it must be this login's to read and write, on a volume that is not read-only: run the command as the login that owns them", err)
	}
	if err := db.reads.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("database %s: read version: %w", db.path, err)
	}
	switch {
	case int32(app) != s.App:
		return refusef(db.path, "want a database of %s (application id %d), got application id %d; check the path", s.Name, s.App, app)
	case version > s.Version:
		return refusef(db.path, "it has version %d and this program knows up to %d: a newer program wrote it; run that version or a later one", version, s.Version)
	case version < s.Version && !write:
		return refusef(db.path, "it has version %d and this program reads %d; run the program once so that it migrates the file", version, s.Version)
	}
	return nil
}

// migrate brings the tables to s.Version, all of it or nothing.
func (db *DB) migrate(s Schema) error {
	return db.Tx(context.Background(), func(tx *Tx) error {
		// Inside the transaction: another process may have migrated since check.
		version := 0
		if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
			return fmt.Errorf("database %s: read version: %w", db.path, err)
		}
		if version == s.Version {
			return nil
		}
		for ; version < s.Version; version++ {
			step, ok := s.Migrations[version]
			if !ok {
				return refusef(db.path, "it has version %d, from which this program has no way to its %d; upgrade through an older release first", version, s.Version)
			}
			if err := tx.script(step); err != nil {
				return fmt.Errorf("migrate database %s from version %d: %w", db.path, version, err)
			}
		}
		return tx.script(fmt.Sprintf("PRAGMA user_version = %d", s.Version))
	})
}

// Path is the file's name as it was given.
func (db *DB) Path() string { return db.path }

// Read is the pool of reading connections; it refuses writes.
func (db *DB) Read() *Reader { return db.reads }

// Checkpoint moves the WAL into the database file, as far as readers let it.
func (db *DB) Checkpoint(ctx context.Context) error {
	if db.w == nil {
		return errReadOnly
	}
	if err := db.w.take(ctx); err != nil {
		return err
	}
	defer db.w.put()
	_, err := db.w.conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// Backup copies the whole of the database, as of one moment, to a new file that only this login can read, synced, and returns that
// file's digest and size. Neither reading nor writing waits for it.
func (db *DB) Backup(ctx context.Context, path string) (digest [sha256.Size]byte, size int64, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) // SQLite fills an empty file
	if err != nil {
		return digest, 0, refusef(db.path, "want a new file for its backup, which never overwrites: %v", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path) // half a copy is none
		}
	}()
	c, err := sql.Open("sqlite", db.base)
	if err != nil {
		return digest, 0, fmt.Errorf("copy database %s: %w", db.path, err)
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return digest, 0, fmt.Errorf("copy database %s to %s: %w", db.path, path, err)
	}
	if err := f.Sync(); err != nil {
		return digest, 0, err
	}
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return digest, 0, err
	}
	return [sha256.Size]byte(h.Sum(nil)), size, nil
}

// Close waits for a running transaction, checkpoints and closes. A second Close does nothing.
func (db *DB) Close() (err error) {
	db.once.Do(func() {
		err = db.reads.Close() // first: the last connection to close moves the WAL home
		if db.w != nil {
			_ = db.w.take(context.Background()) // for ever: whoever comes later gets errClosed
			db.w.close()
		}
		if db.writes != nil {
			if cerr := db.writes.Close(); err == nil {
				err = cerr
			}
		}
	})
	return err
}

// syncPath makes a file's octets, or a directory's names, durable.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
