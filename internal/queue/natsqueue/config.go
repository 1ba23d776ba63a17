// Package natsqueue is the queue on NATS JetStream: our own embedded mid-point or any outside
// server or cluster, by configuration alone.
//
// Trusted: nothing that the server says, beyond having confirmed what it confirmed; see package
// queue. TLS keeps the credential and the traffic's shape from the network between, not from whoever
// runs the server. The one invariant: Publish counts a message only after the server's own
// acknowledgement of exactly that message, and Settle succeeds only after the server has confirmed
// every acknowledgement.
//
// The connection only dials out, through a CONNECT proxy if one is configured, and reconnects for
// ever.
package natsqueue

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"jmlbridge/internal/outbound"
	"jmlbridge/internal/secret"
)

// Limits of this adapter.
const (
	patience    = 10 * time.Second       // how long a call waits out an outage before it says so
	answerWait  = 15 * time.Second       // how long an acknowledgement may take; sync-always disks stall
	againAfter  = 500 * time.Millisecond // between tries within it
	dialTimeout = 5 * time.Second        // one attempt to connect, proxy and TLS included
	pingEvery   = 20 * time.Second       // a dead peer is noticed after two unanswered pings
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 10 * time.Second // between attempts to reconnect
	maxSecret   = 16 << 10         // octets of a credential file
	maxInFlight = 512              // messages published and not yet confirmed
	maxFlight   = 8 << 20          // octets of those
)

// Config says where the queue is and who we are there. File names are used as they stand
// (see In).
type Config struct {
	// URL lists the servers, tls://host:port each: all of a cluster's, since what a server says of the others is
	// not believed. One that is away is passed over. Plain nats:// is refused: the credential would be safe, the
	// traffic not.
	URL []string `yaml:"url"`

	// CA is a PEM file with the only authorities that may vouch for the server. Empty: the system's.
	CA string `yaml:"ca,omitempty"`

	// Exactly one credential: a file with an nkey seed (SU...), a NATS .creds file, or a user name
	// with a file that holds the password. None of them may be readable by other users.
	NKey         string `yaml:"nkey,omitempty"`
	Creds        string `yaml:"creds,omitempty"`
	User         string `yaml:"user,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty"`

	// Proxy and ProxyCredentials are as in outbound.Config.
	Proxy            string `yaml:"proxy,omitempty"`
	ProxyCredentials string `yaml:"proxy_credentials,omitempty"`

	// Stream names the stream, for example JML-GOV-1.
	Stream string `yaml:"stream"`

	// Subject is where a publisher publishes, for example jml.GOV-1. A receiver does not need it; its doctor tries whether
	// the credential may publish there.
	Subject string `yaml:"subject,omitempty"`

	// Durable names the consumer that a receiver pulls from. Empty: enclave.
	Durable string `yaml:"durable,omitempty"`

	// Inbox is the prefix under which the server may answer this client, where its permissions are
	// narrowed to one. Empty: what the embedded mid-point allows, InboxOf(role, stream).
	Inbox string `yaml:"inbox,omitempty"`

	// CheckStream reads the stream's settings when connecting and refuses one that could lose what it
	// confirmed. It needs the permission to ask $JS.API.STREAM.INFO, which the embedded mid-point
	// gives to nobody (it checks itself): set it for a server that someone else runs.
	CheckStream bool `yaml:"check_stream,omitempty"`

	// Replicas is how many servers are to keep the stream: doctor says when fewer do, as far as the credential lets
	// it see that. Default: 3 where URL lists several servers, else 1.
	Replicas int `yaml:"replicas,omitempty"`

	// Patience is how long a call waits out an outage before it returns ErrUnreachable; 10 s.
	Patience time.Duration `yaml:"-"`
}

// In returns c with its relative file names taken from dir, the folder of the configuration file.
func (c Config) In(dir string) Config {
	for _, f := range []*string{&c.CA, &c.NKey, &c.Creds, &c.PasswordFile, &c.ProxyCredentials} {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(dir, *f)
		}
	}
	return c
}

// The two roles that a client can have at the mid-point.
const (
	RoleProducer = "producer"
	RoleConsumer = "consumer"
)

// InboxOf is the inbox prefix of one role on one stream. Each role has its own, so that neither can
// listen to the other's answers.
func InboxOf(role, stream string) string { return "_INBOX_" + role + "." + stream }

var (
	nameOK    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	subjectOK = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}$`)
)

// CheckURL refuses what cannot stand under Config.URL.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil && strings.Contains(s, "@"): // it may carry a credential
		return errors.New("not a URL; expected tls://host:port")
	case err != nil:
		return fmt.Errorf("%q is not a URL; expected tls://host:port", s)
	case u.User != nil:
		return fmt.Errorf("%s carries a credential; put it in a file (nkey, creds or password_file)", u.Redacted())
	case u.Scheme != "tls":
		return fmt.Errorf("%q has scheme %q; only tls:// is used, expected tls://host:port", s, u.Scheme)
	case u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q is not of the form tls://host:port", s)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%q has port %s; expected 1 to 65535", s, p)
		}
	}
	return nil
}

func (c Config) options(role string) ([]nats.Option, error) {
	if len(c.URL) == 0 {
		return nil, errors.New("url: none given; expected tls://host:port of the mid-point")
	}
	for _, s := range c.URL {
		if err := CheckURL(s); err != nil {
			return nil, fmt.Errorf("url: %w", err)
		}
	}
	if !nameOK.MatchString(c.Stream) {
		return nil, fmt.Errorf("stream: %q is not a stream name (letters, digits, - and _)", c.Stream)
	}
	inbox := c.Inbox
	if inbox == "" {
		inbox = InboxOf(role, c.Stream)
	}
	if !subjectOK.MatchString(inbox) {
		return nil, fmt.Errorf("inbox: %q is not a subject prefix", inbox)
	}
	tlsConf, err := c.tls()
	if err != nil {
		return nil, err
	}
	auth, err := c.credential()
	if err != nil {
		return nil, err
	}
	way, err := outbound.New(outbound.Config{Proxy: c.Proxy, ProxyCredentials: c.ProxyCredentials})
	if err != nil {
		return nil, err
	}
	opts := []nats.Option{
		nats.Name("jmlbridge-" + role),
		nats.Secure(tlsConf),
		auth,
		nats.CustomInboxPrefix(inbox),
		nats.Timeout(dialTimeout),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(2),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),    // a credential may be let in again while we run
		nats.ReconnectBufSize(-1),      // what was not sent is our caller's to send again, in order
		nats.IgnoreDiscoveredServers(), // the first INFO comes before TLS: believe the configuration alone
		nats.SetCustomDialer(dialer{way, tlsConf}),
		nats.SkipHostLookup(), // the dialer or its proxy resolves names, and the name is what the certificate is of
	}
	return opts, nil
}

func (c Config) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA == "" {
		return conf, nil
	}
	raw, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	conf.RootCAs = x509.NewCertPool()
	n := 0
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("ca: %s: expected certificates only, found a %s", c.CA, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("ca: %s: %w", c.CA, err)
		}
		conf.RootCAs.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("ca: %s holds no PEM certificate", c.CA)
	}
	return conf, nil
}

func (c Config) credential() (nats.Option, error) {
	given := 0
	for _, s := range []string{c.NKey, c.Creds, c.User} {
		if s != "" {
			given++
		}
	}
	if given != 1 || (c.User == "") != (c.PasswordFile == "") {
		return nil, errors.New("credential: expected exactly one of nkey, creds, or user with password_file")
	}
	switch {
	case c.NKey != "":
		seed, err := secret.Read(c.NKey, maxSecret)
		if err != nil {
			return nil, fmt.Errorf("nkey: %w", err)
		}
		kp, err := nkeys.ParseDecoratedNKey(seed)
		clear(seed)
		if err != nil {
			return nil, fmt.Errorf("nkey: %s holds no nkey seed (a line that begins with SU)", c.NKey)
		}
		pub, err := kp.PublicKey()
		if err != nil || !nkeys.IsValidPublicUserKey(pub) {
			return nil, fmt.Errorf("nkey: %s is not the seed of a user (SU...)", c.NKey)
		}
		return nats.Nkey(pub, kp.Sign), nil
	case c.Creds != "":
		raw, err := secret.Read(c.Creds, maxSecret)
		if err != nil {
			return nil, fmt.Errorf("creds: %w", err)
		}
		jwt, err := nkeys.ParseDecoratedJWT(raw)
		if _, e := nkeys.ParseDecoratedUserNKey(raw); err != nil || e != nil || jwt == "" {
			return nil, fmt.Errorf("creds: %s is not a NATS credentials file", c.Creds)
		}
		return nats.UserCredentialBytes(raw), nil
	default:
		raw, err := secret.Read(c.PasswordFile, maxSecret)
		if err != nil {
			return nil, fmt.Errorf("password_file: %w", err)
		}
		pass := strings.TrimRight(string(raw), "\r\n")
		if pass == "" {
			return nil, fmt.Errorf("password_file: %s is empty", c.PasswordFile)
		}
		return nats.UserInfo(c.User, pass), nil
	}
}
