package vault

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// guard reads the challenges of a store before the client library does. A challenge that leads elsewhere than
// the configuration does is an error, and the library never sees it: it would take a tenant and a resource from
// it, and cannot read every malformed one.
type guard struct {
	next      http.RoundTripper
	authority string // without a slash at its end
	tenant    string // "" for a managed identity, which has its host's
	resource  string
}

func (g *guard) forResource(resource string) *guard {
	c := *g
	c.resource = resource
	return &c
}

// A ChallengeError says that a store asked for a token of another place, or for something else.
type ChallengeError struct{ Host, Detail string }

func (e *ChallengeError) Error() string {
	return fmt.Sprintf("key store %s answers with a challenge that is not followed: %s. Nothing was asked for; check address and cloud, and who answers there", e.Host, e.Detail)
}

// NonRetriable implements azcore's mark: asking again does not make it better.
func (*ChallengeError) NonRetriable() {}

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	if detail := g.judge(resp.Header.Values("WWW-Authenticate")); detail != "" {
		resp.Body.Close()
		return nil, &ChallengeError{r.URL.Host, detail}
	}
	return resp, nil
}

// judge returns what is wrong with a challenge; "" if nothing is.
func (g *guard) judge(headers []string) string {
	if len(headers) != 1 {
		return fmt.Sprintf("want one WWW-Authenticate header, got %d", len(headers))
	}
	rest, ok := strings.CutPrefix(headers[0], "Bearer ")
	if !ok {
		return "want a Bearer challenge"
	}
	given := map[string]string{}
	for _, part := range strings.Split(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := given[name]; !ok || twice {
			return "it cannot be read"
		}
		given[name] = strings.Trim(value, `"`)
	}
	u, err := url.Parse(given["authorization"])
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "its authority is no address"
	}
	tenant, ok := strings.CutPrefix(given["authorization"], g.authority+"/")
	switch {
	case !ok || tenant == "" || strings.Contains(tenant, "/"):
		return fmt.Sprintf("want authority %s and a tenant, got %.200q", g.authority, given["authorization"])
	case g.tenant != "" && !strings.EqualFold(tenant, g.tenant):
		return fmt.Sprintf("want tenant %s, got %.64q", g.tenant, tenant)
	}
	resource, scope := given["resource"], strings.TrimSuffix(given["scope"], "/.default")
	if resource == "" {
		resource = scope
	}
	if resource != g.resource || scope != "" && scope != g.resource {
		return fmt.Sprintf("want a token for %s, got %.200q", g.resource, resource)
	}
	return ""
}
