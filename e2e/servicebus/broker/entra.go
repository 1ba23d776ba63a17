package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// EntraTokens judges access tokens as Entra ID issues them: signature, issuer,
// audience and time, and then which role its bearer was given, as Azure's own
// access control would.
type EntraTokens struct {
	Keys        jose.JSONWebKeySet // that the issuer signs with
	Audiences   []string           // any of which a token may name
	Issuer      string             // "" takes any
	Assignments []Assignment
}

// An Assignment gives rights to a principal.
type Assignment struct {
	Principal string `json:"principal" yaml:"principal"` // appid or oid in the token
	Rights    Rights `json:"rights" yaml:"rights"`
	Entity    string `json:"entity,omitempty" yaml:"entity"` // path that it is for, with everything below; "" is the namespace
}

var errNotAssigned = errors.New("the bearer was given no role for this entity")

// Verify is the TokenVerifier.
func (e *EntraTokens) Verify(token, path string, now time.Time) (Rights, time.Time, error) {
	deny := func(err error) (Rights, time.Time, error) { return 0, time.Time{}, err }
	sig, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return deny(errors.New("InvalidToken: the token is no JWT signed with RS256"))
	}
	keys := e.Keys.Key(sig.Signatures[0].Header.KeyID)
	if len(keys) == 0 {
		return deny(fmt.Errorf("InvalidSignature: no key %q", sig.Signatures[0].Header.KeyID))
	}
	payload, err := sig.Verify(keys[0])
	if err != nil {
		return deny(errors.New("InvalidSignature: the token has an invalid signature"))
	}
	var c struct {
		Audience string `json:"aud"`
		Issuer   string `json:"iss"`
		App      string `json:"appid"`
		Object   string `json:"oid"`
		From     int64  `json:"nbf"`
		Until    int64  `json:"exp"`
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return deny(errors.New("InvalidToken: the claims cannot be read"))
	}
	until := time.Unix(c.Until, 0)
	switch {
	case !slices.Contains(e.Audiences, strings.TrimSuffix(c.Audience, "/")):
		return deny(fmt.Errorf("InvalidAudience: the token is for %q", c.Audience))
	case e.Issuer != "" && c.Issuer != e.Issuer:
		return deny(fmt.Errorf("InvalidIssuer: the token is of %q", c.Issuer))
	case now.Before(time.Unix(c.From, 0)) || !until.After(now):
		return deny(errors.New("ExpiredToken: the token is not good at this time"))
	}
	var rights Rights
	for _, a := range e.Assignments {
		if (a.Principal == c.App || a.Principal == c.Object) && covers(strings.ToLower(a.Entity), path) {
			rights |= a.Rights
		}
	}
	if rights == 0 {
		return deny(errNotAssigned)
	}
	return rights, until, nil
}
