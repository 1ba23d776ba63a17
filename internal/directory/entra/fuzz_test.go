package entra

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/directory"
)

// wire answers in place of the network: tokens as they should be, everything else with one answer.
type wire struct {
	status      int
	contentType string
	retryAfter  string
	body        string
	asked       int
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	answer := func(status int, contentType, body string) (*http.Response, error) {
		h := http.Header{"Content-Type": {contentType}}
		if w.retryAfter != "" {
			h.Set("Retry-After", w.retryAfter)
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1, Request: r}, nil
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		base := r.URL.Scheme + "://" + r.URL.Host + "/" + tenantID
		return answer(200, "application/json", `{"token_endpoint":"`+base+`/t","authorization_endpoint":"`+base+`/a","issuer":"`+base+`/v2.0"}`)
	case !strings.HasPrefix(r.URL.Path, "/v1.0/"):
		return answer(200, "application/json", `{"token_type":"Bearer","expires_in":3599,"access_token":"t"}`)
	}
	w.asked++
	return answer(w.status, w.contentType, w.body)
}

// FuzzAnswers: whatever comes back, an operation ends with success or with an error of ours, never with a
// panic, and never with an account or a list that was not in the answer.
func FuzzAnswers(f *testing.F) {
	for _, body := range []string{patJSON, `{"value":[` + patJSON + `]}`, `{"value":[]}`, `{}`, `[]`, `null`, ``, `{"id":7}`, `{"value":{}}`, `{"id":"` + userID + `","groupTypes":7}`,
		`{"id":"` + userID + `","employeeOrgData":[],"onPremisesExtensionAttributes":"x","signInSessionsValidFromDateTime":"never"}`,
		`{"@odata.type":"#microsoft.graph.group","id":"g","value":[{"@odata.type":7,"id":"x"}]}`, `{"error":{"code":"c","details":[null,{"code":7}],"message":"m"}}`,
		`{"value":[{"id":"x"}],"@odata.nextLink":"https://graph.invalid/v1.0/users"}`, `{"error":{"message":null}}`, `{"Message":"x"}`} {
		for _, status := range []int{200, 201, 204, 302, 400, 401, 429, 503} {
			f.Add(status, "application/json", "", body)
		}
	}
	f.Add(200, "text/html", "", "<html>")
	f.Add(429, "application/json", "Mon, 23 Nov 2026 05:00:00 GMT", "{}")
	f.Add(429, "application/json", "99999999999999999999", "{}")
	f.Fuzz(func(t *testing.T, status int, contentType, retryAfter, body string) {
		if status < 200 || status > 599 {
			return
		}
		w := &wire{status: status, contentType: contentType, retryAfter: retryAfter, body: body}
		tenant := overWire(t, w)
		for op, call := range operations {
			w.asked = 0
			receipt, err := call(t.Context(), tenant)
			if w.asked != len(receipt.Requests) || w.asked == 0 {
				t.Fatalf("%s: %d requests, receipt %+v", op, w.asked, receipt)
			}
			if err == nil {
				if status >= 300 {
					t.Errorf("%s: success after %d", op, status)
				}
				continue
			}
			e, ok := errors.AsType[*directory.Error](err)
			if !ok || e.Op != op || e.Code == "" || len(e.Kinds) == 0 || e.After < 0 || e.After > maxRetryAfter {
				t.Errorf("%s: %#v", op, err)
			}
			if errors.Is(err, directory.ErrUnsent) && e.Code != directory.CodeForeignLink {
				t.Errorf("%s: said to be unsent: %v", op, err)
			}
			_ = err.Error()
		}
	})
}

// overWire is a tenant whose whole network is w.
func overWire(t *testing.T, w *wire) *Tenant {
	t.Helper()
	c, err := cloud.Config{Name: cloud.AzureGovernment}.Cloud()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, []byte(secret))
	return open(t, Config{Cloud: c, Transport: w,
		Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret, Tenant: tenantID, Client: clientID, SecretFile: file}})
}
