package nats_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	files "jmlbridge/producer/nats"
)

func file(t *testing.T, name string) string {
	t.Helper()
	text, err := files.Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// serve runs server.conf as one server of its own, without TLS, and returns a way in for each of its nkeys.
func serve(t *testing.T, changes ...string) func(who string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	text := regexp.MustCompile(`(?ms)^(tls|cluster) \{.*?^\}`).ReplaceAllString(file(t, "server.conf"), "")
	changes = append(changes, "listen: 0.0.0.0:4222", "listen: 127.0.0.1:-1", "/var/lib/nats", t.TempDir())
	keys := map[string]nkeys.KeyPair{}
	for _, who := range []string{"PRODUCER", "ENCLAVE", "ADMIN", "OPERATOR"} {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		keys[who] = pair
		changes = append(changes, "nkey: "+who, "nkey: "+public)
	}
	text = strings.NewReplacer(changes...).Replace(text)
	o := &server.Options{NoSigs: true, NoLog: true}
	if err := o.ProcessConfigString(text); err != nil {
		t.Fatal(err)
	}
	srv, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("nats-server does not start")
	}
	return func(who string, opts ...nats.Option) *nats.Conn {
		t.Helper()
		public, err := keys[who].PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(srv.ClientURL(), append(opts, nats.Nkey(public, keys[who].Sign))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
}

// The enclave's credential reads, and acknowledges where that is its way. Where it wants to be answered at what changes the stream, the
// answer is no request.
func TestEnclaveAsksForNothingElse(t *testing.T) {
	for _, c := range []struct {
		name, stream, ask, nothing string
		changes                    []string
	}{
		{"acked", "stream.json", "$JS.API.CONSUMER.MSG.NEXT.JML-GOV-1.enclave", `{"batch":1,"no_wait":true}`, nil},
		{"dark", "stream-dark.json", "$JS.API.DIRECT.GET.JML-GOV-1", `{"seq":1000,"next_by_subj":">"}`,
			[]string{`"$JS.API.STREAM.INFO.JML-GOV-1"` + "\n          ]", `"$JS.API.DIRECT.GET.JML-GOV-1"` + "\n          ]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := serve(t, c.changes...)
			admin, err := jetstream.New(in("ADMIN"))
			if err != nil {
				t.Fatal(err)
			}
			var stream jetstream.StreamConfig
			var consumer jetstream.ConsumerConfig
			if err := json.Unmarshal([]byte(file(t, c.stream)), &stream); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(file(t, "consumer.json")), &consumer); err != nil {
				t.Fatal(err)
			}
			stream.Replicas = 1
			st, err := admin.CreateStream(t.Context(), stream)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.CreateConsumer(t.Context(), consumer); err != nil && c.name == "acked" {
				t.Fatal(err)
			}
			enclave := in("ENCLAVE", nats.CustomInboxPrefix("_INBOX_consumer.JML-GOV-1"))
			for _, at := range []string{"$JS.API.STREAM.DELETE.JML-GOV-1", "$JS.API.CONSUMER.DELETE.JML-GOV-1.enclave", "jml.GOV-1"} {
				if err := enclave.PublishRequest(c.ask, at, []byte(c.nothing)); err != nil {
					t.Fatal(err)
				}
				// It still answers those who ask to hear it, and comes to them after what was asked before.
				if m, err := enclave.Request(c.ask, []byte(c.nothing), 20*time.Second); err != nil || m.Header.Get("Status") != "404" {
					t.Fatalf("answered at %s: want a status 404 for an empty stream, got %+v, %v", at, m, err)
				}
			}
			info, err := st.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if info.State.LastSeq != 0 {
				t.Errorf("%d messages that nobody published", info.State.LastSeq)
			}
			if c.name == "acked" {
				if _, err := st.Consumer(t.Context(), "enclave"); err != nil {
					t.Errorf("its consumer is not there any more: %v", err)
				}
			}
		})
	}
}
