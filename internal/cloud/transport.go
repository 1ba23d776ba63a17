package cloud

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Limits of a connection.
const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	answerTimeout    = 60 * time.Second // from the request to the headers of its answer
	idleTimeout      = 90 * time.Second
	pingAfter        = 15 * time.Second // silence on HTTP/2 after which a ping must show that the other side lives
	pingTimeout      = 10 * time.Second
	idlePerHost      = 32       // over HTTP/1.1, which a proxy often means, each worker needs its own
	maxHeaders       = 64 << 10 // octets
	maxFile          = 1 << 20  // octets of any file read here
)

// TransportConfig is how the enclave reaches the outside.
type TransportConfig struct {
	// CAFile holds, in PEM, every root that is trusted. Default: the roots of the system. With a proxy
	// that inspects TLS it is the proxy's own.
	CAFile string `yaml:"ca_file"`
	// Proxy is the address of an outbound proxy, e.g. http://proxy.internal:3128, reached by CONNECT.
	// Default: what HTTPS_PROXY and NO_PROXY in the environment say. The word "none" is no proxy, whatever they say.
	Proxy string `yaml:"proxy"`
	// ProxyCredentials is a file with one line user:password that only its owner can read. Default: none.
	ProxyCredentials string `yaml:"proxy_credentials"`
}

// NewTransport makes the transport for tokens and Graph alike. It never follows a proxy or trusts a root
// that cfg does not name.
func NewTransport(cfg TransportConfig) (*http.Transport, error) {
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		TLSHandshakeTimeout:    handshakeTimeout,
		ResponseHeaderTimeout:  answerTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    idlePerHost,
		MaxResponseHeaderBytes: maxHeaders,
	}
	var err error
	if t.Proxy, err = proxy(cfg); err != nil {
		return nil, err
	}
	if cfg.CAFile != "" {
		if t.TLSClientConfig.RootCAs, err = roots(cfg.CAFile); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func proxy(cfg TransportConfig) (func(*http.Request) (*url.URL, error), error) {
	switch cfg.Proxy {
	case "", "none":
		if cfg.ProxyCredentials != "" {
			return nil, fmt.Errorf("proxy_credentials is set, but proxy names no proxy")
		}
		if cfg.Proxy == "none" {
			return nil, nil
		}
		return http.ProxyFromEnvironment, nil
	}
	u, err := url.Parse(cfg.Proxy)
	// The value is not repeated in the errors: someone may have put a password into it.
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, fmt.Errorf("proxy is not an address such as http://proxy.internal:3128, nor the word none")
	}
	if u.User != nil {
		return nil, fmt.Errorf("proxy holds a user; put user:password into a file of its own and name it as proxy_credentials")
	}
	if cfg.ProxyCredentials != "" {
		line, err := readSecret(cfg.ProxyCredentials)
		if err != nil {
			return nil, fmt.Errorf("proxy_credentials: %w", err)
		}
		user, password, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		if !ok || user == "" || strings.ContainsAny(password, "\r\n") {
			return nil, fmt.Errorf("proxy_credentials: %s does not hold one line user:password", cfg.ProxyCredentials)
		}
		u.User = url.UserPassword(user, password)
	}
	return http.ProxyURL(u), nil
}

func roots(path string) (*x509.CertPool, error) {
	pem, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", path)
	}
	return pool, nil
}

// readSecret reads a file that only its owner may read.
func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o); expected 0600: chmod 600 %s", path, mode, path)
	}
	return readFile(path)
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d octets; expected at most %d", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}
