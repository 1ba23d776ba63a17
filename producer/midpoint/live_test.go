package midpoint

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// The check is of the running server: one that does not sync, or a stream that confirms before it
// has written, is refused whatever the options were.
func TestLiveCheckRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		listen func(*server.Options)
		prep   prepare
		want   string
	}{
		{"sync off", func(o *server.Options) { o.SyncAlways = false }, create, "does not sync every write"},
		{"async stream", nil, func(ctx context.Context, a *admin) error {
			conf := a.enclave.stream()
			conf.PersistMode = jetstream.AsyncPersistMode
			_, err := a.js.CreateStream(ctx, conf)
			return err
		}, "confirms before it has written"},
		{"memory stream", nil, func(ctx context.Context, a *admin) error {
			conf := a.enclave.stream()
			conf.Storage = jetstream.MemoryStorage
			_, err := a.js.CreateStream(ctx, conf)
			return err
		}, "confirms before it has written"},
		{"no stream", nil, func(context.Context, *admin) error { return nil }, "does not show stream JML-GOV-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := liveConfig(t)
			log := slog.New(slog.NewTextHandler(t.Output(), nil))
			s, err := start(t.Context(), cfg, log, c.listen, c.prep)
			if err == nil {
				s.Stop()
				t.Fatalf("started; expected a refusal with %q", c.want)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %q; expected one with %q", err, c.want)
			}
		})
	}
}

func liveConfig(t *testing.T) Config {
	cfg := Config{Store: t.TempDir(), Enclaves: []Enclave{{Name: "GOV-1", Producer: newPublicKey(t), Consumer: newPublicKey(t)}}}
	return cfg.withDefaults()
}

func newPublicKey(t *testing.T) string {
	keys, err := newAdminKeys(Config{Enclaves: []Enclave{{Name: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	return keys["x"].public
}

// Trimming removes what is settled up to the first message that is not, and nothing else.
func TestTrimStopsAtTheFloor(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := start(t.Context(), liveConfig(t), log, nil, create)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	a := s.admins[0]
	ctx := t.Context()
	for i := range 6 {
		if _, err := a.js.Publish(ctx, a.enclave.Subject(), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := a.js.Consumer(ctx, a.enclave.Stream(), durable)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := consumer.Fetch(5, jetstream.FetchMaxWait(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		if m.Data()[0] == 3 {
			continue // in hand, not settled
		}
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := a.js.Stream(ctx, a.enclave.Stream())
	if err != nil {
		t.Fatal(err)
	}
	if trimmed, err := a.trimOnce(ctx, stream, false); trimmed || err != nil {
		t.Fatalf("three messages in a stream with room, not due: trimmed %v, %v", trimmed, err)
	}
	if trimmed, err := a.trimOnce(ctx, stream, true); !trimmed || err != nil {
		t.Fatalf("due: trimmed %v, %v", trimmed, err)
	}
	if trimmed, err := a.trimOnce(ctx, stream, true); trimmed || err != nil {
		t.Fatalf("nothing left to trim: trimmed %v, %v", trimmed, err)
	}
	info, err := stream.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info.State.FirstSeq != 4 || info.State.Msgs != 3 {
		t.Fatalf("after trimming: %d messages from %d; expected 3 from 4", info.State.Msgs, info.State.FirstSeq)
	}
	m, err := stream.GetMsg(ctx, 4)
	if err != nil || !bytes.Equal(m.Data, []byte{3}) {
		t.Fatalf("the oldest message that is not settled: %v, %v", m, err)
	}
}

func TestConfigIn(t *testing.T) {
	got := Config{Store: "store", Cert: "server.pem", Key: "/abs/server.key"}.In("/etc/jml")
	want := Config{Store: filepath.Join("/etc/jml", "store"), Cert: "/etc/jml/server.pem", Key: "/abs/server.key"}
	if got.Store != want.Store || got.Cert != want.Cert || got.Key != want.Key {
		t.Fatalf("%+v; expected %+v", got, want)
	}
}
