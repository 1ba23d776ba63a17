package ledger

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/store"
)

// snapshot copies the closed database away; put brings the copy back, as a restored disk does.
func (w *world) snapshot() (put func()) {
	w.t.Helper()
	if err := w.c.DB.Close(); err != nil {
		w.t.Fatal(err)
	}
	old, err := os.ReadFile(w.db())
	if err != nil {
		w.t.Fatal(err)
	}
	w.open()
	n := w.n
	return func() {
		if err := w.c.DB.Close(); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(w.db(), old, 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.n = n
		w.open()
	}
}

func TestGuard(t *testing.T) {
	ctx := context.Background()
	publish := func(w *world) {
		if err := w.publisher().Publish(ctx); err != nil {
			w.t.Fatal(err)
		}
	}
	remove := func(path string) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		do      func(*world)
		problem string // "" where the start is good
		place   Place
	}{
		{"nothing published", func(w *world) {}, "", ""},
		{"as published", publish, "", ""},
		{"entries not published yet", func(w *world) { publish(w); w.append(5) }, "", ""},
		{"old database", func(w *world) {
			put := w.snapshot()
			w.append(5)
			publish(w)
			put()
		}, ProblemBehind, PlaceTiles},
		{"old database and old tiles, newer copy", func(w *world) {
			publish(w)
			put := w.snapshot()
			dir := filepath.Join(w.c.Dir, TilesFolder)
			if err := os.CopyFS(dir+".old", os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			w.append(5)
			publish(w)
			put()
			remove(dir)
			if err := os.Rename(dir+".old", dir); err != nil {
				t.Fatal(err)
			}
		}, ProblemBehind, PlaceCopy},
		{"old database that went on", func(w *world) {
			put := w.snapshot()
			w.append(5)
			publish(w)
			put()
			w.n++ // other entries from here on
			if err := w.c.DB.Tx(ctx, func(tx *store.Tx) error {
				for range 9 {
					if _, err := Append(tx, sample(w.n)); err != nil {
						return err
					}
					w.n++
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}, ProblemForked, PlaceTiles},
		{"tiles gone, copy agrees", func(w *world) { publish(w); remove(filepath.Join(w.c.Dir, TilesFolder)) }, "", ""},
		{"tiles gone, copy is newer", func(w *world) {
			put := w.snapshot()
			w.append(5)
			publish(w)
			put()
			remove(w.c.Dir)
		}, ProblemBehind, PlaceCopy},
		{"both gone", func(w *world) { publish(w); remove(w.c.Dir); remove(w.c.Copy) }, ProblemMissing, PlaceTiles},
		{"copy gone", func(w *world) { publish(w); remove(w.c.Copy) }, ProblemMissing, PlaceCopy},
		{"copy configured anew", func(w *world) { publish(w); w.c.Copy += "2" }, "", ""},
		{"tiles configured anew, no copy kept", func(w *world) { w.c.Copy = ""; publish(w); w.c.Dir += "2" }, ProblemMissing, PlaceTiles},
		{"everything configured anew", func(w *world) { publish(w); w.c.Dir += "2"; w.c.Copy += "2" }, ProblemMissing, PlaceTiles},
		{"everything moved", func(w *world) {
			publish(w)
			for _, at := range []*string{&w.c.Dir, &w.c.Copy} {
				if err := os.Rename(*at, *at+"2"); err != nil {
					t.Fatal(err)
				}
				*at += "2"
			}
		}, "", ""},
		{"tiles gone, no copy kept", func(w *world) { w.c.Copy = ""; publish(w); remove(w.c.Dir) }, ProblemMissing, PlaceTiles},
		{"other key", func(w *world) {
			publish(w)
			var err error
			if w.c.Signer, w.c.Verifier, err = tiles.NewSigner(origin, ed25519.NewKeyFromSeed(append(make([]byte, 31), 1))); err != nil {
				t.Fatal(err)
			}
		}, ProblemForeign, PlaceTiles},
		{"published checkpoint no longer stored", func(w *world) {
			publish(w)
			if err := w.c.DB.Tx(ctx, func(tx *store.Tx) error { _, err := tx.Exec("DELETE FROM ledger_checkpoint"); return err }); err != nil {
				t.Fatal(err)
			}
		}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.append(30)
			c.do(w)
			err := CheckNotBehind(ctx, w.c)
			if c.problem == "" {
				if err != nil {
					t.Fatalf("want a good start, got %v", err)
				}
				w.append(300)
				publish(w)
				w.check()
				return
			}
			var behind *BehindError
			if !errors.As(err, &behind) || behind.Problem != c.problem || behind.Place != c.place {
				t.Fatalf("want %s at %s, got %v", c.problem, c.place, err)
			}
		})
	}
}

func TestAnotherRunnerThatPublishedIsNotOverwritten(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.append(10)
	p := w.publisher()
	if err := p.Publish(ctx); err != nil {
		t.Fatal(err)
	}
	// A clone of the machine, on the same volumes, publishes further.
	longer := &tiles.Frontier{}
	for i := range 20 {
		longer.Append([32]byte{byte(i)})
	}
	raw, err := w.c.sign(tiles.Checkpoint{Size: 20, Root: longer.Root()})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.c.Copy, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	w.append(1)
	var behind *BehindError
	if err := p.Publish(ctx); !errors.As(err, &behind) || behind.Place != PlaceCopy || behind.Published != 20 {
		t.Fatalf("want the other's checkpoint respected, got %v", err)
	}
	if now, err := os.ReadFile(w.c.Copy); err != nil || string(now) != string(raw) {
		t.Errorf("the other's checkpoint was overwritten: %v", err)
	}
}

func TestAMissingVolumeIsNotWrittenBeside(t *testing.T) {
	w := newWorld(t)
	w.append(10)
	if err := os.Remove(filepath.Dir(w.c.Copy)); err != nil {
		t.Fatal(err)
	}
	if err := w.publisher().Publish(context.Background()); err == nil {
		t.Error("a copy was published to a folder that is not there")
	}
	if _, err := os.Stat(w.c.Copy); !os.IsNotExist(err) {
		t.Errorf("the folder was made: %v", err)
	}
}

func TestRunPublishesWhatCommitsWake(t *testing.T) {
	w := newWorld(t)
	reports := make(chan error, 100)
	w.c.Report = func(err error) { reports <- err }
	p := w.publisher()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	size := func() int64 {
		r, err := tiles.OpenReader(filepath.Join(w.c.Dir, TilesFolder), w.c.Verifier)
		if err != nil {
			return 0
		}
		return r.Checkpoint().Size
	}
	deadline := time.After(2 * time.Minute)
	for n := int64(1); n <= 5; n++ {
		w.append(1)
		p.Wake()
		for size() < n {
			select {
			case err := <-reports:
				if err != nil {
					t.Fatal(err)
				}
			case <-deadline:
				t.Fatalf("entry %d was never published", n)
			}
		}
	}
	w.append(7) // without a wake: the farewell takes it along
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := w.check(); got != 12 {
		t.Errorf("want 12 entries, got %d", got)
	}
}
