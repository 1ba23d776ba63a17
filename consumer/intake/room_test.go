package intake

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"jmlbridge/internal/disk"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/memqueue"
	"jmlbridge/internal/store"
	"jmlbridge/schema"
)

// volume is a room whose free space the test decides.
type volume struct {
	*disk.Room
	free atomic.Int64
}

func (v *volume) Full(error) bool { return false }

func newVolume(t *testing.T) *volume {
	t.Helper()
	v := &volume{}
	v.free.Store(1 << 30)
	v.Room = disk.New(disk.Config{Path: filepath.Join(t.TempDir(), "reserve"), Size: 80 << 10, Free: func(string) (int64, error) { return v.free.Load(), nil }})
	v.look(t)
	return v
}

func (v *volume) look(t *testing.T) {
	t.Helper()
	if _, err := v.Look(); err != nil {
		t.Fatal(err)
	}
}

// On a full disk a leaver goes past the joiners before him, that is no gap, and with room again everything is
// taken in, in its order.
func TestAFullDiskTakesInCutsOnly(t *testing.T) {
	w, p := setup(t)
	v := newVolume(t)
	q := memqueue.New(memqueue.Options{})
	publish(t, q, p.joiner("ann", 1))
	r := w.run(q, func(c *Config) { c.Room = v })
	r.until("the joiner is in", func() bool { return w.stream().Head == 1 })
	v.free.Store(0)
	v.look(t)
	for i := range 30 {
		publish(t, q, p.joiner(fmt.Sprint(i), 1))
	}
	publish(t, q, p.leaver("ann", 1), p.mover("5", 1), p.heartbeat())
	r.until("the leaver is out", func() bool { return w.stream().Highest == 34 })
	if s := w.stream(); s.Head != 1 || access(w, "ann").Access || access(w, "3").Access {
		t.Errorf("on a full disk: head %d, ann %+v", s.Head, access(w, "ann"))
	}
	if got := w.alarms(); len(got) > 0 {
		t.Errorf("alarms %q: nothing is missing", got)
	}
	r.until("cut and heartbeat are settled, and nothing else", func() bool { return q.Len() == 31 })

	v.free.Store(1 << 30)
	v.look(t)
	r.until("everything is in", func() bool { return w.stream().Head == 34 && q.Len() == 0 })
	if !access(w, "3").Access || access(w, "ann").Access {
		t.Error("with room again: somebody has not what was said")
	}
	r.stop()
	r.end()
	if got := strings.Join(w.entries(), "\n"); strings.Contains(got, "raised") {
		t.Errorf("an alarm was raised on the way:\n%s", got)
	}
}

// What is truly missing is a gap on a full disk too, and a program that is killed then gets it all again.
func TestAFullDiskHidesNoGap(t *testing.T) {
	w, p := setup(t)
	v := newVolume(t)
	v.free.Store(0)
	v.look(t)
	q := memqueue.New(memqueue.Options{})
	first := p.joiner("ann", 1)
	lost := p.joiner("bob", 1)
	publish(t, q, first, p.leaver("eve", 1))
	r := w.run(q, func(c *Config) { c.Room = v })
	r.until("a gap", func() bool { return slices.Contains(w.alarms(), "gap") })
	r.kill()
	r.end()

	q2 := memqueue.New(memqueue.Options{})
	publish(t, q2, first, lost)
	v.free.Store(1 << 30)
	v.look(t)
	r = w.run(q2, func(c *Config) { c.Room = v })
	r.until("the gap is closed", func() bool { return w.stream().Head == 3 && len(w.alarms()) == 0 })
	r.stop()
	r.end()
}

// What a full disk keeps in memory is bounded; a program that is asked to stop meanwhile does.
func TestAFullDiskBoundsTheLine(t *testing.T) {
	w, p := setup(t)
	in := w.intake()
	v := newVolume(t)
	v.free.Store(0)
	v.look(t)
	in.Room = v
	for range lineMessages - 1 {
		in.line = append(in.line, &item{placed: true, frame: schema.Frame{Kind: schema.KindJoiner}})
	}
	if in.blocked() {
		t.Error("blocked one too early")
	}
	in.join([]*item{{placed: true, wire: schema.Digest{1}}})
	in.join([]*item{{placed: true, wire: schema.Digest{1}, delivery: queue.Delivery{Lease: 2}}})
	if last := in.line[lineMessages-1]; len(in.line) != lineMessages || last.delivery.Lease != 2 || !in.blocked() {
		t.Errorf("%d in the line, the last with lease %v", len(in.line), last.delivery.Lease)
	}
	in.line = []*item{{body: make([]byte, lineOctets)}}
	if !in.blocked() {
		t.Error("octets do not count")
	}
	in.line = nil

	q := memqueue.New(memqueue.Options{})
	publish(t, q, p.joiner("ann", 1))
	r := w.run(q, func(c *Config) { c.Room = v })
	r.stop()
	r.end()
	if q.Len() != 1 {
		t.Error("what was not taken in was settled")
	}
}

// Nobody's place is past what waits: in the order of the mid-point a start goes on before it.
func TestAFullDiskKeepsThePosition(t *testing.T) {
	w, p := setup(t)
	in := w.intake()
	v := newVolume(t)
	in.Room = v
	v.free.Store(0)
	v.look(t)
	var batch []queue.Delivery
	for i, m := range []sealed{p.leaver("ann", 1), p.joiner("bob", 1), p.leaver("eve", 1)} {
		batch = append(batch, queue.Delivery{Body: m.wire, Position: fmt.Append(nil, i)})
	}
	items, err := in.open(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	in.join(items)
	now, later := in.next()
	if len(now) != 2 || len(later) != 1 || string(now[0].delivery.Position) != "0" || now[1].delivery.Position != nil {
		t.Errorf("now %d, later %d", len(now), len(later))
	}
}

// crowded is a volume on which writes find no room.
type crowded struct{ *disk.Room }

func (c crowded) Full(err error) bool {
	if !store.IsFull(err) {
		return false
	}
	c.Spend()
	return true
}

// A database that cannot grow takes nothing in, settles nothing and stops nothing. What waits meanwhile is judged by the
// keys that are trusted once there is room.
func TestADatabaseThatCannotGrow(t *testing.T) {
	w, p := setup(t)
	x := newProducer(t, "hr", w.to)
	x.seq, x.generation, x.prev = 4, 2, schema.DigestOf([]byte("4"))
	in := w.intake()
	in.Room = crowded{newVolume(t).Room}
	grow := func(pages string) {
		var n int64
		w.update(func(tx *store.Tx) error { return tx.QueryRow("PRAGMA max_page_count = " + pages).Scan(&n) })
	}
	const before = 100 // more than fit into the pages that there are
	batch := []queue.Delivery{{Body: p.joiner("1", 1).wire}}
	for range before {
		batch = append(batch, queue.Delivery{Body: p.heartbeat().wire})
	}
	batch = append(batch, queue.Delivery{Body: x.leaver("1", 1).wire})
	grow("1") // none further
	taken, err := in.Take(t.Context(), batch)
	if err != nil || len(taken) > 0 || in.Room.Level() != disk.Full || w.stream().Head > 0 {
		t.Fatalf("took %d, %v, on a disk that is %s, up to %d; want nothing taken, and no error", len(taken), err, in.Room.Level(), w.stream().Head)
	}
	grow("1000000")
	w.trust(x)
	w.sweep()
	in.Room = endless{}
	if taken, err = in.Take(t.Context(), nil); err != nil || len(taken) != len(batch) || w.stream().Head != before+1 {
		t.Errorf("with room again took %d of %d, %v, up to %d", len(taken), len(batch), err, w.stream().Head)
	}
	if access(w, "1").Access {
		t.Error("the cut by the key that is trusted by now waits")
	}
}
