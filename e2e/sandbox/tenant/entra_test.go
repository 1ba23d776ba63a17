package tenant_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/go-jose/go-jose/v4"

	"jmlbridge/e2e/sandbox/tenant"
)

// ask posts a form to the token endpoint of a tenant id.
func ask(t *testing.T, s *tenant.Server, tenantID string, form url.Values) got {
	t.Helper()
	tr := s.Transport()
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).PostForm(s.Endpoints().Authority+tenantID+"/oauth2/v2.0/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Header, string(raw), err}
}

func secretForm(s *tenant.Server, app string) url.Values {
	cr := s.App(app)
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {cr.ID}, "client_secret": {cr.Secret},
		"scope": {s.Endpoints().Graph + "/.default openid offline_access profile"}}
}

func TestTokenBySecret(t *testing.T) {
	s := start(t, tenant.Config{TokenLife: 90 * time.Second})
	id := s.Endpoints().Tenant
	ok := ask(t, s, id, secretForm(s, "cut")).want(t, 200, `"token_type":"Bearer"`, `"expires_in":90`)
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(ok.field(t, "access_token"), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(payload), `"User.EnableDisableAccount.All"`) || !strings.Contains(string(payload), `"tid":"`+id+`"`) {
		t.Fatalf("claims: %s", payload)
	}
	for _, tt := range []struct {
		name   string
		tenant string
		change func(url.Values)
		status int
		texts  []string
	}{
		{"wrong secret", id, func(v url.Values) { v.Set("client_secret", "x") }, 401, []string{`"error":"invalid_client"`, "AADSTS7000215", `"error_codes":[7000215]`}},
		{"no credential", id, func(v url.Values) { v.Del("client_secret") }, 401, []string{`"invalid_client"`, "AADSTS7000216"}},
		{"unknown app", id, func(v url.Values) { v.Set("client_id", "nobody") }, 400, []string{`"unauthorized_client"`, "AADSTS700016"}},
		{"other tenant", "00000000-0000-0000-0000-000000000000", func(url.Values) {}, 400, []string{`"invalid_request"`, "AADSTS90002"}},
		{"another cloud's scope", id, func(v url.Values) { v.Set("scope", "https://graph.microsoft.com/.default") }, 400, []string{`"invalid_resource"`, "AADSTS500011"}},
		{"no .default", id, func(v url.Values) { v.Set("scope", s.Endpoints().Graph+"/User.Read.All") }, 400, []string{`"invalid_scope"`, "AADSTS1002012"}},
		{"no scope", id, func(v url.Values) { v.Set("scope", "openid") }, 400, []string{`"invalid_scope"`, "AADSTS70011"}},
		{"other grant", id, func(v url.Values) { v.Set("grant_type", "password") }, 400, []string{`"unsupported_grant_type"`}},
		{"wrong assertion type", id, func(v url.Values) { v.Set("client_assertion", "a.b.c") }, 401, []string{"AADSTS700022"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			form := secretForm(s, "cut")
			tt.change(form)
			ask(t, s, tt.tenant, form).want(t, tt.status, tt.texts...)
		})
	}
}

func TestGraphRefusesTokens(t *testing.T) {
	c := newClock()
	s := start(t, tenant.Config{Now: c.Now, TokenLife: time.Minute})
	with(t, s, "").do("GET", "/users", "").want(t, 401, `"code":"InvalidAuthenticationToken"`, "Access token is empty.", `"request-id"`)
	with(t, s, "abc").do("GET", "/users", "").want(t, 401, "JWT is not well formed")
	p := as(t, s, "reader")
	p.do("GET", "/users", "").want(t, 200)
	with(t, s, p.token[:len(p.token)-4]+"AAAA").do("GET", "/users", "").want(t, 401, "Invalid signature")
	form := secretForm(s, "reader")
	form.Set("scope", tenant.OtherResource+"/.default")
	other := ask(t, s, s.Endpoints().Tenant, form).want(t, 200).field(t, "access_token")
	with(t, s, other).do("GET", "/users", "").want(t, 401, "Invalid audience")
	c.add(time.Minute)
	p.do("GET", "/users", "").want(t, 401, "Lifetime validation failed, the token is expired.")
}

func TestRevokedTokens(t *testing.T) {
	s := start(t, tenant.Config{CAELife: 28 * time.Hour})
	plain := as(t, s, "reader")
	form := secretForm(s, "reader")
	form.Set("claims", `{"access_token":{"xms_cc":{"values":["CP1"]}}}`)
	answer := ask(t, s, s.Endpoints().Tenant, form).want(t, 200, `"expires_in":100800`)
	cae := with(t, s, answer.field(t, "access_token"))
	cae.do("GET", "/users", "").want(t, 200)
	if err := s.RevokeTokens("reader"); err != nil {
		t.Fatal(err)
	}
	if g := plain.do("GET", "/users", "").want(t, 401); g.header.Get("WWW-Authenticate") != "" {
		t.Fatal("a client without CP1 was challenged")
	}
	g := cae.do("GET", "/users", "").want(t, 401, "TokenIssuedBeforeRevocationTimestamp")
	challenge := g.header.Get("WWW-Authenticate")
	if !strings.Contains(challenge, `error="insufficient_claims"`) || !strings.Contains(challenge, `claims="`) {
		t.Fatalf("challenge: %s", challenge)
	}
	as(t, s, "reader").do("GET", "/users", "").want(t, 200)
}

// assertion is a client assertion as MSAL for Go writes it, to be spoilt.
type assertion struct {
	alg    jose.SignatureAlgorithm
	key    any
	header map[jose.HeaderKey]any
	claims map[string]any
}

func goodAssertion(t *testing.T, s *tenant.Server, app string) *assertion {
	t.Helper()
	cr := s.App(app)
	block, rest := pem.Decode(cr.Certificate)
	keyBlock, _ := pem.Decode(rest)
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(block.Bytes)
	now := time.Now()
	return &assertion{jose.PS256, key, map[jose.HeaderKey]any{"x5t#S256": base64.StdEncoding.EncodeToString(sum[:])},
		map[string]any{"aud": s.Endpoints().Authority + s.Endpoints().Tenant + "/oauth2/v2.0/token", "iss": cr.ID, "sub": cr.ID,
			"jti": "one", "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}}
}

func (a *assertion) form(t *testing.T, s *tenant.Server, app string) url.Values {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: a.alg, Key: a.key}, &jose.SignerOptions{ExtraHeaders: a.header})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(a.claims)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := sig.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	form := secretForm(s, app)
	form.Del("client_secret")
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", text)
	return form
}

func TestTokenByCertificate(t *testing.T) {
	s := start(t, tenant.Config{})
	id := s.Endpoints().Tenant
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		spoil func(*assertion)
		code  int // 0: a token comes
	}{
		{"standard base64 thumbprint", func(*assertion) {}, 0},
		{"base64url thumbprint", func(a *assertion) {
			raw, _ := base64.StdEncoding.DecodeString(a.header["x5t#S256"].(string))
			a.header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(raw)
		}, 0},
		{"no thumbprint", func(a *assertion) { a.header = nil }, 700027},
		{"other thumbprint", func(a *assertion) {
			a.header["x5t#S256"] = base64.StdEncoding.EncodeToString(make([]byte, 32))
		}, 700027},
		{"other key", func(a *assertion) { a.key = rsaKey }, 700027},
		{"other algorithm", func(a *assertion) { a.alg, a.key = jose.ES256, ecKey }, 50027},
		{"other audience", func(a *assertion) { a.claims["aud"] = "https://login.microsoftonline.us/x/oauth2/v2.0/token" }, 700023},
		{"expired", func(a *assertion) { a.claims["exp"] = time.Now().Add(-6 * time.Minute).Unix() }, 700024},
		{"not yet", func(a *assertion) { a.claims["nbf"] = time.Now().Add(6 * time.Minute).Unix() }, 700024},
		{"other issuer", func(a *assertion) { a.claims["iss"] = "someone" }, 700021},
		{"no jti", func(a *assertion) { delete(a.claims, "jti") }, 50027},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := goodAssertion(t, s, "cut")
			tt.spoil(a)
			g := ask(t, s, id, a.form(t, s, "cut"))
			if tt.code == 0 {
				with(t, s, g.want(t, 200).field(t, "access_token")).do("GET", "/users", "").want(t, 200)
				return
			}
			g.want(t, 401, `"invalid_client"`, fmt.Sprintf("AADSTS%d", tt.code))
		})
	}
	t.Run("another app's certificate", func(t *testing.T) {
		a := goodAssertion(t, s, "grant")
		a.claims["iss"], a.claims["sub"] = s.App("cut").ID, s.App("cut").ID
		ask(t, s, id, a.form(t, s, "cut")).want(t, 401, "AADSTS700027")
	})
	t.Run("app without a certificate", func(t *testing.T) {
		a := goodAssertion(t, s, "grant")
		ask(t, s, id, a.form(t, s, "reader")).want(t, 401, "AADSTS700027")
	})
}

// The real client library must be content with what the authority says.
func TestAzidentity(t *testing.T) {
	s := start(t, tenant.Config{})
	ep := s.Endpoints()
	tr := s.Transport()
	t.Cleanup(tr.CloseIdleConnections)
	options := azcore.ClientOptions{Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: ep.Authority}, Transport: &http.Client{Transport: tr}}
	cr := s.App("cut")
	certs, key, err := azidentity.ParseCertificates(cr.Certificate, nil)
	if err != nil {
		t.Fatal(err)
	}
	byCert, err := azidentity.NewClientCertificateCredential(ep.Tenant, cr.ID, certs, key,
		&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true, SendCertificateChain: true})
	if err != nil {
		t.Fatal(err)
	}
	bySecret, err := azidentity.NewClientSecretCredential(ep.Tenant, cr.ID, cr.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, cred := range map[string]azcore.TokenCredential{"certificate": byCert, "secret": bySecret} {
		t.Run(name, func(t *testing.T) {
			token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{ep.Graph + "/.default"}, EnableCAE: true})
			if err != nil {
				t.Fatal(err)
			}
			if life := time.Until(token.ExpiresOn); life < 23*time.Hour {
				t.Fatalf("a token under continuous access evaluation lives %s", life)
			}
			with(t, s, token.Token).do("GET", "/users?$select=id", "").want(t, 200)
		})
	}
}

func TestDiscovery(t *testing.T) {
	s := start(t, tenant.Config{})
	ep := s.Endpoints()
	p := with(t, s, "")
	local := strings.Replace(ep.Authority, "127.0.0.1", "localhost", 1)
	for _, root := range []string{ep.Authority, local} {
		p.do("GET", root+ep.Tenant+"/v2.0/.well-known/openid-configuration", "").
			want(t, 200, `"issuer":"`+root+ep.Tenant+`/v2.0"`, `"token_endpoint":"`+root+ep.Tenant+`/oauth2/v2.0/token"`)
	}
	p.do("GET", ep.Authority+ep.Tenant+"/discovery/v2.0/keys", "").want(t, 200, `"kty":"RSA"`)
	p.do("GET", ep.Authority+"contoso/v2.0/.well-known/openid-configuration", "").want(t, 400, "AADSTS90002")
}
