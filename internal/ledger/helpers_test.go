package ledger

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/fsck"

	"jmlbridge/internal/ledger/archive"
	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

const origin = "jmlbridge.internal/test/ledger"

var (
	testSchema = store.Schema{App: 0x4a4d4c54, Name: "the test", Version: 1, DDL: DDL + `
		CREATE TABLE message (id INTEGER PRIMARY KEY, day TEXT NOT NULL, jws TEXT NOT NULL) STRICT;`}
	noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// world is a database with its published ledger.
type world struct {
	t    testing.TB
	root string
	c    Config
	n    int // entries appended
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir()}
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	var err error
	if w.c.Signer, w.c.Verifier, err = tiles.NewSigner(origin, key); err != nil {
		t.Fatal(err)
	}
	w.c.Dir = filepath.Join(w.root, "ledger")
	for _, d := range []string{"copy", "state"} {
		if err := os.Mkdir(filepath.Join(w.root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.c.Copy = filepath.Join(w.root, "copy", "checkpoint")
	if err := store.Create(w.db(), testSchema); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(func() { w.c.DB.Close() })
	return w
}

func (w *world) db() string { return filepath.Join(w.root, "state", "state.db") }

func (w *world) open() {
	w.t.Helper()
	db, err := store.Open(w.db(), testSchema)
	if err != nil {
		w.t.Fatal(err)
	}
	w.c.DB = db
	w.c.Archive = source{db}
}

// restart is what a crash leaves to the next start: a new publisher, nothing in memory.
func (w *world) restart() *Publisher {
	w.t.Helper()
	if err := w.c.DB.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
	if err := CheckNotBehind(context.Background(), w.c); err != nil {
		w.t.Fatalf("start refused: %v", err)
	}
	return w.publisher()
}

func (w *world) publisher() *Publisher {
	w.t.Helper()
	p, err := New(w.c)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// append appends n entries and one message for the archive, in one transaction.
func (w *world) append(n int) {
	w.t.Helper()
	err := w.c.DB.Tx(context.Background(), func(tx *store.Tx) error {
		for range n {
			first, err := Append(tx, sample(w.n))
			if err != nil {
				return err
			}
			if first != int64(w.n) {
				return fmt.Errorf("want index %d, got %d", w.n, first)
			}
			w.n++
		}
		day := archive.DayOf(noon.Add(time.Duration(w.n) * time.Hour / 10))
		_, err := tx.Exec("INSERT INTO message (day, jws) VALUES (?, ?)", day, fmt.Sprintf("jws-of-%d", w.n))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func sample(i int) entry.Entry {
	iat := schema.At(noon)
	return entry.New(noon.Add(time.Duration(i)*time.Millisecond), &entry.Received{
		Message: entry.Message{
			Position: entry.Position{Issuer: "https://iam.mssp.example/jml", Stream: "hr", Generation: 1, Seq: uint64(i + 1)},
			Event:    "leaver:v1", Subject: fmt.Sprintf("E%07d", i), Engagement: 1, ID: fmt.Sprintf("0192f0c1-0000-7000-8000-%012d", i),
			Payload: digest(i), Wire: digest(-i), Prev: digest(i - 1), Key: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
			Recipient: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", IssuedAt: &iat, Effective: &iat,
		},
		Disposition: entry.DispositionAdmitted,
	})
}

func digest(i int) schema.Digest {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(i))
	return schema.DigestOf(b[:])
}

// source is the caller's side of the archive.
type source struct{ db *store.DB }

func (s source) Unarchived(ctx context.Context, after int64, limit int) ([]archive.Row, error) {
	rows, err := s.db.Read().QueryContext(ctx, "SELECT id, day, jws FROM message WHERE id > ? ORDER BY id LIMIT ?", after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []archive.Row
	for rows.Next() {
		var r archive.Row
		var day string
		if err := rows.Scan(&r.ID, &day, &r.JWS); err != nil {
			return nil, err
		}
		if r.Day, err = time.Parse(time.DateOnly, day); err != nil {
			return nil, err
		}
		r.Payload = schema.DigestOf([]byte(r.JWS))
		all = append(all, r)
	}
	return all, rows.Err()
}

// check verifies everything that is published by our own reader, by tessera's fsck, and against the
// database; it returns the size.
func (w *world) check() int64 {
	w.t.Helper()
	ctx := context.Background()
	dir := filepath.Join(w.c.Dir, TilesFolder)
	r, err := tiles.OpenReader(dir, w.c.Verifier)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := r.Check(ctx); err != nil {
		w.t.Fatalf("published ledger: %v", err)
	}
	if err := w.fsck(); err != nil {
		w.t.Fatalf("tessera's fsck: %v", err)
	}
	for leaf, err := range r.Entries(ctx, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		want, err := entry.Encode(sample(int(leaf.Index)))
		if err != nil || string(want) != string(leaf.Body) {
			w.t.Fatalf("entry %d: want %s, got %s (%v)", leaf.Index, want, leaf.Body, err)
		}
	}
	copied, err := os.ReadFile(w.c.Copy)
	if err != nil {
		w.t.Fatal(err)
	}
	if c, err := tiles.OpenCheckpoint(copied, w.c.Verifier); err != nil || c != r.Checkpoint() {
		w.t.Fatalf("copy: want %v, got %v, %v", r.Checkpoint(), c, err)
	}
	w.checkArchive()
	return r.Checkpoint().Size
}

func (w *world) checkArchive() {
	w.t.Helper()
	want, err := (source{w.c.DB}).Unarchived(context.Background(), 0, 1<<30)
	if err != nil {
		w.t.Fatal(err)
	}
	for line, err := range archive.Read(filepath.Join(w.c.Dir, ArchiveFolder)) {
		if err != nil {
			w.t.Fatalf("archive: %v", err)
		}
		if len(want) == 0 || line.JWS != want[0].JWS || line.Payload != want[0].Payload {
			w.t.Fatalf("archive: unexpected line %v", line)
		}
		want = want[1:]
	}
	if len(want) > 0 {
		w.t.Fatalf("archive: %d messages are missing, from %v on", len(want), want[0])
	}
}

func (w *world) fsck() error {
	dir := filepath.Join(w.c.Dir, TilesFolder)
	return fsck.New(origin, w.c.Verifier, fetcher(dir), tiles.Hashes, fsck.Opts{N: 2}).Check(context.Background())
}

// fetcher reads a folder for tessera, which asks for a full tile where the partial one is gone.
type fetcher string

func (f fetcher) read(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(f), filepath.FromSlash(path)))
}

func (f fetcher) ReadCheckpoint(context.Context) ([]byte, error) { return f.read("checkpoint") }

func (f fetcher) ReadTile(_ context.Context, l, i uint64, p uint8) ([]byte, error) {
	return f.read(tiles.TilePath(int(l), int64(i), int(p)))
}

func (f fetcher) ReadEntryBundle(_ context.Context, i uint64, p uint8) ([]byte, error) {
	return f.read(tiles.BundlePath(int64(i), int(p)))
}

// files lists the folder's files, without those that are not evidence (partials of earlier sizes).
func (w *world) files(dir string) (all []string) {
	w.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	return all
}
