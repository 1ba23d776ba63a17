// Package outbound is the way out of this machine: directly, or through a proxy by CONNECT, and the roots that
// are trusted at the other end. Every connection that a program opens goes by a [Way], so that there is one place
// where a proxy is configured, and none that goes around it.
//
// The proxy is NOT trusted beyond being told host names and ports: TLS goes through it. It resolves the names.
// One that inspects TLS is trusted with everything, and is configured by its root in ca_file.
package outbound

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"jmlbridge/internal/secret"
)

// Limits of a connection.
const (
	dialTimeout      = 10 * time.Second // one connection, the proxy's answer included
	handshakeTimeout = 10 * time.Second
	answerTimeout    = 60 * time.Second // from the request to the headers of its answer
	idleTimeout      = 90 * time.Second
	keepAlive        = 30 * time.Second
	pingAfter        = 15 * time.Second // silence on HTTP/2 after which a ping must show that the other side lives
	pingTimeout      = 10 * time.Second
	idlePerHost      = 32       // over HTTP/1.1, which a proxy often means, each worker needs its own
	maxHeaders       = 64 << 10 // octets
	maxProxyAnswer   = 16 << 10 // octets that a proxy may say before the tunnel stands
	maxFile          = 1 << 20  // octets of a CA file
	maxCredentials   = 4 << 10  // octets of a file with user and password
)

// None is the word for no proxy, whatever the environment says.
const None = "none"

// Config is how the outside is reached. The zero value trusts the roots of the system and takes the proxy of the
// environment.
type Config struct {
	// CAFile holds, in PEM, every root that is trusted. Default: the roots of the system. With a proxy
	// that inspects TLS it is the proxy's own.
	CAFile string `yaml:"ca_file"`
	// Proxy is the address of an outbound proxy, e.g. http://proxy.internal:3128, reached by CONNECT.
	// Default: what HTTPS_PROXY and NO_PROXY in the environment say. The word "none" is no proxy, whatever they say.
	Proxy string `yaml:"proxy"`
	// ProxyCredentials is a file with one line user:password that only its owner can read. Default: none.
	ProxyCredentials string `yaml:"proxy_credentials"`
}

// Or returns c with what it leaves open taken from d. Proxy and credentials go together.
func (c Config) Or(d Config) Config {
	if c.CAFile == "" {
		c.CAFile = d.CAFile
	}
	if c.Proxy == "" && c.ProxyCredentials == "" {
		c.Proxy, c.ProxyCredentials = d.Proxy, d.ProxyCredentials
	}
	return c
}

// Way is a way out. It is safe for concurrent use.
type Way struct {
	proxy func(*url.URL) (*url.URL, error) // nil: never one
	roots *x509.CertPool                   // nil: the system's
	dial  net.Dialer
}

// New reads what cfg names. It sends nothing.
func New(cfg Config) (*Way, error) {
	w := &Way{dial: net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}}
	var err error
	if w.proxy, err = proxyOf(cfg); err != nil {
		return nil, err
	}
	if cfg.CAFile != "" {
		if w.roots, err = rootsOf(cfg.CAFile); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// TLS is a client's configuration that trusts the Way's roots and no others.
func (w *Way) TLS() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.roots} }

// Transport makes a transport for HTTP. It never follows a proxy or trusts a root that the Way does not name.
func (w *Way) Transport() *http.Transport {
	t := &http.Transport{
		DialContext:            w.dial.DialContext, // of the proxy, where there is one
		TLSClientConfig:        w.TLS(),
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		TLSHandshakeTimeout:    handshakeTimeout,
		ResponseHeaderTimeout:  answerTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    idlePerHost,
		MaxResponseHeaderBytes: maxHeaders,
	}
	if w.proxy == nil {
		return t
	}
	// To a proxy over TLS net/http would offer HTTP/2, which it cannot speak with one: that tunnel is ours.
	ours := func(address string) (*url.URL, bool, error) {
		proxy, err := w.proxyFor(address)
		return proxy, proxy != nil && proxy.Scheme == "https", err
	}
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		proxy, over, err := ours(r.URL.Host)
		if over {
			return nil, nil
		}
		return proxy, err
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if _, over, _ := ours(address); over {
			return w.DialContext(ctx, network, address)
		}
		return w.dial.DialContext(ctx, network, address)
	}
	return t
}

func proxyOf(cfg Config) (func(*url.URL) (*url.URL, error), error) {
	switch cfg.Proxy {
	case "", None:
		if cfg.ProxyCredentials != "" {
			return nil, fmt.Errorf("proxy_credentials is set, but proxy names no proxy")
		}
		if cfg.Proxy == None {
			return nil, nil
		}
		return httpproxy.FromEnvironment().ProxyFunc(), nil
	}
	u, err := url.Parse(cfg.Proxy)
	// The value is not repeated in the errors: someone may have put a password into it.
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("proxy is not an address such as http://proxy.internal:3128, nor the word none")
	}
	if u.User != nil {
		return nil, fmt.Errorf("proxy holds a user; put user:password into a file of its own and name it as proxy_credentials")
	}
	if cfg.ProxyCredentials != "" {
		line, err := secret.Read(cfg.ProxyCredentials, maxCredentials)
		if err != nil {
			return nil, fmt.Errorf("proxy_credentials: %w", err)
		}
		user, password, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		if !ok || user == "" || strings.ContainsAny(password, "\r\n") {
			return nil, fmt.Errorf("proxy_credentials: %s does not hold one line user:password", cfg.ProxyCredentials)
		}
		u.User = url.UserPassword(user, password)
	}
	return func(*url.URL) (*url.URL, error) { return u, nil }, nil
}

func rootsOf(path string) (*x509.CertPool, error) {
	pem, err := readFile(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", path)
	}
	return pool, nil
}

func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s has more than %d octets", path, most)
	}
	return data, err
}

// Environment is what of env, lines of name and value, says by which proxy one of addresses is reached, hosts with or without a
// port; nothing where none is. A proxy's address may hold a password, so it is for those alone who go by it.
func Environment(env, addresses []string) []string {
	values := make(map[string]string)
	var lines []string
	for _, line := range env {
		switch name, value, _ := strings.Cut(line, "="); name {
		case "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy":
			values[name] = value
			lines = append(lines, line)
		}
	}
	either := func(upper, lower string) string { return cmp.Or(values[upper], values[lower]) }
	proxy := (&httpproxy.Config{HTTPSProxy: either("HTTPS_PROXY", "https_proxy"), NoProxy: either("NO_PROXY", "no_proxy")}).ProxyFunc()
	for _, a := range addresses {
		if u, err := proxy(&url.URL{Scheme: "https", Host: a}); u != nil || err != nil { // with an error: let who uses it say so
			return lines
		}
	}
	return nil
}
