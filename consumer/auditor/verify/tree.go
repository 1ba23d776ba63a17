package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

type hash = [sha256.Size]byte

func leafHash(entry []byte) (h hash) {
	d := sha256.New()
	d.Write([]byte{0})
	d.Write(entry)
	d.Sum(h[:0])
	return h
}

func nodeHash(left, right hash) hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

const tileWidth = 256

// tree derives the Merkle tree of RFC 6962 from the entries alone, and holds the published hash tiles
// against it. It shares no code with the writer.
type tree struct {
	dir    string
	size   int64
	levels [][]hash // the hashes of the tile that is being filled, at every eighth level of the tree
	counts []int64  // full tiles, at each of these
	broken func(path, why string)
}

// add appends a leaf.
func (t *tree) add(h hash) {
	t.size++
	for level := 0; ; level++ {
		if level == len(t.levels) {
			t.levels, t.counts = append(t.levels, nil), append(t.counts, 0)
		}
		t.levels[level] = append(t.levels[level], h)
		if len(t.levels[level]) < tileWidth {
			return
		}
		t.hold(level)
		h = root(t.levels[level])
		t.levels[level] = t.levels[level][:0]
		t.counts[level]++
	}
}

// root is the root of the tree at this size: the part trees on the right edge, joined from the right.
func (t *tree) root() hash {
	var edge []hash // complete trees, the largest first
	for level := len(t.levels) - 1; level >= 0; level-- {
		rest := t.levels[level]
		for n := tileWidth / 2; n > 0; n /= 2 {
			if len(rest)&n != 0 {
				at := len(rest) &^ (2*n - 1)
				edge = append(edge, root(rest[at:at+n]))
			}
		}
	}
	if len(edge) == 0 {
		return sha256.Sum256(nil)
	}
	h := edge[len(edge)-1]
	for i := len(edge) - 2; i >= 0; i-- {
		h = nodeHash(edge[i], h)
	}
	return h
}

// root of a complete tree.
func root(hashes []hash) hash {
	var buf [tileWidth]hash
	row := buf[:copy(buf[:], hashes)]
	for len(row) > 1 {
		for i := range len(row) / 2 {
			row[i] = nodeHash(row[2*i], row[2*i+1])
		}
		row = row[:len(row)/2]
	}
	return row[0]
}

// end holds the partial tiles of this size against the tree.
func (t *tree) end() {
	for level := range t.levels {
		if len(t.levels[level]) > 0 {
			t.hold(level)
		}
	}
}

// hold compares the published tile with the hashes here.
func (t *tree) hold(level int) {
	full := tilePath(level, t.counts[level])
	width := len(t.levels[level])
	path := full
	if width < tileWidth {
		path = fmt.Sprintf("%s.p/%d", full, width)
	}
	got, err := os.ReadFile(filepath.Join(t.dir, filepath.FromSlash(path)))
	if errors.Is(err, fs.ErrNotExist) && path != full {
		// The ledger grew while it was read: the full tile begins with this one.
		path = full
		if got, err = os.ReadFile(filepath.Join(t.dir, filepath.FromSlash(path))); err == nil && len(got) > width*sha256.Size {
			got = got[:width*sha256.Size]
		}
	}
	if err != nil {
		t.broken(path, "it cannot be read: "+reason(err))
		return
	}
	var want bytes.Buffer
	for _, h := range t.levels[level] {
		want.Write(h[:])
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.broken(path, "its hashes are not those of the entries")
	}
}

// tilePath is tile/L/N of C2SP tlog-tiles: N in groups of three digits, all but the last behind an x.
func tilePath(level int, n int64) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	return fmt.Sprintf("tile/%d/%s", level, path)
}

// reason is an error of a file without its path, which stands beside it.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
