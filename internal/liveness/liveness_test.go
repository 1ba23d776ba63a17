package liveness_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"jmlbridge/internal/liveness"
)

func TestCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alive.json")
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	if err := liveness.Check(path, at); err == nil || !strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("without a file: %v", err)
	}
	if err := liveness.Write(path, liveness.BeatAt(at, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		alive bool
	}{{-6 * time.Second, false}, {-4 * time.Second, true}, {0, true}, {35 * time.Second, true}, {36 * time.Second, false}, {24 * time.Hour, false}} {
		if err := liveness.Check(path, at.Add(c.after)); (err == nil) != c.alive {
			t.Errorf("after %s: want alive %v, got %v", c.after, c.alive, err)
		}
	}
	for _, text := range []string{"", "{}", `{"time": "2026-05-04T03:02:01Z"}`, `{"interval_seconds": "x"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := liveness.Check(path, at); err == nil || !strings.Contains(err.Error(), "no liveness file") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Whoever can write in the file's folder writes by it to no other file of the program's.
func TestWriteFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	other, path := filepath.Join(dir, "consumer.db"), filepath.Join(dir, "alive.json")
	if err := os.WriteFile(other, []byte("ledger"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(dir, ".new-alive.json")); err != nil {
		t.Skip(err)
	}
	now := time.Now()
	if err := liveness.Write(path, liveness.BeatAt(now, liveness.Interval)); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "ledger" {
		t.Errorf("the other file says %q, %v", text, err)
	}
	if err := liveness.Check(path, now); err != nil {
		t.Error(err)
	}
}

func TestPulse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alive.json")
	synctest.Test(t, func(t *testing.T) {
		p := liveness.NewPulse(path)
		tell := func(alive bool) {
			t.Helper()
			if err := p.Tell(); err != nil {
				t.Fatal(err)
			}
			if err := liveness.Check(path, time.Now()); (err == nil) != alive {
				t.Errorf("want alive %v, got %v", alive, err)
			}
		}
		tell(true)
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(liveness.Interval - time.Nanosecond)
		tell(true)
		if now, err := os.Stat(path); err != nil || !os.SameFile(before, now) {
			t.Errorf("written again before its time; %v", err)
		}
		time.Sleep(time.Nanosecond)
		tell(true)
		if now, err := os.Stat(path); err != nil || os.SameFile(before, now) {
			t.Errorf("not written again at its time; %v", err)
		}
		if err := liveness.NewPulse("").Tell(); err != nil {
			t.Error(err)
		}
	})
}
