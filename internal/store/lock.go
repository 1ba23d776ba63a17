package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is the right to be the one runner on a database. The kernel takes it back when the process
// ends, however it ends.
type Lock struct{ f *os.File }

// A LockedError says that another process is the runner.
type LockedError struct {
	Path string
	PID  int // of the holder; 0 if it could not be read
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = "process " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("database %s: %s is running on it; one runner at a time. Stop that one first, or look with status", e.Path, who)
}

// [Holder] has the file locked for some microseconds while it looks; a runner that starts in just
// that moment must not believe in another runner.
const (
	lockTries = 5
	lockPause = 10 * time.Millisecond
)

// lockFile lies beside the database itself: whoever reaches that by a link takes the same lock. A database that does
// not exist has its own beside where it would be.
func lockFile(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if os.IsNotExist(err) {
		real, err = path, nil
	}
	return real + ".lock", err
}

// Take becomes the one runner on the database at path, or returns a *LockedError. Reading
// and short commands need no lock.
func Take(path string) (*Lock, error) {
	at, err := lockFile(path)
	if err != nil {
		return nil, fmt.Errorf("lock database: %w", err)
	}
	f, err := os.OpenFile(at, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock database: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for range lockTries {
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(lockPause)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock database %s: %w", path, err)
		}
		return nil, &LockedError{path, readPID(f)}
	}
	// Only for the message above: the lock is the kernel's, not this number.
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock database: %w", err)
	}
	return &Lock{f}, nil
}

// Holder is the process id of the runner on the database at path, or 0 when there is none.
func Holder(path string) (int, error) {
	at, err := lockFile(path)
	if err != nil {
		return 0, err
	}
	f, err := os.Open(at)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return 0, unlock(f)
	} else if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, err
	}
	return readPID(f), nil
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// Release gives the lock back. The file stays: removing it would let two processes lock two files.
func (l *Lock) Release() error {
	if l == nil || l.f == nil {
		return nil
	}
	err := errors.Join(unlock(l.f), l.f.Close())
	l.f = nil
	return err
}

// unlock gives back what closing alone might not: a program that this process is just starting has the same open file, and
// its lock with it, until it runs.
func unlock(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		return fmt.Errorf("unlock %s: %w", f.Name(), err)
	}
	return nil
}
