package sim

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// mortal is a program that keeps all it knows in one database. While a fuse burns it may die at any seam: where
// it looks at the clock, writes its log, or has a request in somebody else's hands.
type mortal struct {
	w    *world
	name string
	path string // of its database; another one in each life
	life int
	fuse int   // seams until it dies; 0: it lives
	torn bool  // it dies in its next commit, whatever the fuse says
	wal  int64 // octets of the log at the last seam, while the fuse burns
}

// died ends the program at a seam.
type died struct {
	who *mortal
	at  string
}

// seam is a place at which the program may die.
func (m *mortal) seam(at string) {
	if m.fuse == 0 {
		return
	}
	size := m.walSize()
	if m.fuse--; m.fuse == 0 || m.torn && size > m.wal {
		panic(died{m, at})
	}
	m.wal = size
}

func (m *mortal) walSize() int64 {
	info, err := os.Stat(m.path + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}

// lives runs f, in which the program dies with a chance in percent, and tells whether it did.
func (m *mortal) lives(what string, percent int, f func()) (dead bool) {
	if !m.w.calm && m.w.chance(percent) {
		m.fuse, m.torn = 1+m.w.rng.IntN(40), m.w.chance(30)
		if m.torn {
			m.fuse = 1000
		}
		m.wal = m.walSize()
	}
	defer func() {
		m.fuse, m.torn = 0, false
		switch p := recover().(type) {
		case nil:
		case died:
			if p.who != m {
				panic(p)
			}
			m.w.tracef("died in %s at %s", what, p.at)
			dead = true
		default:
			panic(p)
		}
	}()
	f()
	m.seam("end")
	return false
}

// reborn leaves at the path what the disk holds: all that was durable at the last seam, and of what was written
// since any part. stop ends the program's hold of its files.
func (m *mortal) reborn(stop func()) {
	log := m.walSize()
	if since := log - m.wal; since > 0 && m.w.chance(70) {
		torn := m.wal + m.w.rng.Int64N(since)
		m.w.tracef("log torn at %d of %d octets", torn, log)
		log = torn
	}
	old := m.path
	m.lay(old, log)
	bury(old, stop)
	m.w.count.Crashes++
}

// lay begins a life with a copy of a database and so much of its log.
func (m *mortal) lay(from string, log int64) {
	m.life++
	m.path = filepath.Join(m.w.dir, fmt.Sprintf("%s-%d.db", m.name, m.life))
	err := copyFile(m.path, from, math.MaxInt64)
	if err == nil && log > 0 {
		err = copyFile(m.path+"-wal", from+"-wal", log)
	}
	if err != nil {
		m.w.broken("lay out the database of %s: %v", m.name, err)
	}
}

// copyFile copies up to most octets of a file to one that is not there, inside the kernel where it can.
func copyFile(to, from string, most int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, most))
	return errors.Join(err, out.Close())
}

// bury takes a database off the disk and ends a program's hold of it, in this order: SQLite does not move home the log of a
// file that is gone.
func bury(path string, stop func()) {
	remove(path)
	stop()
}

// remove takes a database off the disk.
func remove(path string) {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(path + suffix)
	}
}
