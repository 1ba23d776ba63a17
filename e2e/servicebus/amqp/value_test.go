package amqp

import (
	"bytes"
	"encoding/hex"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Each encoding of the specification, and what it means.
func TestValues(t *testing.T) {
	for _, tt := range []struct {
		hex  string
		want any
		same bool // Append writes it so again
	}{
		{"40", nil, true},
		{"41", true, true},
		{"42", false, true},
		{"5601", true, false},
		{"5600", false, false},
		{"50ff", uint8(255), true},
		{"60ffff", uint16(65535), true},
		{"43", uint32(0), true},
		{"5207", uint32(7), true},
		{"7000000100", uint32(256), true},
		{"44", uint64(0), true},
		{"5307", uint64(7), true},
		{"800000000000000100", uint64(256), true},
		{"51ff", int8(-1), true},
		{"61fffe", int16(-2), true},
		{"54ff", int32(-1), true},
		{"71ffffff00", int32(-256), true},
		{"55ff", int64(-1), true},
		{"81ffffffffffffff00", int64(-256), true},
		{"723fc00000", float32(1.5), true},
		{"823ff8000000000000", 1.5, true},
		{"730001f600", Char(0x1f600), true},
		{"830000018bcfe56800", time.UnixMilli(1_700_000_000_000).UTC(), true},
		{"8300000000000003e8", time.UnixMilli(1000).UTC(), true},
		{"98000102030405060708090a0b0c0d0e0f", UUID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, true},
		{"7401020304", Decimal{1, 2, 3, 4}, true},
		{"a003010203", []byte{1, 2, 3}, true},
		{"b000000003010203", []byte{1, 2, 3}, false},
		{"a0020000", []byte{0, 0}, true},
		{"a10161", "a", true},
		{"b10000000161", "a", false},
		{"a30161", Symbol("a"), true},
		{"45", []any{}, true},
		{"c0030252075c", nil, false}, // see below: 5c is no type
		{"c003024143", []any{true, uint32(0)}, false},
		{"d00000000600000002" + "4143", []any{true, uint32(0)}, true},
		{"c10502a1016141", Map{{"a", true}}, false},
		{"d10000000800000002" + "a1016141", Map{{"a", true}}, true},
		{"e0040352" + "0102", nil, false}, // three elements, two there
		{"e004025201" + "02", Array{uint32(1), uint32(2)}, false},
		{"f00000000d0000000270" + "0000000100000002", Array{uint32(1), uint32(2)}, true},
		{"f000000005" + "00000000" + "40", Array{}, true},
		{"00532455ff", Described{uint64(0x24), int64(-1)}, true},
		{"f0000000100000000100" + "530171" + "00000005", nil, false}, // says 16 bytes
		{"f00000000c0000000100" + "530171" + "00000005", Array{Described{uint64(1), int32(5)}}, true},
	} {
		raw, err := hex.DecodeString(tt.hex)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, err := Decode(append(raw, 0xaa))
		if tt.want == nil && tt.hex != "40" {
			if err == nil {
				t.Errorf("%s: no error but %#v", tt.hex, got)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, tt.want) || len(rest) != 1 {
			t.Errorf("%s: got %#v, %x, %v; want %#v", tt.hex, got, rest, err, tt.want)
			continue
		}
		if out := Append(nil, got); tt.same && !bytes.Equal(out, raw) {
			t.Errorf("%s: written as %x", tt.hex, out)
		}
	}
}

func TestMalformedValues(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":              "",
		"no such type":         "99",
		"cut short":            "7000",
		"boolean of two":       "5602",
		"string not UTF-8":     "a101ff",
		"symbol not ASCII":     "a302c3a4",
		"map of odd length":    "c1020141",
		"list longer than it":  "c0ff02",
		"more than the bytes":  "d0000000080000ffff41414141",
		"list with a rest":     "c004014141",
		"array of billions":    "f000000005ffffffff40",
		"size beyond the rest": "b0ffffffff00",
		"twice described":      "e008010000530153015201",
		"nested too deep":      strings.Repeat("0041", 40) + "41",
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if v, _, err := Decode(raw); err == nil {
			t.Errorf("%s: got %#v", name, v)
		}
	}
}

// samples are values of every type.
func samples() []any {
	return []any{nil, true, uint8(1), uint16(2), uint32(3), uint64(4), int8(-1), int16(-2), int32(-300), int64(-4), float32(1.5), math.Pi, Char('x'),
		time.UnixMilli(1).UTC(), UUID{1}, Decimal{1, 2, 3, 4, 5, 6, 7, 8}, []byte{1}, strings.Repeat("s", 300), Symbol("y"), []any{"a", nil},
		Map{{Symbol("k"), []any{}}, {int32(1), "v"}}, Array{"a", "b"}, Array{[]any{}, []any{true}}, Array{Map{}}, Array{Array{int64(1)}}, Array{Described{uint64(9), "x"}, Described{uint64(9), "y"}},
		Described{Symbol("d"), Map{}}}
}

// What was decoded encodes to something that decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, v := range samples() {
		f.Add(Append(nil, v))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, _, err := Decode(raw)
		if err != nil {
			return
		}
		out := Append(nil, v)
		again, rest, err := Decode(out)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%x became %x: %v", raw, out, err)
		}
		if !bytes.Equal(Append(nil, again), out) { // bytes, for NaN is not equal to itself
			t.Fatalf("%#v became %#v", v, again)
		}
	})
}

func TestTicks(t *testing.T) {
	at := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	if got := Ticks(at); got != 639_314_208_000_000_000 { // (DateTime)"2026-11-28Z".Ticks
		t.Errorf("got %d", got)
	}
}

func TestMapWith(t *testing.T) {
	m := Map{{Symbol("a"), 1}, {"b", 2}}
	if got := m.With(Symbol("b"), int32(3)).With("c", nil); !reflect.DeepEqual(got, Map{{Symbol("a"), 1}, {"b", int32(3)}, {"c", nil}}) {
		t.Errorf("got %v", got)
	}
	if m[1].Value != 2 {
		t.Error("the map itself changed")
	}
}
