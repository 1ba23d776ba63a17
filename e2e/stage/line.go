package stage

import (
	"encoding/json"
	"fmt"
	"time"
)

// A Line is one line that a program wrote.
type Line struct {
	N      int       // place among the lines of the process, from 1, over all its starts
	Time   time.Time // when it came
	Stdout bool      // else standard error
	Text   string
	Fields map[string]any // of a JSON line; nil for another one
}

// Msg is a log line's message.
func (l Line) Msg() string { return l.String("msg") }

// String is a text member; empty where there is none.
func (l Line) String(key string) string {
	s, _ := l.Fields[key].(string)
	return s
}

// Int is a number; 0 where there is none.
func (l Line) Int(key string) int64 {
	n, _ := l.Fields[key].(float64)
	return int64(n)
}

// Has says that the line is a log line with this message and these members, given as key, value, ....
// Values are compared as they print.
func (l Line) Has(msg string, members ...any) bool {
	if l.Msg() != msg {
		return false
	}
	for i := 0; i+1 < len(members); i += 2 {
		key, _ := members[i].(string)
		if fmt.Sprint(l.Fields[key]) != fmt.Sprint(members[i+1]) {
			return false
		}
	}
	return true
}

func newLine(text string, stdout bool) Line {
	l := Line{Time: time.Now(), Stdout: stdout, Text: text}
	if len(text) > 0 && text[0] == '{' {
		if json.Unmarshal([]byte(text), &l.Fields) != nil {
			l.Fields = nil
		}
	}
	return l
}
