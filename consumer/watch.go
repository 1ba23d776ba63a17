package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"time"

	"jmlbridge/consumer/admit"
	"jmlbridge/consumer/alarms"
	"jmlbridge/consumer/state"
	"jmlbridge/internal/disk"
	"jmlbridge/internal/ledger"
	"jmlbridge/internal/liveness"
	"jmlbridge/internal/program"
	"jmlbridge/internal/store"
)

// watch looks after what is outside the data path: it notices what operators' commands changed in the
// database and wakes whoever must act on it, keeps the alarms file and the liveness file, and compares
// the clock with itself. It belongs to one goroutine.
type watch struct {
	*runner
	wake  []func()
	conn  *sql.Conn // a connection of its own: data_version counts what others committed
	file  *alarms.File
	far   *alarms.Collector // nil: there is none
	seen  int64
	clock time.Time // the last reading
	alive time.Time // the last write of the liveness file

	claimed time.Time    // when to look next at the accounts that a lost database knew
	told    *state.Alarm // as it was left on those; nil: not known

	unwritten string // why the alarms file could not be written, as it was logged
	folder    bool   // its folder is there, as the alarm on that has it

	measured time.Time  // the room on the disk
	level    disk.Level // of the room when it was last measured
	levelled bool       // the alarm on it is that level's
	blind    bool       // the last measurement failed
}

func (r *runner) newWatch(ctx context.Context, wake ...func()) (*watch, error) {
	file, err := alarms.Open(r.cfg.Alarms.File)
	if err != nil { // no leaver waits for that
		r.log.Error("what the alarms file says is not known; what stands is written to it again", "err", oneLine(err))
	}
	conn, err := r.db.Read().Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch the database: %w", err)
	}
	w := &watch{runner: r, wake: wake, conn: conn, file: file, clock: time.Now(), folder: r.cfg.unwrittenAlarms() != ""}
	if r.collector != nil {
		w.far = alarms.NewCollector(r.collector)
	}
	return w, nil
}

func (w *watch) close() { _ = w.conn.Close() }

// run looks until ctx ends.
func (w *watch) run(ctx context.Context) error {
	tick := time.NewTicker(min(watchEvery, w.cfg.Liveness.Interval.D()))
	defer tick.Stop()
	for {
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (w *watch) look(ctx context.Context) error {
	w.room(ctx)
	w.again()
	if err := w.time(ctx); err != nil && !w.space.Full(err) {
		return err
	}
	if err := w.claims(ctx); err != nil && !w.space.Full(err) {
		return err
	}
	var version int64
	if err := w.conn.QueryRowContext(ctx, `PRAGMA data_version`).Scan(&version); err != nil {
		return fmt.Errorf("watch the database: %w", err)
	}
	if version != w.seen {
		w.seen = version
		for _, f := range w.wake {
			f()
		}
		w.alarms()
	}
	if d := time.Since(w.alive); d >= w.cfg.Liveness.Interval.D() {
		w.alive = time.Now()
		w.live()
	}
	return nil
}

// last brings the alarms file up to what the last work left.
func (w *watch) last() { w.alarms() }

// time compares the wall clock with the monotonic one. The readings are the machine's, whatever clock
// the rules go by.
func (w *watch) time(ctx context.Context) error {
	now := time.Now()
	j := between(w.clock, now)
	if j != nil {
		w.log.Error("the clock jumped", "offset", j.Offset().String())
		if err := w.db.Tx(ctx, func(tx *store.Tx) error { return j.Record(tx, w.now()) }); err != nil {
			return err
		}
	}
	w.clock = now
	return nil
}

// alarms writes what changed to the alarms file. A file that cannot be written is no reason to stop: the
// alarms stand in status, and the next change tries again.
func (w *watch) alarms() {
	standing, err := state.Alarms(w.db.Read())
	if err == nil {
		lines := make([]alarms.Line, len(standing))
		for i, a := range standing {
			lines[i] = alarms.Line{Code: a.Code, Key: a.Key, Severity: a.Severity.String(), Since: a.Since.UTC(), Text: a.Text, Do: alarms.Advice(a.Code)}
		}
		if w.far != nil { // first: it does not depend on the disk
			w.far.Sync(lines, w.now())
		}
		err = w.file.Sync(lines, w.now())
	}
	if text := w.cfg.unwrittenAlarms(); (text == "") != w.folder {
		w.folder = text == ""
		w.stands(state.Alarm{Code: alarmUnwritten, Severity: state.Warning, Text: text}, !w.folder)
	}
	if err != nil {
		w.seen = -1 // try again
		if text := oneLine(err); text != w.unwritten {
			w.log.Error("could not write the alarms file; trying again", "err", text)
		}
		w.unwritten = oneLine(err)
	} else {
		w.unwritten = ""
	}
}

// unwrittenAlarms says why no alarm can be written to their file, though there may be none yet; empty: its folder is there.
func (c *Config) unwrittenAlarms() string {
	if isFolder(filepath.Dir(c.Alarms.File)) {
		return ""
	}
	return "the folder of alarms.file is not there: no alarm is written to it"
}

// livenessFile is for a dead man's switch: when its time does not move, nobody cuts leavers.
type livenessFile struct {
	liveness.Beat
	Mode       string         `json:"mode"`
	Version    string         `json:"version"`
	LedgerSize int64          `json:"ledger_size"`
	Heartbeats []livenessBeat `json:"heartbeats"`
	Alarms     map[string]int `json:"alarms"` // by severity
}

type livenessBeat struct {
	Issuer     string   `json:"iss"`
	Stream     string   `json:"stream"`
	Generation int      `json:"generation"`
	Head       uint64   `json:"head"`
	Age        *float64 `json:"age_seconds"` // of the last valid heartbeat; null: never
}

func (w *watch) live() {
	l, err := w.liveness()
	if err == nil {
		err = liveness.Write(w.cfg.Liveness.File, l)
	}
	if err != nil {
		w.log.Error("could not write the liveness file", "err", oneLine(err))
	}
}

func (w *watch) liveness() (*livenessFile, error) {
	now := w.now()
	l := &livenessFile{Beat: liveness.BeatAt(now, w.cfg.Liveness.Interval.D()), Mode: w.mode(), Version: program.Version(), Heartbeats: []livenessBeat{}, Alarms: map[string]int{}}
	var err error
	if l.LedgerSize, err = ledger.Size(w.db.DB); err != nil {
		return nil, err
	}
	streams, err := state.Streams(w.db.Read())
	if err != nil {
		return nil, err
	}
	for _, s := range streams {
		if s.State == admit.Closed {
			continue
		}
		b := livenessBeat{Issuer: s.Issuer, Stream: s.Name, Generation: s.Generation, Head: s.Head}
		if !s.HeartbeatIAT.IsZero() {
			age := now.Sub(s.HeartbeatIAT).Seconds()
			b.Age = &age
		}
		l.Heartbeats = append(l.Heartbeats, b)
	}
	standing, err := state.Alarms(w.db.Read())
	for _, a := range standing {
		l.Alarms[a.Severity.String()]++
	}
	return l, err
}
