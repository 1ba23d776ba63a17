package broker

import (
	"time"

	"jmlbridge/e2e/servicebus/amqp"
)

// A Poison is a way in which a delivered message trips its reader.
type Poison string

// The poisons.
const (
	AnnotationType Poison = "annotation-type" // the sequence number is a string
	AnnotationNull Poison = "annotation-null" // the enqueued time is null
	ReasonType     Poison = "reason-type"     // the application property DeadLetterReason is a number
	IDType         Poison = "id-type"         // the message id is a number
	NoHeader       Poison = "no-header"
	NoAnnotations  Poison = "no-annotations"
	NoProperties   Poison = "no-properties"
	TwoBodies      Poison = "two-bodies" // two data sections
	ValueBody      Poison = "value-body" // a value in place of data
	NoBody         Poison = "no-body"
	Lies           Poison = "lies"    // every number and name that the mid-point may invent is another one
	Garbage        Poison = "garbage" // bytes that are no message
)

var poisons = map[Poison]func(*amqp.Message, *amqp.Bare){
	AnnotationType: func(m *amqp.Message, _ *amqp.Bare) { m.Annotations = m.Annotations.With(annSequence, "one") },
	AnnotationNull: func(m *amqp.Message, _ *amqp.Bare) { m.Annotations = m.Annotations.With(annEnqueued, nil) },
	ReasonType: func(_ *amqp.Message, b *amqp.Bare) {
		b.Application = b.Application.With("DeadLetterReason", int32(1))
	},
	IDType: func(_ *amqp.Message, b *amqp.Bare) {
		if len(b.Properties) > amqp.MessageID {
			b.Properties[amqp.MessageID] = uint64(1)
		}
	},
	NoHeader:      func(m *amqp.Message, _ *amqp.Bare) { m.Header = nil },
	NoAnnotations: func(m *amqp.Message, _ *amqp.Bare) { m.Annotations = nil },
	NoProperties:  func(_ *amqp.Message, b *amqp.Bare) { b.Properties = nil },
	TwoBodies:     func(_ *amqp.Message, b *amqp.Bare) { b.Data = append(b.Data, []byte("second")) },
	ValueBody:     func(_ *amqp.Message, b *amqp.Bare) { b.Data, b.Body = nil, amqp.AppendValue(nil, "value") },
	NoBody:        func(_ *amqp.Message, b *amqp.Bare) { b.Data, b.Body = nil, nil },
	Lies: func(m *amqp.Message, b *amqp.Bare) {
		m.Header = &amqp.Header{Priority: 4, DeliveryCount: 1_000_000}
		m.Annotations = m.Annotations.With(annSequence, int64(-1)).With(annEnqueued, time.Unix(0, 0)).With(annDeadFrom, "elsewhere")
		b.Application = b.Application.With("DeadLetterReason", "invented")
		b.Properties = []any{"invented", nil, "elsewhere", "subject", nil, nil, nil, nil, nil, nil, "session"}
	},
	Garbage: nil,
}

// deform is a message as a fault of kind alter or poison delivers it.
func (f *Fault) deform(raw []byte) []byte {
	m, err := amqp.DecodeMessage(raw)
	if err != nil {
		return raw
	}
	bare, err := amqp.DecodeBare(m.Bare)
	if err != nil {
		return raw
	}
	switch {
	case f.Kind == Alter:
		flip(&bare)
	case f.Shape != nil:
		f.Shape(&m, &bare)
	case f.Poison == Garbage:
		return []byte{0x00, 0x53, 0x7f, 0xff, 0xff}
	default:
		poisons[f.Poison](&m, &bare)
	}
	m.Bare = bare.Append(nil)
	return m.Append(nil)
}

// flip turns one bit of the body.
func flip(b *amqp.Bare) {
	if len(b.Data) == 0 || len(b.Data[0]) == 0 {
		return
	}
	data := append([]byte(nil), b.Data[0]...)
	data[len(data)/2] ^= 1
	b.Data = append([][]byte{data}, b.Data[1:]...)
}

// flipped is the bare part of a message with one bit of its body turned.
func flipped(raw []byte) []byte {
	bare, err := amqp.DecodeBare(raw)
	if err != nil {
		return raw
	}
	flip(&bare)
	return bare.Append(nil)
}
