// Package alarms keeps a file of alarms for a log collector: one JSON object a line, when an alarm is
// raised, changes or is cleared.
//
// The truth is the table in the database, where an alarm changes together with its cause; the file
// follows it and is never read back as truth, only to know what it says already. It holds ids, no
// names. A file that was rotated away is begun anew: what stands is then written again.
package alarms

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// States of a line.
const (
	Raised  = "raised"
	Cleared = "cleared"
)

// Line is one line of the file.
type Line struct {
	Time     time.Time `json:"time"` // when the line was written
	State    string    `json:"state"`
	Code     string    `json:"code"`
	Key      string    `json:"key,omitempty"` // what it is about: ids only
	Severity string    `json:"severity"`
	Since    time.Time `json:"since"` // when the alarm was first raised
	Text     string    `json:"text,omitempty"`
	Do       string    `json:"do,omitempty"` // what to do
}

func (l Line) id() string { return l.Code + "\x00" + l.Key }

// maxLine bounds a line that is read back, in octets.
const maxLine = 64 << 10

// File is the file at one path. It belongs to one goroutine.
type File struct {
	path string
	says map[string]Line // by id: what stands according to the file
	info os.FileInfo     // of the file to which says belongs
}

// Open reads what the file at path says; there may be none yet. Where it cannot be read the file is good all the same: it is taken
// to say nothing, and what stands is written again.
func Open(path string) (*File, error) {
	f := &File{path: path, says: map[string]Line{}}
	r, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("read alarms file: %w", err)
	}
	defer r.Close()
	if f.says, err = fold(r); err != nil {
		f.says = map[string]Line{}
		return f, fmt.Errorf("read alarms file %s: %w", path, err)
	}
	f.info, err = r.Stat()
	return f, err
}

// fold returns what stands after all lines. A line that is torn or of somebody else says nothing.
func fold(r io.Reader) (map[string]Line, error) {
	says := map[string]Line{}
	b := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) { // none of ours, such as what a power cut left
			for line = nil; errors.Is(err, bufio.ErrBufferFull); {
				_, err = b.ReadSlice('\n')
			}
		}
		var l Line
		if json.Unmarshal(line, &l) == nil {
			switch l.State {
			case Raised:
				says[l.id()] = l
			case Cleared:
				delete(says, l.id())
			}
		}
		if errors.Is(err, io.EOF) {
			return says, nil
		}
		if err != nil {
			return says, err
		}
	}
}

// Sync writes what has changed: standing is every alarm that stands now, as raised lines. When it
// returns nil the file is durable and says what stands.
func (f *File) Sync(standing []Line, now time.Time) error {
	if f.gone() {
		f.says, f.info = map[string]Line{}, nil
	}
	lines, next := changes(f.says, standing, now)
	if len(lines) == 0 {
		return nil
	}
	if err := f.append(lines); err != nil {
		return fmt.Errorf("write alarms file: %w", err)
	}
	f.says = next
	return nil
}

// changes are the lines that bring whoever was told says up to what stands, and what is said then.
func changes(says map[string]Line, standing []Line, now time.Time) (lines []Line, next map[string]Line) {
	next = make(map[string]Line, len(standing))
	for _, l := range standing {
		l.State, l.Time = Raised, now.UTC()
		next[l.id()] = l
		if old, ok := says[l.id()]; !ok || old.Severity != l.Severity || old.Text != l.Text || !old.Since.Equal(l.Since) {
			lines = append(lines, l)
		}
	}
	for id, l := range says {
		if _, ok := next[id]; !ok {
			l.State, l.Time = Cleared, now.UTC()
			lines = append(lines, l)
		}
	}
	slices.SortFunc(lines, func(a, b Line) int { return strings.Compare(a.State+a.id(), b.State+b.id()) }) // cleared before raised
	return lines, next
}

// gone reports whether somebody rotated the file away since the last look.
func (f *File) gone() bool {
	if f.info == nil {
		return false
	}
	info, err := os.Stat(f.path)
	return err != nil || !os.SameFile(info, f.info)
}

func (f *File) append(lines []Line) (err error) {
	w, err := os.OpenFile(f.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if f.info, err = w.Stat(); err != nil {
		return err
	}
	var b strings.Builder
	if n := f.info.Size(); n > 0 { // a torn last line must not swallow the next one
		last := make([]byte, 1)
		if _, err := w.ReadAt(last, n-1); err == nil && last[0] != '\n' {
			b.WriteByte('\n')
		}
	}
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, l := range lines {
		if err := e.Encode(l); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return w.Sync()
}
