package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// measure is a figure with its unit.
type measure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func (m *measure) String() string {
	switch {
	case m == nil:
		return "-"
	case m.Value >= 1000:
		return fmt.Sprintf("%s %s", thousands(int64(m.Value+0.5)), m.Unit)
	case m.Value >= 100:
		return fmt.Sprintf("%.0f %s", m.Value, m.Unit)
	default:
		return fmt.Sprintf("%.3g %s", m.Value, m.Unit)
	}
}

// row is one line of the table.
type row struct {
	Name  string   `json:"name"`
	What  string   `json:"what"`
	Ours  *measure `json:"ours"`
	Limit *measure `json:"limit,omitempty"` // measured in the same run
	Ratio float64  `json:"ratio,omitempty"` // ours against the limit
	Goal  string   `json:"goal"`
	Met   bool     `json:"met"`
	Notes []string `json:"notes,omitempty"`
}

func (r *row) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *row) verdict() string {
	if r.Met {
		return "met"
	}
	return "NOT MET"
}

func (r *row) ratio() string {
	if r.Ratio == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", r.Ratio)
}

// report is everything that one run found.
type report struct {
	Go         string    `json:"go"`
	Platform   string    `json:"platform"`
	Cores      int       `json:"cores"`
	Started    time.Time `json:"started"`
	LoadBefore string    `json:"load_before,omitempty"` // of the machine over 1, 5 and 15 min
	LoadAfter  string    `json:"load_after,omitempty"`
	Rows       []*row    `json:"rows"`
}

func newReport() *report {
	return &report{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.GOMAXPROCS(0),
		Started: time.Now().UTC().Truncate(time.Second), LoadBefore: load(), Rows: []*row{}}
}

func (r *report) finish() { r.LoadAfter = load() }

// load is the machine's load average; empty where the system does not tell.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	f := strings.Fields(string(text))
	return strings.Join(f[:min(3, len(f))], " ")
}

func (r *report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *report) table(w io.Writer) error {
	fmt.Fprintf(w, "%s %s, %d cores, load before %s, after %s\n\n", r.Go, r.Platform, r.Cores, orDash(r.LoadBefore), orDash(r.LoadAfter))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROW\tWHAT\tOURS\tLIMIT\tRATIO\tGOAL\tVERDICT")
	for _, x := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Name, x.What, x.Ours, x.Limit, x.ratio(), x.Goal, x.verdict())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, x := range r.Rows {
		if len(x.Notes) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", x.Name)
		for _, n := range x.Notes {
			fmt.Fprintf(w, "  %s\n", n)
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// median of a list that is not empty; the lower of the two middle ones.
func median[T float64 | time.Duration](list []T) T {
	s := slices.Sorted(slices.Values(list))
	return s[(len(s)-1)/2]
}
