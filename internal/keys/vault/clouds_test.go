package vault

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/cloud/cloudtest"
	"jmlbridge/internal/outbound"
)

// In every cloud the unmodified client goes to the store's own host, logs in at that cloud's authority for that kind of store, and
// shows the token there and nowhere else.
func TestClouds(t *testing.T) {
	government := map[string]string{ // address to resource
		"jml.vault.usgovcloudapi.net": "https://vault.usgovcloudapi.net", "jml.managedhsm.usgovcloudapi.net": "https://managedhsm.usgovcloudapi.net"}
	for name, c := range map[string]struct {
		cloud  cloud.Config
		login  string
		stores map[string]string
	}{
		"public": {cloud.Config{Name: "AzurePublic"}, "login.microsoftonline.com", map[string]string{
			"jml.vault.azure.net": "https://vault.azure.net", "jml.managedhsm.azure.net": "https://managedhsm.azure.net"}},
		"government": {cloud.Config{Name: "AzureGovernment"}, "login.microsoftonline.us", government},
		"DoD":        {cloud.Config{Name: "AzureGovernmentDoD"}, "login.microsoftonline.us", government},
		"custom": {cloud.Config{Name: "custom", Authority: "https://login.example", KeyStore: "keys.example", KeyStoreResource: "api://keys"},
			"login.example", map[string]string{"jml.keys.example": "api://keys"}},
	} {
		for host, resource := range c.stores {
			t.Run(name+" "+host, func(t *testing.T) {
				o := cloudtest.New(t)
				o.Service = func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") == "" {
						w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization=\"https://%s/%s\", resource=%q", c.login, cloudtest.Tenant, resource))
						w.WriteHeader(http.StatusUnauthorized)
						return
					}
					w.WriteHeader(http.StatusNotFound)
				}
				s, err := Open(t.Context(), Config{
					Cloud: c.cloud, Transport: outbound.Config{CAFile: o.CA, Proxy: o.URL()},
					Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret, Tenant: cloudtest.Tenant, Client: app, SecretFile: o.Secret},
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Look(t.Context(), Ref{Vault: "https://" + host, Key: "signing", Version: "0123456789abcdef0123456789abcdef"}); err == nil {
					t.Error("a key in an empty store")
				}
				scope := resource + "/.default"
				if got, want := o.Said(), []string{host + " with " + cloudtest.Token(scope), "login " + c.login + " for " + scope}; !slices.Equal(got, want) {
					t.Errorf("it asked %q, expected %q", got, want)
				}
				asked, want := o.Asked(), []string{host + ":443", c.login + ":443"}
				slices.Sort(asked)
				slices.Sort(want)
				if got := slices.Compact(asked); !slices.Equal(got, want) {
					t.Errorf("the proxy was asked for %q, expected %q", got, want)
				}
			})
		}
	}
}
