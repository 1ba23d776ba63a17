package custody

import (
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/config"
	"jmlbridge/internal/doctor"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/keys/vault"
)

const version = "0123456789abcdef0123456789abcdef"

type doc struct {
	Key    Key           `yaml:"key"`
	Ledger LedgerKey     `yaml:"ledger"`
	Second *vault.Ref    `yaml:"second"`
	Store  *vault.Config `yaml:"store"`
}

// judge reads text as a program does.
func judge(text string) (*doc, error) {
	d := &doc{}
	f, err := config.Parse("/etc/jml/x.yaml", []byte(text), d)
	if err != nil {
		return nil, err
	}
	if err := CheckKey(f, "$.key", &d.Key); err != nil {
		return nil, err
	}
	if err := CheckLedger(f, "$.ledger", &d.Ledger); err != nil {
		return nil, err
	}
	var refs []*vault.Ref
	if d.Key.Other != nil {
		refs = append(refs, d.Key.Other)
	}
	if d.Ledger.Other != nil {
		refs = append(refs, &d.Ledger.Other.Ref)
	}
	if d.Second != nil {
		if err := Check(f, "$.second", d.Second); err != nil {
			return nil, err
		}
		refs = append(refs, d.Second)
	}
	return d, CheckStore(f, "$.store", d.Store, refs...)
}

const store = "store: {cloud: {name: AzureGovernment}, credential: {kind: managed-identity}, transport: {ca_file: ca.pem}}\n"

func ref(name string) string {
	return "{vault: https://jml.vault.usgovcloudapi.net, key: " + name + ", version: " + version + "}"
}

func TestPlaces(t *testing.T) {
	d, err := judge("key: keys/a.pem\nledger: keys/ledger.pem\n")
	if err != nil || d.Key.Path != "/etc/jml/keys/a.pem" || PublicFile(d.Key) != "/etc/jml/keys/a.pub.pem" || File(d.Ledger) != "/etc/jml/keys/ledger.pem" ||
		Describe(d.Key) != d.Key.Path || DescribeLedger(d.Ledger) != d.Ledger.Path {
		t.Errorf("%+v, %v", d, err)
	}
	d, err = judge("key: " + ref("a") + "\nledger: {file: keys/l.wrapped, vault: https://jml.vault.usgovcloudapi.net, key: b, version: " + version + "}\nsecond: " + ref("c") + "\n" + store)
	if err != nil || PublicFile(d.Key) != "/etc/jml/keys/a.pub.pem" || File(d.Ledger) != "/etc/jml/keys/l.wrapped" || d.Second.Public != "/etc/jml/keys/c.pub.pem" ||
		d.Store.Transport.CAFile != "/etc/jml/ca.pem" || !strings.Contains(Describe(d.Key), "/keys/a/01234567") || !strings.Contains(DescribeLedger(d.Ledger), "wrapped under") {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestBadPlaces(t *testing.T) {
	file := "key: keys/a.pem\nledger: keys/ledger.pem\n"
	for text, says := range map[string]string{
		"ledger: x\n":                        "want a key file, or a key in a key store",
		"key: x\n":                           "want the ledger's key file",
		"key: " + ref("a") + "\nledger: x\n": "say here how it is reached",
		"key: x\nledger: " + ref("b") + "\n": "file: want the file",
		file + "second: {vault: x}\n":        "second: vault: want an address",
		file + "second: " + ref("c") + "\nstore: {cloud: {name: AzurePublic}, credential: {kind: managed-identity}}\n":       "not in cloud AzurePublic",
		file + "second: " + ref("c") + "\nstore: {cloud: {name: Azure}, credential: {kind: managed-identity}}\n":             `name is "Azure"`,
		"key: " + ref("a") + "\nledger: x\nsecond: " + ref("A") + "\n" + store:                                               "has two purposes",
		"key: " + ref("a") + "\nledger: x\nsecond: " + strings.Replace(ref("a"), version, "f"+version[1:], 1) + "\n" + store: "are versions of one key",
		"key: {vault: https://jml.vault.usgovcloudapi.net, key: a, versoin: " + version + "}\nledger: x\n":                   `unknown key "versoin"`,
		"key: {vault: https://jml.vault.usgovcloudapi.net, key: a, version: latest}\nledger: x\n":                            "the newest one is not followed",
	} {
		if _, err := judge(text); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "x.yaml") {
			t.Errorf("%q: %v; expected it to say %q", text, err, says)
		}
	}
}

// TestFiles: keys in files need no store, and one in a store has no file to fall back to.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	k := New(nil)
	signing, err := keys.GenerateSigning(keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.pem")
	if err := keys.WritePrivate(path, signing); err != nil {
		t.Fatal(err)
	}
	if got, err := k.Signing(Key{Path: path}); err != nil || !got.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(signing.Public()) {
		t.Errorf("%v", err)
	}
	ledger := LedgerKey{Path: filepath.Join(dir, "ledger.pem")}
	pub, err := k.MakeLedger(t.Context(), ledger)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.MakeLedger(t.Context(), ledger); err == nil {
		t.Error("a ledger's key was made over another")
	}
	key, err := k.Ledger(ledger)
	if err != nil || !pub.Equal(key.Public()) || Unwrap(key) != nil {
		t.Errorf("%v", err)
	}
	r := vault.Ref{Vault: "https://jml.vault.usgovcloudapi.net", Key: "a", Version: version, Public: path}
	for name, open := range map[string]func() error{
		"signing":    func() error { _, err := k.Signing(Key{Other: &r}); return err },
		"decryption": func() error { _, err := k.Decryption(Key{Other: &r}); return err },
		"ledger": func() error {
			_, err := k.Ledger(LedgerKey{Other: &vault.Wrapping{File: ledger.Path, Ref: r}})
			return err
		},
		"adopt": func() error { _, err := k.Adopt(t.Context(), r, "sign"); return err },
	} {
		if err := open(); err == nil {
			t.Errorf("%s: opened without a store", name)
		}
	}
	// A store that cannot even be configured is an error, and the file beside it is not looked at.
	k = New(&vault.Config{Cloud: cloud.Config{Name: cloud.AzureGovernment}, Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret, Tenant: "t", Client: "c", SecretFile: filepath.Join(dir, "none")}})
	if _, err := k.Signing(Key{Path: path, Other: &r}); err == nil || !strings.Contains(err.Error(), "secret_file") {
		t.Errorf("%v", err)
	}
	lines := k.Report(t.Context(), append([]Use{{Purpose: "signing", File: path, Read: func() (crypto.PublicKey, error) { return signing.Public(), nil }},
		{Purpose: "decryption", Ref: &r, Op: "decrypt"}}, LedgerUses(ledger, nil)...))
	var out strings.Builder
	if err := Print(&out, lines); err != nil || Sound(lines) || len(lines) != 3 || len(lines[0].Problems) != 0 || len(lines[1].Problems) != 1 || len(lines[2].Problems) != 0 ||
		!strings.Contains(out.String(), "Not every key") || !strings.Contains(out.String(), lines[0].KID) {
		t.Errorf("%v\n%s", err, out.String())
	}
	// The doctor looks at what is in stores alone, and calls a store that cannot be asked bad.
	found := k.Examine(t.Context(), append([]Use{{Purpose: "decryption", Ref: &r, Op: "decrypt"}}, LedgerUses(ledger, nil)...))
	if len(found) != 1 || found[0].Name != "decryption" || found[0].Verdict != doctor.Bad || !strings.Contains(found[0].Text, "secret_file") || found[0].Do == "" {
		t.Errorf("%+v", found)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
