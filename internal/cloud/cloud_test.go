package cloud

import (
	"reflect"
	"strings"
	"testing"
)

// TestClouds: the four settings that must agree, for each cloud.
func TestClouds(t *testing.T) {
	for _, tt := range []struct {
		cfg                     Config
		authority, graph, scope string
		hosts                   []string
	}{
		{Config{Name: "AzurePublic"}, "https://login.microsoftonline.com/", "https://graph.microsoft.com/v1.0",
			"https://graph.microsoft.com/.default", []string{"graph.microsoft.com"}},
		{Config{Name: "AzureGovernment"}, "https://login.microsoftonline.us/", "https://graph.microsoft.us/v1.0",
			"https://graph.microsoft.us/.default", []string{"graph.microsoft.us"}},
		{Config{Name: "AzureGovernmentDoD"}, "https://login.microsoftonline.us/", "https://dod-graph.microsoft.us/v1.0",
			"https://dod-graph.microsoft.us/.default", []string{"dod-graph.microsoft.us"}},
		{Config{Name: "custom", Authority: "https://127.0.0.1:8443", GraphRoot: "https://127.0.0.1:8444/v1.0/"}, "https://127.0.0.1:8443/",
			"https://127.0.0.1:8444/v1.0", "https://127.0.0.1:8444/.default", []string{"127.0.0.1"}},
		{Config{Name: "custom", Authority: "https://login.example/adfs/", GraphRoot: "https://graph.example/v1.0", Scope: "api://graph/.default"},
			"https://login.example/adfs/", "https://graph.example/v1.0", "api://graph/.default", []string{"graph.example"}},
	} {
		c, err := tt.cfg.Cloud()
		if err != nil {
			t.Errorf("%+v: %v", tt.cfg, err)
			continue
		}
		if c.Name != tt.cfg.Name || c.Authority != tt.authority || c.GraphRoot != tt.graph || c.Scope != tt.scope ||
			!reflect.DeepEqual(c.ValidHosts(), tt.hosts) || c.Azure().ActiveDirectoryAuthorityHost != tt.authority {
			t.Errorf("%+v became %+v", tt.cfg, c)
		}
	}
}

func TestBadClouds(t *testing.T) {
	custom := func(authority, graph string) Config {
		return Config{Name: Custom, Authority: authority, GraphRoot: graph}
	}
	const good = "https://x.example/v1.0"
	for _, tt := range []struct {
		cfg  Config
		says string
	}{
		{Config{}, `name is ""; expected AzureGovernment`},
		{Config{Name: "azuregovernment"}, `name is "azuregovernment"`},
		{Config{Name: AzureGovernment, Authority: good}, "authority is set, but AzureGovernment has its own"},
		{Config{Name: AzureGovernment, GraphRoot: good}, "graph_root is set"},
		{Config{Name: AzurePublic, Scope: "x/.default"}, "scope is set"},
		{custom("", good), "authority is missing"},
		{custom("http://x.example", good), "expected an https address"},
		{custom(good, "graph.example/v1.0"), "expected an https address"},
		{custom(good, "https:///v1.0"), "names no host"},
		{custom(good, "https://x.example"), "has no version"},
		{custom(good, "https://x.example/"), "has no version"},
		{custom("https://u:p@x.example", good), "more than a scheme"},
		{custom(good+"?x=1", good), "more than a scheme"},
		{custom("https://x.example:port", good), "not a URL"},
		{Config{Name: Custom, Authority: good, GraphRoot: good, Scope: "User.Read.All"}, "ends in /.default"},
		{Config{Name: Custom, Authority: good, Scope: "x/.default"}, "scope is set without graph_root"},
		{Config{Name: AzureGovernment, ServiceBus: "bus.example"}, "service_bus is set"},
		{Config{Name: AzureGovernment, KeyStore: "vault.example"}, "key_store is set"},
		{Config{Name: AzureGovernment, KeyStoreResource: "https://vault.example"}, "key_store_resource is set"},
		{Config{Name: Custom, Authority: good, KeyStoreResource: "https://vault.example"}, "without key_store"},
		{Config{Name: Custom, Authority: good, ServiceBus: "https://bus.example"}, "expected a host"},
		{Config{Name: Custom, Authority: good, ServiceBus: "bus.example/q"}, "expected a host"},
		{Config{Name: Custom, Authority: good, KeyStore: ".vault.example"}, "expected a host"},
		{Config{Name: Custom, Authority: good, KeyStore: "u@vault.example"}, "expected a host"},
	} {
		_, err := tt.cfg.Cloud()
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v; expected it to say %q", tt.cfg, err, tt.says)
		}
	}
}

// TestServicesOfEachCloud: a namespace or key store is taken in its own cloud only, and tokens for it are made
// for that cloud's resource.
func TestServicesOfEachCloud(t *testing.T) {
	custom := Config{Name: Custom, Authority: "https://login.example", ServiceBus: "bus.example", KeyStore: "127.0.0.1:8200"}
	other := Config{Name: Custom, Authority: "https://login.example", KeyStore: "Vault.Example", KeyStoreResource: "api://vault/"}
	for _, tt := range []struct {
		cfg                  Config
		namespace, elsewhere string
		stores               map[string]string // address to resource
		refused              []string
	}{
		{Config{Name: AzurePublic}, "ns.servicebus.windows.net", "ns.servicebus.usgovcloudapi.net",
			map[string]string{"https://a.vault.azure.net/": "https://vault.azure.net", "https://b.ManagedHSM.azure.net": "https://managedhsm.azure.net"},
			[]string{"https://a.vault.usgovcloudapi.net", "https://vault.azure.net", "https://a.vault.azure.net.example", "https://avault.azure.net",
				"https://a.vault.azure.net:8443", "https://a.vault.azure.net/keys", "http://a.vault.azure.net", "a.vault.azure.net", ""}},
		{Config{Name: AzureGovernment}, "ns.servicebus.usgovcloudapi.net", "ns.servicebus.windows.net",
			map[string]string{"https://a.vault.usgovcloudapi.net": "https://vault.usgovcloudapi.net", "https://b.managedhsm.usgovcloudapi.net": "https://managedhsm.usgovcloudapi.net"},
			[]string{"https://a.vault.azure.net", "https://b.managedhsm.azure.net"}},
		{Config{Name: AzureGovernmentDoD}, "ns.servicebus.usgovcloudapi.net", "servicebus.usgovcloudapi.net",
			map[string]string{"https://a.vault.usgovcloudapi.net": "https://vault.usgovcloudapi.net"}, []string{"https://a.vault.azure.net"}},
		{custom, "bus.example", "bus.example.org", map[string]string{"https://127.0.0.1:8200": "https://127.0.0.1:8200"},
			[]string{"https://127.0.0.1:8201", "https://a.vault.azure.net"}},
		{other, "", "ns.servicebus.windows.net", map[string]string{"https://a.vault.example": "api://vault", "https://vault.example": "api://vault"}, nil},
	} {
		c, err := tt.cfg.Cloud()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Namespace(tt.namespace); tt.namespace != "" && err != nil {
			t.Error(err)
		}
		if err := c.Namespace(tt.elsewhere); err == nil || !strings.Contains(err.Error(), tt.cfg.Name) {
			t.Errorf("%s took namespace %s: %v", tt.cfg.Name, tt.elsewhere, err)
		}
		for address, want := range tt.stores {
			root, resource, err := c.KeyStore(address)
			if err != nil || resource != want || root != strings.TrimSuffix(strings.ToLower(address), "/") {
				t.Errorf("%s: %s became %q, %q, %v", tt.cfg.Name, address, root, resource, err)
			}
		}
		for _, address := range tt.refused {
			if root, _, err := c.KeyStore(address); err == nil {
				t.Errorf("%s took key store %s as %s", tt.cfg.Name, address, root)
			}
		}
	}
}
