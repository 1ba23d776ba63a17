package busqueue

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/secret"
)

// Ways to carry AMQP.
const (
	AMQP      = "amqp"      // AMQP over TLS, port 5671
	WebSocket = "websocket" // AMQP over a WebSocket over TLS, port 443, for networks that allow nothing else
)

// maxSecret bounds, in octets, a connection string file.
const maxSecret = 16 << 10

// Config says where the queue is and who we are there. File names are used as they stand (see In).
type Config struct {
	// Namespace is the host of the namespace, e.g. jml-gov.servicebus.usgovcloudapi.net; with a port where
	// it is not the usual one of the transport.
	Namespace string `yaml:"namespace"`
	// Queue names the queue in it.
	Queue string `yaml:"queue"`
	// Transport is amqp (default) or websocket.
	Transport string `yaml:"transport,omitempty"`
	// CA is a PEM file with the only authorities that may vouch for the namespace, and for the login of
	// credential. Empty: the system's.
	CA string `yaml:"ca,omitempty"`
	// Exactly one credential: a file with the connection string of a shared access policy of this queue
	// that only its owner can read, or an identity in Entra with the cloud that it stands in.
	ConnectionFile string                 `yaml:"connection_file,omitempty"`
	Credential     cloud.CredentialConfig `yaml:"credential,omitempty"`
	Cloud          cloud.Config           `yaml:"cloud,omitempty"`
	// Proxy is the address of an outbound proxy, by CONNECT, or the word none; ProxyCredentials is a file
	// with one line user:password that only its owner can read.
	Proxy            string `yaml:"proxy,omitempty"`
	ProxyCredentials string `yaml:"proxy_credentials,omitempty"`
	// Development allows a connection string with UseDevelopmentEmulator=true, which means without TLS.
	Development bool `yaml:"development,omitempty"`

	// Patience is how long a call waits out an outage before it returns ErrUnreachable; 10 s.
	Patience time.Duration `yaml:"-"`
	// Log hears what no caller does; nil: nobody.
	Log *slog.Logger `yaml:"-" json:"-"`
}

// In returns c with its relative file names taken from dir, the folder of the configuration file.
func (c Config) In(dir string) Config {
	for _, f := range []*string{&c.CA, &c.ConnectionFile, &c.ProxyCredentials, &c.Credential.CertificateFile, &c.Credential.SecretFile, &c.Credential.TokenFile} {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(dir, *f)
		}
	}
	return c
}

var (
	queueOK = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/~-]{0,258}[A-Za-z0-9])?$`)
	hostOK  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

// account is a Config that was checked and whose files were read.
type account struct {
	Config
	host       string // without a port
	way        *outbound.Way
	connection string                 // of a shared access policy; empty:
	token      azcore.TokenCredential // an identity in Entra
	plain      bool                   // the emulator, without TLS
	wide       bool                   // connection is of the whole namespace
}

// open checks c and reads what it names. It sends nothing.
func (c Config) open() (*account, error) {
	a := &account{Config: c}
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	if a.Patience <= 0 {
		a.Patience = patience
	}
	if a.Transport == "" {
		a.Transport = AMQP
	}
	a.host = a.Namespace
	if host, port, err := net.SplitHostPort(a.Namespace); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err == nil { // else it stays with the host, which is refused then
			a.host = host
		}
	}
	switch {
	case !hostOK.MatchString(a.host):
		return nil, fmt.Errorf("namespace: %q is not a host such as jml-gov.servicebus.usgovcloudapi.net", c.Namespace)
	case !queueOK.MatchString(c.Queue):
		return nil, fmt.Errorf("queue: %q is not the name of a queue", c.Queue)
	case a.Transport != AMQP && a.Transport != WebSocket:
		return nil, fmt.Errorf("transport: %q; expected %s or %s", c.Transport, AMQP, WebSocket)
	case (c.ConnectionFile == "") == (c.Credential == (cloud.CredentialConfig{})):
		return nil, errors.New("credential: expected exactly one of connection_file or credential")
	case c.ConnectionFile != "" && c.Cloud != (cloud.Config{}):
		return nil, errors.New("cloud: connection_file has no use for it")
	}
	var err error
	if a.way, err = outbound.New(outbound.Config{CAFile: c.CA, Proxy: c.Proxy, ProxyCredentials: c.ProxyCredentials}); err != nil {
		return nil, err
	}
	if c.ConnectionFile != "" {
		return a, a.readConnection()
	}
	return a, a.openCredential()
}

func (a *account) openCredential() error {
	where, err := a.Config.Cloud.Cloud()
	if err != nil {
		return err
	}
	// A token for one cloud's service must not go to another's host.
	if err := where.Namespace(a.host); err != nil {
		return err
	}
	a.token, err = where.NewCredential(a.Credential, a.way.Transport())
	return err
}

// readConnection reads the connection string and holds it to the configuration: the file is secret, so what it
// says of the place must stand in the open as well.
func (a *account) readConnection() error {
	raw, err := secret.Read(a.ConnectionFile, maxSecret)
	if err != nil {
		return fmt.Errorf("connection_file: %w", err)
	}
	text := strings.TrimSpace(string(raw))
	said, err := parseConnection(text)
	switch {
	case err != nil:
		return fmt.Errorf("connection_file: %s: %w", a.ConnectionFile, err)
	case !strings.EqualFold(said.endpoint, a.Namespace):
		return fmt.Errorf("connection_file: %s is for the namespace %s, not %s", a.ConnectionFile, said.endpoint, a.Namespace)
	case said.entity != "" && !strings.EqualFold(said.entity, a.Queue):
		return fmt.Errorf("connection_file: %s is for %s, not for the queue %s", a.ConnectionFile, said.entity, a.Queue)
	case said.emulator && !a.Development:
		return fmt.Errorf("connection_file: %s says UseDevelopmentEmulator=true, which turns TLS off: the credential and every message would travel in the open. Take it out, or set development: true on a machine where that is no harm", a.ConnectionFile)
	}
	a.plain, a.wide, a.connection = said.emulator, said.entity == "" && !said.emulator, text
	return nil
}

// client makes a client of its own. It sends nothing.
func (a *account) client(d *dialer) (*azservicebus.Client, error) {
	opts := &azservicebus.ClientOptions{
		ApplicationID:    "jmlbridge",
		NewWebSocketConn: d.dial, // for either transport: the library's own dialling has no deadline, proxy or reason
		RetryOptions:     azservicebus.RetryOptions{MaxRetries: -1},
	}
	if a.connection != "" {
		return azservicebus.NewClientFromConnectionString(a.connection, opts)
	}
	return azservicebus.NewClient(a.Namespace, a.token, opts)
}
