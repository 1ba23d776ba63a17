package midpoint_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/producer/midpoint"
)

// raw is a client with a real credential and no manners: it asks for whatever it likes.
func (s *setup) raw(folder string, role, stream string, violations chan<- string) *nats.Conn {
	s.t.Helper()
	c := s.client(folder)
	key, err := nats.NkeyOptionFromSeed(c.NKey)
	if err != nil {
		s.t.Fatal(err)
	}
	nc, err := nats.Connect(c.URL[0], nats.RootCAs(c.CA), key,
		nats.CustomInboxPrefix(natsqueue.InboxOf(role, stream)),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				violations <- err.Error()
			}
		}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// Everything that is worth asking of the API, for our own stream, another's and the system's.
func subjects() []string {
	const api = "$JS.API."
	out := []string{
		api + "INFO", api + "ACCOUNT.PURGE.GOV-1", api + "META.LEADER.STEPDOWN", api + "SERVER.REMOVE",
		api + "STREAM.NAMES", api + "STREAM.LIST", api + "STREAM.TEMPLATE.NAMES",
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "$SYS.REQ.ACCOUNT.GOV-1.INFO", "$SYS.REQ.ACCOUNT.PING.JSZ",
		"$SYS.REQ.SERVER.RELOAD", "$SYS.REQ.CLAIMS.UPDATE",
		"anything", "jml", "jml.GOV-1.more", "jml.OTHER", ">", "*",
		"$KV.x.y", "$O.x.C.y", "$JS.EVENT.ADVISORY.API", "$JS.FC.JML-GOV-1.enclave.x", "$JSC.CI.x",
		natsqueue.InboxOf(natsqueue.RoleProducer, "JML-GOV-1") + ".x",
		natsqueue.InboxOf(natsqueue.RoleConsumer, "JML-GOV-1") + ".x",
		"_INBOX.x", "_R_.x",
	}
	for _, stream := range []string{"JML-GOV-1", "JML-GOV-2", "NEW"} {
		for _, verb := range []string{
			"STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.INFO", "STREAM.MSG.GET", "STREAM.MSG.DELETE",
			"STREAM.SNAPSHOT", "STREAM.RESTORE", "STREAM.PEER.REMOVE", "STREAM.LEADER.STEPDOWN", "STREAM.CANCEL_MOVE", "DIRECT.GET",
			"CONSUMER.NAMES", "CONSUMER.LIST", "CONSUMER.CREATE",
		} {
			out = append(out, api+verb+"."+stream)
		}
		for _, consumer := range []string{"enclave", "second"} {
			for _, verb := range []string{
				"CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.DELETE", "CONSUMER.PAUSE", "CONSUMER.RESET", "CONSUMER.UNPIN",
				"CONSUMER.LEADER.STEPDOWN", "CONSUMER.INFO", "CONSUMER.MSG.NEXT",
			} {
				out = append(out, api+verb+"."+stream+"."+consumer)
			}
			out = append(out, "$JS.ACK."+stream+"."+consumer+".1.1.1.1.0")
		}
		out = append(out, "jml."+strings.TrimPrefix(stream, "JML-"), api+"CONSUMER.CREATE."+stream+".enclave.>", api+"DIRECT.GET."+stream+".jml.GOV-1")
	}
	return out
}

var listens = []string{
	">", "*", "*.>", "jml.>", "jml.GOV-1", "$JS.>", "$JS.ACK.>", "$JS.EVENT.>", "$SYS.>", "_INBOX.>",
	"_INBOX_producer.>", "_INBOX_consumer.>", "_INBOX_producer.JML-GOV-1.>", "_INBOX_consumer.JML-GOV-1.>",
	"_INBOX_producer.JML-GOV-2.>", "_INBOX_consumer.JML-GOV-2.>", "_INBOX_producer.*.x", "$JSC.>",
}

// Each credential is refused everything but its one purpose.
func TestRights(t *testing.T) {
	s := newSetup(t, nil)
	s.start()
	s.rights([]rights{
		{natsqueue.RoleProducer, s.made.Producers["GOV-1"], []string{"jml.GOV-1"}, []string{"_INBOX_producer.JML-GOV-1.>"}},
		{natsqueue.RoleConsumer, s.made.Consumers["GOV-1"], []string{
			"$JS.API.CONSUMER.INFO.JML-GOV-1.enclave", "$JS.API.CONSUMER.MSG.NEXT.JML-GOV-1.enclave", "$JS.ACK.JML-GOV-1.enclave.1.1.1.1.0",
		}, []string{"_INBOX_consumer.JML-GOV-1.>"}},
	})
}

// Pulled dark, an enclave's credential reads its own stream and does nothing else.
func TestDarkRights(t *testing.T) {
	s := newSetup(t, dark)
	s.start()
	s.rights([]rights{
		{natsqueue.RoleConsumer, s.made.Consumers["GOV-1"], []string{"$JS.API.DIRECT.GET.JML-GOV-1"}, []string{"_INBOX_consumer.JML-GOV-1.>"}},
	})
}

func dark(c *midpoint.Config) { c.Enclaves[0].Pull = "dark" }

type rights struct {
	role, folder string
	publishes    []string // all that it may
	listens      []string
}

// rights tries everything with each credential.
func (s *setup) rights(list []rights) {
	t := s.t
	t.Helper()
	for _, c := range list {
		violations := make(chan string, 1000)
		nc := s.raw(c.folder, c.role, "JML-GOV-1", violations)
		// refused tells whether the server complained about what do sent. Its complaint precedes the
		// answer to a ping.
		refused := func(do func() error) bool {
			t.Helper()
			if err := do(); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			// The handler runs on another goroutine, after LastError is set by the reader.
			if !errors.Is(nc.LastError(), nats.ErrPermissionViolation) {
				return false
			}
			select {
			case <-violations:
				return true
			case <-time.After(time.Minute):
				t.Fatal("a permission violation that reached no handler")
				return true
			}
		}
		fresh := func() { // LastError stays: a new connection for each thing that must be allowed
			nc.Close()
			nc = s.raw(c.folder, c.role, "JML-GOV-1", violations)
		}
		allowed := 0
		for _, subj := range subjects() {
			may := false
			for _, p := range c.publishes {
				may = may || p == subj
			}
			if strings.ContainsAny(subj, "*>") {
				continue // not a subject to publish to; the client refuses
			}
			if may {
				fresh()
				allowed++
			}
			if got := refused(func() error { return nc.Publish(subj, []byte("{}")) }); got == may {
				t.Errorf("%s publishes to %s: refused %v", c.role, subj, got)
			}
			if may {
				fresh()
			}
		}
		if allowed != len(c.publishes) {
			t.Errorf("%s: %d of its %d purposes were tried", c.role, allowed, len(c.publishes))
		}
		for _, subj := range listens {
			may := subj == c.listens[0]
			if may {
				fresh()
			}
			got := refused(func() error { _, err := nc.SubscribeSync(subj); return err })
			if got == may {
				t.Errorf("%s listens to %s: refused %v", c.role, subj, got)
			}
			if may {
				fresh()
			}
			// As a member of a queue group it would take messages away from others.
			if got := refused(func() error { _, err := nc.QueueSubscribeSync(subj, "group"); return err }); got == may {
				t.Errorf("%s listens to %s in a group: refused %v", c.role, subj, got)
			}
			if may {
				fresh()
			}
		}
	}
}

// A consumer names the subject at which it wants to be answered, and the server sends there with its
// own rights. The account keeps that inside the enclave: nothing reaches another's stream.
func TestAnswersStayInTheEnclave(t *testing.T) {
	s := newSetup(t, nil)
	s.start()
	if _, err := s.publisher(s.client(s.made.Producers["GOV-1"])).Publish(t.Context(), []queue.Message{{ID: "1", Body: []byte("of GOV-1")}}); err != nil {
		t.Fatal(err)
	}
	nc := s.raw(s.made.Consumers["GOV-1"], natsqueue.RoleConsumer, "JML-GOV-1", make(chan string, 10))
	if err := nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.JML-GOV-1.enclave", "jml.GOV-2", []byte(`{"batch":1,"no_wait":true}`)); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.publisher(s.client(s.made.Producers["GOV-2"])).Publish(t.Context(), []queue.Message{{ID: "1", Body: []byte("of GOV-2")}}); err != nil {
		t.Fatal(err)
	}
	batch, err := s.receiver(s.client(s.made.Consumers["GOV-2"])).Fetch(t.Context(), 10)
	if err != nil || len(batch) != 1 || string(batch[0].Body) != "of GOV-2" {
		t.Fatalf("GOV-2 got %d messages, %v; expected its own only", len(batch), err)
	}
}

// Where a consumer wants to be answered at what changes a stream, an empty answer or a message would be a request of the server's own.
func TestAnswersAskNothing(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*midpoint.Config)
		asks map[string]string // subjects, and what is asked there
	}{
		"acked": {func(c *midpoint.Config) { c.Enclaves[0].Lease = time.Second }, map[string]string{
			"$JS.API.CONSUMER.MSG.NEXT.JML-GOV-1.enclave": `{"batch":1,"no_wait":true}`, "$JS.API.CONSUMER.INFO.JML-GOV-1.enclave": ""}},
		"dark": {dark, map[string]string{"$JS.API.DIRECT.GET.JML-GOV-1": `{"seq":1000,"next_by_subj":">"}`}},
	} {
		for _, at := range []string{
			"$JS.API.STREAM.DELETE.JML-GOV-1", "$JS.API.STREAM.PURGE.JML-GOV-1", "$JS.API.CONSUMER.DELETE.JML-GOV-1.enclave", "jml.GOV-1",
		} {
			t.Run(name+" "+at, func(t *testing.T) {
				t.Parallel()
				s := newSetup(t, c.edit)
				s.start()
				pub := s.publisher(s.client(s.made.Producers["GOV-1"]))
				say := func(id string) {
					if _, err := pub.Publish(t.Context(), []queue.Message{{ID: id, Body: []byte(id)}}); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				say("1")
				var r queue.Receiver
				if name == "dark" {
					d, err := natsqueue.OpenDark(s.client(s.made.Consumers["GOV-1"]), nil)
					if err != nil {
						t.Fatal(err)
					}
					defer d.Close()
					r = d
				} else if r = s.receiver(s.client(s.made.Consumers["GOV-1"])); true {
					if _, err := r.Fetch(ctx, 10); err != nil { // it comes again; until then nothing is there
						t.Fatal(err)
					}
				}
				nc := s.raw(s.made.Consumers["GOV-1"], natsqueue.RoleConsumer, "JML-GOV-1", make(chan string, 10))
				for subject, body := range c.asks {
					if err := nc.PublishRequest(subject, at, []byte(body)); err != nil {
						t.Fatal(err)
					}
				}
				if err := nc.Flush(); err != nil {
					t.Fatal(err)
				}
				say("2")
				came := map[string]bool{}
				for !came["1"] || !came["2"] {
					batch, err := r.Fetch(ctx, 10)
					if err != nil {
						t.Fatalf("%v; %v came", err, came)
					}
					for _, d := range batch {
						if came[string(d.Body)] = true; len(d.Body) != 1 {
							t.Errorf("%.80q came, which nobody published", d.Body)
						}
					}
				}
			})
		}
	}
}

// Whoever has no credential, another one, or no TLS, stays outside; and so does a server that the
// client's authority does not vouch for.
func TestStrangersStayOutside(t *testing.T) {
	s := newSetup(t, nil)
	s.start()
	c := s.client(s.made.Producers["GOV-1"])
	stranger, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := stranger.PublicKey()
	known := s.cfg.Enclaves[0].Producer
	for _, o := range []struct {
		name string
		opts []nats.Option
		want error
	}{
		{"no credential", nil, nats.ErrAuthorization},
		{"another nkey", []nats.Option{nats.Nkey(pub, stranger.Sign)}, nats.ErrAuthorization},
		{"a known public key without its seed", []nats.Option{nats.Nkey(known, stranger.Sign)}, nats.ErrAuthorization},
		{"the mid-point's own user", []nats.Option{nats.UserInfo("midpoint-GOV-1", "")}, nats.ErrAuthorization},
		{"a password", []nats.Option{nats.UserInfo("admin", "admin")}, nats.ErrAuthorization},
		{"a token", []nats.Option{nats.Token("t")}, nats.ErrAuthorization},
	} {
		nc, err := nats.Connect(c.URL[0], append(o.opts, nats.RootCAs(c.CA))...)
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, o.want) {
			t.Errorf("%s: %v; expected %v", o.name, err, o.want)
		}
	}

	t.Run("without TLS", func(t *testing.T) {
		conn, err := net.Dial("tcp", s.srv.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Minute))
		if _, err := conn.Write([]byte("CONNECT {\"verbose\":true}\r\nPING\r\n")); err != nil {
			t.Fatal(err)
		}
		var all []byte
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			all = append(all, buf[:n]...)
			if err != nil {
				break // it hangs up
			}
		}
		if text := string(all); strings.Contains(text, "+OK") || strings.Contains(text, "PONG") {
			t.Fatalf("the server spoke with a client without TLS: %q", text)
		}
	})
	t.Run("old TLS", func(t *testing.T) {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		nc, err := nats.Connect(c.URL[0], nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}))
		if err == nil {
			nc.Close()
			t.Fatal("TLS 1.1 was accepted")
		}
		if errors.Is(err, nats.ErrAuthorization) {
			t.Fatalf("TLS 1.1 got as far as authentication: %v", err)
		}
	})
	t.Run("another authority", func(t *testing.T) {
		other := newSetup(t, nil)
		c := c
		c.CA = other.made.CA + "/midpoint-ca.pem"
		c.Patience = 500 * time.Millisecond
		_, err := s.publisher(c).Publish(t.Context(), []queue.Message{{ID: "1", Body: []byte("x")}})
		if !errors.Is(err, queue.ErrRefused) || !strings.Contains(err.Error(), "certificate") {
			t.Fatalf("a server of another authority: %v; expected ErrRefused for its certificate", err)
		}
	})
	t.Run("a credential taken away", func(t *testing.T) {
		s.stop()
		fresh, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		s.cfg.Enclaves[0].Producer, _ = fresh.PublicKey()
		s.start()
		c := c
		c.Patience = 500 * time.Millisecond
		_, err = s.publisher(c).Publish(t.Context(), []queue.Message{{ID: "1", Body: []byte("x")}})
		if !errors.Is(err, queue.ErrRefused) || !strings.Contains(err.Error(), "credential") {
			t.Fatalf("an old credential: %v; expected ErrRefused for it", err)
		}
	})
}
