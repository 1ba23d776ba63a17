package amqp

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"
)

func ptr[T any](v T) *T { return &v }

// clientMessages are messages as the client writes them.
func clientMessages() []*client.Message {
	return []*client.Message{
		client.NewMessage([]byte("body")),
		{Data: [][]byte{}},
		{Data: [][]byte{[]byte("one"), []byte(strings.Repeat("two", 200))}},
		{Value: map[string]any{"lock-tokens": []client.UUID{{1}, {2}}, "n": int32(1), "s": []int64{1, 1 << 40}, "t": []time.Time{time.UnixMilli(5)}}},
		{Sequence: [][]any{{int64(1), "a"}, {}}},
		{Header: &client.MessageHeader{Durable: true, Priority: 9, TTL: 90 * time.Second, FirstAcquirer: true, DeliveryCount: 3},
			DeliveryAnnotations:   client.Annotations{"x-opt-lock-token": client.UUID{7}},
			Annotations:           client.Annotations{"x-opt-partition-key": "p", "x-opt-scheduled-enqueue-time": time.UnixMilli(12345)},
			Properties:            &client.MessageProperties{MessageID: "id", UserID: []byte("u"), To: ptr("to"), Subject: ptr("s"), ReplyTo: ptr("r"), CorrelationID: uint64(1), ContentType: ptr("text/plain"), GroupID: ptr("g"), GroupSequence: ptr(uint32(4)), ReplyToGroupID: ptr("rg")},
			ApplicationProperties: map[string]any{"DeadLetterReason": "why", "n": int64(5), "b": true, "f": 1.5},
			Data:                  [][]byte{[]byte("body")}, Footer: client.Annotations{"f": "x"}},
	}
}

// A message of the client is read, taken apart, put together again, and the
// client finds nothing changed.
func TestMessagesOfTheClient(t *testing.T) {
	for i, want := range clientMessages() {
		raw, err := want.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		m, err := DecodeMessage(raw)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		bare, err := DecodeBare(m.Bare)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		m.Bare = bare.Append(nil)
		var got, same client.Message
		if err := got.UnmarshalBinary(m.Append(nil)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if err := same.UnmarshalBinary(raw); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, same) {
			t.Errorf("message %d: got %+v, want %+v", i, got, same)
		}
	}
}

func TestMessageParts(t *testing.T) {
	raw, err := clientMessages()[5].MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	m, err := DecodeMessage(raw)
	if err != nil {
		t.Fatal(err)
	}
	if h := m.Header; h == nil || h.TTL != 90*time.Second || h.Priority != 9 || h.DeliveryCount != 3 || !h.Durable {
		t.Errorf("header: %+v", h)
	}
	if v, _ := m.Annotations.Get("x-opt-scheduled-enqueue-time"); v != time.UnixMilli(12345).UTC() {
		t.Errorf("annotation: %v", v)
	}
	b, err := DecodeBare(m.Bare)
	if err != nil {
		t.Fatal(err)
	}
	if b.Property(MessageID) != "id" || b.Property(GroupID) != "g" || b.Property(CorrelationID) != uint64(1) || b.Property(ReplyTo) != "r" {
		t.Errorf("properties: %v", b.Properties)
	}
	if b.Application.Text("DeadLetterReason") != "why" || string(b.Data[0]) != "body" || b.Value() != nil {
		t.Errorf("bare: %+v", b)
	}
}

func TestValueBody(t *testing.T) {
	raw, err := clientMessages()[3].MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	m, err := DecodeMessage(raw)
	if err != nil {
		t.Fatal(err)
	}
	b, err := DecodeBare(m.Bare)
	if err != nil {
		t.Fatal(err)
	}
	args, _ := b.Value().(Map)
	if tokens, _ := args.Get("lock-tokens"); !reflect.DeepEqual(tokens, Array{UUID{1}, UUID{2}}) {
		t.Errorf("lock tokens: %#v", tokens)
	}
	if numbers, _ := args.Get("s"); !reflect.DeepEqual(numbers, Array{int64(1), int64(1 << 40)}) {
		t.Errorf("numbers: %#v", numbers)
	}
}

func TestMalformedMessages(t *testing.T) {
	data := appendSection(nil, sectionData, []byte("x"))
	for name, raw := range map[string][]byte{
		"section out of order":   append(bytes.Clone(data), appendSection(nil, sectionApplication, Map{})...),
		"annotations twice":      append(appendSection(nil, sectionAnnotations, Map{}), appendSection(nil, sectionAnnotations, Map{})...),
		"header after them":      append(appendSection(nil, sectionAnnotations, Map{}), appendComposite(nil, &Header{})...),
		"two kinds of body":      append(bytes.Clone(data), AppendValue(nil, "x")...),
		"two values":             append(AppendValue(nil, "x"), AppendValue(nil, "x")...),
		"annotations no map":     appendSection(nil, sectionAnnotations, "x"),
		"data no binary":         appendSection(nil, sectionData, "x"),
		"properties no list":     appendSection(nil, sectionProperties, "x"),
		"unknown section":        appendSection(nil, 0x79, "x"),
		"unknown section first":  appendSection(nil, 0x6f, "x"),
		"bytes that are nothing": {1, 2, 3},
		"cut short":              data[:len(data)-1],
	} {
		if m, err := DecodeMessage(raw); err == nil {
			t.Errorf("%s: got %+v", name, m)
		}
	}
}

// What is taken for a message keeps every byte of its bare part, and can be put
// together again; what the client takes apart, we do too.
func FuzzMessage(f *testing.F) {
	for _, m := range clientMessages() {
		raw, err := m.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := DecodeMessage(raw)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(raw, m.Bare) {
			t.Fatal("the bare part is not the end of the message")
		}
		again, err := DecodeMessage(m.Append(nil))
		if err != nil || !bytes.Equal(again.Bare, m.Bare) {
			t.Fatalf("%x became %x: %v", raw, m.Append(nil), err)
		}
		bare, err := DecodeBare(m.Bare)
		if err != nil {
			t.Fatal(err)
		}
		bare.Value()
		out := bare.Append(nil)
		same, err := DecodeBare(out)
		if err != nil || !bytes.Equal(same.Append(nil), out) {
			t.Fatalf("%x became %x: %v", m.Bare, out, err)
		}
	})
}
