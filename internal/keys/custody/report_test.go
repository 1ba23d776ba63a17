package custody

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/e2e/keyvault/standin"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/vault"
	"jmlbridge/internal/outbound"
)

// TestReportOfWhatLiesHere: a key of a store can be used where that of it which lies here can.
func TestReportOfWhatLiesHere(t *testing.T) {
	const app = "11111111-aaaa-bbbb-cccc-222222222222"
	authority, err := tenant.Start(t.Context(), tenant.Config{Seed: tenant.Seed{Apps: []tenant.App{{Name: "keys", ID: app}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer authority.Close()
	at, roots, dir := authority.Endpoints(), x509.NewCertPool(), t.TempDir()
	roots.AppendCertsFromPEM(authority.CAPEM())
	server, err := standin.Start(t.Context(), standin.Config{
		Authority: at.Authority, Tenant: at.Tenant, Roots: roots, Resource: tenant.OtherResource,
		Keys:   []standin.Key{{Name: "signing", Type: "EC-HSM"}, {Name: "wrapping", Type: "RSA-HSM"}},
		Access: map[string][]string{app: {standin.Get, standin.Sign, standin.UnwrapKey}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	k := New(&vault.Config{
		Cloud: cloud.Config{Name: cloud.Custom, Authority: at.Authority, KeyStore: server.Host(), KeyStoreResource: tenant.OtherResource},
		Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret, Tenant: at.Tenant, Client: app,
			SecretFile: write("secret", []byte(authority.App("keys").Secret))},
		Transport: outbound.Config{Proxy: outbound.None, CAFile: write("ca.pem", append(authority.CAPEM(), server.CAPEM()...))},
	})
	place := func(name string) vault.Ref {
		kid, err := keys.ID(server.Public(name))
		if err != nil {
			t.Fatal(err)
		}
		return vault.Ref{Vault: server.URL(), Key: name, Version: server.Version(name), KID: kid, Public: filepath.Join(dir, name+".pub.pem")}
	}
	signing := place("signing")
	ledger := LedgerKey{Other: &vault.Wrapping{File: filepath.Join(dir, "ledger.wrapped"), Ref: place("wrapping")}}
	expect := func(what string, says ...string) {
		t.Helper()
		for i, l := range k.Report(t.Context(), append([]Use{{Purpose: "signing", Ref: &signing, Op: "sign"}}, LedgerUses(ledger, nil)...)) {
			if got := strings.Join(l.Problems, " "); (says[i] == "") != (got == "") || !strings.Contains(got, says[i]) {
				t.Errorf("%s: of %s: %q; expected it to say %q", what, l.Purpose, got, says[i])
			}
		}
	}
	expect("before init", "not in "+signing.Public+" yet", "")
	if _, err := k.Adopt(t.Context(), signing, "sign"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.MakeLedger(t.Context(), ledger); err != nil {
		t.Fatal(err)
	}
	expect("after init", "", "")
	other, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	text, err := keys.MarshalPublic(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	write("signing.pub.pem", text)
	write("ledger.wrapped", []byte("{}"))
	expect("exchanged", "is pinned", "want the form")
}
