package midpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/internal/queue/natsqueue"
	"jmlbridge/internal/store"
)

// Names of what Init writes. The folders for the clients each hold three files and are carried to
// where they are used; what is in one opens nothing of the other.
const (
	ConfigFile = "midpoint.yaml" // in the server's folder
	QueueFile  = "queue.yaml"    // in a client's folder: its queue settings, ready to paste

	serverDir = "midpoint"
	caDir     = "ca"
	caFile    = "midpoint-ca.pem"
	caKeyFile = "midpoint-ca.key"
	seedFile  = "midpoint.nk"
	certFile  = "server.pem"
	keyFile   = "server.key"
	storeDir  = "store"
)

// Setup says what Init is to make.
type Setup struct {
	// Hosts are the DNS names and IP addresses under which clients reach the server. The first one
	// goes into the clients' settings.
	Hosts []string

	// Listen is host:port; empty: :4222.
	Listen string

	// Enclaves are the short names, [A-Z0-9-].
	Enclaves []string

	// Dark says that the enclaves pull dark: see Enclave.Pull.
	Dark bool

	// Now dates the certificates; nil: time.Now.
	Now func() time.Time
}

// Made tells where Init or Add put things.
type Made struct {
	Config    string            // the server's configuration file
	CA        string            // folder with the authority's key: needed by Renew only, keep it offline
	Producers map[string]string // by enclave: folder to carry to the producer
	Consumers map[string]string // by enclave: folder to carry to the enclave
	Enclaves  []Enclave         // what was added, as it stands (Init) or belongs (Add) under enclaves:
}

// Init makes a mid-point in dir, which must not exist yet: an authority, a server certificate,
// credentials for every enclave, the store with its streams, and the configuration. Either all of it
// is there afterwards, or nothing.
//
//	dir/midpoint/            stays with the server: midpoint.yaml, certificate, store
//	dir/ca/                  the authority's key, for Renew
//	dir/producer/<enclave>/  carry to the producer
//	dir/consumer/<enclave>/  carry to the enclave
func Init(ctx context.Context, dir string, s Setup, log *slog.Logger) (*Made, error) {
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Listen == "" {
		s.Listen = ":4222"
	}
	if len(s.Hosts) == 0 {
		return nil, errors.New("no host name given: clients check the server's certificate by the name that they connect to")
	}
	for _, h := range s.Hosts {
		if err := checkHost(h); err != nil {
			return nil, err
		}
	}
	for i, name := range s.Enclaves {
		if slices.Contains(s.Enclaves[:i], name) {
			return nil, fmt.Errorf("enclave %s is given twice; each has one queue and its own credentials", name)
		}
	}
	_, port, err := splitListen(s.Listen)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(dir); err == nil {
		return nil, fmt.Errorf("%s exists already; init makes a new folder and overwrites nothing", dir)
	}
	tmp := filepath.Join(filepath.Dir(filepath.Clean(dir)), ".midpoint-init-"+filepath.Base(dir)) // of one name: the next init of dir finds what a killed one left
	if err := os.Mkdir(tmp, 0o700); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there: an init of %s was killed, or it still runs. Nobody has used what is in it, the authority's key among it. When no init runs any more, remove it, and init again. Nothing was changed", tmp, dir)
	} else if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp) // of what is left of it

	cfg := Config{Listen: s.Listen, Store: storeDir, Cert: certFile, Key: keyFile}
	for _, name := range s.Enclaves {
		cfg.Enclaves = append(cfg.Enclaves, newEnclave(name, s.Dark))
	}
	if err := makeAuthority(tmp, s.Hosts, s.Now()); err != nil {
		return nil, err
	}
	url := clientURL(s.Hosts[0], port)
	for i := range cfg.Enclaves {
		if err := makeClients(tmp, &cfg.Enclaves[i], url); err != nil {
			return nil, err
		}
	}
	if err := makeStore(ctx, cfg.In(filepath.Join(tmp, serverDir)), log); err != nil {
		return nil, err
	}
	text, err := yaml.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	if err := writeNew(filepath.Join(tmp, serverDir, ConfigFile), append([]byte(configHead), text...), 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, err
	}
	return made(dir, cfg.Enclaves), nil
}

var hostOK = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

// checkHost refuses what cannot stand in a certificate and behind tls://. The last label of a name begins with a letter,
// so that no mistyped address is taken for one.
func checkHost(h string) error {
	if net.ParseIP(h) != nil || len(h) <= 253 && hostOK.MatchString(h) {
		return nil
	}
	return fmt.Errorf("host %q: want a DNS name like queue.mssp.example or an IP address, alone: no scheme, port, path or space", h)
}

func newEnclave(name string, dark bool) Enclave {
	e := Enclave{Name: name}
	if dark {
		e.Pull = anyqueue.Dark
	}
	return e
}

// configHead stands at the top of the configuration that Init writes.
const configHead = `# The mid-point. File names are relative to this file.
#
# listen      host:port where clients connect; no host: every interface
# store       the folder with the queues; made by init, never by starting
# cert, key   the server's certificate and key (PEM); taken up without a restart when they change
# liveness    a file that is rewritten every 15 s while the server answers (alive.json beside this file)
# enclaves    who is served; for each:
#   name                [A-Z0-9-]; makes the stream JML-<name> and the subject jml.<name>
#   producer, consumer  public keys of the two credentials
#   max_mib             how much may wait for the enclave, in MiB (1024); when full, the producer keeps the rest
#   lease               when a message that was pulled and not settled comes again (30s)
#   pull                acked, or dark: the enclave only reads, and its credential may do nothing else (acked)
#   keep                dark only: how long a message stays, read or not (168h)
#   duplicate_window    how long a message that is published again is recognised (10m)

`

// Add makes credentials, stream and consumer for one more enclave of the mid-point in dir, whose
// configuration is cfg. The server must not be running. The configuration file is the operator's:
// Add does not rewrite it, the returned Enclave is to be put into it.
func Add(ctx context.Context, dir string, cfg Config, name, url string, dark bool, log *slog.Logger) (*Made, error) {
	e := newEnclave(name, dark)
	if !nameOK.MatchString(name) {
		return nil, fmt.Errorf("enclave %q: expected 1 to 32 of A-Z, 0-9 and inner -", name)
	}
	for _, have := range cfg.Enclaves {
		if have.Name == name {
			return nil, fmt.Errorf("enclave %s is in the configuration already", name)
		}
	}
	if err := natsqueue.CheckURL(url); err != nil { // before it stands in the clients' files
		return nil, fmt.Errorf("the URL for the clients: %w", err)
	}
	if err := checkIssued(dir, cfg, url); err != nil {
		return nil, err
	}
	var there []string
	for _, role := range roles {
		if to := filepath.Join(dir, role, name); exists(to) {
			there = append(there, to)
		}
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("%s: there already, and enclave %s is not in the configuration: it was taken out, or an add was killed. Where no client uses these credentials, remove that, and add again; where the enclave is to come back, put it under enclaves: again. Nothing was changed",
			strings.Join(there, " and "), name)
	}
	if err := makeClients(dir, &e, url); err != nil {
		return nil, err
	}
	cfg.Enclaves = append(cfg.Enclaves[:len(cfg.Enclaves):len(cfg.Enclaves)], e)
	cfg = cfg.withDefaults()
	err := cfg.check()
	if err == nil {
		err = checkStore(cfg.Store)
	}
	if err == nil {
		cfg.Enclaves = cfg.Enclaves[len(cfg.Enclaves)-1:] // the others' streams are none of our business
		err = runOnce(ctx, cfg, log)
	}
	if err != nil {
		for _, role := range roles { // new folders, made above
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, role, name)))
		}
		return nil, err
	}
	return made(dir, []Enclave{e}), nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

var roles = []string{natsqueue.RoleProducer, natsqueue.RoleConsumer}

func made(dir string, enclaves []Enclave) *Made {
	m := &Made{
		Config:    filepath.Join(dir, serverDir, ConfigFile),
		CA:        filepath.Join(dir, caDir),
		Producers: make(map[string]string), Consumers: make(map[string]string),
		Enclaves: enclaves,
	}
	for _, e := range enclaves {
		m.Producers[e.Name] = filepath.Join(dir, natsqueue.RoleProducer, e.Name)
		m.Consumers[e.Name] = filepath.Join(dir, natsqueue.RoleConsumer, e.Name)
	}
	return m
}

func clientURL(host string, port int) string {
	if port == server.RANDOM_PORT {
		port = 0 // known when it runs; tests only
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("tls://%s:%d", host, port)
}

// makeClients makes both credentials of e, a folder each, and notes the public halves in e. Where it fails it takes back
// what it made.
func makeClients(dir string, e *Enclave, url string) (err error) {
	if !nameOK.MatchString(e.Name) { // it becomes a folder's name
		return fmt.Errorf("enclave %q: expected 1 to 32 of A-Z, 0-9 and inner -", e.Name)
	}
	ca, err := os.ReadFile(filepath.Join(dir, caDir, caFile))
	if err != nil {
		return err
	}
	var made []string
	defer func() {
		if err != nil {
			for _, to := range made {
				err = errors.Join(err, os.RemoveAll(to))
			}
		}
	}()
	for _, role := range roles {
		to := filepath.Join(dir, role, e.Name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := os.Mkdir(to, 0o700); err != nil { // never into a folder that is there
			return err
		}
		made = append(made, to)
		kp, err := nkeys.CreateUser()
		if err != nil {
			return err
		}
		pub, err := kp.PublicKey()
		if err != nil {
			return err
		}
		seed, err := kp.Seed()
		if err != nil {
			return err
		}
		block := anyqueue.Config{NATS: e.client(role, url)}
		if role == natsqueue.RoleConsumer {
			block.Pull = e.Pull
		}
		text, err := yaml.Marshal(map[string]anyqueue.Config{"queue": block})
		if err != nil {
			return err
		}
		err = errors.Join(
			writeNew(filepath.Join(to, seedFile), append(seed, '\n'), 0o600),
			writeNew(filepath.Join(to, caFile), ca, 0o644),
			writeNew(filepath.Join(to, QueueFile), text, 0o600))
		kp.Wipe()
		if err != nil {
			return err
		}
		if role == natsqueue.RoleProducer {
			e.Producer = pub
		} else {
			e.Consumer = pub
		}
	}
	return nil
}

// makeStore makes the folder and, with the server running on it for a moment, its streams.
func makeStore(ctx context.Context, cfg Config, log *slog.Logger) error {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return err
	}
	if err := os.Mkdir(cfg.Store, 0o700); err != nil {
		return err
	}
	if err := runOnce(ctx, cfg, log); err != nil {
		return err
	}
	return writeNew(filepath.Join(cfg.Store, marker), []byte(markerText), 0o600)
}

// runOnce runs the server without a port to create the streams of cfg's enclaves.
func runOnce(ctx context.Context, cfg Config, log *slog.Logger) error {
	s, err := start(ctx, cfg, log, nil, create)
	if err != nil {
		return err
	}
	s.Stop()
	return nil
}

// lockStore makes sure that one server at a time runs on a store: two would destroy it.
func lockStore(dir string) (io.Closer, error) {
	l, err := store.Take(filepath.Join(dir, "midpoint"))
	var held *store.LockedError
	if errors.As(err, &held) {
		return nil, &InUseError{held.PID, dir}
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return lock{l}, nil
}

// An InUseError says that another mid-point serves the store.
type InUseError struct {
	PID int
	Dir string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("store: process %d is running on %s; stop that one first", e.PID, e.Dir)
}

type lock struct{ *store.Lock }

func (l lock) Close() error { return l.Release() }

// writeNew writes a file that must not exist yet, and waits for the disk.
func writeNew(name string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
