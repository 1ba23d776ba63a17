// Package archive is the second half of a published ledger: the signed messages themselves, as they
// were signed, in one compressed file a day. schema/ledger.md section 7 is its specification.
//
// It holds personal data, so that the tiles need not. It proves itself: a line is believed for the
// producer's signature in it, and its payload digest is what the ledger names. The package trusts
// nothing that it reads and reaches neither a database nor a network.
package archive

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"jmlbridge/schema"
)

// maxLine bounds one line, in octets: the largest JWS and its frame.
const maxLine = 256 << 10

// Row is one message to archive.
type Row struct {
	ID      int64         // of the caller's table; rises
	Day     time.Time     // when it came; its UTC day names the file
	Payload schema.Digest // of the JWS payload octets
	JWS     string        // compact, as it was signed
}

// Line is what the archive holds of a message. Members are in canonical order.
type Line struct {
	Payload schema.Digest `json:"payload"`
	JWS     string        `json:"jws"`
}

// FileName is the name of a day's file.
func FileName(day string) string { return day + ".jsonl.gz" }

// DayOf names the day of t.
func DayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// Member compresses rows into one gzip member, which can stand behind others in a file.
func Member(rows []Row) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed) // padding and heartbeats are most of it; speed is for intake
	if err != nil {
		return nil, err
	}
	enc := json.NewEncoder(z)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(Line{r.Payload, r.JWS}); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// A TornError says that a file ends inside a member: a write was under way, or something was cut off.
// Every line before it was read.
type TornError struct{ File string }

func (e *TornError) Error() string {
	return fmt.Sprintf("archive file %s ends in the middle of a write; what came before it was read", e.File)
}

var dayFile = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}\.jsonl\.gz$`)

// Read yields every line of the folder, by day. A *TornError ends its file only; any other error is
// the last thing it yields.
func Read(dir string) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		files, err := os.ReadDir(dir) // sorted by name, which is by day
		if err != nil {
			yield(Line{}, err)
			return
		}
		for _, f := range files {
			if !dayFile.MatchString(f.Name()) {
				continue
			}
			ok := readDay(filepath.Join(dir, f.Name()), yield)
			if !ok {
				return
			}
		}
	}
}

// readDay reports whether to go on with the next file.
func readDay(path string, yield func(Line, error) bool) bool {
	f, err := os.Open(path)
	if err != nil {
		yield(Line{}, err)
		return false
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if errors.Is(err, io.EOF) {
		return true // empty: nothing was recorded yet
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return yield(Line{}, &TornError{path})
	}
	if err != nil {
		yield(Line{}, fmt.Errorf("archive file %s: %w", path, err))
		return false
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(make([]byte, 0, 16<<10), maxLine)
	lines.Split(wholeLines)
	for n := 1; lines.Scan(); n++ {
		l, err := parseLine(lines.Bytes())
		if err != nil {
			yield(Line{}, fmt.Errorf("archive file %s: line %d: %w", path, n, err))
			return false
		}
		if !yield(l, nil) {
			return false
		}
	}
	switch err := lines.Err(); {
	case err == nil:
		return true
	case errors.Is(err, io.ErrUnexpectedEOF):
		return yield(Line{}, &TornError{path})
	default:
		yield(Line{}, fmt.Errorf("archive file %s: %w", path, err))
		return false
	}
}

// wholeLines splits at line feeds and drops what follows the last one: only a torn file has it.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

// parseLine takes only the spelling that Member writes.
func parseLine(b []byte) (Line, error) {
	var l Line
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return l, err
	}
	var again bytes.Buffer
	enc := json.NewEncoder(&again)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		return l, err
	}
	if !bytes.Equal(bytes.TrimSuffix(again.Bytes(), []byte("\n")), b) {
		return l, errors.New("not in canonical form")
	}
	return l, nil
}
