package vault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jmlbridge/e2e/keyvault/standin"
	"jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/cloud"
	"jmlbridge/internal/keys"
	"jmlbridge/internal/outbound"
)

const app = "11111111-aaaa-bbbb-cccc-222222222222"

// rsaKey takes long to make: one for all tests.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		panic(err)
	}
	return key
})

// world is a key store, the authority whose tokens it takes, and how we are known there.
type world struct {
	t      *testing.T
	store  *standin.Server
	config Config
	dir    string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	authority, err := tenant.Start(t.Context(), tenant.Config{Seed: tenant.Seed{Apps: []tenant.App{{Name: "keys", ID: app}}}})
	if err != nil {
		t.Fatal(err)
	}
	at := authority.Endpoints()
	store, err := standin.Start(t.Context(), standin.Config{
		Authority: at.Authority, Tenant: at.Tenant, Roots: authority.CA(), Resource: tenant.OtherResource,
		Keys: []standin.Key{
			{Name: "es256", Type: "EC-HSM"}, {Name: "es384", Type: "EC-HSM", Curve: "P-384"},
			{Name: "open", Type: "RSA-HSM", Private: rsaKey(), Ops: []string{"decrypt", "encrypt"}},
			{Name: "wrap", Type: "RSA-HSM", Private: rsaKey(), Ops: []string{"wrapKey", "unwrapKey"}},
			{Name: "soft", Type: "EC"}, {Name: "leaves", Type: "EC-HSM", Exportable: true}, {Name: "off", Type: "EC-HSM", Disabled: true},
		},
		Access: map[string][]string{app: {standin.Get, standin.Sign, standin.Decrypt, standin.UnwrapKey}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(store.Close(), authority.Close()); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, store: store, dir: t.TempDir()}
	w.config = Config{
		Cloud: cloud.Config{Name: cloud.Custom, Authority: at.Authority, KeyStore: store.Host(), KeyStoreResource: tenant.OtherResource},
		Credential: cloud.CredentialConfig{Kind: cloud.ClientSecret, Tenant: at.Tenant, Client: app,
			SecretFile: w.file("secret", []byte(authority.App("keys").Secret))},
		Transport: outbound.Config{Proxy: outbound.None, CAFile: w.file("ca.pem", append(authority.CAPEM(), store.CAPEM()...))},
	}
	return w
}

func (w *world) file(name string, content []byte) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) open() *Stores {
	w.t.Helper()
	s, err := Open(w.t.Context(), w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// ref names a key as a configuration would after init: pinned, with the public half in its file.
func (w *world) ref(name string) Ref {
	w.t.Helper()
	pub := w.store.Public(name)
	kid, err := keys.ID(pub)
	if err != nil {
		w.t.Fatal(err)
	}
	path := filepath.Join(w.dir, name+".pub.pem")
	if _, err := os.Stat(path); err != nil {
		if err := keys.WritePublic(path, pub); err != nil {
			w.t.Fatal(err)
		}
	}
	return Ref{Vault: w.store.URL(), Key: name, Version: w.store.Version(name), KID: kid, Public: path}
}

func TestSign(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	message := []byte("a payload")
	d256, d384 := sha256.Sum256(message), sha512.Sum384(message)
	for _, tt := range []struct {
		key    string
		hash   crypto.Hash
		digest []byte
	}{{"es256", crypto.SHA256, d256[:]}, {"es384", crypto.SHA384, d384[:]}} {
		k, err := s.Signer(w.ref(tt.key))
		if err != nil {
			t.Fatal(err)
		}
		der, err := k.Sign(nil, tt.digest, tt.hash)
		if err != nil {
			t.Fatal(err)
		}
		if !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), tt.digest, der) {
			t.Errorf("%s: the signature does not verify", tt.key)
		}
		if _, err := k.Sign(nil, tt.digest[:20], tt.hash); err == nil {
			t.Error("signed a short digest")
		}
		if _, err := k.Sign(nil, tt.digest, crypto.SHA512); err == nil {
			t.Error("signed by another hash")
		}
	}
	if stats := w.store.Stats(); stats.Unasked != 1 {
		t.Errorf("%d requests without a token, expected the first one", stats.Unasked)
	}
}

func encrypt(t *testing.T, plain []byte) []byte {
	t.Helper()
	c, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &rsaKey().PublicKey, plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var oaep = &rsa.OAEPOptions{Hash: crypto.SHA256}

// TestDecrypt: what the key opens, what it refuses for good, and that a refusal is believed only of a key that
// works.
func TestDecrypt(t *testing.T) {
	w := newWorld(t)
	d, err := w.open().Decrypter(w.ref("open"))
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte{7}, 64)
	good := encrypt(t, plain)
	if got, err := d.Decrypt(nil, good, oaep); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%x, %v", got, err)
	}
	altered := bytes.Clone(good)
	altered[100] ^= 1
	beyond := bytes.Repeat([]byte{0xff}, len(good)) // not below the modulus
	for name, c := range map[string][]byte{"altered": altered, "beyond": beyond, "short": good[1:], "empty": nil} {
		if _, err := d.Decrypt(nil, c, oaep); !errors.Is(err, rsa.ErrDecryption) {
			t.Errorf("%s: %v", name, err)
		}
	}
	asked := w.store.Stats().Operations[standin.Decrypt]
	if asked != 3 { // good, altered, and the proof that the key works
		t.Errorf("asked %d times to decrypt, expected 3", asked)
	}
	for range 5 {
		if _, err := d.Decrypt(nil, altered, oaep); !errors.Is(err, rsa.ErrDecryption) {
			t.Fatal(err)
		}
	}
	if n := w.store.Stats().Operations[standin.Decrypt] - asked; n != 5 {
		t.Errorf("5 refused messages cost %d operations: the key was proved again", n)
	}
	for name, o := range map[string]crypto.DecrypterOpts{"none": nil, "SHA-512": &rsa.OAEPOptions{Hash: crypto.SHA512}, "SHA-384": &rsa.OAEPOptions{Hash: crypto.SHA384},
		"label": &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("x")}, "other MGF": &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA384}} {
		if _, err := d.Decrypt(nil, good, o); err == nil || errors.Is(err, rsa.ErrDecryption) {
			t.Errorf("options %s: %v", name, err)
		}
	}
}

// TestRefusalOfAKeyThatDoesNotWork: a store that answers 400 to everything says nothing about a message.
func TestRefusalOfAKeyThatDoesNotWork(t *testing.T) {
	w := newWorld(t)
	d, err := w.open().Decrypter(w.ref("open"))
	if err != nil {
		t.Fatal(err)
	}
	w.store.AddFaults(standin.Fault{Kind: standin.Error, Op: standin.Decrypt, Status: 400, Code: "BadParameter"})
	if _, err := d.Decrypt(nil, encrypt(t, []byte("x")), oaep); err == nil || errors.Is(err, rsa.ErrDecryption) {
		t.Errorf("a message was refused for good by a key that opens nothing: %v", err)
	}
	w.store.ClearFaults()
	if got, err := d.Decrypt(nil, encrypt(t, []byte("x")), oaep); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFaults: what is lost on the way is tried again; what cannot be had is an error that decides nothing, and
// nothing in it repeats what the store said at length.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	digest := sha256.Sum256([]byte("x"))
	for _, tt := range []struct {
		name  string
		fault standin.Fault
		says  string // "": it is tried again and succeeds
		extra int    // operations beside the one
	}{
		{"answer lost", standin.Fault{Kind: standin.Lost, Count: 1}, "", 1},
		{"request lost", standin.Fault{Kind: standin.Unheard, Count: 1}, "", 0},
		{"throttled, with a wait", standin.Fault{Kind: standin.Error, Count: 1, Status: 429, Code: "Throttled", RetryAfter: "1"}, "", 0},
		{"away for a moment", standin.Fault{Kind: standin.Error, Count: 2, Status: 503, Code: "ServiceUnavailable"}, "", 0},
		{"throttled for long", standin.Fault{Kind: standin.Error, Status: 429, Code: "Throttled", RetryAfter: "30"}, "429 Throttled", 0},
		{"not allowed", standin.Fault{Kind: standin.Error, Status: 403, Code: "Forbidden"}, "permission sign", 0},
		{"gone", standin.Fault{Kind: standin.Error, Status: 404, Code: "KeyNotFound"}, "not deleted", 0},
		{"a code that is none", standin.Fault{Kind: standin.Error, Status: 400, Code: "Bad\nParameter"}, "400 without a code", 0},
		{"a code without end", standin.Fault{Kind: standin.Error, Status: 400, Code: strings.Repeat("x", 10_000)}, "400 without a code", 0},
		{"wrong version", standin.Fault{Kind: standin.WrongVersion}, "another key or version", 0},
		{"garbage", standin.Fault{Kind: standin.Garbage}, "no answer", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := w.open().Signer(w.ref("es256"))
			if err != nil {
				t.Fatal(err)
			}
			before := w.store.Stats().Operations[standin.Sign]
			w.store.AddFaults(tt.fault)
			defer w.store.ClearFaults()
			der, err := k.Sign(nil, digest[:], crypto.SHA256)
			if tt.says != "" {
				var e *Error
				if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.says) || strings.ContainsAny(err.Error(), "\n") {
					t.Errorf("%v; expected it to say %q", err, tt.says)
				}
				return
			}
			if err != nil || !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], der) {
				t.Fatalf("%v", err)
			}
			if n := w.store.Stats().Operations[standin.Sign] - before; n != 1+tt.extra {
				t.Errorf("%d operations, expected %d", n, 1+tt.extra)
			}
		})
	}
}

// TestNoToken: an error says why there is no token, and nothing of what was asked for it.
func TestNoToken(t *testing.T) {
	for says, spoil := range map[string]func(*world, *Ref){
		"the authority answered 401 AADSTS7000215": func(w *world, _ *Ref) { w.file("secret", []byte("hidden")) },
		"connection refused": func(w *world, r *Ref) {
			w.config.Cloud.Authority = "https://127.0.0.1:1/"
			store := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization="https://127.0.0.1:1/%s", resource=%q`, w.config.Credential.Tenant, tenant.OtherResource))
				rw.WriteHeader(http.StatusUnauthorized)
			}))
			t.Cleanup(store.Close)
			w.instead(store, r)
		},
	} {
		w := newWorld(t)
		r := w.ref("es256")
		spoil(w, &r)
		k, err := w.open().Signer(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil || !strings.Contains(err.Error(), says) ||
			strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v; expected it to say %q", err, says)
		}
	}
}

// TestChallenges: a challenge that leads to another authority or resource is not followed: no token is asked for.
func TestChallenges(t *testing.T) {
	w := newWorld(t)
	digest := sha256.Sum256([]byte("x"))
	for kind, says := range map[string]string{
		standin.ForeignAuthority: "want authority", standin.ForeignResource: "want a token for", standin.BrokenChallenge: "want authority",
	} {
		k, err := w.open().Signer(w.ref("es256"))
		if err != nil {
			t.Fatal(err)
		}
		w.store.AddFaults(standin.Fault{Kind: kind})
		before := w.store.Stats()
		_, err = k.Sign(nil, digest[:], crypto.SHA256)
		var c *ChallengeError
		if !errors.As(err, &c) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", kind, err)
		}
		after := w.store.Stats()
		if after.Unasked != before.Unasked+1 || after.Operations[standin.Sign] != before.Operations[standin.Sign] {
			t.Errorf("%s: it was tried again: %+v, %+v", kind, before, after)
		}
		w.store.ClearFaults()
		if _, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil {
			t.Errorf("after %s: %v", kind, err)
		}
	}
}

func TestJudge(t *testing.T) {
	g := &guard{authority: "https://login.microsoftonline.us", tenant: "t1", resource: "https://vault.usgovcloudapi.net"}
	const good = `Bearer authorization="https://login.microsoftonline.us/t1", resource="https://vault.usgovcloudapi.net"`
	for _, h := range []string{good, strings.Replace(good, "/t1", "/T1", 1), `Bearer authorization="https://login.microsoftonline.us/t1", scope="https://vault.usgovcloudapi.net/.default"`} {
		if tenant, d := g.judge([]string{h}); d != "" || !strings.EqualFold(tenant, "t1") {
			t.Errorf("%s: %s, tenant %q", h, d, tenant)
		}
	}
	anyTenant := *g
	anyTenant.tenant = ""
	if tenant, d := anyTenant.judge([]string{strings.Replace(good, "/t1", "/t2", 1)}); d != "" || tenant != "t2" {
		t.Errorf("a managed identity's tenant is its host's: %s, tenant %q", d, tenant)
	}
	if _, d := anyTenant.judge([]string{strings.Replace(good, "/t1", "/t1 scope=https://graph.microsoft.us", 1)}); d == "" {
		t.Error("followed a tenant that is no tenant")
	}
	for _, h := range []string{"", "Basic x", `Bearer`, `Bearer x`, `Bearer authorization="https://login.microsoftonline.us/t1"`,
		strings.Replace(good, "/t1", "/t2", 1), strings.Replace(good, "/t1", "/t1/x", 1), strings.Replace(good, "/t1", "", 1), strings.Replace(good, "/t1", "/", 1),
		strings.Replace(good, ".us/", ".us.attacker.example/", 1), strings.Replace(good, "https://login", "https://x@login", 1),
		strings.Replace(good, "vault.", "graph.", 1), good + `, resource="https://graph.microsoft.us"`, good + `, scope="https://graph.microsoft.us/.default"`,
		strings.Replace(good, "https://login", "http://login", 1)} {
		if _, d := g.judge([]string{h}); d == "" {
			t.Errorf("followed %s", h)
		}
	}
	for _, h := range [][]string{nil, {good, good}} {
		if _, d := g.judge(h); d == "" {
			t.Errorf("followed %d challenges", len(h))
		}
	}
}

// TestChallengeOfTwoReadings: what the client library would read in a challenge, and the guard does not, leads nowhere.
func TestChallengeOfTwoReadings(t *testing.T) {
	const other = tenant.BusResource // one that the authority makes tokens for
	for name, more := range map[string]string{
		"a scope":     `, x="y scope=` + other + `"`,
		"a resource":  `, scope="` + tenant.OtherResource + `/.default", x="y scope=` + other + ` z"`,
		"a tenant":    `, x="y authorization=https://login.attacker.example/t z"`,
		"no address":  `, x="y authorization=https: z"`,
		"some claims": `, error="insufficient_claims", claims="?"`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r, at := w.ref("es256"), w.config.Cloud.Authority+w.config.Credential.Tenant
			var got []string // resources of the tokens that the store was shown
			store := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
				if parts := strings.Split(q.Header.Get("Authorization"), "."); len(parts) == 3 {
					var claims struct {
						Aud string
						Can []string `json:"xms_cc"`
					}
					raw, err := base64.RawURLEncoding.DecodeString(parts[1])
					if err := errors.Join(err, json.Unmarshal(raw, &claims)); err != nil {
						t.Error(err)
					}
					if len(claims.Can) > 0 {
						t.Errorf("the store was told that we can %q, and the guard follows no challenge about it", claims.Can)
					}
					got = append(got, claims.Aud)
				}
				rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization=%q, resource=%q%s`, at, tenant.OtherResource, more))
				rw.WriteHeader(http.StatusUnauthorized)
			}))
			defer store.Close()
			w.instead(store, &r)
			k, err := w.open().Signer(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil || !strings.Contains(err.Error(), "answered 401") {
				t.Errorf("%v", err)
			}
			if len(got) == 0 || slices.ContainsFunc(got, func(aud string) bool { return aud != tenant.OtherResource }) {
				t.Errorf("the store was shown tokens for %q", got)
			}
		})
	}
}

// instead has store stand for the one of w, also in r.
func (w *world) instead(store *httptest.Server, r *Ref) {
	w.t.Helper()
	roots, err := os.ReadFile(w.config.Transport.CAFile)
	if err != nil {
		w.t.Fatal(err)
	}
	w.file("ca.pem", append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: store.Certificate().Raw})...))
	w.config.Cloud.KeyStore, r.Vault = store.Listener.Addr().String(), store.URL
}

// TestAnswerWithoutEnd: what a store says is not kept without a bound.
func TestAnswerWithoutEnd(t *testing.T) {
	w := newWorld(t)
	r, at := w.ref("es256"), w.config.Cloud.Authority+w.config.Credential.Tenant
	const most = 64 << 20 // octets: the buffers on the way and then some
	ended := make(chan bool, 1)
	store := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") == "" {
			rw.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization=%q, resource=%q", at, tenant.OtherResource))
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		chunk, said := bytes.Repeat([]byte("["), 1<<20), 0
		for err := error(nil); err == nil && said < most; said += len(chunk) {
			_, err = rw.Write(chunk)
		}
		ended <- said < most
	}))
	defer store.Close()
	w.instead(store, &r)
	k, err := w.open().Signer(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("signed by it")
	}
	if !<-ended {
		t.Errorf("%d octets of one answer were read", most)
	}
}

// FuzzJudge: no challenge makes the reader panic, and whatever it follows names our authority and resource.
func FuzzJudge(f *testing.F) {
	g := &guard{authority: "https://login.microsoftonline.us", tenant: "t1", resource: "https://vault.usgovcloudapi.net"}
	f.Add(`Bearer authorization="https://login.microsoftonline.us/t1", resource="https://vault.usgovcloudapi.net"`)
	f.Add(`Bearer authorization="https:", resource=""`)
	f.Fuzz(func(t *testing.T, h string) {
		if _, d := g.judge([]string{h}); d == "" && (!strings.Contains(strings.ToLower(h), "https://login.microsoftonline.us/t1") || !strings.Contains(h, g.resource)) {
			t.Errorf("followed %q", h)
		}
	})
}

// TestAnotherCloudsStore: a store of another cloud is refused before anything is sent.
func TestAnotherCloudsStore(t *testing.T) {
	w := newWorld(t)
	r := w.ref("es256")
	r.Vault = "https://jml.vault.azure.net"
	if _, err := w.open().Signer(r); err == nil || !strings.Contains(err.Error(), "not in cloud") {
		t.Errorf("%v", err)
	}
	w.config.Cloud = cloud.Config{Name: cloud.AzureGovernment}
	s := w.open()
	if _, err := s.Signer(r); err == nil || !strings.Contains(err.Error(), "vault.usgovcloudapi.net or managedhsm.usgovcloudapi.net") {
		t.Errorf("%v", err)
	}
	for _, address := range []string{"https://jml.vault.usgovcloudapi.net", "https://jml.managedhsm.usgovcloudapi.net/"} {
		r.Vault = address
		if _, err := s.Signer(r); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestPinned: another key under the same name, one in software, one that may leave and one that is off are refused.
func TestPinned(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	change := func(r Ref, f func(*Ref)) Ref { f(&r); return r }
	other := w.ref("es384").KID
	for _, tt := range []struct {
		name string
		ref  Ref
		ops  []string
		says string
	}{
		{"good", w.ref("es256"), []string{"sign"}, ""},
		{"other key", change(w.ref("es256"), func(r *Ref) { r.KID = other }), nil, "it is another key"},
		{"no pin", change(w.ref("es256"), func(r *Ref) { r.KID = "" }), nil, "its thumbprint is " + w.ref("es256").KID},
		{"other version", change(w.ref("es256"), func(r *Ref) { r.Version = w.store.Version("es384") }), nil, "404 KeyNotFound"},
		{"wrong operation", w.ref("open"), []string{"decrypt", "sign"}, "may not sign"},
		{"software", w.ref("soft"), nil, "not kept in hardware"},
		{"software, for development", change(w.ref("soft"), func(r *Ref) { r.Software = true }), nil, ""},
		{"exportable", w.ref("leaves"), nil, "may be exported"},
		{"disabled", w.ref("off"), nil, "is disabled"},
		{"no version", change(w.ref("es256"), func(r *Ref) { r.Version = "" }), nil, "32 hexadecimal digits"},
		{"bad name", change(w.ref("es256"), func(r *Ref) { r.Key = "a/b" }), nil, "the key's name"},
		{"bad pin", change(w.ref("es256"), func(r *Ref) { r.KID = "x" }), nil, "43 characters"},
	} {
		f, err := s.Pinned(t.Context(), tt.ref, tt.ops...)
		if tt.says == "" && (err != nil || f.KID != tt.ref.KID) || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v; expected it to say %q", tt.name, err, tt.says)
		}
	}
	// After init the public half lies in a file, which the pin decides on.
	for name, f := range map[string]func(*Ref){
		"other pin": func(r *Ref) { r.KID = other }, "no pin": func(r *Ref) { r.KID = "" }, "other file": func(r *Ref) { r.Public = w.ref("es384").Public },
		"no file": func(r *Ref) { r.Public = filepath.Join(w.dir, "none") },
	} {
		if _, err := s.Signer(change(w.ref("es256"), f)); err == nil {
			t.Errorf("%s: a signer was made", name)
		}
	}
	if _, err := s.Signer(w.ref("open")); err == nil || !strings.Contains(err.Error(), "want an EC key") {
		t.Errorf("an RSA key for signing: %v", err)
	}
	if _, err := s.Decrypter(w.ref("es256")); err == nil || !strings.Contains(err.Error(), "no ECDH") {
		t.Errorf("an EC key for decryption: %v", err)
	}
}

// TestRotation: a new version in the store changes nothing here.
func TestRotation(t *testing.T) {
	w := newWorld(t)
	r := w.ref("es256")
	k, err := w.open().Signer(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.AddKey(standin.Key{Name: "es256", Type: "EC-HSM"}); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	der, err := k.Sign(nil, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], der) {
		t.Errorf("%v", err)
	}
}

func TestWrap(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	at := Wrapping{File: filepath.Join(w.dir, "ledger.wrapped"), Ref: w.ref("wrap")}
	pub, err := s.Wrap(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wrap(t.Context(), at); !errors.Is(err, os.ErrExist) {
		t.Errorf("wrapped over a wrapped key: %v", err)
	}
	// A start while the store is away: the key is not there, and comes when the store does.
	w.store.AddFaults(standin.Fault{Kind: standin.Error, Op: standin.UnwrapKey, Status: 503, Code: "ServiceUnavailable", RetryAfter: "60"})
	k, err := w.open().LedgerKey(at)
	if err != nil || !pub.Equal(k.Public()) {
		t.Fatalf("%v", err)
	}
	if _, err := k.Sign(nil, []byte("checkpoint"), crypto.Hash(0)); err == nil {
		t.Error("signed without the store, which was never asked before: a key lies in the file")
	}
	w.store.ClearFaults()
	before := w.store.Stats().Operations[standin.UnwrapKey]
	for range 3 {
		sig, err := k.Sign(nil, []byte("checkpoint"), crypto.Hash(0))
		if err != nil || !ed25519.Verify(pub, []byte("checkpoint"), sig) {
			t.Fatalf("%v", err)
		}
	}
	if n := w.store.Stats().Operations[standin.UnwrapKey] - before; n != 1 {
		t.Errorf("unwrapped %d times", n)
	}
	text, err := os.ReadFile(at.File)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"other form": strings.Replace(string(text), wrappedForm, "x", 1), "more": strings.Replace(string(text), `"form"`, `"x": 1, "form"`, 1), "empty": "",
		"other version": strings.Replace(string(text), at.Version, w.store.Version("open"), 1),
	} {
		other := at
		other.File = w.file("bad", []byte(bad))
		if _, err := s.LedgerKey(other); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	if err := os.Chmod(at.File, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LedgerKey(at); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("%v", err)
	}
	// Another wrapped key of the same store, under our name: the seed is not that of the public key.
	other := at
	other.File = filepath.Join(w.dir, "other.wrapped")
	if _, err := s.Wrap(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	mine, theirs := readJSON(t, at.File), readJSON(t, other.File)
	mine.Wrapped = theirs.Wrapped
	if _, err := s.unwrap(at.Ref, mine); err == nil || !strings.Contains(err.Error(), "not the key that the file names") {
		t.Errorf("an exchanged seed: %v", err)
	}
}

func readJSON(t *testing.T, path string) *wrapped {
	t.Helper()
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := readWrapped(path)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestEndsWithItsContext: a program that stops is not kept by a store that does not answer.
func TestEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.store.AddFaults(standin.Fault{Kind: standin.Delay, Op: standin.Sign, Delay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Open(ctx, w.config)
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.Signer(w.ref("es256"))
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := k.Sign(nil, make([]byte, 32), crypto.SHA256)
		failed <- err
	}()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
