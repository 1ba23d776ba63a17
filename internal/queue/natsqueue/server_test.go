package natsqueue_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"jmlbridge/internal/outbound/proxytest"
	"jmlbridge/internal/porttest"
	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/internal/queue/queuetest"
)

// testServer is somebody's NATS server: from its module, with TLS and nkeys, but not our mid-point.
type testServer struct {
	t     testing.TB
	opts  server.Options
	srv   *server.Server
	ca    string // file
	nkeys map[string]string
	pass  string // file; user "alice"
	owner nats.Option
}

const testStream, testSubject = "JML-TEST", "jml.TEST"

func newServer(t testing.TB, edit func(*server.Options)) *testServer {
	t.Helper()
	dir := t.TempDir()
	s := &testServer{t: t, ca: filepath.Join(dir, "ca.pem"), nkeys: make(map[string]string), pass: filepath.Join(dir, "alice.pass"), owner: nats.UserInfo("admin", "admin")}
	cert := makeCert(t, s.ca)
	s.opts = server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: filepath.Join(dir, "store"), SyncAlways: true, DisableJetStreamBanner: true,
		TLS: true, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, TLSTimeout: 5,
		Users: []*server.User{{Username: "admin", Password: "admin"}, {Username: "alice", Password: "wonderland"}},
	}
	for _, role := range []string{natsqueue.RoleProducer, natsqueue.RoleConsumer} {
		kp, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		pub, _ := kp.PublicKey()
		seed, _ := kp.Seed()
		s.nkeys[role] = filepath.Join(dir, role+".nk")
		write(t, s.nkeys[role], seed, 0o600)
		s.opts.Nkeys = append(s.opts.Nkeys, &server.NkeyUser{Nkey: pub})
	}
	write(t, s.pass, []byte("wonderland\n"), 0o600)
	if edit != nil {
		edit(&s.opts)
	}
	if s.opts.Port == server.RANDOM_PORT { // to be the same one after a restart
		free, err := porttest.Free()
		if err != nil {
			t.Fatal(err)
		}
		s.opts.Port = free.Port
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *testServer) start() {
	s.t.Helper()
	opts := s.opts // the server changes its copy
	srv, err := server.NewServer(&opts)
	if err != nil {
		s.t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(20 * time.Second) {
		s.t.Fatal("nats-server does not start")
	}
	s.srv = srv
	s.opts.Port = srv.Addr().(*net.TCPAddr).Port // the same one after a restart
}

func (s *testServer) stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

func (s *testServer) url() string { return "tls://localhost:" + strconv.Itoa(s.opts.Port) }

func (s *testServer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.opts.Port)) }

func (s *testServer) config(role string) natsqueue.Config {
	return natsqueue.Config{URL: []string{s.url()}, CA: s.ca, NKey: s.nkeys[role], Stream: testStream, Subject: testSubject}
}

// admin does something with all rights, as whoever owns the server may.
func (s *testServer) admin(do func(context.Context, jetstream.JetStream) error) {
	s.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s.srv), s.owner)
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := do(ctx, js); err != nil {
		s.t.Fatal(err)
	}
}

// create makes the stream and its consumer.
func (s *testServer) create(lease time.Duration, edit func(*jetstream.StreamConfig)) {
	s.t.Helper()
	s.admin(func(ctx context.Context, js jetstream.JetStream) error {
		sc := jetstream.StreamConfig{
			Name: testStream, Subjects: []string{testSubject}, Retention: jetstream.WorkQueuePolicy,
			Discard: jetstream.DiscardNew, MaxBytes: 256 << 20, MaxMsgs: -1, Duplicates: time.Minute, AllowDirect: true,
		}
		if edit != nil {
			edit(&sc)
		}
		if _, err := js.CreateStream(ctx, sc); err != nil {
			return err
		}
		_, err := js.CreateConsumer(ctx, testStream, jetstream.ConsumerConfig{
			Durable: "enclave", AckPolicy: jetstream.AckExplicitPolicy, AckWait: lease, MaxDeliver: -1, MaxAckPending: 20_000,
		})
		return err
	})
}

func openPublisher(t testing.TB, c natsqueue.Config) *natsqueue.Publisher {
	t.Helper()
	p, err := natsqueue.OpenPublisher(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func openReceiver(t testing.TB, c natsqueue.Config) *natsqueue.Receiver {
	t.Helper()
	r, err := natsqueue.OpenReceiver(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestConformance(t *testing.T) { queuetest.Run(t, conforming) }

func TestConformanceDisturbed(t *testing.T) { queuetest.RunDisturbed(t, conforming) }

// conforming is a queue of the conformance suite: behind a proxy whose connections break, where faults are asked for.
func conforming(t *testing.T, set queuetest.Settings) queuetest.Queue {
	s := newServer(t, nil)
	s.create(set.Lease, func(c *jetstream.StreamConfig) {
		if set.MaxMessages > 0 {
			c.MaxMsgs = int64(set.MaxMessages)
		}
	})
	stop, start, proxy := s.stop, s.start, ""
	var struck func() int
	if set.Faults != 0 {
		p := proxytest.New(t, "")
		p.Break(set.Faults, breaks)
		p.To(s.addr())
		struck, proxy = p.Broken, p.URL()
		stop = func() { p.To(""); s.stop() }
		start = func() { s.opts.Port = server.RANDOM_PORT; s.start(); p.To(s.addr()) }
	}
	conf := func(role string) natsqueue.Config {
		c := s.config(role)
		c.Patience, c.Proxy = set.Patience, proxy
		return c
	}
	return queuetest.Queue{
		Publisher: func() queue.Publisher { return openPublisher(t, conf(natsqueue.RoleProducer)) },
		Receiver:  func() queue.Receiver { return openReceiver(t, conf(natsqueue.RoleConsumer)) },
		Stop:      stop,
		Start:     start,
		Dark: func(from queue.Position) queue.Receiver {
			d, err := natsqueue.OpenDark(conf(natsqueue.RoleConsumer), from)
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
		Struck: struck,
	}
}

// breaks is how many connections break in a test of the suite.
const breaks = 9

func write(t testing.TB, name string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, text, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// makeCert makes a self-signed certificate for localhost and writes its public half to file.
func makeCert(t testing.TB, file string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
