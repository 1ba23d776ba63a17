package main

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"jmlbridge/consumer/policy"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/command"
	"jmlbridge/internal/config"
	"jmlbridge/internal/directory/entra"
	"jmlbridge/internal/keys/custody"
	"jmlbridge/internal/keys/vault"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/queue/anyqueue"
	"jmlbridge/internal/syslog"
	"jmlbridge/schema"
)

// Config is consumer.yaml. consumer.example.yaml is it with every key and its meaning.
type Config struct {
	Enclave  Enclave         `yaml:"enclave"`
	Database string          `yaml:"database"`
	Ledger   Ledger          `yaml:"ledger"`
	Keys     Keys            `yaml:"keys"`
	Policy   string          `yaml:"policy"`
	Queue    anyqueue.Config `yaml:"queue"`
	Tenant   Tenant          `yaml:"tenant"`
	// KeyStore is how the stores are reached that keys lie in. Cloud, tenant and transport default to the tenant's.
	KeyStore *vault.Config `yaml:"key_store"`
	// StaleAfter is the silence of a producer after which nothing more is given on its word.
	StaleAfter config.Duration `yaml:"stale_after"`
	Disk       Disk            `yaml:"disk"`
	Alarms     Alarms          `yaml:"alarms"`
	Liveness   Liveness        `yaml:"liveness"`
	Log        Log             `yaml:"log"`

	file   *config.File
	keeper *custody.Keeper
}

// Enclave is who we are to producers and auditors. Neither can change once there is a database.
type Enclave struct {
	URI  string `yaml:"uri"`  // the audience of every message for us
	Name string `yaml:"name"` // short; part of the ledger's name and of the queue's
}

// Ledger says where the record is published and by which key.
type Ledger struct {
	Dir            string            `yaml:"dir"`
	Series         int               `yaml:"series"` // 1, and one more for each time that the database was lost: see recover
	CheckpointCopy string            `yaml:"checkpoint_copy"`
	Key            custody.LedgerKey `yaml:"key"`
	SecondKey      *vault.Ref        `yaml:"second_key"` // signs each checkpoint too
	Interval       config.Duration   `yaml:"interval"`
}

// Keys of the enclave.
type Keys struct {
	Decryption []custody.Key `yaml:"decryption"` // one key, or two while a generation changes
}

// Tenant is where accounts are, and the two identities that may touch it.
type Tenant struct {
	ID              string                 `yaml:"id"`
	Cloud           cloud.Config           `yaml:"cloud"`
	Cut             cloud.CredentialConfig `yaml:"cut"`
	Grant           cloud.CredentialConfig `yaml:"grant"`
	Transport       outbound.Config        `yaml:"transport"`
	MarkAttribute   string                 `yaml:"mark_attribute"`
	WritesPerSecond float64                `yaml:"writes_per_second"`
	Workers         int                    `yaml:"workers"`
}

// Disk says what is laid by for the day on which the disk is full.
type Disk struct {
	ReserveMiB int64 `yaml:"reserve_mib"` // beside the database; 0: nothing, and what is free is not watched
}

// Alarms that were raised and cleared, for a log collector.
type Alarms struct {
	File   string         `yaml:"file"`
	Syslog *syslog.Config `yaml:"syslog"` // the collector that hears of them too; nil: none
}

// Liveness is for a dead man's switch: a file that is rewritten while the program works.
type Liveness struct {
	File     string          `yaml:"file"`
	Interval config.Duration `yaml:"interval"`
}

// Log on standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

func (l Log) level() slog.Level {
	var level slog.Level // info
	_ = level.UnmarshalText([]byte(l.Level))
	return level
}

// Bounds of the configuration.
const (
	minStaleAfter = 10 * time.Second // below two heartbeats of the fastest producer everything is stale always
	maxStaleAfter = 24 * time.Hour
	maxWorkers    = 256
	maxWrites     = 1000 // a second
	minInterval   = 100 * time.Millisecond
	maxInterval   = time.Hour
	maxReserve    = 1 << 20 // MiB
	maxSeries     = 1000
)

func defaults() *Config {
	return &Config{
		Database:   "consumer.db",
		Ledger:     Ledger{Dir: "ledger", Series: 1, Key: custody.LedgerKey{Path: "keys/ledger.pem"}, Interval: config.Duration(time.Second)},
		Keys:       Keys{Decryption: []custody.Key{{Path: "keys/decryption.pem"}}},
		Policy:     "policy.yaml",
		Tenant:     Tenant{WritesPerSecond: 20, Workers: 16},
		StaleAfter: config.Duration(5 * time.Minute),
		Disk:       Disk{ReserveMiB: 256},
		Alarms:     Alarms{File: "alarms.jsonl"},
		Liveness:   Liveness{File: "alive.json", Interval: config.Duration(15 * time.Second)},
		Log:        Log{Level: "info", Format: command.Text},
	}
}

// loadConfig reads and checks the file; it looks at no other one. Names of files in it are made
// absolute in the sense of the file's own folder.
func loadConfig(path string) (*Config, error) {
	c := defaults()
	f, err := config.Load(path, c)
	if err != nil {
		return nil, err
	}
	c.file = f
	if err := c.check(); err != nil {
		return nil, err
	}
	f.Resolve(&c.Database, &c.Ledger.Dir, &c.Ledger.CheckpointCopy, &c.Policy, &c.Alarms.File, &c.Liveness.File,
		&c.Tenant.Transport.CAFile, &c.Tenant.Transport.ProxyCredentials)
	for _, cred := range []*cloud.CredentialConfig{&c.Tenant.Cut, &c.Tenant.Grant} {
		f.Resolve(&cred.CertificateFile, &cred.SecretFile, &cred.TokenFile)
	}
	if s := c.Alarms.Syslog; s != nil {
		f.Resolve(&s.CAFile, &s.CertificateFile, &s.ProxyCredentials)
		if s.Proxy == "" && s.ProxyCredentials == "" {
			s.Proxy, s.ProxyCredentials = c.Tenant.Transport.Proxy, c.Tenant.Transport.ProxyCredentials
		}
	}
	c.Queue = c.Queue.In(filepath.Dir(f.Name()))
	return c, c.checkKeys()
}

var (
	shortName = regexp.MustCompile(`^[A-Z0-9][A-Z0-9-]{0,31}$`)
	uriForm   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$`)
)

func (c *Config) check() error {
	f := c.file
	if !uriForm.MatchString(c.Enclave.URI) || len(c.Enclave.URI) > schema.MaxURI {
		return f.Errorf("$.enclave.uri", "want the URI by which producers address this enclave, like urn:jmlbridge:enclave:gov-1, got %q", c.Enclave.URI)
	}
	if !shortName.MatchString(c.Enclave.Name) {
		return f.Errorf("$.enclave.name", "want a short name of A-Z, 0-9 and '-', like GOV-1, got %q", c.Enclave.Name)
	}
	for _, p := range []struct{ key, value string }{
		{"$.database", c.Database}, {"$.ledger.dir", c.Ledger.Dir}, {"$.policy", c.Policy},
		{"$.alarms.file", c.Alarms.File}, {"$.liveness.file", c.Liveness.File},
	} {
		if p.value == "" {
			return f.Errorf(p.key, "want a path, got nothing")
		}
	}
	if n := len(c.Keys.Decryption); n < 1 || n > 2 {
		return f.Errorf("$.keys.decryption", "want one key, or two while a generation changes, got %d", n)
	}
	if err := c.Queue.Check(); err != nil {
		return f.Errorf("$.queue", "%v", err)
	}
	if err := c.checkTenant(); err != nil {
		return err
	}
	for _, d := range []struct {
		key        string
		v          config.Duration
		least, top time.Duration
	}{
		{"$.stale_after", c.StaleAfter, minStaleAfter, maxStaleAfter},
		{"$.liveness.interval", c.Liveness.Interval, minInterval, maxInterval},
		{"$.ledger.interval", c.Ledger.Interval, 0, maxInterval},
	} {
		if d.v.D() < d.least || d.v.D() > d.top {
			return f.Errorf(d.key, "want %v to %v, got %v", d.least, d.top, d.v)
		}
	}
	if c.Ledger.Series < 1 || c.Ledger.Series > maxSeries {
		return f.Errorf("$.ledger.series", "want 1, or one more for each time that the database was lost, got %d", c.Ledger.Series)
	}
	if c.Disk.ReserveMiB < 0 || c.Disk.ReserveMiB > maxReserve {
		return f.Errorf("$.disk.reserve_mib", "want 1 to %d, or 0 for none, got %d", maxReserve, c.Disk.ReserveMiB)
	}
	if err := new(slog.Level).UnmarshalText([]byte(c.Log.Level)); err != nil || !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		return f.Errorf("$.log.level", "want debug, info, warn or error, got %q", c.Log.Level)
	}
	if c.Log.Format != command.Text && c.Log.Format != command.JSON {
		return f.Errorf("$.log.format", "want text or json, got %q", c.Log.Format)
	}
	return nil
}

func (c *Config) checkTenant() error {
	f, t := c.file, &c.Tenant
	if c, err := t.Cloud.Cloud(); err != nil {
		return f.Errorf("$.tenant.cloud", "%v", err)
	} else if c.GraphRoot == "" {
		return f.Errorf("$.tenant.cloud", "cloud: graph_root is missing; a tenant is reached through Graph")
	}
	if t.ID == "" {
		return f.Errorf("$.tenant.id", "want the id of the enclave's tenant, got nothing")
	}
	if t.Cut == (cloud.CredentialConfig{}) {
		return f.Errorf("$.tenant.cut", "want the credential that takes access away; see consumer/README.md for its permissions")
	}
	if t.Grant == (cloud.CredentialConfig{}) {
		return f.Errorf("$.tenant.grant", "want the credential that gives access; repeat the one under cut where one application does both")
	}
	for _, slot := range []struct {
		key  string
		cred *cloud.CredentialConfig
	}{{"$.tenant.cut", &t.Cut}, {"$.tenant.grant", &t.Grant}} {
		switch {
		case slot.cred.Kind == cloud.ManagedIdentity:
		case slot.cred.Tenant == "":
			slot.cred.Tenant = t.ID
		case slot.cred.Tenant != t.ID:
			return f.Errorf(slot.key+".tenant", "want the same tenant as tenant.id (%s), got %s", t.ID, slot.cred.Tenant)
		}
	}
	if err := entra.CheckMarkAttribute(t.MarkAttribute); err != nil {
		return f.Errorf("$.tenant.mark_attribute", "%v", err)
	}
	if t.Workers < 1 || t.Workers > maxWorkers {
		return f.Errorf("$.tenant.workers", "want 1 to %d, got %d", maxWorkers, t.Workers)
	}
	if t.WritesPerSecond <= 0 || t.WritesPerSecond > maxWrites {
		return f.Errorf("$.tenant.writes_per_second", "want more than 0 and at most %d, got %v", maxWrites, t.WritesPerSecond)
	}
	return nil
}

// sharedQuota says that both credentials are one application to the tenant.
func (t *Tenant) sharedQuota() bool {
	if t.Cut.Client == "" || t.Grant.Client == "" {
		return t.Cut == t.Grant
	}
	return t.Cut.Client == t.Grant.Client
}

// policy reads the policy that the configuration names.
func (c *Config) policy() (*policy.Policy, error) {
	if _, err := os.Stat(c.Policy); errors.Is(err, os.ErrNotExist) {
		return nil, c.file.Errorf("$.policy", "there is no policy file %s; write one after consumer/policy.example.yaml, or name it under policy", c.Policy)
	}
	return policy.Load(c.Policy)
}

// origin is the name of the ledger: of its checkpoints and of the key line that auditors get. A name is used for one
// ledger: the one that follows a lost database bears its number.
func (c *Config) origin() string {
	name := "jmlbridge.internal/" + strings.ToLower(c.Enclave.Name) + "/ledger"
	if c.Ledger.Series > 1 {
		name += "/" + strconv.Itoa(c.Ledger.Series)
	}
	return name
}

// seriesOf reads the number out of the name of a ledger of this enclave.
func (c *Config) seriesOf(origin string) (series int, ok bool) {
	first := *c
	first.Ledger.Series = 1
	rest, ok := strings.CutPrefix(origin, first.origin())
	if !ok || rest == "" {
		return 1, ok
	}
	series, err := strconv.Atoi(strings.TrimPrefix(rest, "/"))
	return series, err == nil && series > 1 && rest == "/"+strconv.Itoa(series)
}

// digest names the configuration on the ledger.
func (c *Config) digest() schema.Digest { return sha256.Sum256(c.file.Bytes()) }
