package source

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// The formats of an export.
const (
	CSV   = "csv"
	JSONL = "jsonl"
)

// A FileError says why a file as a whole was not taken: nothing of it was.
type FileError struct {
	File   string
	Line   int // 0 when the file as a whole is meant
	Reason string
}

func (e *FileError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Reason
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
}

// Read reads a whole export. An error is a *FileError, or one of r. name is for messages.
func (im *Importer) Read(name, format string, r io.Reader) (*Snapshot, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if data, err = text(name, data); err != nil {
		return nil, err
	}
	var rows []row
	switch format {
	case CSV:
		rows, err = im.readCSV(name, data)
	case JSONL:
		rows, err = im.readJSONL(name, data)
	case "":
		return nil, &FileError{name, 0, fmt.Sprintf("want a name that ends in .csv, .tsv, .txt, .jsonl, .ndjson or .json, or give --format %s or %s; a workbook (.xls, .xlsx) must be exported as one of these first", CSV, JSONL)}
	default:
		return nil, &FileError{name, 0, fmt.Sprintf("want the format %s or %s, got %q; give --format", CSV, JSONL, format)}
	}
	if err != nil {
		return nil, err
	}
	return im.gather(rows), nil
}

// wide reports whether data is text of two octets a character: by its mark, or since every other octet of it is mostly
// zero and those between are not.
func wide(data []byte) bool {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return true
	}
	var zeros [2]int
	head := data[:min(len(data), 4096)]
	for i, b := range head {
		if b == 0 {
			zeros[i%2]++
		}
	}
	return max(zeros[0], zeros[1]) > len(head)/4 && min(zeros[0], zeros[1]) == 0
}

// text refuses what is not UTF-8: read in a wrong encoding, names would be garbled in the tenant.
func text(name string, data []byte) ([]byte, error) {
	if len(data) > MaxFile {
		return nil, &FileError{name, 0, fmt.Sprintf("more than %d MiB; split the export", MaxFile>>20)}
	}
	if rest, ok := bytes.CutPrefix(data, []byte("\xef\xbb\xbf")); ok {
		data = rest
	}
	if wide(data) {
		return nil, &FileError{name, 0, "this looks like UTF-16; want UTF-8: export it so, or convert it with: iconv -f UTF-16 -t UTF-8"}
	}
	if at := bytes.IndexByte(data, 0); at >= 0 {
		return nil, &FileError{name, 1 + bytes.Count(data[:at], []byte("\n")), "a NUL octet (0x00), which no text has: the export is damaged there; export it anew, or mend that line in the source"}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, &FileError{name, 0, "the file is empty; an export without anyone is not taken for one in which everyone left"}
	}
	// A row of people is not to be taken for the header, which errors show.
	if first, _, _ := bytes.Cut(data, []byte("\n")); bytes.IndexByte(bytes.TrimRight(first, "\r"), '\r') >= 0 {
		return nil, &FileError{name, 1, "the lines end with a carriage return alone, as on an old Mac; want LF or CR LF: export it so, or convert it with: tr '\\r' '\\n'"}
	}
	if !utf8.Valid(data) {
		at := 0
		for at < len(data) {
			r, n := utf8.DecodeRune(data[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		line := 1 + bytes.Count(data[:at], []byte("\n"))
		return nil, &FileError{name, line, fmt.Sprintf("an octet %#02x that is not UTF-8; the file is probably in Latin-1 or Windows-1252: export it as UTF-8, or convert it with: iconv -f WINDOWS-1252 -t UTF-8", data[at])}
	}
	return data, nil
}

// readCSV reads RFC 4180 with a header. A row that cannot be split is refused; the others go on.
func (im *Importer) readCSV(name string, data []byte) ([]row, error) {
	cr := csv.NewReader(bytes.NewReader(data))
	cr.Comma, cr.FieldsPerRecord, cr.ReuseRecord = im.comma, -1, true
	first, err := cr.Read()
	if err != nil {
		reason := err.Error()
		if parse, ok := errors.AsType[*csv.ParseError](err); ok {
			reason = unsplit(parse)
		}
		return nil, &FileError{name, 1, "the header cannot be read: " + reason}
	}
	header := make([]string, len(first))
	for i, h := range first {
		header[i] = strings.TrimSpace(h)
	}
	if err := im.checkHeader(name, header, im.found(header)); err != nil {
		return nil, err
	}
	want := map[int]string{}
	for _, c := range im.needed {
		want[slices.Index(header, c)] = c
	}
	var rows []row
	for {
		fields, err := cr.Read()
		if err == io.EOF {
			return rows, nil
		}
		if len(rows) == maxRows {
			return nil, &FileError{name, 0, fmt.Sprintf("more than %d rows; split the export", maxRows)}
		}
		var parse *csv.ParseError
		switch {
		case errors.As(err, &parse):
			rows = append(rows, row{line: parse.StartLine, err: &RowError{Reason: unsplit(parse)}})
			continue
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		line, _ := cr.FieldPos(0)
		r := row{line: line, cells: Cells{}}
		if len(fields) != len(header) {
			// The id may be readable, but not to be relied on: a lost delimiter shifts what follows.
			r.err = &RowError{Reason: fmt.Sprintf("want %d cells as in the header, got %d", len(header), len(fields))}
		} else {
			for i, c := range want {
				r.cells[c] = im.value(c, strings.Clone(fields[i]))
			}
		}
		at := slices.IndexFunc(fields, func(cell string) bool { return swallows(cell, im.comma, len(header)) })
		if at >= 0 && r.err == nil {
			begins, _ := cr.FieldPos(at)
			err := &RowError{Reason: fmt.Sprintf("what stands from here to line %d is inside a cell that begins with a quote in line %d, and looks like rows of their own: close that quote; if it is text, take the line breaks out of it",
				begins+strings.Count(fields[at], "\n"), begins)}
			if at < len(fields)-1 { // what follows the cell is of another row
				r.cells, r.err = Cells{}, err
			} else {
				rows = append(rows, r)
				r = row{line: begins + 1, err: err}
			}
		}
		rows = append(rows, r)
	}
}

// swallows reports whether a cell has a line break in it and as many delimiters as a row: most likely its quote was meant to be
// closed before, and who stands in those rows is not absent.
func swallows(cell string, comma rune, cells int) bool {
	return strings.Contains(cell, "\n") && strings.Count(cell, string(comma)) >= cells-1
}

// unsplit says why a row cannot be split into cells.
func unsplit(e *csv.ParseError) string {
	const want = `want a cell with quotes in it as "a ""b"" c"`
	switch {
	case errors.Is(e.Err, csv.ErrBareQuote):
		return fmt.Sprintf("%s, got a quote inside a cell that does not begin with one, at octet %d of line %d", want, e.Column, e.Line)
	case errors.Is(e.Err, csv.ErrQuote):
		return fmt.Sprintf("%s, got a quote that is not closed or not followed by a delimiter, at octet %d of line %d; what stands from here to line %d was read as one row", want, e.Column, e.Line, e.Line)
	}
	return e.Err.Error()
}

// value applies the configured value map to a cell.
func (im *Importer) value(column, cell string) string {
	if m := im.m.Values[column]; m != nil {
		if to, ok := m[strings.TrimSpace(cell)]; ok {
			return string(to)
		}
	}
	return cell
}

// checkHeader refuses a header without the mapped columns; found says what is there instead.
func (im *Importer) checkHeader(name string, header []string, found string) error {
	var missing []string
	for _, c := range im.needed {
		n := 0
		for _, h := range header {
			if h == c {
				n++
			}
		}
		switch {
		case n == 0:
			for _, h := range header {
				if strings.EqualFold(h, c) {
					c += " (found as " + h + ": case counts)"
					break
				}
			}
			missing = append(missing, c)
		case n > 1:
			return &FileError{name, 1, fmt.Sprintf("the header names the column %s %d times", c, n)}
		}
	}
	if missing == nil {
		return nil
	}
	reason := fmt.Sprintf("wrong header: missing %s; %s", strings.Join(missing, ", "), found)
	if len(header) == 1 {
		for _, d := range []struct{ char, name string }{{";", `";"`}, {"\t", `"tab"`}, {",", `","`}} {
			if strings.Contains(header[0], d.char) {
				reason += "; the cells seem to be separated otherwise: set source.delimiter to " + d.name
				break
			}
		}
	}
	return &FileError{name, 1, reason}
}

// found says what line 1 of a CSV file has, if it names one of the columns that are looked for, however it is separated
// and spelt. A line that names none may be of a person, in a file without a header, and is not shown.
func (im *Importer) found(line []string) string {
	for _, text := range line {
		for name := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(",;\t|", r) }) {
			if slices.ContainsFunc(im.needed, func(c string) bool { return strings.EqualFold(strings.TrimSpace(name), c) }) {
				return "found " + clipList(line)
			}
		}
	}
	return fmt.Sprintf("line 1 names none of them; its cells (%d) are not shown, since they may be a person's: want the names of the columns there", len(line))
}

func clipList(names []string) string {
	const most = 40 // columns
	more := ""
	if len(names) > most {
		names, more = names[:most], ", ..."
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = clip(n)
	}
	return strings.Join(quoted, ", ") + more
}

// readJSONL reads one JSON object a line. Empty lines are no rows.
func (im *Importer) readJSONL(name string, data []byte) ([]row, error) {
	var rows []row
	seen := map[string]bool{}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) && json.Valid(data) {
		return nil, &FileError{name, 0, "want one JSON object a line, got one JSON array: write each of its objects on a line of its own, as jq -c '.[]' does"}
	}
	n := 0
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(rows) == maxRows {
			return nil, &FileError{name, 0, fmt.Sprintf("more than %d rows; split the export", maxRows)}
		}
		r := row{line: n, cells: Cells{}}
		members, err := object(line)
		if err != nil {
			r.err = &RowError{Reason: err.Error()}
		}
		for k := range members {
			seen[k] = true
		}
		for _, c := range im.needed {
			if cell, ok := members[c]; ok {
				r.cells[c] = im.value(c, cell)
			}
		}
		rows = append(rows, r)
	}
	if len(seen) == 0 && len(rows) > 0 && rows[0].err != nil {
		return nil, &FileError{name, rows[0].line, "want one JSON object a line, and no line is one; of this one: " + rows[0].err.Reason}
	}
	found := make([]string, 0, len(seen))
	for k := range seen {
		found = append(found, k)
	}
	slices.Sort(found)
	return rows, im.checkHeader(name, found, "found "+orElse(clipList(found), "no member of an object"))
}

// object reads a flat JSON object: strings, numbers, booleans, null and lists of those.
func object(line []byte) (map[string]string, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("want one JSON object a line")
	}
	members := map[string]string{}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("the line is not JSON")
		}
		if _, twice := members[key]; twice {
			return nil, fmt.Errorf("the member %q appears twice", clip(key))
		}
		if members[key], err = cell(d, true); err != nil {
			return nil, fmt.Errorf("member %q: %w", clip(key), err)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("the line is not JSON")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return members, nil
}

func cell(d *json.Decoder, list bool) (string, error) {
	t, err := d.Token()
	if err != nil {
		return "", errors.New("the line is not JSON")
	}
	switch t := t.(type) {
	case string:
		return t, nil
	case json.Number:
		return t.String(), nil
	case bool:
		return fmt.Sprint(t), nil
	case nil:
		return "", nil
	case json.Delim:
		if t != '[' || !list {
			return "", errors.New("want a plain value or a list of them")
		}
		var values []string
		for d.More() {
			v, err := cell(d, false)
			if err != nil {
				return "", err
			}
			values = append(values, v)
		}
		_, err := d.Token()
		return strings.Join(values, "\n"), err
	}
	return "", errors.New("want a plain value")
}
