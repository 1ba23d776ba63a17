package cloud

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"jmlbridge/internal/secret"
)

// Limits of a token request. Together they stay below TokenTimeout, so that the last refusal is heard.
const (
	tokenRetries  = 2 // after the first attempt
	tokenTry      = 8 * time.Second
	tokenDelay    = 500 * time.Millisecond
	tokenMaxDelay = 2 * time.Second
	minRSA        = 2048    // bits
	maxFile       = 1 << 20 // octets of a file with a secret, or with a certificate and its key

	// TokenTimeout is how long asking for a token may take with all its attempts.
	TokenTimeout = 30 * time.Second
)

// Kinds of credentials.
const (
	ClientCertificate = "client-certificate"
	ClientSecret      = "client-secret" // for development: a copy of it is as good as the file
	ManagedIdentity   = "managed-identity"
	WorkloadIdentity  = "workload-identity"
)

// CredentialConfig names an application in one tenant and how it proves itself there.
type CredentialConfig struct {
	// Kind is client-certificate, client-secret, managed-identity or workload-identity.
	Kind string `yaml:"kind"`
	// Tenant is the id of the tenant. Not with managed-identity, which has its host's.
	Tenant string `yaml:"tenant"`
	// Client is the application's id; with managed-identity that of a user-assigned identity, and may be left out.
	Client string `yaml:"client"`
	// CertificateFile holds certificate and RSA private key in PEM; only its owner can read it.
	CertificateFile string `yaml:"certificate_file"`
	// SecretFile holds the secret and nothing else; only its owner can read it.
	SecretFile string `yaml:"secret_file"`
	// Development says that a client-secret is meant: nobody is warned of it.
	Development bool `yaml:"development,omitempty"`
	// TokenFile is the projected service account token of a workload identity. Default: AZURE_FEDERATED_TOKEN_FILE.
	TokenFile string `yaml:"token_file"`
}

// NewCredential reads what cfg names and makes a credential that asks c's authority through transport. It
// sends nothing. The credential is good for cfg's tenant alone.
//
// Files are read now: make a new credential to take up a renewed certificate.
func (c Cloud) NewCredential(cfg CredentialConfig, transport http.RoundTripper) (azcore.TokenCredential, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	// The library has no option against it: it would ask a host made of this name for tokens.
	if err := os.Unsetenv("AZURE_REGIONAL_AUTHORITY_NAME"); err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	opts := azcore.ClientOptions{
		Cloud:     c.Azure(),
		Transport: &http.Client{Transport: transport, CheckRedirect: refuseRedirect},
		Retry: policy.RetryOptions{
			MaxRetries: tokenRetries, TryTimeout: tokenTry, RetryDelay: tokenDelay, MaxRetryDelay: tokenMaxDelay,
		},
		Telemetry: policy.TelemetryOptions{Disabled: true},
	}
	switch cfg.Kind {
	case ClientCertificate:
		certs, key, err := readCertificate(cfg.CertificateFile)
		if err != nil {
			return nil, fmt.Errorf("credential: certificate_file: %w", err)
		}
		return made(azidentity.NewClientCertificateCredential(cfg.Tenant, cfg.Client, certs, key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: opts, DisableInstanceDiscovery: true}))
	case ClientSecret:
		text, err := secret.Read(cfg.SecretFile, maxFile)
		if err != nil {
			return nil, fmt.Errorf("credential: secret_file: %w", err)
		}
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			return nil, fmt.Errorf("credential: secret_file: %s is empty", cfg.SecretFile)
		}
		return made(azidentity.NewClientSecretCredential(cfg.Tenant, cfg.Client, string(text),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: opts, DisableInstanceDiscovery: true}))
	case WorkloadIdentity:
		return made(azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: opts, DisableInstanceDiscovery: true,
			ClientID: cfg.Client, TenantID: cfg.Tenant, TokenFilePath: cfg.TokenFile,
		}))
	default: // ManagedIdentity: check knows no other
		// Its endpoint is the host's own, at a link-local address, and no proxy's business.
		opts.Transport = &http.Client{Transport: direct(transport), CheckRedirect: refuseRedirect}
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: opts}
		if cfg.Client != "" {
			o.ID = azidentity.ClientID(cfg.Client)
		}
		return made(azidentity.NewManagedIdentityCredential(o))
	}
}

// made keeps a nil credential of a concrete type from becoming a credential that is not nil.
func made[C azcore.TokenCredential](cred C, err error) (azcore.TokenCredential, error) {
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	return cred, nil
}

func refuseRedirect(*http.Request, []*http.Request) error {
	return errors.New("redirected; a token request goes to the named authority only")
}

func direct(t http.RoundTripper) http.RoundTripper {
	if t, ok := t.(*http.Transport); ok {
		t = t.Clone()
		t.Proxy, t.DialContext = nil, (&net.Dialer{}).DialContext // its own goes by a proxy as well
		return t
	}
	return t
}

// check tells of a key that is missing, or that another kind would need.
func (cfg CredentialConfig) check() error {
	type key struct{ name, value string }
	var need, may []key
	tenant, client := key{"tenant", cfg.Tenant}, key{"client", cfg.Client}
	cert, secret, token := key{"certificate_file", cfg.CertificateFile}, key{"secret_file", cfg.SecretFile}, key{"token_file", cfg.TokenFile}
	switch cfg.Kind {
	case ClientCertificate:
		need = []key{tenant, client, cert}
	case ClientSecret:
		need = []key{tenant, client, secret}
	case WorkloadIdentity:
		need, may = []key{tenant, client}, []key{token}
	case ManagedIdentity:
		may = []key{client}
	default:
		return fmt.Errorf("credential: kind is %q; expected %s, %s, %s or %s",
			cfg.Kind, ClientCertificate, ManagedIdentity, WorkloadIdentity, ClientSecret)
	}
	if cfg.Development && cfg.Kind != ClientSecret {
		return fmt.Errorf("credential: development is set, but kind %s has no use for it", cfg.Kind)
	}
	for _, k := range need {
		if k.value == "" {
			return fmt.Errorf("credential: %s is missing; kind %s needs it", k.name, cfg.Kind)
		}
	}
	taken := append(need, may...)
	for _, k := range []key{tenant, client, cert, secret, token} {
		used := false
		for _, t := range taken {
			used = used || t.name == k.name
		}
		if k.value != "" && !used {
			return fmt.Errorf("credential: %s is set, but kind %s has no use for it", k.name, cfg.Kind)
		}
	}
	return nil
}

// readCertificate reads certificate and key and checks that the library can use them: it takes RSA keys
// only, and would say so at the first token.
func readCertificate(path string) ([]*x509.Certificate, crypto.PrivateKey, error) {
	pem, err := secret.Read(path, maxFile)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Contains(pem, []byte("-----BEGIN ")) { // the library would take it for PKCS #12 and say what is wrong with that
		return nil, nil, fmt.Errorf("%s: expected a certificate and its private key, both in PEM; there is no PEM in it", path)
	}
	certs, key, err := azidentity.ParseCertificates(pem, nil)
	if err != nil {
		// Its text speaks of what is missing, never of what is there.
		return nil, nil, fmt.Errorf("%s: expected a certificate and its private key, both in PEM: %w", path, err)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("%s: the private key is a %T; Entra's client certificates need RSA", path, key)
	}
	if bits := private.N.BitLen(); bits < minRSA {
		return nil, nil, fmt.Errorf("%s: the RSA key has %d bits; expected at least %d", path, bits, minRSA)
	}
	for _, c := range certs {
		if pub, ok := c.PublicKey.(*rsa.PublicKey); ok && pub.Equal(&private.PublicKey) {
			return certs, private, nil
		}
	}
	return nil, nil, fmt.Errorf("%s: no certificate in it belongs to the private key", path)
}
