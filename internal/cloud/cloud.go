// Package cloud names the clouds that a tenant can stand in and makes what talks to one: its addresses
// and scope, a credential, and the transport that both use.
//
// Authority, Graph root, scope and the hosts that may see a token must agree, or tokens come from the
// wrong cloud or go out to the wrong host. So all four come from one [Cloud], the authority is always
// set (the libraries would take the public one), and nothing is discovered: no request leaves for a
// host that is not named here, apart from the local endpoint of a managed identity.
package cloud

import (
	"fmt"
	"net/url"
	"strings"

	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
)

// Names of the clouds as they are written in a configuration.
const (
	AzurePublic        = "AzurePublic"
	AzureGovernment    = "AzureGovernment"    // GCC High, "L4"
	AzureGovernmentDoD = "AzureGovernmentDoD" // "L5"
	Custom             = "custom"             // a rehearsal tenant, or a cloud that is none of these
)

// Cloud is where a tenant stands. Make one with [Config.Cloud]; the zero value is of no use.
type Cloud struct {
	Name      string
	Authority string // e.g. https://login.microsoftonline.us/
	GraphRoot string // with the version and no slash at the end: https://graph.microsoft.us/v1.0
	Scope     string // e.g. https://graph.microsoft.us/.default
}

var known = map[string]Cloud{
	AzurePublic: {AzurePublic, "https://login.microsoftonline.com/",
		"https://graph.microsoft.com/v1.0", "https://graph.microsoft.com/.default"},
	AzureGovernment: {AzureGovernment, "https://login.microsoftonline.us/",
		"https://graph.microsoft.us/v1.0", "https://graph.microsoft.us/.default"},
	AzureGovernmentDoD: {AzureGovernmentDoD, "https://login.microsoftonline.us/",
		"https://dod-graph.microsoft.us/v1.0", "https://dod-graph.microsoft.us/.default"},
}

// Config is the part of a configuration that chooses the cloud.
type Config struct {
	// Name is AzureGovernment, AzureGovernmentDoD, AzurePublic or custom. There is no default: the
	// libraries' own would be the public cloud.
	Name string `yaml:"name"`
	// Authority is the base URL of the token endpoint without the tenant. Only with custom.
	Authority string `yaml:"authority"`
	// GraphRoot is the base URL of Graph with its version, e.g. https://graph.example/v1.0. Only with custom.
	GraphRoot string `yaml:"graph_root"`
	// Scope is asked of the authority. Only with custom; default: the Graph host with /.default.
	Scope string `yaml:"scope"`
}

// Cloud checks c and makes it a cloud. Its errors name the key that is wrong.
func (c Config) Cloud() (Cloud, error) {
	if k, ok := known[c.Name]; ok {
		for _, k := range [][2]string{{"authority", c.Authority}, {"graph_root", c.GraphRoot}, {"scope", c.Scope}} {
			if k[1] != "" {
				return Cloud{}, fmt.Errorf("cloud: %s is set, but %s has its own; leave it out, or use name: custom", k[0], c.Name)
			}
		}
		return k, nil
	}
	if c.Name != Custom {
		return Cloud{}, fmt.Errorf("cloud: name is %q; expected %s, %s, %s or %s",
			c.Name, AzureGovernment, AzureGovernmentDoD, AzurePublic, Custom)
	}
	authority, err := base("authority", c.Authority)
	if err != nil {
		return Cloud{}, err
	}
	graph, err := base("graph_root", c.GraphRoot)
	if err != nil {
		return Cloud{}, err
	}
	if strings.Trim(graph.Path, "/") == "" {
		return Cloud{}, fmt.Errorf("cloud: graph_root %s has no version; expected one such as %s/v1.0", c.GraphRoot, strings.TrimRight(c.GraphRoot, "/"))
	}
	scope := c.Scope
	if scope == "" {
		scope = "https://" + graph.Host + "/.default"
	}
	if !strings.HasSuffix(scope, "/.default") {
		return Cloud{}, fmt.Errorf("cloud: scope is %q; an application can only ask for one that ends in /.default", scope)
	}
	return Cloud{
		Name:      Custom,
		Authority: strings.TrimRight(authority.String(), "/") + "/",
		GraphRoot: strings.TrimRight(graph.String(), "/"),
		Scope:     scope,
	}, nil
}

// base reads a base URL: https, a host, nothing after the path.
func base(key, raw string) (*url.URL, error) {
	if raw == "" {
		return nil, fmt.Errorf("cloud: %s is missing; a custom cloud needs it", key)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("cloud: %s is not a URL: %w", key, err)
	}
	switch {
	case u.Scheme != "https":
		return nil, fmt.Errorf("cloud: %s is %q; expected an https address, for tokens travel there", key, raw)
	case u.Hostname() == "":
		return nil, fmt.Errorf("cloud: %s %q names no host", key, raw)
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("cloud: %s has more than a scheme, a host and a path", key)
	}
	return u, nil
}

// ValidHosts are the hosts that may be sent a token, without ports, as the SDK compares them.
func (c Cloud) ValidHosts() []string {
	u, err := url.Parse(c.GraphRoot)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	return []string{u.Hostname()}
}

// Azure is c as azcore wants it.
func (c Cloud) Azure() azcloud.Configuration {
	return azcloud.Configuration{ActiveDirectoryAuthorityHost: c.Authority}
}
