package syslog

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"jmlbridge/internal/porttest"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	dir  string
	file string // its own certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write("ca.pem", 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func (a *authority) write(name string, mode os.FileMode, blocks ...*pem.Block) string {
	a.t.Helper()
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(b)...)
	}
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, text, mode); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue leaves a certificate and its key in one file.
func (a *authority) issue(name string) string {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}},
		a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", 0o600, &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: pk})
}

// collector takes messages over TLS.
type collector struct {
	net.Listener
	t     *testing.T
	conns chan net.Conn
}

func (a *authority) collector(clients bool, address string) *collector {
	a.t.Helper()
	cert, err := tls.LoadX509KeyPair(a.issue("collector"), filepath.Join(a.dir, "collector.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if clients {
		conf.ClientCAs = x509.NewCertPool()
		conf.ClientCAs.AddCert(a.cert)
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	c := &collector{t: a.t, conns: make(chan net.Conn, 10)}
	if c.Listener, err = tls.Listen("tcp", address, conf); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { c.Close() })
	go func() {
		for {
			conn, err := c.Accept()
			if err != nil {
				return
			}
			go func() {
				if err := conn.(*tls.Conn).Handshake(); err != nil {
					conn.Close()
					return
				}
				c.conns <- conn
			}()
		}
	}()
	return c
}

func (c *collector) conn() *bufio.Reader {
	c.t.Helper()
	r, _ := c.accept()
	return r
}

func (c *collector) accept() (*bufio.Reader, net.Conn) {
	c.t.Helper()
	select {
	case conn := <-c.conns:
		c.t.Cleanup(func() { conn.Close() })
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
		return bufio.NewReader(conn), conn
	case <-time.After(2 * time.Minute):
		c.t.Fatal("nobody connects")
		return nil, nil
	}
}

// read takes one octet-counted message.
func read(r *bufio.Reader) (string, error) {
	n, err := r.ReadString(' ')
	if err != nil {
		return "", err
	}
	size, err := strconv.Atoi(strings.TrimSuffix(n, " "))
	if err != nil {
		return "", err
	}
	b := make([]byte, size)
	_, err = io.ReadFull(r, b)
	return string(b), err
}

// sending is a Sender that runs.
type sending struct {
	*Sender
	heard chan error
	stop  func()
}

func send(t *testing.T, c Config) *sending {
	t.Helper()
	s := &sending{heard: make(chan error, 100)}
	c.Proxy = "none"
	var err error
	if s.Sender, err = New(c, "jmlbridge-consumer", func(err error) {
		select {
		case s.heard <- err:
		default:
		}
	}); err != nil {
		t.Fatal(err)
	}
	s.after = func(d time.Duration) <-chan time.Time {
		if d == steadyTime { // longer than a busy machine takes to refuse a certificate
			return time.After(d / 2)
		}
		return time.After(d / 100)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	s.stop = func() { cancel(); <-done }
	t.Cleanup(s.stop)
	return s
}

func (s *sending) hear(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.heard:
		return err
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing is reported")
		return nil
	}
}

var t0 = time.Date(2026, 11, 23, 4, 0, 0, 5e6, time.UTC)

func message(id string) Message {
	return Message{Time: t0, Severity: Critical, ID: id, Text: `{"code":"` + id + `"}`}
}

// One message is one octet-counted line of RFC 5424, to a collector that wants a certificate of ours.
func TestMessage(t *testing.T) {
	a := newAuthority(t)
	c := a.collector(true, freeAddress(t))
	s := send(t, Config{Address: c.Addr().String(), CAFile: a.file, CertificateFile: a.issue("enclave")})
	s.Tell([]Message{message("gap")}, nil)
	r := c.conn()
	line, err := read(r)
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^<82>1 2026-11-23T04:00:00\.005Z \S+ jmlbridge-consumer \d+ gap - \{"code":"gap"\}$`)
	if !want.MatchString(line) {
		t.Errorf("got %q", line)
	}
	if err := s.hear(t); err != nil {
		t.Errorf("reported %v", err)
	}
	s.Tell([]Message{message("late")}, nil)
	s.stop() // what waits is sent
	if line, err := read(r); err != nil || !strings.Contains(line, " late ") {
		t.Errorf("the last message: %q, %v", line, err)
	}
}

// A collector that goes away is reported, and when it is back it hears what stands, and what it missed.
func TestReconnects(t *testing.T) {
	a := newAuthority(t)
	c := a.collector(false, freeAddress(t))
	s := send(t, Config{Address: c.Addr().String(), CAFile: a.file})
	s.Tell([]Message{message("gap")}, []Message{message("gap")})
	r, conn := c.accept()
	if _, err := read(r); err != nil {
		t.Fatal(err)
	}
	if err := s.hear(t); err != nil {
		t.Fatal(err)
	}
	c.Close()
	conn.Close()
	if err := s.hear(t); err == nil {
		t.Fatal("a lost collector was not reported")
	}
	s.Tell([]Message{message("fork")}, []Message{message("gap"), message("fork")})
	for s.hear(t) == nil { // at least one attempt fails
	}
	again := a.collector(false, c.Addr().String())
	r = again.conn()
	var got []string
	for range 3 {
		line, err := read(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.Fields(line)[5])
	}
	if want := "fork gap fork"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want what was missed and what stands: %q", got, want)
	}
	for s.hear(t) != nil {
	}
}

// Who cannot show the right certificate is told nothing, and neither is reported as there.
func TestTrust(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	c := a.collector(true, freeAddress(t))
	for name, conf := range map[string]Config{
		"the collector is another's":   {CAFile: other.file, CertificateFile: a.issue("enclave")},
		"our certificate is another's": {CAFile: a.file, CertificateFile: other.issue("enclave")},
		"we show none":                 {CAFile: a.file},
	} {
		t.Run(name, func(t *testing.T) {
			conf.Address = c.Addr().String()
			s := send(t, conf)
			s.Tell([]Message{message("gap")}, nil)
			for range 3 {
				if err := s.hear(t); err == nil {
					t.Error("it is reported as there")
				}
			}
			s.stop()
		})
	}
	if n := len(c.conns); n > 0 {
		t.Errorf("%d connections stand with a collector that was not to be told", n)
	}
}

// Nobody waits for a collector, and what waits for it is bounded; that something was lost is said.
func TestQueueIsBounded(t *testing.T) {
	a := newAuthority(t)
	s, err := New(Config{Address: "127.0.0.1", CAFile: a.file, Proxy: "none"}, "p", func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	if s.address != "127.0.0.1:6514" {
		t.Errorf("address %s", s.address)
	}
	for i := range MaxQueue + 5 {
		s.Tell([]Message{message(fmt.Sprint(i))}, nil)
	}
	if len(s.queue) != MaxQueue || s.dropped != 5 || s.queue[0].ID != "5" {
		t.Errorf("%d wait from %s on, %d were dropped", len(s.queue), s.queue[0].ID, s.dropped)
	}
	near, far := net.Pipe()
	defer far.Close()
	got := make(chan string, 1)
	go func() {
		line, _ := read(bufio.NewReader(far))
		got <- line
		_, _ = io.Copy(io.Discard, far)
	}()
	if err := s.flush(near, true, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if line := <-got; !strings.Contains(line, `"count":5`) {
		t.Errorf("the first is %q", line)
	}

	// What could not be sent waits on, without what stands.
	s.Tell([]Message{message("a"), message("b")}, []Message{message("a")})
	near.Close()
	if err := s.flush(near, true, time.Second); !errors.Is(err, io.ErrClosedPipe) || len(s.queue) != 2 {
		t.Errorf("%d wait, %v", len(s.queue), err)
	}
}

func TestFields(t *testing.T) {
	s := &Sender{header: "h p 1"}
	frame := string(s.frame(nil, Message{Time: t0, Severity: Info, ID: "a b\xff", Text: strings.Repeat("é", maxText)}))
	size, line, _ := strings.Cut(frame, " ")
	if n, err := strconv.Atoi(size); err != nil || n != len(line) || !strings.HasPrefix(line, "<86>1 2026-11-23T04:00:00.005Z h p 1 a?b? - éé") || n > maxText+100 {
		t.Errorf("%s octets: %.80q", size, line)
	}
	for _, c := range []Config{{Address: "collector:port"}, {Address: "collector:0"}, {Address: ":6514"}, {Address: "c", CAFile: "/none"}, {Address: "c", CertificateFile: "/none"}} {
		if _, err := New(c, "p", func(error) {}); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// freeAddress is one to which a collector can come back.
func freeAddress(t *testing.T) string {
	t.Helper()
	addr, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	return addr.String()
}
