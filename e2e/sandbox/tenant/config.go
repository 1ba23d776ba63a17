package tenant

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Config is a tenant to be. The zero value is a usable one: default apps, no
// users, no quotas, no replication delay, the machine's clock.
type Config struct {
	Listen  string // address of the tenant; "" means 127.0.0.1:0. Loopback only, unless Name is given
	Name    string // host name or address by which others reach it, for a private network; "" means nobody but this machine does
	Control string // address of the control API on loopback, or unix:PATH; "" means none

	Seed Seed // who and what is there from the start

	Quotas      Quotas      // Graph's limits; the zero value throttles nothing
	Replication Replication // how far replicas lag behind; zero means not at all

	TokenLife time.Duration // of ordinary tokens; 0 means one hour
	CAELife   time.Duration // of tokens for clients that declare CP1; 0 means 24 h
	Latency   time.Duration // added to every Graph answer; 0 means none
	HTTP1     bool          // speak HTTP/1.1 only, as through many proxies

	Faults    []Fault // in force from the start
	FaultSeed uint64  // of the faults' and the replicas' randomness

	// Journal receives one JSON line a request, or is nil. It is written from
	// many goroutines, one line a Write, never at the same time.
	Journal io.Writer
	// JournalKeep is how many entries are kept in memory: 0 means 50,000,
	// negative means none. The oldest go first.
	JournalKeep int

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means silence
}

// Quotas are token buckets for each app (Graph's scope "app + tenant") and one
// for the writes of all apps together. A field that is zero is not limited.
type Quotas struct {
	Writes    Quota // for each app
	AllWrites Quota // of all apps
	Units     Quota // resource units for each app
}

// A Quota lets N through in each Per, with a burst of N.
type Quota struct {
	N   int           `json:"n" yaml:"n"`
	Per time.Duration `json:"per" yaml:"per"`
}

// DefaultQuotas are the documented ones for a tenant of so many users.
func DefaultQuotas(users int) Quotas {
	units := 8000
	switch {
	case users < 50:
		units = 3500
	case users <= 500:
		units = 5000
	}
	return Quotas{
		Writes:    Quota{3000, 150 * time.Second},
		AllWrites: Quota{18000, 5 * time.Minute},
		Units:     Quota{units, 10 * time.Second},
	}
}

// Replication says how eventual consistency shows itself.
type Replication struct {
	Lag      time.Duration // a lagging replica is so far behind, for reads by id and of memberships
	IndexLag time.Duration // and so far for $filter, which reads an index
	WriteLag time.Duration // so long after its creation an object, and after it began or ended a membership, is unknown to writes that name it
	Share    float64       // of the reads that a lagging replica answers, 0 to 1; 0 means all of them
}

// horizon is how long superseded versions can still be seen.
func (r Replication) horizon() time.Duration { return max(r.Lag, r.IndexLag, r.WriteLag) }

// An App is an app registration with its consented application permissions.
type App struct {
	Name           string   `json:"name" yaml:"name"`
	ID             string   `json:"id" yaml:"id"`                         // client id; "" means a random one
	Permissions    []string `json:"permissions" yaml:"permissions"`       // such as User.Read.All; they become the token's roles
	DirectoryRoles []string `json:"directoryRoles" yaml:"directoryRoles"` // such as Privileged Authentication Administrator
	Certificate    bool     `json:"certificate" yaml:"certificate"`       // also make a certificate credential
}

// DefaultApps are the registrations of a tenant whose seed names none. Cut and
// grant follow the documented least privilege; note that Graph has one and the
// same permission for adding and for removing members, and that
// User.ReadWrite.All also permits what the cutting permissions do.
func DefaultApps() []App {
	cut := []string{"User.Read.All", "User.EnableDisableAccount.All", "User.RevokeSessions.All", "User.DeleteRestore.All",
		"GroupMember.ReadWrite.All", "AdministrativeUnit.Read.All", "Organization.Read.All"}
	grant := []string{"User.ReadWrite.All", "GroupMember.ReadWrite.All", "AdministrativeUnit.ReadWrite.All", "Organization.Read.All"}
	admin := []string{"Directory.ReadWrite.All", "RoleManagement.ReadWrite.Directory", "User-PasswordProfile.ReadWrite.All",
		"User-LifeCycleInfo.ReadWrite.All", "User.DeleteRestore.All", "User.RevokeSessions.All", "AdministrativeUnit.ReadWrite.All"}
	privileged := []string{"Privileged Authentication Administrator"}
	return []App{
		{Name: "bridge", Permissions: union(cut, grant), DirectoryRoles: privileged, Certificate: true},
		{Name: "cut", Permissions: cut, DirectoryRoles: privileged, Certificate: true},
		{Name: "grant", Permissions: grant, Certificate: true},
		{Name: "reader", Permissions: []string{"User.Read.All", "GroupMember.Read.All", "AdministrativeUnit.Read.All", "Organization.Read.All"}},
		{Name: "admin", Permissions: admin, DirectoryRoles: []string{"Global Administrator"}},
	}
}

func union(a, b []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range append(append([]string(nil), a...), b...) {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

var extensionName = regexp.MustCompile(`^extension_[0-9a-f]{32}_[A-Za-z0-9_]{1,100}$`)

// complete fills the defaults in and refuses what cannot be served.
func (c *Config) complete() error {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Name == "" {
		if err := loopback(c.Listen); err != nil {
			return err
		}
	}
	if c.Control != "" && !strings.HasPrefix(c.Control, unixPrefix) {
		if err := loopback(c.Control); err != nil {
			return err
		}
	}
	if c.TokenLife <= 0 {
		c.TokenLife = defaultTokenLife
	}
	if c.CAELife <= 0 {
		c.CAELife = defaultCAELife
	}
	if c.Replication.Share == 0 {
		c.Replication.Share = 1
	}
	if c.Replication.Share < 0 || c.Replication.Share > 1 {
		return fmt.Errorf("share of lagging reads is %v: give a number from 0 to 1", c.Replication.Share)
	}
	if c.JournalKeep == 0 {
		c.JournalKeep = defaultKeep
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &c.Seed
	if s.Tenant.ID == "" {
		s.Tenant.ID = uuid.NewString()
	}
	if s.Tenant.DisplayName == "" {
		s.Tenant.DisplayName = "Rehearsal"
	}
	if len(s.Tenant.Domains) == 0 {
		s.Tenant.Domains = []string{"rehearsal.example"}
	}
	if len(s.Apps) == 0 {
		s.Apps = DefaultApps()
	}
	for _, x := range s.Extensions {
		if !extensionName.MatchString(x) {
			return fmt.Errorf("extension %q: expected extension_<32 hex digits of the app id>_<name>", x)
		}
	}
	return nil
}

// unixPrefix begins the address of a control API on a Unix socket: whoever may open the file gets in, from
// whatever network.
const unixPrefix = "unix:"

// loopback refuses an address that other machines could reach: the tenant has
// no protection worth the name, so a network of its own must be asked for by a Name.
func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen address %q: expected HOST:PORT: %w", addr, err)
	}
	if ip := net.ParseIP(host); (ip == nil || !ip.IsLoopback()) && host != "localhost" {
		return fmt.Errorf("listen address %q is not on loopback: use 127.0.0.1 or [::1], or give the name that it has on a private network", addr)
	}
	return nil
}
