package sim

import (
	"os"
	"path/filepath"

	"jmlbridge/internal/disk"
)

// reserve is what the enclave's program lays by, in octets.
const reserve = 8

// room is the real watch over a volume of which the schedule says how full it is. Writes find room in any case: what a
// full disk does to them is tested where they are made.
type room struct {
	*disk.Room
	path string
	left int64 // octets that others leave beside the reserve
}

func newRoom(dir string) *room {
	r := &room{path: filepath.Join(dir, "reserve"), left: 100 * reserve}
	r.Room = disk.New(disk.Config{Path: r.path, Size: reserve, Free: r.free})
	return r
}

// Full implements the Room of the executor.
func (r *room) Full(error) bool { return false }

func (r *room) free(string) (int64, error) {
	info, err := os.Stat(r.path)
	if os.IsNotExist(err) {
		return r.left + reserve, nil
	}
	if err != nil {
		return 0, err
	}
	return r.left + reserve - info.Size(), nil
}

// fill is how much others leave from now on. The program looks at once.
func (c *consumer) fill(left int64) {
	c.room.left = left
	s, err := c.room.Look()
	if err != nil {
		c.w.broken("look at the room on the disk: %v", err)
	}
	c.w.tracef("the room on the disk is %s", s.Level)
}
