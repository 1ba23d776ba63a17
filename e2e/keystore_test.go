package e2e

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/e2e/keyvault/standin"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/e2e/stage"
	"jmlbridge/internal/keys"
)

// keyStore is a stand-in for Key Vault for both sides of a bridge: the rehearsal tenant's "reader" is the enclave's
// credential for it, and "admin" the producer's.
type keyStore struct {
	t     *testing.T
	dir   string // in which the bridge is
	proxy string // YAML of transport beside ca_file
	*standin.Server
}

// newKeyStore makes a store that begins when the bridge's first configuration is written: it needs the tenant.
func newKeyStore(t *testing.T, proxy string) *keyStore {
	return &keyStore{t: t, dir: t.TempDir(), proxy: proxy}
}

func (k *keyStore) read(path ...string) []byte {
	k.t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{k.dir, "bridge"}, path...)...))
	if err != nil {
		k.t.Fatal(err)
	}
	return text
}

func (k *keyStore) start() (ep stage.Endpoints) {
	k.t.Helper()
	if err := json.Unmarshal(k.read("tenant", "endpoints.json"), &ep); err != nil {
		k.t.Fatal(err)
	}
	if k.Server != nil {
		return ep
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(k.read("tenant", "ca.pem"))
	var err error
	k.Server, err = standin.Start(k.t.Context(), standin.Config{
		Authority: ep.Authority, Tenant: ep.Tenant, Roots: roots, Resource: tenant.OtherResource,
		Keys: []standin.Key{
			{Name: "signing", Type: "EC-HSM", Ops: []string{"sign", "verify"}}, {Name: "opening", Type: "RSA-HSM", Ops: []string{"decrypt", "encrypt"}},
			{Name: "wrapping", Type: "RSA-HSM", Ops: []string{"wrapKey", "unwrapKey"}}, {Name: "second", Type: "EC-HSM", Ops: []string{"sign", "verify"}},
			{Name: "wrapping-there", Type: "RSA-HSM", Ops: []string{"wrapKey", "unwrapKey"}},
		},
		Access: map[string][]string{
			ep.Apps["reader"].ClientID: {standin.Get, standin.Decrypt, standin.UnwrapKey, standin.Sign},
			ep.Apps["admin"].ClientID:  {standin.Get, standin.Sign, standin.UnwrapKey},
		},
	})
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { k.Close() })
	ca := append(k.read("tenant", "ca.pem"), k.CAPEM()...)
	if err := os.WriteFile(filepath.Join(k.dir, "both-ca.pem"), ca, 0o644); err != nil {
		k.t.Fatal(err)
	}
	return ep
}

// ref is a key as a configuration names it.
func (k *keyStore) ref(name, more string) string {
	k.t.Helper()
	kid, err := keys.ID(k.Public(name))
	if err != nil {
		k.t.Fatal(err)
	}
	return fmt.Sprintf("{%svault: %q, key: %s, version: %q, kid: %s}", more, k.URL(), name, k.Version(name), kid)
}

func (k *keyStore) block(cloud, app, secret string) string {
	return fmt.Sprintf("key_store:\n%s  credential: {kind: client-secret, client: %s, secret_file: %q}\n  transport: {ca_file: %q, %s}\n",
		cloud, app, secret, filepath.Join(k.dir, "both-ca.pem"), k.proxy)
}

func (k *keyStore) replace(text, old, with string) string {
	k.t.Helper()
	if !strings.Contains(text, old) {
		k.t.Fatalf("the configuration has no %q:\n%s", old, text)
	}
	return strings.Replace(text, old, with, 1)
}

// consumerYAML keeps every key of the enclave in the store.
func (k *keyStore) consumerYAML(text string) string {
	ep := k.start()
	text = k.replace(text, "decryption: [keys/decryption.pem]", "decryption: ["+k.ref("opening", "")+"]")
	text = k.replace(text, "key: keys/ledger.pem", "key: "+k.ref("wrapping", "file: keys/ledger.wrapped, ")+", second_key: "+k.ref("second", ""))
	text = k.replace(text, "cloud: {name: custom,", fmt.Sprintf("cloud: {name: custom, key_store: %q, key_store_resource: %s,", k.Host(), k.Resource()))
	return text + k.block("", ep.Apps["reader"].ClientID, ep.Apps["reader"].Secret)
}

// producerYAML keeps every key of the producer in the store.
func (k *keyStore) producerYAML(text string) string {
	ep := k.start()
	text = k.replace(text, "key: keys/signing.pem", "key: "+k.ref("signing", ""))
	text = k.replace(text, "key: keys/ledger.pem", "key: "+k.ref("wrapping-there", "file: keys/ledger.wrapped, "))
	cloud := fmt.Sprintf("  cloud: {name: custom, authority: %q, key_store: %q, key_store_resource: %s}\n", ep.Authority, k.Host(), k.Resource())
	return text + k.block(cloud, ep.Apps["admin"].ClientID+", tenant: "+ep.Tenant, ep.Apps["admin"].Secret)
}

func (k *keyStore) away(key string) {
	k.AddFaults(standin.Fault{Kind: standin.Error, Key: key, Status: 503, Code: "ServiceUnavailable", RetryAfter: "60"})
}

// All private keys lie in a key store. The bridge works; while the store is away nothing is lost, refused or parked,
// an operator still cuts, a restart waits as well; and no file stands in for a key.
func TestKeysInAStore(t *testing.T) {
	t.Parallel()
	k := newKeyStore(t, "proxy: none")
	ctx := t.Context()
	b, err := raise(ctx, k.dir, programs, stage.Config{ConsumerYAML: k.consumerYAML, ProducerYAML: k.producerYAML})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	err = filepath.WalkDir(k.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(path, filepath.Join(k.dir, "bridge", "enclave", "keys")) || strings.HasPrefix(path, filepath.Join(k.dir, "bridge", "commercial")) {
			if text, rerr := os.ReadFile(path); rerr == nil && strings.Contains(string(text), "PRIVATE KEY") {
				t.Errorf("a private key lies in %s", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() (*stage.Result, error){
		"consumer": func() (*stage.Result, error) { return b.ConsumerDo(ctx, "keys") },
		"producer": func() (*stage.Result, error) { return b.ProducerDo(ctx, "keys") },
	} {
		if r, err := do(); err != nil || !strings.Contains(r.Stdout, "Every key can be used") || strings.Contains(r.Stdout, "note:") {
			t.Errorf("%s keys: %v\n%s", name, err, r.Stdout)
		}
	}
	looks := func(way string, do func(context.Context, ...string) (*stage.Result, error), bad bool, said string) {
		t.Helper()
		var exit *stage.ExitError
		r, err := do(ctx, "doctor")
		if errors.As(err, &exit) != bad || err != nil && !bad || r == nil || !strings.Contains(r.Stdout, said) {
			t.Errorf("%s doctor: %v\n%+v\nexpected %q", way, err, r, said)
		}
	}
	if err := b.begin(ctx); err != nil {
		t.Fatal(err)
	}
	looks("consumer", b.ConsumerDo, false, "ok       decryption   the store has it")
	looks("producer", b.ProducerDo, false, "ok       signing      the store has it")
	first, second := b.joinFirst(ctx, t), "100777"
	if _, err := b.say(ctx, stage.Row{ID: first, Given: "First", Family: "Leaver", Roles: "soc-analyst"}, stage.Row{ID: second, Given: "Second", Family: "Leaver", Roles: "soc-analyst"}); err != nil {
		t.Fatal(err)
	}
	if err := b.settled(ctx); err != nil {
		t.Fatal(err)
	}

	// The enclave's decryption key is away: a leaver waits unopened, an operator's cut does not.
	k.away("opening")
	k.away("wrapping")
	mark := b.Consumer.Mark()
	if _, err := b.ProducerDo(ctx, "emit", "leaver", first, "--reason", "termination"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Consumer.WaitFor(ctx, "intake to wait for the key store", mark, func(l stage.Line) bool { return strings.HasPrefix(l.Msg(), "could not ask for a decryption key") }); err != nil {
		t.Fatal(err)
	}
	// A restart meanwhile: the ledger's key cannot be unwrapped, and that keeps nobody from being cut.
	if err := b.Consumer.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	mark = b.Consumer.Mark()
	if err := b.Consumer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ConsumerDo(ctx, "cut", second, "--reason", "while the key store is away"); err != nil {
		t.Fatal(err)
	}
	enabled := func(upn string) func() (bool, error) {
		return func() (bool, error) {
			state, err := b.Tenant.State(ctx)
			u := state.User(upn + "@" + stage.Domain)
			return u != nil && !u.Enabled && u.SessionsRevoked, err
		}
	}
	if err := b.until(ctx, "the operator's cut", enabled("second.leaver")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Consumer.WaitFor(ctx, "intake to wait again", mark, func(l stage.Line) bool { return strings.HasPrefix(l.Msg(), "could not ask for a decryption key") }); err != nil {
		t.Fatal(err)
	}
	if gone, err := enabled("first.leaver")(); err != nil || gone {
		t.Errorf("the leaver was cut though nobody could read the message: %v", err)
	}
	r, err := b.ConsumerDo(ctx, "status", "-o", "json")
	if err != nil || strings.Contains(r.Stdout, `"decrypt"`) {
		t.Errorf("status: %v\n%s", err, r.Stdout)
	}

	// The producer's signing key is away: nothing is accepted, so nothing is forgotten.
	k.away("signing")
	var exit *stage.ExitError
	if _, err := b.ProducerDo(ctx, "emit", "suspend", second, "--reason", "investigation"); !errors.As(err, &exit) || exit.Code != 1 || !strings.Contains(exit.Error(), "503") {
		t.Errorf("emit without the signing key: %v", err)
	}
	looks("consumer", b.ConsumerDo, true, "bad      decryption ")
	looks("producer", b.ProducerDo, true, "bad      signing ")
	k.ClearFaults()
	if err := b.until(ctx, "the leaver's cut", enabled("first.leaver")); err != nil {
		t.Fatal(err)
	}
	if err := b.settled(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.published(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Verify(ctx, "--second-key", filepath.Join(b.EnclaveDir, "keys", "ledger.wrapped-second.vkey")); err != nil {
		t.Error(err)
	}
	if err := runFsck(ctx, filepath.Join(b.Ledger.Dir, "tiles"), b.Ledger.Key); err != nil {
		t.Errorf("a stock tool, by the first key: %v", err)
	}
	if n := k.Stats().Operations; n[standin.Sign] == 0 || n[standin.Decrypt] == 0 || n[standin.UnwrapKey] == 0 {
		t.Errorf("the store was asked for %v", n)
	}

	// The database is lost. The new ledger is begun with the same keys, and only on a checkpoint that both have signed.
	if err := b.Consumer.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"consumer.db", "consumer.db.reserve"} {
		if err := os.Remove(filepath.Join(b.EnclaveDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(b.EnclaveDir, "consumer.yaml")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	changed := k.replace(k.replace(string(text), "ledger: {dir: ledger,", "ledger: {series: 2, dir: ledger-2,"), stage.CheckpointCopy, "second-"+stage.CheckpointCopy)
	if err := os.WriteFile(conf, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	last, err := os.ReadFile(filepath.Join(b.AuditorDir, stage.CheckpointCopy))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(last), "\n")
	alone := filepath.Join(k.dir, "alone.checkpoint")
	if err := os.WriteFile(alone, []byte(strings.Join(lines[:len(lines)-2], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ConsumerDo(ctx, "recover", "--checkpoint", alone, "--reason", "forged"); !errors.As(err, &exit) || exit.Code != 2 || !strings.Contains(exit.Error(), "not signed by the second key") {
		t.Errorf("recover from a checkpoint of the first key alone: %v", err)
	}
	r, err = b.ConsumerDo(ctx, "recover", "--ledger", b.Ledger.Dir, "--checkpoint", filepath.Join(b.AuditorDir, stage.CheckpointCopy), "--reason", "disk lost")
	if err != nil || !strings.Contains(r.Stdout, "2 persons, as before") {
		t.Fatalf("recover: %v\n%s", err, r.Stdout)
	}
	mark = b.Consumer.Mark()
	if err := b.Consumer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Consumer.WaitFor(ctx, "the next heartbeat to be read by the store's key", mark, func(l stage.Line) bool { return l.Msg() == "received" }); err != nil {
		t.Fatal(err)
	}
	if err := b.Consumer.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(b.EnclaveDir, "keys")
	if _, err := b.AuditorDo(ctx, "verify", filepath.Join(b.EnclaveDir, "ledger-2"), "--ledger-key", filepath.Join(keys, "ledger.wrapped-2.vkey"),
		"--second-key", filepath.Join(keys, "ledger.wrapped-2-second.vkey"), "--trust", b.Card, "--copy", filepath.Join(b.AuditorDir, "second-"+stage.CheckpointCopy)); err != nil {
		t.Error(err)
	}
}
