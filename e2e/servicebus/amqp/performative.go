package amqp

import (
	"fmt"
	"time"
)

// A Performative is the body of a frame.
type Performative interface{ composite }

// Open begins a connection. An absent channel-max is 65535.
type Open struct {
	Container    string
	Hostname     string
	MaxFrameSize uint32 // bytes; absent means no bound
	ChannelMax   uint16
	IdleTimeout  time.Duration // 0 means none; the sender of this frame hangs up after twice as long without one
	Properties   Map
}

// Begin begins a session.
type Begin struct {
	RemoteChannel  uint16 // of the session that this one answers
	Answer         bool   // whether RemoteChannel is there
	NextOutgoing   uint32
	IncomingWindow uint32 // transfers
	OutgoingWindow uint32
	HandleMax      uint32
}

// Roles, as the field is encoded.
const (
	Sender   = false
	Receiver = true
)

// Settle modes: of the sender, then of the receiver.
const (
	Unsettled uint8 = 0
	Settled   uint8 = 1
	Mixed     uint8 = 2

	First  uint8 = 0
	Second uint8 = 1
)

// Attach attaches a link to its session.
type Attach struct {
	Name            string
	Handle          uint32
	Role            bool
	SenderSettle    uint8
	ReceiverSettle  uint8
	Source          *Source // nil when there is none, which refuses a receiver
	Target          *Target // nil when there is none, which refuses a sender
	InitialDelivery uint32  // sent by the sender only
	MaxMessageSize  uint64  // bytes; 0 means no bound
	Desired         []Symbol
	Properties      Map
}

// Flow tells windows and, with a handle, the credit of a link.
type Flow struct {
	NextIncoming   Optional
	IncomingWindow uint32
	NextOutgoing   uint32
	OutgoingWindow uint32
	Handle         Optional
	DeliveryCount  Optional
	LinkCredit     Optional
	Available      Optional
	Drain, Echo    bool
	Properties     Map
}

// Transfer carries a message or a part of it; the payload follows in the frame.
type Transfer struct {
	Handle        uint32
	DeliveryID    Optional // on the first frame of a message
	DeliveryTag   []byte
	MessageFormat Optional
	Settled, More bool
	Aborted       bool
}

// Disposition tells the state of deliveries First to Last.
type Disposition struct {
	Role    bool
	First   uint32
	Last    Optional // absent means First
	Settled bool
	State   State // nil when absent
}

// Detach ends a link. Error may be nil, here and below.
type Detach struct {
	Handle uint32
	Closed bool
	Error  *Error
}

// End ends a session.
type End struct{ Error *Error }

// Close ends a connection.
type Close struct{ Error *Error }

func (*Open) descriptor() uint64        { return 0x10 }
func (*Begin) descriptor() uint64       { return 0x11 }
func (*Attach) descriptor() uint64      { return 0x12 }
func (*Flow) descriptor() uint64        { return 0x13 }
func (*Transfer) descriptor() uint64    { return 0x14 }
func (*Disposition) descriptor() uint64 { return 0x15 }
func (*Detach) descriptor() uint64      { return 0x16 }
func (*End) descriptor() uint64         { return 0x17 }
func (*Close) descriptor() uint64       { return 0x18 }

func (p *Open) fields(f *fields) {
	f.text(&p.Container)
	f.text(&p.Hostname)
	f.uintOr(&p.MaxFrameSize, 1<<32-1)
	f.ushortOr(&p.ChannelMax, 1<<16-1)
	f.milliseconds(&p.IdleTimeout)
	f.ignore(4) // locales and capabilities
	f.dictionary(&p.Properties)
}

func (p *Begin) fields(f *fields) {
	if f.d == nil && !p.Answer {
		f.omit()
	} else {
		p.Answer = f.d == nil || f.left > 0 && f.d.peek() != codeNull
		typed(f, &p.RemoteChannel, false)
	}
	f.uint(&p.NextOutgoing)
	f.uint(&p.IncomingWindow)
	f.uint(&p.OutgoingWindow)
	f.uintOr(&p.HandleMax, 1<<32-1)
	f.ignore(3) // capabilities and properties
}

func (p *Attach) fields(f *fields) {
	f.text(&p.Name)
	f.uint(&p.Handle)
	f.role(&p.Role)
	f.mode(&p.SenderSettle, Mixed)
	f.mode(&p.ReceiverSettle, First)
	f.source(&p.Source)
	f.target(&p.Target)
	f.ignore(2) // unsettled deliveries of an earlier link of this name, and whether they are all
	initial := Optional{p.InitialDelivery, !p.Role}
	f.optional(&initial)
	p.InitialDelivery = initial.Value
	f.ulong(&p.MaxMessageSize)
	f.ignore(1) // offered capabilities
	f.symbols(&p.Desired)
	f.dictionary(&p.Properties)
}

func (p *Flow) fields(f *fields) {
	f.optional(&p.NextIncoming)
	f.uint(&p.IncomingWindow)
	f.uint(&p.NextOutgoing)
	f.uint(&p.OutgoingWindow)
	f.optional(&p.Handle)
	f.optional(&p.DeliveryCount)
	f.optional(&p.LinkCredit)
	f.optional(&p.Available)
	f.flag(&p.Drain)
	f.flag(&p.Echo)
	f.dictionary(&p.Properties)
}

func (p *Transfer) fields(f *fields) {
	f.uint(&p.Handle)
	f.optional(&p.DeliveryID)
	f.binary(&p.DeliveryTag)
	f.optional(&p.MessageFormat)
	f.flag(&p.Settled)
	f.flag(&p.More)
	f.ignore(3) // settle mode, state and resumption of this delivery
	f.flag(&p.Aborted)
	f.ignore(1) // batchable, a hint
}

func (p *Disposition) fields(f *fields) {
	f.role(&p.Role)
	f.uint(&p.First)
	f.optional(&p.Last)
	f.flag(&p.Settled)
	f.state(&p.State)
	f.ignore(1) // batchable, a hint
}

func (p *Detach) fields(f *fields) {
	f.uint(&p.Handle)
	f.flag(&p.Closed)
	f.error(&p.Error)
}

func (p *End) fields(f *fields)   { f.error(&p.Error) }
func (p *Close) fields(f *fields) { f.error(&p.Error) }

// SASL frames.
type (
	// SASLMechanisms is what the server offers.
	SASLMechanisms struct{ Mechanisms []Symbol }

	// SASLInit is what the client chose.
	SASLInit struct {
		Mechanism Symbol
		Response  []byte
		Hostname  string
	}

	// SASLOutcome ends the exchange; code 0 is success, 1 a refusal.
	SASLOutcome struct{ Code uint8 }
)

func (*SASLMechanisms) descriptor() uint64 { return 0x40 }
func (*SASLInit) descriptor() uint64       { return 0x41 }
func (*SASLOutcome) descriptor() uint64    { return 0x44 }

func (p *SASLMechanisms) fields(f *fields) { f.symbols(&p.Mechanisms) }

func (p *SASLInit) fields(f *fields) {
	f.symbol(&p.Mechanism)
	f.binary(&p.Response)
	f.text(&p.Hostname)
}

func (p *SASLOutcome) fields(f *fields) {
	f.ubyte(&p.Code)
	f.ignore(1) // additional data
}

// DecodePerformative reads the body of a frame. What follows it, the payload of
// a transfer, is returned as rest; it shares the memory of b.
func DecodePerformative(b []byte) (p Performative, rest []byte, err error) {
	d := decoder{buf: b}
	switch code := d.describedAs(); code {
	case 0x10:
		p = new(Open)
	case 0x11:
		p = new(Begin)
	case 0x12:
		p = new(Attach)
	case 0x13:
		p = new(Flow)
	case 0x14:
		p = new(Transfer)
	case 0x15:
		p = new(Disposition)
	case 0x16:
		p = new(Detach)
	case 0x17:
		p = new(End)
	case 0x18:
		p = new(Close)
	case 0x40:
		p = new(SASLMechanisms)
	case 0x41:
		p = new(SASLInit)
	case 0x44:
		p = new(SASLOutcome)
	default:
		if d.err == nil {
			return nil, nil, fmt.Errorf("amqp: performative %#x is not known", code)
		}
	}
	if d.err == nil {
		d.read(p)
	}
	if d.err != nil {
		return nil, nil, d.err
	}
	return p, b[d.off:], nil
}

// AppendPerformative encodes the body of a frame.
func AppendPerformative(dst []byte, p Performative) []byte { return appendComposite(dst, p) }
