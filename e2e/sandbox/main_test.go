package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/e2e/sandbox/tenant"
)

// What the program leaves in its folder is enough for a client to get in.
func TestRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tenant")
	seed := write(t, "tenant: {id: 0A0A0A0A-0000-0000-0000-000000000001}\ngroups: [{displayName: SOC}]\nusers: [{userPrincipalName: breakglass@rehearsal.example, displayName: Break Glass, groups: [SOC]}]\n")
	faults := write(t, "- {kind: error, path: ^/v1.0/organization, status: 502}\n")
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done := make(chan int)
	var stderr bytes.Buffer
	go func() {
		done <- run(ctx, []string{"-dir", dir, "-seed", seed, "-faults", faults, "-quotas", "-lag", "1ms"}, in, &stderr)
	}()
	var ready endpoints
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		t.Fatal(err)
	}
	var refusal bytes.Buffer
	if code := run(ctx, []string{"-dir", dir}, io.Discard, &refusal); code != 2 || !strings.Contains(refusal.String(), "another sandbox works in") {
		t.Fatalf("a second one in the folder: exit %d, %s", code, &refusal)
	}
	var left endpoints
	if err := json.Unmarshal(read(t, filepath.Join(dir, "endpoints.json")), &left); err != nil {
		t.Fatal(err)
	}
	if left.Graph != ready.Graph || left.Tenant != "0a0a0a0a-0000-0000-0000-000000000001" || left.Host != "127.0.0.1" || left.Scope != left.Graph+"/.default" {
		t.Fatalf("endpoints: %+v", left)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(read(t, left.CA)) {
		t.Fatal("no CA certificate")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	app := left.Apps["bridge"]
	for _, path := range []string{app.SecretFile, app.CertificatePEM, left.ControlToken, filepath.Join(dir, "endpoints.json"), left.Journal} {
		if mode := stat(t, path).Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", path, mode)
		}
	}
	resp, err := client.PostForm(left.Authority+left.Tenant+"/oauth2/v2.0/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {app.ClientID},
		"client_secret": {strings.TrimSpace(string(read(t, app.SecretFile)))}, "scope": {left.Scope}})
	if err != nil {
		t.Fatal(err)
	}
	var token struct {
		Text string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for path, want := range map[string]int{"/users/breakglass@rehearsal.example": 200, "/organization": 502} {
		if got := get(t, client, left.GraphV1+path, token.Text); got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
	if got := get(t, client, left.Control+"/state", strings.TrimSpace(string(read(t, left.ControlToken)))); got != 200 {
		t.Errorf("control: got %d", got)
	}
	stop()
	if code := <-done; code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if lines := strings.Count(string(read(t, left.Journal)), "\n"); lines != 3 {
		t.Errorf("%d journal lines", lines)
	}
}

// The example that users start from is a seed that works.
func TestExampleSeed(t *testing.T) {
	seed, err := tenant.ReadSeed("seed.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := tenant.Start(t.Context(), tenant.Config{Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	state := s.Snapshot()
	if u := state.User("by.hand@rehearsal.example"); u == nil || u.Properties["department"] != "Operations" || len(u.Groups) != 1 {
		t.Fatalf("user: %+v", u)
	}
	if len(state.Groups) != 5 || len(state.Units) != 1 {
		t.Fatalf("%d groups, %d units", len(state.Groups), len(state.Units))
	}
}

func TestMisuse(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		args []string
		code int
		text string
	}{
		{"no folder", nil, 2, "-dir is required"},
		{"unknown flag", []string{"-x"}, 2, "-x"},
		{"argument", []string{"-dir", dir, "more"}, 2, `unexpected argument "more"`},
		{"no seed", []string{"-dir", dir, "-seed", filepath.Join(dir, "none")}, 2, "read seed"},
		{"unknown key", []string{"-dir", dir, "-seed", write(t, "groups:\n- {displayName: A, shoeSize: 4}\n")}, 2, "shoeSize"},
		{"bad fault", []string{"-dir", dir, "-faults", write(t, "- {kind: nothing}\n")}, 2, `kind "nothing"`},
		{"not loopback", []string{"-dir", dir, "-listen", "0.0.0.0:0"}, 2, "not on loopback"},
		{"bad user", []string{"-dir", dir, "-seed", write(t, "users: [{userPrincipalName: a@elsewhere.example, displayName: A}]")}, 2, "a@elsewhere.example"},
		{"one id twice", []string{"-dir", dir, "-seed", write(t, "groups: [{displayName: A, id: x}]\nusers: [{userPrincipalName: a@rehearsal.example, displayName: A, id: X}]")}, 2, "two objects have the id x"},
		{"bad nesting", []string{"-dir", dir, "-seed", write(t, "groups: [{displayName: A, memberOf: [B]}]")}, 2, "memberOf B"},
		{"help", []string{"-h"}, 0, "sandbox serves a tenant"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tt.args, &stdout, &stderr); code != tt.code || !strings.Contains(stderr.String(), tt.text) || stdout.Len() > 0 {
				t.Fatalf("exit code %d, want %d with %q: %s%s", code, tt.code, tt.text, stderr.String(), stdout.String())
			}
		})
	}
}

func get(t *testing.T, client *http.Client, url, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func stat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
