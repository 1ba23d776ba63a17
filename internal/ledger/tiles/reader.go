package tiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxBundle is the largest bundle there can be, in octets.
const maxBundle = Width * (2 + 1<<16)

// Reader reads a published folder, of which it believes only the key. It needs the memory of one
// bundle and a few tiles, however long the ledger is.
type Reader struct {
	dir  string
	raw  []byte
	c    Checkpoint
	hash tlog.HashReader // authenticates what it reads against c.Root
}

// OpenReader opens the tiles folder dir, whose checkpoint v must have signed.
func OpenReader(dir string, v note.Verifier) (*Reader, error) {
	raw, err := readFile(filepath.Join(dir, CheckpointFile), MaxCheckpoint)
	if err != nil {
		return nil, err
	}
	return OpenReaderAt(dir, raw, v)
}

// OpenReaderAt is OpenReader with a checkpoint from elsewhere, such as a checkpoint copy: the folder
// must hold the tree of that size.
func OpenReaderAt(dir string, checkpoint []byte, v note.Verifier) (*Reader, error) {
	c, err := OpenCheckpoint(checkpoint, v)
	if err != nil {
		return nil, err
	}
	r := &Reader{dir: dir, raw: checkpoint, c: c}
	r.hash = tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, (*folder)(r))
	return r, nil
}

// Checkpoint is the signed size and root.
func (r *Reader) Checkpoint() Checkpoint { return r.c }

// Note is the checkpoint as it was signed.
func (r *Reader) Note() []byte { return r.raw }

// Leaf is one entry as it stands in the tree, with its index.
type Leaf struct {
	Index int64
	Body  []byte // shares memory with its neighbours: not to be changed
}

// Entries reads the entries from index first to the end. Every one that it yields has been proved to
// be in the signed tree at its index. An error is the last thing it yields.
func (r *Reader) Entries(ctx context.Context, first int64) iter.Seq2[Leaf, error] {
	return func(yield func(Leaf, error) bool) {
		var roots []tlog.Hash // of full bundles from number base on; a level-1 tile's worth is proved at once
		var base int64
		for n := first / Width; n*Width < r.c.Size; n++ {
			if err := ctx.Err(); err != nil {
				yield(Leaf{}, err)
				return
			}
			w := int(min(Width, r.c.Size-n*Width))
			var want tlog.Hash
			var leaves []tlog.Hash
			var err error
			if w == Width {
				if n >= base+int64(len(roots)) {
					base = n
					if roots, err = r.read(Height, n, min((n/Width+1)*Width, r.c.Size/Width)); err != nil {
						yield(Leaf{}, err)
						return
					}
				}
				want = roots[n-base]
			} else if leaves, err = r.read(0, n*Width, r.c.Size); err != nil {
				yield(Leaf{}, err)
				return
			}
			entries, err := r.bundle(n, w, want, leaves)
			if err != nil {
				yield(Leaf{}, err)
				return
			}
			for i, body := range entries {
				if index := n*Width + int64(i); index >= first && !yield(Leaf{index, body}, nil) {
					return
				}
			}
		}
	}
}

// bundle reads bundle n and proves it: against the root over it if it is full, else leaf by leaf.
func (r *Reader) bundle(n int64, w int, want tlog.Hash, leaves []tlog.Hash) ([][]byte, error) {
	path := BundlePath(n, w%Width)
	raw, more, err := r.file(path, maxBundle)
	if err != nil {
		return nil, err
	}
	have := w
	if more {
		have = Width
	}
	entries, err := ParseBundle(raw, have)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	entries = entries[:w]
	var f Frontier
	for i, body := range entries {
		h := tlog.RecordHash(body)
		if leaves != nil && h != leaves[i] {
			return nil, fmt.Errorf("%s: entry %d is not the one in the signed tree", path, n*Width+int64(i))
		}
		f.Append(h)
	}
	if leaves == nil && f.Root() != want {
		return nil, fmt.Errorf("%s: its entries are not those in the signed tree", path)
	}
	return entries, nil
}

// read returns the proved hashes [from, to) of a level of the tree.
func (r *Reader) read(level int, from, to int64) ([]tlog.Hash, error) {
	indexes := make([]int64, 0, to-from)
	for i := from; i < to; i++ {
		indexes = append(indexes, tlog.StoredHashIndex(level, i))
	}
	hashes, err := r.hash.ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("tiles do not prove hashes %d to %d of level %d: %w", from, to, level, err)
	}
	return hashes, nil
}

// ProveEntry proves that the tree has the entry at index i: for tlog.CheckRecord.
func (r *Reader) ProveEntry(i int64) (tlog.RecordProof, error) {
	if i < 0 || i >= r.c.Size {
		return nil, fmt.Errorf("the ledger has %d entries; none has index %d", r.c.Size, i)
	}
	return tlog.ProveRecord(r.c.Size, i, r.hash)
}

// ProveExtends proves that the tree begins with the one of size old: for tlog.CheckTree.
func (r *Reader) ProveExtends(old int64) (tlog.TreeProof, error) {
	if old < 1 || old > r.c.Size {
		return nil, fmt.Errorf("the ledger has %d entries; it cannot extend one of %d", r.c.Size, old)
	}
	return tlog.ProveTree(r.c.Size, old, r.hash)
}

// CheckExtends checks that the tree begins with exactly the one that an older checkpoint names.
func (r *Reader) CheckExtends(old Checkpoint) error {
	if old.Size > r.c.Size {
		return fmt.Errorf("the older checkpoint names %d entries, this one only %d: the ledger was cut short", old.Size, r.c.Size)
	}
	if old.Size == 0 {
		return nil
	}
	root, err := tlog.TreeHash(old.Size, r.hash)
	if err != nil {
		return err
	}
	if root != old.Root {
		return fmt.Errorf("the first %d entries are not those of the older checkpoint: the ledger was rewritten", old.Size)
	}
	return nil
}

// Check derives every bundle and tile again and holds the files against them: the whole folder is
// what its checkpoint says. Partial tiles of earlier sizes are not evidence, and are not read.
func (r *Reader) Check(ctx context.Context) error {
	same := func(path string, data []byte) error {
		got, more, err := r.file(path, maxBundle)
		if err != nil {
			return err
		}
		if more {
			got = got[:min(len(got), len(data))]
		}
		if !bytes.Equal(got, data) {
			return fmt.Errorf("%s is not what the entries give", path)
		}
		return nil
	}
	var b Builder
	for leaf, err := range r.Entries(ctx, 0) {
		if err == nil {
			err = b.Add(leaf.Body, same)
		}
		if err != nil {
			return err
		}
	}
	if err := b.Partials(same); err != nil {
		return err
	}
	if b.Size != r.c.Size || b.Root() != r.c.Root {
		return fmt.Errorf("the entries give root %v, the checkpoint names %v", b.Root(), r.c.Root)
	}
	return nil
}

// folder is a Reader as the tlog.TileReader below its own hash reader.
type folder Reader

// Height implements tlog.TileReader.
func (f *folder) Height() int { return Height }

// ReadTiles implements tlog.TileReader; what it returns is not yet authenticated.
func (f *folder) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(want))
	for i, t := range want {
		path := TilePath(t.L, t.N, t.W%Width)
		raw, more, err := (*Reader)(f).file(path, Width*tlog.HashSize)
		if err != nil {
			return nil, err
		}
		if more {
			raw = raw[:min(len(raw), t.W*tlog.HashSize)]
		}
		if len(raw) != t.W*tlog.HashSize {
			return nil, fmt.Errorf("%s: want %d octets, got %d", path, t.W*tlog.HashSize, len(raw))
		}
		data[i] = raw
	}
	return data, nil
}

// SaveTiles implements tlog.TileReader; the folder is the cache.
func (f *folder) SaveTiles([]tlog.Tile, [][]byte) {}

// file reads the file at path, or where that is a partial one and gone, the full one that has taken
// its place: the ledger may grow while it is read. more says that there may be more in it than wanted.
func (r *Reader) file(path string, limit int64) (data []byte, more bool, err error) {
	data, err = readFile(filepath.Join(r.dir, filepath.FromSlash(path)), limit)
	full, _, partial := strings.Cut(path, ".p/")
	if partial && errors.Is(err, fs.ErrNotExist) {
		if data, ferr := readFile(filepath.Join(r.dir, filepath.FromSlash(full)), limit); ferr == nil {
			return data, true, nil
		}
	}
	return data, false, err
}

// readFile reads a file of at most limit octets.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: want at most %d octets", path, limit)
	}
	return data, err
}
