package source

import (
	"fmt"
	"strings"
	"time"
)

// Dates says how the export spells days and when they begin and end.
type Dates struct {
	// Formats are tried in turn: YYYY, MM, DD, hh, mm, ss with any punctuation. Default: YYYY-MM-DD.
	// A full RFC 3339 timestamp is always taken, and is an instant already.
	Formats []string `yaml:"formats,omitempty"`
	// Zone is the IANA name of the zone in which a day is meant. Default: UTC.
	Zone string `yaml:"zone,omitempty"`
	// Starts is the time of day at which a first day of work begins. Default: 00:00.
	Starts string `yaml:"starts,omitempty"`
	// Ends is the time of day at which a last day of work ends; 24:00 is the midnight after it. Default: 24:00.
	Ends string `yaml:"ends,omitempty"`
}

type calendar struct {
	layouts      []string
	formats      []string
	zone         *time.Location
	starts, ends time.Duration
}

var tokens = strings.NewReplacer("YYYY", "2006", "MM", "01", "DD", "02", "hh", "15", "mm", "04", "ss", "05")

func newCalendar(d Dates) (c calendar, err error) {
	c.formats = d.Formats
	if len(c.formats) == 0 {
		c.formats = []string{"YYYY-MM-DD"}
	}
	for _, f := range c.formats {
		layout := tokens.Replace(f)
		if !strings.Contains(layout, "2006") || !strings.Contains(layout, "01") || !strings.Contains(layout, "02") {
			return c, fmt.Errorf("dates.formats: want a pattern with YYYY, MM and DD, got %q", f)
		}
		c.layouts = append(c.layouts, layout)
	}
	if c.zone, err = time.LoadLocation(orElse(d.Zone, "UTC")); err != nil {
		return c, fmt.Errorf("dates.zone: want an IANA zone like Europe/Berlin: %w", err)
	}
	if c.starts, err = clock(orElse(d.Starts, "00:00")); err != nil {
		return c, fmt.Errorf("dates.starts: %w", err)
	}
	if c.ends, err = clock(orElse(d.Ends, "24:00")); err != nil {
		return c, fmt.Errorf("dates.ends: %w", err)
	}
	return c, nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func clock(s string) (time.Duration, error) {
	if s == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("want a time of day like 08:30 (or 24:00), got %q", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// instant reads a cell. A day becomes the instant at which edge is reached on the wall clocks of the
// zone, also on days that a change of clocks makes longer or shorter.
func (c *calendar) instant(cell string, edge time.Duration) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, cell); err == nil {
		return t.UTC().Truncate(time.Second), nil
	}
	for _, layout := range c.layouts {
		t, err := time.ParseInLocation(layout, cell, c.zone)
		if err != nil {
			continue
		}
		if strings.Contains(layout, "15") {
			return t.UTC(), nil
		}
		return time.Date(t.Year(), t.Month(), t.Day(), 0, int(edge/time.Minute), 0, 0, c.zone).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("want a date like %s or an RFC 3339 timestamp, got %q", strings.Join(c.formats, " or "), clip(cell))
}

func clip(s string) string {
	const most = 40 // octets
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
