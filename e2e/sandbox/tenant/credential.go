package tenant

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
)

// A registration is an app with its credentials.
type registration struct {
	App
	Secret string
	object string // object id of its service principal

	// The certificate is made when somebody first asks for it, for an RSA key
	// takes long. Nobody can have signed with it before.
	once sync.Once
	cert atomic.Pointer[x509.Certificate]
	pem  []byte // certificate and PKCS #8 key, as azidentity reads them
	err  error
}

func register(a App) *registration {
	r := &registration{App: a, object: uuid.NewString(), Secret: rand.Text() + "~" + rand.Text()}
	r.ID = orNew(a.ID)
	if r.Name == "" {
		r.Name = r.ID
	}
	return r
}

// certificate is the app's certificate and key as PEM; nil when it has none.
func (r *registration) certificate(now time.Time) ([]byte, error) {
	if !r.Certificate {
		return nil, nil
	}
	r.once.Do(func() {
		if r.err = r.makeCertificate(now); r.err != nil {
			r.err = fmt.Errorf("make certificate of app %s: %w", r.Name, r.err)
		}
	})
	return r.pem, r.err
}

func (r *registration) makeCertificate(now time.Time) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048) // MSAL takes no other kind
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: r.Name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	r.pem = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	r.cert.Store(cert)
	return nil
}

// allows reports whether the app has any of the permissions.
func (r *registration) allows(any ...string) bool {
	return slices.ContainsFunc(any, func(p string) bool { return slices.Contains(r.Permissions, p) })
}

// overPrivileged reports whether the app's own directory role lets it change
// the sensitive properties of any user.
func (r *registration) overPrivileged() bool {
	return slices.Contains(r.DirectoryRoles, "Privileged Authentication Administrator") || slices.Contains(r.DirectoryRoles, "Global Administrator")
}

// checkAssertion verifies a certificate credential (RFC 7523 as Entra profiles
// it). code is 0 when it holds, else Entra's own with its text.
func checkAssertion(text string, app *registration, endpoint string, now time.Time) (code int, why string) {
	cert := app.cert.Load()
	if cert == nil {
		return 700027, "The certificate with identifier used to sign the client assertion is not registered on application."
	}
	sig, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.PS256, jose.RS256})
	if err != nil {
		return 50027, "JWT token is invalid or malformed."
	}
	if !sameThumbprint(text, cert.Raw) {
		return 700027, "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found.]"
	}
	payload, err := sig.Verify(cert.PublicKey)
	if err != nil {
		return 700027, "Client assertion failed signature validation. [Reason - The key used is expired or the signature is wrong.]"
	}
	var c struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience any    `json:"aud"`
		ID       string `json:"jti"`
		From     int64  `json:"nbf"`
		Until    int64  `json:"exp"`
	}
	if err := json.Unmarshal(payload, &c); err != nil || c.ID == "" {
		return 50027, "JWT token is invalid or malformed."
	}
	aud, _ := c.Audience.(string)
	if list, ok := c.Audience.([]any); ok && len(list) == 1 {
		aud, _ = list[0].(string)
	}
	switch {
	case !strings.EqualFold(c.Issuer, app.ID) || !strings.EqualFold(c.Subject, app.ID):
		return 700021, "Client assertion application identifier doesn't match 'client_id' parameter."
	case !strings.EqualFold(aud, endpoint):
		return 700023, "Client assertion audience claim does not match Realm issuer."
	case now.Add(assertionSkew).Before(time.Unix(c.From, 0)), now.Add(-assertionSkew).After(time.Unix(c.Until, 0)):
		return 700024, "Client assertion is not within its valid time range."
	}
	return 0, ""
}

// sameThumbprint compares x5t#S256 with the certificate. MSAL for Go writes it
// in standard base64 with padding, RFC 7515 in base64url: both are taken.
func sameThumbprint(text string, der []byte) bool {
	first, _, _ := strings.Cut(text, ".")
	raw, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil {
		return false
	}
	var h map[string]any
	if json.Unmarshal(raw, &h) != nil {
		return false
	}
	given, _ := h["x5t#S256"].(string)
	given = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(given, "="))
	got, err := base64.RawURLEncoding.DecodeString(given)
	want := sha256.Sum256(der)
	return err == nil && subtle.ConstantTimeCompare(got, want[:]) == 1
}
