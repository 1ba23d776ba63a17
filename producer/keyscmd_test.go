package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/e2e/keyvault/standin"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/ledger/tiles"
)

// A second ledger key is adopted for the ledger as it is called since a recovery, or not at all.
func TestAdoptASecondKey(t *testing.T) {
	const app = "11111111-aaaa-bbbb-cccc-222222222222"
	authority, err := tenant.Start(t.Context(), tenant.Config{Seed: tenant.Seed{Apps: []tenant.App{{Name: "keys", ID: app}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer authority.Close()
	at, roots := authority.Endpoints(), x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.CAPEM())
	keyStore, err := standin.Start(t.Context(), standin.Config{
		Authority: at.Authority, Tenant: at.Tenant, Roots: roots, Resource: tenant.OtherResource,
		Keys: []standin.Key{{Name: "second", Type: "EC-HSM"}}, Access: map[string][]string{app: {standin.Get, standin.Sign}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer keyStore.Close()
	kid, err := keys.ID(keyStore.Public("second"))
	if err != nil {
		t.Fatal(err)
	}

	p := newPlace(t)
	p.write(t, "secret", authority.App("keys").Secret)
	p.write(t, "ca.pem", string(authority.CAPEM())+string(keyStore.CAPEM()))
	with := strings.Replace(template, "key: keys/ledger.pem,", fmt.Sprintf("key: keys/ledger.pem, second_key: {vault: %q, key: second, version: %q, kid: %s},",
		keyStore.URL(), keyStore.Version("second"), kid), 1) + fmt.Sprintf(`
key_store:
  cloud: {name: custom, authority: %q, key_store: %q, key_store_resource: %s}
  credential: {kind: client-secret, client: %s, tenant: %s, secret_file: secret}
  transport: {ca_file: ca.pem, proxy: none}
`, at.Authority, keyStore.Host(), tenant.OtherResource, app, at.Tenant)
	p.must(t, "init")
	p.must(t, "recover", "--force", "--reason", "disk lost")
	p.write(t, "producer.yaml", with)

	line := filepath.Join(p.dir, "producer-ledger-second-g2.vkey")
	p.write(t, filepath.Base(line), "another's")
	if code, _, errs := p.try("", "keys", "--adopt"); code == exitDone || !strings.Contains(errs, "exists") {
		t.Errorf("over another's line: %d %s", code, errs)
	}
	if err := os.Remove(line); err != nil {
		t.Fatal(err)
	}
	p.must(t, "keys", "--adopt")
	text, err := os.ReadFile(line)
	if err != nil {
		t.Fatal(err)
	}
	v, err := tiles.NewSecondVerifier(strings.TrimSpace(string(text)))
	if err != nil || v.Name() != "iam.mssp.example/producer/g2" {
		t.Errorf("%s: %v", text, err)
	}
}
