package amqp

import "time"

// BatchFormat is the message format of a batch: each data section is a whole
// encoded message (Service Bus; it is no part of AMQP).
const BatchFormat = 0x8001_3700

// Header is the transport header of a message.
type Header struct {
	Durable       bool
	Priority      uint8
	TTL           time.Duration // whole milliseconds; 0 means none was set
	FirstAcquirer bool
	DeliveryCount uint32 // failed attempts so far
}

func (*Header) descriptor() uint64 { return 0x70 }

func (h *Header) fields(f *fields) {
	f.flag(&h.Durable)
	if f.d != nil {
		h.Priority = 4
	}
	typed(f, &h.Priority, h.Priority == 4)
	f.milliseconds(&h.TTL)
	f.flag(&h.FirstAcquirer)
	f.uintOr(&h.DeliveryCount, 0)
}

// A Message is what travels in a transfer. Bare is what a mid-point does not
// touch, as it came: properties, application properties, body and footer.
type Message struct {
	Header      *Header // nil when there is none
	Delivery    Map     // delivery annotations
	Annotations Map     // message annotations
	Bare        []byte
}

// Sections, by descriptor.
const (
	sectionHeader      = 0x70
	sectionDelivery    = 0x71
	sectionAnnotations = 0x72
	sectionProperties  = 0x73
	sectionApplication = 0x74
	sectionData        = 0x75
	sectionSequence    = 0x76
	sectionValue       = 0x77
	sectionFooter      = 0x78
)

// DecodeMessage reads a message whole and checks that every section is in its
// place. Bare shares the memory of b.
func DecodeMessage(b []byte) (Message, error) {
	var m Message
	d := decoder{buf: b}
	last := uint64(0)
	for d.left() > 0 && d.err == nil {
		at := d.off
		section := d.describedAs()
		if section >= sectionProperties {
			d.off = at
			break
		}
		if section <= last {
			d.fail("section %#x after section %#x", section, last)
		}
		last = section
		switch section {
		case sectionHeader:
			m.Header = new(Header)
			d.read(m.Header)
		case sectionDelivery:
			m.Delivery = d.dictionary()
		case sectionAnnotations:
			m.Annotations = d.dictionary()
		default:
			d.fail("section %#x is not known", section)
		}
	}
	if d.err != nil {
		return Message{}, d.err
	}
	m.Bare = b[d.off:len(b):len(b)]
	_, err := DecodeBare(m.Bare)
	return m, err
}

func (d *decoder) dictionary() Map {
	switch v := d.value().(type) {
	case Map:
		return v
	case nil:
		return nil
	default:
		d.fail("map expected, got %T", v)
	}
	return nil
}

// Append encodes the message.
func (m *Message) Append(dst []byte) []byte {
	if m.Header != nil {
		dst = appendComposite(dst, m.Header)
	}
	if m.Delivery != nil {
		dst = appendSection(dst, sectionDelivery, m.Delivery)
	}
	if m.Annotations != nil {
		dst = appendSection(dst, sectionAnnotations, m.Annotations)
	}
	return append(dst, m.Bare...)
}

func appendSection(dst []byte, section byte, v any) []byte {
	return Append(append(dst, codeDescribed, codeSmallUlong, section), v)
}

// Places in Bare.Properties.
const (
	MessageID     = 0
	UserID        = 1
	To            = 2
	Subject       = 3
	ReplyTo       = 4
	CorrelationID = 5
	ContentType   = 6
	GroupID       = 10
	properties    = 13
)

// Bare is the part of a message that only its sender writes.
type Bare struct {
	Properties  []any // nil when the section is absent; else up to 13 fields in the order of the specification
	Application Map   // application properties; nil when the section is absent
	Data        [][]byte
	Body        []byte // sequence or value sections, encoded; nil when the body is data
	Footer      Map
}

// Property is the property at that place; nil when it is absent.
func (b *Bare) Property(at int) any {
	if at < len(b.Properties) {
		return b.Properties[at]
	}
	return nil
}

// Value is the body's amqp-value section; nil when there is none.
func (b *Bare) Value() any {
	if len(b.Body) == 0 {
		return nil
	}
	v, _, err := Decode(b.Body)
	if d, ok := v.(Described); err == nil && ok && d.Descriptor == uint64(sectionValue) {
		return d.Value
	}
	return nil
}

// DecodeBare reads the bare part. Data and Body share the memory of b.
func DecodeBare(b []byte) (Bare, error) {
	var m Bare
	d := decoder{buf: b}
	last := uint64(0)
	for d.left() > 0 && d.err == nil {
		at := d.off
		section := d.describedAs()
		if d.err != nil {
			break
		}
		repeatable := section == sectionData || section == sectionSequence
		body := section >= sectionData && section <= sectionValue && last >= sectionData
		if section < last || section == last && !repeatable || body && section != last {
			d.fail("section %#x after section %#x", section, last)
		}
		last = section
		switch section {
		case sectionProperties:
			list, ok := d.value().([]any)
			if !ok || len(list) > properties {
				d.fail("properties are no list of at most %d", properties)
			}
			m.Properties = list
		case sectionApplication:
			m.Application = d.dictionary()
		case sectionData:
			c := d.code()
			if c != codeBinary8 && c != codeBinary32 {
				d.fail("data section is no binary but %#02x", c)
				break
			}
			m.Data = append(m.Data, d.variable(c))
		case sectionSequence, sectionValue:
			d.skip()
			if d.err == nil {
				m.Body = append(m.Body, d.buf[at:d.off]...)
			}
		case sectionFooter:
			m.Footer = d.dictionary()
		default:
			d.fail("section %#x is not known", section)
		}
	}
	if d.err != nil {
		return Bare{}, d.err
	}
	return m, nil
}

// Append encodes the bare part.
func (b *Bare) Append(dst []byte) []byte {
	if b.Properties != nil {
		dst = appendSection(dst, sectionProperties, b.Properties)
	}
	if b.Application != nil {
		dst = appendSection(dst, sectionApplication, b.Application)
	}
	for _, data := range b.Data {
		dst = appendSection(dst, sectionData, data)
	}
	dst = append(dst, b.Body...)
	if b.Footer != nil {
		dst = appendSection(dst, sectionFooter, b.Footer)
	}
	return dst
}

// AppendValue encodes an amqp-value body.
func AppendValue(dst []byte, v any) []byte { return appendSection(dst, sectionValue, v) }
