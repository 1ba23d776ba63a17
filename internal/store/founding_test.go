package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func newFounding(t *testing.T, dir string) (*Founding, error) {
	t.Helper()
	return BeginFounding(filepath.Join(dir, "a.db"), []string{filepath.Join(dir, "key one.pem"), filepath.Join(dir, "key.pub")},
		func(path string) error { return Create(path, testSchema) })
}

func TestFounding(t *testing.T) {
	dir := t.TempDir()
	f, err := newFounding(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(f.Database(), testSchema)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Tx(context.Background(), put("a")), db.Close(), f.Finish()); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(filepath.Join(dir, "a.db"), testSchema); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got := keys(t, db); got != "a" {
		t.Errorf("want what was filled in, got %q", got)
	}
	if _, err := os.Lstat(filepath.Join(dir, "a.db.init")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder stayed: %v", err)
	}
	if err := f.Finish(); !errors.As(err, new(*RefusedError)) {
		t.Errorf("a database was replaced: %v", err)
	}
}

// A process can end between any two steps. What it left is named exactly for as long as the database was not at its
// place, and never afterwards: then it is in use, also where the database is lost later.
func TestFoundingThatWasKilled(t *testing.T) {
	dir := t.TempDir()
	path, folder := filepath.Join(dir, "a.db"), filepath.Join(dir, "a.db.init")
	unfinished := func(want ...string) {
		t.Helper()
		var e *UnfinishedError
		if err := CheckFounding(path); !errors.As(err, &e) || !slices.Equal(e.Left, want) || e.Folder != folder || !strings.Contains(err.Error(), strings.Join(append(want, "the folder "+folder), ", ")) {
			t.Fatalf("want %q named, got %v", want, err)
		}
		if _, err := newFounding(t, dir); !errors.As(err, new(*UnfinishedError)) {
			t.Fatalf("another began over it: %v", err)
		}
	}
	file := func(name string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	// Before the database waits in it, the folder says nothing: no key was made.
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	file("a.db.init/.database.123")
	if err := CheckFounding(path); err != nil {
		t.Fatal(err)
	}
	f, err := newFounding(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	unfinished()
	file("stranger.pem")
	one := file("key one.pem")
	unfinished(one)
	pub := file("key.pub")
	unfinished(one, pub)
	// What could not be taken back stays named; then all of it goes.
	if err := f.Undo(); err != nil {
		t.Fatal(err)
	}
	unfinished(one, pub)
	if err := errors.Join(os.Remove(one), os.Remove(pub), f.Undo()); err != nil {
		t.Fatal(err)
	}
	if f, err = newFounding(t, dir); err != nil {
		t.Fatal(err)
	}
	file("key one.pem")
	file("key.pub")
	// Killed after the rename: the folder without the database is nobody's word on the keys.
	if err := os.Rename(f.Database(), path); err != nil {
		t.Fatal(err)
	}
	if err := CheckFounding(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := CheckFounding(path); err != nil {
		t.Errorf("keys that were in use are called left over: %v", err)
	}
}

// Where the database cannot be made nothing is left.
func TestFoundingThatFails(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("no room")
	if _, err := BeginFounding(filepath.Join(dir, "a.db"), nil, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
