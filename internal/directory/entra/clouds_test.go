package entra

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/cloud/cloudtest"
	"jmlbridge/internal/directory"
	"jmlbridge/internal/outbound"
)

// In every cloud the unmodified client logs in at that cloud's authority for its Graph, goes to that Graph's host and version, and
// shows the token there and nowhere else.
func TestClouds(t *testing.T) {
	for name, c := range map[string]struct {
		cloud                     cloud.Config
		login, graph, scope, path string
	}{
		"public":     {cloud.Config{Name: "AzurePublic"}, "login.microsoftonline.com", "graph.microsoft.com", "https://graph.microsoft.com/.default", "/v1.0/"},
		"government": {cloud.Config{Name: "AzureGovernment"}, "login.microsoftonline.us", "graph.microsoft.us", "https://graph.microsoft.us/.default", "/v1.0/"},
		"DoD":        {cloud.Config{Name: "AzureGovernmentDoD"}, "login.microsoftonline.us", "dod-graph.microsoft.us", "https://dod-graph.microsoft.us/.default", "/v1.0/"},
		"custom": {cloud.Config{Name: "custom", Authority: "https://login.example", GraphRoot: "https://graph.example/v9", Scope: "api://graph/.default"},
			"login.example", "graph.example", "api://graph/.default", "/v9/"},
	} {
		t.Run(name, func(t *testing.T) {
			o := cloudtest.New(t)
			o.Service = func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, c.path) {
					t.Errorf("it asked for %s, expected it below %s", r.URL.Path, c.path)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusNotFound)
				_, _ = w.Write([]byte(`{"error":{"code":"Request_ResourceNotFound","message":"no such user"}}`))
			}
			way, err := outbound.New(outbound.Config{CAFile: o.CA, Proxy: o.URL()})
			if err != nil {
				t.Fatal(err)
			}
			transport := way.Transport()
			t.Cleanup(transport.CloseIdleConnections)
			where, err := c.cloud.Cloud()
			if err != nil {
				t.Fatal(err)
			}
			tenant := open(t, Config{Cloud: where, Transport: transport,
				Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret, Tenant: cloudtest.Tenant, Client: clientID, SecretFile: o.Secret}})
			if _, _, err := tenant.Get(t.Context(), userID); !errors.Is(err, directory.ErrNotFound) {
				t.Errorf("get: %v; expected that there is no such user", err)
			}
			if got, want := o.Said(), []string{c.graph + " with " + cloudtest.Token(c.scope), "login " + c.login + " for " + c.scope}; !slices.Equal(got, want) {
				t.Errorf("it asked %q, expected %q", got, want)
			}
			asked, want := o.Asked(), []string{c.graph + ":443", c.login + ":443"}
			slices.Sort(asked)
			slices.Sort(want)
			if got := slices.Compact(asked); !slices.Equal(got, want) {
				t.Errorf("the proxy was asked for %q, expected %q", got, want)
			}
		})
	}
}
