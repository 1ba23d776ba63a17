// Package syslog sends messages to a log collector: syslog (RFC 5424) over TLS (RFC 5425).
//
// It never makes its caller wait. What cannot be sent stays in a queue of bounded length, of which the oldest gives
// way; the protocol has no answers, so whatever stands is said again on every new connection. The collector is
// trusted to be who its certificate says, and with what it is told.
package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"jmlbridge/internal/outbound"
	"jmlbridge/internal/secret"
)

// Severity of a message, of those that RFC 5424 has.
type Severity int

// The severities that are used.
const (
	Critical Severity = 2
	Warning  Severity = 4
	Notice   Severity = 5
	Info     Severity = 6
)

// facility is security and authorization messages.
const facility = 10

// Limits.
const (
	MaxQueue    = 1000             // messages that wait for a connection; then the oldest give way
	maxText     = 8 << 10          // octets of a message's text: every collector must take 2 KiB, and should 8
	writeTime   = 10 * time.Second // for what is sent at once
	firstPause  = time.Second      // before the next attempt to connect, then twice as long each time
	longPause   = time.Minute
	farewell    = 3 * time.Second // for what waits when the program ends
	steadyTime  = 2 * time.Second // a connection counts from then on: one that refuses our certificate says so after it stands
	maxKeyFile  = 1 << 20         // octets
	defaultPort = "6514"
)

// Config is where the collector is and who it must be. The zero value sends nothing.
type Config struct {
	// Address is the collector's host, or host:port; 6514 where no port is said.
	Address string `yaml:"address"`
	// CAFile holds, in PEM, the only authorities that may vouch for it. Default: the system's.
	CAFile string `yaml:"ca_file"`
	// CertificateFile holds our certificate and its key in PEM, mode 0600, where the collector wants one.
	CertificateFile string `yaml:"certificate_file"`
	// Proxy and ProxyCredentials as in outbound.Config.
	Proxy            string `yaml:"proxy"`
	ProxyCredentials string `yaml:"proxy_credentials"`
}

// Message is one message. ID is a short code, Text one line.
type Message struct {
	Time     time.Time
	Severity Severity
	ID       string
	Text     string
}

// Sender sends to one collector. Make one with New, and let Run run.
type Sender struct {
	address string
	way     *outbound.Way
	tls     *tls.Config
	header  string // host, program and process, as each message names them
	report  func(error)
	after   func(time.Duration) <-chan time.Time // time.After; tests shorten it

	wake chan struct{} // capacity 1

	mu       sync.Mutex // guards what follows; never held across I/O
	queue    []Message
	standing []Message
	dropped  int
}

// New reads what c names and sends nothing. report hears, one call at a time, of each attempt to connect that failed,
// of each connection that was lost, and with nil of each that stands.
func New(c Config, program string, report func(error)) (*Sender, error) {
	address := c.Address
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(strings.Trim(address, "[]"), defaultPort)
	}
	host, port, err := net.SplitHostPort(address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
		return nil, fmt.Errorf("address: want a host, or host:port, got %q", c.Address)
	}
	way, err := outbound.New(outbound.Config{CAFile: c.CAFile, Proxy: c.Proxy, ProxyCredentials: c.ProxyCredentials})
	if err != nil {
		return nil, err
	}
	s := &Sender{address: address, way: way, tls: way.TLS(), report: report, after: time.After, wake: make(chan struct{}, 1)}
	s.tls.ServerName = host
	if c.CertificateFile != "" {
		cert, err := certificate(c.CertificateFile)
		if err != nil {
			return nil, fmt.Errorf("certificate_file: %w", err)
		}
		s.tls.Certificates = []tls.Certificate{cert}
	}
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	s.header = word(name, 255) + " " + word(program, 48) + " " + strconv.Itoa(os.Getpid())
	return s, nil
}

func certificate(path string) (cert tls.Certificate, err error) {
	text, err := secret.Read(path, maxKeyFile)
	if err != nil {
		return cert, err
	}
	if cert, err = tls.X509KeyPair(text, text); err != nil {
		return cert, fmt.Errorf("%s: want a certificate and its key in PEM: %w", path, err)
	}
	return cert, nil
}

// Tell queues what has changed, and notes what stands now: that is said again to a collector that may have missed
// it. It never waits.
func (s *Sender) Tell(changed, standing []Message) {
	s.mu.Lock()
	s.queue = append(s.queue, changed...)
	if over := len(s.queue) - MaxQueue; over > 0 {
		s.queue = append([]Message(nil), s.queue[over:]...)
		s.dropped += over
	}
	s.standing = standing
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run connects and sends until ctx ends, and then what waits, if that is quick.
func (s *Sender) Run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := s.session(ctx)
		if ctx.Err() != nil {
			return
		}
		s.report(err)
		if time.Since(began) > longPause {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-s.after(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, longPause)
	}
}

// session is one connection, from its making to its end.
func (s *Sender) session(ctx context.Context) error {
	raw, err := s.way.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("connect to the collector: %w", err)
	}
	conn := tls.Client(raw, s.tls)
	defer conn.Close()
	shake, cancel := context.WithTimeout(ctx, writeTime)
	err = conn.HandshakeContext(shake)
	cancel()
	if err != nil {
		return fmt.Errorf("connect to the collector: %w", err)
	}
	gone := make(chan error, 1)
	go func() { // it says nothing; that it hangs up, or refuses our certificate, is heard here
		_, err := io.Copy(io.Discard, conn)
		if err == nil {
			err = io.EOF
		}
		gone <- err
	}()
	steady := s.after(steadyTime)
	for again := true; ; again = false {
		if err := s.flush(conn, again, writeTime); err != nil {
			return fmt.Errorf("send to the collector: %w", err)
		}
		select {
		case <-steady:
			steady = nil
			s.report(nil)
		case <-ctx.Done():
			return errors.Join(s.flush(conn, false, farewell), conn.CloseWrite())
		case err := <-gone:
			return fmt.Errorf("the collector hung up: %w", err)
		case <-s.wake:
		}
	}
}

// flush sends what waits; again says all that stands too. What is not known to have been sent waits on.
func (s *Sender) flush(conn net.Conn, again bool, within time.Duration) error {
	s.mu.Lock()
	list, dropped := s.queue, s.dropped
	said := 0 // of what stands
	if again {
		said = len(s.standing)
		list = append(append([]Message(nil), list...), s.standing...)
	}
	s.queue, s.dropped = nil, 0
	s.mu.Unlock()
	if dropped > 0 {
		list = append([]Message{{Time: time.Now(), Severity: Warning, ID: "dropped", Text: fmt.Sprintf(`{"code":"dropped","count":%d,"text":"so many messages were not sent, since the collector was away; the alarms file has them"}`, dropped)}}, list...)
	}
	if len(list) == 0 {
		return nil
	}
	var b []byte
	for _, m := range list {
		b = s.frame(b, m)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(within))
	if _, err := conn.Write(b); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.queue = append(list[:len(list)-said:len(list)-said], s.queue...) // what stands is said on the next connection anyway
		return err
	}
	return nil
}

// frame appends m behind its length in octets, as RFC 5425 section 4.3 has it.
func (s *Sender) frame(b []byte, m Message) []byte {
	text := m.Text
	if len(text) > maxText {
		text = text[:maxText]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	line := fmt.Sprintf("<%d>1 %s %s %s - %s", facility*8+int(m.Severity), m.Time.UTC().Format("2006-01-02T15:04:05.000Z"), s.header, word(m.ID, 32), text)
	b = strconv.AppendInt(b, int64(len(line)), 10)
	b = append(b, ' ')
	return append(b, line...)
}

// word makes a header field of text: printable ASCII without space, of at most so many octets, or the word for none.
func word(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	if text == "" {
		return "-"
	}
	return text[:min(len(text), most)]
}
