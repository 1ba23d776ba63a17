package entity

import (
	"fmt"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
)

// A Message is one message of one queue.
type Message struct {
	Sequence    int64
	Scheduled   int64     // the sequence number that it had while scheduled; 0 when it never was
	EnqueuedAt  time.Time // when it became available first
	ScheduledAt time.Time // when a scheduled message is due; zero for others
	ExpiresAt   time.Time // zero: never
	LockedUntil time.Time // of the lock in force; the session's for a message of one
	Token       amqp.UUID // of the lock in force
	Deliveries  uint32    // that ended without an outcome that counts as done
	State       State
	DeadFrom    string // the queue that dead-lettered it

	Header      amqp.Header // as sent
	Annotations amqp.Map    // as sent
	Bare        []byte      // as sent, not shared; replaced when application properties change

	ID         any    // message-id; nil when none was set
	Session    string // group-id
	HasSession bool   // it may be the empty string

	locked  bool
	session *Session // that holds it, when locked within one
	ready   int      // place in the heap of what can be delivered; -1 when not in it
	due     int      // place in the heap of what ends; -1 when not in it
	before  *Message // neighbours by sequence number
	after   *Message
	late    int64 // places that it was put back; see Queue.Postpone
}

// A State of a message that is not gone.
type State uint8

// States, numbered as the annotation x-opt-message-state numbers them.
const (
	Active    State = 0
	Deferred  State = 1
	Scheduled State = 2
)

// NewMessage reads one encoded message; raw is kept.
func NewMessage(raw []byte) (*Message, error) {
	m, err := amqp.DecodeMessage(raw)
	if err != nil {
		return nil, err
	}
	out := &Message{Annotations: m.Annotations, Bare: m.Bare, ready: -1, due: -1}
	if m.Header != nil {
		out.Header = *m.Header
	}
	return out, out.identify()
}

// identify reads what the queue itself needs from the bare part.
func (m *Message) identify() error {
	bare, err := amqp.DecodeBare(m.Bare)
	if err != nil {
		return err
	}
	m.ID = bare.Property(amqp.MessageID)
	switch m.ID.(type) {
	case nil, string, uint64, amqp.UUID:
	case []byte:
		m.ID = string(m.ID.([]byte))
	default:
		return fmt.Errorf("message-id of type %T", m.ID)
	}
	m.Session, m.HasSession = bare.Property(amqp.GroupID).(string)
	if at, ok := m.Annotations.Get("x-opt-scheduled-enqueue-time"); ok {
		if t, ok := at.(time.Time); ok {
			m.ScheduledAt = t
		}
	}
	return nil
}

// Copy is the same content as a new message.
func (m *Message) Copy() *Message {
	return &Message{Header: m.Header, Annotations: m.Annotations, Bare: m.Bare, ID: m.ID, Session: m.Session, HasSession: m.HasSession, ready: -1, due: -1}
}

// size is what the message counts against the quota, in bytes.
func (m *Message) size() int64 { return int64(len(m.Bare)) + 64 }

// modify sets application properties. An unreadable bare part cannot be here.
func (m *Message) modify(properties amqp.Map) {
	if len(properties) == 0 {
		return
	}
	bare, err := amqp.DecodeBare(m.Bare)
	if err != nil {
		return
	}
	for _, p := range properties {
		key := p.Key
		if s, ok := key.(amqp.Symbol); ok {
			key = string(s)
		}
		bare.Application = bare.Application.With(key, p.Value)
	}
	m.Bare = bare.Append(nil)
}

// Locked reports whether somebody holds the message.
func (m *Message) Locked() bool { return m.locked }
