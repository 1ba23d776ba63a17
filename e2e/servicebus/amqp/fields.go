package amqp

import (
	"encoding/binary"
	"time"
)

// An Optional is an unsigned integer that may be absent.
type Optional struct {
	Value uint32
	Set   bool
}

// Some is a value that is there.
func Some(v uint32) Optional { return Optional{v, true} }

// fields walks over the fields of a composite type in the order of the
// specification, reading or writing them, so that each type says its fields
// once. Trailing nulls are not written.
type fields struct {
	d    *decoder // reading; nil when writing
	left int      // fields still to be read

	out   []byte // writing
	n     int    // fields written
	nulls int    // nulls not yet written
}

// composite is a described list with a numeric descriptor.
type composite interface {
	descriptor() uint64
	fields(*fields)
}

func appendComposite(dst []byte, c composite) []byte {
	dst = appendUlong(append(dst, codeDescribed), c.descriptor())
	dst = append(dst, codeList32)
	at := len(dst)
	f := fields{out: append(dst, 0, 0, 0, 0, 0, 0, 0, 0)}
	c.fields(&f)
	if f.n == 0 {
		f.out[at-1] = codeList0
		return f.out[:at]
	}
	binary.BigEndian.PutUint32(f.out[at:], uint32(len(f.out)-at-4))
	binary.BigEndian.PutUint32(f.out[at+4:], uint32(f.n))
	return f.out
}

// read fills c from the list that follows its descriptor.
func (d *decoder) read(c composite) {
	if d.depth++; d.depth > maxDepth {
		d.fail("values are nested more than %d deep", maxDepth)
	}
	code := d.code()
	if code != codeList0 && code != codeList8 && code != codeList32 {
		d.fail("composite %#x is no list but %#02x", c.descriptor(), code)
	}
	if d.err != nil {
		return
	}
	n, end := d.counted(code)
	f := fields{d: d, left: n}
	c.fields(&f)
	if f.left > 0 {
		d.fail("composite %#x has %d fields too many", c.descriptor(), f.left)
	}
	d.expect(end)
	d.depth--
}

// describedAs reads a descriptor, which may be the number only.
func (d *decoder) describedAs() uint64 {
	if c := d.code(); c != codeDescribed {
		d.fail("described value expected, got %#02x", c)
	}
	switch c := d.code(); c {
	case codeUlong0, codeSmallUlong, codeUlong:
		return d.uint(width(c))
	default:
		d.fail("numeric descriptor expected, got %#02x", c)
	}
	return 0
}

// next reports whether a field is there to be read.
func (f *fields) next() bool {
	if f.left == 0 || f.d.err != nil {
		return false
	}
	f.left--
	if f.d.peek() == codeNull {
		f.d.code()
		return false
	}
	return true
}

// put makes room for a field that is not null; omit counts one that is.
func (f *fields) put() {
	for ; f.nulls > 0; f.nulls-- {
		f.out = append(f.out, codeNull)
		f.n++
	}
	f.n++
}

func (f *fields) omit() { f.nulls++ }

// ignore passes over n fields that mean nothing here, and writes none.
func (f *fields) ignore(n int) {
	for range n {
		if f.d == nil {
			f.omit()
		} else if f.next() {
			f.d.skip()
		}
	}
}

// typed reads or writes a field of one type; it is left out when absent says so.
func typed[T any](f *fields, v *T, absent bool) {
	if f.d == nil {
		if absent {
			f.omit()
			return
		}
		f.put()
		f.out = Append(f.out, *v)
		return
	}
	if !f.next() {
		return
	}
	got := f.d.value()
	t, ok := got.(T)
	if !ok && f.d.err == nil {
		f.d.fail("field of type %T expected, got %T", *v, got)
	}
	*v = t
}

func (f *fields) text(v *string)    { typed(f, v, *v == "") }
func (f *fields) symbol(v *Symbol)  { typed(f, v, *v == "") }
func (f *fields) binary(v *[]byte)  { typed(f, v, *v == nil) }
func (f *fields) dictionary(v *Map) { typed(f, v, *v == nil) }
func (f *fields) ubyte(v *uint8)    { typed(f, v, false) }
func (f *fields) ulong(v *uint64)   { typed(f, v, *v == 0) }

// flag is a boolean that is false when absent.
func (f *fields) flag(v *bool) {
	if f.d == nil {
		typed(f, v, !*v)
		return
	}
	if f.next() {
		if b, ok := f.d.value().(bool); ok {
			*v = b
		} else {
			f.d.fail("boolean expected")
		}
	}
}

// role is a boolean that must be there.
func (f *fields) role(v *bool) {
	if f.d != nil && (f.left == 0 || f.d.peek() == codeNull) {
		f.d.fail("no role")
		return
	}
	typed(f, v, false)
}

// uint is a number that must be there.
func (f *fields) uint(v *uint32) {
	o := Some(*v)
	f.optional(&o)
	if f.d != nil && !o.Set {
		f.d.fail("a field that must be there is absent")
	}
	*v = o.Value
}

// uintOr is a number with a default.
func (f *fields) uintOr(v *uint32, def uint32) {
	o := Optional{*v, *v != def}
	f.optional(&o)
	if f.d != nil && !o.Set {
		o.Value = def
	}
	*v = o.Value
}

func (f *fields) optional(v *Optional) {
	switch {
	case f.d == nil && !v.Set:
		f.omit()
	case f.d == nil:
		f.put()
		f.out = appendUint(f.out, v.Value)
	default:
		*v = Optional{}
		if !f.next() {
			return
		}
		switch c := f.d.code(); c {
		case codeUint0, codeSmallUint, codeUint:
			*v = Some(uint32(f.d.uint(width(c))))
		default:
			f.d.fail("uint expected, got %#02x", c)
		}
	}
}

func (f *fields) ushortOr(v *uint16, def uint16) {
	if f.d != nil {
		*v = def
	}
	typed(f, v, *v == def)
}

// mode is a settle mode: absent means def.
func (f *fields) mode(v *uint8, def uint8) {
	if f.d != nil {
		*v = def
	}
	typed(f, v, false)
}

func (f *fields) milliseconds(v *time.Duration) {
	o := Optional{uint32(*v / time.Millisecond), *v != 0}
	f.optional(&o)
	*v = time.Duration(o.Value) * time.Millisecond
}

// symbols are written as an array; a single one may also come alone.
func (f *fields) symbols(v *[]Symbol) {
	if f.d == nil {
		if *v == nil {
			f.omit()
			return
		}
		a := make(Array, len(*v))
		for i, s := range *v {
			a[i] = s
		}
		typed(f, &a, false)
		return
	}
	if !f.next() {
		return
	}
	switch got := f.d.value().(type) {
	case Symbol:
		*v = []Symbol{got}
	case Array:
		for _, x := range got {
			s, ok := x.(Symbol)
			if !ok {
				f.d.fail("symbol expected, got %T", x)
			}
			*v = append(*v, s)
		}
	default:
		f.d.fail("symbols expected, got %T", got)
	}
}
