package alarms

import (
	"bytes"
	"encoding/json"
	"time"

	"jmlbridge/internal/syslog"
)

// Collector tells a log collector what the file tells, as the same lines. It belongs to one goroutine.
type Collector struct {
	sender *syslog.Sender
	says   map[string]Line // by id: what it was told that stands
}

// NewCollector begins with a collector that knows nothing.
func NewCollector(s *syslog.Sender) *Collector { return &Collector{sender: s, says: map[string]Line{}} }

// Sync queues what has changed since the last call. It never waits.
func (c *Collector) Sync(standing []Line, now time.Time) {
	lines, next := changes(c.says, standing, now)
	c.says = next
	if len(lines) == 0 {
		return
	}
	changed, stands := make([]syslog.Message, 0, len(lines)), make([]syslog.Message, 0, len(next))
	for _, l := range lines {
		changed = append(changed, message(l))
	}
	for _, l := range standing {
		l.State, l.Time = Raised, now.UTC()
		stands = append(stands, message(l))
	}
	c.sender.Tell(changed, stands)
}

func message(l Line) syslog.Message {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		panic("a line is plain data: " + err.Error())
	}
	m := syslog.Message{Time: l.Time, ID: l.Code, Severity: syslog.Notice, Text: string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))}
	switch {
	case l.State == Cleared:
		m.Severity = syslog.Info
	case l.Severity == "critical":
		m.Severity = syslog.Critical
	case l.Severity == "warning":
		m.Severity = syslog.Warning
	}
	return m
}
