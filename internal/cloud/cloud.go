// Package cloud names the clouds that a tenant, a mid-point and a key store can stand in, and makes what
// proves who we are there: a credential.
//
// Authority, addresses, scopes and the hosts that may see a token must agree, or tokens come from the
// wrong cloud or go out to the wrong host. So all of them come from one [Cloud], the authority is always
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

// ServiceBusScope is what the client library of Service Bus asks a token for, in every cloud. The two slashes
// are its own.
const ServiceBusScope = "https://servicebus.azure.net//.default"

// Cloud is a set of services that belong together. Make one with [Config.Cloud]; the zero value is of no use. A
// custom one has only what its configuration names: the rest is empty.
type Cloud struct {
	Name      string
	Authority string // e.g. https://login.microsoftonline.us/

	GraphRoot string // with the version and no slash at the end: https://graph.microsoft.us/v1.0
	Scope     string // of Graph, e.g. https://graph.microsoft.us/.default

	ServiceBus string      // what the host of every namespace ends in, e.g. servicebus.usgovcloudapi.net
	KeyStores  []KeyStores // Key Vault, Managed HSM
}

// KeyStores is one kind of them.
type KeyStores struct {
	Suffix   string // what the host of every one ends in, e.g. vault.usgovcloudapi.net
	Resource string // for which its tokens are made, e.g. https://vault.usgovcloudapi.net
}

func keyStores(suffixes ...string) (list []KeyStores) {
	for _, s := range suffixes {
		list = append(list, KeyStores{s, "https://" + s})
	}
	return list
}

const (
	publicLogin = "https://login.microsoftonline.com/"
	govLogin    = "https://login.microsoftonline.us/"
	govBus      = "servicebus.usgovcloudapi.net" // no other one is documented for DoD
)

var known = map[string]Cloud{
	AzurePublic: {
		Name: AzurePublic, Authority: publicLogin,
		GraphRoot: "https://graph.microsoft.com/v1.0", Scope: "https://graph.microsoft.com/.default",
		ServiceBus: "servicebus.windows.net", KeyStores: keyStores("vault.azure.net", "managedhsm.azure.net"),
	},
	AzureGovernment: {
		Name: AzureGovernment, Authority: govLogin,
		GraphRoot: "https://graph.microsoft.us/v1.0", Scope: "https://graph.microsoft.us/.default",
		ServiceBus: govBus, KeyStores: keyStores("vault.usgovcloudapi.net", "managedhsm.usgovcloudapi.net"),
	},
	AzureGovernmentDoD: {
		Name: AzureGovernmentDoD, Authority: govLogin,
		GraphRoot: "https://dod-graph.microsoft.us/v1.0", Scope: "https://dod-graph.microsoft.us/.default",
		ServiceBus: govBus, KeyStores: keyStores("vault.usgovcloudapi.net", "managedhsm.usgovcloudapi.net"),
	},
}

// Config is the part of a configuration that chooses the cloud.
type Config struct {
	// Name is AzureGovernment, AzureGovernmentDoD, AzurePublic or custom. There is no default: the
	// libraries' own would be the public cloud.
	Name string `yaml:"name"`
	// Authority is the base URL of the token endpoint without the tenant. Only with custom, which needs it.
	Authority string `yaml:"authority"`
	// GraphRoot is the base URL of Graph with its version, e.g. https://graph.example/v1.0. Only with custom.
	GraphRoot string `yaml:"graph_root"`
	// Scope is asked of the authority for Graph. Only with custom; default: the Graph host with /.default.
	Scope string `yaml:"scope"`
	// ServiceBus is the host of a namespace, or what the hosts of all of them end in. Only with custom.
	ServiceBus string `yaml:"service_bus"`
	// KeyStore is the host of a key store, with its port unless 443, or what the hosts of all of them end in.
	// Only with custom.
	KeyStore string `yaml:"key_store"`
	// KeyStoreResource is what the tokens for key stores are made for. Only with custom; default: https://
	// and key_store.
	KeyStoreResource string `yaml:"key_store_resource"`
}

// Cloud checks c and makes it a cloud. Its errors name the key that is wrong.
func (c Config) Cloud() (Cloud, error) {
	if k, ok := known[c.Name]; ok {
		for _, k := range [][2]string{
			{"authority", c.Authority}, {"graph_root", c.GraphRoot}, {"scope", c.Scope}, {"service_bus", c.ServiceBus},
			{"key_store", c.KeyStore}, {"key_store_resource", c.KeyStoreResource},
		} {
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
	made := Cloud{Name: Custom, Authority: strings.TrimRight(authority.String(), "/") + "/"}
	if made.GraphRoot, made.Scope, err = c.graph(); err != nil {
		return Cloud{}, err
	}
	if made.ServiceBus, err = hostPart("service_bus", c.ServiceBus); err != nil {
		return Cloud{}, err
	}
	suffix, err := hostPart("key_store", c.KeyStore)
	if err != nil {
		return Cloud{}, err
	}
	if suffix == "" && c.KeyStoreResource != "" {
		return Cloud{}, fmt.Errorf("cloud: key_store_resource is set without key_store")
	}
	if suffix != "" {
		made.KeyStores = keyStores(suffix)
		if c.KeyStoreResource != "" {
			made.KeyStores[0].Resource = strings.TrimRight(c.KeyStoreResource, "/")
		}
	}
	return made, nil
}

// graph is the custom cloud's Graph, if it has one.
func (c Config) graph() (root, scope string, err error) {
	if c.GraphRoot == "" {
		if c.Scope != "" {
			return "", "", fmt.Errorf("cloud: scope is set without graph_root")
		}
		return "", "", nil
	}
	graph, err := base("graph_root", c.GraphRoot)
	if err != nil {
		return "", "", err
	}
	if strings.Trim(graph.Path, "/") == "" {
		return "", "", fmt.Errorf("cloud: graph_root %s has no version; expected one such as %s/v1.0", c.GraphRoot, strings.TrimRight(c.GraphRoot, "/"))
	}
	scope = c.Scope
	if scope == "" {
		scope = "https://" + graph.Host + "/.default"
	}
	if !strings.HasSuffix(scope, "/.default") {
		return "", "", fmt.Errorf("cloud: scope is %q; an application can only ask for one that ends in /.default", scope)
	}
	return strings.TrimRight(graph.String(), "/"), scope, nil
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

// hostPart reads a host, or the end of one, with or without a port.
func hostPart(key, raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	u, err := url.Parse("https://" + raw)
	if err != nil || u.Host != raw || u.Hostname() == "" || strings.HasPrefix(raw, ".") {
		return "", fmt.Errorf("cloud: %s is %q; expected a host such as bus.example, without scheme and path", key, raw)
	}
	return strings.ToLower(raw), nil
}

// ValidHosts are the hosts that may be sent a token for Graph, without ports, as the SDK compares them.
func (c Cloud) ValidHosts() []string {
	u, err := url.Parse(c.GraphRoot)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	return []string{u.Hostname()}
}

// Namespace checks that host is of a Service Bus namespace in this cloud.
func (c Cloud) Namespace(host string) error {
	if c.ServiceBus == "" || !c.ends(host, c.ServiceBus) {
		return fmt.Errorf("namespace: %q is not in %s; expected one that ends in %s", host, c.Name, orNone(c.ServiceBus))
	}
	return nil
}

// KeyStore reads the address of a Key Vault or a Managed HSM of this cloud, such as https://name.vault.azure.net,
// and returns it without a slash at its end and the resource for which its tokens are made.
func (c Cloud) KeyStore(address string) (root, resource string, err error) {
	u, err := base("address of the key store", address)
	if err != nil {
		return "", "", err
	}
	if strings.Trim(u.Path, "/") != "" {
		return "", "", fmt.Errorf("key store %s: expected an address without a path", address)
	}
	var suffixes []string
	for _, k := range c.KeyStores {
		if c.ends(u.Host, k.Suffix) {
			return "https://" + strings.ToLower(u.Host), k.Resource, nil
		}
		suffixes = append(suffixes, k.Suffix)
	}
	return "", "", fmt.Errorf("key store %s is not in cloud %s; expected a host that ends in %s", address, c.Name, orNone(strings.Join(suffixes, " or ")))
}

// ends reports whether host is one label or more in front of suffix. Only a custom cloud has a host that is the
// suffix itself.
func (c Cloud) ends(host, suffix string) bool {
	host = strings.ToLower(host)
	label, ok := strings.CutSuffix(host, "."+suffix)
	return ok && label != "" || c.Name == Custom && host == suffix
}

func orNone(s string) string {
	if s == "" {
		return "nothing, for none is configured"
	}
	return s
}

// Azure is c as azcore wants it.
func (c Cloud) Azure() azcloud.Configuration {
	return azcloud.Configuration{ActiveDirectoryAuthorityHost: c.Authority}
}
