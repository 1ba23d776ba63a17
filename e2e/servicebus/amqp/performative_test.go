package amqp

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

func performatives() []Performative {
	return []Performative{
		&Open{Container: "c", Hostname: "h", MaxFrameSize: 65536, ChannelMax: 9, IdleTimeout: 30 * time.Second, Properties: Map{{Symbol("product"), "p"}}},
		&Open{Container: "c", MaxFrameSize: 1<<32 - 1, ChannelMax: 65535},
		&Begin{NextOutgoing: 1, IncomingWindow: 2, OutgoingWindow: 3, HandleMax: 1<<32 - 1},
		&Begin{Answer: true, HandleMax: 254},
		&Attach{Name: "l", Handle: 1, Role: Receiver, SenderSettle: Mixed, ReceiverSettle: Second, Source: &Source{Address: "q", Filter: Map{{Symbol("f"), Described{uint64(1), nil}}}}, Target: &Target{}},
		&Attach{Name: "l", SenderSettle: Settled, Target: &Target{Address: "q"}, MaxMessageSize: 1 << 40, Desired: []Symbol{"a", "b"}, Properties: Map{{Symbol("p"), uint32(1)}}},
		&Attach{Name: "refused"},
		&Flow{IncomingWindow: 5000, OutgoingWindow: 5000},
		&Flow{NextIncoming: Some(0), Handle: Some(3), DeliveryCount: Some(7), LinkCredit: Some(100), Available: Some(1), Drain: true, Echo: true, Properties: Map{}},
		&Transfer{Handle: 1, DeliveryID: Some(0), DeliveryTag: []byte{1, 2}, MessageFormat: Some(BatchFormat), Settled: true, More: true},
		&Transfer{Aborted: true},
		&Disposition{Role: Receiver, First: 1, Last: Some(9), State: &Accepted{}},
		&Disposition{First: 1, Settled: true, State: &Rejected{Error: &Error{Condition: "c", Description: "d", Info: Map{{"k", "v"}}}}},
		&Disposition{State: &Modified{Failed: true, Undeliverable: true, Annotations: Map{}}},
		&Disposition{State: &Released{}},
		&Disposition{State: &Received{Section: 1, Offset: 2}},
		&Disposition{},
		&Detach{Handle: 1, Closed: true, Error: &Error{Condition: "amqp:not-found"}},
		&End{}, &End{Error: &Error{}}, &Close{}, &Close{Error: &Error{Condition: "c"}},
		&SASLMechanisms{Mechanisms: []Symbol{"ANONYMOUS"}},
		&SASLInit{Mechanism: "ANONYMOUS", Response: []byte{}, Hostname: "h"},
		&SASLOutcome{Code: 1},
	}
}

func TestPerformatives(t *testing.T) {
	for _, p := range performatives() {
		raw := AppendPerformative(nil, p)
		got, rest, err := DecodePerformative(append(raw, 1, 2))
		if err != nil || !bytes.Equal(rest, []byte{1, 2}) || !reflect.DeepEqual(got, p) {
			t.Errorf("%#v became %#v with %x, %v", p, got, rest, err)
		}
	}
}

// A coordinator is a target of another kind, which is read as an address that no
// entity has.
func TestCoordinator(t *testing.T) {
	raw := AppendPerformative(nil, &Attach{Name: "tx", Target: &Target{}})
	raw = bytes.Replace(raw, []byte{0x00, 0x53, 0x29}, []byte{0x00, 0x53, 0x30}, 1)
	p, _, err := DecodePerformative(raw)
	if a, ok := p.(*Attach); err != nil || !ok || a.Target == nil || a.Target.Address != Coordinator {
		t.Fatalf("got %#v, %v", p, err)
	}
}

func TestMalformedPerformatives(t *testing.T) {
	list32 := func(code byte, fields ...any) []byte {
		return Append(nil, Described{uint64(code), fields})
	}
	for name, raw := range map[string][]byte{
		"nothing":              {},
		"no described value":   Append(nil, "open"),
		"symbolic descriptor":  Append(nil, Described{Symbol("amqp:open:list"), []any{}}),
		"unknown":              list32(0x19),
		"no list":              Append(nil, Described{uint64(0x10), "x"}),
		"too many fields":      list32(0x17, nil, "x"),
		"field of wrong type":  list32(0x10, int32(1)),
		"begin without window": list32(0x11),
		"attach without role":  list32(0x12, "n", uint32(0)),
		"role of wrong type":   list32(0x12, "n", uint32(0), "sender"),
		"uint of wrong type":   list32(0x14, uint64(1)),
		"unknown outcome":      list32(0x15, true, uint32(0), nil, nil, Described{uint64(0x99), []any{}}),
		"source of wrong type": list32(0x12, "n", uint32(0), true, nil, nil, Described{uint64(0x29), []any{}}),
		"symbols of strings":   list32(0x40, Array{"ANONYMOUS"}),
		"flag of wrong type":   list32(0x16, uint32(0), "closed"),
	} {
		if p, _, err := DecodePerformative(raw); err == nil {
			t.Errorf("%s: got %#v", name, p)
		}
	}
}

// A performative that was read is written so that it reads the same.
func FuzzPerformative(f *testing.F) {
	for _, p := range performatives() {
		f.Add(AppendPerformative(nil, p))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, _, err := DecodePerformative(raw)
		if err != nil {
			return
		}
		out := AppendPerformative(nil, p)
		again, rest, err := DecodePerformative(out)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%#v was written as %x: %v", p, out, err)
		}
		if !bytes.Equal(AppendPerformative(nil, again), out) {
			t.Fatalf("%#v became %#v", p, again)
		}
	})
}

func TestFrames(t *testing.T) {
	raw := AppendFrame(nil, TypeAMQP, 7, &Transfer{Handle: 1}, []byte("payload"))
	raw = AppendFrame(raw, TypeSASL, 0, &SASLOutcome{}, nil)
	raw = AppendFrame(raw, TypeAMQP, 0, nil, nil)
	r, buf := bytes.NewReader(raw), make([]byte, 8)
	kind, channel, body, err := ReadFrame(r, buf, 512)
	if err != nil || kind != TypeAMQP || channel != 7 {
		t.Fatalf("kind %d, channel %d: %v", kind, channel, err)
	}
	if _, rest, err := DecodePerformative(body); err != nil || string(rest) != "payload" {
		t.Fatalf("payload %q: %v", rest, err)
	}
	if kind, _, _, err = ReadFrame(r, buf, 512); err != nil || kind != TypeSASL {
		t.Fatalf("kind %d: %v", kind, err)
	}
	if _, _, body, err = ReadFrame(r, buf, 512); err != nil || len(body) != 0 {
		t.Fatalf("heartbeat of %d bytes: %v", len(body), err)
	}
	for name, raw := range map[string][]byte{
		"shorter than its header": {0, 0, 0, 7, 2, 0, 0, 0},
		"longer than the limit":   {0, 0, 2, 1, 2, 0, 0, 0},
		"body inside the header":  {0, 0, 0, 8, 1, 0, 0, 0},
		"body behind the end":     {0, 0, 0, 8, 3, 0, 0, 0},
		"unknown kind":            {0, 0, 0, 8, 2, 2, 0, 0},
		"cut short":               {0, 0, 0, 9, 2, 0, 0, 0},
	} {
		if _, _, _, err := ReadFrame(bytes.NewReader(raw), nil, 512); err == nil {
			t.Errorf("a frame %s was read", name)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, p := range performatives() {
		f.Add(AppendFrame(nil, TypeAMQP, 1, p, []byte("x")))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, _, body, err := ReadFrame(bytes.NewReader(raw), nil, 1<<16); err == nil && len(body)+8 > len(raw) {
			t.Fatalf("body of %d bytes out of %d", len(body), len(raw))
		}
	})
}
