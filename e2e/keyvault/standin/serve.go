package standin

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	s.mu.Lock()
	s.stats.Parallel = max(s.stats.Parallel, int(n))
	s.mu.Unlock()
	w.Header().Set("X-Ms-Request-Id", uuid.NewString())
	w.Header().Set("X-Ms-Client-Request-Id", r.Header.Get("X-Ms-Client-Request-Id"))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler) // the caller went away, or sends without end
	}
	op := operation(r)
	fault := s.faults.strike(op, r.URL.Path, r.Header.Get("Authorization") != "")
	if fault != nil && fault.Kind == Unheard {
		panic(http.ErrAbortHandler)
	}
	delay := s.cfg.Latency
	if fault != nil && fault.Kind == Delay {
		delay += fault.Delay
	}
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	a := s.answer(r, op, body, fault)
	if fault != nil && fault.Kind == Lost { // done, but nobody hears
		panic(http.ErrAbortHandler)
	}
	a.write(w)
}

// operation names what a request asks for, as the permissions are named; "" if we do not know it.
func operation(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case parts[0] != "keys":
		return ""
	case r.Method == http.MethodGet && len(parts) == 1:
		return List
	case r.Method == http.MethodGet && len(parts) <= 3:
		return Get
	case r.Method == http.MethodPost && len(parts) == 4:
		for _, op := range []string{Sign, Verify, Encrypt, Decrypt, WrapKey, UnwrapKey} {
			if strings.EqualFold(parts[3], op) {
				return op
			}
		}
	}
	return ""
}

// reply is a status with a JSON body.
type reply struct {
	status int
	header http.Header
	body   any
	raw    []byte // instead of body
}

func (a reply) write(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	raw := a.raw
	if raw == nil {
		raw, _ = json.Marshal(a.body) // strings, numbers and lists of them: always encodes
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(a.status)
	_, _ = w.Write(raw)
}

func failure(status int, code, format string, args ...any) reply {
	return reply{status: status, body: map[string]any{"error": map[string]any{"code": code, "message": fmt.Sprintf(format, args...)}}}
}

func inner(a reply, code string) reply {
	a.body.(map[string]any)["error"].(map[string]any)["innererror"] = map[string]any{"code": code}
	return a
}

func (s *Server) answer(r *http.Request, op string, body []byte, fault *Fault) reply {
	text, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer || text == "" {
		s.count(func(c *Stats) { c.Unasked++ })
		return s.challenge("AKV10000: Request is missing a Bearer or PoP token.", fault)
	}
	app, err := s.tokens.judge(r.Context(), text, s.now())
	if err != nil {
		return s.challenge(err.Error(), fault)
	}
	if r.URL.Query().Get("api-version") == "" {
		return failure(400, "BadParameter", "api-version must be specified")
	}
	if op == "" {
		return failure(404, "NotFound", "The stand-in does not know %s %s.", r.Method, r.URL.Path)
	}
	if fault != nil && fault.Kind == Error {
		a := failure(fault.Status, fault.Code, "injected")
		if fault.RetryAfter != "" {
			a.header = http.Header{"Retry-After": {fault.RetryAfter}}
		}
		return a
	}
	if s.quota != nil && !s.quota.Allow() {
		s.count(func(c *Stats) { c.Throttled++ })
		return failure(429, "Throttled", "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached")
	}
	s.count(func(c *Stats) { c.Operations[op]++ })
	if !s.may(app, op) {
		return inner(failure(403, "Forbidden", "Caller is not authorized to perform action on resource. Caller: appid=%s; Action: 'Microsoft.KeyVault/vaults/keys/%s/action'", app, op), "ForbiddenByRbac")
	}
	if op == List {
		return s.list()
	}
	parts := append(strings.Split(strings.Trim(r.URL.Path, "/"), "/"), "")
	name, version := parts[1], parts[2]
	k := s.find(name, version)
	if k == nil {
		return failure(404, "KeyNotFound", "A key with (name/id) %s/%s was not found in this key vault.", name, version)
	}
	kid := fmt.Sprintf("%s/keys/%s/%s", s.root, k.Name, k.version)
	if fault != nil && fault.Kind == WrongVersion {
		kid = fmt.Sprintf("%s/keys/%s/%032x", s.root, k.Name, 1)
	}
	if op == Get {
		return s.bundle(k, kid)
	}
	if a, usable := s.usable(k); !usable {
		return a
	}
	return operateOn(k, kid, op, body, fault)
}

func operateOn(k *stored, kid, op string, body []byte, fault *Fault) reply {
	var in struct{ Alg, Value, Digest string }
	if err := json.Unmarshal(body, &in); err != nil {
		return failure(400, "BadParameter", "The request body is not JSON.")
	}
	value, signature := in.Value, ""
	if op == Verify {
		value, signature = in.Digest, in.Value
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(value)
	sig, err2 := base64.RawURLEncoding.Strict().DecodeString(signature)
	if errors.Join(err, err2) != nil || value == "" {
		return failure(400, "BadParameter", "Content of 'value' is not base64url.\r\nProperty 'value' is required.\r\n")
	}
	out, err := k.operate(op, in.Alg, raw, sig)
	var bad *badParameter
	switch {
	case errors.As(err, &bad):
		return failure(400, "BadParameter", "%s", bad.text)
	case err != nil:
		return failure(500, "InternalServerError", "%v", err)
	}
	if ok, isBool := out.(bool); isBool {
		return reply{status: 200, body: map[string]any{"value": ok}}
	}
	result := out.([]byte)
	switch {
	case fault == nil:
	case fault.Kind == WrongValue:
		result = slices.Clone(result)
		result[len(result)/2] ^= 1
	case fault.Kind == Garbage:
		return reply{status: 200, raw: []byte("<html>It works!</html>")}
	}
	return reply{status: 200, body: map[string]any{"kid": kid, "value": base64.RawURLEncoding.EncodeToString(result)}}
}

// usable refuses a key that is disabled or outside its dates.
func (s *Server) usable(k *stored) (reply, bool) {
	s.mu.Lock()
	disabled := k.Disabled
	s.mu.Unlock()
	now := s.now()
	switch {
	case disabled:
		return inner(failure(403, "Forbidden", "Operation is not allowed on a disabled key."), "KeyDisabled"), false
	case !k.NotBefore.IsZero() && now.Before(k.NotBefore):
		return inner(failure(403, "Forbidden", "Operation is not allowed on a key that is not yet valid."), "KeyNotYetValid"), false
	case !k.Expires.IsZero() && now.After(k.Expires):
		return inner(failure(403, "Forbidden", "Operation is not allowed on an expired key."), "KeyExpired"), false
	}
	return reply{}, true
}

func (s *Server) bundle(k *stored, kid string) reply {
	s.mu.Lock()
	attributes := map[string]any{"enabled": !k.Disabled, "created": k.made.Unix(), "updated": k.made.Unix(),
		"recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90, "exportable": k.Exportable}
	s.mu.Unlock()
	if !k.NotBefore.IsZero() {
		attributes["nbf"] = k.NotBefore.Unix()
	}
	if !k.Expires.IsZero() {
		attributes["exp"] = k.Expires.Unix()
	}
	if strings.HasSuffix(k.Type, "-HSM") {
		attributes["hsmPlatform"] = "2"
	}
	return reply{status: 200, body: map[string]any{"key": k.jwk(kid), "attributes": attributes}}
}

func (s *Server) list() reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []any{}
	for _, versions := range s.keys {
		k := versions[len(versions)-1]
		list = append(list, map[string]any{"kid": s.root + "/keys/" + k.Name, "attributes": map[string]any{"enabled": !k.Disabled}})
	}
	return reply{status: 200, body: map[string]any{"value": list, "nextLink": nil}}
}

// challenge tells where to get a token and for what.
func (s *Server) challenge(why string, fault *Fault) reply {
	authorization, resource := s.cfg.Authority+s.cfg.Tenant, s.cfg.Resource
	if fault != nil && fault.Kind == ForeignAuthority {
		authorization = "https://login.attacker.example/" + s.cfg.Tenant
	}
	if fault != nil && fault.Kind == ForeignResource {
		resource = "https://graph.microsoft.us"
	}
	a := failure(401, "Unauthorized", "%s", why)
	a.header = http.Header{"Www-Authenticate": {fmt.Sprintf("Bearer authorization=%q, resource=%q", authorization, resource)}}
	if fault != nil && fault.Kind == BrokenChallenge {
		a.header = http.Header{"Www-Authenticate": {`Bearer authorization="https:", resource="` + resource + `"`}}
	}
	return a
}

func (s *Server) count(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.stats)
}
