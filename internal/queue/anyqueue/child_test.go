package anyqueue

import (
	"slices"
	"strings"
	"testing"

	"jmlbridge/e2e/servicebus/broker"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/confine"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/outbound"
	"jmlbridge/internal/queue/busqueue"
	"jmlbridge/internal/queue/natsqueue"
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
	always := []string{"GODEBUG", "GOGC", "GOMEMLIMIT", "GOTRACEBACK", "SSL_CERT_DIR", "SSL_CERT_FILE"}
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

// The child dials where its block says, and at the proxy in its way, and nowhere else: not at the endpoint of identities, where it does not
// need that.
func TestPorts(t *testing.T) {
	sas := func(edit func(*busqueue.Config)) Config {
		b := busqueue.Config{ConnectionFile: "sas", Namespace: "bus.example"}
		edit(&b)
		return Config{ServiceBus: &b}
	}
	identity := func(kind, proxy string) Config {
		return sas(func(b *busqueue.Config) {
			b.ConnectionFile, b.Credential, b.Cloud, b.Proxy = "", cloud.CredentialConfig{Kind: kind}, cloud.Config{Name: cloud.AzureGovernment}, proxy
		})
	}
	for name, c := range map[string]struct {
		queue Config
		env   []string
		want  []int
	}{
		"AMQP":                       {sas(func(*busqueue.Config) {}), nil, []int{5671}},
		"WebSocket":                  {sas(func(b *busqueue.Config) { b.Transport = busqueue.WebSocket }), nil, []int{443}},
		"another port":               {sas(func(b *busqueue.Config) { b.Namespace += ":28094" }), nil, []int{28094}},
		"no port":                    {sas(func(b *busqueue.Config) { b.Namespace += ":70000" }), nil, nil},
		"the emulator":               {sas(func(b *busqueue.Config) { b.Development = true }), nil, []int{5671, 5672}},
		"a proxy":                    {sas(func(b *busqueue.Config) { b.Proxy = "http://proxy.example:3128" }), nil, []int{3128, 5671}},
		"a proxy without a port":     {sas(func(b *busqueue.Config) { b.Proxy = "https://proxy.example" }), nil, []int{443, 5671}},
		"a proxy at the port of all": {sas(func(b *busqueue.Config) { b.Proxy = "http://proxy.example" }), nil, []int{80, 5671}},
		"no proxy, whatever is there": {sas(func(b *busqueue.Config) { b.Proxy = outbound.None }),
			[]string{"HTTPS_PROXY=http://proxy.example:3128"}, []int{5671}},
		"the environment's proxy": {sas(func(*busqueue.Config) {}),
			[]string{"https_proxy=proxy.example:3128", "NO_PROXY=inside.example:99", "HTTP_PROXY=http://other.example:98"}, []int{3128, 5671}},
		"past the environment's": {sas(func(*busqueue.Config) {}), []string{"HTTPS_PROXY=http://proxy.example:3128", "NO_PROXY=bus.example"}, []int{5671}},
		"a certificate":          {identity(cloud.ClientCertificate, "none"), []string{"IDENTITY_ENDPOINT=http://127.0.0.1:42/"}, []int{443, 5671}},
		"the machine's identity": {identity(cloud.ManagedIdentity, "none"), nil, []int{80, 5671}},
		"that of another host": {identity(cloud.ManagedIdentity, "none"),
			[]string{"IDENTITY_ENDPOINT=http://127.0.0.1:40342/metadata", "IMDS_ENDPOINT=http://127.0.0.1:41"}, []int{41, 80, 5671, 40342}},
		"NATS": {Config{NATS: &natsqueue.Config{URL: []string{"tls://a.example:4223", "tls://b.example", "tls://c.example:4223"}}}, nil, []int{4222, 4223}},
	} {
		got := c.queue.ports(c.env)
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, expected %v", name, got, c.want)
		}
	}
}

// Managed identities of this machine are out of the child's reach where the kernel keeps it to its ports, unless the endpoint's is one of them.
func TestExposed(t *testing.T) {
	b := busqueue.Config{ConnectionFile: "sas", Namespace: "bus.example", Proxy: outbound.None}
	own := b
	own.ConnectionFile, own.Credential, own.Cloud = "", cloud.CredentialConfig{Kind: cloud.ManagedIdentity}, cloud.Config{Name: cloud.AzureGovernment}
	for name, c := range map[string]struct {
		queue Config
		want  bool
	}{
		"Service Bus":                  {Config{ServiceBus: &b}, !confine.Able().Ports},
		"Service Bus by an identity":   {Config{ServiceBus: &own}, true},
		"NATS, which needs no process": {Config{NATS: &natsqueue.Config{URL: []string{"tls://a.example:80"}}}, false},
	} {
		if got := c.queue.Exposed(); got != c.want {
			t.Errorf("%s: %v, expected %v", name, got, c.want)
		}
		want := doctor.Warning
		if confine.Able().Files {
			want = doctor.Well
		}
		if got := c.queue.Confined(); c.queue.NATS != nil && got != nil || c.queue.NATS == nil && (len(got) != 1 || got[0].Verdict != want) {
			t.Errorf("%s: it is confined: %+v", name, got)
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
