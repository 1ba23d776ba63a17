package tiles

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Builder turns entries into bundles and tiles. It holds only the right edge: one partial tile for
// each level and one partial bundle. The zero value is the empty tree.
type Builder struct {
	Frontier
	bundle []byte
	levels [][]byte // the partial tile of each level, as its hashes one after the other
	fresh  []bool   // levels whose partial tile has changed since Partials
}

// Emit takes a finished file; the path is below the folder.
type Emit func(path string, data []byte) error

// Add appends an entry and emits what it completes: bundles and tiles of full width.
func (b *Builder) Add(body []byte, emit Emit) error {
	leaf := tlog.RecordHash(body)
	b.Frontier.Append(leaf)
	b.bundle = AppendBundle(b.bundle, body)
	b.push(0, leaf)
	if b.Size%Width != 0 {
		return nil
	}
	if err := emit(BundlePath(b.Size/Width-1, 0), b.bundle); err != nil {
		return err
	}
	b.bundle = b.bundle[:0:0]
	for l := 0; l < len(b.levels) && len(b.levels[l]) == Width*tlog.HashSize; l++ {
		tile := b.levels[l]
		if err := emit(TilePath(l, b.Size>>(Height*(l+1))-1, 0), tile); err != nil {
			return err
		}
		b.push(l+1, subtree(tile))
		b.levels[l], b.fresh[l] = nil, false
	}
	return nil
}

func (b *Builder) push(level int, h tlog.Hash) {
	if level == len(b.levels) {
		b.levels, b.fresh = append(b.levels, nil), append(b.fresh, false)
	}
	b.levels[level] = append(b.levels[level], h[:]...)
	b.fresh[level] = true
}

// Partials emits the partial bundle and tiles that a checkpoint of this size needs, as far as they
// changed since the last call.
func (b *Builder) Partials(emit Emit) error {
	for l, tile := range b.levels {
		if len(tile) == 0 || !b.fresh[l] {
			continue
		}
		w := len(tile) / tlog.HashSize
		if l == 0 {
			if err := emit(BundlePath(b.Size/Width, w), b.bundle); err != nil {
				return err
			}
		}
		if err := emit(TilePath(l, b.Size>>(Height*(l+1)), w), tile); err != nil {
			return err
		}
		b.fresh[l] = false
	}
	return nil
}

// Resume reads the right edge of a published tree back, and checks that it hashes to c.
func Resume(read func(path string) ([]byte, error), c Checkpoint) (*Builder, error) {
	b := &Builder{Frontier: Frontier{Size: c.Size}}
	for l := 0; c.Size>>(Height*l) > 0; l++ {
		count := c.Size >> (Height * l)
		b.levels, b.fresh = append(b.levels, nil), append(b.fresh, false)
		w := int(count % Width)
		if w == 0 {
			continue
		}
		tile, err := read(TilePath(l, count/Width, w))
		if err != nil {
			return nil, err
		}
		if len(tile) != w*tlog.HashSize {
			return nil, fmt.Errorf("%s: want %d octets, got %d", TilePath(l, count/Width, w), w*tlog.HashSize, len(tile))
		}
		b.levels[l] = tile[:len(tile):len(tile)]
	}
	for l := len(b.levels) - 1; l >= 0; l-- {
		rest := b.levels[l]
		for bit := Width / 2; bit > 0; bit /= 2 {
			if len(rest) >= bit*tlog.HashSize {
				b.hashes = append(b.hashes, subtree(rest[:bit*tlog.HashSize]))
				rest = rest[bit*tlog.HashSize:]
			}
		}
	}
	if b.Root() != c.Root {
		return nil, errors.New("the tiles at the right edge do not hash to the checkpoint's root")
	}
	if w := int(c.Size % Width); w != 0 {
		path := BundlePath(c.Size/Width, w)
		bundle, err := read(path)
		if err != nil {
			return nil, err
		}
		if err := checkBundle(bundle, b.levels[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		b.bundle = bundle[:len(bundle):len(bundle)]
	}
	return b, nil
}

// checkBundle holds the entries of a bundle against the hashes of its tile.
func checkBundle(bundle, tile []byte) error {
	entries, err := ParseBundle(bundle, len(tile)/tlog.HashSize)
	if err != nil {
		return err
	}
	for i, e := range entries {
		if tlog.RecordHash(e) != tlog.Hash(tile[i*tlog.HashSize:(i+1)*tlog.HashSize]) {
			return fmt.Errorf("entry %d of the bundle does not have the hash in its tile", i)
		}
	}
	return nil
}

// subtree is the root over the hashes of a tile, whose number is a power of two.
func subtree(tile []byte) tlog.Hash {
	n := len(tile) / tlog.HashSize
	var level [Width]tlog.Hash
	for i := range n {
		level[i] = tlog.Hash(tile[i*tlog.HashSize : (i+1)*tlog.HashSize])
	}
	for ; n > 1; n /= 2 {
		for i := range n / 2 {
			level[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
	}
	return level[0]
}
