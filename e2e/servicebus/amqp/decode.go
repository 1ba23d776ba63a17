package amqp

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// Decode reads one value and returns what follows it.
func Decode(b []byte) (v any, rest []byte, err error) {
	d := decoder{buf: b}
	v = d.value()
	if d.err != nil {
		return nil, nil, d.err
	}
	return v, d.buf[d.off:], nil
}

// A decoder walks over encoded values. After the first error it returns zero
// values only.
type decoder struct {
	buf   []byte
	off   int
	depth int
	err   error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("amqp: at byte %d: %s", d.off, fmt.Sprintf(format, args...))
	}
}

func (d *decoder) left() int { return len(d.buf) - d.off }

// take returns the next n bytes without copying them.
func (d *decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > d.left() {
		d.fail("%d bytes expected, %d are there", n, d.left())
		return nil
	}
	b := d.buf[d.off : d.off+n : d.off+n]
	d.off += n
	return b
}

func (d *decoder) uint(n int) uint64 {
	b := d.take(n)
	if len(b) == 0 { // a value of no width, or the end
		return 0
	}
	switch n {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	}
	return binary.BigEndian.Uint64(b)
}

func (d *decoder) code() byte { return byte(d.uint(1)) }

// peek is the next code without moving on; null at the end, which then fails.
func (d *decoder) peek() byte {
	if d.err != nil || d.left() == 0 {
		return codeNull
	}
	return d.buf[d.off]
}

func (d *decoder) value() any { return d.of(d.code()) }

// of reads the data of a value whose code was read.
func (d *decoder) of(code byte) any {
	if d.err != nil {
		return nil
	}
	switch code {
	case codeNull:
		return nil
	case codeTrue:
		return true
	case codeFalse:
		return false
	case codeBoolean:
		n := d.uint(1)
		if n > 1 {
			d.fail("boolean of value %d", n)
		}
		return n == 1
	case codeUbyte:
		return uint8(d.uint(1))
	case codeUshort:
		return uint16(d.uint(2))
	case codeUint0, codeSmallUint, codeUint:
		return uint32(d.uint(width(code)))
	case codeUlong0, codeSmallUlong, codeUlong:
		return d.uint(width(code))
	case codeByte:
		return int8(d.uint(1))
	case codeShort:
		return int16(d.uint(2))
	case codeSmallInt:
		return int32(int8(d.uint(1)))
	case codeInt:
		return int32(d.uint(4))
	case codeSmallLong:
		return int64(int8(d.uint(1)))
	case codeLong:
		return int64(d.uint(8))
	case codeFloat:
		return math.Float32frombits(uint32(d.uint(4)))
	case codeDouble:
		return math.Float64frombits(d.uint(8))
	case codeChar:
		return Char(d.uint(4))
	case codeTimestamp:
		return time.UnixMilli(int64(d.uint(8))).UTC()
	case codeDecimal32, codeDecimal64, codeDecimal128:
		return Decimal(append([]byte(nil), d.take(width(code))...))
	case codeUUID:
		var u UUID
		copy(u[:], d.take(16))
		return u
	case codeBinary8, codeBinary32:
		return append([]byte{}, d.variable(code)...)
	case codeString8, codeString32:
		b := d.variable(code)
		if !utf8.Valid(b) {
			d.fail("string is not UTF-8")
		}
		return string(b)
	case codeSymbol8, codeSymbol32:
		b := d.variable(code)
		for _, c := range b {
			if c >= utf8.RuneSelf {
				d.fail("symbol is not ASCII")
				break
			}
		}
		return Symbol(b)
	}
	return d.compound(code)
}

// width is how many bytes a value of fixed size takes.
func width(code byte) int {
	switch code >> 4 {
	case 4:
		return 0
	case 5:
		return 1
	case 6:
		return 2
	case 7:
		return 4
	case 8:
		return 8
	}
	return 16
}

// variable returns the bytes of a binary, string or symbol.
func (d *decoder) variable(code byte) []byte {
	if code>>4 == 0xb {
		return d.take(int(min(d.uint(4), math.MaxInt32)))
	}
	return d.take(int(d.uint(1)))
}

func (d *decoder) compound(code byte) any {
	if d.depth++; d.depth > maxDepth {
		d.fail("values are nested more than %d deep", maxDepth)
		return nil
	}
	defer func() { d.depth-- }()
	switch code {
	case codeDescribed:
		descriptor := d.value()
		return Described{descriptor, d.value()}
	case codeList0, codeList8, codeList32:
		n, end := d.counted(code)
		list := make([]any, 0, min(n, 64))
		for range n {
			if d.err != nil {
				return nil
			}
			list = append(list, d.value())
		}
		d.expect(end)
		return list
	case codeMap8, codeMap32:
		n, end := d.counted(code)
		if n%2 != 0 {
			d.fail("map of %d keys and values", n)
		}
		m := make(Map, 0, min(n/2, 64))
		for range n / 2 {
			if d.err != nil {
				return nil
			}
			key := d.value()
			m = append(m, Pair{key, d.value()})
		}
		d.expect(end)
		return m
	case codeArray8, codeArray32:
		return d.array(code)
	}
	d.fail("type code %#02x is not known", code)
	return nil
}

func (d *decoder) array(code byte) any {
	n, end := d.counted(code)
	var described bool
	var descriptor any
	of := d.code()
	if of == codeDescribed {
		described, descriptor, of = true, d.value(), d.code()
	}
	if of == codeDescribed {
		d.fail("array of twice described values")
	}
	if (of>>4 == 4 && n > maxEmpty) || (of>>4 != 4 && n > d.left()) {
		d.fail("%d elements of code %#02x in %d bytes", n, of, d.left())
	}
	items := make(Array, 0, min(n, 64))
	for range n {
		if d.err != nil {
			return nil
		}
		v := d.of(of)
		if described {
			v = Described{descriptor, v}
		}
		items = append(items, v)
	}
	d.expect(end)
	return items
}

// counted reads size and count of a list, map or array, and says where it ends.
func (d *decoder) counted(code byte) (n, end int) {
	if code == codeList0 {
		return 0, d.off
	}
	w := 1
	if code&0x10 != 0 {
		w = 4
	}
	size := int(min(d.uint(w), math.MaxInt32))
	end = d.off + size
	n = int(d.uint(w))
	switch {
	case d.err != nil:
	case size < w || end > len(d.buf):
		d.fail("compound of %d bytes, %d are there", size, d.left()+w)
	case n > maxItems:
		d.fail("%d elements, at most %d are read", n, maxItems)
	case code != codeArray8 && code != codeArray32 && n > end-d.off:
		d.fail("%d elements in %d bytes", n, end-d.off)
	}
	if d.err != nil {
		return 0, d.off
	}
	return n, end
}

func (d *decoder) expect(end int) {
	if d.err == nil && d.off != end {
		d.fail("compound should end at byte %d", end)
	}
}

// skip passes over one value and checks it all the same.
func (d *decoder) skip() {
	switch code := d.peek(); code {
	case codeBinary8, codeBinary32: // bodies, by far the largest
		d.off++
		d.variable(code)
	default:
		d.value()
	}
}
