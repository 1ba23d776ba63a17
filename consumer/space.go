package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"jmlbridge/consumer/state"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/store"
)

// Codes of the alarms on the room that is left.
const (
	alarmDiskLow  = "disk-low"
	alarmDiskFull = "disk-full"
)

// roomEvery is how often the room is measured. A write that finds the disk full does not wait for it.
const roomEvery = time.Second

// roomConfig is where the reserve lies, and whose room counts.
func (c *Config) roomConfig() disk.Config {
	return disk.Config{Path: c.Database + ".reserve", Size: c.Disk.ReserveMiB << 20, Others: []string{c.Ledger.Dir}}
}

// space is the room on the disk, as the parts of a run ask for it.
type space struct {
	*disk.Room
	log *slog.Logger

	mu   sync.Mutex // guards told
	told time.Time  // when a full disk without a reserve was last logged
}

func newSpace(c disk.Config, log *slog.Logger) *space { return &space{Room: disk.New(c), log: log} }

// Full implements the Room of intake and apply.
func (s *space) Full(err error) bool {
	if !store.IsFull(err) {
		return false
	}
	gave := s.Spend()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !gave {
		now := time.Now()
		if now.Sub(s.told) < time.Minute {
			return true
		}
		s.told = now
	}
	s.log.Error("the disk is full", "reserve_given_up", gave, "err", oneLine(err))
	return true
}

// spentText is what stands when the reserve is full as well.
const spentText = "the disk is full, and the reserve is used up: nothing can be recorded, so nothing is taken in and nobody is cut. Make room at once; until then disable leavers by hand"

// roomAlarm is what stands at a level; the zero Alarm where nothing does.
func roomAlarm(s disk.State, reserve int64, now time.Time) state.Alarm {
	switch s.Level {
	case disk.Low:
		return state.Alarm{Code: alarmDiskLow, Severity: state.Warning, Last: now, Text: fmt.Sprintf(
			"less than %d MiB are free where the database or the ledger lies: what gives waits, and what deletes; cuts go on", reserve>>20)}
	case disk.Full:
		if s.Spent {
			return state.Alarm{Code: alarmDiskFull, Severity: state.Critical, Last: now, Text: spentText}
		}
		return state.Alarm{Code: alarmDiskFull, Severity: state.Critical, Last: now, Text: fmt.Sprintf(
			"the disk is full, and the reserve of %d MiB is in use: only what takes access away is taken in and done; when that is full too, nothing is", reserve>>20)}
	}
	return state.Alarm{}
}

// room measures what is left, and makes the alarm on it that of the level.
func (w *watch) room(ctx context.Context) {
	if since := time.Since(w.measured); since >= 0 && since < roomEvery {
		return
	}
	w.measured = time.Now()
	s, err := w.space.Look()
	if err != nil && !w.blind {
		w.log.Error("could not look after the room on the disk", "err", oneLine(err))
	}
	w.blind = err != nil
	if s.Level == w.level && w.levelled || err != nil && s.Level != disk.Full {
		return
	}
	changed := s.Level != w.level
	if changed {
		w.log.Warn("room on the disk", "level", s.Level.String(), "free", s.Free, "reserve", s.Reserve)
		w.level, w.levelled = s.Level, false
	}
	stands := roomAlarm(s, w.cfg.roomConfig().Size, w.now())
	err = w.db.Tx(ctx, func(tx *store.Tx) error {
		for _, code := range []string{alarmDiskLow, alarmDiskFull} {
			if code == stands.Code {
				continue
			}
			if _, err := state.ClearAlarm(tx, code, "", w.now()); err != nil {
				return err
			}
		}
		if stands.Code == "" {
			return nil
		}
		_, err := state.RaiseAlarm(tx, stands)
		return err
	})
	if w.levelled = err == nil; err != nil && changed && ctx.Err() == nil {
		w.log.Error("could not record the alarm on the disk; trying again", "code", stands.Code, "err", oneLine(err))
	}
	for _, f := range w.wake {
		f()
	}
}
