package vault

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// guard reads the challenges of a store instead of the client library, which would take a tenant and a resource from
// them by readings of its own, and cannot read every malformed one. A challenge that leads elsewhere than the
// configuration does is an error; of one that is followed the library sees nothing but what was compared.
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

// tenantForm is an id or a domain's name: nothing that a reader could take apart.
var tenantForm = regexp.MustCompile(`^[0-9A-Za-z.-]+$`)

// A ChallengeError says that a store asked for a token of another place, or for something else.
type ChallengeError struct{ Host, Detail string }

func (e *ChallengeError) Error() string {
	return fmt.Sprintf("key store %s answers with a challenge that is not followed: %s. Nothing was asked for; check address and cloud, and who answers there", e.Host, e.Detail)
}

// NonRetriable implements azcore's mark: asking again does not make it better.
func (*ChallengeError) NonRetriable() {}

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body} // the library reads to its end whatever comes
	if resp.StatusCode != http.StatusUnauthorized {
		return resp, nil
	}
	tenant, detail := g.judge(resp.Header.Values("WWW-Authenticate"))
	if detail != "" {
		resp.Body.Close()
		return nil, &ChallengeError{r.URL.Host, detail}
	}
	resp.Header.Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization="%s/%s", resource="%s"`, g.authority, tenant, g.resource))
	return resp, nil
}

// judge returns the tenant that a challenge names, and what is wrong with it; "" if nothing is.
func (g *guard) judge(headers []string) (tenant, wrong string) {
	if len(headers) != 1 {
		return "", fmt.Sprintf("want one WWW-Authenticate header, got %d", len(headers))
	}
	rest, ok := strings.CutPrefix(headers[0], "Bearer ")
	if !ok {
		return "", "want a Bearer challenge"
	}
	given := map[string]string{}
	for _, part := range strings.Split(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := given[name]; !ok || twice {
			return "", "it cannot be read"
		}
		given[name] = strings.Trim(value, `"`)
	}
	u, err := url.Parse(given["authorization"])
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "its authority is no address"
	}
	tenant, ok = strings.CutPrefix(given["authorization"], g.authority+"/")
	switch {
	case !ok || !tenantForm.MatchString(tenant):
		return "", fmt.Sprintf("want authority %s and a tenant, got %.200q", g.authority, given["authorization"])
	case g.tenant != "" && !strings.EqualFold(tenant, g.tenant):
		return "", fmt.Sprintf("want tenant %s, got %.64q", g.tenant, tenant)
	}
	resource, scope := given["resource"], strings.TrimSuffix(given["scope"], "/.default")
	if resource == "" {
		resource = scope
	}
	if resource != g.resource || scope != "" && scope != g.resource {
		return "", fmt.Sprintf("want a token for %s, got %.200q", g.resource, resource)
	}
	return tenant, ""
}
