// Package anyqueue is the choice of a mid-point: one block of a configuration, the adapter that it names, and the
// process that this runs in. It is the only package that knows every adapter; programs know this one.
//
// The block names exactly one mid-point:
//
//	queue:
//	  nats: {...}         # see natsqueue.Config
//	  servicebus: {...}   # or this; see busqueue.Config
//	  pull: acked         # receivers only: acked or dark
package anyqueue

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/queue/busqueue"
	"jmlbridge/internal/queue/natsqueue"
)

// Ways to pull.
const (
	// Acked: the mid-point is told what is durably ours, sees our progress by that, and trims itself.
	Acked = "acked"
	// Dark: nothing is acknowledged, and the cursor is kept here. The mid-point sees that we look and not how
	// far we are; what it holds ends by its own rules (time to live, size).
	Dark = "dark"
)

// Config is the queue's block of a configuration. The zero value names none.
type Config struct {
	// Pull is acked (default) or dark; a producer has no use for it.
	Pull       string            `yaml:"pull,omitempty"`
	NATS       *natsqueue.Config `yaml:"nats,omitempty"`
	ServiceBus *busqueue.Config  `yaml:"servicebus,omitempty"`
}

// Check says what is wrong with the choice itself; what is wrong with the chosen block is said by opening.
func (c Config) Check() error {
	switch {
	case c.NATS == nil && c.ServiceBus == nil:
		return errors.New("want the mid-point under one of the keys nats or servicebus, got none")
	case c.NATS != nil && c.ServiceBus != nil:
		return errors.New("want the mid-point under one of the keys nats or servicebus, got both")
	case c.Pull != "" && c.Pull != Acked && c.Pull != Dark:
		return fmt.Errorf("pull: want %s or %s, got %q", Acked, Dark, c.Pull)
	}
	return nil
}

// In returns c with its relative file names taken from dir, the folder of the configuration file.
func (c Config) In(dir string) Config {
	if c.NATS != nil {
		n := c.NATS.In(dir)
		c.NATS = &n
	}
	if c.ServiceBus != nil {
		b := c.ServiceBus.In(dir)
		c.ServiceBus = &b
	}
	return c
}

// Via returns c with the way out taken from d where the chosen block names none of its own.
func (c Config) Via(d outbound.Config) Config {
	or := func(proxy, credentials *string) {
		way := outbound.Config{Proxy: *proxy, ProxyCredentials: *credentials}.Or(d)
		*proxy, *credentials = way.Proxy, way.ProxyCredentials
	}
	if c.NATS != nil {
		n := *c.NATS
		or(&n.Proxy, &n.ProxyCredentials)
		c.NATS = &n
	}
	if c.ServiceBus != nil {
		b := *c.ServiceBus
		or(&b.Proxy, &b.ProxyCredentials)
		c.ServiceBus = &b
	}
	return c
}

// Kind is the key under which the mid-point stands.
func (c Config) Kind() string {
	if c.ServiceBus != nil {
		return "servicebus"
	}
	return "nats"
}

// Name tells one queue from another: a receiver's position is kept under it.
func (c Config) Name() string {
	switch {
	case c.ServiceBus != nil:
		host, _, err := net.SplitHostPort(c.ServiceBus.Namespace)
		if err != nil {
			host = c.ServiceBus.Namespace
		}
		return host + "/" + c.ServiceBus.Queue
	case c.NATS != nil:
		return c.NATS.Stream
	}
	return ""
}

// Same reports whether both send to one queue.
func (c Config) Same(o Config) bool {
	switch {
	case c.ServiceBus != nil && o.ServiceBus != nil:
		return strings.EqualFold(c.ServiceBus.Namespace, o.ServiceBus.Namespace) && strings.EqualFold(c.ServiceBus.Queue, o.ServiceBus.Queue)
	case c.NATS != nil && o.NATS != nil: // servers apart may have subjects of one name
		return c.NATS.Subject == o.NATS.Subject && slices.ContainsFunc(c.NATS.URL, func(u string) bool { return slices.Contains(o.NATS.URL, u) })
	}
	return false
}

func (c Config) patience() time.Duration {
	if c.ServiceBus != nil {
		return c.ServiceBus.Patience
	}
	return c.NATS.Patience
}

func (c Config) proxy() string {
	if c.ServiceBus != nil {
		return c.ServiceBus.Proxy
	}
	return c.NATS.Proxy
}

// addresses are those that the adapter asks a proxy for, where there is one. A managed identity's endpoint is not among them.
func (c Config) addresses() (list []string) {
	if n := c.NATS; n != nil {
		for _, raw := range n.URL {
			if u, err := url.Parse(raw); err == nil {
				list = append(list, u.Host)
			}
		}
	}
	if b := c.ServiceBus; b != nil {
		list = append(list, b.Namespace)
		if where, err := b.Cloud.Cloud(); err == nil && b.Credential.Kind != cloud.ManagedIdentity {
			if u, err := url.Parse(where.Authority); err == nil {
				list = append(list, u.Host)
			}
		}
	}
	return list
}

// Ports at which no address says another.
const (
	portHTTP  = 80 // of proxies, and of the metadata endpoint that gives a machine's identities
	portHTTPS = 443
	portAMQPS = 5671
	portAMQP  = 5672 // of the development emulator
	portNATS  = 4222
)

// ports are those that the adapter dials, itself or at its proxy. The block is one that was checked; what is wrong in it the adapter says.
func (c Config) ports(env []string) (list []int) {
	add := func(host string, usual int) {
		port := usual
		if _, p, err := net.SplitHostPort(host); err == nil {
			port, _ = strconv.Atoi(p)
		}
		if port > 0 && port < 1<<16 && !slices.Contains(list, port) {
			list = append(list, port)
		}
	}
	b := c.ServiceBus
	for i, address := range c.addresses() {
		usual := portHTTPS // also of a login
		switch {
		case b == nil:
			usual = portNATS
		case i == 0 && b.Transport != busqueue.WebSocket:
			usual = portAMQPS
		}
		add(address, usual)
	}
	proxies := []string{c.proxy()}
	if c.proxy() == "" {
		for _, line := range outbound.Environment(env, c.addresses()) {
			if name, value, _ := strings.Cut(line, "="); strings.EqualFold(name, "HTTPS_PROXY") {
				proxies = append(proxies, value)
			}
		}
	}
	if b != nil {
		if b.Development {
			add("", portAMQP)
		}
		if b.Credential.Kind == cloud.ManagedIdentity {
			add("", portHTTP)
			for _, line := range env {
				if name, value, _ := strings.Cut(line, "="); name == "IDENTITY_ENDPOINT" || name == "IMDS_ENDPOINT" {
					proxies = append(proxies, value)
				}
			}
		}
	}
	for _, raw := range proxies {
		if raw == "" || raw == "none" {
			continue
		}
		if !strings.Contains(raw, "://") {
			raw = "http://" + raw
		}
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			continue
		}
		usual := portHTTP
		if u.Scheme == "https" {
			usual = portHTTPS
		}
		add(u.Host, usual)
	}
	return list
}

// Placeholder is the first host that is a name of examples (RFC 2606 keeps the domain "example" from ever being anybody's); empty: none is.
func (c Config) Placeholder() string {
	for _, address := range c.addresses() {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		if strings.HasSuffix(host, ".example") {
			return host
		}
	}
	return ""
}

// files are those that the adapter reads, at any time.
func (c Config) files() (list []string) {
	add := func(names ...string) {
		for _, n := range names {
			if n != "" {
				list = append(list, n)
			}
		}
	}
	if n := c.NATS; n != nil {
		add(n.CA, n.NKey, n.Creds, n.PasswordFile, n.ProxyCredentials)
	}
	if b := c.ServiceBus; b != nil {
		add(b.CA, b.ConnectionFile, b.ProxyCredentials, b.Credential.CertificateFile, b.Credential.SecretFile, b.Credential.TokenFile)
		if b.Credential.Kind == cloud.WorkloadIdentity {
			token := b.Credential.TokenFile
			if token == "" {
				token = os.Getenv("AZURE_FEDERATED_TOKEN_FILE")
			}
			if token != "" {
				add(token, filepath.Dir(token)) // it is replaced there, as often as every hour
			}
		}
	}
	add(os.Getenv("SSL_CERT_FILE"))
	add(filepath.SplitList(os.Getenv("SSL_CERT_DIR"))...)
	for _, name := range list { // what a file is a link to, at the time
		if real, err := filepath.EvalSymlinks(name); err == nil && real != name {
			list = append(list, real)
		}
	}
	return list
}
