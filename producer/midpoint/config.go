package midpoint

import (
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"github.com/nats-io/nkeys"

	"jmlbridge/internal/queue"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/internal/queue/natsqueue"
)

const (
	maxBody = queue.MaxBody
	durable = "enclave"
)

// Config is the mid-point's configuration. Init writes the first one; file names in it are relative
// to its own folder (see In).
type Config struct {
	// Listen is where clients connect, host:port. An empty host means every interface.
	Listen string `yaml:"listen"`

	// Store is the folder that Init made. It holds sealed messages and no key.
	Store string `yaml:"store"`

	// Cert and Key are PEM files: the server's certificate (leaf first) and its private key. A changed
	// file is taken up without a restart.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`

	// Liveness is a file that is rewritten every 15 s while the server answers; alive.json beside
	// the configuration (see In).
	Liveness string `yaml:"liveness,omitempty"`

	// Enclaves lists who is served. One that is taken out is no longer served, its stream stays.
	Enclaves []Enclave `yaml:"enclaves"`
}

// Enclave is one enclave's queue.
type Enclave struct {
	// Name is the short name, [A-Z0-9-]: it makes the stream JML-<name> and the subject jml.<name>.
	Name string `yaml:"name"`

	// Producer and Consumer are the public nkeys (U...) of the two credentials.
	Producer string `yaml:"producer"`
	Consumer string `yaml:"consumer"`

	// MaxMiB is how much the stream may hold, in MiB; 1024. When it is full the producer keeps the
	// rest in its outbox: nothing is dropped.
	MaxMiB int64 `yaml:"max_mib,omitempty"`

	// Lease is how long a pulled message stays away before it comes again unless settled; 30 s. It is
	// also how long a consumer that crashed waits for the batch that it had in hand.
	Lease time.Duration `yaml:"lease,omitempty"`

	// Pull is acked (default) or dark. With dark the enclave reads by number and acknowledges nothing: its
	// credential may read this stream and do nothing else, and the server does not see what is durably there.
	Pull string `yaml:"pull,omitempty"`

	// Keep is how long a message stays in a stream that is pulled dark, whoever has read it; 168h. What the
	// enclave has not read by then it sees as a gap, and a roster heals it.
	Keep time.Duration `yaml:"keep,omitempty"`

	// DuplicateWindow is how long a message published again is recognised; 10 min. Longer costs
	// memory (about 100 octets a message), shorter costs the consumer some duplicates.
	DuplicateWindow time.Duration `yaml:"duplicate_window,omitempty"`
}

func (e Enclave) dark() bool { return e.Pull == anyqueue.Dark }

// Stream is the name of the enclave's stream.
func (e Enclave) Stream() string { return "JML-" + e.Name }

// Subject is what the producer publishes to.
func (e Enclave) Subject() string { return "jml." + e.Name }

// In returns c with its relative file names taken from dir.
func (c Config) In(dir string) Config {
	if c.Liveness == "" {
		c.Liveness = "alive.json"
	}
	for _, f := range []*string{&c.Store, &c.Cert, &c.Key, &c.Liveness} {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(dir, *f)
		}
	}
	return c
}

func (c Config) withDefaults() Config {
	enclaves := make([]Enclave, len(c.Enclaves))
	for i, e := range c.Enclaves {
		if e.MaxMiB == 0 {
			e.MaxMiB = 1024
		}
		if e.Lease == 0 {
			e.Lease = 30 * time.Second
		}
		if e.Pull == "" {
			e.Pull = anyqueue.Acked
		}
		if e.dark() && e.Keep == 0 {
			e.Keep = 7 * 24 * time.Hour
		}
		if e.DuplicateWindow == 0 {
			e.DuplicateWindow = 10 * time.Minute
		}
		enclaves[i] = e
	}
	c.Enclaves = enclaves
	return c
}

var nameOK = regexp.MustCompile(`^[A-Z0-9]([A-Z0-9-]{0,30}[A-Z0-9])?$`)

// A RefusedError says what a person must put right before the mid-point can start: a setting, or what stands in the file
// that it names. Nothing was done.
type RefusedError struct {
	Setting string // its path in the configuration, like enclaves[0].lease; empty for what no setting names
	Reason  string
}

func (e *RefusedError) Error() string {
	if e.Setting == "" {
		return e.Reason
	}
	return e.Setting + ": " + e.Reason
}

func refusef(setting, format string, args ...any) error {
	return &RefusedError{setting, fmt.Sprintf(format, args...)}
}

// check expects the defaults to be filled in.
func (c Config) check() error {
	if c.Store == "" {
		return refusef("store", "not set; expected the folder that init made")
	}
	if len(c.Enclaves) == 0 {
		return refusef("enclaves", "none; expected at least one")
	}
	names, keys := make(map[string]bool), make(map[string]string)
	for i, e := range c.Enclaves {
		at := fmt.Sprintf("enclaves[%d].", i)
		if !nameOK.MatchString(e.Name) {
			return refusef(at+"name", "%q: expected 1 to 32 of A-Z, 0-9 and inner -", e.Name)
		}
		if names[e.Name] {
			return refusef(at+"name", "%s is there twice", e.Name)
		}
		names[e.Name] = true
		for _, k := range []struct{ field, key string }{{"producer", e.Producer}, {"consumer", e.Consumer}} {
			if !nkeys.IsValidPublicUserKey(k.key) {
				return refusef(at+k.field, "of %s: expected a public user nkey (U and 55 more characters)", e.Name)
			}
			if other := keys[k.key]; other != "" {
				return refusef(at+k.field, "of %s: the same key as %s; each credential has one purpose", e.Name, other)
			}
			keys[k.key] = e.Name + "'s " + k.field
		}
		switch {
		case e.MaxMiB < 1 || e.MaxMiB > 1<<20:
			return refusef(at+"max_mib", "%d: expected 1 to %d", e.MaxMiB, 1<<20)
		case e.Lease < 100*time.Millisecond || e.Lease > time.Hour:
			return refusef(at+"lease", "%s: expected 100ms to 1h", e.Lease)
		case e.Pull != anyqueue.Acked && e.Pull != anyqueue.Dark:
			return refusef(at+"pull", "%q: expected %s or %s", e.Pull, anyqueue.Acked, anyqueue.Dark)
		case !e.dark() && e.Keep != 0:
			return refusef(at+"keep", "only a stream that is pulled dark goes by age; an acked one keeps what is not settled")
		case e.dark() && (e.Keep < time.Second || e.Keep > 10*365*24*time.Hour):
			return refusef(at+"keep", "%s: expected 1s to ten years", e.Keep)
		case e.dark() && e.DuplicateWindow > e.Keep:
			return refusef(at+"duplicate_window", "%s: expected at most keep, %s", e.DuplicateWindow, e.Keep)
		case e.DuplicateWindow < 100*time.Millisecond || e.DuplicateWindow > 24*time.Hour:
			return refusef(at+"duplicate_window", "%s: expected 100ms to 24h", e.DuplicateWindow)
		}
	}
	return nil
}

// client is the queue's configuration for one of the enclave's two clients.
func (e Enclave) client(role, url string) *natsqueue.Config {
	// The consumer needs the subject for nothing but its doctor, which tries whether it may publish there.
	c := &natsqueue.Config{URL: []string{url}, CA: caFile, NKey: seedFile, Stream: e.Stream(), Subject: e.Subject()}
	if role != natsqueue.RoleProducer && !e.dark() {
		c.Durable = durable
	}
	return c
}
