// Package liveness is the file by which a program that opens no socket for it shows that it works: rewritten
// all the while, with the time in it. A dead man's switch or a container's health check looks whether that
// time still moves. Whoever can write the file can feign a working program; nothing is decided on it but
// whether to call somebody or to start the program again.
package liveness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Interval is how often a program rewrites its file unless its configuration says otherwise.
const Interval = 15 * time.Second

const (
	missed   = 3               // intervals without a sign after which a program counts as dead
	leeway   = 5 * time.Second // for a machine that has other things to do
	maxAhead = 5 * time.Second // the file's time before ours: the same clock wrote it
)

// A Beat is the least that a liveness file holds.
type Beat struct {
	Time     time.Time `json:"time"`
	PID      int       `json:"pid"`
	Interval float64   `json:"interval_seconds"` // until the next one
}

// BeatAt is this process's own.
func BeatAt(now time.Time, interval time.Duration) Beat {
	return Beat{now.UTC(), os.Getpid(), interval.Seconds()}
}

// Check returns nil if the file at path is of a program that works.
func Check(path string, now time.Time) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("no sign of life: %w", err)
	}
	var b Beat
	if err := json.Unmarshal(text, &b); err != nil || b.Interval <= 0 {
		return fmt.Errorf("%s is no liveness file", path)
	}
	patience := time.Duration(b.Interval*missed*float64(time.Second)) + leeway
	if age := now.Sub(b.Time); age > patience || age < -maxAhead {
		return fmt.Errorf("process %d last gave a sign of life %s ago; want one every %gs", b.PID, age.Round(time.Second), b.Interval)
	}
	return nil
}

// Write replaces the file at path so that a reader sees the old one or the new one. v has the members of a Beat.
func Write(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), ".new-"+filepath.Base(path))
	// What lies there a crash left, or somebody put: a link to a file of ours.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Pulse is a file of beats, at most one each Interval however often Tell is called. Its methods may be called
// from any goroutine.
type Pulse struct {
	path string

	mu   sync.Mutex // guards last; held across the write
	last time.Time
}

// NewPulse is the pulse in the file at path. With no path it does nothing.
func NewPulse(path string) *Pulse { return &Pulse{path: path} }

// Tell says that the program works.
func (p *Pulse) Tell() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.path == "" || time.Since(p.last) < Interval {
		return nil
	}
	p.last = time.Now()
	return Write(p.path, BeatAt(p.last, Interval))
}
