package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Modes of what is published. Tiles hold ids only; the archive holds people.
const (
	tileMode    = 0o640
	tileDirMode = 0o750
	dayMode     = 0o600
	dayDirMode  = 0o700
)

// disk writes files so that they survive a power cut. Names are made durable by settle, once for all
// the files of a directory.
type disk struct {
	dirs map[string]bool // directories whose names are not durable yet
}

// put writes a file whole or not at all: a reader, or the next start after a crash, sees the old
// octets or the new. A crash may leave the temporary name, which the next put of it replaces.
func (d *disk) put(path string, data []byte, mode, dirMode fs.FileMode) error {
	if err := d.mkdir(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), ".new-"+filepath.Base(path))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	d.touch(filepath.Dir(path))
	return nil
}

// putAt cuts the file to length and writes data behind it: what stood there is a torn write.
func (d *disk) putAt(path string, length int64, data []byte, mode, dirMode fs.FileMode) error {
	if err := d.mkdir(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, mode)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < length {
		err = fmt.Errorf("%s has %d octets of %d that were written; restore it from a copy", path, info.Size(), length)
	}
	if err == nil {
		err = f.Truncate(length)
	}
	if err == nil {
		_, err = f.WriteAt(data, length)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	d.touch(filepath.Dir(path))
	return err
}

func (d *disk) touch(dir string) {
	if d.dirs == nil {
		d.dirs = map[string]bool{}
	}
	d.dirs[dir] = true
}

// mkdir makes dir and what is above it; the names of new directories are durable after settle.
func (d *disk) mkdir(dir string, mode fs.FileMode) error {
	err := os.Mkdir(dir, mode)
	switch {
	case err == nil:
		d.touch(filepath.Dir(dir))
		return nil
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir:
		if err := d.mkdir(filepath.Dir(dir), mode); err != nil {
			return err
		}
		return d.mkdir(dir, mode)
	}
	return err
}

// settle makes all names durable that were made since the last settle.
func (d *disk) settle() error {
	for dir := range d.dirs {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		err = f.Sync()
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
		delete(d.dirs, dir)
	}
	return nil
}
