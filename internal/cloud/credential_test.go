package cloud

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"jmlbridge/internal/outbound"
)

const (
	tenant = "11111111-2222-3333-4444-555555555555"
	client = "99999999-8888-7777-6666-555555555555"
)

// authority is a token endpoint at any address: it answers in place of the network.
type authority struct {
	mu    sync.Mutex
	asked []string // method, scheme, host and path
	forms []url.Values
}

func (a *authority) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r.Method+" "+r.URL.Scheme+"://"+r.URL.Host+r.URL.Path)
	body := `{"token_type":"Bearer","expires_in":3599,"access_token":"t"}`
	base := r.URL.Scheme + "://" + r.URL.Host + "/" + tenant
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		body = fmt.Sprintf(`{"token_endpoint":"%[1]s/oauth2/v2.0/token","authorization_endpoint":"%[1]s/a","issuer":"%[1]s/v2.0"}`, base)
	} else if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		form, err := url.ParseQuery(string(b))
		if err != nil {
			return nil, err
		}
		a.forms = append(a.forms, form)
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func file(t *testing.T, mode os.FileMode, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate is a self-signed certificate and its key in PEM.
func certificate(t *testing.T, key crypto.Signer) (cert, private []byte) {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bridge"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestEveryCloudsToken: whatever the cloud and the kind, the token is asked of the cloud's own authority
// for the cloud's own scope, and nobody else is asked anything.
func TestEveryCloudsToken(t *testing.T) {
	key := rsaKey(t, 2048)
	cert, private := certificate(t, key)
	certFile := file(t, 0o600, append(bytes.Clone(cert), private...))
	secretFile := file(t, 0o400, []byte("s3cret\n"))
	tokenFile := file(t, 0o644, []byte("projected.service.account"))
	t.Setenv("AZURE_AUTHORITY_HOST", "https://login.elsewhere.example/")
	for _, cfg := range []Config{
		{Name: AzurePublic}, {Name: AzureGovernment}, {Name: AzureGovernmentDoD},
		{Name: Custom, Authority: "https://login.internal:8443", GraphRoot: "https://graph.internal/v1.0", ServiceBus: "bus.internal", KeyStore: "vault.internal"},
	} {
		c, err := cfg.Cloud()
		if err != nil {
			t.Fatal(err)
		}
		for _, cred := range []CredentialConfig{
			{Kind: ClientCertificate, Tenant: tenant, Client: client, CertificateFile: certFile},
			{Kind: ClientSecret, Tenant: tenant, Client: client, SecretFile: secretFile},
			{Kind: WorkloadIdentity, Tenant: tenant, Client: client, TokenFile: tokenFile},
		} {
			t.Run(cfg.Name+" "+cred.Kind, func(t *testing.T) {
				t.Setenv("AZURE_REGIONAL_AUTHORITY_NAME", "elsewhere.example/")
				a := &authority{}
				credential, err := c.NewCredential(cred, a)
				if err != nil {
					t.Fatal(err)
				}
				if len(a.asked) != 0 {
					t.Error("making a credential sent something")
				}
				for _, scope := range scopes(c) {
					token, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
					if err != nil || token.Token != "t" {
						t.Fatalf("%v, %v", token, err)
					}
				}
				for _, asked := range a.asked {
					if !strings.Contains(asked, " "+c.Authority+tenant+"/") {
						t.Errorf("asked %s, expected only %s", asked, c.Authority)
					}
				}
				if len(a.forms) != len(scopes(c)) {
					t.Fatalf("asked with %v", a.forms)
				}
				for i, scope := range scopes(c) {
					if form := a.forms[i]; !slices.Contains(strings.Fields(form.Get("scope")), scope) || form.Get("client_id") != client {
						t.Errorf("asked with %v, expected scope %s", form, scope)
					}
				}
				switch form := a.forms[0]; cred.Kind {
				case ClientSecret:
					if form.Get("client_secret") != "s3cret" {
						t.Errorf("secret %q", form.Get("client_secret"))
					}
				case WorkloadIdentity:
					if form.Get("client_assertion") != "projected.service.account" {
						t.Errorf("assertion %q", form.Get("client_assertion"))
					}
				case ClientCertificate:
					checkAssertion(t, form.Get("client_assertion"), key, cert)
				}
				// AdditionallyAllowedTenants is empty: no other tenant's token.
				if _, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{c.Scope}, TenantID: "22222222-2222-3333-4444-555555555555"}); err == nil {
					t.Error("asked for another tenant's token")
				}
			})
		}
	}
}

// scopes are of everything that we ask tokens for in a cloud.
func scopes(c Cloud) []string {
	list := []string{c.Scope, ServiceBusScope}
	for _, k := range c.KeyStores {
		list = append(list, k.Resource+"/.default")
	}
	return list
}

// TestScopes spells out what each cloud's tokens are for: nothing here is made from something else.
func TestScopes(t *testing.T) {
	for name, want := range map[string][]string{
		AzurePublic: {"https://graph.microsoft.com/.default", "https://servicebus.azure.net//.default",
			"https://vault.azure.net/.default", "https://managedhsm.azure.net/.default"},
		AzureGovernment: {"https://graph.microsoft.us/.default", "https://servicebus.azure.net//.default",
			"https://vault.usgovcloudapi.net/.default", "https://managedhsm.usgovcloudapi.net/.default"},
		AzureGovernmentDoD: {"https://dod-graph.microsoft.us/.default", "https://servicebus.azure.net//.default",
			"https://vault.usgovcloudapi.net/.default", "https://managedhsm.usgovcloudapi.net/.default"},
	} {
		c, err := Config{Name: name}.Cloud()
		if got := scopes(c); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestDiscoveryWouldBeSeen: the transport by which the other tests see that nobody else is asked does see it
// where instance discovery is on, which is the library's default.
func TestDiscoveryWouldBeSeen(t *testing.T) {
	a := &authority{}
	c, err := Config{Name: Custom, Authority: "https://login.internal:8443"}.Cloud()
	if err != nil {
		t.Fatal(err)
	}
	credential, err := azidentity.NewClientSecretCredential(tenant, client, "s3cret", &azidentity.ClientSecretCredentialOptions{
		ClientOptions: azcore.ClientOptions{Cloud: c.Azure(), Transport: &http.Client{Transport: a}}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{ServiceBusScope}})
	if !slices.ContainsFunc(a.asked, func(s string) bool {
		return strings.Contains(s, "/common/discovery/instance") && !strings.Contains(s, c.Authority)
	}) {
		t.Errorf("discovery at a public host was not seen: %q", a.asked)
	}
}

// checkAssertion: PS256 under the certificate's SHA-256 thumbprint, nothing of SHA-1.
func checkAssertion(t *testing.T, assertion string, key *rsa.PrivateKey, certPEM []byte) {
	t.Helper()
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		t.Fatalf("assertion %q", assertion)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	var header map[string]any
	if err := json.Unmarshal(raw, &header); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	sum := sha256.Sum256(block.Bytes)
	thumbprint, _ := header["x5t#S256"].(string)
	if strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(thumbprint), "=") != base64.RawURLEncoding.EncodeToString(sum[:]) ||
		header["alg"] != "PS256" || header["x5t"] != nil {
		t.Errorf("header %s", raw)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest[:], signature, nil); err != nil {
		t.Error(err)
	}
}

// TestManagedIdentity: it asks the host, with its own id, and never through the proxy.
func TestManagedIdentity(t *testing.T) {
	for _, id := range []string{"", client} {
		a := &authority{}
		c, _ := Config{Name: AzureGovernment}.Cloud()
		credential, err := c.NewCredential(CredentialConfig{Kind: ManagedIdentity, Client: id}, a)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), TokenTimeout)
		defer cancel()
		if _, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{c.Scope}}); err != nil {
			t.Fatal(err)
		}
		for _, asked := range a.asked {
			if !strings.HasPrefix(asked, "GET http://169.254.169.254/") {
				t.Errorf("asked %s", asked)
			}
		}
	}
	way, err := outbound.New(outbound.Config{Proxy: "http://proxy.internal:3128"})
	if err != nil {
		t.Fatal(err)
	}
	if direct(way.Transport()).(*http.Transport).Proxy != nil {
		t.Error("the host's endpoint is reached through the proxy")
	}
}

// TestManagedIdentityOfAppService: where the host says that its endpoint is another one, that is asked, past the
// proxy, with the host's own secret; for every service's resource.
func TestManagedIdentityOfAppService(t *testing.T) {
	for _, proxy := range []string{"http://127.0.0.1:1", "https://127.0.0.1:1"} { // nobody listens there
		t.Run(proxy, func(t *testing.T) { appService(t, proxy) })
	}
}

func appService(t *testing.T, proxy string) {
	client := rand.Text() // of this run: the library keeps tokens of one identity and resource for the whole process
	var mu sync.Mutex
	var resources []string
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path != "/msi/token" || r.Header.Get("X-IDENTITY-HEADER") != "host secret" || r.URL.Query().Get("client_id") != client {
			t.Errorf("asked %s with %v", r.URL, r.Header)
		}
		resources = append(resources, r.URL.Query().Get("resource"))
		fmt.Fprintf(w, `{"access_token":"t","expires_on":"%d","token_type":"Bearer"}`, time.Now().Add(time.Hour).Unix())
	}))
	defer host.Close()
	t.Setenv("IDENTITY_ENDPOINT", host.URL+"/msi/token")
	t.Setenv("IDENTITY_HEADER", "host secret")
	way, err := outbound.New(outbound.Config{Proxy: proxy})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := Config{Name: AzurePublic}.Cloud()
	credential, err := c.NewCredential(CredentialConfig{Kind: ManagedIdentity, Client: client}, way.Transport())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, scope := range scopes(c) {
		token, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
		if err != nil || token.Token != "t" {
			t.Fatalf("%s: %v", scope, err)
		}
		want = append(want, strings.TrimSuffix(scope, "/.default"))
	}
	if !slices.Equal(resources, want) {
		t.Errorf("asked for %q, expected %q", resources, want)
	}
}

func TestBadCredentials(t *testing.T) {
	key := rsaKey(t, 2048)
	cert, private := certificate(t, key)
	_, other := certificate(t, rsaKey(t, 2048))
	var small, smallKey []byte
	fips140.WithoutEnforcement(func() { small, smallKey = certificate(t, rsaKey(t, 1024)) })
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecCert, ecKey := certificate(t, ec)
	both := func(a, b []byte) []byte { return append(bytes.Clone(a), b...) }
	withCert := func(mode os.FileMode, content []byte) CredentialConfig {
		return CredentialConfig{Kind: ClientCertificate, Tenant: tenant, Client: client, CertificateFile: file(t, mode, content)}
	}
	for _, tt := range []struct {
		cfg  CredentialConfig
		says string
	}{
		{CredentialConfig{}, `kind is ""; expected client-certificate`},
		{CredentialConfig{Kind: "default"}, `kind is "default"`},
		{CredentialConfig{Kind: ClientCertificate, Client: client, CertificateFile: "x"}, "tenant is missing"},
		{CredentialConfig{Kind: ClientCertificate, Tenant: tenant, CertificateFile: "x"}, "client is missing"},
		{CredentialConfig{Kind: ClientCertificate, Tenant: tenant, Client: client}, "certificate_file is missing"},
		{CredentialConfig{Kind: ClientSecret, Tenant: tenant, Client: client}, "secret_file is missing"},
		{CredentialConfig{Kind: ClientSecret, Tenant: tenant, Client: client, SecretFile: "x", CertificateFile: "y"}, "certificate_file is set, but kind client-secret has no use for it"},
		{CredentialConfig{Kind: ManagedIdentity, Tenant: tenant}, "tenant is set"},
		{CredentialConfig{Kind: WorkloadIdentity, Tenant: tenant, Client: client, SecretFile: "x"}, "secret_file is set"},
		{CredentialConfig{Kind: ClientSecret, Tenant: tenant, Client: client, SecretFile: "/nowhere/secret"}, "no such file"},
		{CredentialConfig{Kind: ClientSecret, Tenant: tenant, Client: client, SecretFile: t.TempDir()}, "not a regular file"},
		{CredentialConfig{Kind: ClientSecret, Tenant: tenant, Client: client, SecretFile: file(t, 0o600, []byte(" \n"))}, "is empty"},
		{CredentialConfig{Kind: ClientSecret, Tenant: tenant, Client: client, SecretFile: file(t, 0o640, []byte("x"))}, "mode 0640"},
		{CredentialConfig{Kind: ClientSecret, Tenant: "a/b", Client: client, SecretFile: file(t, 0o600, []byte("x"))}, "invalid tenantID"},
		{withCert(0o644, both(cert, private)), "chmod 600"},
		{withCert(0o600, nil), "expected a certificate and its private key"},
		{withCert(0o600, cert), "expected a certificate and its private key"},
		{withCert(0o600, private), "expected a certificate and its private key"},
		{withCert(0o600, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")), "expected a certificate"},
		{withCert(0o600, both(cert, other)), "no certificate in it belongs to the private key"},
		{withCert(0o600, both(ecCert, ecKey)), "need RSA"},
		{withCert(0o600, both(small, smallKey)), "1024 bits; expected at least 2048"},
		{withCert(0o600, make([]byte, maxFile+1)), "has more than"},
	} {
		c, _ := Config{Name: AzureGovernment}.Cloud()
		credential, err := c.NewCredential(tt.cfg, &authority{})
		if err == nil || !strings.Contains(err.Error(), tt.says) || credential != nil {
			t.Errorf("%+v: %v, %v; expected it to say %q", tt.cfg, credential, err, tt.says)
		}
		if err != nil && strings.Contains(err.Error(), "PRIVATE KEY-----") {
			t.Errorf("the key is in the error: %v", err)
		}
	}
}
