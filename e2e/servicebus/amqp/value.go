package amqp

import "time"

// A value on the wire is one of: nil, bool, uint8, uint16, uint32, uint64, int8,
// int16, int32, int64, float32, float64, Char, [time.Time] (to the millisecond),
// UUID, []byte, string, Symbol, Decimal, []any (a list), Map, Array, Described.
type (
	Symbol  string
	Char    rune
	UUID    [16]byte // in network order
	Decimal []byte   // 4, 8 or 16 bytes, not interpreted

	// Array holds elements of one type. The element type of an empty array is
	// not kept.
	Array []any

	// Map keeps the order of the wire and says nothing about double keys.
	Map []Pair

	// Described is a value with a descriptor, a ulong or a symbol as a rule.
	Described struct{ Descriptor, Value any }
)

// Pair is an entry of a map.
type Pair struct{ Key, Value any }

// Name is the key as text; "" when it is no string or symbol.
func (p Pair) Name() string { return text(p.Key) }

// Get returns the value under a key that is a string or a symbol.
func (m Map) Get(key string) (any, bool) {
	for _, p := range m {
		if text(p.Key) == key {
			return p.Value, true
		}
	}
	return nil, false
}

// Text is the string or symbol under key; "" when it is absent or of another type.
func (m Map) Text(key string) string {
	v, _ := m.Get(key)
	return text(v)
}

// With returns a map in which key has this value: in place, or as the last
// entry. The map itself is not changed.
func (m Map) With(key, value any) Map {
	out := make(Map, 0, len(m)+1)
	found := false
	for _, p := range m {
		if text(p.Key) == text(key) {
			p.Value, found = value, true
		}
		out = append(out, p)
	}
	if !found {
		out = append(out, Pair{key, value})
	}
	return out
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case Symbol:
		return string(v)
	}
	return ""
}

// Type codes (AMQP 1.0, part 1, section 1.6).
const (
	codeDescribed  = 0x00
	codeNull       = 0x40
	codeTrue       = 0x41
	codeFalse      = 0x42
	codeUint0      = 0x43
	codeUlong0     = 0x44
	codeList0      = 0x45
	codeUbyte      = 0x50
	codeByte       = 0x51
	codeSmallUint  = 0x52
	codeSmallUlong = 0x53
	codeSmallInt   = 0x54
	codeSmallLong  = 0x55
	codeBoolean    = 0x56
	codeUshort     = 0x60
	codeShort      = 0x61
	codeUint       = 0x70
	codeInt        = 0x71
	codeFloat      = 0x72
	codeChar       = 0x73
	codeDecimal32  = 0x74
	codeUlong      = 0x80
	codeLong       = 0x81
	codeDouble     = 0x82
	codeTimestamp  = 0x83
	codeDecimal64  = 0x84
	codeDecimal128 = 0x94
	codeUUID       = 0x98
	codeBinary8    = 0xa0
	codeString8    = 0xa1
	codeSymbol8    = 0xa3
	codeBinary32   = 0xb0
	codeString32   = 0xb1
	codeSymbol32   = 0xb3
	codeList8      = 0xc0
	codeMap8       = 0xc1
	codeList32     = 0xd0
	codeMap32      = 0xd1
	codeArray8     = 0xe0
	codeArray32    = 0xf0
)

// Ticks counts 100 ns since the year 1, as .NET does. Service Bus tells the end
// of a session's lock so.
func Ticks(t time.Time) int64 { return 621_355_968_000_000_000 + t.UnixMilli()*10_000 }
