package tenant

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// An Entry is one request in the journal. It is written before the answer
// leaves, so whoever has an answer finds its entry.
type Entry struct {
	N               uint64    `json:"n"` // place in the journal, from 1
	Time            time.Time `json:"time"`
	App             string    `json:"app,omitempty"` // name of the registration
	Method          string    `json:"method"`
	Path            string    `json:"path"`           // with the query
	Status          int       `json:"status"`         // 0: the connection was broken without an answer
	Code            string    `json:"code,omitempty"` // of the error answered
	RequestID       string    `json:"requestId,omitempty"`
	ClientRequestID string    `json:"clientRequestId,omitempty"` // both, joined by ", ", when the caller sent two
	Units           int       `json:"units,omitempty"`
	Fault           string    `json:"fault,omitempty"`   // name of the fault that struck
	Broken          bool      `json:"broken,omitempty"`  // the connection was broken before the answer was whole
	Applied         bool      `json:"applied,omitempty"` // the tenant changed
	Seq             uint64    `json:"seq,omitempty"`     // of the change: the order in which writes took effect
	Changes         []Change  `json:"changes,omitempty"`
}

// A Change is what a request did. Op is one of create, update, delete,
// restore, purge, revoke, set-manager, clear-manager, add-member,
// remove-member.
type Change struct {
	Op         string         `json:"op"`
	ID         string         `json:"id"`               // the user, or the member
	Name       string         `json:"name,omitempty"`   // user principal name
	Target     string         `json:"target,omitempty"` // group, unit or manager
	TargetName string         `json:"targetName,omitempty"`
	Set        map[string]any `json:"set,omitempty"` // properties as sent; a password only says "set"
}

type journal struct {
	mu   sync.Mutex // guards all; held across the write, so lines never mix
	out  io.Writer
	keep int
	n    uint64
	last []Entry
	err  error // the first failure to write
}

func (j *journal) add(e Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.n++
	e.N = j.n
	if j.keep > 0 {
		if len(j.last) >= 2*j.keep {
			j.last = slices.Clone(j.last[len(j.last)-j.keep:])
		}
		j.last = append(j.last, e)
	}
	if j.out == nil || j.err != nil {
		return
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.out.Write(append(line, '\n'))
	}
	if err != nil {
		j.err = fmt.Errorf("write journal: %w", err)
	}
}

// since returns the kept entries after n, oldest first.
func (j *journal) since(n uint64) []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	from := len(j.last)
	for from > 0 && j.last[from-1].N > n {
		from--
	}
	return slices.Clone(j.last[max(from, len(j.last)-j.keep, 0):])
}

func (j *journal) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}
