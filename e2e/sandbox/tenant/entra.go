package tenant

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// entra answers for the authority: discovery, keys and tokens. It returns the
// app that a token was made for, for the journal.
func (s *Server) entra(r *http.Request, body []byte, now time.Time) (answer, *registration) {
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	root := s.rootFor(r.Host)
	if !strings.EqualFold(tenant, s.tenantID) {
		return authFailure(now, 400, "invalid_request", 90002,
			"Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", tenant), nil
	}
	base := root + "/" + s.tenantID
	switch {
	case r.Method == http.MethodGet && rest == "v2.0/.well-known/openid-configuration":
		return entraJSON(200, map[string]any{
			"issuer": base + "/v2.0", "authorization_endpoint": base + "/oauth2/v2.0/authorize", "token_endpoint": base + "/oauth2/v2.0/token",
			"device_authorization_endpoint": base + "/oauth2/v2.0/devicecode", "jwks_uri": base + "/discovery/v2.0/keys",
			"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt"},
			"response_types_supported":              []string{"code"}, "subject_types_supported": []string{"pairwise"},
			"id_token_signing_alg_values_supported": []string{"RS256"}, "tenant_region_scope": "USG",
			"cloud_instance_name": r.Host, "msgraph_host": r.Host}), nil
	case r.Method == http.MethodGet && rest == "discovery/v2.0/keys":
		return entraJSON(200, map[string]any{"keys": []any{s.tokens.key}}), nil
	case r.Method == http.MethodPost && rest == "oauth2/v2.0/token":
		return s.token(r, body, now, root)
	}
	return authFailure(now, 404, "invalid_request", 900561, "The endpoint does not exist or does not accept %s.", r.Method), nil
}

// token is the client credentials grant.
func (s *Server) token(r *http.Request, body []byte, now time.Time, root string) (answer, *registration) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return authFailure(now, 400, "invalid_request", 900144, "The request body is not a form."), nil
	}
	if g := form.Get("grant_type"); g != "client_credentials" {
		return authFailure(now, 400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type '%s'.", g), nil
	}
	id := form.Get("client_id")
	app := s.apps[strings.ToLower(id)]
	if app == nil {
		return authFailure(now, 400, "unauthorized_client", 700016, "Application with identifier '%s' was not found in the directory '%s'.", id, s.cfg.Seed.Tenant.DisplayName), nil
	}
	if bad := s.authenticate(form, app, now, root); bad != nil {
		return *bad, app
	}
	audience, bad := s.audience(form.Get("scope"), now)
	if bad != nil {
		return *bad, app
	}
	cae := strings.Contains(form.Get("claims"), `"CP1"`) || strings.Contains(form.Get("claims"), `"cp1"`)
	life := s.cfg.TokenLife
	if cae {
		life = s.cfg.CAELife
	}
	text, err := s.tokens.issue(s.tenantID, root+"/"+s.tenantID+"/v2.0", audience, app, now, life, cae)
	if err != nil {
		return authFailure(now, 500, "server_error", 50000, "There was an error issuing a token."), app
	}
	seconds := int(life / time.Second)
	return entraJSON(200, map[string]any{"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": text}), app
}

// authenticate judges the secret or the assertion, whichever came.
func (s *Server) authenticate(form url.Values, app *registration, now time.Time, root string) *answer {
	fail := func(code int, format string, args ...any) *answer {
		a := authFailure(now, 401, "invalid_client", code, format, args...)
		return &a
	}
	switch {
	case form.Get("client_assertion") != "":
		if t := form.Get("client_assertion_type"); t != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
			return fail(700022, "Invalid client assertion type '%s'.", t)
		}
		if code, why := checkAssertion(form.Get("client_assertion"), app, root+"/"+s.tenantID+"/oauth2/v2.0/token", now); code != 0 {
			return fail(code, "%s", why)
		}
	case form.Get("client_secret") == "":
		return fail(7000216, "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.")
	case form.Get("client_secret") != app.Secret:
		return fail(7000215, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", app.ID)
	}
	return nil
}

// audience reads the scope. Client libraries add OpenID scopes; beside them
// there must be exactly one RESOURCE/.default.
func (s *Server) audience(scope string, now time.Time) (string, *answer) {
	var resources []string
	for _, x := range strings.Fields(scope) {
		switch x {
		case "openid", "offline_access", "profile":
		default:
			resource, ok := strings.CutSuffix(x, "/.default")
			if !ok {
				a := authFailure(now, 400, "invalid_scope", 1002012, "The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", x)
				return "", &a
			}
			resources = append(resources, strings.TrimSuffix(resource, "/"))
		}
	}
	if len(resources) != 1 {
		a := authFailure(now, 400, "invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid.")
		return "", &a
	}
	if !slices.Contains(s.roots, resources[0]) && resources[0] != OtherResource && resources[0] != BusResource {
		a := authFailure(now, 400, "invalid_resource", 500011, "The resource principal named %s was not found in the tenant named %s.", resources[0], s.cfg.Seed.Tenant.DisplayName)
		return "", &a
	}
	return resources[0], nil
}

// OtherResource is a resource that Entra knows and that is not Graph: its
// tokens are real, and Graph refuses them for their audience.
const OtherResource = "https://vault.sandbox.invalid"

// BusResource is Service Bus, in every cloud. Its client library asks for it with a slash at the end.
const BusResource = "https://servicebus.azure.net"

func entraJSON(status int, v any) answer {
	body, _ := json.Marshal(v) // strings, numbers and a public key: always encodes
	a := answer{status: status, body: body}
	a.set("Content-Type", "application/json; charset=utf-8")
	a.set("Cache-Control", "no-store, no-cache")
	a.set("X-Ms-Request-Id", uuid.NewString())
	return a
}

// authFailure is Entra's error answer.
func authFailure(now time.Time, status int, kind string, code int, format string, args ...any) answer {
	trace, correlation, at := uuid.NewString(), uuid.NewString(), now.UTC().Format("2006-01-02 15:04:05Z")
	text := fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s", code, fmt.Sprintf(format, args...), trace, correlation, at)
	return entraJSON(status, map[string]any{"error": kind, "error_description": text, "error_codes": []int{code},
		"timestamp": at, "trace_id": trace, "correlation_id": correlation})
}
