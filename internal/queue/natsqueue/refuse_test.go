package natsqueue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
)

func TestConfigRefused(t *testing.T) {
	s := newServer(t, nil)
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		name = filepath.Join(dir, name)
		write(t, name, []byte(text), mode)
		return name
	}
	seed, err := os.ReadFile(s.nkeys[natsqueue.RoleProducer])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		edit func(*natsqueue.Config)
		want string
	}{
		{"no url", func(c *natsqueue.Config) { c.URL = nil }, "url: none given"},
		{"plain url", func(c *natsqueue.Config) { c.URL = []string{"nats://localhost:4222"} }, "only tls:// is used"},
		{"url with a password", func(c *natsqueue.Config) { c.URL = []string{"tls://u:secret@localhost:4222"} }, "carries a credential"},
		{"url with a path", func(c *natsqueue.Config) { c.URL = []string{"tls://localhost:4222/x"} }, "not of the form"},
		{"one bad url of two", func(c *natsqueue.Config) { c.URL = append(c.URL, "http://x:1") }, "only tls:// is used"},
		{"no stream", func(c *natsqueue.Config) { c.Stream = "" }, "is not a stream name"},
		{"stream with a wildcard", func(c *natsqueue.Config) { c.Stream = "JML.*" }, "is not a stream name"},
		{"subject with a wildcard", func(c *natsqueue.Config) { c.Subject = "jml.>" }, "is not a subject"},
		{"inbox with a wildcard", func(c *natsqueue.Config) { c.Inbox = "x.*" }, "inbox"},
		{"ca missing", func(c *natsqueue.Config) { c.CA = filepath.Join(dir, "none.pem") }, "no such file"},
		{"ca empty", func(c *natsqueue.Config) { c.CA = file("empty.pem", "", 0o644) }, "holds no PEM certificate"},
		{"ca with a key", func(c *natsqueue.Config) {
			c.CA = file("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600)
		}, "found a PRIVATE KEY"},
		{"no credential", func(c *natsqueue.Config) { c.NKey = "" }, "exactly one of"},
		{"two credentials", func(c *natsqueue.Config) { c.Creds = c.NKey }, "exactly one of"},
		{"user without password", func(c *natsqueue.Config) { c.NKey, c.User = "", "alice" }, "exactly one of"},
		{"seed missing", func(c *natsqueue.Config) { c.NKey = filepath.Join(dir, "none.nk") }, "no such file"},
		{"seed readable by all", func(c *natsqueue.Config) { c.NKey = file("open.nk", string(seed), 0o644) }, "mode 0644"},
		{"seed readable by the group", func(c *natsqueue.Config) { c.NKey = file("group.nk", string(seed), 0o640) }, "mode 0640"},
		{"not a seed", func(c *natsqueue.Config) { c.NKey = file("bad.nk", "hello", 0o600) }, "holds no nkey seed"},
		{"seed of an account", func(c *natsqueue.Config) {
			c.NKey = file("acc.nk", "SAANWFZ3JINNPERWT3ALE45U7GYT2ZDW6GJUIVPDKUF6GKAX6AISZJMAS4", 0o600)
		}, "nkey: "},
		{"a folder", func(c *natsqueue.Config) { c.NKey = dir }, "not a regular file"},
		{"creds readable by all", func(c *natsqueue.Config) { c.NKey, c.Creds = "", file("open.creds", "x", 0o644) }, "mode 0644"},
		{"not creds", func(c *natsqueue.Config) { c.NKey, c.Creds = "", file("bad.creds", "", 0o600) }, "creds: "},
		{"password empty", func(c *natsqueue.Config) {
			c.NKey, c.User, c.PasswordFile = "", "alice", file("empty.pass", "\n", 0o600)
		}, "is empty"},
		{"proxy of another kind", func(c *natsqueue.Config) { c.Proxy = "socks5://u:secret@h:1" }, "proxy is not an address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := s.config(natsqueue.RoleProducer)
			c.edit(&conf)
			p, err := natsqueue.OpenPublisher(conf)
			if err == nil {
				p.Close()
				t.Fatalf("opened; expected an error with %q", c.want)
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Fatalf("error %q; expected one with %q and no secret", err, c.want)
			}
		})
	}
}

// User name with a password file is the third kind of credential.
func TestPassword(t *testing.T) {
	s := newServer(t, nil)
	s.create(time.Minute, nil)
	c := s.config(natsqueue.RoleProducer)
	c.NKey, c.User, c.PasswordFile = "", "alice", s.pass
	if _, err := openPublisher(t, c).Publish(t.Context(), []queue.Message{{ID: "1", Body: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
}

// What is wrong at a server that is there is said at once, not after a timeout.
func TestServerRefuses(t *testing.T) {
	one := []queue.Message{{ID: "1", Body: []byte("x")}}
	publish := func(t *testing.T, c natsqueue.Config) error {
		n, err := openPublisher(t, c).Publish(t.Context(), one)
		if n != 0 {
			t.Fatalf("%d messages confirmed", n)
		}
		return err
	}
	fetch := func(t *testing.T, c natsqueue.Config) error {
		_, err := openReceiver(t, c).Fetch(t.Context(), 1)
		return err
	}
	stream := func(edit func(*jetstream.StreamConfig)) func(*testServer) {
		return func(s *testServer) { s.create(time.Minute, edit) }
	}
	nothing := func(perm *server.Permissions) func(*server.Options) {
		return func(o *server.Options) {
			for _, k := range o.Nkeys {
				k.Permissions = perm
			}
		}
	}
	inboxOnly := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"none"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_*.>", "_INBOX_*.*.>"}},
	}
	for _, c := range []struct {
		name   string
		server func(*server.Options)
		setup  func(*testServer)
		conf   func(*natsqueue.Config)
		try    func(*testing.T, natsqueue.Config) error
		want   string
	}{
		{"publish without a stream", nil, nil, nil, publish, "no stream there takes jml.TEST"},
		{"fetch without a stream", nil, nil, nil, fetch, "no stream JML-TEST with a consumer enclave"},
		{"fetch from another consumer", nil, stream(nil), func(c *natsqueue.Config) { c.Durable = "other" }, fetch, "with a consumer other"},
		{"publish into another stream", nil, stream(nil), func(c *natsqueue.Config) { c.Stream = "JML-ELSE" }, publish, "expected stream"},
		{"publish not permitted", nothing(inboxOnly), stream(nil), nil, publish, "our credential"},
		{"fetch not permitted", nothing(inboxOnly), stream(nil), nil, fetch, "our credential"},
		{"stream that confirms early", nil, stream(func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }),
			func(c *natsqueue.Config) { c.CheckStream = true }, publish, "confirms before it has written"},
		{"stream that drops old ones", nil, stream(func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }),
			func(c *natsqueue.Config) { c.CheckStream = true }, fetch, "drops its oldest"},
		{"stream in memory", nil, stream(func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }),
			func(c *natsqueue.Config) { c.CheckStream = true }, publish, "is kept in memory"},
		{"stream that keeps the last of a subject", nil, stream(func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 }),
			func(c *natsqueue.Config) { c.CheckStream = true }, publish, "max_msgs_per_subject"},
		{"stream that drops what is not settled", nil, stream(func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }),
			func(c *natsqueue.Config) { c.CheckStream = true }, fetch, "max_age"},
		{"consumer that pushes", nil, func(s *testServer) {
			s.create(time.Minute, nil)
			s.admin(func(ctx context.Context, js jetstream.JetStream) error {
				if err := js.DeleteConsumer(ctx, testStream, "enclave"); err != nil {
					return err
				}
				_, err := js.CreatePushConsumer(ctx, testStream, jetstream.ConsumerConfig{Durable: "enclave", AckPolicy: jetstream.AckExplicitPolicy, DeliverSubject: "elsewhere"})
				return err
			})
		}, nil, fetch, "expected one to pull from"},
		{"check not permitted", nothing(&server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{testSubject}},
			Subscribe: inboxOnly.Subscribe,
		}), stream(nil), func(c *natsqueue.Config) { c.CheckStream = true }, publish, "our credential"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, c.server)
			if c.setup != nil {
				c.setup(s)
			}
			conf := s.config(natsqueue.RoleProducer)
			if c.conf != nil {
				c.conf(&conf)
			}
			start := time.Now()
			err := c.try(t, conf)
			if !errors.Is(err, queue.ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v; expected ErrRefused with %q", err, c.want)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Fatalf("it took %s to say so", took)
			}
		})
	}
}

// A consumer that would drop messages before they are ours is refused.
func TestConsumerRefused(t *testing.T) {
	later := time.Now().Add(time.Hour)
	for name, cc := range map[string]jetstream.ConsumerConfig{
		"no acknowledgement": {Durable: "enclave", AckPolicy: jetstream.AckNonePolicy},
		"acknowledges all":   {Durable: "enclave", AckPolicy: jetstream.AckAllPolicy},
		"gives up":           {Durable: "enclave", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 3},
		"no bodies":          {Durable: "enclave", AckPolicy: jetstream.AckExplicitPolicy, HeadersOnly: true},
		"another subject":    {Durable: "enclave", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "jml.TEST.none"},
		"paused":             {Durable: "enclave", AckPolicy: jetstream.AckExplicitPolicy, PauseUntil: &later},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, nil)
			s.admin(func(ctx context.Context, js jetstream.JetStream) error {
				if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: testStream, Subjects: []string{testSubject}}); err != nil {
					return err
				}
				_, err := js.CreateConsumer(ctx, testStream, cc)
				return err
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := openReceiver(t, s.config(natsqueue.RoleConsumer)).Fetch(ctx, 1); !errors.Is(err, queue.ErrRefused) {
				t.Fatalf("fetch: %v; expected ErrRefused", err)
			}
		})
	}
}

// Another publisher at the same moment slows batches down, and may get some of their messages out of order; it
// neither stops nor loses nor repeats any.
func TestTwoPublishers(t *testing.T) {
	s := newServer(t, nil)
	s.create(time.Minute, nil)
	done := make(chan error, 2)
	for w := range 2 {
		p := openPublisher(t, s.config(natsqueue.RoleProducer))
		go func() {
			msgs := benchMessages(100)
			for i := range msgs {
				msgs[i].Body = []byte{byte(w), byte(i)}
			}
			n, err := p.Publish(t.Context(), msgs)
			if err == nil && n != len(msgs) {
				err = errors.New("fewer than all, and no error")
			}
			done <- err
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	r := openReceiver(t, s.config(natsqueue.RoleConsumer))
	came := map[[2]byte]bool{}
	for len(came) < 200 {
		batch, err := r.Fetch(t.Context(), 50)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range batch {
			if m := [2]byte(d.Body); came[m] {
				t.Fatalf("publisher %d: message %d came twice", m[0], m[1])
			} else {
				came[m] = true
			}
		}
	}
}

// What somebody else published since the last batch does not touch the order of the next. Of the conditions that order
// needs, none may be one that each server of a cluster checks anew: one that comes back would give its copy up.
func TestPublisherBetween(t *testing.T) {
	s := newServer(t, nil)
	s.create(time.Minute, nil)
	ours, other := openPublisher(t, s.config(natsqueue.RoleProducer)), openPublisher(t, s.config(natsqueue.RoleProducer))
	seq := byte(0)
	for i := range 6 {
		p := ours
		if i%2 == 1 {
			p = other
		}
		msgs := benchMessages(3)
		for k := range msgs {
			msgs[k].Body = []byte{seq}
			seq++
		}
		if n, err := p.Publish(t.Context(), msgs); err != nil || n != len(msgs) {
			t.Fatalf("published %d: %v", n, err)
		}
	}
	s.admin(func(ctx context.Context, js jetstream.JetStream) error {
		st, err := js.Stream(ctx, testStream)
		if err != nil {
			return err
		}
		conditions := 0
		for i := range seq {
			m, err := st.GetMsg(ctx, uint64(i)+1)
			if err != nil {
				return err
			}
			if m.Data[0] != i {
				t.Errorf("message %d where %d was expected", m.Data[0], i)
			}
			if id := m.Header.Get(jetstream.ExpectedLastMsgIDHeader); id != "" {
				t.Errorf("message %d is on condition that the last one is %s", i, id)
			}
			if m.Header.Get(jetstream.ExpectedLastSeqHeader) != "" {
				conditions++
			}
		}
		if conditions < 2*6 {
			t.Errorf("%d messages are on condition that the one before is stored; expected all but the first of each batch", conditions)
		}
		return nil
	})
}

func TestLeased(t *testing.T) {
	s := newServer(t, nil)
	s.create(time.Minute, nil)
	p := openPublisher(t, s.config(natsqueue.RoleProducer))
	if _, err := p.Publish(t.Context(), benchMessages(3)); err != nil {
		t.Fatal(err)
	}
	fetch := func() (*natsqueue.Receiver, []queue.Delivery) {
		r := openReceiver(t, s.config(natsqueue.RoleConsumer))
		batch, err := r.Fetch(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		return r, batch
	}
	first, batch := fetch()
	if d := first.Leased(); d != 0 {
		t.Errorf("want nothing leased to anybody before, got %s", d)
	}
	// A second process, as after a kill of the first.
	second, more := fetch()
	if d := second.Leased(); d <= time.Minute || d > time.Minute+10*time.Second {
		t.Errorf("want the lease of what the first had fetched, got %s", d)
	}
	for r, b := range map[*natsqueue.Receiver][]queue.Delivery{first: batch, second: more} {
		if err := r.Settle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	third, _ := fetch()
	if d := third.Leased(); d != 0 {
		t.Errorf("want nothing leased once all is settled, got %s", d)
	}
}
