package store

import (
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"jmlbridge/internal/disk"
)

// isDamaged reports whether err says that a file is no database, or not a whole one.
func isDamaged(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch e.Code() & 0xff { // the upper bits refine
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return true
	}
	return false
}

// IsBusy reports whether err says that other processes wrote for so long that this write had no turn. Nothing was written.
func IsBusy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// IsFull reports whether err says that the disk, or a quota, has no room left. What was to be written is not there.
func IsFull(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() {
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE: // the latter where the shared memory of a WAL finds no blocks
			return true
		}
	}
	return disk.IsFull(err)
}
