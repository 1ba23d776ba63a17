package ledger

import (
	"context"
	"errors"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"jmlbridge/internal/ledger/entry"
	"jmlbridge/internal/ledger/tiles"
	"jmlbridge/internal/store"
)

func TestAppendGoesWithItsTransaction(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	boom := errors.New("boom")
	err := w.c.DB.Tx(ctx, func(tx *store.Tx) error {
		if first, err := Append(tx, sample(0), sample(1)); err != nil || first != 0 {
			t.Errorf("want index 0, got %d, %v", first, err)
		}
		if first, err := Append(tx, sample(2)); err != nil || first != 2 {
			t.Errorf("want index 2, got %d, %v", first, err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if n, err := Size(w.c.DB); err != nil || n != 0 {
		t.Fatalf("want nothing kept, got %d, %v", n, err)
	}
	err = w.c.DB.Tx(ctx, func(tx *store.Tx) error {
		_, err := Append(tx, sample(0), entry.New(noon, &entry.Alarm{Code: "Not A Code", State: entry.AlarmRaised}))
		return err
	})
	if err == nil {
		t.Fatal("an entry that breaks its form was taken")
	}
	if n, err := Size(w.c.DB); err != nil || n != 0 {
		t.Fatalf("want nothing kept, got %d, %v", n, err)
	}
}

// Units that share a transaction, some of which fail, leave a tree without holes.
func TestAppendInSharedTransactions(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int64]int{}
	for i := range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var first int64
			err := w.c.DB.Do(ctx, func(tx *store.Tx) (err error) {
				if first, err = Append(tx, sample(i)); err != nil {
					return err
				}
				if i%3 == 0 {
					return errors.New("no")
				}
				return nil
			})
			if (err != nil) != (i%3 == 0) {
				t.Errorf("%d: %v", i, err)
			}
			if err == nil {
				mu.Lock()
				got[first] = i
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	var f tiles.Frontier
	for e, err := range Entries(ctx, w.c.DB, 0) {
		if err != nil {
			t.Fatal(err)
		}
		i, ok := got[e.Index]
		want, _ := entry.Encode(sample(i))
		have, _ := entry.Encode(e.Entry)
		if !ok || string(want) != string(have) {
			t.Fatalf("index %d: want what its unit appended, got %s", e.Index, have)
		}
		f.Append(tlog.RecordHash(have))
	}
	stored, err := frontier(w.c.DB.Read())
	if err != nil || stored.Size != int64(len(got)) || stored.Root() != f.Root() {
		t.Fatalf("want %d entries with root %v, got %v, %v", len(got), f.Root(), stored, err)
	}
	if id, err := ID(w.c.DB); err != nil || len(id) != 32 {
		t.Errorf("want an id of 32 hex digits, got %q, %v", id, err)
	}
	e, err := Get(w.c.DB, 3)
	if err != nil || e.Body.Kind() != entry.KindReceived {
		t.Errorf("want entry 3, got %v, %v", e, err)
	}
	if _, err := Get(w.c.DB, 1000); err == nil {
		t.Error("an entry that is not there was read")
	}
}

func TestAHoleIsAnError(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.append(piece + 10)
	for _, hole := range []int{3, piece + 9} {
		if err := w.c.DB.Tx(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec("DELETE FROM ledger_entry WHERE idx = ?", hole)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		var last error
		for _, err := range bodies(ctx, w.c.DB, int64(hole)-2, piece+10) {
			last = err
		}
		if last == nil {
			t.Errorf("the missing entry %d went unnoticed", hole)
		}
	}
}

func BenchmarkAppend500(b *testing.B) {
	w := newWorld(b)
	ctx := context.Background()
	entries := make([]entry.Entry, 500)
	for i := range entries {
		entries[i] = sample(i)
	}
	for b.Loop() {
		if err := w.c.DB.Tx(ctx, func(tx *store.Tx) error {
			for _, e := range entries {
				if _, err := Append(tx, e); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/entry")
}

func BenchmarkPublish(b *testing.B) {
	w := newWorld(b)
	w.c.Archive = nil
	p := w.publisher()
	ctx := context.Background()
	for b.Loop() {
		b.StopTimer()
		w.append(2000)
		b.StartTimer()
		if err := p.Publish(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/entry")
}
