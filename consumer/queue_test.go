package main

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/queue"
)

// Dead letters that cannot be read are an alarm for as long as they cannot, and nothing is written by a run that ends.
func TestAsideUnread(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	c := &child{runner: &runner{app: &app{now: time.Now}, db: db, log: slog.New(slog.DiscardHandler)}}
	c.begin()
	for i, step := range []struct{ read, ends, want bool }{
		{read: true}, {want: true}, {want: true}, {read: true}, {want: true}, {read: true, ends: true, want: true},
	} {
		if step.ends {
			c.stop()
		}
		c.unread.Store(!step.read)
		c.aside()
		list, err := state.Alarms(db.Read())
		if err != nil {
			t.Fatal(err)
		}
		if stands := slices.ContainsFunc(list, func(a state.Alarm) bool { return a.Code == alarmUnread }); stands != step.want {
			t.Errorf("step %d: the alarm stands: %t, expected %t", i, stands, step.want)
		}
	}
}

// What the process that speaks to the mid-point does while a run still begins is recorded behind the run's first entry, which ends the
// alarms of the run before it; a run that does not come so far records nothing.
func TestAlarmsWaitForTheFirstEntry(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	c := &child{runner: &runner{app: &app{now: time.Now}, db: db, log: slog.New(slog.DiscardHandler)}}
	defer c.stop()
	standing := func() (codes []string) {
		list, err := state.Alarms(db.Read())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			codes = append(codes, a.Code)
		}
		slices.Sort(codes)
		return codes
	}
	c.replaced()
	c.unread.Store(true)
	c.aside()
	if got := standing(); len(got) > 0 {
		t.Errorf("before the first entry there stand %v", got)
	}
	c.begin()
	if got := standing(); !slices.Equal(got, []string{alarmUnread, alarmProcess}) {
		t.Errorf("behind it there stand %v", got)
	}
}

// An alarm of the process that could not be recorded, as on a full disk, is recorded later, as it is by then.
func TestAlarmThatCouldNotBeRecorded(t *testing.T) {
	f := newFiles(t)
	f.init()
	db, closed := f.open(), f.open()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	r := &runner{app: &app{now: time.Now}, log: slog.New(slog.DiscardHandler)}
	for i, step := range []struct {
		err    error // of a fetch
		broken bool
	}{
		{queue.ErrUnreachable, true}, {nil, true}, {queue.ErrUnreachable, false}, {queue.ErrRefused, true}, {nil, false},
	} {
		if r.db = db; step.broken {
			r.db = closed
		}
		r.midpoint(step.err == queue.ErrRefused, step.err == queue.ErrUnreachable)
		r.db = db
		r.again()
		r.again()
		list, err := state.Alarms(db.Read())
		if err != nil {
			t.Fatal(err)
		}
		var codes []string
		for _, a := range list {
			codes = append(codes, a.Code)
		}
		want := map[error][]string{queue.ErrUnreachable: {alarmUnreachable}, queue.ErrRefused: {alarmRefused}}[step.err]
		if !slices.Equal(codes, want) {
			t.Errorf("step %d: there stand %v, want %v", i, codes, want)
		}
	}
}

// fetches answers each fetch with the next error, a second after the last.
type fetches struct {
	queue.Receiver
	next func() error
}

func (f fetches) Fetch(context.Context, int) ([]queue.Delivery, error) {
	time.Sleep(time.Second)
	return nil, f.next()
}

// A mid-point that lets in and refuses by turns writes few entries, and one that is well again is told at once.
func TestAlarmsOfTheMidpointAreDamped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now error
		var told int
		var refused, unreachable bool
		q := &watchedQueue{Receiver: fetches{next: func() error { return now }}, changed: func(r, u bool) { told++; refused, unreachable = r, u }}
		fetch := func(err error) {
			now = err
			if _, got := q.Fetch(t.Context(), 1); got != err {
				t.Fatal(got)
			}
		}
		for i, step := range []struct {
			err                  error
			refused, unreachable bool
		}{{}, {err: queue.ErrUnreachable, unreachable: true}, {}, {err: queue.ErrRefused, refused: true}, {}} {
			if fetch(step.err); refused != step.refused || unreachable != step.unreachable {
				t.Errorf("step %d: refused %t, unreachable %t", i, refused, unreachable)
			}
		}
		told = 0
		for range 3 * 3600 / 3 { // three hours
			fetch(queue.ErrRefused)
			fetch(queue.ErrUnreachable)
			fetch(nil)
		}
		if told > 20 || !refused || !unreachable {
			t.Errorf("told %d times; refused %t, unreachable %t", told, refused, unreachable)
		}
		for range 15 * 60 {
			fetch(nil)
		}
		if refused || unreachable {
			t.Errorf("after a quarter of an hour that was good: refused %t, unreachable %t", refused, unreachable)
		}
	})
}
