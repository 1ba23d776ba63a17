package entra

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/directory"
)

var allKinds = []error{
	directory.ErrNotFound, directory.ErrConflict, directory.ErrAlready, directory.ErrDenied, directory.ErrInvalid,
	directory.ErrAmbiguous, directory.ErrThrottled, directory.ErrUnsent, directory.ErrNotReplicated,
}

// wantKinds checks that err matches exactly these kinds.
func wantKinds(t *testing.T, what string, err error, code string, kinds ...error) *directory.Error {
	t.Helper()
	e, ok := errors.AsType[*directory.Error](err)
	if !ok {
		t.Errorf("%s: error is %v, expected a *directory.Error", what, err)
		return &directory.Error{}
	}
	if e.Code != code {
		t.Errorf("%s: code %q, expected %q (%v)", what, e.Code, code, err)
	}
	for _, k := range allKinds {
		if got, want := errors.Is(err, k), slices.Contains(kinds, k); got != want {
			t.Errorf("%s: is %q: %v, expected %v (%v)", what, k, got, want, err)
		}
	}
	return e
}

// TestRefusals: every answer that refuses, for every operation: one request, the right kind, the receipt
// whole, and nothing of what the answer said about people.
func TestRefusals(t *testing.T) {
	const names = "Another object with the same value for property userPrincipalName already exists. pat.doe@agency.example"
	theirs := time.Now().Add(-time.Hour).UTC() // a clock that differs from ours
	date := func(d time.Duration) string { return theirs.Add(d).Format(http.TimeFormat) }
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		code   string
		reason string
		target string
		after  time.Duration
		kinds  []error
	}{
		{name: "not found", answer: refuses(404, "Request_ResourceNotFound", "Resource 'pat.doe' does not exist or one of its queried reference-property objects are not present.", ""),
			status: 404, code: "not-found", reason: "Request_ResourceNotFound", kinds: []error{directory.ErrNotFound}},
		{name: "conflict", answer: refuses(400, "Request_BadRequest", names, `[{"target":"userPrincipalName","code":"ObjectConflict"}]`),
			status: 400, code: "conflict", reason: "Request_BadRequest", target: "userPrincipalName", kinds: []error{directory.ErrConflict}},
		{name: "conflict of proxy addresses", answer: refuses(400, "Request_BadRequest", "x", `[{"target":"proxyAddresses","code":"ObjectConflict"},{"target":"pat.doe","code":"ConflictingObjects"}]`),
			status: 400, code: "conflict", reason: "Request_BadRequest", target: "proxyAddresses", kinds: []error{directory.ErrConflict}},
		{name: "conflict without details", answer: refuses(400, "Request_BadRequest", names, ""),
			status: 400, code: "conflict", reason: "Request_BadRequest", kinds: []error{directory.ErrConflict}},
		{name: "409", answer: refuses(409, "Directory_ConcurrencyViolation", "x", ""),
			status: 409, code: "conflict", reason: "Directory_ConcurrencyViolation", kinds: []error{directory.ErrConflict}},
		{name: "already", answer: refuses(400, "Request_BadRequest", "One or more added object references already exist for the following modified properties: 'members'.", ""),
			status: 400, code: "already", reason: "Request_BadRequest", kinds: []error{directory.ErrAlready}},
		{name: "not replicated", answer: refuses(400, "Request_BadRequest", "The source resource object or one of the objects being referenced don't exist.", ""),
			status: 400, code: "not-replicated", reason: "Request_BadRequest", kinds: []error{directory.ErrNotReplicated, directory.ErrNotFound}},
		{name: "other 400", answer: refuses(400, "Request_BadRequest", "pat.doe is not a valid value", ""),
			status: 400, code: "invalid", reason: "Request_BadRequest", kinds: []error{directory.ErrInvalid}},
		{name: "400 of a code that is a sentence", answer: refuses(400, "pat.doe@agency.example is wrong", "x", ""),
			status: 400, code: "invalid", kinds: []error{directory.ErrInvalid}},
		{name: "denied", answer: refuses(403, "Authorization_RequestDenied", "Insufficient privileges for pat.doe", ""),
			status: 403, code: "denied", reason: "Authorization_RequestDenied", kinds: []error{directory.ErrDenied}},
		{name: "token", answer: refuses(401, "InvalidAuthenticationToken", "token-1 of pat.doe", "", "WWW-Authenticate", `Bearer realm="", error="invalid_token"`),
			status: 401, code: "token-refused", reason: "InvalidAuthenticationToken", kinds: []error{directory.ErrDenied}},
		{name: "claims challenge", answer: refuses(401, "InvalidAuthenticationToken", "x", "", "WWW-Authenticate", `Bearer realm="", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ==", error="insufficient_claims"`),
			status: 401, code: "token-refused", reason: "InvalidAuthenticationToken", kinds: []error{directory.ErrDenied}},
		{name: "claims without a value", answer: refuses(401, "", "x", "", "WWW-Authenticate", `Bearer claims=x`),
			status: 401, code: "token-refused", kinds: []error{directory.ErrDenied}},
		{name: "throttled, seconds", answer: refuses(429, "TooManyRequests", "x", "", "Retry-After", "7"),
			status: 429, code: "throttled", reason: "TooManyRequests", after: 7 * time.Second, kinds: []error{directory.ErrThrottled}},
		{name: "throttled, date", answer: refuses(429, "TooManyRequests", "x", "", "Retry-After", date(30*time.Second), "Date", date(0)),
			status: 429, code: "throttled", reason: "TooManyRequests", after: 30 * time.Second, kinds: []error{directory.ErrThrottled}},
		{name: "throttled, past date", answer: refuses(429, "TooManyRequests", "x", "", "Retry-After", date(-time.Second), "Date", date(0)),
			status: 429, code: "throttled", reason: "TooManyRequests", kinds: []error{directory.ErrThrottled}},
		{name: "throttled, no time", answer: refuses(429, "TooManyRequests", "x", ""),
			status: 429, code: "throttled", reason: "TooManyRequests", kinds: []error{directory.ErrThrottled}},
		{name: "throttled, nonsense", answer: says(429, "", "", "Retry-After", "soon"),
			status: 429, code: "throttled", kinds: []error{directory.ErrThrottled}},
		{name: "500", answer: refuses(500, "UnknownError", "x", ""), status: 500, code: "unavailable", reason: "UnknownError", kinds: []error{directory.ErrAmbiguous}},
		{name: "502 of a gateway", answer: says(502, "text/html", "<html>pat.doe</html>"), status: 502, code: "unavailable", kinds: []error{directory.ErrAmbiguous}},
		{name: "503 that names a wait", answer: says(503, "text/html", "<html></html>", "Retry-After", "9"),
			status: 503, code: "unavailable", after: 9 * time.Second, kinds: []error{directory.ErrAmbiguous}},
		{name: "504", answer: refuses(504, "GatewayTimeout", "x", ""), status: 504, code: "unavailable", reason: "GatewayTimeout", kinds: []error{directory.ErrAmbiguous}},
		{name: "408", answer: says(408, "", ""), status: 408, code: "unavailable", kinds: []error{directory.ErrAmbiguous}},
		{name: "html", answer: says(403, "text/html", "<html>pat.doe</html>"), status: 403, code: "denied", kinds: []error{directory.ErrDenied, directory.ErrAmbiguous}},
		{name: "JSON of another form", answer: says(400, "application/json", `{"Message":"pat.doe"}`), status: 400, code: "invalid", kinds: []error{directory.ErrInvalid, directory.ErrAmbiguous}},
		{name: "JSON of other types", answer: says(400, "application/json", `{"error":"pat.doe"}`), status: 400, code: "invalid", kinds: []error{directory.ErrInvalid, directory.ErrAmbiguous}},
		{name: "null error", answer: says(404, "application/json", `{"error":null}`), status: 404, code: "unreadable", kinds: []error{directory.ErrAmbiguous}},
		{name: "404 of a gateway", answer: says(404, "text/html", "<html>pat.doe</html>"), status: 404, code: "unreadable", kinds: []error{directory.ErrAmbiguous}},
		{name: "404 of a gateway that speaks JSON", answer: says(404, "application/json", `{"statusCode":404,"message":"Resource not found"}`),
			status: 404, code: "unreadable", kinds: []error{directory.ErrAmbiguous}},
		{name: "broken JSON", answer: says(400, "application/json", `{"error":{"code":"Requ`), status: 400, code: "invalid", kinds: []error{directory.ErrInvalid, directory.ErrAmbiguous}},
		{name: "empty", answer: says(404, "application/json", ""), status: 404, code: "unreadable", kinds: []error{directory.ErrAmbiguous}},
		{name: "a status of nobody's", answer: says(499, "", ""), status: 499, code: "invalid", kinds: []error{directory.ErrInvalid, directory.ErrAmbiguous}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStub(t, tt.answer)
			cfg := s.config(t)
			log, logged := capture()
			cfg.Log = log
			tenant := open(t, cfg)
			sent := 0
			for op, call := range operations {
				receipt, err := call(t.Context(), tenant)
				e := wantKinds(t, op, err, tt.code, tt.kinds...)
				if e.Op != op || e.Status != tt.status || e.Reason != tt.reason || e.Target != tt.target || e.After != tt.after {
					t.Errorf("%s: %+v", op, e)
				}
				if directory.RetryAfter(err) != tt.after {
					t.Errorf("%s: retry after %s", op, directory.RetryAfter(err))
				}
				if throttled, ok := errors.AsType[*directory.ThrottledError](err); ok && throttled.After != tt.after {
					t.Errorf("%s: throttled %s", op, throttled.After)
				}
				sent++
				if n := s.count(); n != sent {
					t.Fatalf("%s: %d requests instead of one", op, n-sent+1)
				}
				got := s.requests()[sent-1]
				r := receipt.Requests
				if len(r) != 1 || r[0].Status != tt.status || r[0].ClientRequestID != got.header.Get("Client-Request-Id") || r[0].RequestID != fmt.Sprintf("srv-%d", sent) {
					t.Errorf("%s: receipt %+v", op, r)
				}
				impersonal(t, err.Error())
			}
			impersonal(t, logged.String())
		})
	}
}

// impersonal checks that s names no person, password or token.
func impersonal(t *testing.T, s string) {
	t.Helper()
	for _, never := range []string{"pat", "Pat", "Doe", "doe", "agency", "token-1", "Bearer", secret} {
		if strings.Contains(s, never) {
			t.Errorf("%q is in: %s", never, s)
		}
	}
}

// TestNoUsableAnswer: for every operation that changes something, an answer that is lost or spoiled is
// ambiguous whether or not the change was made.
func TestNoUsableAnswer(t *testing.T) {
	drop := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(200)
		io.WriteString(w, `{"id":"`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		code   string
		status int
		plain  bool // an empty answer, which a revocation may have with any status
	}{
		{"connection lost", drop, "lost-answer", 0, false},
		{"cut short", cut, "lost-answer", 200, false},
		{"broken JSON", says(200, jsonType, `{"id":"pat.doe"`), "unreadable", 200, false},
		{"a page of a proxy", says(200, "text/html", `<html>pat.doe, please sign in</html>`), "unreadable", 200, false},
		{"no content type", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, `{"id":"x"}`)
		}, "unreadable", 200, false},
		{"redirect", says(302, "", "", "Location", "https://elsewhere.example/"), "unreadable", 302, false},
		{"redirect to nowhere", says(302, "", ""), "unreadable", 302, false},
		{"not modified", says(304, "", ""), "unreadable", 304, false},
		{"too long", says(200, jsonType, `"`+strings.Repeat("x", maxAnswer)+`"`), "unreadable", 200, false},
		{"nothing", says(200, jsonType, ""), "unreadable", 200, true},
	} {
		noUsableAnswer := func(t *testing.T, http2 bool) {
			s := newStub(t, tt.answer)
			cfg := s.config(t)
			cfg.Transport.(*http.Transport).ForceAttemptHTTP2 = http2
			tenant := open(t, cfg)
			for op, call := range operations {
				before := s.count()
				receipt, err := call(t.Context(), tenant)
				reads := slices.Contains([]string{"get", "get-by-upn", "find-by-mark", "find-by-employee-id", "groups", "group", "members", "manager"}, op)
				switch {
				case tt.plain && op == "revoke-sessions":
					if err != nil {
						t.Errorf("%s: %v", op, err)
					}
				default:
					e := wantKinds(t, op, err, tt.code, directory.ErrAmbiguous)
					if e.Status != tt.status || len(receipt.Requests) != 1 || receipt.Requests[0].Status != tt.status {
						t.Errorf("%s: %+v, %+v", op, e, receipt)
					}
					impersonal(t, err.Error())
				}
				// Over HTTP/1.1 net/http itself sends a GET again when a used connection breaks before any answer.
				// It never does so with a write.
				if n := s.count() - before; n != 1 && (http2 || !reads || n != 2) {
					t.Fatalf("%s: %d requests instead of one", op, n)
				}
			}
		}
		t.Run(tt.name+" over HTTP/2", func(t *testing.T) { noUsableAnswer(t, true) })
		t.Run(tt.name+" over HTTP/1.1", func(t *testing.T) { noUsableAnswer(t, false) })
	}
}

// TestHalfAnswers: whole JSON that is not what was asked for is not a fact, least of all "nobody".
func TestHalfAnswers(t *testing.T) {
	for name, body := range map[string]string{
		"object": `{}`, "list": `[]`, "null": `null`, "text": `"x"`, "number": `1`, "error": `{"error":{"code":"x"}}`,
		"no list": `{"value":null}`, "list of null": `{"value":[null]}`, "list of empty": `{"value":[{}]}`,
		"someone else": `{"id":"other","userPrincipalName":"other@agency.example"}`, "value of text": `{"value":"x"}`,
		"wrong types": `{"id":7,"accountEnabled":"no","value":[7]}`, "deep": strings.Repeat(`{"value":[`, 3) + strings.Repeat(`]}`, 3),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, says(200, jsonType, body))
			tenant := s.tenant(t)
			for _, op := range []string{"get", "get-by-upn", "find-by-mark", "find-by-employee-id", "groups", "group", "manager", "create"} {
				if name == "someone else" && op == "manager" {
					continue // it is anyone's to be a manager
				}
				_, err := operations[op](t.Context(), tenant)
				wantKinds(t, op, err, "unreadable", directory.ErrAmbiguous)
			}
		})
	}
}

func TestForeignLink(t *testing.T) {
	elsewhere := newStub(t, says(200, jsonType, `{"value":[]}`))
	for name, link := range map[string]func(*stub) string{
		"host":    func(*stub) string { return elsewhere.URL + "/v1.0/users?page=2" },
		"scheme":  func(s *stub) string { return strings.Replace(s.URL, "https", "http", 1) + "/v1.0/users?page=2" },
		"version": func(s *stub) string { return s.URL + "/beta/users?page=2" },
		"user": func(s *stub) string {
			return strings.Replace(s.URL, "https://", "https://u:p@", 1) + "/v1.0/users?page=2"
		},
		"text": func(*stub) string { return "::" },
	} {
		t.Run(name, func(t *testing.T) {
			var s *stub
			s = newStub(t, func(w http.ResponseWriter, r *http.Request) {
				says(200, jsonType, fmt.Sprintf(`{"value":[],"@odata.nextLink":%q}`, link(s)))(w, r)
			})
			for _, op := range []string{"find-by-mark", "groups"} {
				before := s.count()
				_, err := operations[op](t.Context(), s.tenant(t))
				if name == "text" {
					wantKinds(t, op, err, directory.CodeUnreadable, directory.ErrAmbiguous)
				} else {
					wantKinds(t, op, err, directory.CodeForeignLink, directory.ErrInvalid, directory.ErrUnsent)
				}
				impersonal(t, err.Error())
				if n := s.count() - before; n != 1 {
					t.Errorf("%s: %d requests", op, n)
				}
			}
		})
	}
	if n := elsewhere.count(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

func TestPagesAreBounded(t *testing.T) {
	var s *stub
	n := 0
	s = newStub(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		says(200, jsonType, fmt.Sprintf(`{"value":[],"@odata.nextLink":"%s/v1.0/users?page=%d"}`, s.URL, n))(w, r)
	})
	_, err := operations["groups"](t.Context(), s.tenant(t))
	wantKinds(t, "endless", err, directory.CodeTooLong, directory.ErrInvalid)
	if got := s.count(); got != maxPages {
		t.Errorf("%d pages read", got)
	}
	same := newStub(t, nil)
	same.answer = func(w http.ResponseWriter, r *http.Request) {
		says(200, jsonType, fmt.Sprintf(`{"value":[],"@odata.nextLink":"%s/v1.0/users?page=1"}`, same.URL))(w, r)
	}
	_, err = operations["find-by-mark"](t.Context(), same.tenant(t))
	wantKinds(t, "circle", err, directory.CodeUnreadable, directory.ErrAmbiguous)
}

func TestNoConnection(t *testing.T) {
	s := newStub(t, says(204, "", ""))
	cfg := s.config(t)
	cfg.Transport.(*http.Transport).ForceAttemptHTTP2 = false // whose idle connections close at once
	tenant := open(t, cfg)
	if _, err := tenant.Disable(t.Context(), userID); err != nil { // so that a token is there
		t.Fatal(err)
	}
	cfg.Transport.(*http.Transport).CloseIdleConnections() // one that breaks would be another case
	s.Close()
	receipt, err := tenant.Disable(t.Context(), userID)
	e := wantKinds(t, "closed", err, directory.CodeNoConnection, directory.ErrAmbiguous, directory.ErrUnsent)
	if e.Cause == nil || !strings.Contains(err.Error(), "refused") || len(receipt.Requests) != 1 || receipt.Requests[0].ClientRequestID == "" {
		t.Errorf("%v, %+v", err, receipt)
	}
}

func TestDeadlines(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 1)
	s := newStub(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	defer close(release)
	tenant := s.tenant(t)
	if _, err := tenant.token.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{s.config(t).Cloud.Scope}}); err != nil {
		t.Fatal(err)
	}
	tenant.timeout = time.Second // for the request alone
	_, err := tenant.Disable(t.Context(), userID)
	wantKinds(t, "our own", err, directory.CodeLostAnswer, directory.ErrAmbiguous)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	<-arrived

	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err = s.tenant(t).Disable(ctx, userID)
	wantKinds(t, "cancelled under way", err, directory.CodeLostAnswer, directory.ErrAmbiguous)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}

	_, err = s.tenant(t).Disable(ctx, userID)
	if !errors.Is(err, directory.ErrUnsent) || !errors.Is(err, directory.ErrAmbiguous) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

// TestRefusalsLeakNothing: the SDK's own retries leave a connection behind for each refused attempt.
func TestRefusalsLeakNothing(t *testing.T) {
	s := newStub(t, says(429, "application/json", `{"error":{"code":"TooManyRequests"}}`, "Retry-After", "1"))
	cfg := s.config(t)
	cfg.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	var dials atomic.Int32
	dial := cfg.Transport.(*http.Transport).DialContext
	cfg.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, network, address)
	}
	tenant := open(t, cfg)
	for range 50 {
		_, err := tenant.Disable(t.Context(), userID)
		wantKinds(t, "disable", err, directory.CodeThrottled, directory.ErrThrottled)
	}
	if n := dials.Load(); n > 2 {
		t.Errorf("%d connections for 50 calls one after another", n)
	}
}

func TestBadConfigs(t *testing.T) {
	s := newStub(t, says(204, "", ""))
	for name, change := range map[string]func(*Config){
		"no transport given":                                   func(c *Config) { c.Transport = nil },
		"the cloud is not complete":                            func(c *Config) { c.Cloud = cloud.Cloud{} },
		"expected extensionAttribute1 to extensionAttribute15": func(c *Config) { c.MarkAttribute = "extensionAttribute16" },
		"mark attribute is \"employeeId\"":                     func(c *Config) { c.MarkAttribute = "employeeId" },
		"mark attribute is \"extension_1_x\"":                  func(c *Config) { c.MarkAttribute = "extension_1_x" },
		"no such file":                                         func(c *Config) { c.Credential.SecretFile = "/nowhere/secret" },
	} {
		cfg := s.config(t)
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v; expected it to say %q", err, name)
		}
	}
}
