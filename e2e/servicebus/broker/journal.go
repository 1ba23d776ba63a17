package broker

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
)

// An Entry is one operation in the journal. It is written before the answer
// leaves.
type Entry struct {
	N          uint64    `json:"n"`
	Time       time.Time `json:"time"`
	Connection uint64    `json:"connection"`
	Operation  string    `json:"operation"` // a point, or manage: with the operation
	Entity     string    `json:"entity,omitempty"`
	Messages   int       `json:"messages,omitempty"`
	Error      string    `json:"error,omitempty"` // condition of the refusal
	Fault      string    `json:"fault,omitempty"` // name of the fault that struck
}

// journal gathers lines under the broker's mu and writes them without it.
type journal struct {
	out io.Writer // nil: no journal
	n   uint64
	buf []byte

	writing sync.Mutex // held across a write, so that lines stay in order
	err     error      // the first failure to write; guarded by writing
}

// flush writes what has gathered. A connection does so before its answers leave.
func (b *Broker) flush() error {
	j := &b.journal
	if j.out == nil {
		return nil
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	b.mu.Lock()
	lines := j.buf
	j.buf = nil
	b.mu.Unlock()
	if len(lines) > 0 && j.err == nil {
		if _, err := j.out.Write(lines); err != nil {
			j.err = fmt.Errorf("write journal: %w", err)
		}
	}
	return j.err
}

// note adds an operation to the journal.
func (b *Broker) note(o op, e *amqp.Error, f *Fault) {
	j := &b.journal
	if j.out == nil || o.point == onNothing {
		return
	}
	j.n++
	entry := Entry{N: j.n, Time: b.now(), Connection: o.conn.id, Operation: string(o.point), Messages: len(o.messages)}
	if o.operation != "" {
		entry.Operation += ":" + o.operation
	}
	if o.node != nil {
		entry.Entity = o.node.path
	}
	if e != nil && e != waiting {
		entry.Error = string(e.Condition)
	}
	if f != nil {
		entry.Fault = f.Name
	}
	line, err := json.Marshal(entry)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	j.buf = append(append(j.buf, line...), '\n')
}
