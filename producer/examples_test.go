package main

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
)

// The examples are copied by both sides and must fit each other: a role that the enclave's policy does not
// know gives nothing there, and an audience that is not the enclave's is refused.
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
	var policy struct {
		Groups map[string]any `yaml:"groups"`
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
	var consumer struct {
		Enclave struct {
			URI string `yaml:"uri"`
		} `yaml:"enclave"`
	}
	read("../consumer/consumer.example.yaml", &consumer)
	if cfg.Enclaves[0].Audience != consumer.Enclave.URI {
		t.Errorf("the producer's example speaks to %s, the consumer's is %s", cfg.Enclaves[0].Audience, consumer.Enclave.URI)
	}
}
