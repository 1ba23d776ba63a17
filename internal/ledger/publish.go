package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"jmlbridge/internal/crash"
	"jmlbridge/internal/ledger/archive"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/store"
)

// The two parts of a published ledger, below Config.Dir. Each verifies alone.
const (
	TilesFolder   = "tiles"
	ArchiveFolder = "archive"
)

const (
	keepCheckpoints = 4096             // rows; an older published checkpoint is derived from the entries again
	archiveRows     = 1000             // messages in one gzip member at most
	retryAfter      = 5 * time.Second  // after a failed publication
	farewell        = 20 * time.Second // for the last publication, when the context has ended
)

// Source hands out the messages that the archive does not have yet. The caller implements it over
// its own tables.
type Source interface {
	// Unarchived returns at most limit messages whose ID is above after, by rising ID. A message
	// whose ID was passed over must not appear later: ids are given in the order of commits.
	Unarchived(ctx context.Context, after int64, limit int) ([]archive.Row, error)
}

// Step names one durable write of a publication, in the order in which they happen.
type Step string

// The steps. What a crash after each leaves is said where it is written.
const (
	StepArchive         Step = "archive"           // a day file grew
	StepArchiveRecorded Step = "archive-recorded"  // the database knows that it did
	StepTile            Step = "tile"              // a bundle or tile
	StepTilesSettled    Step = "tiles-settled"     // their names are durable
	StepStored          Step = "checkpoint-stored" // the signed checkpoint, in the database
	StepCheckpoint      Step = "checkpoint"        // in the folder: the tree has grown
	StepCopy            Step = "checkpoint-copy"
	StepPlaces          Step = "places" // the database knows where checkpoints lie
)

// Steps lists all of them.
var Steps = []Step{StepArchive, StepArchiveRecorded, StepTile, StepTilesSettled, StepStored, StepCheckpoint, StepCopy, StepPlaces}

// Config is what a Publisher works with.
type Config struct {
	DB       *store.DB
	Signer   note.Signer   // its name is the origin of the checkpoints
	Verifier note.Verifier // of the same key

	// Second signs each checkpoint as well, by a key elsewhere. A checkpoint that it did not sign is not
	// published, and the next publication tries again. Both nil: there is no second key.
	Second         note.Signer
	SecondVerifier note.Verifier

	Dir     string // holds the folders tiles and archive
	Copy    string // checkpoint_copy: a file that each checkpoint is copied to; "" for none
	Archive Source // nil: no archive is kept

	// Interval is the least time between two publications by Run; 0 publishes as fast as the disk
	// lets it. What is not published yet is durable, but could still be rewritten by the machine.
	Interval time.Duration

	// Report hears how each publication by Run ended, nil included. It may be nil.
	Report func(error)

	// Around, if not nil, is given each durable write to do or not to do: tests and rehearsals fail
	// or kill the program there. path is empty for writes to the database.
	Around func(step Step, path string, write func() error) error
}

// Publisher writes the ledger out of the database: tiles, archive and checkpoints.
type Publisher struct {
	c    Config
	wake chan struct{} // capacity 1: a token means that there may be something new

	mu       sync.Mutex // held for one publication; guards what follows
	edge     *tiles.Builder
	last     map[Place][]byte // checkpoint that we know to lie at each place
	known    map[Place]bool   // the database knows that we publish there
	obsolete []string         // partial tiles whose full ones are written
}

// New makes a publisher. CheckNotBehind comes before it.
func New(c Config) (*Publisher, error) {
	if c.DB == nil || c.Signer == nil || c.Verifier == nil || c.Dir == "" {
		return nil, errors.New("ledger publisher: want a database, signer, verifier and folder")
	}
	if c.Signer.Name() != c.Verifier.Name() || c.Signer.KeyHash() != c.Verifier.KeyHash() {
		return nil, errors.New("ledger publisher: signer and verifier are not of one key")
	}
	if (c.Second == nil) != (c.SecondVerifier == nil) || c.Second != nil && (c.Second.Name() != c.Signer.Name() ||
		c.Second.KeyHash() != c.SecondVerifier.KeyHash() || c.Second.KeyHash() == c.Signer.KeyHash()) {
		return nil, errors.New("ledger publisher: the second signer and verifier are not of one other key under the same name")
	}
	return &Publisher{c: c, wake: make(chan struct{}, 1), last: map[Place][]byte{}, known: map[Place]bool{}}, nil
}

// Wake says that something was committed. It never blocks: give it to [store.Tx.After].
func (p *Publisher) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run publishes once at start, then after each Wake, and a last time when ctx has ended. A failure is
// reported and tried again. It returns the error of the last publication.
func (p *Publisher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := p.Publish(ctx)
		if ctx.Err() != nil {
			break
		}
		if p.c.Report != nil {
			p.c.Report(err)
		}
		pause := p.c.Interval
		if err != nil {
			pause = max(pause, retryAfter)
			p.Wake()
		}
		if pause > 0 {
			t := time.NewTimer(pause)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
			}
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	return p.Publish(last)
}

// Publish brings the archive, the tiles and both checkpoints up to what is durable now. If nothing is
// new it writes nothing. Several failures come joined: a full archive disk does not keep the tree's
// checkpoints on the machine.
func (p *Publisher) Publish(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.publishArchive(ctx), p.publishTree(ctx))
}

func (p *Publisher) around(step Step, path string, write func() error) (err error) {
	if p.c.Around == nil {
		err = write()
	} else {
		err = p.c.Around(step, path, write)
	}
	crash.Point("ledger-" + string(step))
	return err
}

func (p *Publisher) publishTree(ctx context.Context) (err error) {
	target, err := frontier(p.c.DB.Read())
	if err != nil {
		return err
	}
	if p.edge == nil {
		if p.edge, err = p.resume(ctx, target.Size); err != nil {
			return err
		}
	}
	size := p.edge.Size
	fresh := size < target.Size
	defer func() {
		if err != nil {
			p.edge, p.obsolete = nil, nil // memory may be ahead of the disk: begin again from the disk
		}
	}()
	if fresh {
		if err := p.publishTiles(ctx, target); err != nil {
			return err
		}
	}
	if target.Size == 0 {
		return nil
	}
	raw := p.last[PlaceTiles]
	if fresh || raw == nil {
		if raw, err = p.storeCheckpoint(ctx, target); err != nil {
			return err
		}
	}
	if err := p.place(ctx, PlaceTiles, StepCheckpoint, raw); err != nil {
		return err
	}
	// Only now, when the tree has grown for readers too; left over by a crash they do no harm.
	for _, dir := range p.obsolete {
		_ = os.RemoveAll(dir)
	}
	p.obsolete = nil
	if p.c.Copy != "" {
		// A crash before this leaves the copy one checkpoint back, which the guard accepts.
		if err := p.place(ctx, PlaceCopy, StepCopy, raw); err != nil {
			return err
		}
	}
	return p.recordPlaces(ctx)
}

// publishTiles writes what the tree of target needs and does not have. A crash leaves tiles that no
// checkpoint names yet: the next publication writes the same octets over them.
func (p *Publisher) publishTiles(ctx context.Context, target *tiles.Frontier) error {
	var d disk
	root := filepath.Join(p.c.Dir, TilesFolder)
	put := func(path string, data []byte) error {
		full := filepath.Join(root, filepath.FromSlash(path))
		if err := p.around(StepTile, full, func() error { return d.put(full, data, tileMode, tileDirMode) }); err != nil {
			return fmt.Errorf("publish %s: %w", path, err)
		}
		return nil
	}
	whole := func(path string, data []byte) error {
		p.obsolete = append(p.obsolete, filepath.Join(root, filepath.FromSlash(path))+".p")
		return put(path, data)
	}
	for raw, err := range bodies(ctx, p.c.DB, p.edge.Size, target.Size) {
		if err == nil {
			err = p.edge.Add(raw.body, whole)
		}
		if err != nil {
			return err
		}
	}
	if err := p.edge.Partials(put); err != nil {
		return err
	}
	if p.edge.Root() != target.Root() {
		return fmt.Errorf("the ledger's entries in database %s do not hash to its own frontier at %d entries: it was changed from outside; stop and restore it", p.c.DB.Path(), target.Size)
	}
	if err := p.around(StepTilesSettled, root, d.settle); err != nil {
		return fmt.Errorf("publish tiles: %w", err)
	}
	return nil
}

// storeCheckpoint signs target and stores the checkpoint. From here on this database vouches for it;
// a crash leaves it unpublished, and a later one takes its place.
func (p *Publisher) storeCheckpoint(ctx context.Context, target *tiles.Frontier) ([]byte, error) {
	c := tiles.Checkpoint{Size: target.Size, Root: target.Root()}
	raw, err := p.c.sign(c)
	if err != nil {
		return nil, err
	}
	err = p.around(StepStored, "", func() error {
		return p.c.DB.Tx(ctx, func(tx *store.Tx) error {
			if _, err := tx.Exec("INSERT OR REPLACE INTO ledger_checkpoint VALUES (?, ?, ?)", c.Size, c.Root[:], raw); err != nil {
				return err
			}
			_, err := tx.Exec("DELETE FROM ledger_checkpoint WHERE size < (SELECT size FROM ledger_checkpoint ORDER BY size DESC LIMIT 1 OFFSET ?)", keepCheckpoints-1)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("store checkpoint: %w", err)
	}
	return raw, nil
}

// place puts a checkpoint where readers look. What lies there is looked at first: another copy of
// this machine, running by mistake, may have published meanwhile.
func (p *Publisher) place(ctx context.Context, at Place, step Step, raw []byte) error {
	path := p.c.path(at)
	now, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(now, raw):
		p.last[at] = raw
		return nil
	case err == nil && !bytes.Equal(now, p.last[at]):
		if err := p.c.checkPlace(ctx, at); err != nil {
			return err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("publish checkpoint: %w", err)
	case err != nil && p.last[at] != nil: // someone hears of it; the next try writes it again
		p.last[at] = nil
		return &BehindError{Place: at, Path: path, Problem: ProblemMissing, Database: p.edge.Size, Was: path}
	}
	if err := CheckCopy(path); err != nil {
		return fmt.Errorf("publish checkpoint: %w", err)
	}
	p.last[at] = nil // not known until the write has succeeded
	err = p.around(step, path, func() error {
		var d disk
		if err := d.put(path, raw, tileMode, tileDirMode); err != nil {
			return err
		}
		return d.settle()
	})
	if err != nil {
		return fmt.Errorf("publish checkpoint: %w", err)
	}
	p.last[at] = raw
	return nil
}

// CheckCopy refuses a place for a checkpoint whose folder is not there. Nobody makes it: it may be where a write-once
// volume is to be mounted, and a copy beside that volume vouches for nothing.
func CheckCopy(path string) error {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("the folder of %s must be there; is the volume mounted? %w", path, err)
	}
	return nil
}

// recordPlaces notes, once, that checkpoints lie at these paths, so that a start can tell a folder
// that is gone from one that never was. A crash before it costs only that knowledge.
func (p *Publisher) recordPlaces(ctx context.Context) error {
	want := []Place{PlaceTiles}
	if p.c.Copy != "" {
		want = append(want, PlaceCopy)
	}
	for _, at := range want {
		if p.known[at] {
			continue
		}
		path := absolute(p.c.path(at))
		err := p.around(StepPlaces, "", func() error {
			return p.c.DB.Tx(ctx, func(tx *store.Tx) error {
				_, err := tx.Exec("INSERT INTO ledger_place VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET path = excluded.path, size = excluded.size WHERE path <> excluded.path",
					string(at), path, p.edge.Size)
				return err
			})
		})
		if err != nil {
			return fmt.Errorf("record where the ledger is published: %w", err)
		}
		p.known[at] = true
	}
	return nil
}

// resume takes the right edge from the folder, if what is there is ours and whole; otherwise it begins
// at the first entry and writes everything again. The guard has said that this is safe.
func (p *Publisher) resume(ctx context.Context, size int64) (*tiles.Builder, error) {
	p.last[PlaceTiles] = nil
	if err := p.c.checkPlace(ctx, PlaceTiles); err != nil {
		var behind *BehindError
		if errors.As(err, &behind) && behind.Problem == ProblemMissing {
			return new(tiles.Builder), nil
		}
		return nil, err
	}
	root := filepath.Join(p.c.Dir, TilesFolder)
	raw, err := os.ReadFile(p.c.path(PlaceTiles))
	if errors.Is(err, fs.ErrNotExist) {
		return new(tiles.Builder), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the published checkpoint: %w", err)
	}
	c, err := tiles.OpenCheckpoint(raw, p.c.Verifier)
	if err != nil {
		return nil, err
	}
	b, err := tiles.Resume(func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(root, filepath.FromSlash(path))) }, c)
	if err != nil {
		return new(tiles.Builder), nil // incomplete or damaged: the database has it all
	}
	p.last[PlaceTiles] = raw
	return b, nil
}
