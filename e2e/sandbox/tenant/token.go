package tenant

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
)

// signingKey signs every tenant's tokens in this process: making an RSA key
// takes longer than most tests, and nothing here relies on its secrecy.
var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// tokens issues access tokens and remembers them: a token is judged by what
// was issued under its text, so a forged or altered one is simply unknown.
type tokens struct {
	signer jose.Signer
	key    jose.JSONWebKey // public half

	mu      sync.Mutex // guards the rest; not held across signing
	issued  map[string]*issued
	revoked map[string]time.Time // by app id: tokens issued up to then are void
	pruned  time.Time
}

// issued is what a token says.
type issued struct {
	app      *registration
	audience string
	at       time.Time
	until    time.Time
	cae      bool // the client declared CP1
	void     bool
}

func newTokens() (*tokens, error) {
	key, err := signingKey()
	if err != nil {
		return nil, fmt.Errorf("make token key: %w", err)
	}
	pub := jose.JSONWebKey{Key: key.Public(), KeyID: "sandbox", Algorithm: "RS256", Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: pub.KeyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("make token signer: %w", err)
	}
	return &tokens{signer: signer, key: pub, issued: map[string]*issued{}, revoked: map[string]time.Time{}}, nil
}

// issue makes a token that says what Entra's say to an application; roles are
// its consented permissions.
func (t *tokens) issue(tenant, issuer, audience string, app *registration, now time.Time, life time.Duration, cae bool) (string, error) {
	claims := map[string]any{
		"aud": audience, "iss": issuer, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(life).Unix(),
		"appid": app.ID, "azp": app.ID, "app_displayname": app.Name, "idtyp": "app", "oid": app.object, "sub": app.object,
		"tid": tenant, "uti": uuid.NewString(), "ver": "1.0", "roles": app.Permissions, "wids": app.DirectoryRoles,
	}
	if cae {
		claims["xms_cc"] = []string{"CP1"}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	sig, err := t.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	text, err := sig.CompactSerialize()
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.pruned) > time.Minute { // long rehearsals with short-lived tokens
		for k, v := range t.issued {
			if now.Sub(v.until) > time.Hour {
				delete(t.issued, k)
			}
		}
		t.pruned = now
	}
	t.issued[text] = &issued{app: app, audience: audience, at: now, until: now.Add(life), cae: cae}
	return text, nil
}

// revoke voids every token of an app that was issued so far.
func (t *tokens) revoke(appID string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range t.issued {
		if v.app.ID == appID {
			v.void = true
		}
	}
	t.revoked[appID] = now
}

// judge authenticates a Graph request; roots are the audiences that are Graph.
func (t *tokens) judge(header string, roots []string, now time.Time) (*registration, *answer) {
	deny := func(a answer) (*registration, *answer) { return nil, &a }
	text, isBearer := strings.CutPrefix(header, "Bearer ")
	if !isBearer || text == "" {
		return deny(unauthorized("InvalidAuthenticationToken", "Access token is empty."))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	tok := t.issued[text]
	switch {
	case tok == nil && strings.Count(text, ".") != 2:
		return deny(unauthorized("InvalidAuthenticationToken", "IDX14100: JWT is not well formed, there are no dots (.).\nThe token needs to be in JWS or JWE Compact Serialization Format. (JWS): 'EncodedHeader.EndcodedPayload.EncodedSignature'. (JWE): 'EncodedProtectedHeader.EncodedEncryptedKey.EncodedInitializationVector.EncodedCiphertext.EncodedAuthenticationTag'."))
	case tok == nil:
		return deny(unauthorized("InvalidAuthenticationToken", "Access token validation failure. Invalid signature."))
	case !slices.Contains(roots, tok.audience):
		return deny(unauthorized("InvalidAuthenticationToken", "Access token validation failure. Invalid audience."))
	case !now.Before(tok.until):
		return deny(unauthorized("InvalidAuthenticationToken", "Lifetime validation failed, the token is expired."))
	case tok.void && tok.cae:
		return deny(challenge(roots[0], t.revoked[tok.app.ID]))
	case tok.void:
		return deny(unauthorized("InvalidAuthenticationToken", "Access token validation failure. The token has been revoked."))
	}
	return tok.app, nil
}
