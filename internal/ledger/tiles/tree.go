// Package tiles is the public form of a ledger: its tree, checkpoints and tiles, as files that stock
// tools read (C2SP tlog-tiles, tlog-checkpoint and signed-note; RFC 6962 hashes). schema/ledger.md
// sections 4 to 6 say MUST by MUST what it writes and reads.
//
// The package trusts a verifier key and nothing on disk: [Reader] gives out no entry whose hash is
// not under a signed root. It reaches neither a database nor a network, so that an auditor can be
// built on it.
package tiles

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	Width  = 256 // entries of a full bundle, hashes of a full tile
	Height = 8   // levels of the tree in one tile
)

// Frontier is the right edge of the tree: all that is needed to append to it and to know its root.
// The zero value is the empty tree.
type Frontier struct {
	Size   int64
	hashes []tlog.Hash // roots of the complete subtrees, largest first: one for each bit set in Size
}

// Append adds the hash of the next leaf.
func (f *Frontier) Append(leaf tlog.Hash) {
	h := leaf
	for n := f.Size; n&1 == 1; n >>= 1 {
		last := len(f.hashes) - 1
		h = tlog.NodeHash(f.hashes[last], h)
		f.hashes = f.hashes[:last]
	}
	f.hashes = append(f.hashes, h)
	f.Size++
}

// Root is the root hash of the tree.
func (f *Frontier) Root() tlog.Hash {
	if f.Size == 0 {
		return tlog.Hash(sha256.Sum256(nil)) // RFC 6962 section 2.1
	}
	h := f.hashes[len(f.hashes)-1]
	for i := len(f.hashes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.hashes[i], h)
	}
	return h
}

// Clone returns a frontier that grows apart from f.
func (f *Frontier) Clone() *Frontier {
	return &Frontier{f.Size, append([]tlog.Hash(nil), f.hashes...)}
}

// MarshalHashes returns the hashes for storing beside Size.
func (f *Frontier) MarshalHashes() []byte {
	b := make([]byte, 0, len(f.hashes)*tlog.HashSize)
	for _, h := range f.hashes {
		b = append(b, h[:]...)
	}
	return b
}

// ParseFrontier is the inverse of MarshalHashes.
func ParseFrontier(size int64, hashes []byte) (*Frontier, error) {
	if size < 0 || len(hashes) != bits.OnesCount64(uint64(size))*tlog.HashSize {
		return nil, fmt.Errorf("frontier of %d entries: want %d octets of hashes, got %d", size, bits.OnesCount64(uint64(max(size, 0)))*tlog.HashSize, len(hashes))
	}
	f := &Frontier{Size: size}
	for ; len(hashes) > 0; hashes = hashes[tlog.HashSize:] {
		f.hashes = append(f.hashes, tlog.Hash(hashes[:tlog.HashSize]))
	}
	return f, nil
}

// AppendBundle appends one entry to a bundle: its length in two octets, then itself.
func AppendBundle(bundle, entry []byte) []byte {
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
	return append(bundle, entry...)
}

// ParseBundle cuts a bundle into its entries, of which it wants exactly n. They share its memory.
func ParseBundle(bundle []byte, n int) ([][]byte, error) {
	entries := make([][]byte, 0, n)
	for len(bundle) > 0 {
		if len(bundle) < 2 {
			return nil, errors.New("bundle ends inside a length")
		}
		size := int(binary.BigEndian.Uint16(bundle))
		if len(bundle) < 2+size {
			return nil, errors.New("bundle ends inside an entry")
		}
		entries = append(entries, bundle[2:2+size:2+size])
		bundle = bundle[2+size:]
	}
	if len(entries) != n {
		return nil, fmt.Errorf("bundle has %d entries; want %d", len(entries), n)
	}
	return entries, nil
}

// Hashes returns the leaf hashes of a bundle, for tools that check tiles.
func Hashes(bundle []byte) ([][]byte, error) {
	var hashes [][]byte
	for len(bundle) >= 2 {
		size := int(binary.BigEndian.Uint16(bundle))
		if len(bundle) < 2+size {
			break
		}
		h := tlog.RecordHash(bundle[2 : 2+size])
		hashes = append(hashes, h[:])
		bundle = bundle[2+size:]
	}
	if len(bundle) != 0 {
		return nil, errors.New("bundle ends inside an entry")
	}
	return hashes, nil
}

// TilePath is the path of tile n of a level, below the folder; w is its width if it is partial, or 0.
func TilePath(level int, n int64, w int) string {
	return fmt.Sprintf("tile/%d/%s", level, number(n, w))
}

// BundlePath is the path of bundle n, below the folder; w is its width if it is partial, or 0.
func BundlePath(n int64, w int) string { return "tile/entries/" + number(n, w) }

func number(n int64, w int) string {
	s := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	if w != 0 {
		s += fmt.Sprintf(".p/%d", w)
	}
	return s
}
