package midpoint_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"jmlbridge/internal/outbound/proxytest"
	"jmlbridge/internal/porttest"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/internal/queue/queuetest"
	"jmlbridge/producer/midpoint"
)

// setup is one mid-point on this machine, made by Init for the enclaves GOV-1 and GOV-2.
type setup struct {
	t    *testing.T
	dir  string
	made *midpoint.Made
	cfg  midpoint.Config
	srv  *midpoint.Server
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func newSetup(t *testing.T, edit func(*midpoint.Config)) *setup {
	t.Helper()
	s := &setup{t: t, dir: filepath.Join(t.TempDir(), "mp")}
	free, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	s.made, err = midpoint.Init(t.Context(), s.dir, midpoint.Setup{
		Hosts: []string{"localhost", "127.0.0.1"}, Listen: free.String(), Enclaves: []string{"GOV-1", "GOV-2"},
	}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	s.cfg = readConfig(t, s.made.Config)
	if edit != nil {
		edit(&s.cfg)
	}
	t.Cleanup(s.stop)
	return s
}

// readConfig reads a configuration as the command does: strictly, file names relative to it.
func readConfig(t testing.TB, name string) (c midpoint.Config) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(raw, &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return c.In(filepath.Dir(name))
}

func (s *setup) start() {
	s.t.Helper()
	srv, err := midpoint.Start(s.t.Context(), s.cfg, testLog(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	s.srv, s.cfg.Listen = srv, srv.Addr() // the same port after a restart
}

func (s *setup) stop() {
	if s.srv != nil {
		s.srv.Stop()
	}
}

// client is a client's settings as Init wrote them, with the port that the server got.
func (s *setup) client(folder string) natsqueue.Config {
	s.t.Helper()
	return readQueue(s.t, folder, s.srv.Addr())
}

func readQueue(t testing.TB, folder, addr string) natsqueue.Config {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(folder, midpoint.QueueFile))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Queue struct {
			NATS natsqueue.Config `yaml:"nats"`
		} `yaml:"queue"`
	}
	if err := yaml.UnmarshalWithOptions(raw, &f, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	f.Queue.NATS.URL = []string{"tls://" + addr}
	return f.Queue.NATS.In(folder)
}

func (s *setup) publisher(c natsqueue.Config) *natsqueue.Publisher {
	s.t.Helper()
	p, err := natsqueue.OpenPublisher(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { p.Close() })
	return p
}

func (s *setup) receiver(c natsqueue.Config) *natsqueue.Receiver {
	s.t.Helper()
	r, err := natsqueue.OpenReceiver(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.Close() })
	return r
}

// The embedded mid-point with the credentials that it hands out is a queue like any other.
func TestConformance(t *testing.T) { queuetest.Run(t, conforming) }

func TestConformanceDisturbed(t *testing.T) { queuetest.RunDisturbed(t, conforming) }

// conforming is a queue of the conformance suite: behind a proxy whose connections break, where faults are asked for.
func conforming(t *testing.T, set queuetest.Settings) queuetest.Queue {
	if set.MaxMessages > 0 {
		t.Skip("the mid-point is limited by size; TestFull has that")
	}
	s := newSetup(t, func(c *midpoint.Config) { c.Enclaves[0].Lease = set.Lease })
	s.start()
	stop, start, proxy := s.stop, s.start, ""
	var struck func() int
	if set.Faults != 0 {
		p := proxytest.New(t, "")
		p.Break(set.Faults, breaks)
		p.To(s.srv.Addr())
		struck, proxy = p.Broken, p.URL()
		stop = func() { p.To(""); s.stop() }
		start = func() { s.cfg.Listen = "127.0.0.1:0"; s.start(); p.To(s.srv.Addr()) }
	}
	conf := func(folder string) natsqueue.Config {
		c := s.client(folder)
		c.Patience, c.Proxy = set.Patience, proxy
		return c
	}
	return queuetest.Queue{
		Publisher: func() queue.Publisher { return s.publisher(conf(s.made.Producers["GOV-1"])) },
		Receiver:  func() queue.Receiver { return s.receiver(conf(s.made.Consumers["GOV-1"])) },
		Stop:      stop,
		Start:     start,
		Struck:    struck,
	}
}

// breaks is how many connections break in a test of the suite.
const breaks = 9

// A stream at its size limit refuses, keeps what it has, and goes on when there is room.
func TestFull(t *testing.T) {
	s := newSetup(t, func(c *midpoint.Config) { c.Enclaves[0].MaxMiB = 1 })
	s.start()
	p, r := s.publisher(s.client(s.made.Producers["GOV-1"])), s.receiver(s.client(s.made.Consumers["GOV-1"]))
	var msgs []queue.Message
	for i := range 8 {
		msgs = append(msgs, queue.Message{ID: string(rune('a' + i)), Body: bytes.Repeat([]byte{byte(i)}, queue.MaxBody)})
	}
	// A small one behind the one that does not fit would fit, and must not slip past it.
	msgs = append(msgs, queue.Message{ID: "small", Body: []byte{8}})
	n, err := p.Publish(t.Context(), msgs)
	if n != 5 || !errors.Is(err, queue.ErrFull) {
		t.Fatalf("publish of 8 x 192 KiB into 1 MiB: %d, %v; expected 5 and ErrFull", n, err)
	}
	for next := 0; next < len(msgs); {
		for n <= next { // all that came is settled, soon there is room
			k, err := p.Publish(t.Context(), msgs[n:])
			if err != nil && !errors.Is(err, queue.ErrFull) {
				t.Fatal(err)
			}
			n += k
		}
		batch, err := r.Fetch(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range batch {
			if d.Body[0] != byte(next) {
				t.Fatalf("message %d where %d was expected", d.Body[0], next)
			}
			next++
		}
		if err := r.Settle(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
}

// Messages outlive a clean shutdown, and so does what was settled.
func TestRunFlushes(t *testing.T) {
	s := newSetup(t, nil)
	s.start()
	p, r := s.publisher(s.client(s.made.Producers["GOV-1"])), s.receiver(s.client(s.made.Consumers["GOV-1"]))
	if _, err := p.Publish(t.Context(), []queue.Message{{ID: "1", Body: []byte("one")}, {ID: "2", Body: []byte("two")}}); err != nil {
		t.Fatal(err)
	}
	batch, err := r.Fetch(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Settle(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	s.stop()

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- midpoint.Run(ctx, s.cfg, testLog(t)) }()
	batch, err = s.receiver(s.client(s.made.Consumers["GOV-1"])).Fetch(t.Context(), 10)
	if err != nil || len(batch) != 1 || string(batch[0].Body) != "two" {
		t.Fatalf("after a restart: %d messages, %v; expected the one that was not settled", len(batch), err)
	}
	cancel() // Ctrl-C
	if err := <-done; err != nil {
		t.Fatalf("run: %v; expected nil after a clean stop", err)
	}
	if _, err := net.DialTimeout("tcp", s.cfg.Listen, time.Second); err == nil {
		t.Fatal("the port is still open after the stop")
	}
}

// One server at a time.
func TestLocked(t *testing.T) {
	s := newSetup(t, nil)
	s.start()
	other := s.cfg
	other.Listen = "127.0.0.1:0"
	if _, err := midpoint.Start(t.Context(), other, testLog(t)); err == nil || !strings.Contains(err.Error(), "is running on") {
		t.Fatalf("second server on one store: %v; expected a refusal that names the first", err)
	}
}

// A port that another program has is named at once.
func TestPortInUse(t *testing.T) {
	s := newSetup(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := s.cfg
	cfg.Listen = l.Addr().String()
	for range 2 { // the store is free again
		if _, err := midpoint.Start(t.Context(), cfg, testLog(t)); err == nil || !strings.Contains(err.Error(), "cannot listen on "+cfg.Listen) {
			t.Fatalf("on a port in use: %v", err)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*testing.T, *midpoint.Config)
		want string
	}{
		{"store missing", func(_ *testing.T, c *midpoint.Config) { c.Store += "-elsewhere" }, "holds no mid-point store; is its disk mounted?"},
		{"store not set", func(_ *testing.T, c *midpoint.Config) { c.Store = "" }, "store: not set"},
		{"store of another version", func(t *testing.T, c *midpoint.Config) {
			name := filepath.Join(c.Store, "MIDPOINT-STORE")
			if err := os.WriteFile(name, []byte("jmlbridge mid-point store, version 9\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "of another version"},
		{"streams gone", func(t *testing.T, c *midpoint.Config) {
			if err := os.RemoveAll(filepath.Join(c.Store, "jetstream")); err != nil {
				t.Fatal(err)
			}
		}, "has no stream in this store"},
		{"enclave never added", func(_ *testing.T, c *midpoint.Config) { c.Enclaves[1].Name = "GOV-3" }, "GOV-3 has no stream in this store"},
		{"no enclave", func(_ *testing.T, c *midpoint.Config) { c.Enclaves = nil }, "enclaves: none"},
		{"bad name", func(_ *testing.T, c *midpoint.Config) { c.Enclaves[0].Name = "gov.1" }, "expected 1 to 32 of A-Z"},
		{"name twice", func(_ *testing.T, c *midpoint.Config) { c.Enclaves[1].Name = "GOV-1" }, "is there twice"},
		{"seed for a public key", func(_ *testing.T, c *midpoint.Config) { c.Enclaves[0].Producer = "SUAOOPS" }, "expected a public user nkey"},
		{"one key for both", func(_ *testing.T, c *midpoint.Config) { c.Enclaves[0].Consumer = c.Enclaves[0].Producer }, "the same key as GOV-1's producer"},
		{"one key for two enclaves", func(_ *testing.T, c *midpoint.Config) { c.Enclaves[1].Consumer = c.Enclaves[0].Consumer }, "the same key as GOV-1's consumer"},
		{"no certificate", func(_ *testing.T, c *midpoint.Config) { c.Cert = "" }, "speaks TLS only"},
		{"key readable", func(t *testing.T, c *midpoint.Config) {
			if err := os.Chmod(c.Key, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "can be used by others"},
		{"no port", func(_ *testing.T, c *midpoint.Config) { c.Listen = "localhost" }, "expected host:port"},
		{"lease too short", func(_ *testing.T, c *midpoint.Config) { c.Enclaves[0].Lease = time.Millisecond }, "lease: 1ms: expected"},
		{"certificate over", func(t *testing.T, c *midpoint.Config) {
			ca := filepath.Join(filepath.Dir(filepath.Dir(c.Cert)), "ca")
			if err := midpoint.Renew(*c, ca, time.Now().Add(-500*24*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}, "no client would connect: renew it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetup(t, func(cfg *midpoint.Config) { c.edit(t, cfg) })
			srv, err := midpoint.Start(t.Context(), s.cfg, testLog(t))
			if err == nil {
				srv.Stop()
				t.Fatalf("started; expected an error with %q", c.want)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %q; expected one with %q", err, c.want)
			}
		})
	}
}

func TestInitRefuses(t *testing.T) {
	parent := t.TempDir()
	have := filepath.Join(parent, "have")
	if err := os.Mkdir(have, 0o700); err != nil {
		t.Fatal(err)
	}
	ok := midpoint.Setup{Hosts: []string{"localhost"}, Enclaves: []string{"GOV-1"}}
	for _, c := range []struct {
		name, dir string
		edit      func(*midpoint.Setup)
		want      string
	}{
		{"folder exists", "have", func(*midpoint.Setup) {}, "exists already"},
		{"no host", "new", func(s *midpoint.Setup) { s.Hosts = nil }, "no host name"},
		{"no enclave", "new", func(s *midpoint.Setup) { s.Enclaves = nil }, "enclaves: none"},
		{"enclave that is a path", "new", func(s *midpoint.Setup) { s.Enclaves = []string{"../X"} }, "expected 1 to 32"},
		{"enclave twice", "new", func(s *midpoint.Setup) { s.Enclaves = []string{"A", "A"} }, "enclave A is given twice"},
		{"empty host", "new", func(s *midpoint.Setup) { s.Hosts = []string{""} }, `host "": want a DNS name`},
		{"host with a space", "new", func(s *midpoint.Setup) { s.Hosts = []string{"bad host"} }, `host "bad host": want a DNS name`},
		{"host with a space behind", "new", func(s *midpoint.Setup) { s.Hosts = []string{"localhost "} }, `host "localhost ": want`},
		{"host that is a URL", "new", func(s *midpoint.Setup) { s.Hosts = []string{"https://queue.example"} }, "no scheme, port"},
		{"host with a port", "new", func(s *midpoint.Setup) { s.Hosts = []string{"queue.example:4222"} }, "no scheme, port"},
		{"host that is a path", "new", func(s *midpoint.Setup) { s.Hosts = []string{"a/b"} }, "no scheme, port"},
		{"host that is no address", "new", func(s *midpoint.Setup) { s.Hosts = []string{"10.0.0.256"} }, "or an IP address"},
		{"second host", "new", func(s *midpoint.Setup) { s.Hosts = []string{"::1", "queue.example."} }, `host "queue.example."`},
		{"bad port", "new", func(s *midpoint.Setup) { s.Listen = ":many" }, "expected a port number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := ok
			c.edit(&set)
			_, err := midpoint.Init(t.Context(), filepath.Join(parent, c.dir), set, testLog(t))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v; expected one with %q", err, c.want)
			}
			left, err := os.ReadDir(parent)
			if err != nil || len(left) != 1 {
				t.Fatalf("left behind: %v, %v; expected nothing new", left, err)
			}
		})
	}
}

// An init that was killed leaves the authority's key: the next one of the same folder names it, and makes nothing.
func TestInitThatWasKilled(t *testing.T) {
	parent := t.TempDir()
	dir, left := filepath.Join(parent, "mp"), filepath.Join(parent, ".midpoint-init-mp")
	if err := os.Mkdir(left, 0o700); err != nil { // its first step
		t.Fatal(err)
	}
	set := midpoint.Setup{Hosts: []string{"localhost"}, Enclaves: []string{"GOV-1"}}
	for range 2 {
		if _, err := midpoint.Init(t.Context(), dir, set, testLog(t)); err == nil || !strings.Contains(err.Error(), left+" is there: an init of "+dir+" was killed") {
			t.Fatalf("after one that was killed: %v", err)
		}
		if _, err := os.Stat(left); err != nil {
			t.Fatalf("what may be another's was taken away: %v", err)
		}
	}
	if err := os.Remove(left); err != nil {
		t.Fatal(err)
	}
	if _, err := midpoint.Init(t.Context(), dir, set, testLog(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("one that was done left its folder: %v", err)
	}
}

// Secrets have their owner's mode only, and what is carried to one side holds nothing of the other.
func TestInitFiles(t *testing.T) {
	s := newSetup(t, nil)
	seeds := make(map[string]string)
	err := filepath.Walk(s.dir, func(name string, st os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(s.dir, name)
		if st.IsDir() {
			if st.Mode().Perm() != 0o700 && !strings.Contains(rel, "jetstream") {
				t.Errorf("folder %s has mode %o", rel, st.Mode().Perm())
			}
			return nil
		}
		raw, err := os.ReadFile(name)
		secret := bytes.Contains(raw, []byte("PRIVATE KEY")) || bytes.HasPrefix(raw, []byte("SU"))
		if secret && st.Mode().Perm() != 0o600 {
			t.Errorf("secret %s has mode %o", rel, st.Mode().Perm())
		}
		if bytes.HasPrefix(raw, []byte("SU")) {
			seeds[rel] = string(raw)
		} else if secret && filepath.Dir(rel) != "ca" && filepath.Dir(rel) != "midpoint" {
			t.Errorf("%s holds a private key", rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	different := make(map[string]bool)
	for rel, seed := range seeds {
		different[seed] = true
		if !strings.HasPrefix(rel, "producer") && !strings.HasPrefix(rel, "consumer") {
			t.Errorf("a client's seed in %s", rel)
		}
	}
	if len(seeds) != 4 || len(different) != 4 {
		t.Fatalf("%d seeds, %d different; expected one for each client", len(seeds), len(different))
	}
}

// A running server takes up a renewed certificate; clients that know the authority notice nothing.
func TestRenew(t *testing.T) {
	s := newSetup(t, nil)
	s.start()
	before, err := os.ReadFile(s.cfg.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := midpoint.Renew(s.cfg, s.made.CA, time.Now()); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(s.cfg.Cert); err != nil || bytes.Equal(before, after) {
		t.Fatalf("certificate not replaced (%v)", err)
	}
	conf := s.client(s.made.Producers["GOV-1"])
	if _, err := s.publisher(conf).Publish(t.Context(), []queue.Message{{ID: "1", Body: []byte("one")}}); err != nil {
		t.Fatal(err)
	}
	if err := midpoint.Renew(s.cfg, s.made.CA, time.Now().Add(9*365*24*time.Hour)); err == nil {
		t.Fatal("a server certificate that outlives its authority was made")
	}
}

// An enclave added later gets credentials and a stream of its own; the others keep theirs.
func TestAdd(t *testing.T) {
	s := newSetup(t, nil)
	if _, err := midpoint.Add(t.Context(), s.dir, s.cfg, "GOV-3", "tls://localhost:4222", false, testLog(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := midpoint.Add(t.Context(), s.dir, s.cfg, "GOV-1", "tls://localhost:4222", false, testLog(t)); err == nil {
		t.Fatal("an enclave that is there was added again")
	}
	// What is in the way is named, and nothing is left beside it; what an add that was killed left can be removed.
	for _, in := range [][]string{{"producer/GOV-3"}, {"consumer/GOV-3"}, {"producer/GOV-3", "consumer/GOV-3"}} {
		var named []string
		for _, role := range []string{"producer", "consumer"} {
			if err := os.RemoveAll(filepath.Join(s.dir, role, "GOV-3")); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range in {
			named = append(named, filepath.Join(s.dir, name))
			if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := midpoint.Add(t.Context(), s.dir, s.cfg, "GOV-3", "tls://localhost:4222", false, testLog(t)); err == nil || !strings.Contains(err.Error(), strings.Join(named, " and ")+": there already") {
			t.Errorf("with %v in the way: %v", in, err)
		}
		for _, role := range []string{"producer", "consumer"} {
			name := filepath.Join(s.dir, role, "GOV-3")
			if _, err := os.Stat(name); (err == nil) != slices.Contains(named, name) {
				t.Errorf("with %v in the way, %s: %v", in, name, err)
			}
		}
	}
	for _, role := range []string{"producer", "consumer"} {
		if err := os.RemoveAll(filepath.Join(s.dir, role, "GOV-3")); err != nil {
			t.Fatal(err)
		}
	}
	m, err := midpoint.Add(t.Context(), s.dir, s.cfg, "GOV-3", "tls://localhost:4222", false, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	// No client would believe these.
	other := newSetup(t, nil)
	for url, want := range map[string]string{"tls://queue.example:4222": "queue.example", "tls://127.0.0.2:4222": "127.0.0.2"} {
		if _, err := midpoint.Add(t.Context(), s.dir, s.cfg, "GOV-4", url, false, testLog(t)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "name a host") {
			t.Errorf("by %s: %v", url, err)
		}
	}
	if _, err := midpoint.Add(t.Context(), other.dir, s.cfg, "GOV-4", "tls://localhost:4222", false, testLog(t)); err == nil || !strings.Contains(err.Error(), "did not sign") {
		t.Errorf("into another mid-point's folder: %v", err)
	}
	for _, dir := range []string{s.dir, other.dir} {
		if _, err := os.Stat(filepath.Join(dir, "producer", "GOV-4")); !os.IsNotExist(err) {
			t.Errorf("credentials of the refused one are left behind: %v", err)
		}
	}
	s.cfg.Enclaves = append(s.cfg.Enclaves, m.Enclaves...)
	s.start()
	for _, name := range []string{"GOV-1", "GOV-3"} {
		producers, consumers := s.made.Producers[name], s.made.Consumers[name]
		if name == "GOV-3" {
			producers, consumers = m.Producers[name], m.Consumers[name]
		}
		if _, err := s.publisher(s.client(producers)).Publish(t.Context(), []queue.Message{{ID: "1", Body: []byte(name)}}); err != nil {
			t.Fatal(err)
		}
		batch, err := s.receiver(s.client(consumers)).Fetch(t.Context(), 10)
		if err != nil || len(batch) != 1 || string(batch[0].Body) != name {
			t.Fatalf("%s: %d messages, %v", name, len(batch), err)
		}
	}
	if _, err := midpoint.Add(t.Context(), s.dir, s.cfg, "GOV-4", "tls://localhost:4222", false, testLog(t)); err == nil {
		t.Fatal("an enclave was added under a running server")
	}
	if _, err := os.Stat(filepath.Join(s.dir, "producer", "GOV-4")); !os.IsNotExist(err) {
		t.Fatalf("credentials of the failed one are left behind: %v", err)
	}
}
