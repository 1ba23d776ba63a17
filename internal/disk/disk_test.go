package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const size = 800 << 10 // of the reserve: an eighth is 100 KiB

// volume is one whose room the test decides; the reserve takes some of it.
type volume struct {
	reserve string
	total   int64 // octets without the reserve's
	err     error
}

func (v *volume) free(string) (int64, error) {
	if info, err := os.Stat(v.reserve); err == nil {
		return max(0, v.total-info.Size()), v.err
	}
	return max(0, v.total), v.err
}

func room(t *testing.T) (*Room, *volume) {
	t.Helper()
	v := &volume{reserve: filepath.Join(t.TempDir(), "reserve")}
	return New(Config{Path: v.reserve, Size: size, Free: v.free}), v
}

// The levels follow the room, and none comes and goes at its own bound.
func TestLevels(t *testing.T) {
	r, v := room(t)
	for i, step := range []struct {
		free    int64 // in KiB, of the volume without a reserve
		level   Level
		reserve int64
	}{
		{3000, Ample, size},
		{1600, Ample, size}, // 800 beside it
		{1590, Low, size},   // 790
		{1700, Low, size},   // 900: not yet
		{1800, Ample, size}, // 1000
		{1000, Low, size},   // 200
		{901, Low, size},
		{899, Full, 0},    // 99 beside it: given up
		{990, Full, 0},    // a new one would leave 190
		{1000, Low, size}, // leaves 200
		{10, Full, 0},     // at once
		{0, Full, 0},
		{5000, Ample, size}, // and back at once
	} {
		v.total = step.free << 10
		s, err := r.Look()
		if err != nil {
			t.Fatal(err)
		}
		if s.Level != step.level || s.Reserve != step.reserve || r.Level() != s.Level {
			t.Errorf("step %d, %d KiB: got %v with a reserve of %d, want %v with %d", i, step.free, s.Level, s.Reserve, step.level, step.reserve)
		}
		if (s.Short == "") != (s.Level == Ample) {
			t.Errorf("step %d: level %v because of %q", i, s.Level, s.Short)
		}
		seen, err := r.See()
		if spent := step.free < 100; seen.Spent != spent {
			t.Errorf("step %d, %d KiB: used up %v, want %v", i, step.free, seen.Spent, spent)
		}
		if err != nil || seen.Level != s.Level {
			t.Errorf("step %d: who only looks sees %v, %v", i, seen.Level, err)
		}
		if info, err := os.Stat(v.reserve); err == nil && info.Size() != step.reserve || err != nil && step.reserve > 0 {
			t.Errorf("step %d: the reserve is %v, %v", i, info, err)
		}
	}
}

// A write that fails gets the reserve at once, and once.
func TestSpend(t *testing.T) {
	r, v := room(t)
	v.total = 5000 << 10
	if _, err := r.Look(); err != nil {
		t.Fatal(err)
	}
	if !r.Spend() || r.Level() != Full {
		t.Error("the reserve was not given")
	}
	if r.Spend() {
		t.Error("it was given twice")
	}
	if s, err := r.Look(); err != nil || s.Level != Ample {
		t.Errorf("with room again: %+v, %v", s, err)
	}
}

// Another volume can only make it low.
func TestOthers(t *testing.T) {
	dir := t.TempDir()
	other := map[string]int64{"ledger": 5000 << 10}
	r := New(Config{Path: filepath.Join(dir, "reserve"), Size: size, Others: []string{"ledger", "unmounted"}, Free: func(d string) (int64, error) {
		if d == "unmounted" {
			return 0, fmt.Errorf("volume of %s: %w", d, fs.ErrNotExist)
		}
		if free, ok := other[d]; ok {
			return free, nil
		}
		return 5000 << 10, nil
	}})
	for _, step := range []struct {
		free  int64
		level Level
		short string
	}{{5000 << 10, Ample, ""}, {0, Low, "ledger"}, {850 << 10, Low, "ledger"}, {1000 << 10, Ample, ""}} {
		other["ledger"] = step.free
		if s, err := r.Look(); err != nil || s.Level != step.level || s.Short != step.short {
			t.Errorf("%d octets there: %+v, %v", step.free, s, err)
		}
	}
}

// A volume that cannot be asked changes nothing.
func TestUnknown(t *testing.T) {
	r, v := room(t)
	v.total = 1590 << 10
	if _, err := r.Look(); err != nil || r.Level() != Low {
		t.Fatalf("level %v, %v", r.Level(), err)
	}
	v.err, v.total = errors.New("gone"), 5000<<10
	if _, err := r.Look(); err == nil || r.Level() != Low {
		t.Errorf("level %v, %v", r.Level(), err)
	}
}

// Without a reserve nothing is watched.
func TestNone(t *testing.T) {
	r := New(Config{Path: filepath.Join(t.TempDir(), "reserve"), Free: func(string) (int64, error) { return 0, nil }})
	if s, err := r.Look(); err != nil || s.Level != Ample || r.Spend() {
		t.Errorf("%+v, %v", s, err)
	}
}

// The reserve is of real blocks, also where the volume has to be written to for that.
func TestBlocks(t *testing.T) {
	for name, allocate := range map[string]func(*os.File, int64) error{"allocated": allocate, "written": fill} {
		path := filepath.Join(t.TempDir(), "reserve")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := allocate(f, size); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Size != size || st.Blocks*512 < size {
			t.Errorf("%s: %d octets in %d blocks of 512, %v", name, st.Size, st.Blocks, err)
		}
	}
}

// Another size takes effect, and who only looks knows what a run would make of it.
func TestResize(t *testing.T) {
	r, v := room(t)
	v.total = 5000 << 10
	if s, err := r.See(); err != nil || s.Level != Ample || s.Reserve != 0 {
		t.Errorf("before it is made: %+v, %v", s, err)
	}
	for _, octets := range []int64{size, 2 * size, size / 2} {
		r := New(Config{Path: v.reserve, Size: octets, Free: v.free})
		if s, err := r.Look(); err != nil || s.Level != Ample || s.Reserve != octets {
			t.Errorf("a reserve of %d: %+v, %v", octets, s, err)
		}
	}
}
