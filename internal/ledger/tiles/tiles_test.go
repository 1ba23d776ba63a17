package tiles

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

const origin = "jmlbridge.internal/test/ledger"

func testKey(t testing.TB) (note.Signer, note.Verifier) {
	t.Helper()
	s, v, err := NewSigner(origin, ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

// reference is tlog's own tree, in memory.
type reference struct {
	hashes []tlog.Hash
	n      int64
}

func (r *reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, r.hashes[i])
	}
	return out, nil
}

func (r *reference) add(t interface{ Fatal(...any) }, body []byte) {
	hs, err := tlog.StoredHashes(r.n, body, r)
	if err != nil {
		t.Fatal(err)
	}
	r.hashes = append(r.hashes, hs...)
	r.n++
}

func (r *reference) root(t interface{ Fatal(...any) }) tlog.Hash {
	h, err := tlog.TreeHash(r.n, r)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestFrontierIsTlogsTree(t *testing.T) {
	var f Frontier
	var ref reference
	empty, err := tlog.TreeHash(0, &ref)
	if err != nil || f.Root() != empty {
		t.Fatalf("empty: want %v, got %v", empty, f.Root())
	}
	for i := range 1100 {
		body := []byte(fmt.Sprint("entry ", i))
		ref.add(t, body)
		f.Append(tlog.RecordHash(body))
		if want := ref.root(t); f.Root() != want {
			t.Fatalf("%d: want %v, got %v", i+1, want, f.Root())
		}
		again, err := ParseFrontier(f.Size, f.MarshalHashes())
		if err != nil || again.Root() != f.Root() {
			t.Fatalf("%d: does not read back: %v", i+1, err)
		}
	}
	if _, err := ParseFrontier(3, make([]byte, 32)); err == nil {
		t.Error("a frontier with a hash missing was taken")
	}
}

// memory is a folder in a map.
type memory map[string][]byte

func (m memory) emit(path string, data []byte) error {
	m[path] = bytes.Clone(data)
	return nil
}

func (m memory) read(path string) ([]byte, error) {
	if data, ok := m[path]; ok {
		return data, nil
	}
	return nil, fmt.Errorf("%s: no such file", path)
}

// Publishing in any portions, taken up again from the files at any time, gives tlog's tree and the
// tiles that tlog reads.
func TestBuilderAgreesWithTlog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := memory{}
		b := new(Builder)
		var ref reference
		for range rapid.IntRange(1, 6).Draw(t, "publications") {
			for range rapid.IntRange(1, 700).Draw(t, "entries") {
				body := []byte(fmt.Sprint("entry ", ref.n))
				ref.add(t, body)
				if err := b.Add(body, files.emit); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Partials(files.emit); err != nil {
				t.Fatal(err)
			}
			want := tlog.Tree{N: ref.n, Hash: ref.root(t)}
			if b.Size != want.N || b.Root() != want.Hash {
				t.Fatalf("want %v, got %d %v", want, b.Size, b.Root())
			}
			for _, tile := range tlog.NewTiles(Height, 0, ref.n) {
				data, err := tlog.ReadTileData(tile, &ref)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := files.read(TilePath(tile.L, tile.N, tile.W%Width)); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("tile %v: %v", tile, err)
				}
			}
			if rapid.Bool().Draw(t, "restart") {
				var err error
				if b, err = Resume(files.read, Checkpoint{want.N, want.Hash}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestResumeRefusesADamagedEdge(t *testing.T) {
	files := memory{}
	b := new(Builder)
	for i := range 700 {
		if err := b.Add([]byte(fmt.Sprint(i)), files.emit); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Partials(files.emit); err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{b.Size, b.Root()}
	for _, path := range []string{BundlePath(2, 188), TilePath(0, 2, 188), TilePath(1, 0, 2)} {
		good := files[path]
		if good == nil {
			t.Fatalf("%s was not written", path)
		}
		for name, bad := range map[string][]byte{"gone": nil, "cut": good[:len(good)-1], "flipped": append([]byte{good[0] ^ 1}, good[1:]...)} {
			files[path] = bad
			if _, err := Resume(files.read, c); err == nil {
				t.Errorf("%s %s: taken", path, name)
			}
		}
		files[path] = good
	}
	if _, err := Resume(files.read, c); err != nil {
		t.Error(err)
	}
}

// publish writes a folder of n entries.
func publish(t testing.TB, n int) (dir string, b *Builder) {
	t.Helper()
	s, _ := testKey(t)
	dir = t.TempDir()
	emit := func(path string, data []byte) error {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			return err
		}
		return os.WriteFile(full, data, 0o600)
	}
	b = new(Builder)
	for i := range n {
		if err := b.Add([]byte(fmt.Sprint("entry ", i)), emit); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Partials(emit); err != nil {
		t.Fatal(err)
	}
	raw, err := Sign(Checkpoint{b.Size, b.Root()}, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := emit(CheckpointFile, raw); err != nil {
		t.Fatal(err)
	}
	return dir, b
}

func TestReader(t *testing.T) {
	_, v := testKey(t)
	ctx := context.Background()
	for _, n := range []int{0, 1, 255, 256, 257, 512, 1000, 65536 + 300} {
		dir, _ := publish(t, n)
		r, err := OpenReader(dir, v)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Check(ctx); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		for _, first := range []int{0, n / 3, n - 1, n} {
			if first < 0 {
				continue
			}
			next := int64(first)
			for leaf, err := range r.Entries(ctx, int64(first)) {
				if err != nil {
					t.Fatal(err)
				}
				if leaf.Index != next || string(leaf.Body) != fmt.Sprint("entry ", next) {
					t.Fatalf("%d from %d: want entry %d, got %d %s", n, first, next, leaf.Index, leaf.Body)
				}
				next++
			}
			if next != int64(n) {
				t.Fatalf("%d from %d: ended at %d", n, first, next)
			}
		}
	}
}

// The ledger grows while it is read: partial files give way to full ones.
func TestReaderOfAnEarlierCheckpoint(t *testing.T) {
	_, v := testKey(t)
	old, _ := publish(t, 700)
	raw, err := os.ReadFile(filepath.Join(old, CheckpointFile))
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := publish(t, 65536+10) // where not even level 1 has a partial tile of that size
	r, err := OpenReaderAt(dir, raw, v)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for leaf, err := range r.Entries(context.Background(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if leaf.Index != n || string(leaf.Body) != fmt.Sprint("entry ", n) {
			t.Fatalf("want entry %d, got %d %s", n, leaf.Index, leaf.Body)
		}
		n++
	}
	if n != 700 {
		t.Errorf("want the 700 entries of the earlier checkpoint, got %d", n)
	}
	if err := r.Check(context.Background()); err != nil {
		t.Error(err)
	}
}

// Reading with proofs, beside hashing the same entries alone.
func BenchmarkEntries(b *testing.B) {
	_, v := testKey(b)
	dir, built := publish(b, 100_000)
	b.Run("proved", func(b *testing.B) {
		for b.Loop() {
			r, err := OpenReader(dir, v)
			if err != nil {
				b.Fatal(err)
			}
			for _, err := range r.Entries(context.Background(), 0) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(built.Size), "ns/entry")
	})
	b.Run("hashed", func(b *testing.B) {
		body := make([]byte, 13)
		for b.Loop() {
			var f Frontier
			for range built.Size {
				f.Append(tlog.RecordHash(body))
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(built.Size), "ns/entry")
	})
}

func TestProofs(t *testing.T) {
	_, v := testKey(t)
	dir, _ := publish(t, 700)
	r, err := OpenReader(dir, v)
	if err != nil {
		t.Fatal(err)
	}
	var older Frontier
	for i := range int64(700) {
		h := tlog.RecordHash([]byte(fmt.Sprint("entry ", i)))
		older.Append(h)
		p, err := r.ProveEntry(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(p, 700, r.Checkpoint().Root, i, h); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		q, err := r.ProveExtends(i + 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckTree(q, 700, r.Checkpoint().Root, i+1, older.Root()); err != nil {
			t.Fatalf("extends %d: %v", i+1, err)
		}
		if err := r.CheckExtends(Checkpoint{i + 1, older.Root()}); err != nil {
			t.Fatal(err)
		}
		if err := r.CheckExtends(Checkpoint{i + 1, tlog.Hash{1}}); err == nil {
			t.Fatalf("a rewritten ledger of %d was taken", i+1)
		}
	}
	if err := r.CheckExtends(Checkpoint{701, tlog.Hash{1}}); err == nil {
		t.Error("a ledger that was cut short was taken")
	}
	for _, i := range []int64{-1, 700} {
		if _, err := r.ProveEntry(i); err == nil {
			t.Errorf("entry %d was proved", i)
		}
	}
}

// No file can be changed without Entries noticing before it gives out what is false.
func TestReaderGivesOutNothingFalse(t *testing.T) {
	_, v := testKey(t)
	dir, _ := publish(t, 700)
	for _, path := range []string{BundlePath(0, 0), BundlePath(2, 188), TilePath(0, 2, 188), TilePath(1, 0, 2)} {
		full := filepath.Join(dir, path)
		good, err := os.ReadFile(full)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[len(bad)-1] ^= 1
		for name, data := range map[string][]byte{"flipped": bad, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "empty": {}} {
			if err := os.WriteFile(full, data, 0o600); err != nil {
				t.Fatal(err)
			}
			var failed error
			r, err := OpenReader(dir, v)
			if err != nil {
				t.Fatal(err)
			}
			for leaf, err := range r.Entries(context.Background(), 0) {
				if err != nil {
					failed = err
				} else if string(leaf.Body) != fmt.Sprint("entry ", leaf.Index) {
					t.Errorf("%s %s: gave out %q as entry %d", path, name, leaf.Body, leaf.Index)
				}
			}
			if failed == nil {
				t.Errorf("%s %s: not noticed", path, name)
			}
		}
		if err := os.WriteFile(full, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckpointGolden(t *testing.T) {
	s, v := testKey(t)
	raw, err := Sign(Checkpoint{0, new(Frontier).Root()}, s)
	if err != nil {
		t.Fatal(err)
	}
	const want = "jmlbridge.internal/test/ledger\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n" +
		"— jmlbridge.internal/test/ledger "
	if !strings.HasPrefix(string(raw), want) {
		t.Errorf("want a checkpoint beginning\n%s\ngot\n%s", want, raw)
	}
	if c, err := OpenCheckpoint(raw, v); err != nil || c.Size != 0 {
		t.Errorf("got %v, %v", c, err)
	}
	for name, text := range map[string]string{
		"other origin":  "elsewhere\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
		"plus":          origin + "\n+5\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
		"leading zero":  origin + "\n05\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
		"negative":      origin + "\n-5\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
		"short root":    origin + "\n5\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuA==\n",
		"no root":       origin + "\n5\n",
		"loose base 64": origin + "\n5\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
	} {
		raw, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := OpenCheckpoint(raw, v); err == nil {
			t.Errorf("%s: taken as %v", name, c)
		}
	}
	_, other, err := NewSigner(origin, ed25519.NewKeyFromSeed(append(make([]byte, 31), 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(raw, other); err == nil {
		t.Error("a checkpoint of another key was taken")
	}
}

func FuzzParseBundle(f *testing.F) {
	f.Add(AppendBundle(AppendBundle(nil, []byte("one")), []byte("two")), 2)
	f.Add([]byte{0, 5, 1}, 1)
	f.Fuzz(func(t *testing.T, raw []byte, n int) {
		entries, err := ParseBundle(raw, min(max(n, 0), Width))
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = AppendBundle(again, e)
		}
		if !bytes.Equal(again, raw) {
			t.Errorf("reads back as %x", again)
		}
		if hs, err := Hashes(raw); err != nil || len(hs) != len(entries) {
			t.Errorf("want %d hashes, got %d, %v", len(entries), len(hs), err)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	s, v := testKey(f)
	raw, err := Sign(Checkpoint{5, tlog.Hash{1}}, s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := OpenCheckpoint(data, v); err == nil && c != (Checkpoint{5, tlog.Hash{1}}) {
			t.Errorf("believed %v without a signature over it", c)
		}
	})
}
