package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

var testSchema = Schema{App: 0x4a4d4c54, Name: "the test", Version: 1, DDL: `CREATE TABLE t (k TEXT PRIMARY KEY, v INTEGER) WITHOUT ROWID; CREATE TABLE u (v INTEGER);`}

func create(t testing.TB) *DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	if err := Create(path, testSchema); err != nil {
		t.Fatal(err)
	}
	db, err := Open(path, testSchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func put(k string) func(*Tx) error {
	return func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO t VALUES (?, 1)", k)
		return err
	}
}

func keys(t testing.TB, db *DB) string {
	t.Helper()
	rows, err := db.Read().Query("SELECT k FROM t ORDER BY k")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var k string
		if err := rows.Scan(&k); err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestTxIsAllOrNothing(t *testing.T) {
	db := create(t)
	ctx := context.Background()
	if err := db.Tx(ctx, put("a")); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := db.Tx(ctx, func(tx *Tx) error {
		if err := put("b")(tx); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("want the unit's own error, got %v", err)
	}
	err = db.Tx(ctx, func(tx *Tx) error {
		tx.Before(func() error { return boom })
		return put("c")(tx)
	})
	if !errors.Is(err, boom) {
		t.Fatalf("want the error of Before, got %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic in a transaction was swallowed")
			}
		}()
		_ = db.Tx(ctx, func(tx *Tx) error { _ = put("d")(tx); panic("d") })
	}()
	if got := keys(t, db); got != "a" {
		t.Fatalf("want only a to be there, got %q", got)
	}
}

func TestDoSharesATransactionButNotErrors(t *testing.T) {
	db := create(t)
	ctx := context.Background()
	// Hold the writer, so that all of them wait and become one batch.
	if err := db.w.take(ctx); err != nil {
		t.Fatal(err)
	}
	const n = 40
	var wg sync.WaitGroup
	errs := make([]error, n)
	after := make([]bool, n)
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() {
				if p := recover(); p != nil {
					errs[i] = fmt.Errorf("panicked: %v", p)
				}
			}()
			errs[i] = db.Do(ctx, func(tx *Tx) error {
				tx.After(func() { after[i] = true })
				if err := put(fmt.Sprintf("%02d", i))(tx); err != nil {
					return err
				}
				switch i % 4 {
				case 1:
					return fmt.Errorf("number %d", i)
				case 2:
					panic(i)
				}
				return nil
			})
		}()
	}
	db.w.put()
	wg.Wait()
	var want []string
	for i := range n {
		switch i % 4 {
		case 1:
			if errs[i] == nil || errs[i].Error() != fmt.Sprintf("number %d", i) {
				t.Errorf("%d: want its own error, got %v", i, errs[i])
			}
		case 2:
			if errs[i] == nil || errs[i].Error() != fmt.Sprintf("panicked: %d", i) {
				t.Errorf("%d: want its own panic, got %v", i, errs[i])
			}
		default:
			want = append(want, fmt.Sprintf("%02d", i))
			if errs[i] != nil {
				t.Errorf("%d: %v", i, errs[i])
			}
		}
		if after[i] != (errs[i] == nil) {
			t.Errorf("%d: After ran: %v, error: %v", i, after[i], errs[i])
		}
	}
	if got := keys(t, db); got != strings.Join(want, " ") {
		t.Errorf("want %v, got %q", want, got)
	}
}

func TestDoGivesUpWaiting(t *testing.T) {
	db := create(t)
	if err := db.w.take(context.Background()); err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { first <- db.Do(context.Background(), put("first")) }()
	for { // until the first leads
		db.group.mu.Lock()
		n := len(db.group.waiting)
		db.group.mu.Unlock()
		if n == 1 {
			break
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := db.Do(ctx, put("second")); !errors.Is(err, context.Canceled) {
		t.Fatalf("want the wait to end with its context, got %v", err)
	}
	db.w.put()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if got := keys(t, db); got != "first" {
		t.Fatalf("want only the first, got %q", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.db")
	if err := Create(good, testSchema); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	wide := filepath.Join(dir, "wide.db")
	if err := Create(wide, testSchema); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(wide, 0o644); err != nil {
		t.Fatal(err)
	}
	shut := filepath.Join(dir, "shut.db") // what stands in the way of its -wal is as good as a folder that may not be written
	if err := errors.Join(Create(shut, testSchema), os.Mkdir(shut+"-wal", 0o700)); err != nil {
		t.Fatal(err)
	}
	newer, other := testSchema, testSchema
	newer.Version = 2
	other.App++
	newest := filepath.Join(dir, "newest.db")
	if err := Create(newest, newer); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		s          Schema
		want       string
	}{
		{"missing", filepath.Join(dir, "missing.db"), testSchema, "does not exist"},
		{"not a database", text, testSchema, "restore a backup only"},
		{"folder that is not ours", shut, testSchema, "run the command as the login"},
		{"other program", good, other, "application id"},
		{"newer", newest, testSchema, "newer program"},
		{"no way up", good, newer, "upgrade through an older release"},
		{"world-readable", wide, testSchema, "chmod 600"},
		{"directory", dir, testSchema, "regular file"},
	} {
		for _, open := range []func(string, Schema) (*DB, error){Open, OpenRead} {
			db, err := open(c.path, c.s)
			var refused *RefusedError
			if db != nil || !errors.As(err, &refused) {
				t.Errorf("%s: want a refusal, got %v", c.name, err)
			} else if !strings.Contains(refused.Error(), c.want) && c.name != "no way up" {
				t.Errorf("%s: want %q in the message, got %q", c.name, c.want, refused)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "missing.db")); !os.IsNotExist(err) {
		t.Errorf("opening created a file: %v", err)
	}
	var refused *RefusedError
	if err := Create(good, testSchema); !errors.As(err, &refused) {
		t.Errorf("want Create to refuse an existing file, got %v", err)
	}
}

func TestMigrationsRunInOrderAndOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := Create(path, testSchema); err != nil {
		t.Fatal(err)
	}
	s := testSchema
	s.Version = 3
	s.Migrations = map[int]string{
		1: "ALTER TABLE t ADD COLUMN w INTEGER; INSERT INTO t VALUES ('one', 0, 0);",
		2: "UPDATE t SET w = w + 1;",
	}
	for range 2 {
		db, err := Open(path, s)
		if err != nil {
			t.Fatal(err)
		}
		var w, version int
		if err := db.Read().QueryRow("SELECT w FROM t").Scan(&w); err != nil || w != 1 {
			t.Errorf("want 1, got %d, %v", w, err)
		}
		if err := db.Read().QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != 3 {
			t.Errorf("want version 3, got %d, %v", version, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.Version, s.Migrations = 4, map[int]string{3: "UPDATE t SET w = 7; UPDATE nowhere SET w = 7;"}
	if _, err := Open(path, s); err == nil {
		t.Fatal("a failing migration opened the file")
	}
	s.Version = 3
	db, err := OpenRead(path, s)
	if err != nil {
		t.Fatalf("a failed migration left a mark: %v", err)
	}
	defer db.Close()
	var w int
	if err := db.Read().QueryRow("SELECT w FROM t").Scan(&w); err != nil || w != 1 {
		t.Errorf("a failed migration left %d, %v", w, err)
	}
}

func TestPragmas(t *testing.T) {
	db := create(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "page_size": "8192"} {
		var got string
		if err := db.w.conn.QueryRowContext(context.Background(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s: want %s, got %s, %v", pragma, want, got, err)
		}
	}
	if _, err := db.Read().Exec("INSERT INTO u VALUES (1)"); err == nil {
		t.Error("a reading connection wrote")
	}
	info, err := os.Stat(db.Path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("want mode 0600, got %v, %v", info.Mode(), err)
	}
}

func TestReadersAndCommandsBesideARunner(t *testing.T) {
	db := create(t)
	ctx := context.Background()
	lock, err := Take(db.Path())
	if err != nil {
		t.Fatal(err)
	}
	var locked *LockedError
	if _, err := Take(db.Path()); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Fatalf("want a second runner refused with our process id, got %v", err)
	}
	if pid, err := Holder(db.Path()); err != nil || pid != os.Getpid() {
		t.Fatalf("want our process id, got %d, %v", pid, err)
	}
	status, err := OpenRead(db.Path(), testSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	if err := status.Tx(ctx, put("x")); !errors.Is(err, errReadOnly) {
		t.Errorf("want a write refused, got %v", err)
	}
	command, err := Open(db.Path(), testSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer command.Close()
	for i, d := range []*DB{db, command, db, command} {
		if err := d.Tx(ctx, put(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if got := keys(t, status); got != "0 1 2 3" {
		t.Errorf("want all four, got %q", got)
	}
	link := filepath.Join(t.TempDir(), "other.db")
	if err := os.Symlink(db.Path(), link); err != nil {
		t.Fatal(err)
	}
	if l, err := Take(link); !errors.As(err, &locked) {
		t.Errorf("by a link there is a second runner: %v, %v", l, err)
	}
	if pid, err := Holder(link); err != nil || pid != os.Getpid() {
		t.Errorf("by a link: holder %d, %v", pid, err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if pid, err := Holder(db.Path()); err != nil || pid != 0 {
		t.Errorf("want no holder, got %d, %v", pid, err)
	}
	again, err := Take(db.Path())
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Release()
}

// A program that is just being started has what its parent had open, the lock among it, until it runs.
func TestReleaseBesideAStart(t *testing.T) {
	db := create(t)
	for range 2 {
		lock, err := Take(db.Path())
		if err != nil {
			t.Fatal(err)
		}
		forked, err := unix.Dup(int(lock.f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(forked)
		if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClosed(t *testing.T) {
	db := create(t)
	var kept *Tx
	if err := db.Tx(context.Background(), func(tx *Tx) error { kept = tx; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := kept.Exec("INSERT INTO u VALUES (1)"); !errors.Is(err, errEnded) {
		t.Errorf("want a kept transaction refused, got %v", err)
	}
	var n int
	if err := kept.QueryRow("SELECT 1").Scan(&n); err == nil {
		t.Error("a kept transaction answered a query")
	}
	for range 2 {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Tx(context.Background(), put("x")); !errors.Is(err, errClosed) {
		t.Errorf("want errClosed, got %v", err)
	}
	if err := db.Do(context.Background(), put("x")); !errors.Is(err, errClosed) {
		t.Errorf("want errClosed, got %v", err)
	}
}

// The prepared form of a query is kept and is nobody's alone: run within itself, while it is read from, and
// after the table was changed, it says what is so.
func TestPreparedFormsAreKept(t *testing.T) {
	db := create(t)
	ctx := context.Background()
	const list = "SELECT k FROM t ORDER BY k"
	count := func(each func(string, []any, func(func(...any) error) error) error) (n int) {
		t.Helper()
		err := each(list, nil, func(func(...any) error) error {
			return each(list, nil, func(func(...any) error) error { n++; return nil })
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for n := 1; n <= 3; n++ {
		if err := db.Tx(ctx, put(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
		if got := count(db.Read().Each); got != n*n {
			t.Errorf("reading: want %d rows within rows, got %d", n*n, got)
		}
		if err := db.Tx(ctx, func(tx *Tx) error {
			if got := count(tx.Each); got != n*n {
				t.Errorf("in a transaction: want %d rows within rows, got %d", n*n, got)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	// A reader that has ended holds nothing: the log can be moved home whole.
	if err := db.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(db.Path() + "-wal"); err != nil || info.Size() != 0 {
		t.Errorf("want an empty log after a checkpoint, got %v, %v", info, err)
	}
	if err := db.Read().QueryRow("SELECT nonsense FROM t").Scan(new(int)); err == nil {
		t.Error("want a query that cannot be prepared to fail")
	}
}

// A snapshot shows one moment, whatever is written while it is read.
func TestSnapshot(t *testing.T) {
	db := create(t)
	for i, want := range []string{"", "0", "0,1"} {
		err := db.Read().Snapshot(t.Context(), func(s *Snapshot) error {
			for j := range 2 {
				n, list := 0, []string{}
				if err := s.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
					return err
				}
				err := s.Each("SELECT k FROM t ORDER BY k", nil, func(scan func(...any) error) error {
					list = append(list, "")
					return scan(&list[len(list)-1])
				})
				if got := strings.Join(list, ","); err != nil || got != want || n != i {
					t.Errorf("read %d shows %q and %d rows, %v; want %q", j, got, n, err, want)
				}
				if j == 0 {
					if err := db.Tx(t.Context(), put(fmt.Sprint(i))); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := keys(t, db); got != "0 1 2" {
		t.Errorf("there is %q; want all", got)
	}
}

// A write that has no turn beside another process is told apart from one that failed.
func TestIsBusy(t *testing.T) {
	db := create(t)
	other, err := sql.Open("sqlite", "file:"+db.Path()+"?_busy_timeout=1&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	err = db.Tx(t.Context(), func(*Tx) error {
		tx, err := other.Begin()
		if err == nil {
			err = errors.Join(errors.New("two write at once"), tx.Rollback())
		}
		if !IsBusy(err) || IsFull(err) {
			t.Errorf("got %v", err)
		}
		return nil
	})
	if err != nil || IsBusy(err) || IsBusy(errors.New("database is locked")) {
		t.Errorf("got %v", err)
	}
}
