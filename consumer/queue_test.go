package main

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"jmlbridge/consumer/state"
)

// Dead letters that cannot be read are an alarm for as long as they cannot, and nothing is written by a run that ends.
func TestAsideUnread(t *testing.T) {
	f := newFiles(t)
	f.init()
	db := f.open()
	c := &child{runner: &runner{app: &app{now: time.Now}, db: db, log: slog.New(slog.DiscardHandler)}}
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
