package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/store"
)

// A Place is where checkpoints are put.
type Place string

// The two places.
const (
	PlaceTiles Place = "tiles" // the checkpoint in the published folder
	PlaceCopy  Place = "copy"  // checkpoint_copy, on another volume
)

// Problems of a BehindError.
const (
	ProblemBehind  = "behind"  // the database has fewer entries than were published: an old copy of it
	ProblemForked  = "forked"  // it has as many or more, but others
	ProblemMissing = "missing" // a checkpoint was published there and is gone: nothing to hold the database against
	ProblemForeign = "foreign" // what is there was not signed by this ledger's key
)

// A BehindError says that the database is not the one that published, or cannot be shown to be. A
// program must not run on it: what it forgot includes leavers.
type BehindError struct {
	Place     Place
	Path      string
	Problem   string // a ProblemX constant
	Published int64  // entries that the checkpoint there names; 0 if there is none
	Database  int64  // entries in the database
	Err       error  // of a foreign checkpoint
	Was       string // of a missing one: where it was published last
}

func (e *BehindError) Unwrap() error { return e.Err }

func (e *BehindError) Error() string {
	at := fmt.Sprintf("the ledger's checkpoint %s", e.Path)
	switch e.Problem {
	case ProblemBehind:
		return fmt.Sprintf("%s names %d entries and the database has %d: an older copy of the database was put back. Put the newest one back, or run recover", at, e.Published, e.Database)
	case ProblemForked:
		return fmt.Sprintf("%s names %d entries that are not those of the database, which has %d: the database went on from an older copy, or is another one. Put the right one back, or run recover", at, e.Published, e.Database)
	case ProblemMissing:
		if e.Was != e.Path {
			return fmt.Sprintf("%s is not there, though this database (%d entries) published to %s: nothing shows that the database is not an old copy. Name that folder or move it here, or run recover", at, e.Database, e.Was)
		}
		return fmt.Sprintf("%s is gone, though this database (%d entries) published there: nothing shows that the database is not an old copy. Mount or restore the folder, or run recover", at, e.Database)
	default:
		return fmt.Sprintf("%s is not of this ledger (the database has %d entries): %v. Check the path and the ledger key", at, e.Database, e.Err)
	}
}

// CheckNotBehind refuses a database that is behind what it published, or that forked from it. It is
// called at start, after the lock is taken and before anything else is believed. A *BehindError is
// final; another error means that nothing was found out.
//
// A tiles folder that is gone is written again from the database by the next Publish, but only if
// the copy is there and agrees. A new place may be named for either, but not for all at once: where nothing
// that was published is found, only a database that never published may start.
func CheckNotBehind(ctx context.Context, c Config) error {
	var tilesErr *BehindError
	err := c.checkPlace(ctx, PlaceTiles)
	if errors.As(err, &tilesErr) && tilesErr.Problem == ProblemMissing && c.Copy != "" {
		if _, serr := os.Stat(c.Copy); serr == nil {
			err = nil // the copy decides alone
		}
	}
	if err == nil && c.Copy != "" {
		err = c.checkPlace(ctx, PlaceCopy)
	}
	if err != nil || c.found() {
		return err
	}
	was, err := PublishedAt(ctx, c.DB)
	switch {
	case err != nil || was == "":
		return err
	case c.found():
		return CheckNotBehind(ctx, c) // the first one was published since
	}
	f, err := frontier(c.DB.Read())
	if err != nil {
		return err
	}
	return &BehindError{Place: PlaceTiles, Path: c.path(PlaceTiles), Problem: ProblemMissing, Database: f.Size, Was: was}
}

// found reports whether a checkpoint is anywhere where it is to be.
func (c *Config) found() bool {
	for _, p := range []Place{PlaceTiles, PlaceCopy} {
		if path := c.path(p); path != "" {
			if _, err := os.Stat(path); err == nil {
				return true
			}
		}
	}
	return false
}

// PublishedAt is where the database published its checkpoints last; empty where it never did.
func PublishedAt(ctx context.Context, db *store.DB) (path string, err error) {
	err = db.Read().QueryRowContext(ctx, "SELECT path FROM ledger_place ORDER BY name = ? DESC LIMIT 1", string(PlaceTiles)).Scan(&path)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read where the ledger was published: %w", err)
	}
	return path, nil
}

func (c *Config) path(p Place) string {
	if p == PlaceCopy {
		return c.Copy
	}
	return filepath.Join(c.Dir, TilesFolder, tiles.CheckpointFile)
}

func (c *Config) checkPlace(ctx context.Context, p Place) error {
	path := c.path(p)
	// The checkpoint first: one that a running program publishes meanwhile is then never ahead of what is
	// read of the database after it.
	raw, rerr := os.ReadFile(path)
	f, err := frontier(c.DB.Read())
	if err != nil {
		return err
	}
	fail := func(problem string, published int64, err error) error {
		return &BehindError{Place: p, Path: path, Problem: problem, Published: published, Database: f.Size, Err: err}
	}
	if errors.Is(rerr, fs.ErrNotExist) {
		var was string
		err := c.DB.Read().QueryRowContext(ctx, "SELECT path FROM ledger_place WHERE name = ?", string(p)).Scan(&was)
		if errors.Is(err, sql.ErrNoRows) || err == nil && was != absolute(path) {
			return nil // never published, or the configuration names a new place: the other decides
		}
		if err != nil {
			return fmt.Errorf("read where the ledger was published: %w", err)
		}
		if _, err := os.Stat(path); err == nil {
			return c.checkPlace(ctx, p) // the first one was published since
		}
		return &BehindError{Place: p, Path: path, Problem: ProblemMissing, Database: f.Size, Was: path}
	}
	if rerr != nil {
		return fmt.Errorf("read the published checkpoint: %w", rerr)
	}
	cp, err := tiles.OpenCheckpoint(raw, c.Verifier)
	if err != nil {
		return fail(ProblemForeign, 0, err)
	}
	if cp.Size > f.Size {
		return fail(ProblemBehind, cp.Size, nil)
	}
	root, err := rootAt(ctx, c.DB, cp.Size)
	if err != nil {
		return err
	}
	if root != cp.Root {
		return fail(ProblemForked, cp.Size, nil)
	}
	return nil
}

// rootAt is the root over the first size entries of the database. Checkpoints are stored before they
// are published, so that as a rule it is looked up.
func rootAt(ctx context.Context, db *store.DB, size int64) (root tlog.Hash, err error) {
	var stored []byte
	err = db.Read().QueryRowContext(ctx, "SELECT root FROM ledger_checkpoint WHERE size = ?", size).Scan(&stored)
	if err == nil && len(stored) == tlog.HashSize {
		return tlog.Hash(stored), nil
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return root, fmt.Errorf("read a stored checkpoint: %w", err)
	}
	var f tiles.Frontier
	for raw, err := range bodies(ctx, db, 0, size) {
		if err != nil {
			return root, err
		}
		f.Append(tlog.RecordHash(raw.body))
	}
	return f.Root(), nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// sign makes the checkpoint and opens it again: a broken key is found out here and not by an auditor. Where there
// is a second key, a checkpoint without its signature is none.
func (c *Config) sign(head tiles.Checkpoint) ([]byte, error) {
	var second []note.Signer
	if c.Second != nil {
		second = append(second, c.Second)
	}
	raw, err := tiles.Sign(head, c.Signer, second...)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	again, err := tiles.OpenCheckpoint(raw, c.Verifier)
	if err == nil && again != head {
		err = errors.New("it reads back as another")
	}
	if err == nil && c.Second != nil {
		err = tiles.CheckSecond(raw, c.SecondVerifier)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint just signed does not verify: %w", err)
	}
	return raw, nil
}
