// Package source reads an HR export and says of every row what it makes of it: a record, refused, or
// held. No row is dropped in silence.
//
// The file is trusted to state facts about people, not to be well made: ids repeat, cells contradict
// each other, dates and countries are spelt in local ways. A row that cannot be read says nothing about
// its person, and in particular never that the person left. What a record leads to is decided in
// package register; nothing here knows what was said before.
package source

import (
	"maps"
	"slices"
	"strings"
	"time"

	"jmlbridge/schema"
)

// Limits on one export.
const (
	MaxFile = 256 << 20 // octets
	maxRows = 2_000_000
	maxCell = 4096 // octets of one mapped cell; longer than anything an event can carry
)

// Status is what a row says of a person's employment.
type Status int

// The zero value says nothing, and nothing is done for it.
const (
	Unstated Status = iota
	Active
	Inactive
)

func (s Status) String() string { return [...]string{"unstated", "active", "inactive"}[s] }

// Leave is what a row says of an absence that is not the end: a leave, a suspension.
type Leave int

// A source without such a column says LeaveUnstated and changes nothing.
const (
	LeaveUnstated Leave = iota
	Present
	OnLeave
)

func (l Leave) String() string { return [...]string{"unstated", "present", "on-leave"}[l] }

// Record is one person as the export states it. Rows that repeat it word for word are one record.
type Record struct {
	Lines      []int // of the file, from 1
	Subject    string
	Engagement string // the source's own key of the employment, opaque; empty where it has none
	Status     Status
	Leave      Leave
	Person     schema.Person
	Roles      []string   // sorted, without repeats
	Start      *time.Time // nil: not stated
	End        *time.Time // nil: open
	Reason     string     // why the person leaves, where the row says so; a schema.ReasonX
	Txn        string     // the source's ticket
	Cells      Cells      // what scope rules look at
	Also       []Cells    // of further rows, of somebody who left, which need not agree on that
}

// Cells are the cells of a row that some rule names, by column, after the configured value maps.
type Cells map[string]string

// A RowError says why a row was refused.
type RowError struct {
	Line    int    `json:"line"`
	Column  string `json:"column,omitempty"`
	Subject string `json:"subject,omitempty"` // empty when the row has no readable id
	Reason  string `json:"reason"`            // never a cell's content beyond codes and dates
}

// Held says that the rows of one person contradict each other: all of them wait for the source to be
// put right, and the person stays as announced before.
type Held struct {
	Subject string `json:"subject"`
	Lines   []int  `json:"lines"`
	Reason  string `json:"reason"`
}

// Note is something that was left out of a record which was taken all the same.
type Note struct {
	Line    int    `json:"line"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// Snapshot is a whole export. Rows = accepted rows + refused rows + held rows, always.
type Snapshot struct {
	Rows    int
	Records []Record // by first line
	Refused []RowError
	Held    []Held
	Notes   []Note

	// Unreadable is set when some row's id could not be read: who is missing from the file is then
	// not known, and absence must not be judged.
	Unreadable bool

	named map[string]bool
}

// Accepted counts the rows behind Records.
func (s *Snapshot) Accepted() (rows int) {
	for i := range s.Records {
		rows += len(s.Records[i].Lines)
	}
	return rows
}

// HeldRows counts the rows behind Held.
func (s *Snapshot) HeldRows() (rows int) {
	for i := range s.Held {
		rows += len(s.Held[i].Lines)
	}
	return rows
}

// Names reports whether any row, of whatever quality, bears the subject's id.
func (s *Snapshot) Names(subject string) bool { return s.named[subject] }

// row is one line of the export before it is understood.
type row struct {
	line  int
	cells Cells
	err   *RowError // set when the line cannot be split into cells at all
}

// gather turns rows into a Snapshot. Rows of one id are judged together: one unreadable row among them
// may be the one that contradicts, so it holds the others.
func (im *Importer) gather(rows []row) *Snapshot {
	s := &Snapshot{Rows: len(rows), named: map[string]bool{}}
	type person struct {
		records []Record
		lines   []int
		bad     int // line of a refused row, 0 for none
	}
	people := map[string]*person{}
	var order []string
	for _, r := range rows {
		id := strings.TrimSpace(r.cells[im.m.Subject])
		var rec Record
		err := r.err
		if err == nil {
			var notes []Note
			rec, notes, err = im.record(r)
			if err == nil {
				s.Notes = append(s.Notes, notes...)
			}
		}
		if err != nil {
			err.Line, err.Subject = r.line, id
			if checkSubject(id) != nil {
				err.Subject = ""
				s.Unreadable = true
			}
			s.Refused = append(s.Refused, *err)
			if err.Subject == "" {
				continue
			}
		}
		s.named[id] = true
		p := people[id]
		if p == nil {
			p = &person{}
			people[id] = p
			order = append(order, id)
		}
		if err != nil {
			p.bad = r.line
			continue
		}
		p.lines = append(p.lines, r.line)
		if len(p.records) == 0 || !same(&p.records[0], &rec) {
			p.records = append(p.records, rec)
			continue
		}
		first := &p.records[0]
		if !maps.Equal(first.Cells, rec.Cells) {
			first.Also = append(first.Also, rec.Cells)
		}
		if rec.Status == Inactive {
			first.leave(&rec)
		}
	}
	for _, id := range order {
		p := people[id]
		switch {
		case len(p.records) == 0: // every row refused
		case p.bad != 0:
			s.Held = append(s.Held, Held{id, p.lines, "another row of this id was refused and might contradict; correct that row"})
		case len(p.records) > 1:
			s.Held = append(s.Held, Held{id, p.lines, "rows of one id contradict each other in: " + strings.Join(differences(p.records), ", ")})
		default:
			p.records[0].Lines = p.lines
			s.Records = append(s.Records, p.records[0])
		}
	}
	slices.SortStableFunc(s.Records, func(a, b Record) int { return a.Lines[0] - b.Lines[0] })
	return s
}
