package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/store"
)

// growth is a run of publications across the borders of tiles.
var growth = []int{1, 1, 253, 1, 1, 255, 300, 7, 600}

func TestPublishedLedgerVerifiesWithStockTools(t *testing.T) {
	w := newWorld(t)
	p := w.publisher()
	total := 0
	for i, n := range growth {
		w.append(n)
		total += n
		if i%3 == 2 {
			p = w.restart()
		}
		if err := p.Publish(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := w.check(); got != int64(total) {
			t.Fatalf("want %d entries published, got %d", total, got)
		}
	}
	before := w.files(w.c.Dir)
	writes := 0
	w.c.Around = func(Step, string, func() error) error { writes++; return errors.New("nothing is to be written") }
	if err := w.publisher().Publish(context.Background()); err == nil || writes != 1 {
		// A new publisher records its places, which the database has already; that is all.
		t.Errorf("want the places recorded and nothing else, got %d writes, %v", writes, err)
	}
	if after := w.files(w.c.Dir); !slices.Equal(before, after) {
		t.Errorf("publishing nothing changed the files")
	}
	for _, f := range before {
		if strings.Contains(f, "000.p"+string(filepath.Separator)) && !strings.Contains(f, filepath.Join("tile", "1")) {
			t.Errorf("%s is left, though the full tile is there", f)
		}
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	w := newWorld(t)
	w.append(2*tiles.Width + 44)
	if err := w.publisher().Publish(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.check()
	for _, path := range w.files(filepath.Join(w.c.Dir, TilesFolder)) {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, len(good) / 2, len(good) - 1} {
			bad := slices.Clone(good)
			bad[at] ^= 0x10
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := w.fsck(); err == nil {
				t.Errorf("%s: tessera's fsck does not see bit 4 of octet %d flipped", path, at)
			}
			r, err := tiles.OpenReader(filepath.Join(w.c.Dir, TilesFolder), w.c.Verifier)
			if err == nil {
				err = r.Check(context.Background())
			}
			if err == nil {
				t.Errorf("%s: our reader does not see bit 4 of octet %d flipped", path, at)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.check()
}

// Every durable write fails in both ways, at every place where it happens; then the machine starts
// again and goes on.
func TestEveryStepLostOrKept(t *testing.T) {
	for _, kept := range []bool{false, true} {
		for _, step := range Steps {
			t.Run(fmt.Sprintf("%s kept=%v", step, kept), func(t *testing.T) {
				t.Parallel()
				for nth := 1; failOnce(t, step, nth, kept); nth++ {
					if nth > 100 {
						t.Fatal("the step happens without end")
					}
				}
			})
		}
	}
}

// failOnce lets the nth write of a step fail, and reports whether there was one.
func failOnce(t *testing.T, step Step, nth int, kept bool) bool {
	boom := errors.New("boom")
	w := newWorld(t)
	w.append(250)
	if step != StepPlaces { // which happens only in the first publication
		if err := w.publisher().Publish(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	w.append(300)
	seen := 0
	w.c.Around = func(s Step, _ string, write func() error) error {
		if s != step {
			return write()
		}
		if seen++; seen != nth {
			return write()
		}
		if kept {
			if err := write(); err != nil {
				return err
			}
		}
		return boom
	}
	p := w.publisher()
	err := p.Publish(context.Background())
	if seen < nth {
		if nth == 1 {
			t.Fatal("the step never happened")
		}
		return false // all places of this step have failed once
	}
	if !errors.Is(err, boom) {
		t.Fatalf("write %d: want the failure reported, got %v", nth, err)
	}
	// The process died there, or goes on. (p has its own Config, and fails no more.)
	w.c.Around = nil
	if nth%2 == 1 {
		p = w.restart()
	}
	w.append(20)
	if err := p.Publish(context.Background()); err != nil {
		t.Fatalf("write %d: publishing again: %v", nth, err)
	}
	if got := w.check(); got != 570 {
		t.Fatalf("write %d: want 570 entries, got %d", nth, got)
	}
	p = w.restart()
	w.append(1)
	if err := p.Publish(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.check()
	return true
}

func TestTornWritesAreRepaired(t *testing.T) {
	w := newWorld(t)
	w.append(10)
	if err := w.publisher().Publish(context.Background()); err != nil {
		t.Fatal(err)
	}
	// What a power cut may leave: half a gzip member, half a temporary file, a torn partial tile.
	days := w.files(filepath.Join(w.c.Dir, ArchiveFolder))
	f, err := os.OpenFile(days[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\x1f\x8b\x08\x00half"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	dir := filepath.Join(w.c.Dir, TilesFolder)
	if err := os.WriteFile(filepath.Join(dir, ".new-checkpoint"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "tile/0/000.p/10"), 100); err != nil {
		t.Fatal(err)
	}
	p := w.restart()
	w.append(10)
	if err := p.Publish(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.check()
	// A day file that lost what was written is not quietly begun again.
	if err := os.Truncate(days[0], 3); err != nil {
		t.Fatal(err)
	}
	w.append(1)
	if err := p.Publish(context.Background()); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("want the shortened archive reported, got %v", err)
	}
	r, err := tiles.OpenReader(dir, w.c.Verifier)
	if err != nil || r.Checkpoint().Size != 21 {
		t.Errorf("the archive's trouble kept the checkpoint back: %v", err)
	}
}

func TestChangedDatabaseIsNotPublished(t *testing.T) {
	w := newWorld(t)
	w.append(10)
	err := w.c.DB.Tx(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE ledger_entry SET body = (SELECT body FROM ledger_entry WHERE idx = 4) WHERE idx = 5")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.publisher().Publish(context.Background()); err == nil || !strings.Contains(err.Error(), "changed from outside") {
		t.Errorf("want the changed entry noticed, got %v", err)
	}
	if _, err := os.Stat(w.c.path(PlaceTiles)); !os.IsNotExist(err) {
		t.Errorf("a checkpoint was published: %v", err)
	}
}
