// Package disk keeps room on a volume for what must not wait for space.
//
// A program that has to write before it may act is stopped by a full disk, whoever filled it. So it lays space
// by while there is some: a file of real blocks, the reserve, which is given up when the volume runs full and
// made again when there is room for it. Before it comes to that, what can wait is told to.
//
// It trusts what the kernel says of a volume. It cannot keep others from taking what was given up: whoever
// shares the volume with something that grows without bound should not.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Level is how much room there is, and so what may be written.
type Level int32

// Levels, from the best down.
const (
	Ample Level = iota // everything
	Low                // less than a reserve is free beside it: what can wait does
	Full               // the reserve is in use: only what it was kept for
)

func (l Level) String() string {
	switch l {
	case Ample:
		return "ample"
	case Low:
		return "low"
	}
	return "full"
}

// The bounds between the levels, in parts of the reserve that are free beside it. Each is passed upwards a
// little later than downwards, or a level that follows from what it stops would come and go.
const (
	parts     = 8
	lowBelow  = 8 // Ample becomes Low
	ampleFrom = 10
	fullBelow = 1 // the reserve is given up
	makeFrom  = 2 // left beside a reserve that is made again
)

// spentBelow is how many octets are next to nothing: a database may need as many for one transaction.
const spentBelow = 1 << 20

// Config of a Room.
type Config struct {
	Path   string   // of the reserve; the volume that it lies on is the one that is watched
	Size   int64    // octets of the reserve; 0: none is kept, and nothing is watched
	Others []string // folders whose volumes must not run low either; they need not be there

	// Free says how many octets can still be written to the volume of a folder; nil asks the kernel.
	Free func(dir string) (int64, error)
}

// State is what a look found.
type State struct {
	Level   Level
	Free    int64  // octets, on the volume of the reserve, and beside it
	Reserve int64  // octets that are laid by; 0: given up, or none is kept
	Short   string // the folder whose volume makes the level what it is; empty where it is Ample
	Spent   bool   // Full, and what the reserve gave is used up: nothing may be left to write anything with
}

// Room is the room that a program has. Its methods may be called from any goroutine.
type Room struct {
	c     Config
	level atomic.Int32
	mu    sync.Mutex // guards the reserve's file; held while it is made or given up
}

// New makes a Room. It touches nothing before the first [Room.Look].
func New(c Config) *Room {
	if c.Free == nil {
		c.Free = Free
	}
	return &Room{c: c}
}

// Level is what the last look found; Ample before the first one.
func (r *Room) Level() Level { return Level(r.level.Load()) }

// See tells how it stands and changes nothing, for whoever only looks.
func (r *Room) See() (State, error) {
	if r.c.Size <= 0 {
		return State{}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.see(r.Level())
}

// see judges by what the level was. Callers hold mu.
func (r *Room) see(was Level) (s State, err error) {
	dir := filepath.Dir(r.c.Path)
	if s.Free, err = r.c.Free(dir); err != nil {
		return s, fmt.Errorf("ask how much room there is: %w", err)
	}
	switch info, err := os.Stat(r.c.Path); {
	case err == nil:
		s.Reserve = info.Size()
	case !errors.Is(err, fs.ErrNotExist):
		return s, fmt.Errorf("look at the reserve: %w", err)
	}
	beside := s.Free - max(0, r.c.Size-s.Reserve) // once it is whole
	switch {
	case s.Reserve < r.c.Size && beside < r.part(makeFrom), beside < r.part(fullBelow):
		s.Level, s.Short, s.Spent = Full, dir, s.Reserve == 0 && s.Free < min(spentBelow, r.part(1))
	case beside < r.part(bound(was)):
		s.Level, s.Short = Low, dir
	}
	for _, other := range r.c.Others {
		free, err := r.c.Free(other)
		if errors.Is(err, fs.ErrNotExist) {
			continue // whoever needs it says so
		}
		if err != nil {
			return s, fmt.Errorf("ask how much room there is: %w", err)
		}
		if s.Level == Ample && free < r.part(bound(was)) {
			s.Level, s.Short = Low, other
		}
	}
	return s, nil
}

func bound(was Level) int64 {
	if was == Ample {
		return lowBelow
	}
	return ampleFrom
}

func (r *Room) part(n int64) int64 { return r.c.Size / parts * n }

// Look measures, and gives the reserve up or makes it again as that calls for. An error leaves the level as it was.
func (r *Room) Look() (State, error) {
	if r.c.Size <= 0 {
		return State{}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.Level()
	s, err := r.see(was)
	if err != nil {
		return s, err
	}
	switch {
	case s.Level == Full && s.Reserve > 0:
		err = r.giveUp()
	case s.Level != Full && s.Reserve != r.c.Size:
		err = r.lay()
	}
	if err != nil {
		s.Level, s.Short = Full, filepath.Dir(r.c.Path)
	} else if s, err = r.see(was); err != nil {
		return s, err
	}
	r.level.Store(int32(s.Level))
	return s, err
}

// Spend gives the reserve up at once, for a write that found the disk full. It returns false where there was
// none left to give.
func (r *Room) Spend() bool {
	if r.c.Size <= 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.level.Store(int32(Full))
	info, err := os.Stat(r.c.Path)
	return err == nil && info.Size() > 0 && r.giveUp() == nil
}

// giveUp returns the blocks. The file is cut before it is removed: a name that cannot be removed must not keep them.
func (r *Room) giveUp() error {
	if err := os.Truncate(r.c.Path, 0); err != nil {
		return fmt.Errorf("give up the reserve: %w", err)
	}
	if err := os.Remove(r.c.Path); err != nil {
		return fmt.Errorf("give up the reserve: %w", err)
	}
	return nil
}

// lay makes the reserve, of blocks that the volume really has.
func (r *Room) lay() (err error) {
	f, err := os.OpenFile(r.c.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make the reserve: %w", err)
	}
	if err = allocate(f, r.c.Size); err == nil {
		err = f.Truncate(r.c.Size) // of one that was larger
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = r.giveUp() // half a reserve would be counted as none and take space all the same
		return fmt.Errorf("make the reserve: %w", err)
	}
	return nil
}
