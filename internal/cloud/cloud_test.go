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
		{custom(good, ""), "graph_root is missing"},
		{custom("http://x.example", good), "expected an https address"},
		{custom(good, "graph.example/v1.0"), "expected an https address"},
		{custom(good, "https:///v1.0"), "names no host"},
		{custom(good, "https://x.example"), "has no version"},
		{custom(good, "https://x.example/"), "has no version"},
		{custom("https://u:p@x.example", good), "more than a scheme"},
		{custom(good+"?x=1", good), "more than a scheme"},
		{custom("https://x.example:port", good), "not a URL"},
		{Config{Name: Custom, Authority: good, GraphRoot: good, Scope: "User.Read.All"}, "ends in /.default"},
	} {
		_, err := tt.cfg.Cloud()
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v; expected it to say %q", tt.cfg, err, tt.says)
		}
	}
}
