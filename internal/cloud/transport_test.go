package cloud

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func proxyOf(t *testing.T, cfg TransportConfig) *url.URL {
	t.Helper()
	tr, err := NewTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
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
	u := proxyOf(t, TransportConfig{Proxy: "http://proxy.internal:3128", ProxyCredentials: credentials})
	if password, _ := u.User.Password(); u.Host != "proxy.internal:3128" || u.User.Username() != "bridge" || password != "pa:ss word" {
		t.Errorf("proxy %v", u)
	}
	if u := proxyOf(t, TransportConfig{Proxy: "none"}); u != nil {
		t.Errorf("proxy %v in spite of none", u)
	}
}

// The environment is read once a process, so this test starts itself again.
func TestProxyOfTheEnvironment(t *testing.T) {
	if os.Getenv("CLOUD_TEST_ENVIRONMENT") != "" {
		if u := proxyOf(t, TransportConfig{}); u == nil || u.Host != "from.environment:3128" {
			t.Errorf("proxy %v, expected the environment's", u)
		}
		if u := proxyOf(t, TransportConfig{Proxy: "http://explicit:3128"}); u.Host != "explicit:3128" {
			t.Errorf("proxy %v, expected the configured one", u)
		}
		if u := proxyOf(t, TransportConfig{Proxy: "none"}); u != nil {
			t.Errorf("proxy %v in spite of none", u)
		}
		return
	}
	out, err := again(t, "CLOUD_TEST_ENVIRONMENT=1", "HTTPS_PROXY=http://from.environment:3128", "NO_PROXY=")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestBadTransports(t *testing.T) {
	ok := file(t, 0o600, []byte("u:p"))
	for _, tt := range []struct {
		cfg  TransportConfig
		says string
	}{
		{TransportConfig{Proxy: "proxy.internal:3128"}, "not an address"},
		{TransportConfig{Proxy: "socks5://proxy.internal:1080"}, "not an address"},
		{TransportConfig{Proxy: "http://"}, "not an address"},
		{TransportConfig{Proxy: "http://u:hidden@proxy.internal:3128"}, "proxy holds a user"},
		{TransportConfig{Proxy: "http://u:hid den@proxy.internal"}, "not an address"},
		{TransportConfig{ProxyCredentials: ok}, "names no proxy"},
		{TransportConfig{Proxy: "none", ProxyCredentials: ok}, "names no proxy"},
		{TransportConfig{Proxy: "http://p:1", ProxyCredentials: file(t, 0o604, []byte("u:hidden"))}, "mode 0604"},
		{TransportConfig{Proxy: "http://p:1", ProxyCredentials: file(t, 0o600, []byte("hidden"))}, "one line user:password"},
		{TransportConfig{Proxy: "http://p:1", ProxyCredentials: file(t, 0o600, []byte("u:hidden\nu:hidden"))}, "one line user:password"},
		{TransportConfig{CAFile: filepath.Join(t.TempDir(), "none.pem")}, "no such file"},
		{TransportConfig{CAFile: file(t, 0o644, []byte("no PEM"))}, "holds no certificate"},
		{TransportConfig{CAFile: os.DevNull}, "is not a file"},
	} {
		_, err := NewTransport(tt.cfg)
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
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	cert, _ := certificate(t, rsaKey(t, 2048))
	for name, tt := range map[string]struct {
		ca   []byte
		good bool
	}{"the right one": {pemOf(s), true}, "another": {cert, false}} {
		tr, err := NewTransport(TransportConfig{CAFile: file(t, 0o644, tt.ca), Proxy: "none"})
		if err != nil {
			t.Fatal(err)
		}
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

func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// again runs the calling test in a process of its own with more environment.
func again(t *testing.T, env ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
