package stage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
)

// A Ledger is the published folder of one program, read with its public key alone.
type Ledger struct {
	Dir string // with tiles/ and archive/
	Key string // the line for auditors
}

// An Entry is one ledger entry with its place.
type Entry struct {
	Index int64
	entry.Entry
}

// Entries reads the published entries from index first on; every one is proved to be under the signed
// checkpoint. Where nothing is published yet there are none.
func (l *Ledger) Entries(ctx context.Context, first int64) ([]Entry, error) {
	r, err := l.open()
	if err != nil || r == nil || r.Checkpoint().Size <= first {
		return nil, err
	}
	var list []Entry
	for leaf, err := range r.Entries(ctx, first) {
		if err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
		e, err := entry.Decode(leaf.Body)
		if err != nil {
			return nil, fmt.Errorf("ledger entry %d: %w", leaf.Index, err)
		}
		list = append(list, Entry{leaf.Index, e})
	}
	return list, nil
}

// Size is the number of entries under the published checkpoint; 0 where there is none yet.
func (l *Ledger) Size() (int64, error) {
	r, err := l.open()
	if err != nil || r == nil {
		return 0, err
	}
	return r.Checkpoint().Size, nil
}

func (l *Ledger) open() (*tiles.Reader, error) {
	v, err := note.NewVerifier(l.Key)
	if err != nil {
		return nil, fmt.Errorf("ledger's key: %w", err)
	}
	r, err := tiles.OpenReader(filepath.Join(l.Dir, "tiles"), v)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return r, err
}

// Wait returns the first entry from index first on for which match holds, waiting for it.
func (l *Ledger) Wait(ctx context.Context, what string, first int64, match func(Entry) bool) (found Entry, err error) {
	err = Until(ctx, what+" on the ledger", func() (bool, error) {
		list, err := l.Entries(ctx, first)
		if err != nil {
			return false, err
		}
		for _, e := range list {
			if match(e) {
				found = e
				return true, nil
			}
			first = e.Index + 1
		}
		return false, nil
	})
	return found, err
}
