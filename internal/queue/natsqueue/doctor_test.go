package natsqueue_test

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"jmlbridge/internal/doctor"
	"jmlbridge/internal/queue/natsqueue"
)

// finding is what is expected of one; text is a part of what it says.
type finding struct {
	name    string
	verdict doctor.Verdict
	text    string
}

// narrow gives the two roles the rights that they need and no others.
func narrow(o *server.Options) {
	may := func(role string, subjects ...string) *server.Permissions {
		return &server.Permissions{Publish: &server.SubjectPermission{Allow: subjects},
			Subscribe: &server.SubjectPermission{Allow: []string{natsqueue.InboxOf(role, testStream) + ".>"}}}
	}
	o.Nkeys[0].Permissions = may(natsqueue.RoleProducer, testSubject)
	o.Nkeys[1].Permissions = may(natsqueue.RoleConsumer, "$JS.API.CONSUMER.INFO."+testStream+".enclave")
}

// says is the address of somebody who says this, hears everything and answers nothing.
func says(t *testing.T, greeting string) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.WriteString(conn, greeting)
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// The doctor says which step fails, what the credential could do beyond its purpose, and who keeps the stream; of what it
// cannot see it says so.
func TestExamine(t *testing.T) {
	producer, consumer := natsqueue.RoleProducer, natsqueue.RoleConsumer
	for _, c := range []struct {
		name     string
		role     string
		server   func(*server.Options)
		noStream bool
		consumer func(*jetstream.ConsumerConfig)
		config   func(*testing.T, *natsqueue.Config)
		want     []finding // in their order, others between them
		not      []string  // names that no finding has
		dark     bool
	}{
		{name: "producer, well", role: producer, server: narrow,
			want: []finding{{"settings", doctor.Well, "stream " + testStream}, {"way out", doctor.Well, "directly"}, {"name", doctor.Well, "127.0.0.1"}, {"connection", doctor.Well, "to localhost:"}, {"tls", doctor.Well, ""}, {"connection", doctor.Well, "made"}, {"credential", doctor.Well, ""}, {"subject", doctor.Well, "takes " + testSubject}, {"least right", doctor.Well, "may publish to " + testSubject + " and, of what was tried, nothing else"}},
			not:  []string{"replicas"}},
		{name: "a producer that may do anything", role: producer, want: []finding{{"subject", doctor.Well, ""},
			{"least right", doctor.Warning, "may listen to " + testSubject + ", and publish to " + testSubject + ".doctor, and ask who reads the stream, and delete streams as well"}}},
		{name: "a producer that may listen", role: producer, server: func(o *server.Options) {
			narrow(o)
			o.Nkeys[0].Permissions.Subscribe.Allow = append(o.Nkeys[0].Permissions.Subscribe.Allow, testSubject)
		}, want: []finding{{"least right", doctor.Warning, "may listen to " + testSubject + " as well"}}},
		{name: "consumer, well", role: consumer, server: narrow,
			want: []finding{{"credential", doctor.Well, ""}, {"consumer", doctor.Well, "enclave"}, {"least right", doctor.Well, "may not publish"}, {"least right", doctor.Well, "may ask nothing else"}}, not: []string{"replicas"}},
		{name: "a consumer that may publish", role: consumer, want: []finding{{"least right", doctor.Warning, "may publish to " + testSubject}}},
		{name: "a consumer whose subject is not named", role: consumer, config: func(_ *testing.T, c *natsqueue.Config) { c.Subject = "" },
			want: []finding{{"least right", doctor.Unknown, "subject is not set"}}},
		{name: "a consumer that may ask anything of the stream", role: consumer, server: func(o *server.Options) {
			narrow(o)
			o.Nkeys[1].Permissions.Publish.Allow = []string{"$JS.API.>"}
		}, want: []finding{{"least right", doctor.Well, "may not publish"}, {"least right", doctor.Warning, "may ask who reads the stream, and delete streams as well"}}},
		{name: "a producer that may not publish", role: producer, server: func(o *server.Options) {
			narrow(o)
			o.Nkeys[0].Permissions.Publish.Allow = []string{"another"}
		}, want: []finding{{"credential", doctor.Well, ""}, {"subject", doctor.Bad, "refuses our credential"}}},
		{name: "settings", role: producer, config: func(_ *testing.T, c *natsqueue.Config) { c.URL = []string{"nats://localhost:1"} }, want: []finding{{"settings", doctor.Bad, "only tls://"}}, not: []string{"connection"}},
		{name: "nobody there", role: producer, config: func(_ *testing.T, c *natsqueue.Config) { c.URL = []string{"tls://localhost:1"} },
			want: []finding{{"name", doctor.Well, ""}, {"connection", doctor.Bad, "refused"}}, not: []string{"tls", "credential"}},
		{name: "nobody answers there", role: producer, config: func(t *testing.T, c *natsqueue.Config) { c.URL = []string{"tls://" + says(t, "")} },
			want: []finding{{"connection", doctor.Well, ""}, {"server", doctor.Bad, "nothing came on it in time"}}, not: []string{"tls", "credential"}},
		{name: "somebody else answers there", role: producer, config: func(t *testing.T, c *natsqueue.Config) { c.URL = []string{"tls://" + says(t, "220 ready\r\n")} },
			want: []finding{{"connection", doctor.Well, ""}, {"server", doctor.Bad, "it is no NATS server"}}, not: []string{"tls", "credential"}},
		{name: "it stops answering", role: producer, config: func(t *testing.T, c *natsqueue.Config) { c.URL = []string{"tls://" + says(t, "INFO {}\r\n")} },
			want: []finding{{"tls", doctor.Bad, "nothing more came on it in time"}}, not: []string{"credential"}},
		{name: "one of two servers away", role: producer, server: narrow, config: func(_ *testing.T, c *natsqueue.Config) { c.URL = append([]string{"tls://localhost:1"}, c.URL...) },
			want: []finding{{"connection", doctor.Warning, "refused"}, {"tls", doctor.Well, ""}, {"credential", doctor.Well, ""}, {"replicas", doctor.Unknown, "check_stream"}, {"subject", doctor.Well, ""}}},
		{name: "another authority", role: producer, config: func(t *testing.T, c *natsqueue.Config) {
			c.CA = filepath.Join(t.TempDir(), "other.pem")
			makeCert(t, c.CA)
		}, want: []finding{{"connection", doctor.Well, "to"}, {"tls", doctor.Bad, "certificate"}}, not: []string{"credential"}},
		{name: "a credential that nobody knows", role: producer, config: func(t *testing.T, c *natsqueue.Config) {
			kp, err := nkeys.CreateUser()
			if err != nil {
				t.Fatal(err)
			}
			seed, _ := kp.Seed()
			c.NKey = filepath.Join(t.TempDir(), "stranger.nk")
			write(t, c.NKey, seed, 0o600)
		}, want: []finding{{"tls", doctor.Well, ""}, {"credential", doctor.Bad, "refuses our credential"}}, not: []string{"subject"}},
		{name: "no stream", role: consumer, noStream: true, want: []finding{{"credential", doctor.Well, ""}, {"consumer", doctor.Bad, ""}}},
		{name: "dark, well", role: consumer, dark: true, server: func(o *server.Options) {
			narrow(o)
			o.Nkeys[1].Permissions.Publish.Allow = []string{"$JS.API.DIRECT.GET." + testStream}
		}, want: []finding{{"stream", doctor.Well, "may be read directly"}, {"least right", doctor.Well, "may not publish"}}, not: []string{"consumer", "replicas"}},
		{name: "dark, and the right is another", role: consumer, dark: true, server: narrow, want: []finding{{"stream", doctor.Bad, "refuses our credential"}}},
		{name: "dark, and there is no stream", role: consumer, dark: true, noStream: true, want: []finding{{"stream", doctor.Bad, "may be read directly"}}},
		{name: "a consumer that gives up", role: consumer, consumer: func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 3 }, want: []finding{{"consumer", doctor.Bad, "gives up after 3"}}},
		{name: "fewer replicas, seen by the consumer", role: consumer, config: func(_ *testing.T, c *natsqueue.Config) { c.Replicas = 3 },
			want: []finding{{"consumer", doctor.Well, ""}, {"replicas", doctor.Warning, "1 of 3 expected servers"}}},
		{name: "fewer replicas, seen by the stream", role: producer, config: func(_ *testing.T, c *natsqueue.Config) { c.Replicas, c.CheckStream = 3, true },
			want: []finding{{"replicas", doctor.Warning, "1 of 3 expected servers"}, {"subject", doctor.Well, ""}}},
		{name: "replicas that we may not ask for", role: producer, server: narrow, config: func(_ *testing.T, c *natsqueue.Config) { c.Replicas, c.CheckStream = 3, true },
			want: []finding{{"replicas", doctor.Unknown, "refuses our credential"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, c.server)
			if !c.noStream {
				s.create(time.Minute, nil)
				if c.consumer != nil {
					s.admin(func(ctx context.Context, js jetstream.JetStream) error {
						conf := jetstream.ConsumerConfig{Durable: "enclave", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute}
						c.consumer(&conf)
						_, err := js.UpdateConsumer(ctx, testStream, conf)
						return err
					})
				}
			}
			conf := s.config(c.role)
			conf.Patience = time.Second
			if c.config != nil {
				c.config(t, &conf)
			}
			list := natsqueue.Examine(t.Context(), conf, c.role == consumer, c.dark)
			for _, f := range list {
				if f.Verdict == doctor.Bad && f.Do == "" {
					t.Errorf("%s is bad, and nothing says what to do", f.Name)
				}
				if slices.Contains(c.not, f.Name) {
					t.Errorf("a finding that makes no sense here: %+v", f)
				}
			}
			rest := list
			for _, w := range c.want {
				i := slices.IndexFunc(rest, func(f doctor.Finding) bool {
					return f.Name == w.name && f.Verdict == w.verdict && strings.Contains(f.Text, w.text)
				})
				if i < 0 {
					t.Fatalf("no finding %+v in its place among\n%+v", w, list)
				}
				rest = rest[i+1:]
			}
		})
	}
}
