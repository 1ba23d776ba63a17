package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Founding makes a program's first files, keys among them, and its database all together or not at all, also
// where the process is killed in between. The database is filled in a folder beside its place and renamed to it
// last: that rename decides. For as long as it waits in the folder, whatever of the listed files is there was made
// by a founding that did not finish, and nothing has used it. A folder without it says nothing: its founding had made nothing
// yet, or was done.
type Founding struct {
	path   string   // of the database
	folder string   // beside it
	files  []string // what else is made
}

const (
	foundingSuffix = ".init"    // of the folder's name, after the database's
	foundingFiles  = "files"    // in the folder: the paths of what else is made, one a line
	foundingDB     = "database" // in the folder
)

// An UnfinishedError says that a founding was killed, or still runs. Nothing was changed.
type UnfinishedError struct {
	Database string
	Folder   string
	Left     []string // what it made, but for the folder
}

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("an init or recover that was to make %s did not finish: it was killed, or it still runs. Nothing has used what it made. When none runs any more, and unless something was put back there since, remove %s, and begin again. Nothing was changed",
		e.Database, strings.Join(append(slices.Clone(e.Left), "the folder "+e.Folder), ", "))
}

// CheckFounding returns an *[UnfinishedError] where a founding of the database at path did not finish. Where a
// database is there it is one that was finished.
func CheckFounding(path string) error {
	f := &Founding{path: path, folder: path + foundingSuffix}
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if _, err := os.Lstat(f.Database()); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look for an unfinished init or recover: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(f.folder, foundingFiles))
	if err != nil {
		return fmt.Errorf("look for an unfinished init or recover: %w", err)
	}
	f.files = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	return &UnfinishedError{path, f.folder, f.left()}
}

// BeginFounding begins one: create makes the database, at another path than its own. files are the paths of all else
// that is made; the caller has seen that none of them and no database is there.
func BeginFounding(path string, files []string, create func(path string) error) (_ *Founding, err error) {
	if err := CheckFounding(path); err != nil {
		return nil, err
	}
	f := &Founding{path: path, folder: path + foundingSuffix}
	for _, name := range files {
		abs, err := filepath.Abs(name) // the next init may run elsewhere
		if err != nil {
			return nil, err
		}
		f.files = append(f.files, abs)
	}
	if err := os.RemoveAll(f.folder); err != nil { // of one that had made nothing, or was done
		return nil, err
	}
	if err := os.Mkdir(f.folder, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(f.folder))
		}
	}()
	if err := f.list(); err != nil {
		return nil, err
	}
	if err := create(f.Database()); err != nil { // makes the folder's names durable, too
		return nil, err
	}
	return f, syncPath(filepath.Dir(path))
}

func (f *Founding) list() error {
	w, err := os.OpenFile(filepath.Join(f.folder, foundingFiles), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = w.WriteString(strings.Join(f.files, "\n") + "\n")
	return errors.Join(err, w.Sync(), w.Close())
}

// Database is where the database waits; it is filled there.
func (f *Founding) Database() string { return filepath.Join(f.folder, foundingDB) }

// Finish puts the closed database at its place, as the last and deciding step.
func (f *Founding) Finish() error {
	if _, err := os.Lstat(f.path); err == nil { // rename would replace it
		return refusef(f.path, "it exists already; a database is created once and never over another")
	}
	if err := os.Rename(f.Database(), f.path); err != nil {
		return err
	}
	if err := syncPath(filepath.Dir(f.path)); err != nil {
		return errors.Join(err, os.Rename(f.path, f.Database())) // the caller will take the keys back
	}
	_ = os.RemoveAll(f.folder) // without the database it says nothing, and the next one takes it away
	return nil
}

// Undo takes the folder away after the caller has removed what it made. Where some of that is left the folder stays, to
// tell of it.
func (f *Founding) Undo() error {
	if len(f.left()) > 0 {
		return nil
	}
	return os.RemoveAll(f.folder)
}

// left are those of the files that are there.
func (f *Founding) left() (left []string) {
	for _, name := range f.files {
		if _, err := os.Lstat(name); err == nil {
			left = append(left, name)
		}
	}
	return left
}
