package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/keys/vault"
	"jmlbridge/internal/outbound"
)

// TestProgram: the program says where it is, takes the tenant's tokens, and obeys faults.
func TestProgram(t *testing.T) {
	authority, err := tenant.Start(t.Context(), tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer authority.Close()
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	at, app := authority.Endpoints(), authority.App("reader")
	endpoints, err := json.Marshal(map[string]any{"tenant": at.Tenant, "authority": at.Authority, "ca": write("tenant-ca.pem", authority.CAPEM()),
		"apps": map[string]any{"reader": map[string]string{"clientId": app.ID}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	in, commands := io.Pipe()
	out, stdout := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"-dir", dir, "-tenant", write("endpoints.json", endpoints), "-allow", "reader=get", "-key", "signing:EC-HSM:P-384"}, in, stdout, os.Stderr)
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var r ready
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(r.CA)
	if err != nil {
		t.Fatal(err)
	}
	s, err := vault.Open(t.Context(), vault.Config{
		Cloud:      cloud.Config{Name: cloud.Custom, Authority: at.Authority, KeyStore: r.Host, KeyStoreResource: r.Resource},
		Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret, Tenant: at.Tenant, Client: app.ID, SecretFile: write("secret", []byte(app.Secret))},
		Transport:  outbound.Config{Proxy: outbound.None, CAFile: write("both.pem", append(authority.CAPEM(), ca...))},
	})
	if err != nil {
		t.Fatal(err)
	}
	ref := vault.Ref{Vault: r.URL, Key: "signing", Version: r.Keys["signing"].Version, KID: r.Keys["signing"].KID}
	if _, err := s.Pinned(t.Context(), ref, "sign"); err != nil {
		t.Error(err)
	}
	io.WriteString(commands, `{"kind":"error","op":"get","status":404,"code":"KeyNotFound"}`+"\n")
	io.WriteString(commands, `{"kind":"nonsense"}`+"\n") // it is read after the first one was put in force
	if _, err := s.Pinned(t.Context(), ref, "sign"); err == nil || !strings.Contains(err.Error(), "KeyNotFound") {
		t.Errorf("in spite of a fault: %v", err)
	}
	stop()
	if c := <-code; c != 0 {
		t.Errorf("exit %d", c)
	}
	for _, args := range [][]string{{}, {"-dir", dir}, {"-dir", dir, "-tenant", endpointsOf(dir), "-key", "x"}, {"-dir", dir, "-tenant", endpointsOf(dir), "-allow", "nobody=get"},
		{"-dir", dir, "-tenant", filepath.Join(dir, "none")}, {"-nonsense"}} {
		if c := run(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard); c != 2 {
			t.Errorf("%q: exit %d", args, c)
		}
	}
}

func endpointsOf(dir string) string { return filepath.Join(dir, "endpoints.json") }
