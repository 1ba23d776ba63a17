package broker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"jmlbridge/e2e/servicebus/amqp"
)

// A TokenVerifier judges a JSON Web Token that was put for a path (lower case,
// "" for the namespace): what its bearer may do there, and until when. The error
// is told to the client.
type TokenVerifier interface {
	Verify(token, path string, now time.Time) (Rights, time.Time, error)
}

// A claim is what a connection may do below a path.
type claim struct {
	rights Rights
	stop   func() bool // of the timer that ends it
}

const (
	typeSAS = "servicebus.windows.net:sastoken"
	typeJWT = "jwt"
)

// putToken judges a token and remembers what it allows.
func (c *conn) putToken(kind, audience, token string) *amqp.Error {
	path, ok := c.b.audience(audience)
	if !ok {
		return failure(condUnauthorized, "The token is for %q, which is not this namespace.", audience)
	}
	var rights Rights
	var until time.Time
	now := c.b.now()
	switch kind {
	case typeSAS:
		var e *amqp.Error
		if rights, until, e = c.b.checkSAS(token, path, now); e != nil {
			return e
		}
	case typeJWT:
		if c.b.cfg.Tokens == nil {
			return failure(condUnauthorized, "This namespace takes no tokens of Entra ID.")
		}
		var err error
		if rights, until, err = c.b.cfg.Tokens.Verify(token, path, now); err != nil {
			return failure(condUnauthorized, "%v", err)
		}
	default:
		return failure(condInvalidField, "token type %q, expected %s or %s", kind, typeSAS, typeJWT)
	}
	if !until.After(now) {
		return failure(condUnauthorized, "ExpiredToken: The token is expired. Expiration time: '%v'.", until.UTC())
	}
	if old, ok := c.claims[path]; ok {
		old.stop()
	}
	c.claims[path] = claim{rights, c.b.cfg.Clock.AfterFunc(until.Sub(now), func() {
		c.b.do(func() {
			if c.closed || c.b.now().Before(until) {
				return
			}
			delete(c.claims, path)
			c.dropUnauthorized()
		})
	})}
	return nil
}

// dropUnauthorized detaches links for which there is no token any more.
func (c *conn) dropUnauthorized() {
	for _, s := range c.sessions {
		for _, l := range s.links {
			if l.node == nil {
				continue
			}
			need := Send
			if l.sends {
				need = Listen
			}
			if l.place == toManagement {
				need = Send | Listen
			}
			if e := c.allowed(strings.ToLower(l.node.path), need); e != nil {
				e.Description = "ExpiredToken: " + e.Description
				l.detach(e)
			}
		}
	}
}

// audience is the path of a resource URI of this namespace, in lower case. Some
// tools sign the bare name without a scheme.
func (b *Broker) audience(uri string) (path string, ok bool) {
	if !strings.Contains(uri, "://") {
		uri = "sb://" + uri
	}
	u, err := url.Parse(uri)
	if err != nil || !slices.Contains(b.hosts, strings.ToLower(u.Hostname())) {
		return "", false
	}
	return cleanPath(u.Path), true
}

func cleanPath(p string) string {
	p = strings.ToLower(strings.Trim(p, "/"))
	return strings.TrimSuffix(p, managementSuffix)
}

// checkSAS verifies a shared access signature.
func (b *Broker) checkSAS(token, path string, now time.Time) (Rights, time.Time, *amqp.Error) {
	deny := func(format string, args ...any) (Rights, time.Time, *amqp.Error) {
		return 0, time.Time{}, failure(condUnauthorized, format, args...)
	}
	rest, ok := strings.CutPrefix(token, "SharedAccessSignature ")
	if !ok {
		return deny("MalformedToken: The token is no SharedAccessSignature.")
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, "&") {
		key, value, _ := strings.Cut(part, "=")
		fields[key] = value
	}
	name, err := url.QueryUnescape(fields["skn"])
	if err != nil {
		return deny("MalformedToken: skn %q", fields["skn"])
	}
	scope, err := url.QueryUnescape(fields["sr"])
	if err != nil {
		return deny("MalformedToken: sr %q", fields["sr"])
	}
	sum, err := url.QueryUnescape(fields["sig"])
	if err != nil {
		return deny("MalformedToken: sig")
	}
	seconds, err := strconv.ParseInt(fields["se"], 10, 64)
	if err != nil {
		return deny("MalformedToken: se %q", fields["se"])
	}
	i := slices.IndexFunc(b.cfg.Rules, func(r Rule) bool { return r.Name == name })
	if i < 0 {
		return deny("InvalidSignature: The rule %q is not known.", name)
	}
	rule := b.cfg.Rules[i]
	mac := hmac.New(sha256.New, []byte(rule.Key))
	mac.Write([]byte(fields["sr"] + "\n" + fields["se"]))
	got, err := base64.StdEncoding.DecodeString(sum)
	if err != nil || !hmac.Equal(got, mac.Sum(nil)) {
		return deny("InvalidSignature: The token has an invalid signature.")
	}
	signed, ok := b.audience(scope)
	switch {
	case !ok || !covers(signed, path):
		return deny("InvalidAudience: The token is for %q and not for %q.", scope, path)
	case !covers(strings.ToLower(rule.Entity), path):
		return deny("The rule %q is for %q and not for %q.", name, rule.Entity, path)
	}
	return rule.Rights, time.Unix(seconds, 0), nil
}

// covers reports whether a path lies at or below scope; "" is the namespace.
func covers(scope, path string) bool {
	return scope == "" || path == scope || strings.HasPrefix(path, scope+"/")
}

// allowed reports whether the connection has put a token that gives any of
// these rights for a path.
func (c *conn) allowed(path string, any Rights) *amqp.Error {
	var rights Rights
	for scope, cl := range c.claims {
		if covers(scope, path) {
			rights |= cl.rights
		}
	}
	if rights&any != 0 {
		return nil
	}
	names := map[Rights]string{Send: "'Send'", Listen: "'Listen'", Send | Listen: "'Send' or 'Listen'"}
	return failure(condUnauthorized, "Unauthorized access. %s claim(s) are required to perform this operation on '%s'.", names[any], path)
}
