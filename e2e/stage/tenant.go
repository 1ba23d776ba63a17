package stage

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"jmlbridge/e2e/sandbox/tenant"
)

// Endpoints is what the sandbox tells about itself when it is ready.
type Endpoints struct {
	Tenant       string         `json:"tenant"`
	Authority    string         `json:"authority"`
	Graph        string         `json:"graph"`
	GraphV1      string         `json:"graphV1"`
	CA           string         `json:"ca"`      // file
	Journal      string         `json:"journal"` // file
	Control      string         `json:"control"`
	ControlToken string         `json:"controlTokenFile"`
	Apps         map[string]App `json:"apps"`
}

// App is an app registration of the sandbox.
type App struct {
	ClientID    string `json:"clientId"`
	Secret      string `json:"secretFile"`
	Certificate string `json:"certificateFile"`
}

// Tenant asks the sandbox what happened and what is, past everything that the bridge says.
type Tenant struct {
	Endpoints
	client *http.Client
	token  string
}

func newTenant(ep Endpoints) (*Tenant, error) {
	pem, err := os.ReadFile(ep.CA)
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(ep.ControlToken)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ep.CA)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	if path, ok := strings.CutPrefix(ep.Control, "unix:"); ok {
		ep.Control = "https://localhost" // a name in its certificate
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	return &Tenant{
		Endpoints: ep, token: strings.TrimSpace(string(token)),
		client: &http.Client{Timeout: time.Minute, Transport: transport},
	}, nil
}

func (t *Tenant) close() { t.client.CloseIdleConnections() }

// Journal returns the requests after number n, oldest first.
func (t *Tenant) Journal(ctx context.Context, n uint64) ([]tenant.Entry, error) {
	body, err := t.do(ctx, http.MethodGet, fmt.Sprintf("/journal?since=%d", n), nil)
	if err != nil {
		return nil, err
	}
	var list []tenant.Entry
	for d := json.NewDecoder(bytes.NewReader(body)); ; {
		var e tenant.Entry
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the sandbox's journal: %w", err)
		}
		list = append(list, e)
	}
}

// State is the whole tenant.
func (t *Tenant) State(ctx context.Context) (tenant.Snapshot, error) {
	var s tenant.Snapshot
	body, err := t.do(ctx, http.MethodGet, "/state", nil)
	if err == nil {
		err = json.Unmarshal(body, &s)
	}
	return s, err
}

// Passwords are those that clients sent so far, one for each request that had one.
func (t *Tenant) Passwords(ctx context.Context) (list []string, err error) {
	body, err := t.do(ctx, http.MethodGet, "/passwords", nil)
	if err == nil {
		err = json.Unmarshal(body, &list)
	}
	return list, err
}

// Comparable is the tenant without ids and times: equal texts are equal tenants.
func (t *Tenant) Comparable(ctx context.Context) (string, error) {
	body, err := t.do(ctx, http.MethodGet, "/state/comparable", nil)
	return string(body), err
}

// AddFaults puts faults in force.
func (t *Tenant) AddFaults(ctx context.Context, list ...tenant.Fault) error {
	type spoken struct { // the control API takes durations as text
		tenant.Fault
		RetryAfter string `json:"retryAfter,omitempty"`
		Delay      string `json:"delay,omitempty"`
	}
	var out []spoken
	for _, f := range list {
		s := spoken{Fault: f}
		if f.RetryAfter != 0 {
			s.RetryAfter = f.RetryAfter.String()
		}
		if f.Delay != 0 {
			s.Delay = f.Delay.String()
		}
		out = append(out, s)
	}
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	_, err = t.do(ctx, http.MethodPost, "/faults", body)
	return err
}

// Faults lists the faults in force and how often each has struck.
func (t *Tenant) Faults(ctx context.Context) ([]tenant.Hits, error) {
	var list []tenant.Hits
	body, err := t.do(ctx, http.MethodGet, "/faults", nil)
	if err == nil {
		err = json.Unmarshal(body, &list)
	}
	return list, err
}

// RemoveFault ends the fault of this name; "" ends all.
func (t *Tenant) RemoveFault(ctx context.Context, name string) error {
	path := "/faults"
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	_, err := t.do(ctx, http.MethodDelete, path, nil)
	return err
}

// Outage begins or ends an outage of the whole tenant.
func (t *Tenant) Outage(ctx context.Context, o tenant.Outage) error {
	_, err := t.do(ctx, http.MethodPost, "/outage/"+string(o), nil)
	return err
}

// Release lets go what a gate holds.
func (t *Tenant) Release(ctx context.Context, gate string) error {
	_, err := t.do(ctx, http.MethodPost, "/gates/"+url.PathEscape(gate)+"/release", nil)
	return err
}

// WaitHeld returns when a gate holds n requests. The sandbox waits 30 s at most.
func (t *Tenant) WaitHeld(ctx context.Context, gate string, n int) error {
	_, err := t.do(ctx, http.MethodGet, fmt.Sprintf("/gates/%s/held?n=%d", url.PathEscape(gate), n), nil)
	return err
}

// RevokeTokens voids all tokens of an app.
func (t *Tenant) RevokeTokens(ctx context.Context, app string) error {
	_, err := t.do(ctx, http.MethodPost, "/tokens/"+url.PathEscape(app)+"/revoke", nil)
	return err
}

// Plant adds groups, units and users as if they had always been there: YAML or JSON as in a seed file.
func (t *Tenant) Plant(ctx context.Context, seed string) error {
	_, err := t.do(ctx, http.MethodPost, "/plant", []byte(seed))
	return err
}

func (t *Tenant) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(t.Control, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("sandbox: %s %s answered %d: %s", method, path, resp.StatusCode, bytes.TrimSpace(got))
	}
	return got, nil
}
