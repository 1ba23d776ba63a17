package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"jmlbridge/internal/porttest"
)

// collector takes what is sent by syslog over TLS, one octet-counted message after the other.
type collector struct {
	net.Listener
	mu    sync.Mutex // guards what follows
	lines []string
	conns []net.Conn
}

func (f *files) collector(cert tls.Certificate, address string) *collector {
	f.t.Helper()
	c := &collector{}
	var err error
	if c.Listener, err = tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.end)
	go func() {
		for {
			conn, err := c.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.conns = append(c.conns, conn)
			c.mu.Unlock()
			go c.hear(conn)
		}
	}()
	return c
}

func (c *collector) hear(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		size, err := r.ReadString(' ')
		n, nerr := strconv.Atoi(strings.TrimSpace(size))
		if err != nil || nerr != nil {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		c.mu.Lock()
		c.lines = append(c.lines, string(b))
		c.mu.Unlock()
	}
}

func (c *collector) end() {
	c.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
}

func (c *collector) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.lines)
}

// heard reports whether a line has all of these.
func (c *collector) heard(words ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
next:
	for _, l := range c.lines {
		for _, w := range words {
			if !strings.Contains(l, w) {
				continue next
			}
		}
		return true
	}
	return false
}

// certified makes a certificate that vouches for itself, and leaves it as an authority for the consumer.
func (f *files) certified(name string) tls.Certificate {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(name, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Alarms reach a collector; one that is lost is an alarm in the file and keeps nobody from being cut, and when it is
// back it hears what stands.
func TestAlarmsReachACollector(t *testing.T) {
	w := newWorld(t)
	cert := w.certified("keys/siem-ca.pem")
	c := w.collector(cert, freeAddress(t))
	w.edit("consumer.yaml", "alarms.jsonl}", "alarms.jsonl, syslog: {address: \""+c.Addr().String()+"\", ca_file: keys/siem-ca.pem}}")
	p := w.start("run")
	w.heartbeat()
	w.joiner("100042", "ann.example", "soc-analyst")
	eventually(t, "ann has an account", func() bool { return w.enabled("ann.example") })
	w.seq++ // a message that never comes
	w.leaver("100042")
	eventually(t, "the collector hears of the gap", func() bool {
		return c.heard("<82>1 ", " jmlbridge-consumer ", " gap - {", `"state":"raised"`)
	})
	c.end()
	file := func(words ...string) bool {
		text, err := os.ReadFile(w.path("alarms.jsonl"))
		ok := err == nil
		for _, word := range words {
			ok = ok && strings.Contains(string(text), word)
		}
		return ok
	}
	eventually(t, "the lost collector is an alarm", func() bool { return file(`"raised","code":"syslog-unreachable"`) })
	eventually(t, "ann is cut all the same", func() bool { return !w.enabled("ann.example") })
	again := w.collector(cert, c.Addr().String())
	eventually(t, "the collector hears what stands", func() bool { return again.heard(" gap - {", `"state":"raised"`) })
	eventually(t, "the alarm is over", func() bool { return file(`"cleared","code":"syslog-unreachable"`) })
	for _, l := range append(c.all(), again.all()...) {
		if strings.Contains(l, "ann.example") || strings.Contains(l, "Ann Example") {
			t.Errorf("a person's name was sent: %s", l)
		}
	}
	p.stop()

	w.edit("consumer.yaml", "siem-ca.pem", "none.pem")
	if code, _, errs := w.consumer("run"); code != exitMisused || !strings.Contains(errs, "syslog") {
		t.Errorf("without its authority: exit %d, %s", code, errs)
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
