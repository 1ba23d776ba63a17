package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"jmlbridge/internal/command"
	"jmlbridge/internal/config"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/keys/vault"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/producer/announce"
	"jmlbridge/producer/outbox"
	"jmlbridge/producer/scope"
	"jmlbridge/producer/source"
	"jmlbridge/schema"
)

// Config is the producer's configuration file. producer.example.yaml explains every key by its
// consequence. Relative paths start at the file's own folder.
type Config struct {
	Issuer   string `yaml:"issuer"`   // who speaks: a URI, never changed
	Stream   string `yaml:"stream"`   // the name of its chain of messages, never changed
	Database string `yaml:"database"` // made by init

	// Speaks is "approvals" where this is a second signer's own: it approves, in a stream of its own, and says nothing
	// else. Default: facts.
	Speaks string `yaml:"speaks,omitempty"`

	Ledger   Ledger          `yaml:"ledger"`
	Signing  Signing         `yaml:"signing"`
	Enclaves []Enclave       `yaml:"enclaves"`
	Source   *source.Mapping `yaml:"source,omitempty"` // needed by import only
	Limits   announce.Limits `yaml:"limits,omitempty"`

	// KeyStore is how the stores are reached that keys lie in.
	KeyStore *vault.Config `yaml:"key_store,omitempty"`
	// Transport is how the outside is reached where a queue or the key store says nothing else.
	Transport outbound.Config `yaml:"transport,omitempty"`

	Liveness string `yaml:"liveness,omitempty"` // file that run rewrites while it works; default alive.json

	Heartbeat config.Duration `yaml:"heartbeat,omitempty"`  // default 60s
	Roster    config.Duration `yaml:"roster,omitempty"`     // default 24h
	ClosedFor config.Duration `yaml:"closed_for,omitempty"` // default 14d

	file   *config.File
	keeper *custody.Keeper
}

// Ledger says where the record of what was sent goes.
type Ledger struct {
	Dir            string            `yaml:"dir"`                       // the published folder
	CheckpointCopy string            `yaml:"checkpoint_copy,omitempty"` // a file on another volume, best a write-once one
	Key            custody.LedgerKey `yaml:"key"`                       // private key file, made by init, or a wrapped one
	SecondKey      *vault.Ref        `yaml:"second_key,omitempty"`      // a key in a store that signs each checkpoint too
	Origin         string            `yaml:"origin"`                    // name of the ledger on its checkpoints, never changed
}

// Signing names the key by which messages are signed.
type Signing struct {
	Key custody.Key `yaml:"key"`           // private key file, made by init, or a key in a store
	Alg keys.Alg    `yaml:"alg,omitempty"` // ES256 (default), ES384 or EdDSA
	// NotBefore and NotAfter are the key's window as the card tells it to the enclave, which parks what
	// comes outside of it. RFC 3339; default: unbounded.
	NotBefore string `yaml:"not_before,omitempty"`
	NotAfter  string `yaml:"not_after,omitempty"`
	// Next is the key that comes after Key, in the same stream: see "producer key".
	Next *NextKey `yaml:"next,omitempty"`

	from, to *time.Time
}

// NextKey names the next signing key.
type NextKey struct {
	Key custody.Key `yaml:"key"`
	Alg keys.Alg    `yaml:"alg,omitempty"` // default: that of the present one
	// NotBefore and NotAfter are its own window: that of the present key may be why there is a next one.
	NotBefore string `yaml:"not_before,omitempty"`
	NotAfter  string `yaml:"not_after,omitempty"`

	from, to *time.Time
}

// Enclave is one place that messages go to.
type Enclave struct {
	Name          string          `yaml:"name"`           // short, A-Z 0-9 and -, as at the mid-point
	Audience      string          `yaml:"audience"`       // the enclave's URI
	EncryptionKey string          `yaml:"encryption_key"` // its public key file
	Queue         anyqueue.Config `yaml:"queue,omitempty"`
	QueueFile     string          `yaml:"queue_file,omitempty"` // instead of queue: the queue.yaml of "midpoint init"
	Scope         scope.Rules     `yaml:"scope,omitempty"`
}

const (
	defaultHeartbeat = 60 * time.Second
	defaultRoster    = 24 * time.Hour
	defaultClosedFor = 14 * 24 * time.Hour // twice the longest lease of an enclave, which is 7 days by default
	minHeartbeat     = time.Second
)

var nameOK = regexp.MustCompile(`^[A-Z0-9-]{1,32}$`)

// loadConfig reads and judges the configuration. Key files are read when they are needed.
func loadConfig(name string) (*Config, error) {
	c := &Config{
		Signing: Signing{Alg: keys.ES256}, Liveness: "alive.json",
		Limits: announce.Limits{
			Absences:  announce.Limit{Count: 5, Share: 0.02},
			Transfers: announce.Limit{Count: 20, Share: 0.10},
			Rehires:   announce.Limit{Count: 5, Share: 0.01},
		},
		Heartbeat: config.Duration(defaultHeartbeat), Roster: config.Duration(defaultRoster), ClosedFor: config.Duration(defaultClosedFor),
	}
	f, err := config.Load(name, c)
	if err != nil {
		return nil, err
	}
	c.file = f
	for _, k := range []struct{ path, value, what string }{
		{"$.issuer", c.Issuer, "a URI like https://iam.mssp.example/jml that names this producer"},
		{"$.stream", c.Stream, "a name like hr"},
		{"$.database", c.Database, "a path"},
		{"$.ledger.dir", c.Ledger.Dir, "the folder that the ledger is published in"},
		{"$.ledger.origin", c.Ledger.Origin, "a name like iam.mssp.example/producer"},
	} {
		if k.value == "" {
			return nil, f.Errorf(k.path, "want %s, got nothing", k.what)
		}
	}
	f.Resolve(&c.Database, &c.Ledger.Dir, &c.Ledger.CheckpointCopy, &c.Liveness)
	if err := c.checkKeys(); err != nil {
		return nil, err
	}
	switch {
	case c.Speaks != "" && c.Speaks != speaksApprovals:
		return nil, f.Errorf("$.speaks", "want %s, or nothing for facts, got %q", speaksApprovals, c.Speaks)
	case c.approves() && c.Source != nil:
		return nil, f.Errorf("$.source", "whoever approves states no facts; leave it out")
	case !c.Signing.Alg.Signs():
		return nil, f.Errorf("$.signing.alg", "want %s, %s or %s, got %q", keys.ES256, keys.ES384, keys.EdDSA, c.Signing.Alg)
	case c.Heartbeat.D() < minHeartbeat:
		return nil, f.Errorf("$.heartbeat", "want at least %s, got %s", minHeartbeat, c.Heartbeat)
	case c.Roster.D() < time.Minute:
		return nil, f.Errorf("$.roster", "want at least 1m, got %s", c.Roster)
	case c.ClosedFor.D() < time.Hour:
		return nil, f.Errorf("$.closed_for", "want at least 1h, got %s", c.ClosedFor)
	case len(c.Enclaves) == 0:
		return nil, f.Errorf("$.enclaves", "want at least one enclave")
	}
	type bound struct {
		key, value string
		into       **time.Time
	}
	window := []bound{{"not_before", c.Signing.NotBefore, &c.Signing.from}, {"not_after", c.Signing.NotAfter, &c.Signing.to}}
	if n := c.Signing.Next; n != nil {
		window = append(window, bound{"next.not_before", n.NotBefore, &n.from}, bound{"next.not_after", n.NotAfter, &n.to})
	}
	for _, w := range window {
		if w.value == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, w.value)
		if err != nil {
			return nil, f.Errorf("$.signing."+w.key, "want an instant like 2027-01-01T00:00:00Z, got %q", w.value)
		}
		*w.into = &t
	}
	for name, l := range map[string]announce.Limit{"absences": c.Limits.Absences, "transfers": c.Limits.Transfers, "rehires": c.Limits.Rehires} {
		if l.Count < 0 {
			return nil, f.Errorf("$.limits."+name+".count", "want a count from 0, got %d", l.Count)
		}
		if !(l.Share >= 0 && l.Share <= 1) { // nor what is no number
			return nil, f.Errorf("$.limits."+name+".share", "want a share of 0 to 1, where 0.02 is two of a hundred, got %v", l.Share)
		}
	}
	if err := c.checkEnclaves(); err != nil {
		return nil, err
	}
	return c, c.checkSource()
}

const speaksApprovals = "approvals"

// approves reports whether this is a second signer's own, and no producer of facts.
func (c *Config) approves() bool { return c.Speaks == speaksApprovals }

func (c *Config) checkEnclaves() error {
	for i := range c.Enclaves {
		e := &c.Enclaves[i]
		at := func(key string) string { return fmt.Sprintf("$.enclaves[%d]%s", i, key) }
		switch {
		case !nameOK.MatchString(e.Name):
			return c.file.Errorf(at(".name"), "want a short name of A-Z, 0-9 and -, got %q", e.Name)
		case e.EncryptionKey == "":
			return c.file.Errorf(at(".encryption_key"), "want the enclave's public key file")
		case slices.ContainsFunc(c.Enclaves[:i], func(o Enclave) bool { return o.Name == e.Name || o.Audience == e.Audience }):
			return c.file.Errorf(at(""), "two enclaves with the same name or audience")
		}
		// An audience that the schema refuses would be found at the first message only.
		err := outbox.Fits(c.Issuer, c.Stream, e.Audience)("1", &schema.Joiner{Person: schema.Person{DisplayName: "x"}, Roles: []string{}, Start: schema.At(time.Unix(1, 0))})
		var refused *schema.RefusedError
		if errors.As(err, &refused) {
			key := map[string]string{"iss": "$.issuer", "stream.id": "$.stream"}[refused.Path]
			if key == "" {
				key = at(".audience")
			}
			return c.file.Errorf(key, "%s", refused.Detail)
		}
		if !c.approves() {
			if err := e.Scope.Compile(); err != nil {
				return c.file.Errorf(at(".scope"), "%v", err)
			}
		}
		c.file.Resolve(&e.EncryptionKey, &e.QueueFile)
		if e.QueueFile != "" {
			if c.file.Has(at(".queue")) {
				return c.file.Errorf(at(".queue"), "want either queue or queue_file")
			}
			var q struct {
				Queue anyqueue.Config `yaml:"queue"`
			}
			f, err := config.Load(e.QueueFile, &q)
			if err != nil {
				return err
			}
			if err := q.Queue.Check(); err != nil {
				return f.Errorf("$.queue", "%v", err)
			}
			e.Queue = q.Queue.In(filepath.Dir(e.QueueFile))
		} else {
			if err := e.Queue.Check(); err != nil {
				return c.file.Errorf(at(".queue"), "%v", err)
			}
			e.Queue = e.Queue.In(filepath.Dir(c.file.Name()))
		}
		if e.Queue.Pull != "" {
			return c.file.Errorf(at(".queue.pull"), "a producer does not pull; leave it out")
		}
		for _, o := range c.Enclaves[:i] {
			if e.Queue.Same(o.Queue) {
				return c.file.Errorf(at(""), "%s has the queue of %s: each would take the other's messages away, leavers too, and cannot open them; each enclave has a queue of its own", e.Name, o.Name)
			}
		}
	}
	return nil
}

// checkSource judges the mapping now, so that an import does not find it out at night.
func (c *Config) checkSource() error {
	if c.Source == nil {
		return nil
	}
	_, err := c.importer()
	return err
}

// importer reads exports as the configuration says.
func (c *Config) importer() (*source.Importer, error) {
	if c.Source == nil {
		return nil, c.file.Errorf("$.source", "an import needs the mapping of the export's columns; see the annotated example")
	}
	var columns []string
	longest := ""
	for i := range c.Enclaves {
		columns = append(columns, c.Enclaves[i].Scope.Columns()...)
		if a := c.Enclaves[i].Audience; len(a) > len(longest) {
			longest = a
		}
	}
	im, err := source.New(*c.Source, columns, outbox.Fits(c.Issuer, c.Stream, longest))
	var wrong *source.MappingError
	if errors.As(err, &wrong) {
		return nil, c.file.Errorf("$.source."+wrong.Key, "%s", wrong.Reason)
	}
	return im, err
}

// enclave finds one by its short name or audience.
func (c *Config) enclave(name string) (*Enclave, error) {
	var names []string
	for i := range c.Enclaves {
		e := &c.Enclaves[i]
		if e.Name == name || e.Audience == name {
			return e, nil
		}
		names = append(names, e.Name)
	}
	return nil, command.Usagef("there is no enclave %q in %s; there are %v", name, c.file.Name(), names)
}
