package busqueue

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/Azure/go-amqp"
)

// frameOf is a frame of AMQP with a transfer on link 1.
func frameOf(more bool, payload []byte) []byte {
	last := byte(0x42)
	if more {
		last = 0x41
	}
	body := append([]byte{0, 0x53, 0x14, 0xc0, 9, 6, 0x52, 1, 0x43, 0xa0, 0, 0x40, 0x42, last}, payload...)
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(8+len(body))), 2, 0, 0, 0), body...)
}

// What comes in pieces of any size is heard whole, and not more of it than the bound.
func TestHeard(t *testing.T) {
	stream := append([]byte("AMQP\x00\x01\x00\x00"), frameOf(true, []byte("one "))...)
	stream = append(stream, 0, 0, 0, 8, 2, 0, 0, 0) // an empty frame keeps the connection alive
	stream = append(append(stream, frameOf(false, []byte("two"))...), frameOf(false, []byte("three"))...)
	for size := 1; size <= len(stream); size++ {
		var h heard
		h.forget()
		for rest := stream; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			h.take(rest[:min(size, len(rest))])
		}
		if got := string(bytes.Join(h.said, []byte("|"))); got != "one two|three" || len(h.frame) != 0 {
			t.Fatalf("in pieces of %d: heard %q, and %d octets are left", size, got, len(h.frame))
		}
	}
	var h heard
	h.forget()
	for range maxHeard/(64<<10) + 2 {
		h.take(frameOf(true, make([]byte, 64<<10)))
	}
	if h.take(frameOf(false, nil)); len(h.said) != 0 || len(h.parts) != 0 {
		t.Errorf("more than %d octets, and %d are kept", maxHeard, len(h.said))
	}
	h.forget()
	if h.take(frameOf(false, []byte("again"))); len(h.said) != 1 {
		t.Error("nothing is heard after it")
	}
}

// What is no message comes as it is, and does not keep back what is one.
func TestAnswer(t *testing.T) {
	good := &amqp.Message{Annotations: amqp.Annotations{annSequence: int64(7)}, Data: [][]byte{[]byte("good")}}
	raw, err := good.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	garbage := []byte{0, 0x53, 0x7f, 0xff}
	answer := &amqp.Message{Value: map[string]any{"messages": []any{map[string]any{"message": garbage}, map[string]any{"message": raw}}}}
	if raw, err = answer.MarshalBinary(); err != nil {
		t.Fatal(err)
	}
	var h heard
	h.forget()
	h.take(frameOf(false, raw))
	h.take(frameOf(false, []byte("another link's")))
	if got := fmt.Sprint(h.answer()); got != fmt.Sprint([]peeked{{seq: -1, body: garbage}, {seq: 7, body: []byte("good")}}) {
		t.Errorf("heard %s", got)
	}
}

func FuzzHeard(f *testing.F) {
	f.Add([]byte("AMQP\x00\x01\x00\x00"))
	f.Add(frameOf(true, []byte("one")))
	f.Add(frameOf(false, []byte{0, 0x53, 0x77, 0xc1, 1, 0}))
	f.Add([]byte{0, 0, 0, 13, 2, 0, 0, 0, 0, 0x53, 0x14, 0xc0, 0})
	f.Fuzz(func(t *testing.T, said []byte) {
		var h heard
		h.forget()
		h.take(said)
		h.answer()
		if len(h.frame) > len(said) || h.octets > len(said) {
			t.Errorf("%d octets, of which it keeps %d and %d", len(said), len(h.frame), h.octets)
		}
	})
}
