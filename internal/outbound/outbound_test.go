package outbound

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func wayThrough(t *testing.T, cfg Config) *url.URL {
	t.Helper()
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tr := w.Transport()
	if tr.Proxy == nil {
		return nil
	}
	u, err := tr.Proxy(httptest.NewRequest(http.MethodGet, "https://graph.microsoft.us/v1.0/users", nil))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestProxies(t *testing.T) {
	credentials := file(t, 0o600, []byte("bridge:pa:ss word\n"))
	u := wayThrough(t, Config{Proxy: "http://proxy.internal:3128", ProxyCredentials: credentials})
	if password, _ := u.User.Password(); u.Host != "proxy.internal:3128" || u.User.Username() != "bridge" || password != "pa:ss word" {
		t.Errorf("proxy %v", u)
	}
	if u := wayThrough(t, Config{Proxy: "none"}); u != nil {
		t.Errorf("proxy %v in spite of none", u)
	}
}

func TestProxyOfTheEnvironment(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://from.environment:3128")
	t.Setenv("NO_PROXY", "inside.internal")
	if u := wayThrough(t, Config{}); u == nil || u.Host != "from.environment:3128" {
		t.Errorf("proxy %v, expected the environment's", u)
	}
	if u := wayThrough(t, Config{Proxy: "http://explicit:3128"}); u.Host != "explicit:3128" {
		t.Errorf("proxy %v, expected the configured one", u)
	}
	if u := wayThrough(t, Config{Proxy: "none"}); u != nil {
		t.Errorf("proxy %v in spite of none", u)
	}
	t.Setenv("NO_PROXY", "graph.microsoft.us")
	if u := wayThrough(t, Config{}); u != nil {
		t.Errorf("proxy %v in spite of NO_PROXY", u)
	}
}

func TestBadConfigs(t *testing.T) {
	ok := file(t, 0o600, []byte("u:p"))
	for _, tt := range []struct {
		cfg  Config
		says string
	}{
		{Config{Proxy: "proxy.internal:3128"}, "not an address"},
		{Config{Proxy: "socks5://proxy.internal:1080"}, "not an address"},
		{Config{Proxy: "http://"}, "not an address"},
		{Config{Proxy: "http://u:hidden@proxy.internal:3128"}, "proxy holds a user"},
		{Config{Proxy: "http://u:hid den@proxy.internal"}, "not an address"},
		{Config{ProxyCredentials: ok}, "names no proxy"},
		{Config{Proxy: "none", ProxyCredentials: ok}, "names no proxy"},
		{Config{Proxy: "http://p:1", ProxyCredentials: file(t, 0o604, []byte("u:hidden"))}, "mode 0604"},
		{Config{Proxy: "http://p:1", ProxyCredentials: file(t, 0o600, []byte("hidden"))}, "one line user:password"},
		{Config{Proxy: "http://p:1", ProxyCredentials: file(t, 0o600, []byte("u:hidden\nu:hidden"))}, "one line user:password"},
		{Config{CAFile: filepath.Join(t.TempDir(), "none.pem")}, "no such file"},
		{Config{CAFile: file(t, 0o644, []byte("no PEM"))}, "holds no certificate"},
		{Config{CAFile: os.DevNull}, "is not a file"},
	} {
		_, err := New(tt.cfg)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v; expected it to say %q", tt.cfg, err, tt.says)
		}
		if err != nil && strings.Contains(err.Error(), "hid") {
			t.Errorf("a password is in %q", err)
		}
	}
}

// TestRoots: only what the CA file holds is trusted.
func TestRoots(t *testing.T) {
	s, other := httptest.NewTLSServer(http.NotFoundHandler()), unrelated(t)
	defer s.Close()
	for name, tt := range map[string]struct {
		ca   []byte
		good bool
	}{"the right one": {pemOf(s.Certificate()), true}, "another": {other, false}} {
		w, err := New(Config{CAFile: file(t, 0o644, tt.ca), Proxy: None})
		if err != nil {
			t.Fatal(err)
		}
		tr := w.Transport()
		resp, err := (&http.Client{Transport: tr}).Get(s.URL)
		if (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			resp.Body.Close()
		}
		tr.CloseIdleConnections()
	}
}

// TestOr: a part of the configuration that names no way of its own goes by the general one.
func TestOr(t *testing.T) {
	general := Config{CAFile: "ca", Proxy: "http://p:1", ProxyCredentials: "secret"}
	for _, tt := range []struct{ own, want Config }{
		{Config{}, general},
		{Config{CAFile: "own"}, Config{CAFile: "own", Proxy: "http://p:1", ProxyCredentials: "secret"}},
		{Config{Proxy: None}, Config{CAFile: "ca", Proxy: None}},
		{Config{Proxy: "http://q:2"}, Config{CAFile: "ca", Proxy: "http://q:2"}}, // another's password is not for it
	} {
		if got := tt.own.Or(general); got != tt.want {
			t.Errorf("%+v became %+v, expected %+v", tt.own, got, tt.want)
		}
	}
}

// middle is a proxy that knows CONNECT, asks for a name and a password and remembers who was asked for.
type middle struct {
	auth string
	more string     // headers of its answer
	mu   sync.Mutex // guards to
	to   []string
}

func (m *middle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != m.auth {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	out, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer out.Close()
	m.mu.Lock()
	m.to = append(m.to, r.Host)
	m.mu.Unlock()
	conn, in, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n"+m.more+"\r\n")
	go func() { io.Copy(out, in); out.Close() }()
	io.Copy(conn, out)
}

// TestTunnel: a connection of any protocol goes through the proxy, plain or over TLS, with the credential, also
// where the server speaks first.
func TestTunnel(t *testing.T) {
	m := &middle{auth: "Basic " + base64.StdEncoding.EncodeToString([]byte("bridge:let me out"))}
	plain, secure := httptest.NewServer(m), httptest.NewTLSServer(m)
	defer plain.Close()
	defer secure.Close()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "first")
			io.Copy(c, c)
		}
	}()
	good := file(t, 0o600, []byte("bridge:let me out\n"))
	ca := file(t, 0o644, pemOf(secure.Certificate()))
	for name, cfg := range map[string]Config{
		"plain": {Proxy: plain.URL, ProxyCredentials: good}, "over TLS": {Proxy: secure.URL, ProxyCredentials: good, CAFile: ca},
	} {
		w, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		c, err := w.DialContext(ctx, "tcp", server.Addr().String())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		cancel() // of the dialling: the connection outlives it
		buf := make([]byte, len("firstback"))
		if _, err := io.WriteString(c, "back"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "firstback" {
			t.Errorf("%s: %q, %v", name, buf, err)
		}
		c.Close()
	}
	if len(m.to) != 2 || m.to[0] != server.Addr().String() {
		t.Errorf("through the proxy: %q", m.to)
	}
	for name, tt := range map[string]struct {
		cfg     Config
		address string
		says    string
	}{
		"no credential": {Config{Proxy: plain.URL}, server.Addr().String(), "407"},
		"wrong":         {Config{Proxy: plain.URL, ProxyCredentials: file(t, 0o600, []byte("bridge:wrong"))}, server.Addr().String(), "407"},
		"nobody there":  {Config{Proxy: plain.URL, ProxyCredentials: good}, "127.0.0.1:1", "502"},
		"no proxy":      {Config{Proxy: "http://127.0.0.1:1"}, server.Addr().String(), "connection refused"},
		"foreign root":  {Config{Proxy: secure.URL, ProxyCredentials: good, CAFile: file(t, 0o644, unrelated(t))}, server.Addr().String(), "certificate"},
	} {
		w, err := New(tt.cfg)
		if err != nil {
			t.Fatal(err)
		}
		c, err := w.DialContext(t.Context(), "tcp", tt.address)
		if err == nil {
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "let me out") {
			t.Errorf("%s: %v", name, err)
		}
		if do := Advise(err, "go on"); strings.Contains(do, "proxy_credentials") != (tt.says == "407") || do == "" {
			t.Errorf("%s: the advice is %q", name, do)
		}
	}
	direct, err := New(Config{Proxy: None})
	if err != nil {
		t.Fatal(err)
	}
	before := len(m.to)
	c, err := direct.DialContext(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if len(m.to) != before {
		t.Error("went through a proxy in spite of none")
	}
}

// TestProxyThatStatesALength: of an answer that opens a tunnel nothing is a body.
func TestProxyThatStatesALength(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	for _, more := range []string{"Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n", "Content-Length: 0\r\n"} {
		proxy := httptest.NewServer(&middle{more: more})
		defer proxy.Close()
		w, err := New(Config{Proxy: proxy.URL, CAFile: file(t, 0o644, pemOf(server.Certificate()))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := w.DialContext(ctx, "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatalf("%q: %v", more, err)
		}
		defer c.Close()
		cfg := w.TLS()
		cfg.ServerName = "example.com"
		if err := tls.Client(c, cfg).HandshakeContext(ctx); err != nil {
			t.Errorf("%q: %v", more, err)
		}
	}
}

// TestTransportByAProxy: also by one over TLS that would speak HTTP/2.
func TestTransportByAProxy(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	for name, start := range map[string]func(*httptest.Server){
		"plain": (*httptest.Server).Start, "TLS": (*httptest.Server).StartTLS,
		"HTTP/2": func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
	} {
		m := &middle{auth: "Basic " + base64.StdEncoding.EncodeToString([]byte("bridge:let me out"))}
		proxy := httptest.NewUnstartedServer(m)
		start(proxy)
		defer proxy.Close()
		w, err := New(Config{Proxy: proxy.URL, ProxyCredentials: file(t, 0o600, []byte("bridge:let me out")), CAFile: file(t, 0o644, pemOf(server.Certificate()))})
		if err != nil {
			t.Fatal(err)
		}
		tr := w.Transport()
		resp, err := (&http.Client{Transport: tr}).Get(server.URL)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		resp.Body.Close()
		tr.CloseIdleConnections()
		if resp.ProtoMajor != 2 || len(m.to) != 1 || m.to[0] != server.Listener.Addr().String() {
			t.Errorf("%s: %s, through the proxy: %q", name, resp.Proto, m.to)
		}
	}
}

// TestProxyWithoutCONNECT: one of the environment that is of another kind is named, and not asked.
func TestProxyWithoutCONNECT(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "socks5://bridge:hidden@127.0.0.1:1")
	w, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.DialContext(t.Context(), "tcp", "midpoint.example:4222"); err == nil || !strings.Contains(err.Error(), `by "socks5"`) || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%v", err)
	}
}

// TestMuteProxy: a proxy that takes the connection and says nothing is given up with the caller's context.
func TestMuteProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = c.Read(make([]byte, 1))
			close(asked)
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	w, err := New(Config{Proxy: "http://" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if c, err := w.DialContext(ctx, "tcp", "midpoint.example:4222"); err == nil {
		c.Close()
		t.Error("a tunnel without an answer")
	}
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// unrelated is a root that signed nothing here.
func unrelated(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func file(t *testing.T, mode os.FileMode, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}
