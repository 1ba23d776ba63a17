package standin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const maxKeySet = 256 << 10 // octets

// tokens judges access tokens by the keys that the authority publishes.
type tokens struct {
	authority, tenant, resource string
	client                      *http.Client

	mu   sync.Mutex // guards keys; held while they are fetched, so that they are once
	keys *jose.JSONWebKeySet
}

func newTokens(cfg Config) *tokens {
	return &tokens{authority: cfg.Authority, tenant: cfg.Tenant, resource: cfg.Resource, client: &http.Client{
		Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}}}}
}

// judge returns the application that a token was made for.
func (t *tokens) judge(ctx context.Context, text string, now time.Time) (app string, err error) {
	sig, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil || len(sig.Signatures) != 1 {
		return "", errors.New("AKV10022: Invalid token: it is no JWT signed by RS256")
	}
	keys, err := t.published(ctx)
	if err != nil {
		return "", fmt.Errorf("AKV10000: the authority's keys cannot be had: %w", err)
	}
	found := keys.Key(sig.Signatures[0].Header.KeyID)
	if len(found) != 1 {
		return "", errors.New("AKV10046: Unable to resolve the key used for signature validation")
	}
	payload, err := sig.Verify(found[0])
	if err != nil {
		return "", errors.New("AKV10032: Invalid signature")
	}
	var c struct {
		Audience string `json:"aud"`
		Tenant   string `json:"tid"`
		App      string `json:"appid"`
		From     int64  `json:"nbf"`
		Until    int64  `json:"exp"`
	}
	switch err := json.Unmarshal(payload, &c); {
	case err != nil || c.App == "":
		return "", errors.New("AKV10022: Invalid token")
	case strings.TrimSuffix(c.Audience, "/") != strings.TrimSuffix(t.resource, "/"):
		return "", fmt.Errorf("AKV10022: Invalid audience. Expected %s, found: %s", t.resource, c.Audience)
	case !strings.EqualFold(c.Tenant, t.tenant):
		return "", errors.New("AKV10032: Invalid issuer. The token is of another tenant")
	case now.Unix() < c.From-300 || now.Unix() > c.Until:
		return "", errors.New("AKV10001: The token is expired or not yet valid")
	}
	return strings.ToLower(c.App), nil
}

func (t *tokens) published(ctx context.Context) (*jose.JSONWebKeySet, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keys != nil {
		return t.keys, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.authority+t.tenant+"/discovery/v2.0/keys", nil)
	if err != nil {
		return nil, err
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet))
	if err != nil {
		return nil, err
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(body, &keys); err != nil || len(keys.Keys) == 0 {
		return nil, fmt.Errorf("%s answered %d and no key set", req.URL, resp.StatusCode)
	}
	t.keys = &keys
	return t.keys, nil
}
