package amqp

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Append encodes a value in its shortest form. It panics on a type that is no
// value: that is an error of the program, no input leads to it.
func Append(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, codeNull)
	case bool:
		if v {
			return append(dst, codeTrue)
		}
		return append(dst, codeFalse)
	case uint32:
		return appendUint(dst, v)
	case uint64:
		return appendUlong(dst, v)
	case int32:
		if v >= math.MinInt8 && v <= math.MaxInt8 {
			return append(dst, codeSmallInt, byte(v))
		}
	case int64:
		if v >= math.MinInt8 && v <= math.MaxInt8 {
			return append(dst, codeSmallLong, byte(v))
		}
	case []byte:
		return appendVariable(dst, codeBinary8, v)
	case string:
		return appendVariable(dst, codeString8, v)
	case Symbol:
		return appendVariable(dst, codeSymbol8, v)
	case []any:
		if len(v) == 0 {
			return append(dst, codeList0)
		}
	case Described:
		return Append(Append(append(dst, codeDescribed), v.Descriptor), v.Value)
	}
	code := wideCode(v)
	return appendWide(append(dst, code), v)
}

func appendUint(dst []byte, v uint32) []byte {
	switch {
	case v == 0:
		return append(dst, codeUint0)
	case v <= math.MaxUint8:
		return append(dst, codeSmallUint, byte(v))
	}
	return binary.BigEndian.AppendUint32(append(dst, codeUint), v)
}

func appendUlong(dst []byte, v uint64) []byte {
	switch {
	case v == 0:
		return append(dst, codeUlong0)
	case v <= math.MaxUint8:
		return append(dst, codeSmallUlong, byte(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, codeUlong), v)
}

// appendVariable takes the code of the short form; the long one is 0x10 above.
func appendVariable[T ~string | ~[]byte](dst []byte, code byte, v T) []byte {
	if len(v) <= math.MaxUint8 {
		return append(append(dst, code, byte(len(v))), v...)
	}
	return append(binary.BigEndian.AppendUint32(append(dst, code|0x10), uint32(len(v))), v...)
}

// wideCode is the code under which a value of this type always fits, which is
// what the elements of an array share.
func wideCode(v any) byte {
	switch v := v.(type) {
	case nil:
		return codeNull
	case bool:
		return codeBoolean
	case uint8:
		return codeUbyte
	case uint16:
		return codeUshort
	case uint32:
		return codeUint
	case uint64:
		return codeUlong
	case int8:
		return codeByte
	case int16:
		return codeShort
	case int32:
		return codeInt
	case int64:
		return codeLong
	case float32:
		return codeFloat
	case float64:
		return codeDouble
	case Char:
		return codeChar
	case time.Time:
		return codeTimestamp
	case UUID:
		return codeUUID
	case Decimal:
		switch len(v) {
		case 4:
			return codeDecimal32
		case 8:
			return codeDecimal64
		}
		return codeDecimal128
	case []byte:
		return codeBinary32
	case string:
		return codeString32
	case Symbol:
		return codeSymbol32
	case []any:
		return codeList32
	case Map:
		return codeMap32
	case Array:
		return codeArray32
	}
	panic(fmt.Sprintf("amqp: %T is no AMQP value", v))
}

// appendWide encodes the data of a value, without its code, under wideCode.
func appendWide(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return dst
	case bool:
		if v {
			return append(dst, 1)
		}
		return append(dst, 0)
	case uint8:
		return append(dst, v)
	case uint16:
		return binary.BigEndian.AppendUint16(dst, v)
	case uint32:
		return binary.BigEndian.AppendUint32(dst, v)
	case uint64:
		return binary.BigEndian.AppendUint64(dst, v)
	case int8:
		return append(dst, byte(v))
	case int16:
		return binary.BigEndian.AppendUint16(dst, uint16(v))
	case int32:
		return binary.BigEndian.AppendUint32(dst, uint32(v))
	case int64:
		return binary.BigEndian.AppendUint64(dst, uint64(v))
	case float32:
		return binary.BigEndian.AppendUint32(dst, math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
	case Char:
		return binary.BigEndian.AppendUint32(dst, uint32(v))
	case time.Time:
		return binary.BigEndian.AppendUint64(dst, uint64(v.UnixMilli()))
	case UUID:
		return append(dst, v[:]...)
	case Decimal:
		return append(dst, v...)
	case []byte:
		return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
	case string:
		return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
	case Symbol:
		return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
	case []any:
		return counted(dst, len(v), func(dst []byte) []byte {
			for _, x := range v {
				dst = Append(dst, x)
			}
			return dst
		})
	case Map:
		return counted(dst, 2*len(v), func(dst []byte) []byte {
			for _, p := range v {
				dst = Append(Append(dst, p.Key), p.Value)
			}
			return dst
		})
	case Array:
		return counted(dst, len(v), func(dst []byte) []byte { return appendElements(dst, v) })
	}
	panic(fmt.Sprintf("amqp: %T is no AMQP value", v))
}

func appendElements(dst []byte, v Array) []byte {
	if len(v) == 0 {
		return append(dst, codeNull)
	}
	first := v[0]
	described, isDescribed := first.(Described)
	if isDescribed {
		dst, first = Append(append(dst, codeDescribed), described.Descriptor), described.Value
	}
	dst = append(dst, wideCode(first))
	for _, x := range v {
		if isDescribed {
			x = x.(Described).Value
		}
		dst = appendWide(dst, x)
	}
	return dst
}

// counted puts size and count before what content appends.
func counted(dst []byte, n int, content func([]byte) []byte) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 0), uint32(n))
	dst = content(dst)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}
