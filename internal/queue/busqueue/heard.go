package busqueue

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"

	"github.com/Azure/go-amqp"
)

const (
	maxHeard      = 8 << 20   // octets kept of what the service says between two questions
	maxHeardFrame = 128 << 10 // octets; the client lets the service send frames of half of that
)

const annSequence = "x-opt-sequence-number"

// heard is what the service says on one connection, as the client reads it. Whoever can send can set a property that makes the client
// panic on the whole answer of a peek, and the panic does not tell the message's number. The answer has come by then, and is
// read here.
type heard struct {
	mu     sync.Mutex // guards what follows
	lost   bool       // the frames' edges: nothing more is heard of this connection
	frame  []byte     // begun
	parts  map[string][]byte
	said   [][]byte // whole, since forget
	octets int      // of the frames that made parts and said
}

// hearing is the connection that is heard.
type hearing struct {
	net.Conn
	heard *heard
}

func (c *hearing) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.heard.take(p[:n])
	return n, err
}

func (h *heard) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts, h.said, h.octets = map[string][]byte{}, nil, 0
}

// take cuts what came into frames (AMQP 1.0, 2.3).
func (h *heard) take(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost {
		return
	}
	h.frame = append(h.frame, p...)
	for len(h.frame) >= 8 {
		size := 8 // of the header that a protocol begins with
		if !bytes.HasPrefix(h.frame, []byte("AMQP")) {
			n := binary.BigEndian.Uint32(h.frame)
			if n < 8 || n > maxHeardFrame {
				h.lost, h.frame = true, nil
				return
			}
			size = int(n)
		}
		if len(h.frame) < size {
			return
		}
		h.hear(h.frame[:size])
		h.frame = h.frame[size:]
	}
}

// hear keeps the payload of a transfer. mu is held.
func (h *heard) hear(frame []byte) {
	begin := 4 * int(frame[4])
	if frame[5] != 0 || begin < 8 || begin > len(frame) { // not AMQP's own
		return
	}
	fields, payload, ok := transfer(frame[begin:])
	if !ok {
		return
	}
	if h.octets += len(frame); h.octets > maxHeard {
		h.parts, h.said = map[string][]byte{}, nil
		return
	}
	of := string(frame[6:8]) + string(fields[0]) // channel and link
	h.parts[of] = append(h.parts[of], payload...)
	if len(fields) > 5 && (fields[5][0] == 0x41 || bytes.Equal(fields[5], []byte{0x56, 1})) { // more
		return
	}
	h.said = append(h.said, h.parts[of])
	delete(h.parts, of)
}

// transfer takes a transfer apart: its fields, the first of which is there, and its payload.
func transfer(body []byte) (fields [][]byte, payload []byte, ok bool) {
	body, ok = bytes.CutPrefix(body, []byte{0, 0x53, 0x14})
	if !ok {
		return nil, nil, false
	}
	n, ok := valueSize(body)
	if !ok {
		return nil, nil, false
	}
	begin := 3 // behind constructor, size and count
	switch body[0] {
	case 0xc0:
	case 0xd0:
		begin = 9
	default:
		return nil, nil, false
	}
	if n < begin {
		return nil, nil, false
	}
	list, payload := body[begin:n], body[n:]
	for len(list) > 0 {
		n, ok := valueSize(list)
		if !ok {
			return nil, nil, false
		}
		fields, list = append(fields, list[:n]), list[n:]
	}
	return fields, payload, len(fields) > 0
}

// valueSize is how many octets the first value of b takes, by the class of its constructor (AMQP 1.0, 1.2).
func valueSize(b []byte) (int, bool) {
	if len(b) == 0 {
		return 0, false
	}
	n := 1
	switch class := b[0] >> 4; class {
	case 0x4:
	case 0x5, 0x6, 0x7, 0x8, 0x9:
		n += 1 << (class - 5)
	case 0xa, 0xc, 0xe:
		if len(b) < 2 {
			return 0, false
		}
		n += 1 + int(b[1])
	case 0xb, 0xd, 0xf:
		if len(b) < 5 {
			return 0, false
		}
		size := binary.BigEndian.Uint32(b[1:])
		if size > maxHeardFrame {
			return 0, false
		}
		n += 4 + int(size)
	default:
		return 0, false
	}
	return n, n <= len(b)
}

// peeked is a message of a peek's answer.
type peeked struct {
	seq  int64 // unbelieved; -1: it does not say
	put  int64 // when it was put into the queue, in Unix milliseconds, unbelieved; 0: it does not say
	body []byte
}

// answer is the last answer to a peek that was heard, where there is one.
func (h *heard) answer() []peeked {
	h.mu.Lock()
	said := h.said
	h.mu.Unlock()
	for i := len(said) - 1; i >= 0; i-- {
		m, err := unmarshal(said[i])
		if err != nil {
			continue
		}
		value, _ := m.Value.(map[string]any)
		list, _ := value["messages"].([]any)
		var out []peeked
		for _, x := range list {
			entry, _ := x.(map[string]any)
			raw, _ := entry["message"].([]byte)
			out = append(out, peekedOf(raw))
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// peekedOf reads one message. One that cannot be read is there as it is, to be refused and recorded like any other.
func peekedOf(raw []byte) peeked {
	m, err := unmarshal(raw)
	if err != nil {
		return peeked{seq: -1, body: bytes.Clone(raw)}
	}
	p := peeked{seq: -1}
	if n, ok := m.Annotations[annSequence].(int64); ok {
		p.seq = n
	}
	if len(m.Data) == 1 {
		p.body = bytes.Clone(m.Data[0])
	}
	return p
}

func unmarshal(raw []byte) (*amqp.Message, error) {
	return guarded(func() (*amqp.Message, error) {
		var m amqp.Message
		return &m, m.UnmarshalBinary(raw)
	})
}
