package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/e2e/servicebus/broker"
)

// A body that takes many frames comes out as it went in.
func TestManyFrames(t *testing.T) {
	b := start(t, broker.Config{MaxMessageBytes: 4 << 20})
	s, r := pair(t, b)
	for _, n := range []int{0, 1, 65_000, 65_536, 131_072, 3 << 20} {
		body := bytes.Repeat([]byte{byte(n), 7, 1}, n/3+1)[:n]
		ok(t, s.SendMessage(limited(t), &azservicebus.Message{Body: body}, nil))
		m := receive(t, r, 1)[0]
		if !bytes.Equal(m.Body, body) {
			t.Fatalf("%d bytes in, %d out", n, len(m.Body))
		}
		ok(t, r.CompleteMessage(limited(t), m, nil))
	}
}

// Many messages at once, and more than a window of transfers.
func TestManyMessages(t *testing.T) {
	b := start(t, broker.Config{})
	s, r := pair(t, b)
	const rounds, each = 12, 500
	for range rounds {
		send(t, s, each)
	}
	got := map[int64]bool{} // by sequence number: between calls the client releases what came, and it comes again
	for len(got) < rounds*each {
		for _, m := range receive(t, r, each) {
			if want := fmt.Sprint((*m.SequenceNumber - 1) % each); string(m.Body) != want || got[*m.SequenceNumber] {
				t.Fatalf("message %d is %s, want %s; seen before: %t", *m.SequenceNumber, m.Body, want, got[*m.SequenceNumber])
			}
			got[*m.SequenceNumber] = true
		}
	}
}

func TestTooLarge(t *testing.T) {
	b := start(t, broker.Config{MaxMessageBytes: 1000})
	s, _ := pair(t, b)
	if err := s.SendMessage(limited(t), &azservicebus.Message{Body: make([]byte, 1001)}, nil); !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Fatal(err)
	}
	batch, err := s.NewMessageBatch(limited(t), nil)
	ok(t, err)
	ok(t, batch.AddMessage(&azservicebus.Message{Body: make([]byte, 500)}, nil))
	if err := batch.AddMessage(&azservicebus.Message{Body: make([]byte, 500)}, nil); !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Fatal(err)
	}
	// Premium bounds batches below messages, and says so on its link.
	premium := start(t, broker.Config{MaxMessageBytes: 10_000, MaxBatchBytes: 1000})
	s, _ = pair(t, premium)
	ok(t, s.SendMessage(limited(t), &azservicebus.Message{Body: make([]byte, 5000)}, nil))
	batch, err = s.NewMessageBatch(limited(t), nil)
	ok(t, err)
	if err := batch.AddMessage(&azservicebus.Message{Body: make([]byte, 1001)}, nil); !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Fatal(err)
	}
}

// A full queue takes a batch whole or not at all.
func TestFull(t *testing.T) {
	b := start(t, broker.Config{Queues: []broker.Queue{{Name: "jml", MaxBytes: 5000}}})
	s, r := pair(t, b)
	body := make([]byte, 1500)
	batch, err := s.NewMessageBatch(limited(t), nil)
	ok(t, err)
	for range 4 {
		ok(t, batch.AddMessage(&azservicebus.Message{Body: body}, nil))
	}
	condition(t, s.SendMessageBatch(limited(t), batch, nil), "amqp:resource-limit-exceeded")
	if c := counts(t, b, "jml"); c.Active != 0 {
		t.Fatalf("counts: %+v", c)
	}
	for range 3 {
		ok(t, s.SendMessage(limited(t), &azservicebus.Message{Body: body}, nil))
	}
	condition(t, s.SendMessage(limited(t), &azservicebus.Message{Body: body}, nil), "amqp:resource-limit-exceeded")
	ok(t, r.CompleteMessage(limited(t), receive(t, r, 1)[0], nil))
	ok(t, s.SendMessage(limited(t), &azservicebus.Message{Body: body}, nil))
}
