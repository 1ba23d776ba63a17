package amqp

import "fmt"

// Source is where messages of a link come from. Addresses are strings.
type Source struct {
	Address string
	Filter  Map
}

// Target is where they go.
type Target struct{ Address string }

func (*Source) descriptor() uint64 { return 0x28 }
func (*Target) descriptor() uint64 { return 0x29 }

func (s *Source) fields(f *fields) {
	f.text(&s.Address)
	f.ignore(6) // durability, expiry, and what concerns addresses made on request
	f.dictionary(&s.Filter)
	f.ignore(3) // outcomes and capabilities
}

func (t *Target) fields(f *fields) {
	f.text(&t.Address)
	f.ignore(6) // as for the source, without a filter
}

// CoordinatorDescriptor is that of the target of transactions.
const coordinatorDescriptor = 0x30

// Coordinator is the address that a target gets which asks for transactions.
const Coordinator = "$coordinator"

func (f *fields) source(v **Source) { nested(f, v) }

func (f *fields) target(v **Target) {
	if f.d == nil || f.left == 0 || f.d.peek() == codeNull {
		nested(f, v)
		return
	}
	f.next()
	switch got := f.d.describedAs(); got {
	case (*Target)(nil).descriptor():
		*v = new(Target)
		f.d.read(*v)
	case coordinatorDescriptor:
		*v = &Target{Address: Coordinator}
		f.d.skip()
	default:
		f.d.fail("target expected, got composite %#x", got)
	}
}

func (f *fields) error(v **Error) { nested(f, v) }

// nested reads or writes a composite inside another.
func nested[T any, P interface {
	*T
	composite
}](f *fields, v *P) {
	switch {
	case f.d == nil && *v == nil:
		f.omit()
	case f.d == nil:
		f.put()
		f.out = appendComposite(f.out, *v)
	case f.next():
		*v = new(T)
		if got := f.d.describedAs(); f.d.err == nil && got != (*v).descriptor() {
			f.d.fail("composite %#x expected, got %#x", (*v).descriptor(), got)
		}
		f.d.read(*v)
	}
}

// An Error is an error condition with its text. It is an error of Go as well.
type Error struct {
	Condition   Symbol
	Description string
	Info        Map
}

func (*Error) descriptor() uint64 { return 0x1d }

func (e *Error) fields(f *fields) {
	f.symbol(&e.Condition)
	f.text(&e.Description)
	f.dictionary(&e.Info)
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Condition, e.Description) }

// A State is the state of a delivery, as a rule its outcome.
type State interface{ composite }

// Outcomes.
type (
	Accepted struct{}
	Released struct{}
	Rejected struct{ Error *Error }
	Modified struct {
		Failed        bool
		Undeliverable bool // here
		Annotations   Map
	}
)

// Received is no outcome: it tells how much of a delivery has arrived.
type Received struct {
	Section uint32
	Offset  uint64
}

func (*Received) descriptor() uint64 { return 0x23 }
func (*Accepted) descriptor() uint64 { return 0x24 }
func (*Rejected) descriptor() uint64 { return 0x25 }
func (*Released) descriptor() uint64 { return 0x26 }
func (*Modified) descriptor() uint64 { return 0x27 }

func (*Accepted) fields(*fields)     {}
func (*Released) fields(*fields)     {}
func (s *Rejected) fields(f *fields) { f.error(&s.Error) }

func (s *Modified) fields(f *fields) {
	f.flag(&s.Failed)
	f.flag(&s.Undeliverable)
	f.dictionary(&s.Annotations)
}

func (s *Received) fields(f *fields) {
	f.uint(&s.Section)
	f.ulong(&s.Offset)
}

func (f *fields) state(v *State) {
	if f.d == nil {
		if *v == nil {
			f.omit()
			return
		}
		f.put()
		f.out = appendComposite(f.out, *v)
		return
	}
	if !f.next() {
		return
	}
	switch got := f.d.describedAs(); got {
	case 0x23:
		*v = new(Received)
	case 0x24:
		*v = new(Accepted)
	case 0x25:
		*v = new(Rejected)
	case 0x26:
		*v = new(Released)
	case 0x27:
		*v = new(Modified)
	default:
		f.d.fail("state %#x is not known", got)
		return
	}
	f.d.read(*v)
}
