package natsqueue_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue/natsqueue"
)

// Whoever may publish may put headers on a message. None of them passes for the server's own word on a read, so as to end it or
// to move the position: what comes behind such a message is read.
func TestDarkPassesHeadersOfStrangers(t *testing.T) {
	for name, header := range map[string]nats.Header{
		"a status":      {"Status": {"404"}},
		"a refusal":     {"Status": {"503"}},
		"a number":      {"Nats-Sequence": {"1000000"}},
		"no number":     {"Nats-Sequence": {"x"}},
		"both, spelled": {"status": {"204"}, "nats-sequence": {"1000000"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, nil)
			s.create(time.Minute, nil)
			s.admin(func(ctx context.Context, js jetstream.JetStream) error {
				for _, h := range []nats.Header{nil, header, nil} {
					if _, err := js.PublishMsg(ctx, &nats.Msg{Subject: testSubject, Header: h, Data: []byte("x")}); err != nil {
						return err
					}
				}
				return nil
			})
			d, err := natsqueue.OpenDark(s.config(natsqueue.RoleConsumer), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			var got []string
			for len(got) < 3 {
				batch, err := d.Fetch(ctx, 10)
				if err != nil {
					t.Fatalf("after %q: %v", got, err)
				}
				for _, m := range batch {
					got = append(got, string(m.Position))
				}
			}
			if got[2] != "dark 3" {
				t.Errorf("positions %q", got)
			}
		})
	}
}
