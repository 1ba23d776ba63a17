package sim

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"jmlbridge/internal/disk"
	"jmlbridge/internal/store"
)

// reserve is what the enclave's program lays by, in octets.
const reserve = 8

// boundless is as many pages as SQLite can count.
const boundless = 4294967294

// room is the real watch over a volume of which the schedule says how full it is. While it is stuffed, the database has so
// many pages and SQLite refuses to make it larger, as it does where the volume has no more.
type room struct {
	*disk.Room
	c     *consumer
	path  string
	left  int64 // octets that others leave beside the reserve
	most  int64 // pages of the database; 0: as many as it likes
	laid  int64 // pages for which the reserve stands
	spent bool  // a write found the disk full that had no reserve left
}

func newRoom(c *consumer) *room {
	r := &room{c: c, path: filepath.Join(c.w.dir, "reserve"), left: 100 * reserve}
	r.Room = disk.New(disk.Config{Path: r.path, Size: reserve, Free: r.free})
	return r
}

// Full implements the Room of the intake and of the executor.
func (r *room) Full(err error) bool {
	if !store.IsFull(err) {
		return false
	}
	r.c.w.tracef("  a write finds the disk full: %v", err)
	if r.Spend() {
		r.given()
	} else {
		r.spent = true
	}
	return true
}

// given makes room of what the reserve was.
func (r *room) given() {
	if r.most > 0 {
		r.most += r.laid
		r.bound(r.most)
	}
}

// bound keeps the database to so many pages, or to those that it has.
func (r *room) bound(pages int64) {
	err := r.c.db.Tx(context.Background(), func(tx *store.Tx) error {
		return tx.QueryRow(fmt.Sprintf("PRAGMA max_page_count = %d", pages)).Scan(&pages)
	})
	if err != nil {
		r.c.w.broken("bound the database: %v", err)
	}
}

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
	if c.room.left = left; c.room.most > 0 && left > 0 {
		c.room.most = 0
		c.room.bound(boundless)
	}
	c.measure()
}

func (c *consumer) measure() {
	before, _ := os.Stat(c.room.path)
	s, err := c.room.Look()
	if err != nil {
		c.w.broken("look at the room on the disk: %v", err)
	}
	if before != nil && s.Reserve == 0 {
		c.room.given()
	}
	c.w.tracef("the room on the disk is %s", s.Level)
}

// stuff leaves the database no page more than it has, beside those of the reserve. The program looks now, or a write
// tells it.
func (c *consumer) stuff() {
	r := c.room
	if r.most > 0 {
		return
	}
	r.left, r.laid = 0, 1+c.w.rng.Int64N(1+c.w.rng.Int64N(40))
	if err := c.db.Read().QueryRow("PRAGMA page_count").Scan(&r.most); err != nil {
		c.w.broken("ask how large the database is: %v", err)
	}
	c.w.tracef("the disk is full at %d pages, and %d of the reserve", r.most, r.laid)
	if _, err := os.Stat(r.path); err != nil { // given up before
		r.most += r.laid
	}
	r.bound(r.most)
	if c.w.chance(20) {
		c.measure()
	}
}

// outgrown lets f write whatever the room: it is another program's.
func (r *room) outgrown(f func()) {
	if r.most > 0 {
		r.bound(boundless)
		defer func() { r.bound(r.most) }()
	}
	f()
}

// present tells whether a message is in the archive or among the parked ones.
func (c *consumer) present(x *message) (yes bool) {
	err := c.db.Read().QueryRow("SELECT EXISTS (SELECT 1 FROM message WHERE payload = ?1) OR EXISTS (SELECT 1 FROM parked WHERE wire = ?2)", x.truth.Hash[:], digest(x.body)).Scan(&yes)
	if err != nil {
		c.w.broken("look for a message: %v", err)
	}
	return yes
}

// owed tells whether messages of a producer wait for room, or are to come again since there was none: what their
// absence looks like is not held against the model.
func (c *consumer) owed(p *producer) bool {
	if c.unswept {
		return true
	}
	of := func(x *message) bool { return x.from == p }
	return slices.ContainsFunc(c.line, of) || slices.ContainsFunc(slices.Collect(maps.Keys(c.dropped)), of)
}
