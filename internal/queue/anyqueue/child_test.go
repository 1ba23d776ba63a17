package anyqueue

import (
	"slices"
	"strings"
	"testing"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/queue/busqueue"
)

// surroundings are variables that a program can be started with.
var surroundings = map[string]string{
	"IDENTITY_ENDPOINT": "http://127.0.0.1:1/msi/token", "IDENTITY_HEADER": "hidden", "IDENTITY_SERVER_THUMBPRINT": "aa", "IMDS_ENDPOINT": "http://127.0.0.1:1",
	"MSI_ENDPOINT": "http://127.0.0.1:1/", "MSI_SECRET": "hidden",
	"AZURE_CLIENT_ID": "client", "AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_SECRET": "hidden", "AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/token",
	"HTTPS_PROXY": "http://user:hidden@proxy.invalid:3128", "https_proxy": "http://user:hidden@proxy.invalid:3128", "NO_PROXY": ".inside.example", "no_proxy": ".inside.example",
	"SSL_CERT_FILE": "/etc/ssl/cert.pem", "SSL_CERT_DIR": "/etc/ssl/certs", "GODEBUG": "madvdontneed=1", "JMLBRIDGE_ANYTHING": "hidden",
}

// Of the environment a child is left what its own block takes from there.
func TestChildEnv(t *testing.T) {
	always := []string{"GODEBUG", "GOMEMLIMIT", "GOTRACEBACK", "SSL_CERT_DIR", "SSL_CERT_FILE"}
	proxy := []string{"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"}
	for name, c := range map[string]struct {
		queue busqueue.Config
		more  []string
	}{
		"connection file":         {busqueue.Config{ConnectionFile: "sas", Proxy: "none"}, nil},
		"the proxy of the block":  {busqueue.Config{ConnectionFile: "sas", Proxy: "http://proxy.invalid:1"}, nil},
		"the environment's proxy": {busqueue.Config{ConnectionFile: "sas", Namespace: "bus.example"}, proxy},
		"past the environment's":  {busqueue.Config{ConnectionFile: "sas", Namespace: "bus.inside.example:5671"}, nil},
		"past it, and the login by it": {busqueue.Config{Credential: cloud.CredentialConfig{Kind: cloud.ClientCertificate}, Cloud: cloud.Config{Name: cloud.AzureGovernment},
			Namespace: "bus.inside.example"}, proxy},
		"past it, and no login": {busqueue.Config{Credential: cloud.CredentialConfig{Kind: cloud.ManagedIdentity}, Cloud: cloud.Config{Name: cloud.AzureGovernment},
			Namespace: "bus.inside.example"}, []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT"}},
		"client certificate":          {busqueue.Config{Credential: cloud.CredentialConfig{Kind: cloud.ClientCertificate}, Proxy: "none"}, nil},
		"client secret":               {busqueue.Config{Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret}, Proxy: "none"}, nil},
		"managed identity":            {busqueue.Config{Credential: cloud.CredentialConfig{Kind: cloud.ManagedIdentity}, Proxy: "none"}, []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT"}},
		"workload identity":           {busqueue.Config{Credential: cloud.CredentialConfig{Kind: cloud.WorkloadIdentity}, Proxy: "none"}, []string{"AZURE_FEDERATED_TOKEN_FILE"}},
		"workload identity by a file": {busqueue.Config{Credential: cloud.CredentialConfig{Kind: cloud.WorkloadIdentity, TokenFile: "token"}, Proxy: "none"}, nil},
	} {
		var env, got []string
		for name, value := range surroundings {
			env = append(env, name+"="+value)
		}
		for _, line := range (Config{ServiceBus: &c.queue}).childEnv(env) {
			name, _, _ := strings.Cut(line, "=")
			got = append(got, name)
		}
		want := slices.Concat(always, c.more)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: it gets %q, expected %q", name, got, want)
		}
	}
}

// The child finds the files whose names are relative to our folder, also those of the way out: it stands in another one.
func TestRelativeNames(t *testing.T) {
	s := newBus(t, broker.Queue{})
	s.write(t, "proxy", "user:password", 0o600)
	t.Chdir(s.dir)
	c := s.config("listener")
	c.ServiceBus.CA, c.ServiceBus.ConnectionFile, c.ServiceBus.Proxy = "ca.pem", "listener", ""
	c = c.In(".").Via(outbound.Config{Proxy: "http://127.0.0.1:1", ProxyCredentials: "proxy"})
	r, err := OpenReceiver(c, nil, options(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
