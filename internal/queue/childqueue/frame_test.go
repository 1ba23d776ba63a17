package childqueue

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"jmlbridge/internal/doctor"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/memqueue"
)

// Every kind of payload comes back as it went.
func TestRoundTrip(t *testing.T) {
	o := opening{roleReceiver, queue.Position("dark 1 2"), []byte(`{"a":1}`)}
	if got, err := decodeOpening(o.encode()); err != nil || string(got.from) != string(o.from) || string(got.config) != string(o.config) || got.role != o.role {
		t.Errorf("opening: %+v, %v", got, err)
	}
	m := queue.Message{ID: "id", Body: []byte{0, 1, 2}}
	if got, err := decodeMessage(encodeMessage(m)); err != nil || got.ID != m.ID || !bytes.Equal(got.Body, m.Body) {
		t.Errorf("message: %+v, %v", got, err)
	}
	d := delivered{7, queue.Delivery{Body: []byte("b"), Position: queue.Position("9"), DeadLettered: true}}
	if got, err := decodeDelivered(d.encode()); err != nil || got.lease != 7 || !got.DeadLettered || string(got.Body) != "b" || string(got.Position) != "9" || len(d.encode()) != d.size() {
		t.Errorf("delivery: %+v, %v", got, err)
	}
	f := doctor.Finding{Name: "tls", Verdict: doctor.Unknown, Text: "1.3", Do: "nothing"}
	if got, err := decodeFinding(encodeFinding(f)); err != nil || got != f {
		t.Errorf("finding: %+v, %v", got, err)
	}
	if got, err := decodeLeases(encodeLeases([]uint64{1, 1 << 60})); err != nil || len(got) != 2 || got[1] != 1<<60 {
		t.Errorf("leases: %v, %v", got, err)
	}
	for _, cause := range append([]error{nil, errors.New("else")}, causes...) {
		err := cause
		if err != nil {
			err = fmt.Errorf("wrapped: %w", err)
		}
		got, derr := decodeResult(result{n: 3, err: err}.encode())
		if derr != nil || got.n != 3 || (got.err == nil) != (cause == nil) {
			t.Fatalf("%v: %+v, %v", cause, got, derr)
		}
		for _, c := range causes {
			if errors.Is(got.err, c) != errors.Is(err, c) {
				t.Errorf("%v: is it %v? %t", cause, c, errors.Is(got.err, c))
			}
		}
	}
}

// Words of a child are cut, and made plain before anybody reads them.
func TestWords(t *testing.T) {
	got, err := decodeResult(result{err: errors.New(strings.Repeat("\x1b[2J\nä", 10_000))}.encode())
	if err != nil || len(got.err.Error()) > 4*maxText || strings.ContainsAny(got.err.Error(), "\x1b\n") {
		t.Errorf("%v: %.100q", err, got.err)
	}
}

// FuzzFrames: whatever comes over the pipe is a frame that says itself again in the same octets, or an error.
func FuzzFrames(f *testing.F) {
	for _, fr := range []frame{
		{kindOpen, 1, opening{rolePublisher, nil, []byte("{}")}.encode()},
		{kindMessage, 2, encodeMessage(queue.Message{ID: "a", Body: []byte("b")})},
		{kindDelivery, 3, delivered{1, queue.Delivery{Body: []byte("x")}}.encode()},
		{kindDone, 4, result{1, queue.ErrFull}.encode()},
		{kindSettle, 5, encodeLeases([]uint64{1})},
		{kindFinding, 6, encodeFinding(doctor.Finding{Verdict: doctor.Well, Name: "name", Text: "text"})},
		{kindPing, 0, nil},
	} {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		_ = writeFrame(w, fr)
		_ = w.Flush()
		f.Add(b.Bytes())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bufio.NewReader(bytes.NewReader(raw))
		for at := 0; ; {
			fr, err := readFrame(r)
			if err != nil {
				return
			}
			var b bytes.Buffer
			w := bufio.NewWriter(&b)
			if err := errors.Join(writeFrame(w, fr), w.Flush()); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), raw[at:at+b.Len()]) {
				t.Fatalf("frame %+v is %x again, was %x", fr, b.Bytes(), raw[at:at+b.Len()])
			}
			at += b.Len()
			same := func(again []byte, err error) {
				if err == nil && !bytes.Equal(again, fr.payload) {
					t.Fatalf("payload of kind %d is %x again, was %x", fr.kind, again, fr.payload)
				}
			}
			if o, err := decodeOpening(fr.payload); err == nil {
				same(o.encode(), nil)
			}
			if m, err := decodeMessage(fr.payload); err == nil {
				same(encodeMessage(m), nil)
			}
			if d, err := decodeDelivered(fr.payload); err == nil {
				same(d.encode(), nil)
			}
			if l, err := decodeLeases(fr.payload); err == nil {
				same(encodeLeases(l), nil)
			}
			_, _ = decodeFinding(fr.payload)
			_, _ = decodeResult(fr.payload)
		}
	})
}

// What a child keeps for its parent has bounds: the oldest leases are forgotten, and more calls at once than any parent makes end it.
func TestServeIsBounded(t *testing.T) {
	s := &server{leases: map[uint64]any{}}
	for range maxLeases + 3 {
		s.lend("a lease")
	}
	if _, oldest := s.leases[3]; oldest || len(s.leases) != maxLeases || s.leases[maxLeases+3] == nil {
		t.Errorf("%d leases are kept, the third among them: %t", len(s.leases), oldest)
	}
	q := memqueue.New(memqueue.Options{})
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	_ = writeFrame(w, frame{kindOpen, 0, opening{roleReceiver, nil, nil}.encode()})
	for i := range maxCalls + 1 {
		_ = writeFrame(w, frame{kindFetch, uint64(i + 1), encodeNumber(1)})
	}
	_ = w.Flush()
	if err := Serve(&b, io.Discard, Adapters{Receiver: func([]byte, queue.Position) (queue.Receiver, error) { return q.Receiver(), nil }}); !errors.Is(err, errFrame) {
		t.Errorf("%d fetches at once: %v", maxCalls+1, err)
	}
}

// What a child says is one line that reads as it stands: nothing in it hides, turns around or breaks what stands beside it.
func TestPlain(t *testing.T) {
	for said, want := range map[string]string{
		"Grüße, 日本 → é":           "Grüße, 日本 → é",
		"a\x1b[31m\nb\x7f\u0085c": "a [31m b  c",
		"bad\u202ellew\u2028well": "bad llew well",
		"no\u200bthing\ufeff\xff": "no thing  ",
	} {
		if got := plain([]byte(said)); got != want {
			t.Errorf("%q reads %q; want %q", said, got, want)
		}
	}
}

// FuzzServe: no parent can make a child panic; it ends with an error or because there is no more.
func FuzzServe(f *testing.F) {
	a, _ := filled()
	for _, said := range [][]frame{
		{{kindOpen, 1, opening{roleReceiver, nil, []byte("{}")}.encode()}, {kindFetch, 2, encodeNumber(2)},
			{kindSettle, 3, encodeLeases([]uint64{1, 2, 9})}, {kindPing, 0, nil}, {kindCancel, 2, nil}},
		{{kindOpen, 1, opening{roleExaminer, nil, []byte("{}")}.encode()}, {kindExamine, 2, encodeNumber(1)}},
	} {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		for _, fr := range said {
			_ = writeFrame(w, fr)
		}
		_ = w.Flush()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, raw []byte) { _ = Serve(bytes.NewReader(raw), io.Discard, a) })
}
