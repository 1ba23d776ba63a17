package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

const childEnv = "STORE_TEST_CRASH_CHILD" // path of the database to write to until killed

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := writeForEver(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writeForEver commits numbers from several goroutines and says each on stdout once it is acknowledged.
// A number stands in two tables or in none.
func writeForEver(path string) error {
	lock, err := Take(path)
	if err != nil {
		return err
	}
	defer lock.Release()
	db, err := Open(path, testSchema)
	if err != nil {
		return err
	}
	var first int
	if err := db.Read().QueryRow("SELECT coalesce(max(v), 0) + 1 FROM u").Scan(&first); err != nil {
		return err
	}
	const workers = 4
	errs := make(chan error, workers)
	var out sync.Mutex
	for w := range workers {
		go func() {
			for n := first + w; ; n += workers {
				err := db.Do(context.Background(), func(tx *Tx) error {
					if _, err := tx.Exec("INSERT INTO t VALUES (?, ?)", strconv.Itoa(n), n); err != nil {
						return err
					}
					_, err := tx.Exec("INSERT INTO u VALUES (?)", n)
					return err
				})
				if err != nil {
					errs <- err
					return
				}
				out.Lock()
				fmt.Println(n)
				out.Unlock()
			}
		}()
	}
	return <-errs
}

func TestKilledInTheMiddleOfCommits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := Create(path, testSchema); err != nil {
		t.Fatal(err)
	}
	acked := map[int]bool{}
	for round := range 15 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			v, err := strconv.Atoi(lines.Text())
			if err != nil {
				break // the last line, cut off by the kill
			}
			acked[v] = true
			if n == 10+round*7 {
				if _, err := OpenRead(path, testSchema); err != nil {
					t.Errorf("reading beside the runner: %v", err)
				}
				if pid, err := Holder(path); err != nil || pid != child.Process.Pid {
					t.Errorf("want runner %d, got %d, %v", child.Process.Pid, pid, err)
				}
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		db, err := Open(path, testSchema)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		there := map[int]bool{}
		rows, err := db.Read().Query("SELECT t.v FROM t JOIN u ON t.v = u.v")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var v int
			if err := rows.Scan(&v); err != nil {
				t.Fatal(err)
			}
			there[v] = true
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		for v := range acked {
			if !there[v] {
				t.Errorf("round %d: %d was acknowledged and is not there", round, v)
			}
		}
		var a, b int
		var sound string
		if err := db.Read().QueryRow("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u)").Scan(&a, &b); err != nil || a != b || a != len(there) {
			t.Errorf("round %d: half a transaction is there: %d and %d rows, %d pairs, %v", round, a, b, len(there), err)
		}
		if err := db.Read().QueryRow("PRAGMA integrity_check").Scan(&sound); err != nil || sound != "ok" {
			t.Errorf("round %d: integrity: %s, %v", round, sound, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acked) < 500 {
		t.Errorf("only %d commits were acknowledged in all rounds", len(acked))
	}
}

// A full disk undoes what shares the transaction, is reported to all of it, and is survived.
func TestFullDisk(t *testing.T) {
	db := create(t)
	ctx := context.Background()
	if err := db.Tx(ctx, put("before")); err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := db.w.conn.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		if _, err := db.w.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	limit(pages + 3)
	if err := db.w.take(ctx); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = db.Do(ctx, func(tx *Tx) error {
				_, err := tx.Exec("INSERT INTO t VALUES (?, zeroblob(100000))", fmt.Sprint("big", i))
				return err
			})
		}()
	}
	db.w.put()
	wg.Wait()
	for i, err := range errs {
		if !IsFull(err) {
			t.Errorf("%d: a commit to a full disk came to %v", i, err)
		}
	}
	limit(1 << 20)
	if err := db.Do(ctx, put("later")); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, db); got != "before later" {
		t.Errorf("want what was acknowledged, got %q", got)
	}
}
