// Package cloudtest stands for the whole outside in tests of what is asked of which cloud: a proxy behind which every host
// answers, under a certificate for its name, so that the unmodified clients can be let loose by their real addresses.
package cloudtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jmlbridge/internal/outbound/proxytest"
)

// Outside is every host.
type Outside struct {
	*proxytest.Proxy
	// CA is the file with the authority that vouches for all of them.
	CA string
	// Secret is a file with a client's secret.
	Secret string

	// Service answers what is asked by HTTPS of any host but a login.
	Service http.HandlerFunc
	// Other takes connections to other ports than 443, inside TLS.
	Other func(host string, c net.Conn)

	mu   sync.Mutex // guards said
	said []string
}

// Tenant is the one that logs in.
const Tenant = "11111111-2222-3333-4444-555555555555"

// Token is what every login gives for a scope.
func Token(scope string) string { return "for:" + scope }

// New starts an outside that ends with the test.
func New(t testing.TB) *Outside {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	year := func(c *x509.Certificate) *x509.Certificate {
		c.NotBefore, c.NotAfter, c.SerialNumber = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0), big.NewInt(time.Now().UnixNano())
		return c
	}
	ca := year(&x509.Certificate{Subject: pkix.Name{CommonName: "the outside"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	root, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	o := &Outside{Proxy: proxytest.New(t, ""), CA: filepath.Join(t.TempDir(), "ca.pem"), Secret: filepath.Join(t.TempDir(), "secret")}
	for name, text := range map[string][]byte{o.CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}), o.Secret: []byte("secret\n")} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		leaf, err := x509.CreateCertificate(rand.Reader, year(&x509.Certificate{DNSNames: []string{h.ServerName}}), ca, key.Public(), key)
		return &tls.Certificate{Certificate: [][]byte{leaf}, PrivateKey: key}, err
	}}
	web := listener{made: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: o, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(web) }()
	t.Cleanup(func() { _ = server.Close() })
	o.Dial = func(address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		here, there := net.Pipe()
		secure := tls.Server(there, conf)
		switch {
		case port == "443":
			go func() {
				select {
				case web.made <- secure:
				case <-web.done:
					_ = secure.Close()
				}
			}()
		case o.Other != nil:
			go o.Other(host, secure)
		default:
			return nil, fmt.Errorf("nobody at %s", address)
		}
		return here, nil
	}
	return o
}

// Said is what was asked by HTTPS of the services and logins, each once and sorted: of a login its host and the scope that it was
// asked for, of a service its host and what the token that it was shown is for.
func (o *Outside) Said() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := slices.Clone(o.said)
	slices.Sort(list)
	return slices.Compact(list)
}

func (o *Outside) note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = append(o.said, fmt.Sprintf(format, args...))
}

// ServeHTTP is every host by HTTPS.
func (o *Outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base := "https://" + r.Host + "/" + Tenant
	say := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	switch {
	case r.URL.Path == "/"+Tenant+"/oauth2/v2.0/token":
		scope := r.PostFormValue("scope") // with those that the library adds
		first, _, _ := strings.Cut(scope, " ")
		o.note("login %s for %s", r.Host, first)
		say(map[string]any{"token_type": "Bearer", "expires_in": 3599, "access_token": Token(first)})
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		say(map[string]string{"token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/authorize", "issuer": base + "/v2.0"})
	default:
		if token := r.Header.Get("Authorization"); token != "" { // that of a namespace's settings stands there without a word before it
			o.note("%s with %s", r.Host, strings.TrimPrefix(token, "Bearer "))
		}
		o.Service(w, r)
	}
}

// listener hands connections that were made otherwise to an HTTP server.
type listener struct {
	made chan net.Conn
	done chan struct{} // closed by Close, which the server calls once
}

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.made:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error   { close(l.done); return nil }
func (l listener) Addr() net.Addr { return &net.TCPAddr{} }
