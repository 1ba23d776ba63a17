package tenant

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// noHTTP2 keeps net/http from offering HTTP/2.
var noHTTP2 = map[string]func(*http.Server, *tls.Conn, http.Handler){}

// An authority is a certificate authority of one tenant's life with the server
// certificate that it signed.
type authority struct {
	cert *x509.Certificate
	pem  []byte
	leaf tls.Certificate
}

// newAuthority makes the certificates for this machine and for name, if there is one.
func newAuthority(now time.Time, name string) (*authority, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make CA key: %w", err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sandbox tenant CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make server key: %w", err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "sandbox tenant"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	if ip := net.ParseIP(name); ip != nil {
		leaf.IPAddresses = append(leaf.IPAddresses, ip)
	} else if name != "" {
		leaf.DNSNames = append(leaf.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("make server certificate: %w", err)
	}
	parsed, err := x509.ParseCertificate(caDER)
	if err != nil {
		return nil, err
	}
	return &authority{cert: parsed, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		leaf: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}, nil
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) config(http1 bool) *tls.Config {
	c := &tls.Config{Certificates: []tls.Certificate{a.leaf}, MinVersion: tls.VersionTLS12}
	if http1 {
		c.NextProtos = []string{"http/1.1"}
	}
	return c
}

// A listener can go away and come back at the same address, so that callers
// find the connection refused.
type listener struct {
	addr net.Addr

	mu     sync.Mutex    // guards the rest; not held while accepting
	inner  net.Listener  // nil while refusing
	back   chan struct{} // closed when inner is there again, or closed for good
	closed bool
	conns  map[net.Conn]bool
}

func newListener(addr string) (*listener, error) {
	inner, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &listener{addr: inner.Addr(), inner: inner, back: make(chan struct{}), conns: map[net.Conn]bool{}}, nil
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		inner, back, closed := l.inner, l.back, l.closed
		l.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		if inner == nil {
			<-back
			continue
		}
		conn, err := inner.Accept()
		l.mu.Lock()
		same := l.inner == inner
		l.mu.Unlock()
		if err != nil && !same {
			continue // refused on purpose meanwhile
		}
		return conn, err
	}
}

// refuse closes the door and every connection; open opens it again.
func (l *listener) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inner == nil || l.closed {
		return
	}
	inner := l.inner
	l.inner = nil
	inner.Close()
	for c := range l.conns {
		c.Close()
	}
}

// listenAgain takes the address back that refuse has left. A program that this process is just starting holds the closed listener,
// and the address with it, until it runs.
func listenAgain(addr net.Addr) (net.Listener, error) {
	for end := time.Now().Add(againTime); ; time.Sleep(time.Millisecond) {
		l, err := net.Listen("tcp", addr.String())
		if err == nil || time.Now().After(end) {
			return l, err
		}
	}
}

func (l *listener) open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inner != nil || l.closed {
		return nil
	}
	inner, err := listenAgain(l.addr)
	if err != nil {
		return fmt.Errorf("listen again: %w", err)
	}
	l.inner = inner
	close(l.back)
	l.back = make(chan struct{})
	return nil
}

func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.back)
	if l.inner == nil {
		return nil
	}
	return l.inner.Close()
}

// track knows the connections, so that refusing also ends those that are open.
func (l *listener) track(c net.Conn, s http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch s {
	case http.StateNew:
		l.conns[c] = true
		if l.inner == nil {
			c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		delete(l.conns, c)
	}
}
