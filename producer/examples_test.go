package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"jmlbridge/internal/cloud"
	"jmlbridge/internal/queue/busqueue"
)

// The examples are copied by both sides and must fit each other: a role that the enclave's policy does not
// know gives nothing there, an audience that is not the enclave's is refused, and a queue that is not the
// other's is empty.
func TestExamplesFitEachOther(t *testing.T) {
	cfg, err := loadConfig("producer.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string, into any) {
		t.Helper()
		text, err := os.ReadFile(name)
		if err == nil {
			err = yaml.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	type group struct {
		ID string `yaml:"id"`
	}
	var policy struct {
		Groups map[string]group `yaml:"groups"`
		Roles  map[string]struct {
			Groups []string `yaml:"groups"`
		} `yaml:"roles"`
	}
	read("../consumer/policy.example.yaml", &policy)
	var sent []string
	for _, r := range cfg.Source.Roles {
		if r.Column != "" {
			t.Errorf("the names in column %q are not known here: the example cannot promise that the policy knows them", r.Column)
			continue
		}
		sent = append(sent, r.Role)
	}
	slices.Sort(sent)
	if known := slices.Sorted(maps.Keys(policy.Roles)); len(sent) == 0 || !slices.Equal(slices.Compact(sent), known) {
		t.Errorf("the producer's example sends the roles %v, the policy's knows %v", sent, known)
	}
	for name, r := range policy.Roles {
		for _, g := range r.Groups {
			if _, ok := policy.Groups[g]; !ok {
				t.Errorf("role %s gives group %s, which the policy does not list", name, g)
			}
		}
	}
	var seed struct {
		Groups []group `yaml:"groups"`
	}
	read("../e2e/sandbox/seed.example.yaml", &seed)
	for name, g := range policy.Groups {
		if !slices.Contains(seed.Groups, g) {
			t.Errorf("group %s of the policy has the id %s, which no group of the rehearsal tenant's example has", name, g.ID)
		}
	}
	type midpoint struct {
		URL     []string `yaml:"url"`
		Stream  string   `yaml:"stream"`
		Subject string   `yaml:"subject"`
	}
	var producer struct {
		Enclaves []struct {
			Queue struct {
				NATS midpoint `yaml:"nats"`
			} `yaml:"queue"`
		} `yaml:"enclaves"`
	}
	read("producer.example.yaml", &producer)
	var consumer struct {
		Enclave struct {
			URI string `yaml:"uri"`
		} `yaml:"enclave"`
		Queue struct {
			NATS midpoint `yaml:"nats"`
		} `yaml:"queue"`
	}
	read("../consumer/consumer.example.yaml", &consumer)
	if cfg.Enclaves[0].Audience != consumer.Enclave.URI {
		t.Errorf("the producer's example speaks to %s, the consumer's is %s", cfg.Enclaves[0].Audience, consumer.Enclave.URI)
	}
	if there, here := producer.Enclaves[0].Queue.NATS, consumer.Queue.NATS; here.Subject == "" || !reflect.DeepEqual(there, here) {
		t.Errorf("the producer's example sends to %+v, the consumer's pulls from %+v", there, here)
	}
}

// The example export is read by the example configuration as a rehearsal promises: three people cross, with their roles.
func TestExampleExport(t *testing.T) {
	text, err := os.ReadFile("producer.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	export, err := os.ReadFile("export.example.csv")
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	p.write(t, "producer.yaml", strings.Replace(string(text), "keys/gov-1.pub.pem", "enclave.pub.pem", 1))
	p.must(t, "init")
	var r importReport
	if err := json.Unmarshal([]byte(p.must(t, "import", "-o", "json", p.write(t, "export.csv", string(export)))), &r); err != nil {
		t.Fatal(err)
	}
	if e := r.Enclaves[0]; r.Rows != 4 || r.Accepted != 4 || e.Sent != 3 || e.Cases["joiner"] != 3 {
		t.Errorf("want three of four to cross, got %+v", r)
	}
	for subject, role := range map[string]string{"100001": "soc-lead", "100002": "soc-analyst", "100003": "soc-analyst"} {
		if s := p.said(t, subject); !slices.Contains(s.Roles, role) {
			t.Errorf("subject %s has the roles %v, want %s", subject, s.Roles, role)
		}
	}
}

// The block for Service Bus on the page is copied as it stands: with the files in their places it opens.
func TestServiceBusBlockOpens(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(page), "\n    queue:\n      servicebus:\n")
	block, _, whole := strings.Cut(block, "\n\n")
	if !ok || !whole {
		t.Fatal("want the block on the page, got none")
	}
	var cfg struct {
		ServiceBus busqueue.Config `yaml:"servicebus"`
	}
	if err := yaml.UnmarshalWithOptions([]byte("servicebus:\n"+block), &cfg, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if cfg.ServiceBus.Credential.Kind != cloud.ClientCertificate {
		t.Errorf("want the recommended credential, a certificate, got %q", cfg.ServiceBus.Credential.Kind)
	}
	dir := t.TempDir()
	c := cfg.ServiceBus.In(dir)
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	if err := errors.Join(os.Mkdir(filepath.Dir(c.Credential.CertificateFile), 0o700), os.WriteFile(c.Credential.CertificateFile, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	p, err := busqueue.OpenPublisher(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
