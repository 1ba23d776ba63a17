package tenant

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
)

// Seed is what a tenant holds from the start. Its file form is YAML (or JSON,
// which is YAML), read strictly: see ReadSeed.
type Seed struct {
	Tenant     SeedTenant  `json:"tenant" yaml:"tenant"`
	Apps       []App       `json:"apps" yaml:"apps"`             // none means DefaultApps
	Extensions []string    `json:"extensions" yaml:"extensions"` // registered directory extensions, extension_<appid>_<name>
	Groups     []SeedGroup `json:"groups" yaml:"groups"`
	Units      []SeedUnit  `json:"administrativeUnits" yaml:"administrativeUnits"`
	Users      []SeedUser  `json:"users" yaml:"users"`
}

// SeedTenant names the tenant itself.
type SeedTenant struct {
	ID          string   `json:"id" yaml:"id"` // "" means a random one
	DisplayName string   `json:"displayName" yaml:"displayName"`
	Domains     []string `json:"domains" yaml:"domains"` // verified ones; none means rehearsal.example
}

// SeedGroup is a group. MemberOf nests it into groups named before it.
type SeedGroup struct {
	ID             string   `json:"id" yaml:"id"` // "" means a random one
	DisplayName    string   `json:"displayName" yaml:"displayName"`
	Description    string   `json:"description" yaml:"description"`
	Dynamic        bool     `json:"dynamic" yaml:"dynamic"`               // members follow a rule and cannot be edited
	RoleAssignable bool     `json:"roleAssignable" yaml:"roleAssignable"` // members are privileged; edits need one more permission
	MailEnabled    bool     `json:"mailEnabled" yaml:"mailEnabled"`       // Graph refuses to edit its members
	Mail           string   `json:"mail" yaml:"mail"`                     // its address, that no user can have
	MemberOf       []string `json:"memberOf" yaml:"memberOf"`             // ids or display names
}

// SeedUnit is an administrative unit.
type SeedUnit struct {
	ID          string `json:"id" yaml:"id"` // "" means a random one
	DisplayName string `json:"displayName" yaml:"displayName"`
	Restricted  bool   `json:"restricted" yaml:"restricted"` // of restricted management: members are privileged
}

// SeedUser is an account that was there before: break-glass, a service
// account, a colleague made by hand.
type SeedUser struct {
	ID                string         `json:"id" yaml:"id"` // "" means a random one
	UserPrincipalName string         `json:"userPrincipalName" yaml:"userPrincipalName"`
	DisplayName       string         `json:"displayName" yaml:"displayName"`
	Disabled          bool           `json:"disabled" yaml:"disabled"`
	Roles             []string       `json:"roles" yaml:"roles"` // directory roles held; any makes the user privileged
	Groups            []string       `json:"groups" yaml:"groups"`
	Units             []string       `json:"administrativeUnits" yaml:"administrativeUnits"`
	Properties        map[string]any `json:"properties" yaml:"properties"` // further ones, as in a PATCH
}

// ReadSeed reads a seed file. Unknown keys are refused with their line.
func ReadSeed(path string) (Seed, error) {
	var s Seed
	raw, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Errorf("read seed: %w", err)
	}
	if err := decodeYAML(raw, &s); err != nil {
		return s, fmt.Errorf("seed %s: %w", path, err)
	}
	return s, nil
}

// decodeYAML reads one YAML document strictly; nothing at all leaves v as it
// is. The library panics on some malformed text (found by fuzzing): that too is
// an error here.
func decodeYAML(raw []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not readable as YAML: %v", p)
		}
	}()
	err = yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// plant puts a seed into an empty or running tenant. The caller holds the lock.
func (d *directory) plant(s Seed) error {
	for _, g := range s.Groups {
		if _, err := d.plantGroup(g); err != nil {
			return err
		}
	}
	for _, u := range s.Units {
		if u.DisplayName == "" {
			return errors.New("seed: an administrative unit has no displayName")
		}
		id := orNew(u.ID)
		if d.users[id] != nil || d.containers[id] != nil {
			return fmt.Errorf("seed: two objects have the id %s", id)
		}
		d.addContainer(&container{node: node{id: id}, unit: true, restricted: u.Restricted, name: u.DisplayName})
	}
	for _, u := range s.Users {
		if err := d.plantUser(u); err != nil {
			return fmt.Errorf("seed: user %s: %w", u.UserPrincipalName, err)
		}
	}
	return nil
}

func (d *directory) plantGroup(g SeedGroup) (*container, error) {
	if g.DisplayName == "" {
		return nil, errors.New("seed: a group has no displayName")
	}
	id := orNew(g.ID)
	if d.users[id] != nil || d.containers[id] != nil {
		return nil, fmt.Errorf("seed: two objects have the id %s", id)
	}
	c := &container{node: node{id: id}, name: g.DisplayName, description: g.Description,
		dynamic: g.Dynamic, roleAssignable: g.RoleAssignable, mailEnabled: g.MailEnabled, mail: g.Mail}
	d.addContainer(c)
	for _, p := range g.MemberOf {
		parent := d.findContainer(p, false)
		if parent == nil {
			return nil, fmt.Errorf("seed: group %s is memberOf %s, which is not named before it", g.DisplayName, p)
		}
		d.join(parent, &c.node)
	}
	return c, nil
}

func (d *directory) plantUser(u SeedUser) error {
	props := map[string]any{"accountEnabled": !u.Disabled, "displayName": u.DisplayName, "userPrincipalName": u.UserPrincipalName,
		"mailNickname": localPart(u.UserPrincipalName), "passwordProfile": map[string]any{"password": uuid.NewString()}}
	for k, v := range u.Properties {
		props[k] = v
	}
	next := &user{created: d.now(), sessionsFrom: d.now()}
	if _, bad := d.assign(next, props, true); bad != nil {
		return errors.New(bad.message)
	}
	if bad := d.checkNew(next, props); bad != nil {
		return errors.New(bad.message)
	}
	id := orNew(u.ID)
	if d.users[id] != nil || d.containers[id] != nil {
		return fmt.Errorf("two objects have the id %s", id)
	}
	e := d.addUser(id, next)
	e.roles = slices.Clone(u.Roles)
	for _, part := range []struct {
		names []string
		unit  bool
	}{{u.Groups, false}, {u.Units, true}} {
		for _, name := range part.names {
			c := d.findContainer(name, part.unit)
			if c == nil {
				return fmt.Errorf("no group or unit %q", name)
			}
			d.join(c, &e.node)
		}
	}
	return nil
}

// orNew is the id in its canonical spelling, or a random one.
func orNew(id string) string {
	if id == "" {
		return uuid.NewString()
	}
	return strings.ToLower(id)
}
